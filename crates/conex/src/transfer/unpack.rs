//! From layers that are here, or still arrive, to snapshots.

use std::io::{self, Read};
use std::sync::Arc;

use conex_layer::{ApplyOptions, Decoder, Form, Stack, Target, apply_layer};
use conex_oci::{ChainId, Descriptor, DiffId, Digest, Hasher, ImageConfig, Manifest};
use conex_report::{Event, Outcome, Reporter, Unit, VertexId};
use conex_store::{LayerFacts, Lease, Snapshot};
use conex_sys::dir::Dir;

use super::arrivals::{Arrivals, Found};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// The numbers of layers that are unpacked in the events, far from those of transfers.
const UNPACK_VERTEX: u32 = 3 << 20;

/// Fewest bytes between two events of one layer.
const PROGRESS_STEP: u64 = 4 << 20;

/// How layers are unpacked.
#[derive(Clone, Copy)]
pub struct Unpacking<'u> {
    /// Holds the snapshots.
    pub lease: &'u Lease,
    /// How snapshots are written here.
    pub form: Form,
    /// How many threads write files.
    pub threads: usize,
    /// Is told how far it is.
    pub reporter: &'u dyn Reporter,
}

/// Unpacks the layers of an image that are not unpacked yet.
pub fn unpack(session: &Session, lease: &Lease, image: &Digest) -> Result<()> {
    let unpacking = Unpacking {
        lease,
        form: super::form(session)?,
        threads: crate::session::parallelism(),
        reporter: &conex_report::Discard,
    };
    let store = lease.store();
    let mut parent: Option<Snapshot> = None;
    for layer in store.layers(image)? {
        let snapshot = match lease.snapshot(&layer.chain_id)? {
            Some(snapshot) => snapshot,
            None => {
                let blob = layer.blobs.first().ok_or_else(|| {
                    CliError::new(format!(
                        "the layer `{}` is neither unpacked nor packed",
                        layer.diff_id
                    ))
                    .with_hint("`conex system check` finds what else is missing")
                })?;
                // It verifies what it gives.
                let mut body = store.open_blob(&blob.digest)?;
                unpacking.layer(parent.as_ref(), &mut body, &layer.diff_id)?
            }
        };
        parent = Some(snapshot);
    }
    Ok(())
}

/// Unpacks an image's layers while they arrive, bottom first. Ends early, without an error, when
/// one never comes: then the transfer says why.
pub fn unpack_arriving(
    unpacking: &Unpacking<'_>,
    manifest: &Manifest,
    arrivals: &Arc<Arrivals>,
) -> Result<()> {
    let Some(Found::InStore) = arrivals.wait(&manifest.config) else { return Ok(()) };
    let lease = unpacking.lease;
    let config = ImageConfig::parse(&lease.store().read_blob(&manifest.config.digest)?)?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        // The sink says it, with the image's name.
        return Ok(());
    }
    let chains = ChainId::stack(diff_ids);
    let mut parent: Option<Snapshot> = None;
    for (at, ((diff_id, chain), blob)) in
        diff_ids.iter().zip(&chains).zip(&manifest.layers).enumerate()
    {
        let snapshot = match lease.snapshot(chain)? {
            Some(snapshot) => snapshot,
            None => {
                let at = u32::try_from(at).unwrap_or(u32::MAX / 2);
                let told = Told::begin(unpacking.reporter, at, blob);
                let done = unpacking.arriving(parent.as_ref(), blob, diff_id, arrivals, &told);
                told.end(&done);
                match done? {
                    Some(snapshot) => snapshot,
                    None => return Ok(()),
                }
            }
        };
        parent = Some(snapshot);
    }
    Ok(())
}

impl Unpacking<'_> {
    /// Unpacks one layer from wherever it is. `None` when it never comes.
    fn arriving(
        &self,
        parent: Option<&Snapshot>,
        blob: &Descriptor,
        diff_id: &DiffId,
        arrivals: &Arc<Arrivals>,
        told: &Told<'_>,
    ) -> Result<Option<Snapshot>> {
        loop {
            match arrivals.wait(blob) {
                None => return Ok(None),
                Some(Found::InStore) => {
                    let body = self.lease.store().open_blob(&blob.digest)?;
                    let mut body = told.watch(body);
                    return self.layer(parent, &mut body, diff_id).map(Some);
                }
                Some(Found::Coming(follower)) => {
                    let coming = follower.coming();
                    let mut body = told.watch(follower);
                    match self.layer(parent, &mut body, diff_id) {
                        // Bytes that turn out to be false say nothing of the layer: perhaps it is
                        // fetched anew.
                        Err(_) if !coming.is_right() => {}
                        done => return done.map(Some),
                    }
                }
            }
        }
    }

    /// Unpacks one layer on top of others: decompressed, digested and written in one pass.
    fn layer(
        &self,
        parent: Option<&Snapshot>,
        body: &mut (dyn Read + Send),
        diff_id: &DiffId,
    ) -> Result<Snapshot> {
        let named = || format!("cannot unpack the layer `{diff_id}`");
        let failed = |error: conex_layer::Error| CliError::because(named(), error);
        let open = |path: &std::path::Path| Dir::open_ambient(path).doing(named);
        let stack = parent.map(Snapshot::stack).unwrap_or_default();
        let lower = stack.iter().map(|path| open(path)).collect::<Result<_>>()?;
        let new = self.lease.begin_snapshot()?;
        let lower = Stack::new(lower, self.form);
        let mut target = Target::new(open(new.path())?, lower, self.form).map_err(failed)?;
        let mut decoder = Decoder::new(body).map_err(failed)?;
        let mut counted = Counted { inner: &mut decoder, hasher: Hasher::sha256(), size: 0 };
        let options = ApplyOptions::new(self.threads);
        apply_layer(&mut counted, &mut target, &options).map_err(failed)?;
        let (got, tar_size) = (DiffId(counted.hasher.finish()), counted.size);
        drop(target);
        if got != *diff_id {
            let message = format!("the layer has diff ID `{got}`, wanted `{diff_id}`");
            return Err(CliError::because(named(), message));
        }
        let facts = LayerFacts { diff_id: got, tar_size, disk_size: None, form: self.form };
        Ok(self.lease.commit_snapshot(new, parent, &facts)?)
    }
}

/// Tells how far a layer is.
struct Told<'t> {
    reporter: &'t dyn Reporter,
    vertex: VertexId,
    blob: &'t Descriptor,
}

impl<'t> Told<'t> {
    fn begin(reporter: &'t dyn Reporter, at: u32, blob: &'t Descriptor) -> Self {
        let vertex = VertexId(UNPACK_VERTEX.saturating_add(at));
        let name = format!("unpack {}", blob.digest.short());
        reporter.event(Event::Planned { vertex, name });
        reporter.event(Event::Started { vertex });
        Self { reporter, vertex, blob }
    }

    fn end<T>(&self, done: &Result<Option<T>>) {
        let outcome = match done {
            Ok(Some(_)) => Outcome::Done,
            Ok(None) => Outcome::Canceled,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.reporter.event(Event::Finished { vertex: self.vertex, outcome });
    }

    fn watch<R>(&'t self, inner: R) -> Watched<'t, R> {
        Watched { told: self, inner, offset: 0, shown: 0 }
    }
}

struct Watched<'t, R> {
    told: &'t Told<'t>,
    inner: R,
    offset: u64,
    shown: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.offset += count as u64;
        if self.offset - self.shown >= PROGRESS_STEP || (count == 0 && self.shown < self.offset) {
            self.shown = self.offset;
            self.told.reporter.event(Event::Progress {
                vertex: self.told.vertex,
                what: self.told.blob.digest.short().to_owned(),
                unit: Unit::Bytes,
                current: self.offset,
                total: Some(self.told.blob.size),
            });
        }
        Ok(count)
    }
}

struct Counted<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }
}
