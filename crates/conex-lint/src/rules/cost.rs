//! What makes builds slow and images large: order, leftovers, tools that nobody runs.

use conex_dockerfile::Kind;

use super::context::copies_everything;
use super::{Check, Level, PLAIN, Rule, Set};
use crate::context::{Context, StageView, View};
use crate::script::{Cmd, ShellText};

pub(super) static RULES: &[&Rule] =
    &[&COPY_BEFORE_INSTALL, &VOLATILE_EARLY, &COMPILER_IN_IMAGE, &DELETED_LATER, &UPGRADE];

const COPY_BEFORE_INSTALL: Rule = Rule {
    name: "CopyBeforeInstall",
    description: "Everything is copied before dependencies are installed",
    why: "Any change of any file runs the install again. With the list of dependencies copied first, the install is taken from the cache until the list changes.",
    bad: "FROM node:24\nCOPY . /app\nRUN npm ci\n",
    good: "FROM node:24\nCOPY package.json package-lock.json /app/\nRUN npm ci\nCOPY . /app\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            let everything = stage.steps.iter().find(|view| copies_everything(view));
            let Some(everything) = everything else { continue };
            let later = stage.runs().filter(|(view, _)| view.index > everything.index);
            // What was installed before the copy is in the cache already.
            let earlier: Vec<&str> = stage
                .runs()
                .filter(|(view, _)| view.index < everything.index)
                .flat_map(|(_, script)| script.commands.iter().filter_map(manifest_of))
                .collect();
            let install = later
                .flat_map(|(view, script)| script.commands.iter().map(move |cmd| (view, cmd)))
                .filter_map(|(view, cmd)| Some((view, manifest_of(cmd)?)))
                .find(|(_, manifest)| !earlier.contains(manifest));
            if let Some((install, manifest)) = install {
                let line = install.line;
                context
                    .at(
                        sink,
                        everything,
                        format!("every change runs the install on line {line} again"),
                    )
                    .hint(format!("copy {manifest} first, install, then copy the rest"));
            }
        }
    }),
    ..PLAIN
};

/// What an install of dependencies, and of nothing else, reads.
fn manifest_of(cmd: &Cmd) -> Option<&'static str> {
    let alone = cmd.plain().count() <= 1;
    match cmd.name.as_str() {
        "npm" if alone && cmd.verb_is(&["ci", "install", "i"]) => {
            Some("`package.json` and `package-lock.json`")
        }
        "yarn" if alone && (cmd.args.is_empty() || cmd.verb_is(&["install"])) => {
            Some("`package.json` and `yarn.lock`")
        }
        "pnpm" if alone && cmd.verb_is(&["install", "i"]) => {
            Some("`package.json` and `pnpm-lock.yaml`")
        }
        "bundle" if cmd.verb_is(&["install"]) => Some("`Gemfile` and `Gemfile.lock`"),
        "composer" if cmd.verb_is(&["install"]) => Some("`composer.json` and `composer.lock`"),
        "go" if cmd.verb_is(&["mod"]) && cmd.has("download") => Some("`go.mod` and `go.sum`"),
        "dotnet" if cmd.verb_is(&["restore"]) => Some("the project files"),
        "mvn" | "mvnw" if cmd.args.iter().any(|arg| arg.text.starts_with("dependency:")) => {
            Some("`pom.xml`")
        }
        "uv" if cmd.verb_is(&["sync"]) => Some("`pyproject.toml` and `uv.lock`"),
        "poetry" if cmd.verb_is(&["install"]) => Some("`pyproject.toml` and `poetry.lock`"),
        _ if super::packages::is_pip_install(cmd) => {
            cmd.has_any_flag(&["r", "requirement"]).then_some("the requirements file")
        }
        _ => None,
    }
}

const VOLATILE_EARLY: Rule = Rule {
    name: "VolatileArgEarly",
    description: "An argument that is another one in every build stands before long steps",
    why: "`ARG` counts for every `RUN` behind it: a new date or commit runs all of them again. Behind the long steps it costs nothing.",
    bad: "FROM debian:13\nARG BUILD_DATE\nRUN apt-get update && apt-get install -y git\n",
    good: "FROM debian:13\nRUN apt-get update && apt-get install -y git\nARG BUILD_DATE\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        const VOLATILE: [&str; 16] = [
            "BUILD_DATE",
            "BUILD_TIME",
            "BUILD_TIMESTAMP",
            "BUILD_NUMBER",
            "BUILD_ID",
            "GIT_COMMIT",
            "GIT_SHA",
            "GIT_REV",
            "GIT_HASH",
            "COMMIT",
            "COMMIT_SHA",
            "COMMIT_HASH",
            "VCS_REF",
            "REVISION",
            "CI_COMMIT_SHA",
            "GITHUB_SHA",
        ];
        for stage in &context.stages {
            let installs: Vec<&View<'_>> = stage
                .runs()
                .filter(|(_, script)| script.commands.iter().any(is_install))
                .map(|(view, _)| view)
                .collect();
            for view in &stage.steps {
                let Kind::Arg(arg) = view.kind() else { continue };
                let volatile = arg
                    .args
                    .iter()
                    .find(|arg| VOLATILE.contains(&arg.name.raw.to_ascii_uppercase().as_str()));
                let Some(volatile) = volatile else { continue };
                let later = installs.partition_point(|step| step.index <= view.index);
                let install = installs.get(later);
                if let Some(install) = install {
                    let name = &volatile.name.raw;
                    let line = install.line;
                    sink.add(
                        view.line,
                        volatile.name.span,
                        format!("a new `{name}` runs the install on line {line} again"),
                    )
                    .hint("declare it behind the steps that do not need it");
                }
            }
        }
    }),
    ..PLAIN
};

/// Whether a command loads and installs packages.
fn is_install(cmd: &Cmd) -> bool {
    const TOOLS: [&str; 16] = [
        "apt-get", "apt", "apk", "yum", "dnf", "microdnf", "zypper", "pip", "pip3", "npm", "yarn",
        "pnpm", "gem", "bundle", "composer", "pacman",
    ];
    cmd.is_any(&TOOLS)
        && cmd
            .args
            .iter()
            .any(|arg| matches!(arg.text.as_str(), "install" | "add" | "ci" | "i" | "-S" | "-Syu"))
}

const COMPILER_IN_IMAGE: Rule = Rule {
    name: "CompilerInImage",
    description: "Compilers and headers are in the image that is shipped",
    why: "They are hundreds of megabytes that nobody runs, and help whoever breaks in. A stage of its own builds, and the last one copies what came of it.",
    bad: "FROM debian:13\nRUN apt-get update && apt-get install -y gcc make\n",
    good: "FROM debian:13 AS build\nRUN apt-get update && apt-get install -y gcc make\nFROM debian:13\nCOPY --from=build /app /app\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        let [stage] = context.stages.as_slice() else { return };
        for (view, script) in stage.runs() {
            let compiler = script.commands.iter().filter(|cmd| is_install(cmd)).find_map(|cmd| {
                let found = cmd.plain().find(|arg| is_compiler(&arg.text))?;
                let is_taken_out = cmd.has_any_flag(&["t", "virtual"]) || removes_packages(script);
                (!is_taken_out).then_some(found)
            });
            if let Some(found) = compiler {
                let message = format!("`{}` stays in the image", found.text);
                context
                    .within(sink, view, script, found.span, message)
                    .hint("build in a stage of its own, and copy the result");
            }
        }
    }),
    ..PLAIN
};

fn is_compiler(package: &str) -> bool {
    const NAMES: [&str; 19] = [
        "build-essential",
        "build-base",
        "gcc",
        "g++",
        "clang",
        "make",
        "cmake",
        "rustc",
        "cargo",
        "golang",
        "golang-go",
        "go",
        "musl-dev",
        "linux-headers",
        "gcc-c++",
        "default-jdk",
        "python3-dev",
        "libc6-dev",
        "ninja-build",
    ];
    let name = package.split(['=', '~', '<', '>']).next().unwrap_or(package);
    NAMES.contains(&name)
}

fn removes_packages(script: &ShellText) -> bool {
    script.commands.iter().any(|cmd| {
        cmd.is_any(&["apt-get", "apt", "apk", "yum", "dnf", "microdnf"])
            && cmd.verb_is(&["remove", "purge", "del", "autoremove", "erase"])
    })
}

const DELETED_LATER: Rule = Rule {
    name: "DeletedInLaterLayer",
    description: "Files are deleted in a step of their own",
    why: "What an earlier step wrote is in its layer for good; a later deletion only hides it. The image gets no smaller.",
    bad: "FROM debian:13\nCOPY big.bin /big.bin\nRUN rm /big.bin\n",
    good: "FROM debian:13\nRUN --mount=type=bind,source=big.bin,target=/big.bin ls /big.bin\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| context.reaches_image(stage)) {
            let first_write = first_write(stage);
            for (view, script) in stage.runs() {
                let only_deletes = script.script.error.is_none()
                    && !script.commands.is_empty()
                    && script.commands.iter().all(|cmd| cmd.is("rm"));
                if only_deletes && first_write.is_some_and(|first| first < view.index) {
                    context.at(sink, view, "what is deleted here stays in an earlier layer").hint(
                        "delete it in the step that writes it, or mount it instead of copying",
                    );
                }
            }
        }
    }),
    ..PLAIN
};

/// The first step that writes files.
fn first_write(stage: &StageView<'_>) -> Option<usize> {
    let writes =
        |step: &&View<'_>| matches!(step.kind(), Kind::Run(_) | Kind::Copy(_) | Kind::Add(_));
    stage.steps.iter().find(writes).map(|step| step.index)
}

const UPGRADE: Rule = Rule {
    name: "UpgradeInBuild",
    description: "All packages of the base image are upgraded",
    why: "An upgrade stores every package that changed a second time, and makes the image depend on the day it was built. A newer base image has them once.",
    bad: "FROM debian:13\nRUN apt-get update && apt-get dist-upgrade -y\n",
    good: "FROM debian:13.2\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context: &Context<'_>, sink| {
        for (view, script, cmd) in context.commands() {
            let all = cmd.is_any(&["apt-get", "apt", "apk"])
                && cmd.verb_is(&["upgrade", "dist-upgrade", "full-upgrade"])
                || cmd.is_any(&["yum", "dnf", "microdnf"])
                    && cmd.verb_is(&["update", "upgrade"])
                    && cmd.plain().count() == 1;
            if all {
                context
                    .within(
                        sink,
                        view,
                        script,
                        cmd.span,
                        "every package that changed is stored twice",
                    )
                    .hint("start from a newer base image");
            }
        }
    }),
    ..PLAIN
};
