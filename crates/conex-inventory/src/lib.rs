//! What is in an image: the files of each layer, what the layers waste, what is left over or
//! dangerous, which packages there are, and what differs between two images.
//!
//! One streaming pass over a layer gives a compact [`LayerReport`], which can be kept by the
//! layer's diff ID ([`LayerReport::encode`]), or a look at the headers alone a passing one
//! ([`Listing`]); laid over each other by the rules of whiteouts
//! ([`Tree`]), the reports of an image's layers give the [`ImageReport`]. So a layer that many
//! images share is read once.
//!
//! Invariant: nothing here depends on when or where it runs; equal layers give equal reports.
//!
//! Knows nothing of advisories, networks or terminals.

#![forbid(unsafe_code)]
// Indices are checked where they enter (`codec`) or made here; an index into a table of the same
// report that is out of range is a mistake of this crate's.
#![allow(clippy::cast_possible_truncation)]

mod builder;
mod caches;
mod codec;
mod compare;
mod content;
mod dive;
mod error;
mod image;
mod intern;
mod layer;
mod listing;
mod packages;
mod rules;
mod scan;
mod suggest;
mod tree;
mod view;

pub use caches::{CACHE_KINDS, CacheKind};
pub use compare::{Comparison, ConfigChange, FileChange, FileChanges, PackageChange};
pub use content::Verified;
pub use dive::{DiveFile, DivePath, DiveReport, dive_files};
pub use error::{Error, ErrorKind, Result};
pub use image::{
    CacheRow, ChangeRow, Duplicate, ImageReport, LayerFacts, LayerRow, Limits, Notable,
    NotableList, SCHEMA_VERSION, Sized, SourceLine, Waste, WasteStep, instructions, mode_text,
};
pub use layer::{Kind, LayerReport, ROOT};
pub use listing::{Listing, Part, list_layer, settle};
pub use packages::{
    Distribution, Installed, Manager, Package, PackageList, Scratch, Source, read_as_anything,
};
pub use rules::{DIVE_DEFAULTS, Figures, Outcome, Rules, Verdict, parse_size};
pub use scan::{Scanned, scan_layer};
pub use suggest::Suggestion;
pub use tree::{Cause, Changes, Tree};
pub use view::{Change, Entry, Place};
