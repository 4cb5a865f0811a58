//! Secrets, agents, standard input, and what of the host a container is told.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use conex_build::Secret;
use conex_exec::{ContainerSpec, ExecOptions, Network, Stream, Streams};
use conex_term::Progress;

use super::parse;
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;
use crate::settings::{absolute, variable};

/// Largest secret, as Docker's.
const SECRET_SIZE_MAX: u64 = 500 << 10;

/// Standard input, which only one thing can read.
#[derive(Debug, Default)]
pub struct Stdin {
    taken_for: Option<&'static str>,
}

impl Stdin {
    /// Reads it as a Dockerfile.
    pub fn take(&mut self, what: &'static str) -> Result<Vec<u8>> {
        self.claim(what)?;
        let mut bytes = Vec::new();
        let limit = conex_dockerfile::limits::DOCKERFILE_SIZE_MAX as u64 + 1;
        std::io::stdin()
            .take(limit)
            .read_to_end(&mut bytes)
            .doing(|| format!("cannot read {what} from standard input"))?;
        Ok(bytes)
    }

    /// Says what it is for.
    pub fn claim(&mut self, what: &'static str) -> Result<()> {
        match self.taken_for.replace(what) {
            None => Ok(()),
            Some(before) => {
                Err(CliError::usage(format!("standard input cannot be both {before} and {what}")))
            }
        }
    }
}

/// `--secret`.
pub fn secrets(given: &[String]) -> Result<BTreeMap<String, Secret>> {
    let mut secrets = BTreeMap::new();
    for text in given {
        let known = ["id", "type", "src", "source", "env"];
        let fields = parse::fields("--secret", text, &known)?;
        let id = fields
            .get("id")
            .ok_or_else(|| CliError::usage(format!("`--secret {text}` has no `id`")))?;
        let file = fields.get("src").or(fields.get("source"));
        let env = fields.get("env");
        let kind = fields.get("type").map(String::as_str);
        let value = match (kind, file, env) {
            (Some("file") | None, Some(file), None) => read_secret(file)?,
            (Some("env") | None, None, Some(name)) => read_variable(id, name)?,
            (Some("env"), Some(name), None) => read_variable(id, name)?,
            // A name alone is a variable if there is one of that name, else a file.
            (None, None, None) => match variable(id) {
                Some(_) => read_variable(id, id)?,
                None => read_secret(id)?,
            },
            _ => {
                return Err(CliError::usage(format!("`--secret {text}` is not understood"))
                    .with_hint("write `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`"));
            }
        };
        secrets.insert(id.clone(), Secret(value));
    }
    Ok(secrets)
}

fn read_secret(file: &str) -> Result<Vec<u8>> {
    let path = match file.strip_prefix("~/") {
        Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
        None => PathBuf::from(file),
    };
    let open = std::fs::File::open(&path);
    let file = open.doing(|| format!("cannot open the secret `{}`", path.display()))?;
    let mut value = Vec::new();
    file.take(SECRET_SIZE_MAX + 1)
        .read_to_end(&mut value)
        .doing(|| format!("cannot read the secret `{}`", path.display()))?;
    if value.len() as u64 > SECRET_SIZE_MAX {
        let message = format!("the secret `{}` has more than 500 KiB", path.display());
        return Err(CliError::new(message));
    }
    Ok(value)
}

fn read_variable(id: &str, name: &str) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).ok_or_else(|| {
        CliError::new(format!("the secret `{id}` is to come from `{name}`, which is not set"))
    })?;
    Ok(value.into_vec())
}

/// `--ssh`: `ID`, `ID=SOCKET`.
pub fn ssh(given: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    use std::os::unix::fs::FileTypeExt as _;
    let mut agents = BTreeMap::new();
    for text in given {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, PathBuf::from(socket)),
            None => {
                let socket = variable("SSH_AUTH_SOCK").ok_or_else(|| {
                    CliError::new(format!("`--ssh {text}` needs an SSH agent, and none runs"))
                        .with_hint("start one with `eval $(ssh-agent)` and `ssh-add`")
                })?;
                (text.as_str(), PathBuf::from(socket))
            }
        };
        let kind = std::fs::metadata(&socket)
            .doing(|| format!("cannot use the SSH agent `{}`", socket.display()))?
            .file_type();
        if !kind.is_socket() {
            let message = format!("`{}` is no socket of an SSH agent", socket.display());
            return Err(CliError::new(message).with_hint(
                "load the key into an agent and give its socket: keys are not passed on",
            ));
        }
        agents.insert(id.to_owned(), absolute(&socket));
    }
    Ok(agents)
}

/// The host's `/etc/resolv.conf` as a container should see it.
pub fn resolv_conf(is_isolated: bool) -> Vec<u8> {
    let network = if is_isolated { Network::None } else { Network::Host };
    let host = std::fs::read("/etc/resolv.conf").ok();
    let resolved = std::fs::read(conex_exec::RESOLVED_PATH).ok();
    conex_exec::resolv_conf(host.as_deref(), resolved.as_deref(), network)
}

/// `--on-error=shell`: a shell where the step failed, its files as it left them.
pub fn shell(session: &Session, progress: &Progress, spec: &ContainerSpec) {
    if !conex_term::is_terminal(std::io::stdin()) {
        session.err("no shell was started: standard input is not a terminal");
        return;
    }
    let mut spec = spec.clone();
    spec.args = vec!["/bin/sh".to_owned()];
    progress.suspend(|| {
        session.err("The step failed; this shell sees its files. Leave it with `exit`.");
        let streams =
            Streams { stdin: Stream::Inherit, stdout: Stream::Inherit, stderr: Stream::Inherit };
        // Also where another runtime ran the step: those keep the terminal to themselves.
        let ended = conex_exec::spawn(&spec, streams, &ExecOptions::default())
            .and_then(|mut running| running.wait());
        if let Err(error) = ended {
            session.err(&format!("cannot run a shell in the failed step: {error}"));
        }
    });
}

/// Whether a path is one of a folder's files; used for hints only.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
