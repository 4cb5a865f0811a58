//! The checks of [`crate::spec`] against our registry, and against Debian's to see that they can
//! fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::client::Client;
use crate::server::{DockerRegistry, Registry, options};
use crate::spec::CHECKS;

/// What docker-registry 2.8 is known to do otherwise.
const DOCKER_FAILS: &[&str] = &[
    "post and put sha512",
    "single post sha256",
    "single post sha512",
    "chunked sha512",
    "chunks out of order",
    "mount without from",
    "wrong digest in post",
    "malformed digests",
    "unsatisfiable range",
    "manifest sha512",
    "manifest that is no manifest",
    "non-distributable layers",
    "subject",
    "missing subject",
    "referrers of nothing",
    "referrers filtered",
    "referrers paged",
    "referrers of a fallback tag",
    "tags by parameter",
    "tag list of no entries",
    "tag deleted",
    "too large manifest",
    "names",
    "put again after 201",
];

/// What depends on the order in which its folders happen to be read.
const DOCKER_MAY_FAIL: &[&str] = &["tag list", "tag list paged"];

/// Runs all checks; gives what failed, with the reason.
fn failures(client: &Client, prefix: &str) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for (number, (name, check)) in CHECKS.iter().enumerate() {
        let repository = format!("{prefix}/n{number:02}");
        let result = catch_unwind(AssertUnwindSafe(|| check(client, &repository)));
        match result {
            Ok(Ok(())) => {}
            Ok(Err(why)) => failed.push((*name, why)),
            Err(_) => failed.push((*name, "panicked".to_owned())),
        }
    }
    failed
}

#[test]
fn our_registry_does_all_that_the_specification_asks() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let failed = failures(&registry.client, "conformance");
    assert!(failed.is_empty(), "{failed:#?}\n{:?}", registry.trouble.lock().unwrap());
    drop(registry);
    // And once more after a restart, on the same data.
    let registry = Registry::with(options(folder.path()));
    let failed = failures(&registry.client, "again");
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn docker_registry_fails_where_it_is_known_to() {
    let Some(registry) = DockerRegistry::start() else { return };
    let failed = failures(&registry.client, "conformance");
    let names = failed.iter().map(|(name, _)| *name);
    let names: Vec<&str> = names.filter(|name| !DOCKER_MAY_FAIL.contains(name)).collect();
    assert_eq!(names, DOCKER_FAILS, "{failed:#?}");
}
