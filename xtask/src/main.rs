//! The project's automation: `cargo xtask ci` is the gate, and its parts can be run alone.
//!
//! Uses nothing but the standard library and a JSON reader, so that it is built in seconds. It is
//! no part of the product: it prints and reads the environment as it likes.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

mod bench;
mod ci;
mod deny;
mod shell;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci       run the whole gate: format, tidy, lints, tests, documentation, dependencies
  tidy     check who depends on whom and what sources and documents look like
           (`--fix [PATH…]` wraps comments that are too wide)
  deny     check licences, banned dependencies and, if reachable, advisories
  bench    measure conex beside the other tools here (`cargo xtask bench --help`)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["ci"] => ci::run(),
        ["tidy"] => tidy::run(),
        ["tidy", "--fix", names @ ..] => tidy::fix(names),
        ["deny"] => deny::run(),
        ["bench", rest @ ..] => bench::run(rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // An empty one was said already.
            if !error.is_empty() {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
