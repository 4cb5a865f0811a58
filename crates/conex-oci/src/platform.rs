//! Platforms: operating system, CPU architecture, variant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A platform as in an index's descriptor and an image's config, in Go's words (`linux`, `amd64`,
/// `arm64`, `v7`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system (Windows).
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture (`v7`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// Makes a platform and normalises it.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = normalised(architecture, variant);
        Self {
            architecture,
            os: normalised_os(os),
            os_version: String::new(),
            os_features: Vec::new(),
            variant,
        }
    }

    /// The platform that this program was compiled for.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// Whether an image of this platform serves where `wanted` is asked for: same system and
    /// architecture, and the same variant, or one that every CPU of the wanted variant also runs
    /// (`arm` v6 where v7 is wanted, `amd64` v1 where v3 is).
    pub fn serves(&self, wanted: &Self) -> bool {
        let (mine, theirs) = (self.variant_number(), wanted.variant_number());
        self.os == wanted.os && self.architecture == wanted.architecture && mine <= theirs
    }

    /// Picks the best of several platforms for `self`: the highest variant that serves. Returns
    /// its position.
    pub fn best_of<'p>(&self, offered: impl IntoIterator<Item = &'p Self>) -> Option<usize> {
        offered
            .into_iter()
            .enumerate()
            .filter(|(_, platform)| platform.serves(self))
            // The first of equals wins, as in containerd.
            .max_by_key(|(at, platform)| (platform.variant_number(), std::cmp::Reverse(*at)))
            .map(|(at, _)| at)
    }

    fn variant_number(&self) -> u32 {
        let default = match self.architecture.as_str() {
            "arm" => 7,
            "arm64" => 8,
            _ => 1,
        };
        self.variant.trim_start_matches('v').parse().unwrap_or(default)
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Reads `os/architecture[/variant]`, or one of the two alone.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why| Error::syntax("a platform", text, why);
        let allowed = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| allowed(part)) {
            return Err(wrong("a part is empty or holds an unusual character"));
        }
        let host = Self::host();
        match parts.as_slice() {
            [one] if is_known_os(&normalised_os(one)) => {
                Ok(Self::new(one, &host.architecture, &host.variant))
            }
            [one] if is_known_architecture(&normalised(one, "").0) => {
                Ok(Self::new("linux", one, ""))
            }
            [_] => Err(wrong("it names neither a known system nor a known architecture")),
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(wrong("it has more than three parts")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}/{}", self.os, self.architecture);
        if !self.variant.is_empty() {
            text.push('/');
            text.push_str(&self.variant);
        }
        formatter.pad(&text)
    }
}

fn normalised_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".into(),
        other => other.into(),
    }
}

/// Maps other names of an architecture to Go's, and drops a variant that says nothing.
fn normalised(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("powerpc64le", variant) => ("ppc64le", variant),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

fn is_known_os(os: &str) -> bool {
    matches!(os, "linux" | "windows" | "darwin" | "freebsd" | "netbsd" | "openbsd" | "wasip1")
}

fn is_known_architecture(architecture: &str) -> bool {
    matches!(
        architecture,
        "386"
            | "amd64"
            | "arm"
            | "arm64"
            | "loong64"
            | "mips64"
            | "mips64le"
            | "ppc64"
            | "ppc64le"
            | "riscv64"
            | "s390x"
            | "wasm"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match text.parse::<Platform>() {
            Ok(platform) => platform.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn platforms_are_normalised() {
        for (given, wanted) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("arm64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(parsed(given), wanted, "{given}");
        }
        for wrong in ["", "linux/", "a/b/c/d", "banana", "linux/am d64"] {
            assert!(parsed(wrong).starts_with("error"), "{wrong}");
        }
    }

    #[test]
    fn highest_variant_that_runs_is_best() {
        let offered: Vec<Platform> =
            ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"].map(|p| p.parse().unwrap()).into();
        let best = |text: &str| text.parse::<Platform>().unwrap().best_of(&offered);
        assert_eq!(best("linux/arm/v6"), Some(2));
        assert_eq!(best("linux/arm/v7"), Some(1));
        assert_eq!(best("linux/arm64"), None);
    }
}
