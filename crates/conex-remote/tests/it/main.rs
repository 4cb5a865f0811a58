//! The client against servers: fakes that misbehave on purpose, and Debian's `docker-registry`.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // every function here is part of a test

mod clouds;
mod docker_registry;
mod fake;
mod faults;
mod growing;
mod memory;
mod proxy;
mod support;
mod tls;
mod tokens;
mod transfers;
