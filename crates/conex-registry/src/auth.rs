//! Who may do what: names and passwords from a file as `htpasswd -B` writes it, and what those
//! may who give none.
//!
//! Passwords come with each request (Basic). Only where those without a name may pull too, clients
//! are sent for a token first: docker gives up without credentials when it is asked for a password,
//! and never sends one when it is not; a token it fetches either way.
//!
//! Invariant: the answer to wrong or missing credentials depends on nothing but them, and comes
//! before anything else is looked at, so that it tells nothing about what is here.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use ring::hmac;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::answer::{Answer, Code, Refusal, document};
use crate::blobs::random;
use crate::error::{Error, Result};
use crate::time::Moment;

/// Largest password file.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// How long a password that was right needs no second look: bcrypt takes 50 ms and more.
const CACHE_FOR: Duration = Duration::from_secs(60);

/// Most passwords that are remembered.
const CACHE_COUNT_MAX: usize = 10_000;

/// How often the file is looked at for changes, at the most.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Passwords that are checked at once: more would only take the processor from who is let in.
const CHECK_COUNT_MAX: usize = 2;

/// Checked where the file has no hash at all.
const NOBODY: &str = "$2y$05$abcdefghijklmnopqrstuuN0.kBGWqXyMbq2qbrEdS7FKN1hH3i2e";

/// What those may who give no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    None,
    /// Fetch and list.
    Pull,
    /// Everything.
    Full,
}

/// Who may do what.
pub(crate) struct Access {
    users: Option<Users>,
    anonymous: Anonymous,
    /// Whether the registry itself speaks TLS.
    is_https: bool,
    /// What tokens are signed with: they end with this process at the latest.
    key: hmac::Key,
}

/// Where tokens are given out.
pub(crate) const TOKEN_PATH: &str = "/v2/_conex/token";

/// How long a token is good for.
const TOKEN_FOR: Duration = Duration::from_secs(300);

/// Who asks.
enum Who {
    Nobody,
    Known(String),
    Stranger,
}

struct Users {
    path: PathBuf,
    file: Mutex<Loaded>,
    /// When a name and its password were right; by a digest that is worth nothing elsewhere.
    right: Mutex<HashMap<[u8; 32], Instant>>,
    salt: [u8; 32],
    checks: Semaphore,
}

struct Loaded {
    hashes: Arc<HashMap<String, String>>,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl Access {
    /// Reads the password file, if there is one.
    pub(crate) fn new(users: Option<&Path>, anonymous: Anonymous, is_https: bool) -> Result<Self> {
        let users = users.map(Users::open).transpose()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?);
        Ok(Self { users, anonymous, is_https, key })
    }

    /// Lets a request in: gives the user's name, or none if it may come without.
    pub(crate) async fn admit(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        now: Moment,
    ) -> std::result::Result<Option<String>, Refusal> {
        let is_pull = method == Method::GET || method == Method::HEAD;
        match self.who(headers, now).await? {
            Who::Known(name) => return Ok(Some(name)),
            // Wrong credentials are wrong even for what may be done without.
            Who::Stranger => {}
            Who::Nobody => match self.anonymous {
                Anonymous::Full => return Ok(None),
                // Asked without anything, it says where tokens are.
                Anonymous::Pull
                    if self.has_tokens()
                        && path.trim_end_matches('/') == "/v2"
                        && !headers.contains_key(header::AUTHORIZATION) => {}
                Anonymous::Pull if is_pull => return Ok(None),
                _ => {}
            },
        }
        Err(self.refused(headers))
    }

    fn has_tokens(&self) -> bool {
        self.users.is_some() && self.anonymous == Anonymous::Pull
    }

    async fn who(&self, headers: &HeaderMap, now: Moment) -> std::result::Result<Who, Refusal> {
        let (Some(users), Some(given)) = (&self.users, headers.get(header::AUTHORIZATION)) else {
            return Ok(Who::Nobody);
        };
        let given = given.to_str().unwrap_or_default();
        if let Some(token) = given.strip_prefix("Bearer ") {
            return Ok(self.read_token(token.trim(), now));
        }
        match basic(given) {
            // What some clients send who have neither.
            Some((name, password)) if name.is_empty() && password.is_empty() => Ok(Who::Nobody),
            Some((name, password)) if users.check(&name, &password).await? => Ok(Who::Known(name)),
            _ => Ok(Who::Stranger),
        }
    }

    /// Gives out a token, as the distribution project's token specification has it.
    pub(crate) async fn token(&self, headers: &HeaderMap, now: Moment) -> Answer {
        let name = match self.who(headers, now).await? {
            Who::Known(name) => name,
            Who::Nobody if self.has_tokens() => String::new(),
            _ => return Err(refused("Basic realm=\"conex registry\", charset=\"UTF-8\"")),
        };
        let text = format!("{}:{name}", now.after(TOKEN_FOR).0);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signature = hmac::sign(&self.key, text.as_bytes());
        let token = format!("{}.{}", encode(text.as_bytes()), encode(signature.as_ref()));
        let text = json!({
            "token": token,
            "access_token": token,
            "expires_in": TOKEN_FOR.as_secs(),
            "issued_at": now.rfc3339(),
        });
        Ok(document(StatusCode::OK, "application/json", text.to_string().into()))
    }

    fn read_token(&self, token: &str, now: Moment) -> Who {
        let read = || {
            let (text, signature) = token.split_once('.')?;
            let text = URL_SAFE_NO_PAD.decode(text).ok()?;
            let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
            hmac::verify(&self.key, &text, &signature).ok()?;
            let text = String::from_utf8(text).ok()?;
            let (until, name) = text.split_once(':')?;
            (Moment(until.parse().ok()?) > now).then(|| name.to_owned())
        };
        match read() {
            None => Who::Stranger,
            Some(name) if name.is_empty() => Who::Nobody,
            Some(name) => Who::Known(name),
        }
    }

    fn refused(&self, headers: &HeaderMap) -> Refusal {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let host = text(header::HOST).filter(|host| {
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
        });
        match host.filter(|_| self.has_tokens()) {
            Some(host) => {
                let is_https = self.is_https
                    || text(HeaderName::from_static("x-forwarded-proto")) == Some("https");
                let scheme = if is_https { "https" } else { "http" };
                refused(&format!(
                    "Bearer realm=\"{scheme}://{host}{TOKEN_PATH}\",service=\"conex registry\""
                ))
            }
            None => refused("Basic realm=\"conex registry\", charset=\"UTF-8\""),
        }
    }
}

fn refused(challenge: &str) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "log in first")
        .with(header::WWW_AUTHENTICATE, challenge)
}

/// Name and password of an `Authorization` header.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

impl Users {
    fn open(path: &Path) -> Result<Self> {
        let (hashes, modified) = load(path)?;
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(Loaded { hashes: Arc::new(hashes), modified, looked: Instant::now() }),
            right: Mutex::default(),
            salt: random::<32>()?,
            checks: Semaphore::new(CHECK_COUNT_MAX),
        })
    }

    /// The names and their hashes, read again when the file changed.
    fn hashes(&self) -> Arc<HashMap<String, String>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.looked.elapsed() >= RELOAD_EVERY {
            file.looked = Instant::now();
            let modified = fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
            // A file that is being replaced or is damaged leaves all as it was.
            if modified.is_some()
                && modified != file.modified
                && let Ok((hashes, modified)) = load(&self.path)
            {
                file.hashes = Arc::new(hashes);
                file.modified = modified;
            }
        }
        file.hashes.clone()
    }

    async fn check(&self, name: &str, password: &str) -> std::result::Result<bool, Refusal> {
        let hashes = self.hashes();
        let known = hashes.get(name);
        // For an unknown name another's is checked, so that it takes as long.
        let other = || hashes.values().next().map_or(NOBODY, String::as_str);
        let hash = known.map_or_else(other, String::as_str).to_owned();
        let key: [u8; 32] = Sha256::new()
            .chain_update(self.salt)
            .chain_update((name.len() as u64).to_le_bytes())
            .chain_update(name)
            .chain_update(password)
            .chain_update(&hash)
            .finalize()
            .into();
        if known.is_some() && self.is_remembered(&key) {
            return Ok(true);
        }
        // The semaphore is never closed.
        let _turn = self.checks.acquire().await;
        if known.is_some() && self.is_remembered(&key) {
            return Ok(true);
        }
        let password = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        let is_right = known.is_some() && matches!(verified, Ok(Ok(true)));
        if is_right {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= CACHE_COUNT_MAX {
                right.retain(|_, since| since.elapsed() < CACHE_FOR);
            }
            if right.len() < CACHE_COUNT_MAX {
                right.insert(key, Instant::now());
            }
        }
        Ok(is_right)
    }

    fn is_remembered(&self, key: &[u8; 32]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(key).is_some_and(|since| since.elapsed() < CACHE_FOR)
    }
}

type Hashes = (HashMap<String, String>, Option<SystemTime>);

fn load(path: &Path) -> Result<Hashes> {
    let act = |source| Error::io("read the password file", path, source);
    let metadata = fs::metadata(path).map_err(act)?;
    if metadata.len() > FILE_SIZE_MAX {
        return Err(Error::invalid(format!(
            "`{}` is too big to be a password file",
            path.display()
        )));
    }
    let text = fs::read_to_string(path).map_err(act)?;
    let hashes = parse(&text).map_err(|line| {
        let message = format!(
            "line {line} of the password file `{}` is not a name and a bcrypt hash",
            path.display()
        );
        Error::invalid(message).with_hint("write it with `htpasswd -B`")
    })?;
    Ok((hashes, metadata.modified().ok()))
}

/// Reads lines `name:hash`; the error is the number of the first wrong one.
fn parse(text: &str) -> std::result::Result<HashMap<String, String>, usize> {
    let mut hashes = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) = line.split_once(':').ok_or(number)?;
        let is_bcrypt = ["$2y$", "$2b$", "$2a$"].iter().any(|kind| hash.starts_with(kind));
        if name.is_empty() || !is_bcrypt || hash.len() != 60 {
            return Err(number);
        }
        hashes.insert(name.to_owned(), hash.to_owned());
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bcrypt_lines_are_taken() {
        let good = format!("# people\n\nana:{NOBODY}\n");
        assert_eq!(parse(&good).unwrap().keys().collect::<Vec<_>>(), ["ana"]);
        for (text, line) in [("ana", 1), ("\nana:secret", 2), (":x", 1), ("a:{SHA}abc", 1)] {
            assert_eq!(parse(text), Err(line), "{text}");
        }
    }

    #[test]
    fn credentials_are_read() {
        let header = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let given = |text: &str| basic(&format!("Basic {}", header(text)));
        assert_eq!(given("a:b:c"), Some(("a".to_owned(), "b:c".to_owned())));
        assert_eq!(given("ab"), None);
        assert_eq!(basic("Bearer abc"), None);
        assert_eq!(basic("Basic ???"), None);
    }

    #[test]
    fn nobody_has_a_hash_that_takes_as_long_as_others() {
        assert!(matches!(bcrypt::verify("x", NOBODY), Ok(false)));
    }
}
