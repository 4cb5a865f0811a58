//! Whole trees on the disk: their size, and their removal.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::options::TreeRemover;

/// Bytes in a block of `st_blocks` (`stat(2)`).
const BLOCK_BYTES: u64 = 512;

/// Files that were counted already, so that one with several names counts once.
#[derive(Debug, Default)]
pub(crate) struct Counted(HashSet<(u64, u64)>);

/// What a tree takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeSize {
    /// Bytes on the disk, as `du` counts them.
    pub(crate) disk: u64,
    /// Files and folders that could not be looked into.
    pub(crate) unreadable: u64,
}

impl TreeSize {
    pub(crate) fn add(&mut self, other: Self) {
        self.disk = self.disk.saturating_add(other.disk);
        self.unreadable = self.unreadable.saturating_add(other.unreadable);
    }
}

/// Measures a tree as `du` does: blocks of every file and folder, each inode once.
pub(crate) fn measure(root: &Path, counted: &mut Counted) -> TreeSize {
    let mut size = TreeSize::default();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        match fs::symlink_metadata(&path) {
            Ok(metadata) => {
                if metadata.nlink() == 1
                    || metadata.is_dir()
                    || counted.0.insert((metadata.dev(), metadata.ino()))
                {
                    size.disk = size.disk.saturating_add(metadata.blocks() * BLOCK_BYTES);
                }
                if metadata.is_dir() {
                    list(&path, &mut pending, &mut size);
                }
            }
            // Another process may remove what is being counted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => size.unreadable += 1,
        }
    }
    size
}

fn list(path: &Path, pending: &mut Vec<PathBuf>, size: &mut TreeSize) {
    let Ok(entries) = fs::read_dir(path) else {
        size.unreadable += 1;
        return;
    };
    for entry in entries {
        match entry {
            Ok(entry) => pending.push(entry.path()),
            Err(_) => size.unreadable += 1,
        }
    }
}

/// Removes a file or a tree, however deep. A tree that is not there is removed already.
pub(crate) fn remove(path: &Path, remover: Option<&TreeRemover>) -> io::Result<()> {
    match remove_own(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => match remover {
            Some(remover) => remover(path),
            None => Err(error),
        },
        result => result,
    }
}

fn remove_own(path: &Path) -> io::Result<()> {
    let done = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
