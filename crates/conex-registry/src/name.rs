//! Names of repositories and tags, as the distribution spec allows them.
//!
//! Invariant: a value is a valid name. Nothing here ever becomes a path on the disk.

use std::fmt;

/// Longest repository name: what clients and other registries take.
const NAME_LEN_MAX: usize = 255;

/// Longest tag (distribution spec, "Pulling manifests").
const TAG_LEN_MAX: usize = 128;

/// The name of a repository (`team/app`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Reads a name; none if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = text.len() <= NAME_LEN_MAX && text.split('/').all(is_part);
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A tag (`1.4`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// Reads a tag; none if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let bytes = text.as_bytes();
        let is_valid = bytes.len() <= TAG_LEN_MAX
            && bytes.first().copied().is_some_and(word)
            && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'));
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_part(part: &str) -> bool {
    let alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let edges = part.bytes().next().is_some_and(alphanumeric)
        && part.bytes().next_back().is_some_and(alphanumeric);
    edges
        && part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

/// A pattern for names or tags: `*` is any text, all else is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether a text fits.
    pub fn matches(&self, text: &str) -> bool {
        // Each piece is found as early as it can be: enough where `*` is the only wildcard.
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut pieces = pieces.peekable();
        if pieces.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                return rest.ends_with(piece);
            }
            match rest.find(piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        let long = "a/".repeat(127) + "a";
        for name in ["a", "a/b", "a__b/c-d.e---f", "0", &long] {
            assert!(Name::parse(name).is_some(), "{name}");
        }
        let too_long = "a/".repeat(127) + "ab";
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "..", "a/../b", "é",
            &too_long,
        ] {
            assert!(Name::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn tags_are_those_of_the_specification() {
        for tag in ["latest", "1.4", "_x", "A-b.C", &"x".repeat(128)] {
            assert!(Tag::parse(tag).is_some(), "{tag}");
        }
        for tag in ["", ".a", "-a", "a/b", "a:b", "a\n", &"x".repeat(129)] {
            assert!(Tag::parse(tag).is_none(), "{tag}");
        }
    }

    #[test]
    fn patterns_have_one_wildcard() {
        for (pattern, text, fits) in [
            ("v*", "v1", true),
            ("v*", "x", false),
            ("*", "", true),
            ("*-rc*", "1.0-rc1", true),
            ("*-rc*", "1.0", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "ac", false),
            ("release", "release", true),
            ("release", "release2", false),
            ("*a", "aa", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }
}
