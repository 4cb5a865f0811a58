//! COPY and ADD of ignored files.

use conex_dockerfile::{Ignore, Kind};

use super::{Check, Fixable, Level, Rule, Set, quoted};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "CopyIgnoredFile",
    description: "Attempting to Copy file that is excluded by .dockerignore",
    url: Some("https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/"),
    why: "The build fails, or copies nothing: an ignored file does not exist for it.",
    bad: "FROM scratch\nCOPY ignored/file /\n",
    good: "FROM scratch\nCOPY kept/file /\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    // With exceptions it takes the files to know: an ignored folder can hold some that are not.
    let Some(ignore) = evaluation.options.ignore.filter(|ignore| !ignore.has_exceptions()) else {
        return;
    };
    for step in evaluation.stages.iter().flat_map(|stage| &stage.steps) {
        let (act, transfer) = match &step.instruction.kind {
            Kind::Copy(copy) if copy.from.is_none() => ("Copy", &copy.transfer),
            Kind::Add(add) => ("Add", &add.transfer),
            _ => continue,
        };
        // The values are the flags', the sources', and the target.
        let behind = step.values.len().saturating_sub(1);
        let first = behind.saturating_sub(transfer.sources.len());
        for source in step.values.get(first..behind).unwrap_or_default().iter().flatten() {
            if !is_remote(source) && is_ignored(ignore, source) {
                let text = format!(
                    "Attempting to {act} file {} that is excluded by .dockerignore",
                    quoted(&cleaned(source))
                );
                findings.push(rule, step.span, &step.instruction.comments, text);
            }
        }
    }
}

fn is_ignored(ignore: &Ignore, source: &str) -> bool {
    if matches!(cleaned(source).as_str(), "." | "/") {
        // The context itself is ignored only if all in it is.
        let all = |pattern: &[u8]| [&b"*"[..], b"**", b"**/*"].contains(&pattern);
        return ignore.patterns().any(|(pattern, _)| all(pattern));
    }
    ignore.is_ignored(source.as_bytes())
}

/// Whether ADD fetches it: a URL, or the short form of an SSH one.
fn is_remote(source: &str) -> bool {
    source.contains("://") || source.starts_with("git@")
}

/// The path as the text shows it: without `.`, `..` and doubled slashes.
fn cleaned(source: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let rooted = source.starts_with('/');
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}
