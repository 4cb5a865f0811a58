//! Writes tar entries: one way for each, whatever machine.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use super::header::{
    BLOCK_SIZE, Block, LINK_LEN_MAX, Numbers, OCTAL_8_MAX, OCTAL_12_MAX, split_name,
};
use super::pax;

/// The header of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryHeader {
    /// The path, without a slash in front; that of a directory ends with one.
    pub path: Vec<u8>,
    /// The kind of entry, as the header has it (`0` file, `1` hard link, `2` symbolic link, `3`
    /// and `4` devices, `5` directory, `6` pipe).
    pub kind: u8,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of the content.
    pub size: u64,
    /// Modification time in whole seconds since 1970.
    pub mtime: i64,
    /// Numbers of a device.
    pub device: (u32, u32),
    /// Extended attributes, in the order in which they are written.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

impl EntryHeader {
    /// A regular file of root's, readable by all, from the beginning of 1970.
    pub fn file(path: impl Into<Vec<u8>>, size: u64) -> Self {
        Self {
            path: path.into(),
            kind: b'0',
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    /// A directory of root's, from the beginning of 1970. The path ends with a slash.
    pub fn dir(path: impl Into<Vec<u8>>) -> Self {
        Self { kind: b'5', mode: 0o755, ..Self::file(path, 0) }
    }

    /// Adds the blocks of this header to a buffer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut records = Vec::new();
        let ascii = |text: &[u8]| text.iter().all(u8::is_ascii);
        let split = split_name(&self.path).filter(|_| ascii(&self.path));
        if split.is_none() {
            pax::push(&mut records, b"path", &self.path);
        }
        let short_link = self.link.len() <= LINK_LEN_MAX && ascii(&self.link);
        if !short_link {
            pax::push(&mut records, b"linkpath", &self.link);
        }
        let mut fits = |key: &[u8], value: u64, max: u64| {
            if value > max {
                pax::push(&mut records, key, value.to_string().as_bytes());
                return 0;
            }
            value
        };
        let size = fits(b"size", self.size, OCTAL_12_MAX);
        let uid = fits(b"uid", self.uid.into(), OCTAL_8_MAX);
        let gid = fits(b"gid", self.gid.into(), OCTAL_8_MAX);
        let mtime = match u64::try_from(self.mtime) {
            Ok(mtime) if mtime <= OCTAL_12_MAX => mtime,
            _ => {
                pax::push(&mut records, b"mtime", self.mtime.to_string().as_bytes());
                0
            }
        };
        for (name, value) in &self.xattrs {
            let key = [pax::XATTR_PREFIX, name.as_bytes()].concat();
            pax::push(&mut records, &key, value);
        }
        if !records.is_empty() {
            encode_records(&records, &self.path, out);
        }
        let mut block = Block::zeroed();
        match split {
            Some((prefix, name)) => block.set_name(name, prefix),
            None => block.set_name(&plain_name(&self.path), b""),
        }
        if short_link {
            block.set_link(&self.link);
        }
        block.set_kind(self.kind);
        let Self { mode, device, .. } = *self;
        block.set_numbers(&Numbers { mode, uid, gid, size, mtime, device });
        block.finish();
        out.extend_from_slice(&block.0);
    }
}

fn encode_records(records: &[u8], path: &[u8], out: &mut Vec<u8>) {
    let mut block = Block::zeroed();
    let mut name = b"PaxHeaders.0/".to_vec();
    name.extend_from_slice(&plain_name(path));
    name.truncate(100);
    block.set_name(&name, b"");
    block.set_kind(b'x');
    let size = records.len() as u64;
    block.set_numbers(&Numbers { mode: 0o644, size, ..Numbers::default() });
    block.finish();
    out.extend_from_slice(&block.0);
    out.extend_from_slice(records);
    pad(out, records.len() as u64);
}

/// What stands in the name field when the name is in a record: the last part as far as it goes,
/// for readers that do not know PAX. Bytes that are not ASCII become underscores.
fn plain_name(path: &[u8]) -> Vec<u8> {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    let last = trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let ascii = |byte: &u8| if byte.is_ascii() { *byte } else { b'_' };
    last.iter().map(ascii).take(80).collect()
}

/// Adds zeros up to the end of a block.
pub(crate) fn pad(out: &mut Vec<u8>, size: u64) {
    let over = usize::try_from(size % BLOCK_SIZE as u64).unwrap_or(0);
    if over > 0 {
        out.resize(out.len() + BLOCK_SIZE - over, 0);
    }
}

/// Writes a tar entry by entry.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    /// Content still to come for the last entry, and its padding.
    left: u64,
    padding: usize,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0, buffer: Vec::new() }
    }

    /// Starts an entry. Its content is then written to the writer itself.
    ///
    /// # Errors
    /// The one before is not complete, or the output's.
    pub fn start(&mut self, header: &EntryHeader) -> io::Result<()> {
        self.end_entry()?;
        self.buffer.clear();
        header.encode(&mut self.buffer);
        self.left = header.size;
        let over = usize::try_from(header.size % BLOCK_SIZE as u64).unwrap_or(0);
        self.padding = if over == 0 { 0 } else { BLOCK_SIZE - over };
        self.out.write_all(&self.buffer)
    }

    /// Writes an entry whose content is at hand.
    ///
    /// # Errors
    /// The output's.
    pub fn append(&mut self, header: &EntryHeader, content: &[u8]) -> io::Result<()> {
        self.start(header)?;
        self.write_all(content)
    }

    /// Ends the archive with its two zero blocks and gives the output back.
    ///
    /// # Errors
    /// The last entry is not complete, or the output's.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_entry()?;
        self.out.write_all(&[0; 2 * BLOCK_SIZE])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_entry(&mut self) -> io::Result<()> {
        if self.left > 0 {
            let text = format!("the content of a tar entry is {} bytes too short", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all([0; BLOCK_SIZE].get(..padding).unwrap_or_default())
    }
}

impl<W: Write> Write for TarWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if want == 0 && !bytes.is_empty() {
            return Err(io::Error::other(
                "the content of a tar entry is longer than its header says",
            ));
        }
        let count = self.out.write(bytes.get(..want).unwrap_or_default())?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
