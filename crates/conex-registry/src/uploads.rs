//! Who writes to which upload: one request at a time.
//!
//! A request that comes while another one writes takes its place: the client lost that connection
//! and came again, long before this side notices that it is gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use conex_oci::{Algorithm, Digest};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::answer::{Code, Refusal};
use crate::blobs::{Blobs, Finished, Upload, UploadId};
use crate::error::{Error, Result};
use crate::name::Name;

/// Uploads whose file stays open between two requests. Others are opened again, which takes a
/// moment more; ten thousand half-finished ones must not hold ten thousand files.
const IDLE_COUNT_MAX: usize = 256;

/// How long a request waits for the one whose place it takes.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(15);

/// All uploads.
pub(crate) struct Uploads {
    blobs: Arc<dyn Blobs>,
    slots: Mutex<HashMap<Key, Slot>>,
}

type Key = (Name, UploadId);

enum Slot {
    Idle(Box<dyn Upload>),
    Busy(Arc<Turn>),
}

/// The turn of one request.
#[derive(Default)]
pub(crate) struct Turn {
    /// Another request wants the upload.
    pub(crate) wanted: Notify,
    ended: Notify,
    pub(crate) size: AtomicU64,
}

/// An upload in the hands of one request. Given back when dropped.
pub(crate) struct Lent {
    uploads: Arc<Uploads>,
    key: Key,
    pub(crate) turn: Arc<Turn>,
    upload: Option<Box<dyn Upload>>,
    writing: Option<Writing>,
}

/// A step that is being written on another thread.
type Writing = JoinHandle<(Box<dyn Upload>, Result<()>)>;

/// Runs work that waits for the disk where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::system("finish a piece of work", std::io::Error::other(error))),
    }
}

impl Uploads {
    pub(crate) fn new(blobs: Arc<dyn Blobs>) -> Arc<Self> {
        Arc::new(Self { blobs, slots: Mutex::default() })
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload.
    pub(crate) fn begin(&self, of: &Name, algorithm: Algorithm) -> Result<UploadId> {
        let id = UploadId::draw()?;
        self.blobs.begin(of, &id, algorithm)?;
        Ok(id)
    }

    /// How many bytes of an upload are there.
    pub(crate) fn size(&self, of: &Name, id: &UploadId) -> Result<Option<u64>> {
        match self.slots().get(&(of.clone(), id.clone())) {
            Some(Slot::Idle(upload)) => return Ok(Some(upload.size())),
            Some(Slot::Busy(turn)) => return Ok(Some(turn.size.load(Relaxed))),
            None => {}
        }
        self.blobs.uploaded(of, id)
    }

    /// Takes an upload to write to it; none if there is no such upload.
    pub(crate) async fn lend(
        self: &Arc<Self>,
        of: &Name,
        id: &UploadId,
    ) -> std::result::Result<Option<Lent>, Refusal> {
        let key = (of.clone(), id.clone());
        let turn = Arc::new(Turn::default());
        let deadline = tokio::time::Instant::now() + TAKE_OVER_WAIT;
        let upload = loop {
            let other = {
                let mut slots = self.slots();
                match slots.insert(key.clone(), Slot::Busy(turn.clone())) {
                    None => break None,
                    Some(Slot::Idle(upload)) => break Some(upload),
                    Some(Slot::Busy(other)) => {
                        slots.insert(key.clone(), Slot::Busy(other.clone()));
                        other
                    }
                }
            };
            other.wanted.notify_one();
            if tokio::time::timeout_at(deadline, other.ended.notified()).await.is_err() {
                let message = "another request writes to this upload";
                return Err(Refusal::new(
                    http::StatusCode::CONFLICT,
                    Code::BlobUploadInvalid,
                    message,
                ));
            }
        };
        let mut lent = Lent { uploads: self.clone(), key, turn, upload, writing: None };
        if lent.upload.is_none() {
            let (blobs, of, id) = (self.blobs.clone(), of.clone(), id.clone());
            lent.upload = blocking(move || blobs.resume(&of, &id)).await?;
        }
        Ok(lent.upload.is_some().then_some(lent))
    }

    /// Removes an upload. Gives whether it was there.
    pub(crate) async fn cancel(
        self: &Arc<Self>,
        of: &Name,
        id: &UploadId,
    ) -> std::result::Result<bool, Refusal> {
        let Some(mut lent) = self.lend(of, id).await? else { return Ok(false) };
        let Some(upload) = lent.upload.take() else { return Ok(false) };
        blocking(move || upload.discard()).await?;
        Ok(true)
    }

    /// Ends a turn.
    fn end(&self, key: Key, turn: &Turn, upload: Option<Box<dyn Upload>>) {
        let mut slots = self.slots();
        slots.remove(&key);
        if let Some(mut upload) = upload {
            upload.suspend();
            let idle = slots.values().filter(|slot| matches!(slot, Slot::Idle(_))).count();
            if idle < IDLE_COUNT_MAX {
                slots.insert(key, Slot::Idle(upload));
            }
        }
        drop(slots);
        turn.ended.notify_waiters();
        // One that asks between the look and the wait must find it too.
        turn.ended.notify_one();
    }

    /// Forgets what is idle, before old uploads are removed.
    pub(crate) fn close_idle(&self) {
        self.slots().retain(|_, slot| matches!(slot, Slot::Busy(_)));
    }
}

impl Lent {
    /// How many bytes are there.
    pub(crate) fn size(&self) -> u64 {
        self.upload.as_ref().map_or(0, |upload| upload.size())
    }

    /// Writes bytes, on this thread.
    pub(crate) fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        let Some(mut upload) = self.upload.take() else { return Ok(()) };
        // One that failed is read again by whoever goes on.
        upload.append(pieces)?;
        self.give_back(upload);
        Ok(())
    }

    /// Writes bytes on another thread; [`Lent::written`] waits for it.
    pub(crate) fn write_beside(&mut self, pieces: Vec<Bytes>) {
        let Some(mut upload) = self.upload.take() else { return };
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let result = upload.append(&pieces);
            (upload, result)
        }));
    }

    /// Waits until all is written.
    pub(crate) async fn written(&mut self) -> Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let done = writing.await;
        self.writing = None;
        let failed = |error| Error::system("write to an upload", std::io::Error::other(error));
        let (upload, result) = done.map_err(failed)?;
        result?;
        self.give_back(upload);
        Ok(())
    }

    fn give_back(&mut self, upload: Box<dyn Upload>) {
        self.turn.size.store(upload.size(), Relaxed);
        self.upload = Some(upload);
    }

    /// Makes it an object.
    pub(crate) async fn finish(mut self, digest: &Digest) -> Result<Option<Finished>> {
        let Some(upload) = self.upload.take() else { return Ok(None) };
        let digest = digest.clone();
        blocking(move || upload.finish(&digest)).await.map(Some)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (uploads, key, turn) = (self.uploads.clone(), self.key.clone(), self.turn.clone());
        match self.writing.take() {
            None => uploads.end(key, &turn, self.upload.take()),
            // The client went away while a step is written: nobody may go on before it is.
            Some(writing) => {
                tokio::spawn(async move {
                    let upload = match writing.await {
                        Ok((upload, Ok(()))) => Some(upload),
                        _ => None,
                    };
                    uploads.end(key, &turn, upload);
                });
            }
        }
    }
}
