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

mod attributes;
mod copy;
mod error;
mod form;
mod stack;
mod target;

pub use attributes::Attributes;
pub use copy::{CopyOptions, CopySummary, Filter, ModeRule, Wanted, copy};
pub use error::{Error, ErrorKind, Result};
pub use form::{Flavor, Form, Ownership};
pub use stack::{Found, LastLink, Stack, StackEntry};
pub use target::{Replace, Target};
