//! A file of a layer that can be read at any offset: where it lies, if the layer can be read so;
//! else in memory while it is small, in a scratch file where it is not.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use conex_elf::ReadAt;

use crate::error::{Error, Result};

/// Makes an empty file that nobody else sees and that is gone when it is closed.
pub type Scratch = fn() -> io::Result<File>;

/// What can be read at any offset by several threads.
pub type Source = Arc<dyn ReadAt + Send + Sync>;

/// Bytes kept in memory; more go to a scratch file.
const MEMORY_SIZE_MAX: usize = 8 << 20;

/// The bytes of a file, as far as they have come by.
#[derive(Default)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    /// Where everything lies, and its beginning there, if nothing had to be gathered.
    lying: Option<(Source, u64)>,
    /// Everything, once there is more than memory is given for.
    file: Option<File>,
    size: u64,
}

impl Gathered {
    /// A file whose bytes are there already.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { size: bytes.len() as u64, bytes, ..Self::default() }
    }

    /// A file that lies in a source and is read there.
    pub(crate) fn lying(source: &Source, at: u64, size: u64) -> Self {
        Self { size, lying: Some((source.clone(), at)), ..Self::default() }
    }

    /// How many bytes there are.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Makes room for the next file.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.file, self.size) = (None, 0);
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], scratch: Scratch) -> io::Result<()> {
        self.size += bytes.len() as u64;
        if self.file.is_none() && self.bytes.len() + bytes.len() <= MEMORY_SIZE_MAX {
            self.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        if self.file.is_none() {
            let mut file = scratch()?;
            file.write_all(&self.bytes)?;
            self.file = Some(file);
            self.bytes.clear();
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => Ok(()),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// It is larger than the limit, or cannot be read back.
    pub(crate) fn bytes(&self, size_max: u64) -> Result<Vec<u8>> {
        if self.size > size_max {
            return Err(Error::limit(format!("it has more than {size_max} bytes")));
        }
        read(self, 0, self.size as usize)
    }
}

impl ReadAt for Gathered {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some((source, at)) = &self.lying {
            let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let room = left.min(buffer.len());
            return source.read_at(buffer.get_mut(..room).unwrap_or_default(), at + offset);
        }
        match &self.file {
            Some(file) => ReadAt::read_at(file, buffer, offset),
            None => self.bytes.as_slice().read_at(buffer, offset),
        }
    }
}

/// Reads exactly `size` bytes. Memory is taken as the file yields, so that a size without bytes
/// behind it costs nothing.
pub(crate) fn read(source: &dyn ReadAt, offset: u64, size: usize) -> Result<Vec<u8>> {
    const STEP: usize = 1 << 20;
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let start = bytes.len();
        let step = (size - start).min(STEP);
        bytes.resize(start + step, 0);
        let position = offset.checked_add(start as u64).ok_or_else(cut)?;
        let buffer = bytes.get_mut(start..).unwrap_or_default();
        let count = source
            .read_at(buffer, position)
            .map_err(|error| Error::io("cannot read a file of the layer again", error))?;
        if count < step {
            return Err(cut());
        }
    }
    Ok(bytes)
}

pub(crate) fn cut() -> Error {
    Error::malformed("it is cut off")
}

/// A number at an offset, its least significant byte first.
pub(crate) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// A number at an offset, its least significant byte first.
pub(crate) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// A number at an offset, its least significant byte first.
pub(crate) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// A number at an offset, its most significant byte first.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// A number at an offset, its most significant byte first.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// A number at an offset, its most significant byte first.
pub(crate) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_memory_is_read_back_from_a_file() {
        let mut gathered = Gathered::default();
        let chunk: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        for _ in 0..10 {
            gathered.push(&chunk, tempfile::tempfile).unwrap();
        }
        assert!(gathered.file.is_some() && gathered.bytes.is_empty());
        assert_eq!(gathered.size(), 10 << 20);
        assert_eq!(gathered.bytes(10 << 20).unwrap(), chunk.repeat(10));
        assert!(gathered.bytes((10 << 20) - 1).is_err());
        gathered.clear();
        gathered.push(b"small", tempfile::tempfile).unwrap();
        assert_eq!(gathered.bytes(5).unwrap(), b"small");
        assert!(read(&gathered, 1, 5).is_err());
    }
}
