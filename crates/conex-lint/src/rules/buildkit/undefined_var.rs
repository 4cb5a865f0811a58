//! Variables that nothing defines.

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "UndefinedVar",
    description: "Variables should be defined before their use",
    url: Some("https://docs.docker.com/go/dockerfile/rule/undefined-var/"),
    why: "A variable that nothing defined is empty: `COPY $SRC /app` without SRC copies the wrong thing without a word.",
    bad: "FROM scratch\nARG source=a\nCOPY ${sauce} /a\n",
    good: "FROM scratch\nARG source=a\nCOPY ${source} /a\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::Unsafe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for step in evaluation.stages.iter().flat_map(|stage| &stage.steps) {
        for undefined in &step.undefined {
            let mut text = format!("Usage of undefined variable '${}'", undefined.name);
            if let Some(near) = &undefined.near {
                text.push_str(&format!(" (did you mean ${near}?)"));
            }
            findings.push(rule, step.span, &step.instruction.comments, text);
        }
    }
}
