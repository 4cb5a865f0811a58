//! Leases: how a living process keeps what it uses.
//!
//! A lease is a file `leases/<id>` that its process holds locked, rows that name what is used, and
//! a folder `tmp/<id>` for what is not finished. Invariant: while the file is locked, nothing that
//! the rows name and nothing in the folder is removed; when it is not, a collection removes both.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use conex_oci::Digest;

use crate::collect::Garbage;
use crate::db::Writer;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::lock::TransientLock;
use crate::store::{Inner, Store};
use crate::tree;

/// The right to use things in the store for as long as this value lives. Cheap to clone; the lease
/// ends with the last clone.
#[derive(Clone)]
pub struct Lease {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) file: LeaseFile,
}

/// What kind of thing a row of a lease names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Blob,
    Snapshot,
    Image,
}

impl Held {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Snapshot => "snapshot",
            Self::Image => "image",
        }
    }
}

impl Store {
    /// Begins a lease.
    ///
    /// # Errors
    /// The lease's file cannot be made.
    pub fn lease(&self) -> Result<Lease> {
        let file = LeaseFile::create(&self.inner.layout)?;
        Ok(Lease { shared: Arc::new(Shared { store: self.clone(), file }) })
    }
}

impl Lease {
    /// The store that the lease is of.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The name of the lease's file and folder.
    pub fn id(&self) -> &str {
        &self.shared.file.id
    }

    /// A new path in the lease's own folder for what is not finished; nothing is there yet. The
    /// folder goes with the lease.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn temporary_path(&self) -> Result<PathBuf> {
        self.shared.file.new_path("tmp")
    }

    /// Keeps an image (or an index) with its layers. Returns whether it is there.
    ///
    /// # Errors
    /// The row cannot be written.
    pub fn hold_image(&self, id: &Digest) -> Result<bool> {
        self.inner().write("hold an image", |writer| {
            let there = writer.exists("SELECT 1 FROM images WHERE id = ?", [id.as_str()])?;
            if there {
                self.shared.file.hold(writer, Held::Image, id.as_str())?;
            }
            Ok(there)
        })
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.shared.store.inner
    }

    pub(crate) fn hold(&self, writer: &Writer<'_>, kind: Held, object: &str) -> Result<()> {
        self.shared.file.hold(writer, kind, object)
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lease").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What stays is found by the next collection: the lease's lock is free by then.
        let _ = end(&self.store.inner, &mut self.file);
    }
}

/// The locked file of a lease, and its folder.
pub(crate) struct LeaseFile {
    pub(crate) id: String,
    tmp: PathBuf,
    has_rows: AtomicBool,
    has_folder: AtomicBool,
    sequence: AtomicU64,
    /// Work folders of snapshots that are committed, for the next ones: overlayfs cleans what it
    /// finds in one, and removing a folder can wait milliseconds for a busy file system.
    spare_works: Mutex<Vec<PathBuf>>,
    _lock: TransientLock,
}

impl LeaseFile {
    pub(crate) fn create(layout: &Layout) -> Result<Self> {
        loop {
            let id = random_id();
            let path = layout.leases().join(&id);
            // Two processes that draw one ID meet in the lock; the second draws again, as does who
            // met a collection.
            let Some(lock) = TransientLock::claim(&path)? else { continue };
            return Ok(Self {
                tmp: layout.tmp().join(&id),
                id,
                has_rows: AtomicBool::new(false),
                has_folder: AtomicBool::new(false),
                sequence: AtomicU64::new(0),
                spare_works: Mutex::default(),
                _lock: lock,
            });
        }
    }

    /// A path in the lease's folder that was not given out before.
    pub(crate) fn new_path(&self, what: &str) -> Result<PathBuf> {
        if !self.has_folder.load(Ordering::Acquire) {
            fs::create_dir_all(&self.tmp)
                .map_err(|source| Error::io("create", &self.tmp, source))?;
            self.has_folder.store(true, Ordering::Release);
        }
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        Ok(self.tmp.join(format!("{what}-{number}")))
    }

    pub(crate) fn take_spare_work(&self) -> Option<PathBuf> {
        self.spare_works.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(crate) fn keep_spare_work(&self, path: PathBuf) {
        self.spare_works.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }

    pub(crate) fn hold(&self, writer: &Writer<'_>, kind: Held, object: &str) -> Result<()> {
        self.has_rows.store(true, Ordering::Release);
        writer.execute(
            "INSERT OR IGNORE INTO lease_refs (lease, kind, object) VALUES (?, ?, ?)",
            (&self.id, kind.name(), object),
        )?;
        Ok(())
    }
}

/// Ends a lease: drops its rows, what only it kept, and its folder.
pub(crate) fn end(inner: &Inner, lease: &mut LeaseFile) -> Result<()> {
    if *lease.has_rows.get_mut() {
        inner.freeing(|| {
            inner.write("end a lease", |writer| {
                let mut garbage = Garbage::new(inner, writer);
                garbage.release_lease(&lease.id)?;
                Ok(())
            })
        })?;
    }
    // Removing rows can bury what they kept in this lease's own folder: remove the folder last.
    if lease.has_folder.load(Ordering::Acquire) {
        remove_folder(inner, &lease.tmp);
    }
    Ok(())
}

/// Removes the folder of a lease that ended. What cannot be removed now stays for a later
/// collection.
pub(crate) fn remove_folder(inner: &Inner, path: &Path) {
    let _ = tree::remove(path, inner.options.tree_remover.as_ref());
}

/// Draws an ID of 64 random bits: unique without asking anybody.
pub(crate) fn random_id() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The keys of `RandomState` come from the kernel's random numbers.
    format!("{:016x}", std::collections::hash_map::RandomState::new().build_hasher().finish())
}
