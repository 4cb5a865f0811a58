//! What the person and the machine set: environment variables and paths, read once, here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use conex_term::ColorChoice;

/// Everything that comes from the environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store's folder.
    pub root: PathBuf,
    /// Why it is that folder, for `conex info`.
    pub root_from: &'static str,
    /// Whether this process is the machine's root.
    pub is_root: bool,
    /// The person's home folder.
    pub home: PathBuf,
    /// Whether output may be coloured.
    pub color: ColorChoice,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub source_date_epoch: Option<i64>,
}

/// Where root's store is.
const SYSTEM_ROOT: &str = "/var/lib/conex";

impl Settings {
    /// Reads the environment; `root` and `color` come from the command line.
    pub fn read(root: Option<&Path>, color: ColorChoice) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let home = home();
        let (root, root_from) = match (root, variable("CONEX_ROOT"), variable("XDG_DATA_HOME")) {
            (Some(root), _, _) => (absolute(root), "--root"),
            (None, Some(root), _) => (absolute(Path::new(&root)), "CONEX_ROOT"),
            _ if is_root => (PathBuf::from(SYSTEM_ROOT), "default of root"),
            (None, None, Some(data)) => (PathBuf::from(data).join("conex"), "XDG_DATA_HOME"),
            (None, None, None) => (home.join(".local/share/conex"), "default"),
        };
        let epoch = variable("SOURCE_DATE_EPOCH").and_then(|text| text.to_str()?.parse().ok());
        Self { root, root_from, is_root, home, color, source_date_epoch: epoch }
    }
}

/// The value of an environment variable that is set and not empty.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A path made absolute with the current folder; links are not followed.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"))
}
