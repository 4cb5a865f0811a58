//! `conex run`.

mod mounts;
mod streams;

use std::path::{Path, PathBuf};

use conex_exec::{
    Access, ContainerSpec, Durability, ExecOptions, HostPath, Mount, Network, Overlay,
    OverlayFlavour, Pid1, Privileges, Resources, Rootfs, Seccomp, Upper,
};
use conex_layer::{Flavor, Stack};
use conex_oci::{ImageConfig, Platform};
use conex_store::{Lease, NewSnapshot, Snapshot};
use conex_sys::dir::Dir;

use super::build::parse;
use crate::error::{CliError, Doing as _, RUN_FAILED, Result};
use crate::session::Session;

/// Run a command in a new container
///
/// The container lives as long as the command, in the foreground; its changes go with it. The exit
/// code is the command's; 125 if the container could not be set up, 126 if the command cannot be
/// run, 127 if it is not there.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:\n  conex run --rm app\n  conex run --rm -it app sh\n  \
    conex run --rm -v \"$PWD\":/src:ro -w /src -u 1000 app make test\n  \
    conex run --rm --network none --read-only --cap-drop ALL app"
)]
pub struct Args {
    /// The image, and the command with its arguments, instead of the image's CMD
    // One list: what stands behind the image belongs to the command, `--help` too.
    #[arg(
        value_names = ["IMAGE", "COMMAND"],
        required = true,
        num_args = 1..,
        trailing_var_arg = true
    )]
    image_and_command: Vec<String>,

    /// Remove the volumes that nobody named when the command ends (the container always goes)
    #[arg(long)]
    rm: bool,

    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,

    /// Set a variable (`NAME=VALUE`, or `NAME` to pass on this environment's)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Mount a folder or a volume (`SOURCE:TARGET[:ro]`)
    #[arg(short, long, value_name = "SOURCE:TARGET")]
    volume: Vec<String>,

    /// Mount something (`type=bind|volume|tmpfs,source=…,target=…[,readonly]`)
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,

    /// Mount a folder in memory (`TARGET[:size=64m,mode=1777]`)
    #[arg(long, value_name = "TARGET")]
    tmpfs: Vec<String>,

    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// User, and group (`NAME|UID[:GROUP|GID]`)
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,

    /// The program, instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// `host` (the default) or `none`
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "host")]
    network: String,

    /// Nothing in the root file system can be written to
    #[arg(long)]
    read_only: bool,

    /// Give a capability, or `ALL`
    #[arg(long, value_name = "NAME")]
    cap_add: Vec<String>,

    /// Take a capability away, or `ALL`
    #[arg(long, value_name = "NAME")]
    cap_drop: Vec<String>,

    /// All capabilities, every system call
    #[arg(long)]
    privileged: bool,

    /// `no-new-privileges` or `seccomp=unconfined`
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,

    /// Most memory (`512m`)
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,

    /// Most processors (`1.5`)
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,

    /// Which processors (`0-3,7`)
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,

    /// Most processes and threads
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,

    /// A limit of each process (`nofile=1024:2048`)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,

    /// Size of `/dev/shm` (`128m`)
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,

    /// The cgroup below which the container runs
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,

    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,

    /// A name that the container can reach (`NAME:ADDRESS`)
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,

    /// Put a small init before the command, which passes on signals and reaps orphans
    #[arg(long)]
    init: bool,

    /// The platform to run, of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Ask the registry for the image: `always`, `missing` or `never`
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,

    /// Run with an installed OCI runtime (`runc`, `crun`, `youki`, or a path)
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<String>,

    /// Show help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    Always,
    Missing,
    Never,
}

impl Args {
    fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let code = start(session, &args).map_err(|error| match error.code {
        crate::error::FAILED | crate::error::USAGE => error.with_code(RUN_FAILED),
        _ => error,
    })?;
    match code {
        0 => Ok(()),
        code => Err(CliError::exit(code)),
    }
}

fn start(session: &Session, args: &Args) -> Result<u8> {
    session.privileges()?;
    let lease = session.store()?.lease()?;
    let (config, stack) = image(session, args, &lease)?;
    let changes = lease.begin_snapshot()?;
    let mut used = mounts::Used::new(crate::transfer::form(session)?);
    let spec = container(session, args, &lease, &config, stack.as_ref(), &changes, &mut used)?;
    let options =
        ExecOptions { runtime: parse::runtime(args.runtime.as_deref())?, ..ExecOptions::default() };
    let ended = streams::attach(&spec, args.interactive, args.tty, &options);
    if args.rm {
        used.remove_anonymous(&lease)?;
    }
    ended
}

/// Finds the image, and brings its layers into the store if they are not there.
fn image(session: &Session, args: &Args, lease: &Lease) -> Result<(ImageConfig, Option<Snapshot>)> {
    let store = lease.store();
    let platform: Platform = match &args.platform {
        Some(text) => text.parse()?,
        None => Platform::host(),
    };
    let found = match args.pull {
        Pull::Always => Err(None),
        _ => store.resolve(args.image()).map_err(Some),
    };
    let record = match found {
        Ok(record) => record,
        Err(Some(error))
            if args.pull == Pull::Never || error.kind() != conex_store::ErrorKind::NotFound =>
        {
            return Err(error.into());
        }
        Err(_) => {
            let reference = args.image().parse()?;
            let mode = crate::progress::auto();
            let title = format!("Pulling {}", args.image());
            let progress = crate::progress::start(session, mode, title);
            let pulled = crate::transfer::pull(session, lease, &reference, &platform, &progress);
            progress.finish()?;
            pulled?
        }
    };
    let chosen = store.image_for(&record, &platform)?.ok_or_else(|| {
        CliError::new(format!("the image `{}` is not there for `{platform}`", args.image()))
    })?;
    lease.hold_image(&chosen.id)?;
    let config = store.image_config(&chosen.id)?;
    if args.platform.is_some() && !config.platform.serves(&platform) {
        let here = &config.platform;
        let message = format!("the image `{}` is for `{here}`, not `{platform}`", args.image());
        return Err(CliError::new(message)
            .with_hint("`--pull=always` asks the registry for that of another platform"));
    }
    if let Err(why) = crate::platforms::can_run(&config.platform) {
        let message = format!("cannot run an image of `{}` on this machine", config.platform);
        return Err(CliError::new(message).with_hint(why));
    }
    let Some(chain) = config.chain_id() else { return Ok((config, None)) };
    if let Some(snapshot) = lease.snapshot(&chain)? {
        return Ok((config, Some(snapshot)));
    }
    crate::transfer::unpack(session, lease, &chosen.id)?;
    let snapshot = lease.snapshot(&chain)?;
    let snapshot = snapshot.ok_or_else(|| CliError::new("the image's layers are not there"))?;
    Ok((config, Some(snapshot)))
}

fn container(
    session: &Session,
    args: &Args,
    lease: &Lease,
    config: &ImageConfig,
    snapshot: Option<&Snapshot>,
    changes: &NewSnapshot,
    used: &mut mounts::Used,
) -> Result<ContainerSpec> {
    let form = crate::transfer::form(session)?;
    let paths = snapshot.map(Snapshot::stack).unwrap_or_default();
    let overlay = Overlay {
        lower: paths.iter().cloned().map(HostPath::from).collect(),
        upper: Some(Upper {
            dir: HostPath::from(changes.path().to_owned()),
            work: HostPath::from(changes.work_path().to_owned()),
            durability: Durability::Volatile,
        }),
        flavour: match form.flavor {
            Flavor::Trusted => OverlayFlavour::Trusted,
            Flavor::User => OverlayFlavour::User,
        },
    };
    let open = |path: PathBuf| {
        Dir::open_ambient(&path).doing(|| format!("cannot open the layer `{}`", path.display()))
    };
    let layers = paths.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    let stack = Stack::new(layers, form);
    let mut spec = ContainerSpec::new(Rootfs::Overlay(overlay), command(args, config)?);
    let read = |path: &str| stack.read(Path::new(path), conex_exec::DATABASE_SIZE_MAX as u64);
    let user = args.user.as_deref().unwrap_or(&config.config.user);
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    spec.user = conex_exec::resolve_user(user, passwd.as_deref(), group.as_deref())?;
    spec.env = environment(args, config)?;
    spec.cwd = match (&args.workdir, config.config.working_dir.as_str()) {
        (Some(dir), _) if !dir.starts_with('/') => {
            let message = format!("the working directory `{dir}` is not an absolute path");
            return Err(CliError::new(message));
        }
        (Some(dir), _) => dir.clone(),
        (None, "") => "/".to_owned(),
        (None, dir) => dir.to_owned(),
    };
    spec.hostname = args.hostname.clone().unwrap_or_else(|| {
        // As Docker: twelve digits that no other container has.
        let id = changes.path().as_os_str().to_string_lossy().into_owned();
        conex_oci::Digest::of(id.as_bytes()).short().to_owned()
    });
    spec.network = match args.network.as_str() {
        "host" | "default" => Network::Host,
        "none" => Network::None,
        other => {
            return Err(CliError::new(format!("the network `{other}` is not offered"))
                .with_hint("`host` and `none` are; bridges and published ports are not yet"));
        }
    };
    if args.read_only {
        spec.rootfs_access = Access::ReadOnly;
    }
    spec.capabilities.add.clone_from(&args.cap_add);
    spec.capabilities.drop.clone_from(&args.cap_drop);
    if args.privileged {
        spec.make_insecure();
    }
    security(args, &mut spec)?;
    spec.resources = resources(args)?;
    if args.init {
        spec.pid1 = Pid1::Init;
    }
    let extra = parse::extra_hosts(&args.add_host)?;
    let hosts = conex_exec::hosts_file(&spec.hostname, &extra);
    spec.mounts.push(Mount::file("/etc/hosts", hosts, Access::ReadWrite));
    let hostname = conex_exec::hostname_file(&spec.hostname);
    spec.mounts.push(Mount::file("/etc/hostname", hostname, Access::ReadWrite));
    let resolv = super::build::resolv_conf(spec.network == Network::None);
    spec.mounts.push(Mount::file("/etc/resolv.conf", resolv, Access::ReadWrite));
    let wanted = mounts::Wanted {
        volumes: &args.volume,
        mounts: &args.mount,
        tmpfs: &args.tmpfs,
        of_image: &config.config.volumes,
    };
    spec.mounts.extend(mounts::mounts(lease, &stack, &wanted, used)?);
    Ok(spec)
}

/// ENTRYPOINT and CMD, as they are or replaced.
fn command(args: &Args, config: &ImageConfig) -> Result<Vec<String>> {
    let mut command = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.config.entrypoint.clone().unwrap_or_default(),
    };
    if !args.command().is_empty() {
        command.extend(args.command().iter().cloned());
    } else if args.entrypoint.is_none() {
        // A replaced entry point takes the image's CMD with it, as in Docker.
        command.extend(config.config.cmd.clone().unwrap_or_default());
    }
    if command.is_empty() {
        return Err(CliError::new(format!("the image `{}` says no command", args.image()))
            .with_hint(format!("name one: `conex run {} COMMAND`", args.image())));
    }
    Ok(command)
}

fn environment(args: &Args, config: &ImageConfig) -> Result<Vec<String>> {
    let mut env = config.config.clone();
    if env.env_value("PATH").is_none() {
        env.set_env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    }
    if args.tty && env.env_value("TERM").is_none() {
        env.set_env("TERM", "xterm");
    }
    let mut given = Vec::new();
    for file in &args.env_file {
        let text = std::fs::read_to_string(file)
            .doing(|| format!("cannot read the variables of `{}`", file.display()))?;
        let lines = text.lines().map(str::trim_start);
        given.extend(
            lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
        );
    }
    given.extend(args.env.iter().cloned());
    for pair in given {
        match pair.split_once('=') {
            Some(("", _)) => return Err(CliError::usage(format!("`--env {pair}` has no name"))),
            Some((name, value)) => env.set_env(name, value),
            None => {
                if let Ok(value) = std::env::var(&pair) {
                    env.set_env(&pair, &value);
                }
            }
        }
    }
    Ok(env.env)
}

fn security(args: &Args, spec: &mut ContainerSpec) -> Result<()> {
    for option in &args.security_opt {
        match option.as_str() {
            "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => {
                spec.privileges = Privileges::NeverGrow;
            }
            "seccomp=unconfined" | "seccomp:unconfined" => spec.seccomp = Seccomp::Unconfined,
            other => {
                return Err(CliError::usage(format!("`--security-opt {other}` is not offered"))
                    .with_hint("`no-new-privileges` and `seccomp=unconfined` are"));
            }
        }
    }
    Ok(())
}

fn resources(args: &Args) -> Result<Resources> {
    let mut resources = Resources {
        memory: args.memory.as_deref().map(parse::bytes).transpose()?,
        cpu_nanos: args.cpus.as_deref().map(parse::cpus).transpose()?,
        cpuset_cpus: args.cpuset_cpus.clone(),
        // A number below 1 is no limit, as in Docker.
        pids: args
            .pids_limit
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|limit| *limit > 0),
        ulimits: parse::ulimits(&args.ulimit)?,
        cgroup_parent: args.cgroup_parent.clone(),
        ..Resources::default()
    };
    if let Some(size) = &args.shm_size {
        resources.shm_size = parse::bytes(size)?;
    }
    Ok(resources)
}
