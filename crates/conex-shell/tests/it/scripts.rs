//! Scripts and what is made of them, shown as nested lists.

use conex_shell::{
    AndOr, Command, CommandKind, Connector, List, Part, PartKind, Pipeline, TestToken, Word, parse,
};

/// Shows a script's structure: `(cmd a b)`, `(pipe …)`, `(and …)`, `[seq …]`.
fn shown(text: &str) -> String {
    let script = parse(text);
    match &script.error {
        Some(error) => format!("error at {}: {}", error.span.start, error.message),
        None => list(&script.body, text),
    }
}

fn list(list: &List, text: &str) -> String {
    let items: Vec<String> = list.items.iter().map(|item| and_or(&item.and_or, text)).collect();
    items.join("; ")
}

fn and_or(list: &AndOr, text: &str) -> String {
    let mut out = pipeline(&list.first, text);
    for (connector, _, next) in &list.rest {
        let sign = if *connector == Connector::And { "&&" } else { "||" };
        out = format!("{out} {sign} {}", pipeline(next, text));
    }
    out
}

fn pipeline(pipeline: &Pipeline, text: &str) -> String {
    let commands: Vec<String> = pipeline.commands.iter().map(|one| command(one, text)).collect();
    let bang = if pipeline.bang.is_some() { "! " } else { "" };
    format!("{bang}{}", commands.join(" | "))
}

fn command(command: &Command, text: &str) -> String {
    let kind = match &command.kind {
        CommandKind::Simple(simple) => {
            let assignments = simple.assignments.iter().map(|one| match &one.array {
                Some(words) => format!("{}=({})", one.name.of(text), words.len()),
                None => format!("{}={}", one.name.of(text), word(&one.value, text)),
            });
            let words = simple.words.iter().map(|one| word(one, text));
            format!("({})", assignments.chain(words).collect::<Vec<_>>().join(" "))
        }
        CommandKind::Brace(body) => format!("brace[{}]", list(body, text)),
        CommandKind::Subshell(body) => format!("sub[{}]", list(body, text)),
        CommandKind::If { branches, otherwise } => {
            let branches: Vec<String> = branches
                .iter()
                .map(|(condition, body)| {
                    format!("{} ? {}", list(condition, text), list(body, text))
                })
                .collect();
            let otherwise = otherwise.as_ref().map(|body| format!(" : {}", list(body, text)));
            format!("if[{}{}]", branches.join(" / "), otherwise.unwrap_or_default())
        }
        CommandKind::Loop { until, condition, body } => {
            let word = if *until { "until" } else { "while" };
            format!("{word}[{} ? {}]", list(condition, text), list(body, text))
        }
        CommandKind::For { name, words, body } => {
            let words = words.as_ref().map_or(0, Vec::len);
            format!("for[{} {words} {}]", name.of(text), list(body, text))
        }
        CommandKind::ArithmeticFor { expression, body } => {
            format!("for[{} {}]", expression.span.of(text), list(body, text))
        }
        CommandKind::Case(case) => {
            let items: Vec<String> = case
                .items
                .iter()
                .map(|item| format!("{} => {}", item.patterns.len(), list(&item.body, text)))
                .collect();
            format!("case[{} {}]", word(&case.subject, text), items.join(" / "))
        }
        CommandKind::Function { name, body, .. } => {
            format!("fn {} {}", name.of(text), self::command(body, text))
        }
        CommandKind::Test(condition) => {
            let tokens: Vec<&str> = condition
                .tokens
                .iter()
                .map(|token| match token {
                    TestToken::Word(word) => word.span.of(text),
                    TestToken::Operator(span) => span.of(text),
                })
                .collect();
            format!("test[{}]", tokens.join("·"))
        }
        CommandKind::Arithmetic(word) => format!("arith[{}]", word.span.of(text)),
    };
    let redirects: String =
        command.redirects.iter().map(|one| format!(" {}", one.span.of(text))).collect();
    kind + &redirects
}

fn word(word: &Word, text: &str) -> String {
    word.parts.iter().map(|one| part(one, text)).collect()
}

fn part(part: &Part, text: &str) -> String {
    let written = part.span.of(text);
    match &part.kind {
        PartKind::Literal | PartKind::Escaped | PartKind::SingleQuoted | PartKind::DollarQuoted => {
            written.to_owned()
        }
        PartKind::DoubleQuoted(parts) => {
            format!("\"{}\"", parts.iter().map(|one| self::part(one, text)).collect::<String>())
        }
        PartKind::Parameter(parameter) => {
            let operator = parameter.operator.map_or("", |span| span.of(text));
            let argument: String =
                parameter.argument.iter().map(|one| self::part(one, text)).collect();
            format!("<{}{operator}{argument}>", parameter.name.of(text))
        }
        PartKind::Command { body, .. } => format!("$[{}]", list(body, text)),
        PartKind::Arithmetic(_) => "$arith".to_owned(),
        PartKind::Process(body) => format!("proc[{}]", list(body, text)),
        PartKind::ExtendedGlob => format!("glob{written}"),
    }
}

#[test]
fn commands_are_what_a_shell_makes_of_them() {
    for (text, expected) in [
        ("a b  c", "(a b c)"),
        ("a; b & c", "(a); (b); (c)"),
        ("a\nb\n\n# note\nc", "(a); (b); (c)"),
        ("a && b || c", "(a) && (b) || (c)"),
        ("a &&\n b", "(a) && (b)"),
        ("a | b |& c", "(a) | (b) | (c)"),
        ("! a | b", "! (a) | (b)"),
        ("time a", "(a)"),
        ("A=1 B= c", "(A=1 B= c)"),
        ("A=(1 2 3)", "(A=(3))"),
        ("A[1]=2 A+=3", "(A=2 A=3)"),
        ("declare -A a=(1)", "(declare -A globa=(1))"),
        ("(a; b)", "sub[(a); (b)]"),
        ("{ a; b; }", "brace[(a); (b)]"),
        ("{a,b}", "({a,b})"),
        ("if a; then b; elif c; then d; else e; fi", "if[(a) ? (b) / (c) ? (d) : (e)]"),
        ("while a; do b; done < f", "while[(a) ? (b)] < f"),
        ("until a; do b; done", "until[(a) ? (b)]"),
        ("for x in 1 2; do a; done", "for[x 2 (a)]"),
        ("for x; do a; done", "for[x 0 (a)]"),
        ("for x\ndo a\ndone", "for[x 0 (a)]"),
        ("for ((i=0; i<3; i++)); do a; done", "for[((i=0; i<3; i++)) (a)]"),
        ("case $x in a|b) c;; (d) e;; *) f; esac", "case[<x> 2 => (c) / 1 => (e) / 1 => (f)]"),
        ("case x in esac", "case[x ]"),
        ("f() { a; }", "fn f brace[(a)]"),
        ("f () ( a )", "fn f sub[(a)]"),
        ("function f { a; }", "fn f brace[(a)]"),
        ("[[ -f $a && ! b =~ ^(x|y)$ ]]", "test[-f·$a·&&·!·b·=~·^(x|y)$]"),
        ("((i++))", "arith[((i++))]"),
        ("((a); b)", "sub[sub[(a)]; (b)]"),
        ("echo if then fi", "(echo if then fi)"),
        ("a >f 2>&1 <g b", "(a b) >f 2>&1 <g"),
        ("a &>f {fd}>g", "(a) &>f {fd}>g"),
        ("a 2 >b", "(a 2) >b"),
        ("a <<<b", "(a) <<<b"),
        ("\\\n a \\\n b", "(a b)"),
        ("a\\\nb", "(ab)"),
        ("", ""),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn words_are_cut_into_what_expands_and_what_does_not() {
    for (text, expected) in [
        ("a'b c'\"d e\"", "(a'b c'\"d e\")"),
        ("$a${b}$1$@$?", "(<a><b><1><@><?>)"),
        ("$ a$", "($ a$)"),
        ("${a:-b $c} ${#a} ${a##*/} ${a/x/y}", "(<a:-b <c>> <a> <a##*/> <a/x/y>)"),
        ("${a:-\"}\"}", "(<a:-\"}\">)"),
        ("$(a | b)", "($[(a) | (b)])"),
        ("`a b`", "($[(a b)])"),
        ("\"$(a \"b\")\"", "(\"$[(a \"b\")]\")"),
        ("$((1 + $(a)))", "($arith)"),
        ("$( (a) )", "($[sub[(a)]])"),
        ("$((a); b)", "($[sub[(a)]; (b)])"),
        ("<(a) >(b)", "(proc[(a)] proc[(b)])"),
        ("@(a|b) !(c)", "(glob@(a|b) glob!(c))"),
        ("a\\ b \\$c", "(a\\ b \\$c)"),
        ("$'a\\'b'", "($'a\\'b')"),
        ("a#b", "(a#b)"),
        ("é=ü", "(é=ü)"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn mistakes_are_told_where_they_are() {
    for (text, expected) in [
        ("if a; then b", "error at 12: `if` without `fi`"),
        ("a )", "error at 2: unexpected `)`"),
        ("a;;b", "error at 1: unexpected `;`"),
        ("a &&", "error at 2: no command stands behind `&&`"),
        ("a |", "error at 3: no command stands behind `|`"),
        ("| a", "error at 0: unexpected `|`"),
        ("echo 'a", "error at 5: quote `'` is not closed"),
        ("echo \"a", "error at 5: quote `\"` is not closed"),
        ("echo `a", "error at 5: quote `` ` `` is not closed"),
        ("echo $(a", "error at 6: `(` without `)`"),
        ("echo ${a", "error at 5: `${` without `}`"),
        ("(a", "error at 0: `(` without `)`"),
        ("{ a; ", "error at 0: `{` without `}`"),
        ("for 1 in a; do b; done", "error at 4: `for` without a variable"),
        ("while a; b; done", "error at 12: `while` without `do`"),
        ("case a in b c;; esac", "error at 12: branch of `case` without `)`"),
        ("[[ a", "error at 0: `[[` without `]]`"),
        ("a >", "error at 2: `>` without a target"),
        ("done", "error at 0: unexpected `done`"),
        ("cat <<E\na\n", "error at 8: heredoc `E` does not end"),
        ("echo foo(bar)", "error at 8: unexpected `(`"),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn heredocs_belong_to_their_redirections() {
    let text = "cat <<A <<-'B' && c\n$x\nA\n\t$y\n\tB\nd\n";
    let script = parse(text);
    assert_eq!(script.error, None);
    assert_eq!(script.body.items.len(), 2);
    let [a, b] = script.heredocs.as_slice() else { panic!("{:?}", script.heredocs) };
    assert_eq!((a.body.of(text), a.quoted, a.parts.len()), ("$x\n", false, 2));
    assert_eq!((b.body.of(text), b.quoted, b.strip_tabs), ("\t$y\n", true, true));
    // A heredoc within a substitution.
    let script = parse("a=$(cat <<E\nx\nE\n)\nb\n");
    assert_eq!((script.error, script.body.items.len()), (None, 2));
}

#[test]
fn literals_lose_their_quotes() {
    for (text, literal, sketch) in [
        ("a'b'\"c\"\\d", Some("abcd"), "abcd"),
        ("\"a\\nb\"", Some("a\\nb"), "a\\nb"),
        ("a$b", None, "a${VAR}"),
        ("\"$(x)/y\"", None, "${VAR}/y"),
    ] {
        let script = parse(text);
        let CommandKind::Simple(simple) = &script.body.items[0].and_or.first.commands[0].kind
        else {
            panic!("{text}")
        };
        assert_eq!(simple.words[0].literal(text).as_deref(), literal, "{text}");
        assert_eq!(simple.words[0].sketch(text), sketch, "{text}");
    }
}

#[test]
fn comments_are_kept_and_a_number_sign_in_a_word_is_none() {
    let text = "a # one\n# two\nb#c ${#d} $#";
    let script = parse(text);
    let comments: Vec<&str> = script.comments.iter().map(|span| span.of(text)).collect();
    assert_eq!(comments, ["# one", "# two"]);
}
