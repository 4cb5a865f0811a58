//! `conex registry serve`.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use conex_registry::{
    Anonymous, Content, Durability, Limits, Listen, Moment, Options, Pattern, Server, Times, Tls,
};
use conex_sys::signal::SignalWaiter;

use super::images::LocalImages;
use crate::commands::filters::duration;
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;
use crate::settings::variable;

/// The first of the sockets that a service manager passes on.
const FIRST_PASSED_SOCKET: i32 = 3;

/// Serve a registry
///
/// A private registry in one process: the whole distribution specification, for docker, podman,
/// containerd, skopeo, crane, oras and conex itself. What was pushed is in files and a small
/// database in one folder; what a push acknowledged survives a power cut. Garbage is collected
/// while it serves. What a tag was on can still be pulled for two weeks, and
/// `conex tag history --remote` and `conex tag rollback --remote` show it and bring it back.
///
/// With `--store local` it shows this machine's own images instead, to be pulled only: nothing is
/// pushed first. Layers that were built here are packed in the background, newest images first, and
/// what is packed stays as long as its image; who asks for one before that waits.
///
/// It ends with Ctrl-C or SIGTERM; requests that run then may finish for ten seconds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex registry serve\n  \
    conex registry serve --store local --listen 0.0.0.0:5000 --anonymous full\n  \
    conex registry serve --listen 0.0.0.0:443 --tls-self-signed --auth htpasswd=/etc/registry.users\n  \
    conex registry serve --immutable-tags 'v*' --history 30d")]
pub struct Args {
    /// Where to listen, `HOST:PORT`; port 0 takes a free one. A socket of systemd comes first
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    listen: String,

    /// The folder of the registry (the store's folder with `-registry` behind its name)
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    data: Option<PathBuf>,

    /// Show what is elsewhere, to be pulled only: `local` is this machine's store
    #[arg(long, value_name = "STORE", value_parser = ["local"])]
    store: Option<String>,

    /// Pack layers of this machine's store only when somebody asks for their image
    #[arg(long, requires = "store")]
    no_pack_ahead: bool,

    /// Certificate to serve HTTPS with, in PEM, with those that it is signed by
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Serve HTTPS with a certificate made once and kept in the registry's folder
    #[arg(long, conflicts_with = "tls_cert")]
    tls_self_signed: bool,

    /// A name or address that the certificate made here is for (can be repeated)
    #[arg(long, value_name = "NAME", requires = "tls_self_signed")]
    tls_name: Vec<String>,

    /// Who may log in: `htpasswd=FILE`, a file as `htpasswd -B` writes it. Changes of the file
    /// count at once
    #[arg(long, value_name = "KIND=FILE")]
    auth: Option<String>,

    /// What those may who do not log in: `pull`, `none` or `full` (without `--auth`: `full`; else
    /// `none`)
    #[arg(long, value_enum, value_name = "WHAT")]
    anonymous: Option<Who>,

    /// How long what a tag was on can still be pulled
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = duration_text)]
    history: std::time::Duration,

    /// Tags that never move once they are set, with `*` for any text (can be repeated)
    #[arg(long, value_name = "PATTERN")]
    immutable_tags: Vec<String>,

    /// How often to collect garbage
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration_text)]
    gc_interval: std::time::Duration,

    /// How long what was pushed stays before a manifest uses it
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration_text)]
    lease: std::time::Duration,

    /// How long an unfinished upload stays
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration_text)]
    upload_expiry: std::time::Duration,

    /// Where to write a line of JSON for each request: a file, `-` for standard output, or `none`
    #[arg(long, value_name = "FILE", default_value = "-")]
    access_log: String,

    /// Most connections at once
    #[arg(long, value_name = "COUNT", default_value_t = 4096,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_connections: u32,

    /// Most layers received at once
    #[arg(long, value_name = "COUNT", default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_uploads: u32,

    /// Do not wait for the disk: faster, but a power cut may take what was just pushed
    #[arg(long)]
    no_sync: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Who {
    Pull,
    None,
    Full,
}

fn duration_text(text: &str) -> std::result::Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is no length of time such as `90s`, `24h` or `14d`");
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let found = match days {
        Some(days) => days.checked_mul(86_400).map(std::time::Duration::from_secs),
        None => duration(text).ok(),
    };
    found.filter(|found| !found.is_zero()).ok_or_else(wrong)
}

/// The time now.
pub(super) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let address = address(&args.listen)?;
    let anonymous = access(session, &args, address)?;
    let data = args.data.clone().unwrap_or_else(|| super::data_folder(session));
    let images = match args.store {
        // Before any thread starts: an ordinary user's store is seen from a user namespace.
        Some(_) => Some(Arc::new(LocalImages::open(session)?)),
        None => None,
    };
    let content = match &images {
        Some(images) => Content::Images(images.clone()),
        None => Content::Folder(data.clone()),
    };
    let waiter =
        SignalWaiter::block_terminating().doing(|| "cannot wait for signals".to_owned())?;
    let options = Options {
        content,
        listen: passed_socket()?.map_or(Listen::Address(address), Listen::Socket),
        tls: tls(&args, &data, address),
        users: users(args.auth.as_deref())?,
        anonymous,
        times: Times {
            lease: args.lease,
            history: args.history,
            upload_expiry: args.upload_expiry,
            gc_interval: args.gc_interval,
            ..Times::usual()
        },
        limits: Limits {
            connection_count: args.max_connections as usize,
            upload_count: args.max_uploads as usize,
            ..Limits::usual()
        },
        immutable_tags: args.immutable_tags.iter().map(|text| Pattern::new(text)).collect(),
        boot: boot(),
        durability: if args.no_sync { Durability::Unsynced } else { Durability::Synced },
        access_log: access_log(&args.access_log)?,
        // Nobody is left to tell when standard error is closed.
        trouble: Arc::new(|text| drop(writeln!(std::io::stderr(), "error: {text}"))),
        clock: Arc::new(now),
    };
    let server = Server::open(options)?;
    announce(session, &server);
    if let Some(images) = images.filter(|_| !args.no_pack_ahead) {
        std::thread::spawn(move || images.pack_ahead());
    }
    let stop = server.stopper();
    std::thread::spawn(move || {
        if waiter.wait().is_ok() {
            stop.stop();
        }
        // Whoever asks twice does not want to wait.
        if let Ok(signal) = waiter.wait() {
            conex_sys::signal::die_of(signal);
        }
    });
    server.run()?;
    Ok(())
}

/// What the kernel calls this start of the machine; something that never comes again where it does
/// not say.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_else(|_| format!("{} {}", now().0, std::process::id()))
}

fn announce(session: &Session, server: &Server) {
    let scheme = if server.certificate().is_some() { "https" } else { "http" };
    session.err(&format!("listening on {scheme}://{}", server.address()));
    if let Some((fingerprint, file)) = server.certificate() {
        session.err(&format!("certificate {}", file.display()));
        session.err(&format!("SHA-256 fingerprint {fingerprint}"));
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    // `:5000` is what docker's tools write for every address of the machine.
    let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let found = whole.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| {
        CliError::usage(format!("`{text}` is no address to listen on"))
            .with_hint("write `HOST:PORT`, as in `127.0.0.1:5000`")
    })
}

/// What those may who do not log in; nobody opens a registry to the world by leaving something
/// out.
fn access(session: &Session, args: &Args, address: SocketAddr) -> Result<Anonymous> {
    let is_local = address.ip().is_loopback();
    let has_tls = args.tls_cert.is_some() || args.tls_self_signed;
    if args.auth.is_none() && !is_local {
        if args.anonymous != Some(Who::Full) {
            let message = format!("anybody who reaches `{address}` could use this registry");
            return Err(CliError::usage(message).with_hint(
                "say who may with `--auth htpasswd=FILE`, or that it shall be so with \
                 `--anonymous full`",
            ));
        }
        session.err(&format!("warning: anybody who reaches {address} can use this registry"));
    }
    if args.auth.is_some() && !is_local && !has_tls {
        session.err(&format!(
            "warning: passwords travel readably to {address}: use `--tls-cert` or \
             `--tls-self-signed`, or a proxy that adds TLS"
        ));
    }
    Ok(match (args.anonymous, &args.auth) {
        (Some(Who::Pull), _) => Anonymous::Pull,
        (Some(Who::Full), _) | (None, None) => Anonymous::Full,
        (Some(Who::None), _) | (None, Some(_)) => Anonymous::None,
    })
}

fn users(text: Option<&str>) -> Result<Option<PathBuf>> {
    let Some(text) = text else { return Ok(None) };
    match text.strip_prefix("htpasswd=") {
        Some(file) if !file.is_empty() => Ok(Some(PathBuf::from(file))),
        _ => Err(CliError::usage(format!("`{text}` is no way to log in"))
            .with_hint("write `--auth htpasswd=FILE`")),
    }
}

fn tls(args: &Args, data: &Path, address: SocketAddr) -> Option<Tls> {
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        return Some(Tls::Files { cert: cert.clone(), key: key.clone() });
    }
    if !args.tls_self_signed {
        return None;
    }
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.push(rustix::system::uname().nodename().to_string_lossy().into_owned());
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    names.extend(args.tls_name.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    Some(Tls::SelfSigned { folder: data.join("tls"), names })
}

fn access_log(text: &str) -> Result<Option<Box<dyn std::io::Write + Send>>> {
    match text {
        "none" => Ok(None),
        "-" => Ok(Some(Box::new(std::io::stdout()))),
        path => {
            let file = std::fs::File::options().create(true).append(true).open(path);
            Ok(Some(Box::new(file.doing(|| format!("cannot open `{path}`"))?)))
        }
    }
}

/// The socket that systemd passed to this process, if it did.
fn passed_socket() -> Result<Option<TcpListener>> {
    let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u32>().ok());
    let is_for_us = number("LISTEN_PID") == Some(std::process::id());
    if !is_for_us || number("LISTEN_FDS").unwrap_or_default() == 0 {
        return Ok(None);
    }
    let socket = conex_sys::process::inherited(FIRST_PASSED_SOCKET)
        .doing(|| "cannot take over the socket of the service manager".to_owned())?;
    Ok(Some(TcpListener::from(socket)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lengths_of_time_have_units() {
        for (text, wanted) in [
            ("14d", Some(Duration::from_secs(14 * 86_400))),
            ("90s", Some(Duration::from_secs(90))),
            ("250ms", Some(Duration::from_millis(250))),
            ("0s", None),
            ("14", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(duration_text(text).ok(), wanted, "{text}");
        }
    }
}
