//! What ends a command early: a text for the person, its causes, what to do about it, and the exit
//! code.

use std::error::Error as StdError;
use std::fmt;

use conex_report::Diagnostic;

/// Exit code of a command that could not do its work.
pub const FAILED: u8 = 1;

/// Exit code of a command that was asked for in words it does not know.
pub const USAGE: u8 = 2;

/// Exit code of `conex run` when the container could not be set up, as `docker run`.
pub const RUN_FAILED: u8 = 125;

/// The error of a command.
#[derive(Debug)]
pub struct CliError {
    /// What could not be done.
    pub message: String,
    /// Why.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
    /// A command or an edit that mends it.
    pub hint: Option<String>,
    /// What the process exits with.
    pub code: u8,
    /// Findings in a file, shown with their source before the error.
    pub findings: Box<[Diagnostic]>,
    /// The file they are in, and its text.
    pub source_text: Option<Box<(String, String)>>,
    /// All was said already; only the code matters.
    pub silent: bool,
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    /// A failure that has no deeper cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
            hint: None,
            code: FAILED,
            findings: Box::default(),
            source_text: None,
            silent: false,
        }
    }

    /// The command was asked for in a way that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(message) }
    }

    /// Ends with a code after all was said.
    pub fn exit(code: u8) -> Self {
        Self { code, silent: true, ..Self::new("") }
    }

    /// Says what was being done when `error` came.
    pub fn because(
        message: impl Into<String>,
        error: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { source: Some(error.into()), ..Self::new(message) }
    }

    /// Says what was being done when this came; keeps its hint and exit code.
    #[must_use]
    pub fn during(self, act: impl Into<String>) -> Self {
        let (hint, code) = (self.hint.clone(), self.code);
        Self { hint, code, ..Self::because(act, self) }
    }

    /// Adds what mends it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for CliError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error of a library on top of its chain: says what it says, and has its causes.
#[derive(Debug)]
struct Causes(Box<dyn StdError + Send + Sync>);

impl fmt::Display for Causes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(source) => write!(formatter, "{source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Causes {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source().and_then(StdError::source)
    }
}

impl CliError {
    /// Takes an error of a library as it is.
    pub fn of(error: impl StdError + Send + Sync + 'static) -> Self {
        let message = error.to_string();
        match error.source() {
            Some(_) => Self::because(message, Causes(Box::new(error))),
            None => Self::new(message),
        }
    }
}

/// Takes over errors of the libraries with their hints.
macro_rules! from_library {
    ($($error:ty),*) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                let hint = error.hint().map(str::to_owned);
                Self { hint, ..Self::of(error) }
            }
        }
    )*};
}

from_library!(
    conex_store::Error,
    conex_exec::Error,
    conex_layer::Error,
    conex_remote::Error,
    conex_registry::Error,
    conex_term::Error,
    conex_elf::Error,
    conex_inventory::Error
);

impl From<conex_build::Error> for CliError {
    fn from(error: conex_build::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        let findings = error.diagnostics().into();
        Self { hint, findings, ..Self::of(error) }
    }
}

impl From<conex_oci::Error> for CliError {
    fn from(error: conex_oci::Error) -> Self {
        Self::of(error)
    }
}

/// Says what an input or output was for.
pub trait Doing<T> {
    /// Names the act.
    ///
    /// # Errors
    /// The error itself, named.
    fn doing(self, act: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, act: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| CliError::because(act(), error))
    }
}
