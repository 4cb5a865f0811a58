//! Registries under load: ours beside Debian's, and others that are given by path.
//!
//! Not whole processes but requests are measured here, by a small client of our own that sends the
//! same bytes to each. All hashing is done before; the registries take turns, each on an empty
//! folder on the same disk.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::workload::Numbers;
use crate::shell::Result;

/// What `--only` calls it.
pub(crate) const NAME: &str = "registry-load";

/// What it is.
pub(crate) const WHAT: &str = "registries under many clients: pushes, pulls, memory (by name only)";

/// How much is done; `--runs` multiplies the small pushes.
const SMALL_PUSHES: usize = 600;
const SMALL_CLIENTS: usize = 16;
const LARGE_PUSHES: usize = 48;
const LARGE_BYTES: usize = 10 << 20;
const LARGE_CLIENTS: usize = 8;
const PULLS: usize = 160;
const MANY_CLIENTS: usize = 64;

/// Rows of the large database.
const ROWS: usize = 1_000_000;

type Io<T> = std::io::Result<T>;

/// A registry that can be measured.
struct Contestant {
    name: String,
    start: Start,
}

/// Starts a registry on a folder and a port.
type Start = Box<dyn Fn(&Path, u16) -> Io<Child>>;

/// Runs all cases and gives their table.
pub(crate) fn run(conex: &Path, dir: &Path, runs: usize) -> Result<String> {
    let folder = dir.join("registry");
    // A run that was stopped may have left it.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let contestants = contestants(conex, &folder);
    let work = Work::prepare(runs);
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for contestant in &contestants {
        eprintln!("== registry: {}", contestant.name);
        match measure(contestant, &folder, &work) {
            Ok(row) => rows.push((contestant.name.clone(), row)),
            Err(error) => eprintln!("   {}: {error}", contestant.name),
        }
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    }
    let large = match at_scale(conex, &folder) {
        Ok(text) => text,
        Err(error) => format!("a large database: not measured: {error}\n"),
    };
    let _ = fs::remove_dir_all(&folder);
    Ok(format!("{}\n{large}", table(&rows, &work)))
}

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
fn at_scale(conex: &Path, folder: &Path) -> Io<String> {
    let data = folder.join("scale");
    let start = || -> Io<(Running, String, Duration)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(conex);
        command.args(["registry", "serve", "--access-log", "none", "--data"]).arg(&data);
        command.args(["--listen", &address]).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let running = Running(command.spawn()?);
        while TcpStream::connect(&address).is_err() {
            if began.elapsed() > Duration::from_secs(20) {
                return Err(std::io::Error::other("it does not answer"));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        Client::connect(&address)?.expect("GET", "/healthz", &[], b"", 200)?;
        Ok((running, address, began.elapsed()))
    };
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
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(format!(
        "{ROWS} manifests and tags: start to first answer {:.1} ms (median of 5), a page of 100 tags \
         {:.2} ms (median), {:.2} ms (99 %), memory {:.1} MB\n",
        ms(starts[2]),
        ms(pages[100]),
        ms(pages[198]),
        memory(running.0.id(), "VmRSS:") as f64 / 1e6
    ))
}

fn table(rows: &[(String, Vec<String>)], work: &Work) -> String {
    let mut text = format!(
        "registry: {} small images with {SMALL_CLIENTS} clients, 7 requests each; \
         {LARGE_PUSHES} layers of 10 MiB with {LARGE_CLIENTS} clients; {PULLS} pulls of them\n\n\
         | registry | small pushes/s | PUT to 201, 99 % | large push | large pull | idle memory \
         | most, {MANY_CLIENTS} uploads at once |\n|---|---|---|---|---|---|---|\n",
        work.small.len()
    );
    for (name, cells) in rows {
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    text
}

fn contestants(conex: &Path, folder: &Path) -> Vec<Contestant> {
    let serve = |name: &str, more: &'static [&'static str]| {
        let conex = conex.to_owned();
        Contestant {
            name: name.to_owned(),
            start: Box::new(move |data, port| {
                let mut command = Command::new(&conex);
                command.args(["registry", "serve", "--access-log", "none", "--data"]).arg(data);
                command.args(["--listen", &format!("127.0.0.1:{port}")]).args(more);
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
            }),
        }
    };
    let mut list = vec![serve("conex", &[]), serve("conex --no-sync", &["--no-sync"])];
    let config = folder.with_extension("yml");
    let given = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let debian = Some(PathBuf::from("/usr/bin/docker-registry")).filter(|path| path.exists());
    for (name, program) in
        [("docker-registry", debian), ("distribution", given("CONEX_BENCH_DISTRIBUTION"))]
    {
        let Some(program) = program else {
            eprintln!("   {name}: not installed");
            continue;
        };
        let config = config.clone();
        list.push(Contestant {
            name: name.to_owned(),
            start: Box::new(move |data, port| {
                let text = format!(
                    "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                     http: {{addr: \"127.0.0.1:{port}\"}}\n\
                     log: {{level: error, accesslog: {{disabled: true}}}}\n",
                    data.display()
                );
                fs::write(&config, text)?;
                let mut command = Command::new(&program);
                command.arg("serve").arg(&config);
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
            }),
        });
    }
    if let Some(zot) = given("CONEX_BENCH_ZOT") {
        let config = folder.with_extension("json");
        list.push(Contestant {
            name: "zot".to_owned(),
            start: Box::new(move |data, port| {
                let text = serde_json::json!({
                    "storage": { "rootDirectory": data },
                    "http": { "address": "127.0.0.1", "port": port.to_string() },
                    "log": { "level": "error" },
                });
                fs::write(&config, text.to_string())?;
                let mut command = Command::new(&zot);
                command.arg("serve").arg(&config);
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
            }),
        });
    }
    list
}

/// A process that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(contestant: &Contestant, folder: &Path, work: &Work) -> Io<Vec<String>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let data = folder.join("data");
    let running = Running((contestant.start)(&data, port)?);
    let address = format!("127.0.0.1:{port}");
    let began = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if began.elapsed() > Duration::from_secs(20) {
            return Err(std::io::Error::other("it does not answer"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Client::connect(&address)?.expect("GET", "/v2/", &[], b"", 200)?;
    std::thread::sleep(Duration::from_millis(300));
    let idle = memory(running.0.id(), "VmRSS:");
    let waits = Mutex::new(Vec::new());
    let small = each(&address, SMALL_CLIENTS, work.small.len(), |client, number| {
        let took = work.small[number].push(client, &format!("small/n{}", number % 50))?;
        waits.lock().expect("nobody panics with it").extend(took);
        Ok(())
    })?;
    let mut waits = waits.into_inner().unwrap_or_default();
    waits.sort();
    let late = waits[waits.len() * 99 / 100];
    let large = each(&address, LARGE_CLIENTS, LARGE_PUSHES, |client, number| {
        client.push_blob("large", &work.large[number]).map(|_| ())
    })?;
    let pull = each(&address, LARGE_CLIENTS, PULLS, |client, number| {
        let blob = &work.large[number % LARGE_PUSHES];
        let path = format!("/v2/large/blobs/{}", blob.digest);
        let size = client.drain(&path)?;
        if size == LARGE_BYTES { Ok(()) } else { Err(std::io::Error::other("a short blob")) }
    })?;
    each(&address, MANY_CLIENTS, MANY_CLIENTS, |client, number| {
        client.push_blob("many", &work.large[number % LARGE_PUSHES]).map(|_| ())
    })?;
    let rate = |count: usize, took: Duration| {
        format!("{:.2} GB/s", (count * LARGE_BYTES) as f64 / took.as_secs_f64() / 1e9)
    };
    Ok(vec![
        format!("{:.0}", work.small.len() as f64 / small.as_secs_f64()),
        format!("{:.1} ms", late.as_secs_f64() * 1e3),
        rate(LARGE_PUSHES, large),
        rate(PULLS, pull),
        format!("{:.1} MB", idle as f64 / 1e6),
        format!("{:.1} MB", memory(running.0.id(), "VmHWM:") as f64 / 1e6),
    ])
}

/// Resident memory of a process, now (`VmRSS:`) or at most (`VmHWM:`), in bytes.
fn memory(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Does something so many times by so many clients at once; gives how long that took.
fn each(
    address: &str,
    clients: usize,
    count: usize,
    act: impl Fn(&mut Client, usize) -> Io<()> + Sync,
) -> Io<Duration> {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = || {
            let mut client = Client::connect(address)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                act(&mut client, number)?;
            }
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a client panicked")))
        })
    })?;
    Ok(began.elapsed())
}

/// Everything that is sent, with its digests.
struct Work {
    small: Vec<Image>,
    large: Vec<Blob>,
}

struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

struct Image {
    config: Blob,
    layer: Blob,
    manifest: Blob,
}

impl Work {
    fn prepare(runs: usize) -> Self {
        let mut numbers = Numbers::new(7);
        let mut draw = |size: usize| {
            let mut bytes = vec![0; size];
            numbers.fill(&mut bytes);
            Blob::new(bytes)
        };
        let small = (0..SMALL_PUSHES * runs.max(1)).map(|_| Image::new(draw(2_000))).collect();
        let large = (0..LARGE_PUSHES).map(|_| draw(LARGE_BYTES)).collect();
        Self { small, large }
    }
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        use sha2::Digest as _;
        let hex: String =
            sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, digest: format!("sha256:{hex}") }
    }
}

impl Image {
    fn new(layer: Blob) -> Self {
        let kind = "application/vnd.oci.image";
        let config = Blob::new(format!(r#"{{"of":"{}"}}"#, layer.digest).into_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json",
            "config":{{"mediaType":"{kind}.config.v1+json","digest":"{}","size":{}}},
            "layers":[{{"mediaType":"{kind}.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
            config.digest,
            config.bytes.len(),
            layer.digest,
            layer.bytes.len()
        );
        Self { config, layer, manifest: Blob::new(manifest.into_bytes()) }
    }

    /// Pushes it as clients do, in seven requests. Gives how long each took that makes something
    /// durable.
    fn push(&self, client: &mut Client, repository: &str) -> Io<[Duration; 3]> {
        let mut took = [Duration::ZERO; 3];
        for (blob, took) in [&self.config, &self.layer].into_iter().zip(&mut took) {
            let path = format!("/v2/{repository}/blobs/{}", blob.digest);
            client.expect("HEAD", &path, &[], b"", 404)?;
            *took = client.push_blob(repository, blob)?;
        }
        let path = format!("/v2/{repository}/manifests/{}", &self.manifest.digest[7..27]);
        let headers = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
        let began = Instant::now();
        client.expect("PUT", &path, &headers, &self.manifest.bytes, 201)?;
        took[2] = began.elapsed();
        Ok(took)
    }
}

/// A connection that is used for one request after the other.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    address: String,
}

impl Client {
    fn connect(address: &str) -> Io<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let reader = BufReader::with_capacity(1 << 20, stream.try_clone()?);
        Ok(Self { stream, reader, address: address.to_owned() })
    }

    /// Pushes a blob; gives how long the closing request took.
    fn push_blob(&mut self, repository: &str, blob: &Blob) -> Io<Duration> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let headers = self.expect("POST", &path, &[], b"", 202)?;
        let place = headers.get("location").cloned().unwrap_or_default();
        let place = match place.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => place.trim_start_matches('/'),
        };
        let sign = if place.contains('?') { '&' } else { '?' };
        let path = format!("/{place}{sign}digest={}", blob.digest);
        let began = Instant::now();
        self.expect("PUT", &path, &[], &blob.bytes, 201)?;
        Ok(began.elapsed())
    }

    /// Asks for something; gives the headers of the answer.
    fn expect(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        wanted: u16,
    ) -> Io<HashMap<String, String>> {
        let (status, headers) = self.ask(method, path, headers, body)?;
        let mut content = Vec::new();
        if method != "HEAD" && status != 204 {
            let length = length(&headers);
            self.reader.by_ref().take(length).read_to_end(&mut content)?;
        }
        if status == wanted {
            return Ok(headers);
        }
        let said = String::from_utf8_lossy(&content).into_owned();
        Err(std::io::Error::other(format!("{method} {path}: {status} {said}")))
    }

    /// Reads a blob and drops it.
    fn drain(&mut self, path: &str) -> Io<usize> {
        let (_, headers) = self.ask("GET", path, &[], b"")?;
        let mut left = length(&headers);
        let mut size = 0;
        while left > 0 {
            let some = self.reader.fill_buf()?.len().min(usize::try_from(left).unwrap_or(0));
            if some == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            self.reader.consume(some);
            left -= some as u64;
            size += some;
        }
        Ok(size)
    }

    fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Io<(u16, HashMap<String, String>)> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        let mut bytes = head.into_bytes();
        if body.len() < 64 << 10 {
            bytes.extend_from_slice(body);
            self.stream.write_all(&bytes)?;
        } else {
            self.stream.write_all(&bytes)?;
            self.stream.write_all(body)?;
        }
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => {
                    headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
                }
                None => return Ok((status, headers)),
            }
        }
    }
}

fn length(headers: &HashMap<String, String>) -> u64 {
    headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0)
}
