//! Registries that limit, lie and pry: the program says which one and what it did, and gives
//! nothing away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use conex_layer::{EntryHeader, TarWriter};
use conex_oci::{Compression, Descriptor, Digest, Manifest, MediaType};

use crate::registry_clouds::base64_of;
use crate::registry_fake::{Answer, Asked, Content, Fake, registry_with};
use crate::sandbox::{Ended, Sandbox};

/// Puts an image of one layer into a registry, as `app:1`. Gives the layer.
fn add_image(content: &Mutex<Content>) -> Descriptor {
    let mut tar = TarWriter::new(Vec::new());
    let body = vec![b'x'; 3 << 20];
    tar.append(&EntryHeader::file("big", body.len() as u64), &body[..]).unwrap();
    let layer = tar.finish().unwrap();
    let diff_id = Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let mut content = content.lock().unwrap();
    let layer = Descriptor {
        media_type: MediaType::OciLayer(Compression::None),
        ..content.add_blob(&layer)
    };
    let config =
        Descriptor { media_type: MediaType::OciConfig, ..content.add_blob(config.as_bytes()) };
    let manifest = Manifest::new(config, vec![layer.clone()]).to_bytes();
    content.add_manifest("1", &MediaType::OciManifest, &manifest);
    layer
}

/// A registry with an image, where `spoil` may answer first for the layer.
fn with_layer(spoil: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Fake {
    let layer = Arc::new(Mutex::new(None::<Digest>));
    let known = Arc::clone(&layer);
    let (fake, content) = registry_with(move |asked, _| {
        let digest = known.lock().unwrap().clone()?;
        (asked.method == "GET" && asked.path().ends_with(digest.as_str()))
            .then(|| spoil(asked))
            .flatten()
    });
    *layer.lock().unwrap() = Some(add_image(&content).digest);
    fake
}

fn shown(ended: &Ended, fake: &Fake) -> String {
    let errors = ended.err.lines().skip_while(|line| !line.starts_with("error"));
    errors.collect::<Vec<_>>().join("\n").replace(&fake.host(), "HOST")
}

#[test]
fn a_limit_is_named_with_its_end() {
    let fake = Fake::start(|asked| match asked.path() {
        "/v2/" => Answer::new(200),
        _ => Answer::json(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#)
            .header("ratelimit-limit", "100;w=21600")
            .header("retry-after", "1500"),
    });
    let sandbox = Sandbox::new();
    let ended = sandbox.conex(&["pull", &format!("{}/app:1", fake.host())]);
    assert_eq!(ended.code, 1);
    insta::assert_snapshot!(shown(&ended, &fake), @r"
    error: cannot look up the image
      caused by: `HOST` limits requests, 100 in 6 hours, lifts in 25 minutes (429)
    hint: log in with `conex login HOST` for a higher limit, or use a mirror
    ");
}

#[test]
fn a_short_limit_is_waited_for() {
    let count = Arc::new(AtomicUsize::new(0));
    let fake = with_layer(move |_| {
        let early = count.fetch_add(1, Ordering::SeqCst) < 2;
        early.then(|| Answer::new(429).header("retry-after", "1"))
    });
    let sandbox = Sandbox::new();
    sandbox.ok(&["pull", &format!("{}/app:1", fake.host())]);
}

#[test]
fn lies_are_stopped_and_named_and_nothing_of_them_stays() {
    let size = (3 << 20) + 1536;
    let lies: [(&str, Answer, &str); 5] = [
        ("other bytes", Answer::new(200).body(vec![7; size]), "has digest"),
        ("too few", Answer::new(200).body(vec![7; 1000]), "has 1000 bytes, wanted"),
        ("too many", Answer::new(200).body(vec![7; size + 1]), "wanted"),
        ("endless", Answer { endless: true, ..Answer::new(200) }, "wanted"),
        (
            "another name",
            Answer::new(200).header("docker-content-digest", "sha256:00").body(vec![7; size]),
            "sha256:00",
        ),
    ];
    for (what, answer, wanted) in lies {
        let fake = with_layer(move |_| Some(answer.clone()));
        let sandbox = Sandbox::new();
        let name = format!("{}/app:1", fake.host());
        let error = sandbox.fails(1, &["pull", &name]);
        assert!(error.contains(wanted) && error.contains("sha256:"), "{what}: {error}");
        assert_eq!(sandbox.ok(&["images", "-aq"]), "", "{what}");
        let partial = sandbox.at("store/partial").read_dir().map_or(0, Iterator::count);
        assert_eq!(partial, 0, "{what}");
        let sound = sandbox.ok(&["system", "check"]);
        assert!(sound.starts_with("the store is sound"), "{what}: {sound}");
    }
}

/// What must never be seen.
const PASSWORD: &str = "hunter2-password";
const TOKEN: &str = "hunter2-token";

/// A sandbox that knows a password for a registry.
fn logged_in(fake: &Fake) -> Sandbox {
    let sandbox = Sandbox::new();
    let auth = base64_of(&format!("user:{PASSWORD}"));
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, fake.host());
    sandbox.write(".docker/config.json", config);
    sandbox
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let storage = with_layer(|_| None);
    let target = storage.host();
    let layer_path = Arc::new(Mutex::new(String::new()));
    let basic = format!("Basic {}", base64_of(&format!("user:{PASSWORD}")));
    let path = Arc::clone(&layer_path);
    let (fake, content) = registry_with(move |asked, _| {
        if asked.header("authorization") != Some(&basic) {
            return Some(Answer::new(401).header("www-authenticate", "Basic realm=\"x\""));
        }
        let moved = asked.path().ends_with(path.lock().unwrap().as_str());
        let location = format!("http://{target}{}", asked.target);
        moved.then(|| Answer::new(307).header("location", location))
    });
    *layer_path.lock().unwrap() = add_image(&content).digest.to_string();
    let sandbox = logged_in(&fake);
    sandbox.ok(&["pull", &format!("{}/app:1", fake.host())]);
    let asked = storage.asked();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{asked:?}");
}

#[test]
fn a_token_that_runs_out_on_the_way_is_renewed() {
    let tokens = Arc::new(AtomicUsize::new(0));
    let host = Arc::new(Mutex::new(String::new()));
    let (issued, own) = (Arc::clone(&tokens), Arc::clone(&host));
    let (fake, content) = registry_with(move |asked, _| {
        if asked.path() == "/token" {
            let count = issued.fetch_add(1, Ordering::SeqCst) + 1;
            let life = r#""expires_in":300"#;
            let text = format!(r#"{{"token":"{TOKEN}-{count}",{life}}}"#);
            return Some(Answer::json(200, &text));
        }
        // Each token is good for two requests.
        let count = issued.load(Ordering::SeqCst);
        let good = format!("Bearer {TOKEN}-{count}");
        let challenge =
            format!("Bearer realm=\"http://{}/token\",service=\"x\"", own.lock().unwrap());
        static USED: AtomicUsize = AtomicUsize::new(0);
        let fits = asked.header("authorization") == Some(&good);
        if fits && !USED.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            return None;
        }
        if fits && USED.load(Ordering::SeqCst) == 1 {
            return None;
        }
        Some(Answer::new(401).header("www-authenticate", challenge))
    });
    *host.lock().unwrap() = fake.host();
    add_image(&content);
    let sandbox = logged_in(&fake);
    sandbox.ok(&["pull", &format!("{}/app:1", fake.host())]);
    assert!(tokens.load(Ordering::SeqCst) > 1, "a second token was asked for");
}

#[test]
fn secrets_are_never_shown_whatever_fails() {
    // Fails each of the requests in turn, with an answer that repeats what it was shown.
    for failing in 0..9 {
        let count = AtomicUsize::new(0);
        let host = Arc::new(Mutex::new(String::new()));
        let own = Arc::clone(&host);
        let (fake, content) = registry_with(move |asked, _| {
            let shown = asked.header("authorization").unwrap_or_default().to_owned();
            if count.fetch_add(1, Ordering::SeqCst) == failing {
                return Some(Answer::new([400, 403, 500][failing % 3]).body("no"));
            }
            if asked.path() == "/token" {
                let text = format!(r#"{{"token":"{TOKEN}","refresh_token":"{TOKEN}-refresh"}}"#);
                return Some(Answer::json(200, &text));
            }
            if shown == format!("Bearer {TOKEN}") {
                return None;
            }
            let realm = format!("http://{}/token", own.lock().unwrap());
            let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
            Some(Answer::new(401).header("www-authenticate", challenge))
        });
        *host.lock().unwrap() = fake.host();
        add_image(&content);
        let sandbox = logged_in(&fake);
        let name = format!("{}/app:1", fake.host());
        let creds = format!("user:{PASSWORD}");
        let runs: [&[&str]; 5] = [
            &["pull", &name],
            &["tags", &name],
            &["copy", "--src-creds", &creds, &name, "oci:x"],
            &["manifest", "inspect", "-v", &name],
            &["delete", &name],
        ];
        let mut said = String::new();
        for run in runs {
            let ended = sandbox.conex(run);
            said.push_str(&ended.out);
            said.push_str(&ended.err);
        }
        let login = ["login", "-u", "user", "--password-stdin", &fake.host()];
        let ended = sandbox.conex_with(&login, PASSWORD.as_bytes());
        said.push_str(&ended.out);
        said.push_str(&ended.err);
        for secret in [PASSWORD, TOKEN, &base64_of(&creds)] {
            assert!(!said.contains(secret), "{failing}: {said}");
        }
    }
}
