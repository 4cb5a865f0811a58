//! `--platform=$TARGETPLATFORM`.

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "RedundantTargetPlatform",
    description: "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    url: Some("https://docs.docker.com/go/dockerfile/rule/redundant-target-platform/"),
    why: "The target platform is what a stage is built for anyway; saying it hides the stages that really choose.",
    bad: "FROM --platform=$TARGETPLATFORM alpine\n",
    good: "FROM alpine\n",
    experimental: false,
    codes: &["DL3065"],
    level: Level::Warning,
    fix: Fixable::Safe,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for (stage, facts) in evaluation.file.stages.iter().zip(&evaluation.froms) {
        let (Some(written), Some(value)) = (&stage.platform, &facts.platform) else { continue };
        let options = evaluation.options;
        let target = match options.build_args.get("TARGETPLATFORM") {
            Some(given) => given.clone(),
            None => options.target_platform.to_string(),
        };
        let alone = value.used.len() == 1 && value.unset.is_empty();
        if alone && value.used.contains("TARGETPLATFORM") && value.text == target {
            let text = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default \
                 behavior",
                written.raw
            );
            findings.push(rule, stage.from.span, &stage.from.comments, text);
        }
    }
}
