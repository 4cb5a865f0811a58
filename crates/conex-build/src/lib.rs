//! Turns a Dockerfile into an image: a plan, cache keys, a scheduler, the operations, exporters.
//!
//! The way through: [`plan`] lowers the parsed Dockerfile to a graph; `build` runs it vertex by
//! vertex against the store; the result is an image in the store, which exporters hand on.
//!
//! Knows no HTTP and no terminal: what must be fetched comes through [`Images`] and `Fetch`, and
//! what happens is told to a [`conex_report::Reporter`].

#![forbid(unsafe_code)]

mod cancel;
mod context;
mod error;
mod graph;
mod key;
mod plan;
mod scheduler;

pub use cancel::Cancel;
pub use context::{Context, ContextOptions};
pub use error::{Error, ErrorKind};
pub use graph::{BaseImage, BuildArgs, Plan};
pub use plan::{Images, NamedContext, NoCache, PlanOptions, plan};
