//! The one error of this crate: settings that cannot be read.

use std::error::Error as StdError;
use std::fmt;

/// What a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text does not follow its grammar.
    Syntax,
    /// A key that there is not.
    UnknownKey,
    /// A value that a key cannot have.
    Value,
}

/// Settings that cannot be read.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    pub(crate) fn settings(message: &str) -> Self {
        Self::new(ErrorKind::Value, message)
    }

    pub(crate) fn yaml(source: saphyr::ScanError) -> Self {
        let source = Some(Box::new(source) as _);
        Self { source, ..Self::new(ErrorKind::Syntax, "settings are not valid YAML") }
    }

    pub(crate) fn toml(source: toml::de::Error) -> Self {
        let source = Some(Box::new(source) as _);
        Self { source, ..Self::new(ErrorKind::Syntax, "settings are not valid TOML") }
    }

    pub(crate) fn value(key: &str, expected: &str) -> Self {
        Self::new(ErrorKind::Value, format!("setting `{key}` takes {expected}"))
    }

    pub(crate) fn unknown_key(key: &str) -> Self {
        const KEYS: [&str; 14] = [
            "ignored",
            "ignore",
            "override",
            "levels",
            "failure-threshold",
            "trustedRegistries",
            "trusted-registries",
            "label-schema",
            "strict-labels",
            "disable-ignore-pragma",
            "no-fail",
            "format",
            "rules",
            "no-color",
        ];
        let hint =
            conex_report::did_you_mean(key, KEYS).map(|near| format!("did you mean `{near}`?"));
        Self { hint, ..Self::new(ErrorKind::UnknownKey, format!("there is no setting `{key}`")) }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A command or an edit that mends it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
