//! A directory that no path leads out of.
//!
//! Invariant: every path given to a [`RootDir`] is resolved by the kernel below the directory
//! (`openat2`), whatever symbolic links, `..` or absolute paths stand in it and whoever renames
//! directories meanwhile. Where the kernel has no `openat2`, or a path is longer than the kernel
//! takes, the path is walked by hand with one open directory per component, which gives the same
//! answers; a directory that somebody moves out of the root during that walk is then still
//! reached, as there is no way to notice.
//!
//! Does not confine mounts: a mount point below the directory is below the directory.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::dir::{Dir, DirEntry, Node};
use crate::stat::{FileKind, Stat, Time};

/// Most symbolic links followed in one path, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

/// Longest path given to the kernel in one call, below its `PATH_MAX` of 4096.
const KERNEL_PATH_LEN_MAX: usize = 4000;

/// Most bytes of path walked by hand, counting the targets of links: a 10,000-deep tree with names
/// of a hundred bytes fits.
const PATH_LEN_MAX: usize = 1 << 20;

/// Directories kept open for `..` while a path is walked by hand.
const WALK_OPEN_MAX: usize = 128;

/// The kernel gives up with `EAGAIN` when a rename races with a `..`; so often it is asked again.
const RACE_RETRIES_MAX: usize = 128;

/// Set when the kernel turned out to have no `openat2`.
static OPENAT2_MISSING: AtomicBool = AtomicBool::new(false);

/// What happens to symbolic links in the middle of a path, and at its end where a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are followed as if the directory were `/` (`chroot` semantics, `..` clamped).
    Follow,
    /// They are an error, as is `..`.
    Refuse,
}

/// A directory that no path leads out of.
#[derive(Debug, Clone)]
pub struct RootDir {
    dir: Dir,
    links: Links,
}

impl RootDir {
    /// Opens a directory by an ambient path: the one place where the caller says what the process
    /// may reach.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(path: &Path, links: Links) -> io::Result<Self> {
        Ok(Self { dir: Dir::open_ambient(path)?, links })
    }

    /// Makes an open directory a root.
    pub fn from_dir(dir: Dir, links: Links) -> Self {
        Self { dir, links }
    }

    /// The same directory with another rule for links.
    #[must_use]
    pub fn with_links(&self, links: Links) -> Self {
        Self { dir: self.dir.clone(), links }
    }

    /// The directory itself.
    pub fn as_dir(&self) -> &Dir {
        &self.dir
    }

    /// Opens a directory below as a root of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sub_root(&self, path: &Path) -> io::Result<Self> {
        Ok(Self { dir: self.dir(path)?, links: self.links })
    }

    /// Opens a directory below.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&self, path: &Path) -> io::Result<Dir> {
        if is_here(path) {
            return Ok(self.dir.clone());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Dir::from_fd(self.resolve(path, flags)?))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(self.resolve(path, flags)?.into())
    }

    /// Opens the directory that holds the last component of a path, and gives that component. The
    /// way to everything that [`Dir`] can do and this type has no method for.
    ///
    /// # Errors
    /// The kernel's; a path without a last component (`/`, `a/..`) is `InvalidInput`.
    pub fn parent(&self, path: &Path) -> io::Result<(Dir, OsString)> {
        let bytes = trimmed(path);
        let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (parent, name) = bytes.split_at(start);
        if matches!(name, b"" | b"." | b"..") {
            let text = format!("`{}` names no entry of a directory", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok((self.dir(Path::new(OsStr::from_bytes(parent)))?, OsString::from_vec(name.to_vec())))
    }

    /// Makes a new regular file, open for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (dir, name) = self.parent(path)?;
        dir.create_file(&name, mode)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.create_dir(&name, mode)
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create_dir_all(&self, path: &Path, mode: u32) -> io::Result<Dir> {
        if let Ok(dir) = self.dir(path) {
            return Ok(dir);
        }
        let mut built = PathBuf::new();
        for component in path.components() {
            built.push(component);
            match self.create_dir(&built, mode) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(error),
            }
        }
        self.dir(path)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_symlink(&self, path: &Path, target: &OsStr) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.create_symlink(&name, target)
    }

    /// Gives the file at `existing` another name; a symbolic link at its end is not followed.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_hard_link(&self, existing: &Path, path: &Path) -> io::Result<()> {
        let (source, of) = self.parent(existing)?;
        let (dir, name) = self.parent(path)?;
        dir.create_hard_link(&name, &source, &of)
    }

    /// Makes a device, pipe or socket.
    ///
    /// # Errors
    /// `AlreadyExists`, `PermissionDenied`, or the kernel's.
    pub fn create_node(&self, path: &Path, node: Node, mode: u32) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.create_node(&name, node, mode)
    }

    /// Moves a name, replacing what was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, from) = self.parent(from)?;
        let (target, to) = self.parent(to)?;
        source.rename(&from, &target, &to)
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.remove_file(&name)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.remove_dir(&name)
    }

    /// Removes a name with everything below it ([`Dir::remove_tree`]).
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.remove_tree(&name)
    }

    /// Stats a path; a symbolic link at its end is not followed.
    ///
    /// # Errors
    /// `NotFound`, or the kernel's.
    pub fn stat(&self, path: &Path) -> io::Result<Stat> {
        if is_here(path) {
            return self.dir.stat_self();
        }
        match self.parent(path) {
            Ok((dir, name)) => dir.stat(&name),
            // `a/..` has no last component but is a directory.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.dir(path)?.stat_self()
            }
            Err(error) => Err(error),
        }
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    /// `InvalidInput` where it is no link, or the kernel's.
    pub fn read_link(&self, path: &Path) -> io::Result<OsString> {
        let (dir, name) = self.parent(path)?;
        dir.read_link(&name)
    }

    /// Lists a directory, sorted by the bytes of the names.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.dir(path)?.entries()
    }

    /// Sets owner and group; a symbolic link at the end is not followed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_owner(&self, path: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.set_owner(&name, uid, gid)
    }

    /// Sets the permission bits of what is not a symbolic link.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.set_mode(&name, mode)
    }

    /// Sets the modification time; a symbolic link at the end is not followed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_mtime(&self, path: &Path, mtime: Time) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.set_mtime(&name, mtime)
    }

    /// All extended attributes; a symbolic link at the end is not followed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn xattrs(&self, path: &Path) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let (dir, name) = self.parent(path)?;
        let mut found = Vec::new();
        for attribute in dir.xattr_names(&name)? {
            if let Some(value) = dir.xattr(&name, &attribute)? {
                found.push((attribute, value));
            }
        }
        Ok(found)
    }

    /// Sets one extended attribute; a symbolic link at the end is not followed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_xattr(&self, path: &Path, attribute: &OsStr, value: &[u8]) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.set_xattr(&name, attribute, value)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() > PATH_LEN_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        if bytes.len() > KERNEL_PATH_LEN_MAX || OPENAT2_MISSING.load(Ordering::Relaxed) {
            return self.resolve_by_hand(path, flags);
        }
        // An absolute path means the root to us; `RESOLVE_BENEATH` would refuse it.
        let relative = match bytes.iter().position(|byte| *byte != b'/') {
            Some(start) => bytes.get(start..).unwrap_or_default(),
            None => b".",
        };
        let rule = match self.links {
            Links::Follow => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..RACE_RETRIES_MAX {
            match rustix::fs::openat2(&self.dir, relative, flags, Mode::empty(), rule) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN) => {}
                // An old kernel says the first, old sandboxes the second.
                Err(error @ (Errno::NOSYS | Errno::PERM)) => {
                    if error == Errno::NOSYS {
                        OPENAT2_MISSING.store(true, Ordering::Relaxed);
                    }
                    return self.resolve_by_hand(path, flags);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Does what the kernel does, one component at a time.
    fn resolve_by_hand(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let mut walk = HandWalk {
            root: &self.dir,
            open: VecDeque::new(),
            depth: 0,
            links_left: if self.links == Links::Follow { LINKS_MAX } else { 0 },
            bytes_left: PATH_LEN_MAX,
            todo: Vec::new(),
        };
        walk.plan(path.as_os_str().as_bytes())?;
        while let Some(component) = walk.todo.pop() {
            match component.as_bytes() {
                b".." if self.links == Links::Refuse => return Err(Errno::XDEV.into()),
                b".." => walk.ascend()?,
                _ if walk.todo.is_empty() => {
                    if let Some(fd) = walk.open_last(&component, flags)? {
                        return Ok(fd);
                    }
                }
                _ => walk.descend(&component)?,
            }
        }
        let flags = flags | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(walk.here(), c".", flags, Mode::empty())?)
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// The state of a path walked by hand.
struct HandWalk<'r> {
    root: &'r Dir,
    /// The directories from the root downwards, the last few of them.
    open: VecDeque<Dir>,
    depth: usize,
    links_left: usize,
    bytes_left: usize,
    /// What is still to be walked, the next component last.
    todo: Vec<OsString>,
}

impl HandWalk<'_> {
    fn plan(&mut self, path: &[u8]) -> io::Result<()> {
        self.bytes_left =
            self.bytes_left.checked_sub(path.len()).ok_or(io::Error::from(Errno::NAMETOOLONG))?;
        if path.first() == Some(&b'/') {
            self.open.clear();
            self.depth = 0;
        }
        let components = path.split(|byte| *byte == b'/').rev();
        let components = components.filter(|name| !matches!(*name, b"" | b"."));
        self.todo.extend(components.map(|name| OsString::from_vec(name.to_vec())));
        Ok(())
    }

    fn here(&self) -> &Dir {
        self.open.back().unwrap_or(self.root)
    }

    fn ascend(&mut self) -> io::Result<()> {
        if self.depth == 0 {
            return Ok(());
        }
        self.open.pop_back();
        self.depth -= 1;
        if self.open.is_empty() && self.depth > 0 {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(())
    }

    fn descend(&mut self, name: &OsStr) -> io::Result<()> {
        match self.here().open_dir(name) {
            Ok(dir) => {
                self.open.push_back(dir);
                self.depth += 1;
                if self.open.len() > WALK_OPEN_MAX {
                    self.open.pop_front();
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => self.follow(name, error),
            Err(error) => Err(error),
        }
    }

    /// Opens the last component, or plans the walk of the link that it is.
    fn open_last(&mut self, name: &OsStr, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(self.here(), name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(error @ (Errno::LOOP | Errno::NOTDIR)) => {
                self.follow(name, error.into())?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn follow(&mut self, name: &OsStr, otherwise: io::Error) -> io::Result<()> {
        if self.here().stat(name)?.kind != FileKind::Symlink {
            return Err(otherwise);
        }
        self.links_left = self.links_left.checked_sub(1).ok_or(io::Error::from(Errno::LOOP))?;
        let target = self.here().read_link(name)?;
        self.plan(target.as_bytes())
    }
}

/// Whether a path means the root itself without walking anything.
fn is_here(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().all(|byte| *byte == b'/') || path == Path::new(".")
}

/// A path without slashes at its end.
fn trimmed(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    bytes.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
