//! Who we are: token servers (one of them believed by `docker-registry`), and the clouds' own
//! ways, each against a fake that checks the exact requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use conex_oci::MediaType;
use conex_remote::{
    AwsIdentity, AwsKeys, Azure, AzureIdentity, Client, ClientOptions, Credential,
    CredentialSource, Ecr, Error, ErrorKind, FixedCredential, Google, HelperOutput, HelperRunner,
    Secret, Web, WebRequest, WebResponse, copy,
};
use conex_report::Discard;
use ring::{rand, signature};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::docker_registry::Registry;
use crate::fake::{Answer, Asked, Fake, registry_with};
use crate::support::{MemoryImage, TestClock, blob_of, copy_options, noise, options};

const TOKEN_KEY: &str = include_str!("fixtures/token.key");
const TOKEN_CERTIFICATE: &str = include_str!("fixtures/token.crt");

fn with(credential: Credential) -> ClientOptions {
    let fixed = FixedCredential { registry: None, credential };
    ClientOptions { credentials: vec![Arc::new(fixed)], ..options() }
}

fn rsa_pair() -> signature::RsaKeyPair {
    match PrivateKeyDer::from_pem_slice(TOKEN_KEY.as_bytes()).unwrap() {
        PrivateKeyDer::Pkcs8(der) => {
            signature::RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap()
        }
        other => panic!("the fixture is PKCS#8, not {other:?}"),
    }
}

fn jwt(header: &serde_json::Value, claims: &serde_json::Value) -> String {
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(header), encode(claims));
    let pair = rsa_pair();
    let mut bytes = vec![0; pair.public().modulus_len()];
    let random = rand::SystemRandom::new();
    pair.sign(&signature::RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut bytes).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// A token server whose tokens `docker-registry` believes. Knows the user `conex` / `secret`, who
/// may do everything; nobody else may do anything.
fn token_server() -> Fake {
    Fake::start(|asked| {
        let basic = format!("Basic {}", STANDARD.encode("conex:secret"));
        if asked.header("authorization") != Some(basic.as_str()) {
            return Answer::json(401, r#"{"details":"incorrect username or password"}"#);
        }
        let access: Vec<serde_json::Value> = asked
            .queries("scope")
            .iter()
            .map(|scope| {
                let (kind, rest) = scope.split_once(':').unwrap();
                let (name, actions) = rest.rsplit_once(':').unwrap();
                let actions: Vec<&str> = actions.split(',').collect();
                serde_json::json!({"type": kind, "name": name, "actions": actions})
            })
            .collect();
        let certificate: String =
            TOKEN_CERTIFICATE.lines().filter(|line| !line.starts_with("---")).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = serde_json::json!({"alg": "RS256", "typ": "JWT", "x5c": [certificate]});
        let claims = serde_json::json!({
            "iss": "conex-test", "sub": "conex", "aud": asked.query("service"), "jti": "1",
            "iat": now, "nbf": now - 10, "exp": now + 300, "access": access,
        });
        let token = serde_json::json!({"token": jwt(&header, &claims), "expires_in": 300});
        Answer::json(200, &token.to_string())
    })
}

#[test]
fn docker_registry_believes_the_token_server() {
    let server = token_server();
    let realm = format!("http://{}/token", server.host());
    let started = Registry::start(|folder| {
        let path = folder.join("bundle.crt");
        std::fs::write(&path, TOKEN_CERTIFICATE).unwrap();
        format!(
            "auth:\n  token:\n    realm: {realm}\n    service: test-registry\n    issuer: \
             conex-test\n    rootcertbundle: {}\n",
            path.display()
        )
    });
    let Some(registry) = started else { return };
    let client = Client::new(with(Credential::password("conex", "secret")));
    let image = MemoryImage::with_layers(&[100, 6 << 20], 1);
    let repository = client.repository(&registry.reference("a:1"));
    copy(&image, &repository, &copy_options("1"), &Discard).unwrap();
    let neighbour = client.repository(&registry.reference("b:1"));
    let mounted = copy(&repository, &neighbour, &copy_options("1"), &Discard).unwrap();
    assert_eq!(mounted.mounted, 3, "the token was widened to both repositories");
    let mut repositories = client.catalog(&registry.host()).unwrap();
    repositories.sort();
    assert_eq!(repositories, ["a", "b"]);
    repository.delete_manifest(&image.root_descriptor().digest).unwrap();
    let asked: Vec<Vec<String>> = server.asked().iter().map(|a| a.queries("scope")).collect();
    let both = ["repository:a:pull".to_owned(), "repository:b:pull,push".to_owned()];
    assert!(asked.contains(&both.to_vec()), "{asked:?}");
    // As few tokens as rights: push to a, push to b with a, the catalog, delete in a.
    assert!(asked.len() <= 6, "{asked:?}");

    for stranger in [options(), with(Credential::password("conex", "wrong"))] {
        let repository = Client::new(stranger).repository(&registry.reference("b:1"));
        let error = repository.resolve().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    }
}

/// A registry that wants tokens, with its token server on the same address. `give` answers for
/// the token server; any token that it gave (`t1`, `t2`, …) is accepted unless spoilt.
fn bearer_registry(
    spoilt: impl Fn(&str, &Asked) -> bool + Send + Sync + 'static,
    give: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
) -> Fake {
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, _| {
        if asked.path() == "/token" {
            return Some(give(asked, count.fetch_add(1, Ordering::Relaxed) + 1));
        }
        let token = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if token.is_some_and(|token| !spoilt(token, asked)) {
            return None;
        }
        let host = asked.header("host").unwrap();
        let name = asked.path().split('/').nth(2).unwrap_or_default();
        let scope = format!("repository:{name}:pull");
        let value = format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"{scope}\"");
        Some(Answer::new(401).header("www-authenticate", value))
    });
    content.lock().unwrap().add_manifest("1", &MediaType::OciManifest, b"{}");
    fake
}

fn numbered(_: &Asked, count: usize) -> Answer {
    Answer::json(200, &format!(r#"{{"token":"t{count}","expires_in":300}}"#))
}

#[test]
fn one_token_serves_many_requests_until_it_ages() {
    let fake = bearer_registry(|_, _| false, numbered);
    let clock = Arc::new(TestClock::default());
    let client = Client::new(ClientOptions { clock: clock.clone(), ..options() });
    let repository = client.repository(&fake.reference("a:1"));
    let tokens = || fake.asked().iter().filter(|asked| asked.path() == "/token").count();
    for _ in 0..5 {
        repository.resolve().unwrap();
    }
    assert_eq!(tokens(), 1);
    *clock.ahead.lock().unwrap() = Duration::from_secs(295);
    repository.resolve().unwrap();
    assert_eq!(tokens(), 2);
    // What the token does not cover needs another.
    repository.has_blob(&blob_of(b"x")).unwrap();
    assert_eq!(tokens(), 3);
}

#[test]
fn parallel_transfers_share_one_token() {
    let fake = bearer_registry(|_, _| false, numbered);
    let client = Client::new(options());
    let repository = client.repository(&fake.reference("a:1"));
    repository.resolve().unwrap();
    std::thread::scope(|scope| {
        for at in 0..8_u8 {
            let repository = repository.clone();
            scope.spawn(move || repository.has_blob(&blob_of(&[at])).unwrap());
        }
    });
    let tokens = fake.asked().iter().filter(|asked| asked.path() == "/token").count();
    assert_eq!(tokens, 2, "one to pull, one to push");
}

#[test]
fn a_token_that_expires_on_the_way_is_replaced() {
    // The first token dies as soon as the upload has begun.
    let dead = Arc::new(Mutex::new(false));
    let state = Arc::clone(&dead);
    let fake = bearer_registry(
        move |token, asked| {
            let mut dead = state.lock().unwrap();
            *dead |= asked.method == "PATCH" && token == "t1";
            *dead && token == "t1"
        },
        numbered,
    );
    let bytes = noise(6_000_000, 1);
    let repository = Client::new(options()).repository(&fake.reference("a"));
    repository
        .push_blob(&blob_of(&bytes), None, &|_| Ok(Box::new(std::io::Cursor::new(bytes.clone()))))
        .unwrap();
    assert!(*dead.lock().unwrap());
    assert!(repository.has_blob(&blob_of(&bytes)).unwrap());
}

#[test]
fn a_registry_that_is_never_content_is_left() {
    let fake = bearer_registry(|_, _| true, numbered);
    let error = Client::new(options()).repository(&fake.reference("a:1")).resolve().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error:?}");
    assert!(fake.asked().len() < 8);
}

#[test]
fn identity_tokens_are_exchanged_and_renewed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let forms = Arc::clone(&seen);
    let fake = bearer_registry(
        |_, _| false,
        move |asked, count| {
            assert_eq!(asked.method, "POST");
            forms.lock().unwrap().push(asked.form());
            let body = format!(
                r#"{{"access_token":"t{count}","refresh_token":"r{count}","expires_in":60}}"#
            );
            Answer::json(200, &body)
        },
    );
    let clock = Arc::new(TestClock::default());
    let given = with(Credential::IdentityToken("r0".into()));
    let client = Client::new(ClientOptions { clock: clock.clone(), ..given });
    let repository = client.repository(&fake.reference("a:1"));
    repository.resolve().unwrap();
    *clock.ahead.lock().unwrap() = Duration::from_secs(100);
    repository.resolve().unwrap();
    let forms = seen.lock().unwrap();
    let wanted = |refresh: &str| -> HashMap<String, String> {
        [
            ("grant_type", "refresh_token"),
            ("client_id", "conex"),
            ("service", "s"),
            ("scope", "repository:a:pull"),
            ("refresh_token", refresh),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    };
    assert_eq!(*forms, [wanted("r0"), wanted("r1")]);
}

#[test]
fn false_token_servers_are_refused() {
    let error = |answer: Answer| {
        let fake = bearer_registry(|_, _| false, move |_, _| answer.clone());
        let client = Client::new(with(Credential::password("user", "hunter2")));
        let error = client.repository(&fake.reference("a:1")).resolve().unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        (error.kind(), error.to_string())
    };
    assert_eq!(error(Answer::json(401, "{}")).0, ErrorKind::Unauthorized);
    assert_eq!(error(Answer::json(200, "{}")).0, ErrorKind::Protocol);
    assert_eq!(error(Answer::json(200, "<html>")).0, ErrorKind::Protocol);
    assert_eq!(error(Answer::json(200, r#"{"token":"a\r\nX-Evil: 1"}"#)).0, ErrorKind::Protocol);
    assert_eq!(error(Answer { endless: true, ..Answer::new(200) }).0, ErrorKind::TooLarge);
    for realm in ["ftp://x/", "no url", "http://user:pw@h/", ""] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let fake = Fake::start(move |asked| match asked.path() {
            "/v2/" => Answer::new(200),
            _ => Answer::new(401).header("www-authenticate", challenge.as_str()),
        });
        let client = Client::new(with(Credential::password("user", "hunter2")));
        let error = client.repository(&fake.reference("a:1")).resolve().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{realm}: {error:?}");
    }
}

/// Hands requests to a fake whatever host they name, and has a fixed time.
pub(crate) struct ToFake {
    client: Client,
    fake: String,
    pub(crate) seen: Mutex<Vec<String>>,
}

impl ToFake {
    pub(crate) fn new(fake: &Fake) -> Self {
        Self { client: Client::new(options()), fake: fake.host(), seen: Mutex::default() }
    }
}

impl Web for ToFake {
    fn exchange(&self, request: WebRequest) -> Result<WebResponse, Error> {
        let rest = request.url.split_once("://").unwrap().1;
        let at = rest.find('/').unwrap();
        self.seen.lock().unwrap().push(request.url.clone());
        let url = format!("http://{}{}", self.fake, &rest[at..]);
        Web::exchange(&self.client, WebRequest { url, ..request })
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }
}

#[test]
fn amazon_is_asked_with_a_signature() {
    let fake = Fake::start(|asked| {
        let token = STANDARD.encode("AWS:hunter2");
        let public = asked.header("x-amz-target").unwrap().starts_with("Spencer");
        let entry = format!(r#"{{"authorizationToken":"{token}","expiresAt":1}}"#);
        let data = if public { entry } else { format!("[{entry}]") };
        Answer::json(200, &format!(r#"{{"authorizationData":{data}}}"#))
    });
    let keys = AwsKeys {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "wJalrXUtnFEMI".into(),
        session_token: Some("session".into()),
    };
    let ecr = Ecr { identity: AwsIdentity::Keys(keys), endpoint: None };
    let web = ToFake::new(&fake);
    let registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    for registry in [registry, "public.ecr.aws"] {
        let found = ecr.credential(registry, "", &web).unwrap();
        assert_eq!(found, Some(Credential::password("AWS", "hunter2")));
    }
    assert_eq!(ecr.credential("ghcr.io", "", &web).unwrap(), None);
    assert_eq!(
        *web.seen.lock().unwrap(),
        [
            "https://api.ecr.eu-west-1.amazonaws.com/",
            "https://api.ecr-public.us-east-1.amazonaws.com/",
        ]
    );
    let asked = fake.asked();
    assert_eq!(asked[0].line(), "POST /");
    assert_eq!(asked[0].body, b"{}");
    let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
    assert_eq!(asked[0].header("x-amz-target"), Some(target));
    assert_eq!(asked[0].header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(asked[0].header("x-amz-date"), Some("20150830T123600Z"));
    assert_eq!(asked[0].header("x-amz-security-token"), Some("session"));
    let signed = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
    for (request, scope) in asked.iter().zip(["eu-west-1/ecr", "us-east-1/ecr-public"]) {
        let header = request.header("authorization").unwrap();
        let start = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/{scope}/aws4_request, \
             SignedHeaders={signed}, Signature="
        );
        let signature = header.strip_prefix(&start).unwrap_or_else(|| panic!("{header}"));
        assert!(signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

fn service_account(token_uri: &str) -> Secret {
    let key = serde_json::json!({
        "type": "service_account", "client_email": "robot@acme.iam.gserviceaccount.com",
        "private_key": TOKEN_KEY, "private_key_id": "k1", "token_uri": token_uri,
    });
    Secret::new(key.to_string())
}

#[test]
fn google_is_asked_with_a_signed_assertion() {
    let fake = Fake::start(|_| Answer::json(200, r#"{"access_token":"ya29.x","expires_in":3599}"#));
    let web = ToFake::new(&fake);
    let wanted = Some(Credential::password("oauth2accesstoken", "ya29.x"));
    let google = Google::Key(service_account("https://oauth2.example/token"));
    assert_eq!(google.credential("europe-docker.pkg.dev", "", &web).unwrap(), wanted);
    assert_eq!(google.credential("ghcr.io", "", &web).unwrap(), None);
    let asked = &fake.asked()[0];
    assert_eq!(asked.line(), "POST /token");
    let form = asked.form();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (text, mac) = form["assertion"].rsplit_once('.').unwrap();
    let public = rsa_pair().public().as_ref().to_vec();
    signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, public)
        .verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(mac).unwrap())
        .unwrap();
    let claims = URL_SAFE_NO_PAD.decode(text.split_once('.').unwrap().1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["iss"], "robot@acme.iam.gserviceaccount.com");
    assert_eq!(claims["aud"], "https://oauth2.example/token");
    assert_eq!((&claims["iat"], &claims["exp"]), (&1_440_938_160.into(), &1_440_941_760.into()));

    let user =
        r#"{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"r"}"#;
    let google = Google::Key(user.into());
    assert_eq!(google.credential("gcr.io", "", &web).unwrap(), wanted);
    let form = fake.asked()[1].form();
    assert_eq!(
        (form["grant_type"].as_str(), form["refresh_token"].as_str()),
        ("refresh_token", "r")
    );

    let google = Google::Metadata("http://169.254.169.254".into());
    assert_eq!(google.credential("gcr.io", "", &web).unwrap(), wanted);
    let asked = fake.asked();
    let path = "GET /computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!(asked[2].line(), path);
    assert_eq!(asked[2].header("metadata-flavor"), Some("Google"));
}

struct FakeGcloud(&'static str);

impl HelperRunner for FakeGcloud {
    fn run(&self, program: &str, arguments: &[&str], _: &Secret) -> Result<HelperOutput, Error> {
        assert_eq!(program, "gcloud");
        assert_eq!(arguments.first(), Some(&"config"));
        Ok(match self.0 {
            "" => HelperOutput::Failure("not logged in".into()),
            text => HelperOutput::Success(text.into()),
        })
    }
}

#[test]
fn gcloud_is_asked_too() {
    let fake = Fake::start(|_| Answer::new(500));
    let web = ToFake::new(&fake);
    let asked = |text| Google::Gcloud(Arc::new(FakeGcloud(text))).credential("gcr.io", "", &web);
    let found = asked(r#"{"credential":{"access_token":"ya29.g","token_expiry":"x"}}"#).unwrap();
    assert_eq!(found, Some(Credential::password("oauth2accesstoken", "ya29.g")));
    assert_eq!(asked("").unwrap_err().hint(), Some("log in with `gcloud auth login`"));
    assert_eq!(asked("{}").unwrap_err().kind(), ErrorKind::Credentials);
}

#[test]
fn azure_exchanges_its_tokens() {
    let fake = Fake::start(|asked| match asked.path() {
        "/oauth2/exchange" => Answer::json(200, r#"{"refresh_token":"acr-refresh"}"#),
        _ => Answer::json(200, r#"{"access_token":"entra","expires_in":"3599"}"#),
    });
    let web = ToFake::new(&fake);
    let login = |identity| Azure { identity, tenant: Some("t1".into()), endpoint: None };
    let identities = [
        AzureIdentity::AccessToken("entra".into()),
        AzureIdentity::ServicePrincipal {
            tenant: "t1".into(),
            client_id: "app".into(),
            client_secret: "s3cret".into(),
            login_server: "https://login.example".into(),
        },
        AzureIdentity::Machine {
            client_id: Some("m1".into()),
            metadata_server: "http://169.254.169.254".into(),
        },
    ];
    for identity in identities {
        let found = login(identity).credential("acme.azurecr.io", "", &web).unwrap();
        assert_eq!(found, Some(Credential::IdentityToken("acr-refresh".into())));
    }
    let asked = fake.asked();
    let lines: Vec<String> = asked.iter().map(Asked::line).collect();
    assert_eq!(
        lines,
        [
            "POST /oauth2/exchange",
            "POST /t1/oauth2/v2.0/token",
            "POST /oauth2/exchange",
            "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2F\
             management.azure.com%2F&client_id=m1",
            "POST /oauth2/exchange",
        ]
    );
    let form = asked[0].form();
    assert_eq!(form["grant_type"], "access_token");
    assert_eq!(form["service"], "acme.azurecr.io");
    assert_eq!(form["tenant"], "t1");
    assert_eq!(form["access_token"], "entra");
    let form = asked[1].form();
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "https://management.azure.com/.default");
    assert_eq!(asked[3].header("metadata"), Some("true"));
}
