//! Locks between processes (`flock`): held by an open file, gone with the process that held them.

use std::fs::File;
use std::io;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Who else may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// All who ask for it shared.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A lock held on an open file until dropped. The lock belongs to the opening of the file: to lock
/// against another thread, open the file twice.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(file: File, sharing: Sharing) -> io::Result<Self> {
        let operation = match sharing {
            Sharing::Shared => FlockOperation::LockShared,
            Sharing::Exclusive => FlockOperation::LockExclusive,
        };
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes the lock if it is free; gives the file back if not.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_now(file: File, sharing: Sharing) -> io::Result<Result<Self, File>> {
        let operation = match sharing {
            Sharing::Shared => FlockOperation::NonBlockingLockShared,
            Sharing::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Ok(Self { file })),
            Err(Errno::WOULDBLOCK) => Ok(Err(file)),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes how the lock is held. Not atomic: between the two another process may get it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn change(self, sharing: Sharing) -> io::Result<Self> {
        Self::wait(self.file.try_clone()?, sharing)
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(path: &std::path::Path, sharing: Sharing) -> bool {
        FileLock::try_now(File::open(path).unwrap(), sharing).unwrap().is_ok()
    }

    #[test]
    fn a_lock_keeps_out_who_it_should_until_dropped() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(path.path()).unwrap();
        let shared = FileLock::wait(open(), Sharing::Shared).unwrap();
        assert!(free(path.path(), Sharing::Shared));
        assert!(!free(path.path(), Sharing::Exclusive));
        let exclusive = shared.change(Sharing::Exclusive).unwrap();
        assert!(!free(path.path(), Sharing::Shared));
        drop(exclusive);
        assert!(free(path.path(), Sharing::Exclusive));
    }
}
