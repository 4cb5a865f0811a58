//! Amazon's registries: the password comes from `GetAuthorizationToken`, a request signed with the
//! account's keys (AWS Signature Version 4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use serde::Deserialize;

use crate::auth::aws::{AwsIdentity, AwsKeys};
use crate::auth::{Credential, CredentialSource, Web, WebMethod, WebPlace, WebRequest};
use crate::clock::{Civil, unix_seconds};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::http::url::Url;
use crate::secret::Secret;

/// Logs in to Amazon's registries.
#[derive(Debug, Clone)]
pub struct Ecr {
    /// Who logs in.
    pub identity: AwsIdentity,
    /// Another address than Amazon's own to ask for tokens (`https://…`), for private endpoints.
    pub endpoint: Option<String>,
}

/// What a registry's name says about where its tokens come from.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    region: String,
    service: &'static str,
    target: &'static str,
}

/// Reads `123456789012.dkr.ecr.eu-west-1.amazonaws.com` and its relatives.
fn place(registry: &str) -> Option<Place> {
    if registry == "public.ecr.aws" {
        return Some(Place {
            host: "api.ecr-public.us-east-1.amazonaws.com".into(),
            region: "us-east-1".into(),
            service: "ecr-public",
            target: "SpencerFrontendService.GetAuthorizationToken",
        });
    }
    let (account, rest) = registry.split_once(".dkr.").or_else(|| registry.split_once(".dkr-"))?;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (kind, rest) = rest.split_once('.')?;
    let (region, domain) = rest.split_once('.')?;
    let known_domain = matches!(domain, "amazonaws.com" | "amazonaws.com.cn" | "on.aws");
    let region_ok = !region.is_empty()
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !known_domain || !region_ok {
        return None;
    }
    // The dual-stack names stand for the same service.
    let domain = if domain == "on.aws" { "amazonaws.com" } else { domain };
    let host = match kind {
        "ecr" => format!("api.ecr.{region}.{domain}"),
        "ecr-fips" => format!("ecr-fips.{region}.{domain}"),
        _ => return None,
    };
    Some(Place {
        host,
        region: region.into(),
        service: "ecr",
        target: "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
    })
}

impl Ecr {
    /// Whether a registry is Amazon's.
    pub fn serves(registry: &str) -> bool {
        place(registry).is_some()
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(rename = "authorizationData")]
    data: OneOrMany,
}

/// The private service answers with a list, the public one with a single entry.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Entry),
    Many(Vec<Entry>),
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "authorizationToken")]
    token: Secret,
}

impl CredentialSource for Ecr {
    fn credential(&self, registry: &str, _: &str, web: &dyn Web) -> Result<Option<Credential>> {
        let Some(place) = place(registry) else { return Ok(None) };
        let Some(keys) = self.identity.keys(web)? else { return Ok(None) };
        let failed = |why: String| {
            let message = format!("cannot get a password for `{registry}` from AWS: {why}");
            Error::new(ErrorKind::Credentials, message)
        };
        let endpoint = match &self.endpoint {
            Some(endpoint) => Url::parse(endpoint)?,
            None => Url::parse(&format!("https://{}/", place.host))?,
        };
        let time = Civil::from_unix(unix_seconds(web.now())).compact();
        let body = b"{}".to_vec();
        let mut headers = vec![
            ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
            ("host".to_owned(), endpoint.authority()),
            ("x-amz-date".to_owned(), time),
            ("x-amz-target".to_owned(), place.target.to_owned()),
        ];
        if let Some(token) = &keys.session_token {
            headers.push(("x-amz-security-token".to_owned(), token.expose().to_owned()));
        }
        let signature = sign(&keys, &place.region, place.service, "/", &headers, &body);
        // The HTTP library writes the host itself, and the same one.
        headers.retain(|(name, _)| name != "host");
        headers.push(("authorization".to_owned(), signature));
        let url = endpoint.full();
        let answer = web.exchange(WebRequest {
            method: WebMethod::Post,
            url,
            headers,
            body,
            place: WebPlace::World,
        })?;
        if answer.status != 200 {
            let why = shown(&String::from_utf8_lossy(&answer.body), 200);
            return Err(failed(format!("{} {why}", answer.status)).with_status(answer.status));
        }
        let unclear = || failed("the answer holds no token".into());
        let answer: TokenAnswer = serde_json::from_slice(&answer.body).map_err(|_| unclear())?;
        let entry = match answer.data {
            OneOrMany::One(entry) => Some(entry),
            OneOrMany::Many(entries) => entries.into_iter().next(),
        };
        let token = entry.ok_or_else(unclear)?.token;
        let pair = STANDARD.decode(token.expose()).map_err(|_| unclear())?;
        let pair = String::from_utf8(pair).map_err(|_| unclear())?;
        let (username, password) = pair.split_once(':').ok_or_else(unclear)?;
        Ok(Some(Credential::password(username, password)))
    }
}

/// Signs a `POST` (AWS Signature Version 4). The headers need not be sorted; all are signed.
fn sign(
    keys: &AwsKeys,
    region: &str,
    service: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> String {
    let mut sorted: Vec<_> = headers.iter().collect();
    sorted.sort();
    let canonical: String =
        sorted.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names: Vec<&str> = sorted.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let request = format!("POST\n{path}\n\n{canonical}\n{names}\n{}", sha256_hex(body));
    let time = sorted.iter().find(|(name, _)| name == "x-amz-date");
    let time = time.map(|(_, value)| value.as_str()).unwrap_or_default();
    let day = time.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_hex(request.as_bytes()));
    let mut key = format!("AWS4{}", keys.secret_access_key.expose()).into_bytes();
    for part in [day, region, service, "aws4_request"] {
        key = mac(&key, part.as_bytes());
    }
    let signature = hex(&mac(&key, text.as_bytes()));
    let id = &keys.access_key_id;
    format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_published_test_vector() {
        // `post-x-www-form-urlencoded` of AWS's Signature Version 4 test suite.
        let keys = AwsKeys {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let headers = [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
            ("content-type", "application/x-www-form-urlencoded"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let header = sign(&keys, "us-east-1", "service", "/", &headers, b"Param1=value1");
        assert_eq!(
            header,
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, Signature=\
             ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn names_of_registries_are_understood() {
        let shown =
            |name: &str| place(name).map(|p| format!("{} {} {}", p.host, p.region, p.service));
        for (name, wanted) in [
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                "api.ecr.eu-west-1.amazonaws.com eu-west-1 ecr",
            ),
            (
                "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                "ecr-fips.us-gov-west-1.amazonaws.com us-gov-west-1 ecr",
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                "api.ecr.cn-north-1.amazonaws.com.cn cn-north-1 ecr",
            ),
            (
                "123456789012.dkr-ecr.us-east-1.on.aws",
                "api.ecr.us-east-1.amazonaws.com us-east-1 ecr",
            ),
            ("public.ecr.aws", "api.ecr-public.us-east-1.amazonaws.com us-east-1 ecr-public"),
        ] {
            assert_eq!(shown(name).as_deref(), Some(wanted), "{name}");
        }
        for other in [
            "docker.io",
            "12.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.x/../y.amazonaws.com",
        ] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
