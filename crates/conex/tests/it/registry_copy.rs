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

#[test]
fn what_referred_to_an_image_goes_after_it() {
    let Some((sandbox, registry, digest)) = scene() else { return };
    sandbox.ok(&["copy", &registry.name("app:1"), "oci:layout:1"]);
    attach(&sandbox, "layout", &digest);
    let signed = registry.name("signed:1");
    sandbox.ok(&["copy", "--referrers", "oci:layout:1", &signed]);
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", "--referrers", &signed]);
    let mut folders = elsewhere.at("store/aux").read_dir().unwrap().map(|entry| entry.unwrap());
    let is_it = |name: std::ffi::OsString| name.to_string_lossy().starts_with("artifacts");
    let folder = folders.find(|entry| is_it(entry.file_name())).unwrap();
    let folder = folder.path().join("blobs/sha256");
    let count = || folder.read_dir().unwrap().count();
    let kept = count();
    assert!(kept >= 2, "a manifest and what it names");
    // As if it had come long ago.
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for entry in folder.read_dir().unwrap() {
        let file = fs::File::options().append(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    elsewhere.ok(&["system", "prune", "-f"]);
    assert_eq!(count(), kept, "the image is there");
    elsewhere.ok(&["push", "--referrers", &signed, &registry.name("again:1")]);
    elsewhere.ok(&["rmi", &signed]);
    let said = elsewhere.ok(&["image", "prune", "-f"]);
    assert_eq!(count(), 0, "{said}");
    assert!(!said.contains("space: 0B"), "{said}");
    elsewhere.ok(&["pull", "--referrers", &signed]);
    elsewhere.ok(&["rmi", &signed]);
    elsewhere.ok(&["system", "prune", "-f"]);
    assert_eq!(count(), kept, "what came just now may belong to something that still comes");
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// Media types in a manifest, and what of it must not change.
fn kinds(manifest: &serde_json::Value) -> (Vec<String>, Vec<serde_json::Value>) {
    let layers = manifest["layers"].as_array().unwrap();
    let parts: Vec<&serde_json::Value> =
        std::iter::once(&manifest["config"]).chain(layers).collect();
    let kind = |value: &serde_json::Value| {
        let text = value["mediaType"].as_str().unwrap();
        text.strip_prefix("application/vnd.").unwrap().to_owned()
    };
    let kinds = std::iter::once(kind(manifest)).chain(parts.iter().map(|part| kind(part)));
    (kinds.collect(), parts.iter().map(|part| part["digest"].clone()).collect())
}

/// Docker's kinds of a manifest, its config and its layers.
const DOCKER: [&str; 3] = [
    "docker.distribution.manifest.v2+json",
    "docker.container.image.v1+json",
    "docker.image.rootfs.diff.tar.gzip",
];

#[test]
fn an_image_changes_its_format_and_comes_back_the_same() {
    let Some((sandbox, registry, digest)) = scene() else { return };
    let name = |tag: &str| registry.name(&format!("app:{tag}"));
    let raw = |tag: &str| sandbox.ok(&["manifest", "inspect", "--raw", &name(tag)]);
    sandbox.ok(&["copy", "--format", "docker", &name("1"), &name("docker")]);
    sandbox.ok(&["copy", "--format", "v2s2", &name("docker"), &name("same")]);
    assert_eq!(raw("docker"), raw("same"), "what is in the format stays as it is");
    sandbox.ok(&["copy", "-f", "oci", &name("docker"), &name("back")]);
    assert_eq!(sandbox.ok(&["digest", &name("back")]).trim(), digest);
    let (kinds_before, parts_before) = kinds(&json(&raw("1")));
    assert!(kinds_before.iter().all(|kind| kind.starts_with("oci.")), "{kinds_before:?}");
    let (kinds_after, parts_after) = kinds(&json(&raw("docker")));
    assert_eq!(kinds_after[..3], DOCKER);
    assert!(kinds_after[3..].iter().all(|kind| kind == DOCKER[2]), "{kinds_after:?}");
    assert_eq!(parts_after, parts_before, "config and layers are the same bytes");
    // Straight from the store, too, and through the store.
    sandbox.ok(&["push", "--format", "docker", "app", &name("pushed")]);
    assert_eq!(raw("pushed"), raw("docker"));
    sandbox.ok(&["copy", "--format", "docker", "store:app", &name("copied")]);
    assert_eq!(raw("copied"), raw("docker"));
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &name("docker")]);
    assert_eq!(elsewhere.id(&name("docker")), sandbox.id("app"), "the image's ID stays");
    assert_eq!(elsewhere.ok(&["run", "--rm", &name("docker")]), "hello\n");
    // What cannot be said in Docker's format is named.
    sandbox.ok(&["push", "--compression", "zstd", "--force-compression", "app", &name("zstd")]);
    let error = sandbox.fails(1, &["copy", "--format", "docker", &name("zstd"), &name("x")]);
    assert!(error.contains("zstd, which Docker's image format does not have"), "{error}");
    let error = sandbox.fails(2, &["copy", "-f", "oci", "--referrers", &name("1"), &name("x")]);
    assert!(error.contains("--referrers"), "{error}");
}

#[test]
fn skopeo_agrees_about_formats() {
    let Some((sandbox, registry, _)) = scene() else { return };
    if program("skopeo").is_none() {
        return missing("skopeo");
    }
    let skopeo = |format: &str, from: &str, to: &str| {
        let (from, to) = (format!("docker://{from}"), format!("docker://{to}"));
        let mut command = Command::new("skopeo");
        command.current_dir(sandbox.path()).env("HOME", sandbox.path());
        command.args(["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"]);
        command.args(["--src-no-creds", "--dest-no-creds"]);
        let output = command.args(["--format", format, &from, &to]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let name = |tag: &str| registry.name(&format!("app:{tag}"));
    let raw = |tag: &str| json(&sandbox.ok(&["manifest", "inspect", "--raw", &name(tag)]));
    sandbox.ok(&["copy", "--format", "docker", &name("1"), &name("ours")]);
    skopeo("v2s2", &name("1"), &name("theirs"));
    assert_eq!(raw("ours"), raw("theirs"), "the same document, field by field");
    // It takes ours for what it is.
    skopeo("v2s2", &name("ours"), &name("taken"));
    assert_eq!(sandbox.ok(&["digest", &name("taken")]), sandbox.ok(&["digest", &name("ours")]));
    // Several platforms.
    sandbox.write("context/Dockerfile", "FROM scratch\nCOPY a /a\n");
    let (context, multi) = (sandbox.text("context"), name("multi"));
    let build = ["build", "--platform", "linux/amd64,linux/arm64", "-t", &multi, &context];
    sandbox.ok(&build);
    sandbox.ok(&["push", &multi]);
    sandbox.ok(&["copy", "--format", "docker", &multi, &name("list")]);
    let list = raw("list");
    assert_eq!(list["mediaType"], "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(list["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(list["manifests"][1]["platform"]["architecture"], "arm64");
    skopeo("v2s2", &name("list"), &name("list-taken"));
    let digest = |tag: &str| sandbox.ok(&["digest", &name(tag)]);
    assert_eq!(digest("list-taken"), digest("list"));
    sandbox.ok(&["copy", "--format", "oci", &name("list"), &name("list-back")]);
    assert_eq!(digest("list-back"), digest("multi"));
}
