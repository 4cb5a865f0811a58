//! The one error of this crate.

use std::fmt;
use std::io;
use std::path::Path;

/// What a caller may want to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A program, a library or an interpreter is not on this machine.
    NotFound,
    /// A file is not what its name or its first bytes promise.
    Malformed,
    /// A named limit was passed.
    TooMuch,
    /// The machine refused to show a file.
    Io,
}

/// Says what could not be listed, and why.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message, hint: None, source: None }
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the machine keeps a file from this user.
    pub(crate) fn is_denied(&self) -> bool {
        let source = self.source.as_ref();
        source.is_some_and(|source| source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// A command or an edit that mends it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn program_not_found(name: &str, searched: usize) -> Self {
        Self {
            hint: Some(format!("name it by its whole path, or install what brings `{name}`")),
            ..Self::new(
                ErrorKind::NotFound,
                format!("no program `{name}` in the {searched} folders of PATH"),
            )
        }
    }

    pub(crate) fn path_not_found(path: &Path) -> Self {
        Self::new(ErrorKind::NotFound, format!("no file `{}`", path.display()))
    }

    pub(crate) fn library_not_found(name: &str, wanted_by: &Path) -> Self {
        let wanted_by = wanted_by.display();
        Self {
            hint: Some(format!("`ldd {wanted_by}` shows what else it misses")),
            ..Self::new(
                ErrorKind::NotFound,
                format!("library `{name}`, which `{wanted_by}` needs, is in no library folder"),
            )
        }
    }

    pub(crate) fn interpreter_not_found(interpreter: &str, wanted_by: &Path) -> Self {
        Self::new(
            ErrorKind::NotFound,
            format!("`{}` is to be run by `{interpreter}`, which is missing", wanted_by.display()),
        )
    }

    pub(crate) fn not_elf(why: &str) -> Self {
        Self::new(ErrorKind::Malformed, format!("not a usable ELF file: {why}"))
    }

    pub(crate) fn malformed(path: &Path, why: &str) -> Self {
        Self::new(ErrorKind::Malformed, format!("cannot use `{}`: {why}", path.display()))
    }

    pub(crate) fn link_loop(path: &Path) -> Self {
        Self::new(ErrorKind::Malformed, format!("symbolic links at `{}` loop", path.display()))
    }

    pub(crate) fn too_much(what: &str, limit: usize) -> Self {
        Self::new(ErrorKind::TooMuch, format!("more than {limit} {what}"))
    }

    pub(crate) fn io(act: &str, path: &Path, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self {
            source: Some(source),
            ..Self::new(kind, format!("cannot {act} `{}`", path.display()))
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
