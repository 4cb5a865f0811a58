//! What lies in the build context, and is copied or left aside. Asked only where the files of the
//! context are known.

use std::collections::{BTreeMap, BTreeSet};

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, PLAIN, Rule, Set};
use crate::context::{Context, Inheritance, View};
use crate::finding::{Edit, Fix, Sink};
use crate::script::{Cmd, ShellText};

pub(super) static RULES: &[&Rule] = &[&IGNORE_FILE, &LOCK_FILE, &REQUIREMENTS];

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
        let parents = context.stages.iter().map(|stage| stage.parent);
        let mut frozen_by_stage: Inheritance<BTreeSet<&'static str>> = Inheritance::new(parents);
        for stage in &context.stages {
            // Where files are copied to, and what the environment keeps to.
            let mut copied: BTreeSet<&str> = BTreeSet::new();
            let mut frozen = frozen_by_stage.of(stage.parent).unwrap_or_default();
            for view in &stage.steps {
                match view.kind() {
                    Kind::Copy(copy) => copied.extend(copy.transfer.sources.iter().map(base_name)),
                    Kind::Env(env) => {
                        frozen.extend(env.pairs.iter().filter_map(|pair| kept_by(&pair.key.raw)));
                    }
                    _ => {}
                }
                for script in view.runs() {
                    installs(context, sink, (view, script), &copied, &mut frozen);
                }
            }
            frozen_by_stage.keep(frozen);
        }
    }),
    ..PLAIN
};

/// Complains of the installs of a script that keep to no lock file.
fn installs(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    (view, script): (&View<'_>, &ShellText),
    copied: &BTreeSet<&str>,
    frozen: &mut BTreeSet<&'static str>,
) {
    for cmd in &script.commands {
        // `bundle config set frozen true`, and the older ways to write it.
        let config = cmd.is("bundle") && cmd.verb_is(&["config"]);
        if config && cmd.args.iter().any(|arg| matches!(&*arg.text, "frozen" | "deployment")) {
            frozen.insert("Gemfile.lock");
        }
        let Some((lock, instead)) = loose_install(cmd) else { continue };
        let lies_there = context.options.context_files.is_some_and(|files| lies(files, lock));
        if !frozen.contains(lock) && (lies_there || copied.contains(lock)) {
            complain(context, sink, (view, script, cmd), lock, instead);
        }
    }
}

/// The lock file that an environment variable makes installs keep to.
fn kept_by(variable: &str) -> Option<&'static str> {
    Some(match variable {
        "BUNDLE_DEPLOYMENT" | "BUNDLE_FROZEN" => "Gemfile.lock",
        "UV_FROZEN" | "UV_LOCKED" => "uv.lock",
        "YARN_ENABLE_IMMUTABLE_INSTALLS" => "yarn.lock",
        "PIPENV_IGNORE_PIPFILE" | "PIPENV_DEPLOY" => "Pipfile.lock",
        _ => return None,
    })
}

/// The last part of a path.
fn base_name(word: &conex_dockerfile::Word) -> &str {
    word.raw.trim_matches('"').trim_end_matches('*').rsplit('/').next().unwrap_or("")
}

fn complain(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    (view, script, cmd): (&View<'_>, &ShellText, &Cmd),
    lock: &str,
    instead: &str,
) {
    let last = cmd.args.last().map_or(cmd.name_span, |arg| arg.span);
    let fix = match instead.split_whitespace().find(|word| word.starts_with("--")) {
        Some(flag) => Some(Edit::insert(script.source(last).end, format!(" {flag}"))),
        // Another verb: `npm ci` for `npm install`.
        None => cmd.verb().filter(|_| instead.split(' ').count() == 2).map(|verb| {
            Edit::replace(script.source(verb.span), instead.rsplit(' ').next().unwrap_or(""))
        }),
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
        "npm" if cmd.verb_is(&["update", "up", "upgrade"]) => Some(("package-lock.json", "npm ci")),
        "bun" if cmd.verb_is(&["install", "i"]) && arguments == 1 => {
            let kept = has(&["--frozen-lockfile"]);
            (!kept).then_some(("bun.lock", "bun install --frozen-lockfile"))
        }
        "poetry" if cmd.verb_is(&["update"]) => Some(("poetry.lock", "poetry install")),
        "bundle" if cmd.verb_is(&["update"]) => Some(("Gemfile.lock", "bundle install")),
        "go" if cmd.verb_is(&["mod"]) && cmd.has("tidy") => Some(("go.sum", "go mod download")),
        "dotnet" if cmd.verb_is(&["restore"]) && !has(&["--locked-mode"]) => {
            Some(("packages.lock.json", "dotnet restore --locked-mode"))
        }
        "composer" if cmd.verb_is(&["update", "upgrade"]) => {
            Some(("composer.lock", "composer install"))
        }
        "go" if cmd.verb_is(&["get"]) && cmd.has_flag("u") => Some(("go.sum", "go mod download")),
        _ => None,
    }
}

const REQUIREMENTS: Rule = Rule {
    name: "RequirementsUnpinned",
    description: "A requirements file names packages without versions, or some without hashes",
    why: "Without `==` the image holds whatever was published last. With hashes pip checks what it loads, and as soon as one requirement has them, it stops at any that has none.",
    bad: "FROM python:3.14\nCOPY requirements.txt .\nRUN pip install --no-cache-dir -r requirements.txt\n",
    good: "FROM python:3.14\nCOPY requirements.lock .\nRUN pip install --no-cache-dir -r requirements.lock\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        let Some(read) = context.options.context_text else { return };
        // Of each file what is to be said; it may be installed in many steps.
        let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (view, script, cmd) in context.commands() {
            let is_install = super::packages::is_pip_install(cmd)
                || (cmd.is("uv") && cmd.has("pip") && cmd.has("install"));
            if !is_install || cmd.has_any_flag(&["c", "constraint"]) {
                continue;
            }
            for arg in requirement_files(cmd) {
                let path = arg.text.strip_prefix("-r").unwrap_or(&arg.text);
                let name = path.rsplit(['/', '=']).next().unwrap_or("");
                if known.len() >= REQUIREMENT_FILE_COUNT_MAX && !known.contains_key(name) {
                    continue;
                }
                let fault = known.entry(name.to_owned()).or_insert_with(|| {
                    read(name).and_then(|text| fault_of_requirements(name, &text))
                });
                if let Some(message) = fault {
                    context
                        .within(sink, view, script, arg.span, message.as_str())
                        .hint("`uv pip compile --generate-hashes` and `pip-compile` write both");
                }
            }
        }
    }),
    ..PLAIN
};

/// Most requirements files read for one Dockerfile.
const REQUIREMENT_FILE_COUNT_MAX: usize = 20;

/// The arguments of pip that name requirements files.
fn requirement_files(cmd: &Cmd) -> impl Iterator<Item = &crate::script::Arg> {
    let names = |at: usize, text: &str| {
        let before = at.checked_sub(1).and_then(|at| cmd.args.get(at));
        before.is_some_and(|flag| matches!(flag.text.as_str(), "-r" | "--requirement" | "-qr"))
            || (text.starts_with("-r") && text.len() > 2)
            || text.starts_with("--requirement=")
    };
    cmd.args
        .iter()
        .enumerate()
        .filter(move |(at, arg)| arg.is_literal && names(*at, &arg.text))
        .map(|(_, arg)| arg)
}

/// What is wrong with a requirements file, if anything is.
fn fault_of_requirements(file: &str, text: &str) -> Option<String> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    // Options, further files, paths and archives have versions of their own, or none.
    let requirements: Vec<&str> = lines
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()))
        .filter(|line| !line.contains("://") && !line.contains(" @ ") && !line.ends_with(".whl"))
        .collect();
    let name = |line: &str| {
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c));
        line.get(..end.unwrap_or(line.len())).unwrap_or("").to_owned()
    };
    let told = |bad: &[&&str], what: &str| {
        let (first, rest) = bad.split_first()?;
        let more =
            if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        Some(format!("`{}`{more} in `{file}` without {what}", name(first)))
    };
    let loose: Vec<&&str> = requirements.iter().filter(|line| !line.contains("==")).collect();
    let unchecked: Vec<&&str> =
        requirements.iter().filter(|line| !line.contains("--hash=")).collect();
    let has_hashes = unchecked.len() < requirements.len();
    told(&loose, "a version").or_else(|| told(&unchecked, "a hash").filter(|_| has_hashes))
}

#[cfg(test)]
mod tests {
    use super::fault_of_requirements;

    #[test]
    fn requirements_are_pinned_all_and_checked_all_or_none() {
        for (text, expected) in [
            ("", None),
            ("# flask\n-r base.txt\n--index-url https://x.test\n./local\n", None),
            ("flask==3.1.2\ndjango==5.0 ; python_version > '3'\n", None),
            ("flask\n", Some("`flask` in `r.txt` without a version")),
            ("a==1\nflask[async]>=3\nb\n", Some("`flask` and 1 more in `r.txt` without a version")),
            ("a @ https://x.test/a.whl\ngit+https://x.test/b\n", None),
            ("a==1 \\\n    --hash=sha256:00\nb==2 --hash=sha256:11\n", None),
            ("a==1 \\\n    --hash=sha256:00\nb==2\n", Some("`b` in `r.txt` without a hash")),
        ] {
            assert_eq!(fault_of_requirements("r.txt", text).as_deref(), expected, "{text}");
        }
    }
}
