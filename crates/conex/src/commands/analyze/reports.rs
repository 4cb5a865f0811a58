//! The reports on an image's layers: kept ones, or made now, several at a time.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use conex_inventory::{
    LayerFacts, LayerReport, Listing, Part, Source, Tree, instructions, list_layer, scan_layer,
    settle,
};
use conex_oci::{DiffId, Digest};

use super::archive::Slice;
use super::source::{Layer, Origin, SourceOptions, Subject, stored};
use super::stream::unnamed_file;
use crate::error::{CliError, Result};
use crate::session::Session;

/// Whether reports that were kept are used, and new ones kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// By diff ID, in the store.
    Store,
    /// What lies in files is read again; what is new is kept.
    New,
    /// Each layer is read.
    Nothing,
}

/// Most reports kept: at 100 kB for a usual layer, a gigabyte. The oldest go first.
const KEPT_MAX: usize = 10_000;

/// An image whose layers were read.
pub struct Analysis {
    pub subject: Subject,
    pub tree: Tree,
    pub facts: Vec<LayerFacts>,
}

impl Analysis {
    /// Reads the layers of images that are not known yet, and lays them over each other. Equal
    /// contents are known to be equal within all of them.
    pub fn of(session: &Session, subjects: Vec<Subject>, keeping: Keeping) -> Result<Vec<Self>> {
        let layers: Vec<&Layer> = subjects.iter().flat_map(|subject| &subject.layers).collect();
        let mut reports = reports(session, &layers, keeping)?.into_iter();
        let mut all = Vec::new();
        for subject in subjects {
            let own: Vec<_> = reports.by_ref().take(subject.layers.len()).collect();
            let tree = Tree::of(&own)?;
            let facts = instructions(&subject.config)
                .into_iter()
                .zip(&subject.layers)
                .map(|(created_by, layer)| LayerFacts {
                    diff_id: layer.diff_id.clone(),
                    created_by,
                    compressed_size: layer.compressed_size,
                    source: None,
                })
                .collect();
            all.push(Self { subject, tree, facts });
        }
        Ok(all)
    }
}

/// Bytes of a layer's files, and of its packed form if it ever was packed.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub unpacked: u64,
    pub packed: Option<u64>,
}

/// The sizes of the layers of an image of the store, as analysing it gives them.
pub fn sizes(session: &Session, image: &Digest) -> Result<Vec<Sizes>> {
    let options = SourceOptions { tls_verify: true, ..SourceOptions::default() };
    let subject = stored(session, &image.to_string(), &options)?
        .ok_or_else(|| CliError::new(format!("the store has no image `{image}`")))?;
    let layers: Vec<&Layer> = subject.layers.iter().collect();
    let reports = reports(session, &layers, Keeping::Store)?;
    let size = |(layer, report): (&Layer, Arc<LayerReport>)| Sizes {
        unpacked: report.stored_size(),
        packed: layer.compressed_size,
    };
    Ok(subject.layers.iter().zip(reports).map(size).collect())
}

/// What a layer is known by: its diff ID, unless nothing is to be held against that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key<'l> {
    Named(&'l DiffId),
    /// A place in one of the archives.
    Lying((usize, u64)),
}

impl<'l> Key<'l> {
    fn of(layer: &'l Layer) -> Self {
        match &layer.origin {
            Origin::Plain(slice) => Self::Lying(slice.place()),
            _ => Self::Named(&layer.diff_id),
        }
    }
}

/// What was found out about a layer.
enum Found {
    All(Arc<LayerReport>),
    Listed(Listing, Source),
}

/// The reports on layers, in their order.
fn reports(
    session: &Session,
    layers: &[&Layer],
    keeping: Keeping,
) -> Result<Vec<Arc<LayerReport>>> {
    // Without a store (a user who may keep none) every layer is read.
    let shelf = match keeping {
        Keeping::Store | Keeping::New => Shelf::open(session, keeping).ok(),
        Keeping::Nothing => None,
    };
    let mut number_of: HashMap<Key<'_>, usize> = HashMap::new();
    let mut wanted: Vec<(&Layer, usize)> = Vec::new();
    let mut order = Vec::new();
    for layer in layers {
        let number = *number_of.entry(Key::of(layer)).or_insert_with(|| {
            wanted.push((layer, 0));
            wanted.len() - 1
        });
        wanted[number].1 += 1;
        order.push(number);
    }
    let found = read(&wanted, shelf.as_ref())?;
    let found = settled(&wanted, found)?;
    Ok(order.into_iter().map(|number| found[number].clone()).collect())
}

/// Reads layers, several at a time, the largest first: no thread is left with it at the end.
fn read(wanted: &[(&Layer, usize)], shelf: Option<&Shelf>) -> Result<Vec<Found>> {
    let mut queue: Vec<usize> = (0..wanted.len()).collect();
    queue.sort_by_key(|at| std::cmp::Reverse(size_of(wanted[*at].0)));
    let found = Mutex::new(BTreeMap::new());
    let failed = Mutex::new(None);
    let next = AtomicUsize::new(0);
    let threads = crate::session::parallelism().min(queue.len()).max(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(at) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match report(wanted[*at].0, shelf) {
                        Ok(report) => {
                            lock(&found).insert(*at, report);
                        }
                        Err(error) => {
                            lock(&failed).get_or_insert(error);
                            next.store(queue.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    match lock(&failed).take() {
        Some(error) => Err(error),
        // All of them, for none failed.
        None => Ok(std::mem::take(&mut *lock(&found)).into_values().collect()),
    }
}

/// Digests what listings left open.
fn settled(wanted: &[(&Layer, usize)], found: Vec<Found>) -> Result<Vec<Arc<LayerReport>>> {
    let part = |((_, uses), found): (&(&Layer, usize), Found)| match found {
        Found::All(report) => Part::known(report),
        Found::Listed(listing, source) => Part::listed(listing, source, *uses),
    };
    let mut parts: Vec<Part> = wanted.iter().zip(found).map(part).collect();
    settle(&mut parts, crate::session::parallelism())?;
    Ok(parts.into_iter().map(Part::into_report).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Only whole values are ever put in.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size_of(layer: &Layer) -> u64 {
    match &layer.origin {
        Origin::Slice(slice) => slice.size,
        // Its headers.
        Origin::Plain(slice) => slice.size / 8,
        Origin::Blob(_, blob) => blob.size,
        Origin::Snapshot(snapshot) => snapshot.tar_size(),
        Origin::Folders(..) | Origin::Gone(_) => 0,
    }
}

fn report(layer: &Layer, shelf: Option<&Shelf>) -> Result<Found> {
    match &layer.origin {
        Origin::Gone(report) => {
            if let Some(shelf) = shelf {
                shelf.keep(&layer.diff_id, report);
            }
            return Ok(Found::All(report.clone()));
        }
        Origin::Plain(slice) => {
            let source: Source = Arc::new(slice.clone());
            let path = shelf.and_then(|shelf| shelf.path_of(slice));
            let kept = path.as_ref().and_then(|path| std::fs::read(path).ok());
            if let Some(Ok(listing)) = kept.map(|bytes| Listing::decode(&bytes)) {
                return Ok(Found::Listed(listing, source));
            }
            let listing = list_layer(&source, slice.size, unnamed_file)?;
            if let Some((shelf, path)) = shelf.zip(path) {
                shelf.put(&path, &listing.encode());
            }
            return Ok(Found::Listed(listing, source));
        }
        _ => {}
    }
    if let Some(kept) = shelf.and_then(|shelf| shelf.find(layer)) {
        return Ok(Found::All(Arc::new(kept)));
    }
    let mut input = layer.open()?;
    let scanned = scan_layer(input.as_mut(), unnamed_file)?;
    if layer.is_exact() && scanned.diff_id != layer.diff_id {
        let message = format!(
            "a layer is not the one that the config names: `{}`, wanted `{}`",
            scanned.diff_id, layer.diff_id
        );
        return Err(CliError::new(message));
    }
    // What was not verified must not be what others are told.
    if let Some(shelf) = shelf
        && layer.is_exact()
    {
        shelf.keep(&layer.diff_id, &scanned.report);
    }
    Ok(Found::All(Arc::new(scanned.report)))
}

/// Where reports are kept, one file each, named by the diff ID, and listings.
struct Shelf {
    folder: PathBuf,
    keeping: Keeping,
    now: i64,
}

impl Shelf {
    fn open(session: &Session, keeping: Keeping) -> Result<Self> {
        let folder = session.store()?.aux_dir("layer-reports")?;
        Ok(Self { folder, keeping, now: session.now().unix_seconds() })
    }

    fn path(&self, diff_id: &DiffId) -> PathBuf {
        let digest = diff_id.digest();
        self.folder.join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// A report that is damaged or of another version is as good as none.
    fn find(&self, layer: &Layer) -> Option<LayerReport> {
        if self.keeping == Keeping::New && matches!(layer.origin, Origin::Slice(_)) {
            return None;
        }
        let bytes = std::fs::read(self.path(&layer.diff_id)).ok()?;
        LayerReport::decode(&bytes).ok()
    }

    /// Keeps a report. Where that fails it is made again next time.
    fn keep(&self, diff_id: &DiffId, report: &LayerReport) {
        let path = self.path(diff_id);
        if path.exists() {
            return;
        }
        self.put(&path, &report.encode());
    }

    /// Where the listing of what lies in a file is kept, by what the file is known by: nothing was
    /// held against a diff ID.
    fn path_of(&self, slice: &Slice) -> Option<PathBuf> {
        let name = Digest::of(slice.identity(self.now)?.as_bytes());
        Some(self.folder.join(format!("listing-{}", name.hex())))
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let written = std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        tidy(&self.folder);
    }
}

/// Removes the oldest reports where there are too many.
fn tidy(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut all: Vec<_> = entries.flatten().collect();
    if all.len() <= KEPT_MAX {
        return;
    }
    all.sort_by_key(|entry| entry.metadata().and_then(|about| about.modified()).ok());
    for entry in all.iter().take(KEPT_MAX / 10) {
        // Another process may have been faster.
        let _ = std::fs::remove_file(entry.path());
    }
}
