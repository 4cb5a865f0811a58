//! Any bytes are a kept report or refused, whatever their digest says; what is taken is sound:
//! `cargo +nightly fuzz run kept`.
#![no_main]

use std::sync::Arc;

use conex_inventory::{ImageReport, LayerReport, Limits, Tree};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(report) = LayerReport::decode_unsigned(bytes) else { return };
    let tree = Tree::of(&[Arc::new(report)]).expect("one layer is not too many");
    ImageReport::of(&tree, &[], Limits { rows: 10 });
});
