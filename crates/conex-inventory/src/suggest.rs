//! What to change, and the bytes that it would save.

use serde::Serialize;

use crate::caches::CACHE_KINDS;
use crate::image::{ImageReport, SourceLine};

/// Less than this is not worth a line: 64 KiB.
const SIZE_MIN: u64 = 64 << 10;

/// Most suggestions: what nobody reads helps nobody.
const COUNT_MAX: usize = 20;

/// Something to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// Bytes that it would save, unpacked.
    pub saves: u64,
    /// The layer whose instruction is to be changed.
    pub layer: usize,
    /// The line of that instruction, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
    /// What to do, in a sentence without a full stop.
    pub text: String,
}

/// Draws conclusions from a report, the most bytes first.
pub(crate) fn suggestions(report: &ImageReport) -> Vec<Suggestion> {
    let mut all = Vec::new();
    for waste in &report.waste {
        for step in &waste.steps {
            all.push(Suggestion {
                saves: step.size,
                layer: step.stored_in,
                source: None,
                text: of_waste(&waste.path, step.cause, step.stored_in, step.hidden_by),
            });
        }
    }
    for cache in &report.caches {
        let advice = CACHE_KINDS.iter().find(|kind| kind.name == cache.kind);
        let folder = cache.folders.first().map_or("", |folder| folder.path.as_str());
        let more = match cache.folders.len() {
            0 | 1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        let advice = advice.map_or("", |kind| kind.advice);
        all.push(Suggestion {
            saves: cache.size,
            layer: cache.layer,
            source: None,
            text: format!("`{folder}`{more}: {advice}"),
        });
    }
    for duplicate in &report.duplicates {
        let [first, second, ..] = duplicate.paths.as_slice() else { continue };
        let text = format!(
            "make `{first}` and `{second}` links to one file: the {} copies are equal",
            duplicate.copies
        );
        all.push(Suggestion {
            saves: duplicate.wasted_size,
            layer: duplicate.layer,
            source: None,
            text,
        });
    }
    all.retain(|one| one.saves >= SIZE_MIN);
    all.sort_by_key(|one| std::cmp::Reverse(one.saves));
    all.truncate(COUNT_MAX);
    for one in &mut all {
        one.source = report.layers.get(one.layer).and_then(|layer| layer.facts.source.clone());
    }
    all
}

fn of_waste(path: &str, cause: &str, stored_in: usize, hidden_by: usize) -> String {
    match cause {
        "deleted" => format!(
            "delete `{path}` in the instruction that makes it (layer {stored_in}): in layer \
             {hidden_by} that saves nothing"
        ),
        "rewritten" => format!(
            "set owner and mode of `{path}` where it is made (layer {stored_in}; `COPY --chown`, \
             `--chmod`): layer {hidden_by} stores all of it again for that"
        ),
        "replaced" => format!(
            "leave `{path}` out of layer {stored_in}: layer {hidden_by} has something else there"
        ),
        "repeated" => format!("write `{path}` once in layer {stored_in}"),
        _ => format!("write `{path}` once: layers {stored_in} and {hidden_by} both store it"),
    }
}
