//! Containers as seen from inside and from outside, through the driver binary: as root, and as an
//! ordinary user in a user namespace, where the machine allows either.

#![allow(clippy::unwrap_used)] // Helpers of tests, outside of `#[test]` functions.

mod api;
mod escape;
mod limits;
mod oracle;
mod process;
mod rootfs;
mod support;
