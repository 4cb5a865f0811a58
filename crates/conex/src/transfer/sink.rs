//! The store as the place that an image comes to.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use conex_oci::{BlobSink, Descriptor, Digest, ImageConfig, Manifest};
use conex_remote::{ImageSink, PartialStore};
use conex_store::{ImageRecord, ImageSource, Lease, NewImage, NewIndex};

use super::arrivals::{Arrivals, Partials};
use super::artifacts::{Artifacts, is_image};
use crate::error::{CliError, Result};

/// Takes images into the store.
pub struct StoreSink<'l> {
    lease: &'l Lease,
    source: ImageSource,
    partials: Partials,
    /// Image IDs by the digest of their manifest.
    images: Mutex<BTreeMap<Digest, Digest>>,
}

impl<'l> StoreSink<'l> {
    /// A sink whose images stay as long as the lease, or until they are tagged.
    pub fn new(lease: &'l Lease, source: ImageSource) -> Self {
        let partials = Partials { lease: lease.clone(), arrivals: Arc::default() };
        Self { lease, source, partials, images: Mutex::default() }
    }

    /// What has arrived, for whoever does not want to wait for all of it.
    pub fn arrivals(&self) -> &Arc<Arrivals> {
        &self.partials.arrivals
    }

    /// The image that a manifest or index came to.
    pub fn record(&self, manifest: &Digest) -> Result<ImageRecord> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let id = images.get(manifest).unwrap_or(manifest);
        self.lease.store().image(id)?.ok_or_else(|| {
            CliError::new(format!("`{manifest}` is not an image that can be kept in the store"))
        })
    }

    fn put_image(
        &self,
        descriptor: &Descriptor,
        manifest: Manifest,
        bytes: &[u8],
    ) -> Result<Digest> {
        let config_bytes = self.lease.store().read_blob(&manifest.config.digest)?;
        let config = ImageConfig::parse(&config_bytes)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let message =
                format!("`{}` has not as many layers as its config says", descriptor.digest);
            return Err(CliError::new(message));
        }
        for (diff_id, layer) in config.rootfs.diff_ids.iter().zip(&manifest.layers) {
            self.lease.put_layer_blob(diff_id, layer)?;
        }
        let manifest = Some((descriptor.media_type.clone(), bytes));
        let image = NewImage { config: &config_bytes, manifest, source: self.source };
        Ok(self.lease.put_image(&image)?.id)
    }

    /// Keeps a manifest. Gives the image that it is, if it is one.
    fn keep(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<Option<Digest>> {
        if descriptor.media_type.is_index() {
            let index = NewIndex::Original { bytes, source: self.source };
            return Ok(Some(self.lease.put_index(&index)?.id));
        }
        let manifest = Manifest::parse(bytes)?;
        if is_image(&manifest) {
            return self.put_image(descriptor, manifest, bytes).map(Some);
        }
        Artifacts::of(self.lease.store())?.put(self.lease, descriptor, bytes)?;
        Ok(None)
    }
}

impl BlobSink for StoreSink<'_> {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        let is_there = self.lease.has(blob)?;
        if is_there {
            self.arrivals().there(&blob.digest);
        }
        Ok(is_there)
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        self.lease.put(blob, body)?;
        self.arrivals().there(&blob.digest);
        Ok(())
    }
}

impl ImageSink for StoreSink<'_> {
    fn put_manifest(&self, descriptor: &Descriptor, bytes: &[u8], _: &[&str]) -> io::Result<()> {
        if let Some(id) = self.keep(descriptor, bytes).map_err(io::Error::other)? {
            let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            images.insert(descriptor.digest.clone(), id);
        }
        Ok(())
    }

    fn partials(&self) -> Option<&dyn PartialStore> {
        Some(&self.partials)
    }
}
