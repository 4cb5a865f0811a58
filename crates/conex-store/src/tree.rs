//! Whole trees on the disk: their size, and their removal.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use conex_sys::dir::Dir;
use conex_sys::stat::Stat;
use conex_sys::walk::{Step, Walker};

use crate::options::TreeRemover;

/// Bytes in a block of `st_blocks` (`stat(2)`).
const BLOCK_BYTES: u64 = 512;

/// Files that were counted already, so that one with several names counts once.
#[derive(Debug, Default)]
pub(crate) struct Counted(HashSet<((u32, u32), u64)>);

/// What a tree takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TreeSize {
    /// Bytes on the disk, as `du` counts them.
    pub(crate) disk: u64,
    /// Files and folders that could not be looked into.
    pub(crate) unreadable: u64,
}

/// Measures a file or a tree as `du` does: blocks of every file and folder, each inode once. What
/// another process removes meanwhile counts for nothing.
pub(crate) fn measure(path: &Path, counted: &mut Counted) -> TreeSize {
    let mut size = TreeSize::default();
    let Some((parent, name)) = split(path) else { return size };
    let stat = Dir::open_ambient(parent).and_then(|parent| parent.stat(name));
    let Some(stat) = size.readable(stat) else { return size };
    size.count(&stat, counted);
    if stat.is_dir()
        && let Some(mut walker) =
            size.readable(Dir::open_ambient(path).and_then(|dir| Walker::new(&dir)))
    {
        measure_below(&mut walker, &mut size, counted);
    }
    size
}

fn measure_below(walker: &mut Walker, size: &mut TreeSize, counted: &mut Counted) {
    while let Some(step) = walker.step() {
        let Step::Entry(entry) = step else { continue };
        let stat = walker.dir().and_then(|dir| dir.stat(&entry.name));
        let Some(stat) = size.readable(stat) else { continue };
        size.count(&stat, counted);
        if stat.is_dir() {
            let entered = walker.enter(&entry.name);
            size.readable(entered);
        }
    }
}

impl TreeSize {
    fn count(&mut self, stat: &Stat, counted: &mut Counted) {
        let is_first =
            stat.is_dir() || stat.link_count == 1 || counted.0.insert((stat.device, stat.inode));
        if is_first {
            self.disk = self.disk.saturating_add(stat.blocks.saturating_mul(BLOCK_BYTES));
        }
    }

    fn readable<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.unreadable += u64::from(error.kind() != io::ErrorKind::NotFound);
                None
            }
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
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn remove_own(path: &Path) -> io::Result<()> {
    let Some((parent, name)) = split(path) else { return Ok(()) };
    Dir::open_ambient(parent)?.remove_tree(name)
}

fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}
