//! `--platform` with a constant.

use conex_oci::Platform;

use super::{Check, Fixable, Level, Rule, Set, quoted};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "FromPlatformFlagConstDisallowed",
    description: "FROM --platform flag should not use a constant value",
    url: Some("https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/"),
    why: "A constant overrules `--platform` on the command line: the image then holds programs of another platform than its name says.",
    bad: "FROM --platform=linux/amd64 alpine AS base\n",
    good: "FROM --platform=$BUILDPLATFORM alpine AS base\n",
    experimental: false,
    codes: &["DL3029"],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for (stage, facts) in evaluation.file.stages.iter().zip(&evaluation.froms) {
        let Some(value) = &facts.platform else { continue };
        if !value.used.is_empty() || !value.unset.is_empty() {
            continue;
        }
        let Ok(platform) = value.text.parse::<Platform>() else { continue };
        // A stage that says so in its name (`build-amd64`) means it.
        let name = stage.name.as_deref().unwrap_or("");
        if name.contains(&platform.os) || name.contains(&platform.architecture) {
            continue;
        }
        let text =
            format!("FROM --platform flag should not use constant value {}", quoted(&value.text));
        findings.push(rule, stage.from.span, &stage.from.comments, text);
    }
}
