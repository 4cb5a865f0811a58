//! A first WORKDIR that is relative.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set, quoted};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "WorkdirRelativePath",
    description: "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    url: Some("https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/"),
    why: "A relative path is joined to the base image's working directory, which a newer base image may change.",
    bad: "FROM alpine\nWORKDIR app\n",
    good: "FROM alpine\nWORKDIR /app\n",
    experimental: false,
    codes: &["DL3000"],
    level: Level::Warning,
    fix: Fixable::Unsafe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for step in evaluation.stages.iter().flat_map(|stage| &stage.steps) {
        let (Kind::Workdir(_), Some(Some(path))) = (&step.instruction.kind, step.values.first())
        else {
            continue;
        };
        // `C:\\app` is absolute where the file is written for Windows.
        let is_windows = evaluation.file.escape == '`' && path.get(1..2) == Some(":");
        if !step.has_workdir && !path.starts_with('/') && !is_windows {
            let text = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                quoted(path)
            );
            findings.push(rule, step.span, &step.instruction.comments, text);
        }
    }
}
