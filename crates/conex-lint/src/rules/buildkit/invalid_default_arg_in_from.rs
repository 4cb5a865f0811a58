//! Base images that are invalid without build arguments.

use conex_oci::Reference;

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "InvalidDefaultArgInFrom",
    description: "Default value for global ARG results in an empty or invalid base image name",
    url: Some("https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/"),
    why: "A file that builds only with the right `--build-arg` fails for everyone who does not know it.",
    bad: "ARG TAG\nFROM alpine:${TAG}\n",
    good: "ARG TAG=latest\nFROM alpine:${TAG}\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for (stage, facts) in evaluation.file.stages.iter().zip(&evaluation.froms) {
        let Some(base) = &facts.default_base else { continue };
        if base.parse::<Reference>().is_err() {
            let text = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base.raw
            );
            findings.push(rule, stage.from.span, &stage.from.comments, text);
        }
    }
}
