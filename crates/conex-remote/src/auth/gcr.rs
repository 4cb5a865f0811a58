//! Google's registries: the password is an OAuth access token, from a service account's key, a
//! person's refresh token, the metadata server of a machine, or `gcloud`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{rand, signature};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;

use crate::auth::helper::{HelperOutput, HelperRunner};
use crate::auth::{
    Credential, CredentialSource, Web, WebMethod, WebPlace, WebRequest, WebResponse,
};
use crate::clock::unix_seconds;
use crate::error::{Error, ErrorKind, Result, shown};
use crate::http::url::form;
use crate::secret::Secret;

/// The user name that goes with an access token.
const TOKEN_USER: &str = "oauth2accesstoken";

/// What the token is for. Registries check the account's own rights on top.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Where the metadata server of a machine in Google's cloud is.
pub const GOOGLE_METADATA_SERVER: &str = "http://169.254.169.254";

/// Logs in to Google's registries.
#[derive(Clone)]
pub enum Google {
    /// With application default credentials: the JSON of a service account's key or of
    /// `gcloud auth application-default login`.
    Key(Secret),
    /// As the machine that this runs on; the address of its metadata server.
    Metadata(String),
    /// As whoever `gcloud` is logged in as.
    Gcloud(Arc<dyn HelperRunner>),
}

impl std::fmt::Debug for Google {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Key(_) => "Key(…)",
            Self::Metadata(_) => "Metadata",
            Self::Gcloud(_) => "Gcloud",
        })
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KeyFile {
    ServiceAccount {
        client_email: String,
        private_key: Secret,
        #[serde(default)]
        private_key_id: String,
        #[serde(default = "token_uri")]
        token_uri: String,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: Secret,
        refresh_token: Secret,
        #[serde(default = "token_uri")]
        token_uri: String,
    },
}

fn token_uri() -> String {
    "https://oauth2.googleapis.com/token".to_owned()
}

#[derive(Deserialize)]
struct AccessToken {
    access_token: Secret,
}

#[derive(Deserialize)]
struct GcloudAnswer {
    credential: AccessToken,
}

fn is_google(registry: &str) -> bool {
    registry == "gcr.io" || registry.ends_with(".gcr.io") || registry.ends_with(".pkg.dev")
}

impl Google {
    /// Whether a registry is Google's.
    pub fn serves(registry: &str) -> bool {
        is_google(registry)
    }
}

impl CredentialSource for Google {
    fn credential(&self, registry: &str, _: &str, web: &dyn Web) -> Result<Option<Credential>> {
        if !is_google(registry) {
            return Ok(None);
        }
        let token = match self {
            Self::Key(json) => token_by_key(json, web)?,
            Self::Metadata(server) => match token_of_machine(server, web)? {
                Some(token) => token,
                None => return Ok(None),
            },
            Self::Gcloud(runner) => token_of_gcloud(runner.as_ref())?,
        };
        Ok(Some(Credential::password(TOKEN_USER, token)))
    }
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::credentials(format!("cannot get an access token from Google: {why}"))
}

fn accept(answer: &WebResponse) -> Result<Secret> {
    if answer.status != 200 {
        let why = shown(&String::from_utf8_lossy(&answer.body), 200);
        return Err(failed(format!("{} {why}", answer.status)).with_status(answer.status));
    }
    let token: AccessToken =
        serde_json::from_slice(&answer.body).map_err(|_| failed("the answer holds none"))?;
    Ok(token.access_token)
}

fn post(web: &dyn Web, url: String, pairs: &[(&str, &str)]) -> Result<Secret> {
    let headers = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    let body = form(pairs).into_bytes();
    accept(&web.exchange(WebRequest {
        method: WebMethod::Post,
        url,
        headers,
        body,
        place: WebPlace::World,
    })?)
}

fn token_by_key(json: &Secret, web: &dyn Web) -> Result<Secret> {
    // The parser's message could quote the key.
    let key: KeyFile = serde_json::from_str(json.expose()).map_err(|_| {
        failed("the key file is neither of a service account nor of a user")
            .with_hint("conex knows no `external_account`: use `docker-credential-gcr`")
    })?;
    match key {
        KeyFile::ServiceAccount { client_email, private_key, private_key_id, token_uri } => {
            let now = unix_seconds(web.now());
            let header = serde_json::json!({
                "alg": "RS256", "typ": "JWT", "kid": private_key_id,
            });
            let claims = serde_json::json!({
                "iss": client_email, "scope": SCOPE, "aud": token_uri,
                "iat": now, "exp": now + 3600,
            });
            let assertion = signed_jwt(&header, &claims, &private_key)?;
            let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            let pairs = [("grant_type", grant), ("assertion", assertion.expose())];
            post(web, token_uri, &pairs)
        }
        KeyFile::AuthorizedUser { client_id, client_secret, refresh_token, token_uri } => {
            let pairs = [
                ("grant_type", "refresh_token"),
                ("client_id", &client_id),
                ("client_secret", client_secret.expose()),
                ("refresh_token", refresh_token.expose()),
            ];
            post(web, token_uri, &pairs)
        }
    }
}

/// None where nobody is there to ask, or the machine has no account.
fn token_of_machine(server: &str, web: &dyn Web) -> Result<Option<Secret>> {
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let answer = web.exchange(WebRequest {
        method: WebMethod::Get,
        url: format!("{}{path}", server.trim_end_matches('/')),
        headers: vec![("metadata-flavor".to_owned(), "Google".to_owned())],
        body: Vec::new(),
        place: WebPlace::Machine,
    });
    match answer {
        Ok(answer) if answer.status == 404 => Ok(None),
        Ok(answer) => accept(&answer).map(Some),
        Err(error) if error.kind() == ErrorKind::Network => Ok(None),
        Err(error) => Err(error),
    }
}

fn token_of_gcloud(runner: &dyn HelperRunner) -> Result<Secret> {
    let arguments =
        ["config", "config-helper", "--force-auth-refresh", "--format=json(credential)"];
    match runner.run("gcloud", &arguments, &Secret::new(""))? {
        HelperOutput::Success(output) => {
            let answer: GcloudAnswer = serde_json::from_str(output.expose())
                .map_err(|_| failed("`gcloud config config-helper` printed none"))?;
            Ok(answer.credential.access_token)
        }
        HelperOutput::Failure(why) => {
            let error = failed(format!("`gcloud` failed: {why}"));
            Err(error.with_hint("log in with `gcloud auth login`"))
        }
    }
}

/// Makes a JSON Web Token, signed with RSA and SHA-256.
fn signed_jwt(
    header: &serde_json::Value,
    claims: &serde_json::Value,
    key: &Secret,
) -> Result<Secret> {
    let unusable = || failed("the service account's private key cannot be used");
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(header), encode(claims));
    let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| unusable())?;
    let pair = match &der {
        PrivateKeyDer::Pkcs8(der) => signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => signature::RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(unusable()),
    };
    let pair = pair.map_err(|_| unusable())?;
    let mut bytes = vec![0; pair.public().modulus_len()];
    let random = rand::SystemRandom::new();
    pair.sign(&signature::RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut bytes)
        .map_err(|_| unusable())?;
    Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_googles_registries_are_googles() {
        for (registry, wanted) in [
            ("gcr.io", true),
            ("eu.gcr.io", true),
            ("europe-docker.pkg.dev", true),
            ("evilgcr.io", false),
            ("gcr.io.example", false),
        ] {
            assert_eq!(is_google(registry), wanted, "{registry}");
        }
    }

    #[test]
    fn a_broken_key_file_is_not_quoted() {
        let google = Google::Key(r#"{"type":"service_account","private_key":"hunter2""#.into());
        let error = google.credential("gcr.io", "", &crate::testing::NoWeb).unwrap_err();
        assert!(!format!("{error:?} {google:?}").contains("hunter2"));
    }
}
