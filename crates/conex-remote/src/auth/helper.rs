//! Credential helpers: the programs `docker-credential-…` and the protocol spoken with them.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::auth::Credential;
use crate::error::{Error, Result, shown};
use crate::limits::HELPER_OUTPUT_SIZE_MAX;
use crate::secret::Secret;

/// Runs programs that know credentials.
pub trait HelperRunner: Send + Sync {
    /// Runs a program with arguments, gives it `input`, and returns what it printed: the output
    /// when it succeeded, and what it said otherwise.
    ///
    /// # Errors
    /// There is no such program, or it cannot be run.
    fn run(&self, program: &str, arguments: &[&str], input: &Secret) -> Result<HelperOutput>;
}

/// What a helper printed, and whether it succeeded.
pub enum HelperOutput {
    /// It succeeded; the output may be secret.
    Success(Secret),
    /// It failed, and said why.
    Failure(String),
}

/// Runs real programs, found in the given folders.
#[derive(Debug, Clone)]
pub struct ProcessHelpers {
    /// Where programs are looked for (the folders of `PATH`), first match wins.
    pub search_path: Vec<PathBuf>,
}

impl HelperRunner for ProcessHelpers {
    fn run(&self, program: &str, arguments: &[&str], input: &Secret) -> Result<HelperOutput> {
        if program.contains('/') || program.contains('\0') {
            let message =
                format!("`{}` is not the name of a credential helper", shown(program, 80));
            return Err(Error::config(message));
        }
        let found =
            self.search_path.iter().map(|folder| folder.join(program)).find(|p| p.is_file());
        let path = found.ok_or_else(|| {
            Error::credentials(format!("cannot find the credential helper `{program}`"))
                .with_hint(format!("install `{program}`, or remove it from the configuration"))
        })?;
        let failed = |source: std::io::Error| {
            Error::credentials(format!("cannot run the credential helper `{program}`"))
                .with_source(source)
        };
        let mut child = Command::new(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper may answer without reading: that it hung up is no error.
            let _ = stdin.write_all(input.expose().as_bytes());
        }
        let mut output = String::new();
        let read = child.stdout.take().map_or(Ok(0), |stdout| {
            stdout.take(HELPER_OUTPUT_SIZE_MAX).read_to_string(&mut output)
        });
        let status = child.wait().map_err(failed)?;
        read.map_err(failed)?;
        if status.success() {
            Ok(HelperOutput::Success(output.into()))
        } else {
            Ok(HelperOutput::Failure(shown(&output, 200)))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperCredential {
    #[serde(default)]
    username: String,
    secret: Secret,
}

/// Asks a helper for the credential of a server; none when it has none.
pub(crate) fn get(
    runner: &dyn HelperRunner,
    name: &str,
    server: &str,
) -> Result<Option<Credential>> {
    let program = format!("docker-credential-{name}");
    match runner.run(&program, &["get"], &server.into())? {
        HelperOutput::Success(output) => {
            let found: HelperCredential = serde_json::from_str(output.expose()).map_err(|_| {
                // The parser's own message could quote the secret.
                Error::credentials(format!("`{program}` did not answer with a credential"))
            })?;
            if found.secret.is_empty() {
                return Ok(None);
            }
            Ok(Some(if found.username == "<token>" {
                Credential::IdentityToken(found.secret)
            } else {
                Credential::Password { username: found.username, password: found.secret }
            }))
        }
        // The one failure that the protocol names; helpers add words of their own around it.
        HelperOutput::Failure(why) if why.contains("credentials not found") => Ok(None),
        HelperOutput::Failure(why) => {
            Err(Error::credentials(format!("`{program} get` failed: {why}")))
        }
    }
}

/// Gives a helper a credential to keep.
pub(crate) fn store(
    runner: &dyn HelperRunner,
    name: &str,
    server: &str,
    username: &str,
    secret: &Secret,
) -> Result<()> {
    let input = serde_json::json!({
        "ServerURL": server, "Username": username, "Secret": secret.expose(),
    });
    done(runner, name, "store", &Secret::new(input.to_string()))
}

/// Lets a helper forget a credential.
pub(crate) fn erase(runner: &dyn HelperRunner, name: &str, server: &str) -> Result<()> {
    done(runner, name, "erase", &server.into())
}

fn done(runner: &dyn HelperRunner, name: &str, act: &str, input: &Secret) -> Result<()> {
    let program = format!("docker-credential-{name}");
    match runner.run(&program, &[act], input)? {
        HelperOutput::Success(_) => Ok(()),
        HelperOutput::Failure(why) => {
            Err(Error::credentials(format!("`{program} {act}` failed: {why}")))
        }
    }
}
