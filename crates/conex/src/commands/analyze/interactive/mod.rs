//! The view in the terminal: layers on the left, their files on the right, dive's keys.
//!
//! [`model`] knows what is shown and what a key does, [`draw`] how it looks; only this file speaks
//! to the terminal, which is as it was when the view ends, however it ends.

mod draw;
mod keys;
mod model;
#[cfg(test)]
mod tests;

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use conex_inventory::{ImageReport, Limits, Tree};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use self::keys::Keys;
use self::model::{Effect, Model};
use super::{Analysis, take};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// How long a key is waited for before the size of the terminal is looked at again.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Runs the view until the person leaves it.
pub fn run(session: &Session, analysis: &Analysis) -> Result<()> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    if !conex_term::is_terminal(&stdin) || !conex_term::is_terminal(&stdout) {
        return Err(CliError::usage("`--interactive` needs a terminal")
            .with_hint("`--format html` makes a page that needs none"));
    }
    let report = ImageReport::of(&analysis.tree, &analysis.facts, Limits { rows: 1000 });
    let mut model = Model::new(analysis, &report)?;
    let colored = session.out_palette().is_colored();
    let _screen = Screen::enter().doing(|| "cannot set up the terminal".to_owned())?;
    let mut keys = Keys::default();
    let mut shown = (0, 0);
    let mut is_stale = true;
    loop {
        let size = conex_term::terminal_size(&stdout).unwrap_or(conex_term::Size::FALLBACK);
        let size = (usize::from(size.columns), usize::from(size.rows));
        if is_stale || size != shown {
            let lines = draw::lines(&mut model, size.0, size.1);
            paint(&lines, colored).doing(|| "cannot write to the terminal".to_owned())?;
            (shown, is_stale) = (size, false);
        }
        let mut events = [PollFd::new(&stdin, PollFlags::IN)];
        let ready = match rustix::event::poll(&mut events, Some(&WAIT)) {
            Ok(count) => count > 0,
            Err(rustix::io::Errno::INTR) => false,
            Err(error) => {
                return Err(CliError::because("cannot wait for a key", io::Error::from(error)));
            }
        };
        let mut bytes = [0; 256];
        let pressed = if ready {
            let count = stdin.lock().read(&mut bytes).doing(|| "cannot read a key".to_owned())?;
            if count == 0 {
                return Ok(());
            }
            keys.take(bytes.get(..count).unwrap_or_default())
        } else {
            keys.timed_out()
        };
        for key in pressed {
            is_stale = true;
            match model.press(key)? {
                Effect::None => {}
                Effect::Quit => return Ok(()),
                Effect::Extract(id) => {
                    model.status = match extract(analysis, &model.tree, id) {
                        Ok(name) => format!("wrote `{name}`"),
                        Err(error) => error.to_string(),
                    };
                }
            }
        }
    }
}

/// Writes a file of the image into the current folder; never over one that is there.
fn extract(analysis: &Analysis, tree: &Tree, id: u32) -> Result<String> {
    let entry = tree.entry(id);
    let name = String::from_utf8_lossy(entry.name).into_owned();
    if tree.place(id).is_none_or(|place| place.entry.is_none()) {
        return Err(CliError::new(format!("`{name}` is no file")));
    }
    let mut result = Ok(());
    take::contents(&analysis.subject, tree, &[id], &mut |_, taken| {
        let path = Path::new(&name);
        let act = || format!("cannot write `{name}` here");
        let mut file = std::fs::File::create_new(path).doing(act)?;
        result = io::copy(taken.content, &mut file).doing(act).map(drop);
        Ok(())
    })?;
    result.map(|()| name)
}

/// Writes all lines at their places, so that nothing flickers.
fn paint(lines: &[draw::Line], colored: bool) -> io::Result<()> {
    let mut text = String::from("\x1b[?25l\x1b[H");
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            text.push_str("\r\n");
        }
        for span in line {
            match (colored, span.style.code()) {
                (_, "") => text.push_str(&span.text),
                // Where the cursor is must be seen without colours too.
                (false, _) if span.style == draw::Style::Chosen => {
                    text.push_str(&format!("\x1b[7m{}\x1b[0m", span.text));
                }
                (false, _) => text.push_str(&span.text),
                (true, code) => text.push_str(&format!("\x1b[{code}m{}\x1b[0m", span.text)),
            }
        }
        text.push_str("\x1b[K");
    }
    text.push_str("\x1b[J");
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The terminal while it is ours: no echo, no line editing, its second screen.
struct Screen {
    before: Termios,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self { before };
        io::stdout().write_all(b"\x1b[?1049h\x1b[2J")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone cannot be set back.
        let mut out = io::stdout();
        let _ = out.write_all(b"\x1b[?1049l\x1b[?25h");
        let _ = out.flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
