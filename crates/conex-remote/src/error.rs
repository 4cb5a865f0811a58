//! The one error of this crate.
//!
//! Invariant: no secret is ever part of a text here. URLs are shown without their query, which is
//! where presigned links keep their signatures.

use std::fmt;
use std::time::Duration;

use conex_oci::Digest;

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The registry wants credentials, or refused the ones that were given.
    Unauthorized,
    /// The registry knows who asks and does not allow it.
    Denied,
    /// The repository, manifest, blob or tag is not there.
    NotFound,
    /// Too many requests.
    RateLimited,
    /// No connection, or it broke more often than the client retries.
    Network,
    /// The registry itself failed (a 5xx answer), and kept failing.
    Unavailable,
    /// The other side could not prove who it is.
    Tls,
    /// The other side broke the protocol, or tried something that is refused.
    Protocol,
    /// Bytes are not those that their digest or size promised.
    Mismatch,
    /// The registry cannot do what was asked (deletes switched off, say).
    Unsupported,
    /// A limit of this crate was passed.
    TooLarge,
    /// A configuration file says something that cannot be understood.
    Config,
    /// The configuration forbids this registry.
    Blocked,
    /// Credentials cannot be read, written or exchanged.
    Credentials,
    /// The source or the sink on this side failed.
    Local,
    /// Other work failed first, or the person asked to stop.
    Canceled,
}

/// Says what could not be done, and why.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            status: None,
            retry_after: None,
            source: None,
        }))
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A command or an edit that mends it, if there is one.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The HTTP status that the other side answered with, if it answered.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// How long the other side asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Adds what mends it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts this error under another one that says what was being done.
    pub(crate) fn during(self, act: impl Into<String>) -> Self {
        let mut outer = Self::new(self.kind(), act);
        outer.0.hint.clone_from(&self.0.hint);
        outer.0.status = self.0.status;
        outer.0.retry_after = self.0.retry_after;
        outer.with_source(self)
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Protocol, message)
    }

    pub(crate) fn network(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Network, message)
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Credentials cannot be had: for sources outside of this crate.
    pub fn credentials(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Credentials, message)
    }

    pub(crate) fn too_large(what: &str, size_max: u64) -> Self {
        Self::new(ErrorKind::TooLarge, format!("{what} has more than {size_max} bytes"))
    }

    pub(crate) fn canceled() -> Self {
        Self::new(ErrorKind::Canceled, "the transfer was stopped")
    }

    pub(crate) fn digest_mismatch(what: &str, wanted: &Digest, got: &str) -> Self {
        let message =
            format!("{what} has digest `{}`, wanted `{wanted}`", shown(got, SHOWN_LEN_MAX));
        Self::new(ErrorKind::Mismatch, message)
    }

    pub(crate) fn size_mismatch(what: &str, wanted: u64, got: u64) -> Self {
        Self::new(ErrorKind::Mismatch, format!("{what} has {got} bytes, wanted {wanted}"))
    }

    /// An error of this side's files or of a source or sink. An error of this crate that travelled
    /// inside an [`std::io::Error`] comes out again with its kind.
    pub(crate) fn local(act: impl Into<String>, source: std::io::Error) -> Self {
        if is_ours(&source) {
            let inner = source.into_inner().expect("the inner error was just looked at");
            let inner = inner.downcast::<Self>().expect("the type was just checked");
            return inner.during(act);
        }
        let oci = source.get_ref().and_then(|inner| inner.downcast_ref::<conex_oci::Error>());
        let kind = match oci.map(conex_oci::Error::kind) {
            Some(conex_oci::ErrorKind::DigestMismatch | conex_oci::ErrorKind::SizeMismatch) => {
                ErrorKind::Mismatch
            }
            _ => ErrorKind::Local,
        };
        Self::new(kind, act).with_source(source)
    }

    /// Whether the same request may succeed when it is sent again.
    pub(crate) fn is_transient(&self) -> bool {
        match self.0.status {
            // 499 and 522 come from proxies in front of registries that lost their patience.
            Some(status) => {
                matches!(status, 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522 | 524)
            }
            None => self.0.kind == ErrorKind::Network,
        }
    }
}

impl Error {
    /// Whether nobody was there: the name is unknown, or no server listens.
    pub(crate) fn found_nobody(&self) -> bool {
        use std::io::ErrorKind as Io;
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<std::io::Error>() {
                let refused = matches!(
                    error.kind(),
                    Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable
                );
                // The standard library has no kind for names that are not known.
                return refused || error.to_string().starts_with("failed to lookup address");
            }
            source = error.source();
        }
        false
    }
}

/// Whether an [`std::io::Error`] carries an error of this crate.
pub(crate) fn is_ours(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>)
}

/// Longest piece of foreign text shown in a message.
pub(crate) const SHOWN_LEN_MAX: usize = 300;

/// Makes foreign text harmless: no control characters (a terminal would obey them), not endless.
pub(crate) fn shown(text: &str, len_max: usize) -> String {
    let mut clean: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(len_max).collect();
    if text.chars().nth(len_max).is_some() {
        clean.push('…');
    }
    clean.trim().to_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(formatter, "{:?}: {}", inner.kind, inner.message)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => std::io::ErrorKind::NotFound,
            ErrorKind::Unauthorized | ErrorKind::Denied | ErrorKind::Blocked => {
                std::io::ErrorKind::PermissionDenied
            }
            ErrorKind::Mismatch | ErrorKind::Protocol => std::io::ErrorKind::InvalidData,
            _ => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<std::io::Error> for Error {
    /// Takes an error of a source or a sink; one of this crate inside it comes out unchanged.
    fn from(error: std::io::Error) -> Self {
        if is_ours(&error) {
            let inner = error.into_inner().expect("the inner error was just looked at");
            return *inner.downcast::<Self>().expect("the type was just checked");
        }
        Self::local("cannot move the bytes on this side", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_through_io() {
        let error = Error::new(ErrorKind::NotFound, "no such blob").with_hint("look elsewhere");
        let back = Error::from(std::io::Error::from(error));
        assert_eq!((back.kind(), back.hint()), (ErrorKind::NotFound, Some("look elsewhere")));
        let error = Error::local("cannot copy", std::io::Error::from(back));
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(format!("{error:?}"), "NotFound: cannot copy: no such blob");
    }

    #[test]
    fn foreign_text_cannot_reach_the_terminal_raw() {
        assert_eq!(shown("a\x1b[31mb\r\nc", 80), "a [31mb  c");
        assert_eq!(shown("abcdef", 3), "abc…");
    }
}
