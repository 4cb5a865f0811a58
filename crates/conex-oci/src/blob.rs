//! Where blobs come from and go to, and the reader that lets no wrong byte through.

use std::io::{self, Read};

use crate::{Descriptor, Digest, Error, Hasher};

/// Gives the bytes of blobs.
pub trait BlobSource: Send + Sync {
    /// Opens a blob. The bytes need not be verified: wrap them in a [`VerifyReader`].
    ///
    /// # Errors
    /// The blob is not there, or cannot be read.
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>>;
}

/// Takes blobs.
pub trait BlobSink: Send + Sync {
    /// Whether the blob is there already.
    ///
    /// # Errors
    /// The sink cannot be asked.
    fn has(&self, blob: &Descriptor) -> io::Result<bool>;

    /// Takes a blob. On return it is there, whole, verified and durable.
    ///
    /// # Errors
    /// The body cannot be read, is not what the descriptor says, or cannot be kept.
    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()>;
}

/// Reads a blob and checks size and digest on the way: an end of file from this reader is proof
/// that all bytes were the promised ones. More bytes than promised are never passed on.
pub struct VerifyReader<R> {
    inner: R,
    wanted: Digest,
    size: u64,
    seen: u64,
    hasher: Option<Hasher>,
}

impl<R: Read> VerifyReader<R> {
    /// Wraps a body that should be `blob`.
    pub fn new(inner: R, blob: &Descriptor) -> Self {
        let hasher = Some(Hasher::new(blob.digest.algorithm()));
        Self { inner, wanted: blob.digest.clone(), size: blob.size, seen: 0, hasher }
    }

    fn check_end(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.seen != self.size {
            let got = self.seen.to_string();
            return Err(Error::size_mismatch(&self.wanted, self.size, &got).into());
        }
        let got = hasher.finish();
        if got != self.wanted {
            return Err(Error::digest_mismatch(&self.wanted, &got).into());
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            self.check_end()?;
            return Ok(0);
        }
        self.seen += count as u64;
        if self.seen > self.size {
            return Err(Error::size_mismatch(&self.wanted, self.size, "more").into());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    fn verified(promised: &[u8], sent: &[u8]) -> String {
        let blob = Descriptor::of(MediaType::Empty, promised);
        let mut bytes = Vec::new();
        match VerifyReader::new(sent, &blob).read_to_end(&mut bytes) {
            Ok(_) => "ok".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_the_promised_bytes_pass() {
        assert_eq!(verified(b"abc", b"abc"), "ok");
        assert_eq!(verified(b"", b""), "ok");
        assert!(verified(b"abc", b"abd").contains("has digest"));
        assert!(verified(b"abc", b"ab").contains("has 2 bytes, wanted 3"));
        assert!(verified(b"abc", b"abcd").contains("has more bytes, wanted 3"));
    }
}
