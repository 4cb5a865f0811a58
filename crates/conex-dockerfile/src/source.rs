//! Where every byte of a Dockerfile stands, through continuations and dropped comments.
//!
//! [`Source`] is the text as read; a [`Line`] is one instruction put together from several physical
//! lines, and a [`Part`] a range of it that still knows its places in the source.

use std::borrow::Cow;
use std::ops::Range;

use conex_report::{Position, Span};

use crate::ast::Word;

/// A text with an index of its lines.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    text: Cow<'t, str>,
    line_starts: Vec<usize>,
    /// How many characters stand before each [`BLOCK_SIZE`] bytes, so that a column in a long line
    /// costs no walk from its start.
    characters: Vec<usize>,
    invalid: Vec<usize>,
}

const BLOCK_SIZE: usize = 1024;

impl<'t> Source<'t> {
    /// Takes a text. Bytes that are not UTF-8 are replaced one by one with `?`, so that offsets
    /// stay true; [`Source::invalid_in`] finds them again. Comments may be in any encoding, so they
    /// are no error here.
    pub(crate) fn new(bytes: &'t [u8]) -> Self {
        let (text, invalid) = match std::str::from_utf8(bytes) {
            Ok(text) => (Cow::Borrowed(text), Vec::new()),
            Err(_) => {
                let (text, invalid) = replace_invalid(bytes);
                (Cow::Owned(text), invalid)
            }
        };
        let mut line_starts = vec![0];
        line_starts.extend(text.match_indices('\n').map(|(offset, _)| offset + 1));
        let mut characters = vec![0];
        let mut count = 0;
        for block in text.as_bytes().chunks(BLOCK_SIZE) {
            count += count_characters(block);
            characters.push(count);
        }
        Self { text, line_starts, characters, invalid }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first byte in a range that was not UTF-8.
    pub(crate) fn invalid_in(&self, range: &Range<usize>) -> Option<usize> {
        let first = self.invalid.partition_point(|offset| *offset < range.start);
        self.invalid.get(first).copied().filter(|offset| *offset < range.end)
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        // A byte order mark is no column.
        let mark = usize::from(start == 0 && offset > 0 && self.text.starts_with('\u{feff}'));
        let before = match self.text.as_bytes().get(start..offset) {
            Some(near) if near.len() <= BLOCK_SIZE => count_characters(near),
            _ => self.characters_before(offset) - self.characters_before(start),
        };
        let column = before - mark + 1;
        Position { line: clamp(line), column: clamp(column) }
    }

    fn characters_before(&self, offset: usize) -> usize {
        let block = offset / BLOCK_SIZE;
        let rest = self.text.as_bytes().get(block * BLOCK_SIZE..offset).unwrap_or_default();
        self.characters.get(block).copied().unwrap_or(0) + count_characters(rest)
    }

    /// The span of a byte range.
    pub(crate) fn span(&self, range: &Range<usize>) -> Span {
        Span { start: self.position(range.start), end: self.position(range.end) }
    }
}

/// Counts the bytes that begin a character.
fn count_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn replace_invalid(bytes: &[u8]) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(bytes.len());
    let mut invalid = Vec::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for _ in chunk.invalid() {
            invalid.push(text.len());
            text.push('?');
        }
    }
    (text, invalid)
}

/// One instruction's text on one line.
#[derive(Debug)]
pub(crate) struct Line<'s> {
    source: &'s Source<'s>,
    text: String,
    /// Where pieces of `text` come from: (offset in `text`, offset in the source), ascending.
    pieces: Vec<(usize, usize)>,
}

impl<'s> Line<'s> {
    pub(crate) fn new(source: &'s Source<'s>) -> Self {
        Self { source, text: String::new(), pieces: Vec::new() }
    }

    /// Appends a range of the source.
    pub(crate) fn push(&mut self, range: Range<usize>) {
        self.pieces.push((self.text.len(), range.start));
        self.text.push_str(self.source.text.get(range).unwrap_or(""));
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// All of it, without white space around.
    pub(crate) fn whole(&self) -> Part<'_> {
        Part { line: self, start: 0, end: self.text.len() }.trim()
    }

    fn offset(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        match self.pieces.get(piece) {
            Some((start, source)) => source + (at - start.min(&at)),
            None => 0,
        }
    }
}

/// A range of a [`Line`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'l> {
    line: &'l Line<'l>,
    start: usize,
    end: usize,
}

impl<'l> Part<'l> {
    pub(crate) fn text(&self) -> &'l str {
        self.line.text.get(self.start..self.end).unwrap_or("")
    }

    /// A range of this part, in bytes of [`Part::text`].
    pub(crate) fn sub(&self, range: Range<usize>) -> Part<'l> {
        let end = (self.start + range.end).min(self.end);
        Part { line: self.line, start: (self.start + range.start).min(end), end }
    }

    pub(crate) fn from(&self, start: usize) -> Part<'l> {
        self.sub(start..self.end - self.start)
    }

    pub(crate) fn trim(&self) -> Part<'l> {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        self.sub(start..start + text.trim().len())
    }

    /// The bytes of the source from the first to the last character.
    pub(crate) fn source(&self) -> Range<usize> {
        let start = self.line.offset(self.start);
        if self.end <= self.start {
            return start..start;
        }
        // The last character decides, not the place behind it: that may be on another line.
        let last = self.text().char_indices().next_back().map_or(0, |(at, _)| at);
        let width = self.text().len() - last;
        start..self.line.offset(self.start + last) + width
    }

    /// Where the pieces of [`Part::text`] come from: (offset in it, offset in the source),
    /// ascending.
    pub(crate) fn places(&self) -> Vec<(usize, usize)> {
        let behind = self.line.pieces.iter().filter(|(start, _)| {
            // A piece that begins where this part does is the first one, below.
            *start > self.start && *start < self.end
        });
        let behind = behind.map(|(start, source)| (start - self.start, *source));
        std::iter::once((0, self.line.offset(self.start))).chain(behind).collect()
    }

    pub(crate) fn span(&self) -> Span {
        self.line.source.span(&self.source())
    }

    pub(crate) fn word(&self) -> Word {
        Word { raw: self.text().to_owned(), span: self.span() }
    }

    /// A word at this place whose text is not the text written here (unquoted, decoded).
    pub(crate) fn word_reading(&self, raw: String) -> Word {
        Word { raw, span: self.span() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Source};

    #[test]
    fn places_survive_continuations() {
        let source = Source::new(b"RUN a\\\n  # note\n  bc d\n");
        let mut line = Line::new(&source);
        line.push(0..5);
        line.push(16..22);
        let part = line.whole();
        assert_eq!(part.text(), "RUN a  bc d");
        let word = part.sub(7..9).word();
        assert_eq!(word.raw, "bc");
        assert_eq!((word.span.start.line, word.span.start.column), (3, 3));
        assert_eq!((word.span.end.line, word.span.end.column), (3, 5));
        let across = part.sub(4..9).span();
        assert_eq!((across.start.line, across.start.column), (1, 5));
        assert_eq!((across.end.line, across.end.column), (3, 5));
    }

    #[test]
    fn columns_count_characters_and_no_byte_order_mark() {
        let source = Source::new("\u{feff}é x".as_bytes());
        assert_eq!(source.position(3).column, 1);
        assert_eq!(source.position(6).column, 3);
    }

    #[test]
    fn bytes_that_are_not_text_keep_their_places() {
        let source = Source::new(b"a\xff\xfeb\n\xe9");
        assert_eq!(source.text(), "a??b\n?");
        assert_eq!(source.invalid_in(&(0..1)), None);
        assert_eq!(source.invalid_in(&(0..3)), Some(1));
        assert_eq!(source.invalid_in(&(3..6)), Some(5));
    }
}
