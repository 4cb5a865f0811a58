//! Progress on standard error, as the terminal allows it.

use std::sync::Arc;
use std::time::Instant;

use conex_term::{Mode, Progress, ProgressOptions, Size};

use crate::session::Session;
use crate::settings::variable;

/// Chooses between a live display and plain lines.
pub fn auto() -> Mode {
    let text = |name| variable(name).map(|value| value.to_string_lossy().into_owned());
    let is_ci = text("CI").is_some_and(|ci| ci != "false");
    conex_term::auto_mode(
        conex_term::is_terminal(std::io::stderr()),
        text("TERM").as_deref(),
        is_ci,
    )
}

/// Starts to show progress.
pub fn start(session: &Session, mode: Mode, title: String) -> Progress {
    start_with(session, mode, title, "CACHED")
}

fn start_with(session: &Session, mode: Mode, title: String, reused: &'static str) -> Progress {
    let begin = Instant::now();
    let size = || {
        let size = conex_term::terminal_size(std::io::stderr());
        size.unwrap_or(Size { columns: 80, rows: 24 })
    };
    let options = ProgressOptions::new(
        title,
        session.err_palette(),
        Arc::new(move || begin.elapsed()),
        Arc::new(size),
    );
    let options = ProgressOptions { reused, ..options };
    Progress::start(mode, Box::new(std::io::stderr()), options)
}

/// Starts to show a transfer: live on a terminal, else nothing but what is wrong.
pub fn of_transfer(session: &Session, quiet: bool, title: String) -> Progress {
    let mode = if quiet { Mode::Quiet } else { auto() };
    start_with(session, mode, title, "already exists")
}
