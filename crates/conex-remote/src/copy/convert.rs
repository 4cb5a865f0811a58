//! From OCI's image format to Docker's (schema 2) and back. The two say the same with other media
//! types: layers and config stay as they are, byte for byte, and with them the image's ID;
//! manifests and indexes are written anew, and with them their digests change.

use std::collections::HashMap;

use conex_oci::{Compression, Descriptor, Digest, Index, Manifest, MediaType};

use crate::error::{Error, ErrorKind, Result};

use super::plan::{Survey, is_index, parse_index};

/// How manifests and indexes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// As the OCI image specification has it.
    Oci,
    /// As Docker has it: image manifest version 2, schema 2.
    Docker,
}

/// Layers that are not handed on, in both formats.
const FOREIGN: [(&str, &str); 2] = [
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ),
];

impl Survey {
    /// The same image in a format. What is in it already stays as it is.
    ///
    /// # Errors
    /// It is no container image, or something in it cannot be said in the format.
    pub(super) fn into_format(mut self, format: ImageFormat) -> Result<Self> {
        let mut written: HashMap<Digest, Descriptor> = HashMap::new();
        for (descriptor, bytes) in &mut self.manifests {
            let old = descriptor.digest.clone();
            // Children come before what names them.
            let new = if is_index(&descriptor.media_type, bytes) {
                index(descriptor, bytes, format, &written)?
            } else {
                manifest(descriptor, bytes, format)?
            };
            if let Some((media_type, new)) = new {
                *descriptor = Descriptor::of(media_type, &new);
                *bytes = new;
            }
            written.insert(old, descriptor.clone());
        }
        if let Some(root) = written.get(&self.root.digest) {
            self.root = root.clone();
        }
        Ok(self)
    }
}

/// A manifest in the format; none when it is in it.
fn manifest(
    descriptor: &Descriptor,
    bytes: &[u8],
    format: ImageFormat,
) -> Result<Option<(MediaType, Vec<u8>)>> {
    let named = || format!("manifest `{}`", descriptor.digest);
    let known = Manifest::parse(bytes).map_err(|source| {
        Error::protocol(format!("{} cannot be understood", named())).with_source(source)
    })?;
    let is_image =
        matches!(known.config.media_type, MediaType::OciConfig | MediaType::DockerConfig)
            && known.artifact_type.is_none()
            && known.subject.is_none();
    if !is_image {
        let message = format!("{} is no container image: it has one format only", named());
        return Err(Error::new(ErrorKind::Unsupported, message)
            .with_hint("copy it without `--format`, or one `--platform` of the image"));
    }
    let (own, config) = match format {
        ImageFormat::Oci => (MediaType::OciManifest, MediaType::OciConfig),
        ImageFormat::Docker => (MediaType::DockerManifest, MediaType::DockerConfig),
    };
    if known.media_type == own {
        return Ok(None);
    }
    let config = Descriptor::new(config, known.config.digest, known.config.size);
    let layers = known.layers.into_iter().map(|layer| self::layer(layer, format));
    let mut new = Manifest::new(config, layers.collect::<Result<_>>()?);
    new.media_type = own.clone();
    if format == ImageFormat::Oci {
        new.annotations = known.annotations;
    }
    Ok(Some((own, new.to_bytes())))
}

fn layer(layer: Descriptor, format: ImageFormat) -> Result<Descriptor> {
    let text = layer.media_type.as_str();
    let foreign = FOREIGN.iter().find(|(oci, docker)| *oci == text || *docker == text);
    let media_type = match (layer.media_type.layer_compression(), foreign, format) {
        (Some(Compression::Zstd), _, ImageFormat::Docker) => {
            let message = format!(
                "layer `{}` is compressed with zstd, which Docker's image format does not have",
                layer.digest
            );
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint(
                "`conex pull` it, then `conex push --force-compression` packs with gzip",
            ));
        }
        (Some(compression), _, ImageFormat::Oci) => MediaType::OciLayer(compression),
        (Some(compression), _, ImageFormat::Docker) => MediaType::DockerLayer(compression),
        (None, Some((oci, _)), ImageFormat::Oci) => MediaType::from(*oci),
        (None, Some((_, docker)), ImageFormat::Docker) => MediaType::from(*docker),
        (None, None, _) => {
            let message = format!("`{}` is a `{text}`, which is no layer", layer.digest);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    // Docker's format has no annotations.
    let mut new = Descriptor::new(media_type, layer.digest, layer.size);
    new.urls = layer.urls;
    Ok(new)
}

/// An index in the format; none when all of it is in it.
fn index(
    descriptor: &Descriptor,
    bytes: &[u8],
    format: ImageFormat,
    written: &HashMap<Digest, Descriptor>,
) -> Result<Option<(MediaType, Vec<u8>)>> {
    let known = parse_index(descriptor, bytes)?;
    let own = match format {
        ImageFormat::Oci => MediaType::OciIndex,
        ImageFormat::Docker => MediaType::DockerIndex,
    };
    let is_same = |child: &Descriptor| {
        written.get(&child.digest).is_none_or(|new| new.digest == child.digest)
    };
    if known.media_type == own && known.manifests.iter().all(is_same) {
        return Ok(None);
    }
    let entry = |child: &Descriptor| {
        let Some(new) = written.get(&child.digest) else {
            let message = format!("`{}` of the index is no manifest", child.digest);
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let mut new = new.clone();
        new.platform.clone_from(&child.platform);
        Ok(new)
    };
    let mut new = Index::new(known.manifests.iter().map(entry).collect::<Result<_>>()?);
    new.media_type = own.clone();
    if format == ImageFormat::Oci {
        new.annotations = known.annotations;
    }
    Ok(Some((own, new.to_bytes())))
}
