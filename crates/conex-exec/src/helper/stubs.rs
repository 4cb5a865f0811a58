//! What mounts need to lie on, and how it is taken away again.
//!
//! A mount needs a file or folder below it. Where the rootfs has none, one is made (a *stub*), and
//! in an overlay its parents are copied up. None of that is the program's doing, so none of it may
//! be left: not the stub, not the copied folder, not the changed time of a folder.
//!
//! Invariant: only what [`Tree`] made is removed, and only if the program left it as it was. All
//! paths are walked name by name without following symlinks: the rootfs is hostile, and by the
//! time of [`remove`] a program has had its way with it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Result};
use crate::wire::HostPath;

/// Most symlinks followed on the way to a mount target, as the kernel (`MAXSYMLINKS`).
const SYMLINK_COUNT_MAX: usize = 40;

/// What a mount lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StubKind {
    Dir,
    File,
}

/// Something made in the rootfs for a mount, or copied up because of one; in the order of making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stub {
    /// A file or folder was made.
    Made {
        /// Relative to the rootfs, free of symlinks.
        path: HostPath,
        kind: StubKind,
        /// The upper folder hid something of that name.
        was_whiteout: bool,
    },
    /// A folder is in the upper only because a stub was made below it.
    CopiedUp { path: HostPath, state: DirState },
}

/// What would be different if a program had touched a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirState {
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl DirState {
    fn of(stat: &Stat) -> Self {
        // The field types differ between architectures; no value is out of range.
        #[allow(clippy::cast_possible_wrap, clippy::unnecessary_cast)]
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// A rootfs in which mount targets are looked up, and made when missing.
pub(crate) struct Tree {
    root: OwnedFd,
    root_mount: u64,
    upper: Option<OwnedFd>,
    made: Vec<Stub>,
    copied_up: Vec<PathBuf>,
}

impl Tree {
    /// `root` is the mounted rootfs; `upper` the writable folder of its overlay.
    pub(crate) fn new(root: OwnedFd, upper: Option<OwnedFd>) -> Result<Self> {
        let root_mount = mount_id(root.as_fd()).doing(|| "cannot look at the rootfs".to_owned())?;
        Ok(Self { root, root_mount, upper, made: Vec::new(), copied_up: Vec::new() })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens what is at a path, which is resolved inside the rootfs; makes it when it is missing.
    pub(crate) fn target(&mut self, path: &str, kind: StubKind) -> Result<OwnedFd> {
        self.walk(path, Some(kind))?.ok_or_else(|| Error::invalid(format!("no target `{path}`")))
    }

    /// Opens what is at a path; `None` if nothing is.
    pub(crate) fn existing(&mut self, path: &str) -> Result<Option<OwnedFd>> {
        self.walk(path, None)
    }

    fn walk(&mut self, path: &str, make: Option<StubKind>) -> Result<Option<OwnedFd>> {
        let act = || format!("cannot open mount target `{path}` in the rootfs");
        let mut pending: VecDeque<OsString> = names(OsStr::new(path)).collect();
        let mut done: Vec<OsString> = Vec::new();
        let mut current = open_path(self.root.as_fd(), OsStr::new(".")).doing(act)?;
        let mut symlink_count = 0;
        while let Some(name) = pending.pop_front() {
            if name == ".." {
                done.pop();
                current = self.reopen(&done).doing(act)?;
                continue;
            }
            let found = match open_path(current.as_fd(), &name) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    let Some(kind) = make else { return Ok(None) };
                    let kind = if pending.is_empty() { kind } else { StubKind::Dir };
                    self.make(&current, &done, &name, kind)?
                }
                Err(error) => return Err(Error::set_up(act(), error)),
            };
            let stat = rustix::fs::fstat(&found).doing(act)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                current = found;
                done.push(name);
                continue;
            }
            symlink_count += 1;
            if symlink_count > SYMLINK_COUNT_MAX {
                return Err(Error::set_up(act(), Errno::LOOP));
            }
            let link = rustix::fs::readlinkat(&found, c"", Vec::new()).doing(act)?;
            let link = OsString::from_vec(link.into_bytes());
            if link.as_bytes().starts_with(b"/") {
                done.clear();
                current = self.reopen(&done).doing(act)?;
            }
            for name in names(&link).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(name);
            }
        }
        Ok(Some(current))
    }

    fn reopen(&self, done: &[OsString]) -> rustix::io::Result<OwnedFd> {
        open_names(self.root.as_fd(), done.iter().map(OsString::as_os_str))
    }

    fn make(
        &mut self,
        parent: &OwnedFd,
        done: &[OsString],
        name: &OsStr,
        kind: StubKind,
    ) -> Result<OwnedFd> {
        let path: PathBuf = done.iter().map(OsString::as_os_str).chain([name]).collect();
        let act = || format!("cannot make `/{}` in the rootfs for a mount", path.display());
        // What lies on another mount (a volume, say) belongs to that, as with Docker.
        let ours = mount_id(parent.as_fd()).doing(act)? == self.root_mount;
        let was_whiteout = ours && self.note_copy_up(done, name);
        let dir = open_dir(parent.as_fd(), OsStr::new(".")).doing(act)?;
        let before = rustix::fs::fstat(&dir).doing(act)?;
        match kind {
            StubKind::Dir => {
                rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)).doing(act)?;
            }
            StubKind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::openat(&dir, name, flags, mode).doing(act)?;
            }
        }
        rustix::fs::futimens(&dir, &times(&before)).doing(act)?;
        if ours {
            self.made.push(Stub::Made { path: HostPath(path.clone()), kind, was_whiteout });
        }
        open_path(dir.as_fd(), name).doing(act)
    }

    /// Remembers which folders on the way are not yet in the upper; says whether the upper holds a
    /// whiteout of the name itself.
    fn note_copy_up(&mut self, done: &[OsString], name: &OsStr) -> bool {
        let Some(upper) = &self.upper else { return false };
        let mut current = None;
        let mut path = PathBuf::new();
        let mut missing = false;
        for part in done {
            path.push(part);
            let from = current.as_ref().unwrap_or(upper);
            match open_path(from.as_fd(), part) {
                Ok(next) if !missing => current = Some(next),
                _ => {
                    missing = true;
                    if !self.copied_up.contains(&path) {
                        self.copied_up.push(path.clone());
                    }
                }
            }
        }
        let parent = current.as_ref().unwrap_or(upper);
        !missing
            && rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| is_whiteout(&stat))
    }

    /// Everything that [`remove`] must know, once all targets are made.
    pub(crate) fn into_stubs(self) -> Vec<Stub> {
        let mut stubs = Vec::new();
        if let Some(upper) = &self.upper {
            for path in self.copied_up {
                let opened = open_names(upper.as_fd(), path.iter());
                // What was not copied up after all needs no care.
                let Ok(stat) = opened.and_then(rustix::fs::fstat) else { continue };
                stubs.push(Stub::CopiedUp { path: HostPath(path), state: DirState::of(&stat) });
            }
        }
        stubs.extend(self.made);
        stubs
    }
}

/// Takes away what [`Tree`] made and the program left alone. `base` is the upper folder of an
/// overlay, or the folder that was the rootfs. Returns what could not be taken away.
pub(crate) fn remove(base: BorrowedFd<'_>, stubs: &[Stub]) -> Vec<String> {
    let mut problems = Vec::new();
    // Which copied folders are as they were must be seen before stubs are taken out of them.
    let untouched: Vec<bool> = stubs.iter().map(|stub| is_untouched(base, stub)).collect();
    for (stub, untouched) in stubs.iter().zip(untouched).rev() {
        let (path, kind, was_whiteout) = match stub {
            Stub::Made { path, kind, was_whiteout } => (path, *kind, *was_whiteout),
            Stub::CopiedUp { .. } if !untouched => continue,
            Stub::CopiedUp { path, .. } => (path, StubKind::Dir, false),
        };
        match remove_one(base, path, kind, was_whiteout) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => problems.push(format!(
                "cannot remove `/{}`, which was made for a mount: {error}",
                path.display()
            )),
        }
    }
    problems
}

fn is_untouched(base: BorrowedFd<'_>, stub: &Stub) -> bool {
    match stub {
        Stub::Made { .. } => true,
        Stub::CopiedUp { path, state } => open_names(base, path.iter())
            .and_then(rustix::fs::fstat)
            .is_ok_and(|stat| DirState::of(&stat) == *state),
    }
}

fn remove_one(
    base: BorrowedFd<'_>,
    path: &Path,
    kind: StubKind,
    was_whiteout: bool,
) -> rustix::io::Result<()> {
    let parent = open_names(base, path.parent().into_iter().flat_map(Path::iter))?;
    let parent = open_dir(parent.as_fd(), OsStr::new("."))?;
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (StubKind::Dir, FileType::Directory) => AtFlags::REMOVEDIR,
        (StubKind::File, FileType::RegularFile) if stat.st_size == 0 => AtFlags::empty(),
        // The program put something of its own there.
        _ => return Ok(()),
    };
    let before = rustix::fs::fstat(&parent)?;
    rustix::fs::unlinkat(&parent, name, flags)?;
    if was_whiteout {
        rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
    }
    rustix::fs::futimens(&parent, &times(&before))
}

/// overlayfs.rst, "whiteouts": a character device 0/0.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn names(path: &OsStr) -> impl Iterator<Item = OsString> + '_ {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsStr::from_bytes(name).to_owned())
}

fn open_names<'n>(
    root: BorrowedFd<'_>,
    names: impl Iterator<Item = &'n OsStr>,
) -> rustix::io::Result<OwnedFd> {
    let mut current = open_path(root, OsStr::new("."))?;
    for name in names {
        current = open_path(current.as_fd(), name)?;
    }
    Ok(current)
}

/// Opens one name without following it if it is a symlink.
fn open_path(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn open_dir(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn mount_id(fd: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    Ok(rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn times(stat: &Stat) -> Timestamps {
    #[allow(clippy::cast_possible_wrap, clippy::unnecessary_cast)]
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime as i64, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec {
            tv_sec: stat.st_mtime as i64,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}
