//! `conex login` and `conex logout`.

use std::io::{BufRead as _, Read as _, Write as _};

use conex_oci::DEFAULT_REGISTRY;
use conex_remote::{Credential, Kept, ProcessHelpers, Secret};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Log in to a registry
///
/// The credentials are checked and kept where Docker keeps them, in the helper that its
/// configuration names or in `config.json`, so that docker, skopeo and conex share them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex login ghcr.io\n  \
    echo \"$TOKEN\" | conex login -u bot --password-stdin registry.example.com")]
pub struct LoginArgs {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = DEFAULT_REGISTRY)]
    registry: String,

    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// Password or token; others can see it in the list of processes: prefer `--password-stdin`
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,

    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

/// Log out of a registry
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex logout ghcr.io")]
pub struct LogoutArgs {
    /// The registry
    #[arg(value_name = "REGISTRY", default_value = DEFAULT_REGISTRY)]
    registry: String,
}

/// Longest password read.
const PASSWORD_SIZE_MAX: u64 = 64 << 10;

/// Runs `conex login`.
pub fn login(session: &Session, args: LoginArgs) -> Result<()> {
    let registry = registry(&args.registry);
    let username = match (&args.username, args.password_stdin) {
        (Some(name), _) => name.clone(),
        (None, true) => {
            return Err(CliError::usage("`--password-stdin` needs a user name")
                .with_hint("give it with `-u NAME`"));
        }
        (None, false) => prompt(session, "Username: ", Echo::On)?,
    };
    let password = match (&args.password, args.password_stdin) {
        (Some(password), _) => {
            session.err("warning: a password on the command line can be seen by others; use --password-stdin");
            password.clone()
        }
        (None, true) => {
            let mut text = String::new();
            std::io::stdin()
                .take(PASSWORD_SIZE_MAX)
                .read_to_string(&mut text)
                .doing(|| "cannot read the password".to_owned())?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
        (None, false) => prompt(session, "Password: ", Echo::Off)?,
    };
    if password.is_empty() {
        return Err(CliError::new("the password is empty"));
    }
    let password = Secret::from(password);
    let client = crate::registry::client(session, crate::registry::verify(args.tls_verify))?;
    let credential = Credential::password(username.clone(), password.clone());
    client
        .check_credential(registry, &credential)
        .map_err(|error| CliError::because(format!("cannot log in to `{registry}`"), error))?;
    let path = crate::registry::docker_config(session);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .doing(|| format!("cannot make the folder `{}`", folder.display()))?;
    }
    let kept = conex_remote::login(&path, registry, &username, &password, &helpers())?;
    if kept == Kept::File {
        session.err(&format!(
            "warning: the password stands in `{}` for everybody who can read it; a credential \
             helper (`credsStore`) keeps it safer",
            path.display()
        ));
    }
    session.out("Login Succeeded\n")
}

/// Runs `conex logout`.
pub fn logout(session: &Session, args: LogoutArgs) -> Result<()> {
    let registry = registry(&args.registry);
    let path = crate::registry::docker_config(session);
    if path.exists() && conex_remote::logout(&path, registry, &helpers())? {
        return session.out(&format!("Removing login credentials for {registry}\n"));
    }
    session.out(&format!("Not logged in to {registry}\n"))
}

/// The registry's host and port, of whatever people paste.
pub fn registry(text: &str) -> &str {
    let text = text.strip_prefix("https://").or(text.strip_prefix("http://")).unwrap_or(text);
    text.split('/').next().unwrap_or(text)
}

fn helpers() -> ProcessHelpers {
    let path = crate::settings::variable("PATH").unwrap_or_default();
    ProcessHelpers { search_path: std::env::split_paths(&path).collect() }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// Asks on the terminal.
fn prompt(session: &Session, text: &str, echo: Echo) -> Result<String> {
    let stdin = std::io::stdin();
    if !conex_term::is_terminal(&stdin) {
        return Err(CliError::usage("nobody can be asked: standard input is not a terminal")
            .with_hint("give `-u NAME --password-stdin`"));
    }
    let act = || "cannot read from the terminal".to_owned();
    let mut stderr = std::io::stderr();
    stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()).doing(act)?;
    let before = tcgetattr(&stdin).map_err(std::io::Error::from).doing(act)?;
    if echo == Echo::Off {
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &hidden)
            .map_err(std::io::Error::from)
            .doing(act)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if echo == Echo::Off {
        session.err("");
        tcsetattr(&stdin, OptionalActions::Now, &before)
            .map_err(std::io::Error::from)
            .doing(act)?;
    }
    read.doing(act)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::registry;

    #[test]
    fn registries_are_found_in_what_people_paste() {
        for (text, wanted) in [
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io/v2/", "ghcr.io"),
            ("localhost:5000", "localhost:5000"),
        ] {
            assert_eq!(registry(text), wanted);
        }
    }
}
