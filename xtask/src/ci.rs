//! The gate: every check in order, cheapest first, each one timed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shell::{self, Result, cargo};

/// How many tests passed and failed, summed over all test binaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Adds what a line `test result: ok. 9 passed; 0 failed; …` says; other lines add nothing.
    fn add_line(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        let count = |word: &str| -> u64 {
            let before = result.split(word).next().filter(|before| before.len() < result.len());
            let number =
                before.and_then(|before| before.split([' ', '.', ';']).rfind(is_not_empty));
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        self.passed += count(" passed");
        self.failed += count(" failed");
    }
}

fn is_not_empty(text: &&str) -> bool {
    !text.is_empty()
}

/// Runs every step, stopping at the first that fails. What failed is said before the last line,
/// which is always the count of tests, so the error that is returned has nothing to add.
pub(crate) fn run() -> Result<()> {
    let mut tally = Tally::default();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut outcome = Ok(());
    for (name, step) in STEPS {
        println!("\n== {name}");
        let start = Instant::now();
        let result = step(&mut tally);
        times.push((name, start.elapsed()));
        if let Err(error) = result {
            outcome = Err(format!("step `{name}` failed: {error}"));
            break;
        }
    }
    println!("\n== summary");
    for (name, time) in &times {
        println!("{:>8.1} s  {name}", time.as_secs_f64());
    }
    if let Err(error) = &outcome {
        println!("stopped: {error}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    outcome.map_err(|_| String::new())
}

type Step = fn(&mut Tally) -> Result<()>;

const STEPS: &[(&str, Step)] = &[
    ("format", |_| shell::run(cargo().args(["fmt", "--all", "--check"]))),
    ("tidy", |_| crate::tidy::run()),
    ("clippy", |_| {
        let lints = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        shell::run(cargo().args(lints))
    }),
    ("test", |tally| tests(cargo().args(["test", "--workspace", "--no-fail-fast"]), tally)),
    ("test as an ordinary user", tests_as_user),
    ("fuzz targets", |_| fuzz_targets()),
    ("doc", |_| {
        let doc = ["doc", "--workspace", "--no-deps", "--quiet"];
        shell::run(cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))
    }),
    ("deny", |_| crate::deny::run()),
];

/// Runs tests, showing what they print and counting their results.
fn tests(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.map_err(|error| error.to_string())?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.add_line(&line);
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("tests failed ({status})")) }
}

/// Runs the tests a second time as `CONEX_TEST_USER`, when root runs the gate: much of conex takes
/// another way without privileges.
fn tests_as_user(tally: &mut Tally) -> Result<()> {
    let Ok(user) = std::env::var("CONEX_TEST_USER") else {
        println!("skipped: `CONEX_TEST_USER` names no user (`.ci/run` makes one)");
        return Ok(());
    };
    let binaries = test_binaries()?;
    let as_user = |folder: &Path| {
        let mut command = Command::new("runuser");
        command.current_dir(folder).args(["-u", &user, "--"]);
        command
    };
    for (folder, binary) in &binaries {
        let readable = as_user(folder).arg("test").arg("-x").arg(binary).status();
        if !readable.is_ok_and(|status| status.success()) {
            println!("skipped: `{user}` may not run `{}`", binary.display());
            return Ok(());
        }
    }
    for (folder, binary) in &binaries {
        println!("     Running {} as {user}", binary.display());
        let mut command = as_user(folder);
        // What a login would set, and root's would be wrong for.
        command.arg("env");
        for name in ["XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.args(["-u", name]);
        }
        command.arg(format!("HOME=/home/{user}")).arg(format!("USER={user}"));
        tests(command.arg(binary), tally)?;
    }
    Ok(())
}

/// Compiles the fuzz targets, which are no part of the workspace and would rot unseen.
fn fuzz_targets() -> Result<()> {
    if !shell::has_program("c++") && !shell::is_ci() {
        println!("skipped: the fuzzer's library needs a C++ compiler");
        return Ok(());
    }
    let crates =
        std::fs::read_dir(shell::root().join("crates")).map_err(|error| error.to_string())?;
    let mut manifests: Vec<PathBuf> =
        crates.flatten().map(|entry| entry.path().join("fuzz/Cargo.toml")).collect();
    manifests.retain(|manifest| manifest.is_file());
    manifests.sort();
    for manifest in &manifests {
        shell::run(cargo().args(["check", "--quiet", "--manifest-path"]).arg(manifest))?;
    }
    println!("{} crates with fuzz targets", manifests.len());
    Ok(())
}

/// The test binaries of the workspace with the folder that each expects to start in.
fn test_binaries() -> Result<Vec<(PathBuf, PathBuf)>> {
    let arguments = ["test", "--workspace", "--no-run", "--quiet", "--message-format", "json"];
    let text = shell::output(cargo().args(arguments))?;
    let mut binaries = Vec::new();
    for line in text.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let is_test = message["profile"]["test"] == true;
        let (Some(binary), Some(manifest)) =
            (message["executable"].as_str(), message["manifest_path"].as_str())
        else {
            continue;
        };
        if is_test && let Some(folder) = Path::new(manifest).parent() {
            binaries.push((folder.to_owned(), PathBuf::from(binary)));
        }
    }
    Ok(binaries)
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_are_summed_and_other_lines_are_not() {
        let mut tally = Tally::default();
        for line in [
            "running 9 tests",
            "test result: ok. 9 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "test a_test_result_of_3_passed ... ok",
            "test result: FAILED. 5 passed; 4 failed; 0 ignored; finished in 3.24s",
            "test result: ok. nonsense",
        ] {
            tally.add_line(line);
        }
        assert_eq!(tally, Tally { passed: 14, failed: 4 });
    }
}
