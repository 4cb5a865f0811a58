//! `conex copy` between all places, and what can be asked of a registry without pulling.

use std::fs;
use std::process::Command;

use crate::registry_peer::Registry;
use crate::sandbox::{Sandbox, missing, program};

/// A store with the image `app`, which is also in the registry as `app:1`. Gives its digest.
fn scene() -> Option<(Sandbox, Registry, String)> {
    let sandbox = Sandbox::with_base()?;
    let registry = Registry::start(&sandbox, "")?;
    sandbox.write("context/a", "hello\n");
    sandbox.built("FROM base\nCOPY a /a\nCMD [\"cat\", \"/a\"]\n", &["-t", "app"]);
    sandbox.ok(&["push", "--digestfile", "pushed", "app", &registry.name("app:1")]);
    let digest = fs::read_to_string(sandbox.at("pushed")).unwrap();
    Some((sandbox, registry, digest))
}

#[test]
fn an_image_goes_through_every_place_and_keeps_its_digest() {
    let Some((sandbox, registry, digest)) = scene() else { return };
    let steps = [
        (format!("docker://{}", registry.name("app:1")), registry.name("other/app:2")),
        (registry.name("other/app:2"), "oci:layout:latest".to_owned()),
        ("oci:layout".to_owned(), "oci-archive:a.tar:localhost/app:3".to_owned()),
        ("oci-archive:a.tar".to_owned(), "docker-archive:b.tar:app:4".to_owned()),
        ("docker-archive:b.tar:app:4".to_owned(), "store:again:5".to_owned()),
        ("store:again:5".to_owned(), "oci:second".to_owned()),
        ("oci:second".to_owned(), registry.name("back:6")),
    ];
    for (from, to) in &steps {
        let said = sandbox.ok(&["copy", "--digestfile", "digest", from, to]);
        assert_eq!(fs::read_to_string(sandbox.at("digest")).unwrap(), digest, "{from} to {to}");
        assert!(said.contains(&digest), "{said}");
    }
    assert_eq!(sandbox.ok(&["copy", "-q", "oci:layout", "oci:third:x"]), format!("{digest}\n"));
    assert_eq!(sandbox.ok(&["run", "--rm", "again:5"]), "hello\n");
    assert_eq!(sandbox.ok(&["digest", &registry.name("back:6")]).trim(), digest);
    if program("skopeo").is_some() {
        for place in ["oci:layout:latest", "oci-archive:a.tar", "docker-archive:b.tar"] {
            let mut skopeo = Command::new("skopeo");
            skopeo.current_dir(sandbox.path()).args(["inspect", "--raw", place]);
            let output = skopeo.output().unwrap();
            assert!(output.status.success(), "{place}: {output:?}");
        }
    } else {
        missing("skopeo");
    }
}

#[test]
fn from_registry_to_registry_nothing_touches_the_disk() {
    let Some((sandbox, registry, digest)) = scene() else { return };
    let elsewhere = Sandbox::new();
    let (from, to) = (registry.name("app:1"), registry.name("mirror/app:1"));
    elsewhere.ok(&["copy", &from, &to]);
    assert!(!elsewhere.at("store").exists(), "a copy needs no store");
    assert_eq!(elsewhere.ok(&["digest", &to]).trim(), digest);
    drop(sandbox);
}

#[test]
fn all_tags_go_with_all_tags() {
    let Some((sandbox, registry, _)) = scene() else { return };
    sandbox.ok(&["push", "base", &registry.name("app:base")]);
    let copied = sandbox.ok(&["copy", "--all-tags", &registry.name("app"), &registry.name("all")]);
    assert_eq!(copied.lines().count(), 2, "{copied}");
    assert_eq!(sandbox.ok(&["tags", &registry.name("all")]), "1\nbase\n");
    sandbox.ok(&["copy", "--all-tags", &registry.name("all"), "oci:layout"]);
    sandbox.ok(&["copy", "--all-tags", "oci:layout", &registry.name("back")]);
    let json = sandbox.ok(&["tags", "--format", "json", &registry.name("back")]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Repository"], registry.name("back"));
    assert_eq!(json["Tags"], serde_json::json!(["1", "base"]));
    assert_eq!(sandbox.ok(&["catalog", &registry.address]), "all\napp\nback\n");
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", "-a", "--digestfile", "digests", &registry.name("app")]);
    let digests = fs::read_to_string(elsewhere.at("digests")).unwrap();
    assert_eq!(digests.lines().count(), 2);
    let pushed = elsewhere.ok(&["push", "-a", "-q", &registry.name("app")]);
    assert_eq!(pushed, digests, "what was pulled is pushed as it was");
    let tagged = registry.name("app:1");
    for wrong in [&["copy", "--all-tags", &tagged, "oci:x"][..], &["pull", "-a", &tagged]] {
        let error = sandbox.fails(2, wrong);
        assert!(error.contains("has a tag"), "{error}");
    }
}

#[test]
fn a_platform_is_chosen_or_all_come_along() {
    let Some((sandbox, registry, _)) = scene() else { return };
    let name = registry.name("multi:1");
    sandbox.write("context/Dockerfile", "FROM scratch\nCOPY a /a\n");
    let context = sandbox.text("context");
    let build = ["build", "--platform", "linux/amd64,linux/arm64", "-t", &name, &context];
    sandbox.ok(&build);
    sandbox.ok(&["push", &name]);
    let digest = sandbox.ok(&["digest", &name]).trim().to_owned();
    sandbox.ok(&["copy", "-a", &name, &registry.name("whole:1")]);
    assert_eq!(sandbox.ok(&["digest", &registry.name("whole:1")]).trim(), digest);
    let arm = sandbox.ok(&["digest", "--platform", "linux/arm64", &name]);
    assert_ne!(arm.trim(), digest);
    sandbox.ok(&["copy", "--platform", "linux/arm64", &name, &registry.name("arm:1")]);
    assert_eq!(sandbox.ok(&["digest", &registry.name("arm:1")]), arm);
    let full = sandbox.ok(&["digest", "--full-ref", "--platform", "linux/arm64", &name]);
    assert_eq!(full.trim(), format!("{}@{}", registry.name("multi"), arm.trim()));
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", "--all-platforms", &name]);
    assert_eq!(elsewhere.ok(&["push", "-q", &name, &registry.name("back:1")]).trim(), digest);
    let error = sandbox.fails(1, &["copy", "--platform", "plan9/mips", &name, "oci:x"]);
    assert!(error.contains("plan9/mips") && error.contains("linux/arm64"), "{error}");
}

#[test]
fn manifests_are_shown_as_they_are() {
    let Some((sandbox, registry, digest)) = scene() else { return };
    let name = registry.name("app:1");
    let raw = sandbox.ok(&["manifest", "inspect", "--raw", &name]);
    assert_eq!(conex_oci::Digest::of(raw.as_bytes()).as_str(), digest);
    let shown = sandbox.ok(&["manifest", "inspect", &name]);
    assert!(shown.starts_with("{\n   \"schemaVersion\": 2,\n"), "{shown}");
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(&shown), parse(&raw));
    let verbose = parse(&sandbox.ok(&["manifest", "inspect", "-v", &name]));
    assert_eq!(verbose["Descriptor"]["digest"], digest);
    assert_eq!(verbose["OCIManifest"], parse(&raw));
    let error = sandbox.fails(1, &["manifest", "inspect", &registry.name("none:1")]);
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn what_is_deleted_in_the_registry_is_gone_and_only_that() {
    let Some((sandbox, registry, digest)) = scene() else { return };
    let (first, second) = (registry.name("app:1"), registry.name("app:2"));
    sandbox.ok(&["copy", &first, &second]);
    // Debian's registry deletes by digest only, which would take the other tag along.
    let error = sandbox.fails(1, &["rmi", "--remote", &first]);
    assert!(error.contains("`2`") && error.contains("--force"), "{error}");
    assert_eq!(sandbox.ok(&["digest", &first]).trim(), digest);
    sandbox.ok(&["copy", "store:base", &second]);
    let said = sandbox.ok(&["rmi", "--remote", &first]);
    assert!(said.contains(&format!("Untagged: {first}")) && said.contains(&digest), "{said}");
    sandbox.fails(1, &["digest", &first]);
    let base = sandbox.ok(&["digest", &second]);
    let by_digest = format!("{}@{}", registry.name("app"), base.trim());
    sandbox.ok(&["delete", &by_digest]);
    sandbox.fails(1, &["delete", &by_digest]);
    sandbox.ok(&["delete", "--force", &by_digest]);
    let error = sandbox.fails(2, &["delete", &registry.name("app")]);
    assert!(error.contains("neither a tag nor a digest"), "{error}");
    // The store keeps what it has.
    sandbox.ok(&["inspect", "app"]);
}

/// Adds something that refers to an image to a layout, as signing tools do.
fn attach(sandbox: &Sandbox, layout: &str, subject: &str) -> String {
    use conex_oci::{Descriptor, Digest, Manifest, MediaType};
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        sandbox.write(&format!("{layout}/blobs/sha256/{}", digest.hex()), bytes);
    };
    let image = fs::read(sandbox.at(&format!("{layout}/blobs/sha256/{}", &subject[7..]))).unwrap();
    let (empty, bill) = (&b"{}"[..], &b"a bill of materials"[..]);
    put(empty);
    put(bill);
    let layer = Descriptor::of(MediaType::from("text/spdx"), bill);
    let mut manifest = Manifest::new(Descriptor::of(MediaType::Empty, empty), vec![layer]);
    manifest.artifact_type = Some("application/spdx+json".to_owned());
    manifest.subject = Some(Descriptor::of(MediaType::OciManifest, &image));
    let bytes = manifest.to_bytes();
    put(&bytes);
    let file = sandbox.at(&format!("{layout}/index.json"));
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let descriptor = Descriptor::of(MediaType::OciManifest, &bytes);
    let list = index["manifests"].as_array_mut().unwrap();
    list.push(serde_json::to_value(&descriptor).unwrap());
    fs::write(&file, index.to_string()).unwrap();
    descriptor.digest.to_string()
}

#[test]
fn what_refers_to_an_image_goes_along_everywhere() {
    let Some((sandbox, registry, digest)) = scene() else { return };
    sandbox.ok(&["copy", &registry.name("app:1"), "oci:layout:1"]);
    let referrer = attach(&sandbox, "layout", &digest);
    // Debian's registry has no referrers API: the client keeps the fallback tag.
    let listed = |repository: &str| {
        let tag = format!("{}:{}", registry.name(repository), digest.replace(':', "-"));
        let ended = sandbox.conex(&["manifest", "inspect", "--raw", &tag]);
        ended.code == 0 && ended.out.contains(&referrer) && ended.out.contains("spdx+json")
    };
    sandbox.ok(&["copy", "oci:layout:1", &registry.name("without:1")]);
    assert!(!listed("without"), "it stays unless it is asked for");
    sandbox.ok(&["copy", "--referrers", "oci:layout:1", &registry.name("with:1")]);
    assert!(listed("with"));
    sandbox.ok(&["copy", "--referrers", &registry.name("with:1"), &registry.name("again:1")]);
    assert!(listed("again"));
    let elsewhere = Sandbox::new();
    let name = registry.name("again:1");
    elsewhere.ok(&["pull", "--referrers", &name]);
    let pushed = elsewhere.ok(&["push", "-q", "--referrers", &name, &registry.name("third:1")]);
    assert_eq!(pushed.trim(), digest);
    assert!(listed("third"));
    sandbox.ok(&["copy", "--referrers", &registry.name("third:1"), "oci:back:1"]);
    let index = fs::read_to_string(sandbox.at("back/index.json")).unwrap();
    assert!(index.contains(&referrer), "{index}");
    // An artifact alone is no image, which is said before anything is fetched.
    let alone = format!("{}@{referrer}", registry.name("with"));
    let error = elsewhere.fails(1, &["pull", &alone]);
    assert!(error.contains("is no container image, but `application/spdx+json`"), "{error}");
}
