//! The one error of this crate.

use std::fmt;
use std::io;
use std::path::Path;

use conex_oci::Digest;

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for is not in the store.
    NotFound,
    /// A short ID or a name means more than one thing.
    Ambiguous,
    /// The thing is used, referenced or there already, so the request cannot be done as asked.
    Conflict,
    /// A name, an option or a document is not valid.
    Invalid,
    /// The disk is full, or a quota is used up.
    NoSpace,
    /// The database or a stored file is damaged.
    Corrupt,
    /// The store was written by a newer version.
    TooNew,
    /// Bytes are not what was promised.
    Mismatch,
    /// The caller asked to stop waiting.
    Canceled,
    /// Everything else that the system refused.
    Io,
}

/// Says what the store could not do, and why.
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

const HINT_CHECK: &str = "look and mend with `conex system check --repair`";
const HINT_SPACE: &str = "free some space with `conex system prune`";

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A command or an edit that mends it, if one is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub(crate) fn not_found(what: &str, name: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("no such {what}: `{name}`"))
    }

    pub(crate) fn ambiguous(text: &str, candidates: &[String]) -> Self {
        let list = candidates.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
        Self::new(
            ErrorKind::Ambiguous,
            format!("`{text}` is the beginning of several image IDs: {list}"),
        )
        .hinted("give more digits of the ID")
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    pub(crate) fn must_force(message: impl Into<String>) -> Self {
        Self::conflict(message).hinted("remove it all the same with `--force`")
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn document(what: &str, source: conex_oci::Error) -> Self {
        Self::new(ErrorKind::Invalid, format!("cannot take the {what}")).because(source)
    }

    pub(crate) fn canceled(what: &str) -> Self {
        Self::new(ErrorKind::Canceled, format!("waiting for {what} was stopped"))
    }

    pub(crate) fn digest_mismatch(wanted: &Digest, got: &Digest) -> Self {
        Self::new(ErrorKind::Mismatch, format!("blob has digest `{got}`, wanted `{wanted}`"))
    }

    pub(crate) fn size_mismatch(wanted: &Digest, size: u64, got: u64) -> Self {
        Self::new(ErrorKind::Mismatch, format!("blob `{wanted}` has {got} bytes, wanted {size}"))
    }

    pub(crate) fn damaged_blob(digest: &Digest, why: &str) -> Self {
        Self::new(ErrorKind::Corrupt, format!("blob `{digest}` is damaged: {why}"))
            .hinted(HINT_CHECK)
    }

    pub(crate) fn damaged_row(what: &str, text: &str) -> Self {
        Self::new(ErrorKind::Corrupt, format!("a row of the store has a damaged {what}: `{text}`"))
            .hinted(HINT_CHECK)
    }

    pub(crate) fn not_a_store(path: &Path, why: &str) -> Self {
        let path = path.display();
        Self::new(ErrorKind::Invalid, format!("`{path}` is not a conex store: {why}"))
            .hinted("name another folder with `--root`")
    }

    pub(crate) fn too_new(path: &Path, found: i64, known: i64) -> Self {
        let path = path.display();
        Self::new(
            ErrorKind::TooNew,
            format!("store `{path}` has format {found}, this version knows formats up to {known}"),
        )
        .hinted("use the newer conex, or another store with `--root`")
    }

    pub(crate) fn io(act: &str, path: &Path, source: io::Error) -> Self {
        let path = path.display();
        let full = is_full(&source);
        let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Io };
        let error = Self::new(kind, format!("cannot {act} `{path}`")).because(source);
        if full { error.hinted(HINT_SPACE) } else { error }
    }

    pub(crate) fn layer(path: &Path, source: conex_layer::Error) -> Self {
        let kind = match source.io_kind() {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => ErrorKind::NoSpace,
            Some(io::ErrorKind::PermissionDenied) => ErrorKind::Io,
            _ => ErrorKind::Corrupt,
        };
        let message = format!("cannot verify the files of snapshot `{}`", path.display());
        Self::new(kind, message).because(source)
    }

    pub(crate) fn damaged_snapshot(path: &Path, source: io::Error) -> Self {
        let message = format!("snapshot `{}` is damaged", path.display());
        Self::new(ErrorKind::Corrupt, message).because(source).hinted(HINT_CHECK)
    }

    pub(crate) fn database(act: &str, path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let kind = match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ErrorKind::NoSpace,
            // The index of the log cannot grow: SQLite's other word for a full disk.
            Some(_) if is_extended(&source, rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => {
                ErrorKind::NoSpace
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
            // A damaged file can also show as a table or a column that is not there.
            Some(ErrorCode::SchemaChanged) | None => ErrorKind::Corrupt,
            Some(ErrorCode::Unknown) => ErrorKind::Corrupt,
            Some(_) => ErrorKind::Io,
        };
        let path = path.display();
        let message = match kind {
            ErrorKind::Corrupt => format!("cannot {act}: database `{path}` is damaged"),
            _ => format!("cannot {act} in database `{path}`"),
        };
        let error = Self::new(kind, message).because(source);
        match kind {
            ErrorKind::NoSpace => error.hinted(HINT_SPACE),
            ErrorKind::Corrupt => error.hinted(HINT_CHECK),
            _ => error,
        }
    }
}

fn is_extended(error: &rusqlite::Error, code: std::ffi::c_int) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == code)
}

/// Whether the system said that there is no room: the disk (`ENOSPC`) or the quota (`EDQUOT`).
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::NoSpace => io::ErrorKind::StorageFull,
            ErrorKind::Mismatch | ErrorKind::Corrupt => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
