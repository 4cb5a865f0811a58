//! The reports on an image's layers: kept ones, or made now, several at a time.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use conex_inventory::{LayerFacts, LayerReport, Tree, instructions, scan_layer};
use conex_oci::DiffId;

use super::source::{Layer, Origin, Subject};
use crate::error::{CliError, Result};
use crate::session::Session;

/// Whether reports that were kept are used, and new ones kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// By diff ID, in the store.
    Store,
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
    /// Reads the layers of an image that are not known yet, and lays them over each other.
    pub fn of(session: &Session, subject: Subject, keeping: Keeping) -> Result<Self> {
        let reports = reports(session, &subject, keeping)?;
        let tree = Tree::of(&reports)?;
        let facts = instructions(&subject.config)
            .into_iter()
            .zip(&subject.layers)
            .map(|(created_by, layer)| LayerFacts {
                diff_id: layer.diff_id.clone(),
                created_by,
                compressed_size: layer.compressed_size,
            })
            .collect();
        Ok(Self { subject, tree, facts })
    }
}

fn reports(
    session: &Session,
    subject: &Subject,
    keeping: Keeping,
) -> Result<Vec<Arc<LayerReport>>> {
    // Without a store (a user who may keep none) every layer is read.
    let shelf = match keeping {
        Keeping::Store => Shelf::open(session).ok(),
        Keeping::Nothing => None,
    };
    let mut first_of: HashMap<&DiffId, usize> = HashMap::new();
    let mut wanted: Vec<usize> = Vec::new();
    for (at, layer) in subject.layers.iter().enumerate() {
        first_of.entry(&layer.diff_id).or_insert_with(|| {
            wanted.push(at);
            at
        });
    }
    // The largest first, so that no thread is left with it at the end.
    wanted.sort_by_key(|at| std::cmp::Reverse(size_of(&subject.layers[*at])));
    let found = Mutex::new(HashMap::new());
    let failed = Mutex::new(None);
    let next = AtomicUsize::new(0);
    let threads = crate::session::parallelism().min(wanted.len()).max(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(at) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match report(&subject.layers[*at], shelf.as_ref()) {
                        Ok(report) => {
                            lock(&found).insert(*at, report);
                        }
                        Err(error) => {
                            lock(&failed).get_or_insert(error);
                            next.store(wanted.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let found = lock(&found);
    let of = |layer: &Layer| {
        first_of
            .get(&layer.diff_id)
            .and_then(|at| found.get(at))
            .cloned()
            .ok_or_else(|| CliError::new(format!("the layer `{}` was not read", layer.diff_id)))
    };
    subject.layers.iter().map(of).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Only whole values are ever put in.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn size_of(layer: &Layer) -> u64 {
    match &layer.origin {
        Origin::Slice(slice) => slice.size,
        Origin::Blob(_, blob) => blob.size,
        Origin::Snapshot(snapshot) => snapshot.tar_size(),
        Origin::Folders(..) | Origin::Gone(_) => 0,
    }
}

fn report(layer: &Layer, shelf: Option<&Shelf>) -> Result<Arc<LayerReport>> {
    if let Origin::Gone(report) = &layer.origin {
        if let Some(shelf) = shelf {
            shelf.keep(&layer.diff_id, report);
        }
        return Ok(report.clone());
    }
    if let Some(kept) = shelf.and_then(|shelf| shelf.find(&layer.diff_id)) {
        return Ok(Arc::new(kept));
    }
    let mut input = layer.open()?;
    let scanned = scan_layer(input.as_mut(), super::stream::unnamed_file)?;
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
    Ok(Arc::new(scanned.report))
}

/// Where reports are kept, one file each, named by the diff ID.
struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    fn open(session: &Session) -> Result<Self> {
        Ok(Self { folder: session.store()?.aux_dir("layer-reports")? })
    }

    fn path(&self, diff_id: &DiffId) -> PathBuf {
        let digest = diff_id.digest();
        self.folder.join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }

    /// A report that is damaged or of another version is as good as none.
    fn find(&self, diff_id: &DiffId) -> Option<LayerReport> {
        let bytes = std::fs::read(self.path(diff_id)).ok()?;
        LayerReport::decode(&bytes).ok()
    }

    /// Keeps a report. Where that fails it is made again next time.
    fn keep(&self, diff_id: &DiffId, report: &LayerReport) {
        let path = self.path(diff_id);
        if path.exists() {
            return;
        }
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let written =
            std::fs::write(&new, report.encode()).and_then(|()| std::fs::rename(&new, &path));
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
