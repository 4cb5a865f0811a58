//! Any text expands or is an error, the same as one text and as words.

#![no_main]

use conex_dockerfile::Expander;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lookup = |name: &str| match name {
        "a" => Some("x y*z".to_owned()),
        "e" => Some(String::new()),
        // The text itself is a value too, with everything hostile in it.
        "t" => Some(text.to_owned()),
        _ => None,
    };
    for escape in ['\\', '`'] {
        let expander = Expander::new(escape, &lookup);
        let word = expander.expand_word(text);
        let words = expander.expand_words(text);
        assert_eq!(word.is_ok(), words.is_ok());
        // Both outcomes are fine; a panic is not.
        drop(expander.expand_heredoc(text));
        drop(expander.for_display().expand_word(text));
    }
});
