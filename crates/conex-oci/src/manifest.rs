//! Manifests and indexes (image spec, manifest.md and image-index.md; Docker schema 2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Descriptor, Error, MediaType};

/// Largest manifest or index accepted: 4 MiB, what the distribution spec asks registries to take
/// at the least and what everybody takes at the most.
pub const MANIFEST_SIZE_MAX: u64 = 4 << 20;

/// A manifest: one platform's config and layers, or an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    /// The manifest's own media type.
    #[serde(default = "oci_manifest")]
    pub media_type: MediaType,
    /// The kind of artifact, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know, kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

fn oci_manifest() -> MediaType {
    MediaType::OciManifest
}

fn oci_index() -> MediaType {
    MediaType::OciIndex
}

impl Manifest {
    /// Makes an OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MediaType::OciManifest,
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            unknown: Map::new(),
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// The bytes are not JSON, not a schema-2 manifest, or say two things at once (both `layers`
    /// and `manifests`), which the image spec forbids because clients would disagree about them.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = parse_sized(bytes, "manifest")?;
        if manifest.schema_version != 2 {
            return Err(Error::document_shape("manifest", "its `schemaVersion` is not 2"));
        }
        if manifest.unknown.contains_key("manifests") || manifest.unknown.contains_key("fsLayers") {
            return Err(Error::document_shape("manifest", "it is two kinds of document at once"));
        }
        if manifest.media_type.is_index() {
            return Err(Error::document_shape("manifest", "its `mediaType` is that of an index"));
        }
        Ok(manifest)
    }

    /// Writes the manifest: compact JSON, fields in a fixed order.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }
}

/// An index: several manifests, for platforms or kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    schema_version: u32,
    /// The index's own media type.
    #[serde(default = "oci_index")]
    pub media_type: MediaType,
    /// The kind of artifact, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know, kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Index {
    /// Makes an OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MediaType::OciIndex,
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            unknown: Map::new(),
        }
    }

    /// Reads an index.
    ///
    /// # Errors
    /// As [`Manifest::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let index: Self = parse_sized(bytes, "index")?;
        if index.schema_version != 2 {
            return Err(Error::document_shape("index", "its `schemaVersion` is not 2"));
        }
        if ["config", "layers", "fsLayers"].iter().any(|key| index.unknown.contains_key(*key)) {
            return Err(Error::document_shape("index", "it is two kinds of document at once"));
        }
        if index.media_type.is_manifest() {
            return Err(Error::document_shape("index", "its `mediaType` is that of a manifest"));
        }
        Ok(index)
    }

    /// Writes the index: compact JSON, fields in a fixed order.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always serialise")
    }
}

fn parse_sized<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    if bytes.len() as u64 > MANIFEST_SIZE_MAX {
        return Err(Error::document_shape(what, "it has more than 4 MiB"));
    }
    serde_json::from_slice(bytes).map_err(|source| Error::document(what, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn manifest_keeps_unknown_fields() {
        let config = Descriptor::new(MediaType::OciConfig, Digest::of(b"{}"), 2);
        let mut manifest = Manifest::new(config, Vec::new());
        manifest.unknown.insert("x".into(), 1.into());
        assert_eq!(Manifest::parse(&manifest.to_bytes()).unwrap(), manifest);
    }

    #[test]
    fn a_document_of_two_kinds_is_refused() {
        let config = Descriptor::new(MediaType::OciConfig, Digest::of(b"{}"), 2);
        let mut manifest = Manifest::new(config, Vec::new());
        manifest.unknown.insert("manifests".into(), Value::Array(Vec::new()));
        assert!(Manifest::parse(&manifest.to_bytes()).is_err());
        assert!(Index::parse(&manifest.to_bytes()).is_err());
    }
}
