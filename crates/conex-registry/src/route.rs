//! From the path of a request to what it is about. Names hold slashes, so paths are read from
//! their end.

use conex_oci::Digest;

use crate::name::{Name, Tag};

/// What names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Ping,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/_oci/ext/discover` and the same of a repository.
    Extensions(Option<Name>),
    /// `/v2/<name>/blobs/<digest>`
    Blob(Name, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(Name),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(Name, String),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(Name, Reference),
    /// `/v2/<name>/tags/list`
    Tags(Name),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(Name, Digest),
    /// `/v2/<name>/_conex/tags/<tag>/history`
    History(Name, Tag),
    /// `/v2/<name>/_conex/tags/<tag>/rollback`
    Rollback(Name, Tag),
    /// `/healthz`
    Health,
    /// `/metrics`
    Metrics,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Astray {
    /// No such place.
    Nowhere,
    /// The name of the repository is none.
    Name,
    /// The digest is none.
    Digest,
    /// The tag is none.
    Tag,
}

impl Route {
    /// Reads a path, percent-encoded as it came.
    ///
    /// # Errors
    /// It leads nowhere.
    pub fn parse(path: &str) -> Result<Self, Astray> {
        let path = decoded(path).ok_or(Astray::Nowhere)?;
        match path.as_str() {
            "/healthz" => return Ok(Self::Health),
            "/metrics" => return Ok(Self::Metrics),
            "/v2" | "/v2/" => return Ok(Self::Ping),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/").ok_or(Astray::Nowhere)?;
        match rest {
            "_catalog" => return Ok(Self::Catalog),
            "_oci/ext/discover" => return Ok(Self::Extensions(None)),
            _ => {}
        }
        let parts: Vec<&str> = rest.split('/').collect();
        in_repository(&parts)
    }
}

fn in_repository(parts: &[&str]) -> Result<Route, Astray> {
    let name = |parts: &[&str]| Name::parse(&parts.join("/")).ok_or(Astray::Name);
    let digest = |text: &str| text.parse::<Digest>().map_err(|_| Astray::Digest);
    match parts {
        [of @ .., "blobs", "uploads"] | [of @ .., "blobs", "uploads", ""] => {
            Ok(Route::Uploads(name(of)?))
        }
        [of @ .., "blobs", "uploads", id] => Ok(Route::Upload(name(of)?, (*id).to_owned())),
        [of @ .., "blobs", text] => Ok(Route::Blob(name(of)?, digest(text)?)),
        [of @ .., "manifests", text] => {
            let of = name(of)?;
            // A tag has no colon.
            if text.contains(':') {
                return Ok(Route::Manifest(of, Reference::Digest(digest(text)?)));
            }
            let tag = Tag::parse(text).ok_or(Astray::Tag)?;
            Ok(Route::Manifest(of, Reference::Tag(tag)))
        }
        [of @ .., "tags", "list"] => Ok(Route::Tags(name(of)?)),
        [of @ .., "referrers", text] => Ok(Route::Referrers(name(of)?, digest(text)?)),
        [of @ .., "_oci", "ext", "discover"] => Ok(Route::Extensions(Some(name(of)?))),
        [of @ .., "_conex", "tags", tag, "history"] => {
            Ok(Route::History(name(of)?, Tag::parse(tag).ok_or(Astray::Tag)?))
        }
        [of @ .., "_conex", "tags", tag, "rollback"] => {
            Ok(Route::Rollback(name(of)?, Tag::parse(tag).ok_or(Astray::Tag)?))
        }
        _ => Err(Astray::Nowhere),
    }
}

/// Replaces `%41` by what it means. None if that is no text or no such code.
pub(crate) fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; what cannot be decoded is left out.
    pub fn parse(text: &str) -> Self {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(&key.replace('+', " "))?, decoded(&value.replace('+', " "))?))
        };
        Self(text.split('&').filter(|pair| !pair.is_empty()).filter_map(pair).collect())
    }

    /// The first value of a parameter.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'q>(&'q self, key: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(found, _)| found == key).map(|(_, value)| value.as_str())
    }
}

/// Writes a text so that it can stand in a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::of(b"");
        let name = |text| Name::parse(text).unwrap();
        let encoded = digest.as_str().replace(':', "%3A");
        for (path, wanted) in [
            ("/v2/".to_owned(), Ok(Route::Ping)),
            ("/v2/_catalog".to_owned(), Ok(Route::Catalog)),
            (format!("/v2/a/b/blobs/{digest}"), Ok(Route::Blob(name("a/b"), digest.clone()))),
            (format!("/v2/a/blobs/{encoded}"), Ok(Route::Blob(name("a"), digest.clone()))),
            ("/v2/a/blobs/uploads/".to_owned(), Ok(Route::Uploads(name("a")))),
            (
                "/v2/blobs/uploads/blobs/uploads/x".to_owned(),
                Ok(Route::Upload(name("blobs/uploads"), "x".to_owned())),
            ),
            ("/v2/tags/list/tags/list".to_owned(), Ok(Route::Tags(name("tags/list")))),
            (
                "/v2/a/manifests/1".to_owned(),
                Ok(Route::Manifest(name("a"), Reference::Tag(Tag::parse("1").unwrap()))),
            ),
            (
                format!("/v2/a/manifests/{digest}"),
                Ok(Route::Manifest(name("a"), Reference::Digest(digest.clone()))),
            ),
            (format!("/v2/a/referrers/{digest}"), Ok(Route::Referrers(name("a"), digest.clone()))),
            (
                "/v2/a/_conex/tags/1/history".to_owned(),
                Ok(Route::History(name("a"), Tag::parse("1").unwrap())),
            ),
            ("/v2/a/manifests/sha256:00".to_owned(), Err(Astray::Digest)),
            ("/v2/a/manifests/.x".to_owned(), Err(Astray::Tag)),
            ("/v2/A/tags/list".to_owned(), Err(Astray::Name)),
            ("/v2/../../etc/tags/list".to_owned(), Err(Astray::Name)),
            ("/v2/a%2f..%2fb/tags/list".to_owned(), Err(Astray::Name)),
            ("/v2/%ff/tags/list".to_owned(), Err(Astray::Nowhere)),
            ("/v2/manifests/x".to_owned(), Err(Astray::Name)),
            ("/v1/".to_owned(), Err(Astray::Nowhere)),
            (String::new(), Err(Astray::Nowhere)),
        ] {
            assert_eq!(Route::parse(&path), wanted, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("n=5&tag=a&tag=b&last=x%2By&&bad=%zz&flag");
        assert_eq!(query.first("n"), Some("5"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.first("last"), Some("x+y"));
        assert_eq!((query.first("bad"), query.first("flag")), (None, Some("")));
    }

    proptest! {
        #[test]
        fn no_path_breaks_the_router(
            path in "(/v2)?(/([a-z]{1,4}|blobs|uploads|manifests|tags|list|\\.\\.|\\PC{0,5})){0,8}"
        ) {
            let _ = Route::parse(&path);
        }

        #[test]
        fn what_is_encoded_is_decoded(text in "\\PC{0,20}") {
            prop_assert_eq!(decoded(&encoded(&text)), Some(text));
        }
    }
}
