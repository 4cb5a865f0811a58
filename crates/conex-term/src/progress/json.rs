//! Progress for programs: one JSON object a line, an event with its time.
//!
//! Invariant: a character is never torn apart, although a step's output arrives in pieces: the
//! first bytes of an unfinished character wait for the rest.

use std::collections::HashMap;
use std::time::Duration;

use conex_report::{Event, LogStream, VertexId};
use serde::Serialize;

use super::model::Model;

#[derive(Serialize)]
struct Line<'e> {
    /// Since the progress began.
    time_ms: u64,
    #[serde(flatten)]
    event: &'e Event,
}

#[derive(Default)]
pub(super) struct Json {
    /// Unfinished characters, by step; standard output's first.
    unfinished: HashMap<VertexId, [Vec<u8>; 2]>,
}

impl Json {
    pub(super) fn event(&mut self, event: Event, now: Duration, model: &Model, out: &mut String) {
        let since = now.saturating_sub(model.began);
        match event {
            Event::Log { vertex, stream, data } => {
                let [stdout, stderr] = self.unfinished.entry(vertex).or_default();
                let unfinished = match stream {
                    LogStream::Stdout => stdout,
                    LogStream::Stderr => stderr,
                };
                unfinished.extend_from_slice(&data);
                let complete = unfinished.len() - unfinished_size(unfinished);
                let rest = unfinished.split_off(complete);
                let data = std::mem::replace(unfinished, rest);
                if !data.is_empty() {
                    push(&Event::Log { vertex, stream, data }, since, out);
                }
            }
            Event::Finished { vertex, .. } => {
                self.flush(vertex, since, out);
                push(&event, since, out);
            }
            event => push(&event, since, out),
        }
    }

    pub(super) fn finish(&mut self, model: &Model, now: Duration, out: &mut String) {
        let mut vertices: Vec<VertexId> = self.unfinished.keys().copied().collect();
        vertices.sort_unstable();
        for vertex in vertices {
            self.flush(vertex, now.saturating_sub(model.began), out);
        }
    }

    fn flush(&mut self, vertex: VertexId, since: Duration, out: &mut String) {
        let Some([stdout, stderr]) = self.unfinished.remove(&vertex) else { return };
        for (stream, data) in [(LogStream::Stdout, stdout), (LogStream::Stderr, stderr)] {
            if !data.is_empty() {
                push(&Event::Log { vertex, stream, data }, since, out);
            }
        }
    }
}

fn push(event: &Event, since: Duration, out: &mut String) {
    let time_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    match serde_json::to_string(&Line { time_ms, event }) {
        Ok(line) => out.push_str(&line),
        // Only a map with keys that are no texts could fail, and an event holds no map.
        Err(error) => out.push_str(&serde_json::json!({ "error": error.to_string() }).to_string()),
    }
    out.push('\n');
}

/// How many bytes at the end begin a character that is not finished.
fn unfinished_size(data: &[u8]) -> usize {
    for (size, byte) in (1..=3).zip(data.iter().rev()) {
        let whole = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if whole > size { size } else { 0 };
    }
    0
}
