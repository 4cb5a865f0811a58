//! What a tree shows to those who list, search and take files out.

use std::sync::Arc;

use crate::image::shown;
use crate::layer::{ATTRIBUTED, Kind, LayerReport, NONE, Node, ROOT, UNKNOWN};
use crate::tree::{Path, Tree};

/// Symbolic links followed in one path, as in the kernel.
const LINKS_MAX: usize = 40;

/// What a layer, or several, did to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Unchanged,
    /// It was not there before.
    Added,
    /// It was, and is another.
    Changed,
    /// It was, and is no more.
    Deleted,
}

/// A path of an image.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'t> {
    /// Its name; empty for the root.
    pub name: &'t [u8],
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, in seconds since 1970.
    pub mtime: i64,
    /// Bytes of a file.
    pub size: u64,
    /// Target of a symbolic link.
    pub link: &'t [u8],
    /// The layer that it comes from.
    pub layer: usize,
    /// Whether its entry has extended attributes; a name of a lower layer's file never says so.
    pub has_attributes: bool,
    /// Whether it is there at the end.
    pub is_there: bool,
}

/// Where a layer has something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The number of the layer.
    pub layer: usize,
    /// The path in it, once all of its entries are unpacked.
    pub path: Vec<u8>,
    /// The number of a file's entry in the layer's own tar, from 0: the path may be there twice.
    pub entry: Option<u32>,
    /// The digest of a file's content, as far as the report keeps it.
    pub(crate) digest: Option<[u8; 16]>,
}

impl Tree {
    /// How many layers it has.
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// The reports on its layers, the lowest first.
    pub fn reports(&self) -> &[Arc<LayerReport>] {
        &self.layers
    }

    /// How many paths it has, dead ones too. Paths are numbered from 0, the root.
    pub fn path_count(&self) -> usize {
        self.paths.len()
    }

    /// A path by its number.
    pub fn entry(&self, id: u32) -> Entry<'_> {
        let path = &self.paths[id as usize];
        let node = self.node_at(path.now);
        let link = match self.layers.get(usize::from(path.now.layer)) {
            Some(layer) if node.kind == Kind::Symlink => layer.link(path.now.node),
            _ => &[],
        };
        let node = self.file_below(path).unwrap_or(node);
        Entry {
            name: if id == ROOT { &[] } else { self.name(id) },
            kind: node.kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            size: self.content(path.content).map_or(0, |content| content.size),
            link,
            layer: usize::from(path.now.layer),
            has_attributes: node.is(ATTRIBUTED),
            is_there: path.alive,
        }
    }

    /// What another name of a lower layer's file is: that file, whatever its own entry says.
    fn file_below(&self, path: &Path) -> Option<&Node> {
        let content = self.content(path.content)?;
        let node = self.layers.get(usize::from(path.content.layer))?.node(content.node);
        let is_below = self.node_at(path.now).kind == Kind::LinkBelow;
        (is_below && node.content == path.content.content).then_some(node)
    }

    /// What is in a folder, sorted by name; dead paths too.
    pub fn children(&self, id: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = self.paths[id as usize].first_child;
        while at != NONE {
            found.push(at);
            at = self.paths[at as usize].next;
        }
        found.sort_by(|one, other| self.name(*one).cmp(self.name(*other)));
        found
    }

    /// The folder that a path is in; the root is in itself.
    pub fn parent(&self, id: u32) -> u32 {
        self.paths[id as usize].parent
    }

    /// The whole path as it is shown, with a slash at its beginning.
    pub fn path_text(&self, id: u32) -> String {
        shown(&self.full_path(id))
    }

    /// The bytes of the whole path, without a slash at its beginning.
    pub fn path_bytes(&self, id: u32) -> Vec<u8> {
        self.full_path(id)
    }

    /// What the layers from `first` to the last one of this tree did to a path; none if it was gone
    /// before them.
    pub fn change_since(&self, id: u32, first: usize) -> Option<Change> {
        let path = &self.paths[id as usize];
        let (born, touched) = (usize::from(path.born), usize::from(path.touched));
        match path.alive {
            true if born >= first => Some(Change::Added),
            true if touched >= first => Some(Change::Changed),
            true => Some(Change::Unchanged),
            // What came and went in between was never there.
            false if touched >= first && (born < first || first + 1 == self.layers.len()) => {
                Some(Change::Deleted)
            }
            false => None,
        }
    }

    /// Bytes that are wasted at and below each path.
    pub fn wasted_by_path(&self) -> Vec<u64> {
        let mut wasted = vec![0u64; self.paths.len()];
        for (layer, fates) in self.fates.iter().enumerate() {
            for (fate, content) in fates.iter().zip(&self.layers[layer].contents) {
                if fate.event != NONE
                    && let Some(size) = wasted.get_mut(fate.path as usize)
                {
                    *size = size.saturating_add(content.size);
                }
            }
        }
        for id in (1..self.paths.len()).rev() {
            let parent = self.paths[id].parent as usize;
            wasted[parent] = wasted[parent].saturating_add(wasted[id]);
        }
        wasted
    }

    /// Bytes that are there at and below each path, each content counted once.
    pub fn sizes(&self) -> Vec<u64> {
        crate::image::Sizes::of(self).below
    }

    /// Finds what is there at a path. Links on the way are followed, a link at the end only if
    /// asked for; `..` stops at the root, so no link leads out.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Option<u32> {
        let mut todo: Vec<Vec<u8>> = parts(path);
        let (mut at, mut links_left) = (ROOT, LINKS_MAX);
        while let Some(part) = todo.pop() {
            if part == b".." {
                at = self.parent(at);
                continue;
            }
            let found = self.lookup(at, &part).filter(|id| self.paths[*id as usize].alive)?;
            let entry = self.entry(found);
            if entry.kind == Kind::Symlink && (follow_last || !todo.is_empty()) {
                links_left = links_left.checked_sub(1)?;
                if entry.link.first() == Some(&b'/') {
                    at = ROOT;
                }
                todo.extend(parts(entry.link));
                // A chain of links that double each other ends here.
                if todo.len() > 1 << 16 {
                    return None;
                }
                continue;
            }
            if !todo.is_empty() && !entry.kind.is_dir() {
                return None;
            }
            at = found;
        }
        Some(at)
    }

    /// Where to find what is at a path: a file's content, and what else its entry has.
    ///
    /// None for a file whose content no layer has.
    pub fn place(&self, id: u32) -> Option<Place> {
        let path = self.paths.get(id as usize)?;
        if let Some(content) = self.content(path.content) {
            let layer = usize::from(path.content.layer);
            let found = self.layers[layer].path_of(path.content.content)?;
            let is_known = content.is_whole && content.digest != UNKNOWN;
            let (entry, digest) = (Some(content.entry), is_known.then_some(content.digest));
            return Some(Place { layer, path: found, entry, digest });
        }
        let layer = usize::from(path.now.layer);
        let kind = self.node_at(path.now).kind;
        let is_placed = !matches!(kind, Kind::File | Kind::LinkBelow | Kind::Nothing);
        let report = self.layers.get(layer).filter(|_| is_placed)?;
        Some(Place { layer, path: report.path(path.now.node), entry: None, digest: None })
    }

    /// Whether two paths are names of one file.
    pub fn is_same_file(&self, one: u32, other: u32) -> bool {
        let (one, other) = (&self.paths[one as usize], &self.paths[other as usize]);
        one.content == other.content && one.content.content != NONE
    }
}

/// The parts of a path, the first one last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').rev();
    names.filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec).collect()
}
