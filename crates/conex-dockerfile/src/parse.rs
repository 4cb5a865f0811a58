//! Puts instructions together into a [`Dockerfile`], and checks what only the whole file shows.

use conex_report::{Diagnostic, Severity, Span};

use crate::ast::{Dockerfile, Instruction, Kind, Stage, Word};
use crate::instruction;
use crate::limits::{DIAGNOSTIC_COUNT_MAX, DOCKERFILE_SIZE_MAX, INSTRUCTION_COUNT_MAX};
use crate::lines::{RawInstruction, Reader};
use crate::source::Source;
use crate::{diag, stages, statement};

/// Reads a Dockerfile. A mistake never stops the reading: the diagnostics hold all of them, in the
/// order of the file, and the tree holds everything that could be understood.
///
/// Build the tree only if no diagnostic is an error: instructions that were not understood are
/// missing from it, and a `FROM` that was not is there with what could be made of it.
pub fn parse(text: &[u8]) -> (Dockerfile, Vec<Diagnostic>) {
    if text.len() > DOCKERFILE_SIZE_MAX {
        let start = Span::new((1, 1), (1, 1));
        return (empty_file(), vec![diag::file_too_large(start)]);
    }
    let source = Source::new(text);
    let mut reader = Reader::new(&source);
    let mut tree = Tree::default();
    let mut count = 0;
    while let Some(raw) = reader.next_instruction() {
        count += 1;
        let span = source.span(&raw.head);
        if count > INSTRUCTION_COUNT_MAX {
            reader.diagnostics.push(diag::too_many_instructions(span));
            break;
        }
        read_instruction(raw, &source, &mut reader, &mut tree);
        // One instruction may have many mistakes, so the surplus is cut off here.
        if reader.diagnostics.len() > DIAGNOSTIC_COUNT_MAX {
            reader.diagnostics.truncate(DIAGNOSTIC_COUNT_MAX);
            reader.diagnostics.push(diag::too_many_errors(span));
            break;
        }
    }
    let Reader { escape, directives, comments, mut diagnostics, .. } = reader;
    let Tree { global_args, stages } = tree;
    if stages.is_empty() {
        let end = source.position(source.text().trim_end().len());
        diagnostics.push(diag::no_stage(Span { start: end, end }));
    }
    let file = Dockerfile { directives, escape, global_args, stages, comments };
    stages::check(&file, &mut diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    (file, diagnostics)
}

/// Reads an `ONBUILD` trigger out of an image's config: exactly one instruction. Its spans count
/// from the trigger's own text, and the escape character is `\`.
pub fn parse_onbuild(trigger: &str) -> Result<Instruction, Diagnostic> {
    let whole = Span::new((1, 1), (1, 1));
    if trigger.len() > DOCKERFILE_SIZE_MAX {
        return Err(diag::file_too_large(whole));
    }
    let source = Source::new(trigger.as_bytes());
    let mut reader = Reader::new(&source);
    let mut found = Vec::new();
    while let Some(raw) = reader.next_instruction() {
        found.push(raw);
    }
    if let Some(error) = reader.diagnostics.pop() {
        return Err(error);
    }
    let count = found.len();
    let Some(raw) = found.pop().filter(|_| count == 1) else {
        return Err(diag::onbuild_not_one(whole, count));
    };
    let mut diagnostics = Vec::new();
    let kind = instruction::read(raw.line.whole(), reader.escape, &raw.heredocs, &mut diagnostics);
    let instruction = finish(raw, &source, kind);
    let first = diagnostics.into_iter().find(|found| found.severity == Severity::Error);
    match (instruction, first) {
        (_, Some(error)) => Err(error),
        (None, None) => Err(diag::onbuild_not_one(whole, 0)),
        (Some(instruction), None) => match &instruction.kind {
            Kind::From(_) | Kind::Onbuild(_) | Kind::Maintainer(_) => {
                let keyword = &instruction.keyword;
                Err(diag::onbuild_forbidden(keyword.span, instruction.kind.name()))
            }
            _ => Ok(instruction),
        },
    }
}

/// The tree while it grows.
#[derive(Default)]
struct Tree {
    global_args: Vec<Instruction>,
    stages: Vec<Stage>,
}

fn read_instruction(
    raw: RawInstruction<'_>,
    source: &Source<'_>,
    reader: &mut Reader<'_>,
    tree: &mut Tree,
) {
    let whole = raw.line.whole();
    let mut kind = instruction::read(whole, reader.escape, &raw.heredocs, &mut reader.diagnostics);
    let statement = statement::split(whole, reader.escape);
    if statement.keyword.text().eq_ignore_ascii_case("FROM") {
        // A stage with a mistake in its first line is a stage: what follows belongs to it, and
        // the numbers of the others must stay right.
        kind = kind.or_else(|| Some(Kind::From(instruction::as_far_as_understood(&statement))));
    }
    let Some(instruction) = finish(raw, source, kind) else { return };
    match &instruction.kind {
        Kind::From(from) => {
            let stage = Stage {
                index: tree.stages.len(),
                name: from.name.as_ref().map(|name| name.raw.to_ascii_lowercase()),
                base: from.base.clone(),
                platform: from.platform.clone(),
                span: instruction.span,
                from: instruction,
                instructions: Vec::new(),
            };
            tree.stages.push(stage);
        }
        kind => match tree.stages.last_mut() {
            Some(stage) => {
                stage.span.end = instruction.span.end;
                stage.instructions.push(instruction);
            }
            None if matches!(kind, Kind::Arg(_)) => tree.global_args.push(instruction),
            None => {
                let name = kind.name();
                reader.diagnostics.push(diag::before_first_from(instruction.keyword.span, name));
            }
        },
    }
}

fn finish(raw: RawInstruction<'_>, source: &Source<'_>, kind: Option<Kind>) -> Option<Instruction> {
    let whole = raw.line.whole();
    let text = whole.text();
    let keyword_end = text.find(char::is_whitespace).unwrap_or(text.len());
    let keyword: Word = whole.sub(0..keyword_end).word();
    Some(Instruction {
        keyword,
        span: source.span(&raw.source),
        head: source.span(&raw.head),
        source: raw.source,
        text: text.to_owned(),
        places: whole.places(),
        comments: raw.comments,
        heredocs: raw.heredocs,
        empty_continuations: raw.empty_continuations,
        kind: kind?,
    })
}

fn empty_file() -> Dockerfile {
    Dockerfile {
        directives: crate::ast::Directives::default(),
        escape: '\\',
        global_args: Vec::new(),
        stages: Vec::new(),
        comments: Vec::new(),
    }
}
