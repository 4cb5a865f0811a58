//! The output of one step: bytes in, lines out, the last of them kept.
//!
//! Invariant: what is kept is harmless text and bounded, however much a step prints.

use std::collections::VecDeque;
use std::time::Duration;

use conex_report::LogStream;

use crate::text::clean_line;

/// Longest line that is put together; more goes on in a new line. Minified files have lines of
/// megabytes.
const LINE_SIZE_MAX: usize = 16 << 10;
/// Lines kept, the most that anybody may ask to see of a failed step.
const LINES_MAX: usize = 1_000;
/// Bytes of lines kept for one step.
const KEPT_SIZE_MAX: usize = 512 << 10;

/// A line that a step printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogLine {
    /// When it was complete.
    pub(super) at: Duration,
    /// The line, made harmless.
    pub(super) text: String,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    lines: VecDeque<LogLine>,
    kept_size: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Log {
    /// Takes bytes and returns the lines that they complete.
    pub(super) fn push(&mut self, stream: LogStream, data: &[u8], at: Duration) -> Vec<LogLine> {
        let mut complete = Vec::new();
        let mut partial = std::mem::take(self.partial(stream));
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            for chunk in piece.chunks(LINE_SIZE_MAX) {
                partial.extend_from_slice(chunk);
                if chunk.ends_with(b"\n") {
                    complete.push(self.keep(&partial, at));
                    partial.clear();
                } else if partial.len() >= LINE_SIZE_MAX {
                    drop_overwritten(&mut partial);
                    if partial.len() >= LINE_SIZE_MAX {
                        complete.push(self.keep(&partial, at));
                        partial.clear();
                    }
                }
            }
        }
        *self.partial(stream) = partial;
        complete
    }

    /// Ends the lines that were not ended, because no more will come.
    pub(super) fn end(&mut self, at: Duration) -> Vec<LogLine> {
        [LogStream::Stdout, LogStream::Stderr]
            .into_iter()
            .filter_map(|stream| {
                let partial = std::mem::take(self.partial(stream));
                (!partial.is_empty()).then(|| self.keep(&partial, at))
            })
            .collect()
    }

    /// The last lines, oldest first, those that are still being printed included.
    pub(super) fn tail(&self, count: usize) -> Vec<String> {
        let partial =
            [&self.stdout, &self.stderr].into_iter().filter(|partial| !partial.is_empty());
        let partial: Vec<String> = partial.map(|partial| readable(partial)).collect();
        let complete = count.saturating_sub(partial.len());
        let skipped = self.lines.len().saturating_sub(complete);
        let complete = self.lines.iter().skip(skipped).map(|line| line.text.clone());
        let mut tail: Vec<String> = complete.chain(partial).collect();
        tail.drain(..tail.len().saturating_sub(count));
        tail
    }

    fn partial(&mut self, stream: LogStream) -> &mut Vec<u8> {
        match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        }
    }

    fn keep(&mut self, line: &[u8], at: Duration) -> LogLine {
        let line = LogLine { at, text: readable(line) };
        self.kept_size += line.text.len();
        self.lines.push_back(line.clone());
        while self.lines.len() > LINES_MAX || self.kept_size > KEPT_SIZE_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.kept_size -= oldest.text.len();
        }
        line
    }
}

fn readable(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    clean_line(&String::from_utf8_lossy(line))
}

/// Forgets what a carriage return has overwritten: a percentage painted a thousand times is one
/// line.
fn drop_overwritten(line: &mut Vec<u8>) {
    let last = line.iter().rposition(|byte| *byte != b'\r').unwrap_or(0);
    let before = line.get(..last).and_then(|line| line.iter().rposition(|byte| *byte == b'\r'));
    if let Some(before) = before {
        line.drain(..=before);
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_SIZE_MAX, LINE_SIZE_MAX, LINES_MAX, Log};
    use conex_report::LogStream::{Stderr, Stdout};
    use proptest::prelude::*;
    use std::time::Duration;

    const NOW: Duration = Duration::ZERO;

    fn push(log: &mut Log, data: &str) -> Vec<String> {
        let lines = log.push(Stdout, data.as_bytes(), NOW);
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let mut log = Log::default();
        assert_eq!(push(&mut log, "one\ntw"), ["one"]);
        assert_eq!(log.tail(9), ["one", "tw"]);
        assert!(log.push(Stderr, b"error", NOW).is_empty(), "streams do not mix");
        assert_eq!(push(&mut log, "o\n\n"), ["two", ""]);
        assert_eq!(log.tail(2), ["", "error"]);
        assert_eq!(log.end(NOW).len(), 1);
        assert_eq!(log.tail(9), ["one", "two", "", "error"]);
        assert_eq!(log.tail(0), [""; 0]);
    }

    #[test]
    fn letters_torn_apart_are_put_together() {
        let mut log = Log::default();
        let text = "层\n".as_bytes();
        assert!(log.push(Stdout, &text[..1], NOW).is_empty());
        assert_eq!(log.push(Stdout, &text[1..], NOW)[0].text, "层");
    }

    #[test]
    fn a_percentage_painted_over_and_over_is_one_line() {
        let mut log = Log::default();
        for step in 0..10_000 {
            assert!(push(&mut log, &format!("\r{}%", step / 100)).is_empty());
        }
        assert_eq!(log.tail(9), ["99%"]);
        assert_eq!(push(&mut log, "\r100%\n"), ["100%"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut log = Log::default();
        let long = "x".repeat(LINE_SIZE_MAX * 3);
        assert_eq!(push(&mut log, &long).len(), 3);
        for _ in 0..LINES_MAX * 2 {
            push(&mut log, "line\n");
        }
        assert_eq!(log.lines.len(), LINES_MAX);
        for _ in 0..100 {
            push(&mut log, &long);
        }
        assert!(log.kept_size <= KEPT_SIZE_MAX);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "[a-c\r\n\u{1b}é]{0,60}", cuts in proptest::collection::vec(0usize..80, 0..6),
        ) {
            let mut whole = Log::default();
            whole.push(Stdout, text.as_bytes(), NOW);
            let mut pieces = Log::default();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                pieces.push(Stdout, &text.as_bytes()[pair[0]..pair[1]], NOW);
            }
            prop_assert_eq!(whole.tail(100), pieces.tail(100));
        }
    }
}
