//! Layers made as tars, read, kept, laid over each other, and held against a simple model.

// Helpers of tests, outside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod layers;
mod listing;
mod model;
mod packages;
mod report;
