//! Transfers that are broken, killed and lied to, through the program itself.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::registry_peer::Registry;
use crate::registry_wire::{Way, Wire};
use crate::sandbox::Sandbox;

/// Size of the layer, in MB. `CONEX_TEST_LAYER_MB` makes it another, to measure.
fn layer_mb() -> usize {
    let text = std::env::var("CONEX_TEST_LAYER_MB").unwrap_or_default();
    text.parse().unwrap_or(40)
}

/// A store with the image `big`, of one layer that does not compress.
fn with_big() -> Option<(Sandbox, u64)> {
    let sandbox = Sandbox::with_base()?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(layer_mb() << 20);
    while bytes.len() < layer_mb() << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    sandbox.write("context/big", &bytes);
    sandbox.built("FROM scratch\nCOPY big /big\n", &["-t", "big"]);
    Some((sandbox, bytes.len() as u64))
}

/// Bytes of partial blobs in a store.
fn kept(sandbox: &Sandbox) -> u64 {
    let Ok(entries) = fs::read_dir(sandbox.at("store/partial")) else { return 0 };
    entries.map(|entry| entry.unwrap().metadata().map_or(0, |meta| meta.len())).sum()
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// At most two percent more than needed, and what the requests themselves take.
fn assert_few_extra(what: &str, moved: u64, size: u64) {
    eprintln!("{what}: {moved} bytes for {size} ({:.3} %)", 100.0 * moved as f64 / size as f64);
    assert!(moved < size + size / 50 + 500_000, "{what}: {moved} for {size}");
}

#[test]
fn a_pull_through_many_resets_fetches_nothing_twice() {
    let Some((sandbox, size)) = with_big() else { return };
    let Some(registry) = Registry::start(&sandbox, "") else { return };
    sandbox.ok(&["push", "big", &registry.name("big:1")]);
    let wire = Wire::to(&registry.address);
    let elsewhere = Sandbox::new();
    let resets = if layer_mb() >= 400 { 20 } else { 6 };
    wire.break_after(Way::Down, size / (resets as u64 + 2), resets);
    elsewhere.ok(&["pull", &wire.name("big:1")]);
    assert_eq!(wire.breaks_left(), 0, "all of them happened");
    assert_few_extra("pull", wire.count(Way::Down), size);
    assert_eq!(elsewhere.id(&wire.name("big:1")), sandbox.id("big"));
}

#[test]
fn a_push_through_resets_arrives() {
    let Some((sandbox, size)) = with_big() else { return };
    let Some(registry) = Registry::start(&sandbox, "") else { return };
    let wire = Wire::to(&registry.address);
    // Debian's registry forgets an upload whose request breaks: all of it is sent again.
    wire.break_after(Way::Up, size / 5, 3);
    sandbox.ok(&["push", "big", &wire.name("big:1")]);
    assert_eq!(wire.breaks_left(), 0, "all of them happened");
    assert!(wire.count(Way::Up) < 2 * size);
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &registry.name("big:1")]);
    assert_eq!(elsewhere.id(&registry.name("big:1")), sandbox.id("big"));
}

#[test]
fn a_killed_pull_goes_on_where_it_ended() {
    let Some((sandbox, size)) = with_big() else { return };
    let Some(registry) = Registry::start(&sandbox, "") else { return };
    sandbox.ok(&["push", "big", &registry.name("big:1")]);
    let wire = Wire::to(&registry.address);
    let elsewhere = Sandbox::new();
    let name = wire.name("big:1");
    let mut fetched = 0;
    for part in [1, 2] {
        let mut pull = elsewhere.command(&["pull", &name]).spawn().unwrap();
        wait_for("some bytes", || kept(&elsewhere) > part * size / 3);
        wire.stall(true);
        pull.kill().unwrap();
        pull.wait().unwrap();
        wire.stall(false);
        fetched += wire.take_count(Way::Down);
        assert!(kept(&elsewhere) >= part * size / 3, "what was fetched is kept");
    }
    elsewhere.ok(&["pull", &name]);
    // What was in the sockets when the process died is lost.
    let extra = 12_000_000;
    fetched += wire.take_count(Way::Down);
    assert!(fetched < size + extra, "{fetched} for {size}");
    assert_eq!(elsewhere.id(&name), sandbox.id("big"));
    assert_eq!(kept(&elsewhere), 0);
    let sound = elsewhere.ok(&["system", "check"]);
    assert!(sound.starts_with("the store is sound"), "{sound}");
}

#[test]
fn a_push_survives_a_restart_of_the_registry() {
    let Some((sandbox, size)) = with_big() else { return };
    let Some(mut registry) = Registry::start(&sandbox, "") else { return };
    let wire = Wire::to(&registry.address);
    let name = wire.name("big:1");
    let push = sandbox.command(&["push", "-q", "big", &name]).spawn().unwrap();
    wait_for("some bytes", || wire.count(Way::Up) > size / 2);
    registry.restart();
    let ended = push.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    // A killed registry may have lost what it had not written.
    let sent = wire.count(Way::Up);
    assert!(sent < 2 * size, "{sent} for {size}");
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &registry.name("big:1")]);
}

/// conex's own registry, which keeps what it has of an upload; ended when dropped.
struct Own {
    server: std::process::Child,
    data: String,
    address: String,
}

impl Own {
    fn start(sandbox: &Sandbox) -> Self {
        // Bound and let go: nobody else on a test machine takes a port in that moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (data, address) = (sandbox.text("own"), format!("127.0.0.1:{port}"));
        let server = serve(sandbox, &data, &address);
        Self { server, data, address }
    }

    fn restart(&mut self, sandbox: &Sandbox) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        self.server = serve(sandbox, &self.data, &self.address);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn serve(sandbox: &Sandbox, data: &str, address: &str) -> std::process::Child {
    let mut serve = sandbox.command(&["registry", "serve", "--listen", address, "--data", data]);
    let server = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the registry", || TcpStream::connect(address).is_ok());
    server
}

#[test]
fn a_push_to_a_registry_that_remembers_sends_nothing_twice() {
    let Some((sandbox, size)) = with_big() else { return };
    let mut own = Own::start(&sandbox);
    let wire = Wire::to(&own.address);
    let resets = if layer_mb() >= 400 { 20 } else { 6 };
    wire.break_after(Way::Up, size / (resets as u64 + 2), resets);
    sandbox.ok(&["push", "big", &wire.name("big:1")]);
    assert_eq!(wire.breaks_left(), 0, "all of them happened");
    assert_few_extra("push", wire.take_count(Way::Up), size);
    // An empty one, killed in the middle and started again.
    let name = wire.name("second:1");
    own.data = sandbox.text("empty");
    own.restart(&sandbox);
    wire.take_count(Way::Up);
    let push = sandbox.command(&["push", "-q", "big", &name]).spawn().unwrap();
    wait_for("some bytes", || wire.count(Way::Up) > size / 2);
    own.restart(&sandbox);
    let ended = push.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    // What a killed server had not made durable is sent again.
    let sent = wire.count(Way::Up);
    eprintln!("push over a killed server: {sent} bytes for {size}");
    assert!(sent < 2 * size, "{sent} for {size}");
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &name]);
    assert_eq!(elsewhere.id(&name), sandbox.id("big"));
}

#[test]
fn connections_that_end_too_early_are_taken_up_again() {
    let Some((sandbox, size)) = with_big() else { return };
    let own = Own::start(&sandbox);
    let wire = Wire::to(&own.address);
    wire.end_after(Way::Up, size / 4, 2);
    sandbox.ok(&["push", "big", &wire.name("big:1")]);
    assert_eq!(wire.breaks_left(), 0, "all of them happened");
    assert_few_extra("push", wire.take_count(Way::Up), size);
    wire.end_after(Way::Down, size / 4, 3);
    let elsewhere = Sandbox::new();
    wire.take_count(Way::Down);
    elsewhere.ok(&["pull", &wire.name("big:1")]);
    assert_eq!(wire.breaks_left(), 0, "all of them happened");
    assert_few_extra("pull", wire.take_count(Way::Down), size);
    assert_eq!(elsewhere.id(&wire.name("big:1")), sandbox.id("big"));
}

#[test]
fn a_byte_that_changes_on_the_way_is_noticed_and_named() {
    let Some((sandbox, size)) = with_big() else { return };
    let own = Own::start(&sandbox);
    let wire = Wire::to(&own.address);
    let name = wire.name("big:1");
    // Early: a layer may come and go in parts, each by a connection of its own. On the way up it is
    // the registry that notices.
    let early = size / 16;
    wire.spoil_at(Way::Up, early);
    let error = sandbox.fails(1, &["push", "big", &name]);
    assert!(error.contains("DIGEST_INVALID") || error.contains("digest"), "{error}");
    assert!(sandbox.conex(&["digest", &name]).code != 0, "nothing was tagged");
    sandbox.ok(&["push", "big", &name]);
    wire.spoil_at(Way::Down, early);
    let elsewhere = Sandbox::new();
    let error = elsewhere.fails(1, &["pull", &name]);
    assert!(error.contains("has digest") && error.contains("wanted `sha256:"), "{error}");
    assert_eq!(kept(&elsewhere), 0, "false bytes are no beginning of anything");
    elsewhere.ok(&["pull", &name]);
    assert_eq!(elsewhere.id(&name), sandbox.id("big"));
}

#[test]
fn partial_bytes_that_are_false_are_fetched_again() {
    let Some((sandbox, size)) = with_big() else { return };
    let Some(registry) = Registry::start(&sandbox, "") else { return };
    let name = registry.name("big:1");
    sandbox.ok(&["push", "big", &name]);
    let manifest = sandbox.ok(&["manifest", "inspect", "--raw", &name]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let digest = manifest["layers"][0]["digest"].as_str().unwrap();
    let elsewhere = Sandbox::new();
    // Any use makes the store.
    elsewhere.ok(&["images"]);
    let file = format!("store/partial/{}", digest.replace(':', "-"));
    elsewhere.write(&file, vec![7; 5 << 20]);
    elsewhere.ok(&["pull", &name]);
    assert_eq!(elsewhere.id(&name), sandbox.id("big"));
    // One that has more bytes than the blob.
    let third = Sandbox::new();
    third.ok(&["images"]);
    third.write(&file, vec![7; usize::try_from(size).unwrap() + (1 << 20)]);
    third.ok(&["pull", &name]);
    assert_eq!(kept(&third), 0);
}
