//! One open directory, and what can be done with the names in it.
//!
//! Invariant: a name is one path component. Nothing here walks a path or follows a symbolic link,
//! so no operation can leave the directory; [`crate::root`] walks paths.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::stat::{FileKind, Stat, Time, stat_fd, stat_name};
use crate::xattr;

/// Room for the names that one `getdents64` call returns.
const LISTING_SIZE: usize = 32 << 10;

/// An open directory. Clones share the descriptor.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
}

/// A name in a directory, as the directory itself tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: OsString,
    /// The kind of file.
    pub kind: FileKind,
    /// The inode number.
    pub inode: u64,
}

/// How to make a file that holds no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// Named pipe.
    Fifo,
    /// Socket (the name only; nobody listens).
    Socket,
    /// Character device, major and minor.
    CharDevice(u32, u32),
    /// Block device, major and minor.
    BlockDevice(u32, u32),
}

impl Dir {
    /// Wraps the descriptor of an open directory.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Opens a directory by an ambient path: whatever the process may reach.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_ambient(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory in this one.
    ///
    /// # Errors
    /// The kernel's; a symbolic link is `NotADirectory`.
    pub fn open_dir(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        Ok(Self::from_fd(self.open_raw(name, flags, 0)?))
    }

    /// Opens this directory once more, with a read position of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reopen(&self) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(rustix::fs::openat(&self.fd, c".", flags, Mode::empty())?))
    }

    /// Opens the directory above, wherever this one is now: the caller checks what came.
    pub(crate) fn open_parent(&self) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::from_fd(rustix::fs::openat(&self.fd, c"..", flags, Mode::empty())?))
    }

    /// Opens a regular file for reading. Never waits for a pipe's other end, never opens a device
    /// in a way that acts on it.
    ///
    /// # Errors
    /// The kernel's; a symbolic link is `FilesystemLoop`.
    pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(self.open_raw(name, flags, 0)?.into())
    }

    /// Opens an existing regular file for reading and writing.
    ///
    /// # Errors
    /// The kernel's; a symbolic link is `FilesystemLoop`.
    pub fn open_file_write(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(self.open_raw(name, flags, 0)?.into())
    }

    /// Opens a name without opening what it names (`O_PATH`); works for every kind of file.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_path(&self, name: &OsStr) -> io::Result<OwnedFd> {
        self.open_raw(name, OFlags::PATH | OFlags::NOFOLLOW, 0)
    }

    /// Makes a new regular file, open for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        Ok(self.open_raw(name, flags, mode)?.into())
    }

    /// Opens a regular file for reading and writing, making it where it is missing. What was in
    /// it stays.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open_or_create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(self.open_raw(name, flags, mode)?.into())
    }

    /// Makes a file without a name in this directory, for scratch data; it is gone when closed.
    ///
    /// # Errors
    /// The kernel's; not every filesystem can.
    pub fn create_unnamed(&self) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        Ok(rustix::fs::openat(&self.fd, c".", flags, mode)?.into())
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_dir(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.fd, checked(name)?, Mode::from_raw_mode(mode))?)
    }

    /// Makes a symbolic link; the target is any text.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, checked(name)?)?)
    }

    /// Gives a file of `source` another name here.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn create_hard_link(&self, name: &OsStr, source: &Self, of: &OsStr) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(rustix::fs::linkat(&source.fd, checked(of)?, &self.fd, checked(name)?, flags)?)
    }

    /// Makes a device, pipe or socket.
    ///
    /// # Errors
    /// `AlreadyExists`, `PermissionDenied` for devices of an ordinary user, or the kernel's.
    pub fn create_node(&self, name: &OsStr, node: Node, mode: u32) -> io::Result<()> {
        let (kind, device) = match node {
            Node::Fifo => (FileType::Fifo, 0),
            Node::Socket => (FileType::Socket, 0),
            Node::CharDevice(major, minor) => {
                (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            Node::BlockDevice(major, minor) => {
                (FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
        };
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::mknodat(&self.fd, checked(name)?, kind, mode, device)?)
    }

    /// Moves a name of this directory to another, replacing what was there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rename(&self, from: &OsStr, target: &Self, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, checked(from)?, &target.fd, checked(to)?)?)
    }

    /// Moves a name of this directory to another where nothing is yet.
    ///
    /// # Errors
    /// `AlreadyExists`, or the kernel's.
    pub fn rename_new(&self, from: &OsStr, target: &Self, to: &OsStr) -> io::Result<()> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        Ok(rustix::fs::renameat_with(&self.fd, checked(from)?, &target.fd, checked(to)?, flags)?)
    }

    /// Removes a name that is not a directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, checked(name)?, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, checked(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Removes a name with everything below it. However deep the tree is, neither stack nor path
    /// length nor the number of descriptors grows with it.
    ///
    /// # Errors
    /// The kernel's; what was removed until then stays removed.
    pub fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        crate::walk::remove_tree(self, name)
    }

    /// Stats a name.
    ///
    /// # Errors
    /// `NotFound`, or the kernel's.
    pub fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        stat_name(&self.fd, checked(name)?, AtFlags::empty())
    }

    /// Stats a name; none where there is no such name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat_if_there(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stats the directory itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stat_self(&self) -> io::Result<Stat> {
        stat_fd(&self.fd)
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    /// `InvalidInput` where it is no link, or the kernel's.
    pub fn read_link(&self, name: &OsStr) -> io::Result<OsString> {
        let target = rustix::fs::readlinkat(&self.fd, checked(name)?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Lists the directory, sorted by the bytes of the names.
    ///
    /// # Errors
    /// The kernel's.
    pub fn entries(&self) -> io::Result<Vec<DirEntry>> {
        self.reopen()?.entries_once()
    }

    /// As [`Dir::entries`] for a descriptor that has not been read from yet.
    pub(crate) fn entries_once(&self) -> io::Result<Vec<DirEntry>> {
        let mut buffer = Vec::with_capacity(LISTING_SIZE);
        let mut listing = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        let mut entries = Vec::new();
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let name = OsStr::from_bytes(name).to_owned();
            // Some filesystems do not tell the kind in the listing.
            let kind = match FileKind::from_type(entry.file_type()) {
                Some(kind) => kind,
                None => match self.stat_if_there(&name)? {
                    Some(stat) => stat.kind,
                    None => continue,
                },
            };
            entries.push(DirEntry { name, kind, inode: entry.ino() });
        }
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    /// Sets owner and group of a name, of a symbolic link itself too. Linux drops set-id bits.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = ids(uid, gid)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::chownat(&self.fd, checked(name)?, Some(uid), Some(gid), flags)?)
    }

    /// Sets the permission bits of a name that is not a symbolic link.
    ///
    /// # Errors
    /// `FilesystemLoop` for a symbolic link, or the kernel's.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        // `fchmodat` follows links and its newer form is not everywhere, so the name is pinned
        // first and the pin, which is no link, is changed.
        let pinned = self.open_path(name)?;
        if stat_fd(&pinned)?.kind == FileKind::Symlink {
            return Err(Errno::LOOP.into());
        }
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pinned));
        Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?)
    }

    /// Sets the modification time of a name (and its access time with it).
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_mtime(&self, name: &OsStr, mtime: Time) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(rustix::fs::utimensat(&self.fd, checked(name)?, &timestamps(mtime), flags)?)
    }

    /// Sets owner and group of the directory itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_own_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        set_file_owner(&self.fd, uid, gid)
    }

    /// Sets the permission bits of the directory itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_own_mode(&self, mode: u32) -> io::Result<()> {
        set_file_mode(&self.fd, mode)
    }

    /// Sets the modification time of the directory itself.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_own_mtime(&self, mtime: Time) -> io::Result<()> {
        set_file_mtime(&self.fd, mtime)
    }

    /// Names of the extended attributes of a name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn xattr_names(&self, name: &OsStr) -> io::Result<Vec<OsString>> {
        xattr::list_at(&self.fd, checked(name)?)
    }

    /// One extended attribute of a name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn xattr(&self, name: &OsStr, attribute: &OsStr) -> io::Result<Option<Vec<u8>>> {
        xattr::get_at(&self.fd, checked(name)?, attribute)
    }

    /// Sets one extended attribute of a name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_xattr(&self, name: &OsStr, attribute: &OsStr, value: &[u8]) -> io::Result<()> {
        xattr::set_at(&self.fd, checked(name)?, attribute, value)
    }

    /// Makes what was done to the names here durable.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    fn open_raw(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let mode = Mode::from_raw_mode(mode);
        Ok(rustix::fs::openat(&self.fd, checked(name)?, flags | OFlags::CLOEXEC, mode)?)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets owner and group of an open file. Linux drops set-id bits.
///
/// # Errors
/// The kernel's.
pub fn set_file_owner(file: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = ids(uid, gid)?;
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?)
}

/// Sets the permission bits of an open file.
///
/// # Errors
/// The kernel's.
pub fn set_file_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

/// Sets the modification time of an open file (and its access time with it).
///
/// # Errors
/// The kernel's.
pub fn set_file_mtime(file: impl AsFd, mtime: Time) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &timestamps(mtime))?)
}

/// The access time is set to the same: it stands in no layer, and "now" would differ each time.
fn timestamps(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The number -1 means "leave as it is" to the kernel, so it can be nobody's.
fn ids(uid: u32, gid: u32) -> io::Result<(Uid, Gid)> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL.into());
    }
    Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// Lets one path component pass.
fn checked(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|byte| matches!(byte, 0 | b'/')) {
        let text = format!("`{}` is not the name of a file", name.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(name)
}

/// Whether an error of [`Dir::open_dir`] says that the name is there and is no directory.
pub fn is_not_a_dir(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::NOTDIR, Errno::LOOP].iter().any(|errno| code == Some(errno.raw_os_error()))
}
