//! Any bytes are a manifest, an index, a config, or refused; what is taken and written reads the
//! same again: `cargo +nightly fuzz run documents`.
#![no_main]

use conex_oci::{ImageConfig, Index, Manifest};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let again = Manifest::parse(&manifest.to_bytes()).expect("what was written is valid");
        assert_eq!(again, manifest);
    }
    if let Ok(index) = Index::parse(bytes) {
        let again = Index::parse(&index.to_bytes()).expect("what was written is valid");
        assert_eq!(again, index);
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let again = ImageConfig::parse(&config.to_bytes()).expect("what was written is valid");
        assert_eq!(again, config);
        let _ = config.chain_id();
    }
});
