//! `FROM … as`: one line in two cases.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "FromAsCasing",
    description: "The 'as' keyword should match the case of the 'from' keyword",
    url: Some("https://docs.docker.com/go/dockerfile/rule/from-as-casing/"),
    why: "Keywords mean the same in any case; one line in two cases is hard to read.",
    bad: "FROM scratch as build\n",
    good: "FROM scratch AS build\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for stage in &evaluation.file.stages {
        let Kind::From(from) = &stage.from.kind else { continue };
        let Some(keyword) = &from.as_keyword else { continue };
        let first = &stage.from.keyword.raw;
        let matches = if *first == first.to_lowercase() {
            keyword.raw == keyword.raw.to_lowercase()
        } else if *first == first.to_uppercase() {
            keyword.raw == keyword.raw.to_uppercase()
        } else {
            // `From` is inconsistent in itself, which another rule says.
            true
        };
        if !matches {
            let text = format!("'{}' and '{first}' keywords' casing do not match", keyword.raw);
            findings.push(rule, stage.from.span, &stage.from.comments, text);
        }
    }
}
