//! Progress as lines, in the form that `docker build --progress=plain` made known.
//!
//! Invariant: every line bears its step's number, and a step's lines stay together: one step has
//! the floor, the others' lines wait until it ends, or until they have waited [`PATIENCE`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use conex_report::{Event, Outcome, VertexId};

use super::layout::amount;
use super::logs::LogLine;
use super::model::{Model, State};
use crate::text::clean;

/// How long a step's lines wait for another step that has the floor.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes that may wait, whatever the time.
const WAITING_SIZE_MAX: usize = 256 << 10;
/// Time between two lines about the same count.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Plain {
    numbers: HashMap<VertexId, usize>,
    floor: Option<VertexId>,
    queues: BTreeMap<VertexId, Queue>,
    waiting_size: usize,
    ended: HashSet<VertexId>,
    counts: HashMap<(VertexId, String), Count>,
    has_spoken: bool,
}

/// Lines of a step that has not the floor.
struct Queue {
    since: Duration,
    lines: Vec<String>,
}

struct Count {
    at: Duration,
    is_complete: bool,
}

impl Plain {
    pub(super) fn event(
        &mut self,
        model: &Model,
        event: &Event,
        lines: Vec<LogLine>,
        now: Duration,
        out: &mut String,
    ) {
        match event {
            Event::Planned { .. } | Event::Finding(_) => {}
            // A step that ended cannot begin again.
            Event::Started { vertex } if self.ended.contains(vertex) => {}
            Event::Started { vertex } => self.say(model, *vertex, None, now, out),
            Event::Log { vertex, .. } => self.say_lines(model, *vertex, lines, now, out),
            Event::Progress { vertex, what, .. } => self.count(model, *vertex, what, now, out),
            Event::Finished { vertex, outcome } => {
                if self.ended.contains(vertex) {
                    return;
                }
                self.say_lines(model, *vertex, lines, now, out);
                self.end(model, *vertex, outcome, now, out);
            }
            Event::Note { text } => {
                for line in text.lines() {
                    let _ = writeln!(out, "{}", clean(line)); // a String takes all
                }
            }
            Event::Explained { vertex, lines } => {
                for line in lines {
                    let line = format!("explain: {}", clean(line));
                    self.say(model, *vertex, Some(line), now, out);
                }
            }
        }
    }

    /// Gives the floor to whoever has waited too long.
    pub(super) fn tick(&mut self, model: &Model, now: Duration, out: &mut String) {
        let Some((vertex, since)) = self.next_in_line() else { return };
        let is_due = now.saturating_sub(since) >= PATIENCE || self.waiting_size > WAITING_SIZE_MAX;
        if is_due || self.floor.is_none() {
            self.give_floor(model, vertex, out);
        }
    }

    /// Writes all that waits.
    pub(super) fn finish(&mut self, model: &Model, out: &mut String) {
        while let Some((vertex, _)) = self.next_in_line() {
            self.give_floor(model, vertex, out);
        }
    }

    fn say_lines(
        &mut self,
        model: &Model,
        vertex: VertexId,
        lines: Vec<LogLine>,
        now: Duration,
        out: &mut String,
    ) {
        let began = match model.vertex(vertex).map(|vertex| &vertex.state) {
            Some(State::Running { since }) => Some(*since),
            Some(State::Ended { took: Some(took), .. }) => Some(now.saturating_sub(*took)),
            _ => None,
        };
        for LogLine { at, text } in lines {
            let at = stamp(at.saturating_sub(began.unwrap_or(at)));
            self.say(model, vertex, Some(format!("{at} {text}")), now, out);
        }
    }

    /// Says a line of a step, or that it began, now or as soon as it has the floor.
    fn say(
        &mut self,
        model: &Model,
        vertex: VertexId,
        line: Option<String>,
        now: Duration,
        out: &mut String,
    ) {
        if self.floor != Some(vertex) {
            let queue = self
                .queues
                .entry(vertex)
                .or_insert_with(|| Queue { since: now, lines: Vec::new() });
            self.waiting_size += line.as_ref().map_or(0, String::len);
            queue.lines.extend(line);
            self.tick(model, now, out);
            return;
        }
        if let Some(line) = line {
            self.write(vertex, &line, out);
        }
    }

    fn count(
        &mut self,
        model: &Model,
        vertex: VertexId,
        what: &str,
        now: Duration,
        out: &mut String,
    ) {
        let what = clean(what);
        let Some(known) = model.vertex(vertex) else { return };
        let Some(part) = known.parts.iter().find(|part| part.what == what) else { return };
        let is_complete = part.is_complete();
        let (amount, since) = (amount(part.unit, part.current, part.total), part.since);
        let count = self
            .counts
            .entry((vertex, what.clone()))
            .or_insert(Count { at: now, is_complete: false });
        let due = now.saturating_sub(count.at) >= COUNT_INTERVAL;
        if count.is_complete || !(is_complete || due) {
            return;
        }
        *count = Count { at: now, is_complete };
        let time = tenths(now.saturating_sub(since));
        let done = if is_complete { " done" } else { "" };
        self.say(model, vertex, Some(format!("{what} {amount} {time}{done}")), now, out);
    }

    fn end(
        &mut self,
        model: &Model,
        vertex: VertexId,
        outcome: &Outcome,
        now: Duration,
        out: &mut String,
    ) {
        let took = match model.vertex(vertex).map(|vertex| &vertex.state) {
            Some(State::Ended { took, .. }) => *took,
            _ => None,
        };
        let line = match outcome {
            Outcome::Done => format!("DONE {}", tenths(took.unwrap_or_default())),
            Outcome::Cached => model.reused.to_owned(),
            // A step that never began has nothing to be canceled.
            Outcome::Canceled if took.is_none() => return,
            Outcome::Canceled => "CANCELED".to_owned(),
            Outcome::Failed(why) => {
                let why: Vec<String> = why.lines().map(clean).collect();
                format!("ERROR: {}", why.join(": "))
            }
        };
        self.say(model, vertex, Some(line), now, out);
        self.ended.insert(vertex);
        if self.floor == Some(vertex) {
            self.floor = None;
        }
        // Those that ended meanwhile are told in full; the first that still runs keeps the floor.
        while self.floor.is_none() {
            let Some((vertex, _)) = self.next_in_line() else { break };
            self.give_floor(model, vertex, out);
        }
    }

    /// Who has waited longest; those that ended go before those that still run.
    fn next_in_line(&self) -> Option<(VertexId, Duration)> {
        self.queues
            .iter()
            .map(|(vertex, queue)| (!self.ended.contains(vertex), queue.since, *vertex))
            .min()
            .map(|(_, since, vertex)| (vertex, since))
    }

    fn give_floor(&mut self, model: &Model, vertex: VertexId, out: &mut String) {
        if let Some(before) = self.floor {
            self.write(before, "...", out);
        }
        if self.has_spoken {
            out.push('\n');
        }
        self.has_spoken = true;
        let name = model.vertex(vertex).map_or("", |vertex| vertex.name.as_str());
        self.write(vertex, name, out);
        if let Some(queue) = self.queues.remove(&vertex) {
            for line in queue.lines {
                self.waiting_size = self.waiting_size.saturating_sub(line.len());
                self.write(vertex, &line, out);
            }
        }
        self.floor = (!self.ended.contains(&vertex)).then_some(vertex);
    }

    fn write(&mut self, vertex: VertexId, line: &str, out: &mut String) {
        let next = self.numbers.len() + 1;
        let number = *self.numbers.entry(vertex).or_insert(next);
        let line = format!("#{number} {line}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn tenths(time: Duration) -> String {
    let tenths = time.as_millis() / 100;
    format!("{}.{}s", tenths / 10, tenths % 10)
}

/// The time of a log line since its step began, in five characters: `0.412`, `12.41`, `124.1`.
fn stamp(time: Duration) -> String {
    let millis = time.as_millis();
    let (whole, rest) = (millis / 1000, millis % 1000);
    match whole {
        0..10 => format!("{whole}.{rest:03}"),
        10..100 => format!("{whole}.{:02}", rest / 10),
        100..1000 => format!("{whole}.{}", rest / 100),
        _ => whole.to_string(),
    }
}
