//! The one error of this crate.

use std::fmt;
use std::io;
use std::path::Path;

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An option or a file that was named is not valid.
    Invalid,
    /// Another process uses the same folder.
    Busy,
    /// The disk is full, or a quota is used up.
    NoSpace,
    /// The database is damaged or of a newer version.
    Corrupt,
    /// Everything else that the system refused.
    Io,
}

/// Says what the registry could not do, and why.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What mends it, if that is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub(crate) fn io(act: &str, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("cannot {act} `{}`", path.display())).because(source)
    }

    pub(crate) fn system(act: &str, source: io::Error) -> Self {
        Self::new(ErrorKind::Io, format!("cannot {act}")).because(source)
    }

    pub(crate) fn database(act: &str, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let kind = match source.sqlite_error_code() {
            Some(Code::DiskFull) => ErrorKind::NoSpace,
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => ErrorKind::Corrupt,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("cannot {act}")).because(source)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn tls(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::invalid(message).because(source)
    }

    pub(crate) fn busy(data: &Path) -> Self {
        Self::new(ErrorKind::Busy, format!("another process uses `{}`", data.display()))
            .with_hint("stop the registry that serves it first")
    }

    pub(crate) fn too_new(found: i64, known: i64) -> Self {
        let message = format!("the registry's data has format {found}, this version knows {known}");
        Self::new(ErrorKind::Corrupt, message).with_hint("use a newer conex")
    }

    pub(crate) fn gone() -> Self {
        Self::new(ErrorKind::Io, "cannot write to the database: its writer has ended")
    }

    /// A failure of one act that others had too, so that its cause is shared.
    pub(crate) fn shared(kind: ErrorKind, message: String) -> Self {
        Self::new(kind, message)
    }

    /// The error and its causes in one line, for the log.
    pub(crate) fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            source = cause.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
