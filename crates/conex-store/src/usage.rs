//! What the store takes up on the disk, counted as `du` counts.

use std::path::{Path, PathBuf};

use crate::codec;
use crate::db::rows;
use crate::error::Result;
use crate::gc::list_paths;
use crate::store::Store;
use crate::tree::{Counted, measure};

/// What one kind of things takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many things.
    pub count: u64,
    /// How many of them are used: tagged images, records and volumes that a living process uses.
    pub active: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that a prune of this kind alone would free.
    pub reclaimable: u64,
}

/// What the store takes up. The bytes of all parts together are what `du` counts for the folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Images: their snapshots and blobs.
    pub images: Usage,
    /// Build cache: snapshots that no image has.
    pub cache: Usage,
    /// Volumes.
    pub volumes: Usage,
    /// Cache mounts.
    pub cache_mounts: Usage,
    /// Everything else: the database, unfinished work, stat caches, the folders themselves.
    pub overhead_bytes: u64,
    /// Of the images' bytes, those of layers that several images share.
    pub shared_bytes: u64,
    /// Files and folders that could not be looked into, so that sizes are too small.
    pub unreadable: u64,
}

impl DiskUsage {
    /// All bytes.
    pub fn total_bytes(&self) -> u64 {
        let kinds = [self.images, self.cache, self.volumes, self.cache_mounts];
        kinds.iter().map(|usage| usage.bytes).fold(self.overhead_bytes, u64::saturating_add)
    }
}

/// What the rows say about a snapshot.
struct SnapshotUse {
    id: String,
    image_count: u64,
    has_tagged: bool,
    in_use: bool,
}

impl Store {
    /// Measures the store: looks at every file.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn df(&self) -> Result<DiskUsage> {
        let layout = &self.inner.layout;
        let mut usage = DiskUsage::default();
        let mut counted = Counted::default();
        self.count_rows(&mut usage)?;
        for snapshot in self.snapshot_uses()? {
            let size = measure(&layout.snapshot(&snapshot.id), &mut counted).disk;
            let kind = if snapshot.image_count > 0 { &mut usage.images } else { &mut usage.cache };
            kind.bytes += size;
            if !snapshot.has_tagged && !snapshot.in_use {
                kind.reclaimable += size;
            }
            if snapshot.image_count > 1 {
                usage.shared_bytes += size;
            }
        }
        let reclaimable = self.reclaimable_blobs()?;
        for algorithm in ["sha256", "sha512"] {
            for path in list_paths(&layout.blobs().join(algorithm))? {
                let size = measure(&path, &mut counted).disk;
                usage.images.bytes += size;
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if reclaimable.contains(&format!("{algorithm}:{name}")) {
                    usage.images.reclaimable += size;
                }
            }
        }
        for volume in self.volumes()? {
            let folder = volume.path.parent().unwrap_or(&volume.path).to_owned();
            let in_use = is_locked(&folder)?;
            let size = measure(&folder, &mut counted).disk;
            add(&mut usage.volumes, size, in_use);
        }
        for mount in self.cache_mounts()? {
            let folder = mount.path.parent().unwrap_or(&mount.path).to_owned();
            let size = measure(&folder, &mut counted).disk;
            add(&mut usage.cache_mounts, size, mount.is_in_use);
        }
        let whole = measure(layout.root(), &mut Counted::default());
        usage.overhead_bytes = whole.disk.saturating_sub(usage.total_bytes());
        usage.unreadable = whole.unreadable;
        Ok(usage)
    }

    fn count_rows(&self, usage: &mut DiskUsage) -> Result<()> {
        let counts = self.inner.db.read_all("count rows", |connection| {
            let sql = "SELECT (SELECT count(*) FROM images),
                (SELECT count(DISTINCT image) FROM tags),
                (SELECT count(*) FROM cache),
                (SELECT count(*) FROM cache c WHERE EXISTS (SELECT 1 FROM lease_refs r
                    WHERE r.kind = 'snapshot' AND r.object = c.snapshot))";
            rows(connection, sql, [], |row| {
                let number = |at| codec::unsigned(row, at);
                Ok([number(0)?, number(1)?, number(2)?, number(3)?])
            })
        })?;
        if let Some([images, tagged, records, in_use]) = counts.first() {
            usage.images.count = *images;
            usage.images.active = *tagged;
            usage.cache.count = *records;
            usage.cache.active = *in_use;
        }
        Ok(())
    }

    /// Every snapshot, with how many images have it: an image has its layers' snapshots, which are
    /// the whole stack, as each layer's chain ID is a row of the image.
    fn snapshot_uses(&self) -> Result<Vec<SnapshotUse>> {
        self.inner.db.read("measure snapshots", |connection| {
            let sql = "SELECT s.id,
                (SELECT count(*) FROM image_layers l WHERE l.chain_id = s.chain_id),
                EXISTS (SELECT 1 FROM image_layers l WHERE l.chain_id = s.chain_id
                    AND (EXISTS (SELECT 1 FROM tags t WHERE t.image = l.image)
                         OR EXISTS (SELECT 1 FROM index_entries e WHERE e.image = l.image))),
                EXISTS (SELECT 1 FROM lease_refs r WHERE r.kind = 'snapshot' AND r.object = s.id)
                FROM snapshots s ORDER BY s.id";
            rows(connection, sql, [], |row| {
                Ok(SnapshotUse {
                    id: row.get(0)?,
                    image_count: codec::unsigned(row, 1)?,
                    has_tagged: row.get(2)?,
                    in_use: row.get(3)?,
                })
            })
        })
    }

    /// Blobs that only untagged images have.
    fn reclaimable_blobs(&self) -> Result<std::collections::BTreeSet<String>> {
        let list = self.inner.db.read("measure blobs", |connection| {
            let sql = "WITH kept (image) AS (
                    SELECT image FROM tags UNION SELECT image FROM index_entries
                    UNION SELECT object FROM lease_refs WHERE kind = 'image')
                SELECT digest FROM blobs b WHERE b.digest NOT IN (SELECT image FROM kept
                        WHERE image IS NOT NULL)
                    AND NOT EXISTS (SELECT 1 FROM manifests m JOIN kept ON kept.image = m.image
                        WHERE m.digest = b.digest)
                    AND NOT EXISTS (SELECT 1 FROM layer_blobs y JOIN image_layers l
                        ON l.diff_id = y.diff_id JOIN kept ON kept.image = l.image
                        WHERE y.digest = b.digest)
                    AND NOT EXISTS (SELECT 1 FROM lease_refs r
                        WHERE r.kind = 'blob' AND r.object = b.digest)";
            rows(connection, sql, [], |row| row.get(0))
        })?;
        Ok(list.into_iter().collect())
    }
}

fn add(usage: &mut Usage, bytes: u64, in_use: bool) {
    usage.count += 1;
    usage.bytes = usage.bytes.saturating_add(bytes);
    if in_use {
        usage.active += 1;
    } else {
        usage.reclaimable = usage.reclaimable.saturating_add(bytes);
    }
}

fn is_locked(folder: &Path) -> Result<bool> {
    use crate::lock::{FileLock, Mode};
    let lock: PathBuf = folder.join("lock");
    match FileLock::try_acquire(&lock, Mode::Exclusive) {
        Ok(lock) => Ok(lock.is_none()),
        Err(_) if !folder.exists() => Ok(false),
        Err(error) => Err(error),
    }
}
