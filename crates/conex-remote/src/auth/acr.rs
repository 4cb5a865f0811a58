//! Azure's registries: an Entra ID access token is exchanged, at the registry itself, for a refresh
//! token, which its token server then takes.

use std::sync::Arc;

use serde::Deserialize;

use crate::auth::helper::{HelperOutput, HelperRunner};
use crate::auth::{
    Credential, CredentialSource, Web, WebMethod, WebPlace, WebRequest, WebResponse,
};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::http::url::{encoded, form};
use crate::secret::Secret;

/// Where machines in Azure ask who they are.
pub const AZURE_METADATA_SERVER: &str = "http://169.254.169.254";

/// Where Entra ID gives out tokens.
pub const AZURE_LOGIN_SERVER: &str = "https://login.microsoftonline.com";

/// What an Entra ID token must be for so that a registry takes it.
const RESOURCE: &str = "https://management.azure.com/";

/// Who logs in to Azure's registries.
#[derive(Clone)]
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
    /// A workload whose own token (a pod's, of its cluster) Entra ID trusts.
    Federated {
        /// The tenant.
        tenant: String,
        /// The application.
        client_id: String,
        /// The workload's token.
        assertion: Secret,
        /// The login server, [`AZURE_LOGIN_SERVER`] usually.
        login_server: String,
    },
    /// The service (App Service, Container Apps) that this runs in.
    Service {
        /// Where it asks.
        endpoint: String,
        /// What it shows.
        header: Secret,
        /// Which of several identities.
        client_id: Option<String>,
    },
    /// The machine that this runs on.
    Machine {
        /// Which of several identities of the machine.
        client_id: Option<String>,
        /// The metadata server, [`AZURE_METADATA_SERVER`] usually.
        metadata_server: String,
    },
    /// Whoever `az` is logged in as.
    Cli(Arc<dyn HelperRunner>),
}

impl std::fmt::Debug for AzureIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::AccessToken(_) => "AccessToken(…)",
            Self::ServicePrincipal { .. } => "ServicePrincipal",
            Self::Federated { .. } => "Federated",
            Self::Service { .. } => "Service",
            Self::Machine { .. } => "Machine",
            Self::Cli(_) => "Cli",
        })
    }
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

impl Azure {
    /// Whether a registry is Azure's.
    pub fn serves(registry: &str) -> bool {
        is_azure(registry)
    }
}

impl CredentialSource for Azure {
    fn credential(&self, registry: &str, _: &str, web: &dyn Web) -> Result<Option<Credential>> {
        if !is_azure(registry) {
            return Ok(None);
        }
        let Some(access) = self.identity.access_token(web)? else { return Ok(None) };
        let mut pairs = vec![
            ("grant_type", "access_token"),
            ("service", registry),
            ("access_token", access.expose()),
        ];
        if let Some(tenant) = &self.tenant {
            pairs.push(("tenant", tenant));
        }
        let own = web.registry_url(registry);
        let base = self.endpoint.as_deref().unwrap_or(&own);
        let url = format!("{}/oauth2/exchange", base.trim_end_matches('/'));
        let tokens = accept(&web.exchange(posted(url, &pairs))?)?;
        let refresh = tokens.refresh_token.ok_or_else(|| failed("the registry gave none"))?;
        Ok(Some(Credential::IdentityToken(refresh)))
    }
}

impl AzureIdentity {
    /// The token of Entra ID; none where nobody is there to ask.
    fn access_token(&self, web: &dyn Web) -> Result<Option<Secret>> {
        let request = match self {
            Self::AccessToken(token) => return Ok(Some(token.clone())),
            Self::Cli(runner) => return token_of_cli(runner.as_ref()).map(Some),
            Self::Federated { tenant, client_id, assertion, login_server } => {
                let server = login_server.trim_end_matches('/');
                let scope = format!("{RESOURCE}.default");
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                let pairs = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id.as_str()),
                    ("client_assertion_type", kind),
                    ("client_assertion", assertion.expose()),
                    ("scope", scope.as_str()),
                ];
                posted(format!("{server}/{}/oauth2/v2.0/token", encoded(tenant)), &pairs)
            }
            Self::Service { endpoint, header, client_id } => {
                let mut url =
                    format!("{endpoint}?api-version=2019-08-01&resource={}", encoded(RESOURCE));
                if let Some(id) = client_id {
                    url.push_str(&format!("&client_id={}", encoded(id)));
                }
                asked(url, "x-identity-header", header.expose())
            }
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
                asked(url, "metadata", "true")
            }
        };
        let answer = match web.exchange(request) {
            Err(error)
                if error.kind() == ErrorKind::Network && matches!(self, Self::Machine { .. }) =>
            {
                return Ok(None);
            }
            answer => answer?,
        };
        let tokens = accept(&answer)?;
        tokens.access_token.ok_or_else(|| failed("Entra ID gave none")).map(Some)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CliAnswer {
    access_token: Secret,
}

fn token_of_cli(runner: &dyn HelperRunner) -> Result<Secret> {
    let arguments = ["account", "get-access-token", "--resource", RESOURCE, "--output", "json"];
    match runner.run("az", &arguments, &Secret::new(""))? {
        HelperOutput::Success(output) => {
            let answer: CliAnswer = serde_json::from_str(output.expose())
                .map_err(|_| failed("`az account get-access-token` printed none"))?;
            Ok(answer.access_token)
        }
        HelperOutput::Failure(why) => {
            Err(failed(format!("`az` failed: {why}")).with_hint("log in with `az login`"))
        }
    }
}

fn asked(url: String, header: &str, value: &str) -> WebRequest {
    WebRequest {
        method: WebMethod::Get,
        url,
        headers: vec![(header.to_owned(), value.to_owned())],
        body: Vec::new(),
        place: WebPlace::Machine,
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
        place: WebPlace::World,
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
