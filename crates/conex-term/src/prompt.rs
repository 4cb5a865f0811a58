//! The yes-or-no question.

use std::io::{BufRead, Read as _, Write};

use crate::{Error, text};

/// Longest answer read, so that a file on standard input is not swallowed whole.
const ANSWER_SIZE_MAX: u64 = 1024;

/// What a person answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Leave it.
    No,
}

/// Asks a question that only `y` or `yes` affirms; anything else, silence and the end of the input
/// included, is a no.
pub fn confirm(
    question: &str,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
) -> Result<Answer, Error> {
    let question: Vec<String> = question.lines().map(text::clean).collect();
    write!(output, "{} [y/N] ", question.join("\n"))
        .and_then(|()| output.flush())
        .map_err(|error| Error::terminal("ask for confirmation", error))?;
    let mut line = Vec::new();
    input
        .take(ANSWER_SIZE_MAX)
        .read_until(b'\n', &mut line)
        .map_err(|error| Error::terminal("read the answer", error))?;
    if line.last() != Some(&b'\n') {
        // The input ended: what comes next should not stand behind the question.
        writeln!(output).map_err(|error| Error::terminal("ask for confirmation", error))?;
    }
    let answer = line.trim_ascii();
    if answer.eq_ignore_ascii_case(b"y") || answer.eq_ignore_ascii_case(b"yes") {
        return Ok(Answer::Yes);
    }
    Ok(Answer::No)
}

#[cfg(test)]
mod tests {
    use super::{Answer, confirm};

    #[test]
    fn only_yes_is_yes() {
        for (typed, answer) in [
            ("y\n", Answer::Yes),
            ("Y\n", Answer::Yes),
            (" yes \r\n", Answer::Yes),
            ("y", Answer::Yes),
            ("n\n", Answer::No),
            ("\n", Answer::No),
            ("", Answer::No),
            ("yep\n", Answer::No),
        ] {
            let mut shown = Vec::new();
            let given = confirm("Remove all?", &mut typed.as_bytes(), &mut shown).unwrap();
            assert_eq!(given, answer, "{typed:?}");
            assert!(shown.starts_with(b"Remove all? [y/N] "));
        }
    }

    #[test]
    fn only_one_line_is_taken_from_the_input() {
        let mut input: &[u8] = b"y\nnext";
        confirm("Go on?", &mut input, &mut Vec::new()).unwrap();
        assert_eq!(input, b"next");
    }
}
