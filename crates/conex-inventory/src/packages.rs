//! Packages, as what their managers leave in an image names them.
//!
//! A [`Form`] is told from a file's path, or from its first bytes where any path may have it; each
//! has a reader of its own, which takes bytes at any offset and gives packages. Readers bound what
//! they take by the file, never follow an offset twice where that could go round, and give an error
//! where a database is not what its path says.

mod installed;
mod java;
mod language;
mod program;
mod purl;
mod rpm;
mod source;
mod system;
mod zip;

use serde::Serialize;

use crate::error::{Error, Result};
use language::python_of;

pub use installed::{Distribution, Installed, PackageList};
pub(crate) use source::Gathered;
pub use source::{Scratch, Source};

/// Most packages of one file: Debian has 65,000, all of which nobody installs.
const PACKAGE_COUNT_MAX: usize = 100_000;

/// Most packages of one layer: a hundred times the largest known.
pub(crate) const LAYER_PACKAGE_COUNT_MAX: usize = 500_000;

/// Largest database in text: 64 MiB; Debian's with ten thousand packages has 15.
const TEXT_SIZE_MAX: u64 = 64 << 20;

/// Largest description of a single package: those of npm have some kilobytes.
const NOTE_SIZE_MAX: u64 = 1 << 20;

/// Largest database, program or archive that is looked into at any offset.
const WHOLE_SIZE_MAX: u64 = 1 << 30;

/// Who installed a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Manager {
    /// Debian's and Ubuntu's.
    Dpkg,
    /// Alpine's, Wolfi's and Chainguard's.
    Apk,
    /// Python's, whichever installer.
    Python,
    /// Red Hat's, SUSE's, Amazon's and others'.
    Rpm,
    /// Arch Linux's.
    Pacman,
    /// Conda's.
    Conda,
    /// npm's, and whoever else makes a `node_modules`.
    Npm,
    /// Ruby's.
    Gem,
    /// Go modules that are linked into a program.
    Go,
    /// Rust crates that are linked into a program, where `cargo auditable` built it.
    Cargo,
    /// Java archives.
    Java,
    /// PHP's.
    Composer,
    /// .NET's.
    Nuget,
}

impl Manager {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Dpkg,
        Self::Apk,
        Self::Python,
        Self::Rpm,
        Self::Pacman,
        Self::Conda,
        Self::Npm,
        Self::Gem,
        Self::Go,
        Self::Cargo,
        Self::Java,
        Self::Composer,
        Self::Nuget,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Apk => "apk",
            Self::Python => "python",
            Self::Rpm => "rpm",
            Self::Pacman => "pacman",
            Self::Conda => "conda",
            Self::Npm => "npm",
            Self::Gem => "gem",
            Self::Go => "go",
            Self::Cargo => "cargo",
            Self::Java => "java",
            Self::Composer => "composer",
            Self::Nuget => "nuget",
        }
    }
}

/// An installed package. What is unknown is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// Who installed it.
    pub manager: Manager,
    /// Its name, as its manager writes it: `@scope/name`, `group:artifact`, `example.com/module`.
    pub name: String,
    /// Its version, with epoch and release.
    pub version: String,
    /// The architecture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// The package that it was built from, where that has another name or version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The version of that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_version: String,
    /// The licence, as the package says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub license: String,
    /// Where in the file it is: an archive in an archive.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub inside: String,
    /// Bytes installed, as the database says.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Package {
    fn new(manager: Manager, name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            manager,
            name: name.into(),
            version: version.into(),
            architecture: String::new(),
            source: String::new(),
            source_version: String::new(),
            license: String::new(),
            inside: String::new(),
            size: 0,
        }
    }
}

/// What kind of file names packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Form {
    /// dpkg's list, or one entry of it as distroless images have it.
    Dpkg,
    Apk,
    /// RPM's database, in any of its three formats.
    Rpm,
    /// The list that Mariner's distroless images have instead.
    RpmManifest,
    Pacman,
    /// The metadata of an installed distribution.
    Python,
    Conda,
    Npm,
    Gem,
    Composer,
    /// What a .NET program depends on.
    Nuget,
    Java,
    /// An ELF file that Go or Rust made.
    Program,
    /// `os-release`.
    Release,
}

impl Form {
    pub(crate) const ALL: [Self; 14] = [
        Self::Dpkg,
        Self::Apk,
        Self::Rpm,
        Self::RpmManifest,
        Self::Pacman,
        Self::Python,
        Self::Conda,
        Self::Npm,
        Self::Gem,
        Self::Composer,
        Self::Nuget,
        Self::Java,
        Self::Program,
        Self::Release,
    ];

    /// What a file at a path is, as far as the path tells.
    pub(crate) fn at(path: &[u8]) -> Option<Self> {
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        match name {
            b"status" if folder == b"var/lib/dpkg" => Some(Self::Dpkg),
            b"installed" if matches!(folder, b"lib/apk/db" | b"usr/lib/apk/db") => Some(Self::Apk),
            b"Packages" | b"Packages.db" | b"rpmdb.sqlite" if is_rpm(folder) => Some(Self::Rpm),
            b"container-manifest-2" if folder == b"var/lib/rpmmanifest" => Some(Self::RpmManifest),
            b"os-release" if matches!(folder, b"etc" | b"usr/lib") => Some(Self::Release),
            b"desc" if folder.starts_with(b"var/lib/pacman/local/") => Some(Self::Pacman),
            b"METADATA" if folder.ends_with(b".dist-info") => Some(Self::Python),
            b"PKG-INFO" if folder.ends_with(b".egg-info") => Some(Self::Python),
            b"PKG-INFO" if folder.ends_with(b".egg/EGG-INFO") => Some(Self::Python),
            b"package.json" => is_node_package(folder).then_some(Self::Npm),
            b"installed.json" if folder.ends_with(b"vendor/composer") => Some(Self::Composer),
            _ if folder == b"var/lib/dpkg/status.d" => {
                (!name.ends_with(b".md5sums")).then_some(Self::Dpkg)
            }
            _ => Self::of_extension(folder, name),
        }
    }

    fn of_extension(folder: &[u8], name: &[u8]) -> Option<Self> {
        let dot = name.iter().rposition(|byte| *byte == b'.')?;
        match &name[dot + 1..] {
            b"jar" | b"war" | b"ear" | b"par" | b"hpi" | b"jpi" => Some(Self::Java),
            b"egg-info" => Some(Self::Python),
            b"gemspec" => {
                let is_installed = folder.ends_with(b"specifications")
                    || folder.ends_with(b"specifications/default");
                is_installed.then_some(Self::Gem)
            }
            b"json" if folder.ends_with(b"conda-meta") => Some(Self::Conda),
            b"json" if name.ends_with(b".deps.json") => Some(Self::Nuget),
            _ => None,
        }
    }

    /// What a file is whose path says nothing, by its first bytes: programs are looked into,
    /// objects and kernel modules are not.
    pub(crate) fn of_head(head: &[u8]) -> Option<Self> {
        // ELF's `e_type`: 2 is a program at a fixed address, 3 one at any, or a library.
        let kind = head.get(16..18).filter(|_| conex_elf::Elf::has_magic(head))?;
        matches!(kind, [2 | 3, 0] | [0, 2 | 3]).then_some(Self::Program)
    }

    /// Largest file of this kind that is read.
    pub(crate) fn size_max(self) -> u64 {
        match self {
            Self::Dpkg | Self::Apk | Self::RpmManifest | Self::Composer | Self::Nuget => {
                TEXT_SIZE_MAX
            }
            Self::Pacman | Self::Python | Self::Npm | Self::Gem | Self::Release => NOTE_SIZE_MAX,
            // These list the files of the package too.
            Self::Conda => 16 * NOTE_SIZE_MAX,
            Self::Rpm | Self::Java | Self::Program => WHOLE_SIZE_MAX,
        }
    }

    /// Whether a file of this kind that cannot be read is worth a word. What describes one package
    /// may be anything of the same name: sources of packages are full of broken examples.
    pub(crate) fn is_database(self) -> bool {
        matches!(
            self,
            Self::Dpkg
                | Self::Apk
                | Self::Rpm
                | Self::RpmManifest
                | Self::Composer
                | Self::Nuget
                | Self::Java
        )
    }

    /// Reads a file of this kind.
    ///
    /// # Errors
    /// It is not what it should be, or goes over a limit.
    pub(crate) fn read(self, path: &[u8], file: &Gathered) -> Result<Vec<Package>> {
        let packages = match self {
            Self::Rpm => rpm::read(file)?,
            Self::Java => java::read(path, file)?,
            Self::Program => program::read_program(file)?,
            _ => {
                let bytes = file.bytes(self.size_max())?;
                let text = String::from_utf8_lossy(&bytes);
                match self {
                    Self::Dpkg => system::dpkg(&text),
                    Self::Apk => system::apk(&text),
                    Self::RpmManifest => system::rpm_manifest(&text),
                    Self::Pacman => system::pacman(&text),
                    Self::Python => language::python(&text),
                    Self::Conda => language::conda(&text)?,
                    Self::Npm => language::npm(&text)?,
                    Self::Gem => language::gem(&text),
                    Self::Composer => language::composer(&text)?,
                    Self::Nuget => language::nuget(&text)?,
                    Self::Rpm | Self::Java | Self::Program | Self::Release => Vec::new(),
                }
            }
        };
        if packages.len() > PACKAGE_COUNT_MAX {
            return Err(Error::limit("it names more than 100,000 packages"));
        }
        Ok(packages)
    }
}

fn is_rpm(folder: &[u8]) -> bool {
    matches!(folder, b"var/lib/rpm" | b"usr/lib/sysimage/rpm" | b"usr/share/rpm")
}

/// Whether a folder is a package's in a `node_modules`, and not some folder of a package.
fn is_node_package(folder: &[u8]) -> bool {
    let mut parts = folder.rsplit(|byte| *byte == b'/');
    let _name = parts.next();
    match parts.next() {
        Some(b"node_modules") => true,
        Some(scope) if scope.first() == Some(&b'@') => parts.next() == Some(b"node_modules"),
        _ => false,
    }
}

/// Reads any bytes as a file of each kind, for whoever tries what bytes can do.
#[doc(hidden)]
pub fn read_as_anything(bytes: &[u8]) {
    let file = Gathered::of(bytes.to_vec());
    for form in Form::ALL {
        let Ok(packages) = form.read(b"app/name-1.0.jar", &file) else { continue };
        for package in &packages {
            purl::purl(package, None);
        }
    }
    Distribution::parse(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_that_name_packages_are_known_by_their_paths() {
        for (path, expected) in [
            ("var/lib/dpkg/status", Some(Form::Dpkg)),
            ("var/lib/dpkg/status.d/base", Some(Form::Dpkg)),
            ("var/lib/dpkg/status.d/base.md5sums", None),
            ("srv/var/lib/dpkg/status", None),
            ("usr/lib/apk/db/installed", Some(Form::Apk)),
            ("usr/lib/sysimage/rpm/Packages.db", Some(Form::Rpm)),
            ("var/lib/rpm/Name", None),
            ("usr/lib/os-release", Some(Form::Release)),
            ("var/lib/pacman/local/zlib-1-2/desc", Some(Form::Pacman)),
            ("usr/lib/python3/six-1.dist-info/METADATA", Some(Form::Python)),
            ("usr/lib/python3/six-1-py3.egg-info", Some(Form::Python)),
            ("opt/conda/conda-meta/a-1-0.json", Some(Form::Conda)),
            ("app/node_modules/lodash/package.json", Some(Form::Npm)),
            ("app/node_modules/@babel/core/package.json", Some(Form::Npm)),
            ("app/node_modules/lodash/esm/package.json", None),
            ("app/package.json", None),
            ("usr/lib/ruby/specifications/default/json-2.gemspec", Some(Form::Gem)),
            ("srv/json.gemspec", None),
            ("app/vendor/composer/installed.json", Some(Form::Composer)),
            ("app/app.deps.json", Some(Form::Nuget)),
            ("app/lib/app.jar", Some(Form::Java)),
        ] {
            assert_eq!(Form::at(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn programs_are_known_by_their_first_bytes_and_objects_are_none() {
        for (kind, expected) in [(1, None), (2, Some(Form::Program)), (3, Some(Form::Program))] {
            let mut head = b"\x7fELF\x02\x01\x01".to_vec();
            head.resize(64, 0);
            head[16] = kind;
            assert_eq!(Form::of_head(&head), expected, "{kind}");
        }
        assert_eq!(Form::of_head(b"#!/bin/sh\n"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            read_as_anything(&bytes);
        }
    }
}
