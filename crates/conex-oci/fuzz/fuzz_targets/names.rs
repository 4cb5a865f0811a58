//! Any text is a reference, a digest, a platform, or refused; what is taken reads the same again:
//! `cargo +nightly fuzz run names`.
#![no_main]

use conex_oci::{Digest, Platform, Reference};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().ok(), Some(reference.clone()));
        assert_eq!(reference.familiar().parse::<Reference>().ok(), Some(reference));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>().ok(), Some(platform));
    }
});
