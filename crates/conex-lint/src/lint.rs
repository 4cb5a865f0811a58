//! Asks every rule about one file, and leaves out what settings and comments ignore.

use std::collections::{BTreeMap, BTreeSet};

use conex_dockerfile::{Dockerfile, Ignore};
use conex_report::{Diagnostic, Severity, Span};

use crate::context::Context;
use crate::evaluate::Evaluation;
use crate::finding::{Finding, Level, Sink};
use crate::ignores::Ignores;
use crate::rules::{Check, RULES_VERSION, Rule, rules};
use crate::{CheckOptions, Findings, Versions, config, fixes};

/// Gives the text of a file by its name.
pub type ReadText<'r> = dyn Fn(&str) -> Option<String> + 'r;

/// How a file is looked at.
pub struct LintOptions<'a> {
    /// What the checks of a build need.
    pub build: CheckOptions<'a>,
    /// Rules that are not asked, by name or code.
    pub ignored: BTreeSet<String>,
    /// Levels other than the rules' own, by name or code.
    pub levels: BTreeMap<String, Level>,
    /// Registries that base images may come from; empty allows all.
    pub trusted_registries: Vec<String>,
    /// Labels that images must have, and what their values must look like.
    pub label_schema: BTreeMap<String, LabelKind>,
    /// Whether other labels are findings.
    pub strict_labels: bool,
    /// Whether comments in the file ignore nothing.
    pub no_pragmas: bool,
    /// The version of the rule set.
    pub rules_version: u32,
    /// The shell that reads scripts where the file does not say.
    pub shell: Option<String>,
    /// The files of the build context, with `/` between folders; `None` if it is not known.
    pub context_files: Option<&'a [String]>,
    /// Reads a file at the top of the build context by its name; `None` if it is not there, or too
    /// large to be what its name says.
    pub context_text: Option<&'a ReadText<'a>>,
    /// Names of other contexts (`--build-context`): where the file says one, no image is meant.
    pub named_contexts: BTreeSet<String>,
    /// What packages without a version are pinned to.
    pub versions: Option<&'a Versions>,
}

/// What the value of a label must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelKind {
    /// Anything that is not empty.
    Text,
    /// A URL.
    Url,
    /// A time as RFC 3339 writes it.
    Time,
    /// An SPDX licence expression.
    Licence,
    /// A git commit.
    GitHash,
    /// A semantic version.
    Version,
    /// An e-mail address.
    Email,
}

impl LabelKind {
    /// The kind of a word of hadolint's settings.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "text" | "rawtext" | "raw-text" | "" => Self::Text,
            "url" => Self::Url,
            "rfc3339" => Self::Time,
            "spdx" => Self::Licence,
            "hash" => Self::GitHash,
            "semver" => Self::Version,
            "email" => Self::Email,
            _ => return None,
        })
    }
}

impl<'a> LintOptions<'a> {
    /// The newest rules, with nothing ignored.
    pub fn new(build: CheckOptions<'a>) -> Self {
        Self {
            build,
            ignored: BTreeSet::new(),
            levels: BTreeMap::new(),
            trusted_registries: Vec::new(),
            label_schema: BTreeMap::new(),
            strict_labels: false,
            no_pragmas: false,
            rules_version: RULES_VERSION,
            shell: None,
            context_files: None,
            context_text: None,
            named_contexts: BTreeSet::new(),
            versions: None,
        }
    }
}

/// What a file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linted {
    /// The findings, in the order of the file.
    pub findings: Vec<Finding>,
    /// Whether the file asks that any finding fails (`# check=error=true`).
    pub is_error: bool,
    /// How many findings comments in the file left out.
    pub ignored_count: usize,
}

/// Looks at a file. Mistakes in the language are findings too; the rules then say what they can
/// about the rest.
pub fn lint(bytes: &[u8], options: &LintOptions<'_>) -> Linted {
    let (file, mistakes) = conex_dockerfile::parse(bytes);
    let text = String::from_utf8_lossy(bytes);
    let text = if text.len() == bytes.len() { text } else { "".into() };
    lint_parsed(&file, &mistakes, &text, options)
}

/// Looks at a file that was parsed already.
pub fn lint_parsed(
    file: &Dockerfile,
    mistakes: &[Diagnostic],
    text: &str,
    options: &LintOptions<'_>,
) -> Linted {
    let mut found: Vec<Finding> = mistakes.iter().map(mistake).collect();
    let evaluation = Evaluation::new(file, &options.build);
    let context = Context::new(file, text, options, &evaluation);
    let (build, unreadable) = crate::config_of(file, &options.build);
    found.extend(unreadable.iter().map(mistake));
    for rule in rules().filter(|rule| rule.since <= options.rules_version) {
        if is_off(rule, options) {
            continue;
        }
        match rule.check {
            Check::Build(check) => {
                let everything = config::Config::everything();
                let mut findings = Findings::new(&everything);
                check(rule, &evaluation, &mut findings);
                found.extend(findings.found.into_iter().map(|one| of_check(rule, one, &context)));
            }
            Check::Lint(check) => check(&context, &mut Sink { rule, found: &mut found }),
        }
    }
    let ignores = Ignores::new(file, &build, options.no_pragmas);
    let mut ignored_count = 0;
    found.retain(|finding| {
        if is_ignored(finding, options) {
            return false;
        }
        let is_kept = !ignores.covers(finding);
        ignored_count += usize::from(!is_kept);
        is_kept
    });
    for finding in &mut found {
        if let Some(level) = level_of(finding, options) {
            finding.level = level;
        }
    }
    found.sort_by(|a, b| (a.span, a.code, &a.message).cmp(&(b.span, b.code, &b.message)));
    found.dedup_by(|a, b| a.span == b.span && a.code == b.code && a.message == b.message);
    Linted { findings: found, is_error: build.is_error, ignored_count }
}

/// Parses an ignore file for [`CheckOptions::ignore`]; what is wrong with it is the build's to say.
pub fn ignore_file(bytes: &[u8]) -> Ignore {
    Ignore::parse(bytes).0
}

fn mistake(diagnostic: &Diagnostic) -> Finding {
    let span = diagnostic.span.unwrap_or(Span::new((1, 1), (1, 1)));
    let is_error = diagnostic.severity == Severity::Error;
    Finding {
        rule: None,
        code: code_of_mistake(&diagnostic.message),
        level: if is_error { Level::Error } else { Level::Warning },
        span,
        line: span.start.line,
        message: diagnostic.message.clone(),
        hint: diagnostic.hint.clone(),
        fix: None,
    }
}

/// What hadolint calls a mistake that is a rule of its own there; all others are its `DL1000`.
fn code_of_mistake(message: &str) -> &'static str {
    const KNOWN: [(&str, &str); 5] = [
        ("cannot copy from itself", "DL3023"),
        ("cannot be an `ONBUILD` trigger", "DL3043"),
        ("stands before the first `FROM`", "DL3061"),
        ("is no port to expose", "DL3011"),
        ("is not the number of an earlier stage", "DL3022"),
    ];
    KNOWN.iter().find(|(part, _)| message.contains(part)).map_or("DL1000", |(_, code)| code)
}

/// A check's finding, with the edit that mends it.
fn of_check(rule: &'static Rule, diagnostic: Diagnostic, context: &Context<'_>) -> Finding {
    let span = diagnostic.span.unwrap_or(Span::new((1, 1), (1, 1)));
    let mut finding = Finding {
        rule: Some(rule),
        code: rule.codes.first().copied().unwrap_or(rule.name),
        level: rule.level,
        span,
        line: span.start.line,
        message: diagnostic.message,
        hint: diagnostic.hint,
        fix: None,
    };
    fixes::complete(&mut finding, rule, context);
    finding
}

fn is_off(rule: &Rule, options: &LintOptions<'_>) -> bool {
    options.ignored.iter().any(|name| rule.name.eq_ignore_ascii_case(name))
}

fn is_ignored(finding: &Finding, options: &LintOptions<'_>) -> bool {
    options.ignored.iter().any(|name| is_called(finding, name))
}

/// Whether a name means a finding: its code, or its rule's name. A rule's other codes mean other
/// findings of it.
pub(crate) fn is_called(finding: &Finding, name: &str) -> bool {
    finding.code.eq_ignore_ascii_case(name) || finding.name().eq_ignore_ascii_case(name)
}

fn level_of(finding: &Finding, options: &LintOptions<'_>) -> Option<Level> {
    let mut levels = options.levels.iter();
    levels.find(|(name, _)| is_called(finding, name)).map(|(_, level)| *level)
}
