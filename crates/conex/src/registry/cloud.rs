//! Who this machine is to the clouds' own registries: what the vendors' tools would find in the
//! environment and in their files. Looked up only for registries that are theirs, and only where
//! no credential file has anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_remote::{
    AWS_CONTAINER_SERVER, AWS_METADATA_SERVER, AZURE_LOGIN_SERVER, AZURE_METADATA_SERVER,
    AwsIdentity, AwsKeys, AwsProfile, Azure, AzureIdentity, Credential, CredentialSource, Ecr,
    Error, GOOGLE_METADATA_SERVER, Google, ProcessHelpers, Secret, Web,
};

use super::text;
use crate::settings::variable;

/// Largest file with keys or tokens read: real ones have a few kilobytes.
const FILE_SIZE_MAX: u64 = 1 << 20;

/// Logs in to the registries of the clouds.
pub struct Clouds {
    /// The person's home folder.
    pub home: PathBuf,
}

impl CredentialSource for Clouds {
    fn credential(
        &self,
        registry: &str,
        repository: &str,
        web: &dyn Web,
    ) -> Result<Option<Credential>, Error> {
        if Ecr::serves(registry) {
            let Some(identity) = self.amazon()? else { return Ok(None) };
            let service = if registry == "public.ecr.aws" { "ECR_PUBLIC" } else { "ECR" };
            let ecr = Ecr { identity, endpoint: endpoint_url(service) };
            return ecr.credential(registry, repository, web);
        }
        if Google::serves(registry) {
            return self.google()?.credential(registry, repository, web);
        }
        if Azure::serves(registry) {
            let azure =
                Azure { identity: self.azure()?, tenant: text("AZURE_TENANT_ID"), endpoint: None };
            return azure.credential(registry, repository, web);
        }
        Ok(None)
    }
}

impl Clouds {
    /// As Amazon's tools look: environment, a pod's role, shared files, container, machine.
    fn amazon(&self) -> Result<Option<AwsIdentity>, Error> {
        if let (Some(id), Some(secret)) = (text("AWS_ACCESS_KEY_ID"), text("AWS_SECRET_ACCESS_KEY"))
        {
            return Ok(Some(AwsIdentity::Keys(AwsKeys {
                access_key_id: id,
                secret_access_key: secret.into(),
                session_token: text("AWS_SESSION_TOKEN").map(Secret::new),
            })));
        }
        if let (Some(role), Some(file)) =
            (text("AWS_ROLE_ARN"), path("AWS_WEB_IDENTITY_TOKEN_FILE"))
        {
            return Ok(Some(AwsIdentity::WebIdentity {
                role,
                session: text("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "conex".to_owned()),
                token: token(&file)?,
                endpoint: endpoint_url("STS").unwrap_or_else(token_service),
            }));
        }
        if let Some(keys) = self.profile()? {
            return Ok(Some(AwsIdentity::Keys(keys)));
        }
        let relative = text("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
            .map(|path| format!("{AWS_CONTAINER_SERVER}{path}"));
        if let Some(url) = relative.or_else(|| text("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            let authorization = match path("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
                Some(file) => Some(token(&file)?),
                None => text("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
            };
            return Ok(Some(AwsIdentity::Container { url, authorization }));
        }
        if text("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return Ok(None);
        }
        let server = text("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        Ok(Some(AwsIdentity::Machine(server.unwrap_or_else(|| AWS_METADATA_SERVER.to_owned()))))
    }

    /// The keys of the profile in the shared files. One that is named must be of use.
    fn profile(&self) -> Result<Option<AwsKeys>, Error> {
        let named = text("AWS_PROFILE").or_else(|| text("AWS_DEFAULT_PROFILE"));
        let profile = named.as_deref().unwrap_or("default");
        let files = [
            ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            ("AWS_CONFIG_FILE", ".aws/config"),
        ];
        let mut other_way = None;
        for (name, usual) in files {
            let file = path(name).unwrap_or_else(|| self.home.join(usual));
            let Some(content) = content(&file)? else { continue };
            match AwsProfile::from_shared_file(&content, profile) {
                AwsProfile::Keys(keys) => return Ok(Some(keys)),
                AwsProfile::Unknown(way) => other_way = Some(way),
                AwsProfile::Absent => {}
            }
        }
        match (other_way, &named) {
            (Some(way), _) => Err(Error::credentials(format!(
                "the AWS profile `{profile}` gets its keys by `{way}`, which conex does not know"
            ))
            .with_hint("`aws ecr get-login-password | conex login -u AWS --password-stdin …`")),
            (None, Some(_)) => {
                Err(Error::credentials(format!("the AWS profile `{profile}` has no keys")))
            }
            (None, None) => Ok(None),
        }
    }

    /// As Google's libraries look: a named file, the usual file, `gcloud`, the machine.
    fn google(&self) -> Result<Google, Error> {
        let named = path("GOOGLE_APPLICATION_CREDENTIALS");
        if let Some(file) = named {
            return Ok(Google::Key(token(&file)?));
        }
        let folder = path("CLOUDSDK_CONFIG").unwrap_or_else(|| self.home.join(".config/gcloud"));
        if let Some(key) = content(&folder.join("application_default_credentials.json"))? {
            return Ok(Google::Key(Secret::new(key)));
        }
        let server = text("GCE_METADATA_HOST").map(|host| format!("http://{host}"));
        if server.is_none() && crate::session::find_program("gcloud").is_some() {
            return Ok(Google::Gcloud(Arc::new(programs())));
        }
        Ok(Google::Metadata(server.unwrap_or_else(|| GOOGLE_METADATA_SERVER.to_owned())))
    }

    /// As Azure's libraries look: environment, workload, service, `az`, machine.
    fn azure(&self) -> Result<AzureIdentity, Error> {
        let tenant = text("AZURE_TENANT_ID");
        let client_id = text("AZURE_CLIENT_ID");
        let authority = text("AZURE_AUTHORITY_HOST");
        let login_server = authority.unwrap_or_else(|| AZURE_LOGIN_SERVER.to_owned());
        if let (Some(tenant), Some(client_id)) = (&tenant, &client_id) {
            let (tenant, client_id) = (tenant.clone(), client_id.clone());
            if let Some(client_secret) = text("AZURE_CLIENT_SECRET").map(Secret::new) {
                return Ok(AzureIdentity::ServicePrincipal {
                    tenant,
                    client_id,
                    client_secret,
                    login_server,
                });
            }
            if let Some(file) = path("AZURE_FEDERATED_TOKEN_FILE") {
                let assertion = token(&file)?;
                return Ok(AzureIdentity::Federated { tenant, client_id, assertion, login_server });
            }
        }
        if let (Some(endpoint), Some(header)) = (text("IDENTITY_ENDPOINT"), text("IDENTITY_HEADER"))
        {
            return Ok(AzureIdentity::Service { endpoint, header: header.into(), client_id });
        }
        let server = text("AZURE_POD_IDENTITY_AUTHORITY_HOST");
        if server.is_none() && crate::session::find_program("az").is_some() {
            return Ok(AzureIdentity::Cli(Arc::new(programs())));
        }
        let metadata_server = server.unwrap_or_else(|| AZURE_METADATA_SERVER.to_owned());
        Ok(AzureIdentity::Machine { client_id, metadata_server })
    }
}

/// Another address than Amazon's own for one of its services.
fn endpoint_url(service: &str) -> Option<String> {
    text(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| text("AWS_ENDPOINT_URL"))
}

/// The token service of the region that is set, or the one for all.
fn token_service() -> String {
    match text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")) {
        Some(region) => format!("https://sts.{region}.amazonaws.com"),
        None => "https://sts.amazonaws.com".to_owned(),
    }
}

fn programs() -> ProcessHelpers {
    let path = variable("PATH").unwrap_or_default();
    ProcessHelpers { search_path: std::env::split_paths(&path).collect() }
}

fn path(name: &str) -> Option<PathBuf> {
    variable(name).map(PathBuf::from)
}

/// A file that was named, and so must be there.
fn token(file: &Path) -> Result<Secret, Error> {
    let text = content(file)?.ok_or_else(|| {
        Error::credentials(format!("the credential file `{}` is not there", file.display()))
    })?;
    Ok(Secret::new(text.trim()))
}

fn content(file: &Path) -> Result<Option<String>, Error> {
    super::read_limited(file, FILE_SIZE_MAX)
        .map(|bytes| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        .map_err(|error| {
            let message = format!("cannot read the credential file `{}`", file.display());
            Error::credentials(message).with_source(error)
        })
}
