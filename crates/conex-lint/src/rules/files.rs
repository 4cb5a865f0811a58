//! COPY and ADD: the right one of the two, where to, and with which modes.

use std::collections::BTreeMap;

use conex_dockerfile::{Kind, Transfer, Word};

use super::{Check, Fixable, Level, PLAIN, Rule, Set};
use crate::context::View;
use crate::finding::{Edit, Fix};

pub(super) static RULES: &[&Rule] = &[
    &ADD_ARCHIVE,
    &COPY_NOT_ADD,
    &TARGET_SLASH,
    &RELATIVE_TARGET,
    &OPEN_MODE,
    &CHMOD_AFTERWARDS,
    &ADD_UNCHECKED,
];

/// Ends of names that ADD unpacks.
const ARCHIVES: [&str; 17] = [
    ".tar", ".Z", ".bz2", ".gz", ".lz", ".lzma", ".tZ", ".tb2", ".tbz", ".tbz2", ".tgz", ".tlz",
    ".tpz", ".txz", ".xz", ".tar.zst", ".tzst",
];

fn is_archive(path: &str) -> bool {
    ARCHIVES.iter().any(|end| path.trim_matches('"').ends_with(end))
}

fn is_remote(path: &str) -> bool {
    let path = path.trim_matches('"');
    path.contains("://") || path.starts_with("git@")
}

const ADD_ARCHIVE: Rule = Rule {
    name: "AddArchive",
    description: "An archive is copied, and unpacked by a later step",
    why: "`ADD` unpacks local archives. Copied and unpacked in two steps, the archive stays in the image beside what was in it.",
    bad: "FROM debian:13\nCOPY app.tar.gz /app/\nRUN tar -xzf /app/app.tar.gz\n",
    good: "FROM debian:13\nADD app.tar.gz /app/\n",
    codes: &["DL3010"],
    level: Level::Info,
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            for view in &stage.steps {
                let Kind::Copy(copy) = view.kind() else { continue };
                if copy.from.is_some() {
                    continue;
                }
                let sources = copy.transfer.sources.iter().filter(|word| is_archive(&word.raw));
                for source in sources {
                    if is_unpacked(&stage.steps, view, &copy.transfer, &source.raw) {
                        sink.add(view.line, source.span, "an archive is copied to be unpacked")
                            .hint("`ADD` unpacks it, and leaves no archive in the image");
                    }
                }
            }
        }
    }),
    ..PLAIN
};

/// Whether a later RUN unpacks what was copied.
fn is_unpacked(steps: &[View<'_>], view: &View<'_>, transfer: &Transfer, source: &str) -> bool {
    let name = source.trim_matches('"').rsplit('/').next().unwrap_or("");
    let target = transfer.target.raw.trim_matches('"');
    let target_name = target.rsplit('/').next().unwrap_or("");
    let later = steps.iter().filter(|step| step.index > view.index);
    later.filter_map(View::run).flat_map(|script| &script.commands).any(|cmd| {
        let unpacks = (cmd.is("tar")
            && (cmd.has_any_flag(&["x", "extract", "get"])
                || cmd.args.first().is_some_and(|arg| {
                    arg.text.contains('x') && arg.text.bytes().all(|b| b.is_ascii_alphabetic())
                })))
            || cmd.is_any(&["gunzip", "bunzip2", "unlzma", "unxz", "zgz", "uncompress", "zcat"])
            || (cmd.is("gzcat"));
        unpacks
            && cmd.args.iter().any(|arg| {
                let file = arg.text.rsplit('/').next().unwrap_or("");
                !file.is_empty() && (file == name || (file == target_name && is_archive(file)))
            })
    })
}

const COPY_NOT_ADD: Rule = Rule {
    name: "CopyNotAdd",
    description: "`ADD` does nothing here that `COPY` does not",
    why: "`ADD` also loads URLs and unpacks archives, so a reader has to look twice. For files and folders `COPY` says what happens.",
    bad: "FROM debian:13\nADD app /app\n",
    good: "FROM debian:13\nCOPY app /app\n",
    codes: &["DL3020"],
    level: Level::Error,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            let Kind::Add(add) = view.kind() else { continue };
            let sources = &add.transfer.sources;
            let is_special = |word: &Word| {
                is_remote(&word.raw) || is_archive(&word.raw) || word.raw.contains('$')
            };
            let could_match = |word: &Word| word.raw.contains(['*', '?', '[']);
            if sources.iter().any(is_special) || sources.is_empty() {
                continue;
            }
            let needs_add =
                add.checksum.is_some() || add.unpack.is_some() || add.keep_git_dir.is_some();
            // A pattern may match an archive, which COPY would not unpack.
            let fix = (!needs_add && !sources.iter().any(could_match)).then(|| {
                let range = context.range(view.instruction.keyword.span);
                let is_lower = view.instruction.keyword.raw == "add";
                let text = if is_lower { "copy" } else { "COPY" };
                Fix::safe("write `COPY`", vec![Edit::replace(range, text)])
            });
            let keyword = view.instruction.keyword.span;
            sink.add(view.line, keyword, "`ADD` of plain files").hint("write `COPY`").fix(fix);
        }
    }),
    ..PLAIN
};

const TARGET_SLASH: Rule = Rule {
    name: "CopyTargetSlash",
    description: "Several sources, and a target that does not end in `/`",
    why: "With more than one source the target is a folder, which its name has to say; otherwise the build stops.",
    bad: "FROM debian:13\nCOPY a b /app\n",
    good: "FROM debian:13\nCOPY a b /app/\n",
    codes: &["DL3021"],
    level: Level::Error,
    fix: Fixable::Safe,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            let (Some(transfer), Kind::Copy(_)) = (transfer(view), view.kind()) else { continue };
            let target = &transfer.target;
            let plain = target.raw.trim_matches('"');
            let count = transfer.sources.len() + transfer.inline_files.len();
            if count < 2 || plain.ends_with('/') || plain.ends_with('\\') || plain == "." {
                continue;
            }
            let is_simple = !transfer.json && !target.raw.contains(['$', '"', '\'']);
            let end = context.range(target.span).end;
            let fix = is_simple.then(|| Fix::safe("add `/`", vec![Edit::insert(end, "/")]));
            sink.add(view.line, target.span, "the target of several sources is no folder")
                .hint("end it with `/`")
                .fix(fix);
        }
    }),
    ..PLAIN
};

fn transfer<'v>(view: &'v View<'_>) -> Option<&'v Transfer> {
    match view.kind() {
        Kind::Copy(copy) => Some(&copy.transfer),
        Kind::Add(add) => Some(&add.transfer),
        _ => None,
    }
}

const RELATIVE_TARGET: Rule = Rule {
    name: "CopyRelativeTarget",
    description: "A relative target, and no `WORKDIR` before it",
    why: "A relative target counts from the base image's working directory, which may be another one after the next update of the base.",
    bad: "FROM debian:13\nCOPY app bin/\n",
    good: "FROM debian:13\nWORKDIR /app\nCOPY app bin/\n",
    codes: &["DL3045"],
    check: Check::Lint(|context, sink| {
        let mut known: Vec<bool> = Vec::new();
        for stage in &context.stages {
            let inherited = stage.parent.and_then(|index| known.get(index)).copied();
            let mut has_workdir = inherited.unwrap_or(false);
            for view in &stage.steps {
                has_workdir |= matches!(view.kind(), Kind::Workdir(_));
                let Kind::Copy(copy) = view.kind() else { continue };
                let target = copy.transfer.target.raw.trim_matches(['"', '\'']);
                let is_windows = target.as_bytes().get(1) == Some(&b':');
                let is_absolute = target.starts_with(['/', '\\', '$']) || is_windows;
                if !has_workdir && !is_absolute {
                    let span = copy.transfer.target.span;
                    sink.add(view.line, span, "the target depends on the base image")
                        .hint("set `WORKDIR` before it, or write the whole path");
                }
            }
            known.push(has_workdir);
        }
    }),
    ..PLAIN
};

/// Whether a mode lets everyone write: octal digits or the symbolic form.
fn is_open(mode: &str) -> bool {
    let octal = mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) && mode.len() >= 3;
    if octal {
        return mode.bytes().last().is_some_and(|last| (last - b'0') & 2 != 0);
    }
    mode.split(',').any(|clause| {
        let Some(at) = clause.find(['+', '=']) else { return false };
        let (who, what) = clause.split_at(at);
        what.contains('w') && who.contains(['o', 'a'])
    })
}

const OPEN_MODE: Rule = Rule {
    name: "WorldWritable",
    description: "Files that everyone in the container may change",
    why: "With mode 777 any process, also one that was broken into, can replace the program that root or the next user runs.",
    bad: "FROM debian:13\nCOPY --chmod=777 app /app\n",
    good: "FROM debian:13\nCOPY --chmod=755 app /app\n",
    set: Set::Own,
    level: Level::Warning,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            let mode = transfer(view).and_then(|transfer| transfer.chmod.as_ref());
            if let Some(mode) = mode.filter(|mode| is_open(&mode.raw)) {
                sink.add(view.line, mode.span, format!("mode `{}` lets everyone write", mode.raw))
                    .hint("755 for programs and folders, 644 for files");
            }
        }
        for (view, script, cmd) in context.commands().filter(|(_, _, cmd)| cmd.is("chmod")) {
            let mode = cmd.plain().next().filter(|mode| is_open(&mode.text));
            // A sticky bit is what makes a shared folder such as /tmp safe.
            let mode = mode.filter(|mode| !(mode.text.len() == 4 && mode.text.starts_with('1')));
            if let Some(mode) = mode.filter(|mode| !mode.text.contains('t')) {
                let message = format!("mode `{}` lets everyone write", mode.text);
                context
                    .within(sink, view, script, mode.span, message)
                    .hint("755 for programs and folders, 644 for files; or give them to one user");
            }
        }
    }),
    ..PLAIN
};

const CHMOD_AFTERWARDS: Rule = Rule {
    name: "ChmodCopiesAgain",
    description: "Owners or modes of copied files are changed in a step of their own",
    why: "A file whose mode or owner changes is stored again, whole. `COPY --chmod` and `--chown` set them while they copy, and the files are in the image once.",
    bad: "FROM debian:13\nCOPY big /big\nRUN chown -R 1000 /big\n",
    good: "FROM debian:13\nCOPY --chown=1000 big /big\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            // Where files are copied to, and by which step first.
            let mut copied_at: BTreeMap<&str, usize> = BTreeMap::new();
            for step in &stage.steps {
                if let Some(target) = copied_to(step) {
                    copied_at.entry(target.trim_end_matches('/')).or_insert(step.index);
                }
            }
            for (view, script) in stage.runs() {
                for cmd in script.commands.iter().filter(|cmd| cmd.is_any(&["chown", "chmod"])) {
                    let copied = cmd.plain().skip(1).find(|arg| {
                        let first = copied_at.get(arg.text.trim_end_matches('/'));
                        arg.is_literal && first.is_some_and(|first| *first < view.index)
                    });
                    let Some(arg) = copied else { continue };
                    let flag = if cmd.is("chown") { "--chown" } else { "--chmod" };
                    let message = format!("`{}` is stored a second time", arg.text);
                    context
                        .within(sink, view, script, cmd.span, message)
                        .hint(format!("write `COPY {flag}=…` where it is copied"));
                }
            }
        }
    }),
    ..PLAIN
};

/// The absolute path that an instruction copies to.
fn copied_to<'v>(view: &'v View<'_>) -> Option<&'v str> {
    let target = transfer(view)?.target.raw.as_str();
    (target.starts_with('/') && target != "/" && !target.contains('$')).then_some(target)
}

const ADD_UNCHECKED: Rule = Rule {
    name: "AddWithoutChecksum",
    description: "A file from the network is not checked",
    why: "What a URL gives can change, by mistake or by an attacker. `--checksum` makes the build stop when it does.",
    bad: "FROM debian:13\nADD https://example.test/tool /usr/bin/tool\n",
    good: "FROM debian:13\nADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://example.test/tool /usr/bin/tool\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            let Kind::Add(add) = view.kind() else { continue };
            let remote = add.transfer.sources.iter().find(|word| {
                let raw = word.raw.trim_matches('"');
                let is_git = raw.split(['#', '?']).next().is_some_and(|url| url.ends_with(".git"));
                (raw.starts_with("http://") || raw.starts_with("https://")) && !is_git
            });
            if let Some(remote) = remote.filter(|_| add.checksum.is_none()) {
                sink.add(view.line, remote.span, "what the URL gives is not checked")
                    .hint("add `--checksum=sha256:…`");
            }
        }
    }),
    ..PLAIN
};

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn modes_that_let_everyone_write() {
        for (mode, expected) in [
            ("777", true),
            ("0666", true),
            ("755", false),
            ("644", false),
            ("a+w", true),
            ("o=rw", true),
            ("u+w,g+w", false),
            ("+x", false),
            ("a+rX", false),
        ] {
            assert_eq!(is_open(mode), expected, "{mode}");
        }
    }
}
