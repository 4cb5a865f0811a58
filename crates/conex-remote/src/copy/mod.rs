//! Images from anywhere to anywhere: a registry, the local store, a layout, an archive.
//!
//! Knows only the two traits below. Nothing is written to disk on the way; what a sink has, or can
//! get from a neighbour, is not moved.

mod convert;
mod plan;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, Platform, VerifyReader};
use conex_report::{Event, Outcome, Reporter, Unit, VertexId};

use crate::client::Repository;
use crate::client::upload::{OpenAt, Pushed};
use crate::error::{Error, ErrorKind, Result};
use crate::partial::{PartialStore, complete};

pub use convert::ImageFormat;
pub use plan::Survey;

/// A repository in a registry, as the place that blobs could be mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The registry (`docker.io`, `localhost:5000`).
    pub registry: String,
    /// The repository there.
    pub repository: String,
}

/// Gives an image: its manifests, and through [`BlobSource`] its blobs.
pub trait ImageSource: BlobSource {
    /// The manifest or index that is the image.
    ///
    /// # Errors
    /// There is none, or it cannot be asked for.
    fn root(&self) -> io::Result<Descriptor>;

    /// The exact bytes of a manifest or index. They need not be verified.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>>;

    /// Opens a blob from an offset on, unverified. Sources that can seek should.
    ///
    /// # Errors
    /// As [`BlobSource::open`].
    fn open_at(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut body = self.open(blob)?;
        let skipped = io::copy(&mut body.by_ref().take(offset), &mut io::sink())?;
        if skipped < offset {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }

    /// What refers to a manifest.
    ///
    /// # Errors
    /// It cannot be asked for.
    fn referrers(&self, _subject: &Digest) -> io::Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    /// Where in a registry the blobs are, if that is where they are.
    fn origin(&self) -> Option<Origin> {
        None
    }
}

/// Takes an image: through [`BlobSink`] its blobs, and then its manifests, children first.
pub trait ImageSink: BlobSink {
    /// Takes a manifest or index, verified, and gives it tags. What it names is there already.
    ///
    /// # Errors
    /// It cannot be kept.
    fn put_manifest(&self, descriptor: &Descriptor, bytes: &[u8], tags: &[&str]) -> io::Result<()>;

    /// Whether a manifest is there with everything that it names.
    ///
    /// # Errors
    /// It cannot be asked.
    fn has_manifest(&self, _descriptor: &Descriptor) -> io::Result<bool> {
        Ok(false)
    }

    /// Brings a blob in: finds it, has it mounted from `origin`, or takes it from `open`, whose
    /// readers verify when they start at 0.
    ///
    /// # Errors
    /// As [`BlobSink::put`].
    fn put_from(
        &self,
        blob: &Descriptor,
        _origin: Option<&Origin>,
        open: &OpenAt<'_>,
    ) -> io::Result<Pushed> {
        if self.has(blob)? {
            return Ok(Pushed::Existed);
        }
        self.put(blob, &mut open(0)?)?;
        Ok(Pushed::Sent)
    }

    /// Where partial blobs are kept. With one, blobs come in through it instead of
    /// [`Self::put_from`].
    fn partials(&self) -> Option<&dyn PartialStore> {
        None
    }
}

/// Whether what refers to an image (signatures, bills of materials) goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referrers {
    /// It stays.
    Leave,
    /// It goes along, and what refers to it in turn.
    Take,
}

/// What is copied, and how.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// One platform of an index, which then is the image; none for all of it.
    pub platform: Option<Platform>,
    /// What refers to it.
    pub referrers: Referrers,
    /// The tags that the image gets in the sink.
    pub tags: Vec<String>,
    /// Blobs at the same time.
    pub blobs: usize,
    /// The number of the first piece of work in the events.
    pub first_vertex: u32,
    /// Blobs that the sink is known to have: nothing is asked or told of them.
    pub there: BTreeSet<Digest>,
    /// The format that manifests get; none leaves them as they are.
    pub format: Option<ImageFormat>,
}

impl CopyOptions {
    /// All of an image without what refers to it, and no tags.
    pub fn new(blobs: usize, first_vertex: u32) -> Self {
        Self {
            platform: None,
            referrers: Referrers::Leave,
            tags: Vec::new(),
            blobs,
            first_vertex,
            there: BTreeSet::new(),
            format: None,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The image, as it is named in the sink.
    pub root: Descriptor,
    /// Manifests and indexes written.
    pub manifests: usize,
    /// Blobs that were moved.
    pub sent: usize,
    /// Blobs that were there.
    pub existed: usize,
    /// Blobs that were mounted.
    pub mounted: usize,
    /// Bytes of blobs moved.
    pub bytes: u64,
    /// What refers to the image and went along.
    pub referrers: Vec<Descriptor>,
}

/// Copies an image.
///
/// # Errors
/// The first failure of source or sink; the other transfers are stopped.
pub fn copy(
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    options: &CopyOptions,
    reporter: &dyn Reporter,
) -> Result<Copied> {
    let survey = Survey::of(source, Some(sink), options)?;
    copy_surveyed(source, sink, &survey, options, reporter)
}

/// Copies an image whose manifests are read already.
///
/// # Errors
/// As [`copy`].
pub fn copy_surveyed(
    source: &dyn ImageSource,
    sink: &dyn ImageSink,
    plan: &Survey,
    options: &CopyOptions,
    reporter: &dyn Reporter,
) -> Result<Copied> {
    let transfer = Transfer {
        source,
        sink,
        reporter,
        origin: source.origin(),
        blobs: &plan.blobs,
        first_vertex: options.first_vertex,
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        bytes: AtomicU64::new(0),
        counts: Default::default(),
        failure: Mutex::new(None),
    };
    transfer.announce();
    let threads = options.blobs.clamp(1, 64).min(plan.blobs.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| transfer.work());
        }
    });
    if let Some(error) = transfer.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    for (descriptor, bytes) in &plan.manifests {
        let tags: Vec<&str> = if descriptor.digest == plan.root.digest {
            options.tags.iter().map(String::as_str).collect()
        } else {
            Vec::new()
        };
        sink.put_manifest(descriptor, bytes, &tags).map_err(|source| {
            Error::local(format!("cannot write manifest `{}`", descriptor.digest), source)
        })?;
    }
    let [sent, existed, mounted] = &transfer.counts;
    Ok(Copied {
        root: plan.root.clone(),
        manifests: plan.manifests.len(),
        sent: sent.load(Ordering::Relaxed),
        existed: existed.load(Ordering::Relaxed),
        mounted: mounted.load(Ordering::Relaxed),
        bytes: transfer.bytes.load(Ordering::Relaxed),
        referrers: plan.referrers.clone(),
    })
}

struct Transfer<'a> {
    source: &'a dyn ImageSource,
    sink: &'a dyn ImageSink,
    reporter: &'a dyn Reporter,
    origin: Option<Origin>,
    blobs: &'a [Descriptor],
    first_vertex: u32,
    next: AtomicUsize,
    stop: AtomicBool,
    bytes: AtomicU64,
    counts: [AtomicUsize; 3],
    failure: Mutex<Option<Error>>,
}

impl Transfer<'_> {
    fn vertex(&self, at: usize) -> VertexId {
        VertexId(self.first_vertex.saturating_add(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    fn announce(&self) {
        for (at, blob) in self.blobs.iter().enumerate() {
            let kind = if blob.media_type.layer_compression().is_some() { "layer" } else { "blob" };
            let name = format!("{kind} {}", blob.digest.short());
            self.reporter.event(Event::Planned { vertex: self.vertex(at), name });
        }
    }

    fn work(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(blob) = self.blobs.get(at) else { return };
            let vertex = self.vertex(at);
            if self.stop.load(Ordering::Relaxed) {
                self.reporter.event(Event::Finished { vertex, outcome: Outcome::Canceled });
                continue;
            }
            self.reporter.event(Event::Started { vertex });
            let outcome = match self.transfer(blob, vertex) {
                Ok(pushed) => {
                    let slot = match pushed {
                        Pushed::Sent => 0,
                        Pushed::Existed => 1,
                        Pushed::Mounted => 2,
                    };
                    if let Some(count) = self.counts.get(slot) {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    if pushed == Pushed::Sent { Outcome::Done } else { Outcome::Cached }
                }
                Err(error) => self.fail(blob, error),
            };
            self.reporter.event(Event::Finished { vertex, outcome });
        }
    }

    fn fail(&self, blob: &Descriptor, error: Error) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        if error.kind() == ErrorKind::Canceled {
            return Outcome::Canceled;
        }
        let outcome = Outcome::Failed(error.to_string());
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| error.during(format!("cannot copy blob `{}`", blob.digest)));
        outcome
    }

    fn transfer(&self, blob: &Descriptor, vertex: VertexId) -> Result<Pushed> {
        if let Some(partials) = self.sink.partials()
            && blob.size >= PARTIAL_SIZE_MIN
        {
            if self.sink.has(blob)? {
                return Ok(Pushed::Existed);
            }
            let open = |offset| -> io::Result<Box<dyn Read + Send + '_>> {
                let body = self.source.open_at(blob, offset)?;
                Ok(self.watched(body, blob, vertex, offset))
            };
            if complete(blob, partials, &open)?.is_some() {
                return Ok(Pushed::Sent);
            }
            // Somebody else is at the same blob: come by it the plain way.
        }
        let open = |offset| -> io::Result<Box<dyn Read + Send + '_>> {
            let body = self.source.open_at(blob, offset)?;
            let body: Box<dyn Read + Send> =
                if offset == 0 { Box::new(VerifyReader::new(body, blob)) } else { body };
            Ok(self.watched(body, blob, vertex, offset))
        };
        Ok(self.sink.put_from(blob, self.origin.as_ref(), &open)?)
    }

    fn watched<'w>(
        &'w self,
        body: Box<dyn Read + Send>,
        blob: &'w Descriptor,
        vertex: VertexId,
        offset: u64,
    ) -> Box<dyn Read + Send + 'w> {
        Box::new(Watched { transfer: self, body, blob, vertex, offset, told: offset })
    }
}

/// Counts the bytes of a blob, tells of them now and then, and ends early when another blob failed.
struct Watched<'w> {
    transfer: &'w Transfer<'w>,
    body: Box<dyn Read + Send>,
    blob: &'w Descriptor,
    vertex: VertexId,
    offset: u64,
    told: u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.transfer.stop.load(Ordering::Relaxed) {
            return Err(Error::canceled().into());
        }
        let count = self.body.read(buffer)?;
        self.offset += count as u64;
        self.transfer.bytes.fetch_add(count as u64, Ordering::Relaxed);
        // A hundred steps a blob are enough for any bar; small blobs need fewer.
        let step = (self.blob.size / 100).max(PROGRESS_STEP_MIN);
        let ended = self.offset >= self.blob.size && self.told < self.offset;
        if ended || self.offset - self.told >= step {
            self.told = self.offset;
            self.transfer.reporter.event(Event::Progress {
                vertex: self.vertex,
                what: self.blob.digest.short().to_owned(),
                unit: Unit::Bytes,
                current: self.offset,
                total: Some(self.blob.size),
            });
        }
        Ok(count)
    }
}

/// Blobs below this size are not worth going on with: a request costs as much.
const PARTIAL_SIZE_MIN: u64 = 1 << 20;

/// Fewest bytes between two events of one blob.
const PROGRESS_STEP_MIN: u64 = 128 << 10;

impl ImageSource for Repository {
    fn root(&self) -> io::Result<Descriptor> {
        Ok(self.resolve()?)
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        Ok(self.manifest_of(descriptor)?.bytes)
    }

    fn open_at(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(self.open_blob_at(blob, offset)?)
    }

    fn referrers(&self, subject: &Digest) -> io::Result<Vec<Descriptor>> {
        Ok(Self::referrers(self, subject, None)?)
    }

    fn origin(&self) -> Option<Origin> {
        let reference = self.reference();
        Some(Origin {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
        })
    }
}

impl ImageSink for Repository {
    fn put_manifest(&self, descriptor: &Descriptor, bytes: &[u8], tags: &[&str]) -> io::Result<()> {
        Self::put_manifest(self, &descriptor.media_type, bytes, tags)?;
        Ok(())
    }

    fn has_manifest(&self, descriptor: &Descriptor) -> io::Result<bool> {
        Ok(Self::has_manifest(self, &descriptor.digest)?)
    }

    fn put_from(
        &self,
        blob: &Descriptor,
        origin: Option<&Origin>,
        open: &OpenAt<'_>,
    ) -> io::Result<Pushed> {
        let own = self.reference();
        let neighbour = origin.filter(|origin| {
            origin.registry == own.registry() && origin.repository != own.repository()
        });
        let from = neighbour.map(|origin| origin.repository.as_str());
        Ok(self.push_blob(blob, from, open)?)
    }
}
