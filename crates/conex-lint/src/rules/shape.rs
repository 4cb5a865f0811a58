//! How steps are written: programs that make no sense in a build, steps that belong together.

use conex_dockerfile::{Command as Form, Instruction, Kind};
use conex_shell::{Pipe, Visit};

use super::{Check, Fixable, Level, PLAIN, Rule};
use crate::context::{Context, StageView, View};
use crate::finding::{Edit, Fix, Sink};
use crate::script::{Cmd, Shell, ShellText};

pub(super) static RULES: &[&Rule] = &[
    &POINTLESS_COMMAND,
    &CD_NOT_WORKDIR,
    &SUDO,
    &USERADD_NO_LOG_INIT,
    &CONSECUTIVE_RUN,
    &SHELL_NOT_LINK,
    &PIPEFAIL,
    &ENV_SELF_REFERENCE,
];

const POINTLESS_COMMAND: Rule = Rule {
    name: "PointlessCommand",
    description: "A command that means nothing in a build",
    why: "A step of a build has no terminal, no services and no machine of its own: what these commands show or change is gone when the step ends.",
    bad: "FROM debian:13\nRUN service nginx start\n",
    good: "FROM debian:13\nCMD [\"nginx\", \"-g\", \"daemon off;\"]\n",
    codes: &["DL3001"],
    level: Level::Info,
    check: Check::Lint(|context, sink| {
        const POINTLESS: [&str; 9] =
            ["free", "kill", "mount", "ps", "service", "shutdown", "ssh", "top", "vim"];
        for (view, script, cmd) in context.commands() {
            let only_asks = cmd
                .args
                .iter()
                .any(|arg| matches!(arg.text.as_str(), "--version" | "--help" | "-V"));
            if cmd.is_any(&POINTLESS) && !only_asks {
                let message = format!("`{}` means nothing in a build", cmd.name);
                context.within(sink, view, script, cmd.name_span, message);
            }
        }
    }),
    ..PLAIN
};

const CD_NOT_WORKDIR: Rule = Rule {
    name: "CdNotWorkdir",
    description: "`cd` at the start of a step, where `WORKDIR` would say it",
    why: "`cd` counts for one step only, and a reader has to carry the folder along in mind. `WORKDIR` makes the folder if need be, and counts from there on.",
    bad: "FROM debian:13\nRUN cd /src && make\n",
    good: "FROM debian:13\nWORKDIR /src\nRUN make\n",
    codes: &["DL3003"],
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands() {
            // In a subshell it is confined, and is meant to be.
            if cmd.is("cd") && cmd.depth == 0 {
                context
                    .within(sink, view, script, cmd.span, "`cd` counts for this step only")
                    .hint("set `WORKDIR` before the step; in the middle of one, use a subshell")
                    .fix(workdir(context, view, script, cmd));
            }
        }
    }),
    ..PLAIN
};

/// `WORKDIR` for the `cd` that a step begins with. It counts for the steps behind too.
fn workdir(context: &Context<'_>, view: &View<'_>, script: &ShellText, cmd: &Cmd) -> Option<Fix> {
    let [folder] = cmd.args.as_slice() else { return None };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_outer = view.run().is_some_and(|outer| std::ptr::eq(outer, script));
    if view.is_trigger || !is_outer || script.is_exec || !view.instruction.heredocs.is_empty() {
        return None;
    }
    if !folder.text.starts_with('/') || !folder.text.chars().all(is_plain) {
        return None;
    }
    let [item] = script.script.body.items.as_slice() else { return None };
    let [(conex_shell::Connector::And, _, next), ..] = item.and_or.rest.as_slice() else {
        return None;
    };
    let [first] = item.and_or.first.commands.as_slice() else { return None };
    if first.span != cmd.span || !first.redirects.is_empty() {
        return None;
    }
    let removed = script.source(cmd.span).start..script.source(next.span).start;
    // A comment between the two would be lost.
    if context.written(&removed).contains('#') {
        return None;
    }
    let above = view.instruction.comments.first().map_or(view.instruction.span, |one| one.span);
    let at = context.lines.whole_lines(&context.range(above)).start;
    let edits =
        vec![Edit::insert(at, format!("WORKDIR {}\n", folder.text)), Edit::replace(removed, "")];
    Some(Fix::risky("set `WORKDIR` before the step", edits))
}

const SUDO: Rule = Rule {
    name: "NoSudo",
    description: "`sudo` in a build",
    why: "A step runs as the last `USER`, which the file can set. sudo brings a setuid program and its settings into the image, and forwards no signals.",
    bad: "FROM debian:13\nRUN sudo make install\n",
    good: "FROM debian:13\nUSER root\nRUN make install\n",
    codes: &["DL3004"],
    level: Level::Error,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            let mut is_root = true;
            for view in &stage.steps {
                if let Kind::User(user) = view.kind() {
                    is_root = matches!(user.raw.split(':').next(), Some("root" | "0"));
                }
                let commands = view.runs().flat_map(|script| {
                    script.commands.iter().map(move |command| (script, command))
                });
                for (script, cmd) in commands.filter(|(_, cmd)| cmd.is("sudo")) {
                    let next = cmd.args.first().filter(|arg| !arg.text.starts_with('-'));
                    let fix = next.filter(|_| is_root).map(|next| {
                        let range =
                            script.source(cmd.name_span).start..script.source(next.span).start;
                        Fix::risky("remove `sudo`", vec![Edit::replace(range, "")])
                    });
                    context
                        .within(sink, view, script, cmd.name_span, "`sudo` in a build")
                        .hint("set `USER root` before the step, and the other user behind it")
                        .fix(fix);
                }
            }
        }
    }),
    ..PLAIN
};

const USERADD_NO_LOG_INIT: Rule = Rule {
    name: "UseraddNoLogInit",
    description: "`useradd` with a large number and without `-l` makes a huge file",
    why: "useradd writes to a log that has a place for every number up to the new one. It is a file full of holes, which a layer stores as zeros.",
    bad: "FROM debian:13\nRUN useradd -u 1234567 app\n",
    good: "FROM debian:13\nRUN useradd -l -u 1234567 app\n",
    codes: &["DL3046"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("useradd")) {
            let id = cmd.flag_value("u").or_else(|| cmd.flag_value("uid"));
            let is_large =
                id.is_some_and(|id| id.len() > 5 && id.bytes().all(|b| b.is_ascii_digit()));
            if !is_large || cmd.has_any_flag(&["l", "no-log-init"]) {
                continue;
            }
            let end = script.source(cmd.name_span).end;
            context
                .within(sink, view, script, cmd.name_span, "a large number makes a huge log file")
                .hint("write `useradd -l`")
                .fix(Fix::safe("add `-l`", vec![Edit::insert(end, " -l")]));
        }
    }),
    ..PLAIN
};

const CONSECUTIVE_RUN: Rule = Rule {
    name: "ConsecutiveRun",
    description: "Several `RUN` one after the other",
    why: "Each makes a layer, and what a later one deletes stays in an earlier one. Joined with `&&` they make one layer.",
    bad: "FROM debian:13\nRUN mkdir /a\nRUN mkdir /b\n",
    good: "FROM debian:13\nRUN mkdir /a && mkdir /b\n",
    codes: &["DL3059"],
    level: Level::Info,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            let steps: Vec<&View<'_>> = stage.steps.iter().filter(|v| !v.is_trigger).collect();
            for pair in steps.windows(2) {
                let [first, second] = pair else { continue };
                let (Kind::Run(a), Kind::Run(b)) = (first.kind(), second.kind()) else { continue };
                if a.mounts != b.mounts || a.network != b.network || a.security != b.security {
                    continue;
                }
                if is_heredoc_run(first) || is_heredoc_run(second) {
                    continue;
                }
                // A step that is long already is kept apart on purpose.
                let is_short = |view: &View<'_>| command_count(view) <= 2;
                if !(is_short(first) && is_short(second)) {
                    continue;
                }
                let fix = merged(context, stage, first, second);
                context
                    .at(sink, second, "another `RUN` stands right before this one")
                    .hint("join them with `&&`")
                    .fix(fix);
            }
        }
    }),
    ..PLAIN
};

fn is_heredoc_run(view: &View<'_>) -> bool {
    !view.instruction.heredocs.is_empty()
}

fn command_count(view: &View<'_>) -> usize {
    let Some(script) = view.run() else { return 1 };
    script.commands.len()
}

/// Joins two steps, if the first leaves nothing behind in its shell that the second would see, and
/// nothing stands between them.
fn merged(
    context: &Context<'_>,
    _: &StageView<'_>,
    first: &View<'_>,
    second: &View<'_>,
) -> Option<Fix> {
    const LEAVES_STATE: [&str; 19] = [
        "cd", "set", "export", ".", "source", "umask", "exit", "exec", "trap", "alias", "unset",
        "ulimit", "shopt", "pushd", "popd", "declare", "readonly", "local", "eval",
    ];
    let (before, after) = (first.run()?, second.run()?);
    let is_plain = |instruction: &Instruction, script: &ShellText| {
        matches!(&instruction.kind, Kind::Run(run)
            if run.mounts.is_empty() && matches!(run.command, Form::Shell(_)))
            && instruction.comments.is_empty()
            && script.script.error.is_none()
            && script.script.comments.is_empty()
            && !instruction.text.get(3..).unwrap_or("").trim_start().starts_with("--")
    };
    if !is_plain(first.instruction, before) || !is_plain(second.instruction, after) {
        return None;
    }
    let [item] = before.script.body.items.as_slice() else { return None };
    let is_sequence = item.terminator.is_none()
        && item.and_or.rest.iter().all(|(kind, ..)| *kind == conex_shell::Connector::And);
    let [second_item] = after.script.body.items.as_slice() else { return None };
    let is_second_sequence = second_item.terminator.is_none()
        && second_item.and_or.rest.iter().all(|(kind, ..)| *kind == conex_shell::Connector::And);
    let keeps = before.commands.iter().all(|cmd| !cmd.is_any(&LEAVES_STATE));
    let assigns = item.and_or.pipelines().flat_map(|pipeline| &pipeline.commands).any(|command| {
        let conex_shell::CommandKind::Simple(simple) = &command.kind else { return true };
        simple.words.is_empty()
    });
    if !is_sequence || !is_second_sequence || !keeps || assigns {
        return None;
    }
    let end = first.instruction.source.end;
    let start = after.source(conex_shell::Span::new(0, after.text.len())).start;
    let between = context.text.get(end..second.instruction.source.start)?;
    if !between.trim().is_empty() || start < end {
        return None;
    }
    let text = format!(" {}\n    && ", context.file.escape);
    Some(Fix::safe("join the two steps", vec![Edit::replace(end..start, text)]))
}

const SHELL_NOT_LINK: Rule = Rule {
    name: "ShellNotLink",
    description: "`/bin/sh` is replaced to change the shell",
    why: "Programs in the image expect the shell that they were tested with. `SHELL` changes it for the steps of the build alone.",
    bad: "FROM debian:13\nRUN ln -sf /bin/bash /bin/sh\n",
    good: "FROM debian:13\nSHELL [\"/bin/bash\", \"-c\"]\n",
    codes: &["DL4005"],
    fix: Fixable::No,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("ln")) {
            if cmd.args.iter().any(|arg| arg.text == "/bin/sh") {
                context
                    .within(
                        sink,
                        view,
                        script,
                        cmd.span,
                        "the shell of the whole image is replaced",
                    )
                    .hint("write `SHELL [\"/bin/bash\", \"-c\"]`");
            }
        }
    }),
    ..PLAIN
};

const PIPEFAIL: Rule = Rule {
    name: "PipeWithoutPipefail",
    description: "A failure before a pipe goes unseen",
    why: "A pipeline ends like its last command. If the first one fails, the build goes on with what little came through.",
    bad: "FROM debian:13\nRUN wget -qO - https://example.test/x | tar -x\n",
    good: "FROM debian:13\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN wget -qO - https://example.test/x | tar -x\n",
    codes: &["DL4006"],
    fix: Fixable::Unsafe,
    check: Check::Lint(pipefail),
    ..PLAIN
};

fn pipefail(context: &Context<'_>, sink: &mut Sink<'_>) {
    for (view, script) in context.runs() {
        if script.reader.has_pipefail || sets_pipefail(script) || starts_with_option(script) {
            continue;
        }
        let mut first = FirstPipe(None);
        script.script.visit(&mut first);
        let Some(span) = first.0 else { continue };
        let is_outer = view.run().is_some_and(|outer| std::ptr::eq(outer, script));
        // A shell that knows no pipefail can be told nothing but to be another one.
        let fix =
            (!view.is_trigger && is_outer && script.reader.shell == Shell::Posix).then(|| {
                let at = context.lines.whole_lines(&view.instruction.source).start;
                let text = "SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\n";
                Fix::risky(
                    "run the steps from here on with bash and `pipefail`",
                    vec![Edit::insert(at, text)],
                )
            });
        context
            .within(sink, view, script, span, "if a command before the pipe fails, nobody sees it")
            .hint("write `SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]` before it, or `set -o pipefail` in it")
            .fix(fix);
    }
}

/// `set -o pipefail` anywhere in the script.
fn sets_pipefail(script: &ShellText) -> bool {
    script.commands.iter().any(|cmd| cmd.is("set") && cmd.has("pipefail"))
}

/// `bash -o pipefail -c …` as the whole step.
fn starts_with_option(script: &ShellText) -> bool {
    script
        .commands
        .first()
        .is_some_and(|cmd| cmd.is_any(&["bash", "zsh", "ash"]) && cmd.has("pipefail"))
}

struct FirstPipe(Option<conex_shell::Span>);

impl<'s> Visit<'s> for FirstPipe {
    fn pipeline(&mut self, pipeline: &'s conex_shell::Pipeline) {
        let pipe = pipeline
            .pipes
            .first()
            .filter(|(kind, _)| matches!(kind, Pipe::Output | Pipe::OutputAndError));
        if let Some((_, span)) = pipe.filter(|_| self.0.is_none()) {
            self.0 = Some(*span);
        }
        conex_shell::walk_pipeline(self, pipeline);
    }
}

const ENV_SELF_REFERENCE: Rule = Rule {
    name: "EnvSeesOldValue",
    description: "A variable is used by the instruction that sets it",
    why: "All values of one `ENV` see the variables as they were before it. A variable set and used in one instruction is empty where it is used, or old.",
    bad: "FROM debian:13\nENV A=/a B=$A/b\n",
    good: "FROM debian:13\nENV A=/a\nENV B=$A/b\n",
    codes: &["DL3044"],
    level: Level::Error,
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            let mut known: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
            for view in &stage.steps {
                match view.kind() {
                    Kind::Arg(arg) => {
                        known.extend(arg.args.iter().map(|arg| arg.name.raw.as_str()));
                    }
                    Kind::Env(env) => {
                        for (at, pair) in env.pairs.iter().enumerate() {
                            let others = env.pairs.iter().enumerate().filter(|(i, _)| *i != at);
                            let used = others
                                .map(|(_, other)| other.key.raw.as_str())
                                .find(|key| !known.contains(key) && uses(&pair.value.raw, key));
                            if let Some(key) = used {
                                let message =
                                    format!("`${key}` has its value only behind this instruction");
                                sink.add(view.line, pair.value.span, message)
                                    .hint(format!("set `{key}` in an `ENV` of its own before"));
                                break;
                            }
                        }
                        known.extend(env.pairs.iter().map(|pair| pair.key.raw.as_str()));
                    }
                    _ => {}
                }
            }
        }
    }),
    ..PLAIN
};

/// Whether a value reads a variable.
fn uses(value: &str, name: &str) -> bool {
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        let escaped = rest.get(..at).is_some_and(|before| before.ends_with('\\'));
        rest = rest.get(at + 1..).unwrap_or("");
        let inner = rest.strip_prefix('{').unwrap_or(rest);
        let found = inner.strip_prefix(name).is_some_and(|behind| {
            !behind.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        });
        if found && !escaped {
            return true;
        }
    }
    false
}
