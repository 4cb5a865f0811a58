//! Variable expansion.

use conex_dockerfile::{ErrorKind, Expander};

const VARIABLES: [(&str, &str); 9] = [
    ("PWD", "/home"),
    ("SHELL", "bash"),
    ("NULL", ""),
    ("KOREAN", "한국어"),
    ("SPACE", "abc  def"),
    ("TRIM", " ab c "),
    ("P", "/usr/local/bin"),
    ("V", "v1.2.3-rc.1"),
    ("STAR", "a*b?c"),
];

fn lookup(name: &str) -> Option<String> {
    VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn word(escape: char, text: &str) -> String {
    match Expander::new(escape, &lookup).expand_word(text) {
        Ok(expanded) => expanded.text,
        Err(_) => "error".to_owned(),
    }
}

#[test]
fn quotes_and_escapes() {
    for (text, expected) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        ("he'llo", "error"),
        ("he\\'llo", "he'llo"),
        ("abc\\tdef", "abctdef"),
        ("\"abc\\tdef\"", "abc\\tdef"),
        ("\"abc\\\\tdef\"", "abc\\tdef"),
        ("'abc\\tdef'", "abc\\tdef"),
        ("hello\\", "hello"),
        ("\"hello\\\"", "error"),
        ("'hello\\'", "hello\\"),
        ("\"he\\$PWD\"", "he$PWD"),
        ("'$PWD'", "$PWD"),
        ("\"it's $PWD\"", "it's /home"),
        ("a  b", "a  b"),
        ("<<EOF", "<<EOF"),
    ] {
        assert_eq!(word('\\', text), expected, "{text}");
    }
    assert_eq!(word('`', "a`$PWD\\x"), "a$PWD\\x");
    assert_eq!(word('`', "\"`\"`$\\\""), "\"$\\");
}

#[test]
fn names_end_where_the_shell_ends_them() {
    for (text, expected) in [
        ("$PWD", "/home"),
        ("x$PWD.y", "x/home.y"),
        ("${PWD}x", "/homex"),
        ("$PWDx", ""),
        ("$KOREAN", "한국어"),
        ("he$.x", "he$.x"),
        ("$", "$"),
        ("$1", ""),
        ("$12a", "a"),
        ("$@@", "@"),
        ("$*$#$?$-$!", ""),
        ("$$PWD", "PWD"),
        ("${}", "error"),
        ("${:-x}", "error"),
        ("${.}", "error"),
        ("${{a}", "error"),
        ("${PWD", "error"),
        ("${aaa}}", "}"),
        ("\\${}", "${}"),
    ] {
        assert_eq!(word('\\', text), expected, "{text}");
    }
}

#[test]
fn modifiers() {
    for (text, expected) in [
        ("${X:-a}", "a"),
        ("${X-a}", "a"),
        ("${NULL:-a}", "a"),
        ("${NULL-a}", ""),
        ("${PWD:-a}", "/home"),
        ("${X:-${Y:-$PWD}}", "/home"),
        ("${X:-a b}", "a b"),
        ("${X:-\"a}b\"}", "a}b"),
        ("${X:-\\$PWD:}", "$PWD:"),
        ("${PWD:+a}", "a"),
        ("${NULL:+a}", ""),
        ("${NULL+a}", "a"),
        ("${X+a}", ""),
        ("${X:?}", "error"),
        ("${X?no}", "error"),
        ("${NULL?}", ""),
        ("${NULL:?}", "error"),
        ("${PWD:=a}", "error"),
        ("${PWD:#a}", "error"),
        ("${PWD@a}", "error"),
        ("${P#/}", "usr/local/bin"),
        ("${P#*/}", "usr/local/bin"),
        ("${P##*/}", "bin"),
        ("${P%/*}", "/usr/local"),
        ("${P%%/*}", ""),
        ("${V#v}", "1.2.3-rc.1"),
        ("${V%-rc*}", "v1.2.3"),
        ("${V%%.*}", "v1"),
        ("${V#?}", "1.2.3-rc.1"),
        ("${STAR#a\\*}", "b?c"),
        ("${X#a}", ""),
        ("${P/usr/opt}", "/opt/local/bin"),
        ("${P/\\//:}", ":usr/local/bin"),
        ("${P//\\//:}", ":usr:local:bin"),
        ("${V/rc.1/}", "v1.2.3-"),
        ("${P/l*l/L}", "/usr/L/bin"),
        ("${P/a}", "error"),
        ("${P#\\q}", "error"),
    ] {
        assert_eq!(word('\\', text), expected, "{text}");
    }
}

#[test]
fn a_message_of_a_required_variable_reaches_the_person() {
    let expander = Expander::new('\\', &lookup);
    let error = expander.expand_word("${X:?say X}").expect_err("X is unset");
    assert_eq!(error.kind(), ErrorKind::Unset);
    assert_eq!(error.to_string(), "variable `X`: say X");
    let error = expander.expand_word("${NULL:?}").expect_err("NULL is empty");
    assert_eq!(error.to_string(), "variable `NULL`: must not be empty");
}

#[test]
fn words_split_where_nothing_is_quoted() {
    for (text, expected) in [
        ("a  b", vec!["a", "b"]),
        ("x${SPACE}y", vec!["xabc", "defy"]),
        ("x\"${SPACE}\"y", vec!["xabc  defy"]),
        ("x${TRIM}y", vec!["x", "ab", "c", "y"]),
        ("\"$TRIM\"", vec![" ab c "]),
        ("a\\ b", vec!["a b"]),
        ("$X", vec![]),
        ("\"\"", vec![]),
        // The reference loses the text before a modifier here; we do not.
        ("80${X:-80} 90", vec!["8080", "90"]),
        ("<< EOF x", vec!["<< EOF", "x"]),
    ] {
        let expanded = Expander::new('\\', &lookup).expand_words(text).expect("it expands");
        assert_eq!(expanded.words, expected, "{text}");
    }
}

#[test]
fn heredocs_keep_quotes_and_escape_with_a_backslash() {
    for (text, expected) in [
        ("\"$PWD\" '$PWD'\n", "\"/home\" '/home'\n"),
        ("\\$PWD \\\\ \\n", "$PWD \\ n"),
        ("`$PWD`", "`/home`"),
        ("it's", "it's"),
    ] {
        let expanded = Expander::new('`', &lookup).expand_heredoc(text).expect("it expands");
        assert_eq!(expanded.text, expected, "{text}");
    }
}

#[test]
fn names_read_are_reported() {
    let expanded =
        Expander::new('\\', &lookup).expand_word("$PWD ${X:-$Y} ${NULL:+$SHELL}").unwrap();
    let names = |set: &std::collections::BTreeSet<String>| {
        set.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&expanded.used), "NULL PWD SHELL");
    assert_eq!(names(&expanded.unset), "X Y");
}

#[test]
fn texts_for_people_keep_quotes_and_what_is_unset() {
    let expander = Expander::new('\\', &lookup).for_display();
    for (text, expected) in [
        ("echo \"$PWD\" '$X'", "echo \"/home\" '$X'"),
        ("$X ${X} ${X:-a} ${X#b} ${X//c/d}", "$X ${X} ${X:-a} ${X#b} ${X//c/d}"),
    ] {
        assert_eq!(expander.expand_word(text).expect("it expands").text, expected);
    }
}

#[test]
fn nothing_grows_without_bound() {
    let deep = format!("{}x{}", "${A:-".repeat(100), "}".repeat(100));
    let error = Expander::new('\\', &lookup).expand_word(&deep).expect_err("it is too deep");
    assert_eq!(error.kind(), ErrorKind::Limit);
    let large = |_: &str| Some("x".repeat(1 << 20));
    let error = Expander::new('\\', &large).expand_word(&"$A".repeat(9)).expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Limit);
    let error = Expander::new('\\', &large).expand_word("${A//x/$A}").expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Limit);
}
