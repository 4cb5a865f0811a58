//! Between the editor's places (lines from 0, UTF-16 units unless agreed otherwise) and ours (lines
//! and characters from 1, bytes).

use std::ops::Range;

use conex_report::{Position, Span};
use serde_json::{Value, json};

/// What the editor counts columns in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-16 units: what every editor knows.
    Utf16,
    /// Characters.
    Utf32,
}

impl Encoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf16 => "utf-16",
            Self::Utf32 => "utf-32",
        }
    }

    fn width(self, character: char) -> usize {
        match self {
            Self::Utf16 => character.len_utf16(),
            Self::Utf32 => 1,
        }
    }
}

/// A document.
pub(super) struct Text<'t> {
    lines: Vec<&'t str>,
    encoding: Encoding,
}

impl<'t> Text<'t> {
    pub(super) fn new(text: &'t str, encoding: Encoding) -> Self {
        Self { lines: text.split('\n').collect(), encoding }
    }

    /// The editor's place as ours; the end of the line, if the line is shorter.
    pub(super) fn position(&self, value: &Value) -> Option<Position> {
        let number = |key: &str| usize::try_from(value.get(key)?.as_u64()?).ok();
        let (line, wanted) = (number("line")?, number("character")?);
        let text = self.lines.get(line).copied().unwrap_or("");
        let (mut units, mut column) = (0, 1);
        for character in text.chars() {
            if units >= wanted {
                break;
            }
            units += self.encoding.width(character);
            column += 1;
        }
        Some(Position { line: u32::try_from(line + 1).ok()?, column })
    }

    fn place(&self, position: Position) -> Value {
        let index = usize::try_from(position.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let text = self.lines.get(index).copied().unwrap_or("");
        let count = usize::try_from(position.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let character: usize =
            text.chars().take(count).map(|character| self.encoding.width(character)).sum();
        json!({ "line": position.line.saturating_sub(1), "character": character })
    }

    /// Our span as the editor's range.
    pub(super) fn range(&self, span: Span) -> Value {
        json!({ "start": self.place(span.start), "end": self.place(span.end) })
    }

    /// Bytes as the editor's range.
    pub(super) fn byte_range(&self, range: &Range<usize>) -> Value {
        json!({ "start": self.byte_place(range.start), "end": self.byte_place(range.end) })
    }

    fn byte_place(&self, offset: usize) -> Value {
        let mut start = 0;
        for (index, line) in self.lines.iter().enumerate() {
            let end = start + line.len();
            if offset <= end {
                let before = line.get(..offset - start).unwrap_or(line);
                let character: usize = before.chars().map(|c| self.encoding.width(c)).sum();
                return json!({ "line": index, "character": character });
            }
            start = end + 1;
        }
        self.end()
    }

    fn end(&self) -> Value {
        let last = self.lines.last().copied().unwrap_or("");
        let character: usize = last.chars().map(|c| self.encoding.width(c)).sum();
        json!({ "line": self.lines.len().saturating_sub(1), "character": character })
    }

    /// All of it.
    pub(super) fn whole(&self) -> Value {
        json!({ "start": { "line": 0, "character": 0 }, "end": self.end() })
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoding, Text};
    use conex_report::{Position, Span};
    use serde_json::json;

    #[test]
    fn places_are_counted_as_agreed() {
        let text = "a\n😀é x\n";
        for (encoding, character) in [(Encoding::Utf16, 4), (Encoding::Utf32, 3)] {
            let text = Text::new(text, encoding);
            let position = Position { line: 2, column: 4 };
            let place = json!({ "line": 1, "character": character });
            assert_eq!(text.position(&place), Some(position));
            assert_eq!(text.range(Span { start: position, end: position })["start"], place);
            assert_eq!(text.byte_range(&(9..10))["start"], place);
            assert_eq!(text.whole()["end"], json!({ "line": 2, "character": 0 }));
        }
        let text = Text::new(text, Encoding::Utf16);
        let far = text.position(&json!({ "line": 0, "character": 99 }));
        assert_eq!(far, Some(Position { line: 1, column: 2 }));
        assert_eq!(text.position(&json!({ "line": -1, "character": 0 })), None);
    }
}
