//! The figures that dive gives, by its own rules, for those who compare or whose limits were set
//! with it.
//!
//! For each path that is a leaf of some layer's tree: the sum of its sizes over the layers, and the
//! smallest of them. The score is the sum of the smallest by the sum of all; wasted are the sums of
//! the paths that are leaves of two layers or more. So a file written twice counts twice, and what
//! goes with its folder counts for nothing; opaque folders are not looked at. A whiteout counts
//! with the size of the folder that it takes away, if one layer listed that as a folder last.

use serde::Serialize;

use crate::image::{ratio, shown};
use crate::intern::Names;
use crate::layer::{Kind, LINKED, LayerReport, NONE, ROOT, WHITEOUT};
use crate::tree::{At, Tree};

/// dive's figures for an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiveReport {
    /// Bytes of the files in all layers.
    pub size_bytes: u64,
    /// Bytes of those in all layers but the first.
    pub user_size_bytes: u64,
    /// Bytes that dive calls wasted.
    pub inefficient_bytes: u64,
    /// dive's efficiency.
    pub efficiency_score: f64,
    /// Wasted by the size of the layers but the first.
    pub user_wasted_percent: f64,
    /// The paths that are in two layers or more, the largest first.
    pub file_reference: Vec<DivePath>,
}

/// A path that is in two layers or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DivePath {
    /// In how many.
    pub count: usize,
    /// Its sizes together.
    pub size_bytes: u64,
    /// The path.
    pub file: String,
}

/// An entry of a layer, as dive's file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiveFile {
    /// The path, without a slash at its beginning.
    pub path: String,
    /// The kind of entry: the byte of the tar's header.
    pub type_flag: u8,
    /// Where a link leads.
    pub link_name: String,
    /// Bytes of a file; none of another name.
    pub size: u64,
    /// Kind and permissions as Go's `FileMode` has them.
    pub file_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// The entries of a layer in the form that dive's file has. Deleted paths are files with a prefix.
pub fn dive_files(layer: &LayerReport) -> Vec<DiveFile> {
    let mut files = Vec::new();
    for id in 1..layer.nodes.len() as u32 {
        let node = layer.node(id);
        let path = || shown(&layer.path(id)).trim_start_matches('/').to_owned();
        if node.is(WHITEOUT) {
            let path = match path().rsplit_once('/') {
                Some((folder, name)) => format!("{folder}/.wh.{name}"),
                None => format!(".wh.{}", path()),
            };
            let mut file = DiveFile { path, type_flag: b'0', ..DiveFile::EMPTY };
            if node.kind == Kind::Nothing {
                file.file_mode = go_permissions(node.mode);
                (file.uid, file.gid) = (node.uid, node.gid);
            }
            files.push(file);
        }
        if let Some((type_flag, kind)) = go_kind(layer, id) {
            let link = match type_flag {
                b'1' => layer.first_name(id).unwrap_or_else(|| layer.link(id).to_vec()),
                _ => layer.link(id).to_vec(),
            };
            files.push(DiveFile {
                path: path(),
                type_flag,
                link_name: String::from_utf8_lossy(&link).into_owned(),
                size: first_size(layer, id),
                file_mode: kind | go_permissions(node.mode),
                uid: node.uid,
                gid: node.gid,
                is_dir: node.kind == Kind::Dir,
            });
        }
    }
    files
}

impl DiveFile {
    const EMPTY: Self = Self {
        path: String::new(),
        type_flag: 0,
        link_name: String::new(),
        size: 0,
        file_mode: 0,
        uid: 0,
        gid: 0,
        is_dir: false,
    };
}

/// The byte of the tar's header and the bits of Go's `FileMode`; none for what is no entry.
fn go_kind(layer: &LayerReport, id: u32) -> Option<(u8, u32)> {
    let node = layer.node(id);
    Some(match node.kind {
        Kind::Nothing | Kind::Implied => return None,
        Kind::LinkBelow => (b'1', 0),
        _ if node.is(LINKED) => (b'1', 0),
        Kind::File => (b'0', 0),
        Kind::Dir => (b'5', 1 << 31),
        Kind::Symlink => (b'2', 1 << 27),
        Kind::CharDevice => (b'3', 1 << 26 | 1 << 21),
        Kind::BlockDevice => (b'4', 1 << 26),
        Kind::Fifo => (b'6', 1 << 25),
    })
}

/// Go keeps set-id and sticky bits elsewhere.
fn go_permissions(mode: u16) -> u32 {
    let mode = u32::from(mode);
    let moved = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    moved.iter().filter(|(bit, _)| mode & bit != 0).fold(mode & 0o777, |all, (_, go)| all | go)
}

impl DiveReport {
    /// Computes the figures.
    pub fn of(tree: &Tree) -> Self {
        let mut stacked = Stacked::new(tree);
        for layer in 0..tree.layers.len() {
            stacked.layer(layer as u16);
        }
        let size_bytes: u64 = tree.layers.iter().map(|layer| layer.stored_size()).sum();
        let user_size_bytes = tree.layers.iter().skip(1).map(|layer| layer.stored_size()).sum();
        let (mut least, mut all, mut wasted) = (0, 0, 0);
        let mut file_reference = Vec::new();
        for (id, node) in stacked.nodes.iter().enumerate().filter(|(_, node)| node.count > 0) {
            least += node.least;
            all += node.sum;
            if node.count > 1 {
                wasted += node.sum;
                file_reference.push(DivePath {
                    count: node.count as usize,
                    size_bytes: node.sum,
                    file: shown(&stacked.path(id as u32)),
                });
            }
        }
        file_reference.sort_by(|one, other| {
            (other.size_bytes, &one.file).cmp(&(one.size_bytes, &other.file))
        });
        Self {
            size_bytes,
            user_size_bytes,
            inefficient_bytes: wasted,
            efficiency_score: ratio(least, all),
            user_wasted_percent: if user_size_bytes == 0 {
                0.0
            } else {
                ratio(wasted, user_size_bytes)
            },
            file_reference,
        }
    }
}

/// The layers laid over each other as dive does it, with what is counted for each path.
struct Stacked<'t> {
    tree: &'t Tree,
    nodes: Vec<Node>,
    table: Names,
}

struct Node {
    parent: u32,
    name: At,
    first_child: u32,
    next: u32,
    is_there: bool,
    /// What dive keeps of the entry that named the path last.
    size: u64,
    is_dir: bool,
    count: u32,
    sum: u64,
    least: u64,
}

impl<'t> Stacked<'t> {
    fn new(tree: &'t Tree) -> Self {
        let mut stacked = Self { tree, nodes: Vec::new(), table: Names::new() };
        stacked.add_node(ROOT, At { layer: 0, node: ROOT });
        stacked
    }

    fn add_node(&mut self, parent: u32, name: At) -> u32 {
        let id = self.nodes.len() as u32;
        let next = match self.nodes.get_mut(parent as usize) {
            Some(parent) => std::mem::replace(&mut parent.first_child, id),
            None => NONE,
        };
        self.nodes.push(Node {
            parent,
            name,
            first_child: NONE,
            next,
            is_there: false,
            size: 0,
            is_dir: false,
            count: 0,
            sum: 0,
            least: u64::MAX,
        });
        id
    }

    fn layer(&mut self, layer: u16) {
        let report = self.tree.layers[usize::from(layer)].clone();
        let is_parent = parents(&report);
        let mut placed = vec![NONE; report.nodes.len()];
        placed[ROOT as usize] = ROOT;
        for id in 1..report.nodes.len() as u32 {
            let node = report.node(id);
            if node.kind == Kind::Nothing && node.flags == 0 {
                continue;
            }
            let parent = placed[node.parent as usize];
            if parent == NONE {
                continue;
            }
            placed[id as usize] = self.child(parent, At { layer, node: id });
        }
        // First what is counted against the layers below, then the layer itself.
        for id in 1..report.nodes.len() as u32 {
            let (node, place) = (report.node(id), placed[id as usize]);
            if place == NONE {
                continue;
            }
            if node.is(WHITEOUT) {
                let below = &self.nodes[place as usize];
                let size = if below.is_there && below.is_dir { self.size_below(place) } else { 0 };
                self.count(place, size);
            }
            if node.kind != Kind::Nothing && !is_parent[id as usize] {
                self.count(place, first_size(&report, id));
            }
        }
        for id in 1..report.nodes.len() as u32 {
            let (node, place) = (report.node(id), placed[id as usize]);
            if place != NONE && node.is(WHITEOUT) {
                self.remove(place);
            }
        }
        for id in 1..report.nodes.len() as u32 {
            let (node, place) = (report.node(id), placed[id as usize]);
            if place == NONE || node.kind == Kind::Nothing {
                continue;
            }
            let entry = &mut self.nodes[place as usize];
            entry.is_there = true;
            entry.size = first_size(&report, id);
            entry.is_dir = node.kind == Kind::Dir;
        }
    }

    fn count(&mut self, place: u32, size: u64) {
        let node = &mut self.nodes[place as usize];
        node.count += 1;
        node.sum = node.sum.saturating_add(size);
        node.least = node.least.min(size);
    }

    fn child(&mut self, parent: u32, name: At) -> u32 {
        let (tree, nodes) = (self.tree, &self.nodes);
        let text = tree.layers[usize::from(name.layer)].name(name.node);
        let name_of = |id: u32| {
            let node = &nodes[id as usize];
            (node.parent, tree.layers[usize::from(node.name.layer)].name(node.name.node))
        };
        if let Some(id) = self.table.find(parent, text, name_of) {
            return id;
        }
        let id = self.add_node(parent, name);
        let nodes = &self.nodes;
        self.table.add(id, parent, text, |id| {
            let node = &nodes[id as usize];
            (node.parent, tree.layers[usize::from(node.name.layer)].name(node.name.node))
        });
        id
    }

    fn size_below(&self, place: u32) -> u64 {
        let mut size = 0u64;
        self.each(place, |id| {
            let node = &self.nodes[id as usize];
            if node.is_there {
                size = size.saturating_add(node.size);
            }
        });
        size
    }

    fn remove(&mut self, place: u32) {
        let mut all = Vec::new();
        self.each(place, |id| all.push(id));
        for id in all {
            self.nodes[id as usize].is_there = false;
        }
    }

    fn each(&self, place: u32, mut visit: impl FnMut(u32)) {
        visit(place);
        let mut todo = vec![self.nodes[place as usize].first_child];
        while let Some(mut at) = todo.pop() {
            while at != NONE {
                visit(at);
                todo.push(self.nodes[at as usize].first_child);
                at = self.nodes[at as usize].next;
            }
        }
    }

    fn path(&self, id: u32) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = id;
        while at != ROOT {
            let node = &self.nodes[at as usize];
            parts.push(self.tree.layers[usize::from(node.name.layer)].name(node.name.node));
            at = node.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}

/// The size that the entry itself has: another name of a file has none.
fn first_size(report: &LayerReport, id: u32) -> u64 {
    match report.content(id) {
        Some(content) if !report.node(id).is(LINKED) => content.size,
        _ => 0,
    }
}

/// Which nodes have something below them in their layer.
fn parents(report: &LayerReport) -> Vec<bool> {
    let mut is_parent = vec![false; report.nodes.len()];
    for node in report.nodes.iter().skip(1) {
        if node.kind != Kind::Nothing || node.is(WHITEOUT) {
            is_parent[node.parent as usize] = true;
        }
    }
    is_parent
}
