//! `EXPOSE 80/TCP`.

use conex_dockerfile::{Kind, PortSpec};

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "ExposeProtoCasing",
    description: "Protocol in EXPOSE instruction should be lowercase",
    url: Some("https://docs.docker.com/go/dockerfile/rule/expose-proto-casing/"),
    why: "The image's config has the protocol in lower case; the file should say the same.",
    bad: "FROM alpine\nEXPOSE 80/TcP\n",
    good: "FROM alpine\nEXPOSE 80/tcp\n",
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
        if !matches!(step.instruction.kind, Kind::Expose(_)) {
            continue;
        }
        for port in step.values.iter().flatten() {
            if PortSpec::parse(port).is_ok_and(|spec| !spec.lower_case) {
                let text =
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                findings.push(rule, step.span, &step.instruction.comments, text);
            }
        }
    }
}
