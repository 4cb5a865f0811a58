//! Looking for damage: rows without files, files without rows, bytes that are not what their
//! digest says.
//!
//! It changes nothing and may run while others use the store.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use conex_oci::{ChainId, Digest};

use crate::codec;
use crate::db::{Writer, rows};
use crate::error::{Error, ErrorKind, Result};
use crate::gc::list;
use crate::snapshot::SnapshotId;
use crate::store::{Inner, Store};

/// How closely a check looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckDepth {
    /// The database, and whether files and rows belong together.
    Rows,
    /// The bytes of all blobs too.
    Blobs,
    /// The files of all snapshots too: their diff IDs are computed again.
    Everything,
}

/// How far a check is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckProgress {
    /// What is looked at.
    pub what: String,
    /// How many things were looked at.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// Takes the progress of a check.
pub type OnProgress<'p> = &'p mut dyn FnMut(CheckProgress);

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// What SQLite says of the database.
    Database(String),
    /// A blob whose file is not there.
    BlobMissing(Digest),
    /// A blob whose bytes are others.
    BlobDamaged(Digest),
    /// A snapshot whose folder is not there.
    SnapshotMissing(SnapshotId, ChainId),
    /// A snapshot whose files are others.
    SnapshotDamaged(SnapshotId, ChainId),
    /// An image of which a layer is neither unpacked nor a blob.
    ImageIncomplete(Digest),
    /// A volume whose folder is not there.
    VolumeMissing(String),
    /// A cache mount whose folder is not there.
    CacheMountMissing(String),
    /// A folder of a volume or a cache mount with content, but without a row.
    Unknown(PathBuf),
    /// A file or folder that a dead process left. Harmless; the next collection removes it.
    Leftover(PathBuf),
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(text) => write!(formatter, "database is damaged: {text}"),
            Self::BlobMissing(digest) => write!(formatter, "blob `{digest}` is missing"),
            Self::BlobDamaged(digest) => write!(formatter, "blob `{digest}` has other bytes"),
            Self::SnapshotMissing(id, chain) => {
                write!(formatter, "snapshot `{id}` of layer `{chain}` is missing")
            }
            Self::SnapshotDamaged(id, chain) => {
                write!(formatter, "snapshot `{id}` of layer `{chain}` has other files")
            }
            Self::ImageIncomplete(id) => write!(formatter, "image `{id}` lacks a layer"),
            Self::VolumeMissing(name) => write!(formatter, "volume `{name}` is missing"),
            Self::CacheMountMissing(id) => write!(formatter, "cache mount `{id}` is missing"),
            Self::Unknown(path) => write!(formatter, "folder `{}` is not known", path.display()),
            Self::Leftover(path) => write!(formatter, "`{}` is left over", path.display()),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Everything that is not as it should be.
    pub damage: Vec<Damage>,
    /// How many blobs were looked at.
    pub blob_count: u64,
    /// How many snapshots were looked at.
    pub snapshot_count: u64,
}

impl CheckReport {
    /// Whether nothing is damaged. Leftovers are no damage.
    pub fn is_sound(&self) -> bool {
        self.damage.iter().all(|damage| matches!(damage, Damage::Leftover(_)))
    }
}

impl Store {
    /// Looks for damage.
    ///
    /// # Errors
    /// The store cannot be read. A damaged database is an error here only when it does not even
    /// tell what it holds ([`Corrupt`](crate::ErrorKind::Corrupt)).
    pub fn check(&self, depth: CheckDepth, progress: OnProgress<'_>) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        self.check_database(&mut report)?;
        self.inner.write("compare rows and files", |writer| {
            compare(&self.inner, writer, &mut report.damage)
        })?;
        self.check_blobs(depth, &mut report, progress)?;
        self.check_snapshots(depth, &mut report, progress)?;
        Ok(report)
    }

    fn check_database(&self, report: &mut CheckReport) -> Result<()> {
        let found = self.inner.db.read("check the database", |connection| {
            let mut found =
                rows(connection, "PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?;
            found.retain(|line| line != "ok");
            found.extend(rows(connection, "PRAGMA foreign_key_check", [], |row| {
                let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
                Ok(format!("a row of `{table}` names a row of `{parent}` that is not there"))
            })?);
            Ok(found)
        })?;
        report.damage.extend(found.into_iter().map(Damage::Database));
        Ok(())
    }

    fn check_blobs(
        &self,
        depth: CheckDepth,
        report: &mut CheckReport,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let digests = self.inner.db.read("list blobs", |connection| {
            rows(connection, "SELECT digest FROM blobs ORDER BY digest", [], |row| {
                codec::digest(row, 0)
            })
        })?;
        report.blob_count = digests.len() as u64;
        if depth < CheckDepth::Blobs {
            return Ok(());
        }
        for (done, digest) in digests.into_iter().enumerate() {
            progress(CheckProgress {
                what: format!("blob {}", digest.short()),
                done: done as u64,
                total: report.blob_count,
            });
            let read = self.open_blob(&digest).and_then(|mut reader| {
                std::io::copy(&mut reader, &mut std::io::sink())
                    .map_err(|source| Error::io("read", &self.blob_path(&digest), source))
            });
            let Err(error) = read else { continue };
            let is_damage = error.kind() == ErrorKind::Corrupt
                || is_invalid_data(&error)
                || error.kind() == ErrorKind::Io;
            let missing = Damage::BlobMissing(digest.clone());
            // What was removed meanwhile is no damage; what is missing was found before.
            if is_damage && self.has_blob(&digest)? && !report.damage.contains(&missing) {
                report.damage.push(Damage::BlobDamaged(digest));
            }
        }
        Ok(())
    }

    fn check_snapshots(
        &self,
        depth: CheckDepth,
        report: &mut CheckReport,
        progress: OnProgress<'_>,
    ) -> Result<()> {
        let ids: Vec<SnapshotId> = self.inner.db.read("list snapshots", |connection| {
            rows(connection, "SELECT id FROM snapshots ORDER BY id", [], |row| {
                codec::parsed(row, 0)
            })
        })?;
        report.snapshot_count = ids.len() as u64;
        if depth < CheckDepth::Everything {
            return Ok(());
        }
        for (done, id) in ids.into_iter().enumerate() {
            progress(CheckProgress {
                what: format!("snapshot {id}"),
                done: done as u64,
                total: report.snapshot_count,
            });
            let Some(snapshot) = self.snapshot_by_id(&id)? else { continue };
            if snapshot.stack().iter().any(|path| !path.is_dir()) {
                continue;
            }
            let is_right = crate::verify::is_right(self, &snapshot)?;
            if !is_right && self.snapshot_by_id(&id)?.is_some() {
                report.damage.push(Damage::SnapshotDamaged(id, snapshot.chain_id().clone()));
            }
        }
        Ok(())
    }
}

fn is_invalid_data(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|source| source.kind() == std::io::ErrorKind::InvalidData)
}

/// Compares rows and files both ways. The write lock keeps both still meanwhile.
fn compare(inner: &Inner, writer: &Writer<'_>, damage: &mut Vec<Damage>) -> Result<()> {
    compare_blobs(inner, writer, damage)?;
    compare_snapshots(inner, writer, damage)?;
    let incomplete = writer.rows(INCOMPLETE, [], |row| codec::digest(row, 0))?;
    damage.extend(incomplete.into_iter().map(Damage::ImageIncomplete));
    let layout = &inner.layout;
    let folders = [
        (layout.volumes(), "SELECT name, name FROM volumes", false),
        (layout.caches(), "SELECT dir, id FROM cache_mounts", true),
    ];
    for (folder, sql, is_cache) in folders {
        let known: Vec<(String, String)> =
            writer.rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (dir, name) in &known {
            if !folder.join(dir).join("_data").is_dir() {
                damage.push(if is_cache {
                    Damage::CacheMountMissing(name.clone())
                } else {
                    Damage::VolumeMissing(name.clone())
                });
            }
        }
        for name in list(&folder)? {
            if !known.iter().any(|(dir, _)| name == dir.as_str()) {
                let path = folder.join(name);
                let is_empty = fs::read_dir(path.join("_data"))
                    .map_or(true, |mut entries| entries.next().is_none());
                damage.push(if is_empty { Damage::Leftover(path) } else { Damage::Unknown(path) });
            }
        }
    }
    Ok(())
}

/// Images with a layer that is neither unpacked nor a blob.
pub(crate) const INCOMPLETE: &str = "SELECT DISTINCT image FROM image_layers l
     WHERE NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.chain_id = l.chain_id)
     AND NOT EXISTS (SELECT 1 FROM layer_blobs b WHERE b.diff_id = l.diff_id) ORDER BY image";

fn compare_blobs(inner: &Inner, writer: &Writer<'_>, damage: &mut Vec<Damage>) -> Result<()> {
    let digests =
        writer.rows("SELECT digest FROM blobs ORDER BY digest", [], |row| codec::digest(row, 0))?;
    for digest in digests {
        if !inner.layout.blob(&digest).is_file() {
            damage.push(Damage::BlobMissing(digest));
        }
    }
    for algorithm in ["sha256", "sha512"] {
        let folder = inner.layout.blobs().join(algorithm);
        for name in list(&folder)? {
            let text = format!("{algorithm}:{}", name.to_string_lossy());
            if !writer.exists("SELECT 1 FROM blobs WHERE digest = ?", [text])? {
                damage.push(Damage::Leftover(folder.join(name)));
            }
        }
    }
    Ok(())
}

fn compare_snapshots(inner: &Inner, writer: &Writer<'_>, damage: &mut Vec<Damage>) -> Result<()> {
    let known = writer.rows("SELECT id, chain_id FROM snapshots ORDER BY id", [], |row| {
        Ok((codec::parsed::<SnapshotId>(row, 0)?, codec::chain_id(row, 1)?))
    })?;
    for (id, chain_id) in known {
        if !inner.layout.snapshot(id.as_str()).join("fs").is_dir() {
            damage.push(Damage::SnapshotMissing(id, chain_id));
        }
    }
    for name in list(&inner.layout.snapshots())? {
        let text = name.to_string_lossy();
        if !writer.exists("SELECT 1 FROM snapshots WHERE id = ?", [&text])? {
            damage.push(Damage::Leftover(inner.layout.snapshots().join(&name)));
        }
    }
    Ok(())
}
