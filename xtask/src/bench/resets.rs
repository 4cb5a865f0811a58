//! A very large layer through connections that break: how many bytes move that should not have to,
//! and how much memory that takes.
//!
//! The registry is a small one of our own, which makes the layer's bytes as they are asked for and
//! only digests what it is sent: a layer of 10 GB takes up no disk there, and each connection
//! breaks where it is told to. Bytes count as moved when they are handed to the network, so what
//! was on its way when a connection broke counts too.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::measure::wait_watching;
use super::workload::Numbers;
use crate::shell::Result;

/// What `--only` calls it.
pub(crate) const NAME: &str = "registry-resets";

/// What it is.
pub(crate) const WHAT: &str = "a layer of 10 GB through 20 broken connections (by name only)";

/// How large the layer is, in MiB; `CONEX_BENCH_LAYER_MB` makes it another.
const LAYER_MIB: u64 = 10 << 10;

/// How often connections break.
const BREAKS: i64 = 20;

/// What is made at once, and what a tar consists of.
const BLOCK: u64 = 64 << 10;
const RECORD: u64 = 512;

/// What of the tar is one file. All have one name, so that only the last one takes up disk when the
/// layer is unpacked.
const ENTRY: u64 = 1 << 30;

type Io<T> = std::io::Result<T>;

/// Pulls and pushes it, and gives the table.
pub(crate) fn run(conex: &Path, dir: &Path) -> Result<String> {
    let text = |error: std::io::Error| error.to_string();
    let size = std::env::var("CONEX_BENCH_LAYER_MB").ok().and_then(|mib| mib.parse().ok());
    let layer = Layer::new(size.unwrap_or(LAYER_MIB) << 20);
    let folder = dir.join("resets");
    // A run that was stopped may have left it.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(text)?;
    eprintln!("== {NAME}: {} MiB", layer.size >> 20);
    let registry = Registry::start(layer).map_err(text)?;
    let store = folder.join("store");
    let image = format!("{}/large:1", registry.address);
    let other = format!("{}/pushed:1", registry.address);
    let mut rows = Vec::new();
    for (what, words) in [("pull", vec!["pull", &image]), ("push", vec!["push", &image, &other])] {
        registry.break_often();
        let mut command = Command::new(conex);
        command.arg("--root").arg(&store).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        let began = Instant::now();
        let mut child = command.spawn().map_err(text)?;
        let (status, memory_kib) = wait_watching(&mut child)?;
        if !status.success() {
            return Err(format!("{what}: {status}"));
        }
        rows.push(registry.row(what, began.elapsed(), memory_kib));
    }
    drop(registry);
    fs::remove_dir_all(&folder).map_err(text)?;
    let head = format!("### {NAME}: {WHAT}\n\n| what | time | memory | breaks | bytes too many |");
    Ok(format!("{head}\n|---|---|---|---|---|\n{}", rows.join("\n")))
}

/// A tar whose bytes are made as they are needed.
struct Layer {
    size: u64,
    /// A file with its header.
    entry: u64,
    header: Vec<u8>,
    digest: String,
}

impl Layer {
    fn new(wanted: u64) -> Self {
        let entry = wanted.min(ENTRY);
        let size = wanted / entry * entry + 2 * RECORD;
        let mut layer = Self { size, entry, header: header(entry - RECORD), digest: String::new() };
        let mut hasher = Sha256::new();
        let mut bytes = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < size {
            let count = bytes.len().min(usize::try_from(size - offset).unwrap_or(usize::MAX));
            layer.fill(offset, &mut bytes[..count]);
            hasher.update(&bytes[..count]);
            offset += count as u64;
        }
        layer.digest = digest(hasher);
        layer
    }

    /// Makes the bytes from an offset on.
    fn fill(&self, offset: u64, bytes: &mut [u8]) {
        let mut block = vec![0; usize::try_from(BLOCK).unwrap_or_default()];
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            // The same block is the same bytes, whoever asks for it and in what order.
            Numbers::new(at / BLOCK + 1).fill(&mut block);
            let skip = usize::try_from(at % BLOCK).unwrap_or_default();
            let count = (block.len() - skip).min(bytes.len() - done);
            bytes[done..done + count].copy_from_slice(&block[skip..skip + count]);
            done += count;
        }
        // A header in front of each file, two empty records behind the last.
        let last = (offset + bytes.len() as u64) / self.entry;
        for entry in offset / self.entry..=last {
            for (index, byte) in self.header.iter().enumerate() {
                put(bytes, offset, entry * self.entry + index as u64, *byte);
            }
        }
        for index in self.size - 2 * RECORD..self.size {
            put(bytes, offset, index, 0);
        }
    }
}

fn put(bytes: &mut [u8], offset: u64, index: u64, value: u8) {
    let at = index.checked_sub(offset).and_then(|at| usize::try_from(at).ok());
    if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
        *byte = value;
    }
}

/// The header of a file `large` in a tar, with a size that needs more than octal digits.
fn header(size: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut set = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    set(0, b"large");
    set(100, b"0000644\0");
    set(108, b"0000000\0");
    set(116, b"0000000\0");
    let mut number = [0; 12];
    number[0] = 0x80;
    number[4..].copy_from_slice(&size.to_be_bytes());
    set(124, &number);
    set(136, b"00000000000\0");
    set(148, b"        ");
    set(156, b"0");
    set(257, b"ustar  \0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn digest(hasher: Sha256) -> String {
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The registry, and what moved through it.
struct Registry {
    address: String,
    state: Arc<State>,
}

struct State {
    layer: Layer,
    config: Vec<u8>,
    manifest: Vec<u8>,
    /// Bytes of layers, either way.
    moved: AtomicU64,
    breaks: AtomicI64,
    ended: AtomicBool,
    /// What has come of the upload: how much, digested so far.
    upload: Mutex<(u64, Sha256)>,
    /// What a finished push left.
    pushed: Mutex<HashMap<String, u64>>,
}

impl Registry {
    fn start(layer: Layer) -> Io<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let of = |bytes: &[u8]| digest(Sha256::new_with_prefix(bytes));
        let config = format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\
             \"diff_ids\":[\"{}\"]}}}}",
            layer.digest
        );
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{{\"mediaType\":\
             \"application/vnd.oci.image.config.v1+json\",\"digest\":\"{}\",\"size\":{}}},\
             \"layers\":[{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\
             \"digest\":\"{}\",\"size\":{}}}]}}",
            of(config.as_bytes()),
            config.len(),
            layer.digest,
            layer.size
        );
        let state = Arc::new(State {
            layer,
            config: config.into_bytes(),
            manifest: manifest.into_bytes(),
            moved: AtomicU64::new(0),
            breaks: AtomicI64::new(0),
            ended: AtomicBool::new(false),
            upload: Mutex::new((0, Sha256::new())),
            pushed: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Io::ok) {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let state = Arc::clone(&shared);
                // A connection that breaks is what this is about.
                std::thread::spawn(move || serve(&stream, &state).ok());
            }
        });
        Ok(Self { address, state })
    }

    fn break_often(&self) {
        self.state.moved.store(0, Ordering::SeqCst);
        self.state.breaks.store(BREAKS, Ordering::SeqCst);
    }

    fn row(&self, what: &str, time: Duration, memory_kib: u64) -> String {
        let (moved, size) = (self.state.moved.load(Ordering::SeqCst), self.state.layer.size);
        let extra = moved.saturating_sub(size) as f64 * 100.0 / size as f64;
        let broken = BREAKS - self.state.breaks.load(Ordering::SeqCst).max(0);
        let memory = memory_kib as f64 * 1024.0 / 1e6;
        let seconds = time.as_secs_f64();
        format!("| {what} | {seconds:.1} s | {memory:.0} MB | {broken} | {extra:.3} % |")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(&self.address));
    }
}

impl State {
    /// After how many bytes a connection breaks: in all, a little before the end of the layer.
    fn break_after(&self) -> u64 {
        self.layer.size / (BREAKS.unsigned_abs() + 1)
    }

    /// Whether a connection that carried so much breaks now.
    fn is_due(&self, carried: u64) -> bool {
        carried >= self.break_after() && self.breaks.fetch_sub(1, Ordering::SeqCst) > 0
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn broken() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}

/// Breaks a connection: closed without a linger, it is reset and not ended.
fn reset(stream: &TcpStream) -> std::io::Error {
    // If that cannot be set, the connection ends too early all the same.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    let _ = stream.shutdown(std::net::Shutdown::Both);
    broken()
}

fn serve(stream: &TcpStream, state: &State) -> Io<()> {
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || !line.starts_with(|c: char| c.is_ascii_uppercase())
        {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if headers.get("expect").is_some_and(|value| value == "100-continue") {
            reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        answer(&mut reader, state, method, target, &headers)?;
    }
}

fn respond(mut stream: &TcpStream, status: u16, headers: &str, body: &[u8]) -> Io<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

fn answer(
    reader: &mut BufReader<&TcpStream>,
    state: &State,
    method: &str,
    target: &str,
    headers: &HashMap<String, String>,
) -> Io<()> {
    let stream = *reader.get_ref();
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let last = target.rsplit('/').next().unwrap_or_default();
    match method {
        "GET" if target == "/v2/" => respond(stream, 200, "", b""),
        "GET" if target.contains("/uploads/") => respond(stream, 204, &reached(state), b""),
        "POST" => {
            *state.upload.lock().unwrap_or_else(PoisonError::into_inner) = (0, Sha256::new());
            respond(stream, 202, &reached(state), b"")
        }
        "PATCH" => {
            receive(reader, state, length)?;
            respond(stream, 202, &reached(state), b"")
        }
        "PUT" => {
            let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
            reader.read_exact(&mut body)?;
            let is_manifest = target.contains("/manifests/");
            let mut upload = state.upload.lock().unwrap_or_else(PoisonError::into_inner);
            let (size, mut hasher) = std::mem::replace(&mut *upload, (0, Sha256::new()));
            hasher.update(&body);
            let size = size + body.len() as u64;
            let got = digest(hasher);
            if !is_manifest
                && !target.ends_with(&got.replace(':', "%3A"))
                && !target.ends_with(&got)
            {
                return respond(stream, 400, "", b"");
            }
            state.pushed.lock().unwrap_or_else(PoisonError::into_inner).insert(got, size);
            respond(stream, 201, "location: /x\r\n", b"")
        }
        _ if target.contains("/pushed/") => {
            let pushed = state.pushed.lock().unwrap_or_else(PoisonError::into_inner);
            match pushed.get(last) {
                // Only the length is asked for.
                Some(size) => {
                    let head = format!("HTTP/1.1 200 X\r\ncontent-length: {size}\r\n\r\n");
                    let mut stream = stream;
                    stream.write_all(head.as_bytes())
                }
                None if method == "HEAD" => {
                    let mut stream = stream;
                    stream.write_all(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n")
                }
                None => respond(stream, 404, "", b""),
            }
        }
        _ if target.contains("/manifests/") => {
            let kind = format!("content-type: {MANIFEST}\r\n");
            let body: &[u8] = if method == "HEAD" { b"" } else { &state.manifest };
            respond(stream, 200, &kind, body)
        }
        _ if last == state.layer.digest => send(stream, state, headers.get("range")),
        _ => respond(stream, 200, "", &state.config),
    }
}

fn reached(state: &State) -> String {
    let (size, _) = &*state.upload.lock().unwrap_or_else(PoisonError::into_inner);
    format!("location: /v2/pushed/blobs/uploads/1\r\nrange: 0-{}\r\n", size.saturating_sub(1))
}

/// Sends the layer, or the range of it that is asked for.
fn send(mut stream: &TcpStream, state: &State, range: Option<&String>) -> Io<()> {
    let layer = &state.layer;
    let range = range.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let first: u64 = range.and_then(|(first, _)| first.parse().ok()).unwrap_or(0);
    let last = range.and_then(|(_, last)| last.parse().ok()).unwrap_or(layer.size - 1);
    let (status, mut offset, end) = (206 - 6 * u16::from(range.is_none()), first, last + 1);
    let head = format!(
        "HTTP/1.1 {status} X\r\naccept-ranges: bytes\r\ncontent-range: bytes {first}-{last}/{}\r\n\
         content-length: {}\r\n\r\n",
        layer.size,
        end - first
    );
    stream.write_all(head.as_bytes())?;
    let mut bytes = vec![0; usize::try_from(BLOCK).unwrap_or_default()];
    while offset < end {
        let count = bytes.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        layer.fill(offset, &mut bytes[..count]);
        stream.write_all(&bytes[..count])?;
        state.moved.fetch_add(count as u64, Ordering::SeqCst);
        offset += count as u64;
        if state.is_due(offset - first) {
            return Err(reset(stream));
        }
    }
    Ok(())
}

/// Takes what a request brings to the upload.
fn receive(reader: &mut BufReader<&TcpStream>, state: &State, length: u64) -> Io<()> {
    let mut bytes = vec![0; 256 << 10];
    let mut left = length;
    while left > 0 {
        let room = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = reader.read(&mut bytes[..room])?;
        if count == 0 {
            return Err(broken());
        }
        left -= count as u64;
        let mut upload = state.upload.lock().unwrap_or_else(PoisonError::into_inner);
        upload.0 += count as u64;
        upload.1.update(&bytes[..count]);
        drop(upload);
        state.moved.fetch_add(count as u64, Ordering::SeqCst);
        if state.is_due(length - left) {
            // What has arrived and nobody reads any more.
            let unread = rustix::io::ioctl_fionread(reader.get_ref()).unwrap_or_default();
            state.moved.fetch_add(unread + reader.buffer().len() as u64, Ordering::SeqCst);
            return Err(reset(reader.get_ref()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Layer;

    #[test]
    fn bytes_do_not_depend_on_how_they_are_asked_for() {
        let layer = Layer::new(1 << 20);
        let mut whole = vec![0; 1 << 20];
        layer.fill(0, &mut whole);
        for (begin, end) in [(0, 700), (100, 513), (65_000, 200_000), ((1 << 20) - 2000, 1 << 20)] {
            let mut part = vec![0; end - begin];
            layer.fill(begin as u64, &mut part);
            assert!(part == whole[begin..end], "{begin}");
        }
    }
}
