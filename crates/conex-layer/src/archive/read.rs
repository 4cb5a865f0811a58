//! Reads an archive into a sink.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt;

use conex_oci::{
    BlobSink, Compression, Descriptor, Digest, Hasher, ImageConfig, Index, Manifest, MediaType,
};
use serde::Deserialize;

use super::{DOCUMENT_SIZE_MAX, IMAGE_NAME, INDEX_FILE, REF_NAME};
use crate::error::{Error, Result, shortened};
use crate::tar::{Entry, EntryKind, TarLimits, TarReader};
use crate::{Decoder, Format, sniff};

/// Most documents kept while an archive is read, in bytes: a hundred images with configs of the
/// usual ten kilobytes need two.
const DOCUMENTS_SIZE_MAX: usize = 64 << 20;

/// Most entries: a layout of a thousand images has some ten thousand.
const ENTRY_COUNT_MAX: u64 = 1_000_000;

/// Longest path.
const PATH_LEN_MAX: usize = 4096;

/// Deepest index in an index.
const INDEX_DEPTH_MAX: usize = 4;

/// Most images in one archive.
const IMAGE_COUNT_MAX: usize = 100_000;

/// An image found in an archive. All its blobs are in the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImage {
    /// The names that it has there, as written: `alpine:3`, or just a tag.
    pub names: Vec<String>,
    /// Its manifest, or the index of its manifests.
    pub root: Descriptor,
    /// The bytes of that.
    pub document: Vec<u8>,
}

/// Reads an image archive, compressed or not, and puts its blobs into the sink. `scratch` makes an
/// empty file to write to and read from; only archives whose layers are not named by digest need
/// one, for one layer at a time.
///
/// # Errors
/// The archive is malformed, over a limit or no image archive, a blob does not have its digest or
/// is missing, or the sink's. What was put until then is in the sink.
pub fn read_archive(
    input: &mut (dyn Read + Send),
    sink: &dyn BlobSink,
    scratch: &mut dyn FnMut() -> io::Result<File>,
) -> Result<Vec<ArchivedImage>> {
    let mut decoder = Decoder::new(input)?;
    let limits = TarLimits {
        path_len_max: PATH_LEN_MAX,
        header_size_max: 1 << 20,
        entry_count_max: ENTRY_COUNT_MAX,
    };
    let mut tar = TarReader::new(&mut decoder, limits);
    let mut found = Found::default();
    let mut reading = Reading { sink, scratch, file: None, found: &mut found };
    while let Some(entry) = tar.next_entry()? {
        reading.entry(&entry, &mut tar)?;
    }
    tar.drain()?;
    found.images(sink)
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// Small files by path.
    documents: HashMap<String, Vec<u8>>,
    documents_size: usize,
    /// The blobs of a layout; the media type tells only how a layer is compressed.
    blobs: BTreeMap<Digest, Descriptor>,
    /// Layers whose path says nothing of their digest.
    layers: HashMap<String, Descriptor>,
    /// Old archives link equal layers.
    links: HashMap<String, String>,
}

struct Reading<'r> {
    sink: &'r dyn BlobSink,
    scratch: &'r mut dyn FnMut() -> io::Result<File>,
    file: Option<File>,
    found: &'r mut Found,
}

impl Reading<'_> {
    fn entry(&mut self, entry: &Entry, body: &mut (dyn Read + '_)) -> Result<()> {
        let path = clean_path(&entry.path)?;
        match entry.kind {
            EntryKind::Dir => Ok(()),
            EntryKind::File => self.file(path, entry.size, body),
            EntryKind::Symlink => {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                let target = resolve_link(dir, &entry.link)?;
                self.found.links.insert(path, target);
                Ok(())
            }
            EntryKind::HardLink => {
                let target = clean_path(&entry.link)?;
                self.found.links.insert(path, target);
                Ok(())
            }
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                Err(Error::malformed(format!("the image archive has the device `{path}`")))
            }
        }
    }

    fn file(&mut self, path: String, size: u64, body: &mut dyn Read) -> Result<()> {
        if let Some(digest) = blob_digest(&path) {
            return self.blob(path, digest, size, body);
        }
        if is_layer(&path, size) {
            return self.unnamed_layer(path, body);
        }
        let bytes = self.document(&path, size, body)?;
        self.keep(path, bytes)
    }

    /// A blob of a layout: its path is its digest, which the sink checks.
    fn blob(&mut self, path: String, digest: Digest, size: u64, body: &mut dyn Read) -> Result<()> {
        let fail = |error| Error::io(format!("cannot take `{path}` of the archive"), error);
        let mut head = Vec::new();
        body.take(8).read_to_end(&mut head).map_err(fail)?;
        let media_type = compression_of(&head).map_or_else(octets, MediaType::OciLayer);
        let descriptor = Descriptor::new(media_type, digest.clone(), size);
        let mut body = head.as_slice().chain(body);
        if head.starts_with(b"{") && size <= DOCUMENT_SIZE_MAX {
            let bytes = self.document(&path, size, &mut body)?;
            self.sink.put(&descriptor, &mut bytes.as_slice()).map_err(fail)?;
            self.found.blobs.insert(digest, descriptor);
            return self.keep(path, bytes);
        }
        self.sink.put(&descriptor, &mut body).map_err(fail)?;
        self.found.blobs.insert(digest, descriptor);
        Ok(())
    }

    fn unnamed_layer(&mut self, path: String, body: &mut dyn Read) -> Result<()> {
        let fail = |error| Error::io(format!("cannot take `{path}` of the archive"), error);
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert((self.scratch)().map_err(fail)?),
        };
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(fail)?;
        let mut hasher = Hasher::sha256();
        let mut buffer = vec![0; 256 << 10];
        let (mut size, mut head) = (0, Vec::new());
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(fail(error)),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            if head.len() < 8 {
                head.extend(bytes.iter().take(8));
            }
            hasher.update(bytes);
            file.write_all(bytes).map_err(fail)?;
            size += count as u64;
        }
        let compression = compression_of(&head).ok_or_else(|| {
            Error::unsupported(format!("the layer `{path}` is neither gzip, zstd nor plain"))
        })?;
        let media_type = MediaType::OciLayer(compression);
        let descriptor = Descriptor::new(media_type, hasher.finish(), size);
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        self.sink.put(&descriptor, file).map_err(fail)?;
        self.found.blobs.insert(descriptor.digest.clone(), descriptor.clone());
        self.found.layers.insert(path, descriptor);
        Ok(())
    }

    fn document(&self, path: &str, size: u64, body: &mut dyn Read) -> Result<Vec<u8>> {
        if size > DOCUMENT_SIZE_MAX {
            return Err(Error::limit(format!("`{path}` of the archive has more than 8 MiB")));
        }
        let mut bytes = Vec::new();
        let read = body.take(DOCUMENT_SIZE_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Error::io(format!("cannot read `{path}` of the archive"), error))?;
        Ok(bytes)
    }

    fn keep(&mut self, path: String, bytes: Vec<u8>) -> Result<()> {
        self.found.documents_size += bytes.len();
        if self.found.documents_size > DOCUMENTS_SIZE_MAX {
            return Err(Error::limit("the documents of the archive have more than 64 MiB"));
        }
        self.found.documents.insert(path, bytes);
        Ok(())
    }
}

/// One image in `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
struct DockerImage {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", default)]
    layers: Option<Vec<String>>,
}

impl Found {
    fn images(&self, sink: &dyn BlobSink) -> Result<Vec<ArchivedImage>> {
        let docker = self.docker_images()?;
        let mut images = match self.documents.get(INDEX_FILE) {
            Some(index) => self.layout_images(index)?,
            None => Vec::new(),
        };
        if images.is_empty() && docker.is_empty() {
            return Err(Error::malformed("the archive holds no image"));
        }
        for item in &docker {
            let named = images.iter_mut().find(|image| self.has_config(image, &item.config));
            match named {
                Some(image) => {
                    // Docker's own list has the names in full; the index may have tags alone.
                    let tags = item.repo_tags.clone().unwrap_or_default();
                    if !tags.is_empty() {
                        image.names = tags;
                    }
                }
                None => images.push(self.docker_image(item, sink)?),
            }
        }
        Ok(images)
    }

    fn docker_images(&self) -> Result<Vec<DockerImage>> {
        let Some(bytes) = self.documents.get("manifest.json") else { return Ok(Vec::new()) };
        let images: Vec<DockerImage> = serde_json::from_slice(bytes)
            .map_err(|error| Error::document("`manifest.json` of the archive", error))?;
        if images.len() > IMAGE_COUNT_MAX {
            return Err(Error::limit("the archive has more than 100,000 images"));
        }
        Ok(images)
    }

    fn layout_images(&self, index: &[u8]) -> Result<Vec<ArchivedImage>> {
        let index = Index::parse(index)
            .map_err(|error| Error::document("`index.json` of the archive", error))?;
        images_of_index(
            &index,
            |digest| Ok(self.documents.get(&blob_path(digest)).cloned()),
            |blob| Ok(self.blobs.contains_key(&blob.digest)),
        )
    }

    /// Whether an image of the layout is the one with this config.
    fn has_config(&self, image: &ArchivedImage, config: &str) -> bool {
        let Some(digest) = clean_path(config.as_bytes()).ok().and_then(|path| blob_digest(&path))
        else {
            return false;
        };
        Manifest::parse(&image.document).is_ok_and(|manifest| manifest.config.digest == digest)
    }

    /// Makes a manifest for an image of an archive that has none.
    fn docker_image(&self, item: &DockerImage, sink: &dyn BlobSink) -> Result<ArchivedImage> {
        let missing = |path: &str| {
            let path = shortened(OsStr::new(path));
            Error::malformed(format!("the archive names `{path}` and does not hold it"))
        };
        let config_path = clean_path(item.config.as_bytes())?;
        let config_bytes =
            self.documents.get(self.follow(&config_path)).ok_or_else(|| missing(&item.config))?;
        let config = ImageConfig::parse(config_bytes)
            .map_err(|error| Error::document(&format!("`{config_path}` of the archive"), error))?;
        let paths = item.layers.as_deref().unwrap_or_default();
        if paths.len() != config.rootfs.diff_ids.len() {
            return Err(Error::malformed(format!(
                "the image `{config_path}` has {} layers and its config names {}",
                paths.len(),
                config.rootfs.diff_ids.len()
            )));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in paths.iter().zip(&config.rootfs.diff_ids) {
            let clean = clean_path(path.as_bytes())?;
            let clean = self.follow(&clean);
            let layer = self.layer(clean).ok_or_else(|| missing(path))?;
            let plain = layer.media_type == MediaType::OciLayer(Compression::None);
            if plain && layer.digest != diff_id.0 {
                return Err(Error::digest_mismatch(path, &diff_id.0, &layer.digest));
            }
            layers.push(layer);
        }
        let config = Descriptor::of(MediaType::OciConfig, config_bytes);
        let manifest = Manifest::new(config.clone(), layers).to_bytes();
        let root = Descriptor::of(MediaType::OciManifest, &manifest);
        let fail = |error| Error::io("cannot take the documents of the archive", error);
        sink.put(&config, &mut config_bytes.as_slice()).map_err(fail)?;
        sink.put(&root, &mut manifest.as_slice()).map_err(fail)?;
        let names = item.repo_tags.clone().unwrap_or_default();
        Ok(ArchivedImage { names, root, document: manifest })
    }

    /// A layer by its path: one that was hashed while it was read, or a blob of a layout.
    fn layer(&self, path: &str) -> Option<Descriptor> {
        if let Some(layer) = self.layers.get(path) {
            return Some(layer.clone());
        }
        blob_digest(path).and_then(|digest| self.blobs.get(&digest)).cloned()
    }

    fn follow<'f>(&'f self, path: &'f str) -> &'f str {
        let mut path = path;
        // Links of links do not occur; a few are followed all the same, a circle is not.
        for _ in 0..8 {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }
}

/// The images that an index names, with a check that all they need is there. Manifests of an
/// inner index that are not there are those of other platforms, which archives leave out.
pub(super) fn images_of_index(
    index: &Index,
    read: impl Fn(&Digest) -> Result<Option<Vec<u8>>>,
    has: impl Fn(&Descriptor) -> Result<bool>,
) -> Result<Vec<ArchivedImage>> {
    if index.manifests.len() > IMAGE_COUNT_MAX {
        return Err(Error::limit("the archive has more than 100,000 images"));
    }
    let mut by_digest: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut images: Vec<ArchivedImage> = Vec::new();
    for root in &index.manifests {
        let name = root.annotations.get(IMAGE_NAME).or_else(|| root.annotations.get(REF_NAME));
        let names: Vec<String> = name.cloned().into_iter().collect();
        if let Some(image) = by_digest.get(&root.digest).and_then(|at| images.get_mut(*at)) {
            image.names.extend(names);
            continue;
        }
        let document = read(&root.digest)?.ok_or_else(|| missing_blob(&root.digest))?;
        check_complete(root, &document, &read, &has, 0)?;
        let mut plain = root.clone();
        plain.annotations.remove(IMAGE_NAME);
        plain.annotations.remove(REF_NAME);
        plain.size = document.len() as u64;
        by_digest.insert(root.digest.clone(), images.len());
        images.push(ArchivedImage { names, root: plain, document });
    }
    Ok(images)
}

fn check_complete(
    descriptor: &Descriptor,
    document: &[u8],
    read: &impl Fn(&Digest) -> Result<Option<Vec<u8>>>,
    has: &impl Fn(&Descriptor) -> Result<bool>,
    depth: usize,
) -> Result<()> {
    let fail = |error| Error::document(&format!("`{}`", descriptor.digest), error);
    if descriptor.media_type.is_index() {
        if depth == INDEX_DEPTH_MAX {
            return Err(Error::limit("the archive has an index in an index, five deep"));
        }
        for inner in &Index::parse(document).map_err(fail)?.manifests {
            if let Some(document) = read(&inner.digest)? {
                check_complete(inner, &document, read, has, depth + 1)?;
            }
        }
        return Ok(());
    }
    if !descriptor.media_type.is_manifest() {
        return Ok(());
    }
    let manifest = Manifest::parse(document).map_err(fail)?;
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        // A layer with places of its own to come from may be left out (image spec, "urls").
        if !has(blob)? && blob.urls.is_empty() {
            return Err(missing_blob(&blob.digest));
        }
    }
    Ok(())
}

fn missing_blob(digest: &Digest) -> Error {
    Error::malformed(format!("the blob `{digest}` is named and not there"))
}

fn compression_of(head: &[u8]) -> Option<Compression> {
    match sniff(head) {
        Format::Gzip => Some(Compression::Gzip),
        Format::Zstd => Some(Compression::Zstd),
        Format::Plain => Some(Compression::None),
        Format::Bzip2 | Format::Xz => None,
    }
}

fn octets() -> MediaType {
    MediaType::Other("application/octet-stream".to_owned())
}

/// The digest that a path in a layout stands for.
fn blob_digest(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Whether a file of an old archive is a layer: by its name, or because no document is so large.
fn is_layer(path: &str, size: u64) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let known = [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| name.ends_with(end));
    known || (size > DOCUMENT_SIZE_MAX && !name.ends_with(".json"))
}

/// A path in an archive without `.` and doubled slashes. One that leads out is refused.
fn clean_path(path: &[u8]) -> Result<String> {
    let shown = || shortened(OsStr::from_bytes(path));
    let outside =
        || Error::malformed(format!("the path `{}` leads out of the image archive", shown()));
    let text = std::str::from_utf8(path).map_err(|_| {
        Error::malformed(format!("the path `{}` in the archive is no text", shown()))
    })?;
    if text.starts_with('/') {
        return Err(outside());
    }
    let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return Err(outside());
    }
    Ok(names.join("/"))
}

/// Where a symbolic link in an archive leads, within it.
fn resolve_link(dir: &str, target: &[u8]) -> Result<String> {
    let shown = shortened(OsStr::from_bytes(target));
    let outside = || Error::malformed(format!("the link to `{shown}` leads out of the archive"));
    let target = std::str::from_utf8(target).map_err(|_| outside())?;
    if target.starts_with('/') {
        return Err(outside());
    }
    let mut names: Vec<&str> = dir.split('/').filter(|name| !name.is_empty()).collect();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop().ok_or_else(outside)?;
            }
            name => names.push(name),
        }
    }
    Ok(names.join("/"))
}
