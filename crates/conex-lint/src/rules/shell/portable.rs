//! What bash understands and `sh` does not. Asked only where `sh` reads the script.

use conex_shell::{PartKind, RedirectKind, Span};

use super::quoting::{Declared, each_run};
use super::{
    Check, CommandKind, Context, Fixable, PLAIN, Rule, Set, ShellText, View, each_command,
    each_part, scripts, words,
};
use crate::finding::{Edit, Fix, Sink};
use crate::script::{Arg, Cmd, Shell};

/// Scripts that `sh` reads.
fn posix<'c, 'a>(
    context: &'c Context<'a>,
) -> impl Iterator<Item = (&'c View<'a>, &'c ShellText)> + use<'c, 'a> {
    scripts(context).filter(|(_, script)| script.reader.shell == Shell::Posix)
}

const WHY: &str = "`RUN` is read by `/bin/sh`, which is dash on Debian and BusyBox on Alpine. What only bash knows fails there, or means something else.";

const HINT: &str = "write it as POSIX has it, or choose bash with `SHELL`";

fn note(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    (view, script): (&View<'_>, &ShellText),
    span: Span,
    what: &str,
) {
    context.within(sink, view, script, span, format!("`sh` knows no {what}")).hint(HINT);
}

/// Most of these rules say the same of another construct.
macro_rules! bashism {
    (
        $name:ident, $rule:literal, $code:literal, $what:literal, $bad:literal, $good:literal,
        $check:expr
    ) => {
        pub(super) const $name: Rule = Rule {
            name: $rule,
            description: concat!("`sh` knows no ", $what),
            why: WHY,
            bad: $bad,
            good: $good,
            codes: &[$code],
            set: Set::Shell,
            check: Check::Lint(|context, sink| {
                for (view, script) in posix(context) {
                    let mut found: Vec<Span> = Vec::new();
                    #[allow(clippy::redundant_closure_call)]
                    ($check)(script, &mut found);
                    for span in found {
                        note(context, sink, (view, script), span, $what);
                    }
                }
            }),
            ..PLAIN
        };
    };
}

pub(super) const ECHO_FLAGS: Rule = Rule {
    name: "EchoFlags",
    description: "`sh` prints the flags of `echo`, or not",
    why: "POSIX gives `echo` no flags: dash prints `-e`, bash reads it. `printf` is the same everywhere.",
    bad: "FROM debian:13\nRUN echo -e 'a\\nb'\n",
    good: "FROM debian:13\nRUN printf 'a\\nb\\n'\n",
    codes: &["SC3037"],
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in posix(context) {
            for cmd in script.commands.iter().filter(|cmd| cmd.is("echo")) {
                let Some(flag) = cmd.args.first().filter(|arg| is_echo_flag(&arg.text)) else {
                    continue;
                };
                context
                    .within(sink, view, script, flag.span, "shells differ about flags of `echo`")
                    .hint("use `printf`")
                    .fix(with_printf(script, cmd, flag));
            }
        }
    }),
    ..PLAIN
};

/// `printf` for an `echo` of one word.
fn with_printf(script: &ShellText, cmd: &Cmd, flag: &Arg) -> Option<Fix> {
    if cmd.args.len() != 2 || cmd.is_wrapped || cmd.name_span.of(&script.text) != "echo" {
        return None;
    }
    let format = match flag.text.as_str() {
        "-e" => "%b\\n",
        "-n" => "%s",
        "-ne" | "-en" => "%b",
        _ => return None,
    };
    let range = script.source(cmd.name_span).start..script.source(flag.span).end;
    Some(Fix::safe("use `printf`", vec![Edit::replace(range, format!("printf '{format}'"))]))
}

fn is_echo_flag(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|flags| !flags.is_empty() && flags.chars().all(|flag| "neE".contains(flag)))
}

pub(super) const BASH_VARIABLE: Rule = Rule {
    name: "BashVariable",
    description: "`sh` knows no such variable by itself",
    why: WHY,
    bad: "FROM debian:13\nRUN echo \"$RANDOM\"\n",
    good: "FROM debian:13\nRUN shuf -i 0-32767 -n 1\n",
    codes: &["SC3028"],
    set: Set::Shell,
    check: Check::Lint(|context, sink| {
        each_run(context, |view, declared| {
            let scripts = view.runs().filter(|script| script.script.error.is_none());
            for script in scripts.filter(|script| script.reader.shell == Shell::Posix) {
                for span in bash_variables(script, declared) {
                    note(context, sink, (view, script), span, "such variable by itself");
                }
            }
        });
    }),
    ..PLAIN
};

/// Where variables stand that bash sets by itself and neither the script nor the file does.
fn bash_variables(script: &ShellText, declared: &Declared<'_>) -> Vec<Span> {
    const BASH: [&str; 14] = [
        "RANDOM",
        "UID",
        "EUID",
        "HOSTNAME",
        "HOSTTYPE",
        "OSTYPE",
        "MACHTYPE",
        "SHLVL",
        "SECONDS",
        "BASH_VERSION",
        "BASH_SOURCE",
        "FUNCNAME",
        "DIRSTACK",
        "PIPESTATUS",
    ];
    let text = script.text.as_str();
    let mut found = Vec::new();
    let mut assigned = std::collections::BTreeSet::new();
    each_command(script, |command| {
        if let CommandKind::Simple(simple) = &command.kind {
            assigned.extend(simple.assignments.iter().map(|one| one.name.of(text)));
        }
    });
    each_part(script, |part, _| {
        if let PartKind::Parameter(parameter) = &part.kind {
            let name = parameter.name.of(text);
            let is_set = assigned.contains(name) || declared.contains(name);
            if BASH.contains(&name) && !is_set {
                found.push(part.span);
            }
        }
    });
    found
}

pub(super) const SOURCE: Rule = Rule {
    name: "SourceInSh",
    description: "`sh` knows no `source`",
    why: "POSIX has `.` for it; dash says `source: not found`.",
    bad: "FROM debian:13\nRUN source /etc/profile\n",
    good: "FROM debian:13\nRUN . /etc/profile\n",
    codes: &["SC3046"],
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in posix(context) {
            for cmd in script.commands.iter().filter(|cmd| cmd.is("source") && !cmd.is_wrapped) {
                let range = script.source(cmd.name_span);
                // `.` looks for a name without a slash in PATH alone.
                let has_path = cmd.args.first().is_some_and(|arg| arg.text.contains('/'));
                let fix = has_path.then(|| Fix::safe("write `.`", vec![Edit::replace(range, ".")]));
                context
                    .within(sink, view, script, cmd.name_span, "`sh` knows no `source`")
                    .hint("write `.`")
                    .fix(fix);
            }
        }
    }),
    ..PLAIN
};

bashism!(
    DOUBLE_BRACKET,
    "DoubleBracketInSh",
    "SC3010",
    "`[[ … ]]`",
    "FROM debian:13\nRUN [[ -f /a ]] && rm /a\n",
    "FROM debian:13\nRUN [ -f /a ] && rm /a\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_command(script, |command| {
            if let CommandKind::Test(_) = &command.kind {
                found.push(command.span);
            }
        });
    }
);

bashism!(
    SET_OPTION,
    "SetOptionInSh",
    "SC3040",
    "such option of `set`",
    "FROM debian:13\nRUN set -o pipefail && true\n",
    "FROM debian:13\nSHELL [\"/bin/bash\", \"-c\"]\nRUN set -o pipefail && true\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        const POSIX: [&str; 13] = [
            "allexport",
            "errexit",
            "ignoreeof",
            "monitor",
            "noclobber",
            "noexec",
            "noglob",
            "nolog",
            "notify",
            "nounset",
            "verbose",
            "vi",
            "xtrace",
        ];
        for cmd in script.commands.iter().filter(|cmd| cmd.is("set")) {
            for pair in cmd.args.windows(2) {
                let [flag, option] = pair else { continue };
                let takes = flag.text.ends_with('o')
                    && (flag.text.starts_with('-') || flag.text.starts_with('+'));
                if takes && option.is_literal && !POSIX.contains(&option.text.as_str()) {
                    found.push(option.span);
                }
            }
        }
    }
);

pub(super) const DOUBLE_EQUALS: Rule = Rule {
    name: "DoubleEqualsInSh",
    description: "`sh` knows no `==` in `[`",
    why: WHY,
    bad: "FROM debian:13\nRUN if [ a == b ]; then true; fi\n",
    good: "FROM debian:13\nRUN if [ a = b ]; then true; fi\n",
    codes: &["SC3014"],
    set: Set::Shell,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in posix(context) {
            let tests = script.commands.iter().filter(|cmd| cmd.is_any(&["[", "test"]));
            for arg in tests.flat_map(|cmd| &cmd.args).filter(|arg| arg.text == "==") {
                let edit = Edit::replace(script.source(arg.span), "=");
                let fix = (arg.span.of(&script.text) == "==").then_some(edit);
                context
                    .within(sink, view, script, arg.span, "`sh` knows no `==` in `[`")
                    .hint("write `=`")
                    .fix(fix.map(|edit| Fix::safe("write `=`", vec![edit])));
            }
        }
    }),
    ..PLAIN
};

bashism!(
    BRACE_EXPANSION,
    "BraceExpansionInSh",
    "SC3009",
    "`{a,b}`",
    "FROM debian:13\nRUN mkdir /a/{b,c}\n",
    "FROM debian:13\nRUN mkdir /a/b /a/c\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_command(script, |command| {
            for word in words(command) {
                let text = script.text.as_str();
                let written = word.span.of(text);
                let plain: String = word
                    .parts
                    .iter()
                    .map(|part| match part.kind {
                        PartKind::Literal => part.span.of(text),
                        _ => "x",
                    })
                    .collect();
                if is_brace_expansion(&plain) && written.contains('{') {
                    found.push(word.span);
                }
            }
        });
    }
);

/// `{a,b}` or `{1..3}` in a text without quotes.
fn is_brace_expansion(text: &str) -> bool {
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        rest = rest.get(open + 1..).unwrap_or("");
        if let Some(close) = rest.find('}') {
            let inner = rest.get(..close).unwrap_or("");
            if inner.contains(',')
                || inner.split_once("..").is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
            {
                return true;
            }
        }
    }
    false
}

bashism!(
    HERE_STRING,
    "HereStringInSh",
    "SC3011",
    "`<<<`",
    "FROM debian:13\nRUN cat <<< a\n",
    "FROM debian:13\nRUN echo a | cat\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_command(script, |command| {
            let strings =
                command.redirects.iter().filter(|one| one.kind == RedirectKind::HereString);
            found.extend(strings.map(|one| one.span));
        });
    }
);

bashism!(
    ARRAY,
    "ArrayInSh",
    "SC3030",
    "arrays",
    "FROM debian:13\nRUN a=(b c)\n",
    "FROM debian:13\nRUN set -- b c\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_command(script, |command| {
            if let CommandKind::Simple(simple) = &command.kind {
                let arrays = simple.assignments.iter().filter(|one| one.array.is_some());
                found.extend(arrays.map(|one| one.span));
            }
        });
    }
);

bashism!(
    BOTH_OUTPUTS,
    "BothOutputsInSh",
    "SC3020",
    "`&>`",
    "FROM debian:13\nRUN make &> /log\n",
    "FROM debian:13\nRUN make > /log 2>&1\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_command(script, |command| {
            let both =
                command.redirects.iter().filter(|one| one.kind == RedirectKind::OutputAndError);
            found.extend(both.map(|one| one.span));
        });
    }
);

bashism!(
    PROCESS,
    "ProcessSubstitutionInSh",
    "SC3001",
    "`<(…)`",
    "FROM debian:13\nRUN diff <(ls /a) <(ls /b)\n",
    "FROM debian:13\nRUN ls /a > /1 && ls /b > /2 && diff /1 /2\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_part(script, |part, _| {
            if let PartKind::Process(_) = &part.kind {
                found.push(part.span);
            }
        });
    }
);

/// Expansions with an operator.
fn operators(script: &ShellText, wanted: &[&str], found: &mut Vec<Span>) {
    each_part(script, |part, _| {
        if let PartKind::Parameter(parameter) = &part.kind {
            let operator = parameter.operator.map_or("", |span| span.of(&script.text));
            if wanted.contains(&operator) {
                found.push(part.span);
            }
        }
    });
}

bashism!(
    SUBSTRING,
    "SubstringInSh",
    "SC3057",
    "`${a:1:2}`",
    "FROM debian:13\nARG A\nRUN echo \"${A:0:1}\"\n",
    "FROM debian:13\nARG A\nRUN echo \"${A%%.*}\"\n",
    |script: &ShellText, found: &mut Vec<Span>| operators(script, &[":"], found)
);

bashism!(
    REPLACEMENT,
    "ReplacementInSh",
    "SC3060",
    "`${a/b/c}`",
    "FROM debian:13\nARG A\nRUN echo \"${A/b/c}\"\n",
    "FROM debian:13\nARG A\nRUN echo \"$A\" | sed s/b/c/\n",
    |script: &ShellText, found: &mut Vec<Span>| operators(script, &["/", "//", "/#", "/%"], found)
);

bashism!(
    DOLLAR_QUOTE,
    "DollarQuoteInSh",
    "SC3003",
    "`$'…'`",
    "FROM debian:13\nRUN printf %s $'a\\n'\n",
    "FROM debian:13\nRUN printf '%s\\n' a\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_part(script, |part, _| {
            if let PartKind::DollarQuoted = &part.kind {
                found.push(part.span);
            }
        });
    }
);

bashism!(
    DECLARE,
    "BashBuiltinInSh",
    "SC3044",
    "such builtin",
    "FROM debian:13\nRUN pushd /a && make && popd\n",
    "FROM debian:13\nRUN (cd /a && make)\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        const BASH: [&str; 17] = [
            "declare",
            "typeset",
            "pushd",
            "popd",
            "dirs",
            "shopt",
            "let",
            "disown",
            "suspend",
            "compgen",
            "complete",
            "caller",
            "builtin",
            "bind",
            "enable",
            "mapfile",
            "readarray",
        ];
        let builtins = script.commands.iter().filter(|cmd| cmd.is_any(&BASH) && !cmd.is_wrapped);
        found.extend(builtins.map(|cmd| cmd.span));
    }
);

bashism!(
    FUNCTION_KEYWORD,
    "FunctionKeywordInSh",
    "SC2113",
    "word `function`",
    "FROM debian:13\nRUN function f { ls; }; f\n",
    "FROM debian:13\nRUN f() { ls; }; f\n",
    |script: &ShellText, found: &mut Vec<Span>| {
        each_command(script, |command| {
            if let CommandKind::Function { keyword: true, .. } = &command.kind {
                found.push(command.span);
            }
        });
    }
);
