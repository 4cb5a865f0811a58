//! Absolute `http` and `https` URLs, as far as registries use them.
//!
//! Invariant: a [`Url`] has a scheme, a host without user information, a port, and a target of
//! printable ASCII that starts with `/`. Shown, it has no query: presigned links carry their
//! signature there.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Result, shown};
use crate::limits::URL_LEN_MAX;

/// How a URL is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// The word before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An absolute URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: u16,
    target: String,
}

impl Url {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// It is not one, it names a user, or it is longer than any that is needed.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            // The query may hold a signature and the user part a password: neither is shown.
            let bare = text.split(['?', '#']).next().unwrap_or_default();
            let bare = match bare.split_once("://") {
                Some((scheme, rest)) => {
                    format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
                }
                None => bare.to_owned(),
            };
            Error::protocol(format!("`{}` is not a usable URL: {why}", shown(&bare, 200)))
        };
        if text.len() > URL_LEN_MAX {
            return Err(wrong("it is too long"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it holds a blank or unusual character"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(wrong("it is neither `http` nor `https`")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(wrong("it names a user"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("its host is not valid"))?;
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(scheme.default_port()),
            target,
        })
    }

    /// Makes the URL of a path on a host (`host` or `host:port`).
    pub(crate) fn on_host(scheme: Scheme, authority: &str, target: &str) -> Result<Self> {
        Self::parse(&format!("{}://{authority}{target}", scheme.as_str()))
    }

    /// Resolves a `Location` or `Link` target against this URL (RFC 3986, section 5).
    pub(crate) fn join(&self, location: &str) -> Result<Self> {
        let location = location.trim();
        let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
        });
        if has_scheme && location.contains("://") {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.as_str()));
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let target = match location.chars().next() {
            None => self.target.clone(),
            Some('/') => location.to_owned(),
            Some('?') => format!("{path}{location}"),
            Some(_) => {
                let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
                format!("{folder}{location}")
            }
        };
        Self::parse(&format!("{}{target}", self.origin_text()))
    }

    /// How it is reached.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, lower case; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("/")
    }

    /// The host as an address, if it is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether a request to `other` stays on the same server with the same protection.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// The same URL with a query parameter more.
    pub(crate) fn with_query(&self, name: &str, value: &str) -> Self {
        let joint = if self.target.contains('?') { '&' } else { '?' };
        let target = format!("{}{joint}{}={}", self.target, encoded(name), encoded(value));
        Self { target, ..self.clone() }
    }

    /// `host` or `host:port`, the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    fn origin_text(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.authority())
    }

    /// The whole text with its query, for sending only.
    pub(crate) fn full(&self) -> String {
        format!("{}{}", self.origin_text(), self.target)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.origin_text(), self.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None if after.is_empty() => Some((host, None)),
            None => None,
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (authority, None),
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!host.is_empty() && host.bytes().all(known)).then_some((host, port))
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Writes `application/x-www-form-urlencoded` pairs.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let encode = |(name, value): &(&str, &str)| format!("{}={}", encoded(name), encoded(value));
    pairs.iter().map(encode).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(base: &str, location: &str) -> String {
        match Url::parse(base).unwrap().join(location) {
            Ok(url) => url.full(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn locations_are_resolved() {
        let base = "https://r.example/v2/a/blobs/uploads/?x=1";
        for (location, wanted) in [
            ("/v2/u/1?s=2", "https://r.example/v2/u/1?s=2"),
            ("https://o.example:8443/x", "https://o.example:8443/x"),
            ("HTTPS://O.example", "https://o.example/"),
            ("//o.example/y", "https://o.example/y"),
            ("?n=5", "https://r.example/v2/a/blobs/uploads/?n=5"),
            ("uuid#frag", "https://r.example/v2/a/blobs/uploads/uuid"),
            ("a:b", "https://r.example/v2/a/blobs/uploads/a:b"),
        ] {
            assert_eq!(joined(base, location), wanted, "{location}");
        }
        for wrong in [
            "ftp://x/",
            "https://user:pw@x/",
            "https://",
            "https://h:99999/",
            "/a b",
            "https://[::1/",
        ] {
            assert!(joined(base, wrong).starts_with("error"), "{wrong}");
        }
        assert!(!joined(base, "https://user:hunter2@x/").contains("hunter2"));
    }

    #[test]
    fn a_shown_url_has_no_query() {
        let url = Url::parse("https://s3.example:443/k?X-Amz-Signature=abc").unwrap();
        assert_eq!(url.to_string(), "https://s3.example/k");
        assert_eq!(
            url.with_query("ns", "a/b").full(),
            "https://s3.example/k?X-Amz-Signature=abc&ns=a%2Fb"
        );
    }

    proptest! {
        #[test]
        fn any_location_is_refused_or_stays_valid(location in "\\PC{0,60}") {
            let base = Url::parse("http://[::1]:5000/v2/").unwrap();
            if let Ok(url) = base.join(&location) {
                prop_assert_eq!(Url::parse(&url.full()).unwrap(), url);
            }
        }
    }
}
