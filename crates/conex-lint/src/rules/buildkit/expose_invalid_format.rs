//! `EXPOSE 8080:80`.

use conex_dockerfile::{Kind, PortSpec};

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "ExposeInvalidFormat",
    description: "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    url: Some("https://docs.docker.com/go/dockerfile/rule/expose-invalid-format/"),
    why: "EXPOSE only says which ports the program listens on. Addresses and host ports have no effect there; they are given when the container is run.",
    bad: "FROM alpine\nEXPOSE 127.0.0.1:8080:80\n",
    good: "FROM alpine\nEXPOSE 80\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::No,
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
            if PortSpec::parse(port).is_ok_and(|spec| spec.mapped) {
                let text = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found \
                     '{port}'"
                );
                findings.push(rule, step.span, &step.instruction.comments, text);
            }
        }
    }
}
