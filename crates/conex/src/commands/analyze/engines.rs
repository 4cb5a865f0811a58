//! Images of other engines on this machine: Docker's through the daemon's socket, Podman's and
//! Buildah's through the folders of their storage.

use std::io::{self, BufRead as _, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use conex_layer::{Flavor, Form, Hashing, Ownership, Stack, WriteOptions};
use conex_oci::{Digest, ImageConfig};
use serde::Deserialize;

use super::source::{Origin, SourceOptions, Subject, open_dir, subject, verified};
use super::stream;
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;
use crate::settings::variable;

/// Most bytes of the daemon's answer before the image itself.
const HEAD_SIZE_MAX: u64 = 64 << 10;

/// Largest file of the storage that is read: the list of ten thousand layers has 5 MiB.
const LIST_SIZE_MAX: u64 = 64 << 20;

/// An image of the docker daemon.
pub fn docker(name: &str, options: &SourceOptions) -> Result<Subject> {
    let socket = match variable("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned()) {
        None => PathBuf::from("/var/run/docker.sock"),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) => PathBuf::from(path),
            None => {
                let message = format!("the docker daemon `{host}` is not a local socket");
                return Err(CliError::new(message)
                    .with_hint(format!("use `docker save {name} | conex analyze -`")));
            }
        },
    };
    let act = || format!("cannot ask the docker daemon at `{}`", socket.display());
    let mut stream = UnixStream::connect(&socket).map_err(|error| {
        CliError::because(act(), error).with_hint("is it running, and may you use its socket?")
    })?;
    // The old version of the protocol: the answer ends where the connection does.
    let request = format!("GET /images/{}/get HTTP/1.0\r\nHost: docker\r\n\r\n", escaped(name));
    stream.write_all(request.as_bytes()).doing(act)?;
    let mut answer = io::BufReader::with_capacity(256 << 10, stream);
    let (status, _) = head(&mut answer).doing(act)?;
    if status != 200 {
        let mut text = String::new();
        answer.take(HEAD_SIZE_MAX).read_to_string(&mut text).doing(act)?;
        let reason = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| Some(value.get("message")?.as_str()?.to_owned()))
            .unwrap_or_else(|| format!("status {status}"));
        let reason = conex_term::clean(&reason);
        return Err(CliError::new(format!("the docker daemon has no image `{name}`: {reason}")));
    }
    stream::read(&mut answer, name, None, options)
}

/// Reads the status and the headers of an answer.
fn head(answer: &mut io::BufReader<UnixStream>) -> io::Result<(u16, Vec<String>)> {
    let mut lines = Vec::new();
    let mut limited = answer.take(HEAD_SIZE_MAX);
    loop {
        let mut line = String::new();
        if limited.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("this is no HTTP"))?;
    Ok((status, lines))
}

/// A name as it stands in an address: slashes and colons may, whatever could end it may not.
fn escaped(name: &str) -> String {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/:@".contains(byte);
    let mut text = String::new();
    for byte in name.as_bytes() {
        if allowed(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[derive(Debug, Deserialize)]
struct StoredImage {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    layer: String,
}

#[derive(Debug, Deserialize)]
struct StoredLayer {
    id: String,
    #[serde(default)]
    parent: String,
    #[serde(rename = "compressed-size", default)]
    compressed_size: Option<u64>,
}

/// An image of Podman's and Buildah's storage.
pub fn containers(session: &Session, name: &str, _: &SourceOptions) -> Result<Subject> {
    let root = storage_root(session);
    // An ordinary user's layers have files of subordinate ids.
    session.privileges()?;
    let hint = format!("use `podman save --format oci-archive {name} | conex analyze -`");
    let images: Vec<StoredImage> = list(&root.join("overlay-images/images.json"))
        .map_err(|error| error.with_hint(hint.clone()))?;
    let layers: Vec<StoredLayer> =
        list(&root.join("overlay-layers/layers.json")).map_err(|error| error.with_hint(hint))?;
    let wanted: Option<conex_oci::Reference> = name.parse().ok();
    let fits = |image: &&StoredImage| {
        let is_id = name.len() >= 4 && image.id.starts_with(name);
        is_id
            || image.names.iter().flatten().any(|known| {
                // Podman calls images that it made `localhost/…`.
                known == name
                    || known.strip_prefix("localhost/").is_some_and(|rest| {
                        rest == name || rest.strip_suffix(":latest") == Some(name)
                    })
                    || (wanted.is_some() && known.parse().ok() == wanted)
            })
    };
    let image = images.iter().find(fits).ok_or_else(|| {
        let root = root.display();
        CliError::new(format!("the storage `{root}` has no image `{name}`"))
    })?;
    let key = format!("sha256:{}", image.id);
    let file = format!("={}", base64::engine::general_purpose::STANDARD.encode(&key));
    let path = root.join("overlay-images").join(&image.id).join(file);
    let bytes = read(&path)?;
    let digest: Digest = key.parse()?;
    let bytes = verified(&digest, bytes)?;
    let config = ImageConfig::parse(&bytes)?;
    let mut chain = Vec::new();
    let mut at = image.layer.as_str();
    while !at.is_empty() && chain.len() <= config.rootfs.diff_ids.len() {
        let layer = layers.iter().find(|layer| layer.id == at).ok_or_else(|| {
            CliError::new(format!("the storage `{}` has lost the layer `{at}`", root.display()))
        })?;
        chain.push(layer);
        at = &layer.parent;
    }
    let folder = |layer: &StoredLayer| root.join("overlay").join(&layer.id).join("diff");
    let origins = (0..chain.len())
        .rev()
        .map(|at| {
            let below = chain[at + 1..].iter().map(|layer| folder(layer)).collect();
            let size = chain[at].compressed_size.filter(|size| *size > 0);
            (size, Origin::Folders(folder(chain[at]), below))
        })
        .collect();
    subject(name, "containers-storage", &bytes, config, origins)
}

/// Where the storage is, if nothing else is configured.
fn storage_root(session: &Session) -> PathBuf {
    if let Some(root) = variable("CONTAINERS_STORAGE_ROOT") {
        return PathBuf::from(root);
    }
    if session.settings.is_root {
        return PathBuf::from("/var/lib/containers/storage");
    }
    let data = variable("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.unwrap_or_else(|| session.settings.home.join(".local/share"));
    data.join("containers/storage")
}

fn list<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bytes = read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CliError::because(format!("cannot read `{}`", path.display()), error))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let act = || format!("cannot read `{}`", path.display());
    let file = std::fs::File::open(path).doing(act)?;
    let mut bytes = Vec::new();
    file.take(LIST_SIZE_MAX).read_to_end(&mut bytes).doing(act)?;
    Ok(bytes)
}

/// Writes the tar of a layer that lies unpacked in folders. Entries stand in another order than in
/// the layer's own tar.
pub fn write_folder(upper: &Path, lower: &[PathBuf], out: &mut dyn Write) -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let form = Form {
        flavor: if is_root { Flavor::Trusted } else { Flavor::User },
        ownership: Ownership::Real,
    };
    let below = lower.iter().map(|path| open_dir(path)).collect::<io::Result<Vec<_>>>()?;
    let options = WriteOptions { hash: Hashing::None, ..WriteOptions::new(form) };
    conex_layer::write_layer(&open_dir(upper)?, &Stack::new(below, form), &options, out)
        .map_err(io::Error::other)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_name_cannot_end_the_request() {
        assert_eq!(escaped("a/b:1@sha256:00"), "a/b:1@sha256:00");
        assert_eq!(escaped("a b\r\nX: y?"), "a%20b%0D%0AX:%20y%3F");
    }
}
