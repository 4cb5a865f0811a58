//! A finding about a text that a person wrote.

use serde::Serialize;

/// A place in a text: 1-based line, 1-based column counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

/// A range of a text: `start` included, `end` excluded. A span of whole lines ends at the column
/// after the last character of its last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// Where the range begins.
    pub start: Position,
    /// The first place behind the range.
    pub end: Position,
}

impl Span {
    /// Makes a span from two `(line, column)` pairs.
    pub fn new(start: (u32, u32), end: (u32, u32)) -> Self {
        let position = |(line, column)| Position { line, column };
        Self { start: position(start), end: position(end) }
    }

    /// The lines touched, first and last, both included.
    pub fn lines(&self) -> (u32, u32) {
        let last = if self.end.column == 1 && self.end.line > self.start.line {
            self.end.line - 1
        } else {
            self.end.line
        };
        (self.start.line, last)
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not what was meant.
    Warning,
    /// The work cannot go on.
    Error,
}

/// One finding: what is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// The stable name of the rule, where a rule found it (`StageNameCasing`).
    pub code: Option<&'static str>,
    /// What is wrong: lower case, no full stop, literals in backticks.
    pub message: String,
    /// Where it is wrong, if it is at a place.
    pub span: Option<Span>,
    /// A command or an edit that mends it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Makes an error at a place.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code: None,
            message: message.into(),
            span: Some(span),
            hint: None,
        }
    }

    /// Makes a warning of a named rule at a place.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, code: Some(code), ..Self::error(span, message) }
    }

    /// Adds what mends it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
