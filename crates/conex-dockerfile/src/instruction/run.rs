//! Instructions that hold a command: RUN, CMD, ENTRYPOINT, HEALTHCHECK, SHELL.

use super::Reading;
use crate::ast::{Command, Healthcheck, Kind, Network, Run, Security, Word};
use crate::diag;
use crate::duration::{Duration, parse_duration};
use crate::flags::{Flags, Known, Shape};
use crate::mount::MountFlag;

pub(super) fn run(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    let mut flags = reading.flags(&[
        Known("mount", Shape::Values),
        Known("network", Shape::Value),
        Known("security", Shape::Value),
        Known("device", Shape::Values),
    ]);
    for device in flags.take_all("device") {
        reading.error(diag::device_unsupported(device.span));
    }
    let network = one_of(
        reading,
        flags.take("network"),
        "network",
        &[("default", Network::Default), ("none", Network::None), ("host", Network::Host)],
    );
    let security = one_of(
        reading,
        flags.take("security"),
        "security",
        &[("sandbox", Security::Sandbox), ("insecure", Security::Insecure)],
    );
    let mounts = flags.take_all("mount");
    let mounts = mounts.iter().filter_map(|word| mount(reading, word)).collect();
    let args = reading.arguments("a command")?;
    let command = reading.command(args).ok()?;
    if matches!(&command, Command::Exec(words) if words.is_empty()) {
        reading.error(diag::needs_arguments(args.span(), "RUN", "a command"));
    }
    Some(Kind::Run(Run { command, mounts, network, security }))
}

fn mount(reading: &mut Reading<'_, '_>, word: &Word) -> Option<MountFlag> {
    let flag = match MountFlag::read(&word.raw, word.span) {
        Ok(flag) => flag,
        Err(error) => {
            reading.error(error.at(word.span));
            return None;
        }
    };
    // A `$` at the very end is a dollar sign, not a variable.
    let from = flag.from().map(|from| from.raw.trim_end_matches('$')).filter(|f| f.contains('$'));
    if let Some(from) = from {
        reading.error(diag::variable_in_from(word.span, "from", from));
        return None;
    }
    if !flag.has_variables()
        && let Err(error) = flag.resolve(|value| Ok(value.raw.clone()))
    {
        reading.error(error.at(word.span));
    }
    Some(flag)
}

fn one_of<T: Copy + Default>(
    reading: &mut Reading<'_, '_>,
    word: Option<Word>,
    flag: &str,
    known: &[(&str, T)],
) -> T {
    let Some(word) = word else { return T::default() };
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == word.raw) {
        return *value;
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    reading.error(diag::flag_not_one_of(word.span, flag, &word.raw, &names));
    T::default()
}

/// CMD and ENTRYPOINT.
pub(super) fn command(reading: &mut Reading<'_, '_>) -> Option<Command> {
    reading.flags(&[]);
    let args = reading.arguments("a command (an empty array, `[]`, clears it)")?;
    reading.command(args).ok()
}

pub(super) fn shell(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    reading.flags(&[]);
    let args = reading.arguments("a JSON array")?;
    match reading.json(args).ok()? {
        None => {
            reading.error(diag::shell_not_json(args.span()));
            None
        }
        Some(words) => {
            if words.is_empty() {
                reading.error(diag::needs_arguments(args.span(), "SHELL", "a program"));
            }
            Some(Kind::Shell(words))
        }
    }
}

pub(super) fn healthcheck(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    let mut flags = reading.flags(&[
        Known("interval", Shape::Value),
        Known("timeout", Shape::Value),
        Known("start-period", Shape::Value),
        Known("start-interval", Shape::Value),
        Known("retries", Shape::Value),
    ]);
    let args = reading.arguments("`CMD` or `NONE`")?;
    let text = args.text();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let word = args.sub(0..end).word();
    let rest = args.from(end).trim();
    match word.raw.to_ascii_uppercase().as_str() {
        "NONE" => {
            if !rest.text().is_empty() {
                reading.error(diag::health_none_arguments(rest.span()));
            }
            Some(Kind::Healthcheck(Healthcheck::None))
        }
        "CMD" => {
            let command = reading.command(rest).ok()?;
            let empty = match &command {
                Command::Shell(word) => word.raw.is_empty(),
                Command::Exec(words) => words.is_empty(),
            };
            if empty {
                let span = word.span;
                reading.error(diag::needs_arguments(span, "HEALTHCHECK CMD", "a command"));
            }
            Some(Kind::Healthcheck(Healthcheck::Command {
                command,
                interval: interval(reading, &mut flags, "interval"),
                timeout: interval(reading, &mut flags, "timeout"),
                start_period: interval(reading, &mut flags, "start-period"),
                start_interval: interval(reading, &mut flags, "start-interval"),
                retries: retries(reading, &mut flags),
            }))
        }
        _ => {
            reading.error(diag::health_type(&word));
            None
        }
    }
}

fn interval(reading: &mut Reading<'_, '_>, flags: &mut Flags, name: &str) -> Option<Duration> {
    /// The shortest interval that the runtime honours.
    const INTERVAL_MIN: Duration = Duration::from_millis(1);
    let word = flags.take(name)?;
    match parse_duration(&word.raw) {
        Ok(interval) if interval.is_zero() || interval >= INTERVAL_MIN => Some(interval),
        Ok(_) => {
            reading.error(diag::health_too_short(word.span, name));
            None
        }
        Err(error) => {
            reading.error(error.at(word.span));
            None
        }
    }
}

fn retries(reading: &mut Reading<'_, '_>, flags: &mut Flags) -> Option<u32> {
    let word = flags.take("retries")?;
    let retries = word.raw.parse::<i32>().ok().and_then(|retries| u32::try_from(retries).ok());
    if retries.is_none() {
        reading.error(diag::health_retries(word.span, &word.raw));
    }
    retries
}
