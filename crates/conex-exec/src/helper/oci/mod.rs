//! Hands the container to an installed OCI runtime: an escape for those who need one, and the
//! oracle that our own way is tested against.
//!
//! The bundle lives in memory, in the mount namespace of a process 1 of its own which then becomes
//! the runtime: whatever is killed, the runtime, the container and the bundle go with it.
//!
//! Does less than our own way: a missing working directory is the runtime's to make, an init is
//! not offered, and what the runtime says about failures comes on the program's standard error.

mod config;

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use conex_sys::mount::{self, Attributes, Filesystem};
use conex_sys::{process, pty};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};

use super::container::{Birth, ROOT_NAME};
use super::finish;
use super::place::id_error;
use super::rootfs::{is_read_only, mount_rootfs, mount_stack_path};
use super::stubs::{StubKind, Tree};
use crate::error::{Context as _, Error, Failure, Result};
use crate::protocol::FromContainer;
use crate::spec::{Access, ContainerSpec, MountSource, Network, Pid1, Rootfs};

/// Where runtimes are searched that are named without a path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Never returns: becomes the runtime or ends.
pub(super) fn run(birth: &Birth<'_>, runtime: &Path, name: &str) -> ! {
    let Err(error) = become_runtime(birth, runtime, name);
    // If the helper is gone there is nobody to tell.
    let _ = birth.helper.send(&FromContainer::Failed(Failure::from(&error)));
    process::exit_now(error.exit_code());
}

fn become_runtime(birth: &Birth<'_>, runtime: &Path, name: &str) -> Result<Infallible> {
    let spec = birth.spec;
    if spec.pid1 == Pid1::Init {
        return Err(Error::unsupported("an OCI runtime cannot be asked for an init")
            .with_hint("leave out `--init` or `--runtime`"));
    }
    finish::die_with_helper()?;
    rustix::process::setsid().doing(|| "cannot make a session".to_owned())?;
    mount::make_all_private().doing(|| "cannot separate the container's mounts".to_owned())?;
    let bundle = make_bundle(birth)?;
    let terminal = match spec.terminal {
        Some(size) => Some(open_terminal(birth, size)?),
        None => None,
    };
    finish::connect_streams(spec, terminal)?;
    process::reset_signals().doing(|| "cannot reset signals".to_owned())?;
    process::close_on_exec_from(3).doing(|| "cannot close descriptors".to_owned())?;
    execute(birth, runtime, &bundle, name)
}

fn open_terminal(birth: &Birth<'_>, size: crate::spec::TerminalSize) -> Result<OwnedFd> {
    let act = || "cannot make a terminal".to_owned();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let devices = rustix::fs::open("/dev", flags, Mode::empty()).doing(act)?;
    let pty = pty::open(devices).doing(act)?;
    let size = pty::Size { rows: size.rows, columns: size.columns };
    pty::resize(&pty.terminal, size).doing(act)?;
    birth.hand_over_terminal(&pty.controller)?;
    Ok(pty.terminal)
}

/// Makes the bundle in memory; returns its path, which only this mount namespace knows.
fn make_bundle(birth: &Birth<'_>) -> Result<PathBuf> {
    let spec = birth.spec;
    let act = || "cannot make the bundle for the runtime".to_owned();
    let filesystem = Filesystem::new("tmpfs").doing(act)?;
    filesystem.set("mode", "0755").doing(act)?;
    let bundle = filesystem.mount(Attributes::NO_SUID).doing(act)?;
    rustix::fs::mkdirat(&bundle, "state", Mode::from_raw_mode(0o700)).doing(act)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The bundle needs a path, so a folder to lie on: one that nobody needs once the rootfs is
    // mounted. The rootfs must be mounted before that one is covered, but can be attached only
    // after: so the bundle is first attached where no path leads to it, like our scratch.
    let top = rustix::fs::open("/", flags, Mode::empty()).doing(act)?;
    mount::attach(&bundle, &top).doing(act)?;
    let upper = super::container::open_upper(&spec.rootfs)?;
    let root = mount_rootfs(&spec.rootfs, &bundle, ROOT_NAME, Attributes::NONE, birth.place)?;
    let sources = make_sources(birth, &bundle)?;
    make_targets(birth, root, upper, &sources)?;
    let point = covered_folder(&spec.rootfs)?;
    let place = Bundle { path: point.clone(), sources };
    let config = config::config(spec, birth.place, &place)?;
    write(&bundle, "config.json", config.to_string().as_bytes(), 0o600).doing(act)?;
    // It must not stay on top of `/`: runtimes drop the old root as one mount, and whatever lies
    // on it would take its place in the container.
    let covered = rustix::fs::open(&point, flags, Mode::empty()).doing(act)?;
    mount::attach(&bundle, &covered).doing(act)?;
    mount_proc()?;
    Ok(point)
}

/// Where the bundle is, and what in it is to be mounted, by number of the mount.
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) sources: Vec<Source>,
}

/// What a mount comes from.
pub(super) struct Source {
    kind: StubKind,
    /// The name in the bundle, if it lies there.
    pub(super) name: Option<String>,
}

fn covered_folder(rootfs: &Rootfs) -> Result<PathBuf> {
    let folder = match rootfs {
        Rootfs::Dir(dir) => Some(dir),
        Rootfs::Overlay(overlay) => match &overlay.upper {
            Some(upper) => Some(&upper.work),
            None => overlay.lower.first(),
        },
    };
    folder.map(|folder| folder.0.clone()).ok_or_else(|| Error::invalid("the rootfs has no layer"))
}

/// Makes what the runtime will mount on, so that it can be taken away again.
fn make_targets(
    birth: &Birth<'_>,
    root: OwnedFd,
    upper: Option<OwnedFd>,
    sources: &[Source],
) -> Result<()> {
    if is_read_only(&birth.spec.rootfs) {
        return Ok(());
    }
    let mut tree = Tree::new(root, upper)?;
    for target in ["/proc", "/dev", "/sys"] {
        tree.target(target, StubKind::Dir)?;
    }
    for (wanted, source) in birth.spec.mounts.iter().zip(sources) {
        let inside = ["/proc/", "/dev/", "/sys/"];
        if !inside.iter().any(|prefix| wanted.target.starts_with(prefix)) {
            tree.target(&wanted.target, source.kind)?;
        }
    }
    for stub in tree.into_stubs() {
        let message = FromContainer::Stub(stub);
        birth.helper.send(&message).doing(|| "cannot speak to the helper".to_owned())?;
    }
    Ok(())
}

/// Puts into the bundle what the runtime cannot make itself.
fn make_sources(birth: &Birth<'_>, bundle: &OwnedFd) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (index, wanted) in birth.spec.mounts.iter().enumerate() {
        let act = || format!("cannot make what is mounted on `{}`", wanted.target);
        let name = format!("source{index}");
        let source = match &wanted.source {
            MountSource::Tmpfs { .. } => Source { kind: StubKind::Dir, name: None },
            MountSource::Bind { path, .. } => Source { kind: kind_of(path)?, name: None },
            MountSource::File { content, mode, uid, gid } => {
                let file = write(bundle, &name, &content.0, *mode).doing(act)?;
                let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
                rustix::fs::fchown(&file, Some(uid), Some(gid))
                    .map_err(|error| id_error(act(), error.into()))?;
                Source { kind: StubKind::File, name: Some(name) }
            }
            MountSource::Overlay { overlay, path } => {
                let stack = format!("stack{index}");
                let (mounted, kind) = mount_stack_path(overlay, path, bundle, &stack, birth.place)?;
                match kind {
                    StubKind::Dir => {
                        let mode = Mode::from_raw_mode(0o755);
                        rustix::fs::mkdirat(bundle, &*name, mode).doing(act)?;
                    }
                    StubKind::File => drop(write(bundle, &name, b"", 0o644).doing(act)?),
                }
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let place = rustix::fs::openat(bundle, &*name, flags, Mode::empty()).doing(act)?;
                mount::attach(&mounted, &place).doing(act)?;
                Source { kind, name: Some(name) }
            }
        };
        sources.push(source);
    }
    Ok(sources)
}

fn kind_of(path: &Path) -> Result<StubKind> {
    let stat = rustix::fs::stat(path).doing(|| format!("cannot mount `{}`", path.display()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(StubKind::Dir),
        _ => Ok(StubKind::File),
    }
}

fn write(folder: &OwnedFd, name: &str, content: &[u8], mode: u32) -> std::io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(mode))?;
    let mut file = File::from(file);
    file.write_all(content)?;
    Ok(file)
}

/// The runtime looks for its own processes in `/proc`, which must be that of our pid namespace.
fn mount_proc() -> Result<()> {
    let act = || "cannot mount /proc for the runtime".to_owned();
    let attributes = Attributes::NO_SUID.and(Attributes::NO_DEVICES).and(Attributes::NO_EXEC);
    let proc = Filesystem::new("proc").and_then(|new| new.mount(attributes)).doing(act)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open("/proc", flags, Mode::empty()).doing(act)?;
    mount::attach(&proc, &target).doing(act)
}

fn execute(birth: &Birth<'_>, runtime: &Path, bundle: &Path, name: &str) -> Result<Infallible> {
    let shown = runtime.display().to_string();
    let state = bundle.join("state");
    let words = [
        shown.as_str(),
        "--root",
        &state.display().to_string(),
        "run",
        "--bundle",
        &bundle.display().to_string(),
        name,
    ]
    .map(str::to_owned);
    let act = || "cannot pass the arguments to the runtime".to_owned();
    let args = words
        .into_iter()
        .map(CString::new)
        .collect::<Result<Vec<_>, _>>()
        .map_err(std::io::Error::from)
        .doing(act)?;
    let env = [CString::new(format!("PATH={PATH}")).map_err(std::io::Error::from).doing(act)?];
    birth
        .helper
        .send(&FromContainer::Executing)
        .doing(|| "cannot speak to the helper".to_owned())?;
    let mut last = None;
    for candidate in finish::candidates(&shown, &[format!("PATH={PATH}")]) {
        let path = CString::new(candidate).map_err(std::io::Error::from).doing(act)?;
        let Err(error) = process::exec(&path, &args, &env);
        last = Some(error);
    }
    let error = last.unwrap_or_else(|| std::io::Error::other("there is nowhere to search"));
    Err(Error::set_up(format!("cannot execute runtime `{shown}`"), error)
        .with_hint("install it, or leave out `--runtime`"))
}

/// True if what the spec asks for can be seen in the mounted rootfs only.
pub(super) fn is_root_read_only(spec: &ContainerSpec) -> bool {
    spec.rootfs_access == Access::ReadOnly || is_read_only(&spec.rootfs)
}

/// True if the container shares the host's network.
pub(super) fn shares_network(spec: &ContainerSpec) -> bool {
    spec.network == Network::Host
}
