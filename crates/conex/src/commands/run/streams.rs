//! Runs a container in the foreground: its streams are ours, its terminal is ours, signals are
//! passed on.

use std::io::{Read as _, Write as _};

use conex_exec::{ContainerSpec, ExecOptions, Stream, Streams, TerminalSize};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::error::{CliError, Doing as _, Result};

/// Runs the container to its end; returns its exit code.
pub fn attach(
    spec: &ContainerSpec,
    interactive: bool,
    tty: bool,
    options: &ExecOptions,
) -> Result<u8> {
    if tty { with_terminal(spec, interactive, options) } else { plain(spec, interactive, options) }
}

fn plain(spec: &ContainerSpec, interactive: bool, options: &ExecOptions) -> Result<u8> {
    let stdin = if interactive { Stream::Inherit } else { Stream::Null };
    let streams = Streams { stdin, stdout: Stream::Inherit, stderr: Stream::Inherit };
    let forwarder = crate::signals::Forwarder::block()?;
    let mut running = conex_exec::spawn(spec, streams, options).map_err(failed)?;
    notes(&running);
    forwarder.forward_to(running.signaller());
    Ok(running.wait().map_err(failed)?.code())
}

fn with_terminal(spec: &ContainerSpec, interactive: bool, options: &ExecOptions) -> Result<u8> {
    let stdin = std::io::stdin();
    if interactive && !conex_term::is_terminal(&stdin) {
        return Err(CliError::new("the input device is not a terminal")
            .with_hint("leave `-t` out where standard input is a file or a pipe"));
    }
    let size = |stream: std::io::Stdout| {
        let size = conex_term::terminal_size(stream);
        size.map_or(TerminalSize { rows: 24, columns: 80 }, |size| TerminalSize {
            rows: size.rows,
            columns: size.columns,
        })
    };
    let mut spec = spec.clone();
    spec.terminal = Some(size(std::io::stdout()));
    let forwarder = crate::signals::Forwarder::block()?;
    let mut running = conex_exec::spawn(&spec, Streams::default(), options).map_err(failed)?;
    notes(&running);
    forwarder.forward_to(running.signaller());
    let Some(terminal) = running.terminal.take() else {
        return Err(CliError::new("the container has no terminal"));
    };
    let raw = RawMode::enter(interactive);
    let resized = terminal.try_clone().doing(|| "cannot use the terminal".to_owned())?;
    let mut last = size(std::io::stdout());
    let result = pump(terminal, interactive, || {
        let now = size(std::io::stdout());
        if now != last {
            last = now;
            let size = conex_sys::pty::Size { rows: now.rows, columns: now.columns };
            // The next change is another chance.
            let _ = conex_sys::pty::resize(&resized, size);
        }
    });
    drop(raw);
    result?;
    Ok(running.wait().map_err(failed)?.code())
}

fn notes(running: &conex_exec::Running) {
    for note in running.notes() {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "note: {note}");
    }
}

fn failed(error: conex_exec::Error) -> CliError {
    let code = error.exit_code();
    CliError::from(error).with_code(code)
}

/// Time between two looks at the size of the terminal.
const TICK_MS: i64 = 250;

/// Copies what is typed to the container's terminal and what it prints to ours, until it closes.
fn pump(mut terminal: std::fs::File, interactive: bool, mut tick: impl FnMut()) -> Result<()> {
    let act = || "cannot use the terminal".to_owned();
    let mut stdin_open = interactive;
    let mut buffer = [0; 16 << 10];
    let input = std::io::stdin();
    let mut stdout = std::io::stdout().lock();
    loop {
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: TICK_MS * 1_000_000 };
        let mut fds = vec![PollFd::new(&terminal, PollFlags::IN)];
        if stdin_open {
            fds.push(PollFd::new(&input, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(CliError::because(act(), std::io::Error::from(error))),
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        let (from_container, from_person) = (ready(0), ready(1));
        drop(fds);
        tick();
        if from_container {
            match terminal.read(&mut buffer) {
                // The last program in the container closed the terminal.
                Ok(0) => return Ok(()),
                Err(error)
                    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(CliError::because(act(), error)),
                Ok(count) => {
                    stdout.write_all(&buffer[..count]).and_then(|()| stdout.flush()).doing(act)?;
                }
            }
        }
        if from_person {
            // Unbuffered on purpose: `Stdin`'s own buffer would hide bytes from poll.
            match rustix::io::read(&input, &mut buffer) {
                Ok(0) => stdin_open = false,
                Ok(count) => terminal.write_all(&buffer[..count]).doing(act)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(CliError::because(act(), std::io::Error::from(error))),
            }
        }
    }
}

/// Our terminal hands on every key as it is typed; put back when dropped.
struct RawMode(Option<Termios>);

impl RawMode {
    fn enter(interactive: bool) -> Self {
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else { return Self(None) };
        if !interactive {
            return Self(None);
        }
        let mut raw = before.clone();
        raw.make_raw();
        match tcsetattr(&stdin, OptionalActions::Now, &raw) {
            Ok(()) => Self(Some(before)),
            Err(_) => Self(None),
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs no mode.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
