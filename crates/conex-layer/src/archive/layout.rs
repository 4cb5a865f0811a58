//! An OCI layout as a folder (image spec, image-layout.md).
//!
//! Invariant: a blob appears under its digest only when it is whole, verified and durable. The
//! index is replaced at once; two processes that add an image at the same time must lock each
//! other out, which is the caller's business.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, Index, VerifyReader};
use conex_sys::root::{Links, RootDir};

use super::read::{ArchivedImage, blob_path, images_of_index};
use super::{DOCUMENT_SIZE_MAX, IMAGE_NAME, INDEX_FILE, LAYOUT_CONTENT, LAYOUT_FILE, REF_NAME};
use crate::error::{Error, Result};

/// An OCI layout as a folder.
#[derive(Debug)]
pub struct Layout {
    root: RootDir,
    /// Distinguishes files being written by this process.
    counter: AtomicU64,
}

impl Layout {
    /// Opens a layout for reading.
    ///
    /// # Errors
    /// The folder is no layout, or one of an unknown version.
    pub fn open(root: &RootDir) -> Result<Self> {
        let layout = Self { root: root.with_links(Links::Refuse), counter: AtomicU64::new(0) };
        let mark = layout.document(Path::new(LAYOUT_FILE))?.ok_or_else(|| {
            Error::malformed("the folder is no OCI layout: it has no file `oci-layout`")
        })?;
        let mark: serde_json::Value = serde_json::from_slice(&mark)
            .map_err(|error| Error::document("`oci-layout`", error))?;
        let version = mark.get("imageLayoutVersion").and_then(|version| version.as_str());
        match version {
            Some(version) if version.starts_with("1.") => Ok(layout),
            _ => Err(Error::unsupported("the OCI layout is of an unknown version")),
        }
    }

    /// Opens a layout for writing, making an empty one where the folder is none.
    ///
    /// # Errors
    /// The kernel's, or as [`Layout::open`].
    pub fn create(root: &RootDir) -> Result<Self> {
        let fail = |error| Error::io("cannot make the OCI layout", error);
        let root = root.with_links(Links::Refuse);
        root.create_dir_all(Path::new("blobs/sha256"), 0o755).map_err(fail)?;
        let layout = Self { root: root.clone(), counter: AtomicU64::new(0) };
        if layout.document(Path::new(LAYOUT_FILE))?.is_none() {
            layout.replace(INDEX_FILE, &Index::new(Vec::new()).to_bytes()).map_err(fail)?;
            layout.replace(LAYOUT_FILE, LAYOUT_CONTENT).map_err(fail)?;
        }
        Self::open(&root)
    }

    /// The images of the layout, each with its names.
    ///
    /// # Errors
    /// A document is missing or malformed, or a blob that an image needs is missing.
    pub fn images(&self) -> Result<Vec<ArchivedImage>> {
        let read = |digest: &Digest| {
            let Some(bytes) = self.document(Path::new(&blob_path(digest)))? else {
                return Ok(None);
            };
            let got = Digest::of(&bytes);
            let same = digest.algorithm() != got.algorithm() || got == *digest;
            if same { Ok(Some(bytes)) } else { Err(Error::digest_mismatch("a blob", digest, &got)) }
        };
        let has = |blob: &Descriptor| {
            self.has(blob).map_err(|error| Error::io("cannot read the OCI layout", error))
        };
        images_of_index(&self.index()?, read, has)
    }

    /// Names an image in the index. An image that had one of the names loses it.
    ///
    /// # Errors
    /// The index is malformed, or the kernel's.
    pub fn add_image(&self, root: &Descriptor, names: &[String]) -> Result<()> {
        let mut index = self.index()?;
        let name_of = |known: &Descriptor| {
            known.annotations.get(IMAGE_NAME).or(known.annotations.get(REF_NAME)).cloned()
        };
        index.manifests.retain(|known| match name_of(known) {
            Some(name) => !names.contains(&name),
            None => known.digest != root.digest,
        });
        if names.is_empty() {
            index.manifests.push(root.clone());
        }
        for name in names {
            let mut named = root.clone();
            named.annotations.insert(REF_NAME.to_owned(), name.clone());
            index.manifests.push(named);
        }
        let replaced = self.replace(INDEX_FILE, &index.to_bytes());
        replaced.map_err(|error| Error::io("cannot write the index of the OCI layout", error))
    }

    /// Takes images out of the index. Their blobs stay.
    ///
    /// # Errors
    /// The index is malformed, or the kernel's.
    pub fn forget_images(&self, roots: &BTreeSet<Digest>) -> Result<()> {
        let mut index = self.index()?;
        index.manifests.retain(|known| !roots.contains(&known.digest));
        let replaced = self.replace(INDEX_FILE, &index.to_bytes());
        replaced.map_err(|error| Error::io("cannot write the index of the OCI layout", error))
    }

    fn index(&self) -> Result<Index> {
        let bytes = self.document(Path::new(INDEX_FILE))?;
        let bytes = bytes.ok_or_else(|| Error::malformed("the OCI layout has no `index.json`"))?;
        Index::parse(&bytes).map_err(|error| Error::document("`index.json` of the layout", error))
    }

    fn document(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let fail = |error| Error::at("cannot read", path, error);
        let file = match self.root.open_file(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > DOCUMENT_SIZE_MAX {
            return Err(Error::limit(format!("`{}` has more than 8 MiB", path.display())));
        }
        Ok(Some(bytes))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.temporary(name);
        let mut file = self.root.create_file(&new, 0o644)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        self.root.rename(&new, Path::new(name))?;
        self.root.as_dir().sync()
    }

    fn temporary(&self, name: &str) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        PathBuf::from(format!("{name}.{}.{number}.tmp", std::process::id()))
    }
}

impl BlobSource for Layout {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.root.open_file(Path::new(&blob_path(&blob.digest)))?))
    }
}

impl BlobSink for Layout {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        match self.root.stat(Path::new(&blob_path(&blob.digest))) {
            Ok(stat) => Ok(stat.size == blob.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        let path = blob_path(&blob.digest);
        let folder = Path::new("blobs").join(blob.digest.algorithm().name());
        let folder = self.root.create_dir_all(&folder, 0o755)?;
        let new = self.temporary(blob.digest.hex());
        let mut file = folder.create_file(new.as_os_str(), 0o644)?;
        let kept = io::copy(&mut VerifyReader::new(body, blob), &mut file)
            .and_then(|_| file.sync_all())
            .and_then(|()| folder.rename(new.as_os_str(), &folder, OsStr::new(blob.digest.hex())))
            .and_then(|()| folder.sync());
        if kept.is_err() {
            // The first error is the one that matters.
            let _ = folder.remove_file(new.as_os_str());
        }
        kept.map_err(|error| {
            io::Error::new(error.kind(), Error::io(format!("cannot write `{path}`"), error))
        })
    }
}
