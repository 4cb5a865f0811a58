//! What programs say of what was linked into them: Go modules in every program that Go made, Rust
//! crates in those that `cargo auditable` made.
//!
//! Sources: Go's `debug/buildinfo` for where things stand and in what form; the documentation of
//! `cargo-auditable` for the section `.dep-v0`, a zlib stream of JSON.

use conex_elf::Sections;
use conex_layer::{Wrapping, inflate};
use serde::Deserialize;

use super::language::{document, whole};
use super::source::{Gathered, be32, be64, le32, le64, read};
use super::{Manager, Package};
use crate::error::{Error, Result};

/// What the information of a Go program begins with, at a multiple of 16 bytes.
const GO_MAGIC: &[u8] = b"\xff Go buildinf:";
const GO_ALIGNMENT: usize = 16;
const GO_HEADER_SIZE: usize = 32;

/// How much of a program's data is searched for it, where no section is named for it.
const GO_SEARCH_SIZE_MAX: u64 = 1 << 20;

/// Largest list of modules of one program.
const GO_MODULES_SIZE_MAX: u64 = 16 << 20;

/// Largest list of crates of one program, packed and unpacked.
const RUST_PACKED_SIZE_MAX: u64 = 8 << 20;
const RUST_SIZE_MAX: u64 = 16 << 20;

/// Reads the packages in a program; most programs say nothing.
fn read_sections(file: &Gathered, sections: &Sections) -> Result<Vec<Package>> {
    if let Some(section) = sections.find(".dep-v0") {
        if section.size > RUST_PACKED_SIZE_MAX {
            return Err(Error::limit("its list of crates has more than 8 MiB"));
        }
        let packed = read(file, section.offset, section.size as usize)?;
        let bytes = inflate(&packed, Wrapping::Zlib, RUST_SIZE_MAX).map_err(Error::layer)?;
        return crates(&String::from_utf8_lossy(&bytes));
    }
    let Some(place) = sections.find(".go.buildinfo").or_else(|| sections.data_segment()) else {
        return Ok(Vec::new());
    };
    let size = place.size.min(GO_SEARCH_SIZE_MAX).min(file.size().saturating_sub(place.offset));
    let bytes = read(file, place.offset, size as usize)?;
    let found = bytes.chunks(GO_ALIGNMENT).position(|chunk| chunk.starts_with(GO_MAGIC));
    let Some(found) = found else { return Ok(Vec::new()) };
    let at = place.offset + (found * GO_ALIGNMENT) as u64;
    go(file, sections, at)
}

/// Reads the packages in a file that may be a program.
pub(super) fn read_program(file: &Gathered) -> Result<Vec<Package>> {
    // What is no sound program is none that somebody could run.
    match Sections::parse(file) {
        Ok(sections) => read_sections(file, &sections),
        Err(_) => Ok(Vec::new()),
    }
}

/// The Go information at an offset.
fn go(file: &Gathered, sections: &Sections, at: u64) -> Result<Vec<Package>> {
    let header = read(file, at, GO_HEADER_SIZE)?;
    let flags = header.get(15).copied().unwrap_or(0);
    let (version, modules) = if flags & 2 != 0 {
        // Since Go 1.18 both texts follow, each behind its length.
        let (version, next) = go_text(file, at + GO_HEADER_SIZE as u64)?;
        (version, go_text(file, next)?.0)
    } else {
        let pointers = Pointers {
            file,
            sections,
            is_wide: header.get(14) == Some(&8),
            is_big_endian: flags & 1 != 0,
        };
        let width = if pointers.is_wide { 8 } else { 4 };
        let text = |at: usize| pointers.text(pointers.number(&header, at));
        (text(16)?, text(16 + width)?)
    };
    // The list stands between marks of 16 bytes for those who search for it.
    let end = modules.len().saturating_sub(16);
    let modules = modules.get(16..end).filter(|list| list.ends_with(b"\n")).unwrap_or_default();
    Ok(go_modules(&String::from_utf8_lossy(&version), &String::from_utf8_lossy(modules)))
}

/// A text behind its length, and where it ends.
fn go_text(file: &Gathered, at: u64) -> Result<(Vec<u8>, u64)> {
    // The end of the file may be near.
    let head = read(file, at, 10.min(file.size().saturating_sub(at)) as usize)?;
    let (mut size, mut used) = (0u64, 0);
    for byte in head.iter().take(5) {
        size |= u64::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if size > GO_MODULES_SIZE_MAX {
        return Err(Error::limit("its list of modules has more than 16 MiB"));
    }
    let start = at + used;
    Ok((read(file, start, size as usize)?, start + size))
}

/// The information of before Go 1.18, which points at texts of Go: an address and a length.
struct Pointers<'f> {
    file: &'f Gathered,
    sections: &'f Sections,
    is_wide: bool,
    is_big_endian: bool,
}

impl Pointers<'_> {
    fn number(&self, bytes: &[u8], at: usize) -> u64 {
        let number = match (self.is_wide, self.is_big_endian) {
            (true, true) => be64(bytes, at),
            (true, false) => le64(bytes, at),
            (false, true) => be32(bytes, at).map(u64::from),
            (false, false) => le32(bytes, at).map(u64::from),
        };
        number.unwrap_or(0)
    }

    fn text(&self, address: u64) -> Result<Vec<u8>> {
        let Some(at) = self.sections.offset_of(address) else { return Ok(Vec::new()) };
        let width = if self.is_wide { 8 } else { 4 };
        let pair = read(self.file, at, width * 2)?;
        let (address, size) = (self.number(&pair, 0), self.number(&pair, width));
        if size > GO_MODULES_SIZE_MAX {
            return Err(Error::limit("its list of modules has more than 16 MiB"));
        }
        match self.sections.offset_of(address) {
            Some(at) => read(self.file, at, size as usize),
            None => Ok(Vec::new()),
        }
    }
}

/// The modules of a program: the standard library, the program's own, what it depends on.
fn go_modules(version: &str, list: &str) -> Vec<Package> {
    let mut packages = Vec::new();
    let number = version.strip_prefix("go").map(|rest| rest.split(' ').next().unwrap_or(rest));
    if let Some(number) = number {
        packages.extend(whole(Package::new(Manager::Go, "stdlib", number)));
    }
    for line in list.lines() {
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap_or_default();
        let (name, version) = (fields.next().unwrap_or_default(), fields.next().unwrap_or("-"));
        match kind {
            // One that was built in its own folder has no version that anybody else knows.
            "mod" if version == "(devel)" => {}
            "mod" | "dep" => packages.extend(whole(Package::new(Manager::Go, name, version))),
            "=>" => {
                // The module that was taken instead; a folder has no version.
                packages.pop();
                if !name.starts_with(['.', '/']) && version != "-" {
                    packages.extend(whole(Package::new(Manager::Go, name, version)));
                }
            }
            _ => {}
        }
        if packages.len() > super::PACKAGE_COUNT_MAX {
            break;
        }
    }
    packages
}

/// The crates in the list of `cargo auditable`, without those that only ran when it was built.
fn crates(text: &str) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct List {
        packages: Vec<Crate>,
    }
    #[derive(Deserialize)]
    struct Crate {
        name: String,
        version: String,
        #[serde(default)]
        kind: String,
    }
    let list: List = document(text)?;
    let runs = list.packages.into_iter().filter(|one| one.kind != "build");
    Ok(runs.filter_map(|one| whole(Package::new(Manager::Cargo, one.name, one.version))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::language::tests::shown;

    #[test]
    fn modules_of_a_program_are_those_that_were_linked() {
        let list = "path\texample.com/tool\nmod\texample.com/tool\tv1.2.0\th1:a=\n\
                    dep\tgolang.org/x/net\tv0.17.0\th1:b=\n\
                    dep\tgithub.com/old/one\tv1.0.0\n=>\tgithub.com/new/one\tv1.1.0\th1:c=\n\
                    dep\texample.com/local\tv0.0.0\n=>\t./local\t(devel)\n\
                    build\t-compiler=gc\n";
        insta::assert_snapshot!(shown(&go_modules("go1.21.3 X:boringcrypto", list)), @r"
        go stdlib 1.21.3
        go example.com/tool v1.2.0
        go golang.org/x/net v0.17.0
        go github.com/new/one v1.1.0
        ");
        assert_eq!(go_modules("devel +abc", "mod\tm\t(devel)\n"), []);
    }

    /// An ELF file with one section and a segment that is loaded at 0x1000.
    fn program(section: &str, content: &[u8]) -> Gathered {
        let names = format!("\0{section}\0");
        let content_at = 64 + 56;
        let names_at = content_at + content.len();
        let table_at = names_at + names.len();
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        let number = |bytes: &mut Vec<u8>, number: u64, width: usize| {
            bytes.extend_from_slice(&number.to_le_bytes()[..width]);
        };
        for (value, width) in
            [(2, 2), (62, 2), (1, 4), (0, 8), (64, 8), (table_at, 8), (0, 4), (64, 2), (56, 2)]
        {
            number(&mut bytes, value as u64, width);
        }
        for (value, width) in [(1, 2), (64, 2), (2, 2), (1, 2)] {
            number(&mut bytes, value, width);
        }
        // A segment that can be written: type, flags, offset, addresses, sizes, alignment.
        let size = content.len() as u64;
        for (value, width) in [(1, 4), (6, 4)] {
            number(&mut bytes, value, width);
        }
        for value in [content_at as u64, 0x1000, 0x1000, size, size, 16] {
            number(&mut bytes, value, 8);
        }
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(names.as_bytes());
        for (name, at, size) in [(1, content_at, content.len()), (0, names_at, names.len())] {
            for (value, width) in [(name, 4), (1, 4), (0, 8), (0, 8), (at, 8), (size, 8)] {
                number(&mut bytes, value as u64, width);
            }
            number(&mut bytes, 0, 8);
            number(&mut bytes, 0, 8);
            number(&mut bytes, 0, 8);
        }
        Gathered::of(bytes)
    }

    /// A zlib stream with everything in one stored block.
    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let size = bytes.len() as u16;
        let mut out = vec![0x78, 0x01, 1];
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&(!size).to_le_bytes());
        out.extend_from_slice(bytes);
        let (mut a, mut b) = (1u32, 0u32);
        for byte in bytes {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        out.extend_from_slice(&(b << 16 | a).to_be_bytes());
        out
    }

    const MODULES: &str = "0123456789abcdefmod\tm\tv1.0.0\ndep\td\tv2.0.0\n0123456789abcdef";

    #[test]
    fn go_information_is_found_with_and_without_its_section() {
        let mut content = GO_MAGIC.to_vec();
        content.extend_from_slice(&[8, 2]);
        content.resize(GO_HEADER_SIZE, 0);
        for text in ["go1.22.0", MODULES] {
            content.push(text.len() as u8);
            content.extend_from_slice(text.as_bytes());
        }
        for section in [".go.buildinfo", ".data"] {
            let packages = read_program(&program(section, &content)).unwrap();
            insta::allow_duplicates! {
                insta::assert_snapshot!(shown(&packages), @r"
                go stdlib 1.22.0
                go m v1.0.0
                go d v2.0.0
                ");
            }
        }
        content[GO_HEADER_SIZE..][..5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(read_program(&program(".go.buildinfo", &content)).is_err());
    }

    #[test]
    fn go_information_of_before_1_18_is_found_through_its_pointers() {
        let mut content = GO_MAGIC.to_vec();
        content.extend_from_slice(&[8, 0]);
        // Pointers to the texts of Go, which point at the bytes behind them.
        let texts = ["go1.16.5", MODULES];
        content.extend_from_slice(&0x1020u64.to_le_bytes());
        content.extend_from_slice(&0x1030u64.to_le_bytes());
        let mut at = 0x1040u64;
        for text in texts {
            content.extend_from_slice(&at.to_le_bytes());
            content.extend_from_slice(&(text.len() as u64).to_le_bytes());
            at += text.len() as u64;
        }
        texts.iter().for_each(|text| content.extend_from_slice(text.as_bytes()));
        let packages = read_program(&program(".go.buildinfo", &content)).unwrap();
        insta::assert_snapshot!(shown(&packages), @r"
        go stdlib 1.16.5
        go m v1.0.0
        go d v2.0.0
        ");
    }

    #[test]
    fn crates_are_read_from_their_section_without_those_of_the_build() {
        let json = r#"{"packages":[{"name":"app","version":"0.1.0","source":"local","root":true},
            {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},
            {"name":"serde","version":"1.0.193","source":"crates.io"}]}"#;
        let packages = read_program(&program(".dep-v0", &zlib(json.as_bytes()))).unwrap();
        insta::assert_snapshot!(shown(&packages), @r"
        cargo app 0.1.0
        cargo serde 1.0.193
        ");
        assert!(read_program(&program(".dep-v0", b"no zlib")).is_err());
        assert_eq!(read_program(&program(".text", b"code")).unwrap(), []);
    }
}
