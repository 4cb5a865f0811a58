//! Package managers: answers in advance, and nothing left behind in the layer.

use conex_dockerfile::{Kind, MountFlag};

use super::{Check, Fixable, Level, PLAIN, Rule};
use crate::context::{Context, View};
use crate::finding::{Edit, Fix, Sink};
use crate::script::{Cmd, ShellText};

pub(super) static RULES: &[&Rule] = &[
    &APT_GET_YES,
    &APT_NO_RECOMMENDS,
    &APT_LISTS,
    &APT_IS_INTERACTIVE,
    &APT_STALE_LISTS,
    &APK_NO_CACHE,
    &PIP_NO_CACHE,
    &YUM_YES,
    &YUM_CLEAN,
    &DNF_YES,
    &DNF_CLEAN,
    &ZYPPER_YES,
    &ZYPPER_NO_UPGRADE,
    &ZYPPER_CLEAN,
    &YARN_CLEAN,
];

const APT_GET_YES: Rule = Rule {
    name: "AptGetYes",
    description: "`apt-get` asks, and nobody answers",
    why: "A build has no one to answer questions: `apt-get install` without `-y` stops where it would ask, and fails.",
    bad: "FROM debian:13\nRUN apt-get update && apt-get install --no-install-recommends git=1 && rm -rf /var/lib/apt/lists/*\n",
    good: "FROM debian:13\nRUN apt-get update && apt-get install -y --no-install-recommends git=1 && rm -rf /var/lib/apt/lists/*\n",
    codes: &["DL3014"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands() {
            let asks = cmd.is("apt-get")
                && (cmd.verb_is(&["install", "reinstall", "remove", "purge", "autoremove"])
                    || cmd.verb_is(&["upgrade", "dist-upgrade", "build-dep"]));
            let answered = cmd.has_any_flag(&["y", "yes", "assume-yes", "assumeyes"])
                || cmd.args.iter().filter(|arg| arg.text == "-q").count() > 1
                || cmd.args.iter().any(|arg| arg.text.starts_with("-qq"))
                || cmd.flag_value("quiet").is_some_and(|level| level == "2");
            if asks && !answered {
                add_yes(context, sink, view, script, cmd, "apt-get");
            }
        }
    }),
    ..PLAIN
};

fn add_yes(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    view: &View<'_>,
    script: &ShellText,
    cmd: &Cmd,
    tool: &str,
) {
    let Some(verb) = cmd.verb() else { return };
    let message = format!("`{tool} {}` asks before it acts, and a build cannot answer", verb.text);
    let edit = context.behind(script, verb, " -y");
    context
        .within(sink, view, script, verb.span, message)
        .hint(format!("write `{tool} {} -y`", verb.text))
        .fix(Fix::safe("add `-y`", vec![edit]));
}

const APT_NO_RECOMMENDS: Rule = Rule {
    name: "AptNoRecommends",
    description: "`apt-get install` brings packages that are only recommended",
    why: "Recommended packages are what a desktop would want. They make images larger, often by half, and bring what has to be patched.",
    bad: "FROM debian:13\nRUN apt-get update && apt-get install -y git=1 && rm -rf /var/lib/apt/lists/*\n",
    good: "FROM debian:13\nRUN apt-get update && apt-get install -y --no-install-recommends git=1 && rm -rf /var/lib/apt/lists/*\n",
    codes: &["DL3015"],
    level: Level::Info,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        let configures = context.text.contains("APT::Install-Recommends");
        for (view, script, cmd) in context.commands() {
            let (true, Some(verb)) = (cmd.is("apt-get"), cmd.verb()) else { continue };
            let says = cmd.has_flag("no-install-recommends")
                || cmd.args.iter().any(|arg| {
                    let text = arg.text.to_ascii_lowercase();
                    text.contains("install-recommends=false")
                        || text.contains("install-recommends=0")
                        || text.contains("install-recommends=no")
                });
            if verb.text != "install" || says || (configures && configures_apt(context, view)) {
                continue;
            }
            let edit = context.behind(script, verb, " --no-install-recommends");
            context
                .within(sink, view, script, verb.span, "recommended packages are installed too")
                .hint("write `apt-get install --no-install-recommends`")
                .fix(Fix::risky("add `--no-install-recommends`", vec![edit]));
        }
    }),
    ..PLAIN
};

/// Whether an earlier step of the stage, or this one, wrote it into apt's settings.
fn configures_apt(context: &Context<'_>, view: &View<'_>) -> bool {
    context.stages.iter().any(|stage| {
        let has_view = stage.steps.iter().any(|step| std::ptr::eq(step, view));
        has_view
            && stage.steps.iter().filter(|step| step.index <= view.index).any(|step| {
                let text = &step.instruction.text;
                text.contains("APT::Install-Recommends") && text.contains("apt.conf")
            })
    })
}

const APT_LISTS: Rule = Rule {
    name: "AptListsLeft",
    description: "The lists of packages stay in the image",
    why: "`apt-get update` loads lists of tens of megabytes. Deleted in a later step they still are in the layer; only the step that loads them can keep them out.",
    bad: "FROM debian:13\nRUN apt-get update && apt-get install -y --no-install-recommends git=1\n",
    good: "FROM debian:13\nRUN apt-get update && apt-get install -y --no-install-recommends git=1 && rm -rf /var/lib/apt/lists/*\n",
    codes: &["DL3009"],
    level: Level::Info,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        let last_use = last_use_of_lists(context);
        for stage in context.stages.iter().filter(|stage| context.reaches_image(stage)) {
            for (view, script) in stage.runs() {
                let update = script.commands.iter().find(|cmd| is_apt(cmd) && cmd.has("update"));
                let Some(update) = update.filter(|_| !removes(script, "/var/lib/apt")) else {
                    continue;
                };
                if is_mounted(view, "/var/lib/apt") || is_mounted(view, "/var/lib") {
                    continue;
                }
                // Where a later step installs from these lists, it would find none.
                let edit = appended(context, script, "rm -rf /var/lib/apt/lists/*")
                    .filter(|_| last_use.is_none_or(|line| line <= view.line));
                context
                    .within(sink, view, script, update.span, "the lists of packages stay behind")
                    .hint("end the step with `rm -rf /var/lib/apt/lists/*`, or mount a cache there")
                    .fix(edit.map(|edit| Fix::safe("delete the lists", vec![edit])));
            }
        }
    }),
    ..PLAIN
};

fn is_apt(cmd: &Cmd) -> bool {
    cmd.is_any(&["apt-get", "apt", "aptitude"])
}

/// The last step that installs from lists which an earlier step loaded.
fn last_use_of_lists(context: &Context<'_>) -> Option<u32> {
    let uses = context.runs().filter(|(_, script)| {
        let mut apt = script.commands.iter().filter(|cmd| is_apt(cmd));
        apt.clone().any(|cmd| cmd.has("install")) && !apt.any(|cmd| cmd.has("update"))
    });
    uses.map(|(view, _)| view.line).max()
}

/// Whether a script deletes something below a folder.
fn removes(script: &ShellText, folder: &str) -> bool {
    script.commands.iter().any(|cmd| {
        let deletes = cmd.is("rm") || (cmd.is("find") && (cmd.has("-delete") || cmd.has("rm")));
        deletes && cmd.args.iter().any(|arg| arg.text.starts_with(folder) || arg.text == "/var/lib")
    })
}

/// Whether something is mounted at a folder or above it, so that what is written there stays out
/// of the layer.
pub(super) fn is_mounted(view: &View<'_>, folder: &str) -> bool {
    let Kind::Run(run) = view.kind() else { return false };
    run.mounts.iter().any(|mount| {
        let kind = field(mount, &["type"]).unwrap_or("bind");
        let target = field(mount, &["target", "dst", "destination"]).unwrap_or("");
        let target = target.trim_end_matches('/');
        let covers = folder == target
            || folder.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'))
            || target.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        matches!(kind, "cache" | "tmpfs") && !target.is_empty() && covers
    })
}

fn field<'m>(mount: &'m MountFlag, keys: &[&str]) -> Option<&'m str> {
    let field = mount.fields.iter().find(|field| keys.contains(&field.key.as_str()))?;
    field.value.as_ref().map(|value| value.raw.as_str())
}

/// An edit that runs one more command at the end of a script, if all before it went well. None
/// where the end is not plain: a heredoc, something in the background.
pub(super) fn appended(context: &Context<'_>, script: &ShellText, command: &str) -> Option<Edit> {
    let parsed = &script.script;
    if parsed.error.is_some() || !parsed.heredocs.is_empty() {
        return None;
    }
    let last = parsed.body.items.last()?;
    let is_plain = match last.terminator {
        None => true,
        Some((terminator, _)) => terminator == conex_shell::Terminator::Newline,
    };
    let ends_here = parsed.comments.iter().all(|comment| comment.end <= last.and_or.span().start);
    let command_ends = last.and_or.pipelines().last()?.commands.last()?;
    let leaves = script.commands.iter().any(|cmd| {
        cmd.depth == 0 && cmd.is_any(&["exec", "exit"]) && cmd.span.end == command_ends.span.end
    });
    if !is_plain || !ends_here || leaves {
        return None;
    }
    let end = script.source(last.and_or.span()).end;
    let has_lines = parsed.body.items.len() > 1
        && parsed.body.items.iter().any(|item| {
            item.terminator.is_some_and(|(kind, _)| kind == conex_shell::Terminator::Newline)
        });
    let text = if has_lines || last.terminator.is_some() {
        format!("\n{command}")
    } else {
        let range = script.source(parsed.body.span);
        match context.written(&range).contains('\n') {
            true => format!(" {}\n    && {command}", context.file.escape),
            false => format!(" && {command}"),
        }
    };
    Some(Edit::insert(end, text))
}

const APT_IS_INTERACTIVE: Rule = Rule {
    name: "AptInScript",
    description: "`apt` is for people, `apt-get` for scripts",
    why: "`apt` says itself that its command line may change between versions. `apt-get` and `apt-cache` keep theirs.",
    bad: "FROM debian:13\nRUN apt update\n",
    good: "FROM debian:13\nRUN apt-get update && rm -rf /var/lib/apt/lists/*\n",
    codes: &["DL3027"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        const CACHE: [&str; 5] = ["search", "show", "policy", "depends", "rdepends"];
        const GET: [&str; 9] = [
            "install",
            "update",
            "upgrade",
            "remove",
            "purge",
            "autoremove",
            "clean",
            "autoclean",
            "build-dep",
        ];
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("apt")) {
            let instead = match cmd.verb() {
                Some(verb) if CACHE.contains(&verb.text.as_str()) => Some("apt-cache"),
                Some(verb) if GET.contains(&verb.text.as_str()) => Some("apt-get"),
                _ => None,
            };
            let fix = instead.filter(|_| script.is_one_piece(cmd.name_span)).map(|name| {
                let range = script.source(cmd.name_span);
                let at =
                    context.written(&range).rfind("apt").map_or(range.end, |at| range.start + at);
                Fix::safe(format!("write `{name}`"), vec![Edit::replace(at..range.end, name)])
            });
            context
                .within(sink, view, script, cmd.name_span, "`apt` has no stable command line")
                .hint("use `apt-get` or `apt-cache`")
                .fix(fix);
        }
    }),
    ..PLAIN
};

const APT_STALE_LISTS: Rule = Rule {
    name: "AptUpdateAlone",
    description: "`apt-get update` in a step of its own goes stale in the cache",
    why: "The step with `update` is taken from the cache for as long as its line stays the same. A later `install` then asks for versions that the mirrors no longer have.",
    bad: "FROM debian:13\nRUN apt-get update\nRUN apt-get install -y --no-install-recommends git=1\n",
    good: "FROM debian:13\nRUN apt-get update && apt-get install -y --no-install-recommends git=1 && rm -rf /var/lib/apt/lists/*\n",
    set: super::Set::Own,
    level: Level::Warning,
    check: Check::Lint(|context, sink| {
        for (view, script) in context.runs() {
            let apt = |cmd: &&Cmd| cmd.is_any(&["apt-get", "apt"]);
            let update = script.commands.iter().filter(apt).find(|cmd| cmd.verb_is(&["update"]));
            let uses = script.commands.iter().any(|cmd| apt(&cmd) && !cmd.verb_is(&["update"]));
            let Some(update) = update.filter(|_| !uses && script.commands.len() == 1) else {
                continue;
            };
            context
                .within(sink, view, script, update.span, "`update` without `install` in one step")
                .hint("join it with the step that installs, with `&&`");
        }
    }),
    ..PLAIN
};

const APK_NO_CACHE: Rule = Rule {
    name: "ApkNoCache",
    description: "`apk add` leaves the index of packages in the image",
    why: "With `--no-cache` the index is read from the network and never written, so nothing is to be deleted afterwards.",
    bad: "FROM alpine:3.22\nRUN apk add git=1\n",
    good: "FROM alpine:3.22\nRUN apk add --no-cache git=1\n",
    codes: &["DL3019"],
    level: Level::Info,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands() {
            let Some(verb) = cmd.verb().filter(|verb| cmd.is("apk") && verb.text == "add") else {
                continue;
            };
            let cleans = removes(script, "/var/cache/apk");
            if cmd.has_flag("no-cache") || cleans || is_mounted(view, "/var/cache/apk") {
                continue;
            }
            let edit = context.behind(script, verb, " --no-cache");
            context
                .within(sink, view, script, verb.span, "the index of packages stays behind")
                .hint("write `apk add --no-cache`")
                .fix(Fix::safe("add `--no-cache`", vec![edit]));
        }
    }),
    ..PLAIN
};

const PIP_NO_CACHE: Rule = Rule {
    name: "PipNoCache",
    description: "`pip install` leaves its cache in the image",
    why: "pip keeps what it loads to be faster the next time. In an image there is no next time; a cache mount (`--mount=type=cache,target=/root/.cache/pip`) has one.",
    bad: "FROM python:3.14\nRUN pip install flask==3.1.2\n",
    good: "FROM python:3.14\nRUN pip install --no-cache-dir flask==3.1.2\n",
    codes: &["DL3042"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        let mut off_by_stage: Vec<bool> = Vec::new();
        for stage in &context.stages {
            let inherited = stage.parent.and_then(|parent| off_by_stage.get(parent));
            let mut is_off = inherited.copied().unwrap_or(false);
            for view in &stage.steps {
                is_off |= sets_no_cache(view.kind());
                if is_off || is_mounted(view, "/root/.cache/pip") || has_pip_mount(view) {
                    continue;
                }
                for script in view.runs() {
                    pip_caches(context, sink, view, script);
                }
            }
            off_by_stage.push(is_off);
        }
    }),
    ..PLAIN
};

fn pip_caches(context: &Context<'_>, sink: &mut Sink<'_>, view: &View<'_>, script: &ShellText) {
    let cleans = script.commands.iter().any(|other| {
        (other.name.starts_with("pip") && other.has("cache") && other.has("purge"))
            || (other.is("rm") && other.args.iter().any(|arg| arg.text.contains(".cache")))
    });
    if cleans || script.text.contains("PIP_NO_CACHE_DIR=") {
        return;
    }
    for cmd in script.commands.iter().filter(|cmd| is_pip_install(cmd)) {
        let verb = cmd.args.iter().find(|arg| arg.text == "install");
        let Some(verb) = verb.filter(|_| !cmd.has_flag("no-cache-dir")) else { continue };
        let edit = context.behind(script, verb, " --no-cache-dir");
        context
            .within(sink, view, script, verb.span, "pip's cache stays behind")
            .hint("write `pip install --no-cache-dir`, or mount a cache")
            .fix(Fix::safe("add `--no-cache-dir`", vec![edit]));
    }
}

fn sets_no_cache(kind: &Kind) -> bool {
    match kind {
        Kind::Env(pairs) => pairs.pairs.iter().any(|pair| {
            let value = pair.value.raw.trim_matches('"').to_ascii_lowercase();
            pair.key.raw == "PIP_NO_CACHE_DIR"
                && ["1", "true", "on", "yes"].contains(&value.as_str())
        }),
        Kind::Arg(arg) => arg.args.iter().any(|arg| arg.name.raw == "PIP_NO_CACHE_DIR"),
        _ => false,
    }
}

fn has_pip_mount(view: &View<'_>) -> bool {
    let Kind::Run(run) = view.kind() else { return false };
    run.mounts.iter().any(|mount| {
        let target = field(mount, &["target", "dst", "destination"]).unwrap_or("");
        field(mount, &["type"]) == Some("cache")
            && (target.contains("pip") || target.contains(".cache"))
    })
}

/// `pip install`, `pip3 install`, `python -m pip install`; not what only downloads or lists.
pub(super) fn is_pip_install(cmd: &Cmd) -> bool {
    let is_pip = cmd
        .name
        .strip_prefix("pip")
        .is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
    let is_module = cmd.name.starts_with("python")
        && cmd
            .args
            .windows(2)
            .any(|pair| matches!(pair, [m, pip] if m.text == "-m" && pip.text == "pip"));
    (is_pip || is_module) && cmd.has("install")
}

const YUM_YES: Rule = Rule {
    name: "YumYes",
    description: "`yum` asks, and nobody answers",
    why: "A build has no one to answer questions: `yum install` without `-y` stops where it would ask, and fails.",
    bad: "FROM centos:7\nRUN yum install git-1 && yum clean all\n",
    good: "FROM centos:7\nRUN yum install -y git-1 && yum clean all\n",
    codes: &["DL3030"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| yes(context, sink, &["yum"])),
    ..PLAIN
};

const DNF_YES: Rule = Rule {
    name: "DnfYes",
    description: "`dnf` asks, and nobody answers",
    why: "A build has no one to answer questions: `dnf install` without `-y` stops where it would ask, and fails.",
    bad: "FROM fedora:43\nRUN dnf install git-1 && dnf clean all\n",
    good: "FROM fedora:43\nRUN dnf install -y git-1 && dnf clean all\n",
    codes: &["DL3038"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| yes(context, sink, &["dnf", "microdnf", "dnf5"])),
    ..PLAIN
};

fn yes(context: &Context<'_>, sink: &mut Sink<'_>, tools: &[&str]) {
    for (view, script, cmd) in context.commands() {
        let asks = cmd.is_any(tools)
            && cmd.verb_is(&["install", "groupinstall", "localinstall", "reinstall", "group"])
            && (!cmd.verb_is(&["group"]) || cmd.has("install"));
        if asks && !cmd.has_any_flag(&["y", "assumeyes", "yes"]) {
            let name = cmd.name.clone();
            add_yes(context, sink, view, script, cmd, &name);
        }
    }
}

const YUM_CLEAN: Rule = Rule {
    name: "YumClean",
    description: "`yum install` leaves its cache in the image",
    why: "What yum loads stays below `/var/cache/yum`. Deleted in a later step it still is in the layer.",
    bad: "FROM centos:7\nRUN yum install -y git-1\n",
    good: "FROM centos:7\nRUN yum install -y git-1 && yum clean all\n",
    codes: &["DL3032"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| clean(context, sink, &["yum"], "/var/cache/yum")),
    ..PLAIN
};

const DNF_CLEAN: Rule = Rule {
    name: "DnfClean",
    description: "`dnf install` leaves its cache in the image",
    why: "What dnf loads stays below `/var/cache/dnf` (`libdnf5` since version 5). Deleted in a later step it still is in the layer.",
    bad: "FROM fedora:43\nRUN dnf install -y git-1\n",
    good: "FROM fedora:43\nRUN dnf install -y git-1 && dnf clean all\n",
    codes: &["DL3040"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        clean(context, sink, &["dnf", "microdnf", "dnf5"], "/var/cache/dnf");
    }),
    ..PLAIN
};

fn clean(context: &Context<'_>, sink: &mut Sink<'_>, tools: &[&str], folder: &str) {
    for (view, script) in context.runs() {
        let install = script
            .commands
            .iter()
            .find(|cmd| cmd.is_any(tools) && cmd.has("install") && !cmd.has_flag("downloadonly"));
        let Some(install) = install else { continue };
        let cleans = script.commands.iter().any(|cmd| {
            let all = cmd.has("clean") && (cmd.has("all") || cmd.has("packages"));
            (cmd.is_any(tools) && all)
                || (cmd.is("rm")
                    && cmd.args.iter().any(|arg| {
                        arg.text.starts_with("/var/cache/")
                            && (arg.text.contains("yum")
                                || arg.text.contains("dnf")
                                || arg.text.starts_with("/var/cache/*"))
                    }))
        });
        if cleans || is_mounted(view, folder) || is_mounted(view, "/var/cache/libdnf5") {
            continue;
        }
        let command = format!("{} clean all", install.name);
        let edit = appended(context, script, &command);
        let message = format!("what `{}` loaded stays behind", install.name);
        context
            .within(sink, view, script, install.span, message)
            .hint(format!("end the step with `{command}`"))
            .fix(edit.map(|edit| Fix::safe(format!("add `{command}`"), vec![edit])));
    }
}

const ZYPPER_YES: Rule = Rule {
    name: "ZypperYes",
    description: "`zypper` asks, and nobody answers",
    why: "A build has no one to answer questions: `zypper install` without `-y` or `--non-interactive` stops where it would ask.",
    bad: "FROM opensuse/leap:16.0\nRUN zypper install git=1 && zypper clean\n",
    good: "FROM opensuse/leap:16.0\nRUN zypper install -y git=1 && zypper clean\n",
    codes: &["DL3034"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("zypper")) {
            let asks =
                cmd.verb_is(&["install", "in", "remove", "rm", "source-install", "si", "patch"]);
            let answered = cmd.has_any_flag(&["n", "non-interactive", "y", "no-confirm"]);
            if asks && !answered {
                add_yes(context, sink, view, script, cmd, "zypper");
            }
        }
    }),
    ..PLAIN
};

const ZYPPER_NO_UPGRADE: Rule = Rule {
    name: "ZypperUpgrade",
    description: "`zypper dist-upgrade` gives another image every day",
    why: "An upgrade of everything makes the image depend on the day it was built. Take a newer base image instead.",
    bad: "FROM opensuse/leap:16.0\nRUN zypper -n dup\n",
    good: "FROM opensuse/leap:16.0\nRUN zypper -n refresh\n",
    codes: &["DL3035"],
    check: Check::Lint(|context, sink| {
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("zypper")) {
            if cmd.verb_is(&["dist-upgrade", "dup"]) {
                let message = "the whole distribution is upgraded";
                context
                    .within(sink, view, script, cmd.span, message)
                    .hint("start from a newer base image");
            }
        }
    }),
    ..PLAIN
};

const ZYPPER_CLEAN: Rule = Rule {
    name: "ZypperClean",
    description: "`zypper install` leaves its cache in the image",
    why: "What zypper loads stays below `/var/cache/zypp`. Deleted in a later step it still is in the layer.",
    bad: "FROM opensuse/leap:16.0\nRUN zypper install -y git=1\n",
    good: "FROM opensuse/leap:16.0\nRUN zypper install -y git=1 && zypper clean\n",
    codes: &["DL3036"],
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for (view, script) in context.runs() {
            let mut zypper = script.commands.iter().filter(|cmd| cmd.is("zypper"));
            let Some(install) = zypper.clone().find(|cmd| cmd.verb_is(&["install", "in"])) else {
                continue;
            };
            if zypper.any(|cmd| cmd.verb_is(&["clean", "cc"]))
                || is_mounted(view, "/var/cache/zypp")
                || removes(script, "/var/cache/zypp")
            {
                continue;
            }
            let edit = appended(context, script, "zypper clean");
            context
                .within(sink, view, script, install.span, "what `zypper` loaded stays behind")
                .hint("end the step with `zypper clean`")
                .fix(edit.map(|edit| Fix::safe("add `zypper clean`", vec![edit])));
        }
    }),
    ..PLAIN
};

const YARN_CLEAN: Rule = Rule {
    name: "YarnCacheLeft",
    description: "`yarn install` leaves its cache in the image",
    why: "yarn keeps every package that it loads a second time. In an image nobody will need it.",
    bad: "FROM node:24\nRUN yarn install\n",
    good: "FROM node:24\nRUN yarn install && yarn cache clean\n",
    codes: &["DL3060"],
    level: Level::Info,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| context.reaches_image(stage)) {
            for (view, script) in stage.runs() {
                let mut yarn = script.commands.iter().filter(|cmd| cmd.is("yarn"));
                let Some(install) = yarn.clone().find(|cmd| cmd.verb_is(&["install"])) else {
                    continue;
                };
                if yarn.any(|cmd| cmd.has("cache") && cmd.has("clean")) || has_cache_mount(view) {
                    continue;
                }
                let edit = appended(context, script, "yarn cache clean");
                context
                    .within(sink, view, script, install.span, "yarn's cache stays behind")
                    .hint("end the step with `yarn cache clean`, or mount a cache")
                    .fix(edit.map(|edit| Fix::safe("add `yarn cache clean`", vec![edit])));
            }
        }
    }),
    ..PLAIN
};

fn has_cache_mount(view: &View<'_>) -> bool {
    let Kind::Run(run) = view.kind() else { return false };
    run.mounts.iter().any(|mount| {
        matches!(field(mount, &["type"]), Some("cache" | "tmpfs"))
            && field(mount, &["target", "dst", "destination"])
                .is_some_and(|target| target.contains("yarn") || target.contains(".cache"))
    })
}
