//! Any `config.json` gives a credential, none, or an error: `cargo +nightly fuzz run auth_file`.
#![no_main]

use std::time::{SystemTime, UNIX_EPOCH};

use conex_remote::{AuthFile, CredentialSource, Error, Web, WebRequest, WebResponse};

struct NoWeb;

impl Web for NoWeb {
    fn exchange(&self, _: WebRequest) -> Result<WebResponse, Error> {
        unreachable!("a file is not on the network")
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = AuthFile::parse(bytes) else { return };
    for (registry, repository) in [("docker.io", "library/a"), ("r.io", "a/b/c"), ("r.io", "")] {
        let _ = file.credential(registry, repository, &NoWeb);
    }
});
