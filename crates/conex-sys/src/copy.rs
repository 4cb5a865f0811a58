//! Copies the content of a file in the cheapest way that the filesystems offer.
//!
//! Shared blocks (`FICLONE`) first, then `copy_file_range`, then reading and writing. Holes stay
//! holes. Copies content only: no owner, mode, time or attribute.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// Up to this size one read and one write are quicker than asking for anything clever.
const SMALL_SIZE_MAX: u64 = 128 << 10;

/// The buffer for reading and writing.
const BUFFER_SIZE: usize = 128 << 10;

/// Bytes asked of one `copy_file_range` call: enough to keep the number of calls small, little
/// enough to be interrupted soon.
const RANGE_SIZE: u64 = 64 << 20;

/// Copies files and remembers what the two filesystems turned out not to offer.
#[derive(Debug, Default)]
pub struct Copier {
    no_clone: AtomicBool,
    no_range: AtomicBool,
}

/// What a [`Copier`] needs to know of the source.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Its size.
    pub size: u64,
    /// Whether it may have holes.
    pub sparse: bool,
}

impl Copier {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies `extent.size` bytes from the start of `source` to the start of the empty file
    /// `target`. Gives how many bytes there were, fewer if the source has shrunk.
    ///
    /// # Errors
    /// The kernel's.
    pub fn copy(
        &self,
        source: &File,
        target: &File,
        extent: Extent,
        buffer: &mut Vec<u8>,
    ) -> io::Result<u64> {
        if extent.size == 0 {
            return Ok(0);
        }
        if !self.no_clone.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(target, source) {
                Ok(()) => return Ok(extent.size),
                Err(error) if is_unsupported(error) => self.no_clone.store(true, Ordering::Relaxed),
                Err(error) => return Err(error.into()),
            }
        }
        buffer.resize(BUFFER_SIZE, 0);
        if extent.sparse {
            return self.copy_sparse(source, target, extent.size, buffer);
        }
        if extent.size <= SMALL_SIZE_MAX {
            return read_and_write(source, target, 0, extent.size, buffer);
        }
        self.copy_range(source, target, 0, extent.size, buffer)
    }

    fn copy_sparse(
        &self,
        source: &File,
        target: &File,
        size: u64,
        buffer: &mut [u8],
    ) -> io::Result<u64> {
        rustix::fs::ftruncate(target, size)?;
        for piece in DataPieces::new(source, size) {
            let (start, end) = piece?;
            let copied = self.copy_range(source, target, start, end - start, buffer)?;
            if copied < end - start {
                rustix::fs::ftruncate(target, start + copied)?;
                return Ok(start + copied);
            }
        }
        Ok(size)
    }

    fn copy_range(
        &self,
        source: &File,
        target: &File,
        start: u64,
        len: u64,
        buffer: &mut [u8],
    ) -> io::Result<u64> {
        let mut done = 0;
        while done < len && !self.no_range.load(Ordering::Relaxed) {
            let (mut from, mut to) = (start + done, start + done);
            let count = usize::try_from((len - done).min(RANGE_SIZE)).unwrap_or(usize::MAX);
            let range =
                rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), count);
            match range {
                // Also what some filesystems of the kernel say that cannot do it.
                Ok(0) => break,
                Ok(count) => done += count as u64,
                Err(Errno::INTR) => {}
                Err(error) if is_unsupported(error) => self.no_range.store(true, Ordering::Relaxed),
                Err(error) => return Err(error.into()),
            }
        }
        if done < len {
            done += read_and_write(source, target, start + done, len - done, buffer)?;
        }
        Ok(done)
    }
}

fn is_unsupported(error: Errno) -> bool {
    matches!(
        error,
        Errno::OPNOTSUPP
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::NOTTY
            | Errno::PERM
            | Errno::TXTBSY
            | Errno::BADF
    )
}

fn read_and_write(
    source: &File,
    target: &File,
    start: u64,
    len: u64,
    buffer: &mut [u8],
) -> io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut done = 0;
    while done < len {
        let want = usize::try_from(len - done).unwrap_or(usize::MAX).min(buffer.len());
        let Some(room) = buffer.get_mut(..want) else { break };
        let count = match source.read_at(room, start + done) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        target.write_all_at(room.get(..count).unwrap_or_default(), start + done)?;
        done += count as u64;
    }
    Ok(done)
}

/// The pieces of a file that hold data, as `(start, end)`; what is between reads as zeros.
#[derive(Debug)]
pub struct DataPieces<F> {
    file: F,
    at: u64,
    size: u64,
}

impl<F: AsFd> DataPieces<F> {
    /// Looks at the first `size` bytes of a file. Moves the file's position.
    pub fn new(file: F, size: u64) -> Self {
        Self { file, at: 0, size }
    }
}

impl<F: AsFd> Iterator for DataPieces<F> {
    type Item = io::Result<(u64, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.size {
            return None;
        }
        let start = match rustix::fs::seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => {
                self.at = self.size;
                return None;
            }
            // A filesystem that does not know of holes: all is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                let piece = (self.at, self.size);
                self.at = self.size;
                return Some(Ok(piece));
            }
            Err(error) => {
                self.at = self.size;
                return Some(Err(error.into()));
            }
        };
        if start >= self.size {
            self.at = self.size;
            return None;
        }
        let end = match rustix::fs::seek(&self.file, SeekFrom::Hole(start)) {
            Ok(end) => end.clamp(start, self.size),
            Err(error) => {
                self.at = self.size;
                return Some(Err(error.into()));
            }
        };
        // A hole right where the data began would never end.
        let end = if end == start { self.size } else { end };
        self.at = end;
        Some(Ok((start, end)))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    fn copied(source: &File, copier: &Copier) -> File {
        let target = tempfile::tempfile().unwrap();
        let stat = crate::stat::stat_fd(source).unwrap();
        let extent = Extent { size: stat.size, sparse: stat.is_sparse() };
        let count = copier.copy(source, &target, extent, &mut Vec::new()).unwrap();
        assert_eq!(count, stat.size);
        target
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn content_is_the_same_by_every_way() {
        for size in [0_usize, 1, 4096, 200_000, 3 << 20] {
            let source = tempfile::tempfile().unwrap();
            let bytes: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
            source.write_all_at(&bytes, 0).unwrap();
            for (no_clone, no_range) in [(false, false), (true, false), (true, true)] {
                let copier = Copier { no_clone: no_clone.into(), no_range: no_range.into() };
                assert_eq!(content(&copied(&source, &copier)), bytes, "{size}");
            }
        }
    }

    #[test]
    fn holes_stay_holes() {
        let source = tempfile::tempfile().unwrap();
        source.write_all_at(b"head", 0).unwrap();
        source.write_all_at(b"middle", 5 << 20).unwrap();
        source.set_len(64 << 20).unwrap();
        if source.metadata().unwrap().blocks() * 512 > 1 << 20 {
            eprintln!("skipped: the temporary directory has no sparse files");
            return;
        }
        for no_range in [false, true] {
            let copier = Copier { no_clone: true.into(), no_range: no_range.into() };
            let target = copied(&source, &copier);
            assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
            assert_eq!(content(&target), content(&source));
        }
    }
}
