//! Reads the first line of a script: which program runs it.

/// Longest first line that the kernel reads (`BINPRM_BUF_SIZE`, Linux 5.1 and later).
pub(crate) const LINE_SIZE_MAX: usize = 256;

/// Who runs a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The program in the first line (`/bin/sh`, `/usr/bin/env`).
    pub program: String,
    /// The program that `env` is asked for, to be found in `PATH` (`python3`).
    pub by_env: Option<String>,
}

/// Reads `#!program argument` from a file's first bytes. Gives none for any other file, and for a
/// first line that the kernel would not take.
pub fn interpreter(first_bytes: &[u8]) -> Option<Interpreter> {
    let line = first_bytes.strip_prefix(b"#!")?;
    let line = line.get(..line.len().min(LINE_SIZE_MAX - 2))?;
    let line = line.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let line = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t', '\r']);
    let (program, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if program.is_empty() {
        return None;
    }
    let by_env = match program.rsplit('/').next() {
        Some("env") => env_program(arguments),
        _ => None,
    };
    Some(Interpreter { program: program.to_owned(), by_env })
}

/// Finds the program among `env`'s arguments: the first that is neither an option nor `NAME=value`.
/// The kernel passes all of them as one; `-S` makes `env` split it, and without `-S` a text with
/// blanks in it names no program, so splitting here loses nothing.
fn env_program(arguments: &str) -> Option<String> {
    let mut words = arguments.split_ascii_whitespace();
    while let Some(word) = words.next() {
        match word {
            "-u" | "--unset" | "-C" | "--chdir" => {
                words.next();
            }
            word if word.starts_with("-S") && word.len() > 2 => {
                return word.get(2..).map(str::to_owned);
            }
            word if word.starts_with('-') || word.contains('=') => {}
            word => return Some(word.to_owned()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::interpreter;

    #[test]
    fn first_line_names_the_program() {
        for (text, expected) in [
            ("#!/bin/sh\necho", Some(("/bin/sh", None))),
            ("#! /bin/sh -e\n", Some(("/bin/sh", None))),
            ("#!\t/usr/bin/perl\t-w\n", Some(("/usr/bin/perl", None))),
            ("#!/bin/sh\r\n", Some(("/bin/sh", None))),
            ("#!/bin/sh", Some(("/bin/sh", None))),
            ("#!/usr/bin/env python3\n", Some(("/usr/bin/env", Some("python3")))),
            ("#!/usr/bin/env -S node --harmony\n", Some(("/usr/bin/env", Some("node")))),
            ("#!/usr/bin/env -Snode\n", Some(("/usr/bin/env", Some("node")))),
            ("#!/usr/bin/env -i -u HOME A=b ruby\n", Some(("/usr/bin/env", Some("ruby")))),
            ("#!/usr/bin/env\n", Some(("/usr/bin/env", None))),
            ("#!\n", None),
            ("#!   \n/bin/sh", None),
            ("# !/bin/sh\n", None),
            ("", None),
        ] {
            let found = interpreter(text.as_bytes());
            let found = found.as_ref().map(|one| (one.program.as_str(), one.by_env.as_deref()));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn line_ends_where_the_kernel_stops_reading() {
        let long = format!("#!/bin/{}", "x".repeat(1000));
        assert_eq!(interpreter(long.as_bytes()).map(|one| one.program.len()), Some(254));
    }
}
