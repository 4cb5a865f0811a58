//! Secrets that end up in the image: values that look like keys, files that hold them.

use conex_dockerfile::{Kind, Word};
use conex_report::Span;

use super::{Check, Level, PLAIN, Rule, Set};
use crate::context::{Context, View};
use crate::finding::Sink;

pub(super) static RULES: &[&Rule] = &[&SECRET_VALUE, &SECRET_FILE, &SECRET_IN_COMMAND];

/// What a secret begins with, how much must follow, and whose it is. The forms are those that the
/// services document.
const PREFIXES: [(&str, usize, &str); 21] = [
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghu_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("ghr_", 36, "a GitHub token"),
    ("github_pat_", 60, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("xapp-", 20, "a Slack token"),
    ("sk_live_", 20, "a Stripe key"),
    ("rk_live_", 20, "a Stripe key"),
    ("npm_", 36, "an npm token"),
    ("pypi-AgEI", 50, "a PyPI token"),
    ("AIza", 35, "a Google API key"),
    ("dckr_pat_", 20, "a Docker token"),
    ("hvs.", 24, "a Vault token"),
    ("SG.", 40, "a SendGrid key"),
    ("sk-ant-", 40, "an Anthropic key"),
];

/// What a text holds that looks like a secret: where, and whose.
fn find_secret(text: &str) -> Option<(usize, usize, &'static str)> {
    if let Some(at) = text.find("-----BEGIN ") {
        let rest = text.get(at..).unwrap_or("");
        let line = rest.get(..rest.len().min(64)).unwrap_or(rest);
        if line.contains("PRIVATE KEY") {
            return Some((at, line.len(), "a private key"));
        }
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    PREFIXES.iter().find_map(|(prefix, length, what)| {
        text.match_indices(prefix).find_map(|(at, _)| {
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            let behind = text.get(at + prefix.len()..).unwrap_or("");
            let behind: &str = behind.split(|c| !allowed(c)).next().unwrap_or("");
            let is_word = before.is_none_or(|c| !c.is_ascii_alphanumeric());
            // A key that is all one letter is an example.
            let mut letters: Vec<u8> = behind.bytes().collect();
            letters.sort_unstable();
            letters.dedup();
            (is_word && behind.len() >= *length && letters.len() > 5).then_some((
                at,
                prefix.len() + behind.len(),
                *what,
            ))
        })
    })
}

const SECRET_VALUE: Rule = Rule {
    name: "SecretInFile",
    description: "A key or token stands in the Dockerfile",
    why: "Whoever reads the file or pulls the image has it. It must be revoked, not only removed: it stays in the history of both.",
    bad: "FROM debian:13\nENV AWS=AKIAQ7R3MZ4XK2PLW8TN\n",
    good: "FROM debian:13\nRUN --mount=type=secret,id=aws,env=AWS ./deploy\n",
    set: Set::Own,
    level: Level::Error,
    check: Check::Lint(|context, sink| {
        let globals = context.file.global_args.iter();
        let froms = context
            .file
            .stages
            .iter()
            .flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
        for instruction in globals.chain(froms) {
            let written = context.written(&instruction.source);
            if let Some((at, length, what)) = find_secret(written) {
                let start = instruction.source.start + at;
                let span = context.lines.span(&(start..start + length));
                sink.add(instruction.span.start.line, span, format!("this looks like {what}"))
                    .hint("revoke it, and give its successor with `RUN --mount=type=secret`");
            }
        }
    }),
    ..PLAIN
};

const SECRET_FILE: Rule = Rule {
    name: "SecretFileCopied",
    description: "A file that holds secrets is copied into the image",
    why: "Whoever pulls the image has the file, also if a later step deletes it. `RUN --mount=type=secret` or `type=ssh` lends it to one step.",
    bad: "FROM debian:13\nCOPY id_rsa /root/.ssh/\n",
    good: "FROM debian:13\nRUN --mount=type=ssh git clone git@example.test:a/b\n",
    set: Set::Own,
    level: Level::Warning,
    check: Check::Lint(|context, sink| {
        for view in context.steps() {
            let (sources, from): (&[Word], bool) = match view.kind() {
                Kind::Copy(copy) => (&copy.transfer.sources, copy.from.is_some()),
                Kind::Add(add) => (&add.transfer.sources, false),
                _ => continue,
            };
            if from {
                continue;
            }
            for source in sources.iter().filter(|word| is_secret_file(&word.raw)) {
                sink.add(view.line, source.span, format!("`{}` holds secrets", source.raw))
                    .hint("lend it to one step with `RUN --mount=type=secret`");
            }
        }
    }),
    ..PLAIN
};

fn is_secret_file(path: &str) -> bool {
    const NAMES: [&str; 17] = [
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        ".env",
        ".netrc",
        ".pgpass",
        ".npmrc",
        ".pypirc",
        ".git-credentials",
        ".htpasswd",
        ".dockercfg",
        "credentials.json",
        "service-account.json",
        ".vault-token",
        ".ssh",
        ".aws",
    ];
    const ENDS: [&str; 6] = [".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx"];
    let path = path.trim_matches(['"', '\'']).trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or("");
    NAMES.contains(&name)
        || (ENDS.iter().any(|end| name.ends_with(end)) && !name.contains("pub"))
        || path.ends_with(".docker/config.json")
        || path.ends_with(".kube/config")
}

const SECRET_IN_COMMAND: Rule = Rule {
    name: "SecretInCommand",
    description: "A password stands in a command",
    why: "Commands stay in the image's history, readable for everyone who can pull it; an argument of the build does too.",
    bad: "FROM debian:13\nRUN curl -fu user:hunter2 https://example.test/x\n",
    good: "FROM debian:13\nRUN --mount=type=secret,id=netrc,target=/root/.netrc curl -fn https://example.test/x\n",
    set: Set::Own,
    level: Level::Warning,
    check: Check::Lint(secret_in_command),
    ..PLAIN
};

fn secret_in_command(context: &Context<'_>, sink: &mut Sink<'_>) {
    for (view, script, cmd) in context.commands() {
        let mut note = |span: conex_shell::Span, what: &str| {
            let place: Span = context.lines.span(&script.source(span));
            add(sink, view, place, what);
        };
        for pair in cmd.args.windows(2) {
            let [flag, value] = pair else { continue };
            let is_user = cmd.is("curl")
                && (flag.text == "--user"
                    || (is_short_cluster(&flag.text) && flag.text.ends_with('u')));
            if is_user
                && value.is_literal
                && value.text.split_once(':').is_some_and(|(_, p)| !p.is_empty())
            {
                note(value.span, "a password");
            }
            let takes = matches!(flag.text.as_str(), "--password" | "--token" | "--api-key");
            if takes && value.is_literal && !value.text.starts_with('-') {
                note(value.span, "a password");
            }
        }
        for arg in &cmd.args {
            let is_given = ["--password=", "--http-password=", "--ftp-password=", "--token="]
                .iter()
                .any(|flag| arg.text.strip_prefix(flag).is_some_and(|value| !value.is_empty()));
            let header = arg.text.to_ascii_lowercase();
            let is_header =
                ["authorization: bearer ", "authorization: basic ", "authorization: token "]
                    .iter()
                    .any(|start| header.strip_prefix(start).is_some_and(|value| value.len() > 7));
            let is_url = arg.text.split_once("://").is_some_and(|(_, rest)| {
                let host = rest.split(['/', '?']).next().unwrap_or("");
                host.rsplit_once('@').is_some_and(|(user, _)| {
                    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
                })
            });
            if (is_given || is_header || is_url) && arg.is_literal {
                note(arg.span, "a password");
            }
        }
    }
}

fn is_short_cluster(text: &str) -> bool {
    text.starts_with('-') && !text.starts_with("--")
}

fn add(sink: &mut Sink<'_>, view: &View<'_>, span: Span, what: &str) {
    sink.add(view.line, span, format!("{what} stands in the command"))
        .hint("lend it to the step with `RUN --mount=type=secret`");
}

#[cfg(test)]
mod tests {
    use super::{find_secret, is_secret_file};

    #[test]
    fn secrets_are_known_by_their_form() {
        for (text, expected) in [
            ("x=AKIAQ7R3MZ4XK2PLW8TN", Some("an AWS access key")),
            ("AKIAAAAAAAAAAAAAAAAA", None),
            ("MAKIAQ7R3MZ4XK2PLW8TN", None),
            ("-----BEGIN RSA PRIVATE KEY-----", Some("a private key")),
            ("-----BEGIN PUBLIC KEY-----", None),
            ("ghp_short", None),
        ] {
            assert_eq!(find_secret(text).map(|(_, _, what)| what), expected, "{text}");
        }
        for (path, expected) in [
            ("id_rsa", true),
            ("keys/server.key", true),
            ("id_rsa.pub", false),
            ("app/.env", true),
            ("environment", false),
        ] {
            assert_eq!(is_secret_file(path), expected, "{path}");
        }
    }
}
