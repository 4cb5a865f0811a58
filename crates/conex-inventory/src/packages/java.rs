//! Java archives: what Maven wrote into them, what their manifest says, what they are called; and
//! the archives that are in them, one level deep, as Spring Boot and WAR files have them.

use conex_elf::ReadAt;

use super::language::whole;
use super::source::Gathered;
use super::zip::{Budget, Content, Zip};
use super::{Form, Manager, PACKAGE_COUNT_MAX, Package};
use crate::error::Result;

/// Largest description of an archive.
const NOTE_SIZE_MAX: u64 = 1 << 20;

/// Largest archive in an archive that has to be inflated; those that are stored may have any size.
const INNER_SIZE_MAX: u64 = 64 << 20;

/// Reads an archive.
pub(super) fn read(path: &[u8], file: &Gathered) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    let mut budget = Budget::of(file.size());
    archive(Place { path, inside: "" }, file, file.size(), &mut budget, &mut packages)?;
    Ok(packages)
}

/// What an archive is called.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: &'p [u8],
    /// The name of an archive in an archive.
    inside: &'p str,
}

fn archive(
    place: Place<'_>,
    source: &dyn ReadAt,
    size: u64,
    budget: &mut Budget,
    packages: &mut Vec<Package>,
) -> Result<()> {
    let zip = Zip::open(source, size)?;
    let (mut manifest, mut properties) = (None, Vec::new());
    let mut inner = Vec::new();
    for member in zip.members() {
        let text = |budget: &mut Budget| -> Result<String> {
            let content = zip.content(&member, NOTE_SIZE_MAX, budget)?;
            Ok(String::from_utf8_lossy(&content.bytes(NOTE_SIZE_MAX)?).into_owned())
        };
        if member.name == b"META-INF/MANIFEST.MF" {
            // A manifest that cannot be read says nothing; the name still does.
            manifest = text(budget).ok();
        } else if is_properties(member.name) {
            properties.extend(text(budget).ok().and_then(|text| of_properties(&text)));
        } else if place.inside.is_empty() && Form::at(member.name) == Some(Form::Java) {
            inner.push(member);
        }
        if properties.len() + packages.len() > PACKAGE_COUNT_MAX {
            return Ok(());
        }
    }
    if properties.is_empty() {
        properties.extend(of_manifest(place, manifest.as_deref().unwrap_or_default()));
    }
    for package in &mut properties {
        place.inside.clone_into(&mut package.inside);
    }
    packages.append(&mut properties);
    for member in inner {
        let inside = String::from_utf8_lossy(member.name);
        let place = Place { path: member.name, inside: &inside };
        // One that is broken or too large does not hide the others.
        let _ = match zip.content(&member, INNER_SIZE_MAX, budget) {
            Ok(Content::There(slice)) => archive(place, &slice, slice.size, budget, packages),
            Ok(Content::Inflated(bytes)) => {
                let size = bytes.len() as u64;
                archive(place, &Gathered::of(bytes), size, budget, packages)
            }
            Err(error) => Err(error),
        };
    }
    Ok(())
}

fn is_properties(name: &[u8]) -> bool {
    name.starts_with(b"META-INF/maven/") && name.ends_with(b"/pom.properties")
}

/// What Maven writes: `groupId`, `artifactId`, `version`.
fn of_properties(text: &str) -> Option<Package> {
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        value.map(str::trim).filter(|value| !value.is_empty() && !value.contains("${"))
    };
    let name = format!("{}:{}", value("groupId")?, value("artifactId")?);
    whole(Package::new(Manager::Java, name, value("version")?))
}

/// What the manifest says, or else the archive's own name: `commons-io-2.11.0.jar`.
fn of_manifest(place: Place<'_>, manifest: &str) -> Option<Package> {
    let file = place.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let file = String::from_utf8_lossy(file);
    let stem = file.rsplit_once('.').map_or(file.as_ref(), |(stem, _)| stem);
    // The version begins behind the first hyphen that a digit follows.
    let split = stem
        .match_indices('-')
        .find(|(at, _)| stem[at + 1..].starts_with(|first: char| first.is_ascii_digit()));
    let (name, named_version) = match split {
        Some((at, _)) => (&stem[..at], Some(&stem[at + 1..])),
        None => (stem, None),
    };
    let value = |keys: &[&str]| keys.iter().find_map(|key| manifest_value(manifest, key));
    let said = value(&["Implementation-Version", "Bundle-Version", "Specification-Version"]);
    let version = named_version.map(str::to_owned).or(said)?;
    let group = value(&["Implementation-Vendor-Id", "Bundle-SymbolicName"])
        .map(|group| group.split(';').next().unwrap_or_default().trim().to_owned())
        // Names of bundles are often the group and the artifact in one.
        .map(|group| match group.strip_suffix(name) {
            Some(rest) if rest.ends_with('.') => rest.trim_end_matches('.').to_owned(),
            _ => group,
        })
        .filter(|group| group.contains('.') && !group.contains(char::is_whitespace));
    let name = match group {
        Some(group) => format!("{group}:{name}"),
        None => name.to_owned(),
    };
    whole(Package::new(Manager::Java, name, version))
}

/// A field of the manifest's first part; lines go on behind a space.
fn manifest_value(manifest: &str, key: &str) -> Option<String> {
    let mut lines = manifest.lines().take_while(|line| !line.is_empty());
    let first = lines.by_ref().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
    let mut value = first.to_owned();
    for line in lines.map_while(|line| line.strip_prefix(' ')) {
        value.push_str(line);
    }
    let value = value.trim();
    (!value.is_empty() && !value.contains("${")).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::language::tests::shown;

    fn sample(name: &str) -> Gathered {
        let path = format!("{}/tests/files/{name}", env!("CARGO_MANIFEST_DIR"));
        Gathered::of(std::fs::read(path).unwrap())
    }

    #[test]
    fn archives_in_an_archive_are_read_stored_or_deflated() {
        let packages = read(b"app/service-1.0.jar", &sample("service-1.0.jar")).unwrap();
        insta::assert_snapshot!(shown(&packages), @r"
        java com.example:service 1.0
        java org.acme:stored 2.1 inside=BOOT-INF/lib/stored-2.1.jar
        java org.acme:shaded 0.9 inside=BOOT-INF/lib/stored-2.1.jar
        java org.acme.util:plain 3.2.1 inside=BOOT-INF/lib/plain-3.2.1.jar
        ");
    }

    #[test]
    fn an_archive_that_says_nothing_is_known_by_its_name() {
        let manifest = "Manifest-Version: 1.0\r\nImplementation-Version: 9.9\r\n\
                        Bundle-SymbolicName: org.apache.commo\r\n ns.io;singleton:=true\r\n\r\n\
                        Name: x\r\nImplementation-Vendor-Id: no\r\n";
        for (path, manifest, expected) in [
            ("lib/commons-io-2.11.0.jar", "", "java commons-io 2.11.0"),
            ("lib/commons-io.jar", manifest, "java org.apache.commons.io:commons-io 9.9"),
            ("lib/io-1.jar", manifest, "java org.apache.commons:io 1"),
            ("lib/nothing.jar", "", ""),
        ] {
            let manifest = manifest.replace("\r\n", "\n");
            let place = Place { path: path.as_bytes(), inside: "" };
            let packages: Vec<Package> = of_manifest(place, &manifest).into_iter().collect();
            assert_eq!(shown(&packages), expected, "{path}");
        }
    }

    #[test]
    fn an_archive_that_is_cut_off_is_refused() {
        let whole = sample("service-1.0.jar").bytes(1 << 20).unwrap();
        let cut = Gathered::of(whole[..whole.len() - 30].to_vec());
        assert!(read(b"a.jar", &cut).is_err());
        assert!(read(b"a.jar", &Gathered::default()).is_err());
    }
}
