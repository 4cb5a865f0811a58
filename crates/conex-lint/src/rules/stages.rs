//! Stages and who runs what they make: registries, platforms, users, health.

use conex_dockerfile::{Healthcheck, Kind, StageRef};

use super::{Check, Level, PLAIN, Rule, Set};
use crate::context::{Context, StageView, View};

pub(super) static RULES: &[&Rule] = &[
    &FROM_UNKNOWN,
    &UNTRUSTED_REGISTRY,
    &LAST_USER_ROOT,
    &USER_MISSING,
    &USER_BY_NAME,
    &HEALTHCHECK_MISSING,
    &COPY_WHOLE_ROOT,
];

const FROM_UNKNOWN: Rule = Rule {
    name: "CopyFromUnknown",
    description: "`COPY --from` names neither a stage nor what looks like an image",
    why: "A name that no stage has is taken for an image. Without a tag or a folder in the name it is more likely a slip of the pen.",
    bad: "FROM debian:13 AS build\nFROM debian:13\nCOPY --from=biuld /a /a\n",
    good: "FROM debian:13 AS build\nFROM debian:13\nCOPY --from=build /a /a\n",
    codes: &["DL3022"],
    check: Check::Lint(|context, sink| {
        for stage in &context.stages {
            for view in &stage.steps {
                let Kind::Copy(copy) = view.kind() else { continue };
                let Some(from) = &copy.from else { continue };
                let known = context.file.resolve_from(stage.stage.index, &from.raw);
                let Ok(StageRef::External(name)) = known else { continue };
                let is_context = context.options.named_contexts.contains(&name);
                if is_context || name.contains([':', '/', '@']) {
                    continue;
                }
                let names = context.file.stages.iter().filter_map(|stage| stage.name.as_deref());
                let near = conex_report::did_you_mean(&name, names);
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "for an image, name its tag too".to_owned(),
                };
                let message = format!("no stage is named `{name}`");
                sink.add(view.line, from.span, message).hint(hint);
            }
        }
    }),
    ..PLAIN
};

const UNTRUSTED_REGISTRY: Rule = Rule {
    name: "UntrustedRegistry",
    description: "A base image comes from a registry that is not on the list",
    why: "Where the list of trusted registries is set, base images from elsewhere are not wanted. Without a list nothing is said.",
    bad: "FROM example.test/debian:13\n",
    good: "FROM debian:13\n",
    codes: &["DL3026"],
    level: Level::Error,
    check: Check::Lint(|context, sink| {
        let trusted = &context.options.trusted_registries;
        if trusted.is_empty() {
            return;
        }
        for stage in context.stages.iter().filter(|stage| stage.parent.is_none()) {
            let base = stage.base.as_str();
            let is_context = context.options.named_contexts.contains(base);
            if is_context
                || base.eq_ignore_ascii_case("scratch")
                || base.contains('$')
                || base.is_empty()
            {
                continue;
            }
            let registry = registry(base);
            if !trusted.iter().any(|pattern| is_trusted(pattern, registry)) {
                let line = stage.stage.from.span.start.line;
                let message = format!("registry `{registry}` is not trusted");
                let hint = format!("trusted are {}", trusted.join(", "));
                sink.add(line, stage.stage.base.span, message).hint(hint);
            }
        }
    }),
    ..PLAIN
};

/// The registry of an image; Docker Hub where none is named.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// `*` stands for any text at the start or the end of a pattern; Docker Hub has two names.
fn is_trusted(pattern: &str, registry: &str) -> bool {
    let pattern = match pattern {
        "hub.docker.com" | "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    if pattern == "*" || pattern == registry {
        return true;
    }
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => registry.ends_with(end),
        (None, Some(start)) => registry.starts_with(start),
        _ => false,
    }
}

/// Who a stage's processes run as, as far as the file says: the last USER of it or of the stages
/// that it starts from.
fn last_user<'c, 'a>(
    context: &'c Context<'a>,
    stage: &'c StageView<'a>,
) -> Option<(&'c View<'a>, &'c str)> {
    let mut at = Some(stage);
    while let Some(stage) = at {
        let own = stage.steps.iter().rev().filter(|view| !view.is_trigger);
        let found = own.filter_map(|view| match view.kind() {
            Kind::User(word) => Some((view, word.raw.as_str())),
            _ => None,
        });
        if let Some(found) = found.into_iter().next() {
            return Some(found);
        }
        at = stage.parent.and_then(|index| context.stages.get(index));
    }
    None
}

fn is_root(user: &str) -> bool {
    matches!(user.trim_matches('"').split(':').next(), Some("root" | "0"))
}

const LAST_USER_ROOT: Rule = Rule {
    name: "LastUserRoot",
    description: "The last `USER` is root",
    why: "A process that gets out of a container as root is root. Steps that need root can come before a last `USER` that is not.",
    bad: "FROM debian:13\nUSER root\n",
    good: "FROM debian:13\nUSER root\nUSER 1000\n",
    codes: &["DL3002"],
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| context.is_final(stage)) {
            if let Some((view, user)) = last_user(context, stage).filter(|(_, u)| is_root(u)) {
                let message = format!("the image's processes run as `{user}`");
                context.at(sink, view, message).hint("end with a `USER` that is not root");
            }
        }
    }),
    ..PLAIN
};

const USER_MISSING: Rule = Rule {
    name: "NoUser",
    description: "Nothing says who the image's processes run as",
    why: "Unless the base image names a user, processes run as root. A process that gets out of a container as root is root.",
    bad: "FROM debian:13\nCMD [\"server\"]\n",
    good: "FROM debian:13\nUSER 1000\nCMD [\"server\"]\n",
    set: Set::Own,
    level: Level::Style,
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| context.is_final(stage)) {
            let starts = stage
                .steps
                .iter()
                .any(|view| matches!(view.kind(), Kind::Cmd(_) | Kind::Entrypoint(_)));
            let base = root_base(context, stage);
            // Images made for it say so in their names.
            let is_meant = base.contains("nonroot") || base.contains("rootless");
            if !starts || is_meant || last_user(context, stage).is_some() {
                continue;
            }
            let line = stage.stage.from.span.start.line;
            sink.add(line, stage.stage.from.head, "processes run as the base image's user")
                .hint("add a `USER` that is not root before `CMD`");
        }
    }),
    ..PLAIN
};

/// The image that a stage starts from in the end.
fn root_base<'c>(context: &'c Context<'_>, stage: &'c StageView<'_>) -> &'c str {
    let mut at = stage;
    while let Some(parent) = at.parent.and_then(|index| context.stages.get(index)) {
        at = parent;
    }
    at.base.as_str()
}

const USER_BY_NAME: Rule = Rule {
    name: "UserByName",
    description: "`USER` has a name where a number would be checked",
    why: "Kubernetes can refuse images that run as root only if it sees a number: `runAsNonRoot` knows nothing of an image's names.",
    bad: "FROM debian:13\nUSER app\n",
    good: "FROM debian:13\nUSER 1000:1000\n",
    codes: &["DL3066"],
    level: Level::Info,
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| context.is_final(stage)) {
            let Some((view, user)) = last_user(context, stage) else { continue };
            let name = user.trim_matches('"').split(':').next().unwrap_or("");
            let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number && !name.contains('$') && !is_root(user) {
                context
                    .at(sink, view, format!("`{name}` is a name, not a number"))
                    .hint("write the number that the name stands for");
            }
        }
    }),
    ..PLAIN
};

const HEALTHCHECK_MISSING: Rule = Rule {
    name: "NoHealthcheck",
    description: "Nothing says how to see whether the image's process is well",
    why: "Docker and Swarm restart what is not healthy, and know of no other way to see it. Kubernetes has probes of its own, which is why this rule is asked only on demand.",
    bad: "FROM debian:13\nCMD [\"server\"]\n",
    good: "FROM debian:13\nHEALTHCHECK CMD [\"probe\"]\nCMD [\"server\"]\n",
    codes: &["DL3057"],
    level: Level::Style,
    experimental: true,
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| context.is_final(stage)) {
            let mut at = Some(stage);
            let mut found = false;
            while let Some(stage) = at {
                found |= stage.steps.iter().any(|view| {
                    matches!(
                        view.kind(),
                        Kind::Healthcheck(Healthcheck::Command { .. } | Healthcheck::None)
                    )
                });
                at = stage.parent.and_then(|index| context.stages.get(index));
            }
            if !found {
                let line = stage.stage.from.span.start.line;
                sink.add(line, stage.stage.from.head, "there is no `HEALTHCHECK`")
                    .hint("add one, or `HEALTHCHECK NONE` to say that there is none");
            }
        }
    }),
    ..PLAIN
};

const COPY_WHOLE_ROOT: Rule = Rule {
    name: "CopyWholeRoot",
    description: "The whole file system of another stage is copied",
    why: "`COPY --from=stage / /` makes a second image on top of the first: everything twice, and the other stage's tools along. Start from the stage, or copy what is needed.",
    bad: "FROM debian:13 AS build\nFROM debian:13\nCOPY --from=build / /\n",
    good: "FROM debian:13 AS build\nFROM debian:13\nCOPY --from=build /app /app\n",
    codes: &["DL3067"],
    check: Check::Lint(|context, sink| {
        for stage in context.stages.iter().filter(|stage| stage.base != "scratch") {
            for view in &stage.steps {
                let Kind::Copy(copy) = view.kind() else { continue };
                let is_root = |path: &str| path == "/" || path == "/." || path == "/*";
                let whole = copy.transfer.sources.iter().any(|word| is_root(&word.raw));
                if copy.from.is_some() && whole && copy.transfer.target.raw == "/" {
                    context
                        .at(sink, view, "everything of another stage is copied")
                        .hint("start from that stage with `FROM`, or name what is needed");
                }
            }
        }
    }),
    ..PLAIN
};
