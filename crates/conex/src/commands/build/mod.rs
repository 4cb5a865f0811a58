//! `conex build`.

mod check;
mod contexts;
mod fetch;
mod images;
mod inputs;
mod outputs;
pub(super) mod parse;

pub(super) use inputs::resolv_conf;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_build::{
    BuildOptions, Context, Contexts, EPOCH_DEFAULT, ImageOptions, NamedContext, NoCache,
    PlanOptions,
};
use conex_dockerfile::Dockerfile;
use conex_exec::{ExecOptions, Resources};
use conex_layer::Form;
use conex_oci::{Platform, Reference};
use conex_report::{Diagnostic, Event, Reporter, Severity};
use conex_store::{Expected, Lease};
use conex_term::{Mode, Progress};

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

use outputs::Output;

/// Build an image from a Dockerfile
///
/// The context is a folder, a git URL, an http(s) URL of a tar, or `-` for a tar (or a Dockerfile)
/// on standard input. The image goes straight into the store: nothing is sent or loaded.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex build -t app .\n  conex build -f build/Dockerfile --target test .\n  \
    conex build --secret id=token,src=token.txt --build-arg VERSION=1.4 -t app:1.4 .\n  \
    conex build -o type=oci,dest=app.tar .\n  conex build --explain -t app .     # why did a step run again?"
)]
pub struct Args {
    /// The build context
    #[arg(value_name = "CONTEXT")]
    context: String,

    /// The Dockerfile; `-` reads it from standard input (default: `CONTEXT/Dockerfile`)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Name of the image (`name[:tag]`, can be repeated)
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,

    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,

    /// Value of an ARG (`NAME=VALUE`, or `NAME` to take it from the environment; can be repeated)
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,

    /// Another context (`NAME=FOLDER`, `docker-image://`, `oci-layout://`, `target:`, a URL)
    #[arg(long, value_name = "NAME=SOURCE")]
    build_context: Vec<String>,

    /// Platforms to build for (`linux/amd64,linux/arm64`); several make an index
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,

    /// Run every step, whatever the cache holds
    #[arg(long)]
    no_cache: bool,

    /// Run the steps of these stages, whatever the cache holds
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,

    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,

    /// A secret for `RUN --mount=type=secret` (`id=NAME,src=FILE` or `id=NAME,env=VARIABLE`)
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,

    /// An SSH agent for `RUN --mount=type=ssh` (`default` or `ID=SOCKET`)
    #[arg(long, value_name = "ID[=SOCKET]")]
    ssh: Vec<String>,

    /// Network of RUN: `default` and `host` are the host's, `none` has none
    #[arg(long, value_name = "MODE", default_value = "default")]
    network: Network,

    /// A name that RUN can reach (`NAME=ADDRESS`)
    #[arg(long, value_name = "NAME=ADDRESS")]
    add_host: Vec<String>,

    /// A label of the image (`NAME=VALUE`)
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,

    /// An annotation of the manifest (`[TYPE:]NAME=VALUE`)
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,

    /// Where the result goes (`type=image|oci|docker|tar|local|registry[,dest=PATH]`; a folder or
    /// `-` alone are `local` and `tar`)
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,

    /// Push the result (the same as `--output type=registry`)
    #[arg(long)]
    push: bool,

    /// Accepted for Docker's sake: the result is always in the store
    #[arg(long, hide = true)]
    load: bool,

    /// Keep the build cache elsewhere too (`type=local,dest=DIR`, `type=registry,ref=NAME`,
    /// `type=inline`; `mode=min|max`)
    #[arg(long, value_name = "CACHE")]
    cache_to: Vec<String>,

    /// Use a build cache from elsewhere (`type=local,src=DIR`, `type=registry,ref=NAME`)
    #[arg(long, value_name = "CACHE")]
    cache_from: Vec<String>,

    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto", value_name = "MODE")]
    progress: ProgressMode,

    /// Show no progress, only the image ID
    #[arg(short, long)]
    quiet: bool,

    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,

    /// Write what was built to a JSON file
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,

    /// Ask all rules of `conex lint` and build nothing; `buildkit` asks only BuildKit's checks, as
    /// Docker does, and `format=NAME` (json, sarif, github, …) shows findings for programs
    #[arg(
        long,
        value_name = "WHAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "all"
    )]
    check: Option<String>,

    /// What to do: `build`, or `check` for BuildKit's checks alone (Docker's name for
    /// `--check=buildkit`)
    #[arg(long, value_name = "ACT", default_value = "build", conflicts_with = "check")]
    call: String,

    /// Say for every step why it was built or taken from the cache
    #[arg(long)]
    explain: bool,

    /// What to do when a step fails: `fail`, or `shell` to look around in it
    #[arg(long, value_enum, default_value = "fail", value_name = "ACT")]
    on_error: OnError,

    /// Run commands with an installed OCI runtime (`runc`, `crun`, `youki`, or a path)
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<String>,

    /// Allow what is normally refused (`security.insecure`, `network.host`)
    #[arg(long, value_name = "ENTITLEMENT")]
    allow: Vec<String>,

    /// Most memory of each RUN (`512m`)
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<String>,

    /// Most processors of each RUN (`1.5`)
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,

    /// A limit of each process in RUN (`nofile=1024:2048`)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<String>,

    /// Size of `/dev/shm` in RUN (`128m`)
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,

    /// The cgroup below which the commands run
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,

    /// Steps that run at the same time (default: the number of processors)
    #[arg(long, value_name = "NUMBER")]
    parallel: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Network {
    Default,
    Host,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ProgressMode {
    Auto,
    Tty,
    Plain,
    Json,
    Rawjson,
    Quiet,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnError {
    Fail,
    Shell,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let check = check::Check::of(&args)?;
    // Before any thread: an ordinary user becomes root of a user namespace here.
    if check.is_none() {
        session.privileges()?;
    }
    let stopper = crate::signals::Stopper::block()?;
    let mut stdin = inputs::Stdin::default();
    let lease = if check.is_some() { None } else { Some(session.store()?.lease()?) };
    let secrets = if check.is_some() { Default::default() } else { inputs::secrets(&args.secret)? };
    let main = contexts::open_main(session, &args, &secrets, lease.as_ref(), &mut stdin)?;
    let (name, text) = dockerfile_text(&args, &main, &mut stdin)?;
    if let Some(check::Check::All(format)) = check {
        return check::everything(session, &args, &main, format, (name, text));
    }
    let (dockerfile, findings) = conex_dockerfile::parse(&text);
    let source = (name.clone(), String::from_utf8_lossy(&text).into_owned());
    let errors: Vec<Diagnostic> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).cloned().collect();
    if !errors.is_empty() {
        let error = CliError::from(conex_build::Error::dockerfile(errors));
        return Err(CliError { source_text: Some(Box::new(source)), ..error });
    }
    let Some(lease) = lease else {
        return check::buildkit(session, &args, &main, &dockerfile, &source);
    };
    let input =
        Input { dockerfile: &dockerfile, source: &source, secrets: &secrets, stopper: &stopper };
    let outcome = build(session, &args, &lease, main, &input);
    outcome.map_err(|mut error| {
        if !error.findings.is_empty() {
            error.source_text = Some(Box::new(source));
        }
        error
    })
}

/// The Dockerfile: what people should call it, and its bytes.
fn dockerfile_text(
    args: &Args,
    main: &contexts::Main,
    stdin: &mut inputs::Stdin,
) -> Result<(String, Vec<u8>)> {
    if let Some(text) = &main.dockerfile {
        return Ok(("-".to_owned(), text.clone()));
    }
    if args.file.as_deref() == Some(Path::new("-")) {
        return Ok(("-".to_owned(), stdin.take("the Dockerfile")?));
    }
    let path = main.dockerfile_path(args.file.as_deref());
    let file = std::fs::File::open(&path).map_err(|error| {
        let message = format!("cannot open the Dockerfile `{}`", path.display());
        let error = CliError::because(message, error);
        match contexts::lowercase_neighbour(&path) {
            Some(near) => error.with_hint(format!("did you mean `-f {}`?", near.display())),
            None => error.with_hint("name it with `-f`, or give the folder that holds it"),
        }
    })?;
    let mut text = Vec::new();
    file.take(conex_dockerfile::limits::DOCKERFILE_SIZE_MAX as u64 + 1)
        .read_to_end(&mut text)
        .doing(|| format!("cannot read the Dockerfile `{}`", path.display()))?;
    Ok((args.file.as_ref().map_or("Dockerfile".into(), |file| file.display().to_string()), text))
}

/// What a build starts with.
struct Input<'i> {
    dockerfile: &'i Dockerfile,
    /// What people call the Dockerfile, and its text.
    source: &'i (String, String),
    secrets: &'i fetch::Secrets,
    stopper: &'i crate::signals::Stopper,
}

fn build(
    session: &Session,
    args: &Args,
    lease: &Lease,
    main: contexts::Main,
    input: &Input<'_>,
) -> Result<()> {
    let Input { dockerfile, source, secrets, stopper } = *input;
    let tags = args.tag.iter().map(|tag| Ok(tag.parse()?)).collect::<Result<Vec<Reference>>>()?;
    if let Some(with_digest) = tags.iter().find(|tag| tag.digest().is_some()) {
        return Err(CliError::usage(format!("`{with_digest}` names a digest, not a tag")));
    }
    let outputs = outputs::parse(&args.output, args.push)?;
    let outputs_of_caches = outputs::parse_caches(&args.cache_to)?;
    let host = Platform::host();
    let platforms = parse::platforms(&args.platform, &host)?;
    let build_args = parse::build_args(&args.build_arg)?;
    let epoch = epoch(session, &build_args)?;
    let named = contexts::open_named(session, &args.build_context, secrets, lease)?;
    let progress = progress(session, args, &tags, source);
    let reporter: &dyn Reporter = &progress;
    let privileges = session.privileges()?;
    let form = Form { flavor: privileges.flavor(), ownership: privileges.ownership() };
    let base_images =
        images::BaseImages { session, lease, reporter, pull: args.pull, found: Default::default() };
    let no_cache = match (args.no_cache, args.no_cache_filter.as_slice()) {
        (true, _) => NoCache::Everything,
        (false, []) => NoCache::Nothing,
        (false, stages) => NoCache::Stages(stages.to_vec()),
    };
    let namespace = build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned().unwrap_or_default();
    let plan = conex_build::plan(&PlanOptions {
        dockerfile,
        target: args.target.as_deref(),
        build_args: &build_args,
        platforms: &platforms,
        build_platform: &host,
        contexts: &named.names,
        no_cache: &no_cache,
        images: &base_images,
        cache_namespace: &namespace,
        network: match args.network {
            Network::Default => conex_dockerfile::Network::Default,
            Network::Host => conex_dockerfile::Network::Host,
            Network::None => conex_dockerfile::Network::None,
        },
    });
    // What is known of the base images by now lets the rules say more.
    let facts = |name: &str, platform: &Platform| base_images.facts(name, platform);
    let ignore = main.ignore.as_ref();
    let options = check::options(args, conex_lint::Scope::Needed, ignore, &facts)?;
    for warning in conex_lint::check(dockerfile, &options).diagnostics {
        reporter.event(Event::Finding(warning));
    }
    let plan = plan?;
    let contexts = Contexts { main: main.context.map(Arc::new), named: named.folders };
    let ssh = inputs::ssh(&args.ssh)?;
    let cancel = stopper.begin();
    let fetcher = fetch::Fetcher::new(session, secrets);
    let cache_from = outputs::open_caches(session, &args.cache_from, reporter)?;
    let on_failure = |spec: &conex_exec::ContainerSpec| inputs::shell(session, &progress, spec);
    let options = BuildOptions {
        lease,
        reporter,
        cancel,
        contexts: &contexts,
        fetch: &fetcher,
        form,
        epoch,
        secrets,
        ssh: &ssh,
        exec: ExecOptions {
            runtime: parse::runtime(args.runtime.as_deref())?,
            ..ExecOptions::default()
        },
        resources: resources(args)?,
        extra_hosts: parse::extra_hosts(&args.add_host)?,
        resolv_conf: inputs::resolv_conf(args.network == Network::None),
        allow_insecure: parse::allows(&args.allow, "security.insecure")?,
        explain: args.explain,
        parallel: args.parallel.unwrap_or_else(parallelism).max(1),
        cache_from: &cache_from,
        on_failure: (args.on_error == OnError::Shell).then_some(&on_failure as _),
        can_run: &crate::platforms::can_run,
    };
    let created = conex_term::Timestamp::from_unix(epoch).rfc3339_seconds();
    let image_options = ImageOptions {
        labels: parse::pairs("--label", &args.label)?,
        created,
        inline_cache: outputs_of_caches.iter().any(outputs::CacheOutput::is_inline),
    };
    let result = conex_build::build(&plan, &options, &image_options);
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            finish(&progress)?;
            return Err(failed(error));
        }
    };
    let annotations = parse::annotations(&args.annotation)?;
    let record = if outputs.iter().any(Output::keeps_image) {
        let record = conex_build::keep(&outcome, &options)?;
        for tag in &tags {
            lease.store().tag(tag, &record.id, &Expected::Anything)?;
        }
        Some(record)
    } else {
        None
    };
    let exporter = outputs::Exporter {
        session,
        options: &options,
        tags: &tags,
        annotations,
        kept: record.as_ref().map(|record| record.id.clone()),
    };
    let mut packed = None;
    for output in &outputs {
        packed = exporter.export(output, &outcome)?.or(packed);
    }
    for cache in &outputs_of_caches {
        exporter.export_cache(cache, &outcome)?;
    }
    finish(&progress)?;
    let kept = record.as_ref().map(|record| &record.id);
    tell(session, args, &Told { outcome: &outcome, kept, packed, tags: &tags })?;
    // What dead processes left behind costs a look, and is nobody's business if it fails.
    let _ = session.store()?.gc();
    Ok(())
}

/// What a build came to.
struct Told<'t> {
    outcome: &'t conex_build::Outcome,
    /// The image in the store.
    kept: Option<&'t conex_oci::Digest>,
    /// The manifest or index that was written or pushed.
    packed: Option<conex_oci::Descriptor>,
    tags: &'t [Reference],
}

/// Says what came of it: the ID, alone where somebody reads it by program.
fn tell(session: &Session, args: &Args, told: &Told<'_>) -> Result<()> {
    let Told { outcome, kept, packed, tags } = told;
    let id = kept.or(outcome.images.first().map(|image| &image.id));
    let Some(id) = id else { return Ok(()) };
    if let Some(file) = &args.iidfile {
        std::fs::write(file, id.as_str())
            .doing(|| format!("cannot write the image ID to `{}`", file.display()))?;
    }
    if let Some(file) = &args.metadata_file {
        let names: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let mut document = serde_json::json!({
            "containerimage.config.digest": id.as_str(),
            "image.name": names.join(","),
        });
        if let Some(packed) = packed {
            document["containerimage.digest"] = packed.digest.as_str().into();
            document["containerimage.descriptor"] = serde_json::json!(packed);
        }
        std::fs::write(file, format!("{document:#}\n"))
            .doing(|| format!("cannot write `{}`", file.display()))?;
    }
    if args.quiet || args.progress == ProgressMode::Quiet {
        return session.out(&format!("{id}\n"));
    }
    match (kept, *tags) {
        (None, _) => Ok(()),
        (Some(id), []) => session.out(&format!("{id}\n")),
        (Some(id), tags) => {
            for tag in tags {
                let line = format!("{} {}", tag.familiar(), id.short());
                session.err(&session.err_palette().dim(&format!("Built {line}")));
            }
            Ok(())
        }
    }
}

fn failed(error: conex_build::Error) -> CliError {
    let code = match error.kind() {
        // As a shell says it of a program that Ctrl-C ended.
        conex_build::ErrorKind::Canceled => 130,
        _ => crate::error::FAILED,
    };
    CliError::from(error).with_code(code)
}

fn finish(progress: &Progress) -> Result<()> {
    Ok(progress.finish()?)
}

/// `SOURCE_DATE_EPOCH`: from a build argument, else the environment.
fn epoch(session: &Session, build_args: &BTreeMap<String, String>) -> Result<i64> {
    match build_args.get("SOURCE_DATE_EPOCH") {
        Some(text) => text.parse().map_err(|_| {
            let message = format!("SOURCE_DATE_EPOCH is `{text}`, not a number of seconds");
            CliError::usage(message)
                .with_hint("for the time of the last commit: `$(git log -1 --format=%ct)`")
        }),
        None => Ok(session.settings.source_date_epoch.unwrap_or(EPOCH_DEFAULT)),
    }
}

fn resources(args: &Args) -> Result<Resources> {
    let mut resources = Resources {
        memory: args.memory.as_deref().map(parse::bytes).transpose()?,
        cpu_nanos: args.cpus.as_deref().map(parse::cpus).transpose()?,
        ulimits: parse::ulimits(&args.ulimit)?,
        cgroup_parent: args.cgroup_parent.clone(),
        ..Resources::default()
    };
    if let Some(size) = &args.shm_size {
        resources.shm_size = parse::bytes(size)?;
    }
    Ok(resources)
}

fn parallelism() -> usize {
    crate::session::parallelism()
}

fn progress(
    session: &Session,
    args: &Args,
    tags: &[Reference],
    source: &(String, String),
) -> Progress {
    let mode = match args.progress {
        _ if args.quiet => Mode::Quiet,
        ProgressMode::Auto => crate::progress::auto(),
        ProgressMode::Tty => Mode::Tty,
        ProgressMode::Plain => Mode::Plain,
        ProgressMode::Json | ProgressMode::Rawjson => Mode::Json,
        ProgressMode::Quiet | ProgressMode::None => Mode::Quiet,
    };
    let what = tags.first().map_or_else(|| "an image".to_owned(), Reference::familiar);
    let progress = crate::progress::start(session, mode, format!("Building {what}"));
    progress.set_source(&source.0, &source.1);
    progress
}

/// What `--build-context` came to: names for the plan, folders for the build.
struct Named {
    names: BTreeMap<String, NamedContext>,
    folders: BTreeMap<String, Arc<Context>>,
}
