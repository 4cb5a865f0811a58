//! Tests of layers at their boundary: trees in, tars out, and back.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "what is skipped is said aloud")]

mod archives;
mod copying;
mod hostile;
mod layers;
mod random;
mod streams;
mod support;
mod targets;
