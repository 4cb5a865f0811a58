//! What comes with images and is none itself: attestations that an index lists, signatures and
//! bills of materials that refer to an image. The store knows images only, so these lie beside
//! them, as an OCI layout, and leave with the images that they belong to.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use conex_layer::{ArchivedImage, Layout};
use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, Index, Manifest};
use conex_store::{Lease, Store};
use conex_sys::root::{Links, RootDir};

use super::archive::copy_blob;
use crate::error::{Doing as _, Result};

/// The artifacts of a store.
pub struct Artifacts {
    layout: Layout,
    folder: PathBuf,
}

/// Whether a manifest is that of a container image, and not of something else in that form.
pub fn is_image(manifest: &Manifest) -> bool {
    use conex_oci::MediaType::{DockerConfig, OciConfig};
    matches!(manifest.config.media_type, OciConfig | DockerConfig)
        && manifest.artifact_type.is_none()
        && manifest.layers.iter().all(|layer| layer.media_type.layer_compression().is_some())
}

impl Artifacts {
    /// Opens those of a store.
    pub fn of(store: &Store) -> Result<Self> {
        let folder = store.aux_dir("artifacts")?;
        let root = RootDir::open(&folder, Links::Refuse)
            .doing(|| format!("cannot open the folder `{}`", folder.display()))?;
        Ok(Self { layout: Layout::create(&root)?, folder })
    }

    /// Keeps an artifact whose blobs the lease has.
    pub fn put(&self, lease: &Lease, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let act = || format!("cannot keep the artifact `{}`", descriptor.digest);
        if let Ok(manifest) = Manifest::parse(bytes) {
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                copy_blob(lease, &self.layout, blob)?;
            }
        }
        let mut body = bytes;
        self.layout.put(descriptor, &mut body).doing(act)?;
        let lock = File::create(self.folder.join("lock")).doing(act)?;
        lock.lock().doing(act)?;
        Ok(self.layout.add_image(descriptor, &[])?)
    }

    /// An artifact by the digest of its manifest.
    pub fn get(&self, manifest: &Digest) -> Result<Option<(Descriptor, Vec<u8>)>> {
        let found = self.all()?.into_iter().find(|known| known.root.digest == *manifest);
        Ok(found.map(|found| (found.root, found.document)))
    }

    /// What refers to a manifest.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let refers = |known: &ArchivedImage| subject_of(&known.document).as_ref() == Some(subject);
        Ok(self.all()?.into_iter().filter(refers).map(|known| known.root).collect())
    }

    /// The blobs that they consist of.
    pub fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        BlobSource::open(&self.layout, blob)
    }

    fn all(&self) -> Result<Vec<ArchivedImage>> {
        Ok(self.layout.images()?)
    }
}

/// What a manifest or index refers to.
pub fn subject_of(document: &[u8]) -> Option<Digest> {
    let subject = match Manifest::parse(document) {
        Ok(manifest) => manifest.subject,
        Err(_) => Index::parse(document).ok()?.subject,
    };
    subject.map(|subject| subject.digest)
}
