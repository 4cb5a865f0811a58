//! The lists of the package managers of distributions that are text.
//!
//! Sources: deb-control(5), the Alpine wiki's description of the installed database, alpm-db
//! `desc` files. Lines that mean nothing here are passed over.

use super::{Manager, Package};

/// dpkg's `status`: paragraphs of `Field: value`.
pub(super) fn dpkg(text: &str) -> Vec<Package> {
    paragraphs(text, |paragraph| {
        let mut package = Package::new(Manager::Dpkg, "", "");
        for line in paragraph {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match key {
                "Package" => value.clone_into(&mut package.name),
                "Version" => value.clone_into(&mut package.version),
                "Architecture" => value.clone_into(&mut package.architecture),
                "Installed-Size" => {
                    package.size = value.parse::<u64>().unwrap_or(0).saturating_mul(1024);
                }
                "Source" => {
                    // The version stands there where it is another: `glibc (2.36-9)`.
                    let (name, version) = value.split_once(" (").unwrap_or((value, ""));
                    name.clone_into(&mut package.source);
                    version.trim_end_matches(')').clone_into(&mut package.source_version);
                }
                // `install ok installed`, `hold ok installed`; distroless images say nothing.
                "Status" if !value.ends_with(" installed") => return None,
                _ => {}
            }
        }
        with_source(package)
    })
}

/// apk's `installed`: paragraphs of `X:value`.
pub(super) fn apk(text: &str) -> Vec<Package> {
    paragraphs(text, |paragraph| {
        let mut package = Package::new(Manager::Apk, "", "");
        for line in paragraph {
            match line.split_once(':') {
                Some(("P", value)) => value.clone_into(&mut package.name),
                Some(("V", value)) => value.clone_into(&mut package.version),
                Some(("A", value)) => value.clone_into(&mut package.architecture),
                Some(("I", value)) => package.size = value.parse().unwrap_or(0),
                Some(("o", value)) => value.clone_into(&mut package.source),
                Some(("L", value)) => value.clone_into(&mut package.license),
                _ => {}
            }
        }
        with_source(package)
    })
}

/// pacman's `desc`: `%FIELD%` lines, each with its values below it.
pub(super) fn pacman(text: &str) -> Vec<Package> {
    let mut package = Package::new(Manager::Pacman, "", "");
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(field) = line.strip_prefix('%').and_then(|line| line.strip_suffix('%')) else {
            continue;
        };
        let Some(value) = lines.next() else { break };
        match field {
            "NAME" => value.clone_into(&mut package.name),
            "VERSION" => value.clone_into(&mut package.version),
            "ARCH" => value.clone_into(&mut package.architecture),
            "BASE" => value.clone_into(&mut package.source),
            "LICENSE" => value.clone_into(&mut package.license),
            "SIZE" => package.size = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    with_source(package).into_iter().collect()
}

/// What Mariner's distroless images have in place of RPM's database: a line a package, in columns
/// name, version-release, times, vendor, size, epoch, architecture, source.
pub(super) fn rpm_manifest(text: &str) -> Vec<Package> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, version, _, _, _, _, size, architecture, epoch, source] = fields.as_slice()
        else {
            return None;
        };
        let version = match *epoch {
            "" | "0" | "(none)" => (*version).to_owned(),
            epoch => format!("{epoch}:{version}"),
        };
        let mut package = Package::new(Manager::Rpm, *name, version);
        (*architecture).clone_into(&mut package.architecture);
        package.size = size.parse().unwrap_or(0);
        super::rpm::set_source(&mut package, source);
        with_source(package)
    };
    text.lines().filter_map(line).collect()
}

/// Reads text in paragraphs, which end with an empty line.
fn paragraphs<'t>(
    text: &'t str,
    mut read: impl FnMut(&[&'t str]) -> Option<Package>,
) -> Vec<Package> {
    let mut packages = Vec::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        if !line.trim_end().is_empty() {
            lines.push(line);
        } else if !lines.is_empty() {
            packages.extend(read(&lines));
            lines.clear();
            // The caller refuses what has more.
            if packages.len() > super::PACKAGE_COUNT_MAX {
                break;
            }
        }
    }
    packages
}

/// A package that has a name and a version, and a source only where that is another.
fn with_source(mut package: Package) -> Option<Package> {
    if package.name.is_empty() || package.version.is_empty() {
        return None;
    }
    let has_version =
        !package.source_version.is_empty() && package.source_version != package.version;
    if package.source == package.name && !has_version {
        package.source.clear();
    }
    if !has_version {
        package.source_version.clear();
    }
    Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::language::tests::shown;

    #[test]
    fn dpkg_lists_what_is_installed_with_its_source() {
        let packages = dpkg(
            "Package: bash\nStatus: install ok installed\nInstalled-Size: 7\nArchitecture: amd64\n\
             Version: 5.2-1\nDescription: a shell\n Package: not this\n\n\
             Package: libc6\nStatus: hold ok installed\nSource: glibc\nVersion: 2.36-9\n\n\
             Package: libgcc-s1\nSource: gcc-12 (12.2.0-14)\nVersion: 1:12.2.0-14+b1\n\n\n\
             Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
             Package: half\n",
        );
        insta::assert_snapshot!(shown(&packages), @r"
        dpkg bash 5.2-1 arch=amd64 size=7168
        dpkg libc6 2.36-9 source=glibc
        dpkg libgcc-s1 1:12.2.0-14+b1 source=gcc-12@12.2.0-14
        ");
    }

    #[test]
    fn apk_lists_packages_with_origin_and_licence() {
        let packages =
            apk("C:Q1abc=\nP:musl-utils\nV:1.2.5-r0\nA:x86_64\nI:667648\nL:MIT AND BSD-2-Clause\n\
             o:musl\nF:lib\nR:a\n\nP:busybox\nV:1.36-r2\no:busybox\n\nP:broken\n");
        insta::assert_snapshot!(shown(&packages), @r"
        apk musl-utils 1.2.5-r0 arch=x86_64 source=musl license=MIT AND BSD-2-Clause size=667648
        apk busybox 1.36-r2
        ");
    }

    #[test]
    fn pacman_and_mariner_describe_theirs() {
        let zlib = "%NAME%\nzlib\n\n%VERSION%\n1:1.3.1-2\n\n%BASE%\nzlib\n\n%ARCH%\nx86_64\n\n\
                    %LICENSE%\ncustom\n\n%DEPENDS%\nglibc\n";
        let manifest = "filesystem\t1.1-10.cm2\t1653816591\t1653753130\tMicrosoft Corporation\t\
                        (none)\t7596\tx86_64\t0\tfilesystem-1.1-10.cm2.src.rpm\nshort\t1\n";
        let packages = [pacman(zlib), rpm_manifest(manifest)].concat();
        insta::assert_snapshot!(shown(&packages), @r"
        pacman zlib 1:1.3.1-2 arch=x86_64 license=custom
        rpm filesystem 1.1-10.cm2 arch=x86_64 size=7596
        ");
    }
}
