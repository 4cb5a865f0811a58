//! Tests of layers at their boundary: trees in, tars out, and back.

mod archives;
mod copying;
mod hostile;
mod layers;
mod random;
mod streams;
mod support;
mod targets;
