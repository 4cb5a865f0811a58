//! Package URLs: one name for a package that every tool knows.
//!
//! Source: the purl specification (ECMA-427) and its definitions of types.

use super::{Distribution, Manager, Package};

/// The package URL of a package. Those of a distribution name it.
pub(super) fn purl(package: &Package, distribution: Option<&Distribution>) -> String {
    let id = distribution.map_or("", |distribution| distribution.id.as_str());
    let (kind, namespace, name) = match package.manager {
        Manager::Dpkg => ("deb", or(id, "debian"), package.name.clone()),
        Manager::Apk => ("apk", or(id, "alpine"), package.name.to_lowercase()),
        Manager::Rpm => ("rpm", or(id, "redhat"), package.name.clone()),
        Manager::Pacman => ("alpm", or(id, "arch"), package.name.to_lowercase()),
        // PEP 503: one spelling for all that are the same.
        Manager::Python => {
            ("pypi", String::new(), package.name.to_lowercase().replace(['_', '.'], "-"))
        }
        Manager::Conda => ("conda", String::new(), package.name.clone()),
        Manager::Gem => ("gem", String::new(), package.name.clone()),
        Manager::Cargo => ("cargo", String::new(), package.name.clone()),
        Manager::Nuget => ("nuget", String::new(), package.name.clone()),
        Manager::Npm => in_namespace("npm", &package.name, '/'),
        Manager::Composer => in_namespace("composer", &package.name.to_lowercase(), '/'),
        Manager::Go => in_namespace("golang", &package.name.to_lowercase(), '/'),
        Manager::Java => in_namespace("maven", &package.name, ':'),
    };
    let mut purl = format!("pkg:{kind}/");
    for part in namespace.split('/').filter(|part| !part.is_empty()) {
        escape(&mut purl, part);
        purl.push('/');
    }
    escape(&mut purl, &name);
    // RPM's epoch is a qualifier.
    let epoch = package.version.split_once(':').filter(|_| package.manager == Manager::Rpm);
    purl.push('@');
    escape(&mut purl, epoch.map_or(package.version.as_str(), |(_, version)| version));
    let is_system =
        matches!(package.manager, Manager::Dpkg | Manager::Apk | Manager::Rpm | Manager::Pacman);
    let version = distribution.map_or("", |distribution| distribution.version.as_str());
    let release = match (is_system, id, version) {
        (false, ..) | (_, "", _) => String::new(),
        (_, id, "") => id.to_owned(),
        (_, id, version) => format!("{id}-{version}"),
    };
    let architecture = match package.manager {
        Manager::Conda => "subdir",
        Manager::Gem => "platform",
        _ => "arch",
    };
    // In the order of their keys.
    let mut qualifiers = [
        (architecture, package.architecture.as_str()),
        ("distro", release.as_str()),
        ("epoch", epoch.map_or("", |(epoch, _)| epoch)),
    ];
    qualifiers.sort_unstable();
    let mut mark = '?';
    for (key, value) in qualifiers.iter().filter(|(_, value)| !value.is_empty()) {
        purl.push(mark);
        purl.push_str(key);
        purl.push('=');
        escape(&mut purl, value);
        mark = '&';
    }
    purl
}

fn or(text: &str, other: &str) -> String {
    if text.is_empty() { other.to_owned() } else { text.to_owned() }
}

fn in_namespace<'k>(kind: &'k str, name: &str, separator: char) -> (&'k str, String, String) {
    let (namespace, name) = name.rsplit_once(separator).unwrap_or(("", name));
    (kind, namespace.to_owned(), name.to_owned())
}

/// Writes a text with everything escaped that could mean something else.
fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_package_has_its_url() {
        let release = |id: &str, version: &str| {
            Some(Distribution {
                id: id.to_owned(),
                version: version.to_owned(),
                name: String::new(),
            })
        };
        for (manager, name, version, architecture, distribution, expected) in [
            (
                Manager::Dpkg,
                "libstdc++6",
                "1:12.2-14+b1",
                "amd64",
                release("debian", "12"),
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2-14%2Bb1?arch=amd64&distro=debian-12",
            ),
            (
                Manager::Apk,
                "musl",
                "1.2.5-r0",
                "x86_64",
                release("alpine", "3.20.1"),
                "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1",
            ),
            (
                Manager::Rpm,
                "shadow-utils",
                "2:4.6-5.el8",
                "x86_64",
                release("rhel", "8.9"),
                "pkg:rpm/rhel/shadow-utils@4.6-5.el8?arch=x86_64&distro=rhel-8.9&epoch=2",
            ),
            (Manager::Rpm, "a", "1-1", "", None, "pkg:rpm/redhat/a@1-1"),
            (
                Manager::Pacman,
                "zlib",
                "1:1.3-2",
                "x86_64",
                release("arch", ""),
                "pkg:alpm/arch/zlib@1:1.3-2?arch=x86_64&distro=arch",
            ),
            (
                Manager::Python,
                "Typing_Extensions",
                "4.8.0",
                "",
                release("debian", "12"),
                "pkg:pypi/typing-extensions@4.8.0",
            ),
            (Manager::Npm, "@babel/core", "7.1.0", "", None, "pkg:npm/%40babel/core@7.1.0"),
            (Manager::Npm, "lodash", "4.17.21", "", None, "pkg:npm/lodash@4.17.21"),
            (
                Manager::Gem,
                "nokogiri",
                "1.15.4",
                "x86_64-linux",
                None,
                "pkg:gem/nokogiri@1.15.4?platform=x86_64-linux",
            ),
            (
                Manager::Go,
                "github.com/Azure/go-autorest",
                "v14.2.0+incompatible",
                "",
                None,
                "pkg:golang/github.com/azure/go-autorest@v14.2.0%2Bincompatible",
            ),
            (Manager::Go, "stdlib", "1.21.3", "", None, "pkg:golang/stdlib@1.21.3"),
            (
                Manager::Java,
                "org.apache.commons:commons-io",
                "2.11.0",
                "",
                None,
                "pkg:maven/org.apache.commons/commons-io@2.11.0",
            ),
            (Manager::Composer, "Symfony/Http", "v5", "", None, "pkg:composer/symfony/http@v5"),
            (Manager::Conda, "zlib", "1.2", "linux-64", None, "pkg:conda/zlib@1.2?subdir=linux-64"),
            (Manager::Cargo, "serde", "1.0.1", "", None, "pkg:cargo/serde@1.0.1"),
        ] {
            let mut package = Package::new(manager, name, version);
            architecture.clone_into(&mut package.architecture);
            assert_eq!(purl(&package, distribution.as_ref()), expected, "{name}");
        }
    }
}
