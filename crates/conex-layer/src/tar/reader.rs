//! Reads tar entries from a stream that nobody vouches for.
//!
//! Invariant: the position in the stream follows from the headers by one rule only (the size of
//! an entry is that of its PAX record if there is one, else that of its header; links, devices
//! and directories have no content), so that this reader and others see the same entries.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use super::header::{BLOCK_SIZE, Block, Dialect};
use super::sparse::WithHoles;
use super::{pax, sparse};
use crate::error::{Error, Result};
use conex_sys::stat::Time;

/// Named limits of what a tar may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TarLimits {
    /// Longest path.
    pub path_len_max: usize,
    /// Most bytes of PAX records and GNU long names for one entry.
    pub header_size_max: u64,
    /// Most entries.
    pub entry_count_max: u64,
}

impl Default for TarLimits {
    /// Limits that no real archive comes near: paths of 1 MiB (a 10,000-deep tree with names of a
    /// hundred bytes), 4 MiB of records (Linux allows 64 KiB of names and 64 KiB a value), 50
    /// million entries (the largest images known have two).
    fn default() -> Self {
        Self { path_len_max: 1 << 20, header_size_max: 4 << 20, entry_count_max: 50_000_000 }
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Another name of an earlier file.
    HardLink,
    /// Symbolic link.
    Symlink,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// Directory.
    Dir,
    /// Named pipe.
    Fifo,
}

/// One entry, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of the file, with its holes.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
    /// Where the content goes, if the file has holes.
    pub(crate) sparse: Option<sparse::Map>,
}

impl Entry {
    /// Whether the file has holes, which the archive does not have in full.
    pub fn has_holes(&self) -> bool {
        self.sparse.is_some()
    }

    /// The content with its holes; `content` is the reader that gave this entry.
    pub fn with_holes<R: Read>(&self, content: R) -> WithHoles<R> {
        WithHoles::new(content, self.pieces(), self.size)
    }

    /// The pieces of the content, `(offset, length)`: one piece unless the file has holes.
    pub(crate) fn pieces(&self) -> Vec<(u64, u64)> {
        match &self.sparse {
            Some(map) => map.pieces.clone(),
            None => vec![(0, self.size)],
        }
    }
}

/// Reads a tar entry by entry; the content of the current entry is read from the reader itself.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    limits: TarLimits,
    /// Content left of the current entry, and its padding.
    left: u64,
    padding: u64,
    entry_count: u64,
    global: Records,
    ended: bool,
}

/// What PAX records say, as far as it matters.
#[derive(Debug, Default, Clone)]
struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(OsString, Vec<u8>)>,
    sparse: SparseRecords,
}

/// What PAX records say of holes; GNU tar had three forms.
#[derive(Debug, Default, Clone)]
struct SparseRecords {
    version: Option<(u64, u64)>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    list: Option<Vec<(u64, u64)>>,
}

impl<R: Read> TarReader<R> {
    /// Reads from `input`.
    pub fn new(input: R, limits: TarLimits) -> Self {
        Self {
            input,
            limits,
            left: 0,
            padding: 0,
            entry_count: 0,
            global: Records::default(),
            ended: false,
        }
    }

    /// Gives the input back, wherever it is.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// The next entry; none at the end. What is left of the current one is skipped.
    ///
    /// # Errors
    /// The archive is malformed, cut off or over a limit, or the input's.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_rest()?;
        let mut records = self.global.clone();
        let (mut long_name, mut long_link) = (None, None);
        let mut headers_size: u64 = 0;
        loop {
            if self.ended {
                return Ok(None);
            }
            let Some(block) = self.next_header()? else { return Ok(None) };
            let size = block.size().ok_or_else(|| number_error("size"))?;
            if !matches!(block.kind(), b'x' | b'X' | b'g' | b'L' | b'K') {
                self.entry_count += 1;
                if self.entry_count > self.limits.entry_count_max {
                    let max = self.limits.entry_count_max;
                    return Err(Error::limit(format!("the tar has more than {max} entries")));
                }
                if let Some(entry) = self.entry(&block, records, long_name, long_link)? {
                    return Ok(Some(entry));
                }
                // An entry of a kind that means nothing here was skipped.
                self.skip_rest()?;
                records = self.global.clone();
                (long_name, long_link) = (None, None);
                continue;
            }
            headers_size = headers_size.saturating_add(size);
            let content = self.header_content(size, headers_size)?;
            match block.kind() {
                b'g' => {
                    // Kept for all entries that follow; what a global size or path would mean, no
                    // two readers agree about.
                    let mut global = self.global.clone();
                    global.read(&content)?;
                    self.global = Records {
                        mtime: global.mtime,
                        uid: global.uid,
                        gid: global.gid,
                        ..Records::default()
                    };
                    records = Records {
                        mtime: records.mtime.or(self.global.mtime),
                        uid: records.uid.or(self.global.uid),
                        gid: records.gid.or(self.global.gid),
                        ..records
                    };
                }
                b'L' => long_name = Some(until_zero(content)),
                b'K' => long_link = Some(until_zero(content)),
                _ => records.read(&content)?,
            }
        }
    }

    /// Leaves the content of the current entry out without reading it: `skip` moves the input on,
    /// given how many bytes of content are left and how many fill it up. The content is then where
    /// the input was before.
    ///
    /// # Errors
    /// That of `skip`.
    pub fn skip_content<T>(
        &mut self,
        skip: impl FnOnce(&mut R, u64, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let (left, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        skip(&mut self.input, left, padding)
    }

    /// Reads whatever comes after the archive's end, which some writers fill up.
    ///
    /// # Errors
    /// The input's.
    pub fn drain(&mut self) -> Result<u64> {
        self.skip_rest()?;
        io::copy(&mut self.input, &mut io::sink()).map_err(read_error)
    }

    fn next_header(&mut self) -> Result<Option<Block>> {
        let Some(block) = self.read_block()? else {
            // Many writers leave the zero blocks out.
            self.ended = true;
            return Ok(None);
        };
        if block.is_zero() {
            // One zero block should be followed by another; nothing after the first counts.
            self.ended = true;
            return Ok(None);
        }
        if !block.checksum_matches() {
            return Err(Error::malformed("a header of the tar has a wrong checksum"));
        }
        Ok(Some(block))
    }

    /// Reads one block; none where the input ends before it.
    fn read_block(&mut self) -> Result<Option<Block>> {
        let mut block = Block::zeroed();
        let mut filled = 0;
        while let Some(room) = block.0.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.input.read(room) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut_off()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        Ok(Some(block))
    }

    fn header_content(&mut self, size: u64, total: u64) -> Result<Vec<u8>> {
        if total > self.limits.header_size_max {
            let max = self.limits.header_size_max;
            return Err(Error::limit(format!(
                "an entry of the tar has more than {max} bytes of extended headers"
            )));
        }
        self.set_content(size);
        let mut content = Vec::new();
        self.read_to_end(&mut content).map_err(read_error)?;
        self.skip_rest()?;
        Ok(content)
    }

    fn set_content(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK_SIZE as u64 - size % BLOCK_SIZE as u64) % BLOCK_SIZE as u64;
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut count = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let mut buffer = [0; 8 << 10];
        while count > 0 {
            let want = usize::try_from(count).unwrap_or(usize::MAX).min(buffer.len());
            match self.input.read(buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) => return Err(cut_off()),
                Ok(read) => count -= read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        Ok(())
    }

    /// Makes an entry of a header and what came before it; none for a kind to be skipped.
    fn entry(
        &mut self,
        block: &Block,
        records: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Option<Entry>> {
        let stored = block.size().ok_or_else(|| number_error("size"))?;
        let stored = records.size.unwrap_or(stored);
        let path = records.path.or(long_name).unwrap_or_else(|| block.name());
        let kind = match block.kind() {
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' | b'D' => EntryKind::Dir,
            b'6' => EntryKind::Fifo,
            // Before ustar a directory was a file whose name ends with a slash.
            b'\0' | b'0' if path.ends_with(b"/") => EntryKind::Dir,
            b'\0' | b'0' | b'7' | b'S' => EntryKind::File,
            // Volume labels and parts of multi-volume archives, and whatever else vendors have.
            _ => {
                self.set_content(stored);
                return Ok(None);
            }
        };
        // A link or device may claim a size, without content; only `D` (GNU's directory with a
        // list of names) has some.
        let has_content = kind == EntryKind::File || block.kind() == b'D';
        self.set_content(if has_content { stored } else { 0 });
        let mut size = if kind == EntryKind::File { stored } else { 0 };
        let (mut path, mut map) = (path, None);
        if block.kind() == b'S' && block.dialect() == Dialect::Gnu {
            map = Some(self.gnu_map(block, stored)?);
        } else if kind == EntryKind::File {
            if let Some(name) = records.sparse.name.clone() {
                path = name;
            }
            map = self.pax_map(records.sparse, stored)?;
        }
        if let Some(map) = &map {
            size = map.size;
        }
        if path.len() > self.limits.path_len_max {
            let max = self.limits.path_len_max;
            return Err(Error::limit(format!("a path in the tar has more than {max} bytes")));
        }
        let id = |record: Option<u64>, field: Option<u64>, what| {
            let value = record.or(field).ok_or_else(|| number_error(what))?;
            let value = u32::try_from(value).ok().filter(|id| *id != u32::MAX);
            value.ok_or_else(|| number_error(what))
        };
        let mtime = match records.mtime {
            Some((seconds, nanos)) => Time { seconds, nanos },
            None => Time::from_seconds(block.mtime().ok_or_else(|| number_error("time"))?),
        };
        let mode = block.mode().ok_or_else(|| number_error("mode"))?;
        let device = match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                block.device().ok_or_else(|| number_error("device"))?
            }
            _ => (0, 0),
        };
        Ok(Some(Entry {
            path,
            kind,
            link: records.link.or(long_link).unwrap_or_else(|| block.link().to_vec()),
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: id(records.uid, block.uid(), "owner")?,
            gid: id(records.gid, block.gid(), "group")?,
            size,
            mtime,
            device,
            xattrs: records.xattrs,
            sparse: map,
        }))
    }

    fn gnu_map(&mut self, block: &Block, stored: u64) -> Result<sparse::Map> {
        let (mut pieces, mut more) = block.gnu_sparse();
        while more {
            let block = self.read_block()?.ok_or_else(cut_off)?;
            let (next, again) = block.gnu_sparse_more();
            sparse::Map::push(&mut pieces, next)?;
            more = again;
        }
        let size = block.gnu_real_size().ok_or_else(|| number_error("size"))?;
        sparse::Map::checked(pieces, size, stored)
    }

    fn pax_map(&mut self, records: SparseRecords, stored: u64) -> Result<Option<sparse::Map>> {
        if records.version == Some((1, 0)) {
            let size = records.size.ok_or_else(|| number_error("size"))?;
            let pieces = self.inline_map()?;
            return sparse::Map::checked(pieces, size, stored).map(Some);
        }
        let Some(size) = records.size else { return Ok(None) };
        let pieces = match records.list {
            Some(list) => list,
            None if records.offsets.len() == records.lengths.len() => {
                records.offsets.into_iter().zip(records.lengths).collect()
            }
            None => return Err(Error::malformed("the map of a sparse file in the tar is cut off")),
        };
        sparse::Map::checked(pieces, size, stored).map(Some)
    }

    /// PAX format 1.0: the map stands before the content, decimal numbers on lines of their own,
    /// filled up to a block.
    fn inline_map(&mut self) -> Result<Vec<(u64, u64)>> {
        let mut text = MapText { block: [0; BLOCK_SIZE], at: BLOCK_SIZE };
        let count = text.number(self)?;
        let mut pieces = Vec::new();
        for _ in 0..count {
            let piece = (text.number(self)?, text.number(self)?);
            sparse::Map::push(&mut pieces, vec![piece])?;
        }
        Ok(pieces)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let count = self.input.read(buffer.get_mut(..want).unwrap_or_default())?;
        if count == 0 {
            return Err(cut_off().into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

struct MapText {
    block: [u8; BLOCK_SIZE],
    at: usize,
}

impl MapText {
    fn number<R: Read>(&mut self, reader: &mut TarReader<R>) -> Result<u64> {
        let wrong = || Error::malformed("the map of a sparse file in the tar is not valid");
        let mut value: Option<u64> = None;
        loop {
            if self.at == BLOCK_SIZE {
                reader.read_exact(&mut self.block).map_err(read_error)?;
                self.at = 0;
            }
            let byte = *self.block.get(self.at).ok_or_else(wrong)?;
            self.at += 1;
            match byte {
                b'\n' => return value.ok_or_else(wrong),
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    let next = value.unwrap_or(0).checked_mul(10);
                    value = Some(next.and_then(|next| next.checked_add(digit)).ok_or_else(wrong)?);
                }
                _ => return Err(wrong()),
            }
        }
    }
}

impl Records {
    fn read(&mut self, content: &[u8]) -> Result<()> {
        for (key, value) in pax::parse(content)? {
            match key {
                b"path" => self.path = text(value)?,
                b"linkpath" => self.link = text(value)?,
                // An empty value takes back what an earlier record said.
                b"size" => self.size = number(value)?,
                b"uid" => self.uid = number(value)?,
                b"gid" => self.gid = number(value)?,
                b"mtime" if value.is_empty() => self.mtime = None,
                b"mtime" => self.mtime = Some(pax::time(value)?),
                b"GNU.sparse.major" => self.sparse.set_version(Some(pax::whole(value)?), None),
                b"GNU.sparse.minor" => self.sparse.set_version(None, Some(pax::whole(value)?)),
                b"GNU.sparse.name" => self.sparse.name = text(value)?,
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = number(value)?,
                b"GNU.sparse.offset" => self.sparse.offsets.push(pax::whole(value)?),
                b"GNU.sparse.numbytes" => self.sparse.lengths.push(pax::whole(value)?),
                b"GNU.sparse.map" if value.is_empty() => self.sparse.list = Some(Vec::new()),
                b"GNU.sparse.map" => self.sparse.list = Some(sparse::parse_list(value)?),
                _ => self.read_xattr(key, value),
            }
        }
        Ok(())
    }

    fn read_xattr(&mut self, key: &[u8], value: &[u8]) {
        let Some(name) = key.strip_prefix(pax::XATTR_PREFIX) else { return };
        if name.is_empty() || name.contains(&0) {
            return;
        }
        let name = OsString::from_vec(name.to_vec());
        self.xattrs.retain(|(known, _)| *known != name);
        self.xattrs.push((name, value.to_vec()));
    }
}

impl SparseRecords {
    fn set_version(&mut self, major: Option<u64>, minor: Option<u64>) {
        let (old_major, old_minor) = self.version.unwrap_or((0, 0));
        self.version = Some((major.unwrap_or(old_major), minor.unwrap_or(old_minor)));
    }
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return Err(Error::malformed("a name in a PAX header of the tar has a zero byte"));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8]) -> Result<Option<u64>> {
    if value.is_empty() { Ok(None) } else { pax::whole(value).map(Some) }
}

fn until_zero(mut content: Vec<u8>) -> Vec<u8> {
    if let Some(end) = content.iter().position(|byte| *byte == 0) {
        content.truncate(end);
    }
    content
}

fn number_error(what: &str) -> Error {
    Error::malformed(format!("the {what} of an entry in the tar is not a valid number"))
}

fn cut_off() -> Error {
    Error::malformed("the tar is cut off")
}

fn read_error(error: io::Error) -> Error {
    Error::io("cannot read the tar", error)
}
