//! What rules find, and the edits that mend it.

use std::ops::Range;

use conex_report::{Diagnostic, Span};
use serde::Serialize;

use crate::Rule;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A matter of taste; fails nothing unless asked to.
    Style,
    /// Could be better.
    Info,
    /// Probably not what was meant.
    Warning,
    /// Wrong.
    Error,
}

impl Level {
    /// Its word, as settings and formats write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Style => "style",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The level of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Style, Self::Info, Self::Warning, Self::Error]
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(word))
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Who found it; `None` if the file does not parse.
    pub rule: Option<&'static Rule>,
    /// What the tool that has the rule too calls this very finding (`DL4003`), or the rule's name.
    pub code: &'static str,
    /// How much it matters.
    pub level: Level,
    /// Where.
    pub span: Span,
    /// The first line of the instruction that it is about.
    pub line: u32,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What mends it, in words.
    pub hint: Option<String>,
    /// What mends it, as an edit.
    pub fix: Option<Fix>,
}

impl Finding {
    /// The rule's name, or that of a mistake in the language.
    pub fn name(&self) -> &'static str {
        self.rule.map_or("SyntaxError", |rule| rule.name)
    }

    /// The same for who shows diagnostics.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let severity = match self.level {
            Level::Error => conex_report::Severity::Error,
            Level::Warning => conex_report::Severity::Warning,
            Level::Info | Level::Style => conex_report::Severity::Note,
        };
        Diagnostic {
            severity,
            code: self.rule.map(|rule| rule.name),
            message: self.message.clone(),
            span: Some(self.span),
            hint: self.hint.clone(),
        }
    }
}

/// Whether an edit may change what an image does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Safety {
    /// The same image, or one without the fault.
    Safe,
    /// Perhaps another one.
    Unsafe,
}

/// Edits that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// Whether it may change what the image does.
    pub safety: Safety,
    /// What it does, for a menu: lower case, no full stop.
    pub title: String,
    /// The edits; they do not overlap.
    pub edits: Vec<Edit>,
}

/// Text for a range of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Bytes of the file.
    pub range: Range<usize>,
    /// What comes instead.
    pub text: String,
}

impl Edit {
    /// Replaces a range.
    pub(crate) fn replace(range: Range<usize>, text: impl Into<String>) -> Self {
        Self { range, text: text.into() }
    }

    /// Inserts at an offset.
    pub(crate) fn insert(at: usize, text: impl Into<String>) -> Self {
        Self { range: at..at, text: text.into() }
    }
}

impl Fix {
    /// An edit that gives the same image or a better one.
    pub(crate) fn safe(title: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self { safety: Safety::Safe, title: title.into(), edits }
    }

    /// An edit that a person must look at.
    pub(crate) fn risky(title: impl Into<String>, edits: Vec<Edit>) -> Self {
        Self { safety: Safety::Unsafe, title: title.into(), edits }
    }
}

/// Where rules put what they find.
pub(crate) struct Sink<'s> {
    pub(crate) rule: &'static Rule,
    pub(crate) found: &'s mut Vec<Finding>,
}

impl Sink<'_> {
    /// Adds a finding at a place, about the instruction that begins at `line`.
    pub(crate) fn add(&mut self, line: u32, span: Span, message: impl Into<String>) -> Noted<'_> {
        self.found.push(Finding {
            rule: Some(self.rule),
            code: self.rule.codes.first().copied().unwrap_or(self.rule.name),
            level: self.rule.level,
            span,
            line,
            message: message.into(),
            hint: None,
            fix: None,
        });
        Noted { finding: self.found.last_mut(), takes_fix: true }
    }
}

/// A finding that was just added.
pub(crate) struct Noted<'f> {
    finding: Option<&'f mut Finding>,
    takes_fix: bool,
}

impl Noted<'_> {
    /// Takes no edit: it would be one of something else.
    pub(crate) fn without_fix(self) -> Self {
        Self { takes_fix: false, ..self }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.hint = Some(hint.into());
        }
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<Option<Fix>>) -> Self {
        if let Some(finding) = self.finding.as_mut().filter(|_| self.takes_fix) {
            finding.fix = fix.into();
        }
        self
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.code = code;
        }
        self
    }
}
