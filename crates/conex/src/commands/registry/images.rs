//! This machine's store, shown as a registry.
//!
//! An image has the digest here that `conex push` would give it: layers that were built are packed
//! and kept, as a push keeps them. The digest is part of the manifest, so that is done before
//! anybody gets one: ahead, in the background, or when somebody asks first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use conex_oci::{Descriptor, Digest, Reference};
use conex_registry::{Failure, Name, ReadOnlyImages, ServedManifest};
use conex_remote::ImageSource as _;
use conex_store::{ImageRecord, Lease, Store};

use crate::error::{Doing as _, Result};
use crate::session::Session;
use crate::transfer::{Keep, Shipment, Shipping};

/// Images whose manifests are remembered.
const SHIPPED_COUNT_MAX: usize = 1_000;

/// How little of the processor packing ahead gets where others want it.
const PACKING_NICENESS: i32 = 15;

/// How often is looked for new names.
const PACKING_PAUSE: Duration = Duration::from_secs(5);

/// Packing ahead takes at most this part of the free disk for an image: one in four.
const DISK_SHARE: u64 = 4;

/// The store, to be pulled from.
pub struct LocalImages {
    store: Store,
    lease: Lease,
    /// By the image's ID.
    shipped: Mutex<HashMap<Digest, Arc<Entry>>>,
}

/// What is known of an image. Locked while it is packed, so that none is packed twice.
type Entry = Mutex<Option<Arc<Shipped>>>;

/// An image in the form in which it leaves.
struct Shipped {
    root: Digest,
    manifests: BTreeMap<Digest, ServedManifest>,
    blobs: BTreeSet<Digest>,
}

impl LocalImages {
    /// Opens the store.
    pub fn open(session: &Session) -> Result<Self> {
        let store = session.store()?.clone();
        let lease = store.lease()?;
        Ok(Self { store, lease, shipped: Mutex::default() })
    }

    /// All tags under all names that their images have here: the familiar one, and what is behind
    /// the registry's host, so that `HOST/app` is found by whoever pulls `app` from it. Names of
    /// Docker Hub come last and win.
    fn tags(&self) -> Result<BTreeMap<String, BTreeMap<String, Digest>>> {
        let mut tagged: Vec<(Reference, Digest)> = Vec::new();
        for image in self.store.images()? {
            tagged.extend(image.tags.iter().map(|tag| (tag.clone(), image.id.clone())));
        }
        let is_hub = |tag: &Reference| tag.registry() == conex_oci::DEFAULT_REGISTRY;
        tagged.sort_by_key(|(tag, _)| (is_hub(tag), tag.to_string()));
        let mut names: BTreeMap<String, BTreeMap<String, Digest>> = BTreeMap::new();
        for (reference, id) in tagged {
            let Some(tag) = reference.tag() else { continue };
            for name in names_of(&reference) {
                names.entry(name).or_default().insert(tag.to_owned(), id.clone());
            }
        }
        Ok(names)
    }

    fn entry(&self, id: &Digest) -> Arc<Entry> {
        let mut all = self.shipped.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SHIPPED_COUNT_MAX {
            all.clear();
        }
        Arc::clone(all.entry(id.clone()).or_default())
    }

    fn shipped(&self, id: &Digest) -> Result<Arc<Shipped>> {
        let entry = self.entry(id);
        let mut entry = entry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shipped) = entry.as_ref()
            && self.is_whole(shipped)?
        {
            return Ok(Arc::clone(shipped));
        }
        self.lease.hold_image(id)?;
        let shipment = Shipment::of(&self.lease, id, &shipping())?;
        let mut shipped = Shipped {
            root: shipment.root_descriptor().digest.clone(),
            manifests: BTreeMap::new(),
            blobs: BTreeSet::new(),
        };
        for blob in shipment.blobs()? {
            match manifest(&shipment, &blob) {
                Some(manifest) => drop(shipped.manifests.insert(blob.digest, manifest)),
                None => drop(shipped.blobs.insert(blob.digest)),
            }
        }
        Ok(Arc::clone(entry.insert(Arc::new(shipped))))
    }

    /// Packs what has a name, the newest first, and what gets one later; never ends. An image that
    /// cannot be packed is left to whoever asks for it, and hears why.
    pub fn pack_ahead(&self) {
        // Whoever works on this machine comes first. If it cannot be so, they share.
        let _ = rustix::process::nice(PACKING_NICENESS);
        let mut seen = BTreeSet::new();
        loop {
            let mut images = self.store.images().unwrap_or_default();
            images.retain(|image| !image.tags.is_empty() && !seen.contains(&image.id));
            images.sort_by_key(|image| std::cmp::Reverse(image.created));
            for image in images {
                let _ = self.pack(&image);
                seen.insert(image.id);
            }
            std::thread::sleep(PACKING_PAUSE);
        }
    }

    fn pack(&self, image: &ImageRecord) -> Result<()> {
        let entry = self.entry(&image.id);
        let _packing = entry.lock().unwrap_or_else(PoisonError::into_inner);
        // The packed form stays with the image, and goes with it: nothing else is held.
        let lease = self.store.lease()?;
        lease.hold_image(&image.id)?;
        if Shipment::unpacked(&lease, &image.id, &shipping())?.is_empty() {
            return Ok(());
        }
        let disk = File::open(self.store.root()).and_then(conex_sys::fsinfo::space);
        let disk = disk.doing(|| "cannot see how much room there is".to_owned())?;
        // Nobody asked for it yet: it must not be what fills the disk.
        if disk.available / DISK_SHARE < image.size {
            return Ok(());
        }
        Shipment::of(&lease, &image.id, &shipping()).map(drop)
    }

    /// Whether a prune has taken nothing of it.
    fn is_whole(&self, shipped: &Shipped) -> Result<bool> {
        for blob in &shipped.blobs {
            if !self.store.has_blob(blob)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn of_repository(&self, of: &Name) -> Result<BTreeMap<String, Digest>> {
        Ok(self.tags()?.remove(of.as_str()).unwrap_or_default())
    }
}

/// As a push has it, so that the digests are the same.
fn shipping() -> Shipping<'static> {
    Shipping { keep: Keep::Blobs, ..Shipping::usual() }
}

fn manifest(shipment: &Shipment<'_>, blob: &Descriptor) -> Option<ServedManifest> {
    let bytes = shipment.manifest(blob).ok()?;
    Some(ServedManifest { media_type: blob.media_type.as_str().to_owned(), bytes })
}

/// The names that a repository has here.
fn names_of(reference: &Reference) -> Vec<String> {
    let mut names = vec![reference.repository().to_owned(), reference.familiar_name()];
    if reference.registry() != conex_oci::DEFAULT_REGISTRY {
        names.push(reference.name());
    }
    names.retain(|name| Name::parse(name).is_some());
    names
}

impl ReadOnlyImages for LocalImages {
    fn repositories(&self) -> std::result::Result<Vec<String>, Failure> {
        let mut names: Vec<String> = self.tags()?.into_keys().collect();
        // The familiar form of a name is enough to be shown.
        let all: BTreeSet<String> = names.iter().cloned().collect();
        names.retain(|name| name.strip_prefix("library/").is_none_or(|rest| !all.contains(rest)));
        Ok(names)
    }

    fn tags(&self, of: &Name) -> std::result::Result<Vec<String>, Failure> {
        Ok(self.of_repository(of)?.into_keys().collect())
    }

    fn manifest(
        &self,
        of: &Name,
        reference: &conex_registry::Reference,
    ) -> std::result::Result<Option<ServedManifest>, Failure> {
        let tags = self.of_repository(of)?;
        let digest = match reference {
            conex_registry::Reference::Tag(tag) => {
                let Some(id) = tags.get(tag.as_str()) else { return Ok(None) };
                let shipped = self.shipped(id)?;
                return Ok(shipped.manifests.get(&shipped.root).cloned());
            }
            conex_registry::Reference::Digest(digest) => digest,
        };
        for id in tags.values() {
            if let Some(found) = self.shipped(id)?.manifests.get(digest) {
                return Ok(Some(found.clone()));
            }
        }
        Ok(None)
    }

    fn blob(&self, of: &Name, digest: &Digest) -> std::result::Result<Option<File>, Failure> {
        for id in self.of_repository(of)?.values() {
            if self.shipped(id)?.blobs.contains(digest) {
                if !self.lease.hold_blob(digest)? {
                    return Ok(None);
                }
                return Ok(Some(File::open(self.store.blob_path(digest))?));
            }
        }
        Ok(None)
    }
}
