//! The Dockerfile language, through its public API.

mod diagnostics;
mod expansion;
mod ignoring;
mod instructions;
mod limits;
mod mounts;
mod properties;
mod structure;
