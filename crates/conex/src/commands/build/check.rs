//! `--check` and `--call=check`: what the rules say of a Dockerfile that is not built.

use conex_dockerfile::{Dockerfile, Ignore};
use conex_lint::{BaseImage, CheckOptions, LintOptions, Scope};
use conex_oci::Platform;

use super::contexts::Main;
use super::{Args, parse};
use crate::commands::lint::{self, Config, ConfigArgs, Input, Showing, Shown};
use crate::error::{CliError, FAILED, Result};
use crate::session::Session;

/// Which rules are asked instead of building.
pub(super) enum Check<'a> {
    /// All, as `conex lint` does; in this format, if one is named.
    All(Option<&'a str>),
    /// BuildKit's, with Docker's words and exit code.
    BuildKit,
}

impl<'a> Check<'a> {
    /// What the flags ask for; nothing, if the image is to be built.
    pub(super) fn of(args: &'a Args) -> Result<Option<Self>> {
        match (args.check.as_deref(), args.call.as_str()) {
            (None, "build") => Ok(None),
            (None, "check") | (Some("buildkit"), _) => Ok(Some(Self::BuildKit)),
            (Some("all"), _) => Ok(Some(Self::All(None))),
            (Some(what), _) => match what.strip_prefix("format=") {
                Some(format) => Ok(Some(Self::All(Some(format)))),
                None => Err(CliError::usage(format!("`--check={what}` asks for nothing"))
                    .with_hint("write `--check`, `--check=buildkit` or `--check=format=NAME`")),
            },
            (None, act) => Err(CliError::usage(format!("`--call={act}` is not supported"))
                .with_hint(
                    "`--call` knows `build` and `check`; for formats, `--check=format=NAME`",
                )),
        }
    }
}

/// What a build knows, for the rules.
pub(super) fn options<'o>(
    args: &Args,
    scope: Scope,
    ignore: Option<&'o Ignore>,
    base: &'o dyn Fn(&str, &Platform) -> Option<BaseImage>,
) -> Result<CheckOptions<'o>> {
    let platforms = parse::platforms(&args.platform, &Platform::host())?;
    Ok(CheckOptions {
        build_args: parse::build_args(&args.build_arg)?,
        target: args.target.clone(),
        scope,
        ignore,
        build_platform: Platform::host(),
        target_platform: platforms.first().cloned().unwrap_or_else(Platform::host),
        base,
    })
}

/// Asks every rule, and shows what they found as `conex lint` does.
pub(super) fn everything(
    session: &Session,
    args: &Args,
    main: &Main,
    format: Option<&str>,
    (name, bytes): (String, Vec<u8>),
) -> Result<()> {
    let config = Config::read(&ConfigArgs::default())?;
    let format = Shown::parse(format.or(config.settings.format.as_deref()))?;
    let build = options(args, Scope::All, main.ignore.as_ref(), &|_, _| None)?;
    let names = main.context.as_ref().map(|_| lint::names_in(&main.folder));
    let contexts = args.build_context.iter().filter_map(|given| given.split_once('='));
    let read = |name: &str| lint::read_of_context(&main.folder, name);
    let options = LintOptions {
        context_text: names.is_some().then_some(&read),
        named_contexts: contexts.map(|(name, _)| name.to_owned()).collect(),
        ..lint::options(&config, build, names.as_ref().map(|names| names.as_slice()))
    };
    let linted = conex_lint::lint(&bytes, &options);
    let showing = Showing { format, output: None, has_color: true, exit_code: lint::FINDINGS };
    showing.report(session, &config, &[Input::new(name, None, bytes)], &[linted])
}

/// Asks BuildKit's checks, and fails if they found something.
pub(super) fn buildkit(
    session: &Session,
    args: &Args,
    main: &Main,
    dockerfile: &Dockerfile,
    (name, text): &(String, String),
) -> Result<()> {
    let options = options(args, Scope::All, main.ignore.as_ref(), &|_, _| None)?;
    let warnings = conex_lint::check(dockerfile, &options).diagnostics;
    if warnings.is_empty() {
        return session.out("Check complete, no warnings found.\n");
    }
    let shown = conex_term::Source { name, text };
    let findings = conex_term::Findings::new(shown, session.out_palette()).all(&warnings);
    let count = warnings.len();
    let noun = if count == 1 { "warning has" } else { "warnings have" };
    session.out(&format!("{findings}\nCheck complete, {count} {noun} been found!\n"))?;
    Err(CliError::exit(FAILED))
}
