//! Layers that are sent while they are packed, so that compressing and sending take the time of the
//! slower of the two and not of both.
//!
//! One layer is packed after the other, by all threads; several are on their way. A layer whose
//! shipped form is known already is not meant: the registry is asked for it first.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use conex_oci::{Descriptor, DiffId, Digest};
use conex_remote::{GrowingBlob, Grown, Pushed, Repository};
use conex_report::{Event, Outcome, Reporter, Unit, VertexId};
use conex_store::{Lease, Snapshot};

use super::ship::{Shipment, Shipping, pack_into};
use super::spool::Spool;
use crate::error::{CliError, Result};

/// The numbers of layers that are sent while they are packed in the events, far from the others.
const SEND_VERTEX: u32 = 6 << 20;

/// Fewest bytes between two events of one layer.
const PROGRESS_STEP: u64 = 4 << 20;

/// The shipped form of layers that had none, by what they are unpacked.
pub type Packed = BTreeMap<DiffId, Descriptor>;

/// Packs the layers of an image that have no shipped form yet, and sends each meanwhile.
pub fn send_unpacked(
    repository: &Repository,
    lease: &Lease,
    image: &Digest,
    shipping: &Shipping<'_>,
    at_once: usize,
) -> Result<Packed> {
    let layers = Shipment::unpacked(lease, image, shipping)?;
    if layers.is_empty() {
        return Ok(Packed::new());
    }
    let stop = AtomicBool::new(false);
    let shipping = Shipping { cancelled: Some(&stop), ..shipping.clone() };
    let spools = layers.iter().map(|_| Spool::default()).collect();
    let streaming = Streaming {
        repository,
        lease,
        layers: &layers,
        spools,
        shipping: &shipping,
        first_vertex: next_vertices(layers.len()),
        next: AtomicUsize::new(0),
        stop: &stop,
        failure: Mutex::new(None),
        packed: Mutex::default(),
    };
    streaming.announce();
    std::thread::scope(|scope| {
        scope.spawn(|| streaming.pack());
        for _ in 0..at_once.clamp(1, 64).min(layers.len()) {
            scope.spawn(|| streaming.send());
        }
    });
    let Streaming { failure, packed, .. } = streaming;
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(packed.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Numbers that no other transfer of this process has.
fn next_vertices(count: usize) -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(SEND_VERTEX);
    NEXT.fetch_add(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed)
}

struct Streaming<'s> {
    repository: &'s Repository,
    lease: &'s Lease,
    layers: &'s [Snapshot],
    /// One for each layer.
    spools: Vec<Spool>,
    shipping: &'s Shipping<'s>,
    first_vertex: u32,
    next: AtomicUsize,
    stop: &'s AtomicBool,
    /// The first failure; those that follow from it say nothing more.
    failure: Mutex<Option<CliError>>,
    packed: Mutex<Packed>,
}

impl Streaming<'_> {
    fn sending<'a>(&'a self, at: usize, layer: &'a Snapshot, spool: &'a Spool) -> Sending<'a> {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let vertex = VertexId(self.first_vertex.saturating_add(at));
        let (reporter, what) = (self.shipping.reporter, layer.diff_id().digest().short());
        Sending { spool, stop: self.stop, reporter, vertex, what }
    }

    fn each(&self) -> impl Iterator<Item = (&Snapshot, &Spool)> {
        self.layers.iter().zip(&self.spools)
    }

    fn announce(&self) {
        for (at, (layer, spool)) in self.each().enumerate() {
            let Sending { reporter, vertex, what, .. } = self.sending(at, layer, spool);
            reporter.event(Event::Planned { vertex, name: format!("send {what}") });
        }
    }

    fn fail(&self, error: CliError) -> String {
        let text = error.to_string();
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
        text
    }

    fn pack(&self) {
        for (layer, spool) in self.each() {
            if self.stop.load(Ordering::Relaxed) {
                spool.fail();
                continue;
            }
            match pack_into(self.lease, layer, self.shipping, spool) {
                Ok(blob) => spool.end(blob),
                Err(error) => {
                    self.fail(error);
                    spool.fail();
                }
            }
        }
    }

    fn send(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let (Some(layer), Some(spool)) = (self.layers.get(at), self.spools.get(at)) else {
                return;
            };
            let sending = self.sending(at, layer, spool);
            let (reporter, vertex) = (sending.reporter, sending.vertex);
            reporter.event(Event::Started { vertex });
            let outcome = match self.repository.push_growing(&sending) {
                Ok((blob, pushed)) => {
                    let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
                    packed.insert(layer.diff_id().clone(), blob);
                    if pushed == Pushed::Sent { Outcome::Done } else { Outcome::Cached }
                }
                Err(_) if self.stop.load(Ordering::Relaxed) => Outcome::Canceled,
                Err(error) => {
                    let act = format!("cannot send the layer `{}`", layer.diff_id());
                    Outcome::Failed(self.fail(CliError::from(error).during(act)))
                }
            };
            reporter.event(Event::Finished { vertex, outcome });
        }
    }
}

/// A layer that is sent: tells how far it is, and ends early when another one failed.
struct Sending<'s> {
    spool: &'s Spool,
    stop: &'s AtomicBool,
    reporter: &'s dyn Reporter,
    vertex: VertexId,
    what: &'s str,
}

impl GrowingBlob for Sending<'_> {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let body = self.spool.open_at(offset)?;
        Ok(Box::new(Watched { sending: self, body, offset, told: offset }))
    }

    fn grown_to(&self, size: u64) -> io::Result<Grown> {
        self.spool.grown_to(size)
    }
}

struct Watched<'w> {
    sending: &'w Sending<'w>,
    body: Box<dyn Read + Send + 'w>,
    offset: u64,
    told: u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Sending { spool, stop, reporter, vertex, what } = self.sending;
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer could not be sent"));
        }
        let count = self.body.read(buffer)?;
        self.offset += count as u64;
        if self.offset - self.told >= PROGRESS_STEP || (count == 0 && self.told < self.offset) {
            self.told = self.offset;
            reporter.event(Event::Progress {
                vertex: *vertex,
                what: (*what).to_owned(),
                unit: Unit::Bytes,
                current: self.offset,
                total: spool.grown_to(0)?.blob.map(|blob| blob.size),
            });
        }
        Ok(count)
    }
}
