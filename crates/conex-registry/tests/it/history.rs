//! What tags were on, conditions on their moves, tags that never move, and who may do what.

use std::time::{Duration, Instant};

use base64::Engine as _;
use conex_oci::Digest;
use conex_registry::{Anonymous, Pattern};

use crate::client::{Client, MANIFEST, Reply};
use crate::server::{Registry, options};

fn tag_digest(client: &Client, tag: &str) -> Option<String> {
    let reply = client.ask("HEAD", &format!("/v2/app/manifests/{tag}"), &[], b"");
    reply.header("docker-content-digest").map(str::to_owned)
}

#[test]
fn every_move_of_a_tag_is_kept_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let client = &registry.client;
    let digests: Vec<Digest> =
        [&b"one"[..], b"two", b"two"].iter().map(|l| client.push_image("app", "1", l)).collect();
    let history = client.get("/v2/app/_conex/tags/1/history").json();
    let moves = history["history"].as_array().unwrap();
    // The push of what was there already is no move.
    assert_eq!(moves.len(), 2, "{history}");
    assert_eq!(moves[0]["from"], digests[0].as_str());
    assert_eq!(moves[0]["to"], digests[1].as_str());
    assert_eq!(moves[1]["from"], serde_json::Value::Null);
    assert_eq!(moves[0]["actor"], "anonymous");
    assert!(moves[0]["fromKeptUntil"].as_str().unwrap() > moves[0]["at"].as_str().unwrap());
    // What it was on is still there.
    assert_eq!(client.get(&format!("/v2/app/manifests/{}", digests[0])).status, 200);
    let back = client.ask("POST", "/v2/app/_conex/tags/1/rollback", &[], b"");
    assert_eq!((back.status, back.json()["digest"].as_str()), (200, Some(digests[0].as_str())));
    assert_eq!(tag_digest(client, "1").unwrap(), digests[0].as_str());
    // A tag that was deleted comes back too.
    assert_eq!(client.delete("/v2/app/manifests/1").status, 202);
    assert_eq!(tag_digest(client, "1"), None);
    let body = format!(r#"{{"digest":"{}"}}"#, digests[1]);
    let back = client.ask("POST", "/v2/app/_conex/tags/1/rollback", &[], body.as_bytes());
    assert_eq!(back.status, 200, "{back:?}");
    assert_eq!(tag_digest(client, "1").unwrap(), digests[1].as_str());
    let history = client.get("/v2/app/_conex/tags/1/history?n=2").json();
    assert_eq!(history["history"].as_array().unwrap().len(), 2);
    assert_eq!(history["history"][1]["to"], serde_json::Value::Null);
    for (path, body, status) in [
        ("/v2/app/_conex/tags/none/rollback", "", 404),
        ("/v2/none/_conex/tags/1/rollback", "", 404),
        ("/v2/app/_conex/tags/1/rollback", "{", 400),
        ("/v2/app/_conex/tags/1/rollback", r#"{"digset":"x"}"#, 400),
    ] {
        let reply = client.ask("POST", path, &[], body.as_bytes());
        assert_eq!(reply.status, status, "{path} {body}: {reply:?}");
    }
    assert_eq!(client.get("/v2/app/_conex/tags/none/history").status, 404);
}

#[test]
fn a_tag_moves_only_where_the_condition_holds() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let client = &registry.client;
    let one = client.push_parts("app", b"one");
    let two = client.push_parts("app", b"two");
    let put = |bytes: &[u8], name: &str, value: &str| {
        let headers = [("Content-Type", MANIFEST), (name, value)];
        client.ask("PUT", "/v2/app/manifests/1", &headers, bytes)
    };
    let tag = |bytes: &[u8]| format!("\"{}\"", Digest::of(bytes));
    assert_eq!(put(&one, "If-Match", &tag(&one)).status, 412, "there is no tag yet");
    assert_eq!(put(&one, "If-None-Match", "*").status, 201);
    assert_eq!(put(&two, "If-None-Match", "*").status, 412);
    let refused = put(&two, "If-Match", &tag(&two));
    assert_eq!((refused.status, refused.header("etag")), (412, Some(tag(&one).as_str())));
    assert_eq!(put(&two, "If-Match", &tag(&one)).status, 201);
    assert_eq!(put(&one, "If-Match", "*").status, 201);
    assert_eq!(put(&one, "If-Match", "nonsense").status, 400);
    let get =
        |value: &str| client.ask("GET", "/v2/app/manifests/1", &[("If-None-Match", value)], b"");
    assert_eq!((get(&tag(&one)).status, get(&tag(&two)).status), (304, 200));
}

#[test]
fn an_immutable_tag_never_moves() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.immutable_tags = vec![Pattern::new("v*")];
    let registry = Registry::with(options);
    let client = &registry.client;
    let digest = client.push_image("app", "v1", b"one");
    let refused = |reply: Reply| assert_eq!((reply.status, reply.code().as_str()), (403, "DENIED"));
    let other = client.push_parts("app", b"two");
    refused(client.push_manifest("app", "v1", MANIFEST, &other));
    refused(client.delete("/v2/app/manifests/v1"));
    refused(client.delete(&format!("/v2/app/manifests/{digest}")));
    // The same again is no move, and other tags are free.
    assert_eq!(client.push_image("app", "v1", b"one"), digest);
    client.push_image("app", "latest", b"one");
    client.push_image("app", "latest", b"two");
    assert_eq!(tag_digest(client, "v1").unwrap(), digest.as_str());
}

#[test]
fn what_nothing_keeps_is_collected_and_what_a_tag_was_on_only_after_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    let short = Duration::from_millis(300);
    options.times.lease = short;
    options.times.history = Duration::from_millis(1500);
    options.times.gc_interval = Duration::from_millis(30);
    let registry = Registry::with(options);
    let client = &registry.client;
    let began = Instant::now();
    let old = client.push_image("app", "1", b"old layer");
    client.push_image("app", "1", b"new layer");
    let unused = client.push_blob("app", b"never used");
    let gone = |path: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while client.get(path).status != 404 {
            assert!(Instant::now() < deadline, "`{path}` is not collected");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    gone(&format!("/v2/app/blobs/{unused}"));
    assert!(began.elapsed() >= short, "collected before its time");
    let layer = Digest::of(b"old layer");
    if began.elapsed() < Duration::from_millis(1200) {
        assert_eq!(client.get(&format!("/v2/app/manifests/{old}")).status, 200);
        assert_eq!(client.get(&format!("/v2/app/blobs/{layer}")).status, 200);
    }
    gone(&format!("/v2/app/blobs/{layer}"));
    assert!(began.elapsed() >= Duration::from_millis(1500), "collected before its time");
    assert_eq!(client.get(&format!("/v2/app/manifests/{old}")).status, 404);
    // The moves are still told, and the tag is whole.
    let history = client.get("/v2/app/_conex/tags/1/history").json();
    assert_eq!(history["history"][0]["from"], old.as_str());
    assert_eq!(history["history"][0]["fromKeptUntil"], serde_json::Value::Null);
    let new = Digest::of(b"new layer");
    assert_eq!(client.get(&format!("/v2/app/blobs/{new}")).status, 200);
}

#[test]
fn credentials_are_asked_for_before_anything_else_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let hash = bcrypt::hash("secret", 4).unwrap();
    std::fs::write(&users, format!("ana:{hash}\n")).unwrap();
    let log = folder.path().join("log");
    let mut options = options(&folder.path().join("data"));
    options.users = Some(users.clone());
    options.anonymous = Anonymous::None;
    options.access_log = Some(Box::new(std::fs::File::create(&log).unwrap()));
    let registry = Registry::with(options);
    let as_user = |name: &str, password: &str| {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        let authorization = Some(format!("Basic {text}"));
        Client { authorization, ..registry.client.clone() }
    };
    let ana = as_user("ana", "secret");
    ana.push_image("private/app", "1", b"layer");
    let wrong = [registry.client.clone(), as_user("ana", "wrong"), as_user("bob", "secret")];
    for client in wrong {
        let answers: Vec<(u16, Vec<u8>)> = [
            "/v2/",
            "/v2/private/app/manifests/1",
            "/v2/private/none/manifests/1",
            "/v2/NOT-A-NAME/tags/list",
            "/v2/_catalog",
            "/metrics",
            "/nowhere",
        ]
        .iter()
        .map(|path| client.get(path))
        .map(|reply| {
            assert_eq!(reply.code(), "UNAUTHORIZED");
            assert!(reply.header("www-authenticate").unwrap().starts_with("Basic realm="));
            (reply.status, reply.body)
        })
        .collect();
        assert!(answers.iter().all(|answer| answer == &answers[0] && answer.0 == 401));
        assert_eq!(client.ask("POST", "/v2/a/blobs/uploads/", &[], b"").status, 401);
        assert_eq!(client.get("/healthz").status, 200);
    }
    let history = ana.get("/v2/private/app/_conex/tags/1/history").json();
    assert_eq!(history["history"][0]["actor"], "ana");
    // A changed file counts without a restart.
    let hash = bcrypt::hash("other", 4).unwrap();
    std::fs::write(&users, format!("bob:{hash}\n")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while as_user("bob", "other").get("/v2/").status != 200 {
        assert!(Instant::now() < deadline, "the new user is not let in");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(as_user("ana", "secret").get("/v2/").status, 401);
    drop(registry);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.lines().any(|line| line.contains("\"user\":\"ana\"")), "{log}");
    let secret = base64::engine::general_purpose::STANDARD.encode("ana:secret");
    assert!(!log.contains("secret") && !log.contains(&secret), "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["status"].as_u64().unwrap() >= 200, "{line}");
    }
}

#[test]
fn those_without_a_name_may_pull_where_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.anonymous = Anonymous::Pull;
    let registry = Registry::with(options);
    assert_eq!(registry.client.get("/v2/").status, 200);
    assert_eq!(registry.client.get("/v2/_conex/token").status, 401, "there are no users");
    assert_eq!(registry.client.get("/v2/app/manifests/1").status, 404);
    assert_eq!(registry.client.ask("POST", "/v2/app/blobs/uploads/", &[], b"").status, 401);
    assert_eq!(registry.client.delete("/v2/app/manifests/1").status, 401);
    let metrics = String::from_utf8(registry.client.get("/metrics").body).unwrap();
    assert!(metrics.contains("conex_registry_denied_total 2"), "{metrics}");
}

#[test]
fn tokens_tell_who_asks_and_cannot_be_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, format!("ana:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let mut options = options(&folder.path().join("data"));
    options.users = Some(users);
    options.anonymous = Anonymous::Pull;
    let registry = Registry::with(options);
    let with = |authorization: &str| Client {
        authorization: Some(authorization.to_owned()),
        ..registry.client.clone()
    };
    let basic = |text: &str| {
        with(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text)))
    };
    let challenge = registry.client.get("/v2/");
    assert_eq!(challenge.status, 401);
    let wanted = format!("Bearer realm=\"http://{}/v2/_conex/token\"", registry.client.address);
    assert!(challenge.header("www-authenticate").unwrap().starts_with(&wanted), "{challenge:?}");
    let token = |client: &Client| {
        let reply = client.get("/v2/_conex/token?service=x&scope=repository:app:pull,push");
        (reply.status, reply.json()["token"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(token(&basic("ana:wrong")).0, 401);
    let (anonymous, known) = (token(&registry.client).1, token(&basic("ana:secret")).1);
    let status = |token: &str, method: &str, path: &str| {
        with(&format!("Bearer {token}")).ask(method, path, &[], b"").status
    };
    assert_eq!(status(&anonymous, "GET", "/v2/"), 200);
    assert_eq!(status(&anonymous, "POST", "/v2/app/blobs/uploads/"), 401);
    assert_eq!(status(&known, "POST", "/v2/app/blobs/uploads/"), 202);
    let signature = anonymous.split_once('.').unwrap().1;
    let text = known.split_once('.').unwrap().0;
    for forged in [format!("{text}.{signature}"), text.to_owned(), String::new(), "a.b".to_owned()]
    {
        assert_eq!(status(&forged, "GET", "/v2/"), 401, "{forged}");
    }
    // Those who ask without anything, or with nothing, still pull.
    assert_eq!(registry.client.get("/v2/app/manifests/1").status, 404);
    assert_eq!(basic(":").get("/v2/app/manifests/1").status, 404);
}
