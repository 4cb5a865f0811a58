//! Media types of the image specification and of Docker's image format (schema 2).

use serde::{Deserialize, Serialize};

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

/// What a blob is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MediaType {
    /// OCI image manifest.
    OciManifest,
    /// OCI image index.
    OciIndex,
    /// OCI image config.
    OciConfig,
    /// OCI layer.
    OciLayer(Compression),
    /// Docker manifest, schema 2.
    DockerManifest,
    /// Docker manifest list.
    DockerIndex,
    /// Docker image config.
    DockerConfig,
    /// Docker layer.
    DockerLayer(Compression),
    /// The empty JSON document (`{}`) of an artifact.
    Empty,
    /// Anything else; the text is kept.
    Other(String),
}

const KNOWN: [(MediaType, &str); 13] = [
    (MediaType::OciManifest, "application/vnd.oci.image.manifest.v1+json"),
    (MediaType::OciIndex, "application/vnd.oci.image.index.v1+json"),
    (MediaType::OciConfig, "application/vnd.oci.image.config.v1+json"),
    (MediaType::OciLayer(Compression::None), "application/vnd.oci.image.layer.v1.tar"),
    (MediaType::OciLayer(Compression::Gzip), "application/vnd.oci.image.layer.v1.tar+gzip"),
    (MediaType::OciLayer(Compression::Zstd), "application/vnd.oci.image.layer.v1.tar+zstd"),
    (MediaType::DockerManifest, "application/vnd.docker.distribution.manifest.v2+json"),
    (MediaType::DockerIndex, "application/vnd.docker.distribution.manifest.list.v2+json"),
    (MediaType::DockerConfig, "application/vnd.docker.container.image.v1+json"),
    (MediaType::DockerLayer(Compression::None), "application/vnd.docker.image.rootfs.diff.tar"),
    (
        MediaType::DockerLayer(Compression::Gzip),
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
    (
        MediaType::DockerLayer(Compression::Zstd),
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    ),
    (MediaType::Empty, "application/vnd.oci.empty.v1+json"),
];

impl MediaType {
    /// The text that stands in documents and headers.
    pub fn as_str(&self) -> &str {
        if let Self::Other(text) = self {
            return text;
        }
        KNOWN
            .iter()
            .find(|(known, _)| known == self)
            .map_or("application/octet-stream", |(_, text)| text)
    }

    /// Whether this is a manifest of one platform.
    pub fn is_manifest(&self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }

    /// Whether this is a list of manifests.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerIndex)
    }

    /// How the layer is compressed, if this is a layer.
    pub fn layer_compression(&self) -> Option<Compression> {
        match self {
            Self::OciLayer(compression) | Self::DockerLayer(compression) => Some(*compression),
            _ => None,
        }
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        // Parameters (`; charset=utf-8`) say nothing here and some registries add them.
        let bare = text.split(';').next().unwrap_or_default().trim();
        KNOWN
            .iter()
            .find(|(_, known)| bare.eq_ignore_ascii_case(known))
            .map(|(media_type, _)| media_type.clone())
            .unwrap_or(Self::Other(text))
    }
}

impl From<&str> for MediaType {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.as_str().to_owned()
    }
}

impl std::fmt::Display for MediaType {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}
