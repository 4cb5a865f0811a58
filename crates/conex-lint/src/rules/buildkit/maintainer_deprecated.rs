//! MAINTAINER.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "MaintainerDeprecated",
    description: "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    url: Some("https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/"),
    why: "Labels hold any key, are shown by every tool, and can be searched for.",
    bad: "FROM alpine\nMAINTAINER moby@example.com\n",
    good: "FROM alpine\nLABEL org.opencontainers.image.authors=\"moby@example.com\"\n",
    experimental: false,
    codes: &["DL4000"],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for instruction in evaluation.instructions() {
        if matches!(instruction.kind, Kind::Maintainer(_)) {
            let text = "Maintainer instruction is deprecated in favor of using label".to_owned();
            findings.push(rule, instruction.span, &instruction.comments, text);
        }
    }
}
