//! Any text is a script or has a place where it stops being one, and every span is a range of it:
//! `cargo +nightly fuzz run scripts`.
#![no_main]

use conex_shell::{Part, Visit, Word, parse};

struct Spans<'t>(&'t str);

impl<'s> Visit<'s> for Spans<'_> {
    fn word(&mut self, word: &'s Word) {
        assert!(self.0.get(word.span.start..word.span.end).is_some());
        conex_shell::walk_word(self, word);
    }
    fn part(&mut self, part: &'s Part) {
        assert!(self.0.get(part.span.start..part.span.end).is_some());
        conex_shell::walk_part(self, part);
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let script = parse(text);
    if script.error.is_none() {
        script.visit(&mut Spans(text));
    }
});
