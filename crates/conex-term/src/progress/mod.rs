//! Shows events as they happen: a live display, a log for CI, one JSON object a line, or silence.
//!
//! Events only change a model and an outbox; one thread writes. So a slow terminal (or one stopped
//! with Ctrl-S) never holds up the work, until [`OUTBOX_SIZE_MAX`] is waiting to be written.
//!
//! Invariants: every write is a whole frame or whole lines, and leaves the terminal as it found it
//! (cursor shown, no colour), so that a process killed between two writes needs no clean-up.
//! Redraws come at most every [`FRAME_INTERVAL`].
//!
//! Lock order: the writer's lock, then the state's; an event takes the state's lock only.

mod failure;
mod json;
mod layout;
mod logs;
mod model;
mod plain;
mod screen;

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use conex_report::{Event, Reporter, VertexId};

use crate::{Error, Palette, Size};
use model::Model;

/// Time from one redraw to the next, at least: 20 a second is smooth, more costs and is not seen.
const FRAME_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes that may wait to be written before work has to wait for the reader of its output.
const OUTBOX_SIZE_MAX: usize = 1 << 20;

/// Log lines shown under a running step, unless told otherwise.
pub const TAIL_LINES: usize = 5;
/// Log lines shown of a failed step, unless told otherwise.
const FAILURE_LINES: usize = 50;
/// What is said of a step that an earlier result was used for, unless told otherwise.
const REUSED: &str = "CACHED";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A display that is redrawn in place.
    Tty,
    /// Lines that a log can hold.
    Plain,
    /// One JSON object a line.
    Json,
    /// Nothing, but the output of a step that failed.
    Quiet,
}

/// Chooses between [`Mode::Tty`] and [`Mode::Plain`], given whether progress goes to a terminal,
/// the value of `TERM`, and whether this is a CI job (`CI` is set and neither empty nor `false`).
pub fn auto_mode(is_terminal: bool, term: Option<&str>, is_ci: bool) -> Mode {
    let can_redraw = term.is_some_and(|term| !term.is_empty() && term != "dumb");
    if is_terminal && can_redraw && !is_ci { Mode::Tty } else { Mode::Plain }
}

/// Tells the time since some moment before the progress began; never goes back.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;
/// Tells how large the terminal is now.
pub type SizeOf = Arc<dyn Fn() -> Size + Send + Sync>;
/// Where progress goes.
pub type Writer = Box<dyn Write + Send>;

/// What progress needs to know.
#[derive(Clone)]
pub struct ProgressOptions {
    /// What is being done, in the display's first line: `Building app:latest`.
    pub title: String,
    /// The colours.
    pub palette: Palette,
    /// The time.
    pub clock: Clock,
    /// How large the terminal is; asked before every frame.
    pub size: SizeOf,
    /// Log lines shown under a running step.
    pub tail_lines: usize,
    /// Log lines shown of a failed step.
    pub failure_lines: usize,
    /// What is said of a step that an earlier result was used for.
    pub reused: &'static str,
}

impl ProgressOptions {
    /// Takes what has no sensible default, and the defaults for the rest.
    pub fn new(title: impl Into<String>, palette: Palette, clock: Clock, size: SizeOf) -> Self {
        Self {
            title: title.into(),
            palette,
            clock,
            size,
            tail_lines: TAIL_LINES,
            failure_lines: FAILURE_LINES,
            reused: REUSED,
        }
    }
}

/// Shows events until it is finished or dropped.
pub struct Progress {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: ProgressOptions,
    output: Mutex<Output>,
    state: Mutex<State>,
    /// Something may be written.
    wake: Condvar,
    /// Something was written.
    drained: Condvar,
}

/// The writer, and the first error it gave; nothing is written after that.
struct Output {
    writer: Writer,
    error: Option<std::io::Error>,
}

struct State {
    model: Model,
    view: View,
    /// Text that waits to be written, whole lines.
    outbox: String,
    /// No more events are taken.
    closed: bool,
    /// The writer gave an error.
    broken: bool,
}

enum View {
    Tty(screen::Screen),
    Plain(plain::Plain),
    Json(json::Json),
    Quiet,
}

impl Progress {
    /// Starts showing events.
    pub fn start(mode: Mode, writer: Writer, options: ProgressOptions) -> Self {
        let now = (options.clock)();
        let view = match mode {
            Mode::Tty => View::Tty(screen::Screen::default()),
            Mode::Plain => View::Plain(plain::Plain::default()),
            Mode::Json => View::Json(json::Json::default()),
            Mode::Quiet => View::Quiet,
        };
        let state = State {
            model: Model::new(now, options.reused),
            view,
            outbox: String::new(),
            closed: false,
            broken: false,
        };
        let shared = Arc::new(Shared {
            options,
            output: Mutex::new(Output { writer, error: None }),
            state: Mutex::new(state),
            wake: Condvar::new(),
            drained: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || for_thread.run())
            // Without a thread there is no progress but the last frame, which `finish` writes.
            .ok();
        Self { shared, thread: Mutex::new(thread) }
    }

    /// Names the text that findings are about, so that they are shown with their lines.
    pub fn set_source(&self, name: impl Into<String>, text: impl Into<String>) {
        self.shared.state().model.source = Some((name.into(), text.into()));
    }

    /// Takes the display away, runs something that writes to the terminal itself (a question, a
    /// shell), and brings the display back. Events are taken meanwhile, and nothing is written.
    /// `work` must neither finish nor suspend this progress: both wait for it to be over.
    pub fn suspend<R>(&self, work: impl FnOnce() -> R) -> R {
        let mut output = self.shared.output();
        let mut state = self.shared.state();
        let mut text = std::mem::take(&mut state.outbox);
        if let View::Tty(screen) = &mut state.view {
            text.insert_str(0, &screen.cleared((self.shared.options.size)()));
        }
        drop(state);
        self.shared.write(&mut output, &text);
        work()
    }

    /// The last lines that a step printed, oldest first, made harmless.
    pub fn last_lines(&self, vertex: VertexId, count: usize) -> Vec<String> {
        self.shared.state().model.last_lines(vertex, count)
    }

    /// Writes what is still to be written, the failed steps' last lines and the findings; takes no
    /// more events. Only the first call does anything.
    pub fn finish(&self) -> Result<(), Error> {
        if std::mem::replace(&mut self.shared.state().closed, true) {
            return Ok(());
        }
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was already told by the panic hook; there is no more to say.
            let _ = thread.join();
        }
        let mut output = self.shared.output();
        let text = self.shared.state().last_text(&self.shared.options);
        self.shared.write(&mut output, &text);
        match output.error.take() {
            Some(error) => Err(Error::terminal("write progress", error)),
            None => Ok(()),
        }
    }
}

impl Reporter for Progress {
    fn event(&self, event: Event) {
        let now = (self.shared.options.clock)();
        let mut state = self.shared.state();
        if state.closed {
            return;
        }
        state.event(event, now);
        let must_wake = !state.outbox.is_empty();
        while state.outbox.len() > OUTBOX_SIZE_MAX && !state.broken && !state.closed {
            self.shared.wake.notify_all();
            state = self.shared.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        if must_wake {
            self.shared.wake.notify_all();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Whoever cares about a failed write calls `finish`.
        let _ = self.finish();
    }
}

impl Shared {
    // The state is plain data that each event leaves whole; a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the progress is closed.
    fn run(&self) {
        loop {
            let state = self.wait();
            let closed = state.closed;
            drop(state);
            if closed {
                self.drained.notify_all();
                return;
            }
            let mut output = self.output();
            let now = (self.options.clock)();
            let text = self.state().text_now(now, &self.options);
            self.drained.notify_all();
            self.write(&mut output, &text);
        }
    }

    /// Waits for the next frame's time; where lines are written, for a line at most as long.
    fn wait(&self) -> MutexGuard<'_, State> {
        let waited = self.wake.wait_timeout_while(self.state(), FRAME_INTERVAL, |state| {
            let has_lines = !matches!(state.view, View::Tty(_)) && !state.outbox.is_empty();
            !state.closed && !has_lines
        });
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn write(&self, output: &mut Output, text: &str) {
        if text.is_empty() || output.error.is_some() {
            return;
        }
        let written = output.writer.write_all(text.as_bytes()).and_then(|()| output.writer.flush());
        if let Err(error) = written {
            output.error = Some(error);
            self.state().broken = true;
            self.drained.notify_all();
        }
    }
}

impl State {
    fn event(&mut self, event: Event, now: Duration) {
        let lines = self.model.event(&event, now);
        match &mut self.view {
            View::Tty(_) | View::Quiet => {}
            View::Plain(plain) => plain.event(&self.model, &event, lines, now, &mut self.outbox),
            View::Json(json) => json.event(event, now, &self.model, &mut self.outbox),
        }
        if self.broken {
            self.outbox.clear();
        }
    }

    /// What is to be written now.
    fn text_now(&mut self, now: Duration, options: &ProgressOptions) -> String {
        match &mut self.view {
            View::Tty(screen) => {
                let size = (options.size)();
                let above = std::mem::take(&mut self.model.notes);
                let lines = layout::live(&self.model, now, size, options);
                return screen.frame(&above, lines, size);
            }
            View::Plain(plain) => plain.tick(&self.model, now, &mut self.outbox),
            View::Json(_) | View::Quiet => {}
        }
        std::mem::take(&mut self.outbox)
    }

    /// What is to be written at the end.
    fn last_text(&mut self, options: &ProgressOptions) -> String {
        let now = (options.clock)();
        let mut text = std::mem::take(&mut self.outbox);
        match &mut self.view {
            View::Tty(screen) => {
                let size = (options.size)();
                let above = std::mem::take(&mut self.model.notes);
                let lines = layout::last(&self.model, now, size, options);
                text += &screen.frame(&above, lines, size);
                text += &failure::steps(&self.model, options);
                text += &failure::findings(&self.model, options);
            }
            View::Plain(plain) => {
                plain.finish(&self.model, &mut text);
                text += &failure::steps_plain(&self.model, options);
                text += &failure::findings(&self.model, options);
            }
            View::Quiet => text += &failure::steps_plain(&self.model, options),
            View::Json(json) => json.finish(&self.model, now, &mut text),
        }
        text
    }
}

#[cfg(test)]
mod tests;
