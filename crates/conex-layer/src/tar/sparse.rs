//! Where the data of a sparse entry goes.
//!
//! Invariant of a [`Map`]: pieces are in order, do not overlap and end before the file does, and
//! their lengths add up to no more than what the archive holds.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// Most pieces in one file: a map of a million already has 24 MB in GNU's old form.
const PIECES_MAX: usize = 1 << 20;

/// The pieces of a sparse file, `(offset, length)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Map {
    pub(crate) pieces: Vec<(u64, u64)>,
    pub(crate) size: u64,
}

impl Map {
    pub(crate) fn checked(pieces: Vec<(u64, u64)>, size: u64, stored: u64) -> Result<Self> {
        let wrong = || Error::malformed("the map of a sparse file in the tar is not valid");
        if pieces.len() > PIECES_MAX {
            return Err(Error::limit("a sparse file in the tar has more than a million pieces"));
        }
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, len) in &pieces {
            if *offset < end {
                return Err(wrong());
            }
            end = offset.checked_add(*len).ok_or_else(wrong)?;
            sum = sum.checked_add(*len).ok_or_else(wrong)?;
        }
        if end > size || sum > stored {
            return Err(wrong());
        }
        let pieces = pieces.into_iter().filter(|(_, len)| *len > 0).collect();
        Ok(Self { pieces, size })
    }

    pub(crate) fn push(pieces: &mut Vec<(u64, u64)>, more: Vec<(u64, u64)>) -> Result<()> {
        if pieces.len() + more.len() > PIECES_MAX {
            return Err(Error::limit("a sparse file in the tar has more than a million pieces"));
        }
        pieces.extend(more);
        Ok(())
    }
}

/// The content of a file with its holes, from the pieces that stand in the archive.
#[derive(Debug)]
pub struct WithHoles<R> {
    input: R,
    /// The pieces that are still to come, the next one last.
    pieces: Vec<(u64, u64)>,
    at: u64,
    size: u64,
}

impl<R> WithHoles<R> {
    pub(crate) fn new(input: R, mut pieces: Vec<(u64, u64)>, size: u64) -> Self {
        pieces.reverse();
        Self { input, pieces, at: 0, size }
    }
}

impl<R: Read> Read for WithHoles<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pieces.last().is_some_and(|(start, len)| start + len <= self.at) {
            self.pieces.pop();
        }
        let (is_hole, end) = match self.pieces.last() {
            Some((start, len)) if *start <= self.at => (false, start + len),
            Some((start, _)) => (true, *start),
            None => (true, self.size),
        };
        let want = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..want).unwrap_or_default();
        let count = if is_hole {
            buffer.fill(0);
            want
        } else {
            self.input.read(buffer)?
        };
        self.at += count as u64;
        Ok(count)
    }
}

/// The map in a `GNU.sparse.map` record (PAX format 0.1): numbers with commas between.
pub(crate) fn parse_list(text: &[u8]) -> Result<Vec<(u64, u64)>> {
    let wrong = || Error::malformed("the map of a sparse file in the tar is not valid");
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let mut numbers = text.split(',').map(str::parse);
    let mut pieces = Vec::new();
    while let Some(offset) = numbers.next() {
        let offset = offset.map_err(|_| wrong())?;
        let len = numbers.next().ok_or_else(wrong)?.map_err(|_| wrong())?;
        pieces.push((offset, len));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_read_as_zeros() {
        for (pieces, size, expected) in [
            (vec![(0, 2), (4, 3)], 9, b"ab\0\0cde\0\0".as_slice()),
            (vec![(3, 5)], 8, b"\0\0\0abcde"),
            (vec![(0, 5)], 5, b"abcde"),
            (vec![], 2, b"\0\0"),
        ] {
            let mut content = Vec::new();
            let mut reader = WithHoles::new(b"abcde".as_slice(), pieces, size);
            reader.read_to_end(&mut content).unwrap();
            assert_eq!(content, expected);
        }
    }

    #[test]
    fn maps_that_overlap_or_overflow_are_refused() {
        for (pieces, size, stored, valid) in [
            (vec![], 0, 0, true),
            (vec![(0, 5), (5, 5)], 10, 10, true),
            (vec![(0, 5), (4, 5)], 10, 10, false),
            (vec![(5, 5), (0, 5)], 10, 10, false),
            (vec![(0, 5), (8, 5)], 10, 10, false),
            (vec![(u64::MAX, 5)], u64::MAX, 10, false),
            (vec![(0, 6)], 10, 5, false),
            (vec![(10, 0)], 10, 0, true),
        ] {
            let text = format!("{pieces:?}");
            assert_eq!(Map::checked(pieces, size, stored).is_ok(), valid, "{text}");
        }
        assert_eq!(parse_list(b"0,5,10,5").unwrap(), [(0, 5), (10, 5)]);
        assert!(parse_list(b"0,5,10").is_err());
        assert!(parse_list(b"").is_err());
    }
}
