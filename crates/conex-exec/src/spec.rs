//! What a container is: plain data, complete before anything runs.
//!
//! Invariant: a value that passed [`ContainerSpec::check`] can be carried out without another
//! question to the caller. Nothing here touches the machine.

use std::fmt;

use conex_sys::capability::{Capability, CapabilityMask};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::user::ResolvedUser;
use crate::wire::{self, HostPath};

/// Most mounts accepted: far above any use, low enough that set-up stays bounded.
pub const MOUNT_COUNT_MAX: usize = 1_000;
/// Most lower layers: what overlayfs itself takes (`OVL_MAX_STACK`).
pub const LAYER_COUNT_MAX: usize = 500;
/// Largest description with all file contents that a helper process reads.
pub const SPEC_SIZE_MAX: u64 = 64 << 20;
/// Size of `/dev/shm` when nothing is said, as Docker.
pub const SHM_SIZE_DEFAULT: u64 = 64 << 20;

/// One process in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// What becomes `/`.
    pub rootfs: Rootfs,
    /// Whether the process may write to `/` itself.
    pub rootfs_access: Access,
    /// The program and its arguments; the program is searched in `PATH` of `env` if it has no `/`.
    pub args: Vec<String>,
    /// `NAME=value` each; `HOME` is added from `user` when missing.
    pub env: Vec<String>,
    /// The working directory; made with mode 0755 and the user as owner when missing.
    pub cwd: String,
    /// Who the process is.
    pub user: ResolvedUser,
    /// Its file mode creation mask.
    pub umask: u32,
    /// Its host name.
    pub hostname: String,
    /// Mounts beyond the usual ones; parents come first whatever the order here.
    pub mounts: Vec<Mount>,
    /// What network it has.
    pub network: Network,
    /// What of root's power it has.
    pub capabilities: Capabilities,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// Whether set-user-ID programs lose their effect (Docker leaves them be).
    pub privileges: Privileges,
    /// Paths hidden behind nothing; [`docker_masked_paths`].
    pub masked_paths: Vec<String>,
    /// Paths made read-only; [`docker_readonly_paths`].
    pub readonly_paths: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Who is process 1.
    pub pid1: Pid1,
    /// The size of its terminal, if it shall have one.
    pub terminal: Option<TerminalSize>,
}

impl ContainerSpec {
    /// A container with Docker's defaults: the given rootfs and arguments, root, host network.
    pub fn new(rootfs: Rootfs, args: Vec<String>) -> Self {
        Self {
            rootfs,
            rootfs_access: Access::ReadWrite,
            args,
            env: Vec::new(),
            cwd: "/".to_owned(),
            user: ResolvedUser::root(),
            umask: 0o022,
            hostname: "conex".to_owned(),
            mounts: Vec::new(),
            network: Network::Host,
            capabilities: Capabilities::default(),
            seccomp: Seccomp::Default,
            privileges: Privileges::MayGrow,
            masked_paths: docker_masked_paths(),
            readonly_paths: docker_readonly_paths(),
            resources: Resources::default(),
            pid1: Pid1::Program,
            terminal: None,
        }
    }

    /// Gives up the hardening, for `RUN --security=insecure`: all capabilities that the machine
    /// allows, every system call, nothing masked.
    pub fn make_insecure(&mut self) {
        self.capabilities = Capabilities { base: CapabilityBase::All, ..Default::default() };
        self.seccomp = Seccomp::Unconfined;
        self.masked_paths.clear();
        self.readonly_paths.clear();
    }

    /// Checks what can be checked without touching the machine.
    pub fn check(&self) -> Result<()> {
        if self.args.is_empty() || self.args.first().is_some_and(String::is_empty) {
            return Err(Error::invalid("the container has no program to run"));
        }
        let texts = self.args.iter().chain(&self.env).chain([&self.cwd, &self.hostname]);
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(Error::invalid("an argument or a variable holds a zero byte"));
        }
        if !self.cwd.starts_with('/') {
            return Err(Error::invalid(format!(
                "working directory `{}` is not absolute",
                self.cwd
            )));
        }
        if self.hostname.len() > 64 {
            let hostname = &self.hostname;
            return Err(Error::invalid(format!("host name `{hostname}` is longer than 64 bytes")));
        }
        if self.mounts.len() > MOUNT_COUNT_MAX {
            return Err(Error::invalid(format!("more than {MOUNT_COUNT_MAX} mounts")));
        }
        self.mounts.iter().try_for_each(Mount::check)?;
        self.rootfs.check()?;
        self.resources.check()?;
        self.capabilities.resolve().map(|_| ())
    }
}

/// What becomes `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// A stack of layers, mounted only inside the container's own mount namespace.
    Overlay(Overlay),
    /// A folder as it is.
    Dir(HostPath),
}

impl Rootfs {
    fn check(&self) -> Result<()> {
        let paths: Vec<&HostPath> = match self {
            Self::Dir(dir) => vec![dir],
            Self::Overlay(overlay) => {
                if overlay.lower.is_empty() && overlay.upper.is_none() {
                    return Err(Error::invalid("the rootfs has no layer"));
                }
                if overlay.lower.len() > LAYER_COUNT_MAX {
                    let message = format!("the rootfs has more than {LAYER_COUNT_MAX} layers");
                    return Err(Error::invalid(message));
                }
                let writable = overlay.upper.iter().flat_map(|upper| [&upper.dir, &upper.work]);
                overlay.lower.iter().chain(writable).collect()
            }
        };
        for path in paths {
            if !path.is_absolute() {
                let path = path.display();
                return Err(Error::invalid(format!("rootfs folder `{path}` is not absolute")));
            }
        }
        Ok(())
    }
}

/// A stack of layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only layers, topmost first.
    pub lower: Vec<HostPath>,
    /// Where changes go; without it the rootfs is read-only.
    pub upper: Option<Upper>,
    /// Where whiteouts and opaque marks keep their attributes.
    pub flavour: OverlayFlavour,
}

/// The writable part of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upper {
    /// The folder that holds the changes.
    pub dir: HostPath,
    /// An empty folder of the same file system for the kernel's own use.
    pub work: HostPath,
    /// Whether changes reach the disk before the end of the container is reported.
    pub durability: Durability,
}

/// Where an overlay keeps its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlayFlavour {
    /// `trusted.overlay.*`: real root.
    Trusted,
    /// `user.overlay.*`: root of a user namespace.
    User,
}

/// Whether an overlay syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// The kernel syncs the upper's whole file system when the overlay is unmounted.
    Synced,
    /// Nothing is synced, and `fsync` inside does nothing: for whoever syncs the result, or throws
    /// it away. When helper and container were both killed, the `work` folder cannot be used again.
    Volatile,
}

/// Reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Reading only.
    ReadOnly,
    /// Both.
    ReadWrite,
}

/// Something mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where; absolute, resolved inside the rootfs, made when missing and removed again.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Whether it can be written to.
    pub access: Access,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file, folder or socket of the host.
    Bind {
        /// The path on the host; its last symlink is followed.
        path: HostPath,
        /// Whether mounts below it come too.
        depth: BindDepth,
    },
    /// A file or folder of a stack of layers, such as another stage of a build.
    Overlay {
        /// The stack. Without an upper, its access is read-only.
        overlay: Overlay,
        /// The path in it; links on the way stay within it. Empty for all of it.
        path: HostPath,
    },
    /// A fresh folder in memory.
    Tmpfs {
        /// Most bytes in it; the kernel's default is half of the memory.
        size: Option<u64>,
        /// The mode of the folder; 01777 is usual.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A file with the given content, which lives in memory only (secrets, `/etc/hosts`).
    File {
        /// What is in it.
        content: Content,
        /// Its mode.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Whether a bind mount includes what is mounted below its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindDepth {
    /// The source alone.
    This,
    /// And all mounted below.
    Recursive,
}

impl Mount {
    /// A bind mount with everything below.
    pub fn bind(path: impl Into<HostPath>, target: impl Into<String>, access: Access) -> Self {
        let source = MountSource::Bind { path: path.into(), depth: BindDepth::Recursive };
        Self { target: target.into(), source, access }
    }

    /// A root-owned file with the given content.
    pub fn file(target: impl Into<String>, content: impl Into<Vec<u8>>, access: Access) -> Self {
        let content = Content(content.into());
        let source = MountSource::File { content, mode: 0o644, uid: 0, gid: 0 };
        Self { target: target.into(), source, access }
    }

    fn check(&self) -> Result<()> {
        let target = &self.target;
        if !target.starts_with('/') || target.contains('\0') {
            return Err(Error::invalid(format!("mount target `{target}` is not absolute")));
        }
        let names = target.split('/').filter(|name| !name.is_empty() && *name != ".");
        if names.clone().any(|name| name == "..") {
            return Err(Error::invalid(format!("mount target `{target}` holds `..`")));
        }
        if names.count() == 0 {
            return Err(Error::invalid("mount target `/` would hide the rootfs"));
        }
        match &self.source {
            MountSource::Bind { path, .. } if !path.is_absolute() => {
                let path = path.display();
                Err(Error::invalid(format!("mount source `{path}` is not absolute")))
            }
            MountSource::Overlay { overlay, .. } => Rootfs::Overlay(overlay.clone()).check(),
            _ => Ok(()),
        }
    }
}

/// Bytes that no debug output shows, because they may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content(#[serde(with = "wire::bytes")] pub Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Content({} bytes)", self.0.len())
    }
}

/// What network the process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// That of conex.
    Host,
    /// None but the loopback device.
    None,
}

/// Whether a program can gain power by its set-user-ID bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Privileges {
    /// It can (`sudo` works), within the capabilities of the container.
    MayGrow,
    /// It cannot (`no_new_privs`).
    NeverGrow,
}

/// Which system calls the process may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's list, by capability.
    Default,
    /// All.
    Unconfined,
}

/// Who is process 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pid1 {
    /// The program.
    Program,
    /// A small process that passes signals on to the program and reaps orphans.
    Init,
}

/// Rows and columns of a terminal; zero is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Where a set of capabilities starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CapabilityBase {
    /// Docker's fourteen.
    #[default]
    Docker,
    /// All that the machine allows.
    All,
    /// None.
    None,
}

/// What of root's power the process has, as `--cap-add` and `--cap-drop` say it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// Where the set starts from.
    pub base: CapabilityBase,
    /// Names to add, with or without `CAP_`, or `ALL`.
    pub add: Vec<String>,
    /// Names to drop, or `ALL`.
    pub drop: Vec<String>,
}

/// Docker's default set.
const DOCKER_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

impl Capabilities {
    /// The set that this asks for. `--cap-add ALL --cap-drop X` is everything but X,
    /// `--cap-drop ALL --cap-add X` is X alone, as with Docker.
    pub fn resolve(&self) -> Result<CapabilityMask> {
        let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
        let add = named(&self.add)?;
        let drop = named(&self.drop)?;
        let base = match self.base {
            CapabilityBase::Docker => docker_capabilities(),
            CapabilityBase::All => CapabilityMask::ALL,
            CapabilityBase::None => CapabilityMask::default(),
        };
        let mask = match (all(&self.add), all(&self.drop)) {
            (true, _) => CapabilityMask(CapabilityMask::ALL.0 & !drop.0),
            (false, true) => add,
            (false, false) => CapabilityMask((base.0 | add.0) & !drop.0),
        };
        Ok(mask)
    }

    /// The capabilities that were asked for by name, so that their lack is an error.
    pub(crate) fn named(&self) -> Result<CapabilityMask> {
        named(&self.add)
    }
}

fn docker_capabilities() -> CapabilityMask {
    let known = DOCKER_CAPABILITIES.iter().filter_map(|name| Capability::by_name(name));
    known.fold(CapabilityMask::default(), CapabilityMask::with)
}

fn named(names: &[String]) -> Result<CapabilityMask> {
    let mut mask = CapabilityMask::default();
    for name in names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        let capability = Capability::by_name(name).ok_or_else(|| {
            let error = Error::invalid(format!("`{name}` is not a capability"));
            let known = Capability::names().iter().copied();
            match conex_report::did_you_mean(name.trim_start_matches("CAP_"), known) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error,
            }
        })?;
        mask = mask.with(capability);
    }
    Ok(mask)
}

/// Limits; what is `None` is not limited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_swap: Option<SwapLimit>,
    /// Thousand-millionths of a processor (1.5 processors are 1,500,000,000).
    pub cpu_nanos: Option<u64>,
    /// Microseconds of processor time in each period; an older form of `cpu_nanos`.
    pub cpu_quota_us: Option<u64>,
    /// The length of the period for either form; the kernel's default is 100,000.
    pub cpu_period_us: Option<u64>,
    /// Share of the processors when they are busy; 1024 is normal.
    pub cpu_shares: Option<u64>,
    /// Which processors (`0-3,7`).
    pub cpuset_cpus: Option<String>,
    /// Which memory nodes.
    pub cpuset_mems: Option<String>,
    /// How many processes and threads.
    pub pids: Option<u64>,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// The cgroup below which the container's own is made.
    pub cgroup_parent: Option<String>,
    /// How willingly the kernel kills the process when memory runs out, from -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory: None,
            memory_swap: None,
            cpu_nanos: None,
            cpu_quota_us: None,
            cpu_period_us: None,
            cpu_shares: None,
            cpuset_cpus: None,
            cpuset_mems: None,
            pids: None,
            ulimits: Vec::new(),
            shm_size: SHM_SIZE_DEFAULT,
            cgroup_parent: None,
            oom_score_adj: None,
        }
    }
}

impl Resources {
    /// True if something is asked for that only a cgroup can do.
    pub fn needs_cgroup(&self) -> bool {
        self.memory.is_some()
            || self.memory_swap.is_some()
            || self.cpu_nanos.is_some()
            || self.cpu_quota_us.is_some()
            || self.cpu_shares.is_some()
            || self.cpuset_cpus.is_some()
            || self.cpuset_mems.is_some()
            || self.pids.is_some()
            || self.cgroup_parent.is_some()
    }

    fn check(&self) -> Result<()> {
        if let (Some(SwapLimit::Total(total)), Some(memory)) = (self.memory_swap, self.memory)
            && total < memory
        {
            return Err(Error::invalid(format!(
                "memory and swap together ({total}) are less than memory ({memory})"
            )));
        }
        if matches!(self.memory_swap, Some(SwapLimit::Total(_))) && self.memory.is_none() {
            return Err(Error::invalid("a swap limit needs a memory limit"));
        }
        if self.cpu_nanos.is_some() && self.cpu_quota_us.is_some() {
            return Err(Error::invalid("processors and processor quota cannot both be set"));
        }
        if self.cpu_nanos == Some(0) || self.cpu_period_us == Some(0) {
            return Err(Error::invalid("a limit of 0 processors or a period of 0 has no meaning"));
        }
        for ulimit in &self.ulimits {
            ulimit.check()?;
        }
        if let Some(parent) = &self.cgroup_parent
            && parent.split('/').any(|name| name == "..")
        {
            return Err(Error::invalid(format!("cgroup parent `{parent}` holds `..`")));
        }
        Ok(())
    }

    /// The processor limit as quota and period in microseconds.
    pub(crate) fn cpu_quota(&self) -> Option<(u64, u64)> {
        let period = self.cpu_period_us.unwrap_or(100_000);
        let of_nanos = |nanos: u64| {
            let quota = u128::from(nanos) * u128::from(period) / 1_000_000_000;
            // The kernel takes no quota below a millisecond.
            u64::try_from(quota).unwrap_or(u64::MAX).max(1_000)
        };
        self.cpu_quota_us.or(self.cpu_nanos.map(of_nanos)).map(|quota| (quota, period))
    }
}

/// A limit of memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapLimit {
    /// As much swap as there is.
    Unlimited,
    /// Bytes of both together.
    Total(u64),
}

/// A limit of each process (`setrlimit(2)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `core` and so on.
    pub name: String,
    /// The limit in force; `None` is no limit.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}

/// The names of the limits of a process, as `--ulimit` takes them.
pub const ULIMIT_NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    fn check(&self) -> Result<()> {
        let name = &self.name;
        if !ULIMIT_NAMES.contains(&name.as_str()) {
            let error = Error::invalid(format!("`{name}` is not the name of a limit"));
            return Err(match conex_report::did_you_mean(name, ULIMIT_NAMES) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error,
            });
        }
        if self.soft.unwrap_or(u64::MAX) > self.hard.unwrap_or(u64::MAX) {
            return Err(Error::invalid(format!("soft limit of `{name}` is above the hard limit")));
        }
        Ok(())
    }
}

/// The paths that Docker hides: what they tell or allow is the host's own business.
pub fn docker_masked_paths() -> Vec<String> {
    [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The paths that Docker makes read-only.
pub fn docker_readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        .map(str::to_owned)
        .to_vec()
}
