//! Files that are locked while a process works: a lock ends with the process, however it ends.
//!
//! Invariant: a lock is `flock` on an open file, so two threads of one process exclude each other
//! as two processes do, and the kernel frees the lock of a killed process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// Shortest and longest pause between two looks at a lock that another process holds. Waiting is
/// by looking, because a blocked `flock` cannot be told to stop when a build is canceled.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How a lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// Asked again and again while something waits for another process; `false` ends the wait with
/// [`ErrorKind::Canceled`](crate::ErrorKind::Canceled).
pub type KeepWaiting<'w> = &'w (dyn Fn() -> bool + Sync);

/// A lock on a file that stays.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
}

impl FileLock {
    /// Opens the file, which is made where it is missing, without locking it.
    pub(crate) fn open(path: &Path) -> Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| Error::io("open lock", path, source))
    }

    /// Waits for the lock in the kernel.
    pub(crate) fn acquire(path: &Path, mode: Mode) -> Result<Self> {
        let file = Self::open(path)?;
        lock(&file, mode).map_err(|source| Error::io("lock", path, source))?;
        Ok(Self { file })
    }

    /// Takes the lock if nobody holds it in a way that excludes this.
    pub(crate) fn try_acquire(path: &Path, mode: Mode) -> Result<Option<Self>> {
        let file = Self::open(path)?;
        let free = try_lock(&file, mode).map_err(|source| Error::io("lock", path, source))?;
        Ok(free.then_some(Self { file }))
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the locked file is still the one that the path names.
    pub(crate) fn is_current(&self, path: &Path) -> Result<bool> {
        is_current(&self.file, path).map_err(|source| Error::io("look at", path, source))
    }

    /// Waits for the lock as long as `keep_waiting` says so.
    pub(crate) fn wait(path: &Path, mode: Mode, keep_waiting: KeepWaiting<'_>) -> Result<Self> {
        let what = || format!("lock `{}`", path.display());
        let mut pause = PAUSE_MIN;
        loop {
            if let Some(lock) = Self::try_acquire(path, mode)? {
                return Ok(lock);
            }
            if !keep_waiting() {
                return Err(Error::canceled(&what()));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// A lock on a file that is there only while the lock is held.
#[derive(Debug)]
pub(crate) struct TransientLock {
    lock: FileLock,
    path: PathBuf,
}

impl TransientLock {
    /// Takes the lock if nobody holds it.
    pub(crate) fn try_acquire(path: &Path) -> Result<Option<Self>> {
        loop {
            let Some(lock) = FileLock::try_acquire(path, Mode::Exclusive)? else {
                return Ok(None);
            };
            // The last holder may have removed the file between our open and our lock; then the
            // name belongs to somebody else by now, and this lock protects nothing.
            if is_current(&lock.file, path).map_err(|source| Error::io("look at", path, source))? {
                return Ok(Some(Self { lock, path: path.to_owned() }));
            }
        }
    }

    /// Takes the lock under a name that nobody used before. None if somebody was faster: a
    /// collection may have found the file before it was locked, and believes for a while that the
    /// name's owner is dead, so the name is spent.
    pub(crate) fn claim(path: &Path) -> Result<Option<Self>> {
        Self::claim_open(FileLock::open(path)?, path)
    }

    fn claim_open(file: File, path: &Path) -> Result<Option<Self>> {
        let act = |source| Error::io("lock", path, source);
        let is_ours = try_lock(&file, Mode::Exclusive).map_err(act)?
            && is_current(&file, path).map_err(act)?;
        Ok(is_ours.then(|| Self { lock: FileLock { file }, path: path.to_owned() }))
    }

    /// Waits for the lock as long as `keep_waiting` says so.
    pub(crate) fn wait(path: &Path, keep_waiting: KeepWaiting<'_>) -> Result<Self> {
        let mut pause = PAUSE_MIN;
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            if !keep_waiting() {
                return Err(Error::canceled(&format!("lock `{}`", path.display())));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Drop for TransientLock {
    fn drop(&mut self) {
        // A file that stays is found and removed by the next garbage collection.
        let _ = std::fs::remove_file(&self.path);
        // Closing would unlock too, but not before the processes forked meanwhile close theirs.
        let _ = self.lock.file.unlock();
    }
}

/// What a look at a lock file of another process shows.
#[derive(Debug)]
pub(crate) enum Holder {
    /// A process holds it.
    Alive,
    /// Nobody holds it; now this process does.
    Dead(TransientLock),
    /// The file is not there.
    Gone,
}

/// Looks whether a process holds the lock file; never makes it.
pub(crate) fn holder(path: &Path) -> Result<Holder> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Gone),
        Err(source) => return Err(Error::io("open lock", path, source)),
    };
    let act = |source| Error::io("lock", path, source);
    if !try_lock(&file, Mode::Exclusive).map_err(act)? {
        return Ok(Holder::Alive);
    }
    if !is_current(&file, path).map_err(act)? {
        return Ok(Holder::Gone);
    }
    Ok(Holder::Dead(TransientLock { lock: FileLock { file }, path: path.to_owned() }))
}

/// Waits for the lock of an open file in the kernel.
pub(crate) fn lock(file: &File, mode: Mode) -> io::Result<()> {
    loop {
        let result = match mode {
            Mode::Shared => file.lock_shared(),
            Mode::Exclusive => file.lock(),
        };
        match result {
            // A signal that has a handler ends the wait early.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    let result = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether the open file is still the one that the path names.
fn is_current(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(named.ino() == open.ino() && named.dev() == open.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_name_that_a_collection_saw_before_it_was_locked_is_spent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let file = FileLock::open(&path).unwrap();
        let Holder::Dead(lock) = holder(&path).unwrap() else { panic!("nobody holds it yet") };
        assert!(TransientLock::claim_open(file.try_clone().unwrap(), &path).unwrap().is_none());
        drop(lock);
        assert!(TransientLock::claim_open(file, &path).unwrap().is_none());
        assert!(!path.exists(), "nothing was made anew");
        let lock = TransientLock::claim(&path).unwrap().unwrap();
        assert!(matches!(holder(&path).unwrap(), Holder::Alive));
        drop(lock);
        assert!(matches!(holder(&path).unwrap(), Holder::Gone));
    }

    #[test]
    fn transient_lock_excludes_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = TransientLock::wait(&path, &|| true).unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
        assert!(!path.exists());
    }

    #[test]
    fn waiting_ends_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let _held = TransientLock::try_acquire(&path).unwrap().unwrap();
        let error = TransientLock::wait(&path, &|| false).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Canceled);
        assert!(matches!(holder(&path).unwrap(), Holder::Alive));
        assert!(matches!(holder(&dir.path().join("none")).unwrap(), Holder::Gone));
    }
}
