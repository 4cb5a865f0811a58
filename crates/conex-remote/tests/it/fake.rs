//! A registry in a thread, which does what it is told to: answer, lie, break off, be slow.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use conex_oci::{Compression, Descriptor, Digest, MediaType};

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (key == name).then(|| decoded(value))
        })
    }

    pub(crate) fn queries(&self, name: &str) -> Vec<String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The pairs of a form in the body.
    pub(crate) fn form(&self) -> HashMap<String, String> {
        let text = String::from_utf8(self.body.clone()).unwrap();
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (decoded(key), decoded(value))).collect()
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    /// First and last byte of a `Range` header.
    pub(crate) fn range(&self) -> Option<(usize, Option<usize>)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()))
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// What to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Send only so many bytes of the body, then hang up.
    pub(crate) cut_at: Option<usize>,
    /// Claim another length; `None` for the true one.
    pub(crate) claim: Option<u64>,
    /// Send the body in chunks, for ever, until the other side hangs up.
    pub(crate) endless: bool,
    /// After `cut_at` bytes, say nothing more instead of hanging up.
    pub(crate) stall: bool,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::new(status).header("content-type", "application/json").body(body)
    }

    /// A manifest, with the headers that registries send.
    pub(crate) fn manifest(media_type: &MediaType, bytes: &[u8]) -> Self {
        Self::new(200)
            .header("content-type", media_type.as_str())
            .header("docker-content-digest", Digest::of(bytes).as_str())
            .body(bytes)
    }

    /// A blob, or the range of it that was asked for.
    pub(crate) fn blob(asked: &Asked, bytes: &[u8]) -> Self {
        match asked.range() {
            Some((first, _)) if first >= bytes.len() => Self::new(416),
            Some((first, last)) => {
                let last = last.unwrap_or(usize::MAX).min(bytes.len() - 1);
                let range = format!("bytes {first}-{last}/{}", bytes.len());
                Self::new(206).header("content-range", range).body(&bytes[first..=last])
            }
            None => Self::new(200).header("accept-ranges", "bytes").body(bytes),
        }
    }
}

type Handler = dyn Fn(&Asked) -> Answer + Send + Sync;

/// What happens to bodies that come in chunks.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// Bytes that came.
    pub(crate) received: AtomicUsize,
    /// The next such body is cut off after so many bytes; 0 for none.
    pub(crate) cut_at: AtomicUsize,
}

/// A server that answers by a function and remembers what it was asked.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) chunks: Arc<Chunks>,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Fake {
    pub(crate) fn start(handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", handler)
    }

    pub(crate) fn start_at(
        address: &str,
        handler: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let chunks = Arc::new(Chunks::default());
        let (log, ended, gate) = (Arc::clone(&asked), Arc::clone(&stop), Arc::clone(&chunks));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&log));
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || serve(&stream, handler.as_ref(), &log, &gate));
            }
        });
        Self { address, chunks, asked, stop }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn reference(&self, rest: &str) -> conex_oci::Reference {
        format!("{}/{rest}", self.host()).parse().unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The request lines, without the first look at whether TLS is spoken.
    pub(crate) fn lines(&self) -> Vec<String> {
        let asked = self.asked();
        asked.iter().map(Asked::line).filter(|line| line != "GET /v2/").collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for connections; that it may be gone is fine.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, handler: &Handler, log: &Mutex<Vec<Asked>>, chunks: &Chunks) {
    let mut reader = BufReader::new(stream);
    while let Some(mut asked) = request(&mut reader) {
        if asked.header("transfer-encoding") == Some("chunked") {
            let Some(whole) = chunked(&mut reader, &mut asked.body, chunks) else { return };
            if !whole {
                // What came before the connection broke is kept; nobody hears the answer.
                log.lock().unwrap().push(asked.clone());
                handler(&asked);
                return;
            }
        }
        log.lock().unwrap().push(asked.clone());
        let answer = handler(&asked);
        if respond(stream, &asked, &answer).is_none() {
            return;
        }
    }
}

/// Reads one request; none when the other side hung up or speaks something else (TLS, say).
pub(crate) fn request(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let first = *reader.fill_buf().ok()?.first()?;
    if !first.is_ascii_uppercase() {
        return None;
    }
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if headers.get("expect").is_some_and(|value| value == "100-continue") {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length: usize = headers.get("content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, target, headers, body })
}

/// Reads a body that comes in chunks. False when it is cut off.
fn chunked(
    reader: &mut BufReader<&TcpStream>,
    body: &mut Vec<u8>,
    chunks: &Chunks,
) -> Option<bool> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let begin = body.len();
        body.resize(begin + size, 0);
        reader.read_exact(&mut body[begin..]).ok()?;
        chunks.received.fetch_add(size, Ordering::SeqCst);
        reader.read_line(&mut line).ok()?;
        if size == 0 {
            return Some(true);
        }
        let cut_at = chunks.cut_at.load(Ordering::SeqCst);
        if cut_at > 0 && body.len() >= cut_at {
            chunks.cut_at.store(0, Ordering::SeqCst);
            return Some(false);
        }
    }
}

fn respond(mut stream: &TcpStream, asked: &Asked, answer: &Answer) -> Option<()> {
    // Status 0: hang up without a word.
    if answer.status == 0 {
        return None;
    }
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if answer.endless {
        head.push_str("transfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        loop {
            let chunk = [0; 1000];
            stream.write_all(b"3e8\r\n").ok()?;
            stream.write_all(&chunk).ok()?;
            stream.write_all(b"\r\n").ok()?;
        }
    }
    let told = answer.headers.iter().any(|(name, _)| name == "content-length");
    let no_body = answer.status == 204 || answer.status == 304;
    if !told && !no_body {
        let length = answer.claim.unwrap_or(answer.body.len() as u64);
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    if asked.method == "HEAD" || no_body {
        return Some(());
    }
    let sent = answer.cut_at.unwrap_or(answer.body.len()).min(answer.body.len());
    stream.write_all(&answer.body[..sent]).ok()?;
    if answer.stall {
        std::thread::sleep(std::time::Duration::from_secs(30));
    }
    (answer.cut_at.is_none() && answer.claim.is_none()).then_some(())
}

/// The state of a small registry that works as it should.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    pub(crate) manifests: HashMap<String, (String, Vec<u8>)>,
    pub(crate) uploads: HashMap<String, Vec<u8>>,
    pub(crate) next_upload: usize,
}

impl Content {
    pub(crate) fn add_blob(&mut self, bytes: &[u8]) -> Descriptor {
        let blob = Descriptor::of(MediaType::OciLayer(Compression::Gzip), bytes);
        self.blobs.insert(blob.digest.to_string(), bytes.to_vec());
        blob
    }

    pub(crate) fn add_manifest(
        &mut self,
        tag: &str,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Descriptor {
        let descriptor = Descriptor::of(media_type.clone(), bytes);
        let entry = (media_type.to_string(), bytes.to_vec());
        self.manifests.insert(tag.to_owned(), entry.clone());
        self.manifests.insert(descriptor.digest.to_string(), entry);
        descriptor
    }

    /// Answers as the distribution spec says. Paths look like `/v2/<name…>/<kind>/<what>`.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Answer {
        let path = asked.path().to_owned();
        if path == "/v2/" {
            return Answer::new(200);
        }
        if let Some((_, rest)) = path.split_once("/blobs/uploads/") {
            return self.upload(asked, rest);
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            return match self.blobs.get(digest) {
                Some(bytes) => Answer::blob(asked, bytes),
                None => Answer::json(404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
            };
        }
        if let Some((_, version)) = path.split_once("/manifests/") {
            return self.manifest(asked, version);
        }
        Answer::new(404)
    }

    fn manifest(&mut self, asked: &Asked, version: &str) -> Answer {
        match asked.method.as_str() {
            "PUT" => {
                let media_type = asked.header("content-type").unwrap().into();
                let descriptor = self.add_manifest(version, &media_type, &asked.body);
                Answer::new(201).header("docker-content-digest", descriptor.digest.as_str())
            }
            "DELETE" => match self.manifests.remove(version) {
                Some(_) => Answer::new(202),
                None => Answer::new(404),
            },
            _ => match self.manifests.get(version) {
                Some((media_type, bytes)) => Answer::manifest(&media_type.as_str().into(), bytes),
                None => Answer::json(
                    404,
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                ),
            },
        }
    }

    fn upload(&mut self, asked: &Asked, id: &str) -> Answer {
        let location = |id: &str| format!("{}{id}?state=1", asked.path().trim_end_matches(id));
        match asked.method.as_str() {
            "POST" => {
                if let Some(mount) = asked.query("mount")
                    && self.blobs.contains_key(&mount)
                    && asked.query("from").is_some()
                {
                    return Answer::new(201);
                }
                self.next_upload += 1;
                let id = format!("u{}", self.next_upload);
                self.uploads.insert(id.clone(), Vec::new());
                Answer::new(202).header("location", format!("{}{id}?state=1", asked.path()))
            }
            "GET" => match self.uploads.get(id) {
                Some(bytes) => Answer::new(204)
                    .header("location", location(id))
                    .header("range", format!("0-{}", bytes.len().saturating_sub(1))),
                None => Answer::new(404),
            },
            "PATCH" => {
                let Some(bytes) = self.uploads.get_mut(id) else { return Answer::new(404) };
                let range = asked.header("content-range").map(ToOwned::to_owned);
                let start = range.as_deref().and_then(|r| r.split('-').next()?.parse().ok());
                if start.is_some_and(|start: usize| start != bytes.len()) {
                    return Answer::new(416);
                }
                bytes.extend_from_slice(&asked.body);
                Answer::new(202)
                    .header("location", location(id))
                    .header("range", format!("0-{}", bytes.len() - 1))
            }
            "PUT" => {
                let Some(mut bytes) = self.uploads.remove(id) else { return Answer::new(404) };
                bytes.extend_from_slice(&asked.body);
                let digest = asked.query("digest").unwrap();
                let wanted: Digest = digest.parse().unwrap();
                let mut hasher = conex_oci::Hasher::new(wanted.algorithm());
                hasher.update(&bytes);
                if hasher.finish() != wanted {
                    return Answer::json(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                self.blobs.insert(digest, bytes);
                Answer::new(201)
            }
            _ => {
                self.uploads.remove(id);
                Answer::new(204)
            }
        }
    }
}

/// A registry that works as it should, whose content the test can look into.
pub(crate) fn registry() -> (Fake, Arc<Mutex<Content>>) {
    registry_with(|_, _| None)
}

/// A registry where `spoil` may answer first.
pub(crate) fn registry_with(
    spoil: impl Fn(&Asked, &Mutex<Content>) -> Option<Answer> + Send + Sync + 'static,
) -> (Fake, Arc<Mutex<Content>>) {
    let content = Arc::new(Mutex::new(Content::default()));
    let own = Arc::clone(&content);
    let fake = Fake::start(move |asked| {
        spoil(asked, &own).unwrap_or_else(|| own.lock().unwrap().answer(asked))
    });
    (fake, content)
}
