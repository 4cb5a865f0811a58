//! Blobs on their way out (distribution spec, "Pushing Blobs").
//!
//! A source that can be opened again is sent in one request and, after a broken connection, from
//! where the registry says it is. A source that can be read only once is sent in chunks that are
//! kept until the registry has them.

use std::io::{self, Read};

use conex_oci::{Algorithm, Descriptor, Digest, Hasher, VerifyReader};
use ureq::http::Method;

use crate::auth::scope::Scopes;
use crate::error::{Error, ErrorKind, Result};
use crate::http::headers::upload_range;
use crate::http::url::Url;
use crate::http::{Body, Patience, Request, Response};
use crate::limits::{CHUNK_SIZE, CHUNK_SIZE_MAX, MONOLITHIC_SIZE_MAX, PROGRESS_SIZE_MIN};

use super::Repository;
use super::site::Target;

/// Opens the bytes of a blob from an offset on.
pub type OpenAt<'a> = dyn Fn(u64) -> io::Result<Box<dyn Read + Send + 'a>> + 'a;

/// How a blob came to be in a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Sent,
}

/// An upload that the registry has begun.
pub(super) struct Session {
    pub(super) location: Url,
    /// The smallest chunk that the registry wants (`OCI-Chunk-Min-Length`).
    pub(super) chunk_size: usize,
    /// A request of it was made before.
    pub(super) resumed: bool,
}

/// What one request brings to an upload.
pub(super) struct Part<'b> {
    pub(super) offset: u64,
    /// How much it is; none while that is not known.
    pub(super) size: Option<u64>,
    /// Whether the registry is told where the part belongs.
    pub(super) is_placed: bool,
    /// Requests that failed before.
    pub(super) attempt: u32,
    pub(super) body: &'b mut dyn Read,
}

pub(super) struct Upload<'r> {
    pub(super) repository: &'r Repository,
    target: Target,
    scopes: Scopes,
}

impl Repository {
    /// Brings a blob into the repository: finds it there, has it mounted from `from` (another
    /// repository of the same registry) or from wherever the registry has it, or sends it.
    ///
    /// # Errors
    /// The registry does not take it, or the source cannot be read.
    pub fn push_blob(
        &self,
        blob: &Descriptor,
        from: Option<&str>,
        open: &OpenAt<'_>,
    ) -> Result<Pushed> {
        if self.has_blob(blob)? {
            return Ok(Pushed::Existed);
        }
        let upload = self.upload(from)?;
        let session = match upload.mount(blob, from)? {
            Mount::Done => return Ok(Pushed::Mounted),
            Mount::Session(session) => Some(session),
            Mount::Refused => None,
        };
        if blob.size <= MONOLITHIC_SIZE_MAX {
            upload.send_small(blob, session, open)?;
        } else {
            upload.send_large(blob, session, 0, open)?;
        }
        Ok(Pushed::Sent)
    }

    /// Has a blob mounted from another repository of the registry, or, without `from`, from
    /// wherever the registry has it. False when the registry does not.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub fn mount_blob(&self, blob: &Descriptor, from: Option<&str>) -> Result<bool> {
        let upload = self.upload(from)?;
        match upload.mount(blob, from)? {
            Mount::Done => Ok(true),
            Mount::Refused => Ok(false),
            Mount::Session(session) => {
                upload.cancel(&session.location);
                Ok(false)
            }
        }
    }

    /// Sends a blob from a reader that can be read only once, and verifies it on the way.
    ///
    /// # Errors
    /// As [`Self::push_blob`]; the body is not what the descriptor says.
    pub fn push_body(&self, blob: &Descriptor, body: &mut dyn Read) -> Result<()> {
        // One byte more than promised is enough to give another digest.
        let mut bounded = Read::take(body, blob.size.saturating_add(1));
        let algorithm = blob.digest.algorithm();
        self.push_chunks(&mut bounded, algorithm, Some(&blob.digest)).map(drop)
    }

    /// Sends a blob of unknown size and digest, as it is being made. Gives digest and size.
    ///
    /// # Errors
    /// As [`Self::push_blob`].
    pub fn push_stream(&self, body: &mut dyn Read, algorithm: Algorithm) -> Result<(Digest, u64)> {
        self.push_chunks(body, algorithm, None)
    }

    pub(super) fn upload(&self, from: Option<&str>) -> Result<Upload<'_>> {
        let target = self.own_target()?;
        let mut scopes = Scopes::repository(&target.repository, &["pull", "push"]);
        if let Some(from) = from {
            scopes = scopes.and("repository", from, &["pull"]);
        }
        Ok(Upload { repository: self, target, scopes })
    }

    fn push_chunks(
        &self,
        mut body: &mut dyn Read,
        algorithm: Algorithm,
        wanted: Option<&Digest>,
    ) -> Result<(Digest, u64)> {
        let upload = self.upload(None)?;
        let mut session = upload.begin()?;
        let mut hasher = Hasher::new(algorithm);
        let mut chunk = Vec::new();
        let mut offset = 0;
        loop {
            chunk.clear();
            let limit = session.chunk_size as u64;
            Read::take(&mut body, limit).read_to_end(&mut chunk).map_err(|source| {
                Error::local("cannot read the blob that is to be sent", source)
            })?;
            hasher.update(&chunk);
            if (chunk.len() as u64) < limit {
                break;
            }
            upload.send_chunk(&mut session, offset, &chunk)?;
            offset += chunk.len() as u64;
        }
        let digest = hasher.finish();
        if let Some(wanted) = wanted.filter(|wanted| **wanted != digest) {
            return Err(Error::digest_mismatch("the blob to be sent", wanted, digest.as_str()));
        }
        let size = offset + chunk.len() as u64;
        let blob = Descriptor::new(conex_oci::MediaType::Empty, digest.clone(), size);
        if offset == 0 {
            // All of it is in memory: a lost upload can be begun again.
            upload.send_bytes(&blob, Some(session), &chunk)?;
        } else {
            if !chunk.is_empty() {
                upload.send_chunk(&mut session, offset, &chunk)?;
            }
            upload.commit(&session.location, &blob)?;
        }
        Ok((digest, size))
    }
}

enum Mount {
    Done,
    Session(Session),
    Refused,
}

impl Upload<'_> {
    pub(super) fn act(&self, what: &str) -> String {
        format!("{what} in `{}`", self.target.repository)
    }

    fn retry<T>(&self, act: impl FnMut(u32) -> Result<T>) -> Result<T> {
        self.repository.shared.retry(act)
    }

    fn send<'b>(&self, build: impl Fn() -> Result<Request<'b>>) -> Result<Response> {
        self.repository.shared.send(&self.target, &self.scopes, build)
    }

    fn expect(&self, response: Response, act: &str, wanted: &[u16]) -> Result<Response> {
        self.repository.shared.expect(response, &self.target.site, act, wanted)
    }

    /// Asks to mount. Registries that cannot answer with a session for an upload; some answer
    /// with an error instead, which is no reason not to send the blob.
    fn mount(&self, blob: &Descriptor, from: Option<&str>) -> Result<Mount> {
        let act = self.act(&format!("mount blob `{}`", blob.digest));
        let response = self.retry(|_| {
            let response = self.send(|| {
                let url = self.repository.shared.url(&self.target, "blobs/uploads/")?;
                let url = url.with_query("mount", blob.digest.as_str());
                let url = from.map_or(url.clone(), |from| url.with_query("from", from));
                Ok(Request::new(Method::POST, url))
            })?;
            match response.status {
                408 | 429 | 499 | 502..=504 => self.expect(response, &act, &[]),
                _ => Ok(response),
            }
        })?;
        match response.status {
            201 => {
                response.drain();
                Ok(Mount::Done)
            }
            202 => self.session(response).map(Mount::Session),
            401 => Err(self.repository.shared.refusal(response, &self.target.site, &act)),
            _ => {
                response.drain();
                Ok(Mount::Refused)
            }
        }
    }

    pub(super) fn begin(&self) -> Result<Session> {
        let act = self.act("begin an upload");
        self.retry(|_| {
            let response = self.send(|| {
                let url = self.repository.shared.url(&self.target, "blobs/uploads/")?;
                Ok(Request::new(Method::POST, url))
            })?;
            self.session(self.expect(response, &act, &[202])?)
        })
    }

    fn session(&self, response: Response) -> Result<Session> {
        let asked: usize = response
            .header("oci-chunk-min-length")
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0);
        if asked > CHUNK_SIZE_MAX {
            let message = format!("`{}` asks for chunks of {asked} bytes", self.target.site);
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let location = self.location(&response)?;
        response.drain();
        Ok(Session { location, chunk_size: asked.max(CHUNK_SIZE), resumed: false })
    }

    /// Where an answer says that the upload goes on.
    fn location(&self, response: &Response) -> Result<Url> {
        let value = response.header("location").ok_or_else(|| {
            let message = format!("`{}` does not say where the upload goes on", self.target.site);
            Error::protocol(message)
        })?;
        let location = response.url.join(value)?;
        let downgrade = response.url.scheme() > location.scheme();
        if downgrade {
            // A registry behind a proxy that ends TLS often names itself with http: it is meant
            // to be reached as it was.
            let fixed = location.full().replacen("http://", "https://", 1);
            let fixed = Url::parse(&fixed)?;
            if fixed.host() == response.url.host() {
                return response.url.join(fixed.target());
            }
            let message = format!("an upload to `{}` goes on without TLS, refused", response.url);
            return Err(Error::protocol(message));
        }
        Ok(location)
    }

    fn send_small(
        &self,
        blob: &Descriptor,
        session: Option<Session>,
        open: &OpenAt<'_>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        let unread = |source| Error::local(format!("cannot read blob `{}`", blob.digest), source);
        let mut body = VerifyReader::new(open(0).map_err(unread)?, blob);
        body.read_to_end(&mut bytes).map_err(unread)?;
        self.send_bytes(blob, session, &bytes)
    }

    fn send_bytes(&self, blob: &Descriptor, session: Option<Session>, bytes: &[u8]) -> Result<()> {
        let act = self.act(&format!("send blob `{}`", blob.digest));
        let mut session = session;
        self.retry(|attempt| {
            // A failed attempt may have done its work all the same.
            if attempt > 0 && self.repository.has_blob(blob)? {
                return Ok(());
            }
            let begun = match session.take() {
                Some(session) => session,
                None => self.begin()?,
            };
            let response = self.send(|| {
                let url = begun.location.with_query("digest", blob.digest.as_str());
                let request = Request::new(Method::PUT, url);
                let request = request.header("content-type", "application/octet-stream");
                Ok(request.body(Body::Bytes(bytes)))
            })?;
            self.expect(response, &act, &[201, 204]).map(Response::drain)
        })
    }

    /// Sends a blob from an offset on in one request, then, as often as the connection breaks, what
    /// is missing.
    pub(super) fn send_large(
        &self,
        blob: &Descriptor,
        session: Option<Session>,
        offset: u64,
        open: &OpenAt<'_>,
    ) -> Result<()> {
        let mut state = session.map(|session| (session, offset));
        let mut attempt = 0;
        loop {
            let (begun, offset) = match state.take() {
                Some(state) => state,
                None => (self.begin()?, 0),
            };
            match self.send_rest(blob, &begun, offset, attempt, open) {
                Ok(location) => return self.commit(&location, blob),
                Err(failure) => {
                    let next = self.recover(&begun, offset, &mut attempt, failure)?;
                    state = next.filter(|(_, reached)| *reached <= blob.size);
                }
            }
        }
    }

    /// After a request that failed: where the upload goes on, none where it must be begun anew.
    /// Gives the failure back when there should be no other attempt.
    pub(super) fn recover(
        &self,
        begun: &Session,
        offset: u64,
        attempt: &mut u32,
        failure: Error,
    ) -> Result<Option<(Session, u64)>> {
        let lost = matches!(failure.status(), Some(404 | 416));
        let broke = failure.status().is_none();
        if !failure.is_transient() && !lost {
            self.cancel(&begun.location);
            return Err(failure);
        }
        let reached = self.status(&begun.location);
        let progress = match &reached {
            Some((_, reached)) => reached.saturating_sub(offset),
            None => 0,
        };
        *attempt = if progress >= PROGRESS_SIZE_MIN { 1 } else { *attempt + 1 };
        let failure = if lost { failure.during("the upload was lost") } else { failure };
        self.wait(*attempt, failure, lost)?;
        // What was on its way when the connection broke may have arrived meanwhile.
        let reached = match reached {
            Some((location, _)) if broke => self.status(&location),
            reached => reached,
        };
        Ok(reached
            .map(|(location, reached)| (Session { location, resumed: true, ..*begun }, reached)))
    }

    fn wait(&self, attempt: u32, failure: Error, lost: bool) -> Result<()> {
        // A lost upload is begun again as a broken connection is.
        let failure =
            if lost { Error::network("the upload was lost").with_source(failure) } else { failure };
        self.repository.shared.wait_after(attempt, failure)
    }

    fn send_rest(
        &self,
        blob: &Descriptor,
        session: &Session,
        offset: u64,
        attempt: u32,
        open: &OpenAt<'_>,
    ) -> Result<Url> {
        let left = blob.size - offset;
        if left == 0 {
            return Ok(session.location.clone());
        }
        let act = self.act(&format!("send blob `{}`", blob.digest));
        let name = format!("blob `{}`", blob.digest);
        let unread = |source| Error::local(format!("cannot read {name}"), source);
        let mut body = Exactly { body: open(offset).map_err(unread)?, left, name: &name };
        // Placed also at the start of an upload that was begun before: the registry may have bytes
        // of it that it did not know of when it was asked.
        let is_placed = session.resumed || offset > 0;
        let part = Part { offset, size: Some(left), is_placed, attempt, body: &mut body };
        self.send_part(&act, &session.location, part)
    }

    /// Sends a part of a blob. Gives where the upload goes on.
    pub(super) fn send_part(&self, act: &str, location: &Url, part: Part<'_>) -> Result<Url> {
        let Part { offset, size, is_placed, attempt, body } = part;
        let mut request = Request::new(Method::PATCH, location.clone())
            .header("content-type", "application/octet-stream");
        let end = size.map(|size| offset + size);
        if let Some(end) = end.filter(|_| is_placed) {
            request = request.header("content-range", format!("{offset}-{}", end - 1));
        }
        if attempt > 0 {
            // What broke the last attempt may be an answer that was not waited for: let the
            // registry speak first.
            request = request.header("expect", "100-continue");
        }
        let request = request.body(Body::Reader { reader: body, size });
        let shared = &self.repository.shared;
        let response = shared.send_stream(&self.target, &self.scopes, request)?;
        if response.status == 401 {
            // The token ran out on the way. Asking for the state of the upload gets a new one.
            let error = shared.refusal(response, &self.target.site, act);
            return Err(Error::network("the token expired").with_source(error));
        }
        let response = self.expect(response, act, &[201, 202, 204])?;
        let reached = response.header("range").and_then(upload_range).filter(|at| *at != 0);
        if let (Some(reached), Some(end)) = (reached, end)
            && reached != end
        {
            let message = format!("`{}` has other bytes of the upload than sent", self.target.site);
            return Err(Error::network(message));
        }
        let location = self.location(&response)?;
        response.drain();
        Ok(location)
    }

    /// Asks how much of an upload has arrived. None when the registry no longer knows it.
    fn status(&self, location: &Url) -> Option<(Url, u64)> {
        let act = self.act("look after an upload");
        let asked = self.retry(|_| {
            let response = self.send(|| Ok(Request::new(Method::GET, location.clone())))?;
            self.expect(response, &act, &[204, 200, 202])
        });
        let response = asked.ok()?;
        let reached = response.header("range").and_then(upload_range)?;
        let next = match response.header("location") {
            Some(_) => self.location(&response).ok()?,
            None => location.clone(),
        };
        response.drain();
        Some((next, reached))
    }

    fn send_chunk(&self, session: &mut Session, offset: u64, chunk: &[u8]) -> Result<()> {
        let act = self.act("send a chunk of a blob");
        let end = offset + chunk.len() as u64;
        let mut at = offset;
        self.retry(|attempt| {
            if attempt > 0 {
                let lost = || Error::new(ErrorKind::Protocol, "the registry lost the upload");
                let (location, reached) = self.status(&session.location).ok_or_else(lost)?;
                if !(offset..=end).contains(&reached) {
                    return Err(lost());
                }
                session.location = location;
                at = reached;
            }
            let skip = usize::try_from(at - offset).unwrap_or(usize::MAX);
            let rest = chunk.get(skip..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            let response = self.send(|| {
                let request = Request::new(Method::PATCH, session.location.clone())
                    .header("content-type", "application/octet-stream")
                    .header("content-range", format!("{at}-{}", end - 1));
                Ok(request.body(Body::Bytes(rest)))
            })?;
            let response = self.expect(response, &act, &[201, 202, 204])?;
            session.location = self.location(&response)?;
            response.drain();
            Ok(())
        })
    }

    /// Ends an upload. An answer that gets lost does not matter when the blob is there.
    pub(super) fn commit(&self, location: &Url, blob: &Descriptor) -> Result<()> {
        let act = self.act(&format!("finish blob `{}`", blob.digest));
        self.retry(|attempt| {
            if attempt > 0 && self.repository.has_blob(blob)? {
                return Ok(());
            }
            let response = self.send(|| {
                let url = location.with_query("digest", blob.digest.as_str());
                let mut request = Request::new(Method::PUT, url)
                    .header("content-type", "application/octet-stream");
                request.patience = Patience::Commit;
                Ok(request)
            })?;
            self.expect(response, &act, &[201, 204]).map(Response::drain)
        })
    }

    /// Tells the registry to forget an upload. Registries need not know how; what is left over
    /// they clean up themselves, so nothing is made of a failure.
    pub(super) fn cancel(&self, location: &Url) {
        let answer = self.send(|| Ok(Request::new(Method::DELETE, location.clone())));
        if let Ok(response) = answer {
            response.drain();
        }
    }
}

/// Gives exactly the promised bytes, or an error that is this side's and not the connection's.
pub(super) struct Exactly<'b> {
    pub(super) body: Box<dyn Read + Send + 'b>,
    pub(super) left: u64,
    pub(super) name: &'b str,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unread =
            |source| io::Error::from(Error::local(format!("cannot read {}", self.name), source));
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = match buffer.get_mut(..room) {
            Some(space) if room > 0 => self.body.read(space).map_err(unread)?,
            _ => return Ok(0),
        };
        if count == 0 {
            return Err(unread(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
