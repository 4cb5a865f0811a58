//! Stages named `scratch` or `context`.

use super::{Check, Fixable, Level, Rule, Set, quoted};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "ReservedStageName",
    description: "Reserved words should not be used as stage names",
    url: Some("https://docs.docker.com/go/dockerfile/rule/reserved-stage-name/"),
    why: "`scratch` and `context` already mean something where a stage's name may stand.",
    bad: "FROM alpine AS scratch\n",
    good: "FROM alpine AS base\n",
    experimental: false,
    codes: &["DL3063"],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for stage in &evaluation.file.stages {
        let Some(name @ ("scratch" | "context")) = stage.name.as_deref() else { continue };
        let text =
            format!("Stage name should not use the same name as reserved stage {}", quoted(name));
        findings.push(rule, stage.from.span, &stage.from.comments, text);
    }
}
