//! The store as the place that an image comes to.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use conex_oci::{BlobSink, Descriptor, Digest, ImageConfig, Manifest};
use conex_remote::ImageSink;
use conex_store::{ImageRecord, ImageSource, Lease, NewImage, NewIndex};

use crate::error::{CliError, Result};

/// Takes images into the store.
pub struct StoreSink<'l> {
    lease: &'l Lease,
    source: ImageSource,
    /// Image IDs by the digest of their manifest.
    images: Mutex<BTreeMap<Digest, Digest>>,
}

impl<'l> StoreSink<'l> {
    /// A sink whose images stay as long as the lease, or until they are tagged.
    pub fn new(lease: &'l Lease, source: ImageSource) -> Self {
        Self { lease, source, images: Mutex::default() }
    }

    /// The image that a manifest or index came to.
    pub fn record(&self, manifest: &Digest) -> Result<ImageRecord> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let id = images.get(manifest).unwrap_or(manifest);
        self.lease.store().image(id)?.ok_or_else(|| {
            CliError::new(format!("`{manifest}` is not an image that can be kept in the store"))
        })
    }

    fn put_image(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Digest> {
        let manifest = Manifest::parse(bytes)?;
        let config_bytes = self.lease.store().read_blob(&manifest.config.digest)?;
        let config = ImageConfig::parse(&config_bytes)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let message =
                format!("`{}` has not as many layers as its config says", descriptor.digest);
            return Err(CliError::new(message));
        }
        for (diff_id, layer) in config.rootfs.diff_ids.iter().zip(&manifest.layers) {
            if layer.media_type.layer_compression().is_none() {
                let message =
                    format!("a layer of `{}` is `{}`", descriptor.digest, layer.media_type);
                return Err(CliError::new(message)
                    .with_hint("this is no container image, but an artifact of another kind"));
            }
            self.lease.put_layer_blob(diff_id, layer)?;
        }
        let manifest = Some((descriptor.media_type.clone(), bytes));
        let image = NewImage { config: &config_bytes, manifest, source: self.source };
        Ok(self.lease.put_image(&image)?.id)
    }
}

impl BlobSink for StoreSink<'_> {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        self.lease.has(blob)
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        self.lease.put(blob, body)
    }
}

impl ImageSink for StoreSink<'_> {
    fn put_manifest(&self, descriptor: &Descriptor, bytes: &[u8], _: &[&str]) -> io::Result<()> {
        let id = if descriptor.media_type.is_index() {
            let index = NewIndex::Original { bytes, source: self.source };
            self.lease.put_index(&index).map(|record| record.id).map_err(io::Error::other)?
        } else {
            self.put_image(descriptor, bytes).map_err(io::Error::other)?
        };
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.insert(descriptor.digest.clone(), id);
        Ok(())
    }
}
