//! Any bytes are a layer or refused; what is taken can be kept, laid over itself and reported on,
//! and a look at its headers says the same: `cargo +nightly fuzz run layer`.
#![no_main]

use std::sync::Arc;

use conex_inventory::{
    DiveReport, ImageReport, LayerReport, Limits, Part, Source, Tree, dive_files, list_layer,
    scan_layer, settle,
};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let Ok(scanned) = scan_layer(&mut input, no_scratch) else { return };
    let kept = LayerReport::decode(&scanned.report.encode()).expect("what was written is read");
    assert_eq!(kept, scanned.report);
    dive_files(&kept);
    let layer = Arc::new(kept);
    let source: Source = Arc::new(Bytes(bytes.to_vec()));
    if let Ok(listing) = list_layer(&source, bytes.len() as u64, no_scratch) {
        let mut parts = [Part::listed(listing, source, 1)];
        settle(&mut parts, 1).expect("what was listed is there");
        let [part] = parts;
        let [looked, read] = [part.into_report(), layer.clone()].map(|layer| {
            let tree = Tree::of(&[layer]).expect("a layer is not too many");
            ImageReport::of(&tree, &[], Limits { rows: 0 })
        });
        assert_eq!(looked, read);
    }
    let tree = Tree::of(&[layer.clone(), layer]).expect("two layers are not too many");
    let report = ImageReport::of(&tree, &[], Limits { rows: 10 });
    assert_eq!(report.stored_size, report.visible_size + report.wasted_size);
    DiveReport::of(&tree);
});

struct Bytes(Vec<u8>);

impl conex_elf::ReadAt for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.as_slice().read_at(buffer, offset)
    }
}

fn no_scratch() -> std::io::Result<std::fs::File> {
    Err(std::io::ErrorKind::Unsupported.into())
}
