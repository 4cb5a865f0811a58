//! The report on an image: its layers, what they waste, what is large, left over or dangerous.
//!
//! Waste is exact by definition: the bytes of all files in all layers, minus the bytes of the files
//! that are there at the end, each content counted once however many names it has. So the rows of
//! [`ImageReport::waste`] add up to [`ImageReport::wasted_size`]. Equal files that are there at the
//! end are counted apart ([`ImageReport::duplicate_size`]): they are seen, so they are no waste in
//! this sense.

use std::collections::{BTreeMap, HashMap, HashSet};

use conex_oci::{DiffId, ImageConfig};
use serde::Serialize;

use crate::caches::{self, CACHE_KINDS};
use crate::layer::{CAPABLE, Kind, NONE, ROOT, UNKNOWN};
use crate::packages::PackageList;
use crate::suggest::{self, Suggestion};
use crate::tree::{Cause, Changes, ContentAt, Tree};

/// Version of the document that [`ImageReport`] is written as. Grows when a field changes its
/// meaning or goes; new fields may come at any time.
pub const SCHEMA_VERSION: u32 = 1;

/// What is known of a layer without looking into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerFacts {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The instruction that made it, as the image's history has it.
    pub created_by: String,
    /// Bytes as it is stored and shipped, if it was ever packed.
    pub compressed_size: Option<u64>,
    /// The line of the file that the image was made from, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
}

/// A line of the file that an image was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceLine {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

impl std::fmt::Display for SourceLine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)
    }
}

/// The instruction that made each layer. Layers beyond the history get an empty one.
pub fn instructions(config: &ImageConfig) -> Vec<String> {
    let mut made = config.history.iter().filter(|step| !step.empty_layer);
    let next = |_| made.next().map_or_else(String::new, |step| step.created_by.clone());
    config.rootfs.diff_ids.iter().map(next).collect()
}

/// How much is listed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows of each list; totals count everything.
    pub rows: usize,
}

/// A layer, and what it did to the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerRow {
    /// Its number, from 0.
    pub index: usize,
    /// What was known before.
    #[serde(flatten)]
    pub facts: LayerFacts,
    /// Bytes of its tar.
    pub tar_size: u64,
    /// Bytes of the files in it.
    pub size: u64,
    /// Of these, bytes that are not there at the end.
    pub wasted_size: u64,
    /// What it adds, changes and deletes.
    #[serde(flatten)]
    pub changes: ChangeRow,
}

/// [`Changes`] in a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeRow {
    /// Files where nothing was.
    pub added: u64,
    /// Files where something was.
    pub changed: u64,
    /// Files that it takes away.
    pub deleted: u64,
    /// Bytes of each.
    pub added_size: u64,
    /// Bytes of files where something was.
    pub changed_size: u64,
    /// Bytes of files that it takes away.
    pub deleted_size: u64,
}

impl From<Changes> for ChangeRow {
    fn from(changes: Changes) -> Self {
        let Changes { added, changed, deleted, added_size, changed_size, deleted_size } = changes;
        Self { added, changed, deleted, added_size, changed_size, deleted_size }
    }
}

/// A path that bytes are wasted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waste {
    /// The file, or the topmost folder that went with all in it.
    pub path: String,
    /// Bytes wasted.
    pub size: u64,
    /// Files in it that are wasted.
    pub files: u64,
    /// How it came about.
    pub steps: Vec<WasteStep>,
}

/// Bytes that one layer stores and another hides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WasteStep {
    /// What happened.
    pub cause: &'static str,
    /// The layer that stores them.
    pub stored_in: usize,
    /// The layer that hides them.
    pub hidden_by: usize,
    /// Bytes.
    pub size: u64,
    /// Files.
    pub files: u64,
}

/// Equal files that are there at the end, not as names of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Duplicate {
    /// Bytes of each.
    pub size: u64,
    /// How many there are.
    pub copies: usize,
    /// The layer of the last of them, which could be left out.
    pub layer: usize,
    /// Bytes that one of them would save.
    pub wasted_size: u64,
    /// Where they are.
    pub paths: Vec<String>,
}

/// What a package manager or compiler left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheRow {
    /// The kind: `apt`, `pip`, `docs` …
    pub kind: &'static str,
    /// The same in words.
    pub what: &'static str,
    /// Bytes that are there at the end.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// The folders, the largest first, and their sizes.
    pub folders: Vec<Sized>,
    /// The layer that brought most of it.
    pub layer: usize,
}

/// A path and how large it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sized {
    /// The path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The layer that it comes from; of a folder, the last that touched it.
    pub layer: usize,
}

/// A file that deserves a second look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notable {
    /// The path.
    pub path: String,
    /// As `ls -l` writes it.
    pub mode: String,
    /// Owner and group.
    pub owner: String,
    /// The layer that it comes from.
    pub layer: usize,
}

/// Files that deserve a second look, and how many there are of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotableList {
    /// How many there are.
    pub count: usize,
    /// The first of them by path.
    pub files: Vec<Notable>,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The layers, the lowest first.
    pub layers: Vec<LayerRow>,
    /// Bytes of the layers as stored and shipped; none unless all were ever packed.
    pub compressed_size: Option<u64>,
    /// Bytes of the layers' tars.
    pub tar_size: u64,
    /// Bytes of the files in all layers.
    pub stored_size: u64,
    /// Bytes of the files that are there at the end.
    pub visible_size: u64,
    /// The difference.
    pub wasted_size: u64,
    /// `visible_size / stored_size`; 1 where nothing is stored.
    pub efficiency: f64,
    /// Bytes of all layers but the first.
    pub user_size: u64,
    /// Files and other things that are no folders, at the end.
    pub files: u64,
    /// Folders at the end.
    pub folders: u64,
    /// Bytes wasted, by cause.
    pub causes: BTreeMap<&'static str, u64>,
    /// Bytes wasted, by path, the most first.
    pub waste: Vec<Waste>,
    /// How many such paths there are.
    pub waste_count: usize,
    /// Bytes that equal files take more than one of each would.
    pub duplicate_size: u64,
    /// Equal files, the most bytes first.
    pub duplicates: Vec<Duplicate>,
    /// What was left behind, the most first.
    pub caches: Vec<CacheRow>,
    /// The largest files.
    pub largest_files: Vec<Sized>,
    /// The largest folders, with all that is in them.
    pub largest_folders: Vec<Sized>,
    /// Files that run as their owner or group.
    pub setuid: NotableList,
    /// Files with capabilities of their own.
    pub capable: NotableList,
    /// Files and folders that everybody may write, sticky folders left out.
    pub world_writable: NotableList,
    /// Files of numbers that the image's accounts do not have.
    pub odd_owners: NotableList,
    /// How many packages each manager installed.
    pub packages: BTreeMap<&'static str, usize>,
    /// Package databases that are there and could not be read, with the reason.
    pub unread_databases: Vec<String>,
    /// What to change, the most bytes first.
    pub suggestions: Vec<Suggestion>,
}

impl ImageReport {
    /// Looks at an image. `facts` are those of the tree's layers.
    pub fn of(tree: &Tree, facts: &[LayerFacts], limits: Limits) -> Self {
        let survey = Survey::of(tree, limits.rows);
        let stored_size = sum(tree.layers.iter().map(|layer| layer.stored_size()));
        let (waste, waste_count, causes, by_layer) = waste(tree, limits.rows);
        let wasted_size = sum(causes.values().copied());
        let visible_size = stored_size.saturating_sub(wasted_size);
        let (duplicate_size, duplicates) = duplicates(tree, limits.rows);
        let layers: Vec<LayerRow> = tree
            .layers
            .iter()
            .zip(facts)
            .enumerate()
            .map(|(index, (layer, facts))| LayerRow {
                index,
                facts: facts.clone(),
                tar_size: layer.tar_size(),
                size: layer.stored_size(),
                wasted_size: by_layer.get(index).copied().unwrap_or(0),
                changes: tree.changes[index].into(),
            })
            .collect();
        let list = PackageList::of(tree);
        let mut packages = BTreeMap::new();
        for installed in &list.packages {
            *packages.entry(installed.package.manager.word()).or_insert(0) += 1;
        }
        let mut report = Self {
            schema_version: SCHEMA_VERSION,
            compressed_size: facts.iter().map(|layer| layer.compressed_size).sum(),
            tar_size: sum(layers.iter().map(|layer| layer.tar_size)),
            user_size: sum(layers.iter().skip(1).map(|layer| layer.size)),
            layers,
            stored_size,
            visible_size,
            wasted_size,
            efficiency: ratio(visible_size, stored_size),
            files: survey.files,
            folders: survey.folders,
            causes,
            waste,
            waste_count,
            duplicate_size,
            duplicates,
            caches: survey.caches,
            largest_files: survey.largest_files,
            largest_folders: survey.largest_folders,
            setuid: survey.setuid,
            capable: survey.capable,
            world_writable: survey.world_writable,
            odd_owners: survey.odd_owners,
            packages,
            unread_databases: list.unread,
            suggestions: Vec::new(),
        };
        report.suggestions = suggest::suggestions(&report);
        report
    }
}

/// The part that is not lost.
#[allow(clippy::cast_precision_loss)] // Shown with a few digits.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// A path as it is shown.
pub(crate) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// The mode as `ls -l` writes it.
pub fn mode_text(kind: Kind, mode: u16) -> String {
    let mut text = String::with_capacity(10);
    text.push(kind.letter());
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    text
}

type WasteFound = (Vec<Waste>, usize, BTreeMap<&'static str, u64>, Vec<u64>);

/// What is stored and not seen, by path, by cause and by the layer that stores it.
fn waste(tree: &Tree, rows: usize) -> WasteFound {
    #[derive(Default)]
    struct Row {
        size: u64,
        files: u64,
        steps: BTreeMap<(usize, usize, Cause), (u64, u64)>,
    }
    let mut by_path: HashMap<u32, Row> = HashMap::new();
    let mut causes: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut by_layer = vec![0u64; tree.layers.len()];
    for (layer, fates) in tree.fates.iter().enumerate() {
        for (fate, content) in fates.iter().zip(&tree.layers[layer].contents) {
            let Some(event) = tree.events.get(fate.event as usize) else { continue };
            by_layer[layer] = by_layer[layer].saturating_add(content.size);
            let row = by_path.entry(event.path).or_default();
            row.size = row.size.saturating_add(content.size);
            row.files += 1;
            let step = (layer, usize::from(event.layer), event.cause);
            let step = row.steps.entry(step).or_default();
            *step = (step.0.saturating_add(content.size), step.1 + 1);
            let cause = causes.entry(event.cause.word()).or_default();
            *cause = cause.saturating_add(content.size);
        }
    }
    let mut found: Vec<(u32, Row)> = by_path.into_iter().filter(|(_, row)| row.size > 0).collect();
    found.sort_unstable_by_key(|(path, row)| (std::cmp::Reverse(row.size), *path));
    let count = found.len();
    found.truncate(rows);
    let step = |((stored_in, hidden_by, cause), (size, files)): (_, (u64, u64))| {
        let cause: Cause = cause;
        WasteStep { cause: cause.word(), stored_in, hidden_by, size, files }
    };
    let waste = found
        .into_iter()
        .map(|(path, row)| Waste {
            path: shown(&tree.full_path(path)),
            size: row.size,
            files: row.files,
            steps: row.steps.into_iter().map(step).collect(),
        })
        .collect();
    (waste, count, causes, by_layer)
}

/// Equal contents that are seen at the end. The beginning of each digest is enough to sort most of
/// them by, which keeps a million files in sixteen megabytes.
fn duplicates(tree: &Tree, rows: usize) -> (u64, Vec<Duplicate>) {
    let key = |at: ContentAt| tree.content(at).map(|content| (content.digest, content.size));
    let mut seen: Vec<(u64, ContentAt)> = Vec::new();
    for (layer, fates) in tree.fates.iter().enumerate() {
        for (at, fate) in fates.iter().enumerate() {
            let content = &tree.layers[layer].contents[at];
            if fate.visible > 0 && content.size > 0 && content.digest != UNKNOWN {
                let start = content.digest.iter().take(8);
                let start = start.fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                seen.push((start, ContentAt { layer: layer as u16, content: at as u32 }));
            }
        }
    }
    seen.sort_unstable_by(|one, other| {
        let order = one.0.cmp(&other.0);
        order.then_with(|| (key(one.1), one.1).cmp(&(key(other.1), other.1)))
    });
    let is_same = |one: &(u64, ContentAt), other: &(u64, ContentAt)| {
        one.0 == other.0 && key(one.1) == key(other.1)
    };
    let mut groups: Vec<&[(u64, ContentAt)]> =
        seen.chunk_by(is_same).filter(|group| group.len() > 1).collect();
    let size = |group: &[(u64, ContentAt)]| {
        group.first().and_then(|one| key(one.1)).map_or(0, |(_, size)| size)
    };
    let cost = |group: &[(u64, ContentAt)]| (group.len() as u64 - 1).saturating_mul(size(group));
    let total = sum(groups.iter().map(|group| cost(group)));
    groups.sort_by_key(|group| (std::cmp::Reverse(cost(group)), group[0].0));
    groups.truncate(rows);
    let wanted: HashMap<ContentAt, usize> = groups
        .iter()
        .enumerate()
        .flat_map(|(number, group)| group.iter().map(move |one| (one.1, number)))
        .collect();
    let mut paths: Vec<Vec<String>> = vec![Vec::new(); groups.len()];
    let mut named: HashSet<ContentAt> = HashSet::new();
    for (id, path) in tree.paths.iter().enumerate() {
        if path.alive
            && let Some(number) = wanted.get(&path.content)
            && named.insert(path.content)
        {
            paths[*number].push(shown(&tree.full_path(id as u32)));
        }
    }
    let duplicates = groups
        .iter()
        .zip(paths)
        .map(|(group, mut paths)| {
            paths.sort();
            let (size, copies) = (size(group), group.len());
            let layer = group.iter().map(|one| one.1.layer).max().map_or(0, usize::from);
            Duplicate { size, copies, layer, wasted_size: cost(group), paths }
        })
        .collect();
    (total, duplicates)
}

/// What one walk over the tree finds.
#[derive(Default)]
struct Survey {
    files: u64,
    folders: u64,
    caches: Vec<CacheRow>,
    largest_files: Vec<Sized>,
    largest_folders: Vec<Sized>,
    setuid: NotableList,
    capable: NotableList,
    world_writable: NotableList,
    odd_owners: NotableList,
}

impl Survey {
    fn of(tree: &Tree, rows: usize) -> Self {
        let mut survey = Self::default();
        let sizes = Sizes::of(tree);
        let accounts = accounts(tree);
        let mut caches: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let (mut files, mut folders) = (Top::new(rows), Top::new(rows));
        let mut lists = [const { Vec::new() }; 4];
        let mut in_cache = vec![false; tree.paths.len()];
        for (id, path) in tree.paths.iter().enumerate() {
            let at = id as u32;
            if !path.alive {
                continue;
            }
            in_cache[id] = in_cache[path.parent as usize];
            let node = tree.node_at(path.now);
            if node.kind.is_dir() {
                survey.folders += u64::from(at != ROOT);
                folders.add(sizes.below[id], at);
                if !in_cache[id]
                    && at != ROOT
                    && let Some(kind) = caches::kind_of(&tree.full_path(at))
                {
                    in_cache[id] = true;
                    caches.entry(kind).or_default().push(at);
                }
            } else {
                survey.files += 1;
                files.add(tree.content(path.content).map_or(0, |content| content.size), at);
            }
            let is_link = node.kind == Kind::Symlink;
            let is_open =
                node.mode & 0o002 != 0 && !(node.kind.is_dir() && node.mode & 0o1000 != 0);
            let marks = [
                node.kind == Kind::File && node.mode & 0o6000 != 0,
                node.flags & CAPABLE != 0,
                is_open && matches!(node.kind, Kind::File | Kind::Dir),
                !is_link
                    && accounts.as_ref().is_some_and(|known| {
                        !known.0.contains(&node.uid) || !known.1.contains(&node.gid)
                    }),
            ];
            for (list, is_one) in lists.iter_mut().zip(marks) {
                if is_one {
                    list.push(at);
                }
            }
        }
        survey.largest_files = files.rows(tree);
        // The root is the whole image.
        survey.largest_folders = folders.rows(tree).into_iter().filter(|f| f.path != "/").collect();
        let [setuid, capable, open, odd] = lists.map(|list| notable(tree, list, rows));
        survey.setuid = setuid;
        survey.capable = capable;
        survey.world_writable = open;
        survey.odd_owners = odd;
        survey.caches = cache_rows(tree, &sizes, caches, rows);
        survey
    }
}

fn cache_rows(
    tree: &Tree,
    sizes: &Sizes,
    caches: BTreeMap<usize, Vec<u32>>,
    rows: usize,
) -> Vec<CacheRow> {
    let mut found: Vec<CacheRow> = Vec::new();
    for (kind, mut folders) in caches {
        folders.sort_by_key(|at| std::cmp::Reverse(sizes.below[*at as usize]));
        let size = sum(folders.iter().map(|at| sizes.below[*at as usize]));
        let files = folders.iter().map(|at| u64::from(sizes.files[*at as usize])).sum();
        if size == 0 {
            continue;
        }
        let kind = &CACHE_KINDS[kind];
        let folders: Vec<Sized> = folders
            .iter()
            .take(rows)
            .map(|at| sized(tree, *at, sizes.below[*at as usize]))
            .collect();
        let layer = folders.first().map_or(0, |folder| folder.layer);
        found.push(CacheRow { kind: kind.name, what: kind.what, size, files, folders, layer });
    }
    found.sort_by_key(|row| std::cmp::Reverse(row.size));
    found
}

fn sized(tree: &Tree, at: u32, size: u64) -> Sized {
    // A folder's own entry says little: the last layer that put something in it says more.
    let mut layer = tree.paths[at as usize].now.layer;
    if tree.node_at(tree.paths[at as usize].now).kind.is_dir() {
        let mut todo = vec![tree.paths[at as usize].first_child];
        while let Some(mut child) = todo.pop() {
            while child != NONE {
                let path = tree.paths[child as usize];
                if path.alive {
                    layer = layer.max(path.now.layer);
                    todo.push(path.first_child);
                }
                child = path.next;
            }
        }
    }
    Sized { path: shown(&tree.full_path(at)), size, layer: usize::from(layer) }
}

fn notable(tree: &Tree, list: Vec<u32>, rows: usize) -> NotableList {
    let count = list.len();
    let mut named: Vec<(Vec<u8>, u32)> =
        list.into_iter().map(|at| (tree.full_path(at), at)).collect();
    named.sort_unstable();
    named.truncate(rows);
    let files = named
        .into_iter()
        .map(|(path, at)| {
            let now = tree.paths[at as usize].now;
            let node = tree.node_at(now);
            Notable {
                path: shown(&path),
                mode: mode_text(node.kind, node.mode),
                owner: format!("{}:{}", node.uid, node.gid),
                layer: usize::from(now.layer),
            }
        })
        .collect();
    NotableList { count, files }
}

/// The numbers of users and groups that the image knows, if it has both files.
fn accounts(tree: &Tree) -> Option<(HashSet<u32>, HashSet<u32>)> {
    let of = |path: &str| {
        let found = tree.paths[tree.find(path.as_bytes())? as usize];
        let report = tree.layers.get(usize::from(found.now.layer)).filter(|_| found.alive)?;
        let file = report.accounts.iter().find(|file| file.node == found.now.node)?;
        Some(file.ids.iter().copied().chain([0]).collect())
    };
    Some((of("etc/passwd")?, of("etc/group")?))
}

/// The largest so far.
struct Top {
    rows: usize,
    heap: std::collections::BinaryHeap<std::cmp::Reverse<(u64, u32)>>,
}

impl Top {
    fn new(rows: usize) -> Self {
        Self { rows, heap: std::collections::BinaryHeap::new() }
    }

    fn add(&mut self, size: u64, at: u32) {
        if size == 0 {
            return;
        }
        // Of equal sizes the first path wins.
        self.heap.push(std::cmp::Reverse((size, u32::MAX - at)));
        if self.heap.len() > self.rows {
            self.heap.pop();
        }
    }

    fn rows(self, tree: &Tree) -> Vec<Sized> {
        let mut found: Vec<(u64, u32)> = self.heap.into_iter().map(|one| one.0).collect();
        found.sort_unstable_by_key(|one| std::cmp::Reverse(*one));
        found.into_iter().map(|(size, at)| sized(tree, u32::MAX - at, size)).collect()
    }
}

/// Bytes and files at and below each path, each content counted at its first live name.
pub(crate) struct Sizes {
    pub(crate) below: Vec<u64>,
    pub(crate) files: Vec<u32>,
}

impl Sizes {
    pub(crate) fn of(tree: &Tree) -> Self {
        let mut below = vec![0u64; tree.paths.len()];
        let mut files = vec![0u32; tree.paths.len()];
        let mut counted: Vec<Vec<bool>> =
            tree.fates.iter().map(|fates| vec![false; fates.len()]).collect();
        for (id, path) in tree.paths.iter().enumerate().filter(|(_, path)| path.alive) {
            if tree.node_at(path.now).kind.is_dir() {
                continue;
            }
            files[id] = 1;
            if let Some(content) = tree.content(path.content) {
                let place = &mut counted[usize::from(path.content.layer)];
                if !std::mem::replace(&mut place[path.content.content as usize], true) {
                    below[id] = content.size;
                }
            }
        }
        for id in (1..tree.paths.len()).rev() {
            let path = &tree.paths[id];
            if path.alive {
                let parent = path.parent as usize;
                below[parent] = below[parent].saturating_add(below[id]);
                files[parent] = files[parent].saturating_add(files[id]);
            }
        }
        Self { below, files }
    }
}
