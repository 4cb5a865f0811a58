//! The rules: BuildKit's checks one file each, the others one file a topic.

mod buildkit;
mod context;
mod cost;
mod files;
mod labels;
mod packages;
mod pins;
mod secrets;
mod shape;
mod shell;
mod stages;
mod style;
mod syntax;
mod web;

use crate::Findings;
use crate::context::Context;
use crate::evaluate::Evaluation;
use crate::finding::{Level, Sink};

/// A rule, with what a person needs to know of it.
pub struct Rule {
    /// Its name, as in `# check=skip=NAME`.
    pub name: &'static str,
    /// What it says in general.
    pub description: &'static str,
    /// A page about it.
    pub url: Option<&'static str>,
    /// Why what it finds matters.
    pub why: &'static str,
    /// A Dockerfile that it complains of.
    pub bad: &'static str,
    /// The same, mended.
    pub good: &'static str,
    /// Whether it is asked only if the file says so.
    pub experimental: bool,
    /// What hadolint and ShellCheck call it; ignores may use these names too.
    pub codes: &'static [&'static str],
    /// How much a finding matters, unless settings say otherwise.
    pub level: Level,
    /// Whether `--fix` can mend what it finds.
    pub fix: Fixable,
    /// Where it comes from.
    pub set: Set,
    /// The first version of the rule set that has it.
    pub since: u32,
    pub(crate) check: Check,
}

/// Whether and how a finding can be mended by an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fixable {
    /// By a person alone.
    No,
    /// By an edit that writes what an image says that was built of the file.
    FromImage,
    /// By an edit that may change what the image does.
    Unsafe,
    /// By an edit that gives the same image, or one without the fault.
    Safe,
}

impl Fixable {
    /// Its word in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::FromImage => "with --versions-from",
            Self::Unsafe => "with --unsafe-fixes",
            Self::Safe => "yes",
        }
    }
}

/// Where a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// The checks of `docker build --check`.
    BuildKit,
    /// What hadolint finds too.
    Hadolint,
    /// What ShellCheck finds too.
    Shell,
    /// Nobody else's.
    Own,
}

impl Set {
    /// Its word in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::BuildKit => "BuildKit",
            Self::Hadolint => "hadolint",
            Self::Shell => "ShellCheck",
            Self::Own => "conex",
        }
    }
}

/// How a rule is asked.
#[derive(Clone, Copy)]
pub(crate) enum Check {
    /// About what the file evaluates to; a build asks these.
    Build(fn(&'static Rule, &Evaluation<'_>, &mut Findings<'_>)),
    /// About everything, the text and the commands included.
    Lint(fn(&Context<'_>, &mut Sink<'_>)),
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Rule").field(&self.name).finish()
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Rule {}

impl Rule {
    /// Whether `name` means this rule: its own name in any case, or one of its codes.
    pub fn is_called(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
            || self.codes.iter().any(|code| code.eq_ignore_ascii_case(name))
    }
}

/// The newest version of the rule set. A rule that is added later says a higher `since`, so that
/// `--rules 1` goes on asking what it asks today.
pub const RULES_VERSION: u32 = 1;

/// What rules have in common unless they say otherwise.
pub(crate) const PLAIN: Rule = Rule {
    name: "",
    description: "",
    url: None,
    why: "",
    bad: "",
    good: "",
    experimental: false,
    codes: &[],
    level: Level::Warning,
    fix: Fixable::No,
    set: Set::Hadolint,
    since: 1,
    check: Check::Lint(|_, _| {}),
};

/// Every rule: BuildKit's checks first, then by topic.
pub fn rules() -> impl Iterator<Item = &'static Rule> + Clone {
    [
        buildkit::RULES,
        syntax::RULES,
        stages::RULES,
        pins::RULES,
        packages::RULES,
        web::RULES,
        files::RULES,
        shape::RULES,
        labels::RULES,
        secrets::RULES,
        context::RULES,
        cost::RULES,
        style::RULES,
        shell::RULES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The rules that a build asks.
pub(crate) fn build_checks() -> &'static [&'static Rule] {
    buildkit::RULES
}

/// The rule of a name or code.
pub fn rule(name: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.is_called(name))
}

/// Text in double quotes, as Go's `%q` writes it.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                quoted.extend(format!("\\x{:02x}", u32::from(control)).chars());
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
