//! Runs the container that a JSON file describes: what the tests and measurements of this crate
//! drive from outside, as root or as an ordinary user.
//!
//! `conex-exec-driver [--rootless] [--single] [--runtime=PATH] [--count=N] [--classic]
//! [--terminal] SPEC`

#![allow(clippy::print_stdout, clippy::print_stderr)] // A program for developers.

use std::error::Error;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Instant;

use conex_exec::{ContainerSpec, ExecOptions, OverlayCalls, Runtime, Stream, Streams};
use conex_sys::userns::{Identity, Plan};

fn main() -> ExitCode {
    conex_exec::helper_main_if_asked();
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let mut line = format!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                line.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("{line}");
            let failure = error.downcast_ref::<conex_exec::Error>();
            if let Some(hint) = failure.and_then(conex_exec::Error::hint) {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(failure.map_or(1, conex_exec::Error::exit_code))
        }
    }
}

fn run() -> Result<u8, Box<dyn Error>> {
    let mut options = ExecOptions::default();
    let mut spec = None;
    let mut count = 1;
    let mut terminal = false;
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("--runtime", path)) => options.runtime = Runtime::Oci(path.into()),
            Some(("--count", number)) => count = number.parse()?,
            _ if argument == "--rootless" => enter(false)?,
            _ if argument == "--single" => enter(true)?,
            _ if argument == "--classic" => options.overlay_calls = OverlayCalls::Classic,
            _ if argument == "--terminal" => terminal = true,
            _ => spec = Some(argument),
        }
    }
    let path = spec.ok_or("the path of a description is missing")?;
    let spec: ContainerSpec = serde_json::from_slice(&std::fs::read(path)?)?;
    if count > 1 {
        return measure(&spec, &options, count);
    }
    let streams = if terminal {
        Streams::default()
    } else {
        Streams { stdin: Stream::Inherit, stdout: Stream::Inherit, stderr: Stream::Inherit }
    };
    let mut running = conex_exec::spawn(&spec, streams, &options)?;
    for note in running.notes() {
        eprintln!("note: {note}");
    }
    if let Some(mut terminal) = running.terminal.take() {
        let mut bytes = Vec::new();
        // EIO is how the end of a terminal is read.
        let _ = terminal.read_to_end(&mut bytes);
        print!("{}", String::from_utf8_lossy(&bytes));
    }
    let exit = running.wait()?;
    if exit.out_of_memory {
        eprintln!("note: out of memory");
    }
    for problem in &exit.problems {
        eprintln!("problem: {problem}");
    }
    Ok(exit.code())
}

fn enter(single: bool) -> Result<(), Box<dyn Error>> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let uid = Identity::of_process(None).uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    let identity = Identity::of_process(name);
    let plan = if single {
        Plan::single(identity)
    } else {
        Plan::new(
            identity,
            &std::fs::read("/etc/subuid")?,
            &std::fs::read("/etc/subgid")?,
            Some("/usr/bin/newuidmap".into()),
            Some("/usr/bin/newgidmap".into()),
        )
    };
    conex_sys::userns::enter(&plan)?;
    Ok(())
}

fn measure(spec: &ContainerSpec, options: &ExecOptions, count: u32) -> Result<u8, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let mut running = conex_exec::spawn(spec, Streams::default(), options)?;
        let started = start.elapsed();
        running.wait()?;
        times.push((start.elapsed(), started));
    }
    times.sort();
    let (whole, started) = times.get(times.len() / 2).copied().unwrap_or_default();
    let least = times.first().map(|(whole, _)| *whole).unwrap_or_default();
    println!(
        "median of {count}: {whole:?}, of which {started:?} until the program was executed; \
         least: {least:?}"
    );
    Ok(0)
}
