//! The one pass over a layer: decompress, hash, list.
//!
//! One thread reads ahead and decompresses, the calling one lists the entries and digests their
//! contents; whichever has less to do computes the diff ID. Nothing but a few buffers and the
//! report itself is in memory, whatever the layer's size.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use conex_layer::{Decoder, Entry, EntryKind, Format, TarLimits, TarReader};
use conex_oci::{DiffId, Hasher};

use crate::builder::{Builder, ContentDigest};
use crate::error::{Error, Result};
use crate::layer::{Database, LayerReport, Release};
use crate::packages::{Distribution, Form, Gathered, Scratch};

/// Bytes handed from one thread to the other at once.
const CHUNK_SIZE: usize = 256 << 10;

/// Chunks on their way.
const CHUNKS_WAITING_MAX: usize = 4;

/// Bytes of files with holes that are read in full, for each layer: holes cost nothing to make.
const HOLES_SIZE_MAX: u64 = 4 << 30;

/// Largest file of accounts that is read: 16 MiB have 300,000 lines.
const ACCOUNTS_SIZE_MAX: u64 = 16 << 20;

/// A layer that was read.
#[derive(Debug)]
pub struct Scanned {
    /// What is in it.
    pub report: LayerReport,
    /// The digest of its tar.
    pub diff_id: DiffId,
}

/// Reads a layer, compressed or not, to its end, so that a reader that verifies a digest has seen
/// all of it. Large files that name packages go through a file of `scratch`.
///
/// # Errors
/// The layer is malformed or over a limit, or the input's.
pub fn scan_layer(input: &mut (dyn Read + Send), scratch: Scratch) -> Result<Scanned> {
    std::thread::scope(|scope| {
        let (full, chunks) = sync_channel::<Chunk>(CHUNKS_WAITING_MAX);
        let (used, empty) = sync_channel::<Vec<u8>>(CHUNKS_WAITING_MAX * 2);
        let reader = scope.spawn(move || read_ahead(input, &full, &empty));
        let mut chunks = Chunks { chunks, used, now: Vec::new(), at: 0, hasher: None, size: 0 };
        let mut tar = TarReader::new(&mut chunks, TarLimits::default());
        let listed = list(&mut tar, scratch).and_then(|builder| {
            tar.drain().map_err(Error::layer)?;
            Ok(builder)
        });
        let own = chunks.hasher.take();
        let size = chunks.size;
        // The reader ends when nobody takes its chunks any more.
        drop(chunks);
        let theirs = reader.join().unwrap_or_default();
        let report = listed?.finish(size);
        let hasher = own.or(theirs).unwrap_or_else(Hasher::sha256);
        Ok(Scanned { report, diff_id: DiffId(hasher.finish()) })
    })
}

fn list<R: Read>(tar: &mut TarReader<R>, scratch: Scratch) -> Result<Builder> {
    let mut builder = Builder::new();
    let mut reading = Reading::new(scratch);
    while let Some(entry) = tar.next_entry().map_err(Error::layer)? {
        reading.take(tar, &entry, &mut builder)?;
    }
    Ok(builder)
}

/// What is used again for each file.
pub(crate) struct Reading {
    buffer: Vec<u8>,
    gathered: Gathered,
    /// Bytes of files with holes that may still be read in full.
    holes_left: u64,
    scratch: Scratch,
}

impl Reading {
    pub(crate) fn new(scratch: Scratch) -> Self {
        let (buffer, gathered) = (vec![0; 64 << 10], Gathered::default());
        Self { buffer, gathered, holes_left: HOLES_SIZE_MAX, scratch }
    }

    /// Adds an entry, whose content is read.
    pub(crate) fn take<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &Entry,
        builder: &mut Builder,
    ) -> Result<()> {
        if entry.kind != EntryKind::File {
            return builder.add(entry, ContentDigest::default());
        }
        let mut wanted = Wanted::of(entry);
        let digest = self.file(tar, entry, &mut wanted)?;
        builder.add(entry, digest)?;
        wanted.take(builder, entry, &self.gathered)
    }

    /// Reads a file: its digest, and its bytes if they are wanted.
    fn file<R: Read>(
        &mut self,
        tar: &mut TarReader<R>,
        entry: &Entry,
        wanted: &mut Wanted,
    ) -> Result<ContentDigest> {
        self.gathered.clear();
        if !entry.has_holes() {
            return self.content(tar, entry.size, wanted);
        }
        if let Some(left) = self.holes_left.checked_sub(entry.size) {
            self.holes_left = left;
            return self.content(&mut entry.with_holes(tar), entry.size, wanted);
        }
        *wanted = Wanted::No;
        // Only what the tar has of it.
        let digest = self.content(tar, u64::MAX, wanted)?;
        Ok(ContentDigest { is_whole: false, ..digest })
    }

    fn content(
        &mut self,
        content: &mut dyn Read,
        size: u64,
        wanted: &mut Wanted,
    ) -> Result<ContentDigest> {
        let mut hasher = blake3::Hasher::new();
        let mut is_first = true;
        loop {
            let count = match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io("cannot read the layer", error)),
            };
            let bytes = self.buffer.get(..count).unwrap_or_default();
            hasher.update(bytes);
            if std::mem::take(&mut is_first) {
                wanted.look(bytes, size);
            }
            if wanted.is_gathered() {
                let act = "cannot keep a file of the layer to read it";
                self.gathered.push(bytes, self.scratch).map_err(|error| Error::io(act, error))?;
            }
        }
        let mut digest = ContentDigest { is_whole: true, ..ContentDigest::default() };
        digest.bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(digest)
    }
}

/// What a file is read for, beside its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    No,
    /// It has the numbers of accounts.
    Accounts,
    /// It names packages, as far as its path or its first bytes tell.
    Packages(Form),
    /// It would, if it were not so large.
    TooLarge(Form),
}

impl Wanted {
    pub(crate) fn of(entry: &Entry) -> Self {
        let path = crate::builder::trimmed(&entry.path);
        match Form::at(path) {
            Some(form) if entry.size <= form.size_max() => Self::Packages(form),
            Some(form) => Self::TooLarge(form),
            None if matches!(path, b"etc/passwd" | b"etc/group") => {
                if entry.size <= ACCOUNTS_SIZE_MAX { Self::Accounts } else { Self::No }
            }
            None => Self::No,
        }
    }

    /// Looks at the first bytes of a file.
    pub(crate) fn look(&mut self, head: &[u8], size: u64) {
        if *self == Self::No
            && let Some(form) = Form::of_head(head).filter(|form| size <= form.size_max())
        {
            *self = Self::Packages(form);
        }
    }

    fn is_gathered(self) -> bool {
        matches!(self, Self::Accounts | Self::Packages(_))
    }

    /// Adds what the file says that was just added.
    pub(crate) fn take(
        self,
        builder: &mut Builder,
        entry: &Entry,
        gathered: &Gathered,
    ) -> Result<()> {
        let path = crate::builder::trimmed(&entry.path);
        match self {
            Self::No => {}
            Self::Accounts => builder.add_accounts(path, ids_of(&gathered.bytes(u64::MAX)?)),
            Self::Packages(form) => take_packages(builder, path, form, gathered)?,
            Self::TooLarge(form) => {
                let problem = format!("it has more than {} MiB", form.size_max() >> 20);
                take_problem(builder, path, form, problem)?;
            }
        }
        Ok(())
    }
}

fn take_packages(
    builder: &mut Builder,
    path: &[u8],
    form: Form,
    gathered: &Gathered,
) -> Result<()> {
    let Some(content) = builder.content_of(path) else { return Ok(()) };
    if form == Form::Release {
        let bytes = gathered.bytes(form.size_max())?;
        let distribution = Distribution::parse(&String::from_utf8_lossy(&bytes));
        if let Some(distribution) = distribution {
            builder.add_release(Release { content, distribution });
        }
        return Ok(());
    }
    match form.read(path, gathered) {
        Ok(packages) if packages.is_empty() => Ok(()),
        Ok(packages) => {
            builder.add_database(Database { content, form, packages, problem: String::new() })
        }
        Err(error) => take_problem(builder, path, form, error.to_string()),
    }
}

/// Says that a file cannot be read that should name packages.
fn take_problem(builder: &mut Builder, path: &[u8], form: Form, problem: String) -> Result<()> {
    match builder.content_of(path).filter(|_| form.is_database()) {
        Some(content) => {
            builder.add_database(Database { content, form, packages: Vec::new(), problem })
        }
        None => Ok(()),
    }
}

/// The numbers in a file of accounts: the third field of each line.
fn ids_of(bytes: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(bytes);
    let mut ids: Vec<u32> =
        text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What comes from the thread that reads.
enum Chunk {
    Bytes(Vec<u8>),
    /// The chunks' consumer is to compute the diff ID.
    Hash,
    Failed(io::Error),
}

/// Reads and decompresses until the end, or until nobody listens. Gives the digest's state if it
/// was computed here.
fn read_ahead(
    input: &mut (dyn Read + Send),
    full: &SyncSender<Chunk>,
    empty: &Receiver<Vec<u8>>,
) -> Option<Hasher> {
    let mut decoder = match Decoder::new(input) {
        Ok(decoder) => decoder,
        Err(error) => {
            let _ = full.send(Chunk::Failed(io::Error::other(error)));
            return None;
        }
    };
    // Decompressing is work enough.
    let mut hasher = (decoder.format() == Format::Plain).then(Hasher::sha256);
    if hasher.is_none() && full.send(Chunk::Hash).is_err() {
        return None;
    }
    loop {
        let mut bytes = empty.try_recv().unwrap_or_default();
        bytes.resize(CHUNK_SIZE, 0);
        match fill(&mut decoder, &mut bytes) {
            Ok(0) => return hasher,
            Ok(count) => bytes.truncate(count),
            Err(error) => {
                // Whoever does not listen has an error of its own.
                let _ = full.send(Chunk::Failed(error));
                return None;
            }
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&bytes);
        }
        if full.send(Chunk::Bytes(bytes)).is_err() {
            return None;
        }
    }
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What the other thread read, as a reader.
struct Chunks {
    chunks: Receiver<Chunk>,
    used: SyncSender<Vec<u8>>,
    now: Vec<u8>,
    at: usize,
    hasher: Option<Hasher>,
    size: u64,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.now.len() {
            match self.chunks.recv() {
                Ok(Chunk::Hash) => self.hasher = Some(Hasher::sha256()),
                Ok(Chunk::Failed(error)) => return Err(error),
                Ok(Chunk::Bytes(bytes)) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&bytes);
                    }
                    self.size += bytes.len() as u64;
                    // Nobody waits for an empty buffer; without room it is simply dropped.
                    let _ = self.used.try_send(std::mem::replace(&mut self.now, bytes));
                    self.at = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let rest = self.now.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
