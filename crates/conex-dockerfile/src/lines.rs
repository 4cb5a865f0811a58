//! From bytes to instructions on one line each: directives, comments, continuations, heredocs.
//!
//! Invariant: every byte of the file is in a comment, in an instruction's source range, or white
//! space. Knows which instructions may open heredocs, and nothing else about them.

use std::ops::Range;

use conex_report::{Diagnostic, Span};

use crate::ast::{Comment, Directives, Heredoc, Word};
use crate::limits::LINE_SIZE_MAX;
use crate::source::{Line, Source};
use crate::statement;
use crate::{diag, heredoc};

/// One instruction, not yet understood.
#[derive(Debug)]
pub(crate) struct RawInstruction<'s> {
    pub(crate) line: Line<'s>,
    pub(crate) source: Range<usize>,
    pub(crate) head: Range<usize>,
    pub(crate) comments: Vec<Comment>,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) empty_continuations: Vec<Span>,
}

/// Reads instructions one after the other.
pub(crate) struct Reader<'s> {
    source: &'s Source<'s>,
    offset: usize,
    in_directives: bool,
    pub(crate) escape: char,
    pub(crate) directives: Directives,
    pub(crate) comments: Vec<Comment>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A heredoc has no end, and the diagnostics say so.
struct Unterminated;

/// A comment line was a directive, good or bad, and is used up.
struct Directive;

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s Source<'s>) -> Self {
        let offset = if source.text().starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let mut reader = Self {
            source,
            offset,
            in_directives: true,
            escape: '\\',
            directives: Directives::default(),
            comments: Vec::new(),
            diagnostics: Vec::new(),
        };
        reader.skip_shebang();
        reader
    }

    /// The next instruction; `None` at the end of the file.
    pub(crate) fn next_instruction(&mut self) -> Option<RawInstruction<'s>> {
        let mut comments = Vec::new();
        loop {
            let physical = self.next_line()?;
            let content = self.content(&physical);
            if self.text(&content).starts_with('#') {
                self.top_level_comment(content, &mut comments);
                continue;
            }
            self.in_directives = false;
            if content.is_empty() {
                continue;
            }
            return Some(self.instruction(content, comments));
        }
    }

    fn instruction(&mut self, first: Range<usize>, comments: Vec<Comment>) -> RawInstruction<'s> {
        let start = first.start;
        let mut line = Line::new(self.source);
        let mut end = first.end;
        let mut empty_continuations = Vec::new();
        let (text, mut continued) = self.without_continuation(first);
        self.refuse_invalid(&text);
        line.push(text);
        while continued {
            let Some(physical) = self.next_line() else { break };
            let trimmed = self.content(&physical);
            if self.text(&trimmed).starts_with('#') {
                let comment = self.comment(trimmed);
                self.comments.push(comment);
                continue;
            }
            // White space at the start of a continued line belongs to the argument.
            let whole = physical.start..self.line_end(&physical);
            if trimmed.is_empty() {
                empty_continuations.push(self.source.span(&whole));
                continue;
            }
            end = whole.end;
            let (text, more) = self.without_continuation(whole);
            self.refuse_invalid(&text);
            continued = more;
            line.push(text);
        }
        let end = trim_end(self.source.text(), start..end);
        let head = start..end;
        let heredocs = self.heredocs(&line, &head);
        let end = heredocs.as_ref().map_or(end, |(_, end)| *end);
        RawInstruction {
            line,
            source: start..end,
            head,
            comments,
            heredocs: heredocs.map(|(heredocs, _)| heredocs).unwrap_or_default(),
            empty_continuations,
        }
    }

    /// Reads the bodies of the heredocs that a line opens; the end of the last terminator.
    fn heredocs(&mut self, line: &Line<'_>, head: &Range<usize>) -> Option<(Vec<Heredoc>, usize)> {
        if !line.text().contains("<<") || !statement::may_open_heredocs(line, self.escape) {
            return None;
        }
        let mut opened = heredoc::opened_by(line.text());
        if opened.is_empty() {
            return None;
        }
        let mut last = head.end;
        for heredoc in &mut opened {
            let Ok((body, end)) = self.heredoc_body(heredoc, head) else {
                // The file has ended, so the heredocs behind this one have no body either.
                last = self.offset;
                break;
            };
            self.refuse_invalid(&body);
            heredoc.content = self.text(&body).to_owned();
            heredoc.span = self.source.span(&body);
            heredoc.source = body;
            last = end;
        }
        Some((opened, last))
    }

    fn heredoc_body(
        &mut self,
        heredoc: &Heredoc,
        head: &Range<usize>,
    ) -> Result<(Range<usize>, usize), Unterminated> {
        let start = self.offset;
        let mut end = start;
        while let Some(physical) = self.next_line() {
            let mut text = self.source.text().get(physical.clone()).unwrap_or("");
            text = text.trim_end_matches(['\r', '\n']);
            if heredoc.strip_tabs {
                text = text.trim_start_matches('\t');
            }
            if text == heredoc.name {
                return Ok((start..end, self.line_end(&physical)));
            }
            end = physical.end;
        }
        let span = self.source.span(head);
        self.diagnostics.push(diag::unterminated_heredoc(span, &heredoc.name));
        Err(Unterminated)
    }

    fn top_level_comment(&mut self, content: Range<usize>, comments: &mut Vec<Comment>) {
        if self.in_directives {
            match self.directive(&content) {
                Some(Directive) => return,
                None => self.in_directives = false,
            }
        }
        let comment = self.comment(content);
        if comment.text.is_empty() {
            comments.clear();
        } else {
            comments.push(comment.clone());
        }
        self.comments.push(comment);
    }

    fn comment(&self, content: Range<usize>) -> Comment {
        let source = content.start..trim_end(self.source.text(), content);
        let text = self.text(&source).get(1..).unwrap_or("").trim().to_owned();
        Comment { text, span: self.source.span(&source), source }
    }

    /// Takes `# key = value`. A line that is no directive, or an unknown one, ends them all.
    fn directive(&mut self, content: &Range<usize>) -> Option<Directive> {
        let text = self.text(content);
        let body = text.strip_prefix('#')?.trim_start();
        let (key, value) = body.split_once('=')?;
        let (key, value) = (key.trim_end(), value.trim());
        let alphanumeric = key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !key.starts_with(|first: char| first.is_ascii_alphabetic()) || !alphanumeric {
            return None;
        }
        if value.is_empty() {
            return None;
        }
        let end = trim_end(self.source.text(), content.clone());
        let word = Word {
            raw: value.to_owned(),
            span: self.source.span(&(end - value.len().min(end)..end)),
        };
        let key = key.to_ascii_lowercase();
        let whole = self.source.span(&(content.start..end));
        let slot = match key.as_str() {
            "syntax" => &mut self.directives.syntax,
            "escape" => &mut self.directives.escape,
            "check" => &mut self.directives.check,
            _ => return None,
        };
        if slot.is_some() {
            self.diagnostics.push(diag::repeated_directive(whole, &key));
            return Some(Directive);
        }
        *slot = Some(word.clone());
        if key == "escape" {
            match word.raw.as_str() {
                "\\" => self.escape = '\\',
                "`" => self.escape = '`',
                _ => {
                    self.diagnostics.push(diag::bad_escape(&word));
                    return Some(Directive);
                }
            }
        }
        Some(Directive)
    }

    fn skip_shebang(&mut self) {
        if self.source.text().get(self.offset..).is_some_and(|text| text.starts_with("#!"))
            && let Some(physical) = self.next_line()
        {
            let comment = self.comment(physical.start..self.line_end(&physical));
            self.comments.push(comment);
        }
    }

    /// The next physical line with its line end; too long a line is an error once and read on.
    fn next_line(&mut self) -> Option<Range<usize>> {
        let rest = self.source.text().get(self.offset..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let range = self.offset..self.offset + length;
        self.offset = range.end;
        if length > LINE_SIZE_MAX {
            let end = self.line_end(&range);
            if end - range.start > LINE_SIZE_MAX {
                let span = self.source.span(&(range.start..range.start));
                self.diagnostics.push(diag::line_too_long(span));
            }
        }
        Some(range)
    }

    /// Where a physical line's text ends.
    fn line_end(&self, physical: &Range<usize>) -> usize {
        physical.start + self.text(physical).trim_end_matches(['\r', '\n']).len()
    }

    /// A physical line without its line end and without white space at the start.
    fn content(&self, physical: &Range<usize>) -> Range<usize> {
        let text = self.text(physical).trim_end_matches(['\r', '\n']);
        let start = physical.start + (text.len() - text.trim_start().len());
        start..physical.start + text.len()
    }

    /// Cuts off the escape character at the end, which says that the next line goes on. Written
    /// twice it stands for itself, so that a Windows path may end in it.
    fn without_continuation(&self, range: Range<usize>) -> (Range<usize>, bool) {
        let text = self.text(&range).trim_end_matches([' ', '\t']);
        match text.strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => {
                (range.start..range.start + before.len(), true)
            }
            _ => (range, false),
        }
    }

    fn refuse_invalid(&mut self, range: &Range<usize>) {
        if let Some(at) = self.source.invalid_in(range) {
            self.diagnostics.push(diag::not_utf8(self.source.span(&(at..at + 1))));
        }
    }

    fn text(&self, range: &Range<usize>) -> &'s str {
        self.source.text().get(range.clone()).unwrap_or("")
    }
}

fn trim_end(text: &str, range: Range<usize>) -> usize {
    range.start + text.get(range.clone()).unwrap_or("").trim_end().len()
}
