//! Finds parts of an ELF file by the names of its sections, for what tools leave in programs for
//! other tools. A loader has no need of sections: files without any are as valid.

use crate::Error;
use crate::elf::{Class, Header, ReadAt, Segment, file_offset, read};

/// Most sections accepted: programs have some forty, objects with a section a function are not
/// read here.
const SECTION_COUNT_MAX: usize = 8192;

/// Largest table of section names accepted.
const NAMES_SIZE_MAX: u64 = 1 << 20;

const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PT_LOAD: u32 = 1;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

/// The sections and segments of an ELF file.
#[derive(Debug)]
pub struct Sections {
    segments: Vec<Segment>,
    sections: Vec<(Vec<u8>, Extent)>,
}

impl Sections {
    /// Reads the tables of a file.
    ///
    /// # Errors
    /// It is no ELF file, is cut short, or goes over a limit.
    pub fn parse(source: &(impl ReadAt + ?Sized)) -> Result<Self, Error> {
        let header = Header::read(source)?;
        let segments = header.segments(source)?;
        let sections = sections(source, &header)?;
        Ok(Self { segments, sections })
    }

    /// The section of a name.
    pub fn find(&self, name: &str) -> Option<Extent> {
        let found = self.sections.iter().find(|(known, _)| known == name.as_bytes());
        found.map(|(_, extent)| *extent)
    }

    /// The first segment whose bytes may be written and not run: a program's data.
    pub fn data_segment(&self) -> Option<Extent> {
        let is_data =
            |segment: &&Segment| segment.kind == PT_LOAD && segment.flags & (PF_W | PF_X) == PF_W;
        let found = self.segments.iter().find(is_data);
        found.map(|segment| Extent { offset: segment.offset, size: segment.file_size })
    }

    /// Where in the file the byte stands that is loaded at an address.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        file_offset(&self.segments, address)
    }
}

fn sections(
    source: &(impl ReadAt + ?Sized),
    header: &Header,
) -> Result<Vec<(Vec<u8>, Extent)>, Error> {
    let mut bytes = [0; 64];
    let read_count = source.read_at(&mut bytes, 0).map_err(|_| Error::not_elf("it is cut short"));
    let fields = header.fields(bytes.get(..read_count?).unwrap_or_default());
    let (table, at) = match header.linkage.class {
        Class::Bits32 => (fields.u32(32).map(u64::from), 46),
        Class::Bits64 => (fields.u64(40), 58),
    };
    let (Some(table), Some(size), Some(count), Some(names)) =
        (table, fields.u16(at), fields.u16(at + 2), fields.u16(at + 4))
    else {
        return Err(Error::not_elf("its header is cut short"));
    };
    let (size, count) = (usize::from(size), usize::from(count));
    let size_min = if header.linkage.class == Class::Bits32 { 40 } else { 64 };
    if table == 0 || count == 0 {
        return Ok(Vec::new());
    }
    if count > SECTION_COUNT_MAX {
        return Err(Error::too_much("sections in an ELF file", SECTION_COUNT_MAX));
    }
    if !(size_min..=256).contains(&size) {
        return Err(Error::not_elf("its section headers have an impossible size"));
    }
    let bytes = read(source, table, size * count)?;
    let rows: Vec<(u32, Extent)> = bytes
        .chunks_exact(size)
        .filter_map(|chunk| {
            let fields = header.fields(chunk);
            let (offset, size) = match header.linkage.class {
                Class::Bits32 => (fields.u32(16)?.into(), fields.u32(20)?.into()),
                Class::Bits64 => (fields.u64(24)?, fields.u64(32)?),
            };
            Some((fields.u32(0)?, Extent { offset, size }))
        })
        .collect();
    let Some((_, names)) = rows.get(usize::from(names)) else { return Ok(Vec::new()) };
    if names.size > NAMES_SIZE_MAX {
        return Err(Error::not_elf("its table of section names is too large"));
    }
    let names = read(source, names.offset, names.size as usize)?;
    let name_of = |at: u32| {
        let rest = names.get(at as usize..)?;
        // No name that is looked for is longer; whoever lets all share one long name gains nothing.
        let rest = rest.get(..rest.len().min(64))?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(rest[..end].to_vec())
    };
    Ok(rows.into_iter().filter_map(|(at, extent)| Some((name_of(at)?, extent))).collect())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sections_of_this_very_program_are_found() -> io::Result<()> {
        let file = std::fs::File::open(Path::new("/proc/self/exe"))?;
        let sections = Sections::parse(&file).map_err(io::Error::other)?;
        let text = sections.find(".text").expect("a program has code");
        assert!(text.size > 1000 && text.offset > 0);
        assert_eq!(sections.find(".no-such-section"), None);
        let data = sections.data_segment().expect("a program has data");
        assert!(data.size > 0);
        Ok(())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            class in 1u8..3,
        ) {
            let head = [b"\x7fELF".as_slice(), &[class, 1]].concat();
            for (at, byte) in head.iter().enumerate().take(bytes.len()) {
                bytes[at] = *byte;
            }
            let _ = Sections::parse(bytes.as_slice());
        }
    }
}
