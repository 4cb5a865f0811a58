//! Everything that a client is told: nothing is looked up behind the caller's back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conex_report::Reporter;

use crate::auth::CredentialSource;
use crate::clock::{Clock, SystemClock};
use crate::config::registries::RegistriesConf;
use crate::http::Timeouts;
use crate::http::network::{Network, SystemNetwork};
use crate::http::proxy::ProxyOptions;
use crate::http::tls::{Roots, Verify};

/// What a [`crate::Client`] needs to know.
#[derive(Clone)]
pub struct ClientOptions {
    /// How the client names itself (`conex/0.1.0`).
    pub user_agent: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Names to addresses.
    pub network: Arc<dyn Network>,
    /// Where credentials are looked for, in order.
    pub credentials: Vec<Arc<dyn CredentialSource>>,
    /// What `registries.conf` says.
    pub registries: RegistriesConf,
    /// Folders with a `<registry>/hosts.toml` in them (`/etc/containerd/certs.d`).
    pub hosts_dirs: Vec<PathBuf>,
    /// Folders with a `<host[:port]>/*.crt` in them (`/etc/containers/certs.d`).
    pub certs_dirs: Vec<PathBuf>,
    /// Authorities that everybody is checked against.
    pub roots: Roots,
    /// `--tls-verify=false`: certificates are not checked, and plain HTTP will do.
    pub verify: Verify,
    /// Proxies.
    pub proxies: ProxyOptions,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retry: Retry,
    /// How much at once.
    pub transfers: Transfers,
    /// Takes what registries want people to read (`Warning` headers), each text once.
    pub reporter: Option<Arc<dyn Reporter>>,
}

impl ClientOptions {
    /// Options of a client that knows nobody: no credentials, no configuration files.
    pub fn new(user_agent: impl Into<String>) -> Self {
        Self {
            user_agent: user_agent.into(),
            clock: Arc::new(SystemClock),
            network: Arc::new(SystemNetwork),
            credentials: Vec::new(),
            registries: RegistriesConf::default(),
            hosts_dirs: Vec::new(),
            certs_dirs: Vec::new(),
            roots: Roots::default(),
            verify: Verify::Strict,
            proxies: ProxyOptions::default(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            transfers: Transfers::default(),
            reporter: None,
        }
    }
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClientOptions")
            .field("user_agent", &self.user_agent)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}

/// How often a request or a transfer is tried, and how long is waited in between.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// How many attempts in all; a transfer that makes progress gets them back.
    pub attempts: u32,
    /// The wait after the first failure; it doubles each time.
    pub delay: Duration,
    /// The longest wait that the client chooses itself.
    pub delay_max: Duration,
    /// The longest wait that a registry may ask for; beyond it the request fails and says when
    /// the registry would be ready.
    pub retry_after_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            delay: Duration::from_millis(400),
            delay_max: Duration::from_secs(20),
            retry_after_max: Duration::from_secs(120),
        }
    }
}

/// How much is moved at once. Memory is bounded by the product: with the defaults three blobs with
/// four ranges of 2 MiB each, and the piece being read, are 30 MiB.
#[derive(Debug, Clone, Copy)]
pub struct Transfers {
    /// Blobs at the same time.
    pub blobs: usize,
    /// Connections for one large blob that is fetched; 1 switches parallel ranges off.
    pub ranges: usize,
    /// A connection that brings more bytes a second than this is not helped by others: on a fast
    /// network the cores are the limit, and more requests only cost more.
    pub ranges_rate_max: u64,
}

impl Default for Transfers {
    fn default() -> Self {
        Self { blobs: 3, ranges: 4, ranges_rate_max: 100_000_000 }
    }
}
