//! What a filesystem is and how much room it has.

use std::io;
use std::os::fd::AsFd;

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

#[cfg(test)]
mod tests {
    use super::*;

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
