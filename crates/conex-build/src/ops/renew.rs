//! What a step with a cache mount sees of files that changed.
//!
//! The files of a layer bear times that are the same on every machine, mostly all one time. Many
//! programs that keep things in a cache mount (make, cargo, ninja …) look at times to know what to
//! make again, and to them a changed source would be as old as the one before: they would keep what
//! they made of that. So a step sees each file whose content is another than when one of its cache
//! mounts was last used as written now, on a layer of its own between the image and what the step
//! writes. Nothing of that layer gets into the image.
//!
//! What a cache mount was used with is remembered as lists of layers: one that led to success, and
//! those of steps that failed, were killed or are running since, any of which may have left
//! something. Files of the base image are taken to be as old as they say.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use conex_layer::{Attributes, Found, LastLink, Replace, Stack};
use conex_oci::{ChainId, DiffId, Digest};
use conex_store::{CacheMount, NewSnapshot};
use conex_sys::dir::Dir;
use conex_sys::stat::FileKind;
use serde_json::{Value, json};

use crate::engine::{Built, Engine, layer_error, store_error};
use crate::error::Error;
use crate::graph::{Op, VertexIndex};

/// Most lists of layers kept for one cache mount. With more, all that is not of the base image
/// counts as changed: more work for the step, and never a wrong result.
const LISTS_MAX: usize = 8;

/// Bytes compared at a time.
const BLOCK_SIZE: usize = 64 << 10;

/// The layers of a root file system, bottom first.
type Layers = Vec<DiffId>;

/// A use of cache mounts by a running step.
pub(crate) struct Use {
    /// The cache mount's folder, and what of the step's view was new to it.
    caches: Vec<(PathBuf, Vec<Layers>)>,
    /// What the step sees there: the root file system, or a mount's target.
    view: String,
    layers: Layers,
}

impl Engine<'_> {
    /// Notes that a step which sees `built` begins to use cache mounts. Gives the layer to put on
    /// top, if files changed since they were last used.
    pub(crate) fn renewed(
        &self,
        view: &str,
        (vertex, built): (Option<VertexIndex>, &Built),
        caches: &[(String, CacheMount)],
    ) -> Result<(Use, Option<NewSnapshot>), Error> {
        let layers = built.diff_ids.clone();
        let base_count = self.base_count(vertex).min(layers.len());
        let base = layers.get(..base_count).unwrap_or_default().to_vec();
        let mut usage = Use { caches: Vec::new(), view: view.to_owned(), layers };
        let mut known: Vec<Layers> = Vec::new();
        for (_, cache) in caches {
            let mut before = Vec::new();
            self.remember(cache.path(), view, |lists| {
                before = match lists {
                    _ if cache.is_new() => Vec::new(),
                    Some(lists) if lists.len() < LISTS_MAX => lists,
                    _ => vec![base.clone()],
                };
                let mut lists = before.clone();
                add(&mut lists, &usage.layers);
                lists
            })?;
            before.iter().for_each(|list| add(&mut known, list));
            usage.caches.push((cache.path().to_owned(), before));
        }
        known.retain(|list| *list != usage.layers);
        let layer =
            if known.is_empty() { None } else { self.layer_of_changed(built, base_count, &known)? };
        Ok((usage, layer))
    }

    /// Notes how a step that used cache mounts ended.
    pub(crate) fn used(&self, usage: &Use, outcome: Ended) -> Result<(), Error> {
        for (folder, before) in &usage.caches {
            self.remember(folder, &usage.view, |lists| {
                let mut lists = lists.unwrap_or_default();
                if outcome == Ended::Well {
                    // What the step found changed, it made again. Lists of others stay.
                    lists.retain(|list| !before.contains(list));
                }
                add(&mut lists, &usage.layers);
                lists
            })?;
        }
        Ok(())
    }

    /// How many layers of a vertex's result are those of the image that it starts from.
    fn base_count(&self, mut vertex: Option<VertexIndex>) -> usize {
        while let Some(vertex_) = vertex.and_then(|index| self.plan.vertices.get(index)) {
            if let Op::Base(base) = &vertex_.op {
                return base.config.rootfs.diff_ids.len();
            }
            vertex = vertex_.parent;
        }
        0
    }

    /// Changes what is remembered of a cache mount's use in a view; `None` is nothing.
    fn remember(
        &self,
        folder: &Path,
        view: &str,
        change: impl FnOnce(Option<Vec<Layers>>) -> Vec<Layers>,
    ) -> Result<(), Error> {
        // Content that came from elsewhere lies in another folder of the same name.
        let inode = std::fs::metadata(folder)
            .map_err(|error| Error::io("cannot look at a cache mount", error))?
            .ino();
        let step = format!("cache mount {}", folder.display());
        let key = Digest::of(step.as_bytes());
        let keep_waiting = || true;
        let _lock = self.store().lock_key(&key, &keep_waiting).map_err(store_error)?;
        let known = self.store().cache_components(&step).map_err(store_error)?;
        let known = known.map(|known| known.components).filter(|known| known["folder"] == inode);
        let mut views: BTreeMap<String, Vec<Layers>> = known
            .and_then(|mut known| serde_json::from_value(known["views"].take()).ok())
            .unwrap_or_default();
        let lists = change(views.remove(view));
        views.insert(view.to_owned(), lists);
        let value: Value = json!({ "folder": inode, "views": views });
        self.store().cache_put_components(&[(step, key, value)]).map_err(store_error)
    }

    /// Copies what is not as it was in each of other root file systems.
    fn layer_of_changed(
        &self,
        built: &Built,
        base_count: usize,
        known: &[Layers],
    ) -> Result<Option<NewSnapshot>, Error> {
        let now = &built.diff_ids;
        let shared = known.iter().map(|list| shared_count(list, now)).min().unwrap_or(0);
        let bottom = |count: usize| -> Vec<PathBuf> {
            let layers = built.layers();
            let hidden = layers.len().saturating_sub(count);
            layers.into_iter().skip(hidden).collect()
        };
        let mut before = Vec::new();
        let mut different: Vec<PathBuf> = Vec::new();
        let top = now.len().saturating_sub(shared);
        different.extend(built.layers().into_iter().take(top));
        for list in known {
            let chain = ChainId::stack(list).pop();
            let snapshot = match &chain {
                Some(chain) => self.options.lease.snapshot(chain).map_err(store_error)?,
                None => None,
            };
            let layers = match (snapshot, chain) {
                (Some(snapshot), _) => snapshot.stack(),
                (None, None) => Vec::new(),
                // It was removed; what all have in common is left to compare with.
                (None, Some(_)) => bottom(shared),
            };
            different.extend(layers.iter().take(layers.len().saturating_sub(shared)).cloned());
            before.push(self.stack_of(layers)?);
        }
        different.sort_unstable();
        different.dedup();
        let different = different.into_iter().map(|layer| self.stack_of(vec![layer]));
        let comparison = Comparison {
            now: self.stack(built)?,
            base: self.stack_of(bottom(base_count))?,
            before,
            different: different.collect::<Result<_, _>>()?,
        };
        let changed = comparison.changed()?;
        if changed.is_empty() {
            return Ok(None);
        }
        let new = self.begin()?;
        let mut target = self.target(&new, self.stack(built)?)?;
        for found in &changed {
            self.options.cancel.check()?;
            let path = found.path.as_path();
            let attributes = Attributes {
                xattrs: comparison.now.xattrs(path).map_err(layer_error)?,
                // None is the time of writing.
                mtime: None,
                ..Attributes::with_mode(found.stat.mode).owned_by(found.stat.uid, found.stat.gid)
            };
            if found.stat.kind == FileKind::Dir {
                target.put_dir(path, &attributes, Replace::SameKind).map_err(layer_error)?;
            } else {
                let mut file = comparison.now.open(path).map_err(layer_error)?;
                let put = target.put_file(path, &attributes, &mut file, Replace::SameKind);
                put.map_err(layer_error)?;
            }
        }
        Ok(Some(new))
    }

    fn stack_of(&self, layers: Vec<PathBuf>) -> Result<Stack, Error> {
        let open = |path: PathBuf| {
            let opened = Dir::open_ambient(&path);
            opened.map_err(|source| Error::io("cannot open a layer", source))
        };
        let layers = layers.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Stack::new(layers, self.options.form))
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Badly,
}

fn add(lists: &mut Vec<Layers>, list: &Layers) {
    if !lists.contains(list) {
        lists.push(list.clone());
    }
}

/// How many layers two lists begin with.
fn shared_count(one: &[DiffId], other: &[DiffId]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Looks for what is not as it was.
struct Comparison {
    now: Stack,
    /// The image that `now` starts from.
    base: Stack,
    before: Vec<Stack>,
    /// Each layer that not all of `now` and `before` begin with, alone. A folder that is in none of
    /// them is the same in all.
    different: Vec<Stack>,
}

impl Comparison {
    /// Files that differ or were not there, folders with other names in them; those of the base
    /// image are left out.
    fn changed(&self) -> Result<Vec<Found>, Error> {
        let mut changed = Vec::new();
        let mut folders = vec![(PathBuf::new(), Novelty::Perhaps)];
        while let Some((folder, novelty)) = folders.pop() {
            let entries = self.now.read_dir(&folder).map_err(layer_error)?;
            let is_of_base = find(&self.base, &folder).is_some_and(|was| was.stat.is_dir());
            let base = is_of_base.then_some(&self.base);
            for entry in &entries {
                let path = folder.join(&entry.name);
                match entry.kind {
                    FileKind::Dir => match self.novelty(&path, novelty) {
                        Some(novelty) => folders.push((path, novelty)),
                        None => continue,
                    },
                    FileKind::File => changed.extend(self.file(&path, novelty, base)?),
                    _ => {}
                }
            }
            if folder.as_os_str().is_empty() {
                continue;
            }
            let has_other_names = || {
                self.before.iter().any(|before| match before.read_dir(&folder) {
                    Ok(known) => {
                        !known.iter().map(|entry| &entry.name).eq(entries.iter().map(|e| &e.name))
                    }
                    Err(_) => true,
                })
            };
            if !is_of_base && (novelty == Novelty::Sure || has_other_names()) {
                changed.extend(find(&self.now, &folder));
            }
        }
        // Folders first: what is put into them makes them new anyway, and they must be there.
        changed.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(changed)
    }

    /// What is known of a folder's content; none if nothing in it can differ.
    fn novelty(&self, folder: &Path, above: Novelty) -> Option<Novelty> {
        let was_folder = |before: &Stack| find(before, folder).is_some_and(|was| was.stat.is_dir());
        if above == Novelty::Sure || !self.before.iter().all(was_folder) {
            return Some(Novelty::Sure);
        }
        let holds = |layer: &Stack| !matches!(layer.find(folder, LastLink::Keep), Ok(None));
        self.different.iter().any(holds).then_some(Novelty::Perhaps)
    }

    /// A file that differs; `base` is the image that `now` starts from, if it has the folder.
    fn file(
        &self,
        path: &Path,
        novelty: Novelty,
        base: Option<&Stack>,
    ) -> Result<Option<Found>, Error> {
        let Some(now) = find(&self.now, path) else { return Ok(None) };
        if now.stat.kind != FileKind::File {
            return Ok(None);
        }
        let base = base.and_then(|base| find(base, path));
        let is_of_base = base.is_some_and(|base| is_one_file(&now, &base));
        if is_of_base {
            return Ok(None);
        }
        if novelty == Novelty::Sure {
            return Ok(Some(now));
        }
        for before in &self.before {
            let Some(was) = find(before, path) else { return Ok(Some(now)) };
            if is_one_file(&now, &was) {
                continue;
            }
            let is_alike = was.stat.kind == FileKind::File && was.stat.size == now.stat.size;
            if !is_alike || !self.has_same_content(path, before)? {
                return Ok(Some(now));
            }
        }
        Ok(None)
    }

    fn has_same_content(&self, path: &Path, before: &Stack) -> Result<bool, Error> {
        let mut now = self.now.open(path).map_err(layer_error)?;
        let mut was = before.open(path).map_err(layer_error)?;
        let failed = |error| Error::io("cannot compare files of two layers", error);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        loop {
            for (file, block) in [(&mut now, &mut one), (&mut was, &mut other)] {
                block.clear();
                file.take(BLOCK_SIZE as u64).read_to_end(block).map_err(failed)?;
            }
            if one != other {
                return Ok(false);
            }
            if one.is_empty() {
                return Ok(true);
            }
        }
    }
}

/// Whether a folder is known to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Novelty {
    Sure,
    Perhaps,
}

/// What a path is. Where a file stands in the place of a folder above, it is nothing.
fn find(stack: &Stack, path: &Path) -> Option<Found> {
    stack.find(path, LastLink::Keep).ok().flatten()
}

fn is_one_file(one: &Found, other: &Found) -> bool {
    (one.stat.device, one.stat.inode) == (other.stat.device, other.stat.inode)
}
