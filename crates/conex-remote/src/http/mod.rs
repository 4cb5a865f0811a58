//! HTTP as this crate needs it: one request, its redirects under our own rules, and errors that
//! say what happened. Knows nothing of registries, tokens or retries.
//!
//! Invariant: `Authorization` and other caller headers never reach another origin than the one
//! they were meant for; TLS is never given up on the way; a public host cannot send us to a
//! private address.

pub(crate) mod headers;
pub(crate) mod network;
pub(crate) mod proxy;
pub(crate) mod tls;
pub(crate) mod url;

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::SendBody;
use ureq::http::{HeaderMap, Method};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::error::{Error, ErrorKind, Result, is_ours, shown};
use crate::limits::REDIRECTS_MAX;
use network::Network;
use proxy::ProxyOptions;
use tls::{Roots, TlsSetup};
use url::{Scheme, Url};

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next bytes of a connection that is open. Time that passes while bytes come does
    /// not count: a slow transfer is not a dead one.
    pub idle: Duration,
    /// For the answer to the last request of an upload: registries on object storage move the
    /// blob before they answer.
    pub commit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            commit: Duration::from_secs(900),
        }
    }
}

/// Longest wait for a server that may not understand the protocol at all, and then often says
/// nothing.
const PROBE_IDLE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the metadata server of a machine, it is next door.
const MACHINE_WAIT_MAX: Duration = Duration::from_secs(1);

/// What a request carries.
pub(crate) enum Body<'b> {
    Empty,
    Bytes(&'b [u8]),
    /// Without a size it is sent in chunks, until its end.
    Reader {
        reader: &'b mut (dyn Read + 'b),
        size: Option<u64>,
    },
}

/// Whether the answer may take as long as a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Patience {
    Usual,
    /// A first look at whether there is anybody who speaks this protocol.
    Probe,
    /// The metadata server of this machine, which mostly is not there.
    Machine,
    Commit,
}

/// One request.
pub(crate) struct Request<'b> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body<'b>,
    pub(crate) patience: Patience,
    /// The server in whose name the request is made, where it is not the URL's own: a token
    /// server that a registry names is no more trusted than a redirect of that registry.
    pub(crate) named_by: Option<Url>,
}

impl<'b> Request<'b> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Body::Empty,
            patience: Patience::Usual,
            named_by: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Body<'b>) -> Self {
        self.body = body;
        self
    }
}

/// One answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(crate) url: Url,
    body: ureq::Body,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body's size, if the header tells.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|value| value.trim().parse().ok())
    }

    /// Reads the whole body, which must not have more than `size_max` bytes.
    pub(crate) fn bytes(self, what: &str, size_max: u64) -> Result<Vec<u8>> {
        let url = self.url.clone();
        let mut bytes = Vec::new();
        self.into_reader()
            .take(size_max + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| body_error(&url, source))?;
        if bytes.len() as u64 > size_max {
            return Err(Error::too_large(&format!("{what} of `{url}`"), size_max));
        }
        Ok(bytes)
    }

    /// Reads and forgets a short body, so that the connection can be used again.
    pub(crate) fn drain(self) {
        let mut short = self.into_reader().take(crate::limits::ERROR_BODY_SIZE_MAX);
        // Whatever goes wrong here only costs the connection.
        let _ = io::copy(&mut short, &mut io::sink());
    }

    /// The body, unverified and without a limit. An error of this crate comes as an
    /// [`io::Error`] with it inside.
    pub(crate) fn into_reader(self) -> Box<dyn Read + Send> {
        let reader = self.body.into_with_config().limit(u64::MAX).reader();
        Box::new(BodyReader { reader, url: self.url })
    }
}

struct BodyReader<R> {
    reader: R,
    url: Url,
}

impl<R: Read> Read for BodyReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|source| body_error(&self.url, source).into())
    }
}

fn body_error(url: &Url, source: io::Error) -> Error {
    if is_ours(&source) {
        return Error::from(source);
    }
    let message = format!("the answer of `{url}` broke off");
    Error::network(message).with_source(source)
}

/// Sends requests.
pub(crate) struct Http {
    network: Arc<dyn Network>,
    timeouts: Timeouts,
    proxies: ProxyOptions,
    roots: Roots,
    user_agent: String,
    agents: Mutex<HashMap<AgentKey, ureq::Agent>>,
    public: Mutex<HashMap<String, bool>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct AgentKey {
    tls: Arc<TlsSetup>,
    proxy: Option<String>,
    guard: Guard,
    patience: Patience,
}

/// Whether private addresses are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Guard {
    Open,
    PublicOnly,
}

/// Says how to reach the hosts that a request is redirected to.
pub(crate) trait TlsFor {
    /// The TLS settings for a host.
    fn tls_for(&self, url: &Url) -> Result<Arc<TlsSetup>>;
}

impl Http {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        timeouts: Timeouts,
        proxies: ProxyOptions,
        roots: Roots,
        user_agent: String,
    ) -> Self {
        Self {
            network,
            timeouts,
            proxies,
            roots,
            user_agent,
            agents: Mutex::new(HashMap::new()),
            public: Mutex::new(HashMap::new()),
        }
    }

    /// Sends a request and follows its redirects. A body that is a stream cannot be sent twice, so
    /// a redirect of such a request is handed back as it is.
    pub(crate) fn send(
        &self,
        request: Request<'_>,
        tls: &Arc<TlsSetup>,
        others: &dyn TlsFor,
    ) -> Result<Response> {
        let Request { method, mut url, mut headers, body, patience, named_by } = request;
        let replayable: Option<&[u8]> = match &body {
            Body::Empty => Some(&[]),
            Body::Bytes(bytes) => Some(bytes),
            Body::Reader { .. } => None,
        };
        let mut tls = Arc::clone(tls);
        let mut guard = Guard::Open;
        if let Some(origin) = &named_by {
            guard = self.guard(origin, &url)?;
        }
        let first = named_by.unwrap_or_else(|| url.clone());
        let key = self.key(&url, &tls, guard, patience);
        let mut response = self.exchange(&method, &url, &headers, body, &key)?;
        let mut count = 0;
        while let (Some(location), Some(bytes)) = (redirect_target(&response), replayable) {
            // Only reading may be sent elsewhere by the codes that change POST into GET.
            let keeps_method = matches!(response.status, 307 | 308);
            if !keeps_method && !matches!(method, Method::GET | Method::HEAD) {
                break;
            }
            count += 1;
            if count > REDIRECTS_MAX {
                let message = format!("`{first}` redirects more than {REDIRECTS_MAX} times");
                return Err(Error::protocol(message));
            }
            let next = url.join(&location)?;
            if url.scheme() == Scheme::Https && next.scheme() == Scheme::Http {
                let message = format!("`{url}` redirects from https to http (`{next}`), refused");
                return Err(Error::protocol(message));
            }
            guard = guard.max(self.guard(&first, &next)?);
            if !next.same_origin(&url) {
                headers.retain(|(name, _)| is_for_anyone(name));
                tls = others.tls_for(&next)?;
            }
            response.drain();
            url = next;
            let key = self.key(&url, &tls, guard, patience);
            let body = if bytes.is_empty() { Body::Empty } else { Body::Bytes(bytes) };
            response = self.exchange(&method, &url, &headers, body, &key)?;
        }
        Ok(response)
    }

    /// Decides whether a request that `first` caused may go to `to`, and by what addresses.
    fn guard(&self, first: &Url, to: &Url) -> Result<Guard> {
        if to.host() == first.host() || !self.is_public(first) {
            return Ok(Guard::Open);
        }
        let private = match to.address() {
            Some(address) => self.network.is_private(address),
            None => network::is_loopback(to.host()),
        };
        if private {
            return Err(private_redirect(&first.authority(), &to.authority()));
        }
        Ok(Guard::PublicOnly)
    }

    /// Whether a server stands in the public Internet, as far as its name tells. What cannot be
    /// looked up counts as public, which is the stricter case.
    pub(crate) fn is_public(&self, url: &Url) -> bool {
        if let Some(address) = url.address() {
            return !self.network.is_private(address);
        }
        let mut known = self.public.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(url.host().to_owned()).or_insert_with(|| {
            let addresses = self.network.addresses(url.host(), url.port()).unwrap_or_default();
            addresses.iter().all(|address| !self.network.is_private(address.ip()))
        })
    }

    fn key(&self, url: &Url, tls: &Arc<TlsSetup>, guard: Guard, patience: Patience) -> AgentKey {
        let proxy = self.proxies.proxy_for(url).filter(|_| patience != Patience::Machine);
        let proxy = proxy.map(str::to_owned);
        // Behind a proxy the names are looked up there; here only the proxy's own is, which may
        // well be private.
        let guard = if proxy.is_some() { Guard::Open } else { guard };
        AgentKey { tls: Arc::clone(tls), proxy, guard, patience }
    }

    fn agent(&self, key: &AgentKey) -> Result<ureq::Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(key) {
            return Ok(agent.clone());
        }
        let proxy = key.proxy.as_deref().map(|text| {
            ureq::Proxy::new(text).map_err(|source| {
                Error::config("the proxy's URL cannot be understood").with_source(source)
            })
        });
        let idle = match key.patience {
            Patience::Usual => self.timeouts.idle,
            Patience::Commit => self.timeouts.commit,
            Patience::Probe => self.timeouts.idle.min(PROBE_IDLE_MAX),
            // The answer may take the server a moment: it asks others for the token.
            Patience::Machine => self.timeouts.idle.min(PROBE_IDLE_MAX),
        };
        let connect = match key.patience {
            Patience::Machine => self.timeouts.connect.min(MACHINE_WAIT_MAX),
            _ => self.timeouts.connect,
        };
        let config = ureq::config::Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy.transpose()?)
            .tls_config(tls::config(&key.tls, &self.roots)?)
            .user_agent(self.user_agent.as_str())
            .accept_encoding(ureq::config::AutoHeaderValue::None)
            .timeout_connect(Some(connect))
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(idle))
            // A hundred and more connections to one registry would be rude; what is opened for a
            // transfer should last until its end.
            .max_idle_connections(64)
            .max_idle_connections_per_host(32)
            .max_idle_age(Duration::from_secs(30))
            .build();
        let resolver = GuardedResolver { network: Arc::clone(&self.network), guard: key.guard };
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
        agents.insert(key.clone(), agent.clone());
        Ok(agent)
    }

    fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(String, String)],
        body: Body<'_>,
        key: &AgentKey,
    ) -> Result<Response> {
        let agent = self.agent(key)?;
        let mut builder = ureq::http::Request::builder().method(method.clone()).uri(url.full());
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let takes_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        let body = match body {
            Body::Reader { reader, size } => {
                if let Some(size) = size {
                    builder = builder.header("content-length", size.to_string());
                }
                SendBody::from_reader(reader)
            }
            Body::Bytes(bytes) => {
                builder = builder.header("content-length", bytes.len().to_string());
                return self.run(&agent, builder, bytes, url);
            }
            Body::Empty => {
                if takes_body {
                    builder = builder.header("content-length", "0");
                }
                return self.run(&agent, builder, (), url);
            }
        };
        self.run(&agent, builder, body, url)
    }

    fn run(
        &self,
        agent: &ureq::Agent,
        builder: ureq::http::request::Builder,
        body: impl ureq::AsSendBody,
        url: &Url,
    ) -> Result<Response> {
        let request = builder.body(body).map_err(|source| {
            Error::protocol(format!("cannot form a request to `{url}`")).with_source(source)
        })?;
        let response = agent.run(request).map_err(|source| transport_error(url, source))?;
        let (parts, body) = response.into_parts();
        Ok(Response {
            status: parts.status.as_u16(),
            headers: parts.headers,
            url: url.clone(),
            body,
        })
    }
}

/// Headers that say nothing about who asks.
fn is_for_anyone(name: &str) -> bool {
    ["accept", "range", "if-range", "if-none-match", "content-type", "content-range", "expect"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

fn redirect_target(response: &Response) -> Option<String> {
    matches!(response.status, 301 | 302 | 303 | 307 | 308)
        .then(|| response.header("location").map(str::to_owned))
        .flatten()
}

fn private_redirect(from: &str, to: &str) -> Error {
    Error::protocol(format!(
        "the public host `{}` sends us to the private address `{}`, refused",
        shown(from, 100),
        shown(to, 100)
    ))
}

/// Looks names up and, where asked, hands out public addresses only: the check is made on the very
/// addresses that are then connected to, so a name that changes its mind gains nothing.
struct GuardedResolver {
    network: Arc<dyn Network>,
    guard: Guard,
}

impl std::fmt::Debug for GuardedResolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GuardedResolver").field("guard", &self.guard).finish()
    }
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let default_port = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default_port);
        let found: Vec<SocketAddr> = match host.parse() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.network.addresses(host, port)?,
        };
        let mut addresses = self.empty();
        // As many as the HTTP library has room for.
        for address in found.into_iter().take(16) {
            if self.guard == Guard::PublicOnly && self.network.is_private(address.ip()) {
                let error = private_redirect("a registry", &format!("{host} ({})", address.ip()));
                return Err(io::Error::from(error).into());
            }
            addresses.push(address);
        }
        if addresses.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(addresses) }
    }
}

/// Says what went wrong below HTTP.
fn transport_error(url: &Url, error: ureq::Error) -> Error {
    let at = url.authority();
    match error {
        ureq::Error::Io(source) => {
            if is_ours(&source) {
                return Error::from(source);
            }
            let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match tls.cloned() {
                Some(tls) => tls_error(url, tls),
                None => Error::network(format!("cannot talk to `{at}`")).with_source(source),
            }
        }
        ureq::Error::Rustls(source) => tls_error(url, source),
        ureq::Error::HostNotFound => Error::network(format!("cannot find the host `{at}`")),
        ureq::Error::Timeout(_) => {
            Error::network(format!("`{at}` did not answer in time")).with_source(error)
        }
        ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl => {
            Error::network(format!("the proxy does not connect to `{at}`")).with_source(error)
        }
        ureq::Error::Tls(_) | ureq::Error::Pem(_) | ureq::Error::TlsRequired => {
            Error::new(ErrorKind::Tls, format!("cannot set up TLS with `{at}`")).with_source(error)
        }
        ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::LargeResponseHeader(..) => {
            Error::protocol(format!("`{at}` does not speak proper HTTP")).with_source(error)
        }
        other => Error::network(format!("cannot talk to `{at}`")).with_source(other),
    }
}

fn tls_error(url: &Url, source: rustls::Error) -> Error {
    let at = url.authority();
    let hint = match &source {
        rustls::Error::InvalidCertificate(_) => Some(format!(
            "put the registry's authority into `certs.d/{at}/ca.crt`, or pass `--tls-verify=false`"
        )),
        rustls::Error::InvalidMessage(_) => {
            Some(format!("`{at}` seems to speak plain http; pass `--tls-verify=false`"))
        }
        rustls::Error::AlertReceived(_) => {
            Some(format!("the registry may want a client certificate in `certs.d/{at}/`"))
        }
        _ => None,
    };
    let error = Error::new(ErrorKind::Tls, format!("cannot set up TLS with `{at}`"));
    let error = error.with_source(source);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Whether a failure means that the other side does not speak TLS at all.
pub(crate) fn speaks_no_tls(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidMessage(_));
        }
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            // Simple servers hang up over the first bytes of TLS.
            return matches!(
                io.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            );
        }
        cause = inner.source();
    }
    false
}
