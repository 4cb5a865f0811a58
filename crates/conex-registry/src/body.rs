//! Bodies of answers: nothing, bytes at hand, or a part of a file.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::io::ReadWriteFlags;
use tokio::task::JoinHandle;

use crate::log::Record;

/// How much of a file is read at a time.
const READ_BYTES: usize = 256 << 10;

/// How many buffers are kept for the next file.
const POOL_COUNT_MAX: usize = 32;

/// The body of an answer.
pub(crate) enum Body {
    Empty,
    Bytes(Option<Bytes>),
    File(FilePart),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Bytes(Some(bytes)) }
    }
}

/// A part of a file that is being sent.
pub(crate) struct FilePart {
    file: Arc<File>,
    at: u64,
    end: u64,
    pool: Pool,
    pending: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FilePart {
    pub(crate) fn new(file: File, at: u64, end: u64, pool: &Pool) -> Self {
        Self { file: Arc::new(file), at, end, pool: pool.clone(), pending: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        if self.pending.is_none() {
            let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(READ_BYTES);
            let mut buffer = self.pool.take();
            // What is in memory is read at once; what is not must not make others wait.
            let read = rustix::io::preadv2(
                &*self.file,
                &mut [IoSliceMut::new(&mut buffer.bytes[..wanted])],
                self.at,
                ReadWriteFlags::NOWAIT,
            );
            if let Ok(count @ 1..) = read {
                self.at += count as u64;
                return Poll::Ready(Some(Ok(buffer.freeze(count))));
            }
            let (file, at) = (self.file.clone(), self.at);
            self.pending = Some(tokio::task::spawn_blocking(move || {
                let count =
                    std::os::unix::fs::FileExt::read_at(&*file, &mut buffer.bytes[..wanted], at)?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(buffer.freeze(count))
            }));
        }
        let Some(pending) = &mut self.pending else { return Poll::Ready(None) };
        let result = ready!(Pin::new(pending).poll(context));
        self.pending = None;
        let bytes = match result {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        self.at += bytes.len() as u64;
        Poll::Ready(Some(Ok(bytes)))
    }
}

/// Buffers that are used again: files are sent without asking for memory.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self) -> Buffer {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { bytes: kept.unwrap_or_else(|| vec![0; READ_BYTES]), used: 0, pool: self.clone() }
    }
}

struct Buffer {
    bytes: Vec<u8>,
    used: usize,
    pool: Pool,
}

impl Buffer {
    fn freeze(mut self, used: usize) -> Bytes {
        self.used = used;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < POOL_COUNT_MAX {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A body that is counted, and whose request is written to the log when it ends.
pub(crate) struct Sent {
    body: Body,
    record: Record,
}

impl Sent {
    pub(crate) fn new(body: Body, record: Record) -> Self {
        Self { body, record }
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let bytes = match &mut this.body {
            Body::Empty => None,
            Body::Bytes(bytes) => bytes.take().map(Ok),
            Body::File(part) => ready!(part.poll(context)),
        };
        if let Some(Ok(bytes)) = &bytes {
            this.record.add_sent(bytes.len() as u64);
        }
        Poll::Ready(bytes.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Body::Empty => true,
            Body::Bytes(bytes) => bytes.is_none(),
            Body::File(part) => part.at >= part.end,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.body {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Body::File(part) => part.end.saturating_sub(part.at),
        })
    }
}
