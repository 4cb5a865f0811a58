//! What the registry must know of a manifest: what it needs, what it is about, and what shows in
//! the list of referrers. The bytes themselves are kept as they came.

use std::collections::{BTreeMap, BTreeSet};

use conex_oci::{Digest, MANIFEST_SIZE_MAX};
use serde::Deserialize;

/// Most things that one manifest may name. 4 MiB of descriptors are about 40,000.
const DESCRIPTOR_COUNT_MAX: usize = 50_000;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest or index, as far as the registry reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The media type, without parameters.
    pub media_type: String,
    /// Blobs that must be there, with their sizes.
    pub blobs: Vec<(Digest, u64)>,
    /// Manifests that must be there.
    pub children: BTreeSet<Digest>,
    /// The manifest that this one is about.
    pub subject: Option<Digest>,
    /// What the list of referrers calls it.
    pub artifact_type: Option<String>,
    /// What the list of referrers says of it.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Named>,
    layers: Option<Vec<Named>>,
    manifests: Option<Vec<Named>>,
    subject: Option<Named>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
}

impl Named {
    /// Layers that may not be given to others are not uploaded either.
    fn is_elsewhere(&self) -> bool {
        self.media_type.contains(".nondistributable.")
            || self.media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

impl Document {
    /// Reads a manifest of the media type that a client says it has, if it says one.
    ///
    /// # Errors
    /// Says what is wrong with it, for the client.
    pub fn parse(bytes: &[u8], said: Option<&str>) -> Result<Self, String> {
        if bytes.len() as u64 > MANIFEST_SIZE_MAX {
            return Err("the manifest has more than 4 MiB".to_owned());
        }
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| format!("the manifest is not valid: {error}"))?;
        if json.schema_version != 2 {
            return Err("`schemaVersion` is not 2".to_owned());
        }
        let said = said.map(|text| text.split(';').next().unwrap_or_default().trim());
        let media_type = match (said, json.media_type.as_deref()) {
            (Some(said), Some(own)) if said != own => {
                return Err(format!("the content type `{said}` is not the `mediaType` `{own}`"));
            }
            (Some(media_type), _) | (None, Some(media_type)) => media_type.to_owned(),
            (None, None) => return Err("no content type and no `mediaType`".to_owned()),
        };
        let is_index = match media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            OCI_INDEX | DOCKER_LIST => true,
            other => return Err(format!("manifests of the type `{other}` are not taken")),
        };
        let is_both = if is_index {
            json.config.is_some() || json.layers.is_some()
        } else {
            json.manifests.is_some()
        };
        if is_both || json.fs_layers.is_some() {
            return Err("the manifest is two kinds of document at once".to_owned());
        }
        json.read(media_type, is_index)
    }
}

impl Json {
    fn read(self, media_type: String, is_index: bool) -> Result<Document, String> {
        let layers = self.layers.unwrap_or_default();
        let manifests = self.manifests.unwrap_or_default();
        if layers.len() + manifests.len() > DESCRIPTOR_COUNT_MAX {
            return Err(format!("the manifest names more than {DESCRIPTOR_COUNT_MAX} things"));
        }
        let mut blobs = BTreeMap::new();
        let mut fallback_type = None;
        if !is_index {
            let config = self.config.ok_or("the manifest has no `config`")?;
            fallback_type = Some(config.media_type.clone());
            for blob in std::iter::once(&config).chain(&layers) {
                let known = blobs.insert(blob.digest.clone(), blob.size);
                if known.is_some_and(|size| size != blob.size) {
                    return Err(format!("`{}` is named with two sizes", blob.digest));
                }
            }
            for blob in layers.iter().filter(|blob| blob.is_elsewhere()) {
                blobs.remove(&blob.digest);
            }
        }
        Ok(Document {
            media_type,
            blobs: blobs.into_iter().collect(),
            children: manifests.into_iter().map(|child| child.digest).collect(),
            subject: self.subject.map(|subject| subject.digest),
            artifact_type: self
                .artifact_type
                .filter(|text| !text.is_empty())
                .or(fallback_type.filter(|text| !text.is_empty())),
            annotations: self.annotations.unwrap_or_default(),
        })
    }
}

/// A line of the list of referrers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its digest.
    pub digest: Digest,
    /// The whole descriptor.
    pub descriptor: serde_json::Value,
}

/// The descriptors of an index, as they are: what a fallback tag lists.
pub(crate) fn listed(bytes: &[u8]) -> Vec<Listed> {
    #[derive(Deserialize)]
    struct Index {
        #[serde(default)]
        manifests: Vec<serde_json::Value>,
    }
    let Ok(index) = serde_json::from_slice::<Index>(bytes) else { return Vec::new() };
    let read = |descriptor: serde_json::Value| {
        let digest = descriptor.get("digest")?.as_str()?.parse().ok()?;
        Some(Listed { digest, descriptor })
    };
    index.manifests.into_iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn what_a_manifest_needs_is_found() {
        let (config, layer, subject) = (digest("c"), digest("l"), digest("s"));
        let foreign = digest("f");
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x/y","digest":"{config}","size":1}},
            "layers":[{{"digest":"{layer}","size":2}},{{"digest":"{layer}","size":2}},
            {{"digest":"{foreign}","size":9,
              "mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"}}],
            "subject":{{"digest":"{subject}","size":3}},"annotations":{{"a":"b"}},"own":[1]}}"#
        );
        let document = Document::parse(
            text.as_bytes(),
            Some("application/vnd.oci.image.manifest.v1+json; x=1"),
        )
        .unwrap();
        let mut wanted = vec![(config, 1), (layer, 2)];
        wanted.sort();
        assert_eq!(document.blobs, wanted);
        assert_eq!(document.subject, Some(subject));
        assert_eq!(document.artifact_type.as_deref(), Some("x/y"));
        assert_eq!(document.media_type, OCI_MANIFEST);
    }

    #[test]
    fn what_is_no_manifest_is_refused_with_the_reason() {
        let config = format!(r#""config":{{"digest":"{}","size":1}}"#, digest("c"));
        for (text, said, reason) in [
            ("", OCI_MANIFEST, "not valid"),
            ("[]", OCI_MANIFEST, "not valid"),
            (r#"{"schemaVersion":1}"#, OCI_MANIFEST, "not 2"),
            (r#"{"schemaVersion":2}"#, OCI_MANIFEST, "no `config`"),
            (r#"{"schemaVersion":2}"#, "text/plain", "not taken"),
            (r#"{"schemaVersion":2,"mediaType":"a/b"}"#, OCI_MANIFEST, "is not the `mediaType`"),
            (
                &format!(r#"{{"schemaVersion":2,{config},"manifests":[]}}"#),
                OCI_MANIFEST,
                "two kinds",
            ),
            (&format!(r#"{{"schemaVersion":2,{config}}}"#), OCI_INDEX, "two kinds"),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1}}"#,
                OCI_MANIFEST,
                "not valid",
            ),
            (
                r#"{"schemaVersion":2,"config":{"digest":"md5:00","size":-1}}"#,
                OCI_MANIFEST,
                "not valid",
            ),
        ] {
            let error = Document::parse(text.as_bytes(), Some(said)).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(Document::parse(br#"{"schemaVersion":2}"#, None).is_err());
        let deep = "[".repeat(100_000);
        assert!(Document::parse(deep.as_bytes(), Some(OCI_MANIFEST)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Document::parse(&bytes, Some(OCI_INDEX));
            let _ = listed(&bytes);
        }
    }
}
