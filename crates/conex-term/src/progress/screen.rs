//! A few lines at the bottom of a terminal that are redrawn in place.
//!
//! Invariants: one frame is one write; it hides the cursor, draws, and shows the cursor again below
//! the last line, so the terminal is sane between any two frames. Lines that did not change are not
//! sent again. Synchronized output (mode 2026) keeps terminals that know it from tearing a frame;
//! the others ignore it.

use std::fmt::Write as _;

use crate::Size;
use crate::text::{clean_line, width};

const BEGIN: &str = "\x1b[?2026h\x1b[?25l";
const END: &str = "\x1b[?25h\x1b[?2026l";
const ERASE_LINE_REST: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";

#[derive(Default)]
pub(super) struct Screen {
    shown: Vec<String>,
    size: Option<Size>,
}

impl Screen {
    /// Returns what replaces the lines shown by `lines`, with `above` printed for good over them.
    /// Nothing when nothing changed.
    pub(super) fn frame(&mut self, above: &[String], lines: Vec<String>, size: Size) -> String {
        let resized = self.size.is_some_and(|before| before != size);
        if above.is_empty() && lines == self.shown && !resized {
            return String::new();
        }
        let mut frame = BEGIN.to_owned();
        self.push_home(&mut frame, size);
        if resized {
            // What wrapped anew cannot be drawn over line by line.
            frame.push_str(ERASE_BELOW);
        }
        for line in above {
            push_line(&mut frame, line);
        }
        let same_place = above.is_empty() && !resized;
        for (at, line) in lines.iter().enumerate() {
            if same_place && self.shown.get(at) == Some(line) {
                frame.push_str("\r\n");
            } else {
                push_line(&mut frame, line);
            }
        }
        if above.len() + lines.len() < self.shown.len() {
            frame.push_str(ERASE_BELOW);
        }
        frame.push_str(END);
        self.shown = lines;
        self.size = Some(size);
        frame
    }

    /// Returns what takes the lines away.
    pub(super) fn cleared(&mut self, size: Size) -> String {
        if self.shown.is_empty() {
            return String::new();
        }
        let mut frame = BEGIN.to_owned();
        self.push_home(&mut frame, size);
        frame.push_str(ERASE_BELOW);
        frame.push_str(END);
        self.shown.clear();
        frame
    }

    /// Moves to the first cell of the first line shown. Lines that no longer fit the columns were
    /// wrapped by the terminal and take several rows.
    fn push_home(&self, frame: &mut String, size: Size) {
        let columns = usize::from(size.columns.max(1));
        let rows = |line: &String| width(&clean_line(line)).div_ceil(columns).max(1);
        let up: usize = self.shown.iter().map(rows).sum();
        if up > 0 {
            let _ = write!(frame, "\r\x1b[{up}A"); // a String takes all
        }
    }
}

fn push_line(frame: &mut String, line: &str) {
    frame.push_str(line);
    frame.push_str(ERASE_LINE_REST);
    frame.push_str("\r\n");
}
