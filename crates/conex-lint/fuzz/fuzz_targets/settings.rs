//! Any text is settings or refused: `cargo +nightly fuzz run settings`.
#![no_main]

use conex_lint::Settings;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Settings::from_hadolint(text);
    let _ = Settings::from_toml(text);
});
