//! Two stages of one name.

use std::collections::BTreeSet;

use super::{Check, Fixable, Level, Rule, Set, quoted};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "DuplicateStageName",
    description: "Stage names should be unique",
    url: Some("https://docs.docker.com/go/dockerfile/rule/duplicate-stage-name/"),
    why: "A name that two stages have means the last of them that is defined so far: what `COPY --from` copies then depends on where it stands.",
    bad: "FROM scratch AS a\nFROM scratch AS a\n",
    good: "FROM scratch AS a\nFROM scratch AS b\n",
    experimental: false,
    codes: &["DL3024"],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    let mut names = BTreeSet::new();
    for stage in &evaluation.file.stages {
        let Some(name) = &stage.name else { continue };
        if !names.insert(name) {
            let text =
                format!("Duplicate stage name {}, stage names should be unique", quoted(name));
            findings.push(rule, stage.from.span, &stage.from.comments, text);
        }
    }
}
