//! Images to and from a real registry, and what other clients see there.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::registry_peer::{Registry, htpasswd};
use crate::sandbox::{Sandbox, missing, program};

#[test]
fn what_is_pushed_is_pulled_and_run_elsewhere() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let Some(registry) = Registry::start(&sandbox, "") else { return };
    sandbox.write("context/a", "hello\n");
    sandbox.built("FROM base\nCOPY a /a\nCMD [\"cat\", \"/a\"]\n", &["-t", "app"]);
    let name = format!("{}/acme/app:1", registry.address);
    let pushed = sandbox.ok(&["push", "app", &name]);
    assert!(pushed.contains("digest: sha256:"), "{pushed}");
    // Nothing is sent twice, and the digest stays.
    assert_eq!(sandbox.ok(&["push", "app", &name]), pushed);
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &name]);
    assert_eq!(elsewhere.id(&name), sandbox.id("app"));
    assert_eq!(elsewhere.ok(&["run", "--rm", &name]), "hello\n");
    if program("skopeo").is_some() {
        let mut skopeo = Command::new("skopeo");
        // Without credentials: their usual folder may be closed to an ordinary user.
        skopeo.args(["inspect", "--no-creds", "--tls-verify=false", "--format", "{{.Digest}}"]);
        let output = skopeo.arg(format!("docker://{name}")).output().unwrap();
        let seen = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(pushed.contains(&seen) && !seen.is_empty(), "{seen}: {pushed}{said}");
    } else {
        missing("skopeo");
    }
}

#[test]
fn builds_start_from_a_registry_and_share_their_cache_through_it() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let Some(registry) = Registry::start(&sandbox, "") else { return };
    let base = format!("{}/base:1", registry.address);
    let cache = format!("type=registry,ref={}/cache,mode=max", registry.address);
    sandbox.ok(&["push", "base", &base]);
    let dockerfile = format!("FROM {base}\nRUN echo made > /made\nRUN echo too > /too\n");
    let args = ["--cache-to", &cache, "-t", "app"];
    sandbox.built(&dockerfile, &args);
    let elsewhere = Sandbox::new();
    let shown = elsewhere.built(&dockerfile, &["--cache-from", &cache, "-t", "app"]);
    assert_eq!(shown.matches("CACHED").count(), 3, "{shown}");
    assert_eq!(elsewhere.id("app"), sandbox.id("app"));
    let output = format!("type=registry,ref={}/none", registry.address);
    let shown = elsewhere.built(&dockerfile, &["--cache-from", &output]);
    assert!(shown.contains("is not used"), "a cache that is not there is no error: {shown}");
    let pushed = format!("{}/pushed:2", registry.address);
    elsewhere.built(&dockerfile, &["--push", "-t", &pushed]);
    sandbox.ok(&["pull", &pushed]);
    assert_eq!(sandbox.id(&pushed), sandbox.id("app"));
}

#[test]
fn who_logged_in_may_push_and_who_logged_out_may_not() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let Some(htpasswd) = htpasswd(&sandbox) else { return };
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}\n");
    let Some(registry) = Registry::start(&sandbox, &auth) else { return };
    let name = format!("{}/app:1", registry.address);
    let refused = sandbox.fails(1, &["push", "base", &name]);
    assert!(refused.contains(&format!("conex login {}", registry.address)), "{refused}");
    let login = ["login", "-u", "user", "--password-stdin", &registry.address];
    assert_eq!(sandbox.conex_with(&login, b"wrong\n").code, 1);
    let said = sandbox.conex_with(&login, b"secret\n");
    assert_eq!((said.code, said.out.as_str()), (0, "Login Succeeded\n"), "{}", said.err);
    assert!(!said.err.contains("secret"));
    sandbox.ok(&["push", "base", &name]);
    sandbox.ok(&["logout", &registry.address]);
    sandbox.fails(1, &["pull", &name]);
}

#[test]
fn a_registry_that_is_not_there_is_named_at_once() {
    let sandbox = Sandbox::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = format!("127.0.0.1:{port}/app:1");
    let began = Instant::now();
    let error = sandbox.fails(1, &["pull", &name]);
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    // Six attempts with growing waits would take a quarter of a minute.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_layer_that_was_built_is_sent_while_it_is_packed() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let (fake, content) = crate::registry_fake::registry_with(|_, _| None);
    let name = format!("{}/app:1", fake.host());
    // On a machine that is very busy, all of it can be packed before the first byte is sent.
    let was_streamed = (0..5).any(|attempt| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 + attempt;
        let mut bytes = Vec::with_capacity(24 << 20);
        while bytes.len() < 24 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        sandbox.write("context/big", &bytes);
        sandbox.built("FROM base\nCOPY big /big\n", &["-t", "big"]);
        sandbox.ok(&["push", "big", &name]);
        let asked = fake.asked();
        asked.iter().any(|asked| asked.header("transfer-encoding") == Some("chunked"))
    });
    assert!(was_streamed, "its size was known each time before it was sent");
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &name]);
    assert_eq!(elsewhere.id(&name), sandbox.id("big"));
    // What was packed on the way is kept: the registry is asked before anything is sent again.
    let before = fake.asked().len();
    content.lock().unwrap().manifests.clear();
    sandbox.ok(&["push", "big", &name]);
    let again = fake.asked().split_off(before);
    assert!(again.iter().all(|asked| asked.method != "PATCH"), "{again:?}");
}
