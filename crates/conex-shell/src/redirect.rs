//! Redirections and the bodies of heredocs.

use crate::ast::{Heredoc, Part, Redirect, RedirectKind, Span};
use crate::parser::{Parser, name_length};

/// Operators, longer ones before those that they begin with.
const OPERATORS: [(&str, RedirectKind); 12] = [
    ("<<<", RedirectKind::HereString),
    ("<<-", RedirectKind::Heredoc),
    ("<<", RedirectKind::Heredoc),
    ("<&", RedirectKind::DuplicateInput),
    ("<>", RedirectKind::ReadWrite),
    ("<", RedirectKind::Input),
    (">>", RedirectKind::Append),
    (">&", RedirectKind::DuplicateOutput),
    (">|", RedirectKind::Clobber),
    (">", RedirectKind::Output),
    ("&>>", RedirectKind::OutputAndError),
    ("&>", RedirectKind::OutputAndError),
];

impl Parser<'_> {
    /// The redirection that begins here.
    pub(crate) fn redirect(&mut self) -> Option<Redirect> {
        let start = self.at;
        let length = self.descriptor_length();
        let behind = self.rest().get(length..)?;
        let (operator, kind) = OPERATORS.iter().find(|(operator, _)| {
            behind.starts_with(operator) && !(length > 0 && operator.starts_with('&'))
        })?;
        // `<(` and `>(` are words.
        if matches!(*operator, "<" | ">") && behind.get(1..).is_some_and(|b| b.starts_with('(')) {
            return None;
        }
        self.at += length;
        let operator = self.take(operator)?;
        self.skip_blanks();
        let target = self.word();
        if target.parts.is_empty() && !self.has_failed() {
            let shown = operator.of(self.text).to_owned();
            self.fail(operator, format!("`{shown}` without a target"));
        }
        let mut heredoc = None;
        if *kind == RedirectKind::Heredoc && !self.has_failed() {
            self.pending.push(self.heredocs.len());
            heredoc = Some(self.heredocs.len());
            self.heredocs.push(Heredoc {
                delimiter: target.sketch(self.text),
                quoted: target.has_quotes(),
                strip_tabs: operator.of(self.text) == "<<-",
                body: Span::new(self.end, self.end),
                parts: Vec::new(),
            });
        }
        let descriptor = (length > 0).then(|| Span::new(start, start + length));
        let span = Span::new(start, target.span.end.max(operator.end));
        Some(Redirect { descriptor, kind: *kind, operator, target, heredoc, span })
    }

    /// How long the number or `{name}` before an operator is.
    fn descriptor_length(&self) -> usize {
        let rest = self.rest();
        let is_operator = |at: usize| matches!(rest.as_bytes().get(at), Some(b'<' | b'>'));
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && is_operator(digits) {
            return digits;
        }
        if let Some(inner) = rest.strip_prefix('{') {
            let length = name_length(inner);
            if length > 0 && inner.get(length..).is_some_and(|rest| rest.starts_with('}')) {
                return if is_operator(length + 2) { length + 2 } else { 0 };
            }
        }
        0
    }

    /// Reads the bodies that begin here, behind a line end.
    pub(crate) fn take_heredoc_bodies(&mut self) {
        for index in std::mem::take(&mut self.pending) {
            if self.has_failed() {
                return;
            }
            if self.is_at_end() {
                self.pending.push(index);
                continue;
            }
            let Some(heredoc) = self.heredocs.get(index) else { continue };
            let (strip, quoted) = (heredoc.strip_tabs, heredoc.quoted);
            let delimiter = heredoc.delimiter.clone();
            let start = self.at;
            let mut end = None;
            while !self.is_at_end() {
                let line = self.rest().split_inclusive('\n').next().unwrap_or("");
                let text = line.trim_end_matches(['\n', '\r']);
                let text = if strip { text.trim_start_matches('\t') } else { text };
                let line_start = self.at;
                self.at += line.len();
                if text == delimiter {
                    end = Some(line_start);
                    break;
                }
            }
            let body = Span::new(start, end.unwrap_or(self.at));
            if end.is_none() {
                self.fail(body, format!("heredoc `{delimiter}` does not end"));
                return;
            }
            let parts = if quoted { Vec::new() } else { self.heredoc_parts(body) };
            if let Some(heredoc) = self.heredocs.get_mut(index) {
                heredoc.body = body;
                heredoc.parts = parts;
            }
        }
    }

    /// What expands in a body: a parse of its own, within the body.
    fn heredoc_parts(&mut self, body: Span) -> Vec<Part> {
        let (at, end) = (self.at, self.end);
        self.at = body.start;
        self.end = body.end;
        let parts = self.nested(|parser| parser.quoted_parts(None));
        if !self.has_failed() {
            self.at = at;
            self.end = end;
        }
        parts
    }
}
