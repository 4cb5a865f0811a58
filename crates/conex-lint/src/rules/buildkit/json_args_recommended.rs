//! CMD and ENTRYPOINT in the shell form.

use conex_dockerfile::{Command, Kind};

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "JSONArgsRecommended",
    description: "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    url: Some("https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"),
    why: "In the shell form a shell is process 1 and gets the signals; many shells do not hand them on, so the program is killed instead of stopped.",
    bad: "FROM alpine\nCMD my-cmd start\n",
    good: "FROM alpine\nCMD [\"my-cmd\", \"start\"]\n",
    experimental: false,
    codes: &["DL3025"],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for step in evaluation.stages.iter().flat_map(|stage| &stage.steps) {
        let (Kind::Cmd(command) | Kind::Entrypoint(command)) = &step.instruction.kind else {
            continue;
        };
        // Who names a shell has thought about it.
        if matches!(command, Command::Shell(_)) && !step.has_shell {
            let text = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS \
                 signals",
                step.instruction.keyword.raw
            );
            findings.push(rule, step.span, &step.instruction.comments, text);
        }
    }
}
