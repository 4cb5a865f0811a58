//! Images and indexes: what is known of them, and how they come into the store.
//!
//! An image's ID is the digest of its config. An index's ID is the digest of its bytes: the
//! original ones where it came from outside, else a list of platforms and image IDs that the store
//! writes. Invariant: bytes that came from outside are kept as they were, so no digest changes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use conex_oci::{
    ChainId, Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, MediaType, Platform,
    Reference,
};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::blob::Durability;
use crate::codec;
use crate::db::{Writer, first, rows};
use crate::error::{Error, Result};
use crate::lease::{Held, Lease};
use crate::options::Timestamp;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// The media type of an index that the store wrote itself: platforms and image IDs, for images
/// whose layers nobody compressed yet, so that no manifest exists.
pub const LOCAL_INDEX_TYPE: &str = "application/vnd.conex.local.index.v1+json";

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// One image of one platform.
    Image,
    /// A list of images, one a platform.
    Index,
}

/// How an image came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// Built here.
    Built,
    /// Loaded from an archive.
    Loaded,
    /// Pulled from a registry.
    Pulled,
    /// Imported from a file tree.
    Imported,
}

macro_rules! named {
    ($name:ident { $($value:ident = $text:literal),+ $(,)? }) => {
        impl $name {
            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Self::$value),)+
                    _ => Err(Error::damaged_row(stringify!($name), text)),
                }
            }
        }
    };
}

named!(ImageKind { Image = "image", Index = "index" });
named!(ImageSource {
    Built = "built",
    Loaded = "loaded",
    Pulled = "pulled",
    Imported = "imported",
});

/// What the store knows of an image or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The digest of the config, or of the index.
    pub id: Digest,
    /// Image or index.
    pub kind: ImageKind,
    /// The platform; none for an index.
    pub platform: Option<Platform>,
    /// How it came here.
    pub source: ImageSource,
    /// When it came here.
    pub created: Timestamp,
    /// When it was made, in the config's words (RFC 3339).
    pub config_created: Option<String>,
    /// The labels of the config.
    pub labels: BTreeMap<String, String>,
    /// Bytes of all layers on the disk. For layers that are not unpacked, of their blobs.
    pub size: u64,
    /// The tags, sorted.
    pub tags: Vec<Reference>,
    /// `name@digest` under which it was pulled or pushed, sorted.
    pub repo_digests: Vec<Reference>,
    /// Whether an index lists it.
    pub in_index: bool,
}

impl ImageRecord {
    /// Whether no tag and no index names it.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty() && !self.in_index
    }

    /// Whether a name in [`MOUNTED`] says that its files are in use, though no process is.
    pub fn is_mounted(&self) -> bool {
        self.tags.iter().any(|tag| tag.name() == MOUNTED)
    }
}

/// The repository of the names that keep an image while it is mounted without a process: such an
/// image is in use, and a prune leaves it.
pub const MOUNTED: &str = "localhost/conex-mounted";

/// An image to be kept.
#[derive(Debug, Clone)]
pub struct NewImage<'b> {
    /// The bytes of its config.
    pub config: &'b [u8],
    /// Its original manifest, where it came with one.
    pub manifest: Option<(MediaType, &'b [u8])>,
    /// How it came here.
    pub source: ImageSource,
}

/// An index to be kept.
#[derive(Debug, Clone)]
pub enum NewIndex<'b> {
    /// An index from outside: the bytes are kept. Entries whose manifests are in the store name
    /// their images; the others name nothing until their images come.
    Original {
        /// The bytes of the index.
        bytes: &'b [u8],
        /// How it came here.
        source: ImageSource,
    },
    /// A list of images of this store.
    Local {
        /// The images, by platform, in the order that they will be listed.
        images: Vec<(Platform, Digest)>,
        /// How they came here.
        source: ImageSource,
    },
}

/// One line of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The platform; `unknown/unknown` for what runs on none, such as attestations.
    pub platform: Platform,
    /// The image, if it is in the store.
    pub image: Option<Digest>,
    /// The manifest that the original index names.
    pub manifest: Option<Digest>,
}

/// One layer of an image, and what of it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLayer {
    /// The digest of its tar.
    pub diff_id: DiffId,
    /// The identity of the stack up to here.
    pub chain_id: ChainId,
    /// The unpacked form, if it is here.
    pub snapshot: Option<Snapshot>,
    /// The shipped forms that are here.
    pub blobs: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LocalIndex {
    pub(crate) images: Vec<LocalEntry>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct LocalEntry {
    pub(crate) platform: Platform,
    pub(crate) image: Digest,
}

impl Lease {
    /// Records that a blob is a layer's shipped form. The layer's size for listings is the blob's
    /// until it is unpacked.
    ///
    /// # Errors
    /// The blob is not in the store, or the row cannot be written.
    pub fn put_layer_blob(&self, diff_id: &DiffId, blob: &Descriptor) -> Result<()> {
        self.inner().write("record a layer's blob", |writer| {
            let digest = blob.digest.as_str();
            if !writer.exists("SELECT 1 FROM blobs WHERE digest = ?", [digest])? {
                return Err(Error::not_found("blob", digest));
            }
            self.hold(writer, Held::Blob, digest)?;
            writer.execute(
                "INSERT OR REPLACE INTO layer_blobs (diff_id, digest, media_type, size)
                 VALUES (?, ?, ?, ?)",
                (
                    diff_id.digest().as_str(),
                    digest,
                    blob.media_type.as_str(),
                    codec::signed(blob.size),
                ),
            )?;
            Ok(())
        })
    }

    /// Keeps an image; it is held by the lease, and dangling until it is tagged. Of every layer
    /// the snapshot or a blob must be there. An image that is there already is kept as it is, and
    /// gains the manifest.
    ///
    /// # Errors
    /// The config or the manifest is not valid, they do not belong together, or a layer is missing.
    pub fn put_image(&self, image: &NewImage<'_>) -> Result<ImageRecord> {
        let config = ImageConfig::parse(image.config)
            .map_err(|source| Error::document("image config", source))?;
        let durability = match image.source {
            ImageSource::Built => Durability::Lazy,
            _ => Durability::Synced,
        };
        let blob = self.put_bytes(MediaType::OciConfig, image.config, durability)?;
        let manifest = match &image.manifest {
            Some((media_type, bytes)) => {
                check_manifest(bytes, &blob.digest)?;
                Some(self.put_bytes(media_type.clone(), bytes, durability)?)
            }
            None => None,
        };
        let now = self.inner().now();
        self.inner().write("keep an image", |writer| {
            let id = blob.digest.as_str();
            let chains = ChainId::stack(&config.rootfs.diff_ids);
            let size = layers_size(writer, &config.rootfs.diff_ids, &chains)?;
            let is_new = writer.execute(
                "INSERT OR IGNORE INTO images
                 (id, kind, platform, source, config_created, labels, created, size)
                 VALUES (?, 'image', ?, ?, ?, ?, ?, ?)",
                (
                    id,
                    codec::to_json(&config.platform),
                    image.source.as_str(),
                    &config.created,
                    codec::to_json(&config.config.labels),
                    now.0,
                    codec::signed(size),
                ),
            )? == 1;
            if is_new {
                for (at, (diff_id, chain)) in config.rootfs.diff_ids.iter().zip(&chains).enumerate()
                {
                    writer.execute(
                        "INSERT INTO image_layers (image, position, diff_id, chain_id)
                         VALUES (?, ?, ?, ?)",
                        (id, codec::signed(at as u64), diff_id.0.as_str(), chain.0.as_str()),
                    )?;
                }
            }
            if let Some(manifest) = &manifest {
                insert_manifest(writer, id, manifest, now)?;
            }
            self.hold(writer, Held::Image, id)
        })?;
        self.store().image(&blob.digest)?.ok_or_else(|| Error::not_found("image", &blob.digest))
    }

    /// Keeps an index; it is held by the lease, and dangling until it is tagged.
    ///
    /// # Errors
    /// The index is not valid, or a local one names an image that is not in the store.
    pub fn put_index(&self, index: &NewIndex<'_>) -> Result<ImageRecord> {
        let (blob, entries, source) = match index {
            NewIndex::Original { bytes, source } => {
                let index = Index::parse(bytes).map_err(|e| Error::document("index", e))?;
                let entries = index.manifests.iter().map(original_entry).collect::<Vec<_>>();
                let blob = self.put_bytes(index.media_type, bytes, Durability::Synced)?;
                (blob, entries, *source)
            }
            NewIndex::Local { images, source } => {
                let entry = |(platform, image): &(Platform, Digest)| LocalEntry {
                    platform: platform.clone(),
                    image: image.clone(),
                };
                let list = LocalIndex { images: images.iter().map(entry).collect() };
                let media_type = MediaType::from(LOCAL_INDEX_TYPE);
                let bytes = codec::to_json(&list);
                let blob = self.put_bytes(media_type, bytes.as_bytes(), Durability::Lazy)?;
                (blob, list.images.iter().map(local_entry).collect(), *source)
            }
        };
        let now = self.inner().now();
        self.inner().write("keep an index", |writer| {
            insert_index(writer, &blob, &entries, source, now)?;
            self.hold(writer, Held::Image, blob.digest.as_str())
        })?;
        self.store().image(&blob.digest)?.ok_or_else(|| Error::not_found("index", &blob.digest))
    }
}

impl Store {
    /// The record of an image or index by its ID.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn image(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        let list = self.inner.db.read("look for an image", |connection| {
            load_images(connection, "WHERE i.id = ?", [id.as_str()])
        })?;
        Ok(list.into_iter().next())
    }

    /// All records, the youngest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        self.inner.db.read("list images", |connection| load_images(connection, "", []))
    }

    /// The config of an image.
    ///
    /// # Errors
    /// The image is not there, is an index, or its blob is damaged.
    pub fn image_config(&self, id: &Digest) -> Result<ImageConfig> {
        let bytes = self.read_blob(id)?;
        ImageConfig::parse(&bytes).map_err(|source| Error::document("image config", source))
    }

    /// The original manifests of an image, the latest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn manifests(&self, id: &Digest) -> Result<Vec<Descriptor>> {
        self.inner.db.read("look for manifests", |connection| {
            let sql = "SELECT media_type, digest, size FROM manifests WHERE image = ?
                       ORDER BY created DESC, digest";
            rows(connection, sql, [id.as_str()], descriptor)
        })
    }

    /// The lines of an index, in its order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn index_entries(&self, id: &Digest) -> Result<Vec<IndexEntry>> {
        self.inner.db.read("read an index", |connection| {
            let sql = "SELECT platform, image, manifest FROM index_entries WHERE id = ?
                       ORDER BY position";
            rows(connection, sql, [id.as_str()], |row| {
                Ok(IndexEntry {
                    platform: codec::json(row, 0)?,
                    image: codec::parsed_optional(row, 1)?,
                    manifest: codec::parsed_optional(row, 2)?,
                })
            })
        })
    }

    /// The image for a platform: the record itself if it is an image, else the best of the index.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn image_for(
        &self,
        record: &ImageRecord,
        platform: &Platform,
    ) -> Result<Option<ImageRecord>> {
        if record.kind == ImageKind::Image {
            return Ok(Some(record.clone()));
        }
        let mut entries = self.index_entries(&record.id)?;
        entries.retain(|entry| entry.image.is_some());
        let best = platform.best_of(entries.iter().map(|entry| &entry.platform));
        match best.and_then(|at| entries.get(at)).and_then(|entry| entry.image.as_ref()) {
            Some(id) => self.image(id),
            None => Ok(None),
        }
    }

    /// The layers of an image, bottom first, and what of them is here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn layers(&self, id: &Digest) -> Result<Vec<ImageLayer>> {
        let ids = self.inner.db.read("read an image's layers", |connection| {
            let sql =
                "SELECT diff_id, chain_id FROM image_layers WHERE image = ? ORDER BY position";
            rows(connection, sql, [id.as_str()], |row| {
                Ok((codec::diff_id(row, 0)?, codec::chain_id(row, 1)?))
            })
        })?;
        ids.into_iter()
            .map(|(diff_id, chain_id)| {
                let snapshot = self.snapshot(&chain_id)?;
                let blobs = self.layer_blobs(&diff_id)?;
                Ok(ImageLayer { diff_id, chain_id, snapshot, blobs })
            })
            .collect()
    }

    /// The shipped forms of a layer that are here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn layer_blobs(&self, diff_id: &DiffId) -> Result<Vec<Descriptor>> {
        self.inner.db.read("look for a layer's blobs", |connection| {
            let sql = "SELECT media_type, digest, size FROM layer_blobs WHERE diff_id = ?
                       ORDER BY digest";
            rows(connection, sql, [diff_id.digest().as_str()], descriptor)
        })
    }

    /// Bytes of an image's layers that other images have too.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn shared_size(&self, id: &Digest) -> Result<u64> {
        self.inner.db.read("measure shared layers", |connection| {
            let sql = "SELECT COALESCE(SUM(s.size), 0) FROM image_layers l
                       JOIN snapshots s ON s.chain_id = l.chain_id
                       WHERE l.image = ?1 AND EXISTS (SELECT 1 FROM image_layers o
                             WHERE o.chain_id = l.chain_id AND o.image <> ?1)";
            Ok(first(connection, sql, [id.as_str()], |row| codec::unsigned(row, 0))?
                .unwrap_or_default())
        })
    }
}

pub(crate) fn descriptor(row: &rusqlite::Row<'_>) -> rusqlite::Result<Descriptor> {
    let media_type = MediaType::from(row.get_ref(0)?.as_str()?);
    Ok(Descriptor::new(media_type, codec::digest(row, 1)?, codec::unsigned(row, 2)?))
}

/// Reads records in one statement. Tags and repository digests come as JSON lists: a join would
/// repeat every image for each.
pub(crate) fn load_images(
    connection: &Connection,
    filter: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<Vec<ImageRecord>> {
    let sql = format!(
        "SELECT i.id, i.kind, i.platform, i.source, i.created, i.config_created, i.labels, i.size,
            (SELECT json_group_array(t.name) FROM tags t WHERE t.image = i.id),
            (SELECT json_group_array(r.repository || '@' || r.digest)
             FROM repo_digests r WHERE r.image = i.id),
            EXISTS (SELECT 1 FROM index_entries e WHERE e.image = i.id)
         FROM images i {filter} ORDER BY i.created DESC, i.id"
    );
    rows(connection, &sql, params, |row| {
        Ok(ImageRecord {
            id: codec::digest(row, 0)?,
            kind: codec::parsed(row, 1)?,
            platform: codec::json(row, 2)?,
            source: codec::parsed(row, 3)?,
            created: Timestamp(row.get(4)?),
            config_created: row.get(5)?,
            labels: codec::json(row, 6)?,
            size: codec::unsigned(row, 7)?,
            tags: references(row, 8)?,
            repo_digests: references(row, 9)?,
            in_index: row.get(10)?,
        })
    })
}

fn references(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Vec<Reference>> {
    let mut names: Vec<String> = codec::json(row, column)?;
    names.sort_unstable();
    names.iter().map(|name| codec::value(column, name)).collect()
}

fn check_manifest(bytes: &[u8], config: &Digest) -> Result<()> {
    let manifest = Manifest::parse(bytes).map_err(|e| Error::document("manifest", e))?;
    if manifest.config.digest != *config {
        return Err(Error::invalid(format!(
            "the manifest is of config `{}`, not of `{config}`",
            manifest.config.digest
        )));
    }
    Ok(())
}

/// Sums the layers' sizes; fails if one is neither unpacked nor a blob.
fn layers_size(writer: &Writer<'_>, diff_ids: &[DiffId], chains: &[ChainId]) -> Result<u64> {
    let mut sum = 0_u64;
    for (diff_id, chain) in diff_ids.iter().zip(chains) {
        let size = writer.first(
            "SELECT size FROM snapshots WHERE chain_id = ?1
             UNION ALL SELECT size FROM layer_blobs WHERE diff_id = ?2 LIMIT 1",
            (chain.0.as_str(), diff_id.0.as_str()),
            |row| codec::unsigned(row, 0),
        )?;
        sum = sum.saturating_add(size.ok_or_else(|| Error::not_found("layer", diff_id))?);
    }
    Ok(sum)
}

/// Computes the sizes of the images that have a layer again, once it is unpacked.
pub(crate) fn refresh_sizes(writer: &Writer<'_>, chain_id: &ChainId) -> Result<()> {
    let sql = "SELECT image FROM image_layers WHERE chain_id = ?";
    let images: Vec<String> = writer.rows(sql, [chain_id.digest().as_str()], |row| row.get(0))?;
    for image in images {
        writer.execute(
            "UPDATE images SET size = (
                SELECT COALESCE(SUM(COALESCE(
                    (SELECT s.size FROM snapshots s WHERE s.chain_id = l.chain_id),
                    (SELECT min(b.size) FROM layer_blobs b WHERE b.diff_id = l.diff_id), 0)), 0)
                FROM image_layers l WHERE l.image = ?1) WHERE id = ?1",
            [&image],
        )?;
        let indexes = "SELECT DISTINCT id FROM index_entries WHERE image = ?";
        for index in writer.rows(indexes, [&image], |row| row.get::<_, String>(0))? {
            sum_index(writer, &index)?;
        }
    }
    Ok(())
}

/// The size of an index is that of its images.
fn sum_index(writer: &Writer<'_>, id: &str) -> Result<()> {
    writer.execute(
        "UPDATE images SET size = (SELECT COALESCE(SUM(m.size), 0) FROM images m
         WHERE m.id IN (SELECT image FROM index_entries WHERE id = ?1)) WHERE id = ?1",
        [id],
    )?;
    Ok(())
}

pub(crate) fn insert_manifest(
    writer: &Writer<'_>,
    image: &str,
    manifest: &Descriptor,
    now: Timestamp,
) -> Result<()> {
    let digest = manifest.digest.as_str();
    writer.execute(
        "INSERT INTO manifests (digest, image, media_type, size, created) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (digest) DO UPDATE SET created = excluded.created",
        (digest, image, manifest.media_type.as_str(), codec::signed(manifest.size), now.0),
    )?;
    // An index that came before this image now knows it.
    writer.execute(
        "UPDATE index_entries SET image = ? WHERE manifest = ? AND image IS NULL",
        (image, digest),
    )?;
    let indexes = "SELECT DISTINCT id FROM index_entries WHERE manifest = ?";
    for index in writer.rows(indexes, [digest], |row| row.get::<_, String>(0))? {
        sum_index(writer, &index)?;
    }
    Ok(())
}

fn original_entry(descriptor: &Descriptor) -> IndexEntry {
    let unknown = || Platform::new("unknown", "unknown", "");
    IndexEntry {
        platform: descriptor.platform.clone().unwrap_or_else(unknown),
        image: None,
        manifest: Some(descriptor.digest.clone()),
    }
}

pub(crate) fn local_entry(entry: &LocalEntry) -> IndexEntry {
    IndexEntry {
        platform: entry.platform.clone(),
        image: Some(entry.image.clone()),
        manifest: None,
    }
}

fn insert_index(
    writer: &Writer<'_>,
    blob: &Descriptor,
    entries: &[IndexEntry],
    source: ImageSource,
    now: Timestamp,
) -> Result<()> {
    let id = blob.digest.as_str();
    let is_new = writer.execute(
        "INSERT OR IGNORE INTO images (id, kind, platform, source, labels, created, size)
         VALUES (?, 'index', 'null', ?, '{}', ?, 0)",
        (id, source.as_str(), now.0),
    )? == 1;
    if !is_new {
        return Ok(());
    }
    for (at, entry) in entries.iter().enumerate() {
        let image = match (&entry.image, &entry.manifest) {
            (Some(image), _) => {
                let known = "SELECT 1 FROM images WHERE id = ? AND kind = 'image'";
                if !writer.exists(known, [image.as_str()])? {
                    return Err(Error::not_found("image", image));
                }
                Some(image.as_str().to_owned())
            }
            (None, Some(manifest)) => writer.first(
                "SELECT image FROM manifests WHERE digest = ?",
                [manifest.as_str()],
                |row| row.get::<_, String>(0),
            )?,
            (None, None) => None,
        };
        writer.execute(
            "INSERT INTO index_entries (id, position, platform, image, manifest)
             VALUES (?, ?, ?, ?, ?)",
            (
                id,
                codec::signed(at as u64),
                codec::to_json(&entry.platform),
                image,
                entry.manifest.as_ref().map(Digest::as_str),
            ),
        )?;
    }
    sum_index(writer, id)
}
