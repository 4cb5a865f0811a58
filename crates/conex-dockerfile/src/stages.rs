//! Names between stages: which stage a `FROM`, `COPY --from` or `--mount=from=` means.

use conex_report::Diagnostic;

use crate::ast::{Dockerfile, Instruction, Kind, Stage};
use crate::error::{Error, ErrorKind, suggestion};

/// What a `--from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageRef {
    /// An earlier stage, by position.
    Stage(usize),
    /// No stage: an image or a named context.
    External(String),
}

impl Dockerfile {
    /// The last stage of a name among the first `before` stages. Case does not matter.
    pub fn stage_named(&self, name: &str, before: usize) -> Option<&Stage> {
        let before = self.stages.get(..before).unwrap_or(&self.stages);
        before.iter().rev().find(|stage| is_named(stage, name))
    }

    /// What a `--from` in stage number `stage` names. Numbers are positions. Naming the stage
    /// itself or a later one is an error.
    pub fn resolve_from(&self, stage: usize, from: &str) -> Result<StageRef, Error> {
        if let Some(index) = number(from) {
            return match index {
                Some(index) if index < stage => Ok(StageRef::Stage(index)),
                _ => Err(Error::new(
                    ErrorKind::NotFound,
                    format!("`{from}` is not the number of an earlier stage"),
                )
                .with_hint(earlier_hint(stage))),
            };
        }
        if let Some(found) = self.stage_named(from, stage) {
            return Ok(StageRef::Stage(found.index));
        }
        match self.stages.iter().skip(stage).find(|later| is_named(later, from)) {
            None => Ok(StageRef::External(from.to_owned())),
            Some(own) if own.index == stage => Err(Error::new(
                ErrorKind::NotFound,
                format!("stage `{from}` cannot copy from itself"),
            )),
            Some(later) => Err(Error::new(
                ErrorKind::NotFound,
                format!("stage `{from}` is defined later, on line {}", later.span.start.line),
            )
            .with_hint(Some("move it before the stage that uses it".to_owned()))),
        }
    }

    /// The stage to build: the last one, or the one of this name or number.
    pub fn target(&self, name: Option<&str>) -> Result<&Stage, Error> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return self
                .stages
                .last()
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "Dockerfile has no stage"));
        };
        let numbered = || number(name).flatten().and_then(|index| self.stages.get(index));
        self.stage_named(name, self.stages.len()).or_else(numbered).ok_or_else(|| {
            let names = self.stages.iter().filter_map(|stage| stage.name.as_deref());
            Error::new(ErrorKind::NotFound, format!("no stage is named `{name}`"))
                .with_hint(suggestion(name, names))
        })
    }
}

fn is_named(stage: &Stage, name: &str) -> bool {
    stage.name.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(name))
}

/// `Some` for digits; the number, if it is one that a position can be.
fn number(text: &str) -> Option<Option<usize>> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())
}

fn earlier_hint(stage: usize) -> Option<String> {
    Some(match stage {
        0 => "this is the first stage; there is none before it".to_owned(),
        1 => "the only stage before this one is `0`".to_owned(),
        _ => format!("the stages before this one are `0` to `{}`", stage - 1),
    })
}

/// Checks every `--from` of the file.
pub(crate) fn check(file: &Dockerfile, diagnostics: &mut Vec<Diagnostic>) {
    for stage in &file.stages {
        for instruction in &stage.instructions {
            check_instruction(file, stage.index, instruction, diagnostics);
        }
    }
}

fn check_instruction(
    file: &Dockerfile,
    stage: usize,
    instruction: &Instruction,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut check = |from: &crate::Word| {
        if let Err(error) = file.resolve_from(stage, &from.raw) {
            diagnostics.push(error.at(from.span));
        }
    };
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().for_each(&mut check),
        Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.from()).for_each(&mut check),
        _ => {}
    }
}
