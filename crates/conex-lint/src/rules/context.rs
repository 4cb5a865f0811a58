//! What lies in the build context, and is copied or left aside. Asked only where the files of the
//! context are known.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, PLAIN, Rule, Set};
use crate::context::{Context, StageView, View};
use crate::finding::{Edit, Fix, Sink};
use crate::script::{Cmd, ShellText};

pub(super) static RULES: &[&Rule] = &[&IGNORE_FILE, &LOCK_FILE];

const IGNORE_FILE: Rule = Rule {
    name: "ContextNotIgnored",
    description: "The whole context is copied, and things in it that no image needs",
    why: "History, dependencies of another machine, results of builds and settings with secrets come along with `COPY .`, and every change of them runs the steps behind it again.",
    bad: "FROM debian:13\nCOPY . /app\n",
    good: "FROM debian:13\nCOPY src /app/src\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        let Some(files) = context.options.context_files else { return };
        for view in context.steps() {
            if !copies_everything(view) {
                continue;
            }
            let found: Vec<&str> = UNWANTED
                .iter()
                .filter(|(name, marker)| {
                    lies(files, name)
                        && (marker.is_empty() || lies(files, marker))
                        && !is_ignored(context, name)
                })
                .map(|(name, _)| *name)
                .collect();
            if !found.is_empty() {
                let list =
                    found.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                context
                    .at(sink, view, format!("{list} of the context come along"))
                    .hint(format!("add to `.dockerignore`: {}", found.join(" ")));
            }
        }
    }),
    ..PLAIN
};

/// What no image needs, and what must lie beside it to be what it is taken for.
const UNWANTED: [(&str, &str); 12] = [
    (".git", ""),
    ("node_modules", "package.json"),
    ("target", "Cargo.toml"),
    (".env", ""),
    (".venv", ""),
    ("venv", "requirements.txt"),
    ("__pycache__", ""),
    (".terraform", ""),
    (".gradle", ""),
    (".next", "package.json"),
    (".tox", ""),
    (".svn", ""),
];

/// Whether a name is a file or folder at the top of the context.
fn lies(files: &[String], name: &str) -> bool {
    files.iter().any(|file| file.split('/').next() == Some(name))
}

fn is_ignored(context: &Context<'_>, name: &str) -> bool {
    context.options.build.ignore.is_some_and(|ignore| ignore.is_ignored(name.as_bytes()))
}

/// `COPY . target` out of the context.
pub(super) fn copies_everything(view: &View<'_>) -> bool {
    let transfer = match view.kind() {
        Kind::Copy(copy) if copy.from.is_none() => &copy.transfer,
        Kind::Add(add) => &add.transfer,
        _ => return false,
    };
    transfer
        .sources
        .iter()
        .any(|word| matches!(word.raw.trim_matches('"'), "." | "./" | "/" | "*" | "./*"))
}

const LOCK_FILE: Rule = Rule {
    name: "LockFileUnused",
    description: "A lock file lies in the context, and the install does not keep to it",
    why: "A lock file names every version that was tested. An install that may choose others makes an image that nobody has tested.",
    bad: "FROM node:24\nCOPY package.json package-lock.json ./\nRUN npm install\n",
    good: "FROM node:24\nCOPY package.json package-lock.json ./\nRUN npm ci\n",
    set: Set::Own,
    level: Level::Style,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            for (view, script) in stage.runs() {
                for cmd in &script.commands {
                    if let Some((lock, instead)) = loose_install(cmd)
                        && has_lock_file(context, stage, view, lock)
                    {
                        complain(context, sink, (view, script, cmd), lock, instead);
                    }
                }
            }
        }
    }),
    ..PLAIN
};

fn complain(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    (view, script, cmd): (&View<'_>, &ShellText, &Cmd),
    lock: &str,
    instead: &str,
) {
    let is_npm = instead == "npm ci";
    let last = cmd.args.last().map_or(cmd.name_span, |arg| arg.span);
    let fix = match cmd.verb().filter(|_| is_npm) {
        Some(verb) => Some(Edit::replace(script.source(verb.span), "ci")),
        None => {
            let flag = instead.split_whitespace().find(|word| word.starts_with("--"));
            flag.map(|flag| Edit::insert(script.source(last).end, format!(" {flag}")))
        }
    };
    context
        .within(sink, view, script, cmd.span, format!("the install does not keep to `{lock}`"))
        .hint(format!("write `{instead}`"))
        .fix(fix.map(|edit| Fix::risky(format!("write `{instead}`"), vec![edit])));
}

/// The lock file that an install could keep to and does not, and what would.
fn loose_install(cmd: &Cmd) -> Option<(&'static str, &'static str)> {
    let has = |words: &[&str]| cmd.args.iter().any(|arg| words.contains(&arg.text.as_str()));
    let arguments = cmd.plain().count();
    match cmd.name.as_str() {
        "npm"
            if cmd.verb_is(&["install", "i"])
                && arguments == 1
                && !cmd.has_any_flag(&["g", "global"]) =>
        {
            Some(("package-lock.json", "npm ci"))
        }
        "yarn" if arguments <= 1 && (cmd.args.is_empty() || cmd.verb_is(&["install"])) => {
            let kept = has(&["--frozen-lockfile", "--immutable", "--pure-lockfile"]);
            let asks = has(&["--version", "-v", "--help"]);
            (!kept && !asks).then_some(("yarn.lock", "yarn install --frozen-lockfile"))
        }
        "pnpm" if cmd.verb_is(&["install", "i"]) && arguments == 1 => {
            let kept = has(&["--frozen-lockfile", "--offline"]);
            (!kept).then_some(("pnpm-lock.yaml", "pnpm install --frozen-lockfile"))
        }
        "pipenv" if cmd.verb_is(&["install"]) => {
            let kept = has(&["--deploy", "--ignore-pipfile"]);
            (!kept).then_some(("Pipfile.lock", "pipenv install --deploy"))
        }
        "uv" if cmd.verb_is(&["sync"]) => {
            let kept = has(&["--frozen", "--locked"]);
            (!kept).then_some(("uv.lock", "uv sync --locked"))
        }
        "cargo" if cmd.verb_is(&["build", "install", "b", "test", "fetch"]) => {
            let from_here = !cmd.verb_is(&["install"]) || cmd.has_flag("path");
            let kept = has(&["--locked", "--frozen"]);
            (from_here && !kept).then_some(("Cargo.lock", "cargo build --locked"))
        }
        "bundle" if cmd.verb_is(&["install"]) || cmd.args.is_empty() => {
            let kept = has(&["--frozen", "--deployment"]);
            (!kept).then_some(("Gemfile.lock", "bundle install --frozen"))
        }
        "composer" if cmd.verb_is(&["update", "upgrade"]) => {
            Some(("composer.lock", "composer install"))
        }
        "go" if cmd.verb_is(&["get"]) && cmd.has_flag("u") => Some(("go.sum", "go mod download")),
        _ => None,
    }
}

/// Whether the file lies in the context, or an earlier step of the stage copies it by name.
fn has_lock_file(
    context: &Context<'_>,
    stage: &StageView<'_>,
    view: &View<'_>,
    lock: &str,
) -> bool {
    let known = context.options.context_files.is_some_and(|files| lies(files, lock));
    known
        || stage.steps.iter().filter(|step| step.index < view.index).any(|step| match step.kind() {
            Kind::Copy(copy) => copy.transfer.sources.iter().any(|word| {
                let name = word.raw.trim_matches('"').rsplit('/').next().unwrap_or("");
                name == lock
            }),
            _ => false,
        })
}
