//! Blobs by digest: there or not, in, out, away.

use std::io::{self, Read};

use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, VerifyReader};
use ureq::http::Method;

use crate::auth::scope::Scopes;
use crate::error::Result;
use crate::http::{Request, Response};
use crate::limits::{RANGE_BLOB_SIZE_MIN, RANGE_PIECE_SIZE};

use super::Repository;
use super::fetch_blob::{BlobBody, body_at};
use super::ranges::RangedBody;
use super::site::Purpose;

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
        targets: &[super::site::Target],
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
        // The first piece is read here, as a blob that ends where the piece does; the threads
        // fetch the others meanwhile.
        let next = offset + RANGE_PIECE_SIZE;
        let rest = RangedBody::start(self, targets.to_vec(), target.clone(), blob, next, direct);
        let first = FirstPiece {
            body,
            offset,
            end: next,
            targets: targets.to_vec(),
            repository: self.clone(),
            blob: blob.clone(),
            rest: Some(rest),
            fallback: None,
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

/// The first piece of a ranged transfer, and what follows it. When its connection breaks, the
/// plain way takes over from there to the end.
struct FirstPiece {
    body: Box<dyn Read + Send>,
    offset: u64,
    end: u64,
    targets: Vec<super::site::Target>,
    repository: Repository,
    blob: Descriptor,
    rest: Option<RangedBody>,
    fallback: Option<Box<BlobBody>>,
}

impl Read for FirstPiece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(fallback) = &mut self.fallback {
            return fallback.read(buffer);
        }
        let left = self.end.saturating_sub(self.offset);
        if left == 0 {
            return self.rest.as_mut().map_or(Ok(0), |rest| rest.read(buffer));
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let space = buffer.get_mut(..room).unwrap_or_default();
        match self.body.read(space) {
            Ok(count) if count > 0 || room == 0 => {
                self.offset += count as u64;
                if self.offset == self.end {
                    // Asking once more lets the connection be used again; what comes is known.
                    let _ = self.body.read(&mut [0]);
                }
                Ok(count)
            }
            // Broken, or shorter than it said.
            _ => {
                self.rest = None;
                let (repository, blob) = (self.repository.clone(), self.blob.clone());
                let body = BlobBody::new(repository, self.targets.clone(), blob, self.offset);
                self.fallback.insert(Box::new(body)).read(buffer)
            }
        }
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
