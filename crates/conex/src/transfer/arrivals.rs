//! Layers on their way in: whoever unpacks reads a blob while it still arrives.
//!
//! The bytes go to the partial's file first and are read from there, which at that moment is
//! memory: however far one side is ahead of the other, nothing piles up, and what a killed process
//! had fetched is unpacked without being fetched again.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use conex_oci::{Descriptor, Digest};
use conex_remote::{Partial, PartialStore, Verdict};
use conex_store::{Durability, Lease, PartialBlob, PartialVerdict};

/// What of a transfer has arrived.
#[derive(Debug, Default)]
pub struct Arrivals {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    blobs: HashMap<Digest, Arrival>,
    /// Nothing more comes.
    is_over: bool,
    /// Nobody wants more.
    is_unwanted: bool,
}

#[derive(Debug)]
enum Arrival {
    /// So many bytes of it are in the file.
    Coming(Arc<File>, u64),
    /// It is a blob of the store.
    There,
}

/// Where a blob can be read.
#[derive(Debug)]
pub enum Found {
    /// In the store.
    InStore,
    /// In a file that still grows.
    Coming(Box<Follower>),
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, blob: &Digest, arrival: Arrival) {
        self.lock().blobs.insert(blob.clone(), arrival);
        self.changed.notify_all();
    }

    fn forget(&self, blob: &Digest) {
        self.lock().blobs.remove(blob);
        self.changed.notify_all();
    }

    /// A blob is in the store.
    pub fn there(&self, blob: &Digest) {
        self.set(blob, Arrival::There);
    }

    /// The transfer ended, well or not.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Nobody wants what still comes: the transfer ends soon.
    pub fn refuse(&self) {
        self.lock().is_unwanted = true;
    }

    /// Waits until a blob begins to come, or is there. `None` when it never will.
    pub fn wait(self: &Arc<Self>, blob: &Descriptor) -> Option<Found> {
        let mut state = self.lock();
        loop {
            match state.blobs.get(&blob.digest) {
                Some(Arrival::There) => return Some(Found::InStore),
                Some(Arrival::Coming(file, _)) => {
                    return Some(Found::Coming(Box::new(Follower {
                        arrivals: Arc::clone(self),
                        blob: blob.clone(),
                        file: Arc::clone(file),
                        offset: 0,
                    })));
                }
                None if state.is_over => return None,
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Reads a blob that still arrives, as far as it is and then as it comes. The bytes are not
/// verified: what is made of them must be.
#[derive(Debug)]
pub struct Follower {
    arrivals: Arc<Arrivals>,
    blob: Descriptor,
    file: Arc<File>,
    offset: u64,
}

/// One attempt to fetch a blob.
#[derive(Debug)]
pub struct Coming {
    arrivals: Arc<Arrivals>,
    blob: Digest,
    file: Arc<File>,
}

impl Coming {
    /// Waits until the attempt ends. Whether its bytes are those of the blob.
    pub fn is_right(&self) -> bool {
        let mut state = self.arrivals.lock();
        loop {
            match state.blobs.get(&self.blob) {
                Some(Arrival::There) => return true,
                Some(Arrival::Coming(file, _)) if Arc::ptr_eq(file, &self.file) => {}
                _ => return false,
            }
            if state.is_over {
                return false;
            }
            state = self.arrivals.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Follower {
    /// The attempt that it follows.
    pub fn coming(&self) -> Coming {
        Coming {
            arrivals: Arc::clone(&self.arrivals),
            blob: self.blob.digest.clone(),
            file: Arc::clone(&self.file),
        }
    }

    /// Waits until there are bytes behind the offset; gives how many.
    fn ready(&self) -> io::Result<u64> {
        let mut state = self.arrivals.lock();
        loop {
            let size = match state.blobs.get(&self.blob.digest) {
                Some(Arrival::There) => self.blob.size,
                Some(Arrival::Coming(file, size)) if Arc::ptr_eq(file, &self.file) => *size,
                // Thrown away, and perhaps begun anew.
                _ => return Err(broken_off(&self.blob.digest)),
            };
            if size > self.offset {
                return Ok(size - self.offset);
            }
            if state.is_over {
                return Err(broken_off(&self.blob.digest));
            }
            state = self.arrivals.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn broken_off(blob: &Digest) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the blob `{blob}` broke off"))
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.offset >= self.blob.size {
            return Ok(0);
        }
        let ready = usize::try_from(self.ready()?).unwrap_or(usize::MAX).min(buffer.len());
        let room = buffer.get_mut(..ready).unwrap_or_default();
        let count = self.file.read_at(room, self.offset)?;
        if count == 0 {
            return Err(broken_off(&self.blob.digest));
        }
        self.offset += count as u64;
        Ok(count)
    }
}

/// The partial blobs of the store, for a transfer.
#[derive(Debug)]
pub struct Partials {
    /// Holds what they become.
    pub lease: Lease,
    /// Is told what comes.
    pub arrivals: Arc<Arrivals>,
}

impl PartialStore for Partials {
    fn take(&self, blob: &Descriptor) -> io::Result<Option<Box<dyn Partial>>> {
        let Some(partial) = self.lease.take_partial(blob)? else { return Ok(None) };
        let file = Arc::new(partial.file()?);
        self.arrivals.set(&blob.digest, Arrival::Coming(Arc::clone(&file), partial.size()));
        Ok(Some(Box::new(Growing {
            blob: blob.digest.clone(),
            file,
            partial: Some(partial),
            arrivals: Arc::clone(&self.arrivals),
        })))
    }
}

struct Growing {
    blob: Digest,
    file: Arc<File>,
    /// There until it is committed or discarded.
    partial: Option<PartialBlob>,
    arrivals: Arc<Arrivals>,
}

impl Growing {
    fn take(&mut self) -> io::Result<PartialBlob> {
        self.partial.take().ok_or_else(|| io::Error::other("the partial blob is used up"))
    }
}

impl Partial for Growing {
    fn kept(&self) -> u64 {
        self.partial.as_ref().map_or(0, PartialBlob::size)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.arrivals.lock().is_unwanted {
            return Err(io::Error::other("the layers before it cannot be used"));
        }
        let Some(partial) = &mut self.partial else {
            return Err(io::Error::other("the partial blob is used up"));
        };
        partial.append(bytes)?;
        let size = partial.size();
        self.arrivals.set(&self.blob, Arrival::Coming(Arc::clone(&self.file), size));
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> io::Result<Verdict> {
        // The registry has it too: after a power cut it is verified, and fetched again if need be.
        match self.take()?.commit(Durability::Lazy)? {
            PartialVerdict::Right => {
                self.arrivals.there(&self.blob);
                Ok(Verdict::Right)
            }
            PartialVerdict::Wrong(got) => {
                self.arrivals.forget(&self.blob);
                Ok(Verdict::Wrong(got))
            }
        }
    }

    fn discard(mut self: Box<Self>) -> io::Result<()> {
        self.take()?.discard()?;
        self.arrivals.forget(&self.blob);
        Ok(())
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if self.partial.is_some() {
            self.arrivals.forget(&self.blob);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conex_oci::MediaType;

    fn file(bytes: &[u8]) -> Arc<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Arc::new(file)
    }

    #[test]
    fn a_follower_waits_for_bytes_and_ends_with_the_last() {
        let arrivals = Arc::new(Arrivals::default());
        let blob = Descriptor::of(MediaType::Empty, b"abcdef");
        let bytes = file(b"abcdef");
        arrivals.set(&blob.digest, Arrival::Coming(Arc::clone(&bytes), 2));
        let Some(Found::Coming(mut follower)) = arrivals.wait(&blob) else { panic!("not coming") };
        let mut first = [0; 8];
        assert_eq!(follower.read(&mut first).unwrap(), 2);
        std::thread::scope(|scope| {
            let rest = scope.spawn(move || {
                let mut rest = String::new();
                follower.read_to_string(&mut rest).map(|_| rest)
            });
            arrivals.set(&blob.digest, Arrival::Coming(Arc::clone(&bytes), 5));
            arrivals.there(&blob.digest);
            assert_eq!(rest.join().unwrap().unwrap(), "cdef");
        });
        assert!(matches!(arrivals.wait(&blob), Some(Found::InStore)));
    }

    #[test]
    fn what_is_thrown_away_or_never_comes_is_not_waited_for() {
        let arrivals = Arc::new(Arrivals::default());
        let blob = Descriptor::of(MediaType::Empty, b"abcdef");
        arrivals.set(&blob.digest, Arrival::Coming(file(b"abc"), 3));
        let Some(Found::Coming(mut follower)) = arrivals.wait(&blob) else { panic!("not coming") };
        // Begun anew: another file.
        arrivals.set(&blob.digest, Arrival::Coming(file(b"abc"), 3));
        let error = follower.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        arrivals.forget(&blob.digest);
        arrivals.end();
        assert!(arrivals.wait(&blob).is_none());
    }
}
