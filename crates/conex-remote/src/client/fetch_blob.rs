//! Blobs on their way in: one connection at a time, taken up again where it broke.

use std::io::{self, Read};

use conex_oci::Descriptor;
use ureq::http::Method;

use crate::auth::scope::Scopes;
use crate::error::{Error, ErrorKind, Result};
use crate::http::headers::content_range;
use crate::http::url::Url;
use crate::http::{Request, Response};
use crate::limits::PROGRESS_SIZE_MIN;

use super::Repository;
use super::site::Target;

/// Reads a blob from some offset to its end. When the connection breaks, it asks for the rest; when
/// a server gives up, it goes on with the next one. Checks the size, not the digest.
pub(crate) struct BlobBody {
    repository: Repository,
    targets: Vec<Target>,
    target: usize,
    blob: Descriptor,
    offset: u64,
    body: Option<Box<dyn Read + Send>>,
    attempt: u32,
    progress: u64,
}

impl BlobBody {
    pub(crate) fn new(
        repository: Repository,
        targets: Vec<Target>,
        blob: Descriptor,
        offset: u64,
    ) -> Self {
        let (target, attempt, progress) = (0, 0, 0);
        Self { repository, targets, target, blob, offset, body: None, attempt, progress }
    }

    /// Starts with an answer that is already there.
    pub(crate) fn with_body(mut self, body: Box<dyn Read + Send>) -> Self {
        self.body = Some(body);
        self
    }

    /// Opens the body now, so that the caller learns at once that a blob is not there.
    pub(crate) fn opened(mut self) -> Result<Self> {
        while self.body.is_none() {
            match self.open() {
                Ok(body) => self.body = Some(body),
                Err(error) => self.recover(error)?,
            }
        }
        Ok(self)
    }

    fn open(&self) -> Result<Box<dyn Read + Send>> {
        let target = self.targets.get(self.target).ok_or_else(Error::canceled)?;
        let range = (self.offset > 0).then_some((self.offset, None));
        let response = self.repository.ask_blob(target, &self.blob, range)?;
        body_at(response, &self.blob, self.offset)
    }

    /// Decides whether to go on after a failure: same server after a wait, the next server, or not
    /// at all.
    fn recover(&mut self, error: Error) -> Result<()> {
        self.body = None;
        if self.progress >= PROGRESS_SIZE_MIN {
            self.attempt = 0;
        }
        self.progress = 0;
        self.attempt += 1;
        match self.repository.shared.wait_after(self.attempt, error) {
            Ok(()) => Ok(()),
            Err(error) if self.target + 1 >= self.targets.len() => Err(error),
            Err(_) => {
                self.target += 1;
                self.attempt = 0;
                Ok(())
            }
        }
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.body.is_none() {
            self.body = Some(self.open()?);
        }
        let body = self.body.as_mut().expect("it was opened above");
        let left = self.blob.size.saturating_sub(self.offset);
        // At the end one byte more is asked for: a body that goes on is a lie.
        let room = usize::try_from(left.max(1)).unwrap_or(usize::MAX).min(buffer.len());
        let Some(space) = buffer.get_mut(..room) else { return Ok(0) };
        let count = body.read(space).map_err(Error::from)?;
        if left == 0 && count > 0 {
            let what = format!("blob `{}`", self.blob.digest);
            return Err(Error::size_mismatch(&what, self.blob.size, self.blob.size + 1));
        }
        if count == 0 && left > 0 {
            let message = format!("blob `{}` broke off {left} bytes early", self.blob.digest);
            return Err(Error::network(message));
        }
        Ok(count)
    }
}

impl Read for BlobBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // After the last byte there is nothing left that a new connection could bring.
        if buffer.is_empty() || (self.offset >= self.blob.size && self.body.is_none()) {
            return Ok(0);
        }
        loop {
            match self.read_once(buffer) {
                Ok(0) => {
                    self.body = None;
                    return Ok(0);
                }
                Ok(count) => {
                    self.offset += count as u64;
                    self.progress += count as u64;
                    return Ok(count);
                }
                // All bytes are here: that the connection then broke matters to nobody.
                Err(error)
                    if self.offset >= self.blob.size && error.kind() != ErrorKind::Mismatch =>
                {
                    self.body = None;
                    return Ok(0);
                }
                Err(error) => self.recover(error)?,
            }
        }
    }
}

impl Repository {
    /// Asks a server for a blob or a range of it (first byte, last byte).
    pub(crate) fn ask_blob(
        &self,
        target: &Target,
        blob: &Descriptor,
        range: Option<(u64, Option<u64>)>,
    ) -> Result<Response> {
        let scopes = Scopes::repository(&target.repository, &["pull"]);
        let act = format!("read blob `{}` of `{}`", blob.digest, target.repository);
        let response = self.shared.send(target, &scopes, || {
            let url = self.shared.url(target, &format!("blobs/{}", blob.digest))?;
            Ok(with_range(Request::new(Method::GET, url), range))
        })?;
        self.shared.expect(response, &target.site, &act, &[200, 206])
    }

    /// Asks the place that a server redirected to before, without asking the server again.
    pub(crate) fn ask_direct(
        &self,
        target: &Target,
        url: &Url,
        range: (u64, Option<u64>),
    ) -> Result<Response> {
        let request = with_range(Request::new(Method::GET, url.clone()), Some(range));
        self.shared.send_stream(target, &Scopes::default(), request)
    }
}

fn with_range(request: Request<'static>, range: Option<(u64, Option<u64>)>) -> Request<'static> {
    match range {
        Some((first, Some(last))) => request.header("range", format!("bytes={first}-{last}")),
        Some((first, None)) => request.header("range", format!("bytes={first}-")),
        None => request,
    }
}

/// The part of an answer that begins at `offset`, once the answer's own claims were checked.
pub(crate) fn body_at(
    response: Response,
    blob: &Descriptor,
    offset: u64,
) -> Result<Box<dyn Read + Send>> {
    let what = format!("blob `{}`", blob.digest);
    if response.status == 206 {
        let range = response.header("content-range").and_then(content_range);
        let Some((first, _, whole)) = range.filter(|(first, ..)| *first == offset) else {
            return Err(Error::protocol(format!("{what} came with another range than asked")));
        };
        if let Some(whole) = whole.filter(|whole| *whole != blob.size) {
            return Err(Error::size_mismatch(&what, blob.size, whole));
        }
        debug_assert_eq!(first, offset);
        return Ok(response.into_reader());
    }
    if let Some(length) = response.content_length().filter(|length| *length != blob.size) {
        return Err(Error::size_mismatch(&what, blob.size, length));
    }
    if let Some(told) = response.header("docker-content-digest")
        && told != blob.digest.as_str()
        && told.split(':').next() == Some(blob.digest.algorithm().name())
    {
        return Err(Error::digest_mismatch(&what, &blob.digest, told));
    }
    let mut body = response.into_reader();
    if offset > 0 {
        // The server knows no ranges: what is here already is read past.
        let skipped = io::copy(&mut body.by_ref().take(offset), &mut io::sink())?;
        if skipped < offset {
            return Err(Error::new(ErrorKind::Network, format!("{what} broke off")));
        }
    }
    Ok(body)
}
