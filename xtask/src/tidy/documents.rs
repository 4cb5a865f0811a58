//! What documents, examples and any text have to look like.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Finding, lexer};
use crate::shell::Result;

/// Checks one text file of any kind.
pub(crate) fn check_text(root: &Path, file: &Path, text: &str, findings: &mut Vec<Finding>) {
    for (index, line) in text.lines().enumerate() {
        // Two blanks at the end of a line are no line break here either: none is needed.
        if line.ends_with([' ', '\t']) {
            findings.push(Finding::new(file, index + 1, "blanks at the end of the line"));
        }
        if line.ends_with('\r') || line.contains("\r\n") {
            findings.push(Finding::new(file, index + 1, "a carriage return"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(file, text.lines().count(), "the last line does not end"));
    }
    if file.extension().is_some_and(|extension| extension == "md") {
        check_links(root, file, text, findings);
    }
}

/// Links to files of the checkout lead to files.
fn check_links(root: &Path, file: &Path, text: &str, findings: &mut Vec<Finding>) {
    let folder = file.parent().unwrap_or(Path::new(""));
    for (index, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("](") {
            let rest = line.get(at + 2..).unwrap_or_default();
            let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
            let is_ours = !target.is_empty() && !target.contains("://") && !target.contains(':');
            if is_ours && !root.join(normal(&folder.join(target))).exists() {
                let message = format!("the link to `{target}` leads nowhere");
                findings.push(Finding::new(file, index + 1, message));
            }
        }
    }
}

fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                result.pop();
            }
            part => result.push(part),
        }
    }
    result
}

/// Checks what must be there.
pub(crate) fn check_layout(root: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    let changelog = fs::read_to_string(root.join("CHANGELOG.md")).unwrap_or_default();
    if !changelog.lines().any(|line| line == "## [Unreleased]") {
        let message = "no heading `## [Unreleased]`";
        findings.push(Finding::new("CHANGELOG.md", 1, message));
    }
    check_examples(root, findings)?;
    check_commands(root, findings)
}

/// Each example is a project that a person can build.
fn check_examples(root: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    let entries = fs::read_dir(root.join("examples")).map_err(|error| error.to_string())?;
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        if !entry.path().is_dir() {
            continue;
        }
        for needed in ["Dockerfile", ".dockerignore", "README.md"] {
            if !entry.path().join(needed).is_file() {
                let folder = Path::new("examples").join(entry.file_name());
                findings.push(Finding::new(folder, 1, format!("no `{needed}`")));
            }
        }
    }
    Ok(())
}

/// Each command has a test that runs it: its word stands, as a literal, in an end-to-end test.
fn check_commands(root: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    let folder = root.join("crates/conex/src/commands");
    if !folder.is_dir() {
        return Ok(());
    }
    let mut tests = String::new();
    let mut folders = vec![root.join("crates/conex/tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                tests.push_str(&fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
    for entry in fs::read_dir(&folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let is_command = path.extension().is_some_and(|extension| extension == "rs")
            && name != "mod"
            && has_arguments(&path);
        let word = name.replace('_', "-");
        let word = word.rsplit("--").next().unwrap_or(&word);
        if is_command && !tests.contains(&format!("\"{word}\"")) {
            let file = path.strip_prefix(root).unwrap_or(&path);
            let message = format!("no end-to-end test runs `{word}`");
            findings.push(Finding::new(file, 1, message));
        }
    }
    Ok(())
}

/// Whether a file is a command's: it has a struct of arguments and a function that runs it.
fn has_arguments(file: &Path) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let code = lexer::split(&text).code;
    code.iter().any(|line| line.contains("struct Args"))
        && code.iter().any(|line| line.contains("fn run("))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        check_text(root, Path::new(file), text, &mut findings);
        findings.iter().map(|one| format!("{}: {}", one.line, one.message)).collect()
    }

    #[test]
    fn texts_end_lines_cleanly() {
        assert_eq!(found("a.toml", "one\ntwo \n"), ["2: blanks at the end of the line"]);
        assert_eq!(found("a.toml", "one"), ["1: the last line does not end"]);
        assert_eq!(found("a.toml", "one\n"), [""; 0]);
        assert_eq!(found("a.toml", ""), [""; 0]);
    }

    #[test]
    fn links_to_files_lead_to_files() {
        for (text, expected) in [
            ("[a](Cargo.toml)", None),
            ("[a](src/main.rs#L1) and [b](https://example.org/x)", None),
            ("[a](missing.md)", Some("1: the link to `missing.md` leads nowhere")),
            ("[a](../src/../missing)", Some("1: the link to `../src/../missing` leads nowhere")),
            ("[a](#heading)", None),
        ] {
            let found = found("docs.md", &format!("{text}\n"));
            assert_eq!(found.first().map(String::as_str), expected, "{text}");
        }
    }
}
