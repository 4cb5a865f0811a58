//! The program as people use it: the real binary on a store of its own, as root and as an ordinary
//! user, without a network.

#![allow(clippy::unwrap_used)] // Helpers of tests, outside of `#[test]` functions.

mod build_cache;
mod build_copy;
mod build_language;
mod build_run;
mod cache;
mod docs;
mod images;
mod inspect;
mod prune;
mod sandbox;
mod scene;
mod shown;
mod system;
mod volumes;
