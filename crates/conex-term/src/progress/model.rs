//! What is known of the work: every step's state, counts and output.
//!
//! Invariant: any order of events is taken, also one that no honest builder sends; what is unknown
//! is made up, what is late is ignored, and memory stays bounded for each step.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use conex_report::{Diagnostic, Event, Outcome, Unit, VertexId};

use super::logs::{Log, LogLine};
use crate::text::{clean, ellipsis};

/// Counts kept for one step; an image has at most 127 layers.
const PARTS_MAX: usize = 256;
/// Longest name of a step or count kept, in cells; a heredoc may make one of megabytes.
const NAME_CELLS_MAX: usize = 1_000;
/// Findings, notes and reasons kept.
const REMARKS_MAX: usize = 10_000;
/// Counts that a rate is computed from, and the time between two of them: two seconds together.
const SAMPLES_MAX: usize = 8;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

pub(super) struct Model {
    pub(super) began: Duration,
    /// The steps in the order in which they became known.
    pub(super) vertices: Vec<Vertex>,
    places: HashMap<VertexId, usize>,
    pub(super) findings: Vec<Diagnostic>,
    /// Lines that belong to no step and were not shown yet.
    pub(super) notes: Vec<String>,
    /// The name and the text that findings are about.
    pub(super) source: Option<(String, String)>,
    /// What is said of a step that an earlier result was used for.
    pub(super) reused: &'static str,
}

pub(super) struct Vertex {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) parts: Vec<Part>,
    pub(super) log: Log,
    pub(super) explained: Vec<String>,
    /// Bytes counted by all parts, by time.
    samples: VecDeque<(Duration, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Running { since: Duration },
    Ended { took: Option<Duration>, outcome: Outcome },
}

#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) current: u64,
    pub(super) total: Option<u64>,
    pub(super) since: Duration,
}

impl Part {
    pub(super) fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| self.current >= total)
    }
}

/// How many steps are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) all: usize,
    pub(super) ended: usize,
    pub(super) cached: usize,
    pub(super) failed: usize,
    pub(super) canceled: usize,
}

impl Model {
    pub(super) fn new(now: Duration, reused: &'static str) -> Self {
        Self {
            reused,
            began: now,
            vertices: Vec::new(),
            places: HashMap::new(),
            findings: Vec::new(),
            notes: Vec::new(),
            source: None,
        }
    }

    pub(super) fn vertex(&self, id: VertexId) -> Option<&Vertex> {
        self.vertices.get(*self.places.get(&id)?)
    }

    /// Takes an event; returns the lines of output that it completed.
    pub(super) fn event(&mut self, event: &Event, now: Duration) -> Vec<LogLine> {
        match event {
            Event::Planned { vertex, name } => {
                let name = short(name);
                self.known(*vertex).name = name;
            }
            Event::Started { vertex } => {
                let vertex = self.known(*vertex);
                if vertex.state == State::Waiting {
                    vertex.state = State::Running { since: now };
                }
            }
            Event::Log { vertex, stream, data } => {
                return self.known(*vertex).log.push(*stream, data, now);
            }
            Event::Progress { vertex, what, unit, current, total } => {
                let part = Part {
                    what: short(what),
                    unit: *unit,
                    current: *current,
                    total: *total,
                    since: now,
                };
                self.known(*vertex).count(part, now);
            }
            Event::Finished { vertex, outcome } => {
                let vertex = self.known(*vertex);
                let took = match vertex.state {
                    State::Waiting => None,
                    State::Running { since } => Some(now.saturating_sub(since)),
                    State::Ended { .. } => return Vec::new(),
                };
                vertex.state = State::Ended { took, outcome: outcome.clone() };
                return vertex.log.end(now);
            }
            Event::Finding(finding) => push_bounded(&mut self.findings, finding.clone()),
            Event::Note { text } => {
                for line in text.lines() {
                    push_bounded(&mut self.notes, clean(line));
                }
            }
            Event::Explained { vertex, lines } => {
                let vertex = self.known(*vertex);
                for line in lines {
                    push_bounded(&mut vertex.explained, clean(line));
                }
            }
        }
        Vec::new()
    }

    pub(super) fn last_lines(&self, id: VertexId, count: usize) -> Vec<String> {
        self.vertex(id).map(|vertex| vertex.log.tail(count)).unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { all: self.vertices.len(), ..Counts::default() };
        for vertex in &self.vertices {
            let State::Ended { outcome, .. } = &vertex.state else { continue };
            counts.ended += 1;
            match outcome {
                Outcome::Done => {}
                Outcome::Cached => counts.cached += 1,
                Outcome::Canceled => counts.canceled += 1,
                Outcome::Failed(_) => counts.failed += 1,
            }
        }
        counts
    }

    /// The steps that failed, with what was said about it.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&Vertex, &str)> {
        self.vertices.iter().filter_map(|vertex| match &vertex.state {
            State::Ended { outcome: Outcome::Failed(why), .. } => Some((vertex, why.as_str())),
            _ => None,
        })
    }

    fn known(&mut self, id: VertexId) -> &mut Vertex {
        let place = *self.places.entry(id).or_insert_with(|| {
            self.vertices.push(Vertex::new(id));
            self.vertices.len() - 1
        });
        &mut self.vertices[place]
    }
}

impl Vertex {
    fn new(id: VertexId) -> Self {
        Self {
            name: format!("step {}", id.0),
            state: State::Waiting,
            parts: Vec::new(),
            log: Log::default(),
            explained: Vec::new(),
            samples: VecDeque::new(),
        }
    }

    fn count(&mut self, part: Part, now: Duration) {
        if let Some(known) = self.parts.iter_mut().find(|known| known.what == part.what) {
            *known = Part { since: known.since, ..part };
        } else if self.parts.len() < PARTS_MAX {
            self.parts.push(part);
        } else {
            return;
        }
        let due =
            self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SAMPLE_INTERVAL);
        if due {
            if self.samples.len() == SAMPLES_MAX {
                self.samples.pop_front();
            }
            let counted = self.counted(Unit::Bytes).0;
            self.samples.push_back((now, counted));
        }
    }

    /// How many of a unit all parts have counted, and how many there are if all parts know.
    pub(super) fn counted(&self, unit: Unit) -> (u64, Option<u64>) {
        let parts = || self.parts.iter().filter(|part| part.unit == unit);
        let current = parts().fold(0, |sum: u64, part| sum.saturating_add(part.current));
        let total = parts()
            .map(|part| part.total)
            .try_fold(0, |sum: u64, total| Some(sum.saturating_add(total?)));
        (current, total)
    }

    /// Bytes a second over the last two seconds, once there is half a second to tell from.
    pub(super) fn rate(&self, now: Duration) -> Option<u64> {
        let (oldest, before) = *self.samples.front()?;
        let millis = u64::try_from(now.saturating_sub(oldest).as_millis()).unwrap_or(u64::MAX);
        let counted = self.counted(Unit::Bytes).0.saturating_sub(before);
        let rate = u128::from(counted) * 1000 / u128::from(millis.max(1));
        (millis >= 500 && counted > 0).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

fn short(name: &str) -> String {
    // Cut before cleaning, so that a name of megabytes costs nothing.
    let head: String = name.chars().take(NAME_CELLS_MAX * 4).collect();
    ellipsis(&clean(&head), NAME_CELLS_MAX)
}

fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() < REMARKS_MAX {
        list.push(item);
    }
}
