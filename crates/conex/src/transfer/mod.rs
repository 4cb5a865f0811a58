//! Images on their way: between the store and registries, archives and layouts.
//!
//! Whatever moves is an [`conex_remote::ImageSource`] at one end and an
//! [`conex_remote::ImageSink`] at the other; what differs is only who they are.

mod archive;
mod ship;
mod sink;

use std::path::Path;
use std::sync::Arc;

use conex_build::UnpackOptions;
use conex_layer::{Form, Hashing, Stack, WriteOptions};
use conex_oci::{Digest, Platform, Reference};
use conex_remote::{CopyOptions, Referrers, Verify};
use conex_report::Reporter;
use conex_store::{Expected, ImageRecord, ImageSource, Lease};
use conex_sys::dir::Dir;

pub use archive::{
    Saved, copy_blob, load, load_layout, open_layout, read_document, save, save_layout,
};
pub use ship::{Keep, Shipment, Shipping, pack};
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
    pull_with(session, lease, reference, platform, Verify::Strict, reporter)
}

/// The same, with a say in whether certificates are checked.
pub fn pull_with(
    session: &Session,
    lease: &Lease,
    reference: &Reference,
    platform: &Platform,
    verify: Verify,
    reporter: &dyn Reporter,
) -> Result<ImageRecord> {
    let client = crate::registry::client(session, verify)?;
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
        threads: crate::session::parallelism(),
        cancelled: None,
    };
    let mut parent: Option<Arc<conex_store::Snapshot>> = None;
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
                let below = parent.as_deref();
                conex_build::unpack_layer(lease, below, lease, blob, &layer.diff_id, &options)?
            }
        };
        parent = Some(Arc::new(snapshot));
    }
    Ok(())
}

/// The merged view of a stack of layers, or of nothing.
pub fn stack(session: &Session, snapshot: Option<&conex_store::Snapshot>) -> Result<Stack> {
    let mut layers = Vec::new();
    for path in snapshot.map(conex_store::Snapshot::stack).unwrap_or_default() {
        layers.push(Dir::open_ambient(&path).map_err(|error| {
            CliError::because(format!("cannot open the layer `{}`", path.display()), error)
        })?);
    }
    Ok(Stack::new(layers, form(session)?))
}

/// Writes a root file system as one tar. Its files are brought together first, so that hard links
/// across layers and whiteouts are as a container sees them.
pub fn write_rootfs(
    session: &Session,
    lease: &Lease,
    snapshot: Option<&conex_store::Snapshot>,
    out: &mut dyn std::io::Write,
) -> Result<()> {
    let form = form(session)?;
    let merged = lease.begin_snapshot()?;
    let open = || {
        Dir::open_ambient(merged.path())
            .map_err(|error| CliError::because("cannot open a temporary folder", error))
    };
    copy_rootfs(session, snapshot, open()?, form)?;
    let options = WriteOptions { hash: Hashing::None, ..WriteOptions::new(form) };
    conex_layer::write_layer(&open()?, &Stack::empty(form), &options, out)?;
    Ok(())
}

/// Copies a root file system into a folder.
pub fn copy_rootfs(
    session: &Session,
    snapshot: Option<&conex_store::Snapshot>,
    folder: Dir,
    form: Form,
) -> Result<()> {
    let merged = stack(session, snapshot)?;
    let mut target = conex_layer::Target::new(folder, Stack::empty(form), form)?;
    let threads = crate::session::parallelism();
    let (root, options) = (Path::new("/"), conex_layer::CopyOptions::keep(threads));
    conex_layer::copy(&merged, root, &mut target, root, &options)?;
    Ok(())
}

/// Sends an image of the store to a registry under a name.
pub fn push(
    session: &Session,
    shipment: &Shipment<'_>,
    reference: &Reference,
    verify: Verify,
    reporter: &dyn Reporter,
) -> Result<conex_remote::Copied> {
    let client = crate::registry::client(session, verify)?;
    let options = CopyOptions {
        platform: None,
        referrers: Referrers::Leave,
        tags: vec![reference.tag().unwrap_or(conex_oci::DEFAULT_TAG).to_owned()],
        blobs: client.options().transfers.blobs,
        first_vertex: PULL_VERTEX,
    };
    Ok(conex_remote::copy(shipment, &client.repository(reference), &options, reporter)?)
}
