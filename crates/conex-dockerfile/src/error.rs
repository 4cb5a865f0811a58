//! The one error of this crate: a value that cannot be read or expanded.
//!
//! Mistakes in a Dockerfile are [`conex_report::Diagnostic`]s; this error is for texts that are
//! read later, one at a time, when their variables have values. [`Error::at`] turns it into a
//! diagnostic at the place where the text was written.

use std::fmt;

use conex_report::{Diagnostic, Span};

/// What a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text does not follow its grammar.
    Syntax,
    /// The text is well formed and says something that cannot be.
    Value,
    /// `${NAME:?message}` found the variable unset or empty.
    Unset,
    /// A named limit was passed.
    Limit,
    /// A name that nothing has.
    NotFound,
}

/// A value that cannot be read or expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Syntax, message)
    }

    pub(crate) fn value(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Value, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A command or an edit that mends it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Turns it into an error at a place in a text.
    pub fn at(self, span: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(span, self.message);
        match self.hint {
            Some(hint) => diagnostic.with_hint(hint),
            None => diagnostic,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// "did you mean `x`?", if a candidate is near.
pub(crate) fn suggestion<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    conex_report::did_you_mean(word, candidates).map(|near| format!("did you mean `{near}`?"))
}
