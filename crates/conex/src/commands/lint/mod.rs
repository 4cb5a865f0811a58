//! `conex lint`: findings in Dockerfiles, and edits that mend them.

mod config;
mod files;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use conex_inventory::PackageList;
use conex_lint::{Finding, Fixable, Linted, Safety, Threshold, Versions, output};

use super::analyze::SourceArgs;
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

pub(super) use config::{Config, ConfigArgs};
pub(super) use files::{
    Input, find, forget_folders, names_in, options, read_of_context, with_options,
};

/// Exit code of a run that found something.
pub(super) const FINDINGS: u8 = 3;

/// Find what is wrong with Dockerfiles, and mend it
///
/// Asks BuildKit's checks, the rules of hadolint, ShellCheck's about the commands of `RUN`, and our
/// own; `conex explain` lists them. Folders are searched for `Dockerfile`, `Containerfile`,
/// `Dockerfile.*` and `*.Dockerfile`.
///
/// Settings are read from `.hadolint.yaml` and from the `[lint]` table of `.conex.toml`. In a file,
/// `# conex ignore RULE reason`, `# hadolint ignore=CODE` and `# check=skip=RULE` above an
/// instruction ignore findings.
///
/// Exits with 3 if there are findings at or above the threshold.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex lint\n  conex lint --fix Dockerfile\n  \
    conex lint --diff --fix images/\n  conex lint --fix --versions-from app Dockerfile\n  conex lint -f sarif . > lint.sarif\n  \
    conex lint -t error --ignore DL3008 - < Dockerfile")]
pub struct Args {
    /// Dockerfiles and folders; `-` is standard input
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    paths: Vec<PathBuf>,

    /// Mend what can be mended so that the image stays the same, or is better
    #[arg(long)]
    fix: bool,

    /// Mend also where the image may become another one
    #[arg(long, requires = "fix")]
    unsafe_fixes: bool,

    /// Show what would be mended instead of doing it
    #[arg(long)]
    diff: bool,

    /// Mend only findings of this rule
    #[arg(long, value_name = "RULE", requires = "fix")]
    only: Vec<String>,

    /// Pin packages to the versions that they have in this image, usually the one that was built
    /// last; any that `conex analyze` takes
    #[arg(long, value_name = "IMAGE")]
    versions_from: Option<String>,

    /// Format of the findings: text, tty, json, sarif, checkstyle, junit, codeclimate, gitlab,
    /// github, gnu, sonarqube, codacy
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,

    /// Write the findings into a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    config: config::ConfigArgs,

    /// Exit with 0 whatever was found
    #[arg(long)]
    no_fail: bool,

    /// Exit with this code if there are findings at or above the threshold
    #[arg(long, value_name = "NUMBER", default_value_t = FINDINGS)]
    exit_code: u8,

    /// The same as `--color never`
    #[arg(long)]
    no_color: bool,

    /// What the file is called in the output
    #[arg(long, value_name = "PATH")]
    file_path_in_report: Option<String>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let mut config = Config::read(&args.config)?;
    if args.no_fail {
        config.settings.no_fail = Some(true);
    }
    if let Some(image) = &args.versions_from {
        config.versions = Some(versions(session, image)?);
    }
    let format = Shown::parse(args.format.as_deref().or(config.settings.format.as_deref()))?;
    let mut inputs = files::find(&args.paths)?;
    if let (Some(name), [input]) = (&args.file_path_in_report, inputs.as_mut_slice()) {
        input.name.clone_from(name);
    }
    if args.fix || args.diff {
        return mend(session, &args, &config, &mut inputs);
    }
    let linted = files::lint_all(&inputs, &config);
    let shown = Showing {
        format,
        output: args.output.as_deref(),
        has_color: !args.no_color,
        exit_code: args.exit_code,
    };
    shown.report(session, &config, &inputs, &linted)
}

/// The versions of what is installed in an image.
fn versions(session: &Session, image: &str) -> Result<Versions> {
    let analysis = SourceArgs::usual().analyze(session, image)?;
    let mut versions = Versions::default();
    for installed in PackageList::of(&analysis.tree).packages {
        let package = installed.package;
        versions.add(package.manager.word(), &package.name, &package.version);
    }
    Ok(versions)
}

/// Where findings go and what they come to.
pub(super) struct Showing<'s> {
    pub(super) format: Shown,
    /// A file instead of standard output.
    pub(super) output: Option<&'s Path>,
    /// Whether a terminal gets colour.
    pub(super) has_color: bool,
    /// What the program ends with if findings fail.
    pub(super) exit_code: u8,
}

impl Showing<'_> {
    /// Shows what was found, and fails if the settings say so.
    pub(super) fn report(
        &self,
        session: &Session,
        config: &Config,
        inputs: &[Input],
        linted: &[Linted],
    ) -> Result<()> {
        let shown = self.text(session, inputs, linted);
        match self.output {
            Some(path) => write_file(path, shown.as_bytes())?,
            None => session.out(&shown)?,
        }
        let threshold = config.threshold();
        let fails = linted.iter().any(|one| {
            (one.is_error && !one.findings.is_empty())
                || one.findings.iter().any(|finding| threshold.fails(finding.level))
        });
        let no_fail = config.settings.no_fail.unwrap_or(false);
        if fails && !no_fail { Err(CliError::exit(self.exit_code)) } else { Ok(()) }
    }

    fn text(&self, session: &Session, inputs: &[Input], linted: &[Linted]) -> String {
        let files: Vec<output::File<'_>> = inputs
            .iter()
            .zip(linted)
            .map(|(input, linted)| output::File {
                name: &input.name,
                text: &input.text,
                findings: &linted.findings,
            })
            .collect();
        match self.format {
            Shown::Format(format) => output::write(format, &files),
            Shown::Text => {
                let palette = match self.output {
                    None if self.has_color => session.out_palette(),
                    _ => conex_term::Palette::PLAIN,
                };
                files.iter().map(|file| text_of(file, palette)).collect::<String>()
                    + &summary(&files)
            }
        }
    }
}

/// How findings are shown.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    /// With their lines, for people.
    Text,
    /// For programs.
    Format(output::Format),
}

impl Shown {
    /// The format of a name; text without one.
    pub(super) fn parse(name: Option<&str>) -> Result<Self> {
        match name {
            None | Some("text") => Ok(Self::Text),
            Some(name) => output::Format::parse(name).map(Self::Format).ok_or_else(|| {
                let names = output::Format::NAMES.join(", ");
                CliError::usage(format!("`{name}` is no format of findings"))
                    .with_hint(format!("formats are text, {names}"))
            }),
        }
    }
}

/// Most findings of one file that are shown with their lines: nobody reads more, and the lines of a
/// hostile file are long.
const EXCERPT_COUNT_MAX: usize = 500;

fn text_of(file: &output::File<'_>, palette: conex_term::Palette) -> String {
    let source = conex_term::Source { name: file.name, text: file.text };
    let shown = conex_term::Findings::new(source, palette);
    let bare = conex_term::Findings::new(conex_term::Source { text: "", ..source }, palette);
    let one = |(index, finding): (usize, &Finding)| {
        let shown = if index < EXCERPT_COUNT_MAX { shown } else { bare };
        let mut diagnostic = finding.to_diagnostic();
        // Commands of many lines would hide what is meant.
        let span = diagnostic.span.as_mut().filter(|span| span.end.line > span.start.line + 2);
        if let Some(span) = span {
            span.end = conex_report::Position { line: span.start.line, column: u32::MAX };
        }
        if finding.code != finding.name() {
            diagnostic.message = format!("{} ({})", diagnostic.message, finding.code);
        }
        shown.one(&diagnostic) + "\n"
    };
    file.findings.iter().enumerate().map(one).collect()
}

fn summary(files: &[output::File<'_>]) -> String {
    let all = || files.iter().flat_map(|file| file.findings);
    let count = all().count();
    if count == 0 {
        return match files {
            [one] => format!("{}: nothing found\n", one.name),
            files => format!("{} files: nothing found\n", files.len()),
        };
    }
    let levels = ["error", "warning", "info", "style"]
        .map(|level| (level, all().filter(|finding| finding.level.name() == level).count()));
    let levels: Vec<String> = levels
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(level, count)| format!("{count} {level}"))
        .collect();
    let fixable = |wanted| {
        let is = |finding: &&Finding| finding.fix.as_ref().is_some_and(|fix| fix.safety == wanted);
        all().filter(is).count()
    };
    let (safe, risky) = (fixable(Safety::Safe), fixable(Safety::Unsafe));
    let noun = if count == 1 { "finding" } else { "findings" };
    let mut text = format!("{count} {noun}: {}", levels.join(", "));
    if safe + risky > 0 {
        text.push_str(&format!("; `--fix` mends {safe}"));
    }
    if risky > 0 {
        text.push_str(&format!(", with `--unsafe-fixes` {risky} more"));
    }
    text + "\n"
}

/// `--fix` and `--diff`.
fn mend(session: &Session, args: &Args, config: &Config, inputs: &mut [Input]) -> Result<()> {
    let safety = if args.unsafe_fixes { Safety::Unsafe } else { Safety::Safe };
    if let Some(name) = args.only.iter().find(|name| conex_lint::rule(name).is_none()) {
        return Err(super::explain::unknown(name));
    }
    let select = |finding: &Finding| {
        let called = |rule: &conex_lint::Rule| args.only.iter().any(|name| rule.is_called(name));
        args.only.is_empty() || finding.rule.is_some_and(called)
    };
    let (mut count, mut left, mut file_count) = (0, 0, 0);
    let mut shown = String::new();
    for input in inputs.iter_mut() {
        let (fixed, mended) = with_options(config, input, |options| {
            let fixable = |findings: &[Finding]| {
                let may = |finding: &&Finding| {
                    select(finding) && finding.fix.as_ref().is_some_and(|fix| fix.safety <= safety)
                };
                findings.iter().filter(may).count()
            };
            let before = conex_lint::lint(input.text.as_bytes(), options).findings;
            let fixed = conex_lint::fix(&input.text, options, safety, &select);
            let after = conex_lint::lint(fixed.text.as_bytes(), options).findings;
            left += after.len();
            (fixed, fixable(&before).saturating_sub(fixable(&after)))
        });
        if fixed.text == input.text {
            if input.path.is_none() && !args.diff {
                shown.push_str(&input.text);
            }
            continue;
        }
        count += mended;
        file_count += 1;
        if args.diff {
            shown.push_str(&conex_lint::unified(&input.name, &input.text, &fixed.text));
        } else if let Some(path) = &input.path {
            write_file(path, fixed.text.as_bytes())?;
        } else {
            // Standard input becomes standard output.
            shown.push_str(&fixed.text);
        }
        input.text = fixed.text;
    }
    session.out(&shown)?;
    let verb = if args.diff { "would be mended" } else { "mended" };
    let noun = |count: usize, noun: &str| {
        if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
    };
    let (found, files) = (noun(count, "finding"), noun(file_count, "file"));
    session.err(&format!("{found} {verb} in {files}; {left} left"));
    Ok(())
}

/// Replaces a file in one step, its permissions kept.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let act = || format!("cannot write `{}`", path.display());
    // What a link points at is replaced, not the link.
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = folder.join(format!(".{name}.conex-{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create_new(&temporary)?;
        file.write_all(bytes)?;
        if let Ok(metadata) = std::fs::metadata(&target) {
            file.set_permissions(metadata.permissions())?;
        }
        file.sync_all()?;
        std::fs::rename(&temporary, &target)
    })();
    if written.is_err() {
        // The error that is reported is the one above.
        let _ = std::fs::remove_file(&temporary);
    }
    written.doing(act)
}

/// Whether a rule can be mended, for `conex explain`.
pub(super) fn mended(fix: Fixable) -> &'static str {
    fix.name()
}

impl Config {
    fn threshold(&self) -> Threshold {
        self.settings.failure_threshold.unwrap_or(Threshold::Level(conex_lint::Level::Info))
    }
}
