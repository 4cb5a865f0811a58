//! Keywords in both cases.

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "ConsistentInstructionCasing",
    description: "All commands within the Dockerfile should use the same casing (either upper or lower)",
    url: Some("https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/"),
    why: "Keywords mean the same in any case; a file that keeps to one is easier to read.",
    bad: "FROM scratch\ncopy a /a\nCOPY b /b\n",
    good: "FROM scratch\nCOPY a /a\nCOPY b /b\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    let keywords = || {
        let stages = evaluation.file.stages.iter();
        stages.flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions))
    };
    let (mut lower, mut upper) = (0, 0);
    for instruction in keywords() {
        let keyword = &instruction.keyword.raw;
        if *keyword == keyword.to_lowercase() {
            lower += 1;
        } else if *keyword == keyword.to_uppercase() {
            upper += 1;
        }
    }
    let mostly_lower = lower > upper;
    for instruction in keywords() {
        let keyword = &instruction.keyword.raw;
        let (wanted, casing) = if mostly_lower {
            (keyword.to_lowercase(), "lowercase")
        } else {
            (keyword.to_uppercase(), "uppercase")
        };
        if *keyword != wanted {
            let text = format!(
                "Command '{keyword}' should match the case of the command majority ({casing})"
            );
            findings.push(rule, instruction.span, &instruction.comments, text);
        }
    }
}
