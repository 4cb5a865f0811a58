//! Inflates what other formats than layers keep deflated in them: members of ZIP files, sections of
//! programs.

use std::io::Read;

use flate2::bufread::{DeflateDecoder, ZlibDecoder};

use crate::error::{Error, Result};

/// What stands around a deflated stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// Nothing, as in ZIP files (RFC 1951).
    None,
    /// A header and a checksum, which is checked (RFC 1950).
    Zlib,
}

/// Inflates bytes, at most `size_max` of them.
///
/// # Errors
/// The stream is malformed or cut off, or there are more bytes in it.
pub fn inflate(bytes: &[u8], wrapping: Wrapping, size_max: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    // One byte more tells too much from just enough.
    let limit = size_max.saturating_add(1);
    let read = match wrapping {
        Wrapping::None => DeflateDecoder::new(bytes).take(limit).read_to_end(&mut out),
        Wrapping::Zlib => ZlibDecoder::new(bytes).take(limit).read_to_end(&mut out),
    };
    read.map_err(|error| Error::io("cannot inflate a part of a file", error))?;
    if out.len() as u64 > size_max {
        return Err(Error::limit(format!(
            "a part of a file inflates to more than {size_max} bytes"
        )));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn deflated_bytes_come_back_up_to_the_limit() {
        let text = b"what is deflated is inflated again, and again, and again".repeat(100);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        let size = text.len() as u64;
        assert_eq!(inflate(&zlib, Wrapping::Zlib, size).unwrap(), text);
        assert_eq!(inflate(&zlib[2..zlib.len() - 4], Wrapping::None, size).unwrap(), text);
        for (bytes, wrapping, size_max) in [
            (zlib.as_slice(), Wrapping::Zlib, size - 1),
            (&zlib[..20], Wrapping::Zlib, size),
            (zlib.as_slice(), Wrapping::None, size),
            (b"no such stream", Wrapping::Zlib, size),
        ] {
            assert!(inflate(bytes, wrapping, size_max).is_err());
        }
    }
}
