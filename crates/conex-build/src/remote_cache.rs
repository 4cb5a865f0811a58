//! The build cache of one machine, for another: which keys came to which layers, and the layers.
//!
//! It travels as an image manifest whose config lists the records (media type
//! [`CACHE_CONFIG_TYPE`]) and whose layers are ordinary layers; or inline, in the config of the
//! image itself, where it can name the image's own layers only. What is read is verified: a layer
//! must have the diff ID that its record says.

use std::collections::BTreeMap;
use std::sync::Arc;

use conex_oci::{BlobSource, Descriptor, DiffId, Digest, ImageConfig, Manifest};
use conex_store::Snapshot;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::Built;
use crate::error::{Error, ErrorKind};
use crate::graph::Plan;

/// The media type of the config of a cache manifest.
pub const CACHE_CONFIG_TYPE: &str = "application/vnd.conex.cache.config.v1+json";

/// The field of an image config that holds an inline cache.
pub(crate) const INLINE_FIELD: &str = "conex.cache.v1";

/// Most records read: a build has a step for each, and no Dockerfile has so many.
const RECORDS_MAX: usize = 100_000;

/// What one step came to.
#[derive(Debug, Clone)]
pub struct CacheItem {
    /// The step's key.
    pub key: Digest,
    /// The layer it added, with all below; `None` if it changed nothing.
    pub layer: Option<Arc<Snapshot>>,
}

/// What the steps of a build came to.
#[derive(Debug, Clone, Default)]
pub struct CacheRecords {
    items: Vec<CacheItem>,
}

impl CacheRecords {
    pub(crate) fn of(plan: &Plan, built: &[Built]) -> Self {
        let items = plan.vertices.iter().zip(built).filter_map(|(_, built)| {
            let layer = built.snapshot.clone().filter(|_| built.added);
            Some(CacheItem { key: built.key.clone()?, layer })
        });
        Self { items: items.collect() }
    }

    /// The records, in the order of the plan.
    pub fn items(&self) -> &[CacheItem] {
        &self.items
    }

    /// Those that concern the layers of one image, for `mode=min`.
    #[must_use]
    pub fn of_image(&self, diff_ids: &[DiffId]) -> Self {
        let of_image = |item: &&CacheItem| {
            item.layer.as_ref().is_none_or(|layer| diff_ids.contains(layer.diff_id()))
        };
        Self { items: self.items.iter().filter(of_image).cloned().collect() }
    }

    /// The records as they stand in an image config: layers by position.
    pub(crate) fn inline(&self, diff_ids: &[DiffId]) -> Value {
        let records = self.items.iter().filter_map(|item| {
            let layer = match &item.layer {
                Some(layer) => Some(diff_ids.iter().position(|known| known == layer.diff_id())?),
                None => None,
            };
            Some(Record { key: item.key.clone(), layer })
        });
        let document = Document { records: records.collect(), diff_ids: Vec::new() };
        serde_json::to_value(document).unwrap_or_default()
    }

    /// The config of a cache manifest, and the layers it counts on, in order.
    pub fn document(&self) -> (Vec<u8>, Vec<Arc<Snapshot>>) {
        let mut layers: Vec<Arc<Snapshot>> = Vec::new();
        let mut records = Vec::new();
        for item in &self.items {
            let layer = item.layer.as_ref().map(|layer| {
                let known = layers.iter().position(|known| known.diff_id() == layer.diff_id());
                known.unwrap_or_else(|| {
                    layers.push(layer.clone());
                    layers.len() - 1
                })
            });
            records.push(Record { key: item.key.clone(), layer });
        }
        let diff_ids = layers.iter().map(|layer| layer.diff_id().clone()).collect();
        let document = Document { records, diff_ids };
        (serde_json::to_vec(&document).unwrap_or_default(), layers)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    records: Vec<Record>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    diff_ids: Vec<DiffId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: Digest,
    /// Position among the layers; none for a step that changed nothing.
    layer: Option<usize>,
}

/// A layer of a cache elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct CachedLayer {
    pub(crate) blob: Descriptor,
    pub(crate) diff_id: DiffId,
}

/// A cache elsewhere: its records, and where its layers are to be had.
#[derive(Clone)]
pub struct RemoteCache {
    records: BTreeMap<Digest, Option<CachedLayer>>,
    source: Arc<dyn BlobSource>,
}

impl std::fmt::Debug for RemoteCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RemoteCache({} records)", self.records.len())
    }
}

impl RemoteCache {
    /// Reads a cache from its manifest and config: a cache manifest, or an image with an inline
    /// cache.
    ///
    /// # Errors
    /// The config holds no cache, or one that makes no sense.
    pub fn read(
        manifest: &Manifest,
        config: &[u8],
        source: Arc<dyn BlobSource>,
    ) -> Result<Self, Error> {
        let wrong = |why: &str| Error::new(ErrorKind::NotFound, why.to_owned());
        let is_cache = manifest.config.media_type.as_str() == CACHE_CONFIG_TYPE;
        let document: Document = if is_cache {
            serde_json::from_slice(config)
                .map_err(|error| Error::io("cannot read the build cache", error))?
        } else {
            let config = ImageConfig::parse(config)
                .map_err(|error| Error::io("cannot read the image of the build cache", error))?;
            let field = config.unknown.get(INLINE_FIELD);
            let field = field.ok_or_else(|| wrong("the image holds no build cache"))?;
            let mut document: Document = serde_json::from_value(field.clone())
                .map_err(|error| Error::io("cannot read the build cache of the image", error))?;
            document.diff_ids = config.rootfs.diff_ids;
            document
        };
        if document.records.len() > RECORDS_MAX {
            return Err(wrong("the build cache has too many records"));
        }
        if document.diff_ids.len() != manifest.layers.len() {
            return Err(wrong("the build cache does not fit its layers"));
        }
        let mut records = BTreeMap::new();
        for record in document.records {
            let layer = match record.layer {
                None => None,
                Some(at) => {
                    let blob = manifest.layers.get(at);
                    let blob = blob.ok_or_else(|| wrong("the build cache names no layer"))?;
                    let (blob, diff_id) = (blob.clone(), document.diff_ids[at].clone());
                    Some(CachedLayer { blob, diff_id })
                }
            };
            records.insert(record.key, layer);
        }
        Ok(Self { records, source })
    }

    pub(crate) fn find(&self, key: &Digest) -> Option<Option<&CachedLayer>> {
        self.records.get(key).map(Option::as_ref)
    }

    /// Where layers are to be had.
    pub(crate) fn source(&self) -> &dyn BlobSource {
        &*self.source
    }
}
