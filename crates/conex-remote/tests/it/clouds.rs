//! Who a pod, a container or a machine is to its cloud, against fakes that check the exact
//! requests.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conex_remote::{
    AwsIdentity, Azure, AzureIdentity, Client, Credential, CredentialSource, Ecr, Error, ErrorKind,
    Google, HelperOutput, HelperRunner, Secret,
};

use crate::fake::{Answer, Asked, Fake};
use crate::support::options;
use crate::tokens::ToFake;

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn ecr(identity: AwsIdentity) -> Ecr {
    Ecr { identity, endpoint: None }
}

/// The answer to `GetAuthorizationToken`.
fn password() -> Answer {
    let token = STANDARD.encode("AWS:hunter2");
    Answer::json(200, &format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}"}}]}}"#))
}

/// Whose keys signed a request.
fn signer(asked: &Asked) -> String {
    let header = asked.header("authorization").unwrap();
    let rest = header.strip_prefix("AWS4-HMAC-SHA256 Credential=").unwrap();
    rest.split('/').next().unwrap().to_owned()
}

#[test]
fn a_machine_is_asked_in_a_session() {
    let keys = r#"{"Code":"Success","AccessKeyId":"ASIAMACHINE","SecretAccessKey":"s",
                   "Token":"session-token","Expiration":"2030-01-01T00:00:00Z"}"#;
    let fake = Fake::start(move |asked| match asked.line().as_str() {
        "PUT /latest/api/token" => Answer::new(200).body("session-1"),
        "GET /latest/meta-data/iam/security-credentials/" => Answer::new(200).body("my-role\n"),
        "GET /latest/meta-data/iam/security-credentials/my-role" => Answer::json(200, keys),
        "POST /" => password(),
        _ => Answer::new(404),
    });
    let web = ToFake::new(&fake);
    let found = ecr(AwsIdentity::Machine("http://169.254.169.254/".into()));
    let found = found.credential(ECR, "", &web).unwrap();
    assert_eq!(found, Some(Credential::password("AWS", "hunter2")));
    let asked = fake.asked();
    assert_eq!(asked.len(), 4);
    assert_eq!(asked[0].header("x-aws-ec2-metadata-token-ttl-seconds"), Some("300"));
    for request in &asked[1..3] {
        assert_eq!(request.header("x-aws-ec2-metadata-token"), Some("session-1"));
    }
    assert_eq!(signer(&asked[3]), "ASIAMACHINE");
    assert_eq!(asked[3].header("x-amz-security-token"), Some("session-token"));
}

#[test]
fn a_machine_that_is_no_clouds_is_nobody() {
    // Nobody listens there.
    let nobody = "http://127.0.0.1:9".to_owned();
    let web = Client::new(options());
    let amazon = ecr(AwsIdentity::Machine(nobody.clone()));
    assert_eq!(amazon.credential(ECR, "", &web).unwrap(), None);
    assert_eq!(Google::Metadata(nobody.clone()).credential("gcr.io", "", &web).unwrap(), None);
    let identity = AzureIdentity::Machine { client_id: None, metadata_server: nobody };
    let azure = Azure { identity, tenant: None, endpoint: None };
    assert_eq!(azure.credential("acme.azurecr.io", "", &web).unwrap(), None);
    // Somebody else listens there.
    let fake = Fake::start(|_| Answer::new(404));
    let web = ToFake::new(&fake);
    let amazon = ecr(AwsIdentity::Machine("http://169.254.169.254".into()));
    assert_eq!(amazon.credential(ECR, "", &web).unwrap(), None);
    let google = Google::Metadata("http://169.254.169.254".into());
    assert_eq!(google.credential("gcr.io", "", &web).unwrap(), None);
}

#[test]
fn a_container_shows_what_it_was_given() {
    let fake = Fake::start(|asked| match asked.line().as_str() {
        "GET /v2/credentials/7" => {
            Answer::json(200, r#"{"AccessKeyId":"ASIATASK","SecretAccessKey":"s","Token":"t"}"#)
        }
        _ => password(),
    });
    let web = ToFake::new(&fake);
    let url = "http://169.254.170.2/v2/credentials/7".to_owned();
    let authorization = Some(Secret::new("shown"));
    let found = ecr(AwsIdentity::Container { url, authorization });
    assert!(found.credential(ECR, "", &web).unwrap().is_some());
    let asked = fake.asked();
    assert_eq!(asked[0].header("authorization"), Some("shown"));
    assert_eq!(signer(&asked[1]), "ASIATASK");
    let url = "http://keys.example/".to_owned();
    let error = ecr(AwsIdentity::Container { url, authorization: None });
    let error = error.credential(ECR, "", &web).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(fake.asked().len(), 2, "nothing was sent there");
}

#[test]
fn a_pod_exchanges_its_token_for_a_role() {
    let answer = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>\
        <Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
        <SessionToken>t</SessionToken></Credentials></AssumeRoleWithWebIdentityResult>\
        </AssumeRoleWithWebIdentityResponse>";
    let fake = Fake::start(move |asked| match asked.header("x-amz-target") {
        Some(_) => password(),
        None => Answer::new(200).header("content-type", "text/xml").body(answer),
    });
    let web = ToFake::new(&fake);
    let found = ecr(AwsIdentity::WebIdentity {
        role: "arn:aws:iam::1:role/pull".into(),
        session: "conex".into(),
        token: "jwt".into(),
        endpoint: "https://sts.eu-west-1.amazonaws.com".into(),
    });
    assert!(found.credential(ECR, "", &web).unwrap().is_some());
    assert_eq!(web.seen.lock().unwrap()[0], "https://sts.eu-west-1.amazonaws.com/");
    let asked = fake.asked();
    assert_eq!(asked[0].line(), "POST /");
    let mut form: Vec<_> = asked[0].form().into_iter().collect();
    form.sort();
    let wanted = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", "arn:aws:iam::1:role/pull"),
        ("RoleSessionName", "conex"),
        ("Version", "2011-06-15"),
        ("WebIdentityToken", "jwt"),
    ];
    assert_eq!(form, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(signer(&asked[1]), "ASIAROLE");
}

struct FakeAz;

impl HelperRunner for FakeAz {
    fn run(&self, program: &str, arguments: &[&str], _: &Secret) -> Result<HelperOutput, Error> {
        assert_eq!(program, "az");
        assert_eq!(arguments[..2], ["account", "get-access-token"]);
        Ok(HelperOutput::Success(r#"{"accessToken":"entra","tenant":"t1"}"#.into()))
    }
}

#[test]
fn workloads_services_and_people_are_known_to_azure() {
    let fake = Fake::start(|asked| match asked.path() {
        "/oauth2/exchange" => Answer::json(200, r#"{"refresh_token":"acr-refresh"}"#),
        _ => Answer::json(200, r#"{"access_token":"entra"}"#),
    });
    let identities = [
        AzureIdentity::Federated {
            tenant: "t1".into(),
            client_id: "app".into(),
            assertion: "jwt".into(),
            login_server: "https://login.example/".into(),
        },
        AzureIdentity::Service {
            endpoint: "http://127.0.0.1:42/msi/token".into(),
            header: "shown".into(),
            client_id: None,
        },
        AzureIdentity::Cli(Arc::new(FakeAz)),
    ];
    for identity in identities {
        let azure = Azure { identity, tenant: None, endpoint: None };
        let found = azure.credential("acme.azurecr.io", "", &ToFake::new(&fake)).unwrap();
        assert_eq!(found, Some(Credential::IdentityToken("acr-refresh".into())));
    }
    let asked = fake.asked();
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[0].line(), "POST /t1/oauth2/v2.0/token");
    let form = asked[0].form();
    assert_eq!(form["client_assertion"], "jwt");
    assert_eq!(
        form["client_assertion_type"],
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let resource = "https%3A%2F%2Fmanagement.azure.com%2F";
    let line = format!("GET /msi/token?api-version=2019-08-01&resource={resource}");
    assert_eq!(asked[2].line(), line);
    assert_eq!(asked[2].header("x-identity-header"), Some("shown"));
    for exchange in [1, 3, 4] {
        assert_eq!(asked[exchange].line(), "POST /oauth2/exchange");
        assert_eq!(asked[exchange].form()["access_token"], "entra");
    }
}
