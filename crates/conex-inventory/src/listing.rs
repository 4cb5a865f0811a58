//! The quick look at a layer that lies uncompressed in a file: its headers are read, and of the
//! contents only what is needed to know which are equal.
//!
//! Content whose size no other has equals no other. Of those that share a size a sample is held
//! against each other, and what has the same sample is digested, so the answer is exact, and an
//! image of a gigabyte is looked into by reading some megabytes. The price is that nothing is held
//! against the layer's own digest: the report is of what lies there, and must not be kept under a
//! digest that something else calls it by.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::sync::Arc;

use conex_layer::{EntryKind, TarLimits, TarReader};

use crate::builder::{Builder, ContentDigest};
use crate::codec::{DIGEST_LEN, Input, damaged, put};
use crate::error::{Error, Result};
use crate::layer::{LayerReport, UNKNOWN};
use crate::packages::{Gathered, Scratch, Source};
use crate::scan::{Reading, Wanted};

/// Content up to this is digested at once: it is read together with the header anyway.
const SMALL_SIZE_MAX: u64 = 2 << 10;

/// Bytes of a content that are held against others of its size.
const SAMPLE_SIZE: u64 = 1 << 10;

/// Bytes read where the last content was passed over: a header, and with luck the next.
const STEP_SIZE_MIN: usize = 4 << 10;

/// Bytes read at once where nothing is passed over.
const STEP_SIZE_MAX: usize = 256 << 10;

/// Bytes digested at once.
const CHUNK_SIZE: usize = 256 << 10;

/// Bytes that tell what a file is.
const HEAD_SIZE: usize = 64;

/// A layer whose headers were read.
#[derive(Debug, PartialEq, Eq)]
pub struct Listing {
    /// What is in it. Digests of contents may be missing until [`settle`] was here.
    pub report: LayerReport,
    /// The contents that were passed over, and where each lies.
    places: Vec<(u32, u64)>,
}

/// Stands before the places of a kept listing; its report has a mark of its own.
const MARK: &[u8] = b"conex listing 1\n";

impl Listing {
    /// Writes what was listed, to be read again as long as the source is the same.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MARK.to_vec();
        put(&mut out, self.places.len() as u64);
        for (content, place) in &self.places {
            put(&mut out, u64::from(*content));
            put(&mut out, *place);
        }
        let digest = blake3::hash(&out);
        out.extend_from_slice(&digest.as_bytes()[..DIGEST_LEN]);
        out.extend_from_slice(&self.report.encode());
        out
    }

    /// Reads a kept listing.
    ///
    /// # Errors
    /// The bytes are none, of another version, or damaged ([`Stale`](crate::ErrorKind::Stale)).
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(MARK).ok_or_else(damaged)?;
        let mut input = Input { rest };
        let count = input.count()?;
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push((input.index()?, input.number()?));
        }
        let used = bytes.len() - input.rest.len();
        let digest = blake3::hash(bytes.get(..used).unwrap_or_default());
        if input.take(DIGEST_LEN)? != &digest.as_bytes()[..DIGEST_LEN] {
            return Err(damaged());
        }
        Ok(Self { report: LayerReport::decode(input.rest)?, places })
    }
}

/// Lists an uncompressed layer of `size` bytes. Files with holes that name packages go through a
/// file of `scratch`.
///
/// # Errors
/// The layer is malformed or over a limit, or the source's.
pub fn list_layer(source: &Source, size: u64, scratch: Scratch) -> Result<Listing> {
    let window = Window { source, size, at: 0, bytes: Vec::new(), used: 0, step: STEP_SIZE_MAX };
    let mut tar = TarReader::new(window, TarLimits::default());
    let mut builder = Builder::new();
    let mut reading = Reading::new(scratch);
    let mut places = Vec::new();
    while let Some(entry) = tar.next_entry().map_err(Error::layer)? {
        let is_large = entry.kind == EntryKind::File && entry.size > SMALL_SIZE_MAX;
        if !is_large || entry.has_holes() {
            reading.take(&mut tar, &entry, &mut builder)?;
            continue;
        }
        let pass = |window: &mut Window, left: u64, padding: u64| {
            let (place, head) = (window.at, window.head()?);
            window.skip(left.saturating_add(padding))?;
            Ok((place, head))
        };
        let (place, head) =
            tar.skip_content(pass).map_err(|error| Error::io("cannot read the layer", error))?;
        let count = builder.content_count();
        builder.add(&entry, ContentDigest { bytes: UNKNOWN, is_whole: true })?;
        // What is called like a whiteout is none.
        if builder.content_count() > count {
            places.push((count as u32, place));
        }
        let mut wanted = Wanted::of(&entry);
        wanted.look(&head, entry.size);
        wanted.take(&mut builder, &entry, &Gathered::lying(source, place, entry.size))?;
    }
    places.shrink_to_fit();
    Ok(Listing { report: builder.finish(size), places })
}

/// The part of the source that was read.
struct Window<'s> {
    source: &'s Source,
    size: u64,
    /// Where the next byte is.
    at: u64,
    bytes: Vec<u8>,
    used: usize,
    /// Bytes to read next time.
    step: usize,
}

impl Window<'_> {
    /// The next bytes, which are still to be read.
    fn head(&mut self) -> io::Result<[u8; HEAD_SIZE]> {
        let mut head = [0; HEAD_SIZE];
        if self.bytes.len() - self.used < HEAD_SIZE {
            (self.used, self.step) = (0, STEP_SIZE_MIN);
            self.bytes.clear();
        }
        if self.used == self.bytes.len() {
            self.fill()?;
        }
        let ready = self.bytes.get(self.used..).unwrap_or_default();
        let count = ready.len().min(HEAD_SIZE);
        head[..count].copy_from_slice(&ready[..count]);
        Ok(head)
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
        self.bytes.resize(self.step.min(left), 0);
        self.used = 0;
        let count = self.source.read_at(&mut self.bytes, self.at)?;
        self.bytes.truncate(count);
        self.step = (self.step * 2).min(STEP_SIZE_MAX);
        Ok(())
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let at = self.at.checked_add(count).filter(|at| *at <= self.size);
        self.at = at.ok_or(io::ErrorKind::UnexpectedEof)?;
        let is_here = |count: &usize| *count <= self.bytes.len() - self.used;
        if let Some(count) = usize::try_from(count).ok().filter(is_here) {
            self.used += count;
        } else {
            (self.used, self.step) = (0, STEP_SIZE_MIN);
            self.bytes.clear();
        }
        Ok(())
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.bytes.len() {
            self.fill()?;
        }
        let ready = self.bytes.get(self.used..).unwrap_or_default();
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.used += count;
        self.at += count as u64;
        Ok(count)
    }
}

/// A layer among others whose equal contents are to be found.
pub struct Part {
    report: Arc<LayerReport>,
    places: Vec<(u32, u64)>,
    source: Option<Source>,
    /// Whether it stands several times in what it is a part of.
    is_repeated: bool,
}

impl Part {
    /// A layer that was listed from a source.
    pub fn listed(listing: Listing, source: Source, uses: usize) -> Self {
        let Listing { report, places } = listing;
        Self { report: Arc::new(report), places, source: Some(source), is_repeated: uses > 1 }
    }

    /// A layer of which everything is known.
    pub fn known(report: Arc<LayerReport>) -> Self {
        Self { report, places: Vec::new(), source: None, is_repeated: false }
    }

    /// The report.
    pub fn into_report(self) -> Arc<LayerReport> {
        self.report
    }
}

/// A content: its size, its part, its number there.
type Which = (u64, u32, u32);

/// Digests what has to be, so that among all these layers equal contents are known to be equal and
/// others to be different. Works on so many threads.
///
/// # Errors
/// The sources'.
pub fn settle(parts: &mut [Part], threads: usize) -> Result<()> {
    let mut all: Vec<Which> = Vec::new();
    let mut wanted: Vec<Which> = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        for (at, content) in part.report.contents.iter().enumerate() {
            let which = (content.size, number as u32, at as u32);
            if part.is_repeated && content.digest == UNKNOWN {
                wanted.push(which);
            } else if content.size > SMALL_SIZE_MAX {
                all.push(which);
            }
        }
    }
    let is_unknown =
        |which: &Which| parts[which.1 as usize].report.contents[which.2 as usize].digest == UNKNOWN;
    // What is repeated is digested, and so are those of its size.
    let sizes: std::collections::HashSet<u64> = wanted.iter().map(|which| which.0).collect();
    all.sort_unstable();
    let mut sampled: Vec<Which> = Vec::new();
    for group in all.chunk_by(|one, other| one.0 == other.0) {
        let is_known = group.iter().any(|which| !is_unknown(which));
        let size = group.first().map_or(0, |which| which.0);
        if is_known || sizes.contains(&size) {
            wanted.extend(group.iter().filter(|which| is_unknown(which)));
        } else if group.len() > 1 {
            sampled.extend(group);
        }
    }
    drop(all);
    let keys = RandomState::new();
    let mut samples = on_threads(&sampled, threads, |which, buffer| {
        let count = SAMPLE_SIZE.min(which.0);
        let from = (which.0 - count) / 2;
        let room = buffer.get_mut(..count as usize).unwrap_or_default();
        read_exact(parts, *which, from, room)?;
        Ok((which.0, keys.hash_one(&*room), *which))
    })?;
    samples.sort_unstable();
    for group in samples.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
        if group.len() > 1 {
            wanted.extend(group.iter().map(|sample| sample.2));
        }
    }
    drop(samples);
    let digests =
        on_threads(&wanted, threads, |which, buffer| Ok((*which, digest(parts, *which, buffer)?)))?;
    for ((_, part, at), digest) in digests {
        // Nobody else has what was just listed.
        if let Some(report) = Arc::get_mut(&mut parts[part as usize].report) {
            report.contents[at as usize].digest = digest;
        }
    }
    Ok(())
}

fn digest(parts: &[Part], which: Which, buffer: &mut [u8]) -> Result<[u8; 16]> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < which.0 {
        let count = (which.0 - at).min(buffer.len() as u64);
        let room = buffer.get_mut(..count as usize).unwrap_or_default();
        read_exact(parts, which, at, room)?;
        hasher.update(room);
        at += count;
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Ok(digest)
}

/// Reads a piece of a content that was passed over.
fn read_exact(parts: &[Part], which: Which, from: u64, room: &mut [u8]) -> Result<()> {
    let part = &parts[which.1 as usize];
    let fail = |error| Error::io("cannot read the layer", error);
    let found = part.places.binary_search_by_key(&which.2, |place| place.0);
    let place = found.ok().and_then(|at| part.places.get(at)).zip(part.source.as_ref());
    let Some(((_, place), source)) = place else {
        return Err(fail(io::ErrorKind::NotFound.into()));
    };
    match source.read_at(room, place + from) {
        Ok(count) if count < room.len() => Err(fail(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(fail(error)),
    }
}

/// Does the same with each item, in as many threads, each with a buffer of its own.
fn on_threads<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T, &mut [u8]) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let share = |items: &[T]| -> Result<Vec<R>> {
        let mut buffer = vec![0; CHUNK_SIZE];
        items.iter().map(|item| work(item, &mut buffer)).collect()
    };
    let size = items.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let share = &share;
        let running: Vec<_> =
            items.chunks(size).map(|items| scope.spawn(move || share(items))).collect();
        let mut all = Vec::with_capacity(items.len());
        for thread in running {
            match thread.join() {
                Ok(some) => all.extend(some?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}
