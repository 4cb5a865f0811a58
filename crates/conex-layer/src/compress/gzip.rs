//! gzip on all cores: one member, made of blocks that are compressed independently.
//!
//! The input is cut every [`BLOCK_SIZE`] bytes, wherever the writes end, and each block is
//! compressed by itself, so the bytes are the same on any number of cores. A block does not refer
//! to the one before, which costs less than one part in two hundred.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::member;

/// Input compressed at once. The size is part of the format of our layers: another one gives
/// other digests.
pub(crate) const BLOCK_SIZE: usize = 1 << 20;

/// No flags, no time, no file name, an unknown system (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty final block with fixed codes.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Compresses blocks on several threads and writes them in order.
pub(crate) struct GzipBlocks {
    jobs: Option<SyncSender<Job>>,
    waiting: VecDeque<Receiver<io::Result<Done>>>,
    waiting_max: usize,
    threads: Vec<JoinHandle<()>>,
    crc: u32,
    size: u64,
}

struct Job {
    block: Arc<Vec<u8>>,
    done: Sender<io::Result<Done>>,
}

struct Done {
    compressed: Vec<u8>,
    crc: u32,
    /// Size of the block before.
    size: u64,
}

impl GzipBlocks {
    pub(crate) fn new(
        level: libdeflater::CompressionLvl,
        thread_count: usize,
        out: &mut impl Write,
    ) -> io::Result<Self> {
        out.write_all(&HEADER)?;
        let thread_count = thread_count.max(1);
        // As many waiting as are worked on, so that no thread waits for the writer.
        let (jobs, incoming) = sync_channel::<Job>(thread_count);
        let incoming = Arc::new(Mutex::new(incoming));
        let threads = (0..thread_count)
            .map(|_| {
                let incoming = incoming.clone();
                std::thread::spawn(move || work(&incoming, level))
            })
            .collect();
        Ok(Self {
            jobs: Some(jobs),
            waiting: VecDeque::new(),
            waiting_max: thread_count * 2 + 1,
            threads,
            crc: 0,
            size: 0,
        })
    }

    pub(crate) fn push(&mut self, block: Arc<Vec<u8>>, out: &mut impl Write) -> io::Result<()> {
        if self.waiting.len() >= self.waiting_max {
            self.write_next(out)?;
        }
        let (done, result) = channel();
        let sent = match &self.jobs {
            Some(jobs) => jobs.send(Job { block, done }),
            None => return Err(gone()),
        };
        sent.map_err(|_| gone())?;
        self.waiting.push_back(result);
        Ok(())
    }

    pub(crate) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.write_next(out)?;
        }
        self.jobs = None;
        for thread in std::mem::take(&mut self.threads) {
            thread.join().map_err(|_| gone())?;
        }
        out.write_all(&LAST_BLOCK)?;
        out.write_all(&self.crc.to_le_bytes())?;
        // The size modulo 2^32 (RFC 1952, 2.3.1).
        let size = u32::try_from(self.size & 0xffff_ffff).unwrap_or(0);
        out.write_all(&size.to_le_bytes())
    }

    fn write_next(&mut self, out: &mut impl Write) -> io::Result<()> {
        let Some(result) = self.waiting.pop_front() else { return Ok(()) };
        let done = result.recv().map_err(|_| gone())??;
        self.crc = join_crc(self.crc, done.crc, done.size);
        self.size += done.size;
        out.write_all(&done.compressed)
    }
}

impl Drop for GzipBlocks {
    fn drop(&mut self) {
        // Without new work the threads end.
        self.jobs = None;
        for thread in std::mem::take(&mut self.threads) {
            // A panic there has already come out as a missing result.
            let _ = thread.join();
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("a compressing thread is gone")
}

fn work(jobs: &Mutex<Receiver<Job>>, level: libdeflater::CompressionLvl) {
    let mut compressor = libdeflater::Compressor::new(level);
    let mut buffer = Vec::new();
    loop {
        let received = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = received else { return };
        let result = compress(&mut compressor, &job.block, &mut buffer);
        // Whoever wanted it may have given up.
        let _ = job.done.send(result);
    }
}

fn compress(
    compressor: &mut libdeflater::Compressor,
    block: &[u8],
    buffer: &mut Vec<u8>,
) -> io::Result<Done> {
    let crc = libdeflater::crc32(block);
    let bound = compressor.deflate_compress_bound(block.len());
    if buffer.len() < bound {
        buffer.resize(bound, 0);
    }
    let len = compressor.deflate_compress(block, buffer);
    let len = len.map_err(|error| io::Error::other(format!("deflate failed: {error}")))?;
    // Room for the empty block behind.
    let mut compressed = Vec::with_capacity(len + 8);
    compressed.extend_from_slice(buffer.get(..len).unwrap_or_default());
    member::leave_open(&mut compressed)
        .ok_or_else(|| io::Error::other("deflate made a stream that cannot be read"))?;
    Ok(Done { compressed, crc, size: block.len() as u64 })
}

/// The CRC of two pieces, of which the second has `size` bytes, from the CRCs of each: the first
/// is multiplied by x to the number of bits of the second, modulo the polynomial.
fn join_crc(first: u32, second: u32, size: u64) -> u32 {
    // Bit 31 stands for x^0, as everywhere in this CRC: `power` begins as x^8, one byte.
    let (mut power, mut factor, mut left) = (1 << 23, 1 << 31, size);
    while left > 0 {
        if left & 1 == 1 {
            factor = multiply(power, factor);
        }
        power = multiply(power, power);
        left >>= 1;
    }
    multiply(factor, first) ^ second
}

/// Multiplies two polynomials modulo that of the CRC (RFC 1952, 8).
fn multiply(left: u32, mut right: u32) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut product = 0;
    for bit in (0..32).rev() {
        if left >> bit & 1 == 1 {
            product ^= right;
        }
        right = if right & 1 == 1 { right >> 1 ^ POLYNOMIAL } else { right >> 1 };
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crcs_of_pieces_join_to_that_of_the_whole() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        let whole = libdeflater::crc32(&bytes);
        for at in [0, 1, 7, 8, 4096, 65_537, bytes.len()] {
            let (first, second) = bytes.split_at(at);
            let crcs = (libdeflater::crc32(first), libdeflater::crc32(second));
            assert_eq!(join_crc(crcs.0, crcs.1, second.len() as u64), whole, "{at}");
        }
    }
}
