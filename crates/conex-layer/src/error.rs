//! The one error of this crate.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::Path;

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused something; [`Error::io_kind`] says more.
    Io,
    /// An archive or compressed stream is not what it should be.
    Malformed,
    /// An archive goes over one of the limits, each of which is named in the text.
    Limit,
    /// A snapshot or archive uses something that is not supported.
    Unsupported,
    /// There is no such path.
    NotFound,
    /// A directory would take the place of a file, or a file that of a directory.
    Conflict,
    /// Bytes do not have the digest or the size that was promised.
    DigestMismatch,
}

/// Says what could not be done with which file, and why.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What this crate's functions give.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self(Box::new(Inner { kind, message, hint: None, source: None }))
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What mends it, if that is known: a command or an edit.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The kind of the operating system's error, if that is the cause.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        let source = self.0.source.as_deref()?;
        source.downcast_ref::<io::Error>().map(io::Error::kind)
    }

    fn with_hint(mut self, hint: &str) -> Self {
        self.0.hint = Some(hint.to_owned());
        self
    }

    /// `act` says what was being done ("cannot read"), `path` to what.
    pub(crate) fn at(act: &str, path: &Path, source: io::Error) -> Self {
        let shown = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        Self::io(format!("{act} `{}`", shortened(shown.as_os_str())), source)
    }

    pub(crate) fn io(message: impl Into<String>, source: io::Error) -> Self {
        // An error of ours that travelled through an `io` trait comes out as it went in.
        let source = match source.downcast::<Self>() {
            Ok(own) => return own,
            Err(source) => source,
        };
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                if source
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<conex_oci::Error>)
                {
                    ErrorKind::DigestMismatch
                } else {
                    ErrorKind::Malformed
                }
            }
            _ => ErrorKind::Io,
        };
        let full = source.kind() == io::ErrorKind::StorageFull;
        let mut error = Self::new(kind, message.into());
        error.0.source = Some(Box::new(source));
        if full { error.with_hint("free space with `conex system prune`") } else { error }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message.into())
    }

    pub(crate) fn document(
        what: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let mut error = Self::new(ErrorKind::Malformed, format!("cannot read {what}"));
        error.0.source = Some(source.into());
        error
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message.into())
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message.into())
    }

    pub(crate) fn digest_mismatch(
        what: &str,
        wanted: &conex_oci::Digest,
        got: &conex_oci::Digest,
    ) -> Self {
        let what = shortened(OsStr::new(what));
        let message = format!("`{what}` has digest `{got}`, wanted `{wanted}`");
        Self::new(ErrorKind::DigestMismatch, message)
    }

    pub(crate) fn not_found(path: &Path) -> Self {
        Self::new(ErrorKind::NotFound, format!("there is no `{}`", shortened(path.as_os_str())))
    }

    pub(crate) fn conflict(path: &Path, is: &str, wanted: &str) -> Self {
        let path = shortened(path.as_os_str());
        Self::new(ErrorKind::Conflict, format!("cannot put {wanted} at `{path}`, where {is} is"))
    }

    pub(crate) fn too_many_links(path: &Path) -> Self {
        let path = shortened(path.as_os_str());
        Self::new(ErrorKind::Malformed, format!("`{path}` leads through too many symbolic links"))
    }

    pub(crate) fn overlay_feature(path: &Path, name: &OsStr) -> Self {
        let message = format!(
            "the snapshot has the overlay mark `{}` at `{}`, which says that content is elsewhere",
            name.display(),
            shortened(path.as_os_str())
        );
        Self::new(ErrorKind::Unsupported, message)
            .with_hint("mount overlays with `redirect_dir=off,metacopy=off`")
    }
}

/// Keeps a hostile name from filling a screen, and control characters from reaching it.
pub(crate) fn shortened(text: &OsStr) -> String {
    const SHOWN_MAX: usize = 256;
    let text = text.to_string_lossy();
    let clean = text.chars().flat_map(|letter| {
        let escape = letter.is_control();
        let escaped = escape.then(|| letter.escape_default());
        escaped.into_iter().flatten().chain((!escape).then_some(letter))
    });
    let mut shown: String = clean.clone().take(SHOWN_MAX).collect();
    if clean.clone().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
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
            ErrorKind::Io => error.io_kind().unwrap_or(io::ErrorKind::Other),
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
