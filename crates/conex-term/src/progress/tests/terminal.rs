//! A model of a terminal, small but strict: what it does not know is a failure.

use crate::Size;
use crate::text::char_width;

/// One cell: a character with what combines with it; empty behind a wide one.
type Cell = String;

pub(super) struct Terminal {
    size: Size,
    scrolled: Vec<Vec<Cell>>,
    rows: Vec<Vec<Cell>>,
    row: usize,
    column: usize,
    pub(super) is_cursor_shown: bool,
    pub(super) is_updating: bool,
}

impl Terminal {
    pub(super) fn new(columns: u16, rows: u16) -> Self {
        Self {
            size: Size { columns, rows },
            scrolled: Vec::new(),
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
            is_cursor_shown: true,
            is_updating: false,
        }
    }

    /// Takes another size and wraps every line anew, as today's terminals do.
    pub(super) fn resize(&mut self, columns: u16, rows: u16) {
        let text = self.everything();
        *self = Self { scrolled: Vec::new(), ..Self::new(columns, rows) };
        // Lines that had been wrapped are rejoined in no test, so text and lines are the same.
        for line in text.lines() {
            self.write(line);
            self.write("\r\n");
        }
    }

    pub(super) fn write(&mut self, text: &str) {
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\r' => self.column = 0,
                '\n' => self.line_feed(),
                '\u{1b}' => {
                    assert_eq!(chars.next(), Some('['), "only control sequences are known");
                    let mut parameters = String::new();
                    while let Some(char) = chars.next_if(|char| matches!(char, '0'..='?')) {
                        parameters.push(char);
                    }
                    self.control(&parameters, chars.next().unwrap());
                }
                _ => {
                    assert!(!char.is_control(), "{char:?} in {text:?}");
                    self.put(char);
                }
            }
        }
    }

    fn control(&mut self, parameters: &str, last: char) {
        match (parameters, last) {
            ("?2026", 'h') => self.is_updating = true,
            ("?2026", 'l') => self.is_updating = false,
            ("?25", 'h') => self.is_cursor_shown = true,
            ("?25", 'l') => self.is_cursor_shown = false,
            (_, 'm') => {}
            (count, 'A') => self.row = self.row.saturating_sub(count.parse().unwrap()),
            ("", 'K') => self.rows[self.row].truncate(self.column),
            ("", 'J') => {
                self.rows[self.row].truncate(self.column);
                self.rows.truncate(self.row + 1);
            }
            _ => panic!("`{parameters}{last}` is not known"),
        }
    }

    fn put(&mut self, char: char) {
        let cells = char_width(char);
        let row = &mut self.rows[self.row];
        if cells == 0 {
            if let Some(cell) = self.column.checked_sub(1).and_then(|at| row.get_mut(at)) {
                cell.push(char);
            }
            return;
        }
        if self.column + cells > usize::from(self.size.columns) {
            self.column = 0;
            self.line_feed();
        }
        let row = &mut self.rows[self.row];
        row.resize(row.len().max(self.column + cells), " ".to_owned());
        row[self.column] = char.to_string();
        if cells == 2 {
            row[self.column + 1] = String::new();
        }
        self.column += cells;
    }

    fn line_feed(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(Vec::new());
        }
        if self.row == usize::from(self.size.rows) {
            self.scrolled.push(self.rows.remove(0));
            self.row -= 1;
        }
    }

    /// What is seen now.
    pub(super) fn screen(&self) -> String {
        lines(self.rows.iter())
    }

    /// What is seen now and what has scrolled away.
    pub(super) fn everything(&self) -> String {
        lines(self.scrolled.iter().chain(&self.rows))
    }
}

fn lines<'r>(rows: impl Iterator<Item = &'r Vec<Cell>>) -> String {
    let rows: Vec<String> = rows.map(|row| row.concat().trim_end().to_owned()).collect();
    rows.join("\n").trim_end().to_owned()
}
