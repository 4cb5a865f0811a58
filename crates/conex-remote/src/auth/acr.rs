//! Azure's registries: an Entra ID access token is exchanged, at the registry itself, for a refresh
//! token, which its token server then takes.

use serde::Deserialize;

use crate::auth::{Credential, CredentialSource, Web, WebMethod, WebRequest, WebResponse};
use crate::error::{Error, Result, shown};
use crate::http::url::{encoded, form};
use crate::secret::Secret;

/// Where machines in Azure ask who they are.
pub const AZURE_METADATA_SERVER: &str = "http://169.254.169.254";

/// Where Entra ID gives out tokens.
pub const AZURE_LOGIN_SERVER: &str = "https://login.microsoftonline.com";

/// What an Entra ID token must be for so that a registry takes it.
const RESOURCE: &str = "https://management.azure.com/";

/// Who logs in to Azure's registries.
#[derive(Debug, Clone)]
pub enum AzureIdentity {
    /// Somebody who has an Entra ID access token already.
    AccessToken(Secret),
    /// A service principal with a secret.
    ServicePrincipal {
        /// The tenant.
        tenant: String,
        /// The application.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
        /// The login server, [`AZURE_LOGIN_SERVER`] usually.
        login_server: String,
    },
    /// The machine that this runs on.
    Machine {
        /// Which of several identities of the machine.
        client_id: Option<String>,
        /// The metadata server, [`AZURE_METADATA_SERVER`] usually.
        metadata_server: String,
    },
}

/// Logs in to Azure's registries.
#[derive(Debug, Clone)]
pub struct Azure {
    /// Who logs in.
    pub identity: AzureIdentity,
    /// The tenant, where the registry's own is not meant.
    pub tenant: Option<String>,
    /// Another address than `https://<registry>` for the exchange, for private endpoints.
    pub endpoint: Option<String>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
}

fn is_azure(registry: &str) -> bool {
    [".azurecr.io", ".azurecr.cn", ".azurecr.us", ".azurecr.de"]
        .iter()
        .any(|suffix| registry.len() > suffix.len() && registry.ends_with(suffix))
}

impl CredentialSource for Azure {
    fn credential(&self, registry: &str, _: &str, web: &dyn Web) -> Result<Option<Credential>> {
        if !is_azure(registry) {
            return Ok(None);
        }
        let access = self.identity.access_token(web)?;
        let mut pairs = vec![
            ("grant_type", "access_token"),
            ("service", registry),
            ("access_token", access.expose()),
        ];
        if let Some(tenant) = &self.tenant {
            pairs.push(("tenant", tenant));
        }
        let own = format!("https://{registry}");
        let base = self.endpoint.as_deref().unwrap_or(&own);
        let url = format!("{}/oauth2/exchange", base.trim_end_matches('/'));
        let tokens = accept(&web.exchange(posted(url, &pairs))?)?;
        let refresh = tokens.refresh_token.ok_or_else(|| failed("the registry gave none"))?;
        Ok(Some(Credential::IdentityToken(refresh)))
    }
}

impl AzureIdentity {
    fn access_token(&self, web: &dyn Web) -> Result<Secret> {
        let request = match self {
            Self::AccessToken(token) => return Ok(token.clone()),
            Self::ServicePrincipal { tenant, client_id, client_secret, login_server } => {
                let server = login_server.trim_end_matches('/');
                let scope = format!("{RESOURCE}.default");
                let pairs = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id.as_str()),
                    ("client_secret", client_secret.expose()),
                    ("scope", scope.as_str()),
                ];
                posted(format!("{server}/{}/oauth2/v2.0/token", encoded(tenant)), &pairs)
            }
            Self::Machine { client_id, metadata_server } => {
                let server = metadata_server.trim_end_matches('/');
                let mut url = format!(
                    "{server}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={}",
                    encoded(RESOURCE)
                );
                if let Some(id) = client_id {
                    url.push_str(&format!("&client_id={}", encoded(id)));
                }
                WebRequest {
                    method: WebMethod::Get,
                    url,
                    headers: vec![("metadata".to_owned(), "true".to_owned())],
                    body: Vec::new(),
                }
            }
        };
        let tokens = accept(&web.exchange(request)?)?;
        tokens.access_token.ok_or_else(|| failed("Entra ID gave none"))
    }
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::credentials(format!("cannot get a token from Azure: {why}"))
}

fn posted(url: String, pairs: &[(&str, &str)]) -> WebRequest {
    let kind = "application/x-www-form-urlencoded".to_owned();
    WebRequest {
        method: WebMethod::Post,
        url,
        headers: vec![("content-type".to_owned(), kind)],
        body: form(pairs).into_bytes(),
    }
}

fn accept(answer: &WebResponse) -> Result<Tokens> {
    if answer.status != 200 {
        let why = shown(&String::from_utf8_lossy(&answer.body), 200);
        return Err(failed(format!("{} {why}", answer.status)).with_status(answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|_| failed("the answer holds none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_azures_registries_are_azures() {
        assert!(is_azure("acme.azurecr.io") && is_azure("acme.azurecr.cn"));
        assert!(!is_azure(".azurecr.io") && !is_azure("acme.azurecr.io.example"));
    }
}
