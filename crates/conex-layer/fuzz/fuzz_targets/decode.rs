//! Decompresses any bytes: no panic, bounded memory. What is not known comes out as it went in.
#![no_main]

use std::io::Read;

use conex_layer::{Decoder, Format};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let Ok(mut decoder) = Decoder::new(&mut input) else { return };
    let plain = decoder.format() == Format::Plain;
    let mut out = Vec::new();
    let read = (&mut decoder).take(16 << 20).read_to_end(&mut out);
    if plain {
        assert!(read.is_ok() && out == bytes);
    }
});
