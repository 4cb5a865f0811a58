//! How the findings of BuildKit's checks are mended.

use conex_dockerfile::{Command as Form, Instruction, Kind};
use conex_shell::CommandKind;

use super::{Context, Edit, Finding, Fix, Rule};
use crate::context::View;

/// Adds code and edit to a finding of a check.
pub(crate) fn complete(finding: &mut Finding, rule: &'static Rule, context: &Context<'_>) {
    let Some(instruction) = instruction_at(context, finding) else { return };
    if rule.name == "MultipleInstructionsDisallowed" {
        finding.code = match instruction.kind {
            Kind::Cmd(_) => "DL4003",
            Kind::Entrypoint(_) => "DL4004",
            _ => "DL3012",
        };
    }
    if rule.name == "JSONArgsRecommended" {
        finding.hint = Some("write the command as `[\"program\", \"argument\"]`".to_owned());
    }
    finding.fix = match rule.name {
        "StageNameCasing" => stage_name(context, instruction),
        "FromAsCasing" => as_keyword(context, instruction),
        "NoEmptyContinuation" => empty_lines(context, instruction),
        "ConsistentInstructionCasing" => casing(context, finding, instruction),
        "MaintainerDeprecated" => maintainer(context, instruction),
        "LegacyKeyValueFormat" => key_value(context, instruction),
        "RedundantTargetPlatform" => platform(context, instruction),
        "ExposeProtoCasing" => expose(context, instruction),
        "WorkdirRelativePath" => workdir(context, instruction),
        "UndefinedVar" => variable(context, finding, instruction),
        "JSONArgsRecommended" => context
            .view_of(instruction)
            .and_then(|view| exec_form(context, view))
            .map(|edit| Fix::safe("write the command as a JSON array", vec![edit])),
        "MultipleInstructionsDisallowed" => {
            let edit = context.removal(instruction);
            Some(Fix::safe("remove the instruction that has no effect", vec![edit]))
        }
        _ => None,
    };
}

fn instruction_at<'c>(context: &'c Context<'_>, finding: &Finding) -> Option<&'c Instruction> {
    let all = &context.instructions;
    let behind = all.partition_point(|one| one.span.start.line <= finding.line);
    let one = all.get(behind.checked_sub(1)?)?;
    (finding.line <= one.span.lines().1).then_some(*one)
}

fn stage_name(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let Kind::From(from) = &instruction.kind else { return None };
    let name = from.name.as_ref()?;
    let edit = Edit::replace(context.range(name.span), name.raw.to_lowercase());
    Some(Fix::safe("write the stage's name in lower case", vec![edit]))
}

fn as_keyword(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let Kind::From(from) = &instruction.kind else { return None };
    let keyword = from.as_keyword.as_ref()?;
    let is_lower = instruction.keyword.raw == instruction.keyword.raw.to_lowercase();
    let text = if is_lower { "as" } else { "AS" };
    let edit = Edit::replace(context.range(keyword.span), text);
    Some(Fix::safe("write the keywords of the line in one case", vec![edit]))
}

fn empty_lines(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let lines = instruction.empty_continuations.iter();
    let edits =
        lines.map(|span| Edit::replace(context.lines.whole_lines(&context.range(*span)), ""));
    Some(Fix::safe("remove the empty lines", edits.collect()))
}

/// The case that the text of the finding asks for.
fn casing(context: &Context<'_>, finding: &Finding, instruction: &Instruction) -> Option<Fix> {
    let raw = &instruction.keyword.raw;
    let text = if finding.message.ends_with("(lowercase)") {
        raw.to_lowercase()
    } else {
        raw.to_uppercase()
    };
    let edit = Edit::replace(context.range(instruction.keyword.span), text);
    Some(Fix::safe("write the keyword in the case of the others", vec![edit]))
}

fn maintainer(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let Kind::Maintainer(word) = &instruction.kind else { return None };
    let plain = word.raw.trim_matches('"');
    if plain.contains(['"', '\\', '$', '`']) {
        return None;
    }
    let range = context.range(instruction.head);
    let text = format!("LABEL org.opencontainers.image.authors=\"{plain}\"");
    Some(Fix::safe("say it with a label", vec![Edit::replace(range, text)]))
}

fn key_value(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let (Kind::Env(pairs) | Kind::Label(pairs)) = &instruction.kind else { return None };
    let [pair] = pairs.pairs.as_slice() else { return None };
    // In the old form quotes and escapes have rules of their own.
    if !pair.legacy || pair.value.raw.contains(['"', '\'', '\\', '`', '#']) {
        return None;
    }
    let value = context.range(pair.value.span);
    if context.written(&value) != pair.value.raw {
        return None;
    }
    let needs_quotes = pair.value.raw.contains(char::is_whitespace);
    let quote = if needs_quotes { "\"" } else { "" };
    let key = context.range(pair.key.span);
    let edits = vec![
        Edit::replace(key.end..value.start, format!("={quote}")),
        Edit::insert(value.end, quote),
    ];
    Some(Fix::safe("write it with `=`", edits))
}

fn platform(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let Kind::From(from) = &instruction.kind else { return None };
    let value = context.range(from.platform.as_ref()?.span);
    let start = context.text.get(..value.start)?.rfind("--platform")?;
    let base = context.range(from.base.span);
    let edit = Edit::replace(start..base.start, "");
    Some(Fix::safe("remove the flag", vec![edit]))
}

fn expose(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let Kind::Expose(words) = &instruction.kind else { return None };
    let wrong = words.iter().filter(|word| {
        word.raw.split_once('/').is_some_and(|(_, protocol)| {
            !protocol.contains('$') && protocol != protocol.to_lowercase()
        })
    });
    let edits = wrong.filter_map(|word| {
        let (port, protocol) = word.raw.split_once('/')?;
        let text = format!("{port}/{}", protocol.to_lowercase());
        Some(Edit::replace(context.range(word.span), text))
    });
    Some(Fix::safe("write the protocol in lower case", edits.collect()))
}

fn workdir(context: &Context<'_>, instruction: &Instruction) -> Option<Fix> {
    let Kind::Workdir(word) = &instruction.kind else { return None };
    let is_plain = word.raw.starts_with(|c: char| c.is_alphanumeric());
    let start = context.range(word.span).start;
    is_plain.then(|| Fix::risky("make the path absolute", vec![Edit::insert(start, "/")]))
}

/// The name that the text of the finding suggests.
fn variable(context: &Context<'_>, finding: &Finding, instruction: &Instruction) -> Option<Fix> {
    let (_, rest) = finding.message.split_once("'$")?;
    let (name, rest) = rest.split_once('\'')?;
    let near = rest.split_once("(did you mean $")?.1.strip_suffix("?)")?;
    let source = instruction.source.clone();
    let written = context.written(&source);
    let mut edits = Vec::new();
    for (at, _) in written.match_indices('$') {
        let behind = written.get(at + 1..)?;
        let brace = usize::from(behind.starts_with('{'));
        let behind = behind.get(brace..)?;
        let is_name = behind
            .strip_prefix(name)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        if is_name {
            let start = source.start + at + 1 + brace;
            edits.push(Edit::replace(start..start + name.len(), near));
        }
    }
    Some(Fix::risky(format!("write `${near}`"), edits))
}

/// Builtins that are no programs, so that nothing could start them without a shell.
const BUILTINS: [&str; 22] = [
    ".", ":", "alias", "bg", "break", "cd", "continue", "eval", "exit", "export", "fg", "read",
    "readonly", "return", "set", "shift", "source", "times", "trap", "ulimit", "umask", "unset",
];

/// The JSON form of a command that needs no shell: one simple command, nothing that expands, no
/// redirection. `exec` in front is what the JSON form does by itself.
pub(crate) fn exec_form(context: &Context<'_>, view: &View<'_>) -> Option<Edit> {
    let (Kind::Cmd(Form::Shell(_)) | Kind::Entrypoint(Form::Shell(_))) = view.kind() else {
        return None;
    };
    let script = view.script.as_ref()?;
    let [item] = script.script.body.items.as_slice() else { return None };
    let [command] = item.and_or.first.commands.as_slice() else { return None };
    let CommandKind::Simple(simple) = &command.kind else { return None };
    let has_more = item.terminator.is_some()
        || !item.and_or.rest.is_empty()
        || item.and_or.first.bang.is_some()
        || item.and_or.first.time.is_some()
        || !command.redirects.is_empty()
        || !simple.assignments.is_empty()
        || !script.script.comments.is_empty()
        || script.script.error.is_some();
    if has_more {
        return None;
    }
    let mut words = Vec::new();
    for word in &simple.words {
        let is_pattern = word.parts.iter().any(|part| {
            matches!(part.kind, conex_shell::PartKind::Literal)
                && part.span.of(&script.text).contains(['*', '?', '[', '~', '{'])
        });
        words.push(word.literal(&script.text).filter(|_| !is_pattern)?);
    }
    if words.first().is_some_and(|first| first == "exec") {
        words.remove(0);
    }
    let first = words.first()?;
    if BUILTINS.contains(&first.as_str()) || first.starts_with('-') {
        return None;
    }
    let words: Vec<String> =
        words.iter().map(|word| serde_json::Value::from(word.as_str()).to_string()).collect();
    let whole = conex_shell::Span::new(0, script.text.len());
    let range = script.source(whole);
    // Continued lines would lose their layout.
    if context.written(&range).contains('\n') {
        return None;
    }
    Some(Edit::replace(range, format!("[{}]", words.join(", "))))
}
