//! What is happening right now.

use serde::Serialize;

use crate::Diagnostic;

/// Names one piece of work (a build step, a layer on its way) for as long as its events last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct VertexId(pub u32);

/// Which of a process's streams a log line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done now.
    Done,
    /// An earlier result was used.
    Cached,
    /// It was stopped because other work failed or the person asked.
    Canceled,
    /// It failed; the text is for a person.
    Failed(String),
}

/// What a progress count counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files.
    Files,
}

/// One thing that happened. Events of one vertex come in order; those of several are interleaved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A piece of work is known (`[build 2/5] RUN make`) and may start later.
    Planned {
        /// The work.
        vertex: VertexId,
        /// What a person should read.
        name: String,
    },
    /// The work began.
    Started {
        /// The work.
        vertex: VertexId,
    },
    /// The work printed something; `data` may hold part of a line.
    Log {
        /// The work.
        vertex: VertexId,
        /// Where it printed.
        stream: LogStream,
        /// What it printed.
        #[serde(serialize_with = "lossy")]
        data: Vec<u8>,
    },
    /// How far a part of the work is.
    Progress {
        /// The work.
        vertex: VertexId,
        /// What is being counted (`sha256:1234… downloading`).
        what: String,
        /// What the numbers count.
        unit: Unit,
        /// How many so far.
        current: u64,
        /// How many in all, where that is known.
        total: Option<u64>,
    },
    /// The work ended.
    Finished {
        /// The work.
        vertex: VertexId,
        /// How it ended.
        outcome: Outcome,
    },
    /// A finding that does not stop the work.
    Finding(Diagnostic),
    /// A line for the person that belongs to no work (`using single-id user namespace, because …`).
    Note {
        /// The line.
        text: String,
    },
    /// Why a step hit or missed the cache, for `--explain`.
    Explained {
        /// The work.
        vertex: VertexId,
        /// The reason, one line each.
        lines: Vec<String>,
    },
}

fn lossy<S: serde::Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(data))
}

/// Takes events as they happen. Called from any thread; must return soon.
pub trait Reporter: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Takes events and forgets them.
#[derive(Debug, Clone, Copy)]
pub struct Discard;

impl Reporter for Discard {
    fn event(&self, _: Event) {}
}
