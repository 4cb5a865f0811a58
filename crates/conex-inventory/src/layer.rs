//! The report on one layer: what is in it, without the content.
//!
//! A tree of nodes in one array. Invariant: a node's parent stands before it, node 0 is the root,
//! and every index that a node holds is within its table. Names and link targets lie end to end in
//! one text, so that a million files take some eighty bytes each.

use crate::packages::{Distribution, Form, Package};

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// The root of every tree.
pub const ROOT: u32 = 0;

/// What a layer has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Nothing; there may be a whiteout.
    Nothing,
    /// A directory that the layer names only as the parent of something.
    Implied,
    /// A directory.
    Dir,
    /// A regular file, or another name of one.
    File,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// Another name of a file that is in a lower layer.
    LinkBelow,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Nothing,
        Self::Implied,
        Self::Dir,
        Self::File,
        Self::Symlink,
        Self::CharDevice,
        Self::BlockDevice,
        Self::Fifo,
        Self::LinkBelow,
    ];

    /// Whether it is a directory.
    pub fn is_dir(self) -> bool {
        matches!(self, Self::Implied | Self::Dir)
    }

    /// The letter that `ls -l` has for it.
    pub fn letter(self) -> char {
        match self {
            Self::Nothing => '?',
            Self::Implied | Self::Dir => 'd',
            Self::File | Self::LinkBelow => '-',
            Self::Symlink => 'l',
            Self::CharDevice => 'c',
            Self::BlockDevice => 'b',
            Self::Fifo => 'p',
        }
    }

    /// The word for it in documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Implied | Self::Dir => "dir",
            Self::File | Self::LinkBelow => "file",
            Self::Symlink => "symlink",
            Self::CharDevice => "char-device",
            Self::BlockDevice => "block-device",
            Self::Fifo => "fifo",
        }
    }
}

/// The layer deletes what lower layers have at this path.
pub(crate) const WHITEOUT: u8 = 1;
/// The directory hides what lower layers have in it.
pub(crate) const OPAQUE: u8 = 2;
/// Not the first name of its content.
pub(crate) const LINKED: u8 = 4;
/// The file has capabilities of its own (`security.capability`).
pub(crate) const CAPABLE: u8 = 8;
/// The entry has extended attributes.
pub(crate) const ATTRIBUTED: u8 = 16;

/// One path of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) mtime: i64,
    pub(crate) parent: u32,
    pub(crate) name_at: u32,
    pub(crate) link_at: u32,
    /// The content of a file.
    pub(crate) content: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) name_len: u16,
    pub(crate) link_len: u16,
    pub(crate) mode: u16,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
}

impl Node {
    pub(crate) fn new(parent: u32, name_at: u32, name_len: u16) -> Self {
        Self {
            mtime: 0,
            parent,
            name_at,
            link_at: 0,
            content: NONE,
            uid: 0,
            gid: 0,
            name_len,
            link_len: 0,
            mode: 0,
            kind: Kind::Nothing,
            flags: 0,
        }
    }

    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Stands where content was not digested, for no other of its size was there to be told from. That
/// a digest is this is as likely as that two contents have one.
pub(crate) const UNKNOWN: [u8; 16] = [0; 16];

/// The content of a file, which may have several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    /// [`UNKNOWN`] where nobody needed it yet.
    pub(crate) digest: [u8; 16],
    pub(crate) size: u64,
    /// The node that it came with.
    pub(crate) node: u32,
    /// How many names the layer has for it; none if a later entry took the only one.
    pub(crate) links: u32,
    /// Whether the digest is of the whole content, and not only of what the tar has of a file with
    /// more holes than anybody wants to read.
    pub(crate) is_whole: bool,
    /// The number of the layer's entry that it came with, from 0.
    pub(crate) entry: u32,
}

impl Content {
    /// Whether both are the same bytes. What was not digested is like nothing else.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        self.size == other.size && self.digest == other.digest && self.digest != UNKNOWN
    }
}

/// A file of a layer that names packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    /// Whose content it is: the file may have several names.
    pub(crate) content: u32,
    pub(crate) form: Form,
    pub(crate) packages: Vec<Package>,
    /// Why it could not be read; empty if it could.
    pub(crate) problem: String,
}

/// A file of a layer that says what the image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) content: u32,
    pub(crate) distribution: Distribution,
}

/// A file of accounts that a layer holds: `etc/passwd` or `etc/group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub(crate) node: u32,
    pub(crate) ids: Vec<u32>,
}

/// What is in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerReport {
    pub(crate) nodes: Vec<Node>,
    pub(crate) contents: Vec<Content>,
    pub(crate) names: Vec<u8>,
    pub(crate) databases: Vec<Database>,
    pub(crate) releases: Vec<Release>,
    pub(crate) accounts: Vec<Accounts>,
    pub(crate) entry_count: u64,
    pub(crate) tar_size: u64,
}

impl LayerReport {
    /// Entries of the tar.
    pub fn entry_count(&self) -> u64 {
        self.entry_count
    }

    /// Bytes of the tar.
    pub fn tar_size(&self) -> u64 {
        self.tar_size
    }

    /// Bytes of the files in it.
    pub fn stored_size(&self) -> u64 {
        self.contents.iter().fold(0, |sum: u64, content| sum.saturating_add(content.size))
    }

    /// How many paths it knows, with the directories above them.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn name(&self, id: u32) -> &[u8] {
        let node = self.node(id);
        &self.names[node.name_at as usize..][..usize::from(node.name_len)]
    }

    pub(crate) fn link(&self, id: u32) -> &[u8] {
        let node = self.node(id);
        &self.names[node.link_at as usize..][..usize::from(node.link_len)]
    }

    /// The content of a file.
    pub(crate) fn content(&self, id: u32) -> Option<&Content> {
        self.contents.get(self.node(id).content as usize)
    }

    /// A path at which the layer has a content when all its entries are there: another entry may
    /// have taken the one that it came with.
    pub(crate) fn path_of(&self, content: u32) -> Option<Vec<u8>> {
        let came_with = self.contents.get(content as usize)?.node;
        if self.node(came_with).content == content {
            return Some(self.path(came_with));
        }
        let found = self.nodes.iter().position(|node| node.content == content)?;
        Some(self.path(found as u32))
    }

    /// The path that the content of a file came with, if that is another one.
    pub(crate) fn first_name(&self, id: u32) -> Option<Vec<u8>> {
        let first = self.content(id)?.node;
        (first != id).then(|| self.path(first))
    }

    pub(crate) fn path(&self, id: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = id;
        while at != ROOT {
            parts.push(self.name(at));
            at = self.node(at).parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}
