//! Compresses a stream and computes in the same pass the digest of what goes in. What comes out is
//! digested by whoever keeps it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use conex_oci::{Compression, DiffId, Digest, Hasher};
use zstd::zstd_safe::CParameter;

use super::gzip::{BLOCK_SIZE, GzipBlocks};
use crate::Hashing;

/// The level of gzip that everybody uses, in libdeflate's counting: about the size of `gzip -6`.
const GZIP_LEVEL: i32 = 6;

/// zstd's own choice.
const ZSTD_LEVEL: i32 = 3;

/// Input of one zstd job. Left to itself zstd would choose by level, and with it the bytes.
const ZSTD_JOB_SIZE: u32 = 4 << 20;

/// How to compress.
#[derive(Debug, Clone, Copy)]
pub struct EncoderOptions {
    /// With what.
    pub compression: Compression,
    /// How hard: 1 to 12 for gzip, 1 to 22 for zstd; none is the usual (6 and 3).
    pub level: Option<i32>,
    /// How many threads compress. The bytes do not depend on it.
    pub thread_count: usize,
    /// Whether the digest of the input is computed, on a thread of its own.
    pub hash: Hashing,
}

/// What a stream came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The digest of the input, if it was computed.
    pub diff_id: Option<DiffId>,
    /// Bytes of the input.
    pub unpacked_size: u64,
    /// Bytes of the output.
    pub size: u64,
}

/// Compresses what is written to it.
pub struct Encoder<W: Write> {
    out: Counted<W>,
    codec: Codec,
    block: Vec<u8>,
    unpacked_size: u64,
    hashing: Option<InputHasher>,
}

enum Codec {
    Plain,
    Gzip(GzipBlocks),
    Zstd(Box<zstd::stream::raw::Encoder<'static>>, Vec<u8>),
}

impl<W: Write> Encoder<W> {
    /// Writes the compressed stream to `out`.
    ///
    /// # Errors
    /// There is no such level, or the output's.
    pub fn new(out: W, options: &EncoderOptions) -> io::Result<Self> {
        let mut out = Counted { inner: out, size: 0 };
        let codec = match options.compression {
            Compression::None => Codec::Plain,
            Compression::Gzip => {
                let level = Some(options.level.unwrap_or(GZIP_LEVEL)).filter(|level| *level > 0);
                let level = level.and_then(|level| libdeflater::CompressionLvl::new(level).ok());
                let level = level.ok_or_else(|| no_level("gzip", "1 to 12"))?;
                Codec::Gzip(GzipBlocks::new(level, options.thread_count, &mut out)?)
            }
            Compression::Zstd => {
                let level = options.level.unwrap_or(ZSTD_LEVEL);
                if !(1..=22).contains(&level) {
                    return Err(no_level("zstd", "1 to 22"));
                }
                let mut encoder = zstd::stream::raw::Encoder::new(level)?;
                encoder.set_parameter(CParameter::ChecksumFlag(true))?;
                // One worker and several give the same bytes; none gives others.
                let threads = u32::try_from(options.thread_count.max(1)).unwrap_or(1);
                encoder.set_parameter(CParameter::NbWorkers(threads))?;
                encoder.set_parameter(CParameter::JobSize(ZSTD_JOB_SIZE))?;
                Codec::Zstd(Box::new(encoder), vec![0; 256 << 10])
            }
        };
        let hashing = (options.hash == Hashing::DiffId).then(InputHasher::start);
        let block = Vec::with_capacity(BLOCK_SIZE);
        Ok(Self { out, codec, block, unpacked_size: 0, hashing })
    }

    /// Ends the stream. Gives the output and what the stream came to.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> io::Result<(W, Encoded)> {
        self.pass_on()?;
        match self.codec {
            Codec::Plain => {}
            Codec::Gzip(blocks) => blocks.finish(&mut self.out)?,
            Codec::Zstd(mut encoder, mut buffer) => {
                zstd_end(&mut encoder, &mut buffer, &mut self.out)?;
            }
        }
        self.out.flush()?;
        let Counted { inner, size } = self.out;
        let diff_id = self.hashing.map(InputHasher::finish).transpose()?.map(DiffId);
        Ok((inner, Encoded { diff_id, unpacked_size: self.unpacked_size, size }))
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let next = Vec::with_capacity(BLOCK_SIZE);
        let block = Arc::new(std::mem::replace(&mut self.block, next));
        self.unpacked_size += block.len() as u64;
        if let Some(hashing) = &self.hashing {
            hashing.push(block.clone());
        }
        match &mut self.codec {
            Codec::Plain => self.out.write_all(&block),
            Codec::Gzip(blocks) => blocks.push(block, &mut self.out),
            Codec::Zstd(encoder, buffer) => zstd_block(encoder, &block, buffer, &mut self.out),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_SIZE - self.block.len();
        let count = room.min(bytes.len());
        self.block.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.block.len() == BLOCK_SIZE {
            self.pass_on()?;
        }
        Ok(count)
    }

    /// Does nothing: where blocks end must not depend on the writer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn no_level(name: &str, levels: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("the levels of {name} are {levels}"))
}

fn zstd_block(
    encoder: &mut zstd::stream::raw::Encoder<'_>,
    block: &[u8],
    buffer: &mut [u8],
    out: &mut impl Write,
) -> io::Result<()> {
    use zstd::stream::raw::Operation as _;
    let mut rest = block;
    while !rest.is_empty() {
        let status = encoder.run_on_buffers(rest, buffer)?;
        out.write_all(buffer.get(..status.bytes_written).unwrap_or_default())?;
        rest = rest.get(status.bytes_read..).unwrap_or_default();
    }
    Ok(())
}

fn zstd_end(
    encoder: &mut zstd::stream::raw::Encoder<'_>,
    buffer: &mut [u8],
    out: &mut impl Write,
) -> io::Result<()> {
    use zstd::stream::raw::{Operation as _, OutBuffer};
    loop {
        let mut target = OutBuffer::around(&mut *buffer);
        let left = encoder.finish(&mut target, true)?;
        let count = target.pos();
        out.write_all(buffer.get(..count).unwrap_or_default())?;
        if left == 0 {
            return Ok(());
        }
    }
}

/// Counts what comes out.
struct Counted<W> {
    inner: W,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes what goes in, on a thread of its own.
struct InputHasher {
    blocks: SyncSender<Arc<Vec<u8>>>,
    thread: JoinHandle<Digest>,
}

impl InputHasher {
    fn start() -> Self {
        let (blocks, incoming) = sync_channel::<Arc<Vec<u8>>>(4);
        let thread = std::thread::spawn(move || {
            let mut hasher = Hasher::sha256();
            while let Ok(block) = incoming.recv() {
                hasher.update(&block);
            }
            hasher.finish()
        });
        Self { blocks, thread }
    }

    fn push(&self, block: Arc<Vec<u8>>) {
        // The thread ends only when we hang up; had it panicked, the join tells.
        let _ = self.blocks.send(block);
    }

    fn finish(self) -> io::Result<Digest> {
        drop(self.blocks);
        self.thread.join().map_err(|_| io::Error::other("the hashing thread panicked"))
    }
}
