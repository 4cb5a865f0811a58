//! Base images of another platform than the one wanted.

use super::{Check, Fixable, Level, Rule, Set, quoted};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "InvalidBaseImagePlatform",
    description: "Base image platform does not match expected target platform",
    url: None,
    why: "Programs of another platform do not start, or start in an emulator and are slow.",
    bad: "FROM --platform=$BUILDPLATFORM example.test/arm-only\n",
    good: "FROM --platform=$BUILDPLATFORM example.test/any\n",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for stage in &evaluation.stages {
        let Some((actual, wanted)) = &stage.base_platform else { continue };
        if actual.os == wanted.os && actual.architecture == wanted.architecture {
            continue;
        }
        let facts = evaluation.froms.get(stage.stage.index);
        let image = facts.and_then(|facts| facts.base.as_deref()).unwrap_or("");
        let text = format!(
            "Base image {image} was pulled with platform {}, expected {} for current build",
            quoted(&actual.to_string()),
            quoted(&wanted.to_string())
        );
        findings.push(rule, stage.stage.from.span, &stage.stage.from.comments, text);
    }
}
