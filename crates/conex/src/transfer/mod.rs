//! Images on their way: between the store and registries, archives and layouts.
//!
//! Whatever moves is an [`conex_remote::ImageSource`] at one end and an
//! [`conex_remote::ImageSink`] at the other; what differs is only who they are.

mod archive;
mod arrivals;
mod artifacts;
mod place;
mod pull;
mod ship;
mod sink;
mod spool;
mod stream;
mod unpack;

use std::path::Path;

use conex_layer::{Form, Hashing, Stack, WriteOptions};
use conex_oci::{Digest, Reference};
use conex_remote::{Client, Copied, CopyOptions};
use conex_store::Lease;
use conex_sys::dir::Dir;

pub use archive::{
    Saved, copy_blob, load, load_layout, open_layout, read_document, save, save_layout,
};
pub use artifacts::Artifacts;
pub use place::{Place, Sides, copy, parse_place, vertex_of};
pub use pull::{PullOptions, Unpack, all_tags, pull, pull_with};
pub use ship::{Keep, Shipment, Shipping, pack, write_tar};
pub use sink::StoreSink;
pub use unpack::unpack;

use crate::error::{CliError, Result};
use crate::session::Session;

/// How snapshots are written here.
pub fn form(session: &Session) -> Result<Form> {
    let privileges = session.privileges()?;
    Ok(Form { flavor: privileges.flavor(), ownership: privileges.ownership() })
}

/// The numbers of transfers in the events, far from those of build steps.
pub const PULL_VERTEX: u32 = 1 << 20;

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

/// Sends an image of the store to a registry under a name. Layers that have no shipped form yet
/// are packed on the way.
///
/// Where the image has a tag of that repository, it is also known by its digest there, and no
/// longer when the tag goes. An image that was only sent somewhere gets no name by that, which
/// would keep it when its own last name goes.
pub fn push(
    client: &Client,
    lease: &Lease,
    image: &Digest,
    reference: &Reference,
    shipping: &Shipping<'_>,
    options: &CopyOptions,
) -> Result<Copied> {
    let repository = client.repository(reference);
    let packed = stream::send_unpacked(&repository, lease, image, shipping, options.blobs)?;
    let there = packed.values().map(|blob| blob.digest.clone()).collect();
    let shipment = Shipment::with(lease, image, shipping, packed)?;
    let options = CopyOptions {
        // What is meant was chosen already.
        platform: None,
        tags: vec![reference.tag().unwrap_or(conex_oci::DEFAULT_TAG).to_owned()],
        there,
        ..options.clone()
    };
    let copied = conex_remote::copy(&shipment, &repository, &options, shipping.reporter)?;
    let store = lease.store();
    let record = store.image(image)?;
    let is_same = |tag: &Reference| tag.name() == reference.name();
    if record.is_some_and(|record| record.tags.iter().any(is_same)) {
        store.put_repo_digest(&reference.with_digest(copied.root.digest.clone()), image)?;
    }
    Ok(copied)
}
