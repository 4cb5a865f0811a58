//! Stage names in upper case.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "StageNameCasing",
    description: "Stage names should be lowercase",
    url: Some("https://docs.docker.com/go/dockerfile/rule/stage-name-casing/"),
    why: "Stage names mean the same in any case, but image names, which stand in the same place, must be in lower case; a stage in lower case never looks like a mistake.",
    bad: "FROM scratch AS Build\n",
    good: "FROM scratch AS build\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for stage in &evaluation.file.stages {
        let Kind::From(from) = &stage.from.kind else { continue };
        let Some(name) = &from.name else { continue };
        if name.raw != name.raw.to_lowercase() {
            let text = format!("Stage name '{}' should be lowercase", name.raw);
            findings.push(rule, stage.from.span, &stage.from.comments, text);
        }
    }
}
