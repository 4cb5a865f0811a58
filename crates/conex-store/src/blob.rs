//! Bytes by digest: written once, verified while they are written and while they are read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, Hasher, MediaType, VerifyReader};

use crate::codec;
use crate::db::first;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Held, Lease};
use crate::store::Store;

/// How much of a blob is read at a time when the store itself moves it.
pub(crate) const COPY_BYTES: usize = 128 << 10;

/// Largest blob that is read whole into memory: manifests and configs, which have their own and
/// smaller limits, and no layers.
pub const READ_BLOB_SIZE_MAX: u64 = 16 << 20;

/// Whether bytes must be on the disk before their row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Sync first: for what came from outside and cannot be made again.
    Synced,
    /// Let the system write when it likes: for what a build can make again. After a power cut the
    /// bytes are verified when they are read, as always.
    Lazy,
}

impl Store {
    /// Whether a blob is there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// The size of a blob, if it is there.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blob_row(digest)?.map(|row| row.size))
    }

    /// Where the bytes of a blob lie. Nothing verifies them on this way.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.layout.blob(digest)
    }

    /// Opens a blob. Its end of file is proof that all bytes were right.
    ///
    /// # Errors
    /// The blob is not there ([`NotFound`](crate::ErrorKind::NotFound)), or has another size than
    /// its row says ([`Corrupt`](crate::ErrorKind::Corrupt)).
    pub fn open_blob(&self, digest: &Digest) -> Result<VerifyReader<File>> {
        let size = self.blob_size(digest)?.ok_or_else(|| Error::not_found("blob", digest))?;
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::damaged_blob(digest, "its file is not there"),
            _ => Error::io("open", &path, source),
        })?;
        let found = file.metadata().map_err(|source| Error::io("look at", &path, source))?.len();
        if found != size {
            let why = format!("its file has {found} bytes, wanted {size}");
            return Err(Error::damaged_blob(digest, &why));
        }
        let blob =
            Descriptor::new(MediaType::from("application/octet-stream"), digest.clone(), size);
        Ok(VerifyReader::new(file, &blob))
    }

    /// Reads a small blob whole and verified.
    ///
    /// # Errors
    /// As [`Store::open_blob`]; the blob has more than [`READ_BLOB_SIZE_MAX`] bytes; its bytes are
    /// not the right ones.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut reader = self.open_blob(digest)?;
        let size = self.blob_size(digest)?.unwrap_or_default();
        if size > READ_BLOB_SIZE_MAX {
            let message = format!("blob `{digest}` is too big to be a document: {size} bytes");
            return Err(Error::invalid(message));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        reader.read_to_end(&mut bytes).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => Error::damaged_blob(digest, "its bytes are others"),
            _ => Error::io("read", &self.blob_path(digest), source),
        })?;
        Ok(bytes)
    }
}

impl Lease {
    /// Begins a blob, which is hashed while it is written.
    ///
    /// # Errors
    /// The temporary file cannot be made.
    pub fn blob_writer(&self) -> Result<BlobWriter> {
        let path = self.shared.file.new_path("blob")?;
        let file = File::create_new(&path).map_err(|source| Error::io("create", &path, source))?;
        let lease = self.clone();
        Ok(BlobWriter { lease, file, path, hasher: Some(Hasher::sha256()), size: 0, failed: false })
    }

    /// Keeps bytes at hand as a blob.
    ///
    /// # Errors
    /// The bytes cannot be written.
    pub fn put_bytes(
        &self,
        media_type: MediaType,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<Descriptor> {
        let blob = Descriptor::of(media_type, bytes);
        if self.hold_blob(&blob.digest)? {
            return Ok(blob);
        }
        let mut writer = self.blob_writer()?;
        writer.put(bytes)?;
        writer.commit(Some(&blob), durability)?;
        Ok(blob)
    }

    /// Keeps a blob for as long as the lease lives. Returns whether it is there and whole: false
    /// asks the caller to bring the bytes (again).
    ///
    /// # Errors
    /// The file cannot be read, or the row cannot be written.
    pub fn hold_blob(&self, digest: &Digest) -> Result<bool> {
        let inner = self.inner();
        let Some(row) = self.store().blob_row(digest)? else { return Ok(false) };
        if !row.is_trusted && !is_whole(self.store(), digest)? {
            return Ok(false);
        }
        inner.write("hold a blob", |writer| {
            let text = digest.as_str();
            let size = "SELECT size FROM blobs WHERE digest = ?";
            let size = writer.first(size, [text], |row| codec::unsigned(row, 0))?;
            // A file that is gone or too short is no blob, whatever its row says.
            let found = fs::symlink_metadata(inner.layout.blob(digest)).ok().map(|m| m.len());
            if size.is_none() || size != found {
                return Ok(false);
            }
            if !row.is_trusted {
                writer.execute(
                    "UPDATE blobs SET boot = ? WHERE digest = ?",
                    (&inner.options.boot_id, text),
                )?;
            }
            self.hold(writer, Held::Blob, text)?;
            Ok(true)
        })
    }
}

/// What the row of a blob says.
struct BlobRow {
    size: u64,
    /// Whether its file was synced, or written in this boot.
    is_trusted: bool,
}

impl Store {
    fn blob_row(&self, digest: &Digest) -> Result<Option<BlobRow>> {
        let boot = &self.inner.options.boot_id;
        self.inner.db.read("look for a blob", |connection| {
            let sql = "SELECT size, synced OR boot = ? FROM blobs WHERE digest = ?";
            first(connection, sql, (boot, digest.as_str()), |row| {
                Ok(BlobRow { size: codec::unsigned(row, 0)?, is_trusted: row.get(1)? })
            })
        })
    }
}

/// Whether all bytes of a blob are right. A power cut can have taken those that were not synced.
fn is_whole(store: &Store, digest: &Digest) -> Result<bool> {
    let read = store.open_blob(digest).and_then(|mut reader| {
        let path = store.blob_path(digest);
        io::copy(&mut reader, &mut io::sink()).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => Error::damaged_blob(digest, "its bytes are others"),
            _ => Error::io("read", &path, source),
        })
    });
    match read {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A blob that is being written. Dropped without [`commit`](BlobWriter::commit), it leaves nothing.
pub struct BlobWriter {
    lease: Lease,
    file: File,
    path: PathBuf,
    hasher: Option<Hasher>,
    size: u64,
    failed: bool,
}

impl BlobWriter {
    /// Goes on with a file that somebody else wrote, and hashed.
    pub(crate) fn of_file(
        lease: Lease,
        file: File,
        path: PathBuf,
        hasher: Hasher,
        size: u64,
    ) -> Self {
        Self { lease, file, path, hasher: Some(hasher), size, failed: false }
    }

    /// How many bytes were written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens what was written so far, for somebody who reads it while it is written.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn reader(&self) -> Result<File> {
        File::open(&self.path).map_err(|source| Error::io("open", &self.path, source))
    }

    /// Ends the blob and puts it into its place, where the lease holds it. The digest is always
    /// computed; with `expected` it must be that one.
    ///
    /// # Errors
    /// A write failed, or the bytes are not the expected ones
    /// ([`Mismatch`](crate::ErrorKind::Mismatch)).
    pub fn commit(
        mut self,
        expected: Option<&Descriptor>,
        durability: Durability,
    ) -> Result<(Digest, u64)> {
        let path = self.path.clone();
        if self.failed {
            let broken = io::Error::other("an earlier write failed");
            return Err(Error::io("finish", &path, broken));
        }
        let hasher = self.hasher.take().expect("the hasher is there until the commit");
        let mut digest = hasher.finish();
        if let Some(expected) = expected {
            if expected.size != self.size {
                return Err(Error::size_mismatch(&expected.digest, expected.size, self.size));
            }
            if expected.digest.algorithm() != digest.algorithm() {
                digest = self.rehashed(expected)?;
            }
            if expected.digest != digest {
                return Err(Error::digest_mismatch(&expected.digest, &digest));
            }
        }
        let place = self.lease.inner().layout.blob(&digest);
        let synced = durability == Durability::Synced;
        if synced {
            self.sync_into(&place, &digest)?;
        }
        let size = self.size;
        let kept = self.keep(&place, &digest, synced);
        if kept.is_err() && synced {
            self.withdraw(place, &digest)?;
        }
        kept?;
        Ok((digest, size))
    }

    /// Writes the row; the file goes into its place with it, if it is not there yet.
    fn keep(&self, place: &Path, digest: &Digest, synced: bool) -> Result<()> {
        let inner = self.lease.inner();
        inner.write("keep a blob", |writer| {
            // A sweep can take away a synced file that is in its place before its row is.
            if !synced || !place.exists() {
                writer.publish(&self.path, place)?;
            }
            writer.execute(
                "INSERT INTO blobs (digest, size, created, boot, synced) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (digest) DO UPDATE
                 SET size = excluded.size, boot = excluded.boot, synced = excluded.synced",
                (
                    digest.as_str(),
                    codec::signed(self.size),
                    inner.now().0,
                    &inner.options.boot_id,
                    synced,
                ),
            )?;
            self.lease.hold(writer, Held::Blob, digest.as_str())
        })
    }

    /// Makes bytes and name durable before the row is written, and outside of the write lock: a
    /// sync can take long. The temporary name stays for [`BlobWriter::keep`].
    fn sync_into(&self, place: &Path, digest: &Digest) -> Result<()> {
        let act = |source| Error::io("sync", &self.path, source);
        self.file.sync_all().map_err(act)?;
        let second = self.lease.shared.file.new_path("blob")?;
        fs::hard_link(&self.path, &second).map_err(act)?;
        fs::rename(&second, place).map_err(|source| Error::io("put into place", place, source))?;
        let folder = self.lease.inner().layout.blobs().join(digest.algorithm().name());
        File::open(&folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| Error::io("sync", &folder, source))
    }

    /// Takes a synced file away again when its row could not be written.
    fn withdraw(&self, place: PathBuf, digest: &Digest) -> Result<()> {
        self.lease.inner().write("take back a blob", |writer| {
            if !writer.exists("SELECT 1 FROM blobs WHERE digest = ?", [digest.as_str()])? {
                writer.discard(place);
            }
            Ok(())
        })
    }

    /// Keeps bytes, as `write_all`, with an error that names the file.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|source| Error::io("write", &self.path, source))
    }

    /// Hashes what was written again, for the rare digest that is not SHA-256.
    fn rehashed(&self, expected: &Descriptor) -> Result<Digest> {
        let act = |source| Error::io("read", &self.path, source);
        let mut file = File::open(&self.path).map_err(act)?;
        let mut hasher = Hasher::new(expected.digest.algorithm());
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = file.read(&mut buffer).map_err(act)?;
            if count == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match self.file.write(bytes) {
            Ok(count) => count,
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                return Err(error);
            }
        };
        if let (Some(hasher), Some(done)) = (&mut self.hasher, bytes.get(..count)) {
            hasher.update(done);
        }
        self.size = self.size.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After a commit it is not there; else the lease's folder goes with the lease anyway.
        let _ = fs::remove_file(&self.path);
    }
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BlobWriter").field("size", &self.size).finish_non_exhaustive()
    }
}

impl BlobSource for Store {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.open_blob(&blob.digest)?))
    }
}

impl BlobSource for Lease {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        BlobSource::open(self.store(), blob)
    }
}

impl BlobSink for Lease {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.hold_blob(&blob.digest)?)
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        if self.hold_blob(&blob.digest)? {
            return Ok(());
        }
        let mut writer = self.blob_writer()?;
        // One byte more than promised shows that there are too many.
        let mut body = body.take(blob.size.saturating_add(1));
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = body.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            writer.put(buffer.get(..count).unwrap_or_default())?;
        }
        writer.commit(Some(blob), Durability::Synced)?;
        Ok(())
    }
}
