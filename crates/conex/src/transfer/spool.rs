//! The shipped form of a layer while it is made: packed into a file of the store, and read there by
//! whoever sends it. However far one side is ahead of the other, nothing piles up in memory, and
//! what has to be sent again is still there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use conex_oci::Descriptor;
use conex_remote::{GrowingBlob, Grown};
use conex_store::BlobWriter;

/// A blob that is being packed, or will be.
#[derive(Debug, Default)]
pub struct Spool {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    file: Option<Arc<File>>,
    size: u64,
    /// When all of it is there.
    blob: Option<Descriptor>,
    /// It never will be whole.
    has_failed: bool,
}

impl Spool {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets readers follow what is written.
    pub fn follow(&self, writer: BlobWriter) -> io::Result<Spooling<'_>> {
        self.lock().file = Some(Arc::new(writer.reader()?));
        Ok(Spooling { spool: self, writer })
    }

    /// The blob is whole.
    pub fn end(&self, blob: Descriptor) {
        self.lock().blob = Some(blob);
        self.changed.notify_all();
    }

    /// The blob will not be whole; whoever waits for it gets an error.
    pub fn fail(&self) {
        self.lock().has_failed = true;
        self.changed.notify_all();
    }

    /// Waits until more than `offset` bytes are there, or all. Gives the file and how many.
    fn beyond(&self, offset: u64) -> io::Result<(Option<Arc<File>>, Grown)> {
        let mut state = self.lock();
        while !state.has_failed && state.blob.is_none() && state.size <= offset {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.has_failed {
            return Err(io::Error::other("the layer was not packed"));
        }
        Ok((state.file.clone(), state.grown()))
    }
}

impl State {
    fn grown(&self) -> Grown {
        Grown { size: self.size, blob: self.blob.clone() }
    }
}

impl GrowingBlob for Spool {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Tail { spool: self, offset }))
    }

    fn grown_to(&self, size: u64) -> io::Result<Grown> {
        match size.checked_sub(1) {
            Some(last) => Ok(self.beyond(last)?.1),
            None => Ok(self.lock().grown()),
        }
    }
}

/// Writes to the file of a spool.
pub struct Spooling<'s> {
    spool: &'s Spool,
    writer: BlobWriter,
}

impl Spooling<'_> {
    /// The file, when all is written.
    pub fn into_writer(self) -> BlobWriter {
        self.writer
    }
}

impl Write for Spooling<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.spool.lock().size += count as u64;
        self.spool.changed.notify_all();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Reads a spool as far as it is, and then as it grows.
struct Tail<'s> {
    spool: &'s Spool,
    offset: u64,
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (file, grown) = self.spool.beyond(self.offset)?;
        let left = usize::try_from(grown.size.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        let (Some(file), Some(room)) = (file, buffer.get_mut(..room)) else { return Ok(0) };
        let count = file.read_at(room, self.offset)?;
        if count == 0 && !room.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conex_oci::MediaType;

    fn holding(bytes: &[u8]) -> Spool {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let spool = Spool::default();
        spool.lock().file = Some(Arc::new(file));
        spool
    }

    #[test]
    fn a_reader_waits_for_bytes_and_ends_with_the_last() {
        let spool = holding(b"abcdef");
        spool.lock().size = 2;
        let mut tail = spool.open_at(1).unwrap();
        let mut first = [0; 8];
        assert_eq!(tail.read(&mut first).unwrap(), 1);
        std::thread::scope(|scope| {
            let rest = scope.spawn(|| {
                let mut rest = String::new();
                tail.read_to_string(&mut rest).map(|_| rest)
            });
            spool.lock().size = 6;
            spool.end(Descriptor::of(MediaType::Empty, b"abcdef"));
            assert_eq!(rest.join().unwrap().unwrap(), "cdef");
        });
        let grown = spool.grown_to(1000).unwrap();
        assert_eq!((grown.size, grown.blob.map(|blob| blob.size)), (6, Some(6)));
    }

    #[test]
    fn what_cannot_be_packed_is_not_waited_for() {
        let spool = holding(b"abc");
        spool.lock().size = 3;
        spool.fail();
        assert!(spool.grown_to(4).is_err());
        assert!(spool.open_at(0).unwrap().read(&mut [0; 8]).is_err());
    }
}
