//! Decompresses whatever it is, known by its first bytes.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use crate::error::{Error, Result};

/// Bytes looked at to know a format: xz has the longest mark.
const SNIFF_SIZE: usize = 6;

/// Compressed bytes read at once.
const BUFFER_SIZE: usize = 64 << 10;

/// Largest window of a zstd stream: 2^27 bytes are 128 MiB, what `zstd` itself takes unasked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Most memory for xz: `xz -9` needs 65 MiB.
const XZ_MEMORY_MAX: u64 = 128 << 20;

/// A stream that grows more than this is a bomb once it is over [`RATIO_FREE_SIZE`]. gzip cannot
/// reach it (1032 is its best); real layers with sparse files come to about a thousand.
const RATIO_MAX: u64 = 2000;

/// Output up to this size is never a bomb.
const RATIO_FREE_SIZE: u64 = 1 << 30;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not, or in no way known here.
    Plain,
    /// gzip, one member or several.
    Gzip,
    /// Zstandard, one frame or several.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// Knows a format by the first bytes of a stream.
pub fn sniff(head: &[u8]) -> Format {
    match head {
        [0x1f, 0x8b, 8, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
        // A frame to be skipped, which some tools put first.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Format::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        _ => Format::Plain,
    }
}

/// Reads a stream decompressed.
pub struct Decoder<'r> {
    inner: Inner<'r>,
    format: Format,
    out_count: u64,
}

type Head<'r> = BufReader<Counted<Chain<Cursor<Vec<u8>>, &'r mut (dyn Read + Send)>>>;

enum Inner<'r> {
    Plain(Head<'r>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Head<'r>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Head<'r>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<Head<'r>>>),
    Xz(Box<liblzma::bufread::XzDecoder<Head<'r>>>),
}

/// Counts what goes in.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

impl<'r> Decoder<'r> {
    /// Looks at the first bytes of a stream and decompresses it accordingly.
    ///
    /// # Errors
    /// The stream cannot be read, or memory for it cannot be had.
    pub fn new(input: &'r mut (dyn Read + Send)) -> Result<Self> {
        let mut head = Vec::new();
        let mut limited = (&mut *input).take(SNIFF_SIZE as u64);
        limited.read_to_end(&mut head).map_err(|e| Error::io("cannot read the archive", e))?;
        let format = sniff(&head);
        let counted = Counted { inner: Cursor::new(head).chain(input), count: 0 };
        let input = BufReader::with_capacity(BUFFER_SIZE, counted);
        let fail = |error| Error::io("cannot start to decompress", error);
        let inner = match format {
            Format::Plain => Inner::Plain(input),
            Format::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Format::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(fail)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(fail)?;
                Inner::Zstd(Box::new(decoder))
            }
            Format::Bzip2 => Inner::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
            Format::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_MAX, flags);
                let stream = stream.map_err(|error| fail(error.into()))?;
                let decoder = liblzma::bufread::XzDecoder::new_stream(input, stream);
                Inner::Xz(Box::new(decoder))
            }
        };
        Ok(Self { inner, format, out_count: 0 })
    }

    /// How the stream is compressed.
    pub fn format(&self) -> Format {
        self.format
    }

    fn in_count(&self) -> u64 {
        match &self.inner {
            Inner::Plain(input) => input.get_ref().count,
            Inner::Gzip(decoder) => decoder.get_ref().get_ref().count,
            Inner::Zstd(decoder) => decoder.get_ref().get_ref().count,
            Inner::Bzip2(decoder) => decoder.get_ref().get_ref().count,
            Inner::Xz(decoder) => decoder.get_ref().get_ref().count,
        }
    }

    /// Reads the compressed stream to its end, past what belongs to it: a reader below that
    /// verifies a digest must see all.
    fn drain_input(&mut self) -> io::Result<()> {
        let input = match &mut self.inner {
            Inner::Plain(input) => input,
            Inner::Gzip(decoder) => decoder.get_mut(),
            Inner::Zstd(decoder) => decoder.get_mut(),
            Inner::Bzip2(decoder) => decoder.get_mut(),
            Inner::Xz(decoder) => decoder.get_mut(),
        };
        loop {
            let count = input.fill_buf()?.len();
            if count == 0 {
                return Ok(());
            }
            input.consume(count);
        }
    }
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.inner {
            Inner::Plain(input) => input.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
            Inner::Bzip2(decoder) => decoder.read(buffer),
            Inner::Xz(decoder) => decoder.read(buffer),
        };
        let count = count.map_err(|error| broken(error, self.format))?;
        if count == 0 {
            self.drain_input()?;
            return Ok(0);
        }
        self.out_count += count as u64;
        if self.out_count > RATIO_FREE_SIZE
            && self.out_count / RATIO_MAX > self.in_count()
            && self.format != Format::Plain
        {
            let text = format!("the stream unpacks to more than {RATIO_MAX} times its size");
            return Err(Error::limit(text).into());
        }
        Ok(count)
    }
}

/// The libraries say "corrupt" in many ways; those of the input itself are left as they are.
fn broken(error: io::Error, format: Format) -> io::Error {
    let own =
        error.get_ref().is_some_and(|inner| inner.is::<conex_oci::Error>() || inner.is::<Error>());
    if own || error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    let name = match format {
        Format::Plain => return error,
        Format::Gzip => "gzip",
        Format::Zstd => "zstd",
        Format::Bzip2 => "bzip2",
        Format::Xz => "xz",
    };
    Error::document(&format!("the {name} stream"), error).into()
}
