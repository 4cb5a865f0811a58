//! The conex command line.
fn main() {}
