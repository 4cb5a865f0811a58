//! Where an image can be: the store, a registry, an archive or layout, another engine.
//!
//! Whatever it is, it becomes a [`Subject`]: the config, and for each layer a way to read it.
//! Manifests and configs are verified by their digests when they are read, layers by their diff IDs
//! when they are analysed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_inventory::LayerReport;
use conex_oci::{
    BlobSource, Compression, Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform,
    Reference,
};
use conex_remote::ImageSource as _;
use conex_store::{Lease, Snapshot};
use conex_sys::dir::Dir;
use serde::Deserialize;

use super::archive::{Archive, Slice};
use super::{engines, stream};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Deepest index in an index.
const INDEX_DEPTH_MAX: usize = 4;

/// An image to look into.
pub struct Subject {
    /// What it was called on the command line.
    pub name: String,
    /// The digest of its config.
    pub id: Digest,
    /// Where it was found, in a word.
    pub from: &'static str,
    pub config: ImageConfig,
    pub layers: Vec<Layer>,
    /// Holds what of the store is read.
    _lease: Option<Lease>,
}

/// A layer that can be read.
pub struct Layer {
    pub diff_id: DiffId,
    /// Bytes as shipped, if it ever was.
    pub compressed_size: Option<u64>,
    pub origin: Origin,
}

/// Where the bytes of a layer are.
pub enum Origin {
    /// In a file.
    Slice(Slice),
    /// Uncompressed in an archive: a look at its headers is enough.
    Plain(Slice),
    /// Somewhere that gives blobs.
    Blob(Arc<dyn BlobSource>, Box<Descriptor>),
    /// Unpacked in the store.
    Snapshot(Box<Snapshot>),
    /// Unpacked by another engine: the layer's folder, and those below it.
    Folders(PathBuf, Vec<PathBuf>),
    /// It was in a stream, and was read while it came.
    Gone(Arc<LayerReport>),
}

/// What may be said about the source.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    pub platform: Option<Platform>,
    pub tls_verify: bool,
    /// Whether what could be looked into without it is held against its digests.
    pub verify: bool,
    pub streams: Streams,
}

/// What happens to the layers of an image that comes as a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Streams {
    /// They are analysed while they pass.
    #[default]
    Pass,
    /// They are kept in a temporary file until conex ends, so that files can be taken out.
    Keep,
}

impl Layer {
    /// Opens the layer, compressed or not.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        match &self.origin {
            Origin::Slice(slice) | Origin::Plain(slice) => Ok(Box::new(slice.reader())),
            Origin::Blob(source, blob) => {
                source.open(blob).doing(|| format!("cannot read the layer `{}`", blob.digest))
            }
            Origin::Snapshot(snapshot) => {
                let snapshot = snapshot.clone();
                written(move |out| {
                    crate::transfer::write_tar(&snapshot, out, None).map_err(io::Error::other)
                })
            }
            Origin::Folders(upper, lower) => {
                let (upper, lower) = (upper.clone(), lower.clone());
                written(move |out| engines::write_folder(&upper, &lower, out))
            }
            Origin::Gone(_) => Err(CliError::new("the image came as a stream, which is gone")
                .with_hint("keep it first: `conex load -i FILE`")),
        }
    }

    /// Whether the tar that [`Layer::open`] gives is the one that the diff ID is of.
    pub fn is_exact(&self) -> bool {
        !matches!(self.origin, Origin::Folders(..))
    }
}

/// Reads what a thread writes. An error of the thread's shows at the end of what it wrote.
fn written(
    write: impl FnOnce(&mut dyn io::Write) -> io::Result<()> + Send + 'static,
) -> Result<Box<dyn Read + Send>> {
    struct Written {
        pipe: io::PipeReader,
        thread: Option<std::thread::JoinHandle<io::Result<()>>>,
    }
    impl Read for Written {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.pipe.read(buffer)?;
            if count == 0
                && !buffer.is_empty()
                && let Some(thread) = self.thread.take()
            {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")))?;
            }
            Ok(count)
        }
    }
    let (pipe, writer) = io::pipe().doing(|| "cannot make a pipe".to_owned())?;
    let thread = std::thread::spawn(move || {
        let mut writer = io::BufWriter::with_capacity(256 << 10, writer);
        write(&mut writer)?;
        io::Write::flush(&mut writer)
    });
    Ok(Box::new(Written { pipe, thread: Some(thread) }))
}

/// Finds an image by what a person wrote.
pub fn open(session: &Session, text: &str, options: &SourceOptions) -> Result<Subject> {
    if let Some((transport, rest)) = text.split_once(':') {
        let rest_of_url = rest.strip_prefix("//").unwrap_or(rest);
        match transport {
            "oci" => return layout(rest, options),
            "oci-archive" | "docker-archive" => return archive_named(rest_of_url, text, options),
            "docker-daemon" => return engines::docker(rest_of_url, options),
            "containers-storage" | "podman" => {
                return engines::containers(session, rest_of_url, options);
            }
            "registry" => return registry(session, rest_of_url, options),
            "docker" if rest.starts_with("//") => {
                return Err(CliError::usage(
                    "`docker://` means a registry to some tools and the daemon to others",
                )
                .with_hint(format!(
                    "write `registry:{rest_of_url}` or `docker-daemon:{rest_of_url}`"
                )));
            }
            _ => {}
        }
    }
    if text == "-" {
        return stream::read(&mut io::stdin(), "standard input", None, options);
    }
    let path = Path::new(text);
    let is_path = text.starts_with(['/', '.']) || text.ends_with(".tar");
    if is_path && path.exists() {
        return path_of(path, None, options);
    }
    match stored(session, text, options) {
        Ok(Some(subject)) => return Ok(subject),
        // Without a store there are still files and registries.
        Ok(None) => {}
        Err(_) if path.exists() => {}
        Err(error) => return Err(error),
    }
    if path.exists() {
        return path_of(path, None, options);
    }
    if is_path {
        return Err(CliError::new(format!("there is no file `{text}`")));
    }
    if let Some((folder, _)) = text.rsplit_once(':')
        && Path::new(folder).join("oci-layout").exists()
    {
        return layout(text, options);
    }
    registry(session, text, options)
}

/// An image of the store; none if it has none of that name.
pub fn stored(session: &Session, text: &str, options: &SourceOptions) -> Result<Option<Subject>> {
    let store = session.store()?;
    let record = match store.resolve(text) {
        Ok(record) => record,
        Err(error) if error.kind() == conex_store::ErrorKind::NotFound => return Ok(None),
        // What is no reference may be a path.
        Err(error) if error.kind() == conex_store::ErrorKind::Invalid => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let image = super::super::history::single(store, &record, options.platform.as_ref())?;
    let lease = store.lease()?;
    lease.hold_image(&image.id)?;
    let config = store.image_config(&image.id)?;
    let mut layers = Vec::new();
    for layer in store.layers(&image.id)? {
        let compressed_size = layer
            .blobs
            .iter()
            .find(|blob| blob.media_type.layer_compression() != Some(Compression::None))
            .map(|blob| blob.size);
        let origin = match (layer.blobs.first(), layer.snapshot) {
            // The diff ID is checked in any case; the digest of the shipped form adds nothing.
            (Some(blob), _) => {
                let file = File::open(store.blob_path(&blob.digest))
                    .doing(|| format!("cannot open the layer `{}`", blob.digest))?;
                Origin::Slice(Slice::whole(file)?)
            }
            (None, Some(snapshot)) => Origin::Snapshot(Box::new(snapshot)),
            (None, None) => {
                let message =
                    format!("the layer `{}` is neither unpacked nor packed", layer.diff_id);
                return Err(CliError::new(message)
                    .with_hint("`conex system check` finds what else is missing"));
            }
        };
        layers.push(Layer { diff_id: layer.diff_id, compressed_size, origin });
    }
    let name = text.to_owned();
    Ok(Some(Subject { name, id: image.id, from: "store", config, layers, _lease: Some(lease) }))
}

fn path_of(path: &Path, name: Option<&str>, options: &SourceOptions) -> Result<Subject> {
    if path.is_dir() {
        return layout(&path.display().to_string(), options);
    }
    let file = File::open(path).doing(|| format!("cannot open `{}`", path.display()))?;
    let shown = path.display().to_string();
    let again = file.try_clone().doing(|| format!("cannot open `{shown}`"))?;
    match Archive::open(file)? {
        Some(archive) => archived(&archive, &shown, name, options),
        None => stream::read(&mut io::BufReader::new(again), &shown, name, options),
    }
}

/// `FILE[:NAME]`.
fn archive_named(rest: &str, text: &str, options: &SourceOptions) -> Result<Subject> {
    if Path::new(rest).is_file() {
        return path_of(Path::new(rest), None, options);
    }
    match rest.split_once(':') {
        Some((file, name)) if Path::new(file).is_file() => {
            path_of(Path::new(file), Some(name), options)
        }
        _ => Err(CliError::new(format!("there is no archive `{text}`"))),
    }
}

/// One image in `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
pub struct DockerImage {
    #[serde(rename = "Config")]
    pub config: String,
    #[serde(rename = "RepoTags", default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    pub layers: Option<Vec<String>>,
}

fn archived(
    archive: &Archive,
    shown: &str,
    name: Option<&str>,
    options: &SourceOptions,
) -> Result<Subject> {
    // Docker's own list names every layer; a layout's index may have many platforms.
    if let Some(bytes) = archive.document("manifest.json")? {
        let images: Vec<DockerImage> = serde_json::from_slice(&bytes).map_err(|e| {
            CliError::because(format!("cannot read `manifest.json` of `{shown}`"), e)
        })?;
        let names = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
        let image = choose(&images, shown, name, names)?;
        let missing = |path: &str| {
            CliError::new(format!("the archive `{shown}` names `{path}` and does not hold it"))
        };
        let bytes = archive.document(&image.config)?.ok_or_else(|| missing(&image.config))?;
        let config = ImageConfig::parse(&bytes)?;
        let mut origins = Vec::new();
        for path in image.layers.iter().flatten() {
            let slice = archive.file(path).ok_or_else(|| missing(path))?;
            let is_packed = slice.is_compressed();
            origins.push((is_packed.then_some(slice.size), in_archive(slice, options)));
        }
        return subject(shown, "archive", &bytes, config, origins);
    }
    let index = archive.document("index.json")?.ok_or_else(|| {
        CliError::new(format!("`{shown}` is no image archive")).with_hint(
            "it has no `manifest.json` and no `index.json`; `conex import` makes an image of it",
        )
    })?;
    let read = |blob: &Descriptor| -> Result<Vec<u8>> {
        let path = format!("blobs/{}/{}", blob.digest.algorithm().name(), blob.digest.hex());
        let bytes = archive.document(&path)?.ok_or_else(|| {
            CliError::new(format!("the archive `{shown}` does not hold `{}`", blob.digest))
        })?;
        verified(&blob.digest, bytes)
    };
    let root = choose_root(&Index::parse(&index)?, shown, name)?;
    let manifest = manifest_of(&root, options.platform.as_ref(), &read, 0)?;
    let bytes = read(&manifest.config)?;
    let config = ImageConfig::parse(&bytes)?;
    let mut origins = Vec::new();
    for layer in &manifest.layers {
        let slice = archive.blob(&layer.digest).ok_or_else(|| {
            CliError::new(format!("the archive `{shown}` does not hold `{}`", layer.digest))
        })?;
        origins.push((Some(slice.size), in_archive(slice, options)));
    }
    subject(shown, "archive", &bytes, config, origins)
}

fn in_archive(slice: Slice, options: &SourceOptions) -> Origin {
    if options.verify || slice.is_compressed() {
        Origin::Slice(slice)
    } else {
        Origin::Plain(slice)
    }
}

/// An OCI layout folder: `DIR[:TAG]`.
fn layout(text: &str, options: &SourceOptions) -> Result<Subject> {
    let (folder, name) = match text.rsplit_once(':') {
        Some((folder, tag)) if !Path::new(text).is_dir() && !tag.contains('/') => {
            (folder, Some(tag))
        }
        _ => (text, None),
    };
    let layout = Arc::new(crate::transfer::open_layout(Path::new(folder))?);
    let index = std::fs::read(Path::new(folder).join("index.json"))
        .doing(|| format!("cannot read the index of `{folder}`"))?;
    let root = choose_root(&Index::parse(&index)?, folder, name)?;
    let read = |blob: &Descriptor| crate::transfer::read_document(layout.as_ref(), blob);
    let source: Arc<dyn BlobSource> = layout.clone();
    of_manifest(text, "layout", &root, options, &read, &source)
}

/// An image in a registry; its layers are read as they come.
fn registry(session: &Session, text: &str, options: &SourceOptions) -> Result<Subject> {
    let reference: Reference = text.parse()?;
    let verify = crate::registry::verify(options.tls_verify);
    let repository = Arc::new(crate::registry::client(session, verify)?.repository(&reference));
    let act = || format!("cannot find the image `{text}`");
    let root = repository.root().map_err(|error| {
        CliError::because(act(), error)
            .with_hint("it is neither in the store nor a file; `conex images` lists the store")
    })?;
    let read = |blob: &Descriptor| -> Result<Vec<u8>> {
        if blob.media_type.is_manifest() || blob.media_type.is_index() {
            return Ok(repository.manifest_of(blob)?.bytes);
        }
        crate::transfer::read_document(repository.as_ref(), blob)
    };
    let source: Arc<dyn BlobSource> = repository.clone();
    of_manifest(text, "registry", &root, options, &read, &source)
}

fn of_manifest(
    name: &str,
    from: &'static str,
    root: &Descriptor,
    options: &SourceOptions,
    read: &dyn Fn(&Descriptor) -> Result<Vec<u8>>,
    source: &Arc<dyn BlobSource>,
) -> Result<Subject> {
    let manifest = manifest_of(root, options.platform.as_ref(), read, 0)?;
    let bytes = read(&manifest.config)?;
    let config = ImageConfig::parse(&bytes)?;
    let origin = |layer: &Descriptor| {
        (Some(layer.size), Origin::Blob(source.clone(), Box::new(layer.clone())))
    };
    let origins = manifest.layers.iter().map(origin).collect();
    subject(name, from, &bytes, config, origins)
}

/// Puts together what belongs together.
pub fn subject(
    name: &str,
    from: &'static str,
    config_bytes: &[u8],
    config: ImageConfig,
    origins: Vec<(Option<u64>, Origin)>,
) -> Result<Subject> {
    let (layers, named) = (origins.len(), config.rootfs.diff_ids.len());
    if layers != named {
        let message =
            format!("the image `{name}` has {layers} layers and its config names {named}");
        return Err(CliError::new(message));
    }
    let layers = config
        .rootfs
        .diff_ids
        .iter()
        .zip(origins)
        .map(|(diff_id, (compressed_size, origin))| Layer {
            diff_id: diff_id.clone(),
            compressed_size,
            origin,
        })
        .collect();
    let id = Digest::of(config_bytes);
    Ok(Subject { name: name.to_owned(), id, from, config, layers, _lease: None })
}

pub fn verified(digest: &Digest, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut hasher = conex_oci::Hasher::new(digest.algorithm());
    hasher.update(&bytes);
    let got = hasher.finish();
    if got == *digest {
        return Ok(bytes);
    }
    Err(CliError::new(format!("the document `{digest}` has other bytes: `{got}`")))
}

/// The manifest for a platform: the one asked for, else this machine's, else the first.
pub fn manifest_of(
    root: &Descriptor,
    platform: Option<&Platform>,
    read: &dyn Fn(&Descriptor) -> Result<Vec<u8>>,
    depth: usize,
) -> Result<Manifest> {
    let bytes = read(root)?;
    if !root.media_type.is_index() {
        return Ok(Manifest::parse(&bytes)?);
    }
    if depth == INDEX_DEPTH_MAX {
        return Err(CliError::new("the image has an index in an index, five deep"));
    }
    let index = Index::parse(&bytes)?;
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let of = |entry: &Descriptor| entry.platform.clone();
    let mut offered: Vec<&Descriptor> = index
        .manifests
        .iter()
        .filter(|entry| entry.media_type.is_manifest() || entry.media_type.is_index())
        // Attestations run on nothing.
        .filter(|entry| of(entry).is_none_or(|has| has.os != "unknown"))
        .collect();
    let serving = offered.iter().position(|entry| of(entry).is_some_and(|has| has.serves(&wanted)));
    let chosen = match serving {
        Some(at) => offered.remove(at),
        None if platform.is_none() && !offered.is_empty() => offered.remove(0),
        None => {
            let message = format!("the image has nothing for `{wanted}`");
            let has: Vec<String> =
                offered.iter().filter_map(|entry| of(entry)).map(|has| has.to_string()).collect();
            return Err(CliError::new(message).with_hint(format!("it has {}", has.join(", "))));
        }
    };
    manifest_of(chosen, platform, read, depth + 1)
}

/// The image of a layout's index that has a name.
pub fn choose_root(index: &Index, shown: &str, name: Option<&str>) -> Result<Descriptor> {
    let names = |entry: &Descriptor| -> Vec<String> {
        ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
            .iter()
            .filter_map(|key| entry.annotations.get(*key).cloned())
            .collect()
    };
    choose(&index.manifests, shown, name, names).cloned()
}

/// One of several images by its name; the only one needs none.
pub fn choose<'i, T>(
    images: &'i [T],
    shown: &str,
    name: Option<&str>,
    names: impl Fn(&T) -> Vec<String>,
) -> Result<&'i T> {
    let fits = |image: &&T| {
        name.is_none_or(|name| {
            names(image).iter().any(|known| {
                known == name || known.rsplit_once(':').is_some_and(|(_, tag)| tag == name)
            })
        })
    };
    let found: Vec<&T> = images.iter().filter(fits).collect();
    match found.as_slice() {
        [image] => Ok(image),
        [] => Err(CliError::new(format!("`{shown}` holds no such image"))),
        _ => {
            let all: Vec<String> = images.iter().flat_map(names).collect();
            Err(CliError::new(format!("`{shown}` holds several images")).with_hint(format!(
                "say which: `docker-archive:FILE:NAME`, `oci:DIR:TAG`; it has {}",
                all.join(", ")
            )))
        }
    }
}

/// Opens a folder of a layer.
pub fn open_dir(path: &Path) -> io::Result<Dir> {
    Dir::open_ambient(path)
}
