//! Two CMD, ENTRYPOINT or HEALTHCHECK in one stage.

use std::collections::BTreeMap;

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "MultipleInstructionsDisallowed",
    description: "Multiple instructions of the same type should not be used in the same stage",
    url: Some("https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/"),
    why: "An image has one command, one entrypoint and one health check; the last of each counts and the others are silently lost.",
    bad: "FROM alpine\nCMD [\"a\"]\nCMD [\"b\"]\n",
    good: "FROM alpine\nCMD [\"b\"]\n",
    experimental: false,
    codes: &["DL4003", "DL4004", "DL3012"],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for stage in &evaluation.stages {
        let mut last = BTreeMap::new();
        for step in &stage.steps {
            let kind = &step.instruction.kind;
            if !matches!(kind, Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Healthcheck(_)) {
                continue;
            }
            // The one that has no effect is the one to look at.
            if let Some(lost) = last.insert(kind.name(), step.span) {
                let text = format!(
                    "Multiple {} instructions should not be used in the same stage because only \
                     the last one will be used",
                    step.instruction.keyword.raw
                );
                findings.push(rule, lost, &step.instruction.comments, text);
            }
        }
    }
}
