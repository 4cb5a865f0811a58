//! Any text is linted; mending ends and breaks nothing, and a layout says the same:
//! `cargo +nightly fuzz run fixes`.
#![no_main]

use std::collections::BTreeMap;

use conex_lint::{CheckOptions, LintOptions, Safety, Scope, fix, format};
use conex_oci::Platform;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let platform: Platform = "linux/amd64".parse().expect("it is a platform");
    let base = |_: &str, _: &Platform| None;
    let options = LintOptions::new(CheckOptions {
        build_args: BTreeMap::new(),
        target: None,
        scope: Scope::All,
        ignore: None,
        build_platform: platform.clone(),
        target_platform: platform,
        base: &base,
    });
    let count = |text: &str| conex_dockerfile::parse(text.as_bytes()).1.len();
    for safety in [Safety::Safe, Safety::Unsafe] {
        let fixed = fix(text, &options, safety, &|_| true);
        assert!(count(&fixed.text) <= count(text));
    }
    if let Ok(formatted) = format::format(text) {
        assert_eq!(format::format(&formatted), Ok(formatted));
    }
});
