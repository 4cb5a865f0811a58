//! Settings files: hadolint's YAML, and the `[lint]` table of `.conex.toml`.

use std::collections::{BTreeMap, BTreeSet};

use saphyr::{LoadableYamlNode as _, Yaml};

use crate::error::Error;
use crate::finding::Level;
use crate::lint::LabelKind;

/// Largest settings file read: 1 MiB, far above any that people write.
pub const SETTINGS_SIZE_MAX: usize = 1 << 20;

/// What a settings file says; what it does not say is `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `ignored` / `ignore`
    pub ignored: BTreeSet<String>,
    /// `override` / `levels`: names by level.
    pub levels: BTreeMap<String, Level>,
    /// `failure-threshold`
    pub failure_threshold: Option<Threshold>,
    /// `trustedRegistries` / `trusted-registries`
    pub trusted_registries: Vec<String>,
    /// `label-schema`
    pub label_schema: BTreeMap<String, LabelKind>,
    /// `strict-labels`
    pub strict_labels: Option<bool>,
    /// `disable-ignore-pragma`
    pub no_pragmas: Option<bool>,
    /// `no-fail`
    pub no_fail: Option<bool>,
    /// `format`
    pub format: Option<String>,
    /// `rules`: the version of the rule set.
    pub rules_version: Option<u32>,
}

/// From which level on findings fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// From this level on.
    Level(Level),
    /// Never.
    Never,
}

impl Threshold {
    /// The threshold of a word: a level, or `none` or `ignore`.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "none" | "ignore" | "never" => Some(Self::Never),
            level => Level::parse(level).map(Self::Level),
        }
    }

    /// Whether a finding of a level fails.
    pub fn fails(self, level: Level) -> bool {
        match self {
            Self::Level(from) => level >= from,
            Self::Never => false,
        }
    }
}

impl Settings {
    /// Reads hadolint's settings. Keys that hadolint does not know are an error, as they would
    /// otherwise be taken for settings that count.
    ///
    /// # Errors
    /// The text is no YAML, or says what cannot be.
    pub fn from_hadolint(text: &str) -> Result<Self, Error> {
        if text.len() > SETTINGS_SIZE_MAX {
            return Err(Error::settings("settings are larger than 1 MiB"));
        }
        let documents = Yaml::load_from_str(text).map_err(Error::yaml)?;
        let mut settings = Self::default();
        let Some(document) = documents.first() else { return Ok(settings) };
        if document.is_null() {
            return Ok(settings);
        }
        let Some(map) = document.as_mapping() else {
            return Err(Error::settings("settings are no mapping of keys to values"));
        };
        for (key, value) in map {
            let key = key.as_str().unwrap_or("");
            settings.hadolint_key(key, value)?;
        }
        Ok(settings)
    }

    fn hadolint_key(&mut self, key: &str, value: &Yaml<'_>) -> Result<(), Error> {
        match key {
            "ignored" => self.ignored.extend(strings(key, value)?),
            "trustedRegistries" => self.trusted_registries = strings(key, value)?,
            "failure-threshold" => {
                let word = scalar(key, value)?;
                self.failure_threshold = Some(threshold(key, &word)?);
            }
            "override" => {
                let Some(map) = value.as_mapping() else {
                    return Err(Error::value(key, "a mapping"));
                };
                for (level, rules) in map {
                    let level = level.as_str().unwrap_or("");
                    let Some(level) = Level::parse(level) else {
                        return Err(Error::value(key, "levels (error, warning, info, style)"));
                    };
                    for rule in strings(key, rules)? {
                        self.levels.insert(rule, level);
                    }
                }
            }
            "label-schema" => {
                let Some(map) = value.as_mapping() else {
                    return Err(Error::value(key, "a mapping"));
                };
                for (name, kind) in map {
                    let name = scalar(key, name)?;
                    self.label_schema.insert(name, label_kind(key, &scalar(key, kind)?)?);
                }
            }
            "strict-labels" => self.strict_labels = Some(boolean(key, value)?),
            "disable-ignore-pragma" => self.no_pragmas = Some(boolean(key, value)?),
            "no-fail" => self.no_fail = Some(boolean(key, value)?),
            "format" => self.format = Some(scalar(key, value)?),
            // Colour is decided by the terminal and by `--color`.
            "no-color" => {
                boolean(key, value)?;
            }
            other => return Err(Error::unknown_key(other)),
        }
        Ok(())
    }

    /// Reads the `[lint]` table of `.conex.toml`.
    ///
    /// # Errors
    /// The text is no TOML, or says what cannot be.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        if text.len() > SETTINGS_SIZE_MAX {
            return Err(Error::settings("settings are larger than 1 MiB"));
        }
        let table: toml::Table = text.parse().map_err(Error::toml)?;
        let mut settings = Self::default();
        let Some(lint) = table.get("lint") else { return Ok(settings) };
        let Some(lint) = lint.as_table() else { return Err(Error::value("lint", "a table")) };
        for (key, value) in lint {
            settings.toml_key(key, value)?;
        }
        Ok(settings)
    }

    fn toml_key(&mut self, key: &str, value: &toml::Value) -> Result<(), Error> {
        let text = || value.as_str().ok_or_else(|| Error::value(key, "a text"));
        let flag = || value.as_bool().ok_or_else(|| Error::value(key, "`true` or `false`"));
        let list = || -> Result<Vec<String>, Error> {
            let wrong = || Error::value(key, "a list of texts");
            let array = value.as_array().ok_or_else(wrong)?;
            array.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        };
        let pairs = || -> Result<Vec<(String, String)>, Error> {
            let wrong = || Error::value(key, "a table of texts");
            let table = value.as_table().ok_or_else(wrong)?;
            let pair = |(name, one): (&String, &toml::Value)| {
                Some((name.clone(), one.as_str()?.to_owned()))
            };
            table.iter().map(|entry| pair(entry).ok_or_else(wrong)).collect()
        };
        match key {
            "ignore" => self.ignored.extend(list()?),
            "trusted-registries" => self.trusted_registries = list()?,
            "failure-threshold" => self.failure_threshold = Some(threshold(key, text()?)?),
            "levels" => {
                for (rule, level) in pairs()? {
                    let Some(level) = Level::parse(&level) else {
                        return Err(Error::value(key, "levels (error, warning, info, style)"));
                    };
                    self.levels.insert(rule, level);
                }
            }
            "label-schema" => {
                for (name, kind) in pairs()? {
                    self.label_schema.insert(name, label_kind(key, &kind)?);
                }
            }
            "strict-labels" => self.strict_labels = Some(flag()?),
            "disable-ignore-pragma" => self.no_pragmas = Some(flag()?),
            "no-fail" => self.no_fail = Some(flag()?),
            "format" => self.format = Some(text()?.to_owned()),
            "rules" => {
                let version = value.as_integer().and_then(|version| u32::try_from(version).ok());
                let version = version.filter(|version| *version > 0);
                self.rules_version =
                    Some(version.ok_or_else(|| Error::value(key, "a version of the rules"))?);
            }
            other => return Err(Error::unknown_key(other)),
        }
        Ok(())
    }

    /// Lays other settings over these: what they say counts, lists are joined.
    pub fn merge(&mut self, over: Self) {
        self.ignored.extend(over.ignored);
        self.levels.extend(over.levels);
        self.label_schema.extend(over.label_schema);
        if !over.trusted_registries.is_empty() {
            self.trusted_registries = over.trusted_registries;
        }
        self.failure_threshold = over.failure_threshold.or(self.failure_threshold);
        self.strict_labels = over.strict_labels.or(self.strict_labels);
        self.no_pragmas = over.no_pragmas.or(self.no_pragmas);
        self.no_fail = over.no_fail.or(self.no_fail);
        self.format = over.format.or(self.format.take());
        self.rules_version = over.rules_version.or(self.rules_version);
    }
}

fn threshold(key: &str, word: &str) -> Result<Threshold, Error> {
    Threshold::parse(word).ok_or_else(|| Error::value(key, "error, warning, info, style or none"))
}

fn label_kind(key: &str, word: &str) -> Result<LabelKind, Error> {
    let expected = "kinds (text, url, rfc3339, spdx, hash, semver, email)";
    LabelKind::parse(word).ok_or_else(|| Error::value(key, expected))
}

fn scalar(key: &str, value: &Yaml<'_>) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    if let Some(flag) = value.as_bool() {
        return Ok(flag.to_string());
    }
    if let Some(number) = value.as_integer() {
        return Ok(number.to_string());
    }
    Err(Error::value(key, "a text"))
}

fn boolean(key: &str, value: &Yaml<'_>) -> Result<bool, Error> {
    // YAML 1.1, which hadolint reads, has more words for it.
    if let Some(flag) = value.as_bool() {
        return Ok(flag);
    }
    match value.as_str() {
        Some("yes" | "on" | "Yes" | "On") => Ok(true),
        Some("no" | "off" | "No" | "Off") => Ok(false),
        _ => Err(Error::value(key, "`true` or `false`")),
    }
}

fn strings(key: &str, value: &Yaml<'_>) -> Result<Vec<String>, Error> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let Some(list) = value.as_sequence() else { return Err(Error::value(key, "a list")) };
    list.iter().map(|one| scalar(key, one)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Settings, Threshold};
    use crate::finding::Level;
    use crate::lint::LabelKind;

    #[test]
    fn hadolints_settings_are_read() {
        let settings = Settings::from_hadolint(
            "failure-threshold: warning\nformat: tty\nignored:\n  - DL3007\n  - SC1010\n\
             label-schema:\n  author: text\n  version: semver\nno-color: true\nno-fail: true\n\
             override:\n  error: [DL3001]\n  style:\n    - DL3015\nstrict-labels: false\n\
             disable-ignore-pragma: true\ntrustedRegistries: [docker.io, \"*.test\"]\n",
        )
        .unwrap();
        assert_eq!(settings.failure_threshold, Some(Threshold::Level(Level::Warning)));
        assert_eq!(
            settings.ignored.iter().map(String::as_str).collect::<Vec<_>>(),
            ["DL3007", "SC1010"]
        );
        assert_eq!(settings.levels.get("DL3001"), Some(&Level::Error));
        assert_eq!(settings.levels.get("DL3015"), Some(&Level::Style));
        assert_eq!(settings.label_schema.get("version"), Some(&LabelKind::Version));
        assert_eq!(settings.trusted_registries, ["docker.io", "*.test"]);
        assert_eq!((settings.strict_labels, settings.no_pragmas), (Some(false), Some(true)));
        assert_eq!(Settings::from_hadolint("").unwrap(), Settings::default());
        assert_eq!(Settings::from_hadolint("ignored:\n").unwrap(), Settings::default());
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for (text, part) in [
            ("ignord: []", "`ignord`"),
            ("ignored: 3", "a list"),
            ("failure-threshold: worst", "error, warning"),
            ("override: {bad: [DL3001]}", "levels"),
            ("label-schema: {a: colour}", "kinds"),
            ("strict-labels: perhaps", "`true`"),
            ("- a", "mapping"),
            ("a: [", "YAML"),
        ] {
            let error = Settings::from_hadolint(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for (text, part) in [
            ("[lint]\nignord = []", "`ignord`"),
            ("[lint]\nrules = 0", "version"),
            ("[lint]\nignore = [1]", "list of texts"),
            ("lint = 1", "a table"),
            ("[lint", "TOML"),
        ] {
            let error = Settings::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn later_settings_count_and_lists_are_joined() {
        let mut settings =
            Settings::from_toml("[lint]\nignore = [\"A\"]\nformat = \"json\"\n").unwrap();
        let over = "[lint]\nignore = [\"B\"]\nrules = 1\nlevels = { A = \"error\" }\n";
        settings.merge(Settings::from_toml(over).unwrap());
        assert_eq!(settings.ignored.len(), 2);
        assert_eq!(settings.format.as_deref(), Some("json"));
        assert_eq!((settings.rules_version, settings.levels.len()), (Some(1), 1));
        assert_eq!(Settings::from_toml("[other]\na = 1\n").unwrap(), Settings::default());
    }
}
