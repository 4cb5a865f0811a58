//! Reads from an ELF file what its loader would read: the interpreter and the dynamic section.
//!
//! Sources: System V ABI (gABI) chapters 4 and 5, `elf(5)`. Sections are ignored, as the loader
//! ignores them, so stripped files read the same.
//!
//! Every offset and size in the file is hostile: reads are bounded by the limits below and by the
//! file, sums are checked, and whatever does not fit is an error. No relocation, symbol version or
//! code is looked at.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::Error;

/// Most program headers accepted. The largest files in practice have about 20; `PN_XNUM` (0xffff)
/// means "more than fits here" and is used by core dumps only.
pub(crate) const PROGRAM_HEADER_COUNT_MAX: usize = 4096;
/// Most entries of the dynamic section accepted: a program with 1,000 libraries has fewer.
pub(crate) const DYNAMIC_COUNT_MAX: usize = 16_384;
/// Longest interpreter path, library name or search path accepted: Linux's `PATH_MAX`, and for
/// search paths several of them.
pub(crate) const STRING_SIZE_MAX: usize = 16_384;
/// Largest dynamic string table searched for symbol names: those of browsers reach 20 MB.
pub(crate) const STRING_TABLE_SIZE_MAX: u64 = 64 << 20;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
/// `DF_1_NODEFLIB`: the default folders are not searched for this file's libraries.
const DF_1_NODEFLIB: u64 = 0x800;

/// Bytes that can be read at any offset.
pub trait ReadAt {
    /// Reads into `buffer` from `offset`; fewer bytes than asked mean the end of the bytes.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(position) = offset.checked_add(done as u64) else { break };
            match FileExt::read_at(self, rest, position) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let rest = self.get(start..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

/// The width of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

/// The order of bytes in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endianness {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// Which files can be loaded together: those of one machine, width and byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Linkage {
    /// The width of addresses.
    pub class: Class,
    /// The order of bytes.
    pub endianness: Endianness,
    /// The number of the machine (`EM_X86_64` is 62).
    pub machine: u16,
}

/// What the loader reads of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// Which files it can be loaded with.
    pub linkage: Linkage,
    /// The loader it asks for; none in static programs and in most libraries.
    pub interpreter: Option<String>,
    /// The name by which others need it.
    pub soname: Option<String>,
    /// The names of the libraries it needs, in order.
    pub needed: Vec<String>,
    /// `DT_RPATH`: folders for this file's libraries and for those of its libraries.
    pub rpath: Vec<String>,
    /// `DT_RUNPATH`: folders for this file's own libraries.
    pub runpath: Vec<String>,
    /// Whether the machine's default folders are to be left out.
    pub no_default_folders: bool,
    /// The table of names used in dynamic linking, NUL-terminated each.
    strings: Vec<u8>,
}

impl Elf {
    /// Whether the first bytes are those of an ELF file.
    pub fn has_magic(bytes: &[u8]) -> bool {
        bytes.starts_with(b"\x7fELF")
    }

    /// Reads a file's program headers and dynamic section.
    pub fn parse(source: &(impl ReadAt + ?Sized)) -> Result<Self, Error> {
        let header = Header::read(source)?;
        let segments = header.segments(source)?;
        let mut elf = Self {
            linkage: header.linkage,
            interpreter: None,
            soname: None,
            needed: Vec::new(),
            rpath: Vec::new(),
            runpath: Vec::new(),
            no_default_folders: false,
            strings: Vec::new(),
        };
        if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
            let size = bounded(segment.file_size, STRING_SIZE_MAX as u64, "interpreter path")?;
            let bytes = read(source, segment.offset, size)?;
            elf.interpreter = Some(string_at(&bytes, 0, "interpreter path")?);
        }
        if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
            elf.read_dynamic(source, &header, &segments, segment)?;
        }
        Ok(elf)
    }

    /// Whether one of some names stands in the dynamic string table: true if a symbol or a version
    /// of that name is defined or asked for. (Linkers may let a name be the tail of a longer one,
    /// which this misses and which is rare for the names of functions.)
    pub fn names_any(&self, symbols: &[&str]) -> bool {
        self.strings
            .split(|byte| *byte == 0)
            .any(|name| symbols.iter().any(|symbol| name == symbol.as_bytes()))
    }

    fn read_dynamic(
        &mut self,
        source: &(impl ReadAt + ?Sized),
        header: &Header,
        segments: &[Segment],
        dynamic: &Segment,
    ) -> Result<(), Error> {
        let entries = dynamic_entries(source, header, dynamic)?;
        let value = |tag| entries.iter().find(|(found, _)| *found == tag).map(|(_, value)| *value);
        self.no_default_folders = value(DT_FLAGS_1).unwrap_or(0) & DF_1_NODEFLIB != 0;
        let (Some(address), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
            // Without names nothing can be needed.
            return Ok(());
        };
        let size = bounded(size, STRING_TABLE_SIZE_MAX, "dynamic string table")?;
        let offset = file_offset(segments, address)
            .ok_or_else(|| Error::not_elf("the dynamic string table is in no loaded segment"))?;
        self.strings = read(source, offset, size)?;
        for (tag, value) in entries {
            match tag {
                DT_NEEDED => self.needed.push(string_at(&self.strings, value, "library name")?),
                DT_SONAME => self.soname = Some(string_at(&self.strings, value, "library name")?),
                DT_RPATH => self.rpath = self.search_path(value)?,
                DT_RUNPATH => self.runpath = self.search_path(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn search_path(&self, offset: u64) -> Result<Vec<String>, Error> {
        let text = string_at(&self.strings, offset, "search path")?;
        Ok(text.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }
}

/// The fields of the ELF header that lead to the program headers.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) linkage: Linkage,
    program_headers: u64,
    program_header_size: usize,
    program_header_count: usize,
}

impl Header {
    pub(crate) fn read(source: &(impl ReadAt + ?Sized)) -> Result<Self, Error> {
        let mut bytes = [0; 64];
        let count = source.read_at(&mut bytes, 0).map_err(|error| read_failed(&error))?;
        let bytes = bytes.get(..count).unwrap_or_default();
        if !Elf::has_magic(bytes) {
            return Err(Error::not_elf("it does not begin with the ELF magic number"));
        }
        let class = match bytes.get(4) {
            Some(1) => Class::Bits32,
            Some(2) => Class::Bits64,
            _ => return Err(Error::not_elf("its class is neither 32 nor 64 bits")),
        };
        let endianness = match bytes.get(5) {
            Some(1) => Endianness::Little,
            Some(2) => Endianness::Big,
            _ => return Err(Error::not_elf("its byte order is neither little nor big")),
        };
        let fields = Fields { bytes, class, endianness };
        let (phoff, phentsize, phnum) = match class {
            Class::Bits32 => (fields.u32(28).map(u64::from), fields.u16(42), fields.u16(44)),
            Class::Bits64 => (fields.u64(32), fields.u16(54), fields.u16(56)),
        };
        let linkage = fields.u16(18).map(|machine| Linkage { class, endianness, machine });
        let (Some(linkage), Some(program_headers), Some(size), Some(count)) =
            (linkage, phoff, phentsize, phnum)
        else {
            return Err(Error::not_elf("its header is cut short"));
        };
        let (size, count) = (usize::from(size), usize::from(count));
        if count > PROGRAM_HEADER_COUNT_MAX {
            return Err(Error::too_much(
                "program headers in an ELF file",
                PROGRAM_HEADER_COUNT_MAX,
            ));
        }
        let size_min = if class == Class::Bits32 { 32 } else { 56 };
        if count > 0 && !(size_min..=256).contains(&size) {
            return Err(Error::not_elf("its program headers have an impossible size"));
        }
        Ok(Self {
            linkage,
            program_headers,
            program_header_size: size,
            program_header_count: count,
        })
    }

    pub(crate) fn segments(&self, source: &(impl ReadAt + ?Sized)) -> Result<Vec<Segment>, Error> {
        if self.program_header_count == 0 {
            return Ok(Vec::new());
        }
        let size = self.program_header_size * self.program_header_count;
        let bytes = read(source, self.program_headers, size)?;
        bytes
            .chunks_exact(self.program_header_size)
            .map(|chunk| {
                Segment::from_fields(&self.fields(chunk))
                    .ok_or_else(|| Error::not_elf("a program header is cut short"))
            })
            .collect()
    }

    pub(crate) fn fields<'b>(&self, bytes: &'b [u8]) -> Fields<'b> {
        Fields { bytes, class: self.linkage.class, endianness: self.linkage.endianness }
    }
}

/// One program header.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    address: u64,
    pub(crate) file_size: u64,
}

impl Segment {
    fn from_fields(fields: &Fields<'_>) -> Option<Self> {
        let kind = fields.u32(0)?;
        Some(match fields.class {
            Class::Bits32 => Self {
                kind,
                flags: fields.u32(24)?,
                offset: fields.u32(4)?.into(),
                address: fields.u32(8)?.into(),
                file_size: fields.u32(16)?.into(),
            },
            Class::Bits64 => Self {
                kind,
                flags: fields.u32(4)?,
                offset: fields.u64(8)?,
                address: fields.u64(16)?,
                file_size: fields.u64(32)?,
            },
        })
    }
}

/// Numbers at offsets, of the file's width and byte order.
pub(crate) struct Fields<'b> {
    bytes: &'b [u8],
    class: Class,
    endianness: Endianness,
}

impl Fields<'_> {
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..)?.first_chunk::<N>().copied()
    }

    pub(crate) fn u16(&self, offset: usize) -> Option<u16> {
        let bytes = self.array(offset)?;
        Some(match self.endianness {
            Endianness::Little => u16::from_le_bytes(bytes),
            Endianness::Big => u16::from_be_bytes(bytes),
        })
    }

    pub(crate) fn u32(&self, offset: usize) -> Option<u32> {
        let bytes = self.array(offset)?;
        Some(match self.endianness {
            Endianness::Little => u32::from_le_bytes(bytes),
            Endianness::Big => u32::from_be_bytes(bytes),
        })
    }

    pub(crate) fn u64(&self, offset: usize) -> Option<u64> {
        let bytes = self.array(offset)?;
        Some(match self.endianness {
            Endianness::Little => u64::from_le_bytes(bytes),
            Endianness::Big => u64::from_be_bytes(bytes),
        })
    }

    /// A number of the file's width, by its index among such numbers.
    fn word(&self, index: usize) -> Option<u64> {
        match self.class {
            Class::Bits32 => self.u32(index * 4).map(u64::from),
            Class::Bits64 => self.u64(index * 8),
        }
    }
}

/// The dynamic section up to its end mark, as pairs of tag and value.
fn dynamic_entries(
    source: &(impl ReadAt + ?Sized),
    header: &Header,
    dynamic: &Segment,
) -> Result<Vec<(u64, u64)>, Error> {
    let entry_size = if header.linkage.class == Class::Bits32 { 8 } else { 16 };
    let size_max = (DYNAMIC_COUNT_MAX * entry_size) as u64;
    let size = bounded(dynamic.file_size, size_max, "dynamic section")?;
    let bytes = read(source, dynamic.offset, size)?;
    let mut entries = Vec::new();
    for chunk in bytes.chunks_exact(entry_size) {
        let fields = header.fields(chunk);
        match (fields.word(0), fields.word(1)) {
            (Some(DT_NULL), _) | (None, _) | (_, None) => break,
            (Some(tag), Some(value)) => entries.push((tag, value)),
        }
    }
    Ok(entries)
}

/// Where in the file the byte for an address stands.
pub(crate) fn file_offset(segments: &[Segment], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.kind == PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.address)?;
        (within < segment.file_size).then(|| segment.offset.checked_add(within))?
    })
}

fn bounded(size: u64, size_max: u64, what: &str) -> Result<usize, Error> {
    usize::try_from(size)
        .ok()
        .filter(|_| size <= size_max)
        .ok_or_else(|| Error::not_elf(&format!("its {what} has {size} bytes")))
}

/// Reads exactly `size` bytes. Memory is taken as the file yields, so that a size without bytes
/// behind it costs nothing.
pub(crate) fn read(
    source: &(impl ReadAt + ?Sized),
    offset: u64,
    size: usize,
) -> Result<Vec<u8>, Error> {
    const STEP: usize = 1 << 20;
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let start = bytes.len();
        let step = (size - start).min(STEP);
        bytes.resize(start + step, 0);
        let position = offset
            .checked_add(start as u64)
            .ok_or_else(|| Error::not_elf("an offset is past the end of the file"))?;
        let buffer = bytes.get_mut(start..).unwrap_or_default();
        if source.read_at(buffer, position).map_err(|error| read_failed(&error))? < step {
            return Err(Error::not_elf("it is cut short"));
        }
    }
    Ok(bytes)
}

fn read_failed(error: &io::Error) -> Error {
    Error::not_elf(&format!("it cannot be read ({error})"))
}

fn string_at(table: &[u8], offset: u64, what: &str) -> Result<String, Error> {
    let rest = usize::try_from(offset).ok().and_then(|offset| table.get(offset..));
    let bytes = rest
        .and_then(|rest| rest.iter().position(|byte| *byte == 0).and_then(|end| rest.get(..end)))
        .ok_or_else(|| Error::not_elf(&format!("a {what} has no end")))?;
    if bytes.len() > STRING_SIZE_MAX {
        return Err(Error::not_elf(&format!("a {what} is too long")));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| Error::not_elf(&format!("a {what} is not UTF-8")))
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
