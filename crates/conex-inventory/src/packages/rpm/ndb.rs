//! Reads RPM's own database, `Packages.db`: slots in pages of 4 KiB, and blobs in blocks of 16
//! bytes that the slots point at. All numbers begin with the least significant byte.

use super::super::source::{Gathered, le32, read};
use super::{HEADER_SIZE_MAX, Take};
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8] = b"RpmP";

const PAGE_SIZE: usize = 4096;
const SLOT_SIZE: usize = 16;
const BLOCK_SIZE: u64 = 16;
const BLOB_HEADER_SIZE: usize = 16;

/// The header takes the place of the first two slots.
const HEADER_SLOT_COUNT: usize = 2;

/// Most pages of slots: 255 slots a page, for the largest number of packages that is accepted.
const SLOT_PAGE_COUNT_MAX: usize = 1024;

/// Gives the headers of all packages.
pub(super) fn blobs(file: &Gathered, take: Take<'_>) -> Result<()> {
    let broken = || Error::malformed("its header is broken");
    let header = read(file, 0, HEADER_SLOT_COUNT * SLOT_SIZE)?;
    if le32(&header, 4) != Some(0) {
        return Err(Error::malformed("it is of an unknown version"));
    }
    let page_count = le32(&header, 12).ok_or_else(broken)? as usize;
    if page_count > SLOT_PAGE_COUNT_MAX {
        return Err(Error::limit("it has more than 1,024 pages of slots"));
    }
    let slots = read(file, 0, page_count * PAGE_SIZE)?;
    // Blobs do not overlap: together they cannot have more bytes than the file.
    let mut left = file.size();
    for slot in slots.chunks_exact(SLOT_SIZE).skip(HEADER_SLOT_COUNT) {
        if !slot.starts_with(b"Slot") {
            return Err(Error::malformed("a slot has no mark"));
        }
        let fields = (le32(slot, 4), le32(slot, 8), le32(slot, 12));
        let (Some(package), Some(at), Some(block_count)) = fields else { return Err(broken()) };
        if at == 0 {
            continue;
        }
        let at = u64::from(at) * BLOCK_SIZE;
        let head = read(file, at, BLOB_HEADER_SIZE)?;
        if !head.starts_with(b"BlbS") || le32(&head, 4) != Some(package) {
            return Err(Error::malformed("a slot points at what is no package of its number"));
        }
        let size = le32(&head, 12).ok_or_else(broken)?;
        let fits = u64::from(size) <= u64::from(block_count) * BLOCK_SIZE
            && size as usize <= HEADER_SIZE_MAX;
        left = left
            .checked_sub(u64::from(size))
            .filter(|_| fits)
            .ok_or_else(|| Error::malformed("a package has an impossible size"))?;
        take(&read(file, at + BLOB_HEADER_SIZE as u64, size as usize)?)?;
    }
    Ok(())
}
