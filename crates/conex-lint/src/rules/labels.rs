//! Labels: their keys, and what the settings' schema asks of them.

use conex_dockerfile::{Kind, Pair};

use super::{Check, Fixable, Level, PLAIN, Rule};
use crate::context::{Context, StageView, View};
use crate::finding::{Fix, Sink};
use crate::lint::LabelKind;

pub(super) static RULES: &[&Rule] =
    &[&KEY, &MISSING, &SUPERFLUOUS, &EMPTY, &URL, &TIME, &LICENCE, &GIT_HASH, &VERSION, &EMAIL];

fn labels<'c, 'a>(
    context: &'c Context<'a>,
) -> impl Iterator<Item = (&'c View<'a>, &'c Pair)> + use<'c, 'a> {
    context.steps().flat_map(|view| {
        let pairs = match view.kind() {
            Kind::Label(labels) => labels.pairs.as_slice(),
            _ => &[],
        };
        pairs.iter().map(move |pair| (view, pair))
    })
}

fn plain(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

const KEY: Rule = Rule {
    name: "LabelKey",
    description: "A label's key is not written as labels are",
    why: "Docker reserves `com.docker.*`, `io.docker.*` and `org.dockerproject.*`, and asks for lower case letters, digits, `.` and `-`. Tools that filter by label count on it.",
    bad: "FROM debian:13\nLABEL My_Label=1\n",
    good: "FROM debian:13\nLABEL test.example.my-label=1\n",
    codes: &["DL3048"],
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        for (view, pair) in labels(context) {
            let key = plain(&pair.key.raw);
            if !key.contains('$') && !is_key(key) {
                sink.add(view.line, pair.key.span, format!("`{key}` is no label key"))
                    .hint("use lower case letters, digits, `.` and `-`, beginning with a letter");
            }
        }
    }),
    ..PLAIN
};

fn is_key(key: &str) -> bool {
    const RESERVED: [&str; 3] = ["com.docker.", "io.docker.", "org.dockerproject."];
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && key.chars().all(allowed)
        && !["..", "--", ".-", "-."].iter().any(|pair| key.contains(pair))
        && !RESERVED.iter().any(|reserved| key.starts_with(reserved))
}

const MISSING: Rule = Rule {
    name: "LabelMissing",
    description: "A label that the schema asks for is missing",
    why: "The settings name the labels that images have; without a schema nothing is said.",
    bad: "FROM debian:13\nCMD [\"a\"]\n",
    good: "FROM debian:13\nLABEL maintainer=a\nCMD [\"a\"]\n",
    codes: &["DL3049"],
    level: Level::Info,
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| context.is_final(stage)) {
            for name in context.options.label_schema.keys() {
                if !has_label(context, stage, name) {
                    let line = stage.stage.from.span.start.line;
                    let message = format!("label `{name}` is missing");
                    sink.add(line, stage.stage.from.head, message)
                        .hint(format!("add `LABEL {name}=…`"));
                }
            }
        }
    }),
    ..PLAIN
};

fn has_label(context: &Context<'_>, stage: &StageView<'_>, name: &str) -> bool {
    let mut at = Some(stage);
    while let Some(stage) = at {
        let own = stage.steps.iter().any(|view| match view.kind() {
            Kind::Label(labels) => labels.pairs.iter().any(|pair| plain(&pair.key.raw) == name),
            _ => false,
        });
        if own {
            return true;
        }
        at = stage.parent.and_then(|index| context.stages.get(index));
    }
    false
}

const SUPERFLUOUS: Rule = Rule {
    name: "LabelSuperfluous",
    description: "A label that the schema does not have",
    why: "With strict labels the schema says which there are. A label that is not in it is often one that is misspelt.",
    bad: "FROM debian:13\nLABEL maintainer=a\nLABEL other=b\n",
    good: "FROM debian:13\nLABEL maintainer=a\n",
    codes: &["DL3050"],
    level: Level::Info,
    fix: Fixable::Unsafe,
    check: Check::Lint(|context, sink| {
        if !context.options.strict_labels {
            return;
        }
        let schema = &context.options.label_schema;
        for (view, pair) in labels(context) {
            let key = plain(&pair.key.raw);
            if schema.contains_key(key) {
                continue;
            }
            let is_alone = matches!(view.kind(), Kind::Label(labels) if labels.pairs.len() == 1);
            let fix = (is_alone && !view.is_trigger)
                .then(|| Fix::risky("remove the label", vec![context.removal(view.instruction)]));
            let names = schema.keys().map(String::as_str);
            let near = conex_report::did_you_mean(key, names);
            let noted =
                sink.add(view.line, pair.key.span, format!("label `{key}` is not in the schema"));
            let noted = match near {
                Some(near) => noted.hint(format!("did you mean `{near}`?")),
                None => noted,
            };
            noted.fix(fix);
        }
    }),
    ..PLAIN
};

/// Complains of the labels of a kind whose values do not pass.
fn values(
    context: &Context<'_>,
    sink: &mut Sink<'_>,
    kind: Option<LabelKind>,
    is_right: fn(&str) -> bool,
    what: &str,
) {
    for (view, pair) in labels(context) {
        let key = plain(&pair.key.raw);
        let Some(wanted) = context.options.label_schema.get(key) else { continue };
        let value = plain(&pair.value.raw);
        let is_meant = kind.is_none_or(|kind| kind == *wanted);
        // What a variable brings is not known here.
        if is_meant && !value.contains('$') && !is_right(value) {
            sink.add(view.line, pair.value.span, format!("label `{key}` is {what}"));
        }
    }
}

const EMPTY: Rule = Rule {
    name: "LabelEmpty",
    description: "A label of the schema is empty",
    why: "The schema asks for the label because someone reads it.",
    bad: "FROM debian:13\nLABEL maintainer=\"\"\n",
    good: "FROM debian:13\nLABEL maintainer=a\n",
    codes: &["DL3051"],
    check: Check::Lint(|context, sink| values(context, sink, None, |v| !v.is_empty(), "empty")),
    ..PLAIN
};

const URL: Rule = Rule {
    name: "LabelUrl",
    description: "A label of the schema is no URL",
    why: "The schema says that the value is a URL, and programs follow it.",
    bad: "FROM debian:13\nLABEL source=no-url\n",
    good: "FROM debian:13\nLABEL source=https://example.test/\n",
    codes: &["DL3052"],
    check: Check::Lint(|context, sink| {
        values(context, sink, Some(LabelKind::Url), is_url, "no URL");
    }),
    ..PLAIN
};

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !rest.is_empty()
        && !rest.contains(char::is_whitespace)
}

const TIME: Rule = Rule {
    name: "LabelTime",
    description: "A label of the schema is no time",
    why: "The schema says that the value is a time as RFC 3339 writes it, and programs read it.",
    bad: "FROM debian:13\nLABEL created=yesterday\n",
    good: "FROM debian:13\nLABEL created=2026-11-21T12:00:00Z\n",
    codes: &["DL3053"],
    check: Check::Lint(|context, sink| {
        values(context, sink, Some(LabelKind::Time), is_time, "no time as RFC 3339 writes it");
    }),
    ..PLAIN
};

/// `2026-11-21T12:00:00[.5](Z|+01:00)`
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shape = |range: std::ops::Range<usize>, pattern: &str| {
        bytes.get(range).is_some_and(|part| {
            part.len() == pattern.len()
                && part.iter().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
                    b'0' => byte.is_ascii_digit(),
                    other => byte.eq_ignore_ascii_case(&other),
                })
        })
    };
    if !shape(0..10, "0000-00-00") || !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return false;
    }
    if !shape(11..19, "00:00:00") {
        return false;
    }
    let number =
        |range: std::ops::Range<usize>| text.get(range).and_then(|t| t.parse::<u32>().ok());
    let in_range = number(5..7).is_some_and(|month| (1..=12).contains(&month))
        && number(8..10).is_some_and(|day| (1..=31).contains(&day))
        && number(11..13).is_some_and(|hour| hour < 24)
        && number(14..16).is_some_and(|minute| minute < 60)
        && number(17..19).is_some_and(|second| second <= 60);
    let mut rest = text.get(19..).unwrap_or("");
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return false;
        }
        rest = fraction.get(digits..).unwrap_or("");
    }
    let start = text.len() - rest.len();
    let is_zone = rest.eq_ignore_ascii_case("z")
        || shape(start..text.len(), "+00:00")
        || shape(start..text.len(), "-00:00");
    in_range && is_zone
}

const LICENCE: Rule = Rule {
    name: "LabelLicence",
    description: "A label of the schema is no SPDX licence",
    why: "The schema says that the value is an SPDX expression. Only names of that form are looked at here, not whether a licence of the name exists.",
    bad: "FROM debian:13\nLABEL licenses=\"do what you want!\"\n",
    good: "FROM debian:13\nLABEL licenses=Apache-2.0\n",
    codes: &["DL3054"],
    check: Check::Lint(|context, sink| {
        values(context, sink, Some(LabelKind::Licence), is_licence, "no SPDX licence");
    }),
    ..PLAIN
};

/// Names joined by AND, OR and WITH, parentheses balanced.
fn is_licence(text: &str) -> bool {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let mut depth = 0_i32;
    let mut wants_name = true;
    for word in spaced.split_whitespace() {
        match (word, wants_name) {
            ("(", true) => depth += 1,
            (")", false) => depth -= 1,
            ("AND" | "OR" | "WITH", false) => wants_name = true,
            ("AND" | "OR" | "WITH" | "(" | ")", _) | (_, false) => return false,
            (name, true) => {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-.+:".contains(&b);
                if !name.bytes().all(allowed)
                    || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
                {
                    return false;
                }
                wants_name = false;
            }
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0 && !wants_name
}

const GIT_HASH: Rule = Rule {
    name: "LabelGitHash",
    description: "A label of the schema is no git commit",
    why: "The schema says that the value is a commit: 40 or 7 hexadecimal digits.",
    bad: "FROM debian:13\nLABEL revision=main\n",
    good: "FROM debian:13\nLABEL revision=0123456789abcdef0123456789abcdef01234567\n",
    codes: &["DL3055"],
    check: Check::Lint(|context, sink| {
        values(context, sink, Some(LabelKind::GitHash), is_git_hash, "no git commit");
    }),
    ..PLAIN
};

fn is_git_hash(text: &str) -> bool {
    matches!(text.len(), 7 | 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

const VERSION: Rule = Rule {
    name: "LabelVersion",
    description: "A label of the schema is no semantic version",
    why: "The schema says that the value is a semantic version, and programs compare it.",
    bad: "FROM debian:13\nLABEL version=latest\n",
    good: "FROM debian:13\nLABEL version=1.2.3\n",
    codes: &["DL3056"],
    check: Check::Lint(|context, sink| {
        values(context, sink, Some(LabelKind::Version), is_version, "no semantic version");
    }),
    ..PLAIN
};

fn is_version(text: &str) -> bool {
    let (version, build) = text.split_once('+').map_or((text, None), |(v, b)| (v, Some(b)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(v, p)| (v, Some(p)));
    let numbers: Vec<&str> = core.split('.').collect();
    let is_number = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part.len() == 1 || !part.starts_with('0'))
    };
    let is_list = |list: &str| {
        list.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    numbers.len() == 3
        && numbers.iter().all(is_number)
        && pre.is_none_or(is_list)
        && build.is_none_or(is_list)
}

const EMAIL: Rule = Rule {
    name: "LabelEmail",
    description: "A label of the schema is no e-mail address",
    why: "The schema says that the value is an address, and someone will write to it.",
    bad: "FROM debian:13\nLABEL contact=nobody\n",
    good: "FROM debian:13\nLABEL contact=a@example.test\n",
    codes: &["DL3058"],
    check: Check::Lint(|context, sink| {
        values(context, sink, Some(LabelKind::Email), is_email, "no e-mail address");
    }),
    ..PLAIN
};

fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.rsplit_once('@') else { return false };
    !name.is_empty()
        && !text.contains(char::is_whitespace)
        && host.contains('.')
        && host.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}
