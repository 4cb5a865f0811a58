//! One large blob over several connections: pieces are fetched in parallel and handed out in
//! order.
//!
//! Invariant: never more pieces in memory than the window allows, and no thread outlives the
//! reader. When a piece cannot be had, the reader goes on over one connection, which knows how to
//! try again and where else to look.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use conex_oci::Descriptor;

use crate::error::{Error, Result};
use crate::http::headers::content_range;
use crate::http::url::Url;
use crate::limits::RANGE_PIECE_SIZE;

use super::Repository;
use super::fetch_blob::BlobBody;
use super::site::Target;

/// Attempts that a connection makes for a piece after the first, and the wait between them.
const QUICK_ATTEMPTS: u32 = 3;
const QUICK_WAIT: Duration = Duration::from_millis(250);

/// What the connections share.
struct Plan {
    repository: Repository,
    target: Target,
    blob: Descriptor,
    /// Where the pieces start; piece `n` begins at `start + n * RANGE_PIECE_SIZE`.
    start: u64,
    window: u64,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The next piece that nobody fetches yet.
    next: u64,
    /// The piece that the reader is at.
    wanted: u64,
    ready: BTreeMap<u64, Vec<u8>>,
    /// Memory of pieces that were read, for those to come: allocators keep large blocks that are
    /// freed by other threads than they were made by, and the peak would be twice what is used.
    spare: Vec<Vec<u8>>,
    failed: bool,
    stop: bool,
    /// Where the server redirects to: asking there at once saves a round trip for each piece.
    direct: Option<Url>,
}

impl Plan {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pieces(&self) -> u64 {
        self.blob.size.saturating_sub(self.start).div_ceil(RANGE_PIECE_SIZE)
    }

    /// Claims the next piece, waiting while the window is full.
    fn claim(&self) -> Option<u64> {
        let mut state = self.state();
        loop {
            if state.stop || state.failed || state.next >= self.pieces() {
                return None;
            }
            if state.next < state.wanted + self.window {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        while let Some(piece) = self.claim() {
            let fetched = self.fetch_soon(piece);
            let mut state = self.state();
            match fetched {
                Ok(bytes) => {
                    state.ready.insert(piece, bytes);
                }
                // Why it failed does not matter: the reader finds out for itself.
                Err(_) => state.failed = true,
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Fetches a piece, with a few quick attempts. Longer waits are the reader's own: it must be
    /// able to end these threads soon.
    fn fetch_soon(&self, piece: u64) -> Result<Vec<u8>> {
        let first = self.start + piece * RANGE_PIECE_SIZE;
        let size = self.blob.size.saturating_sub(first).min(RANGE_PIECE_SIZE);
        let mut bytes = self.state().spare.pop().unwrap_or_default();
        bytes.resize(usize::try_from(size).unwrap_or(0), 0);
        let mut filled = 0;
        let mut attempt = 0;
        loop {
            match self.fetch(first, &mut bytes, &mut filled) {
                Ok(()) => return Ok(bytes),
                Err(error) if error.is_transient() && attempt < QUICK_ATTEMPTS => {
                    attempt += 1;
                    let wait = error.retry_after().unwrap_or(QUICK_WAIT * attempt);
                    if wait > QUICK_WAIT * QUICK_ATTEMPTS || self.state().stop {
                        return Err(error);
                    }
                    self.repository.shared.options.clock.sleep(wait);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fills the rest of a piece that begins at `start`: what came before a break stays.
    fn fetch(&self, start: u64, bytes: &mut [u8], filled: &mut usize) -> Result<()> {
        let first = start + *filled as u64;
        let last = (start + bytes.len() as u64).saturating_sub(1);
        let direct = self.state().direct.clone();
        let answer = match direct {
            Some(url) => {
                let answer = self.repository.ask_direct(&self.target, &url, (first, Some(last)));
                match answer {
                    Ok(response) if response.status == 206 => response,
                    // The place may have been good for a while only.
                    _ => {
                        self.state().direct = None;
                        self.ask(first, last)?
                    }
                }
            }
            None => self.ask(first, last)?,
        };
        let range = answer.header("content-range").and_then(content_range);
        let sound = answer.status == 206
            && range.is_some_and(|(from, to, whole)| {
                from == first && to == last && whole.is_none_or(|whole| whole == self.blob.size)
            });
        if !sound {
            let message = format!("blob `{}` came with another range than asked", self.blob.digest);
            return Err(Error::protocol(message));
        }
        let mut body = answer.into_reader();
        while let Some(space) = bytes.get_mut(*filled..).filter(|space| !space.is_empty()) {
            if self.state().stop {
                return Err(Error::canceled());
            }
            match body.read(space)? {
                0 => {
                    let message = format!("blob `{}` broke off", self.blob.digest);
                    return Err(Error::network(message));
                }
                count => *filled += count,
            }
        }
        // Reading to the end lets the connection be used again.
        let _ = body.read(&mut [0]);
        Ok(())
    }

    fn ask(&self, first: u64, last: u64) -> Result<crate::http::Response> {
        let range = Some((first, Some(last)));
        let response = self.repository.ask_blob(&self.target, &self.blob, range)?;
        let base = self.repository.shared.base(&self.target.site)?;
        if !response.url.same_origin(&base) {
            self.state().direct = Some(response.url.clone());
        }
        Ok(response)
    }
}

/// Reads a blob from some offset over several connections.
pub(crate) struct RangedBody {
    plan: Arc<Plan>,
    workers: Vec<JoinHandle<()>>,
    current: Vec<u8>,
    position: usize,
    offset: u64,
    /// The way over one connection, once the parallel one failed.
    rest: Option<Box<BlobBody>>,
    targets: Vec<Target>,
}

impl RangedBody {
    /// Starts the connections. `direct` is where the first answer came from, if not from the
    /// server itself.
    pub(crate) fn start(
        repository: &Repository,
        targets: Vec<Target>,
        target: Target,
        blob: &Descriptor,
        start: u64,
        direct: Option<Url>,
    ) -> Self {
        let connections = repository.shared.options.transfers.ranges.max(1);
        let plan = Arc::new(Plan {
            repository: repository.clone(),
            target,
            blob: blob.clone(),
            start,
            window: connections as u64,
            state: Mutex::new(State {
                next: 0,
                wanted: 0,
                ready: BTreeMap::new(),
                spare: Vec::new(),
                failed: false,
                stop: false,
                direct,
            }),
            changed: Condvar::new(),
        });
        let worker = |_| {
            let plan = Arc::clone(&plan);
            // A thread that the system refuses is one connection less; with none at all the
            // reader falls back to its own.
            std::thread::Builder::new().name("fetch".into()).spawn(move || plan.work()).ok()
        };
        let workers: Vec<_> = (0..connections).filter_map(worker).collect();
        if workers.is_empty() {
            plan.state().failed = true;
        }
        let (current, position, offset) = (Vec::new(), 0, start);
        Self { plan, workers, current, position, offset, rest: None, targets }
    }

    /// Waits for the next piece; false when the parallel way has failed.
    fn next_piece(&mut self) -> bool {
        let piece = (self.offset - self.plan.start) / RANGE_PIECE_SIZE;
        let mut state = self.plan.state();
        state.wanted = piece;
        if self.current.capacity() > 0 {
            state.spare.push(std::mem::take(&mut self.current));
        }
        self.plan.changed.notify_all();
        loop {
            if let Some(bytes) = state.ready.remove(&piece) {
                drop(state);
                self.current = bytes;
                self.position = 0;
                return true;
            }
            if state.failed {
                return false;
            }
            state = self.plan.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn stop(&mut self) {
        {
            let mut state = self.plan.state();
            state.stop = true;
            state.ready.clear();
            state.spare.clear();
        }
        self.plan.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing to tell: its piece is missing, which is seen.
            let _ = worker.join();
        }
    }
}

impl Read for RangedBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(rest) = &mut self.rest {
            return rest.read(buffer);
        }
        if self.position >= self.current.len() {
            if self.offset >= self.plan.blob.size {
                return Ok(0);
            }
            if !self.next_piece() {
                self.stop();
                let (repository, blob) = (self.plan.repository.clone(), self.plan.blob.clone());
                let body = BlobBody::new(repository, self.targets.clone(), blob, self.offset);
                return self.rest.insert(Box::new(body)).read(buffer);
            }
        }
        let left = self.current.get(self.position..).unwrap_or_default();
        let count = left.len().min(buffer.len());
        let (Some(to), Some(from)) = (buffer.get_mut(..count), left.get(..count)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.position += count;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Drop for RangedBody {
    fn drop(&mut self) {
        self.stop();
    }
}
