//! Tells code from comments and literals, line by line, without understanding either.

/// A source file's lines twice: the code with comments and literals blanked, and the comments with
/// all else blanked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) code: Vec<String>,
    pub(crate) comments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    Line,
    /// A block comment and how deep it is nested.
    Block(usize),
    Text,
    /// A raw string and how many `#` end it.
    Raw(usize),
}

/// Splits a source file.
pub(crate) fn split(source: &str) -> Split {
    let mut split = Split::default();
    let mut state = State::Code;
    for line in source.lines() {
        let (code, comment, next) = split_line(line, state);
        split.code.push(code);
        split.comments.push(comment);
        state = if next == State::Line { State::Code } else { next };
    }
    split
}

fn split_line(line: &str, mut state: State) -> (String, String, State) {
    let characters: Vec<char> = line.chars().collect();
    let (mut code, mut comment) = (String::new(), String::new());
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        let rest = characters.get(at..).unwrap_or_default();
        let (next, length) = step(state, rest, code.chars().last());
        let is_code = state == State::Code && next == State::Code && length == 1;
        let is_comment = matches!(state, State::Line | State::Block(_));
        for _ in 0..length {
            code.push(' ');
            comment.push(' ');
        }
        if is_code {
            code.pop();
            code.push(character);
        } else if is_comment && length == 1 {
            comment.pop();
            comment.push(character);
        }
        state = next;
        at += length;
    }
    (code, comment, state)
}

/// What the next characters do: the state behind them, and how many they are.
fn step(state: State, rest: &[char], before: Option<char>) -> (State, usize) {
    match (state, rest) {
        (State::Code, ['/', '/', ..]) => (State::Line, 2),
        (State::Code, ['/', '*', ..]) => (State::Block(1), 2),
        (State::Block(depth), ['/', '*', ..]) => (State::Block(depth + 1), 2),
        (State::Block(1), ['*', '/', ..]) => (State::Code, 2),
        (State::Block(depth), ['*', '/', ..]) => (State::Block(depth - 1), 2),
        (State::Code, ['"', ..]) => (State::Text, 1),
        (State::Text, ['\\', _, ..]) => (State::Text, 2),
        (State::Text, ['"', ..]) => (State::Code, 1),
        (State::Code, ['r', after @ ..]) if !before.is_some_and(is_name) || before == Some('b') => {
            let marks = after.iter().take_while(|mark| **mark == '#').count();
            match after.get(marks) {
                Some('"') => (State::Raw(marks), marks + 2),
                _ => (State::Code, 1),
            }
        }
        (State::Raw(marks), ['"', after @ ..])
            if after.iter().take(marks).filter(|mark| **mark == '#').count() == marks =>
        {
            (State::Code, marks + 1)
        }
        // A character, not the start of a lifetime's name.
        (State::Code, ['\'', '\\', after @ ..]) => {
            let length = after.iter().skip(1).position(|end| *end == '\'').unwrap_or(0);
            (State::Code, length + 4)
        }
        (State::Code, ['\'', _, '\'', ..]) => (State::Code, 3),
        (state, _) => (state, 1),
    }
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn code_and_comments_are_told_apart() {
        for (source, code, comment) in [
            ("let a = 1; // todo!()", "let a = 1;", "todo!()"),
            ("let a = \"todo!()\";", "let a =  ;", ""),
            ("let a = \"\\\"unsafe\";", "let a =  ;", ""),
            ("let a = r#\"un\"safe\"#;", "let a =  ;", ""),
            ("let a = br\"unsafe\";", "let a = b ;", ""),
            ("a /* one /* two */ unsafe */ b", "a  b", "one two unsafe"),
            ("f::<'a>('\"', '\\'', '\\u{1F600}') // x", "f::<'a>( ,  ,  )", "x"),
            ("for r in rows { unsafe {} }", "for r in rows { unsafe {} }", ""),
        ] {
            let split = split(source);
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(squeezed(&split.code[0]), squeezed(code), "{source}");
            assert_eq!(squeezed(&split.comments[0]), comment, "{source}");
        }
    }

    #[test]
    fn literals_and_comments_go_on_over_lines() {
        let split = split("a \"one\nunsafe\" b /* c\nd */ e");
        let code: Vec<&str> = split.code.iter().map(|line| line.trim()).collect();
        assert_eq!(code, ["a", "b", "e"]);
    }
}
