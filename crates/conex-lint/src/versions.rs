//! The versions that packages had in an image, to pin them to.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// What is installed somewhere, by the type and name of the package.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// None where there are several of a name.
    known: BTreeMap<(String, String), Option<String>>,
}

impl Versions {
    /// Adds a package: its type (`dpkg`, `apk`, `rpm`, `python`, `npm`, `gem`), name and version.
    pub fn add(&mut self, kind: &str, name: &str, version: &str) {
        let key = (kind.to_owned(), folded(kind, name).into_owned());
        self.known
            .entry(key)
            .and_modify(|known| {
                if known.as_deref() != Some(version) {
                    *known = None;
                }
            })
            .or_insert_with(|| Some(version.to_owned()));
    }

    /// The one version of a package, if it is written so that a shell takes it as it stands.
    pub(crate) fn of(&self, kind: &str, name: &str) -> Option<&str> {
        let key = (kind.to_owned(), folded(kind, name).into_owned());
        let version = self.known.get(&key)?.as_deref()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:+-_~^".contains(&byte);
        (!version.is_empty() && version.bytes().all(is_plain)).then_some(version)
    }
}

/// Names of Python's packages are the same in either case and with any of `-`, `_` and `.`
/// (<https://packaging.python.org/en/latest/specifications/name-normalization/>).
fn folded<'n>(kind: &str, name: &'n str) -> Cow<'n, str> {
    if kind != "python" {
        return Cow::Borrowed(name);
    }
    let mut folded = String::with_capacity(name.len());
    for char in name.chars() {
        match char {
            '-' | '_' | '.' if folded.ends_with('-') => {}
            '-' | '_' | '.' => folded.push('-'),
            _ => folded.push(char.to_ascii_lowercase()),
        }
    }
    Cow::Owned(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_plain_version_or_none() {
        let mut versions = Versions::default();
        for (kind, name, version) in [
            ("dpkg", "git", "1:2.47.3-0+deb13u1"),
            ("npm", "semver", "6.3.1"),
            ("npm", "semver", "7.7.2"),
            ("npm", "express", "5.1.0"),
            ("npm", "express", "5.1.0"),
            ("python", "Jinja2_Time", "0.2"),
            ("apk", "evil", "1; rm -rf /"),
            ("apk", "none", ""),
        ] {
            versions.add(kind, name, version);
        }
        for (kind, name, wanted) in [
            ("dpkg", "git", Some("1:2.47.3-0+deb13u1")),
            ("apk", "git", None),
            ("npm", "semver", None),
            ("npm", "express", Some("5.1.0")),
            ("python", "jinja2-time", Some("0.2")),
            ("apk", "evil", None),
            ("apk", "none", None),
        ] {
            assert_eq!(versions.of(kind, name), wanted, "{kind} {name}");
        }
    }
}
