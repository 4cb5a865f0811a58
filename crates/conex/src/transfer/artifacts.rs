//! What comes with images and is none itself: attestations that an index lists, signatures and
//! bills of materials that refer to an image. The store knows images only, so these lie beside
//! them, as an OCI layout, and leave with the images that they belong to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use conex_layer::{ArchivedImage, Layout};
use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, Index, Manifest};
use conex_store::{ImageKind, Lease, Store};
use conex_sys::root::{Links, RootDir};

use super::archive::copy_blob;
use crate::error::{Doing as _, Result};

/// Artifacts that came in so lately stay: they come before the index that lists them, which may
/// still be on its way.
const YOUNG: Duration = Duration::from_secs(3600);

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
        let _lock = self.lock().doing(act)?;
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

    /// Removes those whose image is gone. Gives the bytes that are free again.
    pub fn sweep(store: &Store, now: SystemTime) -> Result<u64> {
        if !store.aux_dir("artifacts")?.join("index.json").exists() {
            return Ok(0);
        }
        let artifacts = Self::of(store)?;
        let _lock = artifacts.lock().doing(|| "cannot look through the artifacts".to_owned())?;
        let blobs = artifacts.folder.join("blobs/sha256");
        let is_young = |name: &str| {
            let changed = std::fs::metadata(blobs.join(name)).and_then(|meta| meta.modified());
            let age = changed.ok().and_then(|changed| now.duration_since(changed).ok());
            age.is_none_or(|age| age < YOUNG)
        };
        let mut needed = manifests_of(store)?;
        let mut left = artifacts.all()?;
        let mut wanted = BTreeSet::new();
        // What refers to an artifact that stays does so too.
        loop {
            let (stays, goes): (Vec<_>, Vec<_>) = left.into_iter().partition(|known| {
                needed.contains(&known.root.digest)
                    || subject_of(&known.document).is_some_and(|subject| needed.contains(&subject))
                    || is_young(known.root.digest.hex())
            });
            left = goes;
            if stays.is_empty() {
                break;
            }
            for known in stays {
                if let Ok(manifest) = Manifest::parse(&known.document) {
                    let parts = std::iter::once(manifest.config).chain(manifest.layers);
                    wanted.extend(parts.map(|blob| blob.digest.hex().to_owned()));
                }
                wanted.insert(known.root.digest.hex().to_owned());
                needed.insert(known.root.digest);
            }
        }
        if !left.is_empty() {
            let gone = left.into_iter().map(|known| known.root.digest).collect();
            artifacts.layout.forget_images(&gone)?;
        }
        let mut bytes = 0;
        for entry in std::fs::read_dir(&blobs).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !wanted.contains(*name)) else { continue };
            let size = entry.metadata().map_or(0, |meta| meta.len());
            // What cannot be removed takes space only.
            if !is_young(name) && std::fs::remove_file(entry.path()).is_ok() {
                bytes += size;
            }
        }
        Ok(bytes)
    }

    fn lock(&self) -> io::Result<File> {
        let lock = File::create(self.folder.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    fn all(&self) -> Result<Vec<ArchivedImage>> {
        Ok(self.layout.images()?)
    }
}

/// The manifests and indexes of all images of a store, and what the indexes list.
fn manifests_of(store: &Store) -> Result<BTreeSet<Digest>> {
    let mut all = BTreeSet::new();
    for image in store.images()? {
        all.extend(store.manifests(&image.id)?.into_iter().map(|manifest| manifest.digest));
        all.extend(image.repo_digests.iter().filter_map(|name| name.digest().cloned()));
        if image.kind == ImageKind::Index {
            let entries = store.index_entries(&image.id)?;
            all.extend(entries.into_iter().filter_map(|entry| entry.manifest));
        }
        all.insert(image.id);
    }
    Ok(all)
}

/// What a manifest or index refers to.
pub fn subject_of(document: &[u8]) -> Option<Digest> {
    let subject = match Manifest::parse(document) {
        Ok(manifest) => manifest.subject,
        Err(_) => Index::parse(document).ok()?.subject,
    };
    subject.map(|subject| subject.digest)
}
