//! What comments in the file ignore: `# check=skip=…`, `# hadolint ignore=…`,
//! `# hadolint global ignore=…`, `# hadolint stage ignore=…`, `# conex ignore RULE reason`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use conex_dockerfile::{Comment, Dockerfile, Instruction};

use crate::config::{self, Config};
use crate::finding::Finding;
use crate::lint::is_called;

/// Everything that the comments of a file ignore.
pub(crate) struct Ignores {
    file: Config,
    global: Vec<String>,
    /// What is ignored in stages: first and last line, and names.
    stages: Vec<(u32, u32, Vec<String>)>,
    /// Instructions with comments that count for them, by first line.
    instructions: BTreeMap<u32, Local>,
}

/// What the comments of one instruction ignore.
#[derive(Default)]
struct Local {
    last: u32,
    names: Vec<String>,
    checks: Vec<Config>,
}

impl Ignores {
    pub(crate) fn new(file: &Dockerfile, build: &Config, is_off: bool) -> Self {
        let mut ignores = Self {
            file: build.clone(),
            global: Vec::new(),
            stages: Vec::new(),
            instructions: BTreeMap::new(),
        };
        if is_off {
            return ignores;
        }
        let staged = file
            .stages
            .iter()
            .flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
        let all: Vec<&Instruction> = file.global_args.iter().chain(staged).collect();
        for instruction in &all {
            for comment in &instruction.comments {
                if let Some(Pragma::Here(names)) = pragma(comment) {
                    ignores.at(instruction).names.extend(names);
                }
            }
            if let Some(config) = config::of_comments(&instruction.comments) {
                ignores.at(instruction).checks.push(config);
            }
        }
        for comment in &file.comments {
            let line = comment.span.start.line;
            match pragma(comment) {
                Some(Pragma::Global(names)) => ignores.global.extend(names),
                // A comment inside a continued instruction counts for that instruction.
                Some(Pragma::Here(names)) => {
                    let behind = all.partition_point(|one| one.span.start.line < line);
                    let around = behind.checked_sub(1).and_then(|index| all.get(index));
                    if let Some(one) = around.filter(|one| line <= one.span.lines().1) {
                        ignores.at(one).names.extend(names);
                    }
                }
                // One above a `FROM` counts for the stage that begins there.
                Some(Pragma::Stage(names)) => {
                    let stage = file.stages.iter().find(|stage| {
                        let above = stage.from.comments.first();
                        let first = above.map_or(stage.span.start.line, |one| one.span.start.line);
                        first <= line && line <= stage.span.lines().1
                    });
                    if let Some(stage) = stage {
                        let (first, last) = (stage.span.start.line, stage.span.lines().1);
                        ignores.stages.push((first, last, names));
                    }
                }
                None => {}
            }
        }
        ignores
    }

    fn at(&mut self, instruction: &Instruction) -> &mut Local {
        let local = self.instructions.entry(instruction.span.start.line).or_default();
        local.last = instruction.span.lines().1;
        local
    }

    pub(crate) fn covers(&self, finding: &Finding) -> bool {
        let named = |names: &[String]| names.iter().any(|name| is_called(finding, name));
        let is_within = |first: u32, last: u32| first <= finding.line && finding.line <= last;
        if named(&self.global) {
            return true;
        }
        let mut stages = self.stages.iter();
        if stages.any(|(first, last, names)| is_within(*first, *last) && named(names)) {
            return true;
        }
        let before = self.instructions.range(..=finding.line).next_back();
        let local = before.map(|(_, local)| local).filter(|local| finding.line <= local.last);
        if local.is_some_and(|local| named(&local.names)) {
            return true;
        }
        let Some(rule) = finding.rule else { return false };
        let mut config = Cow::Borrowed(&self.file);
        for check in local.iter().flat_map(|local| &local.checks) {
            config = Cow::Owned(config.merged(check));
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
