//! The registry as clients see it: the distribution spec's checks, faults, many clients at once.

// Helpers of tests, outside of `#[test]` functions; tests that are skipped say so.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod client;
mod clients;
mod conformance;
mod faults;
mod history;
mod killed;
mod model;
mod power;
mod server;
mod spec;
mod trace;
