//! Between places of a text as people count them and byte offsets.

use std::cell::Cell;
use std::ops::Range;

use conex_report::{Position, Span};

/// A text with an index of its lines.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    is_ascii: bool,
    /// The last place that was counted: line, byte offset, characters before it. A long line with
    /// many findings is walked once, not once a finding.
    last: Cell<(usize, usize, usize)>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        // A byte order mark is no column.
        if let Some(first) = starts.first_mut().filter(|_| text.starts_with('\u{feff}')) {
            *first = '\u{feff}'.len_utf8();
        }
        let is_ascii = text.trim_start_matches('\u{feff}').is_ascii();
        Self { text, starts, is_ascii, last: Cell::new((0, 0, 0)) }
    }

    /// The byte offset of a place; the end of its line if the line is shorter.
    pub(crate) fn offset(&self, position: Position) -> usize {
        let index = usize::try_from(position.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(index).copied() else { return self.text.len() };
        let end = self.starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
        let column = usize::try_from(position.column.saturating_sub(1)).unwrap_or(usize::MAX);
        if self.is_ascii {
            return start.saturating_add(column).min(end);
        }
        let (line, at, count) = self.last.get();
        let (at, count) = if line == index && count <= column { (at, count) } else { (start, 0) };
        let rest = self.text.get(at..end).unwrap_or("");
        match rest.char_indices().nth(column - count) {
            Some((more, _)) => {
                self.last.set((index, at + more, column));
                at + more
            }
            None => end,
        }
    }

    pub(crate) fn range(&self, span: Span) -> Range<usize> {
        let start = self.offset(span.start);
        start..self.offset(span.end).max(start)
    }

    pub(crate) fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let column = if self.is_ascii {
            offset.saturating_sub(start)
        } else {
            let (known, at, count) = self.last.get();
            let is_near = known == line - 1 && start <= at && at <= offset;
            let (at, count) = if is_near { (at, count) } else { (start, 0) };
            let more = self.text.get(at..offset).map_or(0, |before| before.chars().count());
            self.last.set((line - 1, offset, count + more));
            count + more
        };
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Position { line: number(line), column: number(column + 1) }
    }

    pub(crate) fn span(&self, range: &Range<usize>) -> Span {
        Span { start: self.position(range.start), end: self.position(range.end) }
    }

    /// The whole lines that a range touches, the last line end included.
    pub(crate) fn whole_lines(&self, range: &Range<usize>) -> Range<usize> {
        let first = self.starts.partition_point(|start| *start <= range.start).max(1) - 1;
        let start = self.starts.get(first).copied().unwrap_or(0);
        let last = self.starts.partition_point(|start| *start < range.end.max(range.start + 1));
        start..self.starts.get(last).copied().unwrap_or(self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use conex_report::Position;

    #[test]
    fn offsets_and_places_are_each_others_inverse() {
        let text = "\u{feff}FROM é\r\nRUN x\n";
        let lines = Lines::new(text);
        for (at, line, column) in [(3, 1, 1), (8, 1, 6), (10, 1, 7), (12, 2, 1), (17, 2, 6)] {
            let position = Position { line, column };
            assert_eq!(lines.position(at), position, "{at}");
            assert_eq!(lines.offset(position), at, "{line}:{column}");
        }
        assert_eq!(lines.offset(Position { line: 9, column: 9 }), text.len());
        assert_eq!(lines.offset(Position { line: 2, column: 99 }), 17);
        assert_eq!(lines.whole_lines(&(13..14)), 12..18);
        assert_eq!(lines.whole_lines(&(4..13)), 3..18);
    }
}
