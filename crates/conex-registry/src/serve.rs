//! The server: connections, who is let in, and which part answers.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::answer::{API_VERSION, Answer, Code, Refusal, document};
use crate::auth::{Access, TOKEN_PATH};
use crate::blobs::{Blobs, FileBlobs};
use crate::body::{Body, Pool, Sent};
use crate::core::{Call, Core};
use crate::error::{Error, Result};
use crate::images::{self, ReadOnlyImages};
use crate::log::{Log, Record};
use crate::meta::{Meta, Policy, SqliteMeta};
use crate::metrics::{Metrics, Running};
use crate::options::{Content, Limits, Listen, Options};
use crate::route::{Astray, Query, Route};
use crate::stall::Stalling;
use crate::tls::Identity;
use crate::uploads::Uploads;
use crate::usage::Usage;
use crate::{blob, manifest};

/// Threads that may wait for the disk. More would only take memory: the disk is one.
const BLOCKING_THREAD_COUNT: usize = 16;

/// How much of a connection is read at a time.
const READ_BYTES: usize = 256 << 10;

/// How long nothing is accepted after the system had no file left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long an object stays that no row names any more: a download may be about to open it.
const READ_GRACE: Duration = Duration::from_secs(60);

/// A registry that is ready to serve.
pub struct Server {
    state: Arc<State>,
    listener: std::net::TcpListener,
    address: SocketAddr,
    identity: Option<Identity>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    shutdown: Duration,
}

/// Ends a server from anywhere.
#[derive(Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Takes no more connections, and lets running requests finish.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

pub(crate) struct State {
    content: Served,
    access: Access,
    limits: Limits,
    log: Log,
    trouble: Arc<dyn Fn(&str) + Send + Sync>,
    pub(crate) metrics: Arc<Metrics>,
    connections: Arc<Semaphore>,
}

enum Served {
    Core(Arc<Core>),
    Images(Arc<dyn ReadOnlyImages>, Pool),
}

impl Server {
    /// Opens what is served, and listens.
    ///
    /// # Errors
    /// The folder cannot be used, another process uses it, a file that was named is not valid, or
    /// the address cannot be listened on.
    pub fn open(options: Options) -> Result<Self> {
        let Options { content, listen, tls, users, anonymous, times, limits, .. } = options;
        let metrics = Arc::new(Metrics::default());
        let access = Access::new(users.as_deref(), anonymous, tls.is_some())?;
        let identity = tls.as_ref().map(|tls| Identity::of(tls, &options.clock)).transpose()?;
        let shutdown = times.shutdown;
        let content = match content {
            Content::Images(images) => Served::Images(images, Pool::default()),
            Content::Folder(data) => {
                let usage = Usage::begin(&data)?;
                usage.write()?;
                let policy = Policy {
                    lease: times.lease,
                    history: times.history,
                    immutable: options.immutable_tags,
                    read_grace: READ_GRACE.min(times.lease),
                };
                let path = data.join("registry.db");
                let meta = SqliteMeta::open(&path, options.durability, policy)?;
                let blobs = FileBlobs::open(&data, Some(usage), options.durability, &options.boot)?;
                let blobs: Arc<dyn Blobs> = Arc::new(Arc::new(blobs));
                let core = Core {
                    meta: Box::new(meta) as Box<dyn Meta>,
                    uploads: Uploads::new(blobs.clone()),
                    blobs,
                    times,
                    limits: limits.clone(),
                    clock: options.clock.clone(),
                    pool: Pool::default(),
                    metrics: metrics.clone(),
                    receiving: Semaphore::new(limits.upload_count),
                };
                Served::Core(Arc::new(core))
            }
        };
        let listener = match listen {
            Listen::Socket(listener) => listener,
            Listen::Address(address) => std::net::TcpListener::bind(address)
                .map_err(|source| Error::system(&format!("listen on `{address}`"), source))?,
        };
        let address = listener
            .set_nonblocking(true)
            .and_then(|()| listener.local_addr())
            .map_err(|source| Error::system("listen", source))?;
        let log = Log::start(options.access_log, metrics.clone(), options.clock);
        let connections = Arc::new(Semaphore::new(limits.connection_count));
        let state =
            State { content, access, limits, log, trouble: options.trouble, metrics, connections };
        let (stop, stopped) = watch::channel(false);
        let state = Arc::new(state);
        Ok(Self { state, listener, address, identity, stop, stopped, shutdown })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The SHA-256 fingerprint of its certificate and the file that it is in, if it has one.
    pub fn certificate(&self) -> Option<(&str, &Path)> {
        self.identity.as_ref().map(|tls| (tls.fingerprint.as_str(), tls.cert.as_path()))
    }

    /// What ends it.
    pub fn stopper(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// Threads cannot be started, or the listening socket cannot be used.
    pub fn run(self) -> Result<()> {
        // Reads of the database happen on these; one more than processors for those that wait.
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get) + 1;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .max_blocking_threads(BLOCKING_THREAD_COUNT)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|source| Error::system("start threads", source))?;
        let shutdown = self.shutdown;
        let result = runtime.block_on(self.serve());
        runtime.shutdown_timeout(shutdown);
        result
    }

    async fn serve(self) -> Result<()> {
        let Self { state, listener, identity, stopped, shutdown, stop, .. } = self;
        let listener = TcpListener::from_std(listener)
            .map_err(|source| Error::system("use the listening socket", source))?;
        let acceptor = identity.map(|identity| TlsAcceptor::from(identity.config));
        let collector = match &state.content {
            Served::Core(core) => {
                let (core, state, stopped) = (core.clone(), state.clone(), stopped.clone());
                Some(tokio::spawn(crate::collector::run(core, state, stopped)))
            }
            Served::Images(..) => None,
        };
        let mut ended = stopped.clone();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&state, &listener) => accepted,
                () = ending(&mut ended) => break,
            };
            if let Some((stream, client, permit)) = accepted {
                let (state, acceptor, stopped) = (state.clone(), acceptor.clone(), stopped.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    connection(state, acceptor, stream, client.ip(), stopped).await;
                });
            }
        }
        drop(listener);
        // All permits are back when all connections have ended.
        let count = u32::try_from(state.limits.connection_count).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(shutdown, state.connections.acquire_many(count)).await;
        if let Some(collector) = collector {
            // It ends by itself after the step that it is in.
            let _ = tokio::time::timeout(shutdown, collector).await;
        }
        drop(stop);
        Ok(())
    }
}

/// Waits until the registry shall end.
pub(crate) async fn ending(stopped: &mut watch::Receiver<bool>) {
    // Whoever could stop it is gone: nobody waits for an answer any more either.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Takes a connection when there is room for one.
async fn accept(state: &State, listener: &TcpListener) -> Option<Accepted> {
    let permit = state.connections.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, client)) => Some((stream, client, permit)),
        Err(error) => {
            // The client went away, or the system has no file left: then it may soon.
            if error.kind() != std::io::ErrorKind::ConnectionAborted {
                (state.trouble)(&format!("cannot take a connection: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            None
        }
    }
}

async fn connection(
    state: Arc<State>,
    acceptor: Option<TlsAcceptor>,
    stream: TcpStream,
    client: IpAddr,
    stopped: watch::Receiver<bool>,
) {
    let _open = Running::begin(&state.metrics.connections);
    state.metrics.connections_total.fetch_add(1, Relaxed);
    // Small answers must not wait for large ones; a socket that refuses is as good as closed.
    let _ = stream.set_nodelay(true);
    let stream = Stalling::new(stream, state.limits.stall_wait);
    match acceptor {
        None => talk(state.clone(), stream, client, stopped).await,
        Some(acceptor) => {
            let handshake = tokio::time::timeout(state.limits.head_wait, acceptor.accept(stream));
            if let Ok(Ok(stream)) = handshake.await {
                talk(state.clone(), stream, client, stopped).await;
            }
        }
    }
}

async fn talk<S>(state: Arc<State>, stream: S, client: IpAddr, mut stopped: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(state.limits.head_wait)
        .max_header_size(state.limits.head_bytes)
        .max_buf_size(READ_BYTES.max(state.limits.head_bytes));
    let service = service_fn(|request| answered(state.clone(), client, request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // What goes wrong with a connection concerns the client, which knows.
        _ = connection.as_mut() => {}
        () = ending(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Answers a request, whatever comes of it.
async fn answered(
    state: Arc<State>,
    client: IpAddr,
    request: Request<Incoming>,
) -> std::result::Result<Response<Sent>, Infallible> {
    let mut record = Record::begin(&state.log, client, &request);
    let _running = Running::begin(&state.metrics.running);
    let mut response = match state.answer(request, &mut record).await {
        Ok(response) => response,
        Err(refusal) => {
            if let Some(trouble) = &refusal.trouble {
                state.metrics.failures.fetch_add(1, Relaxed);
                (state.trouble)(trouble);
            }
            refusal.respond()
        }
    };
    response.headers_mut().insert(API_VERSION, http::HeaderValue::from_static("registry/2.0"));
    record.set_status(response.status().as_u16());
    Ok(response.map(|body| Sent::new(body, record)))
}

impl State {
    pub(crate) fn report(&self, trouble: &str) {
        (self.trouble)(trouble);
    }

    async fn answer(&self, request: Request<Incoming>, record: &mut Record) -> Answer {
        let (parts, body) = request.into_parts();
        if parts.uri.path() == "/healthz" {
            return Ok(plain("ok\n"));
        }
        let now = (self.log.clock)();
        if parts.uri.path() == TOKEN_PATH && parts.method == http::Method::GET {
            return self.access.token(&parts.headers, now).await;
        }
        // Before anything that depends on what is here.
        let path = parts.uri.path();
        let user = match self.access.admit(&parts.method, path, &parts.headers, now).await {
            Ok(user) => user,
            Err(refusal) => {
                self.metrics.denied.fetch_add(1, Relaxed);
                return Err(refusal);
            }
        };
        if let Some(user) = &user {
            record.set_user(user);
        }
        let route = Route::parse(parts.uri.path()).map_err(|astray| lost(astray, &parts.method))?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let call = Call { method: parts.method, query, headers: parts.headers, body, user };
        match route {
            Route::Metrics => return Ok(plain(self.metrics.text())),
            Route::Health => return Ok(plain("ok\n")),
            Route::Ping => {
                manifest::only_get(&call)?;
                return Ok(document(StatusCode::OK, "application/json", "{}".into()));
            }
            _ => {}
        }
        match &self.content {
            Served::Core(core) => of_core(core, call, route).await,
            Served::Images(images, pool) => images::answer(images, pool, call, route).await,
        }
    }
}

async fn of_core(core: &Arc<Core>, call: Call, route: Route) -> Answer {
    match route {
        Route::Catalog => manifest::catalog(core, &call).await,
        Route::Extensions(_) => manifest::extensions(&call),
        Route::Blob(of, digest) => blob::blob(core, call, &of, &digest).await,
        Route::Uploads(of) => blob::begin(core, call, &of).await,
        Route::Upload(of, id) => blob::upload(core, call, &of, &id).await,
        Route::Manifest(of, reference) => manifest::manifest(core, call, &of, &reference).await,
        Route::Tags(of) => manifest::tags(core, &call, &of).await,
        Route::Referrers(of, digest) => manifest::referrers(core, &call, &of, &digest).await,
        Route::History(of, tag) => manifest::history(core, &call, &of, &tag).await,
        Route::Rollback(of, tag) => manifest::rollback(core, call, &of, &tag).await,
        Route::Ping | Route::Health | Route::Metrics => Err(lost(Astray::Nowhere, &call.method)),
    }
}

fn plain(text: impl Into<bytes::Bytes>) -> Response<Body> {
    document(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
}

fn lost(astray: Astray, method: &http::Method) -> Refusal {
    match astray {
        Astray::Nowhere => Refusal::missing(Code::Unsupported, "there is no such place"),
        Astray::Name => Refusal::bad(Code::NameInvalid, "the name of the repository is not valid"),
        Astray::Digest => {
            Refusal::bad(Code::DigestInvalid, "the digest is not one of SHA-256 or SHA-512")
        }
        Astray::Tag if method == http::Method::PUT => {
            Refusal::bad(Code::ManifestInvalid, "the tag is not valid")
        }
        Astray::Tag => Refusal::missing(Code::ManifestUnknown, "no manifest has such a tag"),
    }
}
