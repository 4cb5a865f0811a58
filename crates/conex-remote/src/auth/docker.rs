//! Docker's `config.json` and Podman's `auth.json`, read.
//!
//! Both have the same shape. Podman's keys may name a namespace or a repository
//! (`quay.io/acme/api`), the longest match wins; Docker Hub is `https://index.docker.io/v1/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;

use crate::auth::helper::{self, HelperRunner};
use crate::auth::{Credential, CredentialSource, Web};
use crate::error::{Error, Result};
use crate::limits::CONFIG_SIZE_MAX;
use crate::secret::Secret;

/// The name of Docker Hub in credential files and helpers.
pub(crate) const DOCKER_HUB_SERVER: &str = "https://index.docker.io/v1/";

/// A credentials file.
#[derive(Default, Deserialize)]
pub struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(skip)]
    runner: Option<Arc<dyn HelperRunner>>,
}

impl std::fmt::Debug for AuthFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AuthFile")
            .field("servers", &self.auths.keys().collect::<Vec<_>>())
            .field("store", &self.store)
            .field("helpers", &self.helpers)
            .finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<Secret>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<Secret>,
    #[serde(default, rename = "registrytoken")]
    registry_token: Option<Secret>,
}

impl AuthFile {
    /// Reads a file's content. An empty file is a file without credentials.
    ///
    /// # Errors
    /// It is not JSON of this shape.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > CONFIG_SIZE_MAX {
            return Err(Error::too_large("the credentials file", CONFIG_SIZE_MAX));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        serde_json::from_slice(bytes).map_err(|source| {
            // Only where, not what: the text at that place may be a secret.
            let message = format!(
                "the credentials file is not valid (line {}, column {})",
                source.line(),
                source.column()
            );
            Error::config(message)
        })
    }

    /// Lets the file's `credsStore` and `credHelpers` be asked.
    #[must_use]
    pub fn with_helpers(mut self, runner: Arc<dyn HelperRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// The helper that keeps the credentials of a registry, if there is one, and the name under
    /// which it knows the registry.
    pub(crate) fn helper_for(&self, registry: &str) -> Option<(&str, String)> {
        let server = server_name(registry);
        let own = aliases(registry).iter().find_map(|alias| self.helpers.get(alias).cloned());
        // An empty name in `credHelpers` switches the store off for that registry.
        match own {
            Some(name) if name.is_empty() => None,
            Some(_) => {
                let aliases = aliases(registry);
                let found = aliases.iter().find_map(|alias| self.helpers.get(alias));
                found.map(|name| (name.as_str(), server))
            }
            None => {
                self.store.as_deref().filter(|name| !name.is_empty()).map(|name| (name, server))
            }
        }
    }

    fn kept(&self, registry: &str, repository: &str) -> Result<Option<Credential>> {
        let mut path = if repository.is_empty() {
            registry.to_owned()
        } else {
            format!("{registry}/{repository}")
        };
        // From the repository up to the registry, as containers-auth.json(5) says.
        while path.len() > registry.len() {
            if let Some(entry) = self.auths.get(&path) {
                return entry.credential(&path);
            }
            let Some(end) = path.rfind('/') else { break };
            path.truncate(end);
        }
        for alias in aliases(registry) {
            if let Some(entry) = self.auths.get(&alias)
                && let Some(credential) = entry.credential(&alias)?
            {
                return Ok(Some(credential));
            }
        }
        // Old files hold URLs of all sorts; what counts is the host.
        let same = |key: &&String| host_of(key) == registry;
        match self.auths.keys().find(same).and_then(|key| self.auths.get_key_value(key)) {
            Some((key, entry)) => entry.credential(key),
            None => Ok(None),
        }
    }
}

impl Entry {
    fn credential(&self, key: &str) -> Result<Option<Credential>> {
        let given = |secret: &&Secret| !secret.is_empty();
        if let Some(token) = self.identity_token.as_ref().filter(given) {
            return Ok(Some(Credential::IdentityToken(token.clone())));
        }
        if let Some(token) = self.registry_token.as_ref().filter(given) {
            return Ok(Some(Credential::RegistryToken(token.clone())));
        }
        if let Some(pair) = self.auth.as_ref().filter(given) {
            let wrong =
                || Error::config(format!("the `auth` of `{key}` is not base64 of `user:password`"));
            let text = pair.expose().trim();
            let bytes = STANDARD
                .decode(text)
                .or_else(|_| STANDARD_NO_PAD.decode(text))
                .map_err(|_| wrong())?;
            let text = String::from_utf8(bytes).map_err(|_| wrong())?;
            let (username, password) = text.split_once(':').ok_or_else(wrong)?;
            // Docker once padded passwords with zero bytes.
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credential::password(username, password)));
        }
        match (&self.username, &self.password) {
            (Some(username), Some(password)) => {
                Ok(Some(Credential::password(username.as_str(), password.clone())))
            }
            _ => Ok(None),
        }
    }
}

impl CredentialSource for AuthFile {
    fn credential(
        &self,
        registry: &str,
        repository: &str,
        _: &dyn Web,
    ) -> Result<Option<Credential>> {
        if let (Some(runner), Some((name, server))) = (&self.runner, self.helper_for(registry))
            && let Some(found) = helper::get(runner.as_ref(), name, &server)?
        {
            return Ok(Some(found));
        }
        self.kept(registry, repository)
    }
}

/// The name under which Docker keeps a registry's credentials.
pub(crate) fn server_name(registry: &str) -> String {
    if registry == conex_oci::DEFAULT_REGISTRY {
        DOCKER_HUB_SERVER.to_owned()
    } else {
        registry.to_owned()
    }
}

/// All names under which a registry may be found.
fn aliases(registry: &str) -> Vec<String> {
    let mut names = vec![server_name(registry)];
    if registry == conex_oci::DEFAULT_REGISTRY {
        names.extend(["docker.io", "index.docker.io", "registry-1.docker.io"].map(str::to_owned));
        names.push("https://index.docker.io/v1".to_owned());
    } else {
        names.extend([format!("https://{registry}"), format!("http://{registry}")]);
    }
    names
}

fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    // A key with a path but no scheme names a namespace, not a registry.
    if rest.len() == key.len() && rest.contains('/') {
        return "";
    }
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::helper::HelperOutput;
    use crate::testing::NoWeb;

    fn found(file: &str, registry: &str, repository: &str) -> String {
        let file = match AuthFile::parse(file.as_bytes()) {
            Ok(file) => file.with_helpers(Arc::new(FakeHelper)),
            Err(error) => return format!("error: {error}"),
        };
        match file.credential(registry, repository, &NoWeb) {
            Ok(None) => "none".into(),
            Ok(Some(Credential::Password { username, password })) => {
                format!("{username}:{}", password.expose())
            }
            Ok(Some(Credential::IdentityToken(token))) => format!("identity {}", token.expose()),
            Ok(Some(Credential::RegistryToken(token))) => format!("registry {}", token.expose()),
            Err(error) => format!("error: {error}"),
        }
    }

    /// Knows `helped.io` and says how it was asked.
    struct FakeHelper;

    impl HelperRunner for FakeHelper {
        fn run(&self, program: &str, arguments: &[&str], input: &Secret) -> Result<HelperOutput> {
            assert_eq!(arguments, ["get"]);
            Ok(match input.expose() {
                "helped.io" => HelperOutput::Success(
                    format!(r#"{{"ServerURL":"x","Username":"{program}","Secret":"s"}}"#).into(),
                ),
                "token.io" => HelperOutput::Success(
                    r#"{"ServerURL":"x","Username":"<token>","Secret":"t"}"#.into(),
                ),
                "garbage.io" => HelperOutput::Success("hunter2".into()),
                "broken.io" => HelperOutput::Failure("the keychain is locked".into()),
                _ => HelperOutput::Failure("credentials not found in native keychain".into()),
            })
        }
    }

    #[test]
    fn credentials_are_found_under_every_usual_name() {
        // `dTpw` is `u:p`, `djpx` is `v:q`.
        for (file, registry, repository, wanted) in [
            (r#"{"auths":{"ghcr.io":{"auth":"dTpw"}}}"#, "ghcr.io", "a/b", "u:p"),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#,
                "docker.io",
                "library/a",
                "u:p",
            ),
            (r#"{"auths":{"docker.io":{"auth":"dTpw"}}}"#, "docker.io", "", "u:p"),
            (r#"{"auths":{"https://r.io/v2/":{"auth":"dTpw"}}}"#, "r.io", "", "u:p"),
            (
                r#"{"auths":{"q.io":{"auth":"dTpw"},"q.io/a":{"auth":"djpx"}}}"#,
                "q.io",
                "a/b",
                "v:q",
            ),
            (r#"{"auths":{"q.io":{"auth":"dTpw"},"q.io/a":{"auth":"djpx"}}}"#, "q.io", "ab", "u:p"),
            (r#"{"auths":{"q.io/a":{"auth":"dTpw"}}}"#, "q.io", "b", "none"),
            (r#"{"auths":{"r.io":{"identitytoken":"i","auth":"dTpw"}}}"#, "r.io", "", "identity i"),
            (r#"{"auths":{"r.io":{"registrytoken":"r"}}}"#, "r.io", "", "registry r"),
            (r#"{"auths":{"r.io":{"username":"u","password":"p"}}}"#, "r.io", "", "u:p"),
            (r#"{"auths":{"r.io":{}}}"#, "r.io", "", "none"),
            (r#"{"auths":{"evil-r.io":{"auth":"dTpw"}}}"#, "r.io", "", "none"),
            ("", "r.io", "", "none"),
            ("{}", "r.io", "", "none"),
        ] {
            assert_eq!(found(file, registry, repository), wanted, "{file}");
        }
    }

    #[test]
    fn helpers_are_asked_first() {
        let store = r#"{"credsStore":"desktop","auths":{"other.io":{"auth":"dTpw"}}}"#;
        assert_eq!(found(store, "helped.io", ""), "docker-credential-desktop:s");
        assert_eq!(found(store, "token.io", ""), "identity t");
        assert_eq!(found(store, "other.io", ""), "u:p");
        assert_eq!(
            found(store, "broken.io", ""),
            "error: `docker-credential-desktop get` failed: the keychain is locked"
        );
        let own = r#"{"credsStore":"desktop","credHelpers":{"helped.io":"ecr-login"}}"#;
        assert_eq!(found(own, "helped.io", ""), "docker-credential-ecr-login:s");
        let off = r#"{"credsStore":"desktop","credHelpers":{"helped.io":""}}"#;
        assert_eq!(found(off, "helped.io", ""), "none");
    }

    #[test]
    fn errors_do_not_quote_secrets() {
        let garbage = found(r#"{"credsStore":"x"}"#, "garbage.io", "");
        assert!(garbage.starts_with("error") && !garbage.contains("hunter2"), "{garbage}");
        for file in [r#"{"auths":{"r.io":{"auth":"hunter2!"}}}"#, r#"{"auths":{"r.io":"hunter2"}}"#]
        {
            let text = found(file, "r.io", "");
            assert!(text.starts_with("error") && !text.contains("hunter2"), "{text}");
        }
    }
}
