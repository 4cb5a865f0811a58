//! Finding and removing what dead processes left behind.
//!
//! Whatever a process leaves unfinished, it leaves under its lease. So while no lease is dead there
//! is nothing to find, and looking costs a listing of two folders. When one is, the store's
//! folders are compared with its rows, under the write lock.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use conex_oci::Digest;

use crate::collect::{Garbage, Removed};
use crate::db::{Writer, rows};
use crate::error::{Error, Result};
use crate::lease::remove_folder;
use crate::lock::{Holder, TransientLock, holder};
use crate::partial::Partials;
use crate::store::{Inner, Store};

impl Store {
    /// Removes what dead processes left. Cheap when there is nothing.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn gc(&self) -> Result<Removed> {
        let inner = &self.inner;
        let partials = self.sweep_partials(Partials::Old)?;
        let dead = dead_leases(inner)?;
        if dead.is_empty() {
            return Ok(partials);
        }
        let mut removed = inner.freeing(|| {
            inner.write("remove what dead processes left", |writer| {
                let mut garbage = Garbage::new(inner, writer);
                for lease in &dead {
                    garbage.release_lease(&lease.id)?;
                }
                let removed = garbage.removed;
                sweep(inner, writer)?;
                Ok(removed)
            })
        })?;
        for lease in &dead {
            remove_folder(inner, &inner.layout.tmp().join(&lease.id));
        }
        remove_dead_locks(&inner.layout.locks())?;
        removed.merge(partials);
        Ok(removed)
    }
}

/// A lease whose process is gone. Its file, if it is there, is locked by us until the end, so that
/// two collections do not do the same work.
struct DeadLease {
    id: String,
    _lock: Option<TransientLock>,
}

/// The leases that have rows. `SELECT DISTINCT` would read every row; this jumps from one lease to
/// the next in the index.
const LEASES_WITH_ROWS: &str = "WITH RECURSIVE known (lease) AS (
        SELECT min(lease) FROM lease_refs
        UNION ALL
        SELECT (SELECT min(lease) FROM lease_refs r WHERE r.lease > known.lease) FROM known
        WHERE known.lease IS NOT NULL)
    SELECT lease FROM known WHERE lease IS NOT NULL";

fn dead_leases(inner: &Inner) -> Result<Vec<DeadLease>> {
    let mut known = BTreeSet::new();
    for folder in [inner.layout.leases(), inner.layout.tmp()] {
        // Names that are not UTF-8 are none of ours.
        known.extend(list(&folder)?.into_iter().filter_map(|name| name.into_string().ok()));
    }
    known.extend(inner.db.read("list leases", |connection| {
        rows(connection, LEASES_WITH_ROWS, [], |row| row.get(0))
    })?);
    let mut dead = Vec::new();
    for id in known {
        match holder(&inner.layout.leases().join(&id))? {
            Holder::Alive => {}
            Holder::Dead(lock) => dead.push(DeadLease { id, _lock: Some(lock) }),
            Holder::Gone => dead.push(DeadLease { id, _lock: None }),
        }
    }
    Ok(dead)
}

/// Removes blobs and snapshots without a row, and folders of cache mounts and volumes that were
/// made but never used. Folders of those with content are a person's: `check` reports them.
pub(crate) fn sweep(inner: &Inner, writer: &Writer<'_>) -> Result<()> {
    let layout = &inner.layout;
    for algorithm in ["sha256", "sha512"] {
        let folder = layout.blobs().join(algorithm);
        for name in list(&folder)? {
            let digest = name.to_str().map(|hex| format!("{algorithm}:{hex}"));
            let known = match digest.as_deref().map(str::parse::<Digest>) {
                Some(Ok(digest)) => {
                    writer.exists("SELECT 1 FROM blobs WHERE digest = ?", [digest.as_str()])?
                }
                _ => false,
            };
            if !known {
                writer.discard(folder.join(name));
            }
        }
    }
    for name in list(&layout.snapshots())? {
        let known = match name.to_str() {
            Some(id) => writer.exists("SELECT 1 FROM snapshots WHERE id = ?", [id])?,
            None => false,
        };
        if !known {
            writer.discard(layout.snapshots().join(name));
        }
    }
    sweep_unused(writer, &layout.caches(), "SELECT 1 FROM cache_mounts WHERE dir = ?")?;
    sweep_unused(writer, &layout.volumes(), "SELECT 1 FROM volumes WHERE name = ?")
}

fn sweep_unused(writer: &Writer<'_>, folder: &Path, sql: &str) -> Result<()> {
    for name in list(folder)? {
        let known = match name.to_str() {
            Some(name) => writer.exists(sql, [name])?,
            None => false,
        };
        let path = folder.join(name);
        if !known && is_empty(&path.join("_data")) {
            writer.discard(path);
        }
    }
    Ok(())
}

fn is_empty(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Lock files of steps vanish with their locks; those of killed processes stay.
fn remove_dead_locks(folder: &Path) -> Result<()> {
    for name in list(folder)? {
        // Dropping the lock removes the file.
        drop(holder(&folder.join(name))?);
    }
    Ok(())
}

/// The names in a folder; none if it is not there.
pub(crate) fn list(folder: &Path) -> Result<Vec<OsString>> {
    let act = |source| Error::io("list", folder, source);
    match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry.map_err(act)?.file_name())).collect::<Result<Vec<_>>>()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(act(source)),
    }
}

/// The paths in a folder.
pub(crate) fn list_paths(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(list(folder)?.into_iter().map(|name| folder.join(name)).collect())
}
