//! `certs.d/<host[:port]>/`: authorities (`*.crt`) and client certificates (`*.cert` with
//! `*.key`), as Docker and Podman keep them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{is_absent, read_file};
use crate::error::{Error, Result};
use crate::http::tls::{TlsSetup, Verify};

/// Most files looked at in one folder.
const FILES_MAX: usize = 64;

/// Reads what `folders` hold for a host; the first folder that has a sub-folder for it wins.
pub(crate) fn load(folders: &[PathBuf], authority: &str, verify: Verify) -> Result<TlsSetup> {
    let mut setup = TlsSetup::plain(verify);
    // The authority was checked when it was parsed: letters, digits, dots, dashes, colons and
    // brackets, so that the only names to fear are the two of dots alone.
    if authority.chars().all(|c| c == '.') || authority.contains(['/', '\0']) {
        return Ok(setup);
    }
    for folder in folders {
        let own = folder.join(authority);
        match fs::read_dir(&own) {
            Ok(entries) => {
                fill(&mut setup, &own, entries)?;
                return Ok(setup);
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => {
                let message = format!("cannot read the folder `{}`", own.display());
                return Err(Error::config(message).with_source(error));
            }
        }
    }
    Ok(setup)
}

fn fill(setup: &mut TlsSetup, folder: &Path, entries: fs::ReadDir) -> Result<()> {
    let mut paths = Vec::new();
    for entry in entries.take(FILES_MAX) {
        let entry = entry.map_err(|source| {
            let message = format!("cannot read the folder `{}`", folder.display());
            Error::config(message).with_source(source)
        })?;
        paths.push(entry.path());
    }
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => setup.authorities.extend(read_file(&path)?),
            Some("cert") if setup.client.is_none() => {
                let key_path = path.with_extension("key");
                let (Some(chain), Some(key)) = (read_file(&path)?, read_file(&key_path)?) else {
                    let message = format!("`{}` has no key beside it", path.display());
                    let hint = format!("put the key into `{}`", key_path.display());
                    return Err(Error::config(message).with_hint(hint));
                };
                setup.client = Some((chain, key));
            }
            _ => {}
        }
    }
    Ok(())
}
