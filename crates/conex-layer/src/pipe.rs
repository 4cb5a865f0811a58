//! Bytes on their way from one thread to another: hashed behind, or read ahead.
//!
//! Invariant: memory is bounded by a fixed number of chunks, and a thread that is started here is
//! joined by the scope it was started in.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use conex_oci::{Digest, Hasher};

/// Bytes handed over at once: large enough for a thread switch not to matter, small enough to
/// stay in a processor's cache.
pub(crate) const CHUNK_SIZE: usize = 256 << 10;

/// Chunks under way.
const CHUNKS_MAX: usize = 8;

/// A buffer that is written to, and read by the hashing thread while the next one fills.
pub(crate) struct HashingWriter<'s, W: Write> {
    out: W,
    chunk: Vec<u8>,
    filled: usize,
    written: u64,
    behind: Option<Behind<'s>>,
}

struct Behind<'s> {
    chunks: SyncSender<(Arc<Vec<u8>>, usize)>,
    used: Receiver<Arc<Vec<u8>>>,
    thread: ScopedJoinHandle<'s, Digest>,
}

impl<'s, W: Write> HashingWriter<'s, W> {
    /// Writes to `out`; hashes on a thread of its own what is written.
    pub(crate) fn hashing<'e>(scope: &'s Scope<'s, 'e>, out: W) -> Self {
        let (chunks, incoming) = sync_channel::<(Arc<Vec<u8>>, usize)>(CHUNKS_MAX);
        let (outgoing, used) = sync_channel(2 * CHUNKS_MAX);
        let thread = scope.spawn(move || {
            let mut hasher = Hasher::sha256();
            while let Ok((chunk, len)) = incoming.recv() {
                hasher.update(chunk.get(..len).unwrap_or_default());
                // Nobody waits for it where the channel is full.
                let _ = outgoing.try_send(chunk);
            }
            hasher.finish()
        });
        let behind = Some(Behind { chunks, used, thread });
        Self { out, chunk: vec![0; CHUNK_SIZE], filled: 0, written: 0, behind }
    }

    /// Writes to `out` only.
    pub(crate) fn plain(out: W) -> Self {
        Self { out, chunk: vec![0; CHUNK_SIZE], filled: 0, written: 0, behind: None }
    }

    /// Room to read something into, never empty. What was put there is then [`Self::commit`]ted.
    pub(crate) fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.chunk.len() {
            self.pass_on()?;
        }
        Ok(self.chunk.get_mut(self.filled..).unwrap_or_default())
    }

    pub(crate) fn commit(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.chunk.len());
    }

    pub(crate) fn zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let room = self.room()?;
            let want = usize::try_from(count).unwrap_or(usize::MAX).min(room.len());
            room.get_mut(..want).unwrap_or_default().fill(0);
            self.commit(want);
            count -= want as u64;
        }
        Ok(())
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let len = std::mem::take(&mut self.filled);
        let Some(behind) = &self.behind else {
            self.written += len as u64;
            return self.out.write_all(self.chunk.get(..len).unwrap_or_default());
        };
        // A chunk that was hashed is used again unless the hasher still holds it.
        let next = match behind.used.try_recv().map(Arc::try_unwrap) {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(_)) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                vec![0; CHUNK_SIZE]
            }
        };
        let full = Arc::new(std::mem::replace(&mut self.chunk, next));
        // The thread ends only when we hang up; had it panicked, the join tells.
        let _ = behind.chunks.send((full.clone(), len));
        self.written += len as u64;
        self.out.write_all(full.get(..len).unwrap_or_default())
    }

    /// Ends the stream. Gives the output, the digest if there was hashing, and the size.
    pub(crate) fn finish(mut self) -> io::Result<(W, Option<Digest>, u64)> {
        self.pass_on()?;
        self.out.flush()?;
        let digest = match self.behind {
            Some(Behind { chunks, thread, .. }) => {
                drop(chunks);
                let digest = thread.join();
                Some(digest.map_err(|_| io::Error::other("the hashing thread panicked"))?)
            }
            None => None,
        };
        Ok((self.out, digest, self.written))
    }
}

impl<W: Write> Write for HashingWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room()?;
        let count = bytes.len().min(room.len());
        let (Some(room), Some(bytes)) = (room.get_mut(..count), bytes.get(..count)) else {
            return Ok(0);
        };
        room.copy_from_slice(bytes);
        self.commit(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stream on another thread, some chunks ahead of who uses it.
pub(crate) struct ReadAhead {
    chunks: Receiver<io::Result<Vec<u8>>>,
    used: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl ReadAhead {
    pub(crate) fn new<'s, 'e, R>(scope: &'s Scope<'s, 'e>, mut input: R) -> Self
    where
        R: Read + Send + 's,
    {
        let (outgoing, chunks) = sync_channel::<io::Result<Vec<u8>>>(CHUNKS_MAX);
        let (used, incoming) = sync_channel::<Vec<u8>>(2 * CHUNKS_MAX);
        scope.spawn(move || {
            loop {
                let mut chunk = incoming.try_recv().unwrap_or_default();
                let read = read_chunk(&mut input, &mut chunk);
                let ended = !matches!(&read, Ok(count) if *count > 0);
                // Who reads may have had enough.
                if outgoing.send(read.map(|_| chunk)).is_err() || ended {
                    return;
                }
            }
        });
        Self { chunks, used, chunk: Vec::new(), at: 0 }
    }
}

fn read_chunk(input: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<usize> {
    chunk.resize(CHUNK_SIZE, 0);
    let mut filled = 0;
    while let Some(room) = chunk.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(filled)
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            // An empty chunk is the end; a thread that is gone said so before.
            let next = self.chunks.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            let used = std::mem::replace(&mut self.chunk, next);
            self.at = 0;
            // The other side makes a new one where this is not taken.
            let _ = self.used.try_send(used);
        }
        let ready = self.chunk.get(self.at..).unwrap_or_default();
        let count = ready.len().min(buffer.len());
        let (Some(room), Some(ready)) = (buffer.get_mut(..count), ready.get(..count)) else {
            return Ok(0);
        };
        room.copy_from_slice(ready);
        self.at += count;
        Ok(count)
    }
}
