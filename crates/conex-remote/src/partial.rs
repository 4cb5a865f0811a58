//! Downloads that outlive the process: what has arrived is kept, and the next attempt asks for the
//! rest.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use conex_oci::{Descriptor, Digest, Hasher};

use crate::client::upload::OpenAt;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::BUFFER_SIZE;

/// Keeps partial blobs. A store implements it so that an interrupted pull goes on where it was.
pub trait PartialStore: Send + Sync {
    /// Takes the partial of a blob, an empty one if there was none, for this caller alone. None
    /// when somebody else has it.
    ///
    /// # Errors
    /// It cannot be opened.
    fn take(&self, blob: &Descriptor) -> io::Result<Option<Box<dyn Partial>>>;
}

/// The first bytes of a blob.
///
/// The receiver appends the bytes that follow those kept from before, in order, then commits.
/// Dropped without a commit, the bytes stay for the next attempt.
pub trait Partial: Send {
    /// How many bytes are kept from before. The partial has read them: they count for its digest.
    fn kept(&self) -> u64;

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// They cannot be kept.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Checks the digest of all bytes, whose number is right. If it is that of the blob, they
    /// become a blob of the store; if not, they are forgotten.
    ///
    /// # Errors
    /// The store cannot take them.
    fn commit(self: Box<Self>) -> io::Result<Verdict>;

    /// Forgets the bytes, which are wrong.
    ///
    /// # Errors
    /// They cannot be removed.
    fn discard(self: Box<Self>) -> io::Result<()>;
}

/// What the bytes of a partial turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Those of the blob, which is now there.
    Right,
    /// Others, with this digest; they are gone.
    Wrong(Digest),
}

/// Completes a partial blob from `open`, which gives the bytes from an offset on, and commits it.
/// Returns how many bytes came through `open`; none when somebody else is at the same blob. False
/// bytes are thrown away; where some were kept from before, the whole blob is fetched once more.
pub(crate) fn complete(
    blob: &Descriptor,
    store: &dyn PartialStore,
    open: &OpenAt<'_>,
) -> Result<Option<u64>> {
    let failed = |source| Error::local(format!("cannot keep blob `{}`", blob.digest), source);
    let what = format!("blob `{}`", blob.digest);
    let mut moved = 0;
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        let Some(mut partial) = store.take(blob).map_err(failed)? else { return Ok(None) };
        let kept = partial.kept();
        if kept > blob.size {
            partial.discard().map_err(failed)?;
            continue;
        }
        let mut size = kept;
        let mut body = open(kept).map_err(Error::from)?;
        loop {
            let count = match body.read(&mut buffer).map_err(Error::from) {
                Ok(count) => count,
                Err(error) => {
                    // What is known to be false is no beginning of anything.
                    if error.kind() == ErrorKind::Mismatch {
                        partial.discard().map_err(failed)?;
                    }
                    return Err(error);
                }
            };
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            size += count as u64;
            if size > blob.size {
                break;
            }
            partial.append(bytes).map_err(failed)?;
            moved += count as u64;
        }
        let error = if size == blob.size {
            match partial.commit().map_err(failed)? {
                Verdict::Right => return Ok(Some(moved)),
                Verdict::Wrong(got) => Error::digest_mismatch(&what, &blob.digest, got.as_str()),
            }
        } else {
            partial.discard().map_err(failed)?;
            Error::size_mismatch(&what, blob.size, size)
        };
        if kept == 0 {
            return Err(error);
        }
    }
}

/// Partials in memory: for tests, and for callers without a store.
#[derive(Clone, Default)]
pub struct MemoryPartials(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    partial: HashMap<Digest, Vec<u8>>,
    taken: std::collections::HashSet<Digest>,
    whole: HashMap<Digest, Vec<u8>>,
}

struct MemoryPartial {
    store: MemoryPartials,
    digest: Digest,
    bytes: Vec<u8>,
}

impl MemoryPartials {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a blob that is whole.
    pub fn whole(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.lock().whole.get(digest).cloned()
    }

    /// The bytes kept of a blob that is not whole.
    pub fn kept(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.lock().partial.get(digest).cloned()
    }

    /// Keeps some first bytes of a blob.
    pub fn keep(&self, digest: &Digest, bytes: &[u8]) {
        self.lock().partial.insert(digest.clone(), bytes.to_vec());
    }
}

impl PartialStore for MemoryPartials {
    fn take(&self, blob: &Descriptor) -> io::Result<Option<Box<dyn Partial>>> {
        let mut memory = self.lock();
        if !memory.taken.insert(blob.digest.clone()) {
            return Ok(None);
        }
        let bytes = memory.partial.get(&blob.digest).cloned().unwrap_or_default();
        let store = self.clone();
        Ok(Some(Box::new(MemoryPartial { store, digest: blob.digest.clone(), bytes })))
    }
}

impl Partial for MemoryPartial {
    fn kept(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> io::Result<Verdict> {
        let bytes = std::mem::take(&mut self.bytes);
        let mut hasher = Hasher::new(self.digest.algorithm());
        hasher.update(&bytes);
        let got = hasher.finish();
        if got != self.digest {
            return Ok(Verdict::Wrong(got));
        }
        self.store.lock().whole.insert(self.digest.clone(), bytes);
        Ok(Verdict::Right)
    }

    fn discard(mut self: Box<Self>) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }
}

impl Drop for MemoryPartial {
    fn drop(&mut self) {
        let mut memory = self.store.lock();
        memory.taken.remove(&self.digest);
        if self.bytes.is_empty() {
            memory.partial.remove(&self.digest);
        } else {
            memory.partial.insert(self.digest.clone(), std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conex_oci::MediaType;

    fn completed(kept: &[u8], sent: &'static [u8], wanted: &[u8]) -> (String, Vec<u64>) {
        let blob = Descriptor::of(MediaType::Empty, wanted);
        let store = MemoryPartials::default();
        if !kept.is_empty() {
            store.keep(&blob.digest, kept);
        }
        let asked = Mutex::new(Vec::new());
        let open = |offset: u64| -> io::Result<Box<dyn Read + Send>> {
            asked.lock().unwrap().push(offset);
            Ok(Box::new(&sent[usize::try_from(offset).unwrap()..]))
        };
        let result = match complete(&blob, &store, &open) {
            Ok(moved) => format!("moved {}", moved.unwrap()),
            Err(error) => format!("{:?}", error.kind()),
        };
        assert_eq!(store.whole(&blob.digest).is_some(), result.starts_with("moved"));
        (result, asked.into_inner().unwrap())
    }

    #[test]
    fn kept_bytes_are_not_fetched_again() {
        assert_eq!(completed(b"", b"abcdef", b"abcdef"), ("moved 6".into(), vec![0]));
        assert_eq!(completed(b"abc", b"abcdef", b"abcdef"), ("moved 3".into(), vec![3]));
        assert_eq!(completed(b"abcdef", b"abcdef", b"abcdef"), ("moved 0".into(), vec![6]));
    }

    #[test]
    fn false_kept_bytes_are_fetched_again_and_false_new_ones_are_an_error() {
        assert_eq!(completed(b"xyz", b"abcdef", b"abcdef"), ("moved 9".into(), vec![3, 0]));
        assert_eq!(completed(b"abcdefgh", b"abcdef", b"abcdef"), ("moved 6".into(), vec![0]));
        assert_eq!(completed(b"", b"abcdeX", b"abcdef"), ("Mismatch".into(), vec![0]));
        assert_eq!(completed(b"", b"abcdefg", b"abcdef"), ("Mismatch".into(), vec![0]));
        assert_eq!(completed(b"", b"abc", b"abcdef"), ("Mismatch".into(), vec![0]));
    }
}
