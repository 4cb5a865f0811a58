//! The registry client, set up from this machine: credentials, configuration, certificates,
//! proxies.

mod cloud;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_remote::{
    AuthFile, Client, ClientOptions, Credential, CredentialSource, FixedCredential, ProcessHelpers,
    ProxyOptions, RegistriesConf, Roots, Secret, Verify,
};

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;
use crate::settings::variable;

/// Largest configuration file read.
const FILE_SIZE_MAX: u64 = 4 << 20;

/// Where the system keeps the authorities that it trusts.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A client with everything that this machine knows of registries.
pub fn client(session: &Session, verify: Verify) -> Result<Client> {
    Ok(Client::new(options(session, verify)?))
}

/// How one side of a copy is reached, where that is not what the machine's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Take any certificate, and plain HTTP.
    pub skip_verify: bool,
    /// `USER[:PASSWORD]` to use instead of what is found.
    pub credentials: Option<String>,
    /// A file with credentials to use instead of the usual ones.
    pub auth_file: Option<PathBuf>,
    /// Ask without credentials.
    pub anonymous: bool,
    /// How often to try again; none is the usual.
    pub retries: Option<u32>,
}

impl Access {
    /// What `--tls-verify` means.
    pub fn verified(tls_verify: bool) -> Self {
        Self { skip_verify: !tls_verify, ..Self::default() }
    }
}

/// A client for one side of a copy.
pub fn client_with(session: &Session, access: &Access) -> Result<Client> {
    let mut options = options(session, verify(!access.skip_verify))?;
    if access.anonymous {
        options.credentials.clear();
    }
    if let Some(file) = &access.auth_file {
        let found = auth_file(file)?;
        options.credentials = found.into_iter().collect();
        if options.credentials.is_empty() {
            return Err(CliError::new(format!("there is no file `{}`", file.display())));
        }
    }
    if let Some(text) = &access.credentials {
        // As skopeo has it: all behind the first colon is the password.
        let (username, password) = text.split_once(':').unwrap_or((text, ""));
        let credential = Credential::password(username, Secret::new(password));
        options.credentials = vec![Arc::new(FixedCredential { registry: None, credential })];
    }
    if let Some(retries) = access.retries {
        options.retry.attempts = retries.saturating_add(1);
    }
    Ok(Client::new(options))
}

/// What `--tls-verify` means.
pub fn verify(tls_verify: bool) -> Verify {
    if tls_verify { Verify::Strict } else { Verify::Skip }
}

fn options(session: &Session, verify: Verify) -> Result<ClientOptions> {
    let home = &session.settings.home;
    let mut options = ClientOptions::new(concat!("conex/", env!("CARGO_PKG_VERSION")));
    options.verify = verify;
    for path in auth_files(session) {
        if let Some(file) = auth_file(&path)? {
            options.credentials.push(file);
        }
    }
    options.credentials.push(Arc::new(cloud::Clouds { home: home.clone() }));
    options.registries = registries_conf(session)?;
    options.hosts_dirs = existing([PathBuf::from("/etc/containerd/certs.d")]);
    options.certs_dirs = existing([
        home.join(".config/containers/certs.d"),
        PathBuf::from("/etc/containers/certs.d"),
        PathBuf::from("/etc/docker/certs.d"),
    ]);
    let bundle = text("SSL_CERT_FILE").map(PathBuf::from);
    let bundles = bundle.into_iter().chain(SYSTEM_ROOTS.map(PathBuf::from));
    if let Some(pem) = bundles.filter_map(|path| std::fs::read(path).ok()).next() {
        options.roots = Roots::Pem(Arc::new(pem));
    }
    options.proxies = ProxyOptions {
        http: text("http_proxy").or_else(|| text("HTTP_PROXY")),
        https: text("https_proxy").or_else(|| text("HTTPS_PROXY")),
        no_proxy: text("no_proxy").or_else(|| text("NO_PROXY")).unwrap_or_default(),
    };
    Ok(options)
}

fn text(name: &str) -> Option<String> {
    variable(name).map(|value| value.to_string_lossy().into_owned())
}

/// The files in which credentials may be, Podman's before Docker's.
pub fn auth_files(session: &Session) -> Vec<PathBuf> {
    let home = &session.settings.home;
    let mut files: Vec<PathBuf> = Vec::new();
    files.extend(variable("REGISTRY_AUTH_FILE").map(PathBuf::from));
    files.extend(
        variable("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json")),
    );
    let config = variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    files.push(config.join("containers/auth.json"));
    files.push(docker_config(session));
    files
}

/// Docker's `config.json`.
pub fn docker_config(session: &Session) -> PathBuf {
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
    folder.unwrap_or_else(|| session.settings.home.join(".docker")).join("config.json")
}

fn auth_file(path: &Path) -> Result<Option<Arc<dyn CredentialSource>>> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let file = AuthFile::parse(&bytes).map_err(|error| {
        CliError::because(format!("cannot use the credentials of `{}`", path.display()), error)
    })?;
    let search_path =
        variable("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect());
    Ok(Some(Arc::new(file.with_helpers(Arc::new(ProcessHelpers { search_path })))))
}

fn registries_conf(session: &Session) -> Result<RegistriesConf> {
    let own = session.settings.home.join(".config/containers/registries.conf");
    let named = variable("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
    let main = named.into_iter().chain([own, PathBuf::from("/etc/containers/registries.conf")]);
    let mut conf = RegistriesConf::default();
    let mut files: Vec<PathBuf> = main.filter(|path| path.is_file()).take(1).collect();
    files.extend(drop_ins("/etc/containers/registries.conf.d"));
    for path in files {
        let Some(bytes) = read(&path)? else { continue };
        let read = RegistriesConf::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| {
            CliError::because(format!("cannot use `{}`", path.display()), error)
        })?;
        conf.merge(read);
    }
    Ok(conf)
}

fn drop_ins(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort();
    files
}

fn existing(folders: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    folders.into_iter().filter(|folder| folder.is_dir()).collect()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    read_limited(path, FILE_SIZE_MAX).doing(|| format!("cannot read `{}`", path.display()))
}

/// Reads a file that may be missing.
fn read_limited(path: &Path, size_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        // A file of another user, as root's in a user namespace, says nothing to this one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(size_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
