//! `ENV KEY value` and `LABEL KEY value`.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "LegacyKeyValueFormat",
    description: "Legacy key/value format with whitespace separator should not be used",
    url: Some("https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/"),
    why: "In the old form everything behind the first space is the value, so `ENV a 1 b 2` sets one variable where two were meant.",
    bad: "FROM alpine\nENV DIR /app\n",
    good: "FROM alpine\nENV DIR=/app\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for step in evaluation.stages.iter().flat_map(|stage| &stage.steps) {
        let (Kind::Env(pairs) | Kind::Label(pairs)) = &step.instruction.kind else { continue };
        if pairs.pairs.iter().any(|pair| pair.legacy) {
            let keyword = &step.instruction.keyword.raw;
            let text = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" \
                 format"
            );
            findings.push(rule, step.span, &step.instruction.comments, text);
        }
    }
}
