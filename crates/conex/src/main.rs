//! `conex`: container images from one program, without a daemon.
//!
//! This is where the world begins: arguments, environment, terminal and wiring. The work is done by
//! the libraries; a command here reads its arguments, calls them, and shows what came of it.

#![forbid(unsafe_code)]
// Nobody depends on a program: `pub` here says "for other modules".
#![allow(unreachable_pub)]
// Every command takes its arguments by value, whether it takes them apart or not: one shape.
#![allow(clippy::needless_pass_by_value)]

mod cli;
mod commands;
mod error;
mod format;
mod local;
mod platforms;
mod progress;
mod registry;
mod session;
mod settings;
mod signals;
mod transfer;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::error::{CliError, RUN_FAILED, USAGE};

fn main() -> ExitCode {
    // A container's first process is this program once more; it must not parse arguments or start
    // threads before it has become what it was started for.
    conex_exec::helper_main_if_asked();
    // Deep trees and many layers need many open files; the soft limit is for programs that
    // select().
    conex_sys::limits::raise_open_file_limit();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help to standard output and errors to standard error.
            let _ = error.print();
            let usage = if asks_to_run() { RUN_FAILED } else { USAGE };
            return ExitCode::from(if error.use_stderr() { usage } else { 0 });
        }
    };
    let settings = settings::Settings::read(cli.root.as_deref(), cli.color());
    let session = session::Session::new(settings);
    match commands::run(&session, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show(&session, &error);
            ExitCode::from(error.code)
        }
    }
}

/// Reads the command line.
fn parse() -> Result<cli::Cli, clap::Error> {
    let mut command = cli::Cli::command();
    // The list of commands needs to know something of each.
    if std::env::args_os().len() < 2 || std::env::args_os().any(|word| is_help(&word)) {
        command.build();
    }
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    cli::Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

fn is_help(word: &std::ffi::OsStr) -> bool {
    ["help", "--help", "-h"].iter().any(|help| word == *help)
}

/// Whether the command is `run`, whose exit codes below 125 belong to the container.
fn asks_to_run() -> bool {
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        if word == "--root" || word == "--color" {
            words.next();
        } else if !word.as_encoded_bytes().starts_with(b"-") {
            return word == "run";
        }
    }
    false
}

/// Tells the person what went wrong.
fn show(session: &session::Session, error: &CliError) {
    if error.silent {
        return;
    }
    let palette = session.err_palette();
    if let Some(source) = &error.source_text {
        let (name, text) = &**source;
        let source = conex_term::Source { name, text };
        let findings = conex_term::Findings::new(source, palette);
        match &*error.findings {
            // It says it all.
            [one] => return session.err(findings.one(one).trim_end()),
            many => session.err(findings.all(many).trim_end()),
        }
    }
    let hints = error.hint.as_deref();
    session.err(conex_term::ErrorText::new(palette).render(error, hints).trim_end());
}
