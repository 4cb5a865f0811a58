//! Servers that lie, refuse and misbehave: each is stopped and named.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conex_oci::{Descriptor, MediaType};
use conex_remote::{
    Client, ClientOptions, Error, ErrorKind, FetchOptions, Fetched, Network, RegistriesConf, Secret,
};
use conex_report::{Event, Reporter};

use crate::fake::{Answer, Asked, Fake, registry, registry_with};
use crate::support::{TestClock, blob_of, client, noise, options, read_all};

fn blob_error(
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    blob: &Descriptor,
) -> Error {
    let fake = Fake::start(
        move |asked| {
            if asked.path() == "/v2/" { Answer::new(200) } else { answer(asked) }
        },
    );
    let repository = client().repository(&fake.reference("a"));
    match repository.open_blob(blob) {
        Ok(reader) => Error::from(read_all(reader).expect_err("the server lies")),
        Err(error) => error,
    }
}

#[test]
fn lies_about_blobs_are_found_out() {
    let bytes = noise(10_000, 1);
    let blob = blob_of(&bytes);
    let kind = |answer: Answer| {
        let error = blob_error(move |_| answer.clone(), &blob);
        (error.kind(), format!("{error:?}"))
    };
    let expect = |answer: Answer, wanted: ErrorKind, text: &str| {
        let (got, shown) = kind(answer);
        assert!(got == wanted && shown.contains(text), "{shown}");
    };
    expect(Answer::new(200).body(noise(10_000, 2)), ErrorKind::Mismatch, "has digest");
    expect(Answer::new(200).body(noise(9_999, 1)), ErrorKind::Mismatch, "has 9999 bytes");
    expect(Answer::new(200).body(noise(10_001, 1)), ErrorKind::Mismatch, "has 10001 bytes");
    let endless = Answer { endless: true, ..Answer::new(200) };
    expect(endless, ErrorKind::Mismatch, "wanted 10000");
    let cut = Answer { cut_at: Some(100), ..Answer::new(200).body(bytes.clone()) };
    expect(cut, ErrorKind::Network, "broke off");
    let other = Answer::new(200).body(bytes).header("docker-content-digest", "sha256:00");
    expect(other, ErrorKind::Mismatch, "sha256:00");
}

#[test]
fn lies_about_manifests_are_found_out() {
    let bytes = br#"{"schemaVersion":2,"config":{}}"#;
    let index = MediaType::OciIndex;
    let good = Answer::manifest(&MediaType::OciManifest, bytes);
    let result = |answer: Answer, reference: &str| {
        let fake = Fake::start(move |_| answer.clone());
        let repository = client().repository(&fake.reference(reference));
        repository.manifest().map_err(|error| error.kind())
    };
    let digest = conex_oci::Digest::of(bytes);
    let other = conex_oci::Digest::of(b"other");
    assert_eq!(result(good.clone(), "a:1").unwrap().bytes, bytes);
    assert_eq!(result(good.clone(), &format!("a@{digest}")).unwrap().descriptor.digest, digest);
    assert_eq!(result(good.clone(), &format!("a@{other}")), Err(ErrorKind::Mismatch));
    let false_header =
        Answer::new(200).body(*bytes).header("docker-content-digest", other.as_str());
    assert_eq!(result(false_header, "a:1"), Err(ErrorKind::Mismatch));
    let typed = br#"{"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
    assert_eq!(result(Answer::manifest(&index, typed), "a:1"), Err(ErrorKind::Protocol));
    let huge = Answer::new(200).body(vec![b' '; (4 << 20) + 1]);
    assert_eq!(result(huge, "a:1"), Err(ErrorKind::TooLarge));
    let endless = Answer { endless: true, ..Answer::new(200) };
    assert_eq!(result(endless, "a:1"), Err(ErrorKind::TooLarge));
    assert_eq!(result(Answer::new(200).body("<html>"), "a:1"), Err(ErrorKind::Protocol));
}

#[test]
fn answers_become_errors_that_say_what_to_do() {
    const UNKNOWN: &str = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#;
    const DENIED: &str = r#"{"errors":[{"code":"DENIED","message":"not\u001b[2Jyours"}]}"#;
    let hub = ("ratelimit-limit", "100;w=21600");
    let later = ("retry-after", "1500");
    type Headers<'h> = &'h [(&'h str, &'h str)];
    let cases: [(u16, Headers<'_>, &str); 6] = [
        (404, &[], UNKNOWN),
        (403, &[], DENIED),
        (401, &[], "garbage"),
        (429, &[hub, later], ""),
        (429, &[hub], ""),
        (500, &[], ""),
    ];
    let shown = cases.map(|(status, headers, body)| {
        let mut answer = Answer::json(status, body);
        for (name, value) in headers {
            answer = answer.header(name, *value);
        }
        let fake =
            Fake::start(
                move |asked| {
                    if asked.path() == "/v2/" { Answer::new(200) } else { answer.clone() }
                },
            );
        let error = client().repository(&fake.reference("a:1")).manifest().unwrap_err();
        let hint = error.hint().map(|hint| format!("\n  {hint}")).unwrap_or_default();
        format!("{error}{hint}").replace(&fake.host(), "HOST")
    });
    insta::assert_snapshot!(shown.join("\n"), @r"
    `HOST` cannot read manifest `1` of `a`: not found (404 NAME_UNKNOWN: no such repository)
    `HOST` does not allow to read manifest `1` of `a` (403 DENIED: not [2Jyours)
    `HOST` wants credentials to read manifest `1` of `a` (401)
      log in with `conex login HOST`
    `HOST` limits requests, 100 in 6 hours, lifts in 25 minutes (429)
      log in with `conex login HOST` for a higher limit, or use a mirror
    `HOST` limits requests, 100 in 6 hours, lifts within 6 hours of the first request (429)
      log in with `conex login HOST` for a higher limit, or use a mirror
    `HOST` cannot read manifest `1` of `a` (500)
    ");
}

#[test]
fn what_may_pass_is_tried_again_after_the_asked_wait() {
    for status in [408, 429, 500, 502, 503, 504, 0] {
        let count = AtomicUsize::new(0);
        let (fake, content) = registry_with(move |asked, _| {
            let early = asked.path() != "/v2/" && count.fetch_add(1, Ordering::Relaxed) < 2;
            early.then(|| Answer::new(status).header("retry-after", "7"))
        });
        content.lock().unwrap().add_manifest("1", &MediaType::OciManifest, b"{}");
        let clock = Arc::new(TestClock::default());
        let client = Client::new(ClientOptions { clock: clock.clone(), ..options() });
        client.repository(&fake.reference("a:1")).resolve().unwrap();
        let slept = clock.slept.lock().unwrap().clone();
        assert_eq!(slept.len(), 2);
        if status != 0 {
            assert_eq!(slept, [Duration::from_secs(7); 2], "{status}");
        } else {
            assert!(slept[0] < slept[1] && slept[1] < Duration::from_secs(2), "{slept:?}");
        }
    }
}

#[test]
fn what_will_not_pass_is_not_tried_again() {
    for status in [400, 401, 403, 404, 405, 413] {
        let (fake, _) =
            registry_with(move |asked, _| (asked.path() != "/v2/").then(|| Answer::new(status)));
        let wanted = fake.reference("a:1");
        client().repository(&wanted).manifest().unwrap_err();
        assert_eq!(fake.lines().len(), 1, "{status}");
    }
}

#[test]
fn a_silent_server_is_given_up_in_time() {
    let blob = blob_of(&noise(5000, 3));
    let bytes = noise(5000, 3);
    let fake = Fake::start(move |asked| {
        let mut answer = Answer::blob(asked, &bytes);
        (answer.cut_at, answer.stall) = (Some(10), true);
        answer
    });
    let mut hasty = options();
    hasty.timeouts.idle = Duration::from_millis(200);
    hasty.retry.attempts = 2;
    let started = std::time::Instant::now();
    let repository = Client::new(hasty).repository(&fake.reference("a"));
    let error = Error::from(read_all(repository.open_blob(&blob).unwrap()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// Says that every name means this machine, and that only 127.0.0.1 is private.
struct Names;

impl Network for Names {
    fn addresses(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let address = if host.starts_with("private") { [127, 0, 0, 1] } else { [127, 0, 0, 2] };
        Ok(vec![SocketAddr::from((address, port))])
    }

    fn is_private(&self, address: IpAddr) -> bool {
        address == IpAddr::from([127, 0, 0, 1])
    }
}

/// A registry with a public name, reached without TLS as its configuration allows.
fn public_client(port: u16) -> (Client, String) {
    let host = format!("registry.example:{port}");
    let conf = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    let registries = RegistriesConf::parse(&conf).unwrap();
    (Client::new(ClientOptions { network: Arc::new(Names), registries, ..options() }), host)
}

#[test]
fn a_public_registry_cannot_send_us_into_the_private_network() {
    let inside = Fake::start(|_| Answer::new(200).body("inner secrets"));
    let port = inside.address.port();
    for place in [
        format!("http://127.0.0.1:{port}/x"),
        format!("http://private.example:{port}/x"),
        format!("http://localhost:{port}/x"),
        format!("//127.0.0.1:{port}/x"),
    ] {
        let location = place.clone();
        let outside = Fake::start_at("127.0.0.2:0", move |asked| {
            let answer = Answer::new(if asked.path() == "/v2/" { 200 } else { 307 });
            answer.header("location", location.clone())
        });
        let (client, host) = public_client(outside.address.port());
        let repository = client.repository(&format!("{host}/a:1").parse().unwrap());
        let error = repository.open_blob(&blob_of(b"inner secrets")).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
        assert!(format!("{error:?}").contains("private address"), "{error:?}");
    }
    assert!(inside.asked().is_empty());
}

#[test]
fn a_public_registry_cannot_send_credentials_into_the_private_network() {
    let inside = Fake::start(|_| Answer::json(200, r#"{"token":"t"}"#));
    for name in ["127.0.0.1", "private.example"] {
        let realm = format!("Bearer realm=\"http://{name}:{}/t\"", inside.address.port());
        let outside = Fake::start_at("127.0.0.2:0", move |asked| match asked.path() {
            "/v2/" => Answer::new(200),
            _ => Answer::new(401).header("www-authenticate", realm.as_str()),
        });
        let (client, host) = public_client(outside.address.port());
        let repository = client.repository(&format!("{host}/a:1").parse().unwrap());
        let error = repository.resolve().unwrap_err();
        assert!(format!("{error:?}").contains("private address"), "{error:?}");
    }
    assert!(inside.asked().is_empty());
}

#[test]
fn a_private_registry_may_redirect_and_keeps_its_credentials() {
    let bytes = noise(300, 4);
    let blob = blob_of(&bytes);
    let storage = Fake::start(move |asked| Answer::blob(asked, &bytes));
    let place = format!("http://{}/bucket/key?X-Signature=abc", storage.host());
    let front = Fake::start(move |asked| match asked.header("authorization") {
        _ if asked.path() == "/v2/" => Answer::new(200),
        None => Answer::new(401).header("www-authenticate", "Basic realm=\"x\""),
        Some(_) => Answer::new(307).header("location", place.clone()),
    });
    let credential = conex_remote::Credential::password("user", "hunter2");
    let fixed = conex_remote::FixedCredential { registry: None, credential };
    let client = Client::new(ClientOptions { credentials: vec![Arc::new(fixed)], ..options() });
    let repository = client.repository(&front.reference("a"));
    assert_eq!(read_all(repository.open_blob(&blob).unwrap()).unwrap().len(), 300);
    let asked = storage.asked();
    assert_eq!(asked[0].query("X-Signature").as_deref(), Some("abc"));
    assert_eq!(asked[0].header("authorization"), None);
    assert!(front.asked().last().unwrap().header("authorization").is_some());
}

#[test]
fn redirects_end() {
    let fake = Fake::start(|asked| match asked.path() {
        "/v2/" => Answer::new(200),
        path => Answer::new(302).header("location", format!("{path}x")),
    });
    let error = client().repository(&fake.reference("a:1")).manifest().unwrap_err();
    assert!(error.to_string().contains("redirects more than 5 times"), "{error:?}");
}

#[test]
fn endless_lists_end() {
    let (fake, _) = registry_with(|asked, _| {
        let path = asked.path().to_owned();
        (path.ends_with("/tags/list")).then(|| match asked.query("last").as_deref() {
            None => Answer::json(200, r#"{"tags":["a"]}"#)
                .header("link", format!("<{path}?last=a>; rel=\"next\"")),
            Some("a") => Answer::json(200, r#"{"tags":["b"]}"#)
                .header("link", "<https://evil.example/v2/a/tags/list?last=b>; rel=\"next\""),
            _ => Answer::json(200, r#"{"tags":null}"#),
        })
    });
    let error = client().repository(&fake.reference("a")).tags().unwrap_err();
    assert!(error.to_string().contains("goes on at another host"), "{error:?}");
}

#[test]
fn mirrors_are_asked_first_and_the_registry_has_the_last_word() {
    let (registry, content) = registry();
    let bytes = noise(1000, 5);
    let blob = content.lock().unwrap().add_blob(&bytes);
    content.lock().unwrap().add_manifest("1", &MediaType::OciManifest, b"{}");
    let lying = Fake::start(|asked| match asked.path() {
        "/v2/" => Answer::new(200),
        path if path.contains("/blobs/") => Answer::new(200).body(noise(999, 6)),
        _ => Answer::new(500),
    });
    let dead = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let conf = format!(
        "[[registry]]\nlocation = \"{0}\"\n[[registry.mirror]]\nlocation = \"{dead}\"\n\
         [[registry.mirror]]\nlocation = \"{1}/proxy\"\n",
        registry.host(),
        lying.host()
    );
    let registries = RegistriesConf::parse(&conf).unwrap();
    let client = Client::new(ClientOptions { registries, ..options() });
    let repository = client.repository(&registry.reference("a:1"));
    repository.manifest().unwrap();
    assert_eq!(read_all(repository.open_blob(&blob).unwrap()).unwrap(), bytes);
    assert!(lying.lines().iter().all(|line| line.contains("/v2/proxy/a/")));
    // Writing goes to the registry alone.
    let before = lying.asked().len();
    repository.put_manifest(&MediaType::OciManifest, b"{\"x\":1}", &["2"]).unwrap();
    assert_eq!(lying.asked().len(), before);
}

#[test]
fn hosts_toml_is_followed() {
    let (mirror, content) = registry();
    content.lock().unwrap().add_manifest("1", &MediaType::OciManifest, b"{}");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("public.example");
    std::fs::create_dir(&own).unwrap();
    let text = format!(
        "server = \"https://public.example\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \
         \"resolve\"]\n[host.\"http://{}\".header]\nx-mirror = \"yes\"\n",
        mirror.host(),
        mirror.host()
    );
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    let hosts_dirs = vec![folder.path().to_owned()];
    let client = Client::new(ClientOptions { hosts_dirs, ..options() });
    let repository = client.repository(&"public.example/a:1".parse().unwrap());
    repository.manifest().unwrap();
    let asked = &mirror.asked()[0];
    assert_eq!(asked.query("ns").as_deref(), Some("public.example"));
    assert_eq!(asked.header("x-mirror"), Some("yes"));
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Reporter for Notes {
    fn event(&self, event: Event) {
        if let Event::Note { text } = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

#[test]
fn warnings_reach_the_person_once() {
    let (fake, content) = registry_with(|_, content| {
        let known = content.lock().unwrap().manifests["1"].1.clone();
        Some(
            Answer::manifest(&MediaType::OciManifest, &known)
                .header("warning", "299 - \"old tag\""),
        )
    });
    content.lock().unwrap().add_manifest("1", &MediaType::OciManifest, b"{}");
    let notes = Arc::new(Notes::default());
    let client = Client::new(ClientOptions { reporter: Some(notes.clone()), ..options() });
    for _ in 0..3 {
        client.repository(&fake.reference("a:1")).manifest().unwrap();
    }
    let host = fake.host();
    assert_eq!(*notes.0.lock().unwrap(), [format!("`{host}` says: old tag")]);
}

#[test]
fn plain_downloads_are_limited_and_resumed() {
    let bytes = noise(100_000, 7);
    let served = bytes.clone();
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |asked| match asked.path() {
        "/tagged" if asked.header("if-none-match") == Some("\"e\"") => Answer::new(304),
        "/tagged" => {
            let mut answer = Answer::blob(asked, &served)
                .header("etag", "\"e\"")
                .header("accept-ranges", "bytes")
                .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
                .header("content-disposition", "attachment; filename=\"f.tar\"");
            if asked.method == "GET" && count.fetch_add(1, Ordering::Relaxed) == 0 {
                answer.cut_at = Some(30_000);
            }
            answer
        }
        "/cut" => Answer { cut_at: Some(10), ..Answer::new(200).body(served.clone()) },
        "/endless" => Answer { endless: true, ..Answer::new(200) },
        _ => Answer::new(404),
    });
    let client = client();
    let url = |path: &str| format!("http://{}{path}", fake.host());
    let limited = |size_max, tag: Option<&str>| FetchOptions {
        authorization: Some(Secret::new("Bearer x")),
        if_none_match: tag.map(str::to_owned),
        size_max,
    };
    let Fetched::File(head, body) = client.fetch(&url("/tagged"), &limited(1 << 20, None)).unwrap()
    else {
        panic!("it is new")
    };
    assert!(read_all(body).unwrap() == bytes);
    assert_eq!((head.size, head.etag.as_deref()), (Some(100_000), Some("\"e\"")));
    assert_eq!(head.last_modified, Some(784_111_777));
    assert_eq!(head.file_name.as_deref(), Some("f.tar"));
    assert_eq!(fake.asked().last().unwrap().header("if-range"), Some("\"e\""));
    assert_eq!(client.fetch_head(&url("/tagged"), &limited(1, None)).unwrap().size, Some(100_000));
    let again = client.fetch(&url("/tagged"), &limited(1 << 20, Some("\"e\""))).unwrap();
    assert!(matches!(again, Fetched::NotModified));

    let kind = |path: &str, size_max| match client.fetch(&url(path), &limited(size_max, None)) {
        Ok(Fetched::File(_, body)) => Error::from(read_all(body).unwrap_err()).kind(),
        Ok(Fetched::NotModified) => panic!("it is new"),
        Err(error) => error.kind(),
    };
    assert_eq!(kind("/tagged", 99_999), ErrorKind::TooLarge);
    assert_eq!(kind("/endless", 50_000), ErrorKind::TooLarge);
    assert_eq!(kind("/cut", 1 << 20), ErrorKind::Network);
    assert_eq!(kind("/none", 1 << 20), ErrorKind::NotFound);
}

#[test]
fn a_proxy_is_used_where_it_is_named() {
    let (registry, content) = registry();
    content.lock().unwrap().add_manifest("1", &MediaType::OciManifest, b"{}");
    let to = registry.address;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let log = Arc::clone(&log);
            std::thread::spawn(move || tunnel(&stream, to, &log));
        }
    });
    let conf = "[[registry]]\nlocation = \"far.example\"\ninsecure = true\n";
    let options = ClientOptions {
        registries: RegistriesConf::parse(conf).unwrap(),
        proxies: conex_remote::ProxyOptions {
            http: Some(format!("http://user:hunter2@{proxy}")),
            https: None,
            no_proxy: "near.example".into(),
        },
        network: Arc::new(Names),
        ..options()
    };
    let client = Client::new(options);
    client.repository(&"far.example/a:1".parse().unwrap()).manifest().unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked.iter().any(|line| line.starts_with("CONNECT far.example:80")), "{asked:?}");
    assert!(asked.iter().any(|line| line == "Proxy-Authorization: Basic dXNlcjpodW50ZXIy"));
}

/// A proxy that connects everybody to one place.
fn tunnel(client: &std::net::TcpStream, to: SocketAddr, log: &Mutex<Vec<String>>) -> Option<()> {
    use std::io::{BufRead, Write};

    let mut reader = std::io::BufReader::new(client);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        log.lock().unwrap().push(line);
    }
    let mut client = client;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let registry = std::net::TcpStream::connect(to).ok()?;
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::copy(&mut reader, &mut &registry));
        std::io::copy(&mut &registry, &mut client).ok()
    })?;
    Some(())
}
