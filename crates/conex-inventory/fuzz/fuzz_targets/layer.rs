//! Any bytes are a layer or refused; what is taken can be kept, laid over itself and reported on:
//! `cargo +nightly fuzz run layer`.
#![no_main]

use std::sync::Arc;

use conex_inventory::{DiveReport, ImageReport, LayerReport, Limits, Tree, scan_layer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let Ok(scanned) = scan_layer(&mut input, no_scratch) else { return };
    let kept = LayerReport::decode(&scanned.report.encode()).expect("what was written is read");
    assert_eq!(kept, scanned.report);
    let layer = Arc::new(kept);
    let tree = Tree::of(&[layer.clone(), layer]).expect("two layers are not too many");
    let report = ImageReport::of(&tree, &[], Limits { rows: 10 });
    assert_eq!(report.stored_size, report.visible_size + report.wasted_size);
    DiveReport::of(&tree);
});

fn no_scratch() -> std::io::Result<std::fs::File> {
    Err(std::io::ErrorKind::Unsupported.into())
}
