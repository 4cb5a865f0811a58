//! Making a new database when the old one is damaged: first from the rows that can still be read,
//! then from the files, which say most of it themselves.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use conex_oci::{ChainId, Digest, Hasher, ImageConfig, Index, Manifest, MediaType};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::codec;
use crate::db::{Database, Writer};
use crate::error::{Error, Result};
use crate::gc::{list, list_paths};
use crate::image::{ImageSource, LocalIndex, NewImage, NewIndex};
use crate::layout::Layout;
use crate::lease::Lease;
use crate::snapshot::{self, NOTE_NAME, SnapshotNote};
use crate::store::{Inner, Store};

/// The tables, each after those that it refers to. Leases are of processes that are gone.
const TABLES: [&str; 13] = [
    "blobs",
    "snapshots",
    "layer_blobs",
    "images",
    "image_layers",
    "manifests",
    "index_entries",
    "repo_digests",
    "tags",
    "tag_history",
    "cache",
    "cache_mounts",
    "volumes",
];

/// Largest note of a snapshot that is read; ours have a few hundred bytes.
const NOTE_SIZE_MAX: u64 = 64 << 10;

/// Moves a damaged database aside and makes a new one with the rows that can still be read.
/// Returns where the old one lies.
pub(crate) fn replace_database(layout: &Layout) -> Result<PathBuf> {
    let old = layout.database();
    let aside = (1..)
        .map(|number| layout.root().join(format!("conex.db.damaged-{number}")))
        .find(|path| !path.exists())
        .expect("some number is free");
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (with_suffix(&old, suffix), with_suffix(&aside, suffix));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("move aside", &from, error));
            }
            _ => {}
        }
    }
    let database = Database::open(layout)?;
    salvage(&aside, &database)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies every row that can be read and that fits. Each table until its first damage; a row that
/// names another that was lost is left out.
fn salvage(aside: &Path, database: &Database) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(old) = Connection::open_with_flags(aside, flags) else { return Ok(()) };
    for table in TABLES {
        let columns = database.read("read the format", |connection| {
            let mut statement =
                connection.prepare("SELECT name FROM pragma_table_info(?) ORDER BY cid")?;
            statement
                .query_map([table], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let list = columns.join(", ");
        let Ok(mut statement) = old.prepare(&format!("SELECT {list} FROM {table}")) else {
            continue;
        };
        let marks = vec!["?"; columns.len()].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {table} ({list}) VALUES ({marks})");
        let Ok(mut found) = statement.query([]) else { continue };
        let mut values: Vec<Vec<Value>> = Vec::new();
        while let Ok(Some(row)) = found.next() {
            let row: rusqlite::Result<Vec<Value>> =
                (0..columns.len()).map(|at| row.get(at)).collect();
            values.extend(row.ok());
        }
        insert_salvaged(database, &insert, &values)?;
    }
    Ok(())
}

/// Inserts rows until none fits any more: a snapshot fits only after its parent.
fn insert_salvaged(database: &Database, insert: &str, values: &[Vec<Value>]) -> Result<()> {
    let mut pending: Vec<&Vec<Value>> = values.iter().collect();
    loop {
        let count = pending.len();
        database.write("rebuild rows", &mut |_| {}, |writer| {
            pending.retain(|row| {
                writer.execute(insert, rusqlite::params_from_iter(row.iter())).is_err()
            });
            Ok(())
        })?;
        if pending.is_empty() || pending.len() == count {
            return Ok(());
        }
    }
}

/// Takes what lies in the folders without a row into the database.
pub(crate) fn adopt(store: &Store) -> Result<()> {
    adopt_blobs(store)?;
    adopt_snapshots(&store.inner)?;
    adopt_folders(&store.inner)?;
    adopt_images(store)
}

fn adopt_blobs(store: &Store) -> Result<()> {
    let inner = &store.inner;
    for algorithm in ["sha256", "sha512"] {
        for path in list_paths(&inner.layout.blobs().join(algorithm))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(digest) = format!("{algorithm}:{name}").parse::<Digest>() else { continue };
            if store.has_blob(&digest)? {
                continue;
            }
            let Some(size) = verified_size(&path, &digest)? else { continue };
            inner.write("adopt a blob", |writer| {
                writer.execute(
                    "INSERT OR IGNORE INTO blobs (digest, size, created, boot, synced)
                     VALUES (?, ?, ?, '', 1)",
                    (digest.as_str(), codec::signed(size), inner.now().0),
                )
            })?;
        }
    }
    Ok(())
}

/// The size of a file, if its bytes have the digest.
fn verified_size(path: &Path, digest: &Digest) -> Result<Option<u64>> {
    let mut hasher = Hasher::new(digest.algorithm());
    let size = File::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut hasher))
        .map_err(|source| Error::io("read", path, source))?;
    Ok((hasher.finish() == *digest).then_some(size))
}

/// Adopts snapshots that have a note, parents first. Their files are verified before their first
/// use, as they belong to no boot.
fn adopt_snapshots(inner: &Inner) -> Result<()> {
    let mut notes = Vec::new();
    for name in list(&inner.layout.snapshots())? {
        let Ok(id) = name.to_string_lossy().parse::<snapshot::SnapshotId>() else { continue };
        if let Some(note) = read_note(&inner.layout.snapshot(id.as_str()).join(NOTE_NAME)) {
            notes.push((id, note));
        }
    }
    loop {
        let count = notes.len();
        inner.write("adopt snapshots", |writer| {
            let mut left = Vec::new();
            for (id, note) in notes.drain(..) {
                if !adopt_snapshot(inner, writer, &id, &note)? {
                    left.push((id, note));
                }
            }
            notes = left;
            Ok(())
        })?;
        if notes.is_empty() || notes.len() == count {
            return Ok(());
        }
    }
}

fn read_note(path: &Path) -> Option<SnapshotNote> {
    let size = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    if size > NOTE_SIZE_MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Adopts one snapshot. Returns false when its parent is not there (yet), or its note is wrong.
fn adopt_snapshot(
    inner: &Inner,
    writer: &Writer<'_>,
    id: &snapshot::SnapshotId,
    note: &SnapshotNote,
) -> Result<bool> {
    let known = "SELECT 1 FROM snapshots WHERE id = ? OR chain_id = ?";
    if writer.exists(known, (id.as_str(), note.chain_id.0.as_str()))? {
        return Ok(true);
    }
    let parent = match &note.parent {
        None => None,
        Some(parent) => {
            let sql = "SELECT chain_id FROM snapshots WHERE id = ?";
            let found = writer.first(sql, [parent], |row| codec::chain_id(row, 0))?;
            let Some(found) = found else { return Ok(false) };
            Some(found)
        }
    };
    if ChainId::extend(parent.as_ref(), &note.diff_id) != note.chain_id {
        return Ok(false);
    }
    snapshot::insert(inner, writer, id.as_str(), note)?;
    writer.execute("UPDATE snapshots SET boot = '' WHERE id = ?", [id.as_str()])?;
    Ok(true)
}

pub(crate) fn adopt_folders(inner: &Inner) -> Result<()> {
    let now = inner.now().0;
    for name in list(&inner.layout.volumes())? {
        let Some(name) = name.to_str().filter(|name| crate::volume::check_name(name).is_ok())
        else {
            continue;
        };
        inner.write("adopt a volume", |writer| {
            writer.execute(
                "INSERT OR IGNORE INTO volumes (name, labels, options, created)
                 VALUES (?, '{}', '{}', ?)",
                (name, now),
            )
        })?;
    }
    for name in list(&inner.layout.caches())? {
        let Some(dir) = name.to_str() else { continue };
        let path = inner.layout.caches().join(dir);
        let id = fs::read_to_string(path.join("id")).unwrap_or_else(|_| dir.to_owned());
        inner.write("adopt a cache mount", |writer| {
            writer.execute(
                "INSERT OR IGNORE INTO cache_mounts (dir, id, created, last_used)
                 VALUES (?1, ?2, ?3, ?3)",
                (dir, id, now),
            )
        })?;
    }
    Ok(())
}

/// Makes records of the manifests, configs and indexes among the blobs. What is incomplete stays
/// without a record.
fn adopt_images(store: &Store) -> Result<()> {
    let lease = store.lease()?;
    let mut configs = Vec::new();
    let mut indexes = Vec::new();
    for (digest, bytes) in documents(store)? {
        if let Ok(manifest) = Manifest::parse(&bytes) {
            adopt_manifest(&lease, &manifest, &bytes)?;
        } else if Index::parse(&bytes).is_ok() || local_index(&bytes).is_some() {
            indexes.push((digest, bytes));
        } else if ImageConfig::parse(&bytes).is_ok_and(|c| c.rootfs.kind == "layers") {
            configs.push((digest, bytes));
        }
    }
    for (digest, bytes) in configs {
        if store.image(&digest)?.is_none() {
            let source = ImageSource::Built;
            skip_incomplete(lease.put_image(&NewImage { config: &bytes, manifest: None, source }))?;
        }
    }
    for (digest, bytes) in indexes {
        if store.image(&digest)?.is_some() {
            continue;
        }
        let index = match local_index(&bytes) {
            Some(list) => NewIndex::Local {
                images: list.images.into_iter().map(|e| (e.platform, e.image)).collect(),
                source: ImageSource::Built,
            },
            None => NewIndex::Original { bytes: &bytes, source: ImageSource::Loaded },
        };
        skip_incomplete(lease.put_index(&index))?;
    }
    Ok(())
}

/// Reads an index of the kind that [`LOCAL_INDEX_TYPE`](crate::LOCAL_INDEX_TYPE) names.
fn local_index(bytes: &[u8]) -> Option<LocalIndex> {
    serde_json::from_slice(bytes).ok()
}

/// The blobs that begin as JSON objects and are small enough to be documents.
fn documents(store: &Store) -> Result<Vec<(Digest, Vec<u8>)>> {
    let digests = store.inner.db.read("list blobs", |connection| {
        let sql = "SELECT digest FROM blobs WHERE size <= ? ORDER BY digest";
        crate::db::rows(connection, sql, [codec::signed(conex_oci::MANIFEST_SIZE_MAX)], |row| {
            codec::digest(row, 0)
        })
    })?;
    let mut documents = Vec::new();
    for digest in digests {
        match store.read_blob(&digest) {
            Ok(bytes) if bytes.first() == Some(&b'{') => documents.push((digest, bytes)),
            // Damaged blobs are dealt with one by one after this.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(documents)
}

fn adopt_manifest(lease: &Lease, manifest: &Manifest, bytes: &[u8]) -> Result<()> {
    let store = lease.store();
    if !store.has_blob(&manifest.config.digest)? {
        return Ok(());
    }
    let Ok(config) = store.read_blob(&manifest.config.digest) else { return Ok(()) };
    let Ok(parsed) = ImageConfig::parse(&config) else { return Ok(()) };
    if parsed.rootfs.diff_ids.len() != manifest.layers.len() {
        return Ok(());
    }
    for (diff_id, layer) in parsed.rootfs.diff_ids.iter().zip(&manifest.layers) {
        if store.blob_size(&layer.digest)? == Some(layer.size) {
            lease.put_layer_blob(diff_id, layer)?;
        }
    }
    let media_type: MediaType = manifest.media_type.clone();
    let image = NewImage {
        config: &config,
        manifest: Some((media_type, bytes)),
        source: ImageSource::Loaded,
    };
    skip_incomplete(lease.put_image(&image))
}

fn skip_incomplete<T>(result: Result<T>) -> Result<()> {
    match result {
        Err(error)
            if matches!(error.kind(), crate::ErrorKind::NotFound | crate::ErrorKind::Invalid) =>
        {
            Ok(())
        }
        result => result.map(|_| ()),
    }
}
