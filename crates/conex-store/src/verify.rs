//! Deciding whether the files of a snapshot are what its diff ID says, and making them durable.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use conex_layer::{ApplyOptions, Stack, WriteOptions};
use conex_oci::{Descriptor, DiffId, Hasher};
use conex_sys::dir::Dir;

use crate::db::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::TransientLock;
use crate::snapshot::{Snapshot, SnapshotId};
use crate::store::{Inner, Store};

impl Store {
    /// Writes everything of the store to the disk, and notes that snapshots and blobs need no
    /// verification after a power cut.
    ///
    /// # Errors
    /// The system cannot sync, or the rows cannot be written.
    pub fn sync(&self) -> Result<()> {
        let inner = &self.inner;
        // What is committed after this statement is for the next sync.
        let (snapshots, blobs) = inner.db.read_all("list what is not synced", |connection| {
            let text = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
            let snapshots = "SELECT id FROM snapshots WHERE synced = 0 AND boot = ?";
            let blobs = "SELECT digest FROM blobs WHERE synced = 0 AND boot = ?";
            let boot = [&inner.options.boot_id];
            Ok((rows(connection, snapshots, boot, text)?, rows(connection, blobs, boot, text)?))
        })?;
        let root = inner.layout.root();
        File::open(root)
            .and_then(conex_sys::fsinfo::sync)
            .map_err(|source| Error::io("sync", root, source))?;
        if snapshots.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        inner.write("note what is synced", |writer| {
            for id in &snapshots {
                writer.execute("UPDATE snapshots SET synced = 1 WHERE id = ?", [id])?;
            }
            for digest in &blobs {
                writer.execute("UPDATE blobs SET synced = 1 WHERE digest = ?", [digest])?;
            }
            Ok(())
        })
    }
}

/// Verifies the snapshots of a stack that are not known to be whole, bottom first. One that is
/// damaged is dropped with all that stands on it.
pub(crate) fn verify_stack(store: &Store, snapshot: &Snapshot) -> Result<bool> {
    let mut ids: Vec<SnapshotId> = snapshot.ids().cloned().collect();
    ids.reverse();
    for id in ids {
        // One process verifies, others wait for what it finds.
        let path = store.inner.layout.locks().join(format!("verify-{id}"));
        let _turn = TransientLock::wait(&path, &|| true)?;
        let Some(layer) = store.snapshot_by_id(&id)? else { return Ok(false) };
        if layer.is_trusted() {
            continue;
        }
        if !is_right(store, &layer)? {
            store.drop_snapshot(&id)?;
            return Ok(false);
        }
        trust(&store.inner, &id)?;
    }
    Ok(true)
}

/// Notes that a snapshot was found whole in this boot.
fn trust(inner: &Inner, id: &SnapshotId) -> Result<()> {
    inner.write("note what was verified", |writer| {
        writer.execute(
            "UPDATE snapshots SET boot = ? WHERE id = ?",
            (&inner.options.boot_id, id.as_str()),
        )?;
        Ok(())
    })
}

/// Whether the files of a snapshot are what its diff ID says.
///
/// The diff ID of a layer that came from outside is that of the tar as it came, which no writer
/// makes again from files. Such a layer's blob is in the store: it is unpacked once more, and both
/// trees must give the same tar.
pub(crate) fn is_right(store: &Store, snapshot: &Snapshot) -> Result<bool> {
    let stack = match open_stack(snapshot) {
        Ok(stack) => stack,
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(false),
        Err(error) => return Err(error),
    };
    let found = match diff_id(snapshot, &stack.upper, &stack.lower) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(false),
        Err(error) => return Err(error),
    };
    if found == *snapshot.diff_id() {
        return Ok(true);
    }
    for blob in store.layer_blobs(snapshot.diff_id())? {
        match unpacked_again(store, snapshot, &stack.lower, &blob) {
            Ok(Some(wanted)) => return Ok(found == wanted),
            // A damaged blob says nothing about the snapshot; it is named by its own check.
            Ok(None) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// A snapshot's folder, and the folders below it.
struct OpenStack {
    upper: Dir,
    lower: Vec<Dir>,
}

fn open_stack(snapshot: &Snapshot) -> Result<OpenStack> {
    let open = |path: &PathBuf| {
        Dir::open_ambient(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Error::damaged_snapshot(path, source)
            }
            _ => Error::io("open", path, source),
        })
    };
    let mut dirs = snapshot.stack().iter().map(open).collect::<Result<Vec<Dir>>>()?;
    if dirs.is_empty() {
        return Err(Error::not_found("snapshot", snapshot.id()));
    }
    let upper = dirs.remove(0);
    Ok(OpenStack { upper, lower: dirs })
}

/// Computes the diff ID of files. Their times are taken as they are: whoever committed them set
/// them to what the layer says.
fn diff_id(snapshot: &Snapshot, upper: &Dir, lower: &[Dir]) -> Result<DiffId> {
    let below = Stack::new(lower.to_vec(), snapshot.form());
    conex_layer::diff_id_of(upper, &below, &WriteOptions::new(snapshot.form()))
        .map(|(diff_id, _)| diff_id)
        .map_err(|source| Error::layer(snapshot.path(), source))
}

/// Unpacks a layer's blob on top of the same parents and computes the diff ID of that. None if the
/// blob is not of this layer.
fn unpacked_again(
    store: &Store,
    snapshot: &Snapshot,
    lower: &[Dir],
    blob: &Descriptor,
) -> Result<Option<DiffId>> {
    let lease = store.lease()?;
    let new = lease.begin_snapshot()?;
    let act = |source| Error::layer(new.path(), source);
    let mut reader = store.open_blob(&blob.digest)?;
    let decoder = conex_layer::Decoder::new(&mut reader).map_err(act)?;
    let mut reader = HashingReader { inner: decoder, hasher: Hasher::sha256() };
    let upper =
        Dir::open_ambient(new.path()).map_err(|source| Error::io("open", new.path(), source))?;
    let below = Stack::new(lower.to_vec(), snapshot.form());
    let mut target =
        conex_layer::Target::new(upper.clone(), below, snapshot.form()).map_err(act)?;
    conex_layer::apply_layer(&mut reader, &mut target, &ApplyOptions::new(1)).map_err(act)?;
    drop(target);
    if reader.hasher.finish() != *snapshot.diff_id().digest() {
        return Ok(None);
    }
    diff_id(snapshot, &upper, lower).map(Some)
}

/// Hashes what passes through.
struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: io::Read> io::Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
