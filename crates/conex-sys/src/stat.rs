//! What the kernel says of a file, in one plain value.
//!
//! Does not follow symbolic links and does not interpret anything: a whiteout is a character
//! device here.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags};
use rustix::path::Arg;

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Dir,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
}

impl FileKind {
    pub(crate) fn from_type(kind: FileType) -> Option<Self> {
        Some(match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => return None,
        })
    }
}

/// A point in time: seconds since 1970 (negative before) and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds after the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    /// A whole second.
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanos: 0 }
    }
}

/// What the kernel says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The kind of file.
    pub kind: FileKind,
    /// Permission bits with set-id and sticky bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes; for a symbolic link the length of its target.
    pub size: u64,
    /// Blocks of 512 bytes in use.
    pub blocks: u64,
    /// When the content was last changed.
    pub mtime: Time,
    /// When the inode was last changed.
    pub ctime: Time,
    /// Device number of the filesystem, major and minor.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// How many names the inode has.
    pub link_count: u32,
    /// For a device: its own major and minor number.
    pub node: (u32, u32),
}

impl Stat {
    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Dir
    }

    /// Whether this is the character device 0/0 that stands for "deleted" in an overlay's upper
    /// directory.
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileKind::CharDevice && self.node == (0, 0)
    }

    /// Whether both are the same inode.
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether the file has holes: fewer blocks than its size needs.
    pub fn is_sparse(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }

    pub(crate) fn from_statx(raw: &Statx) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(raw.stx_mode.into());
        let kind = FileKind::from_type(kind)
            .ok_or_else(|| io::Error::other("the file is of a kind that Linux does not have"))?;
        Ok(Self {
            kind,
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            blocks: raw.stx_blocks,
            mtime: Time { seconds: raw.stx_mtime.tv_sec, nanos: raw.stx_mtime.tv_nsec },
            ctime: Time { seconds: raw.stx_ctime.tv_sec, nanos: raw.stx_ctime.tv_nsec },
            device: (raw.stx_dev_major, raw.stx_dev_minor),
            inode: raw.stx_ino,
            link_count: raw.stx_nlink,
            node: (raw.stx_rdev_major, raw.stx_rdev_minor),
        })
    }
}

/// Stats an open file.
///
/// # Errors
/// The kernel's.
pub fn stat_fd(file: impl AsFd) -> io::Result<Stat> {
    stat_name(file, c"", AtFlags::EMPTY_PATH)
}

pub(crate) fn stat_name(dir: impl AsFd, name: impl Arg, flags: AtFlags) -> io::Result<Stat> {
    let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    Stat::from_statx(&rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)?)
}

/// The user and group that files made by this process get.
pub fn effective_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}
