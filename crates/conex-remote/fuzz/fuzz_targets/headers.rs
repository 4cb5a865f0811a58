//! Any `Link`, `Content-Range`, `Range`, `Retry-After` and rate limit is understood or left out:
//! `cargo +nightly fuzz run headers`.
#![no_main]

use std::time::UNIX_EPOCH;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Some(target) = conex_remote::link_next(text) {
        assert!(text.contains(target));
    }
    if let Some((first, last, whole)) = conex_remote::content_range(text) {
        assert!(first <= last && whole.is_none_or(|whole| last < whole));
    }
    let _ = conex_remote::upload_range(text);
    let _ = conex_remote::rate_limit(text);
    let _ = conex_remote::retry_after(text, UNIX_EPOCH);
});
