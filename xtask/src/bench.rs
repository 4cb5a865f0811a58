//! Measures conex beside the other tools on this machine, in one run, and prints a table for
//! SPECIFICATION.md.
//!
//! A measurement is a whole process from start to end, as a person at a terminal would time it.
//! Contestants take turns, so that what else the machine does falls on all of them; each runs once
//! before, unmeasured, so that all read from memory. The median is given, and the best.
//!
//! Nothing is measured that does not exist: a contestant that is not installed, or that fails, is
//! named with the reason.

mod analysis;
mod cases;
mod lint;
mod measure;
mod peers;
mod registry;
mod resets;
mod servers;
mod workload;

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{self, Result, cargo};

const USAGE: &str = "\
usage: cargo xtask bench [OPTIONS]

  --runs N      measured runs of each contestant (5)
  --only WORDS  cases whose names have one of these words, comma-separated
  --without WORDS  contestants to leave out (`conex,docker`)
  --dir DIR     where workloads and stores are kept (conex-bench in the temporary folder)
  --base FILE   a root file system as a tar (made with mmdebstrap where none is given)
  --conex FILE  the binary to measure (built from this checkout where none is given)
  --list        name the cases and end

`CONEX_BENCH_BUILDKIT` names a folder with buildkitd and buildctl, to measure BuildKit too.
";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    runs: usize,
    only: Vec<String>,
    without: Vec<String>,
    dir: PathBuf,
    base: Option<PathBuf>,
    conex: Option<PathBuf>,
    list: bool,
}

impl Options {
    fn parse(words: &[&str]) -> Result<Option<Self>> {
        let mut options = Self {
            runs: 5,
            only: Vec::new(),
            without: Vec::new(),
            dir: std::env::temp_dir().join("conex-bench"),
            base: None,
            conex: None,
            list: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value =
                || words.next().copied().ok_or_else(|| format!("`{word}` needs a value\n{USAGE}"));
            let list = |text: &str| text.split(',').map(str::to_owned).collect();
            match *word {
                "--runs" => {
                    let runs = value()?.parse().ok().filter(|runs| *runs > 0);
                    options.runs = runs.ok_or("`--runs` takes a number above 0")?;
                }
                "--only" => options.only = list(value()?),
                "--without" => options.without = list(value()?),
                "--dir" => options.dir = PathBuf::from(value()?),
                "--base" => options.base = Some(PathBuf::from(value()?)),
                "--conex" => options.conex = Some(PathBuf::from(value()?)),
                "--list" => options.list = true,
                "--help" | "-h" => return Ok(None),
                other => return Err(format!("unknown option `{other}`\n{USAGE}")),
            }
        }
        Ok(Some(options))
    }
}

/// Runs what the command line asks for.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let Some(options) = Options::parse(words)? else {
        print!("{USAGE}");
        return Ok(());
    };
    if options.list {
        for case in cases::CASES {
            println!("{:<12} {}", case.name, case.what);
        }
        println!("{:<12} {}", servers::NAME, servers::WHAT);
        println!("{:<12} {}", servers::SCALE_NAME, servers::SCALE_WHAT);
        println!("{:<12} {}", resets::NAME, resets::WHAT);
        return Ok(());
    }
    let conex = match &options.conex {
        Some(file) => std::path::absolute(file).map_err(|error| error.to_string())?,
        None => build()?,
    };
    std::fs::create_dir_all(&options.dir).map_err(|error| error.to_string())?;
    let mut tables = servers(&options, &conex)?;
    if tables.is_empty() || options.only.len() > tables.len() {
        tables.extend(processes(&options, conex)?);
    }
    println!("{}", tables.join("\n"));
    Ok(())
}

/// The cases that measure requests and take the whole machine: asked for by their names only.
fn servers(options: &Options, conex: &std::path::Path) -> Result<Vec<String>> {
    let is_asked = |name: &str| options.only.iter().any(|word| word == name);
    let mut tables = Vec::new();
    if is_asked(servers::NAME) {
        tables.push(servers::run(conex, &options.dir, options.runs)?);
    }
    if is_asked(servers::SCALE_NAME) {
        tables.push(servers::run_at_scale(conex, &options.dir)?);
    }
    if is_asked(resets::NAME) {
        tables.push(resets::run(conex, &options.dir)?);
    }
    Ok(tables)
}

/// The cases that measure whole processes.
fn processes(options: &Options, conex: PathBuf) -> Result<Vec<String>> {
    let lab = peers::Lab::set_up(options, conex)?;
    let mut tables = Vec::new();
    for case in cases::CASES {
        let is_wanted = options.only.is_empty()
            || options.only.iter().any(|word| case.name.contains(word.as_str()));
        if is_wanted {
            eprintln!("== {}", case.name);
            let contestants = (case.contestants)(&lab)?;
            let results = measure::contest(contestants, options, lab.log())?;
            tables.push(measure::table(case.name, case.what, &results));
        }
    }
    registry::end();
    println!("{}", peers::machine(&lab));
    Ok(tables)
}

fn build() -> Result<PathBuf> {
    shell::run(cargo().args(["build", "--release", "--quiet", "--package", "conex"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    Ok(target.unwrap_or_else(|| shell::root().join("target")).join("release/conex"))
}

/// Makes a command from words.
fn command<S: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut words = words.into_iter();
    let mut command = match words.next() {
        Some(program) => Command::new(program),
        None => Command::new("true"),
    };
    command.args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_read_or_refused() {
        let parsed = Options::parse(&["--runs", "3", "--only", "build,copy"]).unwrap().unwrap();
        assert_eq!((parsed.runs, parsed.only.len()), (3, 2));
        assert_eq!(Options::parse(&["--help"]), Ok(None));
        for words in [&["--runs", "0"][..], &["--runs"], &["--fast"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
