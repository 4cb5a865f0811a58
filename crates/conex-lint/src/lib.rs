//! Rules over Dockerfiles: BuildKit's checks with their names, texts and lines, those of hadolint
//! and ShellCheck that matter for images, and our own.
//!
//! - [`check`] evaluates the stages as far as a Dockerfile alone allows, and asks BuildKit's
//!   checks: what a build warns of.
//! - [`lint`] asks every rule of [`rules`], with the commands of `RUN` parsed, and gives
//!   [`Finding`]s with edits that mend them; [`fix`] makes the edits.
//! - [`Settings`] reads `.hadolint.yaml` and the `[lint]` table of `.conex.toml`.
//! - [`output`] writes findings in the formats that other programs read.
//! - [`mod@format`] lays a file out anew without changing what it says.
//!
//! Each rule says why it exists, with a file that it complains of and one that it does not; the
//! tests run both.
//!
//! Invariant: an edit leaves every byte outside its range as it was, and a file that parsed still
//! parses.
//!
//! What it does not do: read files or ask registries. What is known of base images and of the
//! context comes in through the options; about what it knows nothing of, a rule says nothing that
//! could be wrong.

#![forbid(unsafe_code)]

mod config;
mod context;
mod diff;
mod error;
mod evaluate;
mod finding;
mod fixes;
pub mod format;
mod ignores;
mod lint;
pub mod output;
mod page;
mod rules;
mod script;
mod settings;
mod suggest;
mod text;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use conex_dockerfile::{Dockerfile, Ignore};
use conex_oci::Platform;
use conex_report::{Diagnostic, Span};

pub use config::Config;
pub use diff::unified;
pub use error::{Error, ErrorKind};
pub use evaluate::BaseImage;
pub use finding::{Edit, Finding, Fix, Level, Safety};
pub use fixes::{Fixed, fix};
pub use lint::{LabelKind, LintOptions, Linted, ReadText, ignore_file, lint, lint_parsed};
pub use page::{index, page};
pub use rules::{Fixable, RULES_VERSION, Rule, Set, rule, rules};
pub use settings::{SETTINGS_SIZE_MAX, Settings, Threshold};
pub use versions::Versions;

use evaluate::Evaluation;
use rules::{Check, build_checks};

/// What a check needs besides the Dockerfile.
pub struct CheckOptions<'a> {
    /// `--build-arg`. `BUILDKIT_DOCKERFILE_CHECK` among them replaces the file's own options.
    pub build_args: BTreeMap<String, String>,
    /// `--target`, which is also the value of `TARGETSTAGE`.
    pub target: Option<String>,
    /// Which stages are looked at.
    pub scope: Scope,
    /// The context's ignore file, if there is one.
    pub ignore: Option<&'a Ignore>,
    /// The platform that builds.
    pub build_platform: Platform,
    /// The platform that is built for.
    pub target_platform: Platform,
    /// What is known of a base image, by its expanded name and the platform wanted. `None` says
    /// that nothing is.
    pub base: &'a dyn Fn(&str, &Platform) -> Option<BaseImage>,
}

/// Which stages are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of them, as `--check` does.
    All,
    /// Those that the target needs, as a build does.
    Needed,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The findings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether the file asks that a finding fails the build (`# check=error=true`).
    pub is_error: bool,
}

impl Report {
    /// Whether the build must fail: there is a finding, and the file asked for it.
    pub fn fails(&self) -> bool {
        self.is_error && !self.diagnostics.is_empty()
    }
}

/// Checks a Dockerfile that was parsed without errors. Options in the file that cannot be read are
/// an error among the diagnostics.
pub fn check(file: &Dockerfile, options: &CheckOptions<'_>) -> Report {
    let (config, unreadable) = config_of(file, options);
    let evaluation = Evaluation::new(file, options);
    let mut findings = Findings::new(&config);
    for rule in build_checks() {
        if let Check::Build(check) = rule.check {
            check(rule, &evaluation, &mut findings);
        }
    }
    let mut diagnostics = findings.found;
    diagnostics.extend(unreadable);
    diagnostics.sort_by_key(|found| found.span);
    Report { diagnostics, is_error: config.is_error }
}

pub(crate) fn config_of(
    file: &Dockerfile,
    options: &CheckOptions<'_>,
) -> (Config, Option<Diagnostic>) {
    let directive = file.directives.check.as_ref();
    let span = directive.map_or(Span::new((1, 1), (1, 1)), |word| word.span);
    let given = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK").map(String::as_str);
    let text = given.or(directive.map(|word| word.raw.as_str())).unwrap_or("");
    match Config::parse(text) {
        Ok(config) => (config, None),
        Err(message) => (Config::default(), Some(Diagnostic::error(span, message))),
    }
}

/// Where rules put what they find.
pub(crate) struct Findings<'c> {
    config: &'c Config,
    found: Vec<Diagnostic>,
    seen: BTreeSet<(&'static str, Span, String)>,
}

impl<'c> Findings<'c> {
    fn new(config: &'c Config) -> Self {
        Self { config, found: Vec::new(), seen: BTreeSet::new() }
    }

    /// Adds a finding unless options skip the rule: the file's, or those in the comments above the
    /// instruction. The same finding twice at one place is one.
    pub(crate) fn push(
        &mut self,
        rule: &'static Rule,
        span: Span,
        comments: &[conex_dockerfile::Comment],
        message: String,
    ) {
        let enabled = match config::of_comments(comments) {
            Some(local) => self.config.merged(&local).enables(rule),
            None => self.config.enables(rule),
        };
        if enabled && self.seen.insert((rule.name, span, message.clone())) {
            self.found.push(Diagnostic::warning(rule.name, span, message));
        }
    }
}
