//! `registries.conf`, version 2 (containers-registries.conf(5)): mirrors, other locations, blocked
//! and insecure registries, short names.

use std::collections::BTreeMap;

use serde::Deserialize;

use conex_oci::Reference;

use crate::error::{Error, ErrorKind, Result, shown};
use crate::limits::CONFIG_SIZE_MAX;

/// Most registries and most mirrors of one.
const ENTRIES_MAX: usize = 1000;

/// What `registries.conf` and the files of `registries.conf.d` say.
#[derive(Debug, Clone, Default)]
pub struct RegistriesConf {
    registries: Vec<Registry>,
    /// Where to look for a short name that is no alias, in order.
    pub search: Vec<String>,
    aliases: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct File {
    #[serde(default, rename = "registry")]
    registries: Vec<Registry>,
    #[serde(default, rename = "unqualified-search-registries")]
    search: Option<Vec<String>>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Registry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<Mirror>,
    #[serde(default, rename = "mirror-by-digest-only")]
    mirror_by_digest_only: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pull: PullFrom,
}

/// What a mirror may be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

/// A place where a repository may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host, and port where it is not the usual one.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// Plain HTTP and unchecked certificates are accepted.
    pub insecure: bool,
    /// It is a mirror, good for reading only.
    pub mirror: bool,
}

impl RegistriesConf {
    /// Reads one file.
    ///
    /// # Errors
    /// It is not TOML of this shape.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::config(format!("`registries.conf` is not valid: {why}"));
        if text.len() as u64 > CONFIG_SIZE_MAX {
            return Err(Error::too_large("`registries.conf`", CONFIG_SIZE_MAX));
        }
        let table: toml::Table =
            toml::from_str(text).map_err(|source| wrong(shown(&source.to_string(), 300)))?;
        if table.get("registries").is_some_and(toml::Value::is_table) {
            let error = wrong("it is written in the old version 1".into());
            return Err(error.with_hint("rewrite it with `[[registry]]` tables"));
        }
        let file: File = table
            .try_into()
            .map_err(|source: toml::de::Error| wrong(shown(source.message(), 300)))?;
        let File { mut registries, search, aliases } = file;
        let too_many = registries.len() > ENTRIES_MAX
            || registries.iter().any(|registry| registry.mirrors.len() > ENTRIES_MAX);
        if too_many {
            return Err(wrong(format!("it has more than {ENTRIES_MAX} entries")));
        }
        for registry in &mut registries {
            if registry.prefix.is_empty() {
                registry.prefix.clone_from(&registry.location);
            }
            if registry.prefix.is_empty() {
                return Err(wrong("a `[[registry]]` has neither `prefix` nor `location`".into()));
            }
            let wildcard = registry.prefix.starts_with("*.");
            if registry.location.is_empty() && !wildcard {
                registry.location.clone_from(&registry.prefix);
            }
        }
        Ok(Self { registries, search: search.unwrap_or_default(), aliases })
    }

    /// Lets a later file add to this one; what it says again, it says better.
    pub fn merge(&mut self, later: Self) {
        for registry in later.registries {
            self.registries.retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
        if !later.search.is_empty() {
            self.search = later.search;
        }
        self.aliases.extend(later.aliases);
    }

    /// The full name that a short name (`fedora`) is an alias of.
    pub fn alias(&self, short: &str) -> Option<&str> {
        self.aliases.get(short).map(String::as_str).filter(|full| !full.is_empty())
    }

    /// The names that a person may mean: an alias, or the name in each search registry; the name
    /// itself where it is not short. A tag or digest is kept.
    ///
    /// # Errors
    /// None of them is a reference.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>> {
        let end = text.find(['@', ':']).unwrap_or(text.len());
        let (name, version) = text.split_at(end);
        let first = name.split('/').next().unwrap_or_default();
        let port_follows = text.get(end..).is_some_and(|rest| rest.contains('/'));
        let qualified =
            port_follows || name.contains('/') && (first.contains('.') || first == "localhost");
        let reference = |text: &str| {
            text.parse::<Reference>().map_err(|source| {
                Error::new(ErrorKind::Config, "cannot understand the name").with_source(source)
            })
        };
        if qualified {
            return Ok(vec![reference(text)?]);
        }
        if let Some(full) = self.alias(name) {
            return Ok(vec![reference(&format!("{full}{version}"))?]);
        }
        if self.search.is_empty() {
            return Ok(vec![reference(text)?]);
        }
        self.search.iter().map(|registry| reference(&format!("{registry}/{text}"))).collect()
    }

    /// Where to look for a reference, best first: mirrors, then the registry itself.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let name = reference.name();
        let own = Place {
            registry: reference.registry().to_owned(),
            repository: reference.repository().to_owned(),
            insecure: false,
            mirror: false,
        };
        let best = self
            .registries
            .iter()
            .filter_map(|registry| Some((matched(&registry.prefix, &name)?, registry)))
            .max_by_key(|(len, _)| *len);
        let Some((len, registry)) = best else { return Ok(vec![own]) };
        if registry.blocked {
            return Err(Error::new(
                ErrorKind::Blocked,
                format!("`{}` is blocked by `registries.conf`", registry.prefix),
            )
            .with_hint(format!("remove `blocked = true` of prefix `{}`", registry.prefix)));
        }
        let by_digest = reference.digest().is_some();
        let mut places = Vec::new();
        for mirror in &registry.mirrors {
            let digest_only = registry.mirror_by_digest_only || mirror.pull == PullFrom::DigestOnly;
            let wanted = if by_digest { mirror.pull != PullFrom::TagOnly } else { !digest_only };
            if wanted {
                places.push(moved(&mirror.location, &name, len, mirror.insecure, true)?);
            }
        }
        if registry.location.is_empty() {
            places.push(Place { insecure: registry.insecure, ..own });
        } else {
            places.push(moved(&registry.location, &name, len, registry.insecure, false)?);
        }
        Ok(places)
    }
}

/// How much of a name a prefix covers: whole parts only, or any host below `*.host`.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host_end = name.find('/').unwrap_or(name.len());
        let host = name.get(..host_end)?;
        return (host.len() > domain.len() && host.ends_with(domain)).then_some(host_end);
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

fn moved(location: &str, name: &str, len: usize, insecure: bool, mirror: bool) -> Result<Place> {
    let text = format!("{location}{}", name.get(len..).unwrap_or_default());
    let wrong = || {
        Error::config(format!(
            "`{}` in `registries.conf` is no place for images",
            shown(&text, 200)
        ))
    };
    let (registry, repository) = text.split_once('/').ok_or_else(wrong)?;
    // The parser of references knows the rules for both parts.
    let parsed: Reference = format!("{registry}/{repository}").parse().map_err(|_| wrong())?;
    if registry != parsed.registry() && parsed.registry() != conex_oci::DEFAULT_REGISTRY {
        return Err(wrong());
    }
    Ok(Place {
        registry: parsed.registry().to_owned(),
        repository: parsed.repository().to_owned(),
        insecure,
        mirror,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
unqualified-search-registries = ["docker.io", "quay.io"]
short-name-mode = "permissive"
[aliases]
"fedora" = "registry.fedoraproject.org/fedora"
[[registry]]
prefix = "example.com/foo"
location = "internal.example.com:5000/bar"
insecure = true
[[registry.mirror]]
location = "m1.example.com/foo"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "m2.example.com/foo"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "m3.example.com"
insecure = true
[[registry]]
location = "bad.example.com"
blocked = true
[[registry]]
prefix = "*.corp.example"
insecure = true
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.gcr.io"
"#;

    fn places(reference: &str) -> String {
        let conf = RegistriesConf::parse(CONF).unwrap();
        match conf.places(&reference.parse().unwrap()) {
            Ok(places) => places
                .iter()
                .map(|p| {
                    let insecure = if p.insecure { "!" } else { "" };
                    format!("{}/{}{insecure}", p.registry, p.repository)
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn places_follow_the_longest_prefix() {
        let digest = conex_oci::Digest::of(b"");
        for (reference, wanted) in [
            (
                "example.com/foo/x:1".to_owned(),
                "m2.example.com/foo/x m3.example.com/x! internal.example.com:5000/bar/x!",
            ),
            (
                format!("example.com/foo/x@{digest}"),
                "m1.example.com/foo/x m3.example.com/x! internal.example.com:5000/bar/x!",
            ),
            ("example.com/foobar".into(), "example.com/foobar"),
            (
                "bad.example.com/x".into(),
                "error: `bad.example.com` is blocked by `registries.conf`",
            ),
            ("a.corp.example/x".into(), "a.corp.example/x!"),
            ("corp.example/x".into(), "corp.example/x"),
            ("ubuntu".into(), "mirror.gcr.io/library/ubuntu docker.io/library/ubuntu"),
        ] {
            assert_eq!(places(&reference), wanted, "{reference}");
        }
    }

    #[test]
    fn short_names_are_expanded() {
        let conf = RegistriesConf::parse(CONF).unwrap();
        let names = |text: &str| -> Vec<String> {
            conf.candidates(text).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(names("fedora:40"), ["registry.fedoraproject.org/fedora:40"]);
        assert_eq!(names("app"), ["docker.io/library/app:latest", "quay.io/app:latest"]);
        assert_eq!(names("localhost:5000/app"), ["localhost:5000/app:latest"]);
        assert_eq!(names("ghcr.io/a/b:2"), ["ghcr.io/a/b:2"]);
        assert!(conf.candidates("UPPER").is_err());
    }

    #[test]
    fn wrong_files_are_refused() {
        for text in ["x", "[registries.search]\nregistries=['a']", "[[registry]]", "registry = 1"] {
            assert!(RegistriesConf::parse(text).is_err(), "{text}");
        }
    }
}
