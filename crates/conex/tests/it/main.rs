//! The program as people use it: the real binary on a store of its own, as root and as an ordinary
//! user, without a network.

// Helpers of tests, outside of `#[test]` functions; tests that are skipped say so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod analyze;
mod build_ahead;
mod build_cache;
mod build_copy;
mod build_fetch;
mod build_language;
mod build_options;
mod build_output;
mod build_renew;
mod build_run;
mod build_same;
mod build_trouble;
mod cache;
mod docs;
mod examples;
mod files;
mod images;
mod inspect;
mod lint;
mod mounts;
mod packages;
mod packaging;
mod peers_confinement;
mod peers_images;
mod peers_support;
mod peers_view;
mod prune;
mod registry;
mod registry_clouds;
mod registry_copy;
#[allow(dead_code)] // one fake for both crates; each uses a part of it
#[path = "../../../conex-remote/tests/it/fake.rs"]
mod registry_fake;
mod registry_faults;
mod registry_peer;
mod registry_serve;
mod registry_trouble;
mod registry_wire;
mod run_container;
mod sandbox;
mod scene;
mod shown;
mod stress;
mod system;
mod tour;
mod volumes;
