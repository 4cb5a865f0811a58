//! Blobs that are sent while they are made: their size and digest are known when all of them is on
//! its way.
//!
//! Most of it goes up in one request without a length, as the tools that people use have it. When
//! that breaks, what has been made meanwhile follows in parts that say where they belong.

use std::io::{self, Read};

use conex_oci::Descriptor;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{CHUNK_SIZE, MONOLITHIC_SIZE_MAX};

use super::Repository;
use super::upload::{Exactly, Part, Pushed, Session, Upload};

/// A blob that somebody still makes. What has been made can be read again.
pub trait GrowingBlob: Sync {
    /// Opens the bytes from an offset on. The reader waits for those that are not made yet and
    /// ends behind the last one, or with an error where making them failed.
    ///
    /// # Errors
    /// They cannot be read.
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;

    /// Waits until so many bytes are there, or all.
    ///
    /// # Errors
    /// Making them failed.
    fn grown_to(&self, size: u64) -> io::Result<Grown>;
}

/// How far a blob is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grown {
    /// Bytes that are there.
    pub size: u64,
    /// What it has become, when all of it is there.
    pub blob: Option<Descriptor>,
}

impl Repository {
    /// Brings a blob into the repository while it is made. One that turns out to be there, or that
    /// the registry has elsewhere, is sent no further.
    ///
    /// # Errors
    /// The registry does not take it, or it could not be made.
    pub fn push_growing(&self, growing: &dyn GrowingBlob) -> Result<(Descriptor, Pushed)> {
        // A small one is known before it is worth sending.
        match grown_to(growing, MONOLITHIC_SIZE_MAX + 1)?.blob {
            Some(blob) => self.push_grown(blob, growing),
            None => self.upload(None)?.send_growing(growing),
        }
    }

    fn push_grown(
        &self,
        blob: Descriptor,
        growing: &dyn GrowingBlob,
    ) -> Result<(Descriptor, Pushed)> {
        let pushed = self.push_blob(&blob, None, &|offset| growing.open_at(offset))?;
        Ok((blob, pushed))
    }
}

fn grown_to(growing: &dyn GrowingBlob, size: u64) -> Result<Grown> {
    growing.grown_to(size).map_err(|source| Error::local("cannot make the blob", source))
}

impl Upload<'_> {
    fn send_growing(&self, growing: &dyn GrowingBlob) -> Result<(Descriptor, Pushed)> {
        let mut state = None;
        let mut attempt = 0;
        loop {
            let (begun, offset) = match state.take() {
                Some(state) => state,
                None => match grown_to(growing, 0)?.blob {
                    Some(blob) => return self.repository.push_grown(blob, growing),
                    None => (self.begin()?, 0),
                },
            };
            let grown = grown_to(growing, offset)?;
            if let Some(blob) = grown.blob.filter(|blob| begun.resumed && offset <= blob.size) {
                let open = |offset| growing.open_at(offset);
                self.send_large(&blob, Some(begun), offset, &open)?;
                return Ok((blob, Pushed::Sent));
            }
            let sent = if begun.resumed {
                self.send_made(growing, &begun, offset, attempt)
            } else {
                self.stream(growing, &begun, attempt)
            };
            let failure = match sent {
                Ok(Sent::Part(session, end)) => {
                    state = Some((session, end));
                    continue;
                }
                Ok(Sent::All(blob, pushed)) => return Ok((*blob, pushed)),
                Err(failure) => failure,
            };
            if matches!(failure.status(), Some(411 | 501)) {
                // A server that must know the length beforehand.
                self.cancel(&begun.location);
                let blob = grown_to(growing, u64::MAX)?.blob;
                let blob = blob.ok_or_else(|| Error::canceled().with_source(failure))?;
                return self.repository.push_grown(blob, growing);
            }
            state = self.recover(&begun, offset, &mut attempt, failure)?;
        }
    }

    /// Sends all of it in one request, as it is made.
    fn stream(&self, growing: &dyn GrowingBlob, begun: &Session, attempt: u32) -> Result<Sent> {
        let unread = |source| Error::local("cannot read the blob", source);
        let body = growing.open_at(0).map_err(unread)?;
        let mut body = Stream { upload: self, growing, body, sent: 0, look: Look::Due };
        let part = Part { offset: 0, size: None, is_placed: false, attempt, body: &mut body };
        let sent = self.send_part(&self.act("send a blob"), &begun.location, part);
        if let Look::Found(blob, pushed) = body.look {
            self.cancel(&begun.location);
            return Ok(Sent::All(blob, pushed));
        }
        let (location, size) = (sent?, body.sent);
        let Some(blob) = grown_to(growing, size)?.blob.filter(|blob| blob.size == size) else {
            // Answered before the end, as if it were one.
            return Err(Error::network("the registry ended an upload before its end"));
        };
        self.commit(&location, &blob)?;
        Ok(Sent::All(Box::new(blob), Pushed::Sent))
    }

    /// Sends what has been made meanwhile.
    fn send_made(
        &self,
        growing: &dyn GrowingBlob,
        begun: &Session,
        offset: u64,
        attempt: u32,
    ) -> Result<Sent> {
        let chunk_size = begun.chunk_size.max(CHUNK_SIZE) as u64;
        let grown = grown_to(growing, offset + chunk_size)?;
        let Some(left) = grown.size.checked_sub(offset) else {
            let message = "the registry has more bytes of an upload than were made";
            return Err(Error::new(ErrorKind::Protocol, message));
        };
        let location = if grown.blob.is_some() || left == 0 {
            // The rest has a length now: it goes the usual way.
            begun.location.clone()
        } else {
            let unread = |source| Error::local("cannot read the blob", source);
            let body = growing.open_at(offset).map_err(unread)?;
            let mut body = Exactly { body, left, name: "the blob" };
            let size = Some(left);
            let part = Part { offset, size, is_placed: true, attempt, body: &mut body };
            self.send_part(&self.act("send a part of a blob"), &begun.location, part)?
        };
        let end = if grown.blob.is_some() { offset } else { grown.size };
        let session = Session { location, chunk_size: begun.chunk_size, resumed: true };
        Ok(Sent::Part(session, end))
    }
}

enum Sent {
    Part(Session, u64),
    All(Box<Descriptor>, Pushed),
}

/// A blob on its way, which is looked for in the registry as soon as its digest is known.
struct Stream<'s> {
    upload: &'s Upload<'s>,
    growing: &'s dyn GrowingBlob,
    body: Box<dyn Read + Send + 's>,
    sent: u64,
    look: Look,
}

enum Look {
    Due,
    Done,
    Found(Box<Descriptor>, Pushed),
}

impl Stream<'_> {
    /// Looks for the blob, once, if enough of it is left to be worth the question.
    fn look(&mut self) -> io::Result<()> {
        let Some(blob) = self.growing.grown_to(0)?.blob else { return Ok(()) };
        self.look = Look::Done;
        if blob.size.saturating_sub(self.sent) < CHUNK_SIZE as u64 {
            return Ok(());
        }
        let repository = self.upload.repository;
        // Who cannot be asked gets the bytes.
        let pushed = if repository.has_blob(&blob).unwrap_or(false) {
            Pushed::Existed
        } else if repository.mount_blob(&blob, None).unwrap_or(false) {
            Pushed::Mounted
        } else {
            return Ok(());
        };
        self.look = Look::Found(Box::new(blob), pushed);
        Err(Error::canceled().into())
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unread = |source| io::Error::from(Error::local("cannot read the blob", source));
        if matches!(self.look, Look::Due) {
            self.look().map_err(unread)?;
        }
        let count = self.body.read(buffer).map_err(unread)?;
        self.sent += count as u64;
        Ok(count)
    }
}
