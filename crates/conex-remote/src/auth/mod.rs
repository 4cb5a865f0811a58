//! Who is asking: credentials and where they come from.
//!
//! Nothing here looks at the environment: files, commands and addresses are given by the caller.

pub(crate) mod acr;
pub(crate) mod aws;
pub(crate) mod challenge;
pub(crate) mod docker;
pub(crate) mod ecr;
pub(crate) mod gcr;
pub(crate) mod helper;
pub(crate) mod login;
pub(crate) mod scope;
pub(crate) mod token;

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Result;
use crate::secret::Secret;

/// What this side shows to a registry or its token server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password (or an access token in the place of one).
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token that a token server exchanges for access tokens.
    IdentityToken(Secret),
    /// A token that is sent to the registry as it is.
    RegistryToken(Secret),
}

impl Credential {
    /// User name and password.
    pub fn password(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::Password { username: username.into(), password: password.into() }
    }

    /// The value of an `Authorization: Basic` header.
    pub(crate) fn basic(username: &str, password: &Secret) -> Secret {
        let pair = format!("{username}:{}", password.expose());
        Secret::new(format!("Basic {}", STANDARD.encode(pair)))
    }
}

/// A place where credentials may be found.
pub trait CredentialSource: Send + Sync {
    /// The credential for a registry (`docker.io`, `localhost:5000`) and, where the source
    /// distinguishes them, a repository in it (empty when the registry as a whole is meant).
    ///
    /// # Errors
    /// The place cannot be read, or an exchange failed. That there is nothing is no error.
    fn credential(
        &self,
        registry: &str,
        repository: &str,
        web: &dyn Web,
    ) -> Result<Option<Credential>>;
}

/// One small request that a credential source needs made.
#[derive(Clone)]
pub struct WebRequest {
    /// `GET` or `POST`.
    pub method: WebMethod,
    /// Where to.
    pub url: String,
    /// Headers besides those that every request has.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Who answers.
    pub place: WebPlace,
}

/// The methods that token exchanges use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebMethod {
    /// Reads.
    Get,
    /// Sends a body.
    Post,
    /// Asks the metadata server of Amazon's machines for a session.
    Put,
}

/// Who answers a [`WebRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebPlace {
    /// A server somewhere.
    World,
    /// The metadata server of the machine that this runs on: next door if it is there at all, so
    /// nobody waits long for it, and never behind a proxy.
    Machine,
}

/// The answer to a [`WebRequest`].
pub struct WebResponse {
    /// The HTTP status.
    pub status: u16,
    /// The body; at most a few megabytes.
    pub body: Vec<u8>,
}

/// Makes the small requests of credential sources.
pub trait Web {
    /// Sends a request and reads the answer, whatever its status.
    ///
    /// # Errors
    /// There was no answer.
    fn exchange(&self, request: WebRequest) -> Result<WebResponse>;

    /// The wall clock.
    fn now(&self) -> SystemTime;

    /// How a registry is reached: with TLS, unless it is known to have none and the person takes
    /// that.
    fn registry_url(&self, registry: &str) -> String {
        format!("https://{registry}")
    }
}

/// One credential for one registry, as given on a command line.
#[derive(Debug, Clone)]
pub struct FixedCredential {
    /// The registry; none means every registry.
    pub registry: Option<String>,
    /// The credential.
    pub credential: Credential,
}

impl CredentialSource for FixedCredential {
    fn credential(&self, registry: &str, _: &str, _: &dyn Web) -> Result<Option<Credential>> {
        let meant = self.registry.as_deref().is_none_or(|own| own == registry);
        Ok(meant.then(|| self.credential.clone()))
    }
}
