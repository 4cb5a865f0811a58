//! Who uses the folder: one process at a time, and whether the last one ended well.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::error::{Error, Result};

/// What the file says while the folder is in use, and after a process that did not end well.
const IN_USE: &[u8] = b"in use\n";

/// A folder that nobody else may use meanwhile.
pub(crate) struct Usage {
    file: File,
    path: PathBuf,
    is_interrupted: AtomicBool,
}

impl Usage {
    /// Makes or opens the folder, and keeps others out of it.
    pub(crate) fn begin(data: &Path) -> Result<Self> {
        make(data)?;
        let path = data.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|source| Error::io("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::busy(data)),
            Err(fs::TryLockError::Error(source)) => return Err(Error::io("lock", &path, source)),
        }
        let mut said = Vec::new();
        let read = std::io::Read::take(&file, IN_USE.len() as u64).read_to_end(&mut said);
        read.map_err(|source| Error::io("read", &path, source))?;
        Ok(Self { file, path, is_interrupted: AtomicBool::new(!said.is_empty()) })
    }

    /// Whether an earlier process did not end well, and what it left was not looked for since.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Relaxed)
    }

    /// Notes that what an earlier process left is gone.
    pub(crate) fn mended(&self) {
        self.is_interrupted.store(false, Relaxed);
    }

    /// Notes, durable, that things are written that may be left over.
    pub(crate) fn write(&self) -> Result<()> {
        let mut file = &self.file;
        file.rewind()
            .and_then(|()| file.write_all(IN_USE))
            .and_then(|()| file.sync_all())
            .map_err(|source| Error::io("write to", &self.path, source))
    }

    /// Notes that nothing is left over, unless something is.
    pub(crate) fn end(&self) {
        if !self.is_interrupted() {
            // If it cannot be noted, the next process looks for what is not there.
            let _ = self.file.set_len(0);
        }
    }
}

/// Makes a folder whose name survives a power cut.
fn make(data: &Path) -> Result<()> {
    let missing: Vec<&Path> = data.ancestors().take_while(|path| !path.exists()).collect();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|source| Error::io("create", data, source))?;
    for path in missing {
        let above = match path.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        File::open(above)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| Error::io("sync", above, source))?;
    }
    Ok(())
}
