//! Objects as files: `blobs/sha256/ab/<digest>.<upload>`, and uploads beside them.
//!
//! An upload becomes an object by another name, so nothing is copied or read again. The name comes
//! before the sync: a file without a row is nothing yet, and one wait for the disk then makes both
//! the bytes and the name durable. Until its row is decided, an object is pending: whoever looks
//! for files that no row names passes it over.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use conex_oci::{Algorithm, Digest};
use conex_sys::fsinfo::{await_write, begin_write};

use super::hash::Hash;
use super::{Blobs, Finished, Object, Upload, UploadId};
use crate::error::{Error, Result};
use crate::meta::Durability;
use crate::name::Name;
use crate::time::Moment;
use crate::usage::Usage;

/// How many bytes are sent to the disk at a time while an upload goes on, so that little is left to
/// wait for at the end.
const FLUSH_BYTES: u64 = 1 << 20;

/// How many bytes of an upload may be on their way to the disk: a disk that is slower than the
/// client makes the client wait, not the last request.
const UNFLUSHED_MAX: u64 = 16 << 20;

/// How many bytes an upload grows between two notes of how far it is.
const NOTE_BYTES: u64 = 8 << 20;

/// How much is read at a time when an upload must be read again.
const READ_BYTES: usize = 256 << 10;

/// Objects as files in a folder.
pub(crate) struct FileBlobs {
    blobs: PathBuf,
    uploads: PathBuf,
    durability: Durability,
    /// Tells this start of the machine from others.
    boot: String,
    /// Folders that are known to be there.
    folders: Mutex<HashSet<PathBuf>>,
    /// Objects whose rows are not decided yet.
    pending: Mutex<HashSet<Object>>,
    /// Folders whose removed names may come back with a power cut.
    removed: Mutex<HashSet<PathBuf>>,
    /// None for who only looks while another process writes.
    usage: Option<Usage>,
}

impl Drop for FileBlobs {
    fn drop(&mut self) {
        // Every upload holds this too, so nothing is written any more.
        let Some(usage) = self.usage.as_ref().filter(|_| self.pending().is_empty()) else { return };
        // What is removed and comes back would not be looked for. There is nobody to tell of
        // failures; the next process then looks.
        let mut removed = self.removed().drain().collect::<Vec<_>>().into_iter();
        if removed.all(|folder| self.sync_folder(&folder).is_ok()) {
            usage.end();
        }
    }
}

impl FileBlobs {
    /// Objects below a folder.
    pub(crate) fn open(
        data: &Path,
        usage: Option<Usage>,
        durability: Durability,
        boot: &str,
    ) -> Result<Self> {
        let (blobs, uploads) = (data.join("blobs"), data.join("uploads"));
        for folder in [&blobs, &uploads] {
            fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
        }
        let opened = Self {
            blobs,
            uploads,
            durability,
            boot: boot.to_owned(),
            folders: Mutex::default(),
            pending: Mutex::default(),
            removed: Mutex::default(),
            usage,
        };
        opened.sync_folder(data)?;
        Ok(opened)
    }

    fn upload_path(&self, of: &Name, id: &UploadId, algorithm: Algorithm) -> PathBuf {
        // An upload is found only in its repository.
        let repository = Digest::of(of.as_str().as_bytes());
        let name = format!("{}.{}.{}", id.as_str(), algorithm.name(), repository.short());
        self.uploads.join(name)
    }

    /// The file of an upload.
    fn find(&self, of: &Name, id: &UploadId) -> Result<Option<(PathBuf, Algorithm)>> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let path = self.upload_path(of, id, algorithm);
            if path.try_exists().map_err(|source| Error::io("look at", &path, source))? {
                return Ok(Some((path, algorithm)));
            }
        }
        Ok(None)
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        if self.durability == Durability::Unsynced {
            return Ok(());
        }
        File::open(path)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| Error::io("sync", path, source))
    }

    /// Makes the folder of an object, durable.
    fn folder(&self, digest: &Digest) -> Result<PathBuf> {
        let parent = self.blobs.join(digest.algorithm().name());
        let path = parent.join(&digest.hex()[..2]);
        let folders = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if folders().contains(&path) {
            return Ok(path);
        }
        for (folder, above) in [(&parent, &self.blobs), (&path, &parent)] {
            match fs::create_dir(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::io("create", folder, source)),
            }
            self.sync_folder(above)?;
        }
        folders().insert(path.clone());
        Ok(path)
    }

    fn pending(&self) -> MutexGuard<'_, HashSet<Object>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn removed(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The digest of an object's bytes.
    pub(crate) fn digest(&self, object: &Object, algorithm: Algorithm) -> Result<Option<Digest>> {
        let Some(path) = object.path().map(|path| self.blobs.join(path)) else { return Ok(None) };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let mut hash = Hash::new(algorithm);
        read_into(&mut file, &mut hash).map_err(|source| Error::io("read", &path, source))?;
        Ok(Some(hash.finish()))
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let act = |source| Error::io("read", folder, source);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(source) => return Err(act(source)),
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(act)).collect()
}

/// Reads a file to its end; gives how many bytes that were.
fn read_into(file: &mut File, hash: &mut Hash) -> io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut size = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(size);
        }
        hash.update(&buffer[..count]);
        size += count as u64;
    }
}

fn note_path(upload: &Path) -> PathBuf {
    upload.with_extension("state")
}

fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::io("remove", path, source)),
    }
}

impl Blobs for std::sync::Arc<FileBlobs> {
    fn begin(&self, of: &Name, id: &UploadId, algorithm: Algorithm) -> Result<()> {
        let path = self.upload_path(of, id, algorithm);
        File::create_new(&path).map(|_| ()).map_err(|source| Error::io("create", &path, source))
    }

    fn uploaded(&self, of: &Name, id: &UploadId) -> Result<Option<u64>> {
        let Some((path, _)) = self.find(of, id)? else { return Ok(None) };
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::io("look at", &path, source)),
        }
    }

    fn resume(&self, of: &Name, id: &UploadId) -> Result<Option<Box<dyn Upload>>> {
        let Some((path, algorithm)) = self.find(of, id)? else { return Ok(None) };
        let opened = File::options().read(true).write(true).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let act = |source| Error::io("read", &path, source);
        let size = file.metadata().map_err(act)?.len();
        let noted = fs::read(note_path(&path))
            .ok()
            .and_then(|note| Hash::restore(algorithm, &note, &self.boot))
            .filter(|(_, noted)| *noted <= size);
        let (mut hash, noted) = noted.unwrap_or((Hash::new(algorithm), 0));
        io::Seek::seek(&mut file, io::SeekFrom::Start(noted)).map_err(act)?;
        let size = noted + read_into(&mut file, &mut hash).map_err(act)?;
        Ok(Some(Box::new(FileUpload {
            blobs: self.clone(),
            id: id.clone(),
            path,
            file,
            hash,
            size,
            begun: 0,
            flushed: 0,
            noted,
        })))
    }

    fn expire(&self, since: Moment) -> Result<usize> {
        let since = Duration::from_millis(u64::try_from(since.0).unwrap_or_default());
        let since: SystemTime = UNIX_EPOCH + since;
        let mut count = 0;
        for path in entries(&self.uploads)? {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.modified().is_ok_and(|modified| modified < since) {
                count += usize::from(remove(&path)?);
            }
        }
        Ok(count)
    }

    fn open(&self, object: &Object, size: u64) -> Result<Option<File>> {
        let Some(path) = object.path().map(|path| self.blobs.join(path)) else { return Ok(None) };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("open", &path, source)),
        };
        let metadata = file.metadata().map_err(|source| Error::io("look at", &path, source))?;
        Ok((metadata.is_file() && metadata.len() == size).then_some(file))
    }

    fn old_objects(&self, part: usize, since: Moment) -> Result<Vec<Object>> {
        let algorithm = if part < 256 { "sha256" } else { "sha512" };
        let folder = format!("{algorithm}/{:02x}", part % 256);
        let mut found = Vec::new();
        for path in entries(&self.blobs.join(&folder))? {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            // The time of the last change of the file's data or name: a rename counts, an old
            // upload that has just become an object is young.
            let changed = Moment(metadata.ctime().saturating_mul(1000));
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && changed < since
            {
                found.push(Object(format!("{folder}/{name}")));
            }
        }
        Ok(found)
    }

    fn is_interrupted(&self) -> bool {
        self.usage.as_ref().is_some_and(Usage::is_interrupted)
    }

    fn mended(&self) {
        if let Some(usage) = &self.usage {
            usage.mended();
        }
    }

    fn is_pending(&self, object: &Object) -> bool {
        self.pending().contains(object)
    }

    fn settle(&self, object: &Object) {
        self.pending().remove(object);
    }

    fn remove(&self, object: &Object) -> Result<()> {
        if let Some(path) = object.path() {
            let path = self.blobs.join(path);
            remove(&path)?;
            self.removed().extend(path.parent().map(Path::to_owned));
        }
        self.settle(object);
        Ok(())
    }
}

/// An upload as a file.
struct FileUpload {
    blobs: std::sync::Arc<FileBlobs>,
    id: UploadId,
    path: PathBuf,
    file: File,
    hash: Hash,
    size: u64,
    /// How many bytes are on the disk or on their way.
    begun: u64,
    /// How many bytes were waited for.
    flushed: u64,
    /// How many bytes were there at the last note.
    noted: u64,
}

impl FileUpload {
    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            match self.file.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends what was written to the disk, and waits for what was sent long ago.
    fn flush(&mut self) -> io::Result<()> {
        let begun = self.size - self.size % FLUSH_BYTES;
        if self.blobs.durability == Durability::Unsynced || begun <= self.begun {
            return Ok(());
        }
        // What cannot be sent early is sent by the sync at the end, which says what is wrong.
        if begin_write(&self.file, self.begun, begun - self.begun).is_ok() {
            self.begun = begun;
        }
        if self.begun - self.flushed > UNFLUSHED_MAX {
            let flushed = self.begun - UNFLUSHED_MAX / 2;
            await_write(&self.file, self.flushed, flushed - self.flushed)?;
            self.flushed = flushed;
        }
        Ok(())
    }
}

impl FileUpload {
    /// Gives the file its name among the objects, durable.
    fn place(&self, place: &Path, folder: &Path) -> Result<()> {
        fs::rename(&self.path, place)
            .map_err(|source| Error::io("put into place", place, source))?;
        if self.blobs.durability == Durability::Synced {
            self.file.sync_data().map_err(|source| Error::io("sync", place, source))?;
            self.blobs.sync_folder(folder)?;
        }
        Ok(())
    }
}

impl Upload for FileUpload {
    fn size(&self) -> u64 {
        self.size
    }

    fn append(&mut self, pieces: &[Bytes]) -> Result<()> {
        if let Err(source) = self.write(pieces) {
            // What came of half a write must not count as received.
            let _ = self.file.set_len(self.size);
            let _ = io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.size));
            return Err(Error::io("write to", &self.path, source));
        }
        for piece in pieces {
            self.hash.update(piece);
            self.size += piece.len() as u64;
        }
        self.flush().map_err(|source| Error::io("write to", &self.path, source))
    }

    fn suspend(&mut self) {
        if self.size - self.noted < NOTE_BYTES {
            return;
        }
        // Without a note the upload is read again, which only takes longer.
        if fs::write(note_path(&self.path), self.hash.save(self.size, &self.blobs.boot)).is_ok() {
            self.noted = self.size;
        }
    }

    fn finish(self: Box<Self>, digest: &Digest) -> Result<Finished> {
        let found = if digest.algorithm() == self.hash.algorithm() {
            self.hash.clone().finish()
        } else {
            // The client did not say in time which algorithm it means.
            let act = |source| Error::io("read", &self.path, source);
            let mut hash = Hash::new(digest.algorithm());
            let mut file = File::open(&self.path).map_err(act)?;
            read_into(&mut file, &mut hash).map_err(act)?;
            hash.finish()
        };
        if found != *digest {
            self.discard()?;
            return Ok(Finished::Mismatch(found));
        }
        let folder = self.blobs.folder(digest)?;
        let object = Object(format!(
            "{}/{}/{}.{}",
            digest.algorithm().name(),
            &digest.hex()[..2],
            digest.hex(),
            self.id.as_str()
        ));
        self.blobs.pending().insert(object.clone());
        if self.noted > 0 {
            // One that stays is removed when it expires.
            let _ = fs::remove_file(note_path(&self.path));
        }
        let kept = self.place(&self.blobs.blobs.join(object.as_str()), &folder);
        if kept.is_err() {
            // Not durable, so it must not be; what stays is removed as a file that no row names.
            let _ = self.blobs.remove(&object);
        }
        kept.map(|()| Finished::Object(object, self.size))
    }

    fn discard(self: Box<Self>) -> Result<()> {
        remove(&note_path(&self.path))?;
        remove(&self.path).map(|_| ())
    }
}
