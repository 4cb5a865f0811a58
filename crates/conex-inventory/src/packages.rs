//! Packages, as their managers' databases in an image list them.

use serde::Serialize;

/// Largest database that is read: 64 MiB; Debian's with ten thousand packages has 15.
pub(crate) const DATABASE_SIZE_MAX: u64 = 64 << 20;

/// Who installed a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Manager {
    /// Debian's and Ubuntu's.
    Dpkg,
    /// Alpine's.
    Apk,
    /// Python's, known by the folders of installed distributions.
    Python,
}

impl Manager {
    pub(crate) const ALL: [Self; 3] = [Self::Dpkg, Self::Apk, Self::Python];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Apk => "apk",
            Self::Python => "python",
        }
    }
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Package {
    /// Who installed it.
    pub manager: Manager,
    /// Its name.
    pub name: String,
    /// The architecture, if the database says it.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// Bytes installed, as the database says.
    pub size: u64,
}

/// Whose database a path of a layer is.
pub(crate) fn database_at(path: &[u8]) -> Option<Manager> {
    match path {
        b"var/lib/dpkg/status" => Some(Manager::Dpkg),
        b"lib/apk/db/installed" | b"usr/lib/apk/db/installed" => Some(Manager::Apk),
        _ => {
            let name = path.strip_prefix(b"var/lib/dpkg/status.d/")?;
            let is_stanza = !name.contains(&b'/') && !name.ends_with(b".md5sums");
            is_stanza.then_some(Manager::Dpkg)
        }
    }
}

/// Databases that are known and not read.
pub(crate) const UNREAD: [&str; 9] = [
    "var/lib/rpm/Packages",
    "var/lib/rpm/Packages.db",
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/Packages",
    "usr/lib/sysimage/rpm/Packages.db",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "usr/share/rpm/Packages",
    "usr/share/rpm/Packages.db",
    "usr/share/rpm/rpmdb.sqlite",
];

/// Reads a database. Lines that mean nothing here are passed over.
pub(crate) fn parse(manager: Manager, bytes: &[u8]) -> Vec<Package> {
    let text = String::from_utf8_lossy(bytes);
    let mut packages = Vec::new();
    let mut stanza = Stanza::default();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            packages.extend(std::mem::take(&mut stanza).package(manager));
        } else {
            match manager {
                Manager::Dpkg => stanza.dpkg(line),
                Manager::Apk | Manager::Python => stanza.apk(line),
            }
        }
    }
    packages
}

/// The package of an installed Python distribution, known by the name of its folder (PEP 376):
/// `requests-2.31.0.dist-info`.
pub(crate) fn python_of(folder: &[u8]) -> Option<Package> {
    let text = std::str::from_utf8(folder).ok()?;
    let stem = text.strip_suffix(".dist-info").or_else(|| text.strip_suffix(".egg-info"))?;
    let (name, version) = stem.split_once('-')?;
    // An egg's folder names the interpreter behind the version.
    let version = version.split("-py").next().unwrap_or(version);
    let is_version = version.starts_with(|first: char| first.is_ascii_digit());
    (is_version && !name.is_empty()).then(|| Package {
        manager: Manager::Python,
        name: name.to_owned(),
        architecture: String::new(),
        version: version.to_owned(),
        size: 0,
    })
}

#[derive(Default)]
struct Stanza {
    name: String,
    version: String,
    architecture: String,
    size: u64,
    is_gone: bool,
}

impl Stanza {
    fn dpkg(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(':') else { return };
        let value = value.trim();
        match key {
            "Package" => value.clone_into(&mut self.name),
            "Version" => value.clone_into(&mut self.version),
            "Architecture" => value.clone_into(&mut self.architecture),
            "Installed-Size" => self.size = value.parse::<u64>().unwrap_or(0).saturating_mul(1024),
            // `install ok installed`, `hold ok installed`; distroless images say nothing.
            "Status" => self.is_gone = !value.ends_with(" installed"),
            _ => {}
        }
    }

    fn apk(&mut self, line: &str) {
        match line.split_once(':') {
            Some(("P", value)) => value.clone_into(&mut self.name),
            Some(("V", value)) => value.clone_into(&mut self.version),
            Some(("A", value)) => value.clone_into(&mut self.architecture),
            Some(("I", value)) => self.size = value.parse().unwrap_or(0),
            _ => {}
        }
    }

    fn package(self, manager: Manager) -> Option<Package> {
        let Self { name, version, architecture, size, is_gone } = self;
        let is_one = !is_gone && !name.is_empty() && !version.is_empty();
        is_one.then_some(Package { manager, name, architecture, version, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_packages_of_each_manager_are_listed() {
        let dpkg = b"Package: bash\nStatus: install ok installed\nInstalled-Size: 7\n\
            Architecture: amd64\nVersion: 5.2-1\nDescription: a shell\n Package: not this\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        let apk = b"C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nI:667648\nF:lib\n\nP:broken\n";
        let shown = |packages: Vec<Package>| -> Vec<String> {
            let show =
                |p: &Package| format!("{} {} {} {}", p.name, p.version, p.architecture, p.size);
            packages.iter().map(show).collect()
        };
        assert_eq!(shown(parse(Manager::Dpkg, dpkg)), ["bash 5.2-1 amd64 7168"]);
        assert_eq!(shown(parse(Manager::Apk, apk)), ["musl 1.2.5-r0 x86_64 667648"]);
    }

    #[test]
    fn python_packages_are_known_by_their_folders() {
        for (folder, expected) in [
            ("requests-2.31.0.dist-info", Some(("requests", "2.31.0"))),
            ("typing_extensions-4.8.0.dist-info", Some(("typing_extensions", "4.8.0"))),
            ("six-1.16.0-py3.11.egg-info", Some(("six", "1.16.0"))),
            ("requests", None),
            ("x.dist-info", None),
            ("-1.dist-info", None),
        ] {
            let found = python_of(folder.as_bytes());
            let found = found.as_ref().map(|one| (one.name.as_str(), one.version.as_str()));
            assert_eq!(found, expected, "{folder}");
        }
    }
}
