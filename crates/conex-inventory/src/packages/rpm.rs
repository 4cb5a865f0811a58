//! RPM's database: headers of packages, kept in a file of SQLite (since 2020), of its own NDB
//! (SUSE's) or of Berkeley DB (before). The format is told from the first bytes.
//!
//! Each of the three is read by a few hundred lines of our own, at any offset and without ever
//! writing: the databases are strangers' and may be broken, other libraries for them are in C, want
//! a file of their own, and take the schema in the file at its word. Only the walk to the headers
//! is needed; indices are not looked at.
//!
//! Sources: RPM's "Header data format" for the header; a tag is known by its number. Keys of
//! distributors (`gpg-pubkey`), which RPM keeps as packages, are left out.

mod bdb;
mod ndb;
mod sqlite;

use super::source::{Gathered, be16, be32, be64};
use super::{Manager, PACKAGE_COUNT_MAX, Package};
use crate::error::{Error, Result};

/// Largest header of a package: those with a hundred thousand files have some ten MiB.
const HEADER_SIZE_MAX: usize = 64 << 20;

/// Most entries of a header's index: there are some three hundred tags.
const INDEX_COUNT_MAX: usize = 1 << 16;

const INDEX_ENTRY_SIZE: usize = 16;

/// Reads a database.
pub(super) fn read(file: &Gathered) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    let mut take = |blob: &[u8]| -> Result<()> {
        packages.extend(package(blob)?);
        if packages.len() > PACKAGE_COUNT_MAX {
            return Err(Error::limit("it names more than 100,000 packages"));
        }
        Ok(())
    };
    let head = super::source::read(file, 0, file.size().min(32) as usize)?;
    if head.is_empty() {
        // What is made before anything is installed.
    } else if head.starts_with(sqlite::MAGIC) {
        sqlite::blobs(file, &mut take)?;
    } else if head.starts_with(ndb::MAGIC) {
        ndb::blobs(file, &mut take)?;
    } else if bdb::is_one(&head) {
        bdb::blobs(file, &mut take)?;
    } else {
        return Err(Error::malformed("it is in none of the formats of RPM's database"));
    }
    Ok(packages)
}

/// What takes the header of a package.
type Take<'t> = &'t mut dyn FnMut(&[u8]) -> Result<()>;

const TAG_NAME: u32 = 1000;
const TAG_VERSION: u32 = 1001;
const TAG_RELEASE: u32 = 1002;
const TAG_EPOCH: u32 = 1003;
const TAG_SIZE: u32 = 1009;
const TAG_LICENSE: u32 = 1014;
const TAG_ARCH: u32 = 1022;
const TAG_SOURCERPM: u32 = 1044;
const TAG_LONGSIZE: u32 = 5009;

/// The package of a header: two counts, the index, the data that the index points into.
fn package(blob: &[u8]) -> Result<Option<Package>> {
    let broken = || Error::malformed("the header of a package is cut off");
    let (count, size) = (be32(blob, 0), be32(blob, 4));
    let (Some(count), Some(size)) = (count, size) else { return Err(broken()) };
    let count = count as usize;
    if count > INDEX_COUNT_MAX {
        return Err(Error::limit("the header of a package has more than 65,536 entries"));
    }
    let (index, data) = blob
        .get(8..)
        .and_then(|rest| rest.split_at_checked(count * INDEX_ENTRY_SIZE))
        .ok_or_else(broken)?;
    let data = data.get(..size as usize).ok_or_else(broken)?;
    let mut package = Package::new(Manager::Rpm, "", "");
    let (mut release, mut epoch) = (String::new(), 0);
    for entry in index.chunks_exact(INDEX_ENTRY_SIZE) {
        let (Some(tag), Some(kind), Some(at)) = (be32(entry, 0), be32(entry, 4), be32(entry, 8))
        else {
            return Err(broken());
        };
        let value = Value { kind, data, at: at as usize };
        match tag {
            TAG_NAME => package.name = value.text(),
            TAG_VERSION => package.version = value.text(),
            TAG_RELEASE => release = value.text(),
            TAG_EPOCH => epoch = value.number(),
            TAG_SIZE => package.size = package.size.max(value.number()),
            TAG_LONGSIZE => package.size = value.number(),
            TAG_LICENSE => package.license = value.text(),
            TAG_ARCH => package.architecture = value.text(),
            TAG_SOURCERPM => set_source(&mut package, &value.text()),
            _ => {}
        }
    }
    if package.name.is_empty() || package.version.is_empty() || package.name == "gpg-pubkey" {
        return Ok(None);
    }
    if !release.is_empty() {
        package.version = format!("{}-{release}", package.version);
    }
    if package.source == package.name && package.source_version == package.version {
        package.source.clear();
    }
    if package.source_version == package.version {
        package.source_version.clear();
    }
    if epoch > 0 {
        package.version = format!("{epoch}:{}", package.version);
    }
    Ok(Some(package))
}

/// Takes the name and version of the source from the name of its file:
/// `bash-5.2-1.fc40.src.rpm`.
pub(super) fn set_source(package: &mut Package, file: &str) {
    let stem = file.strip_suffix(".src.rpm").or_else(|| file.strip_suffix(".nosrc.rpm"));
    let Some((rest, release)) = stem.and_then(|stem| stem.rsplit_once('-')) else { return };
    let Some((name, version)) = rest.rsplit_once('-') else { return };
    name.clone_into(&mut package.source);
    package.source_version = format!("{version}-{release}");
}

/// A value of a header.
struct Value<'b> {
    kind: u32,
    data: &'b [u8],
    at: usize,
}

impl Value<'_> {
    /// The text, or the first of several (in one language, or a list).
    fn text(&self) -> String {
        let rest = self.data.get(self.at..).filter(|_| matches!(self.kind, 6 | 8 | 9));
        let rest = rest.unwrap_or_default();
        // A name or a licence that is longer is none; all may point at the same bytes.
        let rest = &rest[..rest.len().min(4096)];
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }

    fn number(&self) -> u64 {
        let number = match self.kind {
            3 => be16(self.data, self.at).map(u64::from),
            4 => be32(self.data, self.at).map(u64::from),
            5 => be64(self.data, self.at),
            _ => None,
        };
        number.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;
    use crate::packages::language::tests::shown;

    /// A database that RPM's own code made, or Berkeley DB's.
    fn database(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/files/{name}.zst", env!("CARGO_MANIFEST_DIR"));
        let mut bytes = Vec::new();
        let mut file = std::fs::File::open(path).unwrap();
        conex_layer::Decoder::new(&mut file).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    const ALL: [&str; 4] = ["rpmdb.sqlite", "Packages.db", "Packages", "Packages-big-endian"];

    #[test]
    fn every_format_names_the_packages_that_rpm_lists() {
        for name in ALL {
            let mut packages = read(&Gathered::of(database(name))).expect(name);
            packages.sort();
            insta::allow_duplicates! {
                insta::assert_snapshot!(shown(&packages), @r"
                rpm alpha 2:1.2.3-4.fc40 arch=noarch license=MIT AND Apache-2.0 size=2
                rpm beta-lib 1.2.3-4.fc40 arch=noarch license=MIT AND Apache-2.0 size=2
                rpm delta 1.2.3-4.fc40 arch=noarch license=MIT AND Apache-2.0 size=2
                rpm epsilon 1.2.3-4.fc40 arch=noarch license=MIT AND Apache-2.0 size=2
                rpm gamma 1.2.3-4.fc40 arch=noarch license=MIT AND Apache-2.0 size=2
                rpm libbeta1 1.2.3-4.fc40 arch=noarch source=beta-lib license=MIT AND Apache-2.0
                rpm many-files 7-1 arch=noarch license=MIT size=372
                rpm zeta 1.2.3-4.fc40 arch=noarch license=MIT AND Apache-2.0 size=2
                ");
            }
        }
    }

    #[test]
    fn a_database_that_is_cut_off_is_refused_and_an_empty_one_has_nothing() {
        assert_eq!(read(&Gathered::of(Vec::new())).unwrap(), []);
        assert!(read(&Gathered::of(b"something else, of some length".to_vec())).is_err());
        for name in ALL {
            let whole = database(name);
            for size in [40, 4096, whole.len() / 2] {
                assert!(read(&Gathered::of(whole[..size].to_vec())).is_err(), "{name} {size}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_database_is_read_or_refused(
            which in 0usize..ALL.len(),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
            is_near in any::<bool>(),
        ) {
            let mut bytes = database(ALL[which]);
            // Most of what steers the walk is at the beginning of pages.
            let size = bytes.len();
            for (at, byte) in damage {
                let at = at.index(size);
                let at = if is_near { at / 4096 * 4096 + at % 128 } else { at };
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = read(&Gathered::of(bytes));
        }
    }
}
