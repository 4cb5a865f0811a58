//! Scripts that no shell can read.

use super::{Check, Level, PLAIN, Rule, Set};

pub(super) static RULES: &[&Rule] = &[&SHELL_SYNTAX];

const SHELL_SYNTAX: Rule = Rule {
    name: "ShellSyntax",
    description: "The command of a step cannot be read by a shell",
    why: "The build stops at this step. Rules about the commands behind the mistake could not be asked.",
    bad: "FROM debian:13\nRUN if true; then echo a\n",
    good: "FROM debian:13\nRUN if true; then echo a; fi\n",
    codes: &["SC1072", "SC1073"],
    level: Level::Error,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            for script in view.scripts() {
                if let Some(error) = &script.script.error {
                    context.within(sink, view, script, error.span, error.message.clone());
                }
            }
        }
    }),
    ..PLAIN
};
