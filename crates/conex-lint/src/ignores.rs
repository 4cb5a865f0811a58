//! What comments in the file ignore: `# check=skip=…`, `# hadolint ignore=…`,
//! `# hadolint global ignore=…`, `# hadolint stage ignore=…`, `# conex ignore RULE reason`.

use conex_dockerfile::{Comment, Dockerfile, Instruction};

use crate::config::{self, Config};
use crate::finding::Finding;
use crate::lint::is_called;

/// Everything that the comments of a file ignore.
pub(crate) struct Ignores {
    file: Config,
    global: Vec<String>,
    /// First and last line, and what is ignored there.
    local: Vec<(u32, u32, Vec<String>)>,
    /// Options of BuildKit above an instruction.
    checks: Vec<(u32, u32, Config)>,
}

impl Ignores {
    pub(crate) fn new(file: &Dockerfile, build: &Config, is_off: bool) -> Self {
        let mut ignores =
            Self { file: build.clone(), global: Vec::new(), local: Vec::new(), checks: Vec::new() };
        if is_off {
            return ignores;
        }
        for comment in &file.comments {
            if let Some(Pragma::Global(names)) = pragma(comment) {
                ignores.global.extend(names);
            }
        }
        let mut attach = |instruction: &Instruction| {
            let (first, last) = (instruction.span.start.line, instruction.span.lines().1);
            for comment in &instruction.comments {
                if let Some(Pragma::Here(names)) = pragma(comment) {
                    ignores.local.push((first, last, names));
                }
            }
            if let Some(config) = config::of_comments(&instruction.comments) {
                ignores.checks.push((first, last, config));
            }
        };
        for instruction in &file.global_args {
            attach(instruction);
        }
        for stage in &file.stages {
            attach(&stage.from);
            for instruction in &stage.instructions {
                attach(instruction);
            }
        }
        for stage in &file.stages {
            let (first, last) = (stage.span.start.line, stage.span.lines().1);
            let above =
                stage.from.comments.first().map_or(first, |comment| comment.span.start.line);
            for comment in &file.comments {
                let line = comment.span.start.line;
                if let Some(Pragma::Stage(names)) = pragma(comment).filter(|_| line >= above)
                    && line <= last
                {
                    ignores.local.push((first, last, names));
                }
            }
        }
        // A comment inside a continued instruction counts for that instruction.
        for comment in &file.comments {
            let line = comment.span.start.line;
            if let Some(Pragma::Here(names)) = pragma(comment) {
                let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
                let around = instructions.map(|one| (one.span.start.line, one.span.lines().1));
                if let Some((first, last)) =
                    around.into_iter().find(|(first, last)| *first < line && line <= *last)
                {
                    ignores.local.push((first, last, names));
                }
            }
        }
        ignores
    }

    pub(crate) fn covers(&self, finding: &Finding) -> bool {
        let named = |names: &[String]| names.iter().any(|name| is_called(finding, name));
        let here = |first: u32, last: u32| first <= finding.line && finding.line <= last;
        if named(&self.global) {
            return true;
        }
        if self.local.iter().any(|(first, last, names)| here(*first, *last) && named(names)) {
            return true;
        }
        let Some(rule) = finding.rule else { return false };
        let mut config = self.file.clone();
        for (_, _, local) in self.checks.iter().filter(|(first, last, _)| here(*first, *last)) {
            config = config.merged(local);
        }
        !config.enables(rule)
    }
}

enum Pragma {
    Here(Vec<String>),
    Stage(Vec<String>),
    Global(Vec<String>),
}

fn pragma(comment: &Comment) -> Option<Pragma> {
    let text = comment.text.as_str();
    if let Some(rest) = text.strip_prefix("conex ") {
        let rest = rest.trim_start();
        let (is_global, rest) = match rest.strip_prefix("global ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, rest),
        };
        let names = rest.strip_prefix("ignore")?.trim_start_matches([' ', '=']);
        // The reason is for people.
        let names = list(names.split_whitespace().next()?);
        return Some(if is_global { Pragma::Global(names) } else { Pragma::Here(names) });
    }
    let rest = text.strip_prefix("hadolint")?.trim_start();
    let (scope, rest) = if let Some(rest) = rest.strip_prefix("global") {
        (Pragma::Global as fn(Vec<String>) -> Pragma, rest.trim_start())
    } else if let Some(rest) = rest.strip_prefix("stage") {
        (Pragma::Stage as fn(Vec<String>) -> Pragma, rest.trim_start())
    } else {
        (Pragma::Here as fn(Vec<String>) -> Pragma, rest)
    };
    let names = rest.strip_prefix("ignore")?.trim_start().strip_prefix('=')?;
    // What stands behind the last name, without a comma, is a remark.
    let mut found = Vec::new();
    for piece in names.split(',') {
        let mut words = piece.split_whitespace();
        found.extend(words.next().map(str::to_owned));
        if words.next().is_some() {
            break;
        }
    }
    Some(scope(found))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
