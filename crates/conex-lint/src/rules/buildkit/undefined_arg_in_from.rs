//! Variables in FROM that no ARG declares.

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "UndefinedArgInFrom",
    description: "FROM command must use declared ARGs",
    url: Some("https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/"),
    why: "FROM sees only arguments declared before the first FROM; any other name is empty, and the image another one than meant.",
    bad: "ARG VARIANT=alpine\nFROM node:22-${VARAINT}\n",
    good: "ARG VARIANT=alpine\nFROM node:22-${VARIANT}\n",
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
        for undeclared in &facts.undeclared {
            let mut text = format!("FROM argument '{}' is not declared", undeclared.name);
            if let Some(near) = &undeclared.near {
                text.push_str(&format!(" (did you mean {near}?)"));
            }
            findings.push(rule, stage.from.span, &stage.from.comments, text);
        }
    }
}
