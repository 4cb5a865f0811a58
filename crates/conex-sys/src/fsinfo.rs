//! What a filesystem is, how much room it has, and when it writes to the disk.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

/// Room on a filesystem, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What an ordinary user may use.
    pub available: u64,
}

/// Filesystems that matter for where layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesystemKind {
    /// ext2, ext3, ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// tmpfs.
    Tmpfs,
    /// OverlayFS.
    Overlay,
    /// FUSE of any kind.
    Fuse,
    /// NFS.
    Nfs,
    /// ZFS.
    Zfs,
    /// Another one, by its magic number.
    Other(u64),
}

const MAGIC: [(u64, FilesystemKind, &str); 8] = [
    (0xef53, FilesystemKind::Ext4, "ext4"),
    (0x5846_5342, FilesystemKind::Xfs, "xfs"),
    (0x9123_683e, FilesystemKind::Btrfs, "btrfs"),
    (0x0102_1994, FilesystemKind::Tmpfs, "tmpfs"),
    (0x794c_7630, FilesystemKind::Overlay, "overlay"),
    (0x6573_5546, FilesystemKind::Fuse, "fuse"),
    (0x6969, FilesystemKind::Nfs, "nfs"),
    (0x2fc1_2fc1, FilesystemKind::Zfs, "zfs"),
];

impl FilesystemKind {
    /// The usual name.
    pub fn name(self) -> &'static str {
        MAGIC.iter().find(|(_, kind, _)| *kind == self).map_or("unknown", |(_, _, name)| name)
    }
}

/// Says how much room there is on the filesystem of an open file.
///
/// # Errors
/// The kernel's.
pub fn space(file: impl AsFd) -> io::Result<Space> {
    let stat = rustix::fs::fstatvfs(file)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space {
        total: bytes(stat.f_blocks),
        free: bytes(stat.f_bfree),
        available: bytes(stat.f_bavail),
    })
}

/// Says what the filesystem of an open file is.
///
/// # Errors
/// The kernel's.
pub fn kind(file: impl AsFd) -> io::Result<FilesystemKind> {
    let magic = rustix::fs::fstatfs(file)?.f_type;
    // The field is signed on some machines; magic numbers have 32 bits.
    let magic = magic as u64 & 0xffff_ffff;
    let known = MAGIC.iter().find(|(number, _, _)| *number == magic);
    Ok(known.map_or(FilesystemKind::Other(magic), |(_, kind, _)| *kind))
}

/// Writes everything of the filesystem of an open file to the disk (`syncfs`).
///
/// # Errors
/// The kernel's.
pub fn sync(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Begins to write a part of a file to the disk, and does not wait for it (`sync_file_range`).
/// Nothing is durable by this: it only leaves less to wait for to who syncs the file later.
///
/// # Errors
/// The kernel's.
pub fn begin_write(file: impl AsFd, from: u64, length: u64) -> io::Result<()> {
    range(file.as_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until the disk has a part of a file whose writing has begun. Nothing is durable by this:
/// neither the file's length nor what else describes it is written.
///
/// # Errors
/// The kernel's, also for what failed to be written before: whoever syncs the file later is not
/// told of it again.
pub fn await_write(file: impl AsFd, from: u64, length: u64) -> io::Result<()> {
    range(file.as_fd(), from, length, libc::SYNC_FILE_RANGE_WAIT_BEFORE)
}

fn range(file: BorrowedFd<'_>, from: u64, length: u64, flags: libc::c_uint) -> io::Result<()> {
    let offset = |number: u64| {
        libc::off64_t::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let (from, length) = (offset(from)?, offset(length)?);
    // SAFETY: only numbers are passed; the descriptor is open for as long as it is borrowed.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), from, length, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_file_is_written_and_waited_for() {
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, &[7; 100_000]).unwrap();
        begin_write(&file, 0, 65_536).unwrap();
        await_write(&file, 0, 65_536).unwrap();
        let error = begin_write(&file, u64::MAX, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let (end, _other) = std::io::pipe().unwrap();
        begin_write(&end, 0, 1).unwrap_err();
    }

    #[test]
    fn room_and_kind_are_told() {
        let dir = std::fs::File::open("/proc/self").unwrap();
        assert_eq!(kind(&dir).unwrap(), FilesystemKind::Other(0x9fa0));
        let temporary = tempfile::tempfile().unwrap();
        let space = space(&temporary).unwrap();
        assert!(space.total >= space.free && space.free >= space.available);
        assert!(space.total > 0);
    }
}
