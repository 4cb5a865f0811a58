//! An image in the schema of `docker inspect`.
//!
//! Invariant: every field that some version of Docker since 20.10 always gives is there, in the
//! order in which Docker gives it. Fields that Docker leaves out when they are empty are left out
//! of what is printed, but templates see them.

use std::collections::BTreeMap;

use conex_oci::{
    ContainerConfig, Descriptor, DiffId, Digest, Empty, Healthcheck, ImageConfig, Platform,
    Reference,
};
use conex_store::{ImageKind, ImageLayer, ImageRecord, Store};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Document, fill};
use crate::commands::{history, shown};
use crate::error::Result;

/// What Go writes for a time that was never set.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected<'i> {
    id: &'i Digest,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: &'static str,
    comment: &'i str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<&'i str>,
    docker_version: &'i str,
    author: &'i str,
    config: Config<'i>,
    architecture: &'i str,
    #[serde(skip_serializing_if = "str::is_empty")]
    variant: &'i str,
    os: &'i str,
    #[serde(skip_serializing_if = "str::is_empty")]
    os_version: &'i str,
    size: u64,
    virtual_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique_size: Option<u64>,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs<'i>,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

/// How to run it. The fields that only containers have are there for the sake of scripts; what an
/// old image says in them is kept.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config<'i> {
    hostname: Value,
    domainname: Value,
    user: &'i str,
    attach_stdin: Value,
    attach_stdout: Value,
    attach_stderr: Value,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: &'i BTreeMap<String, Empty>,
    tty: Value,
    open_stdin: Value,
    stdin_once: Value,
    env: Option<&'i [String]>,
    cmd: Option<&'i [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<&'i Healthcheck>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    args_escaped: bool,
    image: Value,
    volumes: Option<&'i BTreeMap<String, Empty>>,
    working_dir: &'i str,
    entrypoint: Option<&'i [String]>,
    on_build: Option<&'i [String]>,
    labels: Option<&'i BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    stop_signal: &'i str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    shell: &'i [String],
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<BTreeMap<&'static str, String>>,
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs<'i> {
    #[serde(rename = "Type")]
    kind: &'i str,
    #[serde(skip_serializing_if = "<[DiffId]>::is_empty")]
    layers: &'i [DiffId],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

/// Describes an image. Of a multi-platform image it is the identity, the names and the list of
/// images of the whole, and the rest of the image for the platform.
pub(super) fn document(
    store: &Store,
    record: &ImageRecord,
    platform: Option<&Platform>,
    measured: bool,
) -> Result<Document> {
    let image = history::single(store, record, platform)?;
    let config = store.image_config(&image.id)?;
    let layers = store.layers(&image.id)?;
    let shared = if measured { Some(store.shared_size(&image.id)?) } else { None };
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect();
    let inspected = Inspected {
        id: &record.id,
        repo_tags: familiar(&record.tags),
        repo_digests: familiar(&record.repo_digests),
        parent: "",
        comment: config.history.last().map_or("", |step| step.comment.as_str()),
        created: config.created.as_deref(),
        docker_version: config.unknown.get("docker_version").and_then(Value::as_str).unwrap_or(""),
        author: &config.author,
        config: run_config(&config.config),
        architecture: &config.platform.architecture,
        variant: &config.platform.variant,
        os: &config.platform.os,
        os_version: &config.platform.os_version,
        size: image.size,
        virtual_size: image.size,
        shared_size: shared,
        unique_size: shared.map(|shared| image.size.saturating_sub(shared)),
        graph_driver: GraphDriver { data: folders(&layers), name: "overlayfs" },
        root_fs: RootFs { kind: &config.rootfs.kind, layers: &config.rootfs.diff_ids },
        metadata: Metadata { last_tag_time: last_tag_time(store, record)? },
        descriptor: store.manifests(&record.id)?.into_iter().next(),
        manifests: manifests(store, record)?,
    };
    let mut document = Document::new(&inspected)?;
    fill_all(&mut document.whole, &config);
    Ok(document)
}

fn run_config(config: &ContainerConfig) -> Config<'_> {
    let mut others = config.unknown.clone();
    let mut text = |name: &str| others.remove(name).unwrap_or_else(|| json!(""));
    let (hostname, domainname, image) = (text("Hostname"), text("Domainname"), text("Image"));
    let mut flag = |name: &str| others.remove(name).unwrap_or(Value::Bool(false));
    let (attach_stdin, attach_stdout) = (flag("AttachStdin"), flag("AttachStdout"));
    let (attach_stderr, tty) = (flag("AttachStderr"), flag("Tty"));
    let (open_stdin, stdin_once) = (flag("OpenStdin"), flag("StdinOnce"));
    Config {
        hostname,
        domainname,
        user: &config.user,
        attach_stdin,
        attach_stdout,
        attach_stderr,
        exposed_ports: &config.exposed_ports,
        tty,
        open_stdin,
        stdin_once,
        env: some(&config.env),
        cmd: config.cmd.as_deref(),
        healthcheck: config.healthcheck.as_ref(),
        args_escaped: config.args_escaped,
        image,
        volumes: Some(&config.volumes).filter(|volumes| !volumes.is_empty()),
        working_dir: &config.working_dir,
        entrypoint: config.entrypoint.as_deref(),
        on_build: some(&config.on_build),
        labels: Some(&config.labels).filter(|labels| !labels.is_empty()),
        stop_signal: &config.stop_signal,
        shell: &config.shell,
        others,
    }
}

/// An empty list of Go is `null`.
fn some(list: &[String]) -> Option<&[String]> {
    Some(list).filter(|list| !list.is_empty())
}

/// Where the layers lie, for programs that look into them; nothing while they are not unpacked.
fn folders(layers: &[ImageLayer]) -> Option<BTreeMap<&'static str, String>> {
    let stack = layers.last()?.snapshot.as_ref()?.stack();
    let (upper, lower) = stack.split_first()?;
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let mut folders = BTreeMap::from([("UpperDir", path(upper))]);
    if !lower.is_empty() {
        let lower: Vec<String> = lower.iter().map(path).collect();
        folders.insert("LowerDir", lower.join(":"));
    }
    Some(folders)
}

/// When the image last got one of the names that it has.
fn last_tag_time(store: &Store, record: &ImageRecord) -> Result<String> {
    let mut latest = None;
    for tag in &record.tags {
        let moves = store.tag_history(tag)?;
        let at = moves.iter().find(|step| step.new.as_ref() == Some(&record.id));
        latest = latest.max(at.map(|step| step.at));
    }
    Ok(latest.map_or_else(|| NEVER.to_owned(), |time| shown::moment(time).to_string()))
}

/// What a multi-platform image is made of, in the form of Docker's `Manifests`.
fn manifests(store: &Store, record: &ImageRecord) -> Result<Vec<Value>> {
    if record.kind == ImageKind::Image {
        return Ok(Vec::new());
    }
    let mut list = Vec::new();
    for entry in store.index_entries(&record.id)? {
        let image = match &entry.image {
            Some(id) => store.image(id)?,
            None => None,
        };
        let is_attestation = entry.platform.architecture == "unknown";
        list.push(json!({
            "ID": entry.manifest.as_ref().or(entry.image.as_ref()),
            "Available": image.is_some(),
            "Kind": if is_attestation { "attestation" } else { "image" },
            "ImageID": entry.image,
            "Platform": entry.platform,
            "Size": image.map_or(0, |image| image.size),
        }));
    }
    Ok(list)
}

fn fill_all(whole: &mut Value, config: &ImageConfig) {
    fill(
        whole,
        json!({
            "Created": config.created.as_deref().unwrap_or(""),
            "Variant": "",
            "OsVersion": "",
            "Descriptor": null,
            "Manifests": null,
            "SharedSize": null,
            "UniqueSize": null,
        }),
    );
    let none = json!({
        "ExposedPorts": null,
        "Healthcheck": null,
        "ArgsEscaped": false,
        "NetworkDisabled": false,
        "MacAddress": "",
        "StopSignal": "",
        "StopTimeout": null,
        "Shell": null,
    });
    if let Some(config) = whole.get_mut("Config") {
        fill(config, none);
    }
    if let Some(root_fs) = whole.get_mut("RootFS") {
        fill(root_fs, json!({ "Layers": null }));
    }
}
