//! The grammar that all instructions share: a keyword, `--flags`, then arguments; and the ways in
//! which arguments are cut into words.

use std::ops::Range;

use crate::ast::Word;
use crate::source::{Line, Part};

/// An instruction cut into its three parts.
#[derive(Debug)]
pub(crate) struct Statement<'l> {
    pub(crate) whole: Part<'l>,
    pub(crate) keyword: Part<'l>,
    pub(crate) flags: Vec<RawFlag<'l>>,
    pub(crate) args: Part<'l>,
}

/// A word that begins with `--`, quotes removed.
#[derive(Debug)]
pub(crate) struct RawFlag<'l> {
    pub(crate) part: Part<'l>,
    /// The text between `--` and `=`.
    pub(crate) name: String,
    /// The text behind `=`; `None` without one.
    pub(crate) value: Option<String>,
}

/// White space between words, as the reference parser's `[\t\v\f\r ]+`.
pub(crate) fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Cuts a text into keyword, flags and arguments.
pub(crate) fn split(whole: Part<'_>, escape: char) -> Statement<'_> {
    let whole = whole.trim();
    let text = whole.text();
    let end = text.find(is_blank).unwrap_or(text.len());
    let (flags, args) = flags(whole.from(end), escape);
    Statement { whole, keyword: whole.sub(0..end), flags, args: args.trim() }
}

/// Whether a line's instruction may open heredocs: RUN, COPY, ADD, or one of them behind ONBUILD,
/// and not in the JSON form.
pub(crate) fn may_open_heredocs(line: &Line<'_>, escape: char) -> bool {
    let mut statement = split(line.whole(), escape);
    if statement.keyword.text().eq_ignore_ascii_case("ONBUILD") {
        statement = split(statement.args, escape);
    }
    let keyword = statement.keyword.text();
    ["RUN", "COPY", "ADD"].iter().any(|known| keyword.eq_ignore_ascii_case(known))
        && !matches!(crate::json::parse(statement.args), crate::json::Form::Strings(_))
}

fn flags(rest: Part<'_>, escape: char) -> (Vec<RawFlag<'_>>, Part<'_>) {
    let text = rest.text();
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += leading_space(text, at);
        let tail = text.get(at..).unwrap_or("");
        if !tail.starts_with("--") {
            return (flags, rest.from(at));
        }
        let (length, word) = flag_word(tail, escape);
        if word == "--" {
            // Two dashes alone end the flags.
            return (flags, rest.from(at + length));
        }
        let body = word.get(2..).unwrap_or("");
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (body.to_owned(), None),
        };
        flags.push(RawFlag { part: rest.sub(at..at + length), name, value });
        at += length;
    }
}

fn leading_space(text: &str, at: usize) -> usize {
    let tail = text.get(at..).unwrap_or("");
    tail.len() - tail.trim_start().len()
}

/// The first word: its length as written, and its text without quotes and escapes.
fn flag_word(text: &str, escape: char) -> (usize, String) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return (at, word),
            None if character == '\'' || character == '"' => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ if character == escape => {
                // At the end of the line there is nothing to escape.
                word.extend(characters.next().map(|(_, escaped)| escaped));
            }
            _ => word.push(character),
        }
    }
    (text.len(), word)
}

/// Cuts at white space; quotes mean nothing (FROM, EXPOSE, COPY, VOLUME).
pub(crate) fn blank_separated(args: Part<'_>) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut start = None;
    for (at, character) in args.text().char_indices() {
        if is_blank(character) {
            parts.extend(start.take().map(|start| args.sub(start..at)));
        } else {
            start.get_or_insert(at);
        }
    }
    parts.extend(start.map(|start| args.from(start)));
    parts
}

/// One word of [`quoted_words`].
#[derive(Debug)]
pub(crate) struct Quoted<'l> {
    part: Part<'l>,
    text: String,
}

impl Quoted<'_> {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn word(&self) -> Word {
        self.part.word_reading(self.text.clone())
    }

    /// Cuts at the first `=`.
    pub(crate) fn key_value(&self) -> Option<(Word, Word)> {
        let (key, value) = self.text.split_once('=')?;
        let written = self.part.text();
        let cut = written.find('=').unwrap_or(written.len());
        let key_part = self.part.sub(0..cut);
        let value_part = self.part.from((cut + 1).min(written.len()));
        Some((key_part.word_reading(key.to_owned()), value_part.word_reading(value.to_owned())))
    }
}

/// Cuts at white space outside quotes, and keeps the quotes: they are removed when the words are
/// expanded (ENV, LABEL, ARG). An escape character at the very end is dropped.
pub(crate) fn quoted_words(args: Part<'_>, escape: char) -> Vec<Quoted<'_>> {
    let text = args.text();
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut dropped: Option<Range<usize>> = None;
    let mut quote = None;
    let mut characters = text.char_indices();
    let mut finish = |start: &mut Option<usize>, end: usize, dropped: Option<Range<usize>>| {
        let Some(start) = start.take() else { return };
        let part = args.sub(start..end);
        let kept = dropped.map_or(end, |range| range.start).max(start);
        let text = text.get(start..kept).unwrap_or("").to_owned();
        if !text.is_empty() {
            words.push(Quoted { part, text });
        }
    };
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            finish(&mut start, at, None);
            continue;
        }
        start.get_or_insert(at);
        match quote {
            Some(open) if character == open => quote = None,
            Some('\'') => {}
            // What follows is escaped; nothing follows at the end, and then the escape is dropped.
            _ if character == escape => dropped = next_or(&mut characters, at..text.len()),
            None if character == '\'' || character == '"' => quote = Some(character),
            _ => {}
        }
    }
    finish(&mut start, text.len(), dropped);
    words
}

/// Skips a character; the range, if there is none.
fn next_or(characters: &mut std::str::CharIndices<'_>, end: Range<usize>) -> Option<Range<usize>> {
    match characters.next() {
        Some(_) => None,
        None => Some(end),
    }
}

#[cfg(test)]
mod tests {
    use super::{blank_separated, quoted_words, split};
    use crate::source::{Line, Source};

    fn with_line<T>(text: &str, check: impl FnOnce(&Line<'_>) -> T) -> T {
        let source = Source::new(text.as_bytes());
        let mut line = Line::new(&source);
        line.push(0..text.len());
        check(&line)
    }

    #[test]
    fn flags_stand_before_arguments_and_lose_their_quotes() {
        for (text, flags, args) in [
            ("RUN --a=1 --b cmd --c", vec!["a=1", "b"], "cmd --c"),
            ("RUN  --mount=\"type=x,id=a b\" y", vec!["mount=type=x,id=a b"], "y"),
            ("RUN --a=x\\ y z", vec!["a=x y"], "z"),
            ("RUN -- --a", vec![], "--a"),
            ("RUN --a", vec!["a"], ""),
            ("RUN -a", vec![], "-a"),
            ("RUN", vec![], ""),
            ("RUN --é=ü x", vec!["é=ü"], "x"),
        ] {
            with_line(text, |line| {
                let statement = split(line.whole(), '\\');
                let found: Vec<String> = statement
                    .flags
                    .iter()
                    .map(|flag| match &flag.value {
                        Some(value) => format!("{}={value}", flag.name),
                        None => flag.name.clone(),
                    })
                    .collect();
                assert_eq!(found, flags, "{text}");
                assert_eq!(statement.args.text(), args, "{text}");
            });
        }
    }

    #[test]
    fn words_with_and_without_quotes() {
        for (text, plain, quoted) in [
            ("a  b", vec!["a", "b"], vec!["a", "b"]),
            ("a=\"b c\" d", vec!["a=\"b", "c\"", "d"], vec!["a=\"b c\"", "d"]),
            ("a=b\\ c", vec!["a=b\\", "c"], vec!["a=b\\ c"]),
            ("a='b\\' c", vec!["a='b\\'", "c"], vec!["a='b\\'", "c"]),
            ("a=\"b\\\" c\"", vec!["a=\"b\\\"", "c\""], vec!["a=\"b\\\" c\""]),
            ("a=\\\"b c", vec!["a=\\\"b", "c"], vec!["a=\\\"b", "c"]),
            ("a\\", vec!["a\\"], vec!["a"]),
            ("'' b", vec!["''", "b"], vec!["''", "b"]),
        ] {
            with_line(text, |line| {
                let parts: Vec<&str> = blank_separated(line.whole())
                    .iter()
                    .map(super::super::source::Part::text)
                    .collect();
                assert_eq!(parts, plain, "{text}");
                let words = quoted_words(line.whole(), '\\');
                let words: Vec<&str> = words.iter().map(super::Quoted::text).collect();
                assert_eq!(words, quoted, "{text}");
            });
        }
    }
}
