//! Our registry with a million manifests and tags.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::client::Client;
use super::{Io, memory, ms, serve};

/// Rows of the large database.
const ROWS: usize = 1_000_000;

/// Writes a million manifests and tags into our own database, as a million pushes would.
const FILL: &str = r#"
import sqlite3, hashlib, sys
path, count = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path)
db.execute("PRAGMA synchronous = OFF")
repo = db.execute("INSERT INTO repositories (name, created) VALUES ('big', 0)").lastrowid
text = b'{"schemaVersion":2}' + b' ' * 500
def manifests():
    for n in range(count):
        digest = b'\x01' + hashlib.sha256(str(n).encode()).digest()
        yield (n + 1, repo, digest, 'application/vnd.oci.image.manifest.v1+json', 519, 0, 0, text)
db.executemany("INSERT INTO manifests (id, repo, digest, media_type, size, created, lease, bytes) "
               "VALUES (?, ?, ?, ?, ?, ?, ?, ?)", manifests())
db.executemany("INSERT INTO tags (repo, name, manifest, updated, actor) VALUES (?, ?, ?, 0, 'x')",
               ((repo, 'v%07d' % n, n + 1) for n in range(count)))
db.commit()
"#;

/// How our registry starts and lists with a million manifests and tags.
pub(super) fn measure(conex: &Path, folder: &Path) -> Io<String> {
    let data = folder.join("scale");
    let start = || serve(conex, &data, &[]);
    drop(start()?);
    let mut fill = Command::new("python3");
    fill.args(["-c", FILL]).arg(data.join("registry.db")).arg(ROWS.to_string());
    if !fill.status()?.success() {
        return Err(std::io::Error::other("python3 cannot fill the database"));
    }
    let mut starts: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        starts.push(start()?.2);
    }
    starts.sort();
    let (running, address, _) = start()?;
    let mut client = Client::connect(&address)?;
    let mut pages: Vec<Duration> = Vec::new();
    for number in 0..200 {
        let last = number * 7919 * 631 % ROWS;
        let path = format!("/v2/big/tags/list?n=100&last=v{last:07}");
        let began = Instant::now();
        client.expect("GET", &path, &[], b"", 200)?;
        pages.push(began.elapsed());
    }
    pages.sort();
    Ok(format!(
        "{ROWS} manifests and tags: start to first answer {:.1} ms (median of 5), a page of 100 tags \
         {:.2} ms (median), {:.2} ms (99 %), memory {:.1} MB\n",
        ms(starts[2]),
        ms(pages[100]),
        ms(pages[198]),
        memory(running.0.id(), "VmRSS:") as f64 / 1e6
    ))
}
