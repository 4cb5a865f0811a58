//! Removing what nothing needs any more.
//!
//! Snapshots, layer blobs and images make no cycles, so a thing can go as soon as no row names it:
//! whoever drops a name offers what it named, and what goes offers what it named in turn. Nothing
//! here looks at the whole store.

use conex_oci::Digest;

use crate::codec;
use crate::db::Writer;
use crate::error::Result;
use crate::lease::Held;
use crate::store::Inner;

/// What a removal took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Images and indexes.
    pub images: Vec<Digest>,
    /// Layers, by the chain IDs of the snapshots that went.
    pub chains: Vec<Digest>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Keys of build-cache records.
    pub cache: Vec<Digest>,
    /// Names of volumes.
    pub volumes: Vec<String>,
    /// IDs of cache mounts.
    pub cache_mounts: Vec<String>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
}

impl Removed {
    /// Adds what another removal took away.
    pub fn merge(&mut self, other: Self) {
        self.images.extend(other.images);
        self.chains.extend(other.chains);
        self.blobs.extend(other.blobs);
        self.cache.extend(other.cache);
        self.volumes.extend(other.volumes);
        self.cache_mounts.extend(other.cache_mounts);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Whether nothing was removed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Collects within one write transaction.
pub(crate) struct Garbage<'w> {
    inner: &'w Inner,
    writer: &'w Writer<'w>,
    pub(crate) removed: Removed,
}

impl<'w> Garbage<'w> {
    pub(crate) fn new(inner: &'w Inner, writer: &'w Writer<'w>) -> Self {
        Self { inner, writer, removed: Removed::default() }
    }

    /// Removes a snapshot if nothing needs it, then its parent by the same rule, and so on.
    pub(crate) fn release_snapshot(&mut self, id: &str) -> Result<()> {
        let mut next = Some(id.to_owned());
        while let Some(id) = next.take() {
            let row = self.writer.first(
                "SELECT chain_id, diff_id, parent, size FROM snapshots WHERE id = ?1
                 AND NOT EXISTS (SELECT 1 FROM snapshots WHERE parent = ?1)
                 AND NOT EXISTS (SELECT 1 FROM cache WHERE snapshot = ?1)
                 AND NOT EXISTS (SELECT 1 FROM lease_refs WHERE kind = 'snapshot' AND object = ?1)
                 AND NOT EXISTS (SELECT 1 FROM image_layers l WHERE l.chain_id = snapshots.chain_id)",
                [&id],
                |row| {
                    let size = codec::unsigned(row, 3)?;
                    Ok((codec::digest(row, 0)?, codec::digest(row, 1)?, row.get(2)?, size))
                },
            )?;
            let Some((chain, diff_id, parent, size)) = row else { return Ok(()) };
            self.writer.execute("DELETE FROM snapshots WHERE id = ?", [&id])?;
            self.writer.discard(self.inner.layout.snapshot(&id));
            self.removed.chains.push(chain);
            self.removed.bytes = self.removed.bytes.saturating_add(size);
            self.release_layer(&diff_id)?;
            next = parent;
        }
        Ok(())
    }

    /// Removes the shipped forms of a layer if neither a snapshot nor an image has it.
    pub(crate) fn release_layer(&mut self, diff_id: &Digest) -> Result<()> {
        let diff_id = diff_id.as_str();
        let digests = self.writer.rows(
            "SELECT digest FROM layer_blobs WHERE diff_id = ?1
             AND NOT EXISTS (SELECT 1 FROM snapshots WHERE diff_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM image_layers WHERE diff_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM lease_refs
                             WHERE kind = 'blob' AND object = layer_blobs.digest)",
            [diff_id],
            |row| codec::digest(row, 0),
        )?;
        for digest in digests {
            self.writer.execute(
                "DELETE FROM layer_blobs WHERE diff_id = ? AND digest = ?",
                (diff_id, digest.as_str()),
            )?;
            self.release_blob(&digest)?;
        }
        Ok(())
    }

    /// Removes a blob if nothing needs it.
    pub(crate) fn release_blob(&mut self, digest: &Digest) -> Result<()> {
        let text = digest.as_str();
        // Forms of layers that nothing has do not keep a blob.
        self.writer.execute(
            "DELETE FROM layer_blobs WHERE digest = ?1
             AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.diff_id = layer_blobs.diff_id)
             AND NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.diff_id = layer_blobs.diff_id)
             AND NOT EXISTS (SELECT 1 FROM lease_refs WHERE kind = 'blob' AND object = ?1)",
            [text],
        )?;
        let size = self.writer.first(
            "SELECT size FROM blobs WHERE digest = ?1
             AND NOT EXISTS (SELECT 1 FROM images WHERE id = ?1)
             AND NOT EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)
             AND NOT EXISTS (SELECT 1 FROM layer_blobs WHERE digest = ?1)
             AND NOT EXISTS (SELECT 1 FROM lease_refs WHERE kind = 'blob' AND object = ?1)",
            [text],
            |row| codec::unsigned(row, 0),
        )?;
        let Some(size) = size else { return Ok(()) };
        self.writer.execute("DELETE FROM blobs WHERE digest = ?", [text])?;
        self.writer.discard(self.inner.layout.blob(digest));
        self.removed.blobs.push(digest.clone());
        self.removed.bytes = self.removed.bytes.saturating_add(size);
        Ok(())
    }

    /// Removes an image or index, which must have no tag, and what only it kept. The images of an
    /// index go too, where nothing else names them.
    pub(crate) fn remove_image(&mut self, id: &Digest) -> Result<()> {
        let text = id.as_str();
        let layers = self.writer.rows(
            "SELECT l.diff_id, s.id FROM image_layers l
             LEFT JOIN snapshots s ON s.chain_id = l.chain_id
             WHERE l.image = ? ORDER BY l.position DESC",
            [text],
            |row| Ok((codec::digest(row, 0)?, row.get::<_, Option<String>>(1)?)),
        )?;
        let manifests =
            self.writer.rows("SELECT digest FROM manifests WHERE image = ?", [text], |row| {
                codec::digest(row, 0)
            })?;
        let members = self.writer.rows(
            "SELECT DISTINCT image FROM index_entries WHERE id = ? AND image IS NOT NULL",
            [text],
            |row| codec::digest(row, 0),
        )?;
        // The rows about the image go with it (ON DELETE CASCADE).
        self.writer.execute("DELETE FROM images WHERE id = ?", [text])?;
        self.removed.images.push(id.clone());
        for (diff_id, snapshot) in layers {
            if let Some(snapshot) = snapshot {
                self.release_snapshot(&snapshot)?;
            }
            self.release_layer(&diff_id)?;
        }
        for digest in manifests {
            self.release_blob(&digest)?;
        }
        self.release_blob(id)?;
        for member in members {
            if !self.is_image_needed(&member)? {
                self.remove_image(&member)?;
            }
        }
        Ok(())
    }

    /// Whether a tag, an index or a lease names an image.
    pub(crate) fn is_image_needed(&self, id: &Digest) -> Result<bool> {
        self.writer.exists(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM tags WHERE image = ?1)
             OR EXISTS (SELECT 1 FROM index_entries WHERE image = ?1)
             OR EXISTS (SELECT 1 FROM lease_refs WHERE kind = 'image' AND object = ?1)",
            [id.as_str()],
        )
    }

    /// Drops the rows of a lease and what only they kept. Images stay: a person removes those.
    pub(crate) fn release_lease(&mut self, lease: &str) -> Result<()> {
        let held = self.writer.rows(
            "SELECT kind, object FROM lease_refs WHERE lease = ?",
            [lease],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )?;
        self.writer.execute("DELETE FROM lease_refs WHERE lease = ?", [lease])?;
        for (kind, object) in held {
            if kind == Held::Snapshot.name() {
                self.release_snapshot(&object)?;
            } else if kind == Held::Blob.name()
                && let Ok(digest) = object.parse()
            {
                self.release_blob(&digest)?;
            }
        }
        Ok(())
    }
}
