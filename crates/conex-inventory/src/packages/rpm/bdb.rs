//! Reads a Berkeley DB of the kind hash, as RPM had it until 2020: `Packages`.
//!
//! Pages of one size; those of buckets hold keys and values by turns, and a value that is too large
//! for a page is a chain of overflow pages. Numbers are in the byte order of the machine that made
//! it. Invariant: each page is read once as a bucket's and once as part of a chain at most.

use super::super::source::{Gathered, be16, be32, le16, le32, read};
use super::{HEADER_SIZE_MAX, Take};
use crate::error::{Error, Result};

const HASH_MAGIC: u32 = 0x0006_1561;
const MAGIC_AT: usize = 12;

const PAGE_HEADER_SIZE: usize = 26;

const PAGE_HASH_UNSORTED: u8 = 2;
const PAGE_OVERFLOW: u8 = 7;
const PAGE_HASH: u8 = 13;

const ITEM_HERE: u8 = 1;
const ITEM_OFF_PAGE: u8 = 3;

/// Whether a file begins as such a database does.
pub(super) fn is_one(head: &[u8]) -> bool {
    [le32(head, MAGIC_AT), be32(head, MAGIC_AT)].contains(&Some(HASH_MAGIC))
}

/// Gives the headers of all packages.
pub(super) fn blobs(file: &Gathered, take: Take<'_>) -> Result<()> {
    let mut reader = Reader::open(file)?;
    for number in 1..=reader.last_page {
        let page = reader.page(number)?;
        let kind = page.get(25).copied().unwrap_or(0);
        if matches!(kind, PAGE_HASH | PAGE_HASH_UNSORTED) {
            reader.bucket(&page, take)?;
        }
    }
    Ok(())
}

struct Reader<'f> {
    file: &'f Gathered,
    is_big_endian: bool,
    page_size: usize,
    last_page: u32,
    /// Pages that a chain was seen at.
    chained: Vec<bool>,
}

impl<'f> Reader<'f> {
    fn open(file: &'f Gathered) -> Result<Self> {
        let header = read(file, 0, 72)?;
        let is_big_endian = be32(&header, MAGIC_AT) == Some(HASH_MAGIC);
        let order = |little: Option<u32>, big| if is_big_endian { big } else { little };
        let page_size = order(le32(&header, 20), be32(&header, 20)).unwrap_or(0) as usize;
        let last_page = order(le32(&header, 32), be32(&header, 32)).unwrap_or(0);
        if !page_size.is_power_of_two() || !(512..=65536).contains(&page_size) {
            return Err(Error::malformed("its pages have an impossible size"));
        }
        // The byte after the size: an encrypted one cannot be read.
        if header.get(24) != Some(&0) {
            return Err(Error::malformed("it is encrypted"));
        }
        if (u64::from(last_page) + 1) * page_size as u64 > file.size() {
            return Err(super::super::source::cut());
        }
        let chained = vec![false; last_page as usize + 1];
        Ok(Self { file, is_big_endian, page_size, last_page, chained })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Result<usize> {
        let number = if self.is_big_endian { be16(bytes, at) } else { le16(bytes, at) };
        number.map(usize::from).ok_or_else(broken)
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Result<u32> {
        let number = if self.is_big_endian { be32(bytes, at) } else { le32(bytes, at) };
        number.ok_or_else(broken)
    }

    fn page(&self, number: u32) -> Result<Vec<u8>> {
        read(self.file, u64::from(number) * self.page_size as u64, self.page_size)
    }

    /// Gives the values on a bucket's page: every second item.
    fn bucket(&mut self, page: &[u8], take: Take<'_>) -> Result<()> {
        let count = self.u16(page, 20)?;
        let offset = |index: usize| self.u16(page, PAGE_HEADER_SIZE + index * 2);
        // Items stand from the end of the page down: each ends where the one before it begins.
        let mut values = Vec::new();
        for pair in 0..count / 2 {
            let (key_at, value_at) = (offset(pair * 2)?, offset(pair * 2 + 1)?);
            let key_end = if pair == 0 { self.page_size } else { offset(pair * 2 - 1)? };
            let key = page.get(key_at..key_end).ok_or_else(broken)?;
            let value = page.get(value_at..key_at).ok_or_else(broken)?;
            // Under the number 0 is the next number that is free.
            let is_package = key.first() == Some(&ITEM_HERE) && key[1..].iter().any(|b| *b != 0);
            if is_package {
                values.push(value);
            }
        }
        for value in values {
            match value.split_first() {
                Some((&ITEM_HERE, blob)) => take(blob)?,
                Some((&ITEM_OFF_PAGE, _)) => {
                    let (first, size) = (self.u32(value, 4)?, self.u32(value, 8)?);
                    take(&self.chain(first, size as usize)?)?;
                }
                _ => return Err(Error::malformed("an item is of an unknown kind")),
            }
        }
        Ok(())
    }

    /// The bytes of a chain of overflow pages.
    fn chain(&mut self, first: u32, size: usize) -> Result<Vec<u8>> {
        if size > HEADER_SIZE_MAX {
            return Err(Error::limit("the header of a package has more than 64 MiB"));
        }
        let mut bytes = Vec::new();
        let mut next = first;
        while bytes.len() < size {
            let seen = self.chained.get_mut(next as usize).ok_or_else(broken)?;
            if next == 0 || std::mem::replace(seen, true) {
                return Err(Error::malformed("a chain of pages goes round"));
            }
            let page = self.page(next)?;
            if page.get(25) != Some(&PAGE_OVERFLOW) {
                return Err(Error::malformed("a chain of pages leads to another kind of page"));
            }
            next = self.u32(&page, 16)?;
            let length = self.u16(&page, 22)?;
            let end = PAGE_HEADER_SIZE + length;
            let content = page.get(PAGE_HEADER_SIZE..end).ok_or_else(broken)?;
            bytes.extend_from_slice(content);
        }
        bytes.truncate(size);
        Ok(bytes)
    }
}

fn broken() -> Error {
    Error::malformed("a page is broken")
}
