//! Who somebody is to Amazon: keys that were given, or that a pod, a container or a machine gets.

use serde::Deserialize;

use crate::auth::{Web, WebMethod, WebPlace, WebRequest, WebResponse};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::http::network::is_loopback;
use crate::http::url::{Scheme, Url, form};
use crate::secret::Secret;

/// Where machines in Amazon's cloud ask who they are.
pub const AWS_METADATA_SERVER: &str = "http://169.254.169.254";

/// Where containers in Amazon's cloud ask who they are, when they are told only a path.
pub const AWS_CONTAINER_SERVER: &str = "http://169.254.170.2";

/// How long a session with the metadata server lasts. One login needs a moment.
const SESSION_SECONDS: &str = "300";

/// The keys of an AWS account.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// The third part of temporary keys.
    pub session_token: Option<Secret>,
}

/// What a shared file says about a profile.
#[derive(Debug, Clone)]
pub enum AwsProfile {
    /// Nothing that helps.
    Absent,
    /// Its keys.
    Keys(AwsKeys),
    /// It gets its keys in a way that this client does not know; the setting that says so.
    Unknown(&'static str),
}

/// Settings of a profile that say that its keys come from elsewhere.
const OTHER_WAYS: [&str; 6] = [
    "credential_process",
    "sso_session",
    "sso_start_url",
    "role_arn",
    "source_profile",
    "credential_source",
];

impl AwsKeys {
    /// Finds a profile in the content of a shared credentials file (`~/.aws/credentials`).
    pub fn from_shared_file(text: &str, profile: &str) -> Option<Self> {
        match AwsProfile::from_shared_file(text, profile) {
            AwsProfile::Keys(keys) => Some(keys),
            AwsProfile::Absent | AwsProfile::Unknown(_) => None,
        }
    }
}

impl AwsProfile {
    /// Finds a profile in the content of `~/.aws/credentials` or `~/.aws/config`.
    pub fn from_shared_file(text: &str, profile: &str) -> Self {
        let mut own = false;
        let mut other_way = None;
        let (mut id, mut secret, mut token) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                let name = name.trim();
                own = name.strip_prefix("profile ").unwrap_or(name).trim() == profile;
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| own) else { continue };
            let (key, value) = (key.trim(), value.trim().to_owned());
            match key {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => secret = Some(Secret::new(value)),
                "aws_session_token" => token = Some(Secret::new(value)),
                _ => other_way = OTHER_WAYS.into_iter().find(|way| *way == key).or(other_way),
            }
        }
        match (id, secret, other_way) {
            (Some(access_key_id), Some(secret_access_key), _) => {
                Self::Keys(AwsKeys { access_key_id, secret_access_key, session_token: token })
            }
            (_, _, Some(way)) => Self::Unknown(way),
            _ => Self::Absent,
        }
    }
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum AwsIdentity {
    /// They were given.
    Keys(AwsKeys),
    /// A role, for which a token of somebody else's (a pod's, of its cluster) is exchanged.
    WebIdentity {
        /// The role's name (`arn:aws:iam::…`).
        role: String,
        /// How the session is called in the account's log.
        session: String,
        /// The token.
        token: Secret,
        /// The token service (`https://sts.eu-west-1.amazonaws.com`).
        endpoint: String,
    },
    /// The container that this runs in.
    Container {
        /// Where it asks.
        url: String,
        /// What it shows.
        authorization: Option<Secret>,
    },
    /// The machine that this runs on; its metadata server, [`AWS_METADATA_SERVER`] usually.
    Machine(String),
}

/// What the servers for containers and machines answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeysAnswer {
    access_key_id: String,
    secret_access_key: Secret,
    token: Option<Secret>,
}

impl AwsIdentity {
    /// Gets the keys; none where nobody is there to ask, as on a machine that is not Amazon's.
    pub(crate) fn keys(&self, web: &dyn Web) -> Result<Option<AwsKeys>> {
        match self {
            Self::Keys(keys) => Ok(Some(keys.clone())),
            Self::WebIdentity { role, session, token, endpoint } => {
                keys_of_role(role, session, token, endpoint, web).map(Some)
            }
            Self::Container { url, authorization } => {
                let url = container_url(url)?;
                let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
                if let Some(value) = authorization {
                    headers.push(("authorization".to_owned(), value.expose().to_owned()));
                }
                let answer = web.exchange(local(WebMethod::Get, url.full(), headers))?;
                read_keys(&accept(answer)?).map(Some)
            }
            Self::Machine(server) => keys_of_machine(server.trim_end_matches('/'), web),
        }
    }
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::credentials(format!("cannot get keys from AWS: {why}"))
}

fn accept(answer: WebResponse) -> Result<Vec<u8>> {
    if answer.status != 200 {
        let why = shown(&String::from_utf8_lossy(&answer.body), 200);
        return Err(failed(format!("{} {why}", answer.status)).with_status(answer.status));
    }
    Ok(answer.body)
}

fn local(method: WebMethod, url: String, headers: Vec<(String, String)>) -> WebRequest {
    WebRequest { method, url, headers, body: Vec::new(), place: WebPlace::Machine }
}

fn read_keys(body: &[u8]) -> Result<AwsKeys> {
    // The parser's message could quote the key.
    let keys: KeysAnswer =
        serde_json::from_slice(body).map_err(|_| failed("the answer holds none"))?;
    Ok(AwsKeys {
        access_key_id: keys.access_key_id,
        secret_access_key: keys.secret_access_key,
        session_token: keys.token,
    })
}

/// What is shown there must not leave the machine unprotected.
fn container_url(text: &str) -> Result<Url> {
    const NEXT_DOOR: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
    let url = Url::parse(text)?;
    let host = url.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    if url.scheme() == Scheme::Http && !is_loopback(&host) && !NEXT_DOOR.contains(&&*host) {
        return Err(failed(format!("`{url}` is neither next door nor protected by TLS")));
    }
    Ok(url)
}

fn keys_of_role(
    role: &str,
    session: &str,
    token: &Secret,
    endpoint: &str,
    web: &dyn Web,
) -> Result<AwsKeys> {
    let pairs = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", session),
        ("WebIdentityToken", token.expose()),
    ];
    let kind = "application/x-www-form-urlencoded".to_owned();
    let answer = web.exchange(WebRequest {
        method: WebMethod::Post,
        url: format!("{}/", endpoint.trim_end_matches('/')),
        headers: vec![("content-type".to_owned(), kind)],
        body: form(&pairs).into_bytes(),
        place: WebPlace::World,
    })?;
    let body = accept(answer)?;
    let text = String::from_utf8_lossy(&body);
    let value = |name| element(&text, name).ok_or_else(|| failed("the answer holds none"));
    Ok(AwsKeys {
        access_key_id: value("AccessKeyId")?.to_owned(),
        secret_access_key: value("SecretAccessKey")?.into(),
        session_token: Some(value("SessionToken")?.into()),
    })
}

/// The text of the one element of this name. The values asked for have no mark-up in them.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

/// Asks with a session, as the second version of the protocol wants it: the first one can be
/// tricked into answering others.
fn keys_of_machine(server: &str, web: &dyn Web) -> Result<Option<AwsKeys>> {
    let life = ("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), SESSION_SECONDS.to_owned());
    let begun =
        web.exchange(local(WebMethod::Put, format!("{server}/latest/api/token"), vec![life]));
    let session = match begun {
        Ok(answer) if answer.status == 200 => answer.body,
        // Somebody else is at that address, or nobody.
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::Network => return Ok(None),
        Err(error) => return Err(error),
    };
    let session = String::from_utf8(session).map_err(|_| failed("the session is no text"))?;
    let ask = |path: &str| {
        let header = ("x-aws-ec2-metadata-token".to_owned(), session.trim().to_owned());
        web.exchange(local(WebMethod::Get, format!("{server}{path}"), vec![header]))
    };
    let roles = "/latest/meta-data/iam/security-credentials/";
    let answer = ask(roles)?;
    if answer.status == 404 {
        // The machine has no role.
        return Ok(None);
    }
    let list = accept(answer)?;
    let list = String::from_utf8_lossy(&list);
    let role = list.lines().next().unwrap_or_default().trim();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    if role.is_empty() || !role.bytes().all(is_name) {
        return Err(failed("the machine's role has no proper name"));
    }
    read_keys(&accept(ask(&format!("{roles}{role}"))?)?).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found() {
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=S\n\
                    [other]\naws_access_key_id=B\naws_secret_access_key=T\n\
                    aws_session_token = U\n[half]\naws_access_key_id=C\n\
                    [profile sso]\nsso_session = corp\nregion = eu-west-1\n";
        assert_eq!(AwsKeys::from_shared_file(text, "default").unwrap().access_key_id, "A");
        let other = AwsKeys::from_shared_file(text, "other").unwrap();
        assert_eq!(other.session_token.unwrap().expose(), "U");
        assert!(AwsKeys::from_shared_file(text, "half").is_none());
        let found = AwsProfile::from_shared_file(text, "sso");
        assert!(matches!(found, AwsProfile::Unknown("sso_session")), "{found:?}");
    }

    #[test]
    fn keys_are_not_fetched_unprotected_from_far_away() {
        for (url, wanted) in [
            ("http://169.254.170.2/v2/credentials/1", true),
            ("http://127.0.0.1:8080/creds", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("https://keys.example/creds", true),
            ("http://keys.example/creds", false),
            ("http://169.254.170.2.example/creds", false),
        ] {
            assert_eq!(container_url(url).is_ok(), wanted, "{url}");
        }
    }
}
