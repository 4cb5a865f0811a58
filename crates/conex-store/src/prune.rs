//! Removing what a person does not want to keep: images, build cache, volumes, cache mounts.

use conex_oci::Digest;

use crate::cache;
use crate::collect::{Garbage, Removed};
use crate::error::{Error, Result};
use crate::image::{ImageRecord, load_images};
use crate::lock::{FileLock, Mode};
use crate::options::Timestamp;
use crate::store::Store;
use crate::volume::{ANONYMOUS_LABEL, Volume};

/// Which images a prune takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneImages {
    /// None.
    Keep,
    /// Those without a name.
    Dangling,
    /// Those that no living process uses.
    All,
}

/// Which build-cache records a prune takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneCache {
    /// None.
    Keep,
    /// Those whose results no image has, as far as no living process uses them: what goes would
    /// otherwise only wait for the next build of the same step.
    Dangling,
    /// All that no living process uses.
    All,
    /// Those that were not used since a moment.
    UnusedSince(Timestamp),
    /// The least recently used, until the rest takes up no more than this many bytes. Snapshots
    /// that images keep anyway do not count.
    Budget(u64),
}

/// Which volumes a prune takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneVolumes {
    /// None.
    Keep,
    /// Those that nobody named.
    Anonymous,
    /// All that no living process uses.
    All,
}

/// Which cache mounts a prune takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneCacheMounts {
    /// None.
    Keep,
    /// Those that were not used since a moment.
    UnusedSince(Timestamp),
    /// All that no living process uses.
    All,
}

/// A condition on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label.
    pub name: String,
    /// The value that it must have; any if there is none.
    pub value: Option<String>,
    /// Whether the condition must not hold (`label!=…`).
    pub is_negated: bool,
}

impl LabelFilter {
    /// Whether labels meet the condition.
    pub fn matches(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        let found = labels
            .get(&self.name)
            .is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value));
        found != self.is_negated
    }
}

/// What a prune takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    /// Images.
    pub images: PruneImages,
    /// Build cache.
    pub cache: PruneCache,
    /// Volumes.
    pub volumes: PruneVolumes,
    /// Cache mounts.
    pub cache_mounts: PruneCacheMounts,
    /// Images and volumes only from before this moment.
    pub until: Option<Timestamp>,
    /// Images and volumes only with these labels.
    pub labels: Vec<LabelFilter>,
}

impl PruneOptions {
    /// Takes nothing.
    pub const NOTHING: Self = Self {
        images: PruneImages::Keep,
        cache: PruneCache::Keep,
        volumes: PruneVolumes::Keep,
        cache_mounts: PruneCacheMounts::Keep,
        until: None,
        labels: Vec::new(),
    };
}

impl Store {
    /// Removes what the options name and nothing needs. Returns what went.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn prune(&self, options: &PruneOptions) -> Result<Removed> {
        let mut removed = self.gc()?;
        if options.images != PruneImages::Keep {
            removed.merge(self.sweep_partials(crate::partial::Partials::All)?);
        }
        if options.cache == PruneCache::Dangling {
            // What only images keep that go now is dangling too.
            removed.merge(self.prune_images(options)?);
            removed.merge(self.prune_cache(options.cache)?);
        } else {
            // The cache first: what it alone kept goes, and then images are what keeps the rest.
            removed.merge(self.prune_cache(options.cache)?);
            removed.merge(self.prune_images(options)?);
        }
        removed.merge(self.prune_cache_mounts(options.cache_mounts)?);
        removed.merge(self.prune_volumes(options)?);
        Ok(removed)
    }

    /// Removes single build-cache records. Keys without a record are passed over.
    ///
    /// # Errors
    /// A living process uses one ([`Conflict`](crate::ErrorKind::Conflict)), or the store cannot be
    /// written; then all records stay.
    pub fn remove_cache_records(&self, keys: &[Digest]) -> Result<Removed> {
        let inner = &self.inner;
        inner.freeing(|| {
            inner.write("remove build-cache records", |writer| {
                let mut garbage = Garbage::new(inner, writer);
                let entries = writer.run(cache::list)?;
                for entry in entries.iter().filter(|entry| keys.contains(&entry.key)) {
                    if entry.is_in_use {
                        let key = entry.key.short();
                        let message = format!("cache record `{key}` is used by a living process");
                        return Err(Error::conflict(message));
                    }
                    remove_record(&mut garbage, writer, entry)?;
                }
                Ok(garbage.removed)
            })
        })
    }

    fn prune_cache(&self, choice: PruneCache) -> Result<Removed> {
        if choice == PruneCache::Keep {
            return Ok(Removed::default());
        }
        let inner = &self.inner;
        inner.freeing(|| {
            inner.write("prune the build cache", |writer| {
                let mut garbage = Garbage::new(inner, writer);
                match choice {
                    PruneCache::Keep => {}
                    PruneCache::All | PruneCache::Dangling | PruneCache::UnusedSince(_) => {
                        let entries = writer.run(cache::list)?;
                        for entry in entries.iter().filter(|entry| !entry.is_in_use) {
                            let goes = match choice {
                                PruneCache::UnusedSince(since) => entry.record.last_used < since,
                                PruneCache::Dangling => is_dangling(writer, entry)?,
                                _ => true,
                            };
                            if goes {
                                remove_record(&mut garbage, writer, entry)?;
                            }
                        }
                    }
                    PruneCache::Budget(budget) => {
                        prune_to_budget(&mut garbage, writer, budget)?;
                    }
                }
                Ok(garbage.removed)
            })
        })
    }

    fn prune_images(&self, options: &PruneOptions) -> Result<Removed> {
        if options.images == PruneImages::Keep {
            return Ok(Removed::default());
        }
        let inner = &self.inner;
        inner.freeing(|| {
            inner.write("prune images", |writer| {
                let list = writer.run(|connection| load_images(connection, "", []))?;
                let mut garbage = Garbage::new(inner, writer);
                for record in list.iter().filter(|record| is_taken(options, record)) {
                    let held = "SELECT 1 FROM lease_refs WHERE kind = 'image' AND object = ?";
                    let gone = "SELECT 1 FROM images WHERE id = ?";
                    if writer.exists(held, [record.id.as_str()])?
                        || !writer.exists(gone, [record.id.as_str()])?
                    {
                        continue;
                    }
                    for tag in &record.tags {
                        crate::tag::set(inner, writer, tag, Some(&record.id), None)?;
                    }
                    garbage.remove_image(&record.id)?;
                }
                Ok(garbage.removed)
            })
        })
    }

    fn prune_cache_mounts(&self, choice: PruneCacheMounts) -> Result<Removed> {
        let mut removed = Removed::default();
        let since = match choice {
            PruneCacheMounts::Keep => return Ok(removed),
            PruneCacheMounts::UnusedSince(since) => Some(since),
            PruneCacheMounts::All => None,
        };
        for mount in self.cache_mounts()? {
            if since.is_some_and(|since| mount.last_used >= since) {
                continue;
            }
            let dir = mount.path.parent().and_then(|path| path.file_name());
            let Some(dir) = dir.and_then(|name| name.to_str()) else { continue };
            if let Some(bytes) = self.remove_cache_dir(dir)? {
                removed.cache_mounts.push(mount.id);
                removed.bytes = removed.bytes.saturating_add(bytes);
            }
        }
        Ok(removed)
    }

    fn prune_volumes(&self, options: &PruneOptions) -> Result<Removed> {
        let mut removed = Removed::default();
        let wanted = |volume: &Volume| match options.volumes {
            PruneVolumes::Keep => false,
            PruneVolumes::Anonymous => volume.labels.contains_key(ANONYMOUS_LABEL),
            PruneVolumes::All => true,
        };
        if options.volumes == PruneVolumes::Keep {
            return Ok(removed);
        }
        for volume in self.volumes()?.into_iter().filter(wanted) {
            let recent = options.until.is_some_and(|until| volume.created >= until);
            if recent || !options.labels.iter().all(|filter| filter.matches(&volume.labels)) {
                continue;
            }
            let lock = volume.path.with_file_name("lock");
            if FileLock::try_acquire(&lock, Mode::Exclusive)?.is_none() {
                continue;
            }
            match self.remove_volume(&volume.name) {
                Ok(bytes) => {
                    removed.volumes.push(volume.name);
                    removed.bytes = removed.bytes.saturating_add(bytes);
                }
                // Somebody began to use it, or removed it, meanwhile.
                Err(error)
                    if matches!(
                        error.kind(),
                        crate::ErrorKind::Conflict | crate::ErrorKind::NotFound
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

fn is_taken(options: &PruneOptions, record: &ImageRecord) -> bool {
    let chosen = match options.images {
        PruneImages::Keep => false,
        PruneImages::Dangling => record.is_dangling(),
        PruneImages::All => !record.in_index && !record.is_mounted(),
    };
    chosen
        && options.until.is_none_or(|until| record.created < until)
        && options.labels.iter().all(|filter| filter.matches(&record.labels))
}

/// Whether a record keeps a snapshot that no image has. One without a snapshot takes up nothing.
fn is_dangling(writer: &crate::db::Writer<'_>, entry: &cache::CacheEntry) -> Result<bool> {
    let Some(snapshot) = &entry.record.snapshot else { return Ok(false) };
    let kept = "SELECT 1 FROM image_layers WHERE chain_id = ?";
    Ok(!writer.exists(kept, [snapshot.chain_id.digest().as_str()])?)
}

fn remove_record(
    garbage: &mut Garbage<'_>,
    writer: &crate::db::Writer<'_>,
    entry: &cache::CacheEntry,
) -> Result<()> {
    writer.execute("DELETE FROM cache WHERE key = ?", [entry.key.as_str()])?;
    garbage.removed.cache.push(entry.key.clone());
    match &entry.record.snapshot {
        Some(snapshot) => garbage.release_snapshot(snapshot.id.as_str()),
        None => Ok(()),
    }
}

/// Removes the least recently used records until what only the cache keeps fits the budget.
fn prune_to_budget(
    garbage: &mut Garbage<'_>,
    writer: &crate::db::Writer<'_>,
    budget: u64,
) -> Result<()> {
    let mut kept = cache_only_size(writer)?;
    let mut entries = writer.run(cache::list)?;
    // The list begins with the latest used; the last goes first.
    while kept > budget
        && let Some(entry) = entries.pop()
    {
        if entry.is_in_use {
            continue;
        }
        let before = garbage.removed.bytes;
        remove_record(garbage, writer, &entry)?;
        kept = kept.saturating_sub(garbage.removed.bytes.saturating_sub(before));
    }
    Ok(())
}

/// Bytes of the snapshots that no image has.
fn cache_only_size(writer: &crate::db::Writer<'_>) -> Result<u64> {
    let size = writer.first(
        "SELECT COALESCE(SUM(size), 0) FROM snapshots s
         WHERE NOT EXISTS (SELECT 1 FROM image_layers l WHERE l.chain_id = s.chain_id)",
        [],
        |row| crate::codec::unsigned(row, 0),
    )?;
    Ok(size.unwrap_or_default())
}
