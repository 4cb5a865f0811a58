//! Any `registries.conf` is refused, or gives every reference at least one place:
//! `cargo +nightly fuzz run registries_conf`.
#![no_main]

use conex_oci::Reference;
use conex_remote::RegistriesConf;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(conf) = RegistriesConf::parse(text) else { return };
    for name in ["ubuntu", "r.io/a/b:1", "localhost:5000/x"] {
        let _ = conf.candidates(name);
        let reference: Reference = name.parse().expect("these are references");
        if let Ok(places) = conf.places(&reference) {
            assert!(!places.is_empty());
        }
    }
});
