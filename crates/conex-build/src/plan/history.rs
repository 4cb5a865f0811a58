//! The text of an instruction in an image's history (`created_by`), as tools that read history
//! know it.

use std::fmt::Write;

/// Quotes as Go's `%q` does, for the texts that common tools compare.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `CMD ["a" "b"]`.
pub(super) fn list(keyword: &str, words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("{keyword} [{}]", words.join(" "))
}

/// `RUN |1 A=1 /bin/sh -c make # buildkit`.
pub(super) fn run(args: &[(String, String)], command: &[String]) -> String {
    let mut text = "RUN ".to_owned();
    if !args.is_empty() {
        let _ = write!(text, "|{} ", args.len());
        for (name, value) in args {
            let _ = write!(text, "{name}={value} ");
        }
    }
    text.push_str(&command.join(" "));
    text.push_str(" # buildkit");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_tools_know() {
        assert_eq!(list("CMD", &["a b".into(), "\"".into()]), r#"CMD ["a b" "\""]"#);
        let command: Vec<String> = ["/bin/sh", "-c", "make"].map(Into::into).into();
        assert_eq!(run(&[], &command), "RUN /bin/sh -c make # buildkit");
        let args = [("A".into(), "1".into()), ("B".into(), "2".into())];
        assert_eq!(run(&args, &command), "RUN |2 A=1 B=2 /bin/sh -c make # buildkit");
    }
}
