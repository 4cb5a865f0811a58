//! The one error of this crate.

use std::fmt;

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A text that should name something (a digest, a reference, a platform) does not.
    Syntax,
    /// Bytes do not have the digest that was promised.
    DigestMismatch,
    /// Bytes are more or fewer than was promised.
    SizeMismatch,
    /// A JSON document is not what its media type promises.
    Document,
}

/// Says what could not be understood, and why.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message, source: None }
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn syntax(what: &str, text: &str, why: &str) -> Self {
        Self::new(ErrorKind::Syntax, format!("`{}` is not {what}: {why}", shortened(text)))
    }

    pub(crate) fn digest_mismatch(wanted: &crate::Digest, got: &crate::Digest) -> Self {
        Self::new(ErrorKind::DigestMismatch, format!("blob has digest `{got}`, wanted `{wanted}`"))
    }

    pub(crate) fn size_mismatch(digest: &crate::Digest, wanted: u64, got: &str) -> Self {
        Self::new(
            ErrorKind::SizeMismatch,
            format!("blob `{digest}` has {got} bytes, wanted {wanted}"),
        )
    }

    pub(crate) fn document(what: &str, source: serde_json::Error) -> Self {
        let message = format!("cannot read the {what}");
        Self { source: Some(Box::new(source)), ..Self::new(ErrorKind::Document, message) }
    }

    pub(crate) fn document_shape(what: &str, why: &str) -> Self {
        Self::new(ErrorKind::Document, format!("the {what} is not valid: {why}"))
    }
}

/// Keeps hostile text from filling a screen.
fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 256;
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_MAX).chain(['…']).collect()
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}
