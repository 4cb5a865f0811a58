//! What stays on the screen after a failure: the failed step's last lines, uncut, and findings.
//!
//! Whoever asked for the work ends with the error itself, so that a step without output of its own
//! has nothing to add, unless several failed.

use std::fmt::Write as _;

use super::ProgressOptions;
use super::model::{Model, Vertex};
use crate::findings::{Findings, Source};
use crate::text::clean;

/// The failed steps for a terminal.
pub(super) fn steps(model: &Model, options: &ProgressOptions) -> String {
    let palette = options.palette;
    let mut text = String::new();
    let is_alone = model.failures().count() == 1;
    for (vertex, why) in model.failures() {
        let lines = last_lines(vertex, options);
        if lines.is_empty() && is_alone {
            continue;
        }
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "\n{} {}", palette.error("✖"), palette.strong(&vertex.name));
        let rail = palette.dim("│");
        for line in lines {
            let _ = writeln!(text, "  {rail} {line}");
        }
        for line in why.lines() {
            let _ = writeln!(text, "  {}", palette.error(&clean(line)));
        }
    }
    text
}

/// The failed steps for a log, between the rules that `docker build` draws. Why they failed stands
/// in the log already.
pub(super) fn steps_plain(model: &Model, options: &ProgressOptions) -> String {
    let mut text = String::new();
    for (vertex, _) in model.failures() {
        let lines = last_lines(vertex, options);
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(text, "------\n > {}:", vertex.name);
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "------");
    }
    text
}

fn last_lines(vertex: &Vertex, options: &ProgressOptions) -> Vec<String> {
    let mut lines = vertex.log.tail(options.failure_lines.saturating_add(1));
    if lines.len() > options.failure_lines {
        let shown = options.failure_lines;
        if let Some(first) = lines.first_mut() {
            *first = format!("… the last {shown} lines:");
        }
    }
    lines
}

/// The findings, with their lines where the text is known.
pub(super) fn findings(model: &Model, options: &ProgressOptions) -> String {
    if model.findings.is_empty() {
        return String::new();
    }
    let (name, text) = match &model.source {
        Some((name, text)) => (name.as_str(), text.as_str()),
        None => ("", ""),
    };
    let columns = (options.size)().columns;
    let findings = Findings::new(Source { name, text }, options.palette).with_columns(columns);
    format!("\n{}", findings.all(&model.findings))
}
