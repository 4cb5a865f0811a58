//! Which lines the live display shows, given what is known and how much room there is.
//!
//! Invariants: no line is wider than the terminal and, while work goes on, the lines fit its
//! height. What runs or failed is shown before anything else; finished steps fold into one line
//! first, then waiting ones, then the output of running ones shrinks.

use std::time::Duration;

use conex_report::{Outcome, Unit};

use super::ProgressOptions;
use super::model::{Counts, Model, Part, State, Vertex};
use crate::text::{clean_line, ellipsis, pad, width};
use crate::{Palette, Size, human};

/// Widest lines: on a wider terminal the times at the right would be far from their names.
const CELLS_MAX: usize = 140;
/// Cells of a step's name that numbers never push away.
const NAME_CELLS_MIN: usize = 24;
/// Counts shown under one running step.
const PARTS_SHOWN_MAX: usize = 6;
/// Waiting steps shown by name when not all fit.
const WAITING_SHOWN_MAX: usize = 3;
/// Cells of a progress bar.
const BAR_CELLS: usize = 16;

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const SPINNER_STEP: Duration = Duration::from_millis(100);

struct Sheet<'m> {
    model: &'m Model,
    now: Duration,
    cells: usize,
    palette: Palette,
    tail_lines: usize,
}

/// The lines while work goes on.
pub(super) fn live(
    model: &Model,
    now: Duration,
    size: Size,
    options: &ProgressOptions,
) -> Vec<String> {
    // A single row holds the cursor and nothing that could be redrawn.
    if model.vertices.is_empty() || size.rows < 2 {
        return Vec::new();
    }
    let sheet = Sheet::new(model, now, size, options);
    let mut lines = vec![sheet.header(&options.title, &sheet.spinner())];
    // The cursor stands on a row of its own below the lines.
    let room = usize::from(size.rows).saturating_sub(2);
    sheet.push_steps(&mut lines, room);
    lines
}

/// The lines that stay: every step that ran, in full.
pub(super) fn last(
    model: &Model,
    now: Duration,
    size: Size,
    options: &ProgressOptions,
) -> Vec<String> {
    if model.vertices.is_empty() {
        return Vec::new();
    }
    let sheet = Sheet::new(model, now, size, options);
    let counts = model.counts();
    let mark = if counts.failed > 0 || counts.canceled > 0 {
        sheet.palette.error("✖")
    } else {
        sheet.palette.good("✔")
    };
    let mut lines = vec![sheet.header(&options.title, &mark)];
    for vertex in &model.vertices {
        // What was canceled before it began is counted above, and worth no line.
        let never_began = matches!(
            vertex.state,
            State::Waiting | State::Ended { took: None, outcome: Outcome::Canceled }
        );
        if !never_began {
            lines.push(sheet.step(vertex));
        }
        let reasons = vertex.explained.iter();
        lines.extend(reasons.map(|reason| sheet.palette.dim(&format!("     {reason}"))));
    }
    lines
}

impl<'m> Sheet<'m> {
    fn new(model: &'m Model, now: Duration, size: Size, options: &ProgressOptions) -> Self {
        // The last column stays free: a character there leaves the cursor in a state in which
        // terminals disagree about what erasing the line's rest erases.
        let cells = usize::from(size.columns).saturating_sub(1).clamp(1, CELLS_MAX);
        Self { model, now, cells, palette: options.palette, tail_lines: options.tail_lines }
    }

    fn spinner(&self) -> String {
        let step = self.now.saturating_sub(self.model.began).as_millis() / SPINNER_STEP.as_millis();
        let step = usize::try_from(step % SPINNER.len() as u128).unwrap_or(0);
        self.palette.active(SPINNER.get(step).copied().unwrap_or("*"))
    }

    /// `⠹ Building app  5/9 steps, 2 cached, 1 warning      3.2s`
    fn header(&self, title: &str, mark: &str) -> String {
        let Counts { all, ended, cached, failed, canceled } = self.model.counts();
        let mut counts = format!("{ended}/{all} steps");
        let warnings = self.model.findings.len();
        for (count, one, more) in [
            (cached, "cached", "cached"),
            (failed, "failed", "failed"),
            (canceled, "canceled", "canceled"),
            (warnings, "warning", "warnings"),
        ] {
            if count > 0 {
                counts += &format!(", {count} {}", if count == 1 { one } else { more });
            }
        }
        let time = human::seconds(self.now.saturating_sub(self.model.began));
        let title = crate::text::clean(title);
        let counts = self.palette.dim(&counts);
        let long = format!("{counts}  {time}");
        self.line(mark, &title, Palette::strong, &[long, time])
    }

    fn push_steps(&self, lines: &mut Vec<String>, room: usize) {
        let all = || self.model.vertices.iter();
        let is_active = |vertex: &Vertex| {
            let failed = matches!(vertex.state, State::Ended { outcome: Outcome::Failed(_), .. });
            failed || vertex.is_running()
        };
        let active = all().filter(|vertex| is_active(vertex)).count();
        let waiting = all().filter(|vertex| vertex.state == State::Waiting).count();
        let finished = all().count() - active - waiting;
        let active_share = Share::of(active, room);
        let room = room - active_share.lines();

        let folded = usize::from(finished > 0) + usize::from(waiting > 0);
        let details: Vec<Vec<String>> = all()
            .filter(|vertex| is_active(vertex))
            .take(active_share.shown)
            .map(|vertex| self.details(vertex))
            .collect();
        let used = |limit: usize| details.iter().map(|lines| lines.len().min(limit)).sum::<usize>();
        let for_details = room.saturating_sub(folded);
        let most = self.tail_lines + PARTS_SHOWN_MAX;
        let limit = (0..=most).rev().find(|limit| used(*limit) <= for_details).unwrap_or(0);
        let room = room - used(limit);

        let (finished_share, waiting_share) = if finished + waiting <= room {
            (Share::of(finished, finished), Share::of(waiting, waiting))
        } else {
            let for_waiting = room.saturating_sub(usize::from(finished > 0));
            let waiting = Share::of(waiting, for_waiting.min(WAITING_SHOWN_MAX));
            (Share::of(finished, room - waiting.lines()), waiting)
        };

        if finished_share.has_count {
            lines.push(self.fold("✔", finished_share.hidden, "finished"));
        }
        let (mut finished_seen, mut active_seen, mut waiting_seen) = (0, 0, 0);
        let mut details = details.into_iter();
        for vertex in all() {
            if is_active(vertex) {
                active_seen += 1;
                if active_seen <= active_share.shown {
                    lines.push(self.step(vertex));
                    let mut under = details.next().unwrap_or_default();
                    lines.extend(under.drain(under.len().saturating_sub(limit)..));
                }
            } else if vertex.state == State::Waiting {
                waiting_seen += 1;
                if waiting_seen <= waiting_share.shown {
                    lines.push(self.step(vertex));
                }
            } else {
                finished_seen += 1;
                if finished_seen > finished_share.hidden {
                    lines.push(self.step(vertex));
                }
            }
        }
        if active_share.has_count {
            lines.push(self.fold("…", active_share.hidden, "running"));
        }
        if waiting_share.has_count {
            lines.push(self.fold("…", waiting_share.hidden, "waiting"));
        }
    }

    fn fold(&self, mark: &str, count: usize, what: &str) -> String {
        let steps = if count == 1 { "step" } else { "steps" };
        let text = format!(" {mark} {count} {steps} {what}");
        self.palette.dim(&ellipsis(&text, self.cells))
    }

    /// ` ✔ [build 2/5] RUN make                    1.2s`
    fn step(&self, vertex: &Vertex) -> String {
        let palette = self.palette;
        let (mark, paint, rights): (_, fn(Palette, &str) -> String, _) = match &vertex.state {
            State::Waiting => (palette.dim("·"), Palette::dim, vec![String::new()]),
            State::Running { since } => {
                let time = human::seconds(self.now.saturating_sub(*since));
                (self.spinner(), unpainted, self.counts(vertex, &time))
            }
            State::Ended { took, outcome } => {
                let time = took.map(human::seconds).unwrap_or_default();
                match outcome {
                    Outcome::Done => (palette.good("✔"), unpainted, vec![palette.dim(&time)]),
                    Outcome::Cached => {
                        let word = self.model.reused;
                        (palette.reused("✔"), unpainted, vec![palette.reused(word)])
                    }
                    Outcome::Canceled => {
                        (palette.warning("■"), unpainted, vec![palette.warning("canceled")])
                    }
                    Outcome::Failed(_) => {
                        let word = format!("failed  {time}");
                        (palette.error("✖"), Palette::error, vec![palette.error(word.trim_end())])
                    }
                }
            }
        };
        self.line(&format!(" {mark}"), &vertex.name, paint, &rights)
    }

    /// What stands at the right of a running step, from the most to the least that can be said.
    fn counts(&self, vertex: &Vertex, time: &str) -> Vec<String> {
        let bytes = vertex.parts.iter().any(|part| part.unit == Unit::Bytes);
        let unit = if bytes { Unit::Bytes } else { Unit::Files };
        if vertex.parts.is_empty() {
            return vec![time.to_owned()];
        }
        let (current, total) = vertex.counted(unit);
        let amount = amount(unit, current, total);
        let rate = match vertex.rate(self.now) {
            Some(rate) if bytes => format!("  {}/s", human::human_size_short(rate)),
            _ => String::new(),
        };
        let Some(percent) = percent(current, total) else {
            return vec![
                format!("{amount}{rate}  {time}"),
                format!("{amount}  {time}"),
                time.to_owned(),
            ];
        };
        let bar = self.bar(percent);
        vec![
            format!("{amount}  {bar} {percent:3}%{rate}  {time}"),
            format!("{amount} {percent:3}%{rate}  {time}"),
            format!("{percent:3}%{rate}  {time}"),
            format!("{percent}% {time}"),
            time.to_owned(),
        ]
    }

    fn bar(&self, percent: u64) -> String {
        let full = usize::try_from(percent).unwrap_or(100).min(100) * BAR_CELLS / 100;
        let rest = "─".repeat(BAR_CELLS - full);
        format!("{}{}", self.palette.active(&"━".repeat(full)), self.palette.dim(&rest))
    }

    /// The lines under a running step: its counts if there are several, and its last output.
    fn details(&self, vertex: &Vertex) -> Vec<String> {
        if !vertex.is_running() {
            return Vec::new();
        }
        let several = vertex.parts.len() > 1;
        let parts = vertex.parts.iter().filter(|part| several && !part.is_complete());
        let parts: Vec<&Part> = parts.take(PARTS_SHOWN_MAX).collect();
        let name_cells = parts.iter().map(|part| width(&part.what)).max().unwrap_or(0);
        let mut lines: Vec<String> = parts
            .iter()
            .map(|part| {
                let amount = amount(part.unit, part.current, part.total);
                let text = format!("     {}  {amount}", pad(&part.what, name_cells));
                self.palette.dim(&ellipsis(&text, self.cells))
            })
            .collect();
        let tail = vertex.log.tail(self.tail_lines);
        let tail = tail.iter().map(|line| ellipsis(&format!("   │ {line}"), self.cells));
        lines.extend(tail.map(|line| self.palette.dim(&line)));
        lines
    }

    /// One line: a mark, a name cut where needed, and at the right the longest of `rights` for
    /// which enough of the name remains.
    fn line(
        &self,
        mark: &str,
        name: &str,
        paint: fn(Palette, &str) -> String,
        rights: &[String],
    ) -> String {
        let mark_cells = shown_width(mark) + 1;
        let room = self.cells.saturating_sub(mark_cells);
        let name_min = width(name).min(NAME_CELLS_MIN.max(self.cells / 3));
        let fits = |right: &&String| {
            let cells = shown_width(right);
            cells == 0 || name_min + 2 + cells <= room
        };
        let right = rights.iter().find(fits).map_or("", String::as_str);
        let right_cells = shown_width(right);
        let gap = if right_cells == 0 { 0 } else { 2 };
        let name = ellipsis(name, room.saturating_sub(right_cells + gap));
        if mark_cells >= self.cells {
            return crate::text::cut(&clean_line(mark), self.cells).to_owned();
        }
        let line = format!("{mark} {}", paint(self.palette, &name));
        if right_cells == 0 {
            return line;
        }
        let used = mark_cells + width(&name) + right_cells;
        let spaces = " ".repeat(self.cells.saturating_sub(used));
        format!("{line}{spaces}{right}")
    }
}

/// How many of a kind of step are shown by name, and how many are not.
#[derive(Debug, PartialEq, Eq)]
struct Share {
    shown: usize,
    hidden: usize,
    /// One line counts those that are not shown, if there is room for it.
    has_count: bool,
}

impl Share {
    /// Divides `count` steps so that they take at most `room` lines.
    fn of(count: usize, room: usize) -> Self {
        if count <= room {
            return Self { shown: count, hidden: 0, has_count: false };
        }
        let shown = room.saturating_sub(1);
        Self { shown, hidden: count - shown, has_count: room > 0 }
    }

    fn lines(&self) -> usize {
        self.shown + usize::from(self.has_count)
    }
}

fn unpainted(_: Palette, text: &str) -> String {
    text.to_owned()
}

fn shown_width(painted: &str) -> usize {
    width(&clean_line(painted))
}

/// `12.3MB / 45MB`, `120 / 400 files`
pub(super) fn amount(unit: Unit, current: u64, total: Option<u64>) -> String {
    let number = |number: u64| match unit {
        Unit::Bytes => human::human_size_short(number),
        Unit::Files => number.to_string(),
    };
    let mut text = number(current);
    if let Some(total) = total {
        text += &format!(" / {}", number(total));
    }
    if unit == Unit::Files {
        text += " files";
    }
    text
}

fn percent(current: u64, total: Option<u64>) -> Option<u64> {
    let total = total.filter(|total| *total > 0)?;
    let percent = u128::from(current.min(total)) * 100 / u128::from(total);
    u64::try_from(percent).ok()
}
