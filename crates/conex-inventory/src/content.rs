//! The content of a file as it is read from its layer again, held against what the report knows.

use std::io::{self, Read};

use crate::view::Place;

/// Reads a content and fails at its end where it is not the one that was analysed.
pub struct Verified<'r> {
    content: &'r mut dyn Read,
    hasher: blake3::Hasher,
    wanted: [u8; 16],
    is_over: bool,
}

impl Place {
    /// Reads the content of a file, which has to be the one that is known; of what is no file,
    /// nothing is known.
    pub fn verified<'r>(&self, content: &'r mut dyn Read) -> Verified<'r> {
        let wanted = self.digest.unwrap_or_default();
        let is_over = self.digest.is_none();
        Verified { content, hasher: blake3::Hasher::new(), wanted, is_over }
    }
}

impl Read for Verified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        if self.is_over || buffer.is_empty() {
            return Ok(count);
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        if count == 0 {
            self.is_over = true;
            if self.hasher.finalize().as_bytes()[..16] != self.wanted {
                let message = "the content is not the one that the layer's diff ID stands for";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_an_error_at_its_end() {
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(b"right").as_bytes()[..16]);
        let read = |digest, mut bytes: &[u8]| {
            let place = Place { layer: 0, path: b"a".to_vec(), entry: None, digest };
            let mut text = String::new();
            place.verified(&mut bytes).read_to_string(&mut text).map(|_| text)
        };
        assert_eq!(read(Some(digest), b"right").unwrap(), "right");
        assert_eq!(read(None, b"whatever").unwrap(), "whatever");
        let error = read(Some(digest), b"wrong").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
