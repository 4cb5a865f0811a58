//! The one error of this crate.

use std::fmt;

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A template is not written as templates are.
    TemplateSyntax,
    /// A template cannot be applied to the value at hand.
    TemplateValue,
    /// A template wants more work or more output than is allowed.
    TemplateLimit,
    /// A text that should be a timestamp is not one.
    Timestamp,
    /// Reading an answer or writing a question failed.
    Terminal,
}

/// Says what could not be done, and why.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<std::io::Error>,
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message, hint: None, source: None }
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A command or an edit that mends it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(crate) fn template_syntax((line, column): (u32, u32), why: &str) -> Self {
        Self::new(ErrorKind::TemplateSyntax, format!("template:{line}:{column}: {why}"))
    }

    pub(crate) fn template_value((line, column): (u32, u32), why: &str) -> Self {
        Self::new(ErrorKind::TemplateValue, format!("template:{line}:{column}: {why}"))
    }

    pub(crate) fn template_limit((line, column): (u32, u32), why: &str) -> Self {
        Self::new(ErrorKind::TemplateLimit, format!("template:{line}:{column}: {why}"))
    }

    pub(crate) fn timestamp(text: &str, why: &str) -> Self {
        let text = crate::text::ellipsis(&crate::text::clean(text), 64);
        Self::new(ErrorKind::Timestamp, format!("`{text}` is not an RFC 3339 time: {why}"))
    }

    pub(crate) fn terminal(act: &str, source: std::io::Error) -> Self {
        Self { source: Some(source), ..Self::new(ErrorKind::Terminal, format!("cannot {act}")) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
