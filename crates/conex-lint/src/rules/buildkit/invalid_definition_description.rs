//! Comments above ARG and FROM that do not begin with the name.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "InvalidDefinitionDescription",
    description: "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    url: Some("https://docs.docker.com/go/dockerfile/rule/invalid-definition-description/"),
    why: "Comments that begin with the name are shown by `--call=outline` and `--call=targets`.",
    bad: "# check=experimental=all\n# the version\nARG VERSION\nFROM scratch\n",
    good: "# check=experimental=all\n# VERSION the version\nARG VERSION\nFROM scratch\n",
    experimental: true,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for instruction in evaluation.instructions() {
        let (keyword, names): (&str, Vec<String>) = match &instruction.kind {
            Kind::Arg(arg) => ("ARG", arg.args.iter().map(|arg| arg.name.raw.clone()).collect()),
            Kind::From(from) => {
                ("FROM", from.name.iter().map(|name| name.raw.to_lowercase()).collect())
            }
            _ => continue,
        };
        let (Some(comment), Some(first)) = (instruction.comments.last(), names.first()) else {
            continue;
        };
        let word = comment.text.split(' ').next().unwrap_or("");
        if names.iter().any(|name| name == word) {
            continue;
        }
        let example = if names.len() > 1 { "<arg_key>" } else { first };
        let text =
            format!("Comment for {keyword} should follow the format: `# {example} <description>`");
        findings.push(rule, instruction.span, &instruction.comments, text);
    }
}
