//! Lets contestants take turns, and makes a table of what they took.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Options;
use crate::shell::Result;

/// What is done before each measured run, unmeasured.
pub(crate) type Prepare = Box<dyn Fn() -> Result<()>>;

/// Somebody who is measured.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) command: Box<dyn Fn() -> Command>,
    pub(crate) prepare: Option<Prepare>,
    /// What stands in its way, if it cannot take part.
    pub(crate) absent: Option<String>,
}

impl Contestant {
    pub(crate) fn new(name: impl Into<String>, command: impl Fn() -> Command + 'static) -> Self {
        Self { name: name.into(), command: Box::new(command), prepare: None, absent: None }
    }

    pub(crate) fn absent(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { absent: Some(why.into()), ..Self::new(name, || Command::new("false")) }
    }

    /// Adds what has to be done before each run.
    pub(crate) fn after(mut self, prepare: impl Fn() -> Result<()> + 'static) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }
}

/// What one contestant took.
pub(crate) struct Outcome {
    name: String,
    times: Vec<Duration>,
    /// The most memory that its first process had.
    memory_kib: u64,
    failure: Option<String>,
}

/// Measures contestants in turns.
pub(crate) fn contest(
    contestants: Vec<Contestant>,
    options: &Options,
    log: &Path,
) -> Result<Vec<Outcome>> {
    let contestants: Vec<Contestant> =
        contestants.into_iter().filter(|one| !options.without.contains(&one.name)).collect();
    let mut outcomes: Vec<Outcome> = contestants
        .iter()
        .map(|one| Outcome {
            name: one.name.clone(),
            times: Vec::new(),
            memory_kib: 0,
            failure: one.absent.clone(),
        })
        .collect();
    // The first round warms and is not counted, but tells how much memory each one takes: asking
    // for that disturbs, so it is not asked in the others.
    for round in 0..=options.runs {
        for (contestant, outcome) in contestants.iter().zip(&mut outcomes) {
            if outcome.failure.is_some() {
                continue;
            }
            let watch = if round == 0 { Watch::Memory } else { Watch::Time };
            match once(contestant, watch, log) {
                Ok((time, memory_kib)) => {
                    outcome.memory_kib = outcome.memory_kib.max(memory_kib);
                    if round > 0 {
                        eprintln!("{:>10.4} s  {}", time.as_secs_f64(), outcome.name);
                        outcome.times.push(time);
                    }
                }
                Err(error) => {
                    eprintln!("    failed  {}: {error}", outcome.name);
                    outcome.failure = Some(error);
                }
            }
        }
    }
    Ok(outcomes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Time,
    Memory,
}

fn once(contestant: &Contestant, watch: Watch, log: &Path) -> Result<(Duration, u64)> {
    if let Some(prepare) = &contestant.prepare {
        prepare()?;
    }
    let mut command = (contestant.command)();
    let text = |error: std::io::Error| error.to_string();
    let file = File::create(log).map_err(text)?;
    let errors = OpenOptions::new().append(true).open(log).map_err(text)?;
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    let start = Instant::now();
    let mut child = command.spawn().map_err(text)?;
    let (status, memory_kib) = match watch {
        Watch::Time => (child.wait().map_err(text)?, 0),
        Watch::Memory => wait_watching(&mut child)?,
    };
    let time = start.elapsed();
    if status.success() {
        return Ok((time, memory_kib));
    }
    let output = fs::read(log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let last = output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output");
    let last: String = last.chars().take(200).collect();
    Err(format!("{status}: {last}"))
}

/// Waits, reading again and again how much memory the process has had at most.
pub(crate) fn wait_watching(child: &mut Child) -> Result<(ExitStatus, u64)> {
    let file = format!("/proc/{}/status", child.id());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut memory_kib = 0;
            while !is_done.load(Ordering::Relaxed) {
                memory_kib = high_water(&file).unwrap_or(0).max(memory_kib);
                thread::sleep(Duration::from_millis(2));
            }
            memory_kib
        });
        let status = child.wait().map_err(|error| error.to_string());
        is_done.store(true, Ordering::Relaxed);
        let memory_kib = watcher.join().map_err(|_| "the watcher panicked".to_owned())?;
        Ok((status?, memory_kib))
    })
}

fn high_water(file: &str) -> Option<u64> {
    let status = fs::read_to_string(file).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort();
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    sorted.get(middle.checked_sub(1)?).map(|lower| (*lower + *upper) / 2)
}

/// Writes a case's results as a table; conex is what the others are compared with.
pub(crate) fn table(name: &str, what: &str, outcomes: &[Outcome]) -> String {
    let ours = outcomes.iter().find(|outcome| outcome.name == "conex");
    let ours = ours.and_then(|outcome| median(&outcome.times));
    let mut text = format!("### {name}: {what}\n\n");
    text.push_str("| tool | median | best | × conex | memory |\n|---|---:|---:|---:|---:|\n");
    let mut notes = String::new();
    for outcome in outcomes {
        // Writing to a String cannot fail, here and below.
        if let Some(failure) = &outcome.failure {
            let _ = writeln!(notes, "- {}: not measured ({failure})", outcome.name);
            continue;
        }
        let (Some(middle), Some(best)) = (median(&outcome.times), outcome.times.iter().min())
        else {
            continue;
        };
        let ratio = ours.map_or_else(
            || "–".to_owned(),
            |ours| format!("{:.2}", middle.as_secs_f64() / ours.as_secs_f64().max(1e-9)),
        );
        let _ = writeln!(
            text,
            "| {} | {} | {} | {ratio} | {} MB |",
            outcome.name,
            duration(middle),
            duration(*best),
            outcome.memory_kib.div_ceil(1000),
        );
    }
    if !notes.is_empty() {
        let _ = write!(text, "\n{notes}");
    }
    text
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, times_ms: &[u64]) -> Outcome {
        let times = times_ms.iter().copied().map(Duration::from_millis).collect();
        Outcome { name: name.to_owned(), times, memory_kib: 1500, failure: None }
    }

    #[test]
    fn median_is_the_middle_or_between_the_two() {
        for (times_ms, expected) in [
            (&[3, 1, 2][..], Some(2000)),
            (&[4, 1, 2, 3], Some(2500)),
            (&[7], Some(7000)),
            (&[], None),
        ] {
            let found = median(&outcome("x", times_ms).times);
            assert_eq!(found.map(|time| time.as_micros()), expected, "{times_ms:?}");
        }
    }

    #[test]
    fn table_compares_with_conex_and_names_who_is_absent() {
        let mut absent = outcome("docker", &[]);
        absent.failure = Some("no daemon".to_owned());
        let outcomes = [outcome("conex", &[10, 20, 30]), outcome("podman", &[1500]), absent];
        let expected = "\
### a: b

| tool | median | best | × conex | memory |
|---|---:|---:|---:|---:|
| conex | 20.0 ms | 10.0 ms | 1.00 | 2 MB |
| podman | 1.50 s | 1.50 s | 75.00 | 2 MB |

- docker: not measured (no daemon)
";
        assert_eq!(table("a", "b", &outcomes), expected);
    }

    #[test]
    fn failing_contestant_is_reported_with_its_last_line() {
        let log = std::env::temp_dir().join(format!("conex-xtask-{}.log", std::process::id()));
        let failing = Contestant::new("x", || {
            super::super::command(["sh", "-c", "echo first; echo last >&2; exit 3"])
        });
        let error = once(&failing, Watch::Memory, &log).unwrap_err();
        let working = Contestant::new("x", || super::super::command(["sleep", "0.05"]));
        let (time, memory_kib) = once(&working, Watch::Memory, &log).unwrap();
        std::fs::remove_file(&log).unwrap();
        assert_eq!(error, "exit status: 3: last");
        assert!(time >= Duration::from_millis(50) && memory_kib > 100);
    }
}
