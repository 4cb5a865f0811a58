//! Mounts what becomes `/`.
//!
//! The overlay is mounted inside the mount namespace of process 1 alone, so it goes when the
//! container goes, whatever killed it.

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use conex_sys::mount::{self, Attributes, Depth, Filesystem};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::place::Place;
use super::stubs::StubKind;
use crate::error::{Context as _, Error, Result};
use crate::spawn::OverlayCalls;
use crate::spec::{Durability, Overlay, OverlayFlavour, Rootfs, Upper};

/// Longest value of one option that `fsconfig` takes.
const OPTION_SIZE_MAX: usize = 255;
/// Longest options text that `mount(2)` takes: a page without its last byte.
const OPTIONS_SIZE_MAX: usize = 4095;

/// Mounts the rootfs on a new folder `name` of the scratch file system; returns its root.
pub(super) fn mount_rootfs(
    rootfs: &Rootfs,
    scratch: &OwnedFd,
    name: &str,
    attributes: Attributes,
    place: Place,
) -> Result<OwnedFd> {
    let act = || "cannot put the rootfs in its place".to_owned();
    let mounted = match rootfs {
        Rootfs::Dir(dir) => bind_dir(dir)?,
        // Without an upper, overlayfs wants two layers at least; one needs no overlay.
        Rootfs::Overlay(Overlay { lower, upper: None, .. }) if lower.len() == 1 => {
            let mounted = bind_dir(lower.first().map_or(Path::new("/"), |lower| lower))?;
            mount::change(&mounted, Attributes::READ_ONLY, Attributes::NONE, Depth::Tree)
                .doing(act)?;
            mounted
        }
        Rootfs::Overlay(overlay) => match mount_overlay(overlay, place)? {
            Some(mounted) => mounted,
            None => return mount_overlay_classic(overlay, scratch, name, attributes),
        },
    };
    if !attributes.is_empty() {
        mount::change(&mounted, attributes, Attributes::NONE, Depth::This).doing(act)?;
    }
    mount::attach(&mounted, make_folder(scratch, name)?).doing(act)?;
    Ok(mounted)
}

/// Mounts a path of a stack of layers; links on the way to the path stay within the stack. Returns
/// the mount, attached nowhere, and what it must lie on.
pub(super) fn mount_stack_path(
    overlay: &Overlay,
    path: &Path,
    scratch: &OwnedFd,
    name: &str,
    place: Place,
) -> Result<(OwnedFd, StubKind)> {
    let act = || format!("cannot find `{}` in the layers to mount it", path.display());
    let rootfs = Rootfs::Overlay(overlay.clone());
    let root = mount_rootfs(&rootfs, scratch, name, Attributes::NONE, place)?;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), how).doing(act)?;
    let stat = rustix::fs::fstat(&found).doing(act)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => StubKind::Dir,
        _ => StubKind::File,
    };
    Ok((mount::bind(&found, Path::new(""), Depth::This).doing(act)?, kind))
}

fn make_folder(scratch: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let act = || "cannot make a folder for the rootfs".to_owned();
    rustix::fs::mkdirat(scratch, name, Mode::from_raw_mode(0o755)).doing(act)?;
    open_folder(scratch, name).doing(act)
}

fn open_folder(scratch: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(scratch, name, flags, Mode::empty())
}

/// True if nothing can be written to the rootfs, whatever the container asks for.
pub(super) fn is_read_only(rootfs: &Rootfs) -> bool {
    matches!(rootfs, Rootfs::Overlay(Overlay { upper: None, .. }))
}

fn bind_dir(dir: &Path) -> Result<OwnedFd> {
    let act = || format!("cannot mount rootfs folder `{}`", dir.display());
    match mount::bind(rustix::fs::CWD, dir, Depth::This) {
        // In a user namespace, what other mounts hide may not be uncovered: take them along.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            mount::bind(rustix::fs::CWD, dir, Depth::Tree).doing(act)
        }
        other => other.doing(act),
    }
}

/// Mounts with one option for each layer; `None` if the kernel does not know that (before 6.7).
fn mount_overlay(overlay: &Overlay, place: Place) -> Result<Option<OwnedFd>> {
    if place.overlay_calls == OverlayCalls::Classic {
        return Ok(None);
    }
    let act = || "cannot mount the overlay of the rootfs".to_owned();
    let filesystem = Filesystem::new("overlay").doing(act)?;
    // Folders whose path does not fit are named by descriptor; these must stay open until the end.
    let mut open = Vec::new();
    for lower in &overlay.lower {
        let value = option_value(lower, &mut open)?;
        match filesystem.set("lowerdir+", &value) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                if filesystem.message().is_none_or(|text| text.contains("Unknown parameter")) {
                    return Ok(None);
                }
                return Err(layer_error(lower, error));
            }
            Err(error) => return Err(layer_error(lower, error)),
        }
    }
    if let Some(upper) = &overlay.upper {
        let dir = option_value(&upper.dir, &mut open)?;
        filesystem.set("upperdir", dir).map_err(|error| layer_error(&upper.dir, error))?;
        let work = option_value(&upper.work, &mut open)?;
        filesystem.set("workdir", work).map_err(|error| layer_error(&upper.work, error))?;
    }
    for option in options(overlay) {
        let set = match option.split_once('=') {
            Some((key, value)) => filesystem.set(key, value),
            None => filesystem.set_flag(option),
        };
        set.doing(|| format!("cannot set overlay option `{option}`"))?;
    }
    // The message can be read only from the context, which `mount` uses up.
    let context = filesystem;
    context.mount(Attributes::NONE).map(Some).map_err(|error| overlay_error(overlay, error))
}

/// Empties the work folder after the overlay was unmounted: what the kernel leaves there can be
/// removed only by root of a user namespace, and keeps the folder from being used again after a
/// volatile mount. That mark is for a machine that stopped in between, which this one did not.
pub(super) fn tidy_work(rootfs: &Rootfs) {
    let Rootfs::Overlay(Overlay { upper: Some(upper), .. }) = rootfs else { return };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(work) = rustix::fs::open(&*upper.work, flags, Mode::empty()) else { return };
    for (path, flags) in [
        ("work/incompat/volatile/dirty", AtFlags::empty()),
        ("work/incompat/volatile", AtFlags::REMOVEDIR),
        ("work/incompat", AtFlags::REMOVEDIR),
        ("work", AtFlags::REMOVEDIR),
    ] {
        // Whatever else the kernel keeps there stays: it belongs to whoever removes the folder.
        let _ = rustix::fs::unlinkat(&work, path, flags);
    }
}

fn layer_error(dir: &Path, error: std::io::Error) -> Error {
    Error::set_up(format!("cannot use `{}` as a layer of the rootfs", dir.display()), error)
}

fn overlay_error(overlay: &Overlay, error: std::io::Error) -> Error {
    let was_volatile = |upper: &Upper| {
        // overlayfs.rst, "volatile mount": the kernel leaves this and then refuses the folder.
        rustix::fs::stat(upper.work.join("work/incompat/volatile")).is_ok()
    };
    if overlay.upper.as_ref().is_some_and(was_volatile) {
        return Error::set_up("cannot mount the overlay of the rootfs", error)
            .with_hint("its work folder was used without syncing before: empty it");
    }
    let hint = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::INVAL) => Some(
            "the store may lie on a file system that cannot hold an overlay's upper folder \
             (another overlay, NFS): choose another folder with `--root`; `dmesg` says more",
        ),
        Some(Errno::PERM | Errno::ACCESS) => {
            Some("mounting an overlay in a user namespace needs Linux 5.11 or later")
        }
        _ => None,
    };
    let error = Error::set_up("cannot mount the overlay of the rootfs", error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What keeps the upper folder readable as a plain diff: no renamed folders by reference, no
/// files without content.
fn options(overlay: &Overlay) -> Vec<&'static str> {
    let mut options = match overlay.flavour {
        // With `userxattr` the kernel has both switched off and refuses to be told.
        OverlayFlavour::User => vec!["userxattr"],
        OverlayFlavour::Trusted => vec!["redirect_dir=off", "metacopy=off"],
    };
    if let Some(upper) = &overlay.upper {
        options.push("index=off");
        if upper.durability == Durability::Volatile {
            options.push("volatile");
        }
    }
    options
}

/// The path itself, or, where it would be cut or misread, a path by descriptor.
fn option_value(path: &Path, open: &mut Vec<OwnedFd>) -> Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() <= OPTION_SIZE_MAX && !bytes.iter().any(|byte| b"\\:,\"".contains(byte)) {
        return Ok(bytes.to_vec());
    }
    let dir = open_layer(path)?;
    let value = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    open.push(dir);
    Ok(value)
}

fn open_layer(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .doing(|| format!("cannot open layer `{}` of the rootfs", path.display()))
}

/// Mounts the old way. All options must fit in a page, so layers are named by the numbers of
/// their descriptors, relative to the folder that holds these: four bytes each.
fn mount_overlay_classic(
    overlay: &Overlay,
    scratch: &OwnedFd,
    name: &str,
    attributes: Attributes,
) -> Result<OwnedFd> {
    let act = || "cannot mount the overlay of the rootfs".to_owned();
    let mut open = Vec::new();
    let mut text = String::from("lowerdir=");
    for (index, lower) in overlay.lower.iter().enumerate() {
        let dir = open_layer(lower)?;
        let separator = if index == 0 { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{}", dir.as_raw_fd());
        open.push(dir);
    }
    if let Some(upper) = &overlay.upper {
        for (key, path) in [("upperdir", &upper.dir), ("workdir", &upper.work)] {
            let dir = open_layer(path)?;
            let _ = write!(text, ",{key}={}", dir.as_raw_fd());
            open.push(dir);
        }
    }
    for option in options(overlay) {
        text.push(',');
        text.push_str(option);
    }
    if text.len() > OPTIONS_SIZE_MAX {
        return Err(Error::unsupported("this kernel cannot mount that many layers")
            .with_hint("Linux 6.7 and later can"));
    }
    let options = CString::new(text).map_err(std::io::Error::from).doing(act)?;
    rustix::process::chdir("/proc/self/fd").doing(act)?;
    let folder = make_folder(scratch, name)?;
    let target = format!("/proc/self/fd/{}", folder.as_raw_fd());
    mount::classic("overlay", Path::new(&target), &options, attributes)
        .map_err(|error| overlay_error(overlay, error))?;
    rustix::process::chdir("/").doing(act)?;
    // The descriptor of the covered folder still means that one; its name leads to the mount.
    open_folder(scratch, name).doing(act)
}
