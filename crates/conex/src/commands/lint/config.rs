//! What is asked of the linter: flags, environment variables, settings files.

use std::path::{Path, PathBuf};

use conex_lint::{
    LabelKind, Level, RULES_VERSION, SETTINGS_SIZE_MAX, Settings, Threshold, Versions,
};

use crate::error::{CliError, Result};
use crate::settings::variable;

/// Flags that `lint` and `lsp` share.
#[derive(Debug, Default, clap::Args)]
pub(in crate::commands) struct ConfigArgs {
    /// The settings file, instead of those that are found (`.hadolint.yaml`, `.conex.toml`)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Ignore a rule, by name or code; replaces the settings' list
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    ignore: Vec<String>,

    /// Fail on findings of this level and above: error, warning, info, style or none (default:
    /// info)
    #[arg(short = 't', long, value_name = "LEVEL")]
    failure_threshold: Option<String>,

    /// Make findings of a rule errors
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    error: Vec<String>,

    /// Make findings of a rule warnings
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    warning: Vec<String>,

    /// Make findings of a rule `info`
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    info: Vec<String>,

    /// Make findings of a rule `style`
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    style: Vec<String>,

    /// A registry that base images may come from; `*` at an end matches anything
    #[arg(long, value_name = "REGISTRY", value_delimiter = ',')]
    trusted_registry: Vec<String>,

    /// A label that images must have, with the kind of its value (text, url, rfc3339, spdx, hash,
    /// semver, email)
    #[arg(long, value_name = "LABEL:KIND", value_delimiter = ',')]
    require_label: Vec<String>,

    /// Complain of labels that are not required
    #[arg(long)]
    strict_labels: bool,

    /// Do not let comments in the file ignore findings
    #[arg(long)]
    disable_ignore_pragma: bool,

    /// The version of the rule set; a later conex with more rules asks only those of this version
    #[arg(long, value_name = "VERSION")]
    rules: Option<u32>,
}

/// Everything that was set.
#[derive(Debug, Clone, Default)]
pub(in crate::commands) struct Config {
    pub(in crate::commands) settings: Settings,
    /// What packages are pinned to.
    pub(in crate::commands) versions: Option<Versions>,
}

impl Config {
    /// Reads settings files, then the environment, then flags: the later counts.
    pub(in crate::commands) fn read(args: &ConfigArgs) -> Result<Self> {
        let mut settings = Settings::default();
        match &args.config {
            Some(path) => settings.merge(read_file(path)?),
            None => {
                for path in found() {
                    settings.merge(read_file(&path)?);
                }
            }
        }
        environment(&mut settings)?;
        flags(args, &mut settings)?;
        if let Some(version) = settings.rules_version.filter(|version| *version > RULES_VERSION) {
            return Err(CliError::usage(format!("there are no rules {version} yet"))
                .with_hint(format!("the newest are {RULES_VERSION}")));
        }
        Ok(Self { settings, versions: None })
    }
}

/// Settings files that exist: hadolint's first one of those it looks for, then our own.
fn found() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut places: Vec<PathBuf> = vec![".hadolint.yaml".into(), ".hadolint.yml".into()];
    let home = std::env::home_dir();
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
    for folder in [config, home.map(|home| home.join(".hadolint"))].into_iter().flatten() {
        places.push(folder.join("hadolint.yaml"));
        places.push(folder.join("hadolint.yml"));
    }
    found.extend(places.into_iter().find(|path| path.is_file()));
    found.extend([PathBuf::from(".conex.toml")].into_iter().filter(|path| path.is_file()));
    found
}

fn read_file(path: &Path) -> Result<Settings> {
    let shown = path.display();
    let wrong = |message: String, error: std::io::Error| CliError::because(message, error);
    let length = std::fs::metadata(path)
        .map_err(|error| wrong(format!("cannot read the settings `{shown}`"), error))?
        .len();
    if length > SETTINGS_SIZE_MAX as u64 {
        return Err(CliError::new(format!("settings `{shown}` are larger than 1 MiB")));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(format!("cannot read the settings `{shown}`"), error))?;
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    let settings =
        if is_toml { Settings::from_toml(&text) } else { Settings::from_hadolint(&text) };
    settings.map_err(|error| {
        let hint = error.hint().map(str::to_owned);
        CliError { hint, ..CliError::because(format!("cannot use the settings `{shown}`"), error) }
    })
}

/// hadolint's variables.
fn environment(settings: &mut Settings) -> Result<()> {
    let text = |name: &str| {
        variable(&format!("HADOLINT_{name}")).map(|value| value.to_string_lossy().into_owned())
    };
    let list =
        |name: &str| -> Vec<String> { text(name).map(|text| split(&text)).unwrap_or_default() };
    let flag = |name: &str| {
        text(name).map(|value| matches!(value.to_lowercase().as_str(), "1" | "true" | "yes" | "on"))
    };
    settings.no_fail = flag("NOFAIL").or(settings.no_fail);
    settings.strict_labels = flag("STRICT_LABELS").or(settings.strict_labels);
    settings.no_pragmas = flag("DISABLE_IGNORE_PRAGMA").or(settings.no_pragmas);
    settings.format = text("FORMAT").or(settings.format.take());
    if let Some(word) = text("FAILURE_THRESHOLD") {
        settings.failure_threshold = Some(threshold(&word)?);
    }
    let ignored = list("IGNORE");
    if !ignored.is_empty() {
        settings.ignored = ignored.into_iter().collect();
    }
    let trusted = list("TRUSTED_REGISTRIES");
    if !trusted.is_empty() {
        settings.trusted_registries = trusted;
    }
    for (name, level) in [
        ("OVERRIDE_ERROR", Level::Error),
        ("OVERRIDE_WARNING", Level::Warning),
        ("OVERRIDE_INFO", Level::Info),
        ("OVERRIDE_STYLE", Level::Style),
    ] {
        settings.levels.extend(list(name).into_iter().map(|rule| (rule, level)));
    }
    for label in list("REQUIRE_LABELS") {
        require(settings, &label)?;
    }
    Ok(())
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn flags(args: &ConfigArgs, settings: &mut Settings) -> Result<()> {
    if !args.ignore.is_empty() {
        settings.ignored = args.ignore.iter().cloned().collect();
    }
    if let Some(word) = &args.failure_threshold {
        settings.failure_threshold = Some(threshold(word)?);
    }
    for (rules, level) in [
        (&args.error, Level::Error),
        (&args.warning, Level::Warning),
        (&args.info, Level::Info),
        (&args.style, Level::Style),
    ] {
        settings.levels.extend(rules.iter().map(|rule| (rule.clone(), level)));
    }
    if !args.trusted_registry.is_empty() {
        settings.trusted_registries.clone_from(&args.trusted_registry);
    }
    for label in &args.require_label {
        require(settings, label)?;
    }
    if args.strict_labels {
        settings.strict_labels = Some(true);
    }
    if args.disable_ignore_pragma {
        settings.no_pragmas = Some(true);
    }
    settings.rules_version = args.rules.or(settings.rules_version);
    Ok(())
}

fn threshold(word: &str) -> Result<Threshold> {
    Threshold::parse(word).ok_or_else(|| {
        CliError::usage(format!("`{word}` is no threshold"))
            .with_hint("thresholds are error, warning, info, style and none")
    })
}

fn require(settings: &mut Settings, text: &str) -> Result<()> {
    let (name, kind) = text.rsplit_once(':').unwrap_or((text, "text"));
    let kind = LabelKind::parse(kind).ok_or_else(|| {
        CliError::usage(format!("`{kind}` is no kind of label"))
            .with_hint("kinds are text, url, rfc3339, spdx, hash, semver and email")
    })?;
    settings.label_schema.insert(name.to_owned(), kind);
    Ok(())
}
