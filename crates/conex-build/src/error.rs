//! The one error of this crate.

use std::fmt;

use conex_report::{Diagnostic, Span};

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The Dockerfile or what it asks for is wrong; [`Error::diagnostics`] says where.
    Dockerfile,
    /// A step's command ended with this exit code.
    StepFailed(i32),
    /// The person asked to stop.
    Canceled,
    /// A file, process or store could not be used.
    Io,
    /// What was asked for is not offered, or not possible on this machine.
    Unsupported,
    /// A base image or context is not there.
    NotFound,
}

/// Says what could not be built, and why.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    diagnostics: Vec<Diagnostic>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Makes an error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, diagnostics: Vec::new(), source: None }
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A command or an edit that mends it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The findings in the Dockerfile that stopped the build.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Adds what lies below.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what mends it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The Dockerfile has errors.
    pub fn dockerfile(diagnostics: Vec<Diagnostic>) -> Self {
        let count = diagnostics.len();
        let message = match count {
            1 => "the Dockerfile has an error".to_owned(),
            _ => format!("the Dockerfile has {count} errors"),
        };
        Self { diagnostics, ..Self::new(ErrorKind::Dockerfile, message) }
    }

    /// One thing is wrong at one place of the Dockerfile.
    pub(crate) fn at(diagnostic: Diagnostic) -> Self {
        Self::dockerfile(vec![diagnostic])
    }

    /// Says at which place of the Dockerfile it went wrong, where that is not said yet.
    #[must_use]
    pub(crate) fn located(mut self, span: Span) -> Self {
        if self.diagnostics.is_empty() && self.kind != ErrorKind::Canceled {
            let hint = self.hint.clone();
            let diagnostic = Diagnostic::error(span, self.chain());
            self.diagnostics.push(Diagnostic { hint, ..diagnostic });
        }
        self
    }

    /// What happened and why, in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }

    /// What to say beside the step's name, which already tells the command.
    pub(crate) fn of_step(&self) -> String {
        match self.kind {
            ErrorKind::StepFailed(code) => format!("exit code {code}"),
            _ => self.chain(),
        }
    }

    /// Says that this is about a command that ended with a code other than 0.
    pub(crate) fn into_failed_step(mut self, message: String, code: i32) -> Self {
        self.kind = ErrorKind::StepFailed(code);
        self.message = message;
        self
    }

    pub(crate) fn io(
        act: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Io, act).caused_by(source)
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, what)
    }

    pub(crate) fn canceled() -> Self {
        Self::new(ErrorKind::Canceled, "the build was canceled")
    }
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
