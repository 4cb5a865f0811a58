//! Mounts by file descriptor: make a mount that nobody sees yet, give it attributes, then attach
//! it to an open folder. A path of the tree being assembled is never walked by the kernel on our
//! behalf, so a hostile symlink in it leads nowhere.
//!
//! Needs Linux 5.12 (`fsopen` 5.2, `mount_setattr` 5.12), except [`classic`], which is the old
//! `mount(2)` for what old kernels cannot take through the new calls.
//!
//! Does not decide what is mounted where: it only speaks to the kernel.

use std::ffi::{CStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

/// What a mount allows, as bits that can be set or cleared on a mount that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// No writing.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device files cannot be opened.
    pub const NO_DEVICES: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Programs cannot be started.
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    /// Both sets of bits.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if no bit is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn at_mount(self) -> MountAttrFlags {
        // The constants have the same values in both calls; all known bits fit in 32.
        MountAttrFlags::from_bits_retain(u32::try_from(self.0).unwrap_or(0))
    }
}

/// Whether an operation on a mount means the mounts below it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only the mount itself.
    This,
    /// It and everything mounted below.
    Tree,
}

/// A file system being configured.
#[derive(Debug)]
pub struct Filesystem {
    context: OwnedFd,
}

impl Filesystem {
    /// Begins to configure a file system of a type (`tmpfs`).
    pub fn new(kind: &str) -> io::Result<Self> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        Ok(Self { context })
    }

    /// Sets an option that has a value; the kernel takes at most 255 bytes.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_string(self.context.as_fd(), key, value.as_ref())?)
    }

    /// Sets an option that has no value.
    pub fn set_flag(&self, key: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_flag(self.context.as_fd(), key)?)
    }

    /// Makes the mount, not attached anywhere.
    pub fn mount(self, attributes: Attributes) -> io::Result<OwnedFd> {
        rustix::mount::fsconfig_create(self.context.as_fd())?;
        Ok(rustix::mount::fsmount(
            self.context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            attributes.at_mount(),
        )?)
    }

    /// What the kernel wrote about a failure, if it wrote anything (`overlay: No changes allowed`).
    pub fn message(&self) -> Option<String> {
        let mut lines = Vec::new();
        let mut buffer = [0_u8; 1024];
        while let Ok(length) = rustix::io::read(self.context.as_fd(), &mut buffer) {
            let Some(text) = buffer.get(..length).filter(|text| !text.is_empty()) else { break };
            // Each message begins with its level: `e `, `w ` or `i `.
            let text = String::from_utf8_lossy(text);
            let text = text.get(2..).unwrap_or_default().trim();
            lines.push(text.to_owned());
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// Makes a copy of the mount that holds `path` (relative to `directory`), rooted there, not
/// attached anywhere. An empty path means the open file or folder itself.
pub fn bind(directory: impl AsFd, path: &Path, depth: Depth) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if depth == Depth::Tree {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(directory, path, flags)?)
}

/// Attaches a mount to an open file or folder; one that is attached elsewhere is moved, with all
/// that is mounted below it.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", target, c"", flags)?)
}

/// Sets and clears attributes of a mount; those of neither set stay as they are.
pub fn change(
    mount: impl AsFd,
    set: Attributes,
    clear: Attributes,
    depth: Depth,
) -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: set.0, attr_clr: clear.0, propagation: 0, userns_fd: 0 };
    let mut flags = libc::AT_EMPTY_PATH;
    if depth == Depth::Tree {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the descriptor is borrowed for the call, the path is a terminated empty string, and
    // the structure lives through the call and has the size that is passed with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Cuts the whole mount namespace off from others.
pub fn make_all_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change(c"/", flags)?)
}

/// Mounts the old way: options in one text of less than a page.
pub fn classic(
    kind: &str,
    target: &Path,
    options: &CStr,
    attributes: Attributes,
) -> io::Result<()> {
    let mut flags = MountFlags::empty();
    for (attribute, flag) in [
        (Attributes::READ_ONLY, MountFlags::RDONLY),
        (Attributes::NO_SUID, MountFlags::NOSUID),
        (Attributes::NO_DEVICES, MountFlags::NODEV),
        (Attributes::NO_EXEC, MountFlags::NOEXEC),
    ] {
        if attributes.0 & attribute.0 != 0 {
            flags |= flag;
        }
    }
    Ok(rustix::mount::mount(kind, target, kind, flags, Some(options))?)
}

/// Makes the current folder, which must be the root of a mount, the root of everything, and drops
/// the old root with all that is mounted below it.
///
/// `covers` is how many mounts the caller has put on top of the old `/`.
pub fn pivot_to_current(covers: usize) -> io::Result<()> {
    // Old and new root may be the same folder: the old one, with its covers, then lies on top of
    // the new one, and each unmounting takes the topmost away (pivot_root(2), "NOTES").
    rustix::process::pivot_root(c".", c".")?;
    for _ in 0..=covers {
        rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    }
    Ok(rustix::process::chdir(c"/")?)
}

/// The folders and files that something is mounted at, as this process sees them, in the order in
/// which it was mounted; one that is mounted over is there as often as it is.
///
/// # Errors
/// The kernel shows no mounts.
pub fn points() -> io::Result<Vec<PathBuf>> {
    Ok(points_in(&std::fs::read("/proc/self/mountinfo")?))
}

/// The fifth field of each line (proc_pid_mountinfo(5)), which has octal numbers for what could end
/// it.
fn points_in(text: &[u8]) -> Vec<PathBuf> {
    let lines = text.split(|byte| *byte == b'\n');
    let fields = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields.map(|field| PathBuf::from(OsString::from_vec(unescaped(field)))).collect()
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..3).filter(|_| *first == b'\\');
        let number = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &more[3..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_with_what_is_escaped() {
        let text = b"21 1 8:1 / / rw - ext4 /dev/sda rw\n\
            30 21 0:5 /x /mnt/a\\040b\\134 ro shared:1 - overlay overlay rw\nbroken\n";
        assert_eq!(points_in(text), [PathBuf::from("/"), PathBuf::from("/mnt/a b\\")]);
        assert!(points().unwrap().contains(&PathBuf::from("/proc")));
    }
}
