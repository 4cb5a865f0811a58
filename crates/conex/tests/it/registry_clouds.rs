//! The clouds' registries through the program itself: it finds out who this machine is in the
//! ways of the vendors' own tools.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::registry_fake::{Answer, Asked, Fake};
use crate::sandbox::Sandbox;

/// A proxy that leads to one server, whatever host was meant.
fn tunnel(to: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || carry(client, to));
        }
    });
    format!("http://{address}")
}

fn carry(mut client: TcpStream, to: SocketAddr) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"CONNECT "), "{}", String::from_utf8_lossy(&head));
    let mut server = TcpStream::connect(to).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut from, mut back) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut back, &mut client));
    std::io::copy(&mut from, &mut server).ok()?;
    server.shutdown(std::net::Shutdown::Write).ok()
}

/// Base64 (RFC 4648, 4), for headers.
pub(crate) fn base64_of(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let mut bytes = [0; 3];
        bytes[..chunk.len()].copy_from_slice(chunk);
        let number = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for at in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

const TAGS: &str = r#"{"name":"app","tags":["1"]}"#;

/// A registry that answers to one password.
fn registry(user: &str, password: &str) -> Fake {
    let wanted = format!("Basic {}", base64_of(&format!("{user}:{password}")));
    Fake::start(move |asked| match asked.header("authorization") {
        Some(given) if given == wanted => Answer::json(200, TAGS),
        _ => Answer::new(401).header("www-authenticate", "Basic realm=\"cloud\""),
    })
}

/// Runs `conex tags` on a registry that is somewhere in a cloud, with variables set.
fn tags(registry: &Fake, name: &str, variables: &[(&str, String)]) -> (i32, String, String) {
    let mut sandbox = Sandbox::new();
    let proxy = tunnel(registry.address);
    for variable in ["HTTP_PROXY", "HTTPS_PROXY"] {
        sandbox.set_env(variable, &proxy);
    }
    sandbox.set_env("NO_PROXY", "127.0.0.1");
    for (name, value) in variables {
        sandbox.set_env(name, value);
    }
    let ended = sandbox.conex(&["tags", "--tls-verify=false", name]);
    (ended.code, ended.out, ended.err)
}

#[track_caller]
fn assert_tags(registry: &Fake, name: &str, variables: &[(&str, String)]) {
    let (code, out, err) = tags(registry, name, variables);
    assert_eq!((code, out.as_str()), (0, "1\n"), "{err}");
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app";

/// Amazon's services in one.
fn amazon(asked: &Asked) -> Answer {
    if asked.header("x-amz-target").is_some() {
        let token = base64_of("AWS:ecr-hunter2");
        let entry = format!(r#"{{"authorizationToken":"{token}"}}"#);
        return Answer::json(200, &format!(r#"{{"authorizationData":[{entry}]}}"#));
    }
    let keys = r#"{"AccessKeyId":"ASIAMACHINE","SecretAccessKey":"s","Token":"t"}"#;
    match asked.line().as_str() {
        "PUT /latest/api/token" => Answer::new(200).body("session"),
        "GET /latest/meta-data/iam/security-credentials/" => Answer::new(200).body("role"),
        "GET /latest/meta-data/iam/security-credentials/role" | "GET /creds" => {
            Answer::json(200, keys)
        }
        _ => Answer::new(404),
    }
}

#[test]
fn amazon_knows_keys_profiles_containers_and_machines() {
    let registry = registry("AWS", "ecr-hunter2");
    let cloud = Fake::start(amazon);
    let at = |path: &str| format!("http://{}{path}", cloud.host());
    let profile = Sandbox::new();
    profile.write("keys", "[ci]\naws_access_key_id=AKIAPROFILE\naws_secret_access_key=x\n");
    let ways: [(&str, &[(&str, String)]); 4] = [
        (
            "AKIAGIVEN",
            &[
                ("AWS_ACCESS_KEY_ID", "AKIAGIVEN".into()),
                ("AWS_SECRET_ACCESS_KEY", "aws-hunter2".into()),
            ],
        ),
        (
            "AKIAPROFILE",
            &[("AWS_PROFILE", "ci".into()), ("AWS_SHARED_CREDENTIALS_FILE", profile.text("keys"))],
        ),
        ("ASIAMACHINE", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", at("/creds"))]),
        ("ASIAMACHINE", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", at("/"))]),
    ];
    for (signer, variables) in ways {
        let mut all = vec![("AWS_ENDPOINT_URL", at(""))];
        all.extend(variables.iter().cloned());
        assert_tags(&registry, ECR, &all);
        let asked = cloud.asked();
        let last = asked.last().unwrap();
        let signed = last.header("authorization").unwrap();
        assert!(signed.contains(&format!("Credential={signer}/")), "{signed}");
        assert!(signed.contains("/eu-west-1/ecr/aws4_request"), "{signed}");
    }
    // Told not to look, it finds nobody, and says what the registry wants.
    let none = [("AWS_EC2_METADATA_DISABLED", "true".to_owned())];
    let (code, _, err) = tags(&registry, ECR, &none);
    assert!(code == 1 && err.contains("wants credentials"), "{err}");
    // A profile of a kind that is not known is named.
    profile.write("keys", "[ci]\nsso_session = corp\n");
    let sso =
        [("AWS_PROFILE", "ci".to_owned()), ("AWS_SHARED_CREDENTIALS_FILE", profile.text("keys"))];
    let (code, _, err) = tags(&registry, ECR, &sso);
    assert!(code == 1 && err.contains("`sso_session`"), "{err}");
}

#[test]
fn google_knows_machines_and_key_files() {
    let registry = registry("oauth2accesstoken", "ya29.hunter2");
    let cloud = Fake::start(|asked| match asked.line().as_str() {
        "GET /computeMetadata/v1/instance/service-accounts/default/token"
            if asked.header("metadata-flavor") == Some("Google") =>
        {
            Answer::json(200, r#"{"access_token":"ya29.hunter2","expires_in":3599}"#)
        }
        "POST /token" if asked.form()["refresh_token"] == "1//refresh" => {
            Answer::json(200, r#"{"access_token":"ya29.hunter2"}"#)
        }
        _ => Answer::new(404),
    });
    let name = "europe-docker.pkg.dev/acme/app";
    assert_tags(&registry, name, &[("GCE_METADATA_HOST", cloud.host())]);
    let sandbox = Sandbox::new();
    let key = format!(
        r#"{{"type":"authorized_user","client_id":"i","client_secret":"s",
            "refresh_token":"1//refresh","token_uri":"http://{}/token"}}"#,
        cloud.host()
    );
    sandbox.write("adc.json", key);
    assert_tags(&registry, name, &[("GOOGLE_APPLICATION_CREDENTIALS", sandbox.text("adc.json"))]);
    sandbox.write("adc.json", r#"{"type":"external_account","secret":"hunter3"}"#);
    let named = [("GOOGLE_APPLICATION_CREDENTIALS", sandbox.text("adc.json"))];
    let (code, _, err) = tags(&registry, name, &named);
    assert!(code == 1 && err.contains("external_account") && !err.contains("hunter3"), "{err}");
    let named = [("GOOGLE_APPLICATION_CREDENTIALS", sandbox.text("nothing"))];
    let (code, _, err) = tags(&registry, name, &named);
    assert!(code == 1 && err.contains("is not there"), "{err}");
}

#[test]
fn azure_exchanges_what_the_machine_gets() {
    let registry = Fake::start(|asked| {
        let challenge = "Bearer realm=\"http://acme.azurecr.io/oauth2/token\",\
                         service=\"acme.azurecr.io\",scope=\"repository:app:pull\"";
        let granted = asked.header("authorization") == Some("Bearer acr-access");
        match asked.path() {
            "/oauth2/exchange" => {
                let form = asked.form();
                assert_eq!(form["grant_type"], "access_token");
                assert_eq!(form["service"], "acme.azurecr.io");
                assert_eq!(form["access_token"], "entra-hunter2");
                Answer::json(200, r#"{"refresh_token":"acr-refresh"}"#)
            }
            "/oauth2/token" => {
                let form = asked.form();
                assert_eq!(form["grant_type"], "refresh_token");
                assert_eq!(form["refresh_token"], "acr-refresh");
                assert_eq!(form["scope"], "repository:app:pull");
                Answer::json(200, r#"{"access_token":"acr-access"}"#)
            }
            _ if granted => Answer::json(200, TAGS),
            _ => Answer::new(401).header("www-authenticate", challenge),
        }
    });
    let cloud = Fake::start(|asked| {
        assert_eq!(asked.query("resource").as_deref(), Some("https://management.azure.com/"));
        let known = asked.header("metadata") == Some("true")
            || asked.header("x-identity-header") == Some("identity-hunter2");
        let answer = Answer::json(200, r#"{"access_token":"entra-hunter2"}"#);
        if known { answer } else { Answer::new(400) }
    });
    let at = format!("http://{}", cloud.host());
    let name = "acme.azurecr.io/app";
    assert_tags(&registry, name, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", at.clone())]);
    let service = [
        ("IDENTITY_ENDPOINT", format!("{at}/msi")),
        ("IDENTITY_HEADER", "identity-hunter2".to_owned()),
    ];
    assert_tags(&registry, name, &service);
    assert_eq!(cloud.asked().len(), 2);
}
