//! One file of a context, and the digest of a tree of them.

use std::os::unix::ffi::OsStrExt;

use conex_oci::{Digest, Hasher};
use conex_sys::stat::{FileKind, Stat};

/// What a tree holds at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Below the root of the walk, parts joined by `/`; empty for the root itself.
    pub(crate) path: Vec<u8>,
    pub(crate) stat: Stat,
    /// SHA-256 of the bytes of a file, of the target of a symbolic link.
    pub(crate) content: Option<[u8; 32]>,
}

impl Entry {
    /// Whether the entry needs its content hashed.
    pub(crate) fn has_content(&self) -> bool {
        matches!(self.stat.kind, FileKind::File | FileKind::Symlink)
    }
}

/// The letter that stands for a kind in digests.
fn letter(kind: FileKind) -> u8 {
    match kind {
        FileKind::File => b'f',
        FileKind::Dir => b'd',
        FileKind::Symlink => b'l',
        FileKind::CharDevice => b'c',
        FileKind::BlockDevice => b'b',
        FileKind::Fifo => b'p',
        // Copied as an empty file.
        FileKind::Socket => b's',
    }
}

/// Which attributes of the files decide what a COPY makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modes {
    /// The files keep their own modes.
    Count,
    /// `--chmod` replaces them whole.
    Overridden,
}

/// Whether the owners of the files decide what a COPY makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// They are kept.
    Count,
    /// All files get one owner: those of a context root, or what `--chown` says.
    Overridden,
}

/// Digests a tree: every path, kind, mode and content, and nothing that differs from machine to
/// machine (times, inodes, the name of the root).
pub(crate) fn tree_digest<'e>(
    entries: impl IntoIterator<Item = &'e Entry>,
    modes: Modes,
    owners: Owners,
) -> Digest {
    let mut hasher = Hasher::sha256();
    let mut record = Vec::with_capacity(512);
    for Entry { path, stat, content } in entries {
        record.clear();
        record.push(letter(stat.kind));
        record.extend_from_slice(&(path.len() as u64).to_le_bytes());
        record.extend_from_slice(path);
        // A link has no mode of its own.
        let mode = match (modes, stat.kind) {
            (Modes::Overridden, _) | (_, FileKind::Symlink) => 0,
            (Modes::Count, _) => stat.mode,
        };
        record.extend_from_slice(&mode.to_le_bytes());
        if owners == Owners::Count {
            record.extend_from_slice(&stat.uid.to_le_bytes());
            record.extend_from_slice(&stat.gid.to_le_bytes());
        }
        match stat.kind {
            FileKind::File | FileKind::Symlink => {
                record.extend_from_slice(&content.unwrap_or([0; 32]));
            }
            FileKind::CharDevice | FileKind::BlockDevice => {
                record.extend_from_slice(&stat.node.0.to_le_bytes());
                record.extend_from_slice(&stat.node.1.to_le_bytes());
            }
            FileKind::Dir | FileKind::Fifo | FileKind::Socket => {}
        }
        hasher.update(&record);
    }
    hasher.finish()
}

/// Orders paths as a walk meets them: part by part, so that a folder comes right before what is in
/// it (`a`, `a/x`, `a-b`).
pub(crate) fn walk_order(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    let parts = |path| std::path::Path::new(std::ffi::OsStr::from_bytes(path)).components();
    let differs = left.iter().zip(right).position(|(left, right)| left != right);
    match differs {
        None => left.len().cmp(&right.len()),
        // Without a slash at the first difference, and none missed, bytes decide.
        Some(at) if left[at] != b'/' && right[at] != b'/' => left[at].cmp(&right[at]),
        Some(_) => parts(left).cmp(parts(right)),
    }
}

/// A file of nobody's, for tests.
#[cfg(test)]
pub(super) fn plain_stat() -> Stat {
    Stat {
        kind: FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 3,
        blocks: 8,
        mtime: conex_sys::stat::Time::default(),
        ctime: conex_sys::stat::Time::default(),
        device: (0, 0),
        inode: 5,
        link_count: 1,
        node: (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_comes_right_before_what_is_in_it() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/x", b"b", b"a", b"a/x/y", b"a/x-"];
        paths.sort_by(|left, right| walk_order(left, right));
        let sorted: Vec<&[u8]> = vec![b"a", b"a/x", b"a/x/y", b"a/x-", b"a-b", b"b"];
        assert_eq!(paths, sorted);
    }

    fn entry(path: &str, mode: u32, content: u8) -> Entry {
        let path = path.into();
        let stat = Stat { mode, ..plain_stat() };
        Entry { path, stat, content: Some([content; 32]) }
    }

    #[test]
    fn times_and_inodes_do_not_change_a_digest_but_content_and_mode_do() {
        let base = entry("a", 0o644, 1);
        let digest = |entry: &Entry, modes| tree_digest([entry], modes, Owners::Overridden);
        let mut touched = base.clone();
        touched.stat.inode = 7;
        touched.stat.mtime.seconds = 9;
        touched.stat.uid = 1000;
        assert_eq!(digest(&base, Modes::Count), digest(&touched, Modes::Count));
        let owned = |entry: &Entry| tree_digest([entry], Modes::Count, Owners::Count);
        assert_ne!(owned(&base), owned(&touched));
        let edited = entry("a", 0o644, 2);
        assert_ne!(digest(&base, Modes::Count), digest(&edited, Modes::Count));
        let executable = entry("a", 0o755, 1);
        assert_ne!(digest(&base, Modes::Count), digest(&executable, Modes::Count));
        assert_eq!(digest(&base, Modes::Overridden), digest(&executable, Modes::Overridden));
    }
}
