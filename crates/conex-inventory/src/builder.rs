//! Makes the report on a layer from its entries, in the order in which they come.
//!
//! The last entry of a path wins, as for whoever unpacks the layer. What it takes the place of
//! stays counted as stored: its bytes are in the layer.

use conex_layer::{Entry, EntryKind};

use crate::error::{Error, Result};
use crate::intern::Names;
use crate::layer::{
    ATTRIBUTED, Accounts, CAPABLE, Content, Database, Kind, LINKED, LayerReport, NONE, Node,
    OPAQUE, ROOT, Release, WHITEOUT,
};
use crate::packages::LAYER_PACKAGE_COUNT_MAX;

/// Most paths of one layer: 16 million, ten times the largest images known, take 1.3 GB.
const NODE_COUNT_MAX: usize = 16 << 20;

/// Most bytes of names and link targets in one layer.
const NAMES_SIZE_MAX: usize = 1 << 30;

/// What comes before the name of a deleted file (image spec, layer.md, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// Names with this prefix mean the layer, not a file of that name.
const META_PREFIX: &[u8] = b".wh..wh.";

const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

pub(crate) struct Builder {
    report: LayerReport,
    table: Names,
    /// The last directory that an entry was in, if it still is one.
    last_dir: Option<(Vec<u8>, u32)>,
    /// When each node was last set, in entries.
    set_at: Vec<u64>,
    /// When each node last became something that nothing can be in: what was in it is gone.
    cleared_at: Vec<u64>,
    package_count: usize,
}

/// The digest of a regular file's content.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ContentDigest {
    pub(crate) bytes: [u8; 16],
    /// Whether it is of everything, with the holes.
    pub(crate) is_whole: bool,
}

/// Where a path leads.
enum Place {
    /// A name in the tree.
    Node(u32),
    /// The root.
    Root,
    /// A whiteout of a name.
    Whiteout(u32),
    /// An opaque mark in a directory.
    Opaque(u32),
    /// What a storage driver left for itself.
    Meta,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let mut root = Node::new(ROOT, 0, 0);
        (root.kind, root.mode) = (Kind::Implied, 0o755);
        let report = LayerReport {
            nodes: vec![root],
            contents: Vec::new(),
            names: Vec::new(),
            databases: Vec::new(),
            releases: Vec::new(),
            accounts: Vec::new(),
            entry_count: 0,
            tar_size: 0,
        };
        Self {
            report,
            table: Names::new(),
            last_dir: None,
            set_at: vec![0],
            cleared_at: vec![0],
            package_count: 0,
        }
    }

    /// Adds an entry; `digest` is that of a regular file's content.
    pub(crate) fn add(&mut self, entry: &Entry, digest: ContentDigest) -> Result<()> {
        self.report.entry_count += 1;
        match self.place(&entry.path)? {
            Place::Meta => Ok(()),
            Place::Opaque(dir) => {
                self.flag(dir, OPAQUE);
                Ok(())
            }
            Place::Whiteout(id) => {
                self.flag(id, WHITEOUT);
                let node = &mut self.report.nodes[id as usize];
                if node.kind == Kind::Nothing {
                    // The marker's own, for who lists entries.
                    node.mode = (entry.mode & 0o7777) as u16;
                    (node.uid, node.gid) = (entry.uid, entry.gid);
                }
                Ok(())
            }
            Place::Root => {
                if entry.kind == EntryKind::Dir {
                    self.describe(ROOT, entry, Kind::Dir);
                }
                Ok(())
            }
            Place::Node(id) => self.set(id, entry, digest),
        }
    }

    /// The content of the file that was just added under a path.
    pub(crate) fn content_of(&self, path: &[u8]) -> Option<u32> {
        let content = self.report.node(self.find(path)?).content;
        (content != NONE).then_some(content)
    }

    /// Adds what a file names that was just added.
    pub(crate) fn add_database(&mut self, database: Database) -> Result<()> {
        self.package_count += database.packages.len();
        if self.package_count > LAYER_PACKAGE_COUNT_MAX {
            return Err(Error::limit("the layer has more than 500,000 packages"));
        }
        self.report.databases.push(database);
        Ok(())
    }

    /// Adds what a file says of the image that was just added.
    pub(crate) fn add_release(&mut self, release: Release) {
        self.report.releases.push(release);
    }

    /// Adds the numbers of accounts in a file that was just added under a path.
    pub(crate) fn add_accounts(&mut self, path: &[u8], ids: Vec<u32>) {
        let Some(node) = self.find(path) else { return };
        self.report.accounts.retain(|known| known.node != node);
        self.report.accounts.push(Accounts { node, ids });
    }

    /// How many contents there are so far.
    pub(crate) fn content_count(&self) -> usize {
        self.report.contents.len()
    }

    pub(crate) fn finish(mut self, tar_size: u64) -> LayerReport {
        self.report.tar_size = tar_size;
        for id in 1..self.report.nodes.len() as u32 {
            self.settle(id);
        }
        let report = &mut self.report;
        // What lost its last name within the layer is not there.
        let is_there = |content: u32| report.contents[content as usize].links > 0;
        report.databases.retain(|database| is_there(database.content));
        report.releases.retain(|release| is_there(release.content));
        report.accounts.retain(|file| report.nodes[file.node as usize].kind == Kind::File);
        report.nodes.shrink_to_fit();
        report.contents.shrink_to_fit();
        report.names.shrink_to_fit();
        self.report
    }

    fn set(&mut self, id: u32, entry: &Entry, digest: ContentDigest) -> Result<()> {
        let kind = match entry.kind {
            EntryKind::HardLink => return self.set_link(id, entry),
            EntryKind::File => Kind::File,
            EntryKind::Symlink => Kind::Symlink,
            EntryKind::CharDevice => Kind::CharDevice,
            EntryKind::BlockDevice => Kind::BlockDevice,
            EntryKind::Dir => Kind::Dir,
            EntryKind::Fifo => Kind::Fifo,
        };
        self.clear(id, kind);
        self.describe(id, entry, kind);
        if kind == Kind::Symlink {
            self.set_target(id, &entry.link)?;
        }
        if kind == Kind::File {
            // The entry was counted already.
            let number = u32::try_from(self.report.entry_count - 1)
                .map_err(|_| Error::limit("the layer has more than four billion entries"))?;
            let content = Content {
                digest: digest.bytes,
                size: entry.size,
                node: id,
                links: 1,
                is_whole: digest.is_whole,
                entry: number,
            };
            self.report.nodes[id as usize].content = self.report.contents.len() as u32;
            self.report.contents.push(content);
        }
        Ok(())
    }

    fn set_link(&mut self, id: u32, entry: &Entry) -> Result<()> {
        let target = self.find(&entry.link).map(|target| *self.report.node(target));
        let Some(target) = target.filter(|node| !node.kind.is_dir() && node.kind != Kind::Nothing)
        else {
            self.clear(id, Kind::LinkBelow);
            self.describe(id, entry, Kind::LinkBelow);
            return self.set_target(id, &entry.link);
        };
        if let Some(content) = self.report.contents.get_mut(target.content as usize) {
            content.links += 1;
        }
        self.clear(id, target.kind);
        let node = &mut self.report.nodes[id as usize];
        let flags = (node.flags & WHITEOUT) | (target.flags & (CAPABLE | ATTRIBUTED)) | LINKED;
        *node = Node {
            parent: node.parent,
            name_at: node.name_at,
            name_len: node.name_len,
            flags,
            ..target
        };
        Ok(())
    }

    /// Makes room for something else.
    fn clear(&mut self, id: u32, kind: Kind) {
        self.release(id);
        self.set_at[id as usize] = self.report.entry_count;
        let before = self.report.node(id).kind;
        if (before.is_dir() || before == Kind::Symlink) && !kind.is_dir() {
            self.cleared_at[id as usize] = self.report.entry_count;
            self.last_dir = None;
        }
    }

    /// Whether a node is left over in a directory that has been something else since.
    fn is_stale(&self, id: u32) -> bool {
        let parent = self.report.node(id).parent;
        self.set_at[id as usize] < self.cleared_at[parent as usize]
    }

    /// Takes away what is left over.
    fn settle(&mut self, id: u32) {
        if !self.is_stale(id) {
            return;
        }
        self.release(id);
        let node = &mut self.report.nodes[id as usize];
        (node.kind, node.flags) = (Kind::Nothing, 0);
        let parent = self.report.node(id).parent as usize;
        let at = self.cleared_at[parent].max(self.cleared_at[id as usize]);
        self.cleared_at[id as usize] = at;
    }

    /// Takes a name away from its content.
    fn release(&mut self, id: u32) {
        let node = &mut self.report.nodes[id as usize];
        let content = std::mem::replace(&mut node.content, NONE);
        if let Some(content) = self.report.contents.get_mut(content as usize) {
            content.links -= 1;
        }
    }

    fn describe(&mut self, id: u32, entry: &Entry, kind: Kind) {
        let node = &mut self.report.nodes[id as usize];
        let capable = entry.xattrs.iter().any(|(name, _)| name == "security.capability");
        node.kind = kind;
        node.mode = (entry.mode & 0o7777) as u16;
        (node.uid, node.gid) = (entry.uid, entry.gid);
        node.mtime = entry.mtime.seconds;
        node.flags &= WHITEOUT | OPAQUE;
        node.flags |= if capable { CAPABLE } else { 0 };
        node.flags |= if entry.xattrs.is_empty() { 0 } else { ATTRIBUTED };
        (node.link_at, node.link_len) = (0, 0);
    }

    fn set_target(&mut self, id: u32, target: &[u8]) -> Result<()> {
        // What has no length has no place either, as in a kept report.
        let (at, len) = if target.is_empty() { (0, 0) } else { self.keep(target)? };
        let node = &mut self.report.nodes[id as usize];
        (node.link_at, node.link_len) = (at, len);
        Ok(())
    }

    fn flag(&mut self, id: u32, flag: u8) {
        self.report.nodes[id as usize].flags |= flag;
        self.set_at[id as usize] = self.report.entry_count;
    }

    fn keep(&mut self, text: &[u8]) -> Result<(u32, u16)> {
        let at = self.report.names.len();
        if at + text.len() > NAMES_SIZE_MAX {
            return Err(Error::limit("the names in the layer have more than 1 GiB"));
        }
        let len = u16::try_from(text.len())
            .map_err(|_| Error::limit("a name or link in the layer has more than 64 KiB"))?;
        self.report.names.extend_from_slice(text);
        Ok((at as u32, len))
    }

    fn place(&mut self, path: &[u8]) -> Result<Place> {
        let path = trimmed(path);
        let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let known = self.last_dir.as_ref().filter(|known| known.0 == dir).map(|known| known.1);
        let dir = if let Some(known) = known {
            known
        } else {
            let mut at = ROOT;
            for part in dir.split(|byte| *byte == b'/') {
                match part {
                    b"" | b"." => continue,
                    b".." => return Err(leads_out(path)),
                    part if part.starts_with(META_PREFIX) => return Ok(Place::Meta),
                    part => at = self.child(at, part)?,
                }
                self.make_dir(at);
            }
            self.last_dir = Some((dir.to_vec(), at));
            at
        };
        match name {
            b"" | b"." => Ok(if dir == ROOT { Place::Root } else { Place::Node(dir) }),
            b".." => Err(leads_out(path)),
            OPAQUE_MARK => Ok(Place::Opaque(dir)),
            name if name.starts_with(META_PREFIX) => Ok(Place::Meta),
            name => match name.strip_prefix(WHITEOUT_PREFIX) {
                Some(b"") => Err(Error::malformed("the layer has a whiteout of no name")),
                Some(name) => self.child(dir, name).map(Place::Whiteout),
                None => self.child(dir, name).map(Place::Node),
            },
        }
    }

    /// Makes a directory of what is a parent; a link stays, for what it leads to may be meant.
    fn make_dir(&mut self, id: u32) {
        let kind = self.report.node(id).kind;
        if kind.is_dir() || kind == Kind::Symlink {
            return;
        }
        self.release(id);
        self.set_at[id as usize] = self.report.entry_count;
        let node = &mut self.report.nodes[id as usize];
        (node.kind, node.mode, node.uid, node.gid, node.mtime) = (Kind::Implied, 0o755, 0, 0, 0);
    }

    fn child(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        let report = &self.report;
        let name_of = |id| (report.node(id).parent, report.name(id));
        if let Some(id) = self.table.find(parent, name, name_of) {
            self.settle(id);
            return Ok(id);
        }
        if self.report.nodes.len() >= NODE_COUNT_MAX {
            return Err(Error::limit("the layer has more than 16 million paths"));
        }
        let id = self.report.nodes.len() as u32;
        let (at, len) = self.keep(name)?;
        self.report.nodes.push(Node::new(parent, at, len));
        self.set_at.push(self.report.entry_count);
        self.cleared_at.push(0);
        let report = &self.report;
        self.table.add(id, parent, name, |id| (report.node(id).parent, report.name(id)));
        Ok(id)
    }

    /// The node of a path, without making one.
    fn find(&self, path: &[u8]) -> Option<u32> {
        let mut at = ROOT;
        let name_of = |id| (self.report.node(id).parent, self.report.name(id));
        for part in path.split(|byte| *byte == b'/') {
            if !matches!(part, b"" | b".") {
                at = self.table.find(at, part, name_of).filter(|id| !self.is_stale(*id))?;
            }
        }
        Some(at)
    }
}

/// A path without what stands before and behind it for nothing.
pub(crate) fn trimmed(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    loop {
        match path {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] => path = rest,
            b"." => return b"",
            path => return path,
        }
    }
}

fn leads_out(path: &[u8]) -> Error {
    let shown = String::from_utf8_lossy(path);
    let shown: String = shown.chars().take(100).collect();
    Error::malformed(format!("the path `{shown}` leads out of the layer"))
}
