//! The layers of an image laid over each other: what is there at the end, and what came of all
//! that the layers hold.
//!
//! Whiteouts, opaque directories and what takes another's place work as for whoever unpacks the
//! layers: the last one wins. Paths that were deleted stay in the tree, dead, so that every layer's
//! part can be shown. A directory that a layer only implies does not take the place of a symbolic
//! link to a directory: what the layer has in it goes where the link leads.
//!
//! Invariant: a node's parent stands before it; content counts as visible while at least one live
//! name of it is in the tree.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::intern::Names;
use crate::layer::{Content, Kind, LayerReport, NONE, Node, OPAQUE, ROOT, WHITEOUT};

/// Most layers of one image: overlayfs takes 500, Docker 127.
pub(crate) const LAYER_COUNT_MAX: usize = 4096;

/// Most paths of one image.
const NODE_COUNT_MAX: usize = 64 << 20;

/// Symbolic links followed on the way to a directory, as in the kernel.
const LINKS_MAX: usize = 40;

/// A path of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) layer: u16,
    pub(crate) node: u32,
}

/// The content of a file of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ContentAt {
    pub(crate) layer: u16,
    pub(crate) content: u32,
}

/// A path of the image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) parent: u32,
    pub(crate) first_child: u32,
    pub(crate) next: u32,
    /// Whose name it is.
    name: At,
    /// What is there, or was there last.
    pub(crate) now: At,
    pub(crate) content: ContentAt,
    /// The layer in which it came to be there.
    pub(crate) born: u16,
    /// The layer of its last change, or of its end.
    pub(crate) touched: u16,
    pub(crate) alive: bool,
}

/// Why content is no longer seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A later layer has another file there.
    Overwritten,
    /// A later layer has the same bytes there: only owner, mode, time or attributes changed.
    Rewritten,
    /// A later layer deletes it, or a directory that it is in.
    Deleted,
    /// A later layer has something else than a directory where it was in a directory, or makes the
    /// directory anew.
    Replaced,
    /// The same layer has the path once more.
    Repeated,
}

impl Cause {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Overwritten => "overwritten",
            Self::Rewritten => "rewritten",
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
            Self::Repeated => "repeated",
        }
    }
}

/// What hid something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    /// The topmost path that it took away.
    pub(crate) path: u32,
    pub(crate) layer: u16,
    pub(crate) cause: Cause,
}

/// What became of the content of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    /// Live names.
    pub(crate) visible: u32,
    /// What took the last name away; [`NONE`] while there is one.
    pub(crate) event: u32,
    /// The first path that it was seen at.
    pub(crate) path: u32,
}

/// What a layer did to the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Files and other things that are no directories, where nothing was.
    pub added: u64,
    /// The same, where something was.
    pub changed: u64,
    /// The same, gone.
    pub deleted: u64,
    /// Bytes of files where nothing was.
    pub added_size: u64,
    /// Bytes of files where something was.
    pub changed_size: u64,
    /// Bytes of files that it took away.
    pub deleted_size: u64,
}

/// Layers laid over each other.
#[derive(Debug)]
pub struct Tree {
    pub(crate) layers: Vec<Arc<LayerReport>>,
    pub(crate) paths: Vec<Path>,
    pub(crate) events: Vec<Event>,
    pub(crate) fates: Vec<Vec<Fate>>,
    pub(crate) changes: Vec<Changes>,
    table: Names,
}

const NOWHERE: ContentAt = ContentAt { layer: 0, content: NONE };

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An image without layers.
    pub fn new() -> Self {
        let root = Path {
            parent: ROOT,
            first_child: NONE,
            next: NONE,
            name: At { layer: 0, node: ROOT },
            now: At { layer: 0, node: ROOT },
            content: NOWHERE,
            born: 0,
            touched: 0,
            alive: true,
        };
        Self {
            layers: Vec::new(),
            paths: vec![root],
            events: Vec::new(),
            fates: Vec::new(),
            changes: Vec::new(),
            table: Names::new(),
        }
    }

    /// Lays layers over each other, the lowest first.
    ///
    /// # Errors
    /// There are too many layers or paths.
    pub fn of(layers: &[Arc<LayerReport>]) -> Result<Self> {
        let mut tree = Self::new();
        for layer in layers {
            tree.push(layer)?;
        }
        Ok(tree)
    }

    /// Lays a layer over the others.
    ///
    /// # Errors
    /// There are too many layers or paths.
    pub fn push(&mut self, report: &Arc<LayerReport>) -> Result<()> {
        if self.layers.len() >= LAYER_COUNT_MAX {
            return Err(Error::limit("the image has more than 4,096 layers"));
        }
        let layer = self.layers.len() as u16;
        let fate = Fate { visible: 0, event: NONE, path: NONE };
        self.fates.push(vec![fate; report.contents.len()]);
        self.changes.push(Changes::default());
        self.layers.push(report.clone());
        // What a link means is there before the layer: it may rename by linking and deleting.
        let below = self.linked_below(report);
        // Where each node of the layer went.
        let mut placed = vec![NONE; report.nodes.len()];
        placed[ROOT as usize] = ROOT;
        if report.node(ROOT).kind == Kind::Dir || layer == 0 {
            self.paths[ROOT as usize].now = At { layer, node: ROOT };
        }
        if report.node(ROOT).is(OPAQUE) {
            self.empty_dir(ROOT, layer, Cause::Replaced);
        }
        for id in 1..report.nodes.len() as u32 {
            let node = *report.node(id);
            if node.kind == Kind::Nothing && node.flags == 0 {
                continue;
            }
            let parent = placed[node.parent as usize];
            if parent == NONE {
                continue;
            }
            let dir = if node.kind == Kind::Nothing {
                // A whiteout makes no directory.
                match self.dir_of(parent) {
                    Some(dir) => dir,
                    None => continue,
                }
            } else {
                self.make_dir_of(parent, At { layer, node: node.parent })
            };
            let path = self.child(dir, At { layer, node: id })?;
            placed[id as usize] = path;
            self.apply(path, &node, At { layer, node: id }, below.get(&id).copied());
        }
        self.settle_repeated(layer);
        Ok(())
    }

    /// The contents of lower layers that a layer has other names for.
    fn linked_below(&self, report: &LayerReport) -> HashMap<u32, ContentAt> {
        let nodes = report.nodes.iter().enumerate();
        let links = nodes.filter(|(_, node)| node.kind == Kind::LinkBelow);
        links
            .filter_map(|(id, _)| Some((id as u32, self.content_at(report.link(id as u32))?)))
            .collect()
    }

    /// The content of a file that is there, whatever links of folders are on the way to it.
    fn content_at(&self, path: &[u8]) -> Option<ContentAt> {
        let found = &self.paths[self.resolve(path, false)? as usize];
        (found.content.content != NONE).then_some(found.content)
    }

    fn apply(&mut self, path: u32, node: &Node, at: At, below: Option<ContentAt>) {
        if node.is(WHITEOUT) {
            if node.kind == Kind::Nothing {
                self.kill(path, at.layer, Cause::Deleted);
                return;
            }
            if node.kind.is_dir() && self.is_dir(path) {
                self.empty_dir(path, at.layer, Cause::Replaced);
            } else if node.kind == Kind::Implied {
                // A link of a folder that is deleted leads nowhere: a folder takes its place.
                self.kill(path, at.layer, Cause::Replaced);
            }
        }
        match node.kind {
            Kind::Nothing => {}
            Kind::Implied => {
                let kind = self.node_at(self.paths[path as usize].now).kind;
                let is_there = self.paths[path as usize].alive;
                // What a link leads to is looked at when there is something to put there.
                if !is_there || !(kind.is_dir() || kind == Kind::Symlink) {
                    self.put(path, at, NOWHERE);
                } else if node.is(OPAQUE) && kind.is_dir() {
                    self.empty_dir(path, at.layer, Cause::Replaced);
                }
            }
            Kind::Dir => {
                if node.is(OPAQUE) && self.is_dir(path) {
                    self.empty_dir(path, at.layer, Cause::Replaced);
                }
                self.put(path, at, NOWHERE);
            }
            Kind::File => {
                let content = ContentAt { layer: at.layer, content: node.content };
                self.put(path, at, content);
            }
            Kind::LinkBelow => {
                // Or a file of this layer, to which links of folders lead.
                let target = self.layers[at.layer as usize].link(at.node);
                let content = below.or_else(|| self.content_at(target));
                self.put(path, at, content.unwrap_or(NOWHERE));
            }
            Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                self.put(path, at, NOWHERE);
            }
        }
    }

    /// Puts something at a path.
    fn put(&mut self, path: u32, at: At, content: ContentAt) {
        let layer = at.layer;
        let before = self.paths[path as usize];
        let kind = self.node_at(at).kind;
        let size = self.content(content).map_or(0, |content| content.size);
        let was_dir = before.alive && self.node_at(before.now).kind.is_dir();
        if was_dir && !kind.is_dir() {
            self.empty_dir(path, layer, Cause::Replaced);
        }
        // The new name first: the same content under the same name is not lost in between.
        self.see(content, path);
        if before.alive {
            let same = match (self.content(before.content), self.content(content)) {
                (Some(old), Some(new)) => old.equals(new),
                _ => false,
            };
            let cause = if before.content.layer == layer && before.touched == layer {
                Cause::Repeated
            } else if same {
                Cause::Rewritten
            } else {
                Cause::Overwritten
            };
            self.unsee(before.content, path, layer, cause);
        }
        // What goes and comes back in one layer was changed by it.
        let is_back = !before.alive && before.touched == layer && before.born < layer;
        let old_size = self.content(before.content).map_or(0, |content| content.size);
        let was_file = !self.node_at(before.now).kind.is_dir();
        let changes = &mut self.changes[layer as usize];
        if is_back && was_file {
            changes.deleted -= 1;
            changes.deleted_size = changes.deleted_size.saturating_sub(old_size);
        }
        if !kind.is_dir() {
            if (before.alive && before.born != layer) || is_back {
                changes.changed += 1;
                changes.changed_size = changes.changed_size.saturating_add(size);
            } else {
                changes.added += 1;
                changes.added_size = changes.added_size.saturating_add(size);
            }
        }
        let is_same_dir = was_dir && kind.is_dir() && self.is_same_dir(before.now, at);
        let entry = &mut self.paths[path as usize];
        if !before.alive && !is_back {
            entry.born = layer;
        }
        (entry.alive, entry.content, entry.now) = (true, content, at);
        if !is_same_dir {
            entry.touched = layer;
        }
    }

    /// Whether a directory is listed again as it was.
    fn is_same_dir(&self, before: At, now: At) -> bool {
        let (before, now) = (self.node_at(before), self.node_at(now));
        (before.mode, before.uid, before.gid) == (now.mode, now.uid, now.gid)
    }

    fn see(&mut self, content: ContentAt, path: u32) {
        if content.content == NONE {
            return;
        }
        let fate = &mut self.fates[content.layer as usize][content.content as usize];
        fate.visible += 1;
        fate.event = NONE;
        if fate.path == NONE {
            fate.path = path;
        }
    }

    fn unsee(&mut self, content: ContentAt, path: u32, layer: u16, cause: Cause) {
        if content.content == NONE {
            return;
        }
        let fate = &mut self.fates[content.layer as usize][content.content as usize];
        fate.visible = fate.visible.saturating_sub(1);
        if fate.visible == 0 {
            let is_last =
                |event: &Event| event.path == path && event.layer == layer && event.cause == cause;
            if !self.events.last().is_some_and(is_last) {
                self.events.push(Event { path, layer, cause });
            }
            fate.event = self.events.len() as u32 - 1;
        }
    }

    /// Content that lost its only name within its own layer was never seen.
    fn settle_repeated(&mut self, layer: u16) {
        let report = self.layers[layer as usize].clone();
        for (at, content) in report.contents.iter().enumerate() {
            let fate = self.fates[layer as usize][at];
            if fate.visible > 0 || fate.event != NONE {
                continue;
            }
            let path = self.find(&report.path(content.node)).unwrap_or(ROOT);
            self.events.push(Event { path, layer, cause: Cause::Repeated });
            let fate = &mut self.fates[layer as usize][at];
            fate.event = self.events.len() as u32 - 1;
            fate.path = path;
        }
    }

    /// Takes a path away, and all that is below it.
    fn kill(&mut self, path: u32, layer: u16, cause: Cause) {
        if !self.paths[path as usize].alive {
            return;
        }
        self.end(path, path, layer, cause);
        self.end_below(path, path, layer, cause);
    }

    /// Takes away what is in a directory.
    fn empty_dir(&mut self, path: u32, layer: u16, cause: Cause) {
        self.end_below(path, path, layer, cause);
    }

    fn end_below(&mut self, path: u32, top: u32, layer: u16, cause: Cause) {
        let mut todo = vec![self.paths[path as usize].first_child];
        while let Some(mut at) = todo.pop() {
            while at != NONE {
                let child = self.paths[at as usize];
                if child.alive {
                    self.end(at, top, layer, cause);
                    todo.push(child.first_child);
                }
                at = child.next;
            }
        }
    }

    fn end(&mut self, path: u32, top: u32, layer: u16, cause: Cause) {
        let ended = self.paths[path as usize];
        if !self.node_at(ended.now).kind.is_dir() {
            let size = self.content(ended.content).map_or(0, |content| content.size);
            let changes = &mut self.changes[layer as usize];
            changes.deleted += 1;
            changes.deleted_size = changes.deleted_size.saturating_add(size);
        }
        self.unsee(ended.content, top, layer, cause);
        let entry = &mut self.paths[path as usize];
        (entry.alive, entry.touched) = (false, layer);
    }

    /// The directory that a path means, through links; none where there is no directory.
    fn dir_of(&self, path: u32) -> Option<u32> {
        let mut at = path;
        for _ in 0..LINKS_MAX {
            let here = self.paths.get(at as usize).filter(|here| here.alive)?;
            let node = self.node_at(here.now);
            if node.kind.is_dir() {
                return Some(at);
            }
            if node.kind != Kind::Symlink {
                return None;
            }
            let target = self.layers[here.now.layer as usize].link(here.now.node);
            at = self.walk(here.parent, target)?;
        }
        None
    }

    /// The same, making a directory where there is none.
    fn make_dir_of(&mut self, path: u32, at: At) -> u32 {
        if let Some(dir) = self.dir_of(path) {
            return dir;
        }
        // A link that leads nowhere makes room. The root's metadata are as good as any.
        let node = if self.node_at(at).kind.is_dir() { at.node } else { ROOT };
        self.put(path, At { layer: at.layer, node }, NOWHERE);
        path
    }

    /// Follows a path from a directory, through links of directories.
    fn walk(&self, from: u32, path: &[u8]) -> Option<u32> {
        let mut at = if path.first() == Some(&b'/') { ROOT } else { from };
        for part in path.split(|byte| *byte == b'/') {
            at = match part {
                b"" | b"." => at,
                b".." => self.paths[at as usize].parent,
                name => {
                    let found = self.lookup(at, name)?;
                    self.paths[found as usize].alive.then_some(found)?
                }
            };
        }
        Some(at)
    }

    pub(crate) fn lookup(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.table.find(parent, name, |id| (self.paths[id as usize].parent, self.name(id)))
    }

    /// The path's node, dead or alive, without following links.
    pub(crate) fn find(&self, path: &[u8]) -> Option<u32> {
        let mut at = ROOT;
        for part in path.split(|byte| *byte == b'/') {
            at = match part {
                b"" | b"." => at,
                b".." => self.paths[at as usize].parent,
                name => self.lookup(at, name)?,
            };
        }
        Some(at)
    }

    fn child(&mut self, parent: u32, name: At) -> Result<u32> {
        let report = self.layers[name.layer as usize].clone();
        let text = report.name(name.node);
        if let Some(id) = self.lookup(parent, text) {
            return Ok(id);
        }
        if self.paths.len() >= NODE_COUNT_MAX {
            return Err(Error::limit("the image has more than 64 million paths"));
        }
        let id = self.paths.len() as u32;
        let next = std::mem::replace(&mut self.paths[parent as usize].first_child, id);
        self.paths.push(Path {
            parent,
            first_child: NONE,
            next,
            name,
            now: name,
            content: NOWHERE,
            born: name.layer,
            touched: 0,
            alive: false,
        });
        let (paths, layers) = (&self.paths, &self.layers);
        self.table.add(id, parent, text, |id| {
            let path = paths[id as usize];
            (path.parent, layers[path.name.layer as usize].name(path.name.node))
        });
        Ok(id)
    }

    pub(crate) fn name(&self, path: u32) -> &[u8] {
        let name = self.paths[path as usize].name;
        self.layers[name.layer as usize].name(name.node)
    }

    pub(crate) fn node_at(&self, at: At) -> &Node {
        static EMPTY: Node = Node {
            mtime: 0,
            parent: ROOT,
            name_at: 0,
            link_at: 0,
            content: NONE,
            uid: 0,
            gid: 0,
            name_len: 0,
            link_len: 0,
            mode: 0o755,
            kind: Kind::Implied,
            flags: 0,
        };
        match self.layers.get(at.layer as usize) {
            Some(layer) => layer.node(at.node),
            None => &EMPTY,
        }
    }

    pub(crate) fn content(&self, at: ContentAt) -> Option<&Content> {
        self.layers.get(at.layer as usize)?.contents.get(at.content as usize)
    }

    fn is_dir(&self, path: u32) -> bool {
        let path = self.paths[path as usize];
        path.alive && self.node_at(path.now).kind.is_dir()
    }

    /// The whole path, without a slash at its beginning.
    pub(crate) fn full_path(&self, path: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = path;
        while at != ROOT {
            parts.push(self.name(at));
            at = self.paths[at as usize].parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}
