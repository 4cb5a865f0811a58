//! Blobs on their way in: what has arrived outlives the process that fetched it.
//!
//! A partial is a file `partial/<algorithm>-<digits>` that one process at a time holds locked, so
//! that a killed process frees it. Nothing else is kept beside it: the bytes are hashed again when
//! somebody goes on with them, which costs half a second a gigabyte, and whatever a power cut made
//! of them is found out by the digest.
//!
//! Invariant: a partial becomes a blob only with the right digest; a partial in use is never
//! removed.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use conex_oci::{Descriptor, Digest, Hasher};

use crate::blob::{BlobWriter, COPY_BYTES, Durability};
use crate::collect::Removed;
use crate::error::{Error, Result};
use crate::gc::list_paths;
use crate::lease::Lease;
use crate::lock::{FileLock, Mode};
use crate::store::Store;

/// How long a partial that nobody goes on with stays: whoever comes back after a week fetches
/// anew.
const AGE_SECS_MAX: i64 = 7 * 24 * 3600;

/// Most bytes of partials that nobody is at; beyond it the oldest go. A few of the largest layers
/// that there are.
const BYTES_MAX: u64 = 32 << 30;

/// Which partials are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partials {
    /// Old ones, and the oldest of too many.
    Old,
    /// All that nobody is at.
    All,
}

/// A blob of which the beginning is there. Dropped without [`commit`](PartialBlob::commit) or
/// [`discard`](PartialBlob::discard), it stays for whoever goes on with it.
pub struct PartialBlob {
    lease: Lease,
    blob: Descriptor,
    lock: FileLock,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
    /// Nothing is left of it under its name.
    is_done: bool,
}

/// What the bytes of a partial turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartialVerdict {
    /// Those of the blob, which is now in the store and held by the lease.
    Right,
    /// Others, with this digest. They were removed.
    Wrong(Digest),
}

impl Lease {
    /// Takes the partial of a blob, an empty one if there was none, for this caller alone. `None`
    /// while somebody else is at it. Bytes that are there are hashed before it returns.
    ///
    /// # Errors
    /// The file cannot be made or read.
    pub fn take_partial(&self, blob: &Descriptor) -> Result<Option<PartialBlob>> {
        let folder = self.inner().layout.partials();
        fs::create_dir_all(&folder).map_err(|source| Error::io("create", &folder, source))?;
        let path = folder.join(format!("{}-{}", blob.digest.algorithm().name(), blob.digest.hex()));
        let lock = loop {
            let Some(lock) = FileLock::try_acquire(&path, Mode::Exclusive)? else {
                return Ok(None);
            };
            // Who held it last may have made a blob of it between our open and our lock.
            if lock.is_current(&path)? {
                break lock;
            }
        };
        let mut hasher = Hasher::new(blob.digest.algorithm());
        let size =
            hash(lock.file(), &mut hasher).map_err(|source| Error::io("read", &path, source))?;
        let (lease, blob) = (self.clone(), blob.clone());
        Ok(Some(PartialBlob { lease, blob, lock, path, hasher, size, is_done: false }))
    }
}

fn hash(mut file: &File, hasher: &mut Hasher) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                hasher.update(buffer.get(..count).unwrap_or_default());
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl PartialBlob {
    /// How many bytes are there.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file, to read what is there while more comes. Reads must name their positions: the
    /// file's own belongs to who appends.
    ///
    /// # Errors
    /// The process has too many files open.
    pub fn file(&self) -> Result<File> {
        self.lock.file().try_clone().map_err(|source| Error::io("open again", &self.path, source))
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// They cannot be written. Then the partial is cut back to what it was.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut file = self.lock.file();
        if let Err(source) = file.write_all(bytes) {
            // A part of them may be there; without the cut, the next to come would hash it twice.
            let _ = file.set_len(self.size).and_then(|()| file.seek(SeekFrom::Start(self.size)));
            return Err(Error::io("write", &self.path, source));
        }
        self.hasher.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Makes a blob of the bytes if they are the right ones, and removes them if not.
    ///
    /// # Errors
    /// There are more or fewer bytes than the blob has
    /// ([`Mismatch`](crate::ErrorKind::Mismatch)), or the store cannot take them; then they stay.
    pub fn commit(mut self, durability: Durability) -> Result<PartialVerdict> {
        if self.size != self.blob.size {
            return Err(Error::size_mismatch(&self.blob.digest, self.blob.size, self.size));
        }
        let got = self.hasher.clone().finish();
        if got != self.blob.digest {
            self.discard()?;
            return Ok(PartialVerdict::Wrong(got));
        }
        // Under a second name, so that the bytes are not lost when the row cannot be written.
        let second = self.lease.shared.file.new_path("blob")?;
        fs::hard_link(&self.path, &second).map_err(|e| Error::io("link", &self.path, e))?;
        let file = self.file()?;
        let (lease, hasher) = (self.lease.clone(), self.hasher.clone());
        let writer = BlobWriter::of_file(lease, file, second, hasher, self.size);
        writer.commit(Some(&self.blob), durability)?;
        self.is_done = true;
        // It is a blob now; a name that stays is found by the next collection.
        let _ = fs::remove_file(&self.path);
        Ok(PartialVerdict::Right)
    }

    /// Removes the bytes.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn discard(mut self) -> Result<()> {
        self.is_done = true;
        fs::remove_file(&self.path).map_err(|source| Error::io("remove", &self.path, source))
    }
}

impl Drop for PartialBlob {
    fn drop(&mut self) {
        if self.size == 0 && !self.is_done {
            // There is nothing to go on with; a file that stays is found by the next collection.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl std::fmt::Debug for PartialBlob {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PartialBlob").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Store {
    /// Removes partial blobs that nobody is at.
    pub(crate) fn sweep_partials(&self, which: Partials) -> Result<Removed> {
        let mut found = Vec::new();
        for path in list_paths(&self.inner.layout.partials())? {
            // One that is just being made a blob is gone by now.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let changed = meta
                .modified()
                .map_or(0, |time| crate::options::Timestamp::from_system(time).unix_secs());
            found.push((changed, meta.len(), path));
        }
        // The youngest first: they are what somebody may still come back for.
        found.sort_by(|a, b| b.cmp(a));
        let now = self.inner.now().unix_secs();
        let mut kept = 0_u64;
        let mut removed = Removed::default();
        for (changed, size, path) in found {
            kept = kept.saturating_add(size);
            let is_old = now.saturating_sub(changed) > AGE_SECS_MAX || kept > BYTES_MAX;
            if (which == Partials::All || is_old) && remove_unused(&path)? {
                removed.bytes = removed.bytes.saturating_add(size);
            }
        }
        Ok(removed)
    }
}

/// Removes a partial unless somebody is at it.
fn remove_unused(path: &Path) -> Result<bool> {
    let Some(lock) = FileLock::try_acquire(path, Mode::Exclusive)? else { return Ok(false) };
    if !lock.is_current(path)? {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        removed => Ok(removed.is_ok()),
    }
}
