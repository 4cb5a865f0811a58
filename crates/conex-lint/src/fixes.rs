//! Makes the edits of findings, and says how BuildKit's checks are mended.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::Rule;
use crate::context::Context;
use crate::finding::{Edit, Finding, Fix, Safety};
use crate::lint::{LintOptions, lint};

mod buildkit;

pub(crate) use buildkit::complete;

/// Most rounds of edits. Each round mends something, and what one round uncovers (a line that was
/// merged) the next one mends; more rounds than nested faults would be a rule that undoes another.
const ROUND_COUNT_MAX: usize = 50;

/// What mending came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The text with everything mended that could be.
    pub text: String,
    /// How many findings were mended.
    pub count: usize,
}

/// Mends what can be mended by edits up to `safety`, until nothing more can. `select` says which
/// findings are meant.
///
/// An edit after which the file no longer parses, or after which a script that could be read no
/// longer can, is not made.
pub fn fix(
    text: &str,
    options: &LintOptions<'_>,
    safety: Safety,
    select: &dyn Fn(&Finding) -> bool,
) -> Fixed {
    let mut fixed = Fixed { text: text.to_owned(), count: 0 };
    // Those that would have broken something.
    let mut refused: Vec<Fix> = Vec::new();
    for _ in 0..ROUND_COUNT_MAX {
        let linted = lint(fixed.text.as_bytes(), options);
        let broken = brokenness(&linted.findings);
        let mut fixes: Vec<&Fix> = linted
            .findings
            .iter()
            .filter(|finding| select(finding))
            .filter_map(|finding| finding.fix.as_ref())
            .filter(|fix| fix.safety <= safety && !fix.edits.is_empty() && !refused.contains(fix))
            .collect();
        fixes.sort_by_key(|fix| fix.edits.first().map(|edit| edit.range.start));
        fixes.dedup();
        let mut chosen = compatible(&fixes);
        if chosen.is_empty() {
            break;
        }
        // If one of them breaks something, the half with the first ones is tried, and so on: few
        // tries, however many there are.
        loop {
            let candidate = applied(&fixed.text, &chosen);
            let is_sound = candidate != fixed.text
                && brokenness(&lint(candidate.as_bytes(), options).findings) <= broken;
            if is_sound {
                fixed = Fixed { text: candidate, count: fixed.count + chosen.len() };
                refused.clear();
                break;
            }
            if let [one] = chosen.as_slice() {
                refused.push((*one).clone());
                break;
            }
            chosen.truncate(chosen.len() / 2);
        }
    }
    fixed
}

/// How many findings say that something cannot be read.
fn brokenness(findings: &[Finding]) -> usize {
    let cannot_read = |finding: &&Finding| {
        finding.rule.is_none() || finding.rule.is_some_and(|rule| rule.name == "ShellSyntax")
    };
    findings.iter().filter(cannot_read).count()
}

/// Those that do not touch what an earlier one touches.
fn compatible<'f>(fixes: &[&'f Fix]) -> Vec<&'f Fix> {
    let mut chosen: Vec<&Fix> = Vec::new();
    // Ends by starts. None of them overlap, so that only the neighbours of an edit can touch it.
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    for fix in fixes {
        let clashes = |edit: &Edit| {
            let Range { start, end } = edit.range;
            let before = taken.range(..start).next_back();
            // Two insertions at one place have no order of their own.
            before.is_some_and(|(_, other)| *other > start || *other == end)
                || taken
                    .range(start..)
                    .next()
                    .is_some_and(|(at, other)| *at == start || *at < end || *other == end)
        };
        if fix.edits.iter().any(clashes) {
            continue;
        }
        taken.extend(fix.edits.iter().map(|edit| (edit.range.start, edit.range.end)));
        chosen.push(fix);
    }
    chosen
}

fn applied(text: &str, fixes: &[&Fix]) -> String {
    let mut edits: Vec<&Edit> = fixes.iter().flat_map(|fix| &fix.edits).collect();
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for edit in edits {
        if edit.range.start < at {
            continue;
        }
        out.push_str(text.get(at..edit.range.start).unwrap_or(""));
        out.push_str(&edit.text);
        at = edit.range.end;
    }
    out.push_str(text.get(at..).unwrap_or(""));
    out
}
