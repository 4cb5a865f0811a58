//! Beside hadolint on the same files: what both find, what only one does, and why.
//!
//! The corpus was written for this: each file holds one thing that linters look at. Every
//! disagreement needs a line in [`EXPLAINED`], and every line there is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::sandbox::{Sandbox, missing, program};
use crate::scene::json;

const CORPUS: &str = include_str!("corpus.txt");

/// The only side that finds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Hadolint,
    Conex,
}

use Only::{Conex, Hadolint};

/// Why the two disagree: who finds it alone, the code, what the line holds, and the reason. An
/// empty text is any line.
const EXPLAINED: &[(Only, &str, &str, &str)] = &[
    (Hadolint, "DL1000", "<<EOF", "its parser stops at a heredoc"),
    (Hadolint, "DL3001", "--version", "asking for a version means something in a build"),
    (Hadolint, "DL3001", "pwsh", "what PowerShell reads is no script of sh"),
    (Hadolint, "DL3002", "FROM debian:12 AS a", "only the last stage is shipped"),
    (Hadolint, "DL3003", "(cd", "a subshell confines it"),
    (Hadolint, "DL3003", "pwsh", "what PowerShell reads is no script of sh"),
    (Hadolint, "DL3003", "check=skip", "BuildKit's comments ignore findings too"),
    (Hadolint, "DL3008", "$PKGS", "nothing is known of what a variable holds"),
    (Hadolint, "DL3009", "target=/var/lib/apt", "the lists are below the mounted folder"),
    (
        Hadolint,
        "DL3012",
        "HEALTHCHECK CMD b",
        "the lost one is told, as BuildKit does: the earlier",
    ),
    (Hadolint, "DL3013", "pwsh", "what PowerShell reads is no script of sh"),
    (Hadolint, "DL3019", "rm -rf /var/cache/apk", "the cache is deleted in the same step"),
    (Hadolint, "DL3022", "x/y", "an image with a folder in its name"),
    (Hadolint, "DL3023", "--from=a", "the earlier stage of the same name is meant"),
    (Hadolint, "DL3025", "HEALTHCHECK", "a check needs no signals, and a shell is useful"),
    (Hadolint, "DL3029", "$OTHER", "a variable is no constant"),
    (Hadolint, "DL3042", "pwsh", "what PowerShell reads is no script of sh"),
    (Hadolint, "DL3042", "target=/root/.cache", "the cache is below the mounted folder"),
    (Hadolint, "DL3047", "pwsh", "what PowerShell reads is no script of sh"),
    (Hadolint, "DL3066", "root", "root is told by DL3002"),
    (Hadolint, "DL3066", "$U", "nothing is known of what a variable holds"),
    (Hadolint, "DL3067", "FROM scratch", "on top of nothing, nothing is stored twice"),
    (Hadolint, "DL4003", "CMD", "the lost one is told, as BuildKit does: the earlier"),
    (Hadolint, "DL4004", "ENTRYPOINT", "the lost one is told, as BuildKit does: the earlier"),
    (Hadolint, "DL4006", "set -o pipefail", "the step sets it itself"),
    (Hadolint, "DL4006", "FROM a", "SHELL is inherited from the stage"),
    (Hadolint, "SC1071", "zsh", "zsh is read as bash is"),
    (Hadolint, "SC2016", "sed", "sed has dollar signs of its own"),
    (Hadolint, "SC2034", "x", "a step may well set a variable for nothing"),
    (Hadolint, "DL3008", "\"$pkg\"", "nothing is known of what a variable holds"),
    (Hadolint, "DL3009", "lists/*_*", "the lists are deleted"),
    (Hadolint, "DL3018", "$PHPIZE_DEPS", "nothing is known of what a variable holds"),
    (Hadolint, "DL3041", "dnf-command(", "what packages provide has no version of its own"),
    (Hadolint, "DL3046", "$uid", "nothing is known of what a variable holds"),
    (Hadolint, "DL3066", "$APP_UID", "nothing is known of what a variable holds"),
    (Hadolint, "SC1001", "windowsservercore", "what cmd reads is no script of sh"),
    (Hadolint, "SC1072", "windowsservercore", "what cmd reads is no script of sh"),
    (Hadolint, "SC2011", "ls -1", "told as any other reading of `ls` (SC2012)"),
    (Hadolint, "SC2046", "nproc", "it prints one word"),
    (Hadolint, "SC2164", "errexit", "SHELL ends the step when `cd` fails"),
    (Hadolint, "SC2174", "-m 0700", "the mode of folders between is hardly ever missed"),
    (Hadolint, "SC2086", "$PKGS", "a list of packages is cut on purpose"),
    (Hadolint, "SC2086", "$PHPIZE_DEPS", "a list of packages is cut on purpose"),
    (Hadolint, "SC2086", "savedAptMark", "a list of packages is cut on purpose"),
    (Hadolint, "SC2086", "runDeps", "a list of packages is cut on purpose"),
    (Hadolint, "SC2119", "f()", "functions with arguments are not followed"),
    (Hadolint, "SC2164", "RUN cd /a", "nothing stands behind it"),
    (Hadolint, "SC2164", "mkdir x && cd x", "nothing stands behind it"),
    (Hadolint, "SC3054", "a=(1 2)", "told where the array is made (SC3030)"),
    (Conex, "DL3000", "$APP", "a variable that nothing sets is empty, as for BuildKit"),
    (Conex, "DL3000", "c:", "relative in an image of Linux, as for BuildKit"),
    (Conex, "DL3003", "ONBUILD", "triggers are looked at"),
    (Conex, "DL3008", "sudo", "what sudo starts is looked at"),
    (Conex, "DL3010", "tar xzf", "tar takes its letters without a dash too"),
    (Conex, "DL3012", "HEALTHCHECK CMD a", "the lost one is told, as BuildKit does: the earlier"),
    (Conex, "DL3014", "dist-upgrade", "an upgrade asks too"),
    (Conex, "DL3014", "autoremove", "a removal asks too"),
    (Conex, "DL3015", "sudo", "what sudo starts is looked at"),
    (Conex, "DL3016", "npm i", "`i` is `install`"),
    (Conex, "DL3020", "ONBUILD", "triggers are looked at"),
    (Conex, "DL3022", "--from=0", "no stage comes before the first"),
    (Conex, "DL3045", "ONBUILD", "triggers are looked at"),
    (Conex, "DL3048", "a_b", "Docker's guidelines allow no underscore"),
    (Conex, "DL3008", "<<EOF", "heredocs are read"),
    (Conex, "DL3009", "<<EOF", "heredocs are read"),
    (Conex, "DL3015", "<<EOF", "heredocs are read"),
    (Conex, "DL3048", "build_version", "Docker's guidelines allow no underscore"),
    (Conex, "DL3059", "", "two joined commands are still short"),
    (Conex, "DL3064", "KEY_NAME", "as BuildKit's check"),
    (Conex, "DL4003", "CMD", "the lost one is told, as BuildKit does: the earlier"),
    (Conex, "DL4004", "ENTRYPOINT", "the lost one is told, as BuildKit does: the earlier"),
    (Conex, "SC2002", "os-release", "ShellCheck asks it on demand only"),
    (Conex, "SC2002", "cat x", "ShellCheck asks it on demand only"),
    (Conex, "SC2154", "cat <<EOF", "heredocs expand too"),
];

/// Files on which hadolint itself stops (2.15.1: `index: Index too large`), without any answer for
/// the files that come behind.
const STOPS: [&str; 1] = ["WORKDIR a\nCOPY x y\n"];

/// Where hadolint is: `CONEX_HADOLINT`, or in the path.
fn hadolint() -> Option<std::path::PathBuf> {
    let named = std::env::var_os("CONEX_HADOLINT").map(std::path::PathBuf::from);
    named.filter(|path| path.exists()).or_else(|| program("hadolint"))
}

/// Line and code of each finding that has a code of hadolint or ShellCheck, by file.
type Found = BTreeMap<String, BTreeSet<(u64, String)>>;

fn of_json(text: &str) -> Found {
    let mut found = Found::new();
    for one in json(text).as_array().unwrap() {
        let code = one["code"].as_str().unwrap().to_owned();
        let file = one["file"].as_str().unwrap().to_owned();
        found.entry(file).or_default().insert((one["line"].as_u64().unwrap(), code));
    }
    found
}

/// From hadolint's lines: `file:line CODE level: message`.
fn of_lines(text: &str) -> Found {
    let mut found = Found::new();
    for line in text.lines() {
        let (file, rest) = line.split_once(':').unwrap();
        let mut words = rest.split(' ');
        let number = words.next().unwrap().parse().unwrap();
        let code = words.next().unwrap();
        if code.starts_with("DL") || code.starts_with("SC") {
            found.entry(file.to_owned()).or_default().insert((number, code.to_owned()));
        }
    }
    found
}

#[test]
fn every_disagreement_with_hadolint_is_explained() {
    let Some(hadolint) = hadolint() else { return missing("hadolint") };
    let sandbox = Sandbox::new();
    let mut names = Vec::new();
    let texts: Vec<&str> = CORPUS.split("===\n").filter(|text| !text.is_empty()).collect();
    assert!(texts.len() > 400, "{}", texts.len());
    for (number, text) in texts.iter().enumerate() {
        if STOPS.iter().any(|stop| text.ends_with(stop)) {
            continue;
        }
        let name = format!("{number:04}.Dockerfile");
        sandbox.write(&format!("corpus/{name}"), text);
        names.push(name);
    }
    let output = Command::new(hadolint)
        .args(["--no-fail", "-f", "json"])
        .args(&names)
        .current_dir(sandbox.at("corpus"))
        .env("HOME", sandbox.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = of_json(&String::from_utf8_lossy(&output.stdout));
    let ended = sandbox.conex(&["lint", "-f", "tty", "corpus"]);
    let ours = of_lines(&ended.out.replace("corpus/", ""));

    let none = BTreeSet::new();
    let (mut unexplained, mut used, mut agreed) = (Vec::new(), BTreeSet::new(), 0);
    for (number, text) in texts.iter().enumerate() {
        let name = format!("{number:04}.Dockerfile");
        let (theirs, ours) = (theirs.get(&name).unwrap_or(&none), ours.get(&name).unwrap_or(&none));
        agreed += theirs.intersection(ours).count();
        let lonely = theirs
            .difference(ours)
            .map(|one| (Hadolint, one))
            .chain(ours.difference(theirs).map(|one| (Conex, one)));
        for (only, (line, code)) in lonely {
            let at = usize::try_from(*line).unwrap().saturating_sub(1);
            let written = text.lines().nth(at).unwrap_or("");
            let is_shell = |code: &str| code.starts_with("SC");
            // hadolint gives one finding of ShellCheck a step, whichever comes first.
            if only == Conex
                && is_shell(code)
                && theirs.iter().any(|(other, code)| other == line && is_shell(code))
            {
                continue;
            }
            let why = EXPLAINED.iter().position(|(side, known, part, _)| {
                *side == only && known == code && (written.contains(part) || text.contains(part))
            });
            match why {
                Some(index) => {
                    used.insert(index);
                }
                None => unexplained.push(format!("{only:?} {code} {name}:{line} {written}")),
            }
        }
    }
    assert!(unexplained.is_empty(), "unexplained:\n{}", unexplained.join("\n"));
    let stale: Vec<_> =
        EXPLAINED.iter().enumerate().filter(|(index, _)| !used.contains(index)).collect();
    assert!(stale.is_empty(), "explains nothing: {stale:?}");
    assert!(agreed > 300, "{agreed}");
}
