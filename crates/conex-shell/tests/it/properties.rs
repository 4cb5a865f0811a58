//! No text breaks the parser, and every span is a range of the text within its parent's.

use conex_shell::{Command, List, Part, Pipeline, Visit, Word, parse};
use proptest::prelude::*;

/// Looks at every span.
struct Spans<'t> {
    text: &'t str,
    outer: (usize, usize),
}

impl Spans<'_> {
    fn check(&mut self, span: conex_shell::Span) {
        assert!(span.start <= span.end, "{span:?} in {:?}", self.text);
        assert!(self.text.get(span.start..span.end).is_some(), "{span:?} in {:?}", self.text);
        let (start, end) = self.outer;
        assert!(start <= span.start && span.end <= end, "{span:?} outside {:?}", self.outer);
    }
}

impl<'s> Visit<'s> for Spans<'_> {
    fn list(&mut self, list: &'s List) {
        self.check(list.span);
        conex_shell::walk_list(self, list);
    }
    fn pipeline(&mut self, pipeline: &'s Pipeline) {
        self.check(pipeline.span);
        conex_shell::walk_pipeline(self, pipeline);
    }
    fn command(&mut self, command: &'s Command) {
        self.check(command.span);
        conex_shell::walk_command(self, command);
    }
    fn word(&mut self, word: &'s Word) {
        self.check(word.span);
        let outer = std::mem::replace(&mut self.outer, (word.span.start, word.span.end));
        conex_shell::walk_word(self, word);
        self.outer = outer;
    }
    fn part(&mut self, part: &'s Part) {
        self.check(part.span);
        let outer = std::mem::replace(&mut self.outer, (part.span.start, part.span.end));
        conex_shell::walk_part(self, part);
        self.outer = outer;
    }
}

fn check(text: &str) {
    let script = parse(text);
    if script.error.is_none() {
        script.visit(&mut Spans { text, outer: (0, text.len()) });
    }
    for comment in &script.comments {
        assert!(comment.of(text).starts_with('#'));
    }
}

/// Texts made of what means something to a shell.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b ",
        " ",
        "\n",
        ";",
        "&",
        "&&",
        "|",
        "||",
        "(",
        ")",
        "((",
        "))",
        "{",
        "}",
        "$",
        "$(",
        "${",
        "$((",
        "`",
        "'",
        "\"",
        "\\",
        "\\\n",
        "<",
        ">",
        "<<",
        "<<-",
        "<<E\n",
        "\nE\n",
        "<<<",
        "if ",
        "then ",
        "fi ",
        "for x in ",
        "do ",
        "done",
        "case x in ",
        "esac",
        "[[ ",
        " ]]",
        "=",
        "+=",
        "!",
        "#",
        "*",
        "?(",
        "@(",
        "$'",
        "é",
        "\t",
        "\r\n",
        ";;",
        "function f ",
        "f()",
        "time ",
        "2>&1",
        "&>",
        "{a}>",
        "x=(",
        "${a:-",
        "${a/",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_gives_a_script(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_pieces_of_shell_give_a_script(text in pieces()) {
        check(&text);
    }
}

#[test]
fn deep_nesting_ends_in_an_error_and_not_in_a_crash() {
    for piece in
        ["(", "$(", "${a:-", "\"$(", "{ ", "$((", "if ", "while ", "a() ", "[[ ", "case x in a) "]
    {
        check(&piece.repeat(100_000));
        assert!(parse(&piece.repeat(100_000)).error.is_some(), "{piece}");
    }
    check(&"`".repeat(100_000));
    check(&"! ".repeat(100_000));
    check(&"a && ".repeat(100_000));
    check(&"a; ".repeat(100_000));
    // Arithmetic that turns out to be substitutions, level by level.
    for count in [10, 20, 30, 49] {
        check(&format!("{}a{}", "$(( ".repeat(count), " ) ) ".repeat(count)));
        check(&format!("{}a{}", "(( ".repeat(count), " ) ) ".repeat(count)));
        check(&"$((".repeat(count));
    }
}
