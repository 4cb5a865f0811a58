//! Commands that do not do what they look like.

use conex_shell::{Connector, Terminator};

use super::{
    Check, CommandKind, Context, Edit, Fix, Fixable, Level, PLAIN, Part, PartKind, Rule, Set,
    ShellText, Sink, each_command, each_list, each_part, each_pipeline, program, scripts, words,
};

pub(super) const CD_UNCHECKED: Rule = Rule {
    name: "CdUnchecked",
    description: "If `cd` fails, the commands behind it run in the wrong folder",
    why: "After `cd dir; rm -r *` with a folder that is not there, the files are deleted where the step began.",
    bad: "FROM debian:13\nRUN cd /a; make\n",
    good: "FROM debian:13\nRUN cd /a || exit 1; make\n",
    codes: &["SC2164"],
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            if sets_errexit(script) {
                continue;
            }
            each_list(script, |list| {
                for (at, item) in list.items.iter().enumerate() {
                    let last = item.and_or.rest.last().map_or(&item.and_or.first, |rest| &rest.2);
                    // The last command of a list is its status; `||` behind looks at it.
                    let is_last = at + 1 == list.items.len();
                    let guarded = item.and_or.rest.iter().any(|(kind, ..)| *kind == Connector::Or);
                    let [command] = last.commands.as_slice() else { continue };
                    let name = program(command, &script.text).unwrap_or_default();
                    let ends =
                        item.terminator.is_none_or(|(kind, _)| kind != Terminator::Background);
                    let to = words(command).get(1).map_or("", |word| word.span.of(&script.text));
                    if !matches!(name.as_str(), "cd" | "pushd" | "popd")
                        || is_last
                        || guarded
                        || !ends
                        || matches!(to, ".." | "/" | "../.." | "-" | ".")
                    {
                        continue;
                    }
                    let end = script.source(command.span).end;
                    let fix = Fix::safe("add `|| exit`", vec![Edit::insert(end, " || exit")]);
                    context
                        .within(
                            sink,
                            view,
                            script,
                            command.span,
                            format!("if `{name}` fails, the rest runs elsewhere"),
                        )
                        .hint("write `&&` behind it, or `|| exit`")
                        .fix(fix);
                }
            });
        }
    }),
    ..PLAIN
};

/// `set -e` in the script, or a shell that was told so when it began.
fn sets_errexit(script: &ShellText) -> bool {
    script.reader.has_errexit
        || script.commands.iter().any(|cmd| {
            cmd.is("set")
                && (cmd.has("errexit")
                    || cmd.args.iter().any(|arg| {
                        arg.text.starts_with('-')
                            && !arg.text.starts_with("--")
                            && arg.text.contains('e')
                    }))
        })
}

pub(super) const DECLARE_MASKS: Rule = Rule {
    name: "DeclareMasksFailure",
    description: "`export a=$(command)` goes on when the command fails",
    why: "The status is that of `export`, which never fails. In two steps a failure is seen.",
    bad: "FROM debian:13\nRUN export a=\"$(false)\" && env\n",
    good: "FROM debian:13\nRUN a=\"$(false)\" && export a && env\n",
    codes: &["SC2155"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let name = program(command, &script.text).unwrap_or_default();
                if !["export", "local", "declare", "typeset", "readonly"].contains(&name.as_str()) {
                    return;
                }
                for word in words(command).iter().skip(1) {
                    let runs = word.span.of(&script.text).contains('=')
                        && word.parts.iter().any(|part| match &part.kind {
                            PartKind::Command { .. } => true,
                            PartKind::DoubleQuoted(parts) => parts
                                .iter()
                                .any(|part| matches!(part.kind, PartKind::Command { .. })),
                            _ => false,
                        });
                    if runs {
                        context
                            .within(
                                sink,
                                view,
                                script,
                                word.span,
                                format!("`{name}` hides that the command failed"),
                            )
                            .hint("set the variable first, and declare it behind");
                    }
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const NEGATION_IGNORED: Rule = Rule {
    name: "NegationIgnored",
    description: "`! command` never ends a script, also with `set -e`",
    why: "A status that `!` turned around does not count for `set -e`. In the middle of a script it is looked at by nobody.",
    bad: "FROM debian:13\nRUN set -e; ! grep -q x /etc/passwd; true\n",
    good: "FROM debian:13\nRUN set -e; if grep -q x /etc/passwd; then exit 1; fi; true\n",
    codes: &["SC2251"],
    level: Level::Info,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            if !sets_errexit(script) {
                continue;
            }
            let mut conditions = condition_spans(script);
            conditions.truncate(CONDITION_COUNT_MAX);
            let mut scopes = scope_spans(script);
            scopes.truncate(CONDITION_COUNT_MAX);
            scopes.extend(script.script.body.items.last().map(|item| item.and_or.span()));
            each_list(script, |list| {
                for (at, item) in list.items.iter().enumerate() {
                    let pipeline = &item.and_or.first;
                    // The last command of all, of a function or a subshell is its status.
                    let is_last = at + 1 == list.items.len()
                        && scopes.iter().any(|span| {
                            span.start <= pipeline.span.start && pipeline.span.end <= span.end
                        });
                    let in_condition = conditions.iter().any(|span| {
                        span.start <= pipeline.span.start && pipeline.span.end <= span.end
                    });
                    if pipeline.bang.is_some()
                        && item.and_or.rest.is_empty()
                        && !is_last
                        && !in_condition
                    {
                        context
                            .within(
                                sink,
                                view,
                                script,
                                pipeline.span,
                                "nothing happens if this fails",
                            )
                            .hint("write `if …; then exit 1; fi`, or add `|| exit 1`");
                    }
                }
            });
        }
    }),
    ..PLAIN
};

/// Most conditions that a script is searched for: each `!` is compared with each of them.
const CONDITION_COUNT_MAX: usize = 1_000;

/// The subshells, functions and substitutions of a script, each with a status of its own.
fn scope_spans(script: &ShellText) -> Vec<conex_shell::Span> {
    let mut spans = Vec::new();
    each_command(script, |command| {
        if matches!(command.kind, CommandKind::Subshell(_) | CommandKind::Function { .. }) {
            spans.push(command.span);
        }
    });
    each_part(script, |part, _| {
        if matches!(part.kind, PartKind::Command { .. } | PartKind::Process(_)) {
            spans.push(part.span);
        }
    });
    spans
}

/// The conditions of `if` and loops, in which a status is looked at.
fn condition_spans(script: &ShellText) -> Vec<conex_shell::Span> {
    let mut spans = Vec::new();
    each_command(script, |command| match &command.kind {
        CommandKind::If { branches, .. } => {
            spans.extend(branches.iter().map(|(list, _)| list.span));
        }
        CommandKind::Loop { condition, .. } => spans.push(condition.span),
        _ => {}
    });
    spans
}

pub(super) const LOOP_ONCE: Rule = Rule {
    name: "LoopRunsOnce",
    description: "A loop over one word that never changes",
    why: "`for x in name` runs once, with `x` set to that name. A `$` or a `*` was probably forgotten.",
    bad: "FROM debian:13\nRUN for f in files; do echo \"$f\"; done\n",
    good: "FROM debian:13\nRUN for f in files/*; do echo \"$f\"; done\n",
    codes: &["SC2043"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let CommandKind::For { words: Some(words), .. } = &command.kind else { return };
                let [word] = words.as_slice() else { return };
                let literal = word.literal(&script.text);
                let is_fixed =
                    literal.is_some_and(|text| !text.contains(['*', '?', '[', '{', '~']));
                if is_fixed {
                    context.within(sink, view, script, word.span, "the loop runs once");
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const FOR_OVER_CAT: Rule = Rule {
    name: "LoopOverWordsOfFile",
    description: "A loop over what `cat` prints goes word by word",
    why: "`for x in $(cat file)` cuts lines at blanks. `while read -r x` takes line by line.",
    bad: "FROM debian:13\nRUN for p in $(cat list); do echo \"$p\"; done\n",
    good: "FROM debian:13\nRUN while read -r p; do echo \"$p\"; done < list\n",
    codes: &["SC2013"],
    level: Level::Info,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let CommandKind::For { words: Some(all), .. } = &command.kind else { return };
                for part in all.iter().flat_map(|word| &word.parts) {
                    let PartKind::Command { body, .. } = &part.kind else { continue };
                    let [item] = body.items.as_slice() else { continue };
                    let first = item.and_or.first.commands.first();
                    let reads = first.is_some_and(|first| {
                        program(first, &script.text).as_deref() == Some("cat")
                            && words(first).len() > 1
                    });
                    if reads {
                        context
                            .within(
                                sink,
                                view,
                                script,
                                part.span,
                                "the loop takes words, not lines",
                            )
                            .hint(
                                "write `while read -r line; do …; done < file`, if lines are meant",
                            );
                    }
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const ECHO_ESCAPES: Rule = Rule {
    name: "EchoEscapes",
    description: "`echo` may print `\\n` as it stands",
    why: "Whether `echo` reads escapes depends on the shell: dash does, bash does not. `printf` does everywhere.",
    bad: "FROM debian:13\nRUN echo \"a\\nb\"\n",
    good: "FROM debian:13\nRUN printf 'a\\nb\\n'\n",
    codes: &["SC2028"],
    level: Level::Info,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let all = words(command);
                let is_echo = program(command, &script.text).as_deref() == Some("echo");
                let flags = all.get(1).map_or("", |word| word.span.of(&script.text));
                if !is_echo || (flags.starts_with('-') && flags.contains(['e', 'E'])) {
                    return;
                }
                let escaped = all.iter().skip(1).find(|word| {
                    word.parts.iter().any(|part| {
                        let is_quoted =
                            matches!(part.kind, PartKind::DoubleQuoted(_) | PartKind::SingleQuoted);
                        let written = part.span.of(&script.text);
                        is_quoted
                            && ["\\n", "\\t", "\\r", "\\0", "\\x", "\\a", "\\e"]
                                .iter()
                                .any(|escape| written.contains(escape))
                    })
                });
                if let Some(word) = escaped {
                    context
                        .within(
                            sink,
                            view,
                            script,
                            word.span,
                            "shells differ about escapes in `echo`",
                        )
                        .hint("use `printf`");
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const USELESS_CAT: Rule = Rule {
    name: "UselessCat",
    description: "`cat file |` where the next command could read the file",
    why: "A process and a pipe for nothing; without `pipefail` it also hides that the file is not there.",
    bad: "FROM debian:13\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN cat /etc/passwd | grep root\n",
    good: "FROM debian:13\nRUN grep root /etc/passwd\n",
    codes: &["SC2002"],
    level: Level::Style,
    set: Set::Shell,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_pipeline(script, |pipeline| {
                let [first, second, ..] = pipeline.commands.as_slice() else { return };
                let all = words(first);
                let one_file = all.len() == 2
                    && all.get(1).is_some_and(|word| {
                        let written = word.span.of(&script.text);
                        !written.starts_with('-') && !written.contains(['*', '?', '{'])
                    });
                if program(first, &script.text).as_deref() == Some("cat")
                    && one_file
                    && first.redirects.is_empty()
                {
                    context
                        .within(sink, view, script, first.span, "`cat` has nothing to join")
                        .hint("let the next command read the file, or write `< file`")
                        .fix(without_cat(context, script, first, second));
                }
            });
        }
    }),
    ..PLAIN
};

/// `< file command` for `cat file | command`. If the file is not there, it fails.
fn without_cat(
    context: &Context<'_>,
    script: &ShellText,
    cat: &conex_shell::Command,
    next: &conex_shell::Command,
) -> Option<Fix> {
    let file = words(cat).get(1)?.span.of(&script.text);
    words(next).first()?;
    let range = script.source(cat.span).start..script.source(next.span).start;
    if !next.redirects.is_empty() || context.written(&range).contains(['#', '\n']) {
        return None;
    }
    Some(Fix::risky("write `< file`", vec![Edit::replace(range, format!("< {file} "))]))
}

pub(super) const AND_OR_IF: Rule = Rule {
    name: "AndOrIsNoIf",
    description: "`a && b || c` runs `c` also when `b` fails",
    why: "It looks like if-then-else and is not: if the first command does well and the second fails, the third runs too.",
    bad: "FROM debian:13\nRUN [ -f /a ] && rm /a || touch /b\n",
    good: "FROM debian:13\nRUN if [ -f /a ]; then rm /a; else touch /b; fi\n",
    codes: &["SC2015"],
    level: Level::Info,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_list(script, |list| {
                for item in &list.items {
                    let rest = item.and_or.rest.as_slice();
                    let [.., (Connector::And, _, then), (Connector::Or, operator, otherwise)] =
                        rest
                    else {
                        continue;
                    };
                    let name = |pipeline: &conex_shell::Pipeline| {
                        pipeline.commands.first().and_then(|command| program(command, &script.text))
                    };
                    // What cannot fail, or only says something, is an else after all.
                    let harmless = |name: Option<String>| {
                        name.is_none_or(|name| {
                            matches!(
                                name.as_str(),
                                "true" | "echo" | "printf" | "exit" | "return" | ":" | "false"
                            )
                        })
                    };
                    if harmless(name(then)) || harmless(name(otherwise)) {
                        continue;
                    }
                    context
                        .within(
                            sink,
                            view,
                            script,
                            *operator,
                            "this runs also when the command before it fails",
                        )
                        .hint("write `if …; then …; else …; fi`");
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const FIND_XARGS: Rule = Rule {
    name: "FindXargs",
    description: "Names with blanks fall apart between `find` and `xargs`",
    why: "`xargs` cuts at blanks and quotes. `find -print0 | xargs -0`, or `-exec … {} +`, keeps names whole.",
    bad: "FROM debian:13\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN find /a -name x | xargs rm\n",
    good: "FROM debian:13\nRUN find /a -name x -exec rm {} +\n",
    codes: &["SC2038"],
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_pipeline(script, |pipeline| {
                for pair in pipeline.commands.windows(2) {
                    let [first, second] = pair else { continue };
                    let is = |command: &conex_shell::Command, name: &str| {
                        program(command, &script.text).as_deref() == Some(name)
                    };
                    let has = |command: &conex_shell::Command, flags: &[&str]| {
                        words(command)
                            .iter()
                            .any(|word| flags.contains(&word.span.of(&script.text)))
                    };
                    let is_safe = has(first, &["-print0", "-printf", "-fprint0"])
                        || words(second).iter().any(|word| {
                            let text = word.span.of(&script.text);
                            text == "--null"
                                || (text.starts_with('-')
                                    && !text.starts_with("--")
                                    && text.contains('0'))
                        });
                    if is(first, "find") && is(second, "xargs") && !is_safe {
                        context
                            .within(sink, view, script, second.span, "names with blanks fall apart")
                            .hint("write `find … -print0 | xargs -0 …`, or `-exec … {} +`")
                            .fix(with_zeros(script, first, second));
                    }
                }
            });
        }
    }),
    ..PLAIN
};

/// `find … -print0 | xargs -0 …`, where `find` only looks for names.
fn with_zeros(
    script: &ShellText,
    find: &conex_shell::Command,
    xargs: &conex_shell::Command,
) -> Option<Fix> {
    const NAMING: [&str; 12] = [
        "-name",
        "-iname",
        "-type",
        "-path",
        "-mindepth",
        "-maxdepth",
        "-user",
        "-group",
        "-size",
        "-mtime",
        "-newer",
        "-perm",
    ];
    let flags = |command| {
        let texts = words(command).iter().skip(1).map(|word| word.span.of(&script.text));
        texts.filter(|text| text.starts_with('-')).collect::<Vec<_>>()
    };
    let looks_only = flags(find).iter().all(|flag| NAMING.contains(flag))
        && !words(find).iter().any(|word| word.span.of(&script.text).ends_with(['(', ',', '!']));
    let is_plain =
        flags(xargs).iter().all(|flag| {
            ["-r", "-t", "-P", "-n"].iter().any(|known| flag.starts_with(known)) || flag.len() > 2
        }) && flags(xargs).iter().all(|flag| !flag.contains(['d', 'L', 'l']) || flag.len() > 2);
    let (last, program) = (words(find).last()?, words(xargs).first()?);
    (looks_only && is_plain).then(|| {
        let edits = vec![
            Edit::insert(script.source(last.span).end, " -print0"),
            Edit::insert(script.source(program.span).end, " -0"),
        ];
        Fix::safe("end names with zeros", edits)
    })
}

pub(super) const RM_ROOT: Rule = Rule {
    name: "RmMayDeleteRoot",
    description: "If the variable is empty, everything is deleted",
    why: "`rm -rf \"$dir/\"*` with an empty `dir` deletes `/*`. `${dir:?}` stops instead.",
    bad: "FROM debian:13\nARG dir\nRUN rm -rf \"$dir/\"*\n",
    good: "FROM debian:13\nARG dir\nRUN rm -rf \"${dir:?}/\"*\n",
    codes: &["SC2115"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("rm")) {
            if !cmd.has_any_flag(&["r", "R", "recursive"]) {
                continue;
            }
            for arg in cmd.args.iter().filter(|arg| !arg.is_literal) {
                let rest = arg.text.strip_prefix("${VAR}").unwrap_or("-");
                let is_root = matches!(
                    rest,
                    "/" | "/*"
                        | "/bin"
                        | "/etc"
                        | "/home"
                        | "/lib"
                        | "/usr"
                        | "/var"
                        | "/opt"
                        | "/mnt"
                );
                if is_root && !arg.span.of(&script.text).contains(":?") {
                    context
                        .within(
                            sink,
                            view,
                            script,
                            arg.span,
                            "if the variable is empty, everything is deleted",
                        )
                        .hint("write `${name:?}`");
                }
            }
        }
    }),
    ..PLAIN
};

pub(super) const READ_WITHOUT_R: Rule = Rule {
    name: "ReadWithoutR",
    description: "`read` eats backslashes",
    why: "Without `-r` a backslash in the input escapes what follows.",
    bad: "FROM debian:13\nRUN while read a; do echo \"$a\"; done < /list\n",
    good: "FROM debian:13\nRUN while read -r a; do echo \"$a\"; done < /list\n",
    codes: &["SC2162"],
    level: Level::Info,
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("read")) {
            let reads_raw = cmd.args.iter().any(|arg| {
                arg.text.starts_with('-') && !arg.text.starts_with("--") && arg.text.contains('r')
            });
            if reads_raw {
                continue;
            }
            let end = script.source(cmd.name_span).end;
            context
                .within(sink, view, script, cmd.name_span, "`read` eats backslashes")
                .hint("write `read -r`")
                .fix(Fix::safe("add `-r`", vec![Edit::insert(end, " -r")]));
        }
    }),
    ..PLAIN
};

pub(super) const STATUS_CHECKED_LATE: Rule = Rule {
    name: "StatusCheckedLate",
    description: "`$?` is compared where the command itself could be asked",
    why: "Between the command and the comparison another command slips in easily, and then its status is compared.",
    bad: "FROM debian:13\nRUN make; if [ $? -ne 0 ]; then exit 1; fi\n",
    good: "FROM debian:13\nRUN if ! make; then exit 1; fi\n",
    codes: &["SC2181"],
    level: Level::Style,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let name = program(command, &script.text).unwrap_or_default();
                if name != "[" && name != "test" {
                    return;
                }
                let texts: Vec<&str> =
                    words(command).iter().skip(1).map(|word| word.span.of(&script.text)).collect();
                let [left, operator, right, ..] = texts.as_slice() else { return };
                let is_status = left.trim_matches('"') == "$?";
                if is_status
                    && *right == "0"
                    && ["-ne", "-eq", "=", "!=", "==", "-gt"].contains(operator)
                {
                    context
                        .within(
                            sink,
                            view,
                            script,
                            command.span,
                            "the command itself could be asked",
                        )
                        .hint("write `if command; then …`");
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const OLD_GREP: Rule = Rule {
    name: "OldGrep",
    description: "`egrep` and `fgrep` are obsolete",
    why: "GNU grep warns of both, and they will be gone.",
    bad: "FROM debian:13\nRUN egrep x /etc/passwd\n",
    good: "FROM debian:13\nRUN grep -E x /etc/passwd\n",
    codes: &["SC2196", "SC2197"],
    level: Level::Info,
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands() {
            let (instead, code) = match cmd.name.as_str() {
                "egrep" => ("grep -E", "SC2196"),
                "fgrep" => ("grep -F", "SC2197"),
                _ => continue,
            };
            let is_plain = cmd.name_span.of(&script.text) == cmd.name;
            let range = script.source(cmd.name_span);
            let fix = is_plain.then(|| {
                Fix::safe(format!("write `{instead}`"), vec![Edit::replace(range, instead)])
            });
            context
                .within(sink, view, script, cmd.name_span, format!("`{}` is obsolete", cmd.name))
                .hint(format!("write `{instead}`"))
                .code(code)
                .fix(fix);
        }
    }),
    ..PLAIN
};

pub(super) const TEST_AND_OR: Rule = Rule {
    name: "TestAndOr",
    description: "`-a` and `-o` in `[ … ]` are ambiguous",
    why: "POSIX took them out: with values that look like operators nobody can say what is meant. `[ a ] && [ b ]` is clear.",
    bad: "FROM debian:13\nRUN if [ -f /a -a -f /b ]; then make; fi\n",
    good: "FROM debian:13\nRUN if [ -f /a ] && [ -f /b ]; then make; fi\n",
    codes: &["SC2166"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let name = program(command, &script.text).unwrap_or_default();
                if name != "[" && name != "test" {
                    return;
                }
                let found = words(command)
                    .iter()
                    .skip(2)
                    .find(|word| matches!(word.span.of(&script.text), "-a" | "-o"));
                if let Some(word) = found {
                    let written = word.span.of(&script.text);
                    let instead = if written == "-a" { "&&" } else { "||" };
                    context
                        .within(
                            sink,
                            view,
                            script,
                            word.span,
                            format!("`{written}` in `[` is ambiguous"),
                        )
                        .hint(format!("write `[ … ] {instead} [ … ]`"));
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const USELESS_ECHO: Rule = Rule {
    name: "UselessEcho",
    description: "`echo $(command)` prints what the command prints",
    why: "The command alone prints the same, with its blanks and lines as they were.",
    bad: "FROM debian:13\nRUN echo \"$(date)\"\n",
    good: "FROM debian:13\nRUN date\n",
    codes: &["SC2005"],
    level: Level::Style,
    set: Set::Shell,
    check: Check::Lint(useless_echo),
    ..PLAIN
};

fn useless_echo(context: &Context<'_>, sink: &mut Sink<'_>) {
    for (view, script) in scripts(context) {
        each_command(script, |command| {
            let [_, word] = words(command) else { return };
            if program(command, &script.text).as_deref() != Some("echo")
                || !command.redirects.is_empty()
            {
                return;
            }
            let alone = match word.parts.as_slice() {
                [part] => match &part.kind {
                    PartKind::Command { .. } => true,
                    PartKind::DoubleQuoted(parts) => {
                        let is_command =
                            |part: &Part| matches!(part.kind, PartKind::Command { .. });
                        matches!(parts.as_slice(), [part] if is_command(part))
                    }
                    _ => false,
                },
                _ => false,
            };
            if alone {
                context
                    .within(
                        sink,
                        view,
                        script,
                        command.span,
                        "`echo` prints what the command prints anyway",
                    )
                    .hint("run the command alone");
            }
        });
    }
}

pub(super) const PARSED_LS: Rule = Rule {
    name: "ParsedLs",
    description: "What `ls` prints is read by a program",
    why: "Names may hold blanks and line ends, which `ls` prints as they are or as `?`. A pattern or `find` gives names as they are.",
    bad: "FROM debian:13\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN ls | grep x\n",
    good: "FROM debian:13\nRUN ls ./*x*\n",
    codes: &["SC2010", "SC2012"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_pipeline(script, |pipeline| {
                let [first, second, ..] = pipeline.commands.as_slice() else { return };
                if program(first, &script.text).as_deref() != Some("ls") {
                    return;
                }
                let is_grep =
                    program(second, &script.text).is_some_and(|name| name.ends_with("grep"));
                context
                    .within(sink, view, script, first.span, "names fall apart in what `ls` prints")
                    .hint("use a pattern (`./*`) or `find`")
                    .code(if is_grep { "SC2010" } else { "SC2012" });
            });
        }
    }),
    ..PLAIN
};

pub(super) const CONSTANT_TEST: Rule = Rule {
    name: "ConstantTest",
    description: "A comparison of two fixed texts is always the same",
    why: "Nothing in it can change: a `$` was probably forgotten.",
    bad: "FROM debian:13\nRUN if [ arch = amd64 ]; then make; fi\n",
    good: "FROM debian:13\nRUN if [ \"$(arch)\" = amd64 ]; then make; fi\n",
    codes: &["SC2050"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in
            context.commands().filter(|(_, _, cmd)| cmd.is_any(&["[", "test"]))
        {
            let [left, operator, right, ..] = cmd.args.as_slice() else { continue };
            let compares = ["=", "==", "!=", "-eq", "-ne", "-lt", "-gt", "-le", "-ge"]
                .contains(&operator.text.as_str());
            if compares && left.is_literal && right.is_literal {
                context
                    .within(sink, view, script, cmd.span, "the comparison is always the same")
                    .hint("write `$name`, if a variable is meant");
            }
        }
    }),
    ..PLAIN
};
