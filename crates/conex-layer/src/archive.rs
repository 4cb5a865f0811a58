//! Image archives: OCI layouts (as a folder or a tar) and what `docker save` writes.
//!
//! An archive is read once, in the order in which it comes, compressed or not: its blobs go into a
//! [`BlobSink`](conex_oci::BlobSink) while they are read, and only small documents are kept. What
//! comes out is the same for every form: named images, each a manifest or index whose blobs the
//! sink has. An old archive without a manifest gets one.
//!
//! Invariant: every blob that goes into the sink has the digest that it is put under, and an image
//! is given only if all that it needs was there.

mod layout;
mod read;
mod write;

pub use layout::Layout;
pub use read::{ArchivedImage, read_archive};
pub use write::{ArchiveForm, ExportedImage, write_archive};

/// The file that makes a folder an OCI layout (image spec, image-layout.md).
pub(crate) const LAYOUT_FILE: &str = "oci-layout";

/// What stands in it.
pub(crate) const LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The index of a layout.
pub(crate) const INDEX_FILE: &str = "index.json";

/// The name or tag of an image in a layout (image spec, annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The full name of an image, as Docker and containerd write it.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";

/// Largest document (manifest, index, config) kept while an archive is read: 8 MiB, as for configs.
pub(crate) const DOCUMENT_SIZE_MAX: u64 = 8 << 20;
