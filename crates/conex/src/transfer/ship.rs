//! The store as the place that an image leaves from: its layers in their shipped form, a manifest
//! that names them.
//!
//! A layer that came from outside leaves as it came. One that was built here has no tar on the
//! disk: it is made again from its files, compressed, and checked against its diff ID.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use conex_layer::{Encoder, EncoderOptions, Hashing, Stack, WriteOptions};
use conex_oci::{
    BlobSource, Compression, Descriptor, Digest, Index, Manifest, MediaType, Platform,
};
use conex_remote::ImageSource;
use conex_report::{Event, Outcome, Reporter, Unit, VertexId};
use conex_store::{Durability, ImageKind, ImageLayer, ImageRecord, Lease, Snapshot};
use conex_sys::dir::Dir;

use super::artifacts::Artifacts;
use super::spool::Spool;
use super::stream::Packed;
use crate::error::{CliError, Result};

/// Whether the shipped form of a layer stays in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It does: the next push of the same layer needs no work.
    Blobs,
    /// It goes when the lease ends.
    Nothing,
}

/// How layers leave.
#[derive(Clone)]
pub struct Shipping<'s> {
    /// Compression of layers that have no shipped form yet.
    pub compression: Compression,
    /// How hard to compress; none is the usual.
    pub level: Option<i32>,
    /// Compress layers anew that came in another form.
    pub force: bool,
    /// Threads that compress.
    pub threads: usize,
    /// Whether the shipped form stays.
    pub keep: Keep,
    /// Annotations of each manifest.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of the index, where there is one.
    pub index_annotations: BTreeMap<String, String>,
    /// One platform of an index.
    pub platform: Option<Platform>,
    /// Checked now and then; true stops the work.
    pub cancelled: Option<&'s AtomicBool>,
    /// Is told how far packing is.
    pub reporter: &'s dyn Reporter,
}

impl Shipping<'_> {
    /// gzip, as every registry and runtime takes it.
    pub fn usual() -> Self {
        Self {
            compression: Compression::Gzip,
            level: None,
            force: false,
            threads: crate::session::parallelism(),
            keep: Keep::Nothing,
            annotations: BTreeMap::new(),
            index_annotations: BTreeMap::new(),
            platform: None,
            cancelled: None,
            reporter: &conex_report::Discard,
        }
    }
}

impl Shipping<'_> {
    /// Whether an image leaves under the manifest that it came with.
    fn keeps_originals(&self) -> bool {
        !self.force && self.annotations.is_empty()
    }
}

/// An image ready to leave.
pub struct Shipment<'l> {
    lease: &'l Lease,
    root: Descriptor,
    manifests: BTreeMap<Digest, Vec<u8>>,
    /// Layers that leave uncompressed: their tar is made while it is read.
    plain: BTreeMap<Digest, Snapshot>,
    packed: Packed,
}

impl<'l> Shipment<'l> {
    /// Makes an image or index of the store ready.
    pub fn of(lease: &'l Lease, image: &Digest, shipping: &Shipping<'_>) -> Result<Self> {
        Self::with(lease, image, shipping, Packed::new())
    }

    /// The same, where some layers are packed already.
    pub fn with(
        lease: &'l Lease,
        image: &Digest,
        shipping: &Shipping<'_>,
        packed: Packed,
    ) -> Result<Self> {
        let mut shipment = Self::empty(lease, image, packed);
        let chosen = chosen(lease, image, shipping)?;
        shipment.root = match chosen.kind {
            ImageKind::Image => shipment.image(&chosen.id, shipping)?,
            ImageKind::Index => shipment.index(&chosen.id, shipping)?,
        };
        Ok(shipment)
    }

    fn empty(lease: &'l Lease, image: &Digest, packed: Packed) -> Self {
        Self {
            lease,
            root: Descriptor::new(MediaType::Empty, image.clone(), 0),
            manifests: BTreeMap::new(),
            plain: BTreeMap::new(),
            packed,
        }
    }

    /// The layers that have to be packed before an image or index of the store is ready.
    pub fn unpacked(
        lease: &'l Lease,
        image: &Digest,
        shipping: &Shipping<'_>,
    ) -> Result<Vec<Snapshot>> {
        let chosen = chosen(lease, image, shipping)?;
        let images = match chosen.kind {
            ImageKind::Image => vec![chosen.id],
            ImageKind::Index => {
                let entries = lease.store().index_entries(&chosen.id)?;
                entries.into_iter().filter_map(|entry| entry.image).collect()
            }
        };
        let mut found: Vec<Snapshot> = Vec::new();
        for image in images {
            let mut shipment = Self::empty(lease, &image, Packed::new());
            if shipping.keeps_originals() && shipment.original(&image)?.is_some() {
                continue;
            }
            for layer in lease.store().layers(&image)? {
                let Some(snapshot) = &layer.snapshot else { continue };
                if !is_plain(&layer, shipping)
                    && found.iter().all(|known| known.diff_id() != snapshot.diff_id())
                    && shipped_form(lease, &layer, shipping)?.is_none()
                {
                    found.push(snapshot.clone());
                }
            }
        }
        Ok(found)
    }

    /// The manifest or index that is the image.
    pub fn root_descriptor(&self) -> &Descriptor {
        &self.root
    }

    fn image(&mut self, id: &Digest, shipping: &Shipping<'_>) -> Result<Descriptor> {
        let store = self.lease.store();
        if shipping.keeps_originals()
            && let Some(original) = self.original(id)?
        {
            return Ok(original);
        }
        let config_bytes = store.read_blob(id)?;
        let config = Descriptor::of(MediaType::OciConfig, &config_bytes);
        let mut layers = Vec::new();
        for layer in store.layers(id)? {
            layers.push(self.layer(&layer, shipping)?);
        }
        let mut manifest = Manifest::new(config, layers);
        manifest.annotations.clone_from(&shipping.annotations);
        Ok(self.add(MediaType::OciManifest, manifest.to_bytes()))
    }

    fn layer(&mut self, layer: &ImageLayer, shipping: &Shipping<'_>) -> Result<Descriptor> {
        if let Some(packed) = self.packed.get(&layer.diff_id) {
            return Ok(packed.clone());
        }
        if is_plain(layer, shipping)
            && let Some(snapshot) = &layer.snapshot
        {
            let digest = layer.diff_id.digest().clone();
            self.plain.insert(digest.clone(), snapshot.clone());
            let media_type = MediaType::OciLayer(Compression::None);
            return Ok(Descriptor::new(media_type, digest, snapshot.tar_size()));
        }
        ship_layer(self.lease, layer, shipping)
    }

    /// Everything that the image names, manifests too, children first.
    pub fn blobs(&self) -> Result<Vec<Descriptor>> {
        let mut blobs = Vec::new();
        self.add_blobs(&self.root, &mut blobs)?;
        Ok(blobs)
    }

    fn add_blobs(&self, root: &Descriptor, blobs: &mut Vec<Descriptor>) -> Result<()> {
        let Some(bytes) = self.manifests.get(&root.digest) else { return Ok(()) };
        if root.media_type.is_index() {
            for child in Index::parse(bytes)?.manifests {
                self.add_blobs(&child, blobs)?;
            }
        } else {
            let manifest = Manifest::parse(bytes)?;
            blobs.push(manifest.config);
            blobs.extend(manifest.layers);
        }
        blobs.push(root.clone());
        Ok(())
    }

    /// The manifest that an image came with, if all that it names is here.
    fn original(&mut self, id: &Digest) -> Result<Option<Descriptor>> {
        let store = self.lease.store();
        for descriptor in store.manifests(id)? {
            let bytes = store.read_blob(&descriptor.digest)?;
            let manifest = Manifest::parse(&bytes)?;
            let mut whole = true;
            for layer in &manifest.layers {
                whole &= self.lease.hold_blob(&layer.digest)?;
            }
            if whole {
                return Ok(Some(self.add(manifest.media_type, bytes)));
            }
        }
        Ok(None)
    }

    fn index(&mut self, id: &Digest, shipping: &Shipping<'_>) -> Result<Descriptor> {
        let mut entries = Vec::new();
        let mut original = true;
        for entry in self.lease.store().index_entries(id)? {
            let Some(image) = entry.image else {
                original &= self.artifact(entry.manifest.as_ref())?;
                continue;
            };
            let mut descriptor = self.image(&image, shipping)?;
            original &= entry.manifest.as_ref() == Some(&descriptor.digest);
            descriptor.platform = Some(entry.platform);
            entries.push(descriptor);
        }
        if original && !entries.is_empty() && shipping.index_annotations.is_empty() {
            let bytes = self.lease.store().read_blob(id)?;
            let media_type = Index::parse(&bytes)?.media_type;
            return Ok(self.add(media_type, bytes));
        }
        if entries.is_empty() {
            return Err(CliError::new("none of the index's platforms is in the store"));
        }
        let mut index = Index::new(entries);
        index.annotations.clone_from(&shipping.index_annotations);
        Ok(self.add(MediaType::OciIndex, index.to_bytes()))
    }

    /// Takes along what an index lists that is no image. Whether it is here.
    fn artifact(&mut self, manifest: Option<&Digest>) -> Result<bool> {
        let Some(manifest) = manifest else { return Ok(false) };
        let found = self.artifacts()?.get(manifest)?;
        let Some((descriptor, bytes)) = found else { return Ok(false) };
        self.manifests.insert(descriptor.digest, bytes);
        Ok(true)
    }

    fn artifacts(&self) -> Result<Artifacts> {
        Artifacts::of(self.lease.store())
    }

    fn add(&mut self, media_type: MediaType, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        self.manifests.insert(descriptor.digest.clone(), bytes);
        descriptor
    }
}

impl BlobSource for Shipment<'_> {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        if let Some(bytes) = self.manifests.get(&blob.digest) {
            return Ok(Box::new(io::Cursor::new(bytes.clone())));
        }
        let Some(snapshot) = self.plain.get(&blob.digest).cloned() else {
            return match BlobSource::open(self.lease, blob) {
                // Not of an image, then.
                Err(error) => self.artifacts().map_err(|_| error)?.open(blob),
                body => body,
            };
        };
        let (reader, writer) = io::pipe()?;
        let mut writer = io::BufWriter::with_capacity(256 << 10, writer);
        // Ends with the last byte, or when nobody reads any more. What goes wrong shows on the
        // other side: the tar does not have the digest that was promised.
        std::thread::spawn(move || {
            let _ = write_tar(&snapshot, &mut writer, None);
        });
        Ok(Box::new(reader))
    }
}

impl ImageSource for Shipment<'_> {
    fn root(&self) -> io::Result<Descriptor> {
        Ok(self.root.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.manifests.get(&descriptor.digest) {
            return Ok(bytes.clone());
        }
        let found = self.artifacts().and_then(|artifacts| artifacts.get(&descriptor.digest));
        let found = found.map_err(io::Error::other)?;
        found.map(|(_, bytes)| bytes).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_at(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let is_stored = !self.plain.contains_key(&blob.digest);
        if offset > 0 && is_stored && self.lease.store().has_blob(&blob.digest)? {
            return stored_at(self.lease, blob, offset);
        }
        let mut body = self.open(blob)?;
        let skipped = io::copy(&mut body.by_ref().take(offset), &mut io::sink())?;
        if skipped < offset { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(body) }
    }

    fn referrers(&self, subject: &Digest) -> io::Result<Vec<Descriptor>> {
        let found = self.artifacts().and_then(|artifacts| artifacts.referrers(subject));
        found.map_err(io::Error::other)
    }
}

/// Opens a blob of the store from an offset on, unverified and without reading what is before it.
pub fn stored_at(
    lease: &Lease,
    blob: &Descriptor,
    offset: u64,
) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(lease.store().blob_path(&blob.digest))?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}

/// What of an image leaves: itself, or what it has for a platform.
fn chosen(lease: &Lease, image: &Digest, shipping: &Shipping<'_>) -> Result<ImageRecord> {
    let store = lease.store();
    let record = store
        .image(image)?
        .ok_or_else(|| CliError::new(format!("the image `{image}` is not in the store")))?;
    let Some(platform) = &shipping.platform else { return Ok(record) };
    store
        .image_for(&record, platform)?
        .ok_or_else(|| CliError::new(format!("the image has no platform `{platform}`")))
}

/// Whether a layer leaves as the tar that it is.
fn is_plain(layer: &ImageLayer, shipping: &Shipping<'_>) -> bool {
    shipping.compression == Compression::None && (layer.blobs.is_empty() || shipping.force)
}

/// The shipped form of a layer: one that is there, or made now.
fn ship_layer(lease: &Lease, layer: &ImageLayer, shipping: &Shipping<'_>) -> Result<Descriptor> {
    if let Some(known) = shipped_form(lease, layer, shipping)? {
        return Ok(known);
    }
    let snapshot = layer.snapshot.as_ref().ok_or_else(|| {
        CliError::new(format!("the layer `{}` is not in the store", layer.diff_id))
    })?;
    pack(lease, snapshot, shipping)
}

/// A shipped form of a layer that is there.
fn shipped_form(
    lease: &Lease,
    layer: &ImageLayer,
    shipping: &Shipping<'_>,
) -> Result<Option<Descriptor>> {
    let fits = |blob: &&Descriptor| {
        let compression = blob.media_type.layer_compression();
        !shipping.force || compression == Some(shipping.compression)
    };
    for blob in layer.blobs.iter().filter(fits) {
        if lease.hold_blob(&blob.digest)? {
            // Docker's media types mean the same bytes.
            let compression = blob.media_type.layer_compression().unwrap_or(Compression::Gzip);
            let media_type = MediaType::OciLayer(compression);
            return Ok(Some(Descriptor::new(media_type, blob.digest.clone(), blob.size)));
        }
    }
    Ok(None)
}

/// Makes the tar of a snapshot, compressed.
pub fn pack(lease: &Lease, snapshot: &Snapshot, shipping: &Shipping<'_>) -> Result<Descriptor> {
    pack_into(lease, snapshot, shipping, &Spool::default())
}

/// The same, for somebody who follows what is written.
pub fn pack_into(
    lease: &Lease,
    snapshot: &Snapshot,
    shipping: &Shipping<'_>,
    spool: &Spool,
) -> Result<Descriptor> {
    let act = || format!("cannot pack the layer `{}`", snapshot.diff_id());
    let failed = |error: io::Error| CliError::because(act(), error);
    let packing = Packing::begin(shipping.reporter, snapshot);
    let encoder = EncoderOptions {
        compression: shipping.compression,
        level: shipping.level,
        thread_count: shipping.threads,
        hash: Hashing::DiffId,
    };
    let spooling = spool.follow(lease.blob_writer()?).map_err(failed)?;
    let mut encoder = Encoder::new(spooling, &encoder).map_err(failed)?;
    let mut watched = Watched { out: &mut encoder, packing: &packing, count: 0, shown: 0 };
    write_tar(snapshot, &mut watched, shipping.cancelled)?;
    let (spooling, encoded) = encoder.finish().map_err(failed)?;
    packing.end();
    if encoded.diff_id.as_ref() != Some(snapshot.diff_id()) {
        let message =
            format!("the files of the layer `{}` are not what they were", snapshot.diff_id());
        return Err(CliError::new(message).with_hint("`conex system check` says what changed"));
    }
    let media_type = MediaType::OciLayer(shipping.compression);
    let (digest, size) = spooling.into_writer().commit(None, Durability::Lazy)?;
    let blob = Descriptor::new(media_type, digest, size);
    if shipping.keep == Keep::Blobs {
        lease.put_layer_blob(snapshot.diff_id(), &blob)?;
    }
    Ok(blob)
}

/// Tells how far packing is. Dropped without an end, it was stopped.
struct Packing<'p> {
    reporter: &'p dyn Reporter,
    vertex: VertexId,
    what: String,
    size: u64,
    outcome: Cell<Outcome>,
}

/// The numbers of layers that are packed in the events, far from those of transfers.
const PACK_VERTEX: u32 = 5 << 20;

/// Fewest bytes between two events of one layer.
const PROGRESS_STEP: u64 = 4 << 20;

impl<'p> Packing<'p> {
    fn begin(reporter: &'p dyn Reporter, snapshot: &Snapshot) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(PACK_VERTEX);
        let vertex = VertexId(NEXT.fetch_add(1, Ordering::Relaxed));
        let what = snapshot.diff_id().digest().short().to_owned();
        reporter.event(Event::Planned { vertex, name: format!("pack {what}") });
        reporter.event(Event::Started { vertex });
        let outcome = Cell::new(Outcome::Canceled);
        Self { reporter, vertex, what, size: snapshot.tar_size(), outcome }
    }

    fn tell(&self, current: u64) {
        self.reporter.event(Event::Progress {
            vertex: self.vertex,
            what: self.what.clone(),
            unit: Unit::Bytes,
            current,
            total: Some(self.size),
        });
    }

    fn end(self) {
        self.outcome.set(Outcome::Done);
    }
}

impl Drop for Packing<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.replace(Outcome::Canceled);
        self.reporter.event(Event::Finished { vertex: self.vertex, outcome });
    }
}

/// Counts what is packed.
struct Watched<'w, W> {
    out: W,
    packing: &'w Packing<'w>,
    count: u64,
    shown: u64,
}

impl<W: io::Write> io::Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count += count as u64;
        if self.count - self.shown >= PROGRESS_STEP || self.count == self.packing.size {
            self.shown = self.count;
            self.packing.tell(self.count);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the layer tar of a snapshot.
pub fn write_tar(
    snapshot: &Snapshot,
    out: &mut dyn io::Write,
    cancelled: Option<&AtomicBool>,
) -> Result<()> {
    let open = |path: std::path::PathBuf| {
        Dir::open_ambient(&path).map_err(|error| {
            CliError::because(format!("cannot open the layer `{}`", path.display()), error)
        })
    };
    let mut layers =
        snapshot.stack().into_iter().map(open).collect::<Result<Vec<_>>>()?.into_iter();
    let Some(upper) = layers.next() else { return Ok(()) };
    let lower = Stack::new(layers.collect(), snapshot.form());
    let options =
        WriteOptions { hash: Hashing::None, cancelled, ..WriteOptions::new(snapshot.form()) };
    conex_layer::write_layer(&upper, &lower, &options, out)?;
    Ok(())
}
