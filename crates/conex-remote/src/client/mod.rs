//! The client: what all requests to registries share, and the handle that callers hold.
//!
//! Invariant: what the public methods hand out was verified, or is a reader that verifies while it
//! is read.

pub(crate) mod answer;
pub(crate) mod blobs;
pub(crate) mod fetch_blob;
pub(crate) mod growing;
pub(crate) mod history;
pub(crate) mod lists;
pub(crate) mod manifests;
pub(crate) mod ranges;
pub(crate) mod site;
pub(crate) mod upload;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use conex_oci::Reference;
use conex_report::Event;

use crate::auth::scope::Scopes;
use crate::auth::token::{Audience, AuthWeb, Authorizer};
use crate::auth::{Credential, FixedCredential, Web, WebMethod, WebPlace, WebRequest, WebResponse};
use crate::error::{Error, ErrorKind, Result, shown};
use crate::http::headers::warning;
use crate::http::tls::TlsSetup;
use crate::http::url::Url;
use crate::http::{Body, Http, Patience, Request, Response, TlsFor as _};
use crate::limits::DOCUMENT_SIZE_MAX;
use crate::options::ClientOptions;
use crate::secret::Secret;
use site::{Purpose, Site, Target};

/// Talks to registries. Cheap to clone; clones share connections, tokens and what is known about
/// hosts.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// A repository in a registry, seen through a [`Client`].
#[derive(Clone)]
pub struct Repository {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reference: Reference,
}

/// A registry's name, and whether it is marked insecure.
type SiteKey = (String, bool);

pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    pub(crate) http: Http,
    auth: Authorizer,
    sites: Mutex<HashMap<SiteKey, Vec<Arc<Site>>>>,
    other_tls: Mutex<HashMap<String, Arc<TlsSetup>>>,
    warned: Mutex<HashSet<String>>,
    /// Some server has answered: who is asked is there.
    has_answered: AtomicBool,
}

impl Client {
    /// Makes a client. Nothing is sent yet.
    pub fn new(options: ClientOptions) -> Self {
        let http = Http::new(
            Arc::clone(&options.network),
            options.timeouts,
            options.proxies.clone(),
            options.roots.clone(),
            options.user_agent.clone(),
        );
        let auth = Authorizer::new(options.credentials.clone(), Arc::clone(&options.clock));
        let shared = Shared {
            options,
            http,
            auth,
            sites: Mutex::default(),
            other_tls: Mutex::default(),
            warned: Mutex::default(),
            has_answered: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A handle for the repository of a reference; its tag or digest is what the handle's
    /// [`Repository::resolve`] looks up.
    pub fn repository(&self, reference: &Reference) -> Repository {
        Repository { shared: Arc::clone(&self.shared), reference: reference.clone() }
    }

    /// The options that the client was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    /// Checks that a registry is there, speaks the protocol and accepts the client's credentials.
    ///
    /// # Errors
    /// It is not or does not.
    pub fn ping(&self, registry: &str) -> Result<()> {
        let reference: Reference = format!("{registry}/ping").parse().map_err(|source| {
            Error::config(format!("`{registry}` is not a registry")).with_source(source)
        })?;
        let targets = self.shared.targets(&reference, Purpose::Push)?;
        let target = targets.last().expect("there is always one, or an error");
        self.shared.retry(|_| {
            let response = self.shared.send(target, &Scopes::default(), || {
                let url = self.shared.api_url(&target.site, "")?;
                Ok(Request::new(ureq::http::Method::GET, url))
            })?;
            let act = "answer at all";
            self.shared.expect(response, &target.site, act, &[200]).map(Response::drain)
        })
    }

    /// Checks a credential against a registry, before it is kept. Whatever sources the client has
    /// are left out of it.
    ///
    /// # Errors
    /// The registry refuses it, or cannot be asked.
    pub fn check_credential(&self, registry: &str, credential: &Credential) -> Result<()> {
        let fixed = FixedCredential { registry: None, credential: credential.clone() };
        let credentials = vec![Arc::new(fixed) as Arc<_>];
        let options = ClientOptions { credentials, ..self.shared.options.clone() };
        Self::new(options).ping(registry)
    }
}

impl Repository {
    /// The reference that the handle was made for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The same repository, seen through another tag.
    ///
    /// # Errors
    /// That is no tag.
    pub fn tagged(&self, tag: &str) -> Result<Self> {
        let bare = format!("{}:{tag}", self.reference.name());
        let reference = bare.parse().map_err(|source| {
            Error::protocol(format!("`{}` is no tag", shown(tag, 80))).with_source(source)
        })?;
        Ok(Self { shared: Arc::clone(&self.shared), reference })
    }
}

impl Shared {
    /// Sends a request to a server, as whoever we are to it. When the server wants to know (401),
    /// the request is built and sent once more. Any other answer is handed back as it is.
    pub(crate) fn send<'b>(
        &self,
        target: &Target,
        scopes: &Scopes,
        build: impl Fn() -> Result<Request<'b>>,
    ) -> Result<Response> {
        let base = self.base(&target.site)?;
        let audience = self.audience(target, &base, scopes);
        let header = self.auth.header(&audience, self)?;
        let response = self.send_as(target, &base, build()?, header.as_ref())?;
        if response.status != 401 {
            return Ok(response);
        }
        let challenges: Vec<String> = challenges(&response);
        let texts = challenges.iter().map(String::as_str);
        match self.auth.after_challenge(&audience, texts, header.as_ref(), self)? {
            Some(header) => {
                response.drain();
                self.send_as(target, &base, build()?, Some(&header))
            }
            None => Ok(response),
        }
    }

    /// Sends a request whose body is a stream, which cannot be sent twice: who we are must have
    /// been found out before.
    pub(crate) fn send_stream(
        &self,
        target: &Target,
        scopes: &Scopes,
        request: Request<'_>,
    ) -> Result<Response> {
        let base = self.base(&target.site)?;
        let header = self.auth.header(&self.audience(target, &base, scopes), self)?;
        self.send_as(target, &base, request, header.as_ref())
    }

    fn audience<'a>(&self, target: &'a Target, base: &'a Url, scopes: &'a Scopes) -> Audience<'a> {
        Audience { base, registry: &target.site.registry, repository: &target.repository, scopes }
    }

    fn send_as(
        &self,
        target: &Target,
        base: &Url,
        mut request: Request<'_>,
        header: Option<&Secret>,
    ) -> Result<Response> {
        let mut tls = Arc::clone(&target.site.tls);
        if request.url.same_origin(base) {
            request.headers.extend(target.site.headers.iter().cloned());
            if let Some(header) = header {
                request.headers.push(("authorization".to_owned(), header.expose().to_owned()));
            }
        } else {
            // An upload's location may be elsewhere; that place gets no credentials of ours.
            tls = self.tls_for(&request.url)?;
            request.named_by = Some(base.clone());
        }
        let response = self.http.send(request, &tls, self)?;
        self.has_answered.store(true, Ordering::Relaxed);
        self.pass_on_warnings(&target.site, &response);
        Ok(response)
    }

    fn pass_on_warnings(&self, site: &Site, response: &Response) {
        let Some(reporter) = &self.options.reporter else { return };
        for value in response.headers.get_all("warning").iter().take(8) {
            let Some(text) = value.to_str().ok().and_then(warning) else { continue };
            let text = format!("`{site}` says: {text}");
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            // Past this many the registry is talking, not warning.
            if warned.len() < 100 && warned.insert(text.clone()) {
                drop(warned);
                reporter.event(Event::Note { text });
            }
        }
    }

    /// Does something again while it fails in a way that may pass.
    pub(crate) fn retry<T>(&self, mut act: impl FnMut(u32) -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            match act(attempt) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    attempt += 1;
                    self.wait_after(attempt, error)?;
                }
            }
        }
    }

    /// Waits before the next attempt, or gives the error back when there should be none.
    pub(crate) fn wait_after(&self, attempt: u32, error: Error) -> Result<()> {
        let retry = self.options.retry;
        let asked = error.retry_after();
        let too_long = asked.is_some_and(|wait| wait > retry.retry_after_max);
        // A server that was there a moment ago comes back; one that never answered is most likely
        // a wrong name, and nobody wants to wait for it.
        let hopeless = error.found_nobody() && !self.has_answered.load(Ordering::Relaxed);
        let attempts = if hopeless { retry.attempts.min(2) } else { retry.attempts };
        if !error.is_transient() || attempt >= attempts || too_long {
            return Err(error);
        }
        let doubled = retry.delay.saturating_mul(1 << (attempt - 1).min(16));
        // Several transfers that failed together should not come back together; which of them is
        // first matters to nobody, so the clock's last digits will do.
        let nanoseconds = self.options.clock.now().duration_since(SystemTime::UNIX_EPOCH);
        let spread = nanoseconds.map_or(0, |since| since.subsec_nanos()) % 256;
        let own = doubled.min(retry.delay_max).mul_f64(0.75 + f64::from(spread) / 512.0);
        self.options.clock.sleep(asked.map_or(own, |wait| wait.max(Duration::from_millis(50))));
        Ok(())
    }

    /// Tries servers in order until one succeeds; the last one's error counts, as that is the
    /// registry itself.
    pub(crate) fn first_of<T>(
        &self,
        targets: &[Target],
        mut act: impl FnMut(&Target) -> Result<T>,
    ) -> Result<T> {
        let mut last = None;
        for target in targets {
            match act(target) {
                Ok(done) => return Ok(done),
                Err(error) if error.kind() == ErrorKind::Canceled => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::config("no host is configured for the registry")))
    }
}

fn challenges(response: &Response) -> Vec<String> {
    let headers = response.headers.get_all("www-authenticate").iter();
    headers.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
}

impl Shared {
    fn web(&self, named_by: Option<&Url>, request: WebRequest) -> Result<WebResponse> {
        let url = Url::parse(&request.url)?;
        let tls = match named_by {
            // A token server on the registry's own host is reached as the registry is.
            Some(base) if base.host() == url.host() => self.tls_of(base, &url)?,
            _ => self.tls_for(&url)?,
        };
        let method = match request.method {
            WebMethod::Get => ureq::http::Method::GET,
            WebMethod::Post => ureq::http::Method::POST,
            WebMethod::Put => ureq::http::Method::PUT,
        };
        let mut message = Request::new(method, url);
        message.headers = request.headers;
        message.named_by = named_by.cloned();
        if request.place == WebPlace::Machine {
            message.patience = Patience::Machine;
        }
        if request.method == WebMethod::Post {
            message = message.body(Body::Bytes(&request.body));
        }
        let response = self.http.send(message, &tls, self)?;
        let status = response.status;
        Ok(WebResponse { status, body: response.bytes("the answer", DOCUMENT_SIZE_MAX)? })
    }

    fn tls_of(&self, base: &Url, url: &Url) -> Result<Arc<TlsSetup>> {
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sites.values().flatten().find(|site| site.authority == base.authority());
        let known = known.map(|site| Arc::clone(&site.tls));
        drop(sites);
        known.map_or_else(|| self.tls_for(url), Ok)
    }
}

impl Web for Shared {
    fn exchange(&self, request: WebRequest) -> Result<WebResponse> {
        self.web(None, request)
    }

    fn now(&self) -> SystemTime {
        self.options.clock.now()
    }

    fn registry_url(&self, registry: &str) -> String {
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sites.values().flatten().find(|site| site.registry == registry).cloned();
        drop(sites);
        let base = known.and_then(|site| self.base(&site).ok());
        base.map_or_else(|| format!("https://{registry}"), |base| base.full())
    }
}

impl Web for Client {
    fn exchange(&self, request: WebRequest) -> Result<WebResponse> {
        self.shared.exchange(request)
    }

    fn now(&self) -> SystemTime {
        self.shared.now()
    }

    fn registry_url(&self, registry: &str) -> String {
        self.shared.registry_url(registry)
    }
}

impl AuthWeb for Shared {
    fn exchange_for(&self, registry: &Url, request: WebRequest) -> Result<WebResponse> {
        self.web(Some(registry), request)
    }
}
