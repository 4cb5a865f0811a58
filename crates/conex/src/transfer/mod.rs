//! Images on their way: between the store and registries, archives and layouts.
//!
//! Whatever moves is an [`conex_remote::ImageSource`] at one end and an
//! [`conex_remote::ImageSink`] at the other; what differs is only who they are.

mod ship;
mod sink;

use std::sync::Arc;

use conex_build::UnpackOptions;
use conex_layer::Form;
use conex_oci::{Digest, Platform, Reference};
use conex_remote::{CopyOptions, Referrers, Verify};
use conex_report::Reporter;
use conex_store::{Expected, ImageRecord, ImageSource, Lease};

pub use ship::{Keep, Shipment, Shipping};
pub use sink::StoreSink;

use crate::error::{CliError, Result};
use crate::session::Session;

/// How snapshots are written here.
pub fn form(session: &Session) -> Result<Form> {
    let privileges = session.privileges()?;
    Ok(Form { flavor: privileges.flavor(), ownership: privileges.ownership() })
}

/// Pulls an image from its registry and tags it.
pub fn pull(
    session: &Session,
    lease: &Lease,
    reference: &Reference,
    platform: &Platform,
    reporter: &dyn Reporter,
) -> Result<ImageRecord> {
    let client = crate::registry::client(session, Verify::Strict)?;
    let repository = client.repository(reference);
    let sink = StoreSink::new(lease, ImageSource::Pulled);
    let options = CopyOptions {
        platform: Some(platform.clone()),
        referrers: Referrers::Leave,
        tags: Vec::new(),
        blobs: client.options().transfers.blobs,
        first_vertex: PULL_VERTEX,
    };
    let copied = conex_remote::copy(&repository, &sink, &options, reporter)?;
    let record = sink.record(&copied.root.digest)?;
    lease.store().put_repo_digest(&reference.with_digest(copied.root.digest), &record.id)?;
    if reference.tag().is_some() && reference.digest().is_none() {
        lease.store().tag(reference, &record.id, &Expected::Anything)?;
    }
    Ok(record)
}

/// The numbers of transfers in the events, far from those of build steps.
pub const PULL_VERTEX: u32 = 1 << 20;

/// Unpacks the layers of an image that are not unpacked yet.
pub fn unpack(session: &Session, lease: &Lease, image: &Digest) -> Result<()> {
    let store = lease.store();
    let options = UnpackOptions {
        form: form(session)?,
        threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        cancelled: None,
    };
    let mut parent: Option<Arc<conex_store::Snapshot>> = None;
    for layer in store.layers(image)? {
        let snapshot = match lease.snapshot(&layer.chain_id)? {
            Some(snapshot) => snapshot,
            None => {
                let blob = layer.blobs.first().ok_or_else(|| {
                    CliError::new(format!("the layer `{}` is neither unpacked nor packed", layer.diff_id))
                        .with_hint("`conex system check` finds what else is missing")
                })?;
                let below = parent.as_deref();
                conex_build::unpack_layer(lease, below, lease, blob, &layer.diff_id, &options)?
            }
        };
        parent = Some(Arc::new(snapshot));
    }
    Ok(())
}

/// Loads an image of an OCI layout folder: `DIR[:TAG][@DIGEST]`.
pub fn load_layout(session: &Session, lease: &Lease, layout: &str) -> Result<ImageRecord> {
    crate::archive::load_layout(session, lease, layout)
}
