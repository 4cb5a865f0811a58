//! The vocabulary of container images: what the OCI image specification and Docker's image
//! formats name, as types, and nothing that reads a file or a network.
//!
//! Invariant: a value of a type here is valid. [`Digest`], [`Reference`] and the others are checked
//! where they are parsed, so code that holds one needs no further check.

#![forbid(unsafe_code)]

mod blob;
mod config;
mod descriptor;
mod digest;
mod error;
mod manifest;
mod media_type;
mod platform;
mod reference;

pub use blob::{BlobSink, BlobSource, VerifyReader};
pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, ChainId, DiffId, Digest, Hasher};
pub use error::{Error, ErrorKind};
pub use manifest::{Index, MANIFEST_SIZE_MAX, Manifest};
pub use media_type::{Compression, MediaType};
pub use platform::Platform;
pub use reference::{DEFAULT_REGISTRY, DEFAULT_TAG, Reference};
