//! Snapshots: unpacked layers, each an overlayfs upper folder on top of its parent.
//!
//! Invariant: a snapshot with a row is whole and never changes. Its files may be younger than the
//! disk's: what was written in another boot and never synced is verified by its diff ID before a
//! lease gives it out.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use conex_layer::Form;
use conex_oci::{ChainId, DiffId};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::collect::Garbage;
use crate::db::{Writer, rows};
use crate::error::{Error, Result};
use crate::lease::{Held, Lease, random_id};
use crate::options::Timestamp;
use crate::store::{Inner, Store};
use crate::tree;

/// Most layers in a stack: Docker stops at 125, overlayfs at 500. More is a damaged parent chain.
pub const STACK_DEPTH_MAX: usize = 500;

/// Names a snapshot in this store: sixteen hexadecimal digits, drawn at random.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 16 && text.bytes().all(digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid("a snapshot ID has sixteen hexadecimal digits"))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// What the caller knows of a layer that it wrote.
#[derive(Debug, Clone)]
pub struct LayerFacts {
    /// The digest of the layer's tar: what [`conex_layer::write_layer`] gives for the folder as it
    /// is, with times as they are, or what came as a tar that is kept as the layer's blob. Else the
    /// snapshot cannot be verified after a power cut, and is dropped then.
    pub diff_id: DiffId,
    /// Bytes of that tar.
    pub tar_size: u64,
    /// Bytes on the disk; `None` lets the store measure.
    pub disk_size: Option<u64>,
    /// How the files were written.
    pub form: Form,
}

/// One unpacked layer on top of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    id: SnapshotId,
    chain_id: ChainId,
    diff_id: DiffId,
    size: u64,
    tar_size: u64,
    form: Form,
    created: Timestamp,
    is_trusted: bool,
    stack: Vec<(SnapshotId, PathBuf)>,
}

impl Snapshot {
    /// Its name in this store.
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    /// The identity of the whole stack.
    pub fn chain_id(&self) -> &ChainId {
        &self.chain_id
    }

    /// The digest of this layer's tar.
    pub fn diff_id(&self) -> &DiffId {
        &self.diff_id
    }

    /// The snapshot below, if this is not the bottom.
    pub fn parent(&self) -> Option<&SnapshotId> {
        self.stack.get(1).map(|(id, _)| id)
    }

    /// The folder of this layer.
    pub fn path(&self) -> &Path {
        self.stack.first().map_or(Path::new(""), |(_, path)| path)
    }

    /// The folders to mount, topmost first.
    pub fn stack(&self) -> Vec<PathBuf> {
        self.stack.iter().map(|(_, path)| path.clone()).collect()
    }

    /// The snapshots of the stack, topmost first.
    pub fn ids(&self) -> impl Iterator<Item = &SnapshotId> {
        self.stack.iter().map(|(id, _)| id)
    }

    /// Bytes on disk of this layer alone.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of this layer's tar.
    pub fn tar_size(&self) -> u64 {
        self.tar_size
    }

    /// How the files are written.
    pub fn form(&self) -> Form {
        self.form
    }

    /// When it was committed.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Whether all files of the stack are known to be whole: synced, or written in this boot.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }
}

/// A snapshot that is being written. Dropped without [`Lease::commit_snapshot`], it is removed.
#[derive(Debug)]
pub struct NewSnapshot {
    lease: Lease,
    folder: PathBuf,
    fs: PathBuf,
    work: PathBuf,
}

impl NewSnapshot {
    /// The folder to write the layer into: empty, mode 0755.
    pub fn path(&self) -> &Path {
        &self.fs
    }

    /// The work folder for overlayfs, on the same file system.
    pub fn work_path(&self) -> &Path {
        &self.work
    }
}

impl Drop for NewSnapshot {
    fn drop(&mut self) {
        if self.folder.exists() {
            crate::lease::remove_folder(self.lease.inner(), &self.folder);
        }
    }
}

/// Stands beside the files of a snapshot, so that a lost database can be rebuilt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotNote {
    pub(crate) parent: Option<String>,
    pub(crate) diff_id: DiffId,
    pub(crate) chain_id: ChainId,
    pub(crate) size: u64,
    pub(crate) tar_size: u64,
    #[serde(with = "codec::form_serde")]
    pub(crate) form: Form,
}

/// The file name of a [`SnapshotNote`].
pub(crate) const NOTE_NAME: &str = "snapshot.json";

impl Lease {
    /// Begins a snapshot.
    ///
    /// # Errors
    /// Its folders cannot be made.
    pub fn begin_snapshot(&self) -> Result<NewSnapshot> {
        let folder = self.shared.file.new_path("snapshot")?;
        let (fs, work) = (folder.join("fs"), folder.join("work"));
        let new = NewSnapshot { lease: self.clone(), folder, fs, work };
        let make = |path: &Path, mode| {
            fs::create_dir(path)
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
                .map_err(|source| Error::io("create", path, source))
        };
        make(&new.folder, 0o755)?;
        make(&new.fs, 0o755)?;
        match self.shared.file.take_spare_work() {
            Some(spare) => {
                fs::rename(&spare, &new.work)
                    .map_err(|source| Error::io("take", &spare, source))?;
            }
            None => make(&new.work, 0o700)?,
        }
        Ok(new)
    }

    /// Makes a written snapshot one of the store, held by this lease. If the same stack is there
    /// already, because another build was faster, that one is returned and the new one removed.
    ///
    /// # Errors
    /// The parent is not there any more, or the rows cannot be written.
    pub fn commit_snapshot(
        &self,
        new: NewSnapshot,
        parent: Option<&Snapshot>,
        facts: &LayerFacts,
    ) -> Result<Snapshot> {
        let depth = parent.map_or(0, |parent| parent.stack.len());
        if depth >= STACK_DEPTH_MAX {
            return Err(Error::invalid(format!("a stack has at most {STACK_DEPTH_MAX} layers")));
        }
        let inner = self.inner();
        let chain_id = ChainId::extend(parent.map(Snapshot::chain_id), &facts.diff_id);
        let spare = self.shared.file.new_path("work")?;
        fs::rename(&new.work, &spare)
            .map_err(|source| Error::io("move away", &new.work, source))?;
        // A volatile mount leaves a mark that makes overlayfs refuse the folder (overlayfs.rst,
        // "Volatile mount"). What may not be looked into may have one.
        let mark = fs::symlink_metadata(spare.join("work/incompat"));
        if mark.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            self.shared.file.keep_spare_work(spare);
        }
        let size = facts
            .disk_size
            .unwrap_or_else(|| tree::measure(&new.fs, &mut tree::Counted::default()).disk);
        let note = SnapshotNote {
            parent: parent.map(|parent| parent.id.0.clone()),
            diff_id: facts.diff_id.clone(),
            chain_id: chain_id.clone(),
            size,
            tar_size: facts.tar_size,
            form: facts.form,
        };
        write_note(&new.folder, &note)?;
        let id = inner.write("commit a snapshot", |writer| {
            if let Some(existing) = find(writer, &chain_id)? {
                self.hold(writer, Held::Snapshot, &existing)?;
                return Ok(existing);
            }
            let id = random_id();
            insert(inner, writer, &id, &note)?;
            writer.publish(&new.folder, &inner.layout.snapshot(&id))?;
            crate::image::refresh_sizes(writer, &chain_id)?;
            self.hold(writer, Held::Snapshot, &id)?;
            Ok(id)
        })?;
        // One that was not needed is removed now.
        drop(new);
        self.store()
            .snapshot_by_id(&SnapshotId(id))?
            .ok_or_else(|| Error::not_found("snapshot", &chain_id))
    }

    /// Holds the snapshot of a stack, verified. One that turns out to be damaged, which only a
    /// power cut can cause, is removed with all that stands on it.
    ///
    /// # Errors
    /// The rows cannot be read or written, or the verification is refused by the system.
    pub fn snapshot(&self, chain_id: &ChainId) -> Result<Option<Snapshot>> {
        // Two statements, so that a miss writes nothing.
        let Some(known) = self.store().snapshot(chain_id)? else { return Ok(None) };
        let there = self.hold_snapshots(std::slice::from_ref(&known.id))?;
        if there.is_empty() {
            return Ok(None);
        }
        if known.is_trusted || crate::verify::verify_stack(self.store(), &known)? {
            return Ok(Some(Snapshot { is_trusted: true, ..known }));
        }
        Ok(None)
    }

    /// Holds snapshots, one write for all. Returns those that are there. Unlike
    /// [`Lease::snapshot`] it verifies nothing.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn hold_snapshots(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.inner().write("hold snapshots", |writer| {
            let mut there = Vec::with_capacity(ids.len());
            for id in ids {
                if writer.exists("SELECT 1 FROM snapshots WHERE id = ?", [&id.0])? {
                    self.hold(writer, Held::Snapshot, &id.0)?;
                    there.push(id.clone());
                }
            }
            Ok(there)
        })
    }
}

impl Store {
    /// Looks for the snapshot of a stack, without holding it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn snapshot(&self, chain_id: &ChainId) -> Result<Option<Snapshot>> {
        self.load_snapshot("chain_id", chain_id.digest().as_str())
    }

    /// Looks for a snapshot by its name, without holding it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn snapshot_by_id(&self, id: &SnapshotId) -> Result<Option<Snapshot>> {
        self.load_snapshot("id", &id.0)
    }

    fn load_snapshot(&self, column: &str, value: &str) -> Result<Option<Snapshot>> {
        let inner = &self.inner;
        let rows = inner.db.read("look for a snapshot", |connection| {
            load_stack(connection, column, value, &inner.options.boot_id)
        })?;
        let stack = rows
            .iter()
            .map(|row| (SnapshotId(row.id.clone()), inner.layout.snapshot(&row.id).join("fs")))
            .collect();
        let is_trusted = rows.iter().all(|row| row.is_trusted);
        let is_whole = rows.last().is_none_or(|row| row.parent.is_none());
        if !is_whole {
            return Err(Error::damaged_row("parent chain of a snapshot", value));
        }
        Ok(rows.into_iter().next().map(|top| Snapshot {
            id: SnapshotId(top.id),
            chain_id: top.chain_id,
            diff_id: top.diff_id,
            size: top.size,
            tar_size: top.tar_size,
            form: top.form,
            created: top.created,
            is_trusted,
            stack,
        }))
    }

    /// Removes a snapshot and all that stands on it, whoever names them: build-cache records go,
    /// images keep their rows and need their layers again.
    pub(crate) fn drop_snapshot(&self, id: &SnapshotId) -> Result<()> {
        let inner = &self.inner;
        inner.write("drop a damaged snapshot", |writer| drop_tree(inner, writer, &id.0))
    }
}

/// A row of the table.
struct SnapshotRow {
    id: String,
    parent: Option<String>,
    chain_id: ChainId,
    diff_id: DiffId,
    size: u64,
    tar_size: u64,
    form: Form,
    created: Timestamp,
    is_trusted: bool,
}

/// Reads a snapshot and its parents, topmost first. A damaged chain that never ends is cut.
fn load_stack(
    connection: &Connection,
    column: &str,
    value: &str,
    boot_id: &str,
) -> rusqlite::Result<Vec<SnapshotRow>> {
    let sql = format!(
        "WITH RECURSIVE stack (depth, id) AS (
             SELECT 0, id FROM snapshots WHERE {column} = ?1
             UNION ALL
             SELECT depth + 1, s.parent FROM stack JOIN snapshots s ON s.id = stack.id
             WHERE s.parent IS NOT NULL AND depth < {STACK_DEPTH_MAX})
         SELECT s.id, s.parent, s.chain_id, s.diff_id, s.size, s.tar_size, s.form, s.created,
                s.synced OR s.boot = ?2
         FROM stack JOIN snapshots s ON s.id = stack.id ORDER BY depth"
    );
    rows(connection, &sql, (value, boot_id), |row| {
        Ok(SnapshotRow {
            id: row.get(0)?,
            parent: row.get(1)?,
            chain_id: codec::chain_id(row, 2)?,
            diff_id: codec::diff_id(row, 3)?,
            size: codec::unsigned(row, 4)?,
            tar_size: codec::unsigned(row, 5)?,
            form: codec::form(row, 6)?,
            created: Timestamp(row.get(7)?),
            is_trusted: row.get(8)?,
        })
    })
}

fn find(writer: &Writer<'_>, chain_id: &ChainId) -> Result<Option<String>> {
    let sql = "SELECT id FROM snapshots WHERE chain_id = ?";
    writer.first(sql, [chain_id.digest().as_str()], |row| row.get(0))
}

/// Writes the row of a snapshot.
pub(crate) fn insert(
    inner: &Inner,
    writer: &Writer<'_>,
    id: &str,
    note: &SnapshotNote,
) -> Result<()> {
    if let Some(parent) = &note.parent
        && !writer.exists("SELECT 1 FROM snapshots WHERE id = ?", [parent])?
    {
        return Err(Error::not_found("parent snapshot", parent));
    }
    writer.execute(
        "INSERT INTO snapshots
         (id, parent, chain_id, diff_id, size, tar_size, form, created, boot, synced)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (
            id,
            &note.parent,
            note.chain_id.digest().as_str(),
            note.diff_id.digest().as_str(),
            codec::signed(note.size),
            codec::signed(note.tar_size),
            codec::form_text(note.form),
            inner.now().0,
            &inner.options.boot_id,
        ),
    )?;
    Ok(())
}

fn write_note(folder: &Path, note: &SnapshotNote) -> Result<()> {
    let path = folder.join(NOTE_NAME);
    fs::write(&path, codec::to_json(note)).map_err(|source| Error::io("write", &path, source))
}

/// Removes a snapshot and its descendants, top first.
pub(crate) fn drop_tree(inner: &Inner, writer: &Writer<'_>, id: &str) -> Result<()> {
    let tree = writer.rows(
        "WITH RECURSIVE tree (depth, id) AS (
             SELECT 0, ?1 UNION SELECT depth + 1, s.id FROM tree
             JOIN snapshots s ON s.parent = tree.id WHERE depth < 500)
         SELECT s.id, s.diff_id FROM tree JOIN snapshots s ON s.id = tree.id ORDER BY depth DESC",
        [id],
        |row| Ok((row.get::<_, String>(0)?, codec::digest(row, 1)?)),
    )?;
    let mut garbage = Garbage::new(inner, writer);
    for (id, diff_id) in tree {
        writer.execute("DELETE FROM cache WHERE snapshot = ?", [&id])?;
        writer.execute("DELETE FROM lease_refs WHERE kind = 'snapshot' AND object = ?", [&id])?;
        writer.execute("DELETE FROM snapshots WHERE id = ?", [&id])?;
        writer.discard(inner.layout.snapshot(&id));
        garbage.release_layer(&diff_id)?;
    }
    Ok(())
}
