//! `login` and `logout`: writes Docker's `config.json` and Podman's `auth.json`.
//!
//! Invariant: the file is replaced as a whole or not at all, only its owner can read it, and what
//! this crate does not know in it stays.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::auth::docker::{AuthFile, server_name};
use crate::auth::helper::{self, HelperRunner};
use crate::config::read_file;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Where a credential was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Into the file itself, where base64 hides nothing.
    File,
    /// Into the keeping of a helper (`docker-credential-NAME`).
    Helper(String),
}

/// Keeps a user name and password for a registry, in a credentials file or in the helper that the
/// file names.
///
/// # Errors
/// The file cannot be read or written, or the helper failed.
pub fn login(
    path: &Path,
    registry: &str,
    username: &str,
    password: &Secret,
    helpers: &dyn HelperRunner,
) -> Result<Kept> {
    if username.contains(':') || username.is_empty() {
        return Err(Error::credentials("a user name is not empty and holds no `:`"));
    }
    let locked = Locked::open(path)?;
    let mut document = locked.read()?;
    let file = locked.parse(&document)?;
    let server = server_name(registry);
    if let Some((name, server)) = file.helper_for(registry) {
        helper::store(helpers, name, &server, username, password)?;
        // Docker writes an empty entry, from which it lists who is logged in.
        auths(&mut document)?.insert(server, Value::Object(Map::new()));
        let kept = Kept::Helper(name.to_owned());
        locked.write(&document)?;
        return Ok(kept);
    }
    let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
    let entry = auths(&mut document)?.entry(server).or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    if let Some(entry) = entry.as_object_mut() {
        // What else stood there belonged to the former login.
        for old in ["identitytoken", "registrytoken", "username", "password"] {
            entry.remove(old);
        }
        entry.insert("auth".to_owned(), Value::String(pair));
    }
    locked.write(&document)?;
    Ok(Kept::File)
}

/// Forgets the credential for a registry. False when there was none.
///
/// # Errors
/// As [`login`].
pub fn logout(path: &Path, registry: &str, helpers: &dyn HelperRunner) -> Result<bool> {
    let locked = Locked::open(path)?;
    let mut document = locked.read()?;
    let file = locked.parse(&document)?;
    if let Some((name, server)) = file.helper_for(registry) {
        helper::erase(helpers, name, &server)?;
    }
    let removed = match document.get_mut("auths").and_then(Value::as_object_mut) {
        Some(auths) => {
            let server = server_name(registry);
            [server.as_str(), registry, &format!("https://{registry}")]
                .iter()
                .filter(|name| auths.remove(**name).is_some())
                .count()
                > 0
        }
        None => false,
    };
    if removed {
        locked.write(&document)?;
    }
    Ok(removed)
}

fn auths(document: &mut Map<String, Value>) -> Result<&mut Map<String, Value>> {
    let entry = document.entry("auths").or_insert_with(|| Value::Object(Map::new()));
    entry.as_object_mut().ok_or_else(|| Error::config("`auths` in the file is not an object"))
}

/// A credentials file that no other process changes meanwhile (as far as they look).
struct Locked {
    path: PathBuf,
    folder: PathBuf,
    _lock: File,
}

impl Locked {
    fn open(path: &Path) -> Result<Self> {
        let failed = |source: std::io::Error| {
            Error::credentials(format!("cannot change `{}`", path.display())).with_source(source)
        };
        // A link (people keep such files elsewhere) stays a link: what it points to is changed.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::open(&folder).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { path, folder, _lock: lock })
    }

    fn read(&self) -> Result<Map<String, Value>> {
        let bytes = read_file(&self.path)?.unwrap_or_default();
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Map::new());
        }
        serde_json::from_slice(&bytes).map_err(|_| {
            Error::config(format!("`{}` is not a JSON object", self.path.display()))
                .with_hint(format!("mend or remove `{}`", self.path.display()))
        })
    }

    fn parse(&self, document: &Map<String, Value>) -> Result<AuthFile> {
        AuthFile::parse(Value::Object(document.clone()).to_string().as_bytes())
            .map_err(|error| error.during(format!("cannot use `{}`", self.path.display())))
    }

    fn write(&self, document: &Map<String, Value>) -> Result<()> {
        let failed = |source: std::io::Error| {
            Error::credentials(format!("cannot write `{}`", self.path.display()))
                .with_source(source)
        };
        let mut bytes =
            serde_json::to_vec_pretty(document).expect("a JSON value always serialises");
        bytes.push(b'\n');
        let mut file = tempfile::Builder::new()
            .prefix(".conex-auth-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)
            .map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::auth::helper::HelperOutput;

    /// Remembers what it was told.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl HelperRunner for Recorder {
        fn run(&self, program: &str, arguments: &[&str], input: &Secret) -> Result<HelperOutput> {
            let line = format!("{program} {} {}", arguments.join(" "), input.expose());
            self.0.lock().unwrap().push(line);
            Ok(HelperOutput::Success("".into()))
        }
    }

    #[test]
    fn a_login_is_kept_and_forgotten_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/config.json");
        let none = Recorder::default();
        login(&path, "docker.io", "u", &"p".into(), &none).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("https://index.docker.io/v1/") && text.contains("dTpw"), "{text}");

        let with_extra =
            r#"{"proxies":{"a":1},"auths":{"r.io":{"identitytoken":"x","email":"e"}}}"#;
        fs::write(&path, with_extra).unwrap();
        assert_eq!(login(&path, "r.io", "u", &"p".into(), &none).unwrap(), Kept::File);
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(document["proxies"]["a"], 1);
        assert_eq!(document["auths"]["r.io"], serde_json::json!({"email":"e","auth":"dTpw"}));
        assert!(logout(&path, "r.io", &none).unwrap());
        assert!(!logout(&path, "r.io", &none).unwrap());
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(document["proxies"]["a"], 1);
        assert!(none.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_helper_keeps_what_the_file_must_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"credsStore":"desktop"}"#).unwrap();
        let helper = Recorder::default();
        let kept = login(&path, "docker.io", "u", &"hunter2".into(), &helper).unwrap();
        assert_eq!(kept, Kept::Helper("desktop".into()));
        assert!(!fs::read_to_string(&path).unwrap().contains("hunter2"));
        logout(&path, "docker.io", &helper).unwrap();
        let said = helper.0.into_inner().unwrap();
        assert!(
            said[0].starts_with("docker-credential-desktop store {") && said[0].contains("hunter2")
        );
        assert_eq!(said[1], "docker-credential-desktop erase https://index.docker.io/v1/");
    }

    #[test]
    fn links_stay_links_and_broken_files_stay_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.json");
        let link = folder.path().join("config.json");
        fs::write(&real, "{}").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        login(&link, "r.io", "u", &"p".into(), &Recorder::default()).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("dTpw"));
        fs::write(&real, "[broken").unwrap();
        assert!(login(&link, "r.io", "u", &"p".into(), &Recorder::default()).is_err());
        assert_eq!(fs::read_to_string(&real).unwrap(), "[broken");
        assert!(login(&link, "r.io", "a:b", &"p".into(), &Recorder::default()).is_err());
    }
}
