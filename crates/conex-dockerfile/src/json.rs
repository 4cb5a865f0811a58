//! The JSON form of arguments: `["program", "argument"]`.
//!
//! The reference rule (trap 4): what is not JSON at all falls back to the shell form without a
//! word; an array that holds anything but strings is an error.

use crate::ast::Word;
use crate::source::Part;

/// How arguments are written.
#[derive(Debug)]
pub(crate) enum Form {
    /// Not a JSON array.
    Plain,
    /// An array of strings.
    Strings(Vec<Word>),
    /// An array that holds something else.
    Mixed,
}

/// Reads the JSON form.
pub(crate) fn parse(args: Part<'_>) -> Form {
    let args = args.trim();
    let text = args.text();
    if !text.starts_with('[') {
        return Form::Plain;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Form::Plain;
    };
    let mut places = string_places(args).into_iter();
    let mut words = Vec::with_capacity(values.len());
    for value in values {
        let serde_json::Value::String(string) = value else { return Form::Mixed };
        let place = places.next().unwrap_or(args);
        words.push(place.word_reading(string));
    }
    Form::Strings(words)
}

/// Where the strings of valid JSON stand, quotes included.
fn string_places(args: Part<'_>) -> Vec<Part<'_>> {
    let mut places = Vec::new();
    let mut open = None;
    let mut escaped = false;
    for (at, byte) in args.text().bytes().enumerate() {
        match open {
            Some(_) if escaped => escaped = false,
            Some(_) if byte == b'\\' => escaped = true,
            Some(start) if byte == b'"' => {
                places.push(args.sub(start..at + 1));
                open = None;
            }
            None if byte == b'"' => open = Some(at),
            _ => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::{Form, parse};
    use crate::source::{Line, Source};

    #[test]
    fn only_valid_json_is_the_json_form() {
        for (text, expected) in [
            (r#"["a", "b c"]"#, "a|b c"),
            (r#"  ["a\"b", "\u0041"]  "#, "a\"b|A"),
            ("[]", ""),
            ("['a']", "plain"),
            (r#"["a""#, "plain"),
            (r#"["a"] b"#, "plain"),
            (r#"["a",]"#, "plain"),
            ("a", "plain"),
            (r#"["a", 1]"#, "mixed"),
            (r#"[["a"]]"#, "mixed"),
            ("[null]", "mixed"),
        ] {
            let source = Source::new(text.as_bytes());
            let mut line = Line::new(&source);
            line.push(0..text.len());
            let found = match parse(line.whole()) {
                Form::Plain => "plain".to_owned(),
                Form::Mixed => "mixed".to_owned(),
                Form::Strings(words) => {
                    words.iter().map(|word| word.raw.as_str()).collect::<Vec<_>>().join("|")
                }
            };
            assert_eq!(found, expected, "{text}");
        }
    }
}
