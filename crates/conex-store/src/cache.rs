//! The build cache: flat keys, each with the result of one step; and what keys were made of, so
//! that a miss can be explained.
//!
//! It does not know what a key means: keys are digests of everything that can influence a result.

use std::collections::BTreeMap;

use conex_oci::{ChainId, DiffId, Digest};
use rusqlite::Connection;
use serde_json::Value;

use crate::codec;
use crate::db::{first, rows};
use crate::error::Result;
use crate::lock::{KeepWaiting, TransientLock};
use crate::options::Timestamp;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// How many steps are remembered for explanations: more than anybody's projects have, and a few
/// megabytes.
const STEP_COUNT_MAX: u32 = 10_000;

/// The result of a step, to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCacheRecord {
    /// What kind of step (`run`, `copy`, `source`, `mount`).
    pub kind: String,
    /// What a person reads in listings (`RUN make`).
    pub description: String,
    /// The snapshot that the step made, if it made one.
    pub snapshot: Option<SnapshotId>,
    /// Whatever else the builder needs to use the result.
    pub result: Value,
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRecord {
    /// What kind of step.
    pub kind: String,
    /// What a person reads in listings.
    pub description: String,
    /// The snapshot that the step made, if it made one. Hold it before use.
    pub snapshot: Option<CacheSnapshot>,
    /// Whatever else the builder needs to use the result.
    pub result: Value,
    /// When it was kept.
    pub created: Timestamp,
    /// When it last served.
    pub last_used: Timestamp,
    /// How often it served.
    pub hits: u64,
}

/// The snapshot of a record, by all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// Its name in the store.
    pub id: SnapshotId,
    /// The identity of its stack.
    pub chain_id: ChainId,
    /// The digest of its layer.
    pub diff_id: DiffId,
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheEntry {
    /// The key.
    pub key: Digest,
    /// The record.
    pub record: CacheRecord,
    /// Bytes on disk of its snapshot.
    pub size: u64,
    /// Whether something else keeps the snapshot too: an image, another record, or a layer on top.
    pub is_shared: bool,
    /// Whether a living process uses the snapshot.
    pub is_in_use: bool,
}

/// What the key of a step was made of when the step last ran.
#[derive(Debug, Clone, PartialEq)]
pub struct StepComponents {
    /// The key.
    pub key: Digest,
    /// Its components, as the builder wrote them.
    pub components: Value,
    /// When.
    pub updated: Timestamp,
}

/// The right to run the step of a key; other processes wait for it.
#[derive(Debug)]
pub struct KeyLock {
    _lock: TransientLock,
}

const COLUMNS: &str = "c.key, c.kind, c.description, c.snapshot, s.chain_id, s.diff_id, c.result,
                       c.created, c.last_used, c.hits";

impl Store {
    /// Looks for a record.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn cache_get(&self, key: &Digest) -> Result<Option<CacheRecord>> {
        Ok(self.cache_get_many(std::slice::from_ref(key))?.remove(key))
    }

    /// Looks for many records with one statement.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn cache_get_many(&self, keys: &[Digest]) -> Result<BTreeMap<Digest, CacheRecord>> {
        if keys.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys = codec::to_json(&keys);
        self.inner.db.read("look into the build cache", |connection| {
            let sql = format!(
                "SELECT {COLUMNS} FROM json_each(?1) k JOIN cache c ON c.key = k.value
                 LEFT JOIN snapshots s ON s.id = c.snapshot"
            );
            let list = rows(connection, &sql, [&keys], record)?;
            Ok(list.into_iter().collect())
        })
    }

    /// Keeps a record. One with the same key is replaced; a snapshot that only it named goes.
    ///
    /// # Errors
    /// The snapshot is not in the store, or the row cannot be written.
    pub fn cache_put(&self, key: &Digest, record: &NewCacheRecord) -> Result<()> {
        let inner = &self.inner;
        inner.write("keep a build-cache record", |writer| {
            let old = writer.first(
                "SELECT snapshot FROM cache WHERE key = ?",
                [key.as_str()],
                |row| row.get::<_, Option<String>>(0),
            )?;
            let snapshot = record.snapshot.as_ref().map(SnapshotId::as_str);
            if let Some(id) = snapshot
                && !writer.exists("SELECT 1 FROM snapshots WHERE id = ?", [id])?
            {
                return Err(crate::Error::not_found("snapshot", id));
            }
            let now = inner.now().0;
            writer.execute(
                "INSERT INTO cache
                 (key, kind, snapshot, description, result, created, last_used, hits)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 0)
                 ON CONFLICT (key) DO UPDATE SET kind = ?2, snapshot = ?3, description = ?4,
                 result = ?5, created = ?6, last_used = ?6",
                (
                    key.as_str(),
                    &record.kind,
                    snapshot,
                    &record.description,
                    codec::to_json(&record.result),
                    now,
                ),
            )?;
            match old.flatten() {
                Some(old) if Some(old.as_str()) != snapshot => {
                    crate::collect::Garbage::new(inner, writer).release_snapshot(&old)
                }
                _ => Ok(()),
            }
        })
    }

    /// Notes that records served, one write for all.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn cache_touch(&self, keys: &[Digest]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let inner = &self.inner;
        inner.write("note uses of the build cache", |writer| {
            writer.execute(
                "UPDATE cache SET hits = hits + 1, last_used = max(last_used, ?2)
                 WHERE key IN (SELECT value FROM json_each(?1))",
                (codec::to_json(&keys), inner.now().0),
            )?;
            Ok(())
        })
    }

    /// All records with what they take up, the latest used first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn cache_list(&self) -> Result<Vec<CacheEntry>> {
        self.inner.db.read("list the build cache", list)
    }

    /// What the key of a step was made of when the step last ran.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn cache_components(&self, step: &str) -> Result<Option<StepComponents>> {
        self.inner.db.read("read a step's components", |connection| {
            let sql = "SELECT key, components, updated FROM cache_steps WHERE step = ?";
            first(connection, sql, [step], |row| {
                Ok(StepComponents {
                    key: codec::digest(row, 0)?,
                    components: codec::json(row, 1)?,
                    updated: Timestamp(row.get(2)?),
                })
            })
        })
    }

    /// Remembers what the keys of steps (by identity) are made of, one write for all.
    ///
    /// # Errors
    /// The rows cannot be written.
    pub fn cache_put_components(&self, steps: &[(String, Digest, Value)]) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let inner = &self.inner;
        inner.write("remember steps", |writer| {
            for (step, key, components) in steps {
                writer.execute(
                    "INSERT OR REPLACE INTO cache_steps (step, key, components, updated)
                     VALUES (?, ?, ?, ?)",
                    (step, key.as_str(), codec::to_json(components), inner.now().0),
                )?;
            }
            writer.execute(
                "DELETE FROM cache_steps WHERE step IN
                 (SELECT step FROM cache_steps ORDER BY updated DESC LIMIT -1 OFFSET ?)",
                [STEP_COUNT_MAX],
            )?;
            Ok(())
        })
    }

    /// Waits until no other process (or thread) has the step of a key, and takes it. Look for the
    /// record again then: the other one may have kept it.
    ///
    /// # Errors
    /// The wait was stopped ([`Canceled`](crate::ErrorKind::Canceled)), or the lock is refused.
    pub fn lock_key(&self, key: &Digest, keep_waiting: KeepWaiting<'_>) -> Result<KeyLock> {
        let path = self.inner.layout.locks().join(key.hex());
        Ok(KeyLock { _lock: TransientLock::wait(&path, keep_waiting)? })
    }

    /// Takes the step of a key if nobody has it.
    ///
    /// # Errors
    /// The lock is refused.
    pub fn try_lock_key(&self, key: &Digest) -> Result<Option<KeyLock>> {
        let path = self.inner.layout.locks().join(key.hex());
        Ok(TransientLock::try_acquire(&path)?.map(|lock| KeyLock { _lock: lock }))
    }
}

fn record(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Digest, CacheRecord)> {
    let snapshot = match codec::parsed_optional(row, 3)? {
        Some(id) => Some(CacheSnapshot {
            id,
            chain_id: codec::chain_id(row, 4)?,
            diff_id: codec::diff_id(row, 5)?,
        }),
        None => None,
    };
    let record = CacheRecord {
        kind: row.get(1)?,
        description: row.get(2)?,
        snapshot,
        result: codec::json(row, 6)?,
        created: Timestamp(row.get(7)?),
        last_used: Timestamp(row.get(8)?),
        hits: codec::unsigned(row, 9)?,
    };
    Ok((codec::digest(row, 0)?, record))
}

pub(crate) fn list(connection: &Connection) -> rusqlite::Result<Vec<CacheEntry>> {
    let sql = format!(
        "SELECT {COLUMNS}, COALESCE(s.size, 0),
            EXISTS (SELECT 1 FROM image_layers l WHERE l.chain_id = s.chain_id)
            OR EXISTS (SELECT 1 FROM snapshots p WHERE p.parent = s.id)
            OR EXISTS (SELECT 1 FROM cache o WHERE o.snapshot = s.id AND o.key <> c.key),
            EXISTS (SELECT 1 FROM lease_refs r WHERE r.kind = 'snapshot' AND r.object = s.id)
         FROM cache c LEFT JOIN snapshots s ON s.id = c.snapshot
         ORDER BY c.last_used DESC, c.key"
    );
    rows(connection, &sql, [], |row| {
        let (key, record) = record(row)?;
        let size = codec::unsigned(row, 10)?;
        Ok(CacheEntry { key, record, size, is_shared: row.get(11)?, is_in_use: row.get(12)? })
    })
}
