//! Checks that no tool made for Rust in general can: who depends on whom in this workspace, and
//! what its sources and documents have to look like.
//!
//! The rules about crates are read from the tables in ARCHITECTURE.md, the one place where they
//! are written. Every finding is one line, `file:line: message`.

mod crates;
mod documents;
mod lexer;
mod sources;
mod wrap;

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{Result, root};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    file: PathBuf,
    line: usize,
    message: String,
}

impl Finding {
    pub(crate) fn new(file: impl Into<PathBuf>, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.into(), line, message: message.into() }
    }
}

/// Checks everything and prints every finding.
pub(crate) fn run() -> Result<()> {
    let root = root();
    let mut findings = Vec::new();
    crates::check(&root, &mut findings)?;
    let files = files(&root)?;
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file);
        let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if name.extension().is_some_and(|extension| extension == "rs") {
            sources::check(name, &text, &mut findings);
        }
        documents::check_text(&root, name, &text, &mut findings);
    }
    documents::check_layout(&root, &mut findings)?;
    findings.sort();
    for finding in &findings {
        println!("{}:{}: {}", finding.file.display(), finding.line, finding.message);
    }
    match findings.len() {
        0 => {
            println!("{} files are tidy", files.len());
            Ok(())
        }
        count => Err(format!("{count} findings")),
    }
}

/// Wraps the comments that are too wide, in the whole checkout or in the files that are named.
pub(crate) fn fix(names: &[&str]) -> Result<()> {
    let root = root();
    let wanted: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    for file in files(&root)? {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|name| file.starts_with(name));
        if !is_wanted || file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        if let Some(wrapped) = wrap::wrap(&text) {
            fs::write(&file, wrapped).map_err(|error| error.to_string())?;
            println!("{}", file.display());
        }
    }
    Ok(())
}

/// Folders that hold what is made, not what is written.
const SKIPPED: &[&str] = &["target", ".git", "corpus", "artifacts", "node_modules", "fixtures"];

/// Every file of the checkout that a person wrote.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| error.to_string())?;
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            let kind = entry.file_type().map_err(|error| error.to_string())?;
            let name = entry.file_name();
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
