//! Lowers COPY and ADD.

use conex_dockerfile::{Add, Copy, Expander, Instruction, Mode, Owner, Transfer};
use conex_report::Diagnostic;

use super::stage::{Stage, absolute};
use super::{Planner, at};
use crate::error::Error;
use crate::graph::{CopyOp, CopySource, Op, Tree};

impl Planner<'_, '_> {
    pub(super) fn copy(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), Error> {
        let from = match &copy.from {
            Some(word) => self.tree(&word.raw, stage.index, word.span)?,
            None => Tree::Context(None),
        };
        let expanded = self.transfer(stage, &copy.transfer)?;
        let paths = expanded
            .sources
            .iter()
            .map(|pattern| CopySource::Path { from: from.clone(), pattern: pattern.clone() });
        let sources = paths.chain(expanded.inline.clone()).collect();
        let flags = copy.parents.then(|| "--parents".to_owned());
        let op = self.op(&expanded, &copy.transfer, sources, copy.parents, false);
        self.transfer_step(stage, instruction, "COPY", flags, &expanded, op)
    }

    pub(super) fn add(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), Error> {
        let expanded = self.transfer(stage, &add.transfer)?;
        let checksum = match &add.checksum {
            Some(word) => Some((stage.expand(word, self.escape())?, word.span)),
            None => None,
        };
        let remote = expanded.sources.iter().filter(|source| is_http(source) || is_git(source));
        if let (Some((_, span)), 0) = (&checksum, remote.count()) {
            let message = "`--checksum` needs a source that is an http(s) or git URL";
            return Err(Error::at(Diagnostic::error(*span, message)));
        }
        let mut sources = Vec::new();
        for source in &expanded.sources {
            sources.push(if is_git(source) {
                CopySource::Git {
                    url: source.clone(),
                    checksum: checksum.as_ref().map(|(text, _)| text.clone()),
                    keep_git_dir: add.keep_git_dir,
                }
            } else if is_http(source) {
                let checksum = match &checksum {
                    Some((text, span)) => {
                        Some(text.parse().map_err(|error: conex_oci::Error| {
                            Error::at(Diagnostic::error(*span, error.to_string()))
                        })?)
                    }
                    None => None,
                };
                let unpack = add.unpack.unwrap_or(false);
                CopySource::Http { url: source.clone(), checksum, unpack }
            } else {
                CopySource::Path { from: Tree::Context(None), pattern: source.clone() }
            });
        }
        sources.extend(expanded.inline.clone());
        let unpack_local = add.unpack.unwrap_or(true);
        let op = self.op(&expanded, &add.transfer, sources, false, unpack_local);
        self.transfer_step(stage, instruction, "ADD", None, &expanded, op)
    }

    /// Expands what COPY and ADD share.
    fn transfer(&self, stage: &Stage, transfer: &Transfer) -> Result<Expanded, Error> {
        let escape = self.escape();
        let expand = |word: &conex_dockerfile::Word| stage.expand(word, escape);
        let sources = transfer.sources.iter().map(expand).collect::<Result<Vec<_>, _>>()?;
        let mut inline = Vec::new();
        for file in &transfer.inline_files {
            let content = if file.expand {
                let lookup = |name: &str| stage.scope.lookup(name);
                let expanded = Expander::new(escape, &lookup).expand_heredoc(&file.content);
                expanded.map_err(|error| at(file.span, error))?.text
            } else {
                file.content.clone()
            };
            inline.push(CopySource::Inline { name: file.name.clone(), content });
        }
        let chown = match &transfer.chown {
            Some(word) => {
                let text = expand(word)?;
                let owner = Owner::parse(&text).map_err(|error| at(word.span, error))?;
                Some((text, owner))
            }
            None => None,
        };
        let chmod = match &transfer.chmod {
            Some(word) => {
                let text = expand(word)?;
                let mode = Mode::parse(&text).map_err(|error| at(word.span, error))?;
                Some((text, mode))
            }
            None => None,
        };
        let target = expand(&transfer.target)?;
        if target.is_empty() {
            let message = "the destination is empty once its variables are expanded";
            return Err(Error::at(Diagnostic::error(transfer.target.span, message)));
        }
        let last = target.rsplit('/').next().unwrap_or_default();
        let dest_is_dir = matches!(last, "" | "." | "..");
        let dest = absolute(stage.cwd(), &target);
        Ok(Expanded { sources, inline, chown, chmod, target, dest, dest_is_dir })
    }

    fn op(
        &self,
        expanded: &Expanded,
        transfer: &Transfer,
        sources: Vec<CopySource>,
        parents: bool,
        add: bool,
    ) -> CopyOp {
        CopyOp {
            dest: expanded.dest.clone(),
            dest_is_dir: expanded.dest_is_dir || sources.len() > 1 || parents,
            sources,
            chown: expanded.chown.as_ref().map(|(_, owner)| owner.clone()),
            chmod: expanded.chmod.as_ref().map(|(_, mode)| mode.clone()),
            link: transfer.link,
            parents,
            excludes: transfer.excludes.iter().map(|word| word.raw.clone()).collect(),
            add,
        }
    }

    fn transfer_step(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        keyword: &str,
        flags: Option<String>,
        expanded: &Expanded,
        op: CopyOp,
    ) -> Result<(), Error> {
        let mut created_by = keyword.to_owned();
        let chown = expanded.chown.as_ref().map(|(text, _)| format!("--chown={text}"));
        let chmod = expanded.chmod.as_ref().map(|(text, _)| format!("--chmod={text}"));
        let inline = op.sources.iter().filter_map(|source| match source {
            CopySource::Inline { name, .. } => Some(format!("<<{name}")),
            _ => None,
        });
        let texts = flags.into_iter().chain(chown).chain(chmod);
        let texts = texts.chain(expanded.sources.iter().cloned()).chain(inline);
        for text in texts.chain([expanded.target.clone()]) {
            created_by.push(' ');
            created_by.push_str(&text);
        }
        created_by.push_str(" # buildkit");
        let name = stage.next_step(&instruction.text);
        let vertex = self.step(stage, instruction, name, Op::Copy(Box::new(op)));
        stage.remember(created_by, Some(vertex));
        Ok(())
    }
}

/// COPY and ADD with every variable expanded.
struct Expanded {
    sources: Vec<String>,
    inline: Vec<CopySource>,
    chown: Option<(String, Owner)>,
    chmod: Option<(String, Mode)>,
    /// As written.
    target: String,
    /// Absolute.
    dest: String,
    dest_is_dir: bool,
}

fn is_http(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// What is fetched with git: an http(s) URL of a repository (`….git`, with or without `#ref`), or
/// one that only git knows.
pub fn is_git(source: &str) -> bool {
    let schemes = ["git://", "ssh://", "git@"];
    if schemes.iter().any(|scheme| source.starts_with(scheme)) {
        return true;
    }
    if !is_http(source) {
        return false;
    }
    let path = source.split(['#', '?']).next().unwrap_or_default();
    path.ends_with(".git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files() {
        for (source, git) in [
            ("https://example.com/a.git", true),
            ("https://example.com/a.git#main:docs", true),
            ("https://example.com/a.git?branch=x", true),
            ("git@example.com:a/b.git", true),
            ("ssh://git@example.com/a", true),
            ("git://example.com/a", true),
            ("https://example.com/a.tar.gz", false),
            ("a.git", false),
        ] {
            assert_eq!(is_git(source), git, "{source}");
        }
    }
}
