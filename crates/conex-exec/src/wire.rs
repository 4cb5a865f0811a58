//! How paths and bytes travel to the helper process inside JSON: valid UTF-8 as it is, other
//! bytes as characters of the same number, so that nothing is lost and little grows.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Either a readable text or bytes, each as the character of its number.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Raw { raw: String },
}

impl Bytes {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Raw { raw: bytes.iter().map(|byte| char::from(*byte)).collect() },
        }
    }

    fn into_bytes(self) -> Result<Vec<u8>, std::char::TryFromCharError> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Raw { raw } => raw.chars().map(u8::try_from).collect(),
        }
    }
}

/// For `#[serde(with)]` on a `Vec<u8>`.
pub(crate) mod bytes {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};
    use serde::de::Error as _;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        Bytes::new(bytes).serialize(to)
    }

    pub(crate) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(from)?.into_bytes().map_err(D::Error::custom)
    }
}

/// A path of the host; any bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath(pub PathBuf);

impl<P: Into<PathBuf>> From<P> for HostPath {
    fn from(path: P) -> Self {
        Self(path.into())
    }
}

impl std::ops::Deref for HostPath {
    type Target = std::path::Path;

    fn deref(&self) -> &std::path::Path {
        &self.0
    }
}

impl Serialize for HostPath {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Bytes::new(self.0.as_os_str().as_bytes()).serialize(to)
    }
}

impl<'d> Deserialize<'d> for HostPath {
    fn deserialize<D: Deserializer<'d>>(from: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(from)?.into_bytes().map_err(D::Error::custom)?;
        Ok(Self(PathBuf::from(OsString::from_vec(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_survives_the_journey() {
        for bytes in [&b"/plain"[..], b"/with space\xc3\xa4", b"/not utf-8 \xff\xfe", b""] {
            let path = HostPath::from(OsString::from_vec(bytes.to_vec()));
            let text = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<HostPath>(&text).unwrap(), path, "{text}");
        }
    }
}
