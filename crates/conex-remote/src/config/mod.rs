//! The configuration files that people already have: `registries.conf`, `hosts.toml`, `certs.d`.

pub(crate) mod certs;
pub(crate) mod hosts;
pub(crate) mod registries;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::limits::CONFIG_SIZE_MAX;

/// Reads a whole file of moderate size; none if it is not there.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |source: io::Error| {
        Error::config(format!("cannot read `{}`", path.display())).with_source(source)
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(CONFIG_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > CONFIG_SIZE_MAX {
        return Err(Error::too_large(&format!("`{}`", path.display()), CONFIG_SIZE_MAX));
    }
    Ok(Some(bytes))
}

pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
