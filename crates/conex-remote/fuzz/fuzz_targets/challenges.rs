//! Any `WWW-Authenticate` is understood or left out, within its limits:
//! `cargo +nightly fuzz run challenges`.
#![no_main]

use conex_remote::{Challenge, Url, parse_challenges};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let challenges = parse_challenges(text);
    assert!(challenges.len() <= 16);
    for challenge in challenges {
        if let Challenge::Bearer { realm, .. } = challenge
            && let Ok(url) = Url::parse(&realm)
        {
            assert!(!url.host().is_empty() && url.path().starts_with('/'));
        }
    }
});
