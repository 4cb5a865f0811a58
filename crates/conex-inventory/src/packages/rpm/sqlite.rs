//! Walks a table of an SQLite file: schema, B-tree, overflow pages.
//!
//! Source: "Database File Format" of SQLite. Invariant: each page is visited once at most, so the
//! walk ends whatever the pages point at, and takes as much as the file has. A write-ahead log
//! beside the file is not applied: RPM leaves an empty one when it is done.

use super::super::source::{Gathered, be16, be32, read};
use super::{HEADER_SIZE_MAX, Take};
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";

/// The file begins with this many bytes of header, before the first page's own.
const FILE_HEADER_SIZE: usize = 100;

/// Deepest B-tree: one of two gigabytes has five levels.
const DEPTH_MAX: usize = 20;

/// Longest definition of a table that is looked at.
const SCHEMA_ROW_SIZE_MAX: usize = 1 << 20;

const TABLE_INTERIOR: u8 = 5;
const TABLE_LEAF: u8 = 13;

/// Gives the headers in the table `Packages`.
pub(super) fn blobs(file: &Gathered, take: Take<'_>) -> Result<()> {
    let mut reader = Reader::open(file)?;
    let mut root = None;
    // The columns of the schema: type, name, table, root page, text.
    reader.walk(1, SCHEMA_ROW_SIZE_MAX, &mut |row| {
        let columns = columns(row)?;
        if let [Column::Bytes(b"table"), Column::Bytes(name), _, Column::Number(page), ..] =
            columns.as_slice()
            && *name == b"Packages"
        {
            root = u32::try_from(*page).ok();
        }
        Ok(())
    })?;
    let root = root.ok_or_else(|| Error::malformed("it has no table `Packages`"))?;
    // The columns: number, which is the row's own and null here, and header.
    reader.walk(root, HEADER_SIZE_MAX, &mut |row| match columns(row)?.as_slice() {
        [_, Column::Bytes(blob), ..] => take(blob),
        _ => Err(Error::malformed("the table `Packages` has other columns")),
    })
}

struct Reader<'f> {
    file: &'f Gathered,
    page_size: usize,
    /// Bytes of a page without what is reserved at its end.
    usable: usize,
    seen: Vec<bool>,
}

impl<'f> Reader<'f> {
    fn open(file: &'f Gathered) -> Result<Self> {
        let header = read(file, 0, FILE_HEADER_SIZE)?;
        let page_size = match be16(&header, 16) {
            Some(1) => 65536,
            Some(size) => usize::from(size),
            None => 0,
        };
        let reserved = usize::from(header.get(20).copied().unwrap_or(0));
        let usable = page_size.saturating_sub(reserved);
        if !page_size.is_power_of_two() || page_size < 512 || usable < 480 {
            return Err(Error::malformed("its pages have an impossible size"));
        }
        let page_count = usize::try_from(file.size() / page_size as u64).unwrap_or(0);
        Ok(Self { file, page_size, usable, seen: vec![false; page_count] })
    }

    /// A page, the first of which has the number 1.
    fn page(&mut self, number: u32) -> Result<Vec<u8>> {
        let index = (number as usize).checked_sub(1);
        let seen = index.and_then(|index| self.seen.get_mut(index));
        let seen = seen.ok_or_else(|| Error::malformed("it points at a page that is not there"))?;
        if std::mem::replace(seen, true) {
            return Err(Error::malformed("it points at a page twice"));
        }
        read(self.file, (u64::from(number) - 1) * self.page_size as u64, self.page_size)
    }

    /// Gives every row of a table.
    fn walk(&mut self, root: u32, row_size_max: usize, row: Take<'_>) -> Result<()> {
        let broken = || Error::malformed("a page of a table is broken");
        let mut todo = vec![(root, 0)];
        while let Some((number, depth)) = todo.pop() {
            if depth > DEPTH_MAX {
                return Err(Error::limit("a table is more than 20 pages deep"));
            }
            let page = self.page(number)?;
            let start = if number == 1 { FILE_HEADER_SIZE } else { 0 };
            let header = page.get(start..).unwrap_or_default();
            let kind = *header.first().ok_or_else(broken)?;
            let count = usize::from(be16(header, 3).ok_or_else(broken)?);
            let header_size = match kind {
                TABLE_INTERIOR => 12,
                TABLE_LEAF => 8,
                _ => return Err(Error::malformed("a table has a page that is none of a table")),
            };
            let mut below = Vec::new();
            for index in 0..count {
                let at = be16(header, header_size + index * 2).ok_or_else(broken)?;
                let cell = page.get(usize::from(at)..self.usable).ok_or_else(broken)?;
                if kind == TABLE_INTERIOR {
                    below.push((be32(cell, 0).ok_or_else(broken)?, depth + 1));
                } else {
                    row(&self.payload(cell, row_size_max)?)?;
                }
            }
            if kind == TABLE_INTERIOR {
                below.push((be32(header, 8).ok_or_else(broken)?, depth + 1));
            }
            todo.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// The payload of a leaf's cell, with what of it is on overflow pages.
    fn payload(&mut self, cell: &[u8], size_max: usize) -> Result<Vec<u8>> {
        let broken = || Error::malformed("a row is broken");
        let (size, rest) = varint(cell).ok_or_else(broken)?;
        let (_row, rest) = varint(rest).ok_or_else(broken)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > size_max {
            return Err(Error::limit(format!("a row has more than {size_max} bytes")));
        }
        // "Cell Payload Overflow Pages": what is too much for the page leaves the least in it.
        let local_max = self.usable - 35;
        let local = if size <= local_max {
            size
        } else {
            let least = (self.usable - 12) * 32 / 255 - 23;
            let wanted = least + (size - least) % (self.usable - 4);
            if wanted <= local_max { wanted } else { least }
        };
        let mut payload = rest.get(..local).ok_or_else(broken)?.to_vec();
        if local == size {
            return Ok(payload);
        }
        let mut next = be32(rest, local).ok_or_else(broken)?;
        while payload.len() < size {
            let page = self.page(next)?;
            next = be32(&page, 0).ok_or_else(broken)?;
            let content = page.get(4..self.usable).ok_or_else(broken)?;
            payload.extend_from_slice(&content[..content.len().min(size - payload.len())]);
        }
        Ok(payload)
    }
}

/// A value of a row.
#[derive(Debug, PartialEq)]
enum Column<'b> {
    /// Null, or a fraction.
    Other,
    Number(i64),
    /// A text or a blob.
    Bytes(&'b [u8]),
}

/// Most columns of a row that are looked at.
const COLUMN_COUNT_MAX: usize = 16;

/// The values of a row ("Record Format").
fn columns(row: &[u8]) -> Result<Vec<Column<'_>>> {
    let broken = || Error::malformed("a row is broken");
    let (header_size, rest) = varint(row).ok_or_else(broken)?;
    let header_size = usize::try_from(header_size).map_err(|_| broken())?;
    let used = row.len() - rest.len();
    let mut kinds = row.get(used..header_size).ok_or_else(broken)?;
    let mut values = row.get(header_size..).ok_or_else(broken)?;
    let mut columns = Vec::new();
    while !kinds.is_empty() && columns.len() < COLUMN_COUNT_MAX {
        let (kind, rest) = varint(kinds).ok_or_else(broken)?;
        kinds = rest;
        let size = match kind {
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from((kind - 12) / 2).map_err(|_| broken())?,
            _ => 0,
        };
        let (value, rest) = values.split_at_checked(size).ok_or_else(broken)?;
        values = rest;
        columns.push(match kind {
            1..=6 => Column::Number(number(value)),
            8 => Column::Number(0),
            9 => Column::Number(1),
            12.. => Column::Bytes(value),
            _ => Column::Other,
        });
    }
    Ok(columns)
}

/// A number in two's complement, its most significant byte first.
fn number(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |sum, byte| sum << 8 | i64::from(*byte))
}

/// A number of one to nine bytes, of which all but the ninth have seven bits.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        if at == 8 {
            return Some((value << 8 | u64::from(*byte), &bytes[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read() {
        for (bytes, expected) in [
            (&[0x05][..], Some(5)),
            (&[0x81, 0x00], Some(128)),
            (&[0xff; 9], Some(u64::MAX)),
            (&[0x80, 0x80], None),
            (&[], None),
        ] {
            assert_eq!(varint(bytes).map(|(value, _)| value), expected, "{bytes:?}");
        }
        assert_eq!(number(&[0xff, 0xfe]), -2);
        assert_eq!(number(&[0x01, 0x00]), 256);
    }
}
