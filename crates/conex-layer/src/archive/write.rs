//! Writes an archive from a source.
//!
//! Both forms are an OCI layout in a tar; Docker's has two files more, which say the same to
//! programs that do not know layouts. Entries are sorted and have no time, so that the same images
//! give the same archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use conex_oci::{BlobSource, Descriptor, Digest, Index, Manifest, Reference, VerifyReader};
use serde::Serialize;

use super::read::blob_path;
use super::{DOCUMENT_SIZE_MAX, IMAGE_NAME, INDEX_FILE, LAYOUT_CONTENT, LAYOUT_FILE, REF_NAME};
use crate::error::{Error, Result};
use crate::tar::{EntryHeader, TarWriter};

/// Deepest index in an index.
const INDEX_DEPTH_MAX: usize = 4;

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveForm {
    /// An OCI layout in a tar.
    Oci,
    /// That, and what `docker load` of any age reads.
    Docker,
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct ExportedImage {
    /// The names that it gets.
    pub names: Vec<Reference>,
    /// Its manifest, or the index of its manifests.
    pub root: Descriptor,
}

/// Writes an archive of images whose blobs the source has. Manifests of an index that it has not
/// are those of other platforms and are left out.
///
/// # Errors
/// A document is malformed, a blob is missing or not what its digest says, or the output's.
pub fn write_archive(
    images: &[ExportedImage],
    source: &dyn BlobSource,
    form: ArchiveForm,
    out: &mut dyn Write,
) -> Result<()> {
    let mut plan = Plan { source, blobs: BTreeMap::new(), docker: Vec::new() };
    for image in images {
        plan.image(image)?;
    }
    let fail = |error| Error::io("cannot write the archive", error);
    let mut tar = TarWriter::new(out);
    plan.write_blobs(&mut tar)?;
    let mut write = |path: &str, bytes: &[u8]| {
        tar.append(&EntryHeader::file(path, bytes.len() as u64), bytes).map_err(fail)
    };
    write(INDEX_FILE, &index_of(images).to_bytes())?;
    if form == ArchiveForm::Docker {
        let json = serde_json::to_vec(&plan.docker).map_err(|error| fail(error.into()))?;
        write("manifest.json", &json)?;
    }
    write(LAYOUT_FILE, LAYOUT_CONTENT)?;
    if form == ArchiveForm::Docker {
        let json = serde_json::to_vec(&plan.repositories(images));
        write("repositories", &json.map_err(|error| fail(error.into()))?)?;
    }
    tar.finish().map_err(fail)?;
    Ok(())
}

/// One image in Docker's `manifest.json`.
#[derive(Serialize)]
struct DockerImage {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Vec<String>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

struct Plan<'p> {
    source: &'p dyn BlobSource,
    /// What goes into the archive, by digest, with the bytes of documents.
    blobs: BTreeMap<Digest, (Descriptor, Option<Vec<u8>>)>,
    docker: Vec<DockerImage>,
}

impl Plan<'_> {
    fn image(&mut self, image: &ExportedImage) -> Result<()> {
        let mut manifests = Vec::new();
        self.document(&image.root, 0, &mut manifests)?;
        // Old programs know one platform an image; of several they get the first.
        let Some(manifest) = manifests.first() else {
            let digest = &image.root.digest;
            return Err(Error::malformed(format!("`{digest}` has no manifest that is here")));
        };
        let mut repo_tags: Vec<String> = Vec::new();
        repo_tags.extend(image.names.iter().filter(|name| name.tag().is_some()).map(familiar_tag));
        self.docker.push(DockerImage {
            config: blob_path(&manifest.config.digest),
            repo_tags,
            layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
        });
        Ok(())
    }

    fn document(
        &mut self,
        descriptor: &Descriptor,
        depth: usize,
        manifests: &mut Vec<Manifest>,
    ) -> Result<()> {
        let fail = |error| Error::document(&format!("`{}`", descriptor.digest), error);
        let bytes = self.read(descriptor)?;
        if descriptor.media_type.is_index() {
            if depth == INDEX_DEPTH_MAX {
                return Err(Error::limit("an index is in an index, five deep"));
            }
            for inner in &Index::parse(&bytes).map_err(fail)?.manifests {
                match self.document(inner, depth + 1, manifests) {
                    Err(error) if is_missing(&error) => {}
                    result => result?,
                }
            }
        } else if descriptor.media_type.is_manifest() {
            let manifest = Manifest::parse(&bytes).map_err(fail)?;
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                self.blobs.insert(blob.digest.clone(), (blob.clone(), None));
            }
            manifests.push(manifest);
        }
        self.blobs.insert(descriptor.digest.clone(), (descriptor.clone(), Some(bytes)));
        Ok(())
    }

    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let fail = |error| Error::io(format!("cannot read `{}`", descriptor.digest), error);
        if descriptor.size > DOCUMENT_SIZE_MAX {
            return Err(Error::limit(format!("`{}` has more than 8 MiB", descriptor.digest)));
        }
        let body = self.source.open(descriptor).map_err(fail)?;
        let mut bytes = Vec::new();
        VerifyReader::new(body, descriptor).read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    fn write_blobs(&self, tar: &mut TarWriter<&mut dyn Write>) -> Result<()> {
        let fail = |error| Error::io("cannot write the archive", error);
        let folders: BTreeSet<&str> =
            self.blobs.keys().map(|digest| digest.algorithm().name()).collect();
        tar.start(&EntryHeader::dir("blobs/")).map_err(fail)?;
        for folder in folders {
            tar.start(&EntryHeader::dir(format!("blobs/{folder}/"))).map_err(fail)?;
            let here = |digest: &&Digest| digest.algorithm().name() == folder;
            for digest in self.blobs.keys().filter(here) {
                let Some((blob, bytes)) = self.blobs.get(digest) else { continue };
                tar.start(&EntryHeader::file(blob_path(digest), blob.size)).map_err(fail)?;
                if let Some(bytes) = bytes {
                    tar.write_all(bytes).map_err(fail)?;
                    continue;
                }
                let fail = |error| Error::io(format!("cannot write the blob `{digest}`"), error);
                let body = self.source.open(blob).map_err(fail)?;
                copy(&mut VerifyReader::new(body, blob), tar).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Docker's oldest form: for each repository the top layer of each tag.
    fn repositories(&self, images: &[ExportedImage]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (image, docker) in images.iter().zip(&self.docker) {
            let Some(top) = docker.layers.last().and_then(|path| path.rsplit('/').next()) else {
                continue;
            };
            for name in &image.names {
                let Some(tag) = name.tag() else { continue };
                let tags = repositories.entry(name.familiar_name()).or_default();
                tags.insert(tag.to_owned(), top.to_owned());
            }
        }
        repositories
    }
}

fn is_missing(error: &Error) -> bool {
    error.io_kind() == Some(io::ErrorKind::NotFound)
}

fn familiar_tag(name: &Reference) -> String {
    format!("{}:{}", name.familiar_name(), name.tag().unwrap_or_default())
}

fn index_of(images: &[ExportedImage]) -> Index {
    let mut manifests = Vec::new();
    for image in images {
        if image.names.is_empty() {
            manifests.push(image.root.clone());
        }
        for name in &image.names {
            let mut root = image.root.clone();
            let tag = name.tag().unwrap_or_default();
            root.annotations.insert(IMAGE_NAME.to_owned(), format!("{}:{tag}", name.name()));
            root.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
            manifests.push(root);
        }
    }
    Index::new(manifests)
}

fn copy(body: &mut impl Read, tar: &mut TarWriter<&mut dyn Write>) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        tar.write_all(buffer.get(..count).unwrap_or_default())?;
    }
}
