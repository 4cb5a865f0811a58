//! Any bytes are a package database, a program, an archive or a description of a package, or
//! refused: `cargo +nightly fuzz run packages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| conex_inventory::read_as_anything(bytes));
