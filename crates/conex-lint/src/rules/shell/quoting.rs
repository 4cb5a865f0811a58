//! Words that are cut in pieces, and quotes that keep from expanding.

use std::collections::{BTreeMap, BTreeSet};

use conex_dockerfile::Kind;
use conex_shell::Parameter;

use crate::context::Inheritance;

use super::{
    Check, CommandKind, Context, Edit, Fix, Fixable, Level, PLAIN, Part, PartKind, Rule, Set,
    ShellText, Sink, View, Visit, Word, each_command, each_part, program, replacing, scripts,
    words,
};

pub(super) const UNQUOTED_VARIABLE: Rule = Rule {
    name: "UnquotedVariable",
    description: "A variable without quotes is cut at blanks and matched against files",
    why: "`$a` without quotes becomes as many words as its value has, and `*` in it becomes the names of files. With quotes it stays one word.",
    bad: "FROM debian:13\nARG dir\nRUN target=$(pwd) && mkdir $target\n",
    good: "FROM debian:13\nARG dir\nRUN target=$(pwd) && mkdir \"$target\"\n",
    codes: &["SC2086"],
    level: Level::Info,
    set: Set::Shell,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        each_run(context, |view, declared| {
            for script in view.runs().filter(|one| one.script.error.is_none()) {
                let assigned = assigned_variables(script);
                let lists = package_lists(script);
                split_words(script, |word| {
                    for part in unquoted(&word.parts) {
                        let PartKind::Parameter(parameter) = &part.kind else { continue };
                        let is_list = word.parts.len() == 1
                            && (lists.contains(&word.span) || is_list_name(parameter, script));
                        if is_list || is_safe(parameter, script, &assigned, declared) {
                            continue;
                        }
                        let quoted = format!("\"{}\"", part.span.of(&script.text));
                        let fix = replacing(context, script, part.span, "quote it", &quoted);
                        let name = parameter.name.of(&script.text);
                        context
                            .within(
                                sink,
                                view,
                                script,
                                part.span,
                                format!("`${name}` stands without quotes"),
                            )
                            .hint(format!("write `{quoted}`"))
                            .fix(fix);
                    }
                });
            }
        });
    }),
    ..PLAIN
};

/// The parts that are cut at blanks.
fn unquoted(parts: &[Part]) -> impl Iterator<Item = &Part> {
    parts.iter().filter(|part| !matches!(part.kind, PartKind::DoubleQuoted(_)))
}

/// Calls `visit` for every word that is cut at blanks after it expanded: arguments and targets of
/// redirections, but no assignment, no `[[ … ]]`, no subject of `case`, no list of `for`.
fn split_words<'s>(script: &'s ShellText, mut visit: impl FnMut(&'s Word)) {
    struct Split<'s, 'f> {
        text: &'s str,
        /// bash takes the arguments of `export` for assignments, dash cuts them.
        is_bash: bool,
        visit: &'f mut dyn FnMut(&'s Word),
    }
    impl<'s> Visit<'s> for Split<'s, '_> {
        fn command(&mut self, command: &'s conex_shell::Command) {
            let name = program(command, self.text);
            let declares = name.as_deref().is_some_and(|name| {
                ["export", "local", "declare", "readonly", "typeset"].contains(&name)
            });
            for word in words(command) {
                if !(self.is_bash && declares && word.span.of(self.text).contains('=')) {
                    (self.visit)(word);
                }
            }
            for redirect in &command.redirects {
                if redirect.kind != conex_shell::RedirectKind::HereString {
                    (self.visit)(&redirect.target);
                }
            }
            conex_shell::walk_command(self, command);
        }
    }
    let is_bash = script.reader.shell == crate::script::Shell::Bash;
    script.script.visit(&mut Split { text: &script.text, is_bash, visit: &mut visit });
}

/// Whether a variable is a list by its name: `$JAVA_OPTS`, `$CFLAGS`, `$runDeps`. Quotes would
/// make one word of it, which is never meant.
fn is_list_name(parameter: &Parameter, script: &ShellText) -> bool {
    const ENDS: [&str; 14] = [
        "deps",
        "opts",
        "options",
        "flags",
        "args",
        "arguments",
        "packages",
        "pkgs",
        "modules",
        "extensions",
        "params",
        "mark",
        "features",
        "list",
    ];
    let name = parameter.name.of(&script.text).to_ascii_lowercase();
    ENDS.iter().any(|end| name.ends_with(end))
}

/// The arguments of commands that take lists of packages: a variable among them is cut on purpose.
fn package_lists(script: &ShellText) -> BTreeSet<conex_shell::Span> {
    const TOOLS: [&str; 22] = [
        "apt-get",
        "apt",
        "apt-mark",
        "apk",
        "xx-apk",
        "xx-apt",
        "xx-apt-get",
        "yum",
        "dnf",
        "microdnf",
        "zypper",
        "pacman",
        "pip",
        "pip3",
        "npm",
        "gem",
        "pecl",
        "conda",
        "docker-php-ext-install",
        "docker-php-ext-configure",
        "install_packages",
        "configure",
    ];
    let takes = script.commands.iter().filter(|cmd| cmd.is_any(&TOOLS));
    takes.flat_map(|cmd| &cmd.args).filter(|arg| !arg.is_literal).map(|arg| arg.span).collect()
}

/// The variables that a script sets, and whether every value is one plain word.
fn assigned_variables(script: &ShellText) -> BTreeMap<String, bool> {
    let mut values: BTreeMap<String, bool> = BTreeMap::new();
    let text = script.text.as_str();
    let is_clean = |word: &Word| {
        word.literal(text).is_some_and(|value| {
            !value.is_empty() && !value.contains([' ', '\t', '\n', '*', '?', '[', '~'])
        })
    };
    each_command(script, |command| match &command.kind {
        CommandKind::Simple(simple) => {
            for assignment in &simple.assignments {
                let name = assignment.name.of(text).to_owned();
                let clean = assignment.array.is_none() && is_clean(&assignment.value);
                let known = values.entry(name).or_insert(true);
                *known &= clean;
            }
            for word in simple.words.iter().skip(1) {
                let written = word.span.of(text);
                if let Some((name, value)) = written.split_once('=')
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                {
                    let plain = !value.contains(['$', '`', ' ', '*', '?', '[', '"', '\'']);
                    let known = values.entry(name.to_owned()).or_insert(true);
                    *known &= plain && !value.is_empty();
                }
            }
            if simple.words.first().is_some_and(|word| word.span.of(text) == "read") {
                for word in simple.words.iter().skip(1) {
                    values.insert(word.span.of(text).to_owned(), false);
                }
            }
        }
        CommandKind::For { name, words, .. } => {
            let clean = words.as_ref().is_some_and(|words| words.iter().all(is_clean));
            let known = values.entry(name.of(text).to_owned()).or_insert(true);
            *known &= clean;
        }
        _ => {}
    });
    values
}

/// Whether cutting a variable does nothing. Of those that the file declares that is taken for
/// granted: a list of words in `ENV` is meant to be cut.
fn is_safe(
    parameter: &Parameter,
    script: &ShellText,
    assigned: &BTreeMap<String, bool>,
    declared: &Declared<'_>,
) -> bool {
    let name = parameter.name.of(&script.text);
    if parameter.length || matches!(name, "#" | "?" | "$" | "!" | "-" | "@" | "*") {
        return true;
    }
    if matches!(name, "UID" | "EUID" | "PPID" | "RANDOM" | "LINENO" | "SECONDS" | "BASHPID") {
        return true;
    }
    let operator = parameter.operator.map_or("", |span| span.of(&script.text));
    // `${a:+x}` is what stands behind the operator.
    if matches!(operator, "+" | ":+") {
        return true;
    }
    let is_clean = assigned.get(name).copied().unwrap_or_else(|| declared.contains(name));
    is_clean && !matches!(operator, "-" | ":-" | "=" | ":=" | "/" | "//")
}

pub(super) const UNQUOTED_SUBSTITUTION: Rule = Rule {
    name: "UnquotedSubstitution",
    description: "What a command prints is cut at blanks and matched against files",
    why: "`$(command)` without quotes becomes as many words as the command prints. With quotes it stays one.",
    bad: "FROM debian:13\nRUN touch $(cat /name)\n",
    good: "FROM debian:13\nRUN touch \"$(cat /name)\"\n",
    codes: &["SC2046"],
    set: Set::Shell,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        /// Programs that print one word.
        const ONE_WORD: [&str; 4] = ["nproc", "uname", "arch", "pgrep"];
        for (view, script) in scripts(context) {
            split_words(script, |word| {
                for part in unquoted(&word.parts) {
                    let PartKind::Command { body, .. } = &part.kind else { continue };
                    let first = body.items.first().map(|item| &item.and_or.first);
                    let last = first.and_then(|pipeline| pipeline.commands.last());
                    let name = last.and_then(|command| program(command, &script.text));
                    if name.is_none() || name.is_some_and(|name| ONE_WORD.contains(&name.as_str()))
                    {
                        continue;
                    }
                    let quoted = format!("\"{}\"", part.span.of(&script.text));
                    let fix = replacing(context, script, part.span, "quote it", &quoted);
                    context
                        .within(
                            sink,
                            view,
                            script,
                            part.span,
                            "what a command prints stands without quotes",
                        )
                        .hint("put it in double quotes, if one word is meant")
                        .fix(fix);
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const UNQUOTED_ARGUMENTS: Rule = Rule {
    name: "UnquotedArguments",
    description: "`$@` without quotes cuts arguments in pieces",
    why: "Only `\"$@\"` gives the arguments as they came; without quotes those with blanks fall apart.",
    bad: "FROM debian:13\nRUN f() { ls $@; }; f a\n",
    good: "FROM debian:13\nRUN f() { ls \"$@\"; }; f a\n",
    codes: &["SC2068"],
    level: Level::Error,
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            split_words(script, |word| {
                for part in unquoted(&word.parts) {
                    let PartKind::Parameter(parameter) = &part.kind else { continue };
                    let text = script.text.as_str();
                    let is_all = parameter.name.of(text) == "@"
                        || parameter.subscript.is_some_and(|span| span.of(text) == "[@]");
                    if !is_all || parameter.length || parameter.operator.is_some() {
                        continue;
                    }
                    let quoted = format!("\"{}\"", part.span.of(text));
                    let fix = replacing(context, script, part.span, "quote it", &quoted)
                        .map(|fix| Fix::safe(fix.title, fix.edits));
                    context
                        .within(sink, view, script, part.span, "arguments are cut in pieces")
                        .hint(format!("write `{quoted}`"))
                        .fix(fix);
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const SINGLE_QUOTED_DOLLAR: Rule = Rule {
    name: "DollarInSingleQuotes",
    description: "A variable in single quotes does not expand",
    why: "Within `'…'` a dollar sign is a dollar sign.",
    bad: "FROM debian:13\nRUN echo 'hello $USER'\n",
    good: "FROM debian:13\nRUN echo \"hello $USER\"\n",
    codes: &["SC2016"],
    level: Level::Info,
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        /// Programs for which `$` means something itself.
        const OWN_DOLLARS: [&str; 34] = [
            "sh",
            "bash",
            "dash",
            "ash",
            "zsh",
            "ksh",
            "su",
            "sudo",
            "awk",
            "gawk",
            "mawk",
            "sed",
            "gsed",
            "perl",
            "python",
            "python3",
            "ruby",
            "node",
            "php",
            "trap",
            "eval",
            "alias",
            "jq",
            "yq",
            "find",
            "xargs",
            "envsubst",
            "docker",
            "git",
            "psql",
            "mysql",
            "dpkg-query",
            "jinja2",
            "printf",
        ];
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let name = program(command, &script.text);
                let own = name.as_deref().is_some_and(|name| {
                    OWN_DOLLARS.contains(&name)
                        || name.starts_with("python")
                        || name.starts_with("perl")
                });
                if own {
                    return;
                }
                for part in words(command).iter().flat_map(|word| &word.parts) {
                    if matches!(part.kind, PartKind::SingleQuoted)
                        && holds_expansion(part.span.of(&script.text))
                    {
                        context
                            .within(
                                sink,
                                view,
                                script,
                                part.span,
                                "nothing expands in single quotes",
                            )
                            .hint("use double quotes, if it is to expand");
                    }
                }
            });
        }
    }),
    ..PLAIN
};

/// Whether a text holds `$name`, `${…}` or `$(…)`; a name alone needs a letter behind the sign.
fn holds_expansion(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(2).any(|pair| {
        let begins = |next: &u8| next.is_ascii_alphabetic() || b"_{(".contains(next);
        matches!(pair, [b'$', next] if begins(next))
    }) || bytes.iter().filter(|byte| **byte == b'`').count() >= 2
}

pub(super) const BACKQUOTES: Rule = Rule {
    name: "Backquotes",
    description: "Substitution in the old notation",
    why: "`$(…)` can be nested and needs no escapes within; backquotes are easily taken for single quotes.",
    bad: "FROM debian:13\nRUN a=`date` && echo \"$a\"\n",
    good: "FROM debian:13\nRUN a=$(date) && echo \"$a\"\n",
    codes: &["SC2006"],
    level: Level::Style,
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_part(script, |part, _| {
                let PartKind::Command { backquoted: true, .. } = &part.kind else { return };
                let written = part.span.of(&script.text);
                let range = script.source(part.span);
                // What is escaped within would have to be unescaped.
                let fix = (!written.contains('\\') && written.len() > 2).then(|| {
                    Fix::safe(
                        "write `$(…)`",
                        vec![
                            Edit::replace(range.start..range.start + 1, "$("),
                            Edit::replace(range.end - 1..range.end, ")"),
                        ],
                    )
                });
                context
                    .within(sink, view, script, part.span, "backquotes are the old notation")
                    .hint("write `$(…)`")
                    .fix(fix);
            });
        }
    }),
    ..PLAIN
};

pub(super) const DASH_GLOB: Rule = Rule {
    name: "GlobMayBeFlag",
    description: "A file whose name begins with `-` would be taken for a flag",
    why: "`*` becomes the names of files, and one that begins with a dash is read as a flag. `./*` never is.",
    bad: "FROM debian:13\nRUN rm *\n",
    good: "FROM debian:13\nRUN rm ./*\n",
    codes: &["SC2035"],
    level: Level::Info,
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let all = words(command);
                let name = program(command, &script.text).unwrap_or_default();
                if ["echo", "printf", "", "expr", "case"].contains(&name.as_str()) {
                    return;
                }
                let mut ended = false;
                for word in all.iter().skip(1) {
                    let written = word.span.of(&script.text);
                    ended |= written == "--";
                    let is_glob = matches!(word.parts.first(), Some(part)
                        if matches!(part.kind, PartKind::Literal)
                            && part.span.of(&script.text).starts_with(['*', '?']));
                    if !is_glob || ended {
                        continue;
                    }
                    let at = script.source(word.span).start;
                    let fix = Fix::safe("write `./` before it", vec![Edit::insert(at, "./")]);
                    context
                        .within(
                            sink,
                            view,
                            script,
                            word.span,
                            "a name that begins with `-` would be a flag",
                        )
                        .hint(format!("write `./{written}`"))
                        .fix(fix);
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const LITERAL_BRACE: Rule = Rule {
    name: "LiteralBrace",
    description: "A brace stands for itself",
    why: "`{` and `}` group commands only as words of their own where a command begins; elsewhere they are text, which is seldom meant.",
    bad: "FROM debian:13\nRUN echo } \n",
    good: "FROM debian:13\nRUN echo '}'\n",
    codes: &["SC1083"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        for (view, script) in scripts(context) {
            each_command(script, |command| {
                let name = program(command, &script.text).unwrap_or_default();
                // `find -exec … {} ;` and `xargs -I{}` mean themselves.
                for word in words(command).iter().skip(1) {
                    let written = word.span.of(&script.text);
                    if matches!(written, "{" | "}") && name != "find" && name != "xargs" {
                        context
                            .within(
                                sink,
                                view,
                                script,
                                word.span,
                                format!("`{written}` stands for itself here"),
                            )
                            .hint("quote it, or put a `;` before it");
                    }
                }
            });
        }
    }),
    ..PLAIN
};

pub(super) const UNASSIGNED: Rule = Rule {
    name: "VariableUnassigned",
    description: "A variable is used that nothing sets",
    why: "A variable that is not set is empty, and a path made of it is another one: `rm -rf $dir/` deletes everything.",
    bad: "FROM scratch\nRUN echo \"$nmae\"\n",
    good: "FROM scratch\nARG name\nRUN echo \"$name\"\n",
    codes: &["SC2154"],
    set: Set::Shell,
    check: Check::Lint(unassigned),
    ..PLAIN
};

fn unassigned(context: &Context<'_>, sink: &mut Sink<'_>) {
    // Each name that nothing sets is compared with all that something does.
    let mut budget = SUGGESTION_COST_MAX;
    each_run(context, |view, declared| {
        // Of the scripts of one step the outer one comes first; what it sets, it may hand on.
        let mut known = BTreeSet::new();
        for script in view.runs().filter(|script| script.script.error.is_none()) {
            let mut told = BTreeSet::new();
            for part in unassigned_in(script, declared, &mut known) {
                let PartKind::Parameter(parameter) = &part.kind else { continue };
                let name = parameter.name.of(&script.text);
                if !told.insert(name) {
                    continue;
                }
                let count = known.len() + declared.file.len();
                let near = budget.checked_sub(count).and_then(|left| {
                    budget = left;
                    let names = known.iter().chain(declared.file).map(String::as_str);
                    conex_report::did_you_mean(name, names).map(str::to_owned)
                });
                let message = format!("nothing sets `{name}`");
                let noted = context.within(sink, view, script, part.span, message);
                if let Some(near) = near {
                    noted.hint(format!("did you mean `{near}`?"));
                }
            }
        }
    });
}

/// Most names compared to make suggestions for one file.
const SUGGESTION_COST_MAX: usize = 200_000;

/// The variables that a file declares before a step.
pub(super) struct Declared<'d> {
    file: &'d BTreeSet<String>,
    /// Those of the step's own mounts.
    mounts: Vec<&'d str>,
}

impl Declared<'_> {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.file.contains(name) || self.mounts.contains(&name)
    }
}

/// Calls `visit` for every RUN, with the variables that the file declares before it.
pub(super) fn each_run(context: &Context<'_>, mut visit: impl FnMut(&View<'_>, &Declared<'_>)) {
    let parents = context.stages.iter().map(|stage| stage.parent);
    let mut known_by_stage: Inheritance<BTreeSet<String>> = Inheritance::new(parents);
    for stage in &context.stages {
        let mut known = known_by_stage.of(stage.parent).unwrap_or_default();
        for view in &stage.steps {
            match view.kind() {
                Kind::Arg(arg) => known.extend(arg.args.iter().map(|arg| arg.name.raw.clone())),
                Kind::Env(env) => known.extend(env.pairs.iter().map(|pair| pair.key.raw.clone())),
                Kind::Run(run) => {
                    let envs = run.mounts.iter().flat_map(|mount| &mount.fields);
                    let envs = envs.filter(|field| field.key == "env");
                    let mounts = envs.filter_map(|field| Some(field.value.as_ref()?.raw.as_str()));
                    visit(view, &Declared { file: &known, mounts: mounts.collect() });
                }
                _ => {}
            }
        }
        known_by_stage.keep(known);
    }
}

/// The parts that expand a variable which neither the script nor the file sets; what the script
/// sets is added to `known`.
fn unassigned_in<'s>(
    script: &'s ShellText,
    declared: &Declared<'_>,
    known: &mut BTreeSet<String>,
) -> Vec<&'s Part> {
    let text = script.text.as_str();
    let mut sources_files = false;
    each_command(script, |command| {
        match &command.kind {
            CommandKind::Simple(simple) => {
                for assignment in &simple.assignments {
                    known.insert(assignment.name.of(text).to_owned());
                }
                // `read x`, `export x`, `printf -v x`, `getopts … x`, `mapfile x`: any word may be
                // a name that a builtin sets.
                let first = simple.words.first().map_or("", |word| word.span.of(text));
                sources_files |= matches!(first, "." | "source" | "eval");
                let sets = [
                    "read",
                    "export",
                    "local",
                    "declare",
                    "typeset",
                    "readonly",
                    "getopts",
                    "printf",
                    "mapfile",
                    "readarray",
                    "let",
                    "unset",
                ];
                if sets.contains(&first) {
                    for word in simple.words.iter().skip(1) {
                        let name = word.span.of(text).split('=').next().unwrap_or("");
                        known.insert(name.trim_matches(['"', '\'']).to_owned());
                    }
                }
            }
            CommandKind::For { name, .. } => {
                known.insert(name.of(text).to_owned());
            }
            CommandKind::Arithmetic(_) | CommandKind::ArithmeticFor { .. } => sources_files = true,
            _ => {}
        }
    });
    // What a sourced file sets is not known.
    if sources_files {
        return Vec::new();
    }
    let mut found = Vec::new();
    each_part(script, |part, _| {
        let PartKind::Parameter(parameter) = &part.kind else { return };
        let name = parameter.name.of(text);
        let operator = parameter.operator.map_or("", |span| span.of(text));
        let is_guarded = matches!(operator, "-" | ":-" | "=" | ":=" | "?" | ":?" | "+" | ":+");
        // Variables in capitals come from the environment, of which the base image is a part.
        let is_own = name.bytes().any(|byte| byte.is_ascii_lowercase());
        if is_own && !is_guarded && !known.contains(name) && !declared.contains(name) {
            found.push(part);
        }
    });
    found
}
