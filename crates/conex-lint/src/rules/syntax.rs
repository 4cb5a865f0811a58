//! Scripts that no shell can read.

use super::{Check, Level, PLAIN, Rule, Set};

pub(super) static RULES: &[&Rule] = &[&SHELL_SYNTAX];

const SHELL_SYNTAX: Rule = Rule {
    name: "ShellSyntax",
    description: "The command of a step cannot be read by a shell",
    why: "The build stops at this step. Rules about the commands behind the mistake could not be asked.",
    bad: "FROM debian:13\nRUN if true; then echo a\n",
    good: "FROM debian:13\nRUN if true; then echo a; fi\n",
    codes: &["SC1072", "SC1070", "SC1073", "SC1088", "SC1089"],
    level: Level::Error,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            for script in view.scripts() {
                if let Some(error) = &script.script.error {
                    let message = error.message.clone();
                    let code = code_of(&message);
                    context.within(sink, view, script, error.span, message).code(code);
                }
            }
        }
    }),
    ..PLAIN
};

/// What ShellCheck calls the place where it stops reading.
fn code_of(message: &str) -> &'static str {
    match message.strip_prefix("unexpected `").and_then(|rest| rest.strip_suffix('`')) {
        Some("(") => "SC1088",
        Some(";" | ";;" | "&") => "SC1070",
        Some(")" | "}" | "fi" | "done" | "esac" | "then" | "do" | "else" | "elif") => "SC1089",
        _ => "SC1072",
    }
}
