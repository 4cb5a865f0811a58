//! Lays a Dockerfile out anew without changing what it says.
//!
//! Changes only white space that means nothing: keywords in upper case, one space between the parts
//! of `FROM` and between flags, no blanks at ends of lines outside of heredocs, continued lines
//! indented alike, at most one empty line in a row, a line end at the end. The text of scripts,
//! values and heredocs stays as it is.
//!
//! Invariant: the result parses to the same instructions ([`same`] says what that means); a file
//! of which that cannot be shown comes back unchanged.

use conex_dockerfile::{Dockerfile, Instruction, Kind, parse};

use crate::text::Lines;

/// How many blanks a continued line is indented.
const INDENT: &str = "    ";

/// Why a file was not laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unformatted {
    /// It does not parse.
    Mistakes,
    /// The new layout would have said something else.
    Meaning,
}

/// Lays a file out.
///
/// # Errors
/// The file has mistakes, or no layout was found that says the same.
pub fn format(text: &str) -> Result<String, Unformatted> {
    let (file, mistakes) = parse(text.as_bytes());
    if mistakes.iter().any(|one| one.severity == conex_report::Severity::Error) {
        return Err(Unformatted::Mistakes);
    }
    let formatted = laid_out(text, &file);
    let (again, mistakes) = parse(formatted.as_bytes());
    let is_same = same(&file, &again)
        && !mistakes.iter().any(|one| one.severity == conex_report::Severity::Error);
    if !is_same {
        return Err(Unformatted::Meaning);
    }
    // What is laid out stays as it is.
    Ok(formatted)
}

/// Whether two files give the same image: the same directives and, in the same order, instructions
/// with the same meaning and the same comments. White space between the words of an instruction
/// whose grammar cuts at blanks is no meaning; within scripts and values it is.
pub fn same(a: &Dockerfile, b: &Dockerfile) -> bool {
    fn all(file: &Dockerfile) -> Vec<&Instruction> {
        let staged = file
            .stages
            .iter()
            .flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
        file.global_args.iter().chain(staged).collect()
    }
    let (left, right) = (all(a), all(b));
    let comments = |file: &Dockerfile| -> Vec<String> {
        file.comments.iter().map(|comment| comment.text.clone()).collect()
    };
    let directives = |file: &Dockerfile| {
        let raw = |word: &Option<conex_dockerfile::Word>| word.as_ref().map(|w| w.raw.clone());
        let Dockerfile { directives, .. } = file;
        (raw(&directives.syntax), raw(&directives.escape), raw(&directives.check))
    };
    left.len() == right.len()
        && a.escape == b.escape
        && directives(a) == directives(b)
        && comments(a) == comments(b)
        && left.iter().zip(&right).all(|(a, b)| meaning(a) == meaning(b))
}

/// Everything an instruction says, without places.
fn meaning(instruction: &Instruction) -> String {
    let heredocs: String = instruction
        .heredocs
        .iter()
        .map(|one| format!("<<{}:{}:{}:{}\n", one.name, one.expand, one.strip_tabs, one.content))
        .collect();
    let comments: Vec<&str> =
        instruction.comments.iter().map(|comment| comment.text.as_str()).collect();
    let script = match instruction.script() {
        Some(conex_dockerfile::Script::Shell(text)) => words_of_script(&text),
        other => format!("{other:?}"),
    };
    let kind = match &instruction.kind {
        // `as` and `AS` are the same word.
        Kind::From(from) => {
            let raw = |word: &Option<conex_dockerfile::Word>| word.as_ref().map(|w| w.raw.clone());
            format!("{:?}", (&from.base.raw, raw(&from.platform), raw(&from.name)))
        }
        // The command's white space is compared as its shell reads it.
        Kind::Run(run) => without_places(&(&run.mounts, run.network, run.security)),
        kind => without_places(kind),
    };
    format!("{}\n{comments:?}\n{kind}\n{script}\n{heredocs}", instruction.kind.name())
}

/// A script as its shell reads it: the text itself, or, if only blanks between words changed, the
/// words. The indentation of continued lines is such a blank.
fn words_of_script(text: &str) -> String {
    let script = conex_shell::parse(text);
    if script.error.is_some() || !script.heredocs.is_empty() {
        return text.to_owned();
    }
    struct Words<'t> {
        text: &'t str,
        out: String,
    }
    impl<'s> conex_shell::Visit<'s> for Words<'_> {
        fn word(&mut self, word: &'s conex_shell::Word) {
            self.out.push_str(word.span.of(self.text));
            self.out.push('\u{1}');
        }
    }
    let mut words = Words { text, out: String::new() };
    script.visit(&mut words);
    // Operators and reserved words are what stands between the words, blanks aside.
    let bones: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}\u{2}{bones}", words.out)
}

/// Debug output without places. In its long form each field has lines of its own, and a text is
/// one line that begins with a quote: nothing in a text can be taken for a place.
fn without_places(value: &impl std::fmt::Debug) -> String {
    let shown = format!("{value:#?}");
    let mut out = String::new();
    // The indentation of the place that is being left out.
    let mut within: Option<usize> = None;
    for line in shown.lines() {
        let bare = line.trim_start();
        let depth = line.len() - bare.len();
        match within {
            Some(outer) => {
                if depth == outer {
                    within = None;
                }
            }
            None if bare == "Span {" || bare == "span: Span {" => within = Some(depth),
            None => {
                out.push_str(bare);
                out.push('\n');
            }
        }
    }
    out
}

fn laid_out(text: &str, file: &Dockerfile) -> String {
    let lines = Lines::new(text);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    let staged = file
        .stages
        .iter()
        .flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
    for instruction in file.global_args.iter().chain(staged) {
        push_between(&mut out, text.get(at..instruction.source.start).unwrap_or(""));
        push_instruction(&mut out, text, &lines, file, instruction);
        at = instruction.source.end;
    }
    push_between(&mut out, text.get(at..).unwrap_or(""));
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}

/// Comments and empty lines: no blanks at either end, at most one empty line in a row. What stands
/// before the first line end belongs to the line before.
fn push_between(out: &mut String, between: &str) {
    let mut is_rest = !out.is_empty();
    for line in between.split_inclusive('\n') {
        let trimmed = line.trim();
        let ends = line.ends_with('\n');
        if std::mem::take(&mut is_rest) && trimmed.is_empty() {
            if ends {
                out.push('\n');
            }
            continue;
        }
        if trimmed.is_empty() {
            if ends && !out.is_empty() && !out.ends_with("\n\n") && out != "\u{feff}" {
                out.push('\n');
            }
            continue;
        }
        out.push_str(trimmed);
        if ends {
            out.push('\n');
        }
    }
}

fn push_instruction(
    out: &mut String,
    text: &str,
    lines: &Lines<'_>,
    file: &Dockerfile,
    instruction: &Instruction,
) {
    let head = lines.range(instruction.head);
    let written = text.get(head.clone()).unwrap_or("");
    let tail = text.get(head.end..instruction.source.end).unwrap_or("");
    match &instruction.kind {
        Kind::From(from) if !written.contains('\n') => {
            out.push_str("FROM ");
            if from.platform.is_some() {
                let flag = written.split_whitespace().nth(1).unwrap_or("");
                out.push_str(flag);
                out.push(' ');
            }
            out.push_str(&from.base.raw);
            if let Some(name) = &from.name {
                out.push_str(" AS ");
                out.push_str(&name.raw);
            }
        }
        _ => {
            let keyword = instruction.keyword.raw.to_ascii_uppercase();
            let rest = written.get(instruction.keyword.raw.len()..).unwrap_or("");
            out.push_str(&keyword);
            push_rest(out, rest, file.escape, may_indent(instruction));
        }
    }
    out.push_str(tail);
}

/// Whether the blanks at the start of a continued line mean nothing: they stand between words of a
/// script or of a list, and not within quotes.
fn may_indent(instruction: &Instruction) -> bool {
    matches!(
        instruction.kind,
        Kind::Run(_)
            | Kind::Copy(_)
            | Kind::Add(_)
            | Kind::Expose(_)
            | Kind::Volume(_)
            | Kind::Arg(_)
            | Kind::Env(_)
            | Kind::Label(_)
    )
}

/// What stands behind the keyword: one blank, then the lines.
fn push_rest(out: &mut String, rest: &str, escape: char, may_indent: bool) {
    let mut quotes = Quotes::default();
    let mut is_first = true;
    for line in rest.split_inclusive('\n') {
        let ends = line.ends_with('\n');
        let bare = line.trim_end_matches(['\n', '\r']);
        let within_quotes = quotes.is_open();
        let is_comment = !is_first && bare.trim_start().starts_with('#');
        if !is_comment {
            quotes.read(bare, escape);
        }
        let continued = bare.trim_end().ends_with(escape);
        let trimmed = bare.trim_start();
        let content = if continued { trimmed.trim_end() } else { trimmed };
        if is_first {
            if !content.is_empty() {
                out.push(' ');
            }
            out.push_str(content);
        } else if is_comment {
            out.push_str(INDENT);
            out.push_str(trimmed.trim_end());
        } else if within_quotes || !may_indent {
            let kept = if continued { bare.trim_end() } else { bare };
            out.push_str(kept);
        } else if !content.is_empty() {
            let depth = indentation(bare);
            out.push_str(&" ".repeat(depth.max(INDENT.len())));
            out.push_str(content);
        }
        if ends {
            out.push('\n');
        }
        is_first = false;
    }
}

/// How deep a line is indented: tabs count as four, and people's own steps are kept.
fn indentation(line: &str) -> usize {
    let mut depth = 0;
    for character in line.chars() {
        match character {
            ' ' => depth += 1,
            '\t' => depth += 4 - depth % 4,
            _ => break,
        }
    }
    depth
}

/// Whether a place stands in quotes that were opened on a line above.
#[derive(Default)]
struct Quotes {
    open: Option<char>,
}

impl Quotes {
    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn read(&mut self, line: &str, escape: char) {
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match self.open {
                Some('\'') if character == '\'' => self.open = None,
                Some('\'') => {}
                _ if character == escape => {
                    characters.next();
                }
                Some(open) if character == open => self.open = None,
                None if character == '\'' || character == '"' => self.open = Some(character),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Unformatted, format};

    #[test]
    fn white_space_is_laid_out_and_meaning_kept() {
        for (text, expected) in [
            ("from   debian:13   as  a \n", "FROM debian:13 AS a\n"),
            ("FROM scratch\n\n\n\n  RUN  a\n", "FROM scratch\n\nRUN a\n"),
            (
                "FROM scratch\nrun a && \\\n  b\\\n\t\tc",
                "FROM scratch\nRUN a && \\\n    b\\\n        c\n",
            ),
            ("FROM scratch   \n   # note  \nUSER  a\n", "FROM scratch\n# note\nUSER a\n"),
            (
                "FROM scratch\nRUN a \\\n# note\n  && b\n",
                "FROM scratch\nRUN a \\\n    # note\n    && b\n",
            ),
            // Blanks within quotes and heredocs are text.
            ("FROM scratch\nRUN echo 'a \\\n  b'\n", "FROM scratch\nRUN echo 'a \\\n  b'\n"),
            ("FROM scratch\nRUN  <<E\n  a  \n\n\nE\n", "FROM scratch\nRUN <<E\n  a  \n\n\nE\n"),
            ("FROM --platform=$X   a\n", "FROM --platform=$X a\n"),
            ("# syntax=x\n\n\nFROM a", "# syntax=x\n\nFROM a\n"),
            ("FROM a\nENV A=b \\\n C=d\n", "FROM a\nENV A=b \\\n    C=d\n"),
            ("FROM a\nCMD  [ \"a\" ]\n", "FROM a\nCMD [ \"a\" ]\n"),
        ] {
            assert_eq!(format(text).as_deref(), Ok(expected), "{text:?}");
            assert_eq!(format(expected).as_deref(), Ok(expected), "again {text:?}");
        }
        assert_eq!(format("FORM a\n"), Err(Unformatted::Mistakes));
    }
}
