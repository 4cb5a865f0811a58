//! What a source file has to look like.

use std::path::Path;

use super::{Finding, lexer};

/// The wall: a longer file is split, whatever is in it.
const LINE_COUNT_MAX: usize = 1000;
/// The widest line.
pub(crate) const COLUMN_COUNT_MAX: usize = 100;
/// A literal wider than this may make its line too wide.
const LITERAL_WIDTH_EXCUSED: usize = 60;

/// A text that must not stand in some code.
struct Ban {
    text: &'static str,
    scope: Scope,
    why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All code.
    Everywhere,
    /// All code but that of the crate that may.
    NotIn(&'static str),
    /// The code of libraries, without their tests.
    Libraries,
}

const BANS: &[Ban] = &[
    Ban { text: "todo!(", scope: Scope::Everywhere, why: "unfinished work does not pass" },
    Ban { text: "unimplemented!(", scope: Scope::Everywhere, why: "unfinished work does not pass" },
    Ban { text: "dbg!(", scope: Scope::Everywhere, why: "left over from a search" },
    Ban { text: "#[ignore", scope: Scope::Everywhere, why: "no test is ignored; see STYLE.md" },
    Ban {
        text: "unsafe",
        scope: Scope::NotIn("conex-sys"),
        why: "unsafe code is in conex-sys only",
    },
    Ban {
        text: "std::env::",
        scope: Scope::Libraries,
        why: "a library knows no environment: it takes values",
    },
    Ban {
        text: "env::var",
        scope: Scope::Libraries,
        why: "a library knows no environment: it takes values",
    },
    Ban {
        text: "current_dir()",
        scope: Scope::Libraries,
        why: "a library knows no working directory: it takes paths",
    },
    Ban {
        text: "SystemTime::now(",
        scope: Scope::Libraries,
        why: "a library knows no clock: it takes times",
    },
    Ban { text: "println!(", scope: Scope::Libraries, why: "a library does not print" },
    Ban { text: "print!(", scope: Scope::Libraries, why: "a library does not print" },
    Ban { text: "process::exit(", scope: Scope::Libraries, why: "a library does not end us" },
];

/// Places where a ban does not hold, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (CLOCK, "SystemTime::now(", "tokens end while a client works; tests have another clock"),
    (HELPER, "std::env::", "the helper is a process of its own, started by us with arguments"),
    (HELPER, "process::exit(", "the helper is a process of its own: this is how it ends"),
];

const CLOCK: &str = "crates/conex-remote/src/clock.rs";
const HELPER: &str = "crates/conex-exec/src/helper/mod.rs";

/// Crates that are no libraries of the product.
const NOT_LIBRARIES: &[&str] = &["conex", "conex-testkit", "xtask"];

/// Checks one source file.
pub(crate) fn check(file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let line_count = text.lines().count();
    if line_count > LINE_COUNT_MAX {
        let message = format!("{line_count} lines: split files over {LINE_COUNT_MAX}");
        findings.push(Finding::new(file, line_count, message));
    }
    let is_test_file = is_test_file(file);
    if !is_test_file && !has_module_documentation(text) {
        findings.push(Finding::new(file, 1, "begin with `//!`: what it does, what always holds"));
    }
    let split = lexer::split(text);
    let mut in_tests = is_test_file;
    for (index, (code, comment)) in split.code.iter().zip(&split.comments).enumerate() {
        let mut find = |message: String| findings.push(Finding::new(file, index + 1, message));
        in_tests |= code.trim_start().starts_with("#[cfg(test)]");
        for ban in BANS.iter().filter(|ban| applies(ban, file, in_tests)) {
            // What the compiler knows of the machine that it builds for is no environment.
            let code = code.replace("std::env::consts", "");
            if has_word(&code, ban.text) {
                find(format!("`{}`: {}", ban.text, ban.why));
            }
        }
        // Written in two parts, or this line would be found.
        if has_word(comment, concat!("FIX", "ME")) {
            find("a comment asks for a repair: make it, or open an issue".to_owned());
        }
    }
    check_width(file, text, &split, findings);
    check_forbids_unsafe(file, &split, findings);
}

/// Lines end in time, unless an address or a long literal is in the way: breaking those makes them
/// harder to find than they are to read.
fn check_width(file: &Path, text: &str, split: &lexer::Split, findings: &mut Vec<Finding>) {
    for (index, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        let is_excused = || {
            let blanked = split.code.get(index).zip(split.comments.get(index));
            line.contains("://")
                || blanked.is_some_and(|(code, comment)| {
                    literal_width(line, code, comment) > LITERAL_WIDTH_EXCUSED
                })
        };
        if columns > COLUMN_COUNT_MAX && !is_excused() {
            let message = format!("{columns} columns: lines end at {COLUMN_COUNT_MAX}");
            findings.push(Finding::new(file, index + 1, message));
        }
    }
}

/// The width of the longest literal in a line: what is neither in its code nor in its comments.
fn literal_width(line: &str, code: &str, comment: &str) -> usize {
    let mut longest = 0;
    let mut current = 0;
    for (character, (code, comment)) in line.chars().zip(code.chars().zip(comment.chars())) {
        let is_elsewhere = (code != ' ' || comment != ' ') && character != ' ';
        current = if is_elsewhere { 0 } else { current + 1 };
        if character != ' ' {
            longest = longest.max(current);
        }
    }
    longest
}

fn applies(ban: &Ban, file: &Path, in_tests: bool) -> bool {
    let name = crate_of(file);
    let is_excepted =
        EXCEPTIONS.iter().any(|(place, text, _)| file == Path::new(place) && *text == ban.text);
    !is_excepted
        && match ban.scope {
            Scope::Everywhere => true,
            Scope::NotIn(allowed) => name != Some(allowed),
            Scope::Libraries => {
                let is_program = file.iter().any(|part| part == "bin");
                let is_library = name.is_some_and(|name| !NOT_LIBRARIES.contains(&name));
                is_library && !is_program && !in_tests
            }
        }
}

/// The crate that a file is part of: `crates/NAME/src/…`, or `xtask`.
fn crate_of(file: &Path) -> Option<&str> {
    let mut parts = file.iter().filter_map(|part| part.to_str());
    match (parts.next(), parts.next()) {
        (Some("crates"), name) => name,
        (Some("xtask"), _) => Some("xtask"),
        _ => None,
    }
}

fn is_test_file(file: &Path) -> bool {
    let is_test_name = |name: &str| name == "tests.rs" || name.ends_with("_tests.rs");
    let folders = ["tests", "benches", "fuzz", "examples"];
    file.iter().any(|part| folders.iter().any(|folder| part == *folder))
        || file.file_name().and_then(|name| name.to_str()).is_some_and(is_test_name)
}

/// Whether a text stands in a line and is not the tail of a longer name.
fn has_word(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().last());
        let after = line.get(at + text.len()..).and_then(|after| after.chars().next());
        let is_name = |character: Option<char>| {
            character.is_some_and(|character| character.is_alphanumeric() || character == '_')
        };
        let ends_open = text.ends_with(|last: char| last.is_alphanumeric());
        let is_prefix = text == "#[ignore" || text == "env::var";
        !is_name(before) && (is_prefix || !ends_open || !is_name(after))
    })
}

fn has_module_documentation(text: &str) -> bool {
    text.lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["))
        .is_some_and(|line| line.starts_with("//!"))
}

/// The root of every crate but one says that it has no unsafe code.
fn check_forbids_unsafe(file: &Path, split: &lexer::Split, findings: &mut Vec<Finding>) {
    let is_root = file.ends_with("src/lib.rs") || file.ends_with("src/main.rs");
    let is_ours = crate_of(file).is_some_and(|name| name != "conex-sys");
    let forbids = split.code.iter().any(|line| line.contains("#![forbid(unsafe_code)]"));
    if is_root && is_ours && !forbids {
        findings.push(Finding::new(file, 1, "add `#![forbid(unsafe_code)]`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(Path::new(file), text, &mut findings);
        findings.iter().map(|one| format!("{}: {}", one.line, one.message)).collect()
    }

    #[test]
    fn bans_hold_in_code_of_the_crates_that_they_name() {
        let library = "crates/conex-oci/src/a.rs";
        for (file, line, is_found) in [
            (library, "unsafe { x() }", true),
            ("crates/conex-sys/src/a.rs", "unsafe { x() }", false),
            (library, "// unsafe { x() }", false),
            (library, "let text = \"todo!()\";", false),
            (library, "todo!()", true),
            (library, "#[ignore = \"slow\"]", true),
            (library, "#![forbid(unsafe_code)]", false),
            (library, "std::env::var(\"HOME\")", true),
            ("crates/conex/src/settings.rs", "std::env::var(\"HOME\")", false),
            ("crates/conex-oci/tests/it/main.rs", "std::env::var(\"HOME\")", false),
            (library, "eprintln!(\"x\")", false),
            (library, "println!(\"x\")", true),
            (library, "SystemTime::now()", true),
            (library, concat!("// FIX", "ME: x"), true),
            (library, "// a suffixme", false),
        ] {
            let findings = found(file, &format!("//! Words.\n{line}\n"));
            assert_eq!(!findings.is_empty(), is_found, "{file}: {line}: {findings:?}");
        }
    }

    #[test]
    fn library_bans_end_where_tests_begin() {
        let text = "//! Words.\n#[cfg(test)]\nmod tests {\n    println!(\"x\");\n}\n";
        assert_eq!(found("crates/conex-oci/src/a.rs", text), [""; 0]);
    }

    #[test]
    fn shape_of_a_file() {
        let file = "crates/conex-oci/src/a.rs";
        let missing = "begin with `//!`";
        assert!(found(file, "fn a() {}\n")[0].contains(missing));
        assert_eq!(found(file, "#![allow(dead_code)]\n\n//! Words.\n"), [""; 0]);
        let long = format!("//! Words.\n{}\n", "x".repeat(101));
        assert_eq!(found(file, &long), ["2: 101 columns: lines end at 100"]);
        let literal = format!("//! Words.\n    call(\"{}\");\n", "x ".repeat(50));
        assert_eq!(found(file, &literal), [""; 0]);
        let comment = format!("//! Words.\n// {}\n", "x".repeat(98));
        assert_eq!(found(file, &comment), ["2: 101 columns: lines end at 100"]);
        let tall = format!("//! Words.\n{}", "\n".repeat(1000));
        assert_eq!(found(file, &tall), ["1001: 1001 lines: split files over 1000"]);
        let root = "crates/conex-oci/src/lib.rs";
        assert_eq!(found(root, "//! Words.\n"), ["1: add `#![forbid(unsafe_code)]`"]);
    }
}
