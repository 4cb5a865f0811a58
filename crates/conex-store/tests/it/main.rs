//! The store seen from outside: behaviour, a model, killed processes, many processes, full disks.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and skips aloud"
)]

mod behaviour;
mod crash;
mod full_disk;
mod images;
mod many;
mod model;
mod partials;
mod power;
mod repair;
mod support;
