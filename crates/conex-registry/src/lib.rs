//! A registry server: the distribution specification's API over files and a database.
//!
//! Invariants:
//! - What was acknowledged is durable and can be fetched: a row appears only after the bytes that
//!   it names are on the disk, and nothing that is named can be removed.
//! - Garbage is collected while the registry serves, always, without a mode in which it does not.
//! - Everything from outside is hostile: each size, count and wait has a limit.
//!
//! It does not know containers, nor Dockerfiles, nor the terminal; it reads no clock and no
//! environment: [`Options`] brings what it needs.

#![forbid(unsafe_code)]

mod answer;
mod auth;
mod blob;
mod blobs;
mod body;
mod check;
mod collector;
mod core;
mod document;
mod error;
mod images;
mod log;
mod manifest;
mod meta;
mod metrics;
mod name;
mod options;
mod range;
mod route;
mod serve;
mod stall;
mod time;
mod tls;
mod uploads;
mod usage;

pub use auth::Anonymous;
pub use check::{CheckReport, Damage, Repair, check};
pub use document::Document;
pub use error::{Error, ErrorKind};
pub use images::{Failure, ReadOnlyImages, ServedManifest};
pub use meta::Durability;
pub use name::{Name, Pattern, Tag};
pub use options::{Content, Limits, Listen, Options, Times, Tls};
pub use range::{Asked, asked, of_chunk};
pub use route::{Astray, Query, Reference, Route};
pub use serve::{Server, Stop};
pub use time::{Clock, Moment};
