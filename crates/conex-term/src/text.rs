//! Text as cells of a terminal: how wide it is, how to cut it, and how to make it harmless.
//!
//! Invariant: what [`clean`] and [`clean_line`] return holds no control character and no character
//! that changes the direction or the visibility of its neighbours. An attacker controls log lines,
//! labels, file names and Dockerfiles; none of them may move the cursor, set the window's title
//! or make a line look like another.
//!
//! Widths are those of unicode-width (UAX #11); a terminal with other ideas about a new emoji may
//! be a cell off, which costs looks and nothing else.

use unicode_width::UnicodeWidthChar;

/// Every how many cells a tabulator stops.
const TAB_CELLS: usize = 8;

/// Counts the cells that a text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

pub(crate) fn char_width(char: char) -> usize {
    char.width().unwrap_or(0)
}

/// Cuts a text to at most `cells` cells, silently.
pub fn cut(text: &str, cells: usize) -> &str {
    let mut used = 0;
    for (at, char) in text.char_indices() {
        used += char_width(char);
        if used > cells {
            return &text[..at];
        }
    }
    text
}

/// Cuts a text to at most `cells` cells; where something is lost, the last cell says so (`…`).
/// This is how `history` shortens its instructions.
pub fn ellipsis(text: &str, cells: usize) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    match cells {
        0 => String::new(),
        // One cell can show that something is lost or a first letter; docker shows the letter.
        1 => cut(text, 1).to_owned(),
        _ => format!("{}…", cut(text, cells - 1)),
    }
}

/// Pads a text with spaces on the right to at least `cells` cells.
pub(crate) fn pad(text: &str, cells: usize) -> String {
    let mut padded = text.to_owned();
    pad_to(&mut padded, width(text), cells);
    padded
}

/// Appends the spaces that a text of `used` cells lacks to `cells`.
pub(crate) fn pad_to(text: &mut String, used: usize, cells: usize) {
    text.extend(std::iter::repeat_n(' ', cells.saturating_sub(used)));
}

/// Makes one piece of text harmless: escape sequences vanish, tabulators and line ends become
/// spaces, other control characters become `�`.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for char in Unescaped::new(text) {
        match char {
            '\t' | '\n' | '\r' => cleaned.push(' '),
            _ if is_harmful(char) => cleaned.push('\u{fffd}'),
            _ => cleaned.push(char),
        }
    }
    cleaned
}

/// Makes a line that a program wrote readable and harmless: escape sequences vanish, tabulators
/// become spaces up to the next stop, a carriage return begins the line anew (as a program that
/// paints a percentage means it), a backspace takes a character back, the rest becomes `�`.
pub(crate) fn clean_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut restart = false;
    for char in Unescaped::new(text) {
        match char {
            '\r' => {
                restart = true;
                continue;
            }
            '\n' | '\u{7}' => continue,
            _ => {}
        }
        // The line is taken back only when something follows: `50%\r` still shows `50%`.
        if std::mem::take(&mut restart) {
            line.clear();
        }
        match char {
            '\u{8}' => {
                line.pop();
            }
            '\t' => {
                let used = width(&line);
                pad_to(&mut line, used, used - used % TAB_CELLS + TAB_CELLS);
            }
            _ if is_harmful(char) => line.push('\u{fffd}'),
            _ => line.push(char),
        }
    }
    line
}

/// Keeps a source text's columns: each character stays one character, tabulators aside.
pub(crate) fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' // direction marks
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // embeddings, overrides, isolates
            | '\u{2028}' | '\u{2029}' // line and paragraph separators
            | '\u{200b}' | '\u{2060}' | '\u{feff}' // invisible, and no part of any script
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}') // annotations, tags
}

/// The characters of a text without its escape sequences (ECMA-48: control sequences, control
/// strings and two- or three-byte escapes, in their 7-bit and 8-bit forms).
struct Unescaped<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
}

impl<'t> Unescaped<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.chars().peekable() }
    }

    /// Skips parameters and intermediates up to the final byte of a control sequence.
    fn skip_control_sequence(&mut self) {
        while self.rest.next_if(|char| matches!(char, ' '..='?')).is_some() {}
        self.rest.next_if(|char| matches!(char, '@'..='~'));
    }

    /// Skips a control string (a title, a hyperlink) up to its terminator, the bell, or the end of
    /// the line: a string that is never closed must not hide the lines behind it.
    fn skip_control_string(&mut self) {
        while let Some(char) = self.rest.next_if(|char| *char != '\n') {
            match char {
                '\u{7}' | '\u{9c}' => return,
                '\u{1b}' => {
                    self.rest.next_if_eq(&'\\');
                    return;
                }
                _ => {}
            }
        }
    }

    fn skip_escape(&mut self) {
        match self.rest.peek() {
            Some('[') => {
                self.rest.next();
                self.skip_control_sequence();
            }
            Some(']' | 'P' | 'X' | '^' | '_') => {
                self.rest.next();
                self.skip_control_string();
            }
            _ => {
                while self.rest.next_if(|char| matches!(char, ' '..='/')).is_some() {}
                self.rest.next_if(|char| matches!(char, '0'..='~'));
            }
        }
    }
}

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        loop {
            match self.rest.next()? {
                '\u{1b}' => self.skip_escape(),
                '\u{9b}' => self.skip_control_sequence(),
                '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => self.skip_control_string(),
                char => return Some(char),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{clean, clean_line, cut, ellipsis, is_harmful, width};
    use proptest::prelude::*;

    #[test]
    fn a_wide_character_takes_two_cells() {
        for (text, cells) in [("abc", 3), ("层", 2), ("e\u{301}", 1), ("✔", 1), ("", 0)] {
            assert_eq!(width(text), cells, "{text}");
        }
    }

    #[test]
    fn what_is_cut_never_exceeds_its_cells() {
        assert_eq!(cut("层层", 3), "层");
        for (text, cells, shown) in [
            ("RUN make", 8, "RUN make"),
            ("RUN make all", 8, "RUN mak…"),
            ("层层层", 5, "层层…"),
            ("层层层", 4, "层…"),
            ("abc", 1, "a"),
            ("abc", 0, ""),
        ] {
            assert_eq!(ellipsis(text, cells), shown, "{text} {cells}");
        }
    }

    #[test]
    fn a_line_of_output_is_readable_and_harmless() {
        for (output, shown) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]never closed", ""),
            ("\u{9b}31mred", "red"),
            ("\x1b(Btext\x1bM", "text"),
            ("10%\r50%\r100%", "100%"),
            ("50%\r", "50%"),
            ("windows\r\n", "windows"),
            ("ab\u{8}c", "ac"),
            ("a\tb", "a       b"),
            ("12345678\tb", "12345678        b"),
            ("nul\0del\x7f", "nul\u{fffd}del\u{fffd}"),
            ("txt\u{202e}exe", "txt\u{fffd}exe"),
            ("bell\x07", "bell"),
            ("\x1b", ""),
            ("\x1b[12;", ""),
        ] {
            assert_eq!(clean_line(output), shown, "{output:?}");
        }
        assert_eq!(clean("a\nb\tc\x1b[2Jd"), "a b cd");
    }

    proptest! {
        #[test]
        fn nothing_harmful_gets_through(text in any::<String>(), cells in 0usize..40) {
            prop_assert!(!clean(&text).chars().any(is_harmful));
            prop_assert!(!clean_line(&text).chars().any(is_harmful));
            prop_assert!(width(&ellipsis(&clean(&text), cells)) <= cells);
        }
    }
}
