//! What is loaded from the network.

use std::collections::BTreeMap;

use conex_shell::{CommandKind, Pipe, Visit};

use super::{Check, Fixable, Level, PLAIN, Rule, Set};
use crate::context::{Context, View};
use crate::finding::{Fix, Sink};
use crate::script::Cmd;

pub(super) static RULES: &[&Rule] =
    &[&WGET_PROGRESS, &WGET_AND_CURL, &CURL_FAIL, &PIPE_TO_SHELL, &INSECURE];

const WGET_PROGRESS: Rule = Rule {
    name: "WgetProgress",
    description: "`wget` fills the log with its progress",
    why: "wget draws a line for every 50 kB when no terminal watches it. A large file makes thousands of them, and the line that matters is lost.",
    bad: "FROM debian:13\nRUN wget https://example.test/x\n",
    good: "FROM debian:13\nRUN wget --progress=dot:giga https://example.test/x\n",
    codes: &["DL3047"],
    level: Level::Info,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("wget")) {
            let quiet = cmd.has_any_flag(&["progress", "q", "quiet", "o", "output-file"])
                || cmd.has_any_flag(&["no-verbose", "a", "append-output"])
                || cmd.args.iter().any(|arg| arg.text.starts_with("-nv"));
            let asks = cmd.args.iter().any(|arg| arg.text == "--version" || arg.text == "--help");
            if quiet || asks || cmd.args.is_empty() {
                continue;
            }
            // The wget of BusyBox knows no `--progress`.
            let flag = if is_busybox(context, view) { "-q" } else { "--progress=dot:giga" };
            let end = script.source(cmd.name_span).end;
            let edit = crate::finding::Edit::insert(end, format!(" {flag}"));
            context
                .within(sink, view, script, cmd.name_span, "`wget` writes its progress to the log")
                .hint(format!("write `wget {flag}`"))
                .fix(Fix::safe(format!("add `{flag}`"), vec![edit]));
        }
    }),
    ..PLAIN
};

/// Whether a step runs on Alpine or BusyBox, and no step of the file installs another wget.
fn is_busybox(context: &Context<'_>, view: &View<'_>) -> bool {
    let line = view.line;
    let behind = context.stages.partition_point(|one| one.stage.span.start.line <= line);
    let mut at = behind.checked_sub(1);
    let mut base = "";
    while let Some(stage) = at.and_then(|index| context.stages.get(index)) {
        base = &stage.base;
        at = stage.parent;
    }
    (base.contains("alpine") || base.contains("busybox"))
        && !context.commands().any(|(_, _, cmd)| cmd.is("apk") && cmd.has("wget"))
}

const WGET_AND_CURL: Rule = Rule {
    name: "WgetAndCurl",
    description: "Both `wget` and `curl` are used",
    why: "Both do the same, and each is a package with libraries of its own.",
    bad: "FROM debian:13\nRUN wget -q https://example.test/a\nRUN curl -fO https://example.test/b\n",
    good: "FROM debian:13\nRUN curl -fO https://example.test/a\nRUN curl -fO https://example.test/b\n",
    codes: &["DL4001"],
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            let uses = |name: &'static str| {
                stage
                    .runs()
                    .flat_map(|(view, script)| {
                        script.commands.iter().map(move |cmd| (view, script, cmd))
                    })
                    .find(|(_, _, cmd)| cmd.is(name))
            };
            if let (Some(wget), Some(curl)) = (uses("wget"), uses("curl")) {
                let later = if wget.0.index > curl.0.index { wget } else { curl };
                let (view, script, cmd) = later;
                context
                    .within(
                        sink,
                        view,
                        script,
                        cmd.name_span,
                        "the stage uses both `wget` and `curl`",
                    )
                    .hint("use one of the two");
            }
        }
    }),
    ..PLAIN
};

const CURL_FAIL: Rule = Rule {
    name: "CurlWithoutFail",
    description: "`curl` takes an error page for the file",
    why: "Without `-f` curl ends well when the server answers 404, and the build goes on with the page of the error.",
    bad: "FROM debian:13\nRUN curl -o /tool https://example.test/tool\n",
    good: "FROM debian:13\nRUN curl -fo /tool https://example.test/tool\n",
    set: Set::Own,
    level: Level::Style,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("curl")) {
            let loads = cmd.args.iter().any(|arg| arg.text.contains("://"));
            let fails =
                cmd.has_any_flag(&["f", "fail", "fail-with-body", "w", "write-out", "I", "head"]);
            if !loads || fails {
                continue;
            }
            let end = script.source(cmd.name_span).end;
            let edit = crate::finding::Edit::insert(end, " -f");
            context
                .within(sink, view, script, cmd.name_span, "an error of the server goes unseen")
                .hint("write `curl -f`")
                .fix(Fix::risky("add `-f`", vec![edit]));
        }
    }),
    ..PLAIN
};

const PIPE_TO_SHELL: Rule = Rule {
    name: "PipeToShell",
    description: "What the network gives is run unseen",
    why: "Whoever controls the server, or the way to it, runs commands in the build. A version and a checksum turn that into a file that is known.",
    bad: "FROM debian:13\nRUN curl -fsSL https://example.test/install.sh | sh\n",
    good: "FROM debian:13\nADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://example.test/install.sh /tmp/\nRUN sh /tmp/install.sh\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(pipe_to_shell),
    ..PLAIN
};

fn pipe_to_shell(context: &Context<'_>, sink: &mut Sink<'_>) {
    for (view, script) in context.runs() {
        let commands = script.commands.iter().map(|cmd| (cmd.span, cmd)).collect();
        let mut pipes = Pipes { commands, found: Vec::new() };
        script.script.visit(&mut pipes);
        for span in pipes.found {
            context
                .within(sink, view, script, span, "what was loaded is run unseen")
                .hint("load it with `ADD --checksum`, then run the file");
        }
    }
}

/// Pipelines that load something and end in a shell.
struct Pipes<'s> {
    /// By place; of those at one place (`sudo sh`) the last, which is the one that is started.
    commands: BTreeMap<conex_shell::Span, &'s Cmd>,
    found: Vec<conex_shell::Span>,
}

impl Pipes<'_> {
    fn name(&self, command: &conex_shell::Command) -> Option<&Cmd> {
        let CommandKind::Simple(_) = &command.kind else { return None };
        self.commands.get(&command.span).copied()
    }
}

impl<'s> Visit<'s> for Pipes<'_> {
    fn pipeline(&mut self, pipeline: &'s conex_shell::Pipeline) {
        const SHELLS: [&str; 12] = [
            "sh", "bash", "dash", "ash", "zsh", "ksh", "python", "python3", "perl", "ruby", "node",
            "php",
        ];
        let loads = pipeline.commands.first().and_then(|first| self.name(first));
        let loads = loads.is_some_and(|cmd| cmd.is_any(&["curl", "wget"]));
        let is_pipe = pipeline.pipes.iter().all(|(pipe, _)| *pipe == Pipe::Output);
        let runs = pipeline.commands.iter().skip(1).any(|command| {
            self.name(command).is_some_and(|cmd| {
                let program = cmd.plain().next().map(|arg| arg.text.as_str());
                cmd.is_any(&SHELLS) && !cmd.has("-c") && program.is_none_or(|arg| arg == "-s")
            })
        });
        if loads && is_pipe && runs {
            self.found.push(pipeline.span);
        }
        conex_shell::walk_pipeline(self, pipeline);
    }
}

const INSECURE: Rule = Rule {
    name: "InsecureDownload",
    description: "A server's certificate is not checked",
    why: "Without the check anyone on the way can give another file, and the build takes it.",
    bad: "FROM debian:13\nRUN curl -fkO https://example.test/tool\n",
    good: "FROM debian:13\nRUN curl -fO https://example.test/tool\n",
    set: Set::Own,
    level: Level::Warning,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands() {
            let insecure = match cmd.name.as_str() {
                "curl" => cmd.has_any_flag(&["k", "insecure"]),
                "wget" => cmd.has_flag("no-check-certificate"),
                "git" => cmd.args.iter().any(|arg| arg.text == "http.sslVerify=false"),
                "apt-get" | "apt" => cmd.has_any_flag(&["allow-unauthenticated", "force-yes"]),
                "npm" => cmd.args.iter().any(|arg| arg.text == "--strict-ssl=false"),
                name => name.starts_with("pip") && cmd.has_flag("trusted-host"),
            };
            if insecure {
                let message = format!("`{}` does not check whom it loads from", cmd.name);
                context
                    .within(sink, view, script, cmd.span, message)
                    .hint("add the certificate of your own authority to the image instead");
            }
        }
    }),
    ..PLAIN
};
