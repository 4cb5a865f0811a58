//! A registry that is killed at any moment: what it acknowledged is there, and nothing is left.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use conex_oci::Digest;
use conex_registry::{Durability, Repair, Server, check};

use crate::client::{Client, MANIFEST, with_query};
use crate::server::{Registry, now, options};

/// Names the folder that the other process serves.
pub(crate) const DATA: &str = "CONEX_REGISTRY_TEST_DATA";

/// How many milliseconds it keeps what nothing needs, and what tags were on.
pub(crate) const TIMES: &str = "CONEX_REGISTRY_TEST_TIMES";

/// No test of its own: what the next one starts and kills.
#[test]
fn served_by_another_process() {
    let Some(data) = std::env::var_os(DATA) else { return };
    let mut options = options(Path::new(&data));
    options.durability = Durability::Synced;
    let times = std::env::var(TIMES).unwrap_or_else(|_| "2000 200".to_owned());
    let mut times = times.split(' ').map(|text| Duration::from_millis(text.parse().unwrap()));
    options.times.lease = times.next().unwrap();
    options.times.history = times.next().unwrap();
    options.times.gc_interval = Duration::from_millis(20);
    let server = Server::open(options).unwrap();
    eprintln!("listening on {}", server.address());
    let stop = server.stopper();
    std::thread::spawn(move || {
        // Whoever started it may end it by closing this, and may not.
        if std::io::stdin().read_line(&mut String::new()).is_ok() {
            stop.stop();
        }
    });
    server.run().unwrap();
}

/// A manifest and its layer.
type Pushed = (Vec<u8>, Vec<u8>);

struct Process {
    child: Child,
    client: Client,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed::served_by_another_process", "--nocapture"]);
        command.env(DATA, data).stdout(Stdio::null()).stderr(Stdio::piped()).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the server ended").unwrap();
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, client: Client::new(&address) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Pushes an image; true if everything was acknowledged.
pub(crate) fn push(client: &Client, tag: &str, layer: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let blob = |bytes: &[u8]| -> std::io::Result<bool> {
        let begun = client.try_ask("POST", "/v2/app/blobs/uploads/", &[], b"")?;
        let path = with_query(&begun.location(), &format!("digest={}", Digest::of(bytes)));
        Ok(client.try_ask("PUT", &path, &[], bytes)?.status == 201)
    };
    let config = format!(r#"{{"of":"{tag}"}}"#);
    if !blob(config.as_bytes())? || !blob(layer)? {
        return Ok(None);
    }
    let bytes = crate::client::manifest(
        &Digest::of(config.as_bytes()),
        config.len(),
        &[(&Digest::of(layer), layer.len())],
        "",
    );
    let path = format!("/v2/app/manifests/{tag}");
    let reply = client.try_ask("PUT", &path, &[("Content-Type", MANIFEST)], &bytes)?;
    Ok((reply.status == 201).then_some(bytes))
}

#[test]
fn what_was_acknowledged_survives_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // By tag: the manifest and the layer that were acknowledged last, or none if a later push of
    // the tag may or may not have counted.
    let acked: Mutex<HashMap<String, Pushed>> = Mutex::default();
    for round in 0..12_u64 {
        let process = Process::start(&data);
        let ends = Instant::now() + Duration::from_millis(60 + 61 * round % 400);
        std::thread::scope(|scope| {
            for worker in 0..4_u64 {
                let (client, acked) = (&process.client, &acked);
                scope.spawn(move || {
                    for number in 0.. {
                        let tag = format!("w{worker}-{}", number % 5);
                        let size = 10 + (number * 7919 % 50) as usize * 3000;
                        let layer =
                            [format!("{round}/{worker}/{number}").into_bytes(), vec![7; size]];
                        let layer = layer.concat();
                        acked.lock().unwrap().remove(&tag);
                        match push(client, &tag, &layer) {
                            Ok(Some(bytes)) => {
                                acked.lock().unwrap().insert(tag, (bytes, layer));
                            }
                            Ok(None) => panic!("a push was refused"),
                            Err(_) => break,
                        }
                    }
                });
            }
            std::thread::sleep(ends.saturating_duration_since(Instant::now()));
            drop_now(&process);
        });
        drop(process);
        let process = Process::start(&data);
        let acked = acked.lock().unwrap();
        for (tag, (bytes, layer)) in acked.iter() {
            let reply = process.client.get(&format!("/v2/app/manifests/{tag}"));
            assert_eq!(&reply.body, bytes, "round {round}: `{tag}` is lost");
            let path = format!("/v2/app/blobs/{}", Digest::of(layer));
            assert!(
                process.client.get(&path).body == *layer,
                "round {round}: `{tag}` is not whole"
            );
        }
        drop(process);
        let report = check(&data, Repair::No, now()).unwrap();
        assert!(report.damages.is_empty(), "round {round}: {report:#?}");
    }
    assert!(acked.lock().unwrap().len() > 5, "too little was pushed to say anything");
    // What was interrupted is finished at the next start.
    mended(&data);
    let report = check(&data, Repair::No, now()).unwrap();
    assert!(report.damages.is_empty(), "{report:#?}");
}

/// Starts a registry and ends it well, until what an earlier one left is gone.
pub(crate) fn mended(data: &Path) {
    for wait in 0..14 {
        let registry = Registry::start(data);
        std::thread::sleep(Duration::from_millis(1 << wait));
        drop(registry);
        if std::fs::read(data.join("lock")).unwrap().is_empty() {
            return;
        }
    }
    panic!("it never ends well");
}

/// Kills it while others talk to it.
fn drop_now(process: &Process) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
