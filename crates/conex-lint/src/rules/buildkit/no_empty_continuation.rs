//! Empty lines within a continued instruction.

use conex_report::{Position, Span};

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "NoEmptyContinuation",
    description: "Empty continuation lines will become errors in a future release",
    url: Some("https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/"),
    why: "An empty line looks like the end of an instruction. After a continuation it is not: the next line still belongs to it.",
    bad: "FROM scratch\nEXPOSE \\\n\n80\n",
    good: "FROM scratch\nEXPOSE \\\n# a comment is fine\n80\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for instruction in evaluation.instructions() {
        if !instruction.empty_continuations.is_empty() {
            // The reference points at the last line of the instruction.
            let end = instruction.head.end;
            let start = Position { line: end.line, column: 1 };
            let text = "Empty continuation line".to_owned();
            findings.push(rule, Span { start, end }, &instruction.comments, text);
        }
    }
}
