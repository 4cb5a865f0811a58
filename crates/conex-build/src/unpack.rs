//! From a layer's shipped form to a snapshot.

use std::io::{self, Read};
use std::sync::atomic::AtomicBool;

use conex_layer::{ApplyOptions, Decoder, Form, Stack, Target};
use conex_oci::{BlobSource, Descriptor, DiffId, Hasher, VerifyReader};
use conex_store::{LayerFacts, Lease, Snapshot};
use conex_sys::dir::Dir;

use crate::engine::{layer_error, open_layer, store_error};
use crate::error::{Error, ErrorKind};

/// How to unpack.
#[derive(Debug, Clone, Copy)]
pub struct UnpackOptions<'o> {
    /// How snapshots are written here.
    pub form: Form,
    /// How many threads write files.
    pub threads: usize,
    /// Checked now and then; true stops the work.
    pub cancelled: Option<&'o AtomicBool>,
}

/// Unpacks a layer on top of others: fetched, verified, decompressed, digested and written in one
/// pass. On return it is a snapshot of the store, held by the lease.
///
/// # Errors
/// The blob cannot be had or is not what its descriptor says, the layer does not have the diff ID,
/// or it cannot be written.
pub fn unpack_layer(
    lease: &Lease,
    parent: Option<&Snapshot>,
    source: &dyn BlobSource,
    blob: &Descriptor,
    diff_id: &DiffId,
    options: &UnpackOptions<'_>,
) -> Result<Snapshot, Error> {
    let named = || format!("cannot unpack the layer `{}`", blob.digest);
    let failed = |error: conex_layer::Error| Error::new(ErrorKind::Io, named()).caused_by(error);
    let mut lower = Vec::new();
    for path in parent.map(Snapshot::stack).unwrap_or_default() {
        lower.push(Dir::open_ambient(&path).map_err(|error| Error::io(named(), error))?);
    }
    let new = lease.begin_snapshot().map_err(store_error)?;
    let lower = Stack::new(lower, options.form);
    let mut target = Target::new(open_layer(&new)?, lower, options.form).map_err(layer_error)?;
    let body = source.open(blob).map_err(|error| Error::io(named(), error))?;
    let mut body = VerifyReader::new(body, blob);
    let mut decoder = Decoder::new(&mut body).map_err(failed)?;
    let mut counted = Counted { inner: &mut decoder, hasher: Hasher::sha256(), size: 0 };
    let mut apply = ApplyOptions::new(options.threads);
    apply.cancelled = options.cancelled;
    conex_layer::apply_layer(&mut counted, &mut target, &apply).map_err(failed)?;
    let (got, tar_size) = (DiffId(counted.hasher.finish()), counted.size);
    // What follows the compressed data must be read too, for the digest of the whole to be checked.
    io::copy(&mut body, &mut io::sink()).map_err(|error| Error::io(named(), error))?;
    if got != *diff_id {
        let message = format!("the layer has diff ID `{got}`, wanted `{diff_id}`");
        return Err(Error::io(named(), message));
    }
    drop(target);
    let facts = LayerFacts { diff_id: got, tar_size, disk_size: None, form: options.form };
    lease.commit_snapshot(new, parent, &facts).map_err(store_error)
}

struct Counted<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
