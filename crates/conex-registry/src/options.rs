//! What a registry is started with.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Anonymous;
use crate::images::ReadOnlyImages;
use crate::meta::Durability;
use crate::name::Pattern;
use crate::time::Clock;

/// What is served.
pub enum Content {
    /// What was pushed, kept in a folder.
    Folder(PathBuf),
    /// Images that are elsewhere, to be fetched only.
    Images(Arc<dyn ReadOnlyImages>),
}

/// Where connections come from.
pub enum Listen {
    /// An address; port 0 takes a free one.
    Address(SocketAddr),
    /// A socket that listens already.
    Socket(TcpListener),
}

/// How connections are encrypted.
pub enum Tls {
    /// With a certificate and its key, in PEM files.
    Files {
        /// The certificate and those that it is signed by.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// With a certificate that is made once and kept in a folder.
    SelfSigned {
        /// The folder.
        folder: PathBuf,
        /// Names and addresses that it is for.
        names: Vec<String>,
    },
}

/// How long things stay.
#[derive(Debug, Clone)]
pub struct Times {
    /// How long what was pushed, and is not used yet, stays.
    pub lease: Duration,
    /// How long what a tag was on stays.
    pub history: Duration,
    /// How long an upload stays that nobody writes to.
    pub upload_expiry: Duration,
    /// How often garbage is looked for.
    pub gc_interval: Duration,
    /// How long running requests may take when the registry ends.
    pub shutdown: Duration,
}

impl Times {
    /// What suits most.
    pub fn usual() -> Self {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        Self {
            lease: hours(24),
            history: hours(14 * 24),
            upload_expiry: hours(24),
            gc_interval: Duration::from_secs(60),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// How much is taken from clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more wait to be taken.
    pub connection_count: usize,
    /// Bodies of blobs that are received at once; more wait for a moment and are told to come
    /// again.
    pub upload_count: usize,
    /// Bytes of the head of a request: tokens of clients have 8 KiB, nobody sends 32.
    pub head_bytes: usize,
    /// How long the head of a request may take, and how long a connection may be idle.
    pub head_wait: Duration,
    /// How long a body may stand still, or nearly, in both directions.
    pub stall_wait: Duration,
}

impl Limits {
    /// What suits most.
    pub fn usual() -> Self {
        Self {
            connection_count: 4_096,
            upload_count: 256,
            head_bytes: 32 << 10,
            head_wait: Duration::from_secs(30),
            stall_wait: Duration::from_secs(60),
        }
    }
}

/// What a registry is started with.
pub struct Options {
    /// What is served.
    pub content: Content,
    /// Where connections come from.
    pub listen: Listen,
    /// How they are encrypted, if they are.
    pub tls: Option<Tls>,
    /// A file with names and passwords, as `htpasswd -B` writes it.
    pub users: Option<PathBuf>,
    /// What those may who give no name.
    pub anonymous: Anonymous,
    /// How long things stay.
    pub times: Times,
    /// How much is taken from clients.
    pub limits: Limits,
    /// Tags that never move.
    pub immutable_tags: Vec<Pattern>,
    /// Tells this start of the machine from others: what was noted before another one may have been
    /// written only in part.
    pub boot: String,
    /// Whether what was acknowledged survives a power cut.
    pub durability: Durability,
    /// Where a line is written for each request.
    pub access_log: Option<Box<dyn Write + Send>>,
    /// Told what went wrong on this side.
    pub trouble: Arc<dyn Fn(&str) + Send + Sync>,
    /// Says what time it is.
    pub clock: Clock,
}
