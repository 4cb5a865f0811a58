//! The form of a snapshot directory: overlayfs's marks, and what an ordinary user records instead
//! of setting it.
//!
//! A process that may not `chown` keeps owner, group and mode in the attribute
//! `user.containers.override_stat` as `uid:gid:mode` (octal mode) with an optional `:type`, the
//! form that fuse-overlayfs and containers/storage read. Devices that it may not make are empty
//! files with such a type. Attributes that it may not set stand under `user.conex.xattr.`, and
//! owners of symbolic links, which can have no attribute of an ordinary user, in the directory
//! that holds them. A tar made of such a snapshot is the same as root's.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use conex_sys::stat::{FileKind, Stat};

/// Where overlayfs keeps its marks in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// `trusted.overlay.*`, which only root may see.
    Trusted,
    /// `user.overlay.*` (mount option `userxattr`).
    User,
}

/// Whether owners and modes of a snapshot are those of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// They are.
    Real,
    /// We may not `chown`: files are ours, and what they should be is recorded in attributes.
    Recorded,
}

/// The form of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Where overlayfs keeps its marks.
    pub flavor: Flavor,
    /// Where owners and modes are.
    pub ownership: Ownership,
}

impl Form {
    /// What root uses.
    pub const ROOT: Self = Self { flavor: Flavor::Trusted, ownership: Ownership::Real };

    pub(crate) fn opaque_name(self) -> &'static OsStr {
        OsStr::new(match self.flavor {
            Flavor::Trusted => "trusted.overlay.opaque",
            Flavor::User => "user.overlay.opaque",
        })
    }
}

/// The attribute that records owner, group and mode.
pub(crate) const RECORD_NAME: &str = "user.containers.override_stat";

/// The attribute of a directory that records the owners of symbolic links in it.
pub(crate) const LINK_OWNERS_NAME: &str = "user.conex.link_owners";

/// What comes before the name of an attribute that could not be set.
pub(crate) const HELD_PREFIX: &str = "user.conex.xattr.";

/// Whether an attribute is one that this module or overlayfs keeps for itself, so that it goes
/// into no tar and is taken from none: a layer could else make its files look like something else.
pub(crate) fn is_private(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || name.starts_with(b"user.fuseoverlayfs.")
        || name.starts_with(b"user.conex.")
        || name == RECORD_NAME.as_bytes()
}

/// Whether an attribute of a file belongs into a layer. Labels of the machine's security modules
/// and access lists of its kernel's own form do not; file capabilities do.
pub(crate) fn belongs_in_layer(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let of_machine = bytes.starts_with(b"security.") || bytes.starts_with(b"system.");
    (!of_machine || bytes == b"security.capability") && !is_private(name)
}

/// Owner, group, mode and perhaps kind, as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// A device that stands here as an empty file.
    pub(crate) device: Option<(FileKind, u32, u32)>,
}

impl Record {
    /// Reads a record. A text that is none is ignored, as any program may write it.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split(':');
        let uid = parts.next()?.parse().ok()?;
        let gid = parts.next()?.parse().ok()?;
        let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
        let device = parts.next().and_then(parse_device);
        Some(Self { uid, gid, mode, device })
    }

    pub(crate) fn to_text(self) -> String {
        let Self { uid, gid, mode, device } = self;
        match device {
            None => format!("{uid}:{gid}:{mode:04o}"),
            Some((kind, major, minor)) => {
                let kind = if kind == FileKind::BlockDevice { "block" } else { "char" };
                format!("{uid}:{gid}:{mode:04o}:{kind}-{major}-{minor}")
            }
        }
    }

    /// The mode that a file of ours gets, so that we can read and write it.
    pub(crate) fn mode_on_disk(kind: FileKind, mode: u32) -> u32 {
        match kind {
            FileKind::Dir => mode | 0o700,
            _ => mode | 0o600,
        }
    }

    /// Puts what is recorded in the place of what the kernel says. A mode on disk that is not the
    /// one this record asks for was set later, by a program in a container, and counts.
    pub(crate) fn apply(self, stat: &mut Stat) {
        (stat.uid, stat.gid) = (self.uid, self.gid);
        if stat.mode == Self::mode_on_disk(stat.kind, self.mode) {
            stat.mode = self.mode;
        }
        if let Some((kind, major, minor)) = self.device
            && stat.kind == FileKind::File
        {
            (stat.kind, stat.node, stat.size) = (kind, (major, minor), 0);
            stat.mode = self.mode;
        }
    }
}

fn parse_device(text: &str) -> Option<(FileKind, u32, u32)> {
    let mut parts = text.split('-');
    let kind = match parts.next()? {
        "char" => FileKind::CharDevice,
        "block" => FileKind::BlockDevice,
        _ => return None,
    };
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((kind, major, minor))
}

/// Without a record a file of ours is root's: that is how the container that made it saw it.
pub(crate) fn unrecorded(stat: &mut Stat) {
    (stat.uid, stat.gid) = (0, 0);
}

/// Owners of symbolic links in one directory: `uid:gid`, then each name with a zero byte before.
/// Several owners are separated by a slash, which no name contains.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LinkOwners(Vec<(OsString, (u32, u32))>);

impl LinkOwners {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut owners = Vec::new();
        for group in text.split(|byte| *byte == b'/') {
            let mut parts = group.split(|byte| *byte == 0);
            let owner = parts.next().and_then(|owner| std::str::from_utf8(owner).ok());
            let owner = owner.and_then(|owner| owner.split_once(':'));
            let Some((uid, gid)) = owner else { continue };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
            owners.extend(parts.map(|name| (OsString::from_vec(name.to_vec()), (uid, gid))));
        }
        Self(owners)
    }

    pub(crate) fn to_text(&self) -> Vec<u8> {
        let mut groups: std::collections::BTreeMap<(u32, u32), Vec<&OsStr>> = Default::default();
        for (name, owner) in &self.0 {
            groups.entry(*owner).or_default().push(name);
        }
        let mut text = Vec::new();
        for ((uid, gid), mut names) in groups {
            if !text.is_empty() {
                text.push(b'/');
            }
            text.extend_from_slice(format!("{uid}:{gid}").as_bytes());
            names.sort_unstable();
            for name in names {
                text.push(0);
                text.extend_from_slice(name.as_bytes());
            }
        }
        text
    }

    pub(crate) fn of(&self, name: &OsStr) -> Option<(u32, u32)> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, owner)| *owner)
    }

    pub(crate) fn set(&mut self, name: &OsStr, owner: (u32, u32)) {
        self.0.retain(|(known, _)| known != name);
        if owner != (0, 0) {
            self.0.push((name.to_owned(), owner));
        }
    }
}

/// Whether an error of `setxattr` or `mknod` means that this process may not, here.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_written_and_as_others_write_them() {
        for text in ["0:0:0755", "1000:100:4711", "1:2:0600:char-1-3", "1:2:0600:block-8-0"] {
            assert_eq!(Record::parse(text.as_bytes()).unwrap().to_text(), text);
        }
        assert_eq!(Record::parse(b"5:6:0644:file").unwrap().device, None);
        for wrong in ["", "1", "1:2", "a:b:c", "1:2:9", "-1:2:0644", "1:2:0644x"] {
            assert_eq!(Record::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn link_owners_survive_odd_names() {
        let mut owners = LinkOwners::default();
        for (name, owner) in [("a b", (1, 2)), ("é:", (3, 4)), ("z", (1, 2)), ("root", (0, 0))] {
            owners.set(OsStr::new(name), owner);
        }
        let read = LinkOwners::parse(&owners.to_text());
        assert_eq!(read.of(OsStr::new("a b")), Some((1, 2)));
        assert_eq!(read.of(OsStr::new("é:")), Some((3, 4)));
        assert_eq!(read.of(OsStr::new("root")), None);
        assert_eq!(read.to_text(), owners.to_text());
    }

    #[test]
    fn only_what_means_the_same_everywhere_goes_into_a_layer() {
        for (name, belongs) in [
            ("user.x", true),
            ("security.capability", true),
            ("trusted.x", true),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
            ("trusted.overlay.opaque", false),
            ("user.overlay.origin", false),
            (RECORD_NAME, false),
        ] {
            assert_eq!(belongs_in_layer(OsStr::new(name)), belongs, "{name}");
        }
    }
}
