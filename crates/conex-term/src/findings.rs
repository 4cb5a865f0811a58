//! Findings with the lines that they are about, and errors with their causes.
//!
//! Invariant: a caret stands under the character it means, whatever tabulators, wide characters
//! or control characters stand before it; and no line is wider than asked for, so it never wraps
//! away from its caret.
//!
//! Reads no file: the source text comes with the call.

use std::fmt::Write as _;

use conex_report::{Diagnostic, Severity, Span};

use crate::Palette;
use crate::text::{char_width, clean, is_harmful};

/// Lines of source shown for one finding; a heredoc may have thousands.
const EXCERPT_LINES_MAX: usize = 6;
/// Every how many cells a tabulator in source text stops.
const TAB_CELLS: usize = 4;
/// Links of an error chain shown, in case one is circular.
const CAUSES_MAX: usize = 32;
/// Fewest cells that a source line gets, on however narrow a terminal.
const LINE_CELLS_MIN: usize = 20;

/// A text that a person wrote, and what they call it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'s> {
    /// Its path as the person gave it (`Dockerfile`, `-`), or nothing where it has none.
    pub name: &'s str,
    /// All of it.
    pub text: &'s str,
}

/// Shows findings about one text.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'s> {
    source: Source<'s>,
    palette: Palette,
    columns: usize,
}

impl<'s> Findings<'s> {
    /// Shows findings about `source` on lines of at most 100 cells.
    pub fn new(source: Source<'s>, palette: Palette) -> Self {
        Self { source, palette, columns: 100 }
    }

    /// Sets how many cells a line of source may take.
    #[must_use]
    pub fn with_columns(mut self, columns: u16) -> Self {
        self.columns = usize::from(columns);
        self
    }

    /// Shows one finding: where and what, the lines, the hint. Ends with a line end.
    pub fn one(&self, finding: &Diagnostic) -> String {
        let mut shown = String::new();
        let name = clean(self.source.name);
        let place = match finding.span {
            Some(Span { start, .. }) if name.is_empty() => format!("line {}", start.line),
            Some(Span { start, .. }) => format!("{name}:{}:{}", start.line, start.column),
            None => name,
        };
        if !place.is_empty() {
            let _ = write!(shown, "{}: ", self.palette.strong(&place)); // a String takes all
        }
        let code = finding.code.map(|code| format!("[{code}]")).unwrap_or_default();
        let painted = match finding.severity {
            Severity::Error => self.palette.error(&format!("error{code}:")),
            Severity::Warning => self.palette.warning(&format!("warning{code}:")),
            Severity::Note => self.palette.hint(&format!("note{code}:")),
        };
        shown.push_str(&painted);
        shown.push(' ');
        push_lines(&mut shown, &finding.message, "  ");
        if let Some(span) = finding.span {
            self.push_excerpt(&mut shown, span, finding.severity);
        }
        if let Some(hint) = &finding.hint {
            push_hint(&mut shown, hint, self.palette);
        }
        shown
    }

    /// Shows several findings in the order given, and counts them: `2 errors, 1 warning`. Nothing
    /// gives an empty text.
    pub fn all(&self, findings: &[Diagnostic]) -> String {
        let mut shown: String = findings.iter().map(|finding| self.one(finding) + "\n").collect();
        let count = |wanted| findings.iter().filter(|found| found.severity == wanted).count();
        let counts: Vec<String> = [
            (count(Severity::Error), "error"),
            (count(Severity::Warning), "warning"),
            (count(Severity::Note), "note"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }))
        .collect();
        if !counts.is_empty() {
            shown.push_str(&counts.join(", "));
            shown.push('\n');
        }
        shown
    }

    fn push_excerpt(&self, shown: &mut String, span: Span, severity: Severity) {
        let (first, last) = span.lines();
        let last = last.max(first);
        let wanted = usize::try_from(first.saturating_sub(1)).unwrap_or(usize::MAX);
        let lines: Vec<(u32, &str)> = (first..=last)
            .zip(self.source.text.split('\n').skip(wanted))
            .map(|(number, line)| (number, line.strip_suffix('\r').unwrap_or(line)))
            .collect();
        // A file's last line end does not begin a line, and line 0 is nowhere.
        if first == 0 || lines.is_empty() {
            return;
        }
        let number_cells = lines.last().map_or(1, |(number, _)| number.to_string().len());
        let available = self.columns.saturating_sub(number_cells + 6).max(LINE_CELLS_MIN);
        if let [(number, line)] = lines.as_slice() {
            let (start, end) = match (span.start.line == span.end.line, span.end.column) {
                (true, end) => (span.start.column, end),
                (false, _) => (span.start.column, u32::MAX),
            };
            let (text, caret_at, caret_cells) = window(line, start, end, available);
            let gutter = self.palette.dim(&format!("  {number} |"));
            let _ = writeln!(shown, "{gutter} {text}"); // a String takes all
            let gutter = self.palette.dim(&format!("  {:number_cells$} |", ""));
            let carets = "^".repeat(caret_cells);
            let carets = match severity {
                Severity::Error => self.palette.error(&carets),
                Severity::Warning => self.palette.warning(&carets),
                Severity::Note => self.palette.hint(&carets),
            };
            let _ = writeln!(shown, "{gutter} {:caret_at$}{carets}", "");
            return;
        }
        for (number, line) in lines.iter().take(EXCERPT_LINES_MAX) {
            let (text, ..) = window(line, 1, 1, available);
            let gutter = self.palette.dim(&format!("> {number:number_cells$} |"));
            let _ = writeln!(shown, "{}", format!("{gutter} {text}").trim_end());
        }
        if lines.len() > EXCERPT_LINES_MAX {
            let more = lines.len() - EXCERPT_LINES_MAX;
            let gutter = self.palette.dim(&format!("  {:number_cells$} |", ""));
            let lines = if more == 1 { "line" } else { "lines" };
            let _ = writeln!(shown, "{gutter} … {more} more {lines}");
        }
    }
}

/// Lays out one line of source in at most `available` cells so that the columns `start..end` (from
/// 1, in characters) are seen. Returns the text, the cell where they begin and how many they are.
fn window(line: &str, start: u32, end: u32, available: usize) -> (String, usize, usize) {
    // Of a line that never ends (a minified script) only what is near is laid out.
    let near = u32::try_from(available.saturating_mul(4)).unwrap_or(u32::MAX);
    let lead = start.saturating_sub(near);
    let from = line.char_indices().nth(lead as usize).map_or(line.len(), |(at, _)| at);
    let line = line.get(from..).unwrap_or_default();
    let mut cells: Vec<(char, usize)> = Vec::new();
    let mut used = 0;
    let (mut caret_start, mut caret_end) = (None, None);
    for (column, char) in (lead.saturating_add(1)..).zip(line.chars()) {
        if caret_start.is_some_and(|caret| used > caret + 2 * available) {
            break;
        }
        if column == start {
            caret_start = Some(used);
        }
        if column == end {
            caret_end = Some(used);
        }
        let (char, taken) = match char {
            '\t' => ('\t', TAB_CELLS - used % TAB_CELLS),
            _ if is_harmful(char) => ('\u{fffd}', 1),
            _ => (char, char_width(char)),
        };
        cells.push((char, taken));
        used += taken;
    }
    let caret_start = caret_start.unwrap_or(used);
    let caret_end = caret_end.unwrap_or(used).max(caret_start + 1);
    // Show the beginning of the line unless what matters lies beyond it.
    let skipped = if used <= available || caret_end <= available {
        0
    } else {
        caret_start.saturating_sub(available / 4)
    };
    let mut text = String::new();
    let mut at = 0;
    let mut shown_start = None;
    for (char, taken) in cells {
        let shown = *shown_start.get_or_insert_with(|| at.max(skipped));
        if at >= skipped {
            if at + taken > shown + available {
                text.push('…');
                break;
            }
            match char {
                '\t' => text.extend(std::iter::repeat_n(' ', taken)),
                _ => text.push(char),
            }
        }
        at += taken;
    }
    let is_cut = skipped > 0 || lead > 0;
    if is_cut {
        text.insert(0, '…');
    }
    let before = usize::from(is_cut);
    let caret_at = caret_start - skipped + before;
    let room = (available + before).saturating_sub(caret_at).max(1);
    (text.trim_end().to_owned(), caret_at, (caret_end - caret_start).min(room))
}

/// Appends a text of one or more lines, the further ones indented.
fn push_lines(shown: &mut String, text: &str, indent: &str) {
    let mut lines = text.lines().map(clean);
    shown.push_str(&lines.next().unwrap_or_default());
    shown.push('\n');
    for line in lines {
        let _ = writeln!(shown, "{}", format!("{indent}{line}").trim_end()); // a String takes all
    }
}

fn push_hint(shown: &mut String, hint: &str, palette: Palette) {
    shown.push_str(&palette.hint("hint:"));
    shown.push(' ');
    push_lines(shown, hint, "  ");
}

/// Shows an error, what caused it, and what mends it.
#[derive(Debug, Clone, Copy)]
pub struct ErrorText {
    palette: Palette,
}

impl ErrorText {
    /// Shows errors in these colours.
    pub fn new(palette: Palette) -> Self {
        Self { palette }
    }

    /// Shows `error: …`, a line `caused by: …` for each cause, and the hints. A cause that the
    /// line above already says word for word (errors of others print their source) is left out.
    pub fn render<'h>(
        &self,
        error: &(dyn std::error::Error + 'static),
        hints: impl IntoIterator<Item = &'h str>,
    ) -> String {
        let mut shown = self.palette.error("error:");
        shown.push(' ');
        let mut above = error.to_string();
        push_lines(&mut shown, &above, "  ");
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        for cause in causes.take(CAUSES_MAX) {
            let text = cause.to_string();
            if text.is_empty() || above.ends_with(&text) {
                continue;
            }
            shown.push_str("  ");
            shown.push_str(&self.palette.warning("caused by:"));
            shown.push(' ');
            push_lines(&mut shown, &text, "    ");
            above = text;
        }
        for hint in hints {
            push_hint(&mut shown, hint, self.palette);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::{ErrorText, Findings, Source, window};
    use crate::Palette;
    use crate::text::width;
    use conex_report::{Diagnostic, Severity, Span};
    use insta::assert_snapshot;
    use proptest::prelude::*;

    const TEXT: &str = "FROM debian AS base\nFORM\tscratch\r\nRUN <<EOF\none\ntwo\nthree\nfour\n\
                        five\nsix\nEOF\nCOPY 层层 --form=base /a /b\nRUN \u{1b}[2Jevil\n";

    fn shown(finding: &Diagnostic) -> String {
        let source = Source { name: "Dockerfile", text: TEXT };
        Findings::new(source, Palette::PLAIN).with_columns(60).one(finding)
    }

    fn at(start: (u32, u32), end: (u32, u32)) -> Diagnostic {
        Diagnostic::error(Span::new(start, end), "this is wrong")
    }

    #[test]
    fn a_finding_shows_its_line_a_caret_and_the_hint() {
        let finding = Diagnostic::error(Span::new((2, 1), (2, 5)), "`FORM` is no instruction")
            .with_hint("did you mean `FROM`?");
        assert_snapshot!(shown(&finding), @r"
        Dockerfile:2:1: error: `FORM` is no instruction
          2 | FORM    scratch
            | ^^^^
        hint: did you mean `FROM`?
        ");
    }

    #[test]
    fn carets_stand_right_behind_tabs_and_wide_characters() {
        assert_snapshot!(shown(&at((2, 6), (2, 13))), @r"
        Dockerfile:2:6: error: this is wrong
          2 | FORM    scratch
            |         ^^^^^^^
        ");
        assert_snapshot!(shown(&at((11, 9), (11, 20))), @r"
        Dockerfile:11:9: error: this is wrong
          11 | COPY 层层 --form=base /a /b
             |           ^^^^^^^^^^^
        ");
    }

    #[test]
    fn what_lacks_at_a_lines_end_is_shown_there() {
        assert_snapshot!(shown(&at((1, 20), (1, 20))), @r"
        Dockerfile:1:20: error: this is wrong
          1 | FROM debian AS base
            |                    ^
        ");
    }

    #[test]
    fn several_lines_are_marked_and_a_long_heredoc_is_cut() {
        assert_snapshot!(shown(&at((3, 1), (11, 1))), @r"
        Dockerfile:3:1: error: this is wrong
        >  3 | RUN <<EOF
        >  4 | one
        >  5 | two
        >  6 | three
        >  7 | four
        >  8 | five
             | … 2 more lines
        ");
    }

    #[test]
    fn control_characters_of_the_source_do_nothing() {
        assert_snapshot!(shown(&at((12, 5), (12, 13))), @r"
        Dockerfile:12:5: error: this is wrong
          12 | RUN �[2Jevil
             |     ^^^^^^^^
        ");
    }

    #[test]
    fn a_place_outside_the_text_has_no_lines() {
        assert_snapshot!(shown(&at((99, 1), (99, 2))), @"Dockerfile:99:1: error: this is wrong");
        assert_snapshot!(shown(&at((0, 0), (0, 0))), @"Dockerfile:0:0: error: this is wrong");
        let nowhere = Diagnostic { span: None, ..at((1, 1), (1, 1)) };
        assert_snapshot!(shown(&nowhere), @"Dockerfile: error: this is wrong");
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("RUN {}here{}", "a ".repeat(60), " b".repeat(60));
        let source = Source { name: "D", text: &text };
        let findings = Findings::new(source, Palette::PLAIN).with_columns(60);
        assert_snapshot!(findings.one(&at((1, 125), (1, 129))), @r"
        D:1:125: error: this is wrong
          1 | … a a a a a a here b b b b b b b b b b b b b b b b b b…
            |               ^^^^
        ");
    }

    #[test]
    fn a_line_without_end_looks_like_one_that_is_long() {
        let shown = |count: usize| {
            let text = format!("RUN {}here{}", "a ".repeat(count), " b".repeat(count));
            let findings = Findings::new(Source { name: "D", text: &text }, Palette::PLAIN);
            let column = u32::try_from(5 + 2 * count).unwrap();
            let one = findings.with_columns(60).one(&at((1, column), (1, column + 4)));
            one.split_once('\n').unwrap().1.to_owned()
        };
        assert_eq!(shown(1_000_000), shown(60));
    }

    #[test]
    fn several_findings_are_counted() {
        let source = Source { name: "Dockerfile", text: TEXT };
        let warning =
            Diagnostic::warning("StageNameCasing", Span::new((1, 16), (1, 20)), "stage\nis odd");
        let note = Diagnostic { severity: Severity::Note, ..at((1, 1), (1, 5)) };
        let findings = [at((1, 1), (1, 5)), warning, at((2, 1), (2, 5)), note];
        let findings = Findings::new(source, Palette::PLAIN).all(&findings);
        assert_snapshot!(findings, @r"
        Dockerfile:1:1: error: this is wrong
          1 | FROM debian AS base
            | ^^^^

        Dockerfile:1:16: warning[StageNameCasing]: stage
          is odd
          1 | FROM debian AS base
            |                ^^^^

        Dockerfile:2:1: error: this is wrong
          2 | FORM    scratch
            | ^^^^

        Dockerfile:1:1: note: this is wrong
          1 | FROM debian AS base
            | ^^^^

        2 errors, 1 warning, 1 note
        ");
        assert_eq!(Findings::new(source, Palette::PLAIN).all(&[]), "");
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let source = Source { name: "Dockerfile", text: TEXT };
        let finding = at((2, 1), (2, 5)).with_hint("edit it");
        let colored = Findings::new(source, Palette::COLOR).one(&finding);
        let plain = Findings::new(source, Palette::PLAIN).one(&finding);
        assert!(colored.contains("\x1b["));
        let stripped: Vec<String> = colored.lines().map(crate::text::clean_line).collect();
        assert_eq!(stripped.join("\n") + "\n", plain);
    }

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl std::fmt::Display for Link {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl std::error::Error for Link {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|link| link as _)
        }
    }

    #[test]
    fn an_error_names_its_causes_then_hints() {
        let cause = Link("Dockerfile:7: `COPY --from=bulid` names no stage", None);
        let error = Link("cannot build stage `app`", Some(Box::new(cause)));
        let text = ErrorText::new(Palette::PLAIN).render(&error, ["did you mean `build`?"]);
        assert_snapshot!(text, @r"
        error: cannot build stage `app`
          caused by: Dockerfile:7: `COPY --from=bulid` names no stage
        hint: did you mean `build`?
        ");
    }

    #[test]
    fn a_cause_already_said_is_not_said_again() {
        let inner = Link("broken pipe", None);
        let middle = Link("cannot write: broken pipe", Some(Box::new(inner)));
        let error = Link("cannot save `app`\nto\x1b[2J `x.tar`", Some(Box::new(middle)));
        assert_snapshot!(ErrorText::new(Palette::PLAIN).render(&error, []), @r"
        error: cannot save `app`
          to `x.tar`
          caused by: cannot write: broken pipe
        ");
    }

    proptest! {
        #[test]
        fn any_span_of_any_text_can_be_shown(
            text in any::<String>(),
            places in any::<[u32; 4]>(),
            near in any::<bool>(),
            columns in any::<u16>(),
        ) {
            let [a, b, c, d] = if near { places.map(|place| place % 12) } else { places };
            // A span of billions of lines comes from no parser; it is cut by the text's end.
            let span = Span::new((a, b), (c, d));
            let source = Source { name: "D", text: &text };
            let findings = Findings::new(source, Palette::PLAIN).with_columns(columns);
            findings.one(&Diagnostic::error(span, "wrong"));
        }

        #[test]
        fn a_line_and_its_carets_keep_to_their_cells(
            line in "[a-z层\t\u{301}]{0,80}",
            start in 1u32..90,
            length in 0u32..90,
            cells in 20usize..60,
        ) {
            let (text, caret_at, carets) = window(&line, start, start + length, cells);
            prop_assert!(width(&text) <= cells + 2, "{text}");
            prop_assert!(carets >= 1 && caret_at + carets <= cells + 3);
        }
    }
}
