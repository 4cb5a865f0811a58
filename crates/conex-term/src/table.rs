//! Tables as docker prints them: upper-case headers, columns three spaces apart, ten cells at
//! least.
//!
//! Invariant: a row of a [`Table`] is one line, whatever its cells hold.

use crate::text::{clean, pad_to, width};

/// Spaces behind the widest cell of a column.
const PADDING: usize = 3;
/// Fewest cells of a column with its padding: what docker's own tables use, and scripts that cut
/// at columns know.
const COLUMN_CELLS_MIN: usize = 10;

/// Rows of cells under a header.
#[derive(Debug, Clone)]
pub struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with its header, shown in upper case.
    pub fn new<H: AsRef<str>>(header: impl IntoIterator<Item = H>) -> Self {
        let header = header.into_iter().map(|cell| clean(cell.as_ref()).to_uppercase()).collect();
        Self { lines: vec![header] }
    }

    /// Adds a row.
    pub fn row<C: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = C>) -> &mut Self {
        self.lines.push(cells.into_iter().map(|cell| clean(cell.as_ref())).collect());
        self
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<Vec<&str>> =
            self.lines.iter().map(|line| line.iter().map(String::as_str).collect()).collect();
        formatter.write_str(&aligned(&lines))
    }
}

/// Aligns text whose cells are ended by tabulators, as `{{.ID}}\t{{.Tag}}` writes them. A column
/// is a run of lines that have a cell there; what stands behind a line's last tabulator is free.
pub fn align_tabs(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    aligned(&lines)
}

fn aligned(lines: &[Vec<&str>]) -> String {
    let mut text = String::new();
    // Widths of the columns that are open at the current line.
    let mut columns: Vec<usize> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let (last, ended) = line.split_last().map_or(("", &[][..]), |(last, ended)| (*last, ended));
        columns.truncate(ended.len());
        for column in columns.len()..ended.len() {
            columns.push(column_width(&lines[at..], column));
        }
        for (cell, cells) in ended.iter().zip(&columns) {
            text.push_str(cell);
            pad_to(&mut text, width(cell), *cells);
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

/// The width of the column that begins at the first of these lines.
fn column_width(lines: &[Vec<&str>], column: usize) -> usize {
    lines
        .iter()
        .map_while(|line| line.split_last().and_then(|(_, ended)| ended.get(column)))
        .map(|cell| width(cell) + PADDING)
        .fold(COLUMN_CELLS_MIN, usize::max)
}

#[cfg(test)]
mod tests {
    use super::{Table, align_tabs};
    use insta::assert_snapshot;
    use proptest::prelude::*;

    #[test]
    fn columns_are_three_spaces_apart_and_ten_cells_at_least() {
        let mut table = Table::new(["Repository", "Tag", "Image ID", "Created", "Size"]);
        table.row(["alpine", "latest", "05455a08881e", "2 weeks ago", "7.38MB"]);
        table.row(["registry.example.com/team/service", "v1", "1", "About an hour ago", "1GB"]);
        table.row(["层/层", "e\u{301}", "2", "3 days ago", "12kB"]);
        assert_snapshot!(table, @r"
        REPOSITORY                          TAG       IMAGE ID       CREATED             SIZE
        alpine                              latest    05455a08881e   2 weeks ago         7.38MB
        registry.example.com/team/service   v1        1              About an hour ago   1GB
        层/层                               é         2              3 days ago          12kB
        ");
    }

    #[test]
    fn a_cell_cannot_break_its_line() {
        let mut table = Table::new(["name", "value"]);
        table.row(["a\nb\tc", "\x1b[2Jx"]);
        assert_snapshot!(table, @r"
        NAME      VALUE
        a b c     x
        ");
    }

    #[test]
    fn a_column_is_a_run_of_lines() {
        let text =
            "a\tlong cell here\tz\nfree text without tabulators, as long as it likes\nb\tc\td";
        assert_snapshot!(align_tabs(text), @r"
        a         long cell here   z
        free text without tabulators, as long as it likes
        b         c         d
        ");
    }

    proptest! {
        #[test]
        fn no_cell_is_lost(rows in proptest::collection::vec("[a-z\t]{0,20}", 0..8)) {
            let aligned = align_tabs(&rows.join("\n"));
            let letters = |text: &str| -> String {
                text.chars().filter(char::is_ascii_lowercase).collect()
            };
            prop_assert_eq!(letters(&aligned), letters(&rows.concat()));
        }
    }
}
