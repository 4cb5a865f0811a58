//! Every text that the parser says, in one place.

use conex_report::{Diagnostic, Span, did_you_mean};

use crate::ast::Word;
use crate::error::suggestion;
use crate::limits::{
    DIAGNOSTIC_COUNT_MAX, DOCKERFILE_SIZE_MAX, INSTRUCTION_COUNT_MAX, LINE_SIZE_MAX,
};

/// Every keyword.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

fn hinted(diagnostic: Diagnostic, hint: Option<String>) -> Diagnostic {
    match hint {
        Some(hint) => diagnostic.with_hint(hint),
        None => diagnostic,
    }
}

pub(crate) fn file_too_large(span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("Dockerfile is larger than {DOCKERFILE_SIZE_MAX} bytes"))
}

pub(crate) fn too_many_instructions(span: Span) -> Diagnostic {
    let text = format!("Dockerfile has more than {INSTRUCTION_COUNT_MAX} instructions");
    Diagnostic::error(span, text)
}

pub(crate) fn too_many_errors(span: Span) -> Diagnostic {
    Diagnostic::error(
        span,
        format!("more than {DIAGNOSTIC_COUNT_MAX} mistakes; the rest was not read"),
    )
}

pub(crate) fn line_too_long(span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("line is longer than {LINE_SIZE_MAX} bytes"))
        .with_hint("break it with a continuation, or COPY the data from a file")
}

pub(crate) fn not_utf8(span: Span) -> Diagnostic {
    Diagnostic::error(span, "text is not UTF-8")
        .with_hint("save the file as UTF-8; only comments may be in another encoding")
}

pub(crate) fn repeated_directive(span: Span, key: &str) -> Diagnostic {
    Diagnostic::error(span, format!("parser directive `{key}` stands twice"))
}

pub(crate) fn bad_escape(value: &Word) -> Diagnostic {
    Diagnostic::error(
        value.span,
        format!("parser directive `escape` is `\\` or `` ` ``, not `{}`", value.raw),
    )
}

pub(crate) fn unterminated_heredoc(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("heredoc `{name}` does not end"))
        .with_hint(format!("end it with a line that holds only `{name}`"))
}

pub(crate) fn continues_nothing(span: Span) -> Diagnostic {
    Diagnostic::error(span, "line continuation continues no instruction")
}

pub(crate) fn unknown_instruction(keyword: &Word) -> Diagnostic {
    let hint = did_you_mean(&keyword.raw, KEYWORDS).map(|near| {
        let lower = keyword.raw.chars().all(|c| !c.is_ascii_uppercase());
        let near = if lower { near.to_ascii_lowercase() } else { near.to_owned() };
        format!("did you mean `{near}`?")
    });
    hinted(Diagnostic::error(keyword.span, format!("unknown instruction `{}`", keyword.raw)), hint)
}

pub(crate) fn no_stage(span: Span) -> Diagnostic {
    Diagnostic::error(span, "Dockerfile has no `FROM`")
        .with_hint("begin with `FROM scratch` or the name of an image")
}

pub(crate) fn before_first_from(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` stands before the first `FROM`"))
        .with_hint("only `ARG` may stand there")
}

pub(crate) fn needs_arguments(span: Span, name: &str, expected: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` needs {expected}"))
}

pub(crate) fn mixed_json(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` has a JSON array that holds more than strings"))
        .with_hint("put every element in double quotes")
}

pub(crate) fn shell_not_json(span: Span) -> Diagnostic {
    Diagnostic::error(span, "`SHELL` needs a JSON array")
        .with_hint("write it like `SHELL [\"/bin/bash\", \"-c\"]`")
}

pub(crate) fn unknown_flag(span: Span, name: &str, flag: &str, known: &[&str]) -> Diagnostic {
    let text = format!("`{name}` has no flag `--{flag}`");
    let hint =
        suggestion(flag, known.iter().copied()).map(|hint| hint.replace("mean `", "mean `--"));
    let hint = hint.or_else(|| {
        let listed: Vec<String> = known.iter().map(|flag| format!("`--{flag}`")).collect();
        (!known.is_empty()).then(|| format!("its flags are {}", listed.join(", ")))
    });
    hinted(Diagnostic::error(span, text), hint)
}

pub(crate) fn repeated_flag(span: Span, flag: &str) -> Diagnostic {
    Diagnostic::error(span, format!("flag `--{flag}` stands twice"))
}

pub(crate) fn flag_needs_value(span: Span, flag: &str) -> Diagnostic {
    Diagnostic::error(span, format!("flag `--{flag}` needs a value"))
        .with_hint(format!("write `--{flag}=…`, without a space"))
}

pub(crate) fn flag_not_boolean(span: Span, flag: &str, value: &str) -> Diagnostic {
    Diagnostic::error(span, format!("flag `--{flag}` is `true` or `false`, not `{value}`"))
}

pub(crate) fn flag_not_one_of(span: Span, flag: &str, value: &str, known: &[&str]) -> Diagnostic {
    let listed: Vec<String> = known.iter().map(|value| format!("`{value}`")).collect();
    let text = format!("flag `--{flag}` is one of {}, not `{value}`", listed.join(", "));
    hinted(Diagnostic::error(span, text), suggestion(value, known.iter().copied()))
}

pub(crate) fn device_unsupported(span: Span) -> Diagnostic {
    Diagnostic::error(span, "flag `--device` is not supported")
        .with_hint("run the step without devices; conex has no CDI yet")
}

pub(crate) fn from_arguments(span: Span) -> Diagnostic {
    Diagnostic::error(span, "`FROM` needs one image, or an image and `AS` and a name")
        .with_hint("write it like `FROM debian:13 AS build`")
}

pub(crate) fn bad_stage_name(name: &Word) -> Diagnostic {
    Diagnostic::error(name.span, format!("`{}` is no stage name", name.raw)).with_hint(
        "a stage name begins with a letter and goes on with letters, digits, `-`, `_` and `.`",
    )
}

pub(crate) fn blank_name(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` has a value without a name"))
}

pub(crate) fn legacy_without_value(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` has a name without a value"))
        .with_hint(format!("write it like `{name} NAME=value`"))
}

pub(crate) fn pair_without_value(word: &Word, name: &str) -> Diagnostic {
    Diagnostic::error(word.span, format!("`{name}` has the word `{}` without `=`", word.raw))
        .with_hint("put a value that holds spaces in double quotes")
}

pub(crate) fn heredoc_as_target(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` has a heredoc as its target"))
        .with_hint("the target is the last word: `COPY <<EOF /path`")
}

pub(crate) fn heredoc_name_is_no_file(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("heredoc `{name}` cannot be copied: its name is no file name"))
}

pub(crate) fn repeated_heredoc(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("two heredocs of one instruction are named `{name}`"))
        .with_hint("give each its own name; the name is the file's name")
}

pub(crate) fn variable_in_from(span: Span, what: &str, text: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{what}` cannot hold variables, found `{text}`")).with_hint(
        "define a stage with `FROM $NAME AS name`, with a global `ARG NAME`, and use its name",
    )
}

pub(crate) fn empty_volume(span: Span) -> Diagnostic {
    Diagnostic::error(span, "`VOLUME` has an empty path")
}

pub(crate) fn onbuild_forbidden(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("`{name}` cannot be an `ONBUILD` trigger"))
}

pub(crate) fn onbuild_not_one(span: Span, count: usize) -> Diagnostic {
    Diagnostic::error(span, format!("`ONBUILD` trigger holds {count} instructions, not one"))
}

pub(crate) fn health_none_arguments(span: Span) -> Diagnostic {
    Diagnostic::error(span, "`HEALTHCHECK NONE` takes nothing behind it")
}

pub(crate) fn health_type(word: &Word) -> Diagnostic {
    let text = format!("`HEALTHCHECK` is followed by `CMD` or `NONE`, not `{}`", word.raw);
    hinted(Diagnostic::error(word.span, text), suggestion(&word.raw, ["CMD", "NONE"]))
}

pub(crate) fn health_too_short(span: Span, flag: &str) -> Diagnostic {
    Diagnostic::error(span, format!("flag `--{flag}` is at least `1ms`, or `0` for the default"))
}

pub(crate) fn health_retries(span: Span, value: &str) -> Diagnostic {
    Diagnostic::error(span, format!("flag `--retries` is a whole number, not `{value}`"))
}

pub(crate) fn checksum_sources(span: Span) -> Diagnostic {
    Diagnostic::error(span, "flag `--checksum` needs exactly one source")
}
