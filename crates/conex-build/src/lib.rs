//! Turns a Dockerfile into an image: a plan, cache keys, a scheduler, the operations, exporters.
//!
//! The way through: [`plan`] lowers the parsed Dockerfile to a graph; `build` runs it vertex by
//! vertex against the store; the result is an image in the store, which exporters hand on.
//!
//! Knows no HTTP and no terminal: what must be fetched comes through [`Images`] and `Fetch`, and
//! what happens is told to a [`conex_report::Reporter`].

#![forbid(unsafe_code)]

mod ahead;
mod cancel;
mod changes;
mod context;
mod engine;
mod error;
mod graph;
mod image;
mod key;
mod mask;
mod ops;
mod options;
mod plan;
mod remote_cache;
mod scheduler;
mod unpack;

pub use cancel::Cancel;
pub use changes::apply_changes;
pub use context::{Context, ContextOptions};
pub use error::{Error, ErrorKind};
pub use graph::{BaseImage, BuildArgs, Plan};
pub use image::{BuiltImage, ImageOptions, Outcome, build, keep};
pub use options::{
    BuildOptions, Contexts, EPOCH_DEFAULT, Fetch, Fetched, FetchedTree, OnFailure, Secret,
};
pub use plan::{Images, NamedContext, NoCache, PlanOptions, is_git, plan};
pub use remote_cache::{CACHE_CONFIG_TYPE, CacheItem, CacheRecords, RemoteCache};
pub use unpack::{UnpackOptions, unpack_layer};
