//! Any bytes are a manifest or refused: `cargo +nightly fuzz run manifests`.
#![no_main]

use conex_registry::Document;

libfuzzer_sys::fuzz_target!(|input: (&[u8], Option<&str>)| {
    let (bytes, said) = input;
    if let Ok(document) = Document::parse(bytes, said) {
        assert!(document.blobs.is_empty() || document.children.is_empty());
    }
});
