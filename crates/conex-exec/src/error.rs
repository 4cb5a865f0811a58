//! What can go wrong, and the exit code that `docker run` would give for it.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// What callers branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The description of the container contradicts itself or breaks a limit.
    Invalid,
    /// The user or group does not exist in the image.
    UnknownUser,
    /// The machine does not allow something that was asked for.
    Unsupported,
    /// The kernel refused a step of the set-up.
    SetUp,
    /// The program does not exist in the container.
    NotFound,
    /// The program exists but cannot be executed.
    NotExecutable,
    /// The helper process ended without a word (killed from outside, or out of memory).
    Lost,
}

/// Why a container could not be started or waited for.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    /// What callers branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A command or an edit that mends it, if one is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The exit code that `docker run` gives: 125 set-up failed, 126 not executable, 127 not found.
    pub fn exit_code(&self) -> u8 {
        match self.0.kind {
            ErrorKind::NotFound => 127,
            ErrorKind::NotExecutable => 126,
            _ => 125,
        }
    }

    pub(crate) fn with_source(mut self, source: impl Into<io::Error>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn unknown_user(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::UnknownUser, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn set_up(act: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::new(ErrorKind::SetUp, act).with_source(source)
    }

    pub(crate) fn not_found(program: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("cannot find `{program}` in the container"))
    }

    pub(crate) fn not_executable(program: &str, source: impl Into<io::Error>) -> Self {
        let message = format!("cannot execute `{program}` in the container");
        Self::new(ErrorKind::NotExecutable, message).with_source(source)
    }

    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Lost, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

/// An [`Error`] on its way from the helper process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    errno: Option<i32>,
    cause: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let source = error.0.source.as_ref();
        Self {
            kind: error.0.kind,
            message: error.0.message.clone(),
            hint: error.0.hint.clone(),
            errno: source.and_then(io::Error::raw_os_error),
            cause: source.map(ToString::to_string),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let source = match (failure.errno, failure.cause) {
            (Some(errno), _) => Some(io::Error::from_raw_os_error(errno)),
            (None, Some(cause)) => Some(io::Error::other(cause)),
            (None, None) => None,
        };
        Self(Box::new(Inner {
            kind: failure.kind,
            message: failure.message,
            hint: failure.hint,
            source,
        }))
    }
}

/// Says what was being done when the kernel refused.
pub(crate) trait Context<T> {
    /// Turns the error into one of set-up; `act` says what was being done to what.
    fn doing(self, act: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn doing(self, act: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::set_up(act(), source))
    }
}
