//! Where the data of a sparse entry goes.
//!
//! Invariant of a [`Map`]: pieces are in order, do not overlap and end before the file does, and
//! their lengths add up to no more than what the archive holds.

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
