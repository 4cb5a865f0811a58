//! Layers in and out: the layered file view ([`Stack`]), a snapshot being written ([`Target`]),
//! copying into it ([`copy()`]), the deterministic layer tar ([`write_layer`], [`apply_layer`]),
//! compression and image archives.
//!
//! Invariant: the same snapshot gives the same bytes on any machine, whoever made it and however
//! many threads there are; and nothing that an archive or an image holds leads out of the
//! directory that it is unpacked to.
//!
//! Knows nothing of where snapshots and blobs are kept, of networks, or of Dockerfiles.

#![forbid(unsafe_code)]

mod apply;
mod archive;
mod attributes;
mod between;
mod compress;
mod copy;
mod diff;
mod error;
mod form;
mod pipe;
mod stack;
mod tar;
mod target;

pub use apply::{ApplyLimits, ApplyOptions, ApplySummary, apply_layer, is_archive, unpack_archive};
pub use archive::{ArchiveForm, ArchivedImage, ExportedImage, Layout, read_archive, write_archive};
pub use attributes::Attributes;
pub use between::fits_above;
pub use compress::{Decoder, Encoded, Encoder, EncoderOptions, Format, Wrapping, inflate, sniff};
pub use copy::{CopyOptions, CopySummary, Filter, ModeRule, Wanted, copy};
pub use diff::{
    Hashing, LayerSummary, SnapshotTimes, WriteOptions, diff_id_of, normalize_times, write_layer,
};
pub use error::{Error, ErrorKind, Result};
pub use form::{Flavor, Form, Ownership};
pub use stack::{Found, LastLink, Stack, StackEntry};
pub use tar::{Entry, EntryHeader, EntryKind, TarLimits, TarReader, TarWriter, WithHoles};
pub use target::{Replace, Target};
