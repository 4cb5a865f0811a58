//! Reads ZIP archives through their directory, which stands at their end.
//!
//! Source: PKWARE's APPNOTE. What stands before the archive (a script that starts it) is passed
//! over. Invariant: what is taken out of one archive, and out of those in it, has a budget that
//! grows with its size, so that members that lie over each other cannot make much of little.

use std::borrow::Cow;

use conex_elf::ReadAt;
use conex_layer::{Wrapping, inflate};

use super::source::{cut, le16, le32, le64, read};
use crate::error::{Error, Result};

/// Largest directory: one of a million members has some hundred MiB.
const DIRECTORY_SIZE_MAX: u64 = 128 << 20;

const END_SIZE: usize = 22;
const COMMENT_SIZE_MAX: usize = 65_535;
const ENTRY_SIZE: usize = 46;
const LOCAL_SIZE: usize = 30;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Encrypted, in either way there is.
const ENCRYPTED: u16 = 1 | 1 << 6;

/// Bytes that may be taken out for each byte of the archive, and for any archive.
const BUDGET_RATIO: u64 = 16;
const BUDGET_MIN: u64 = 4 << 20;

/// An archive.
pub(super) struct Zip<'f> {
    source: &'f dyn ReadAt,
    directory: Vec<u8>,
    /// What stands before the archive.
    base: u64,
}

/// A member of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member<'z> {
    pub(super) name: &'z [u8],
    pub(super) size: u64,
    packed_size: u64,
    method: u16,
    flags: u16,
    at: u64,
}

/// What may still be taken out.
pub(super) struct Budget(u64);

impl Budget {
    /// For an archive of a size.
    pub(super) fn of(size: u64) -> Self {
        Self(size.saturating_mul(BUDGET_RATIO).max(BUDGET_MIN))
    }
}

impl<'f> Zip<'f> {
    /// Reads the directory of an archive.
    pub(super) fn open(source: &'f dyn ReadAt, size: u64) -> Result<Self> {
        let no_end = || Error::malformed("it has no end of a ZIP archive");
        let tail_size = size.min((END_SIZE + COMMENT_SIZE_MAX) as u64) as usize;
        let tail = read(source, size - tail_size as u64, tail_size)?;
        let last = tail.len().checked_sub(END_SIZE).ok_or_else(no_end)?;
        // Behind it there is its comment and nothing else: an archive in the archive has one, too.
        let is_end = |at: &usize| {
            let comment = le16(&tail, at + 20).map(usize::from);
            tail[*at..].starts_with(b"PK\x05\x06")
                && comment.is_some_and(|size| at + END_SIZE + size == tail.len())
        };
        let end = (0..=last).rev().find(is_end);
        let end = end.ok_or_else(no_end)?;
        let end_at = size - tail_size as u64 + end as u64;
        let field = |at: usize| le32(&tail, end + at).map(u64::from).ok_or_else(cut);
        let (mut directory_size, mut directory_at) = (field(12)?, field(16)?);
        let mut directory_end = end_at;
        if directory_at == u64::from(u32::MAX) || directory_size == u64::from(u32::MAX) {
            // The larger form stands before the locator that stands before the end.
            let locator = end_at.checked_sub(20).ok_or_else(no_end)?;
            let bytes = read(source, locator, 20)?;
            let at = le64(&bytes, 8).filter(|_| bytes.starts_with(b"PK\x06\x07"));
            let at = at.ok_or_else(no_end)?;
            let bytes = read(source, at, 56)?;
            let fields = (le64(&bytes, 40), le64(&bytes, 48));
            let (Some(larger_size), Some(larger_at)) = fields else { return Err(cut()) };
            (directory_size, directory_at, directory_end) = (larger_size, larger_at, at);
        }
        if directory_size > DIRECTORY_SIZE_MAX {
            return Err(Error::limit("the directory of a ZIP archive has more than 128 MiB"));
        }
        let start = directory_end.checked_sub(directory_size).ok_or_else(no_end)?;
        let base = start.checked_sub(directory_at).ok_or_else(no_end)?;
        let directory = read(source, start, directory_size as usize)?;
        Ok(Self { source, directory, base })
    }

    /// The members, as far as the directory is sound.
    pub(super) fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let mut rest = self.directory.as_slice();
        std::iter::from_fn(move || {
            let (member, next) = Member::parse(rest)?;
            rest = next;
            Some(member)
        })
    }

    /// Where the bytes of a member begin, packed as they are.
    fn start(&self, member: &Member<'_>) -> Result<u64> {
        let at = self.base.checked_add(member.at).ok_or_else(cut)?;
        let local = read(self.source, at, LOCAL_SIZE)?;
        let (name, extra) = (le16(&local, 26), le16(&local, 28));
        let (Some(name), Some(extra)) = (name, extra) else { return Err(cut()) };
        if !local.starts_with(b"PK\x03\x04") {
            return Err(Error::malformed("a member of a ZIP archive is not where it should be"));
        }
        Ok(at + (LOCAL_SIZE + usize::from(name) + usize::from(extra)) as u64)
    }

    /// The content of a member; where it is stored as it is, the place of it.
    pub(super) fn content(
        &self,
        member: &Member<'_>,
        size_max: u64,
        budget: &mut Budget,
    ) -> Result<Content<'f>> {
        if member.flags & ENCRYPTED != 0 {
            return Err(Error::malformed("a member of a ZIP archive is encrypted"));
        }
        let too_much = || Error::limit("a member of a ZIP archive is too large");
        let cost = member.size.max(member.packed_size);
        budget.0 = budget.0.checked_sub(cost).ok_or_else(too_much)?;
        let start = self.start(member)?;
        match member.method {
            STORED => {
                let slice = Slice { source: self.source, at: start, size: member.packed_size };
                Ok(Content::There(slice))
            }
            DEFLATED => {
                if member.size > size_max || member.packed_size > size_max {
                    return Err(too_much());
                }
                let packed = read(self.source, start, member.packed_size as usize)?;
                let bytes = inflate(&packed, Wrapping::None, member.size).map_err(Error::layer)?;
                Ok(Content::Inflated(bytes))
            }
            _ => Err(Error::malformed("a member of a ZIP archive is compressed in another way")),
        }
    }
}

/// The content of a member.
pub(super) enum Content<'f> {
    /// It is in the archive as it is.
    There(Slice<'f>),
    Inflated(Vec<u8>),
}

impl Content<'_> {
    /// All of it.
    pub(super) fn bytes(&self, size_max: u64) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::There(slice) if slice.size > size_max => {
                Err(Error::limit("a member of a ZIP archive is too large"))
            }
            Self::There(slice) => Ok(Cow::Owned(read(slice, 0, slice.size as usize)?)),
            Self::Inflated(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }
}

/// A part of a file.
pub(super) struct Slice<'f> {
    source: &'f dyn ReadAt,
    at: u64,
    pub(super) size: u64,
}

impl ReadAt for Slice<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let left = self.size.saturating_sub(offset);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(at) = self.at.checked_add(offset) else { return Ok(0) };
        self.source.read_at(buffer.get_mut(..room).unwrap_or_default(), at)
    }
}

impl<'z> Member<'z> {
    fn parse(bytes: &'z [u8]) -> Option<(Self, &'z [u8])> {
        let (head, rest) = bytes.split_at_checked(ENTRY_SIZE)?;
        if !head.starts_with(b"PK\x01\x02") {
            return None;
        }
        let length = |at: usize| le16(head, at).map(usize::from);
        let (name, rest) = rest.split_at_checked(length(28)?)?;
        let (extra, rest) = rest.split_at_checked(length(30)?)?;
        let (_, rest) = rest.split_at_checked(length(32)?)?;
        let mut member = Self {
            name,
            size: le32(head, 24)?.into(),
            packed_size: le32(head, 20)?.into(),
            method: le16(head, 10)?,
            flags: le16(head, 8)?,
            at: le32(head, 42)?.into(),
        };
        member.widen(extra);
        Some((member, rest))
    }

    /// Takes the larger numbers from the field for them: only those that are asked for are there.
    fn widen(&mut self, mut extra: &[u8]) {
        while let (Some(id), Some(size)) = (le16(extra, 0), le16(extra, 2)) {
            let Some(field) = extra.get(4..4 + usize::from(size)) else { return };
            extra = &extra[4 + usize::from(size)..];
            if id != 1 {
                continue;
            }
            let mut at = 0;
            for number in [&mut self.size, &mut self.packed_size, &mut self.at] {
                if *number == u64::from(u32::MAX)
                    && let Some(larger) = le64(field, at)
                {
                    (*number, at) = (larger, at + 8);
                }
            }
        }
    }
}
