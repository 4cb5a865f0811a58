//! References: the names that people give to images (`ghcr.io/acme/api:1.4@sha256:…`), by the
//! rules of Docker.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error};

/// The registry meant when a name has none.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// The tag meant when a name has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// Longest repository name with its registry, as in Docker and in the distribution spec's advice.
const NAME_LEN_MAX: usize = 255;

/// Longest tag (distribution spec, "Pulling manifests").
const TAG_LEN_MAX: usize = 128;

/// A normalised reference: registry, repository, and a tag, a digest or both.
///
/// Invariant: `ubuntu` is held as `docker.io`, `library/ubuntu`, tag `latest`, so two texts that
/// mean one image are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and port (`docker.io`, `localhost:5000`).
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry (`library/ubuntu`).
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository in the short form that people type (`ubuntu`, `ghcr.io/a/b`), as
    /// far as that names the same: `docker.io/localhost/app` has no shorter form.
    pub fn familiar_name(&self) -> String {
        let short = self.repository.strip_prefix("library/").unwrap_or(&self.repository);
        [short, &self.repository]
            .into_iter()
            .filter(|_| self.registry == DEFAULT_REGISTRY)
            .find(|name| name.parse().is_ok_and(|again: Self| again.name() == self.name()))
            .map_or_else(|| self.name(), str::to_owned)
    }

    /// Registry and repository in full (`docker.io/library/ubuntu`).
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The whole reference in the short form that people type.
    pub fn familiar(&self) -> String {
        self.with_version(self.familiar_name())
    }

    /// The same repository with another tag and no digest.
    ///
    /// # Errors
    /// The text is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Error> {
        check_tag(tag, tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository at a digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn with_version(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::syntax("an image reference", text, why);
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse().map_err(|_| wrong("the part after `@` is no digest"))?))
            }
            None => (text, None),
        };
        // A colon behind the last slash starts a tag; before it, a port.
        let name_end = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[name_end..].find(':') {
            Some(at) => (&rest[..name_end + at], Some(&rest[name_end + at + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag, text)?;
        }
        if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong("64 hexadecimal digits are an image ID, not a name"));
        }
        let (registry, repository) = split_registry(name);
        check_registry(&registry, text)?;
        check_repository(&repository, text)?;
        if registry.len() + 1 + repository.len() > NAME_LEN_MAX {
            return Err(wrong("the name has more than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

/// The first part is a registry if it could not be a repository: it has a dot or a port, is
/// `localhost`, or has upper-case letters.
fn split_registry(name: &str) -> (String, String) {
    let registry = name.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':'])
            || *first == "localhost"
            || first.bytes().any(|byte| byte.is_ascii_uppercase())
    });
    match registry {
        Some(("docker.io" | "index.docker.io", rest)) => docker_hub(rest),
        Some((registry, rest)) => (registry.to_owned(), rest.to_owned()),
        None => docker_hub(name),
    }
}

fn docker_hub(name: &str) -> (String, String) {
    let library = if name.contains('/') { "" } else { "library/" };
    (DEFAULT_REGISTRY.to_owned(), format!("{library}{name}"))
}

fn check_registry(registry: &str, text: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::syntax("an image reference", text, why));
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => return wrong("the IPv6 address is not closed by `]`"),
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    if registry.starts_with('[') {
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return wrong("the registry is not an IPv6 address");
        }
    } else if !host.split('.').all(is_host_label) {
        return wrong("the registry is not a host name");
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() => wrong("the port is not a number to 65535"),
        _ => Ok(()),
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Repository parts are lower-case letters and digits, joined by one `.`, one or two `_`, or any
/// number of `-` (distribution spec, "Pulling manifests").
fn check_repository(repository: &str, text: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::syntax("an image reference", text, why));
    if repository.is_empty() {
        return wrong("the name is empty");
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return wrong("the repository must be lower case");
    }
    let part_ok = |part: &str| {
        let alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
        let edges = part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().next_back().is_some_and(alphanumeric);
        let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        edges
            && separators.into_iter().all(|separator| {
                matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
    };
    if repository.split('/').all(part_ok) {
        Ok(())
    } else {
        wrong("a part of the name is empty or holds an unusual character")
    }
}

fn check_tag(tag: &str, text: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::syntax("an image reference", text, why));
    if tag.is_empty() {
        return wrong("the tag is empty");
    }
    if tag.len() > TAG_LEN_MAX {
        return wrong("the tag has more than 128 characters");
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first_ok = tag.bytes().next().is_some_and(word);
    if first_ok && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-')) {
        Ok(())
    } else {
        wrong("the tag holds an unusual character")
    }
}

impl fmt::Display for Reference {
    /// Writes the reference in full (`docker.io/library/ubuntu:latest`).
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.with_version(self.name()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> String {
        match text.parse::<Reference>() {
            Ok(reference) => reference.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        let digest = Digest::of(b"");
        for (given, wanted) in [
            ("ubuntu", "docker.io/library/ubuntu:latest"),
            ("ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
            ("acme/api", "docker.io/acme/api:latest"),
            ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("a__b/c-d.e---f:_x", "docker.io/a__b/c-d.e---f:_x"),
            ("ABC/app", "ABC/app:latest"),
        ] {
            assert_eq!(parsed(given), wanted, "{given}");
        }
        assert_eq!(parsed(&format!("a@{digest}")), format!("docker.io/library/a@{digest}"));
        assert_eq!(parsed(&format!("a:1@{digest}")), format!("docker.io/library/a:1@{digest}"));
    }

    #[test]
    fn wrong_names_are_refused_with_the_reason() {
        let hex = "a".repeat(64);
        let long = format!("x/{}", "a/".repeat(130) + "a");
        for wrong in [
            "",
            ":1",
            "a:",
            "a@",
            "a@sha256:00",
            "a//b",
            "/a",
            "a/",
            "UPPER",
            "a b",
            "a...b",
            "a___b",
            "-a",
            "a-",
            "a:b:c",
            "a:-x",
            "host:port/a",
            "../../etc",
            "a/../b",
            "[::1/a",
            &hex,
            &long,
            "a\n",
            "é",
            "a:é",
        ] {
            assert!(parsed(wrong).starts_with("error: "), "{wrong}: {}", parsed(wrong));
        }
        assert!(parsed("acme/Api").contains("must be lower case"));
    }

    #[test]
    fn familiar_form_is_what_people_type() {
        for text in ["ubuntu:latest", "acme/api:1", "ghcr.io/a/b:2", "localhost:5000/x:y"] {
            assert_eq!(text.parse::<Reference>().unwrap().familiar(), text);
        }
    }

    #[test]
    fn familiar_form_is_no_shorter_than_it_can_be_read() {
        let hex = format!("docker.io/library/{}", "a".repeat(64));
        for (text, expected) in [
            ("docker.io/library/a/b", "library/a/b"),
            ("docker.io/localhost/app", "docker.io/localhost/app"),
            ("docker.io/ghcr.io/app", "docker.io/ghcr.io/app"),
            (&hex, hex.strip_prefix("docker.io/").unwrap()),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.familiar_name(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_parsing_is_stable(text in "\\PC{0,80}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let whole = reference.to_string();
                prop_assert_eq!(whole.parse::<Reference>().unwrap(), reference.clone());
                prop_assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
