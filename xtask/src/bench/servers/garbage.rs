//! A million dead blobs, collected while clients push.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::{Blob, Client, Image};
use super::{Io, memory, ms, percentile, serve};

/// How many there are.
const COUNT: usize = 1_000_000;

/// Clients that push meanwhile.
const CLIENTS: usize = 4;

/// How long is looked at how fast pushes are without garbage.
const BEFORE: Duration = Duration::from_secs(15);

/// When it is given up.
const MOST: Duration = Duration::from_secs(1_200);

/// Writes blobs into our own database and folder that nothing needs any more, as if a million
/// images had been deleted.
const FILL: &str = r#"
import sqlite3, hashlib, sys, os
data, count = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(data + '/registry.db')
db.execute("PRAGMA synchronous = OFF")
repo = db.execute("INSERT INTO repositories (name, created) VALUES ('dead', 0)").lastrowid
for n in range(256):
    os.makedirs('%s/blobs/sha256/%02x' % (data, n), exist_ok=True)
def all():
    for n in range(count):
        bytes = b'dead %d' % n
        hash = hashlib.sha256(bytes)
        name = 'sha256/%s/%s.%08x-0000-4000-8000-000000000000' % (hash.hexdigest()[:2],
                                                                hash.hexdigest(), n)
        yield bytes, b'\x01' + hash.digest(), name
def blobs():
    for bytes, digest, name in all():
        with open('%s/blobs/%s' % (data, name), 'wb') as file:
            file.write(bytes)
        yield digest, name, len(bytes)
db.executemany("INSERT INTO blobs (digest, object, size, created) VALUES (?, ?, ?, 0)", blobs())
rows = lambda: ((repo, digest) for _, digest, _ in all())
db.executemany("INSERT INTO repo_blobs (repo, digest, lease) VALUES (?, ?, 0)", rows())
db.executemany("INSERT INTO reviews (kind, repo, item, due) VALUES (1, ?, ?, 0)", rows())
db.commit()
"#;

/// When a push ended, and how long its slowest durable request took.
type Push = (Instant, Duration);

pub(super) fn measure(conex: &Path, folder: &Path) -> Io<String> {
    let data = folder.join("garbage");
    drop(serve(conex, &data, &[])?);
    let mut fill = Command::new("python3");
    fill.args(["-c", FILL]).arg(&data).arg(COUNT.to_string());
    if !fill.status()?.success() {
        return Err(std::io::Error::other("python3 cannot fill the registry"));
    }
    let interval = format!("{}s", BEFORE.as_secs());
    let (running, address, _) = serve(conex, &data, &["--gc-interval", &interval])?;
    let (next, ends) = (AtomicUsize::new(0), AtomicBool::new(false));
    let pushes = Mutex::new(Vec::new());
    let watched = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| push(&address, &next, &ends, &pushes))).collect();
        let watched = watch(&address);
        ends.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap_or_else(|_| Err(std::io::Error::other("a client panicked")))?;
        }
        watched
    })?;
    let pushes = pushes.into_inner().unwrap_or_default();
    let part = |from: Instant, to: Instant| {
        let mut waits: Vec<Duration> =
            pushes.iter().filter(|(at, _)| (from..to).contains(at)).map(|push| push.1).collect();
        waits.sort();
        let rate = waits.len() as f64 / (to - from).as_secs_f64();
        format!("{rate:.0} pushes/s, 99 % of PUTs {:.1} ms", ms(percentile(&waits, 99)))
    };
    let Watched { began, first, rows, objects } = watched;
    Ok(format!(
        "{COUNT} dead blobs: rows gone after {:.1} s, objects after {:.1} s; {CLIENTS} clients \
         before: {}; while rows go: {}; while objects go: {}; memory at most {:.1} MB\n",
        (rows - first).as_secs_f64(),
        (objects - first).as_secs_f64(),
        part(began, first),
        part(first, rows),
        part(rows, objects),
        memory(running.0.id(), "VmHWM:") as f64 / 1e6,
    ))
}

/// Pushes new small images until it shall end.
fn push(address: &str, next: &AtomicUsize, ends: &AtomicBool, log: &Mutex<Vec<Push>>) -> Io<()> {
    let mut client = Client::connect(address)?;
    while !ends.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let text = format!("small layer {number} ").repeat(100);
        let image = Image::new(Blob::new(text.into_bytes()));
        let took = image.push(&mut client, &format!("live/n{}", number % 50))?;
        let most = took.into_iter().max().unwrap_or_default();
        log.lock().expect("nobody panics with it").push((Instant::now(), most));
    }
    Ok(())
}

/// When what happened.
struct Watched {
    began: Instant,
    first: Instant,
    rows: Instant,
    objects: Instant,
}

/// Asks how far the collector is until it is done.
fn watch(address: &str) -> Io<Watched> {
    let began = Instant::now();
    let mut client = Client::connect(address)?;
    let (mut first, mut rows) = (None, None);
    while began.elapsed() < MOST {
        std::thread::sleep(Duration::from_millis(100));
        let text = client.text("/metrics")?;
        let now = Instant::now();
        let count = |name: &str| -> usize {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
        };
        let gone = count("conex_registry_gc_blobs_total ");
        let removed = count("conex_registry_gc_objects_total ");
        if gone > 0 {
            first.get_or_insert(now);
        }
        if gone >= COUNT {
            rows.get_or_insert(now);
        }
        if let (Some(first), Some(rows), true) = (first, rows, removed >= COUNT) {
            return Ok(Watched { began, first, rows, objects: now });
        }
    }
    Err(std::io::Error::other("it is not done in time"))
}
