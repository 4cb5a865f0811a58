//! What may stand at a place: instructions, flags, stages, images; and what keywords mean.

use conex_dockerfile::{Kind, MountFlag, StageRef};
use conex_report::{Position, Span};
use serde_json::{Value, json};

/// Every instruction with what it is for.
const INSTRUCTIONS: [(&str, &str); 18] = [
    (
        "ADD",
        "`ADD [FLAGS] SOURCE… TARGET`: like `COPY`, and also from URLs and git repositories; local archives are unpacked.",
    ),
    (
        "ARG",
        "`ARG NAME[=DEFAULT]`: a variable of the build, set with `--build-arg`. Counts for the steps behind it, and is not in the image.",
    ),
    (
        "CMD",
        "`CMD [\"program\", \"argument\"]`: what a container runs, or the arguments of `ENTRYPOINT`. The last one counts.",
    ),
    (
        "COPY",
        "`COPY [FLAGS] SOURCE… TARGET`: files of the context, of a stage or an image (`--from`), or written here (`<<EOF`).",
    ),
    (
        "ENTRYPOINT",
        "`ENTRYPOINT [\"program\"]`: the program that a container runs; `CMD` and what stands behind the image's name are its arguments.",
    ),
    ("ENV", "`ENV NAME=value…`: variables for the steps behind it and for containers."),
    (
        "EXPOSE",
        "`EXPOSE PORT[/tcp|/udp]…`: ports that the image's program listens on. Opens nothing by itself.",
    ),
    (
        "FROM",
        "`FROM [--platform=…] IMAGE [AS NAME]`: begins a stage on an image, another stage, or `scratch`.",
    ),
    (
        "HEALTHCHECK",
        "`HEALTHCHECK [OPTIONS] CMD …` or `HEALTHCHECK NONE`: how to see whether the program is well.",
    ),
    ("LABEL", "`LABEL KEY=value…`: what tools and people want to know of the image."),
    ("MAINTAINER", "Deprecated: use `LABEL org.opencontainers.image.authors=…`."),
    ("ONBUILD", "`ONBUILD INSTRUCTION`: runs when another build starts from this image."),
    (
        "RUN",
        "`RUN [FLAGS] COMMAND`: runs a command in the image and keeps what it changes as a layer.",
    ),
    ("SHELL", "`SHELL [\"program\", \"argument\"]`: which shell reads commands that are not JSON."),
    ("STOPSIGNAL", "`STOPSIGNAL SIGNAL`: what a container is stopped with."),
    ("USER", "`USER NAME[:GROUP]`: who runs the steps behind it, and containers."),
    ("VOLUME", "`VOLUME PATH…`: folders whose content is kept outside of the container."),
    (
        "WORKDIR",
        "`WORKDIR PATH`: the folder of the steps behind it and of containers; made if it is missing.",
    ),
];

/// The flags of an instruction, with how each goes on.
fn flags(instruction: &str) -> &'static [&'static str] {
    match instruction {
        "FROM" => &["--platform="],
        "RUN" => &["--mount=type=", "--network=", "--security="],
        "COPY" => &["--from=", "--chown=", "--chmod=", "--link", "--parents", "--exclude="],
        "ADD" => &[
            "--chown=",
            "--chmod=",
            "--checksum=sha256:",
            "--link",
            "--exclude=",
            "--unpack",
            "--keep-git-dir",
        ],
        "HEALTHCHECK" => {
            &["--interval=", "--timeout=", "--start-period=", "--start-interval=", "--retries="]
        }
        _ => &[],
    }
}

/// The text of the line before a place.
fn before(text: &str, at: Position) -> String {
    let index = usize::try_from(at.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let count = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
    text.split('\n').nth(index).unwrap_or("").chars().take(count).collect()
}

/// Whether the line goes on from the one above.
fn is_continued(text: &str, at: Position) -> bool {
    let Some(above) = at.line.checked_sub(2).and_then(|index| usize::try_from(index).ok()) else {
        return false;
    };
    text.split('\n').nth(above).is_some_and(|line| line.trim_end().ends_with('\\'))
}

/// What may stand at a place, images aside.
pub(super) fn items(text: &str, at: Position) -> Vec<Value> {
    let line = before(text, at);
    let typed = line.trim_start();
    if is_continued(text, at) {
        return Vec::new();
    }
    if !typed.contains(char::is_whitespace) {
        let lower = !typed.is_empty() && typed.chars().all(|c| !c.is_ascii_uppercase());
        let keyword = INSTRUCTIONS.iter().map(|(name, help)| {
            let text = if lower { name.to_lowercase() } else { (*name).to_owned() };
            item(&text, 14, help)
        });
        return keyword.collect();
    }
    let keyword = typed.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
    let last = typed.rsplit(char::is_whitespace).next().unwrap_or("");
    let (file, _) = conex_dockerfile::parse(text.as_bytes());
    let stages = || {
        let earlier = file.stages.iter().filter(|stage| stage.span.start.line < at.line);
        earlier.filter_map(|stage| stage.name.clone()).collect::<Vec<_>>()
    };
    let stage_items =
        || stages().iter().map(|name| item(name, 18, "a stage of this file")).collect();
    if last.starts_with("--from=") || last.contains("from=") {
        return stage_items();
    }
    if let Some(rest) = last.strip_prefix("--mount=type=") {
        let kinds = ["bind", "cache", "secret", "ssh", "tmpfs"];
        return kinds
            .iter()
            .filter(|kind| kind.starts_with(rest))
            .map(|k| item(k, 12, ""))
            .collect();
    }
    if let Some("") = last.strip_prefix("--network=") {
        return ["default", "none", "host"].iter().map(|kind| item(kind, 12, "")).collect();
    }
    if last.starts_with('-') {
        return flags(&keyword).iter().map(|flag| item(flag, 5, "")).collect();
    }
    match keyword.as_str() {
        "FROM" if typed.split_whitespace().count() <= 2 => {
            let mut items: Vec<Value> = stage_items();
            items.push(item("scratch", 18, "nothing: an empty file system"));
            items
        }
        _ => Vec::new(),
    }
}

/// Whether an image may be named at a place.
pub(super) fn wants_image(text: &str, at: Position) -> bool {
    let line = before(text, at);
    let mut words = line.split_whitespace();
    let keyword = words.next().unwrap_or("").to_ascii_uppercase();
    let last = line.rsplit(char::is_whitespace).next().unwrap_or("");
    let rest = words.filter(|word| !word.starts_with("--")).count();
    let names_base = keyword == "FROM"
        && !last.starts_with("--")
        && line.trim_start().contains(char::is_whitespace)
        && rest <= usize::from(!last.is_empty());
    names_base || (keyword == "COPY" && last.starts_with("--from="))
}

/// An image of the store.
pub(super) fn image(name: &str) -> Value {
    item(name, 17, "an image of the store")
}

fn item(label: &str, kind: u8, help: &str) -> Value {
    let documentation = json!({ "kind": "markdown", "value": help });
    json!({ "label": label, "kind": kind, "documentation": documentation })
}

/// The stage that is named at a place, in `FROM`, `--from` or a mount; and where its name stands.
pub(super) fn stage_help(text: &str, at: Position) -> Option<(String, Span)> {
    let (file, _) = conex_dockerfile::parse(text.as_bytes());
    let index = file.stages.iter().rposition(|stage| stage.span.start <= at)?;
    let current = file.stages.get(index)?;
    let mut words = vec![&current.base];
    for instruction in &current.instructions {
        match &instruction.kind {
            Kind::Copy(copy) => words.extend(&copy.from),
            Kind::Run(run) => words.extend(run.mounts.iter().filter_map(MountFlag::from)),
            _ => {}
        }
    }
    let word = words.into_iter().find(|one| one.span.start <= at && at <= one.span.end)?;
    let stage = if word.span == current.base.span {
        file.stage_named(&word.raw, index)?
    } else {
        match file.resolve_from(index, &word.raw) {
            Ok(StageRef::Stage(index)) => file.stages.get(index)?,
            Ok(StageRef::External(_)) | Err(_) => return None,
        }
    };
    let name = stage.name.clone().unwrap_or_else(|| stage.index.to_string());
    let (line, count) = (stage.span.start.line, stage.instructions.len());
    let help = format!(
        "Stage `{name}`, line {line}: starts from `{}`, {count} instructions.",
        stage.base.raw
    );
    Some((help, word.span))
}

/// What the keyword at a place means, and where it stands.
pub(super) fn keyword_help(text: &str, at: Position) -> Option<(&'static str, Span)> {
    let (file, _) = conex_dockerfile::parse(text.as_bytes());
    let staged = file
        .stages
        .iter()
        .flat_map(|stage| std::iter::once(&stage.from).chain(&stage.instructions));
    let here = file
        .global_args
        .iter()
        .chain(staged)
        .find(|one| one.keyword.span.start <= at && at < one.keyword.span.end)?;
    let (_, help) = INSTRUCTIONS.iter().find(|(name, _)| *name == here.kind.name())?;
    Some((help, here.keyword.span))
}
