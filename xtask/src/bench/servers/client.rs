//! A small client, and what it sends: everything is made and digested before.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::super::workload::Numbers;
use super::{Io, LARGE_BYTES, LARGE_PUSHES, LARGE_ROUNDS, MANY_CLIENTS, SMALL_PUSHES};

/// Everything that is sent, with its digests.
pub(super) struct Work {
    pub(super) small: Vec<Image>,
    pub(super) large: Vec<Layer>,
}

pub(super) struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

/// Bytes that are the same over and over again but for their beginning: as much as is wanted, out
/// of little memory.
pub(super) struct Layer {
    mark: [u8; 16],
    block: Arc<Vec<u8>>,
    count: usize,
    digest: String,
}

pub(super) struct Image {
    config: Blob,
    layer: Blob,
    manifest: Blob,
}

impl Work {
    pub(super) fn prepare(runs: usize) -> Self {
        let mut numbers = Numbers::new(7);
        let mut draw = || {
            let mut bytes = vec![0; 2_000];
            numbers.fill(&mut bytes);
            Image::new(Blob::new(bytes))
        };
        let small = (0..SMALL_PUSHES * runs.max(1)).map(|_| draw()).collect();
        let large = Layer::several(LARGE_PUSHES * LARGE_ROUNDS + MANY_CLIENTS, LARGE_BYTES);
        Self { small, large }
    }
}

impl Layer {
    const BLOCK_BYTES: usize = 1 << 20;

    /// Different ones of some size.
    pub(super) fn several(count: usize, size: usize) -> Vec<Self> {
        let mut block = vec![0; Self::BLOCK_BYTES];
        Numbers::new(11).fill(&mut block);
        let block = Arc::new(block);
        (0..count).map(|number| Self::new(number, size, block.clone())).collect()
    }

    fn new(number: usize, size: usize, block: Arc<Vec<u8>>) -> Self {
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&(number as u64).to_le_bytes());
        mark[8..].copy_from_slice(&(size as u64).to_le_bytes());
        let mut layer = Self { mark, count: size / block.len(), block, digest: String::new() };
        let mut digest = sha2::Sha256::new();
        layer.pieces().for_each(|piece| digest.update(piece));
        layer.digest = written(digest);
        layer
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let blocks = std::iter::repeat_n(self.block.as_slice(), self.count);
        std::iter::once(self.mark.as_slice()).chain(blocks)
    }

    pub(super) fn size(&self) -> usize {
        self.mark.len() + self.count * self.block.len()
    }

    pub(super) fn digest(&self) -> &str {
        &self.digest
    }
}

fn written(digest: sha2::Sha256) -> String {
    let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Blob {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let digest = written(sha2::Sha256::new_with_prefix(&bytes));
        Self { bytes, digest }
    }
}

impl Image {
    pub(super) fn new(layer: Blob) -> Self {
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
    pub(super) fn push(&self, client: &mut Client, repository: &str) -> Io<[Duration; 3]> {
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
pub(super) struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    address: String,
}

impl Client {
    pub(super) fn connect(address: &str) -> Io<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let reader = BufReader::with_capacity(1 << 20, stream.try_clone()?);
        Ok(Self { stream, reader, address: address.to_owned() })
    }

    /// Pushes a blob; gives how long the closing request took.
    fn push_blob(&mut self, repository: &str, blob: &Blob) -> Io<Duration> {
        let path = self.begin(repository, &blob.digest)?;
        let began = Instant::now();
        self.expect("PUT", &path, &[], &blob.bytes, 201)?;
        Ok(began.elapsed())
    }

    /// Begins an upload; gives the path that ends it.
    pub(super) fn begin(&mut self, repository: &str, digest: &str) -> Io<String> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let headers = self.expect("POST", &path, &[], b"", 202)?;
        let place = headers.get("location").cloned().unwrap_or_default();
        let place = match place.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => place.trim_start_matches('/'),
        };
        let sign = if place.contains('?') { '&' } else { '?' };
        Ok(format!("/{place}{sign}digest={digest}"))
    }

    /// Pushes a layer; gives how long the answer took after the last byte.
    pub(super) fn push_layer(&mut self, repository: &str, layer: &Layer) -> Io<Duration> {
        let path = self.begin(repository, &layer.digest)?;
        self.send("PUT", &path, layer, layer.size())?;
        let sent = Instant::now();
        let (status, headers) = self.answer()?;
        let mut content = Vec::new();
        self.reader.by_ref().take(length(&headers)).read_to_end(&mut content)?;
        if status != 201 {
            let said = String::from_utf8_lossy(&content).into_owned();
            return Err(std::io::Error::other(format!("PUT {path}: {status} {said}")));
        }
        Ok(sent.elapsed())
    }

    /// Sends the head of a request and so many bytes of a layer.
    pub(super) fn send(&mut self, method: &str, path: &str, layer: &Layer, bytes: usize) -> Io<()> {
        let address = &self.address;
        let size = layer.size();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {size}\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes())?;
        let mut left = bytes;
        for piece in layer.pieces() {
            let some = &piece[..piece.len().min(left)];
            self.stream.write_all(some)?;
            left -= some.len();
        }
        Ok(())
    }

    /// Asks for something; gives the headers of the answer.
    pub(super) fn expect(
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

    /// Gets a text.
    pub(super) fn text(&mut self, path: &str) -> Io<String> {
        let (_, headers) = self.ask("GET", path, &[], b"")?;
        let mut text = String::new();
        self.reader.by_ref().take(length(&headers)).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Reads a blob and drops it.
    pub(super) fn drain(&mut self, path: &str) -> Io<usize> {
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
        self.answer()
    }

    /// Reads the head of an answer.
    fn answer(&mut self) -> Io<(u16, HashMap<String, String>)> {
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
