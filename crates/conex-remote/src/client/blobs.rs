//! Blobs by digest: there or not, in, out, away.

use std::io::{self, Read};
use std::time::Duration;

use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, VerifyReader};
use ureq::http::Method;

use crate::auth::scope::Scopes;
use crate::error::Result;
use crate::http::url::Url;
use crate::http::{Request, Response};
use crate::limits::{RANGE_BLOB_SIZE_MIN, RANGE_PIECE_SIZE};

use super::Repository;
use super::fetch_blob::{BlobBody, body_at};
use super::ranges::RangedBody;
use super::site::{Purpose, Target};

impl Repository {
    /// Opens a blob. The reader takes broken connections up again where they broke, fetches large
    /// blobs over several connections where the server allows, and verifies: its end proves size
    /// and digest.
    ///
    /// # Errors
    /// The blob is not there, or not for us. Errors while reading are [`io::Error`]s with an
    /// [`crate::Error`] inside.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<VerifyReader<Box<dyn Read + Send>>> {
        Ok(VerifyReader::new(self.open_blob_at(blob, 0)?, blob))
    }

    /// Opens a blob from an offset on, for a caller that has the bytes before it. Only the size is
    /// checked: the caller verifies the whole.
    ///
    /// # Errors
    /// As [`Self::open_blob`].
    pub fn open_blob_at(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let by_digest = self.reference.with_digest(blob.digest.clone());
        let targets = self.shared.targets(&by_digest, Purpose::Pull)?;
        let left = blob.size.saturating_sub(offset);
        if left == 0 && offset > 0 {
            // The caller has it all; to ask for what lies behind the end is an error (416).
            return Ok(Box::new(io::empty()));
        }
        if left >= RANGE_BLOB_SIZE_MIN
            && self.shared.options.transfers.ranges > 1
            && let Some(body) = self.open_ranged(&targets, blob, offset)
        {
            return Ok(body);
        }
        Ok(Box::new(BlobBody::new(self.clone(), targets, blob.clone(), offset).opened()?))
    }

    /// Asks for the first piece only. A server that answers with just that can serve the others at
    /// the same time; one that sends the whole blob is taken at its word. Any failure is left to
    /// the plain way, which finds the reason.
    fn open_ranged(
        &self,
        targets: &[Target],
        blob: &Descriptor,
        offset: u64,
    ) -> Option<Box<dyn Read + Send>> {
        let target = targets.first()?;
        let last = offset + RANGE_PIECE_SIZE - 1;
        let answer = self.ask_blob(target, blob, Some((offset, Some(last)))).ok()?;
        let ranged = answer.status == 206;
        let base = self.shared.base(&target.site).ok()?;
        let direct = (!answer.url.same_origin(&base)).then(|| answer.url.clone());
        let body = body_at(answer, blob, offset).ok()?;
        if !ranged {
            let body =
                BlobBody::new(self.clone(), targets.to_vec(), blob.clone(), offset).with_body(body);
            return Some(Box::new(body));
        }
        let first = FirstPiece {
            repository: self.clone(),
            targets: targets.to_vec(),
            blob: blob.clone(),
            direct,
            body,
            offset,
            end: offset + RANGE_PIECE_SIZE,
            size: RANGE_PIECE_SIZE,
            waited: Duration::ZERO,
            rest: None,
        };
        Some(Box::new(first))
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let target = self.own_target()?;
        // The rights of a push, so that the token serves the upload that may follow.
        let scopes = Scopes::repository(&target.repository, &["pull", "push"]);
        let act = format!("look for blob `{}` in `{}`", blob.digest, target.repository);
        self.shared.retry(|_| {
            let response = self.shared.send(&target, &scopes, || {
                let url = self.shared.url(&target, &format!("blobs/{}", blob.digest))?;
                Ok(Request::new(Method::HEAD, url))
            })?;
            match response.status {
                404 => Ok(false),
                _ => {
                    let response = self.shared.expect(response, &target.site, &act, &[200, 204])?;
                    // A blob of another size under this digest is no blob that we know.
                    let sound = response.content_length().is_none_or(|length| length == blob.size);
                    response.drain();
                    Ok(sound)
                }
            }
        })
    }

    /// Deletes a blob from the repository.
    ///
    /// # Errors
    /// It is not there, or the registry does not delete.
    pub fn delete_blob(&self, digest: &Digest) -> Result<()> {
        let target = self.own_target()?;
        let scopes = Scopes::repository(&target.repository, &["delete", "pull"]);
        let act = format!("delete blob `{digest}` of `{}`", target.repository);
        self.shared.retry(|_| {
            let response = self.shared.send(&target, &scopes, || {
                let url = self.shared.url(&target, &format!("blobs/{digest}"))?;
                Ok(Request::new(Method::DELETE, url))
            })?;
            let response = self.shared.expect(response, &target.site, &act, &[200, 202, 204])?;
            Response::drain(response);
            Ok(())
        })
    }
}

/// The first piece of a blob that could come over several connections. How fast it comes decides
/// how the others do. When its connection breaks, the plain way takes over from there.
struct FirstPiece {
    repository: Repository,
    targets: Vec<Target>,
    blob: Descriptor,
    direct: Option<Url>,
    body: Box<dyn Read + Send>,
    offset: u64,
    end: u64,
    size: u64,
    /// Time spent waiting for the network, without that of whoever takes the bytes.
    waited: Duration,
    rest: Option<Box<dyn Read + Send>>,
}

impl FirstPiece {
    /// Decides how the bytes from `self.offset` on are fetched.
    fn go_on(&self) -> Box<dyn Read + Send> {
        let rate_max = u128::from(self.repository.shared.options.transfers.ranges_rate_max);
        let micros = self.waited.as_micros().max(1);
        let rate = u128::from(self.size) * 1_000_000 / micros;
        if self.offset == self.end
            && rate <= rate_max
            && let Some(target) = self.targets.first().cloned()
        {
            let (targets, direct) = (self.targets.clone(), self.direct.clone());
            let (from, start) = (&self.repository, self.offset);
            return Box::new(RangedBody::start(from, targets, target, &self.blob, start, direct));
        }
        let (repository, blob) = (self.repository.clone(), self.blob.clone());
        Box::new(BlobBody::new(repository, self.targets.clone(), blob, self.offset))
    }
}

impl Read for FirstPiece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(rest) = &mut self.rest {
            return rest.read(buffer);
        }
        let left = self.end.saturating_sub(self.offset);
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let clock = std::sync::Arc::clone(&self.repository.shared.options.clock);
        let began = clock.ticks();
        let space = buffer.get_mut(..room).unwrap_or_default();
        let count = match self.body.read(space) {
            Ok(count) if count > 0 || buffer.is_empty() => count,
            // At its end, broken, or shorter than it said.
            _ => {
                let rest = self.go_on();
                return self.rest.insert(rest).read(buffer);
            }
        };
        self.waited += clock.ticks().saturating_sub(began);
        self.offset += count as u64;
        Ok(count)
    }
}

impl BlobSource for Repository {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.open_blob(blob)?))
    }
}

impl BlobSink for Repository {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.has_blob(blob)?)
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        self.push_body(blob, body)?;
        Ok(())
    }
}
