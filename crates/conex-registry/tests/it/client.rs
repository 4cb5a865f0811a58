//! A small HTTP client that sends exactly what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use conex_oci::Digest;

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let is_it = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.headers.iter().find(is_it).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter();
        headers.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The code of the first error.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The path of the place that the answer names.
    pub(crate) fn location(&self) -> String {
        let location = self.header("location").unwrap_or_default();
        match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or(String::new(), |at| rest[at..].to_owned()),
            None => location.to_owned(),
        }
    }
}

/// A registry to talk to.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) authorization: Option<String>,
}

impl Client {
    pub(crate) fn new(address: &impl ToString) -> Self {
        Self { address: address.to_string(), authorization: None }
    }

    pub(crate) fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }

    /// The head of a request.
    pub(crate) fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(value) = &self.authorization {
            text.push_str(&format!("Authorization: {value}\r\n"));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.try_ask(method, path, headers, body).unwrap()
    }

    pub(crate) fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Reply> {
        let mut stream = self.connect()?;
        let mut text = self.head(method, path, headers);
        let is_chunked = headers.iter().any(|(name, _)| *name == "Transfer-Encoding");
        if !is_chunked && (!body.is_empty() || ["POST", "PUT", "PATCH"].contains(&method)) {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes())?;
        // The server may refuse before it has read all.
        let written = if is_chunked {
            let mut framed = Vec::new();
            for chunk in body.chunks(1000) {
                framed.extend(format!("{:x}\r\n", chunk.len()).bytes());
                framed.extend(chunk);
                framed.extend(b"\r\n");
            }
            framed.extend(b"0\r\n\r\n");
            stream.write_all(&framed)
        } else {
            stream.write_all(body)
        };
        match read_reply(&mut BufReader::new(stream), method) {
            Err(error) => Err(written.err().unwrap_or(error)),
            reply => reply,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", path, &[], b"")
    }

    /// Pushes a blob in two requests. Gives its digest.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(begun.status, 202, "{begun:?}");
        let path = with_query(&begun.location(), &format!("digest={digest}"));
        let reply = self.ask("PUT", &path, &[], bytes);
        assert_eq!(reply.status, 201, "{reply:?}");
        digest
    }

    pub(crate) fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Reply {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.ask("PUT", &path, &[("Content-Type", media_type)], bytes)
    }

    /// Pushes an image with one layer under a tag. Gives the digest of its manifest.
    pub(crate) fn push_image(&self, repository: &str, tag: &str, layer: &[u8]) -> Digest {
        let bytes = self.push_parts(repository, layer);
        let reply = self.push_manifest(repository, tag, MANIFEST, &bytes);
        assert_eq!(reply.status, 201, "{reply:?}");
        Digest::of(&bytes)
    }

    /// Pushes what an image needs. Gives its manifest.
    pub(crate) fn push_parts(&self, repository: &str, layer: &[u8]) -> Vec<u8> {
        let config =
            br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config_digest = self.push_blob(repository, config);
        let layer_digest = self.push_blob(repository, layer);
        manifest(&config_digest, config.len(), &[(&layer_digest, layer.len())], "")
    }
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Writes a manifest, with more fields if there are any (`,"x":1`).
pub(crate) fn manifest(
    config: &Digest,
    config_size: usize,
    layers: &[(&Digest, usize)],
    more: &str,
) -> Vec<u8> {
    let layers: Vec<String> = layers
        .iter()
        .map(|(digest, size)| {
            format!(r#"{{"mediaType":"{LAYER}","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}",
        "config":{{"mediaType":"{CONFIG}","digest":"{config}","size":{config_size}}},
        "layers":[{}]{more}}}"#,
        layers.join(",")
    )
    .into_bytes()
}

pub(crate) fn with_query(path: &str, query: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}{query}")
}

pub(crate) fn read_reply(reader: &mut impl BufRead, method: &str) -> std::io::Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("no answer but `{line}`")))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    if method == "HEAD" || status == 204 || status == 304 {
        return Ok(reply);
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).unwrap();
            reader.take(size).read_to_end(&mut reply.body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = reply.header("content-length") {
        let length: u64 = length.parse().unwrap();
        reader.take(length).read_to_end(&mut reply.body)?;
        if reply.body.len() as u64 != length {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    } else {
        reader.read_to_end(&mut reply.body)?;
    }
    Ok(reply)
}
