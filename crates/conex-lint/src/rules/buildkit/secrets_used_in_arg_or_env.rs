//! Variables that are named like secrets.

use conex_dockerfile::Kind;

use super::{Check, Fixable, Level, Rule, Set, quoted};
use crate::Findings;
use crate::evaluate::Evaluation;

pub(super) const RULE: Rule = Rule {
    name: "SecretsUsedInArgOrEnv",
    description: "Sensitive data should not be used in the ARG or ENV commands",
    url: Some("https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/"),
    why: "Arguments and variables stay readable in the image's config and history, for everyone who can pull it. Secrets belong into `RUN --mount=type=secret`.",
    bad: "FROM scratch\nARG AWS_SECRET_ACCESS_KEY\n",
    good: "FROM scratch\nARG AWS_REGION\n",
    experimental: false,
    codes: &["DL3064"],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::BuildKit,
    since: 1,
    check: Check::Build(check),
};

fn check(rule: &'static Rule, evaluation: &Evaluation<'_>, findings: &mut Findings<'_>) {
    for step in evaluation.stages.iter().flat_map(|stage| &stage.steps) {
        let (name, keys): (&str, Vec<&str>) = match &step.instruction.kind {
            Kind::Arg(arg) => ("ARG", arg.args.iter().map(|arg| arg.name.raw.as_str()).collect()),
            Kind::Env(_) => {
                ("ENV", step.values.iter().step_by(2).flatten().map(String::as_str).collect())
            }
            _ => continue,
        };
        for key in keys.into_iter().filter(|key| is_secret(key)) {
            let text = format!(
                "Do not use ARG or ENV instructions for sensitive data ({name} {})",
                quoted(key)
            );
            findings.push(rule, step.span, &step.instruction.comments, text);
        }
    }
}

/// Whether a part of the name between underscores is a word for secrets, and none says that it is
/// not secret after all.
fn is_secret(key: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let holds = |words: &[&str]| {
        key.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
    };
    holds(&SECRET) && !holds(&HARMLESS)
}
