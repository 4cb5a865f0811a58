//! Unpacks layers and archives into a snapshot.
//!
//! A layer's whiteouts become overlayfs's marks, its files go where the image's symbolic links
//! lead, never outside ([`Target`]). One thread reads and decompresses ahead, the calling one
//! parses and makes directories, links and large files, others make small files.
//!
//! The last entry of a path wins. Directories get their times when all is unpacked; one that no
//! entry names keeps the time that it has in the snapshots below.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use conex_sys::dir::Node;
use conex_sys::stat::{FileKind, Time};
use conex_sys::walk::Descent;

use crate::Decoder;
use crate::attributes::{Attributes, Maker};
use crate::diff::{OPAQUE_MARK, WHITEOUT_PREFIX};
use crate::error::{Error, Result};
use crate::pipe::ReadAhead;
use crate::stack::LastLink;
use crate::tar::{BLOCK_SIZE, Entry, EntryKind, TarLimits, TarReader, looks_like_tar};
use crate::target::{Replace, Target, TargetDir, upper_of};

/// Files up to this size are handed to another thread whole.
const SMALL_SIZE_MAX: u64 = 256 << 10;

/// Small files handed over at once, by number and by bytes: handing over costs two thread switches.
const BATCH_LEN: usize = 64;

/// See [`BATCH_LEN`].
const BATCH_SIZE: usize = 1 << 20;

/// Batches on their way to a thread.
const BATCHES_WAITING_MAX: usize = 8;

/// Buffer for files that are not small.
const BUFFER_SIZE: usize = 256 << 10;

/// How to unpack.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions<'o> {
    /// What is too much.
    pub limits: ApplyLimits,
    /// How many threads make small files.
    pub thread_count: usize,
    /// Checked now and then; true stops the work with an error.
    pub cancelled: Option<&'o AtomicBool>,
}

/// What is too much for one layer or archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyLimits {
    /// Limits of the tar itself.
    pub tar: TarLimits,
    /// Most bytes of file content, holes not counted.
    pub unpacked_size_max: u64,
}

impl Default for ApplyLimits {
    /// One tebibyte of content: more than any image, less than what fills a disk array by mistake.
    fn default() -> Self {
        Self { tar: TarLimits::default(), unpacked_size_max: 1 << 40 }
    }
}

impl ApplyOptions<'_> {
    /// The usual limits.
    pub fn new(thread_count: usize) -> Self {
        Self { limits: ApplyLimits::default(), thread_count, cancelled: None }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplySummary {
    /// Entries of the tar.
    pub entry_count: u64,
    /// Bytes of file content.
    pub unpacked_size: u64,
}

/// Unpacks a layer's tar (not compressed; see [`Decoder`]) into a snapshot. The input is read to
/// its end, so that a reader that verifies a digest has seen all of it.
///
/// # Errors
/// The tar is malformed or over a limit, or the kernel's. What was unpacked until then is there.
pub fn apply_layer(
    input: &mut (dyn Read + Send),
    target: &mut Target,
    options: &ApplyOptions<'_>,
) -> Result<ApplySummary> {
    let rules = Rules { marks: Marks::Layer, below: PathBuf::new(), owner: None };
    unpack(input, target, options, rules)
}

/// Unpacks an archive, compressed or not, into the directory `to`, which is made if it is not
/// there: what `ADD` does. Names that would mean something in a layer are names here. All members
/// get the owner if one is given. Hard links mean members of the archive.
///
/// # Errors
/// As [`apply_layer`]; also where `to` is no directory.
pub fn unpack_archive(
    input: &mut (dyn Read + Send),
    target: &mut Target,
    to: &Path,
    owner: Option<(u32, u32)>,
    options: &ApplyOptions<'_>,
) -> Result<ApplySummary> {
    let (uid, gid) = owner.unwrap_or((0, 0));
    let attributes = Attributes::with_mode(0o755).owned_by(uid, gid);
    let (dir, _) = target.make_dirs_open(to, &attributes)?;
    let rules = Rules { marks: Marks::Literal, below: dir.path.clone(), owner };
    let mut decoder = Decoder::new(input)?;
    unpack(&mut decoder, target, options, rules)
}

/// Whether the content is an archive that [`unpack_archive`] unpacks: after decompression, if it
/// is compressed, it begins with a tar header. Reads only the beginning.
pub fn is_archive(input: &mut (dyn Read + Send)) -> bool {
    let Ok(mut decoder) = Decoder::new(input) else { return false };
    let mut block = [0; BLOCK_SIZE];
    decoder.read_exact(&mut block).is_ok() && looks_like_tar(&block)
}

/// What differs between a layer and an archive.
struct Rules {
    marks: Marks,
    /// Where it is unpacked, without links.
    below: PathBuf,
    owner: Option<(u32, u32)>,
}

#[derive(PartialEq, Eq)]
enum Marks {
    /// Names that begin with `.wh.` say what is deleted.
    Layer,
    /// They are names.
    Literal,
}

fn unpack(
    input: &mut (dyn Read + Send),
    target: &mut Target,
    options: &ApplyOptions<'_>,
    rules: Rules,
) -> Result<ApplySummary> {
    let files = Files { maker: target.maker, state: Mutex::default(), idle: Condvar::new() };
    let (sender, receiver) = sync_channel(BATCHES_WAITING_MAX);
    let receiver = Mutex::new(receiver);
    let summary = std::thread::scope(|scope| {
        let ahead = ReadAhead::new(scope, input);
        for _ in 0..options.thread_count.max(1) {
            scope.spawn(|| files.run(&receiver));
        }
        let mut unpacker = Unpacker {
            tar: TarReader::new(ahead, options.limits.tar),
            target,
            options,
            rules,
            files: &files,
            sender,
            batch: Vec::new(),
            batch_size: 0,
            hasher: RandomState::new(),
            seen: HashSet::new(),
            last_dir: None,
            times: BTreeMap::new(),
            summary: ApplySummary::default(),
        };
        unpacker.run()
        // The sender and the reader end here, and with them the threads.
    });
    // A thread's error came first and made the others.
    match files.lock().failed.take() {
        Some(error) => Err(error),
        None => summary,
    }
}

struct Unpacker<'u, 'o> {
    tar: TarReader<ReadAhead>,
    target: &'u mut Target,
    options: &'u ApplyOptions<'o>,
    rules: Rules,
    files: &'u Files,
    sender: SyncSender<Vec<SmallFile>>,
    batch: Vec<SmallFile>,
    batch_size: usize,
    hasher: RandomState,
    /// Hashes of the paths put so far. Two paths with one hash cost a needless look, no more.
    seen: HashSet<u64>,
    /// The directory of the last entry: most entries are in the same as the one before.
    last_dir: Option<(Vec<u8>, Arc<TargetDir>)>,
    /// Times of directories, set at the end: by the bytes of the path with a slash behind.
    times: BTreeMap<Vec<u8>, Time>,
    summary: ApplySummary,
}

impl Unpacker<'_, '_> {
    fn run(&mut self) -> Result<ApplySummary> {
        self.target.begin_copy_up_record();
        while let Some(entry) = self.tar.next_entry()? {
            let cancelled = self.options.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed));
            if cancelled || self.files.lock().failed.is_some() {
                return Err(Error::io("the work was stopped", io::ErrorKind::Interrupted.into()));
            }
            self.summary.entry_count += 1;
            self.entry(entry)?;
        }
        self.tar.drain()?;
        self.wait();
        self.set_dir_times()?;
        Ok(self.summary)
    }

    fn entry(&mut self, mut entry: Entry) -> Result<()> {
        if let Some((uid, gid)) = self.rules.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        let (parent, name) = split(&entry.path);
        let Some(name) = name else { return self.root(&entry) };
        let (parent, name) = (parent.to_vec(), OsStr::from_bytes(name).to_owned());
        if self.rules.marks == Marks::Layer && name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            return self.mark(&parent, &name);
        }
        let dir = self.dir(&parent, &entry)?;
        if name.as_bytes() == b".." {
            // Confined, but what it names is not in `dir`; nothing that means well has it.
            let path = crate::error::shortened(OsStr::from_bytes(&entry.path));
            return Err(Error::malformed(format!("the path `{path}` in the tar ends with `..`")));
        }
        let path = dir.path.join(&name);
        if self.target.has_linked_up() {
            self.target.keep_linked_up(&path);
        }
        let is_new = self.seen.insert(self.hasher.hash_one(path.as_os_str())) && dir.is_new;
        if !is_new {
            self.wait();
        }
        match entry.kind {
            EntryKind::Dir => self.make_dir(&dir, &name, &entry),
            EntryKind::File => {
                self.clear(&dir, &name, is_new)?;
                self.file(&dir, name, entry)
            }
            EntryKind::HardLink => self.hard_link(&path, &entry),
            EntryKind::Symlink => {
                self.clear(&dir, &name, is_new)?;
                let attributes = attributes(&mut entry);
                let link = OsString::from_vec(entry.link);
                let upper = upper_of(&dir)?;
                let maker = self.target.maker.in_dir(upper);
                maker
                    .and_then(|maker| maker.make_symlink(upper, &name, &link, &attributes))
                    .map_err(|error| Error::at("cannot make the link", &path, error))
            }
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.clear(&dir, &name, is_new)?;
                self.node(&dir, &name, &mut entry)
            }
        }
    }

    /// The entry for the root of the archive: its attributes, nothing else.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Dir {
            return Err(Error::malformed("the tar has an entry without a name"));
        }
        let mut entry = entry.clone();
        let attributes = attributes(&mut entry);
        let path = self.rules.below.clone();
        self.wait();
        self.target.put_dir(&path, &attributes, Replace::SameKind)?;
        self.note_time(&path, entry.mtime);
        Ok(())
    }

    /// Opens the directory at a path of the archive in the snapshot, making what is missing.
    fn dir(&mut self, path: &[u8], entry: &Entry) -> Result<Arc<TargetDir>> {
        if let Some((known, dir)) = &self.last_dir
            && known == path
        {
            return Ok(dir.clone());
        }
        let full = self.rules.below.join(OsStr::from_bytes(strip_slashes(path)));
        let (uid, gid) = self.rules.owner.unwrap_or((0, 0));
        let implied = Attributes {
            mtime: Some(entry.mtime),
            ..Attributes::with_mode(0o755).owned_by(uid, gid)
        };
        // What is under way may be what the path leads through.
        let walked = self.target.walk(&full, LastLink::Follow)?;
        if !walked.rest.is_empty() {
            self.wait();
        }
        let (dir, made) = self.target.make_dirs_open(&full, &implied)?;
        for path in made {
            self.note_time_if_new(&path, entry.mtime);
        }
        self.last_dir = Some((path.to_vec(), dir.clone()));
        Ok(dir)
    }

    /// Makes room for something that is not a directory.
    fn clear(&mut self, dir: &Arc<TargetDir>, name: &OsStr, is_new: bool) -> Result<()> {
        if is_new {
            return Ok(());
        }
        self.last_dir = None;
        self.target.clear(dir, name, Replace::Anything)
    }

    fn make_dir(&mut self, dir: &Arc<TargetDir>, name: &OsStr, entry: &Entry) -> Result<()> {
        let mut entry = entry.clone();
        let attributes = attributes(&mut entry);
        let made = self.target.put_dir_in(dir, name, &attributes, Replace::Anything)?;
        self.note_time(&made.path, entry.mtime);
        // The next entries are most likely in it; a handle of what was replaced must not stay.
        self.last_dir = None;
        Ok(())
    }

    fn file(&mut self, dir: &Arc<TargetDir>, name: OsString, mut entry: Entry) -> Result<()> {
        let pieces = entry.pieces();
        let stored: u64 = pieces.iter().map(|(_, len)| len).sum();
        self.summary.unpacked_size = self.summary.unpacked_size.saturating_add(stored);
        if self.summary.unpacked_size > self.options.limits.unpacked_size_max {
            let max = self.options.limits.unpacked_size_max;
            return Err(Error::limit(format!("the archive unpacks to more than {max} bytes")));
        }
        let attributes = attributes(&mut entry);
        let fail = |error| Error::at("cannot unpack", &dir.path.join(&name), error);
        if entry.sparse.is_none() && entry.size <= SMALL_SIZE_MAX {
            let mut content = self.files.buffer();
            content.resize(usize::try_from(entry.size).unwrap_or(0), 0);
            self.tar
                .read_exact(&mut content)
                .map_err(|error| Error::io("cannot read the tar", error))?;
            self.batch_size += content.len();
            self.batch.push(SmallFile { dir: dir.clone(), name, attributes, content });
            if self.batch.len() == BATCH_LEN || self.batch_size >= BATCH_SIZE {
                self.hand_over();
            }
            return Ok(());
        }
        let upper = upper_of(dir)?;
        let file = upper.create_file(&name, 0o600).map_err(fail)?;
        self.large_content(&file, &pieces, entry.size).map_err(fail)?;
        let maker = self.target.maker.in_dir(upper).map_err(fail)?;
        maker.settle(&file, FileKind::File, &attributes).map_err(fail)
    }

    fn hand_over(&mut self) {
        self.batch_size = 0;
        let batch = std::mem::take(&mut self.batch);
        self.files.begin(batch.len());
        // The threads live as long as the sender.
        let _ = self.sender.send(batch);
    }

    /// Waits until all files so far are made.
    fn wait(&mut self) {
        if !self.batch.is_empty() {
            self.hand_over();
        }
        self.files.wait();
    }

    fn large_content(&mut self, file: &File, pieces: &[(u64, u64)], size: u64) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_SIZE];
        let mut end = 0;
        for (offset, len) in pieces {
            let mut done = 0;
            while done < *len {
                let want = usize::try_from(len - done).unwrap_or(usize::MAX).min(buffer.len());
                let room = buffer.get_mut(..want).unwrap_or_default();
                self.tar.read_exact(room)?;
                file.write_all_at(room, offset + done)?;
                done += want as u64;
            }
            end = offset + len;
        }
        if end < size { file.set_len(size) } else { Ok(()) }
    }

    fn hard_link(&mut self, path: &Path, entry: &Entry) -> Result<()> {
        self.wait();
        self.last_dir = None;
        let existing = self.rules.below.join(OsStr::from_bytes(strip_slashes(&entry.link)));
        self.target.put_hard_link(path, &existing, Replace::Anything)
    }

    fn node(&mut self, dir: &Arc<TargetDir>, name: &OsStr, entry: &mut Entry) -> Result<()> {
        let (major, minor) = entry.device;
        let node = match entry.kind {
            EntryKind::CharDevice => Node::CharDevice(major, minor),
            EntryKind::BlockDevice => Node::BlockDevice(major, minor),
            _ => Node::Fifo,
        };
        let path = dir.path.join(name);
        if node == Node::CharDevice(0, 0) {
            // Some tools write overlayfs's own whiteout into a layer: it means the same there.
            if self.rules.marks == Marks::Layer {
                return self.target.remove_in(dir, name);
            }
            let path = path.display();
            return Err(Error::unsupported(format!("`{path}` is the character device 0/0")));
        }
        let attributes = attributes(entry);
        let upper = upper_of(dir)?;
        let maker = self.target.maker.in_dir(upper);
        maker
            .and_then(|maker| maker.make_node(upper, name, node, &attributes))
            .map_err(|error| Error::at("cannot make the device", &path, error))
    }

    /// A name that says what is deleted (image spec, layer.md, "Whiteouts").
    fn mark(&mut self, parent: &[u8], name: &OsStr) -> Result<()> {
        let bytes = name.as_bytes();
        if bytes != OPAQUE_MARK && bytes.starts_with(b".wh..wh.") {
            // What aufs kept for itself.
            return Ok(());
        }
        self.wait();
        self.last_dir = None;
        let path = self.rules.below.join(OsStr::from_bytes(strip_slashes(parent)));
        let walked = self.target.walk(&path, LastLink::Follow)?;
        if !walked.rest.is_empty() {
            // Nothing is there that could be deleted.
            return Ok(());
        }
        if bytes == OPAQUE_MARK {
            let dir = self.target.make_opaque(&walked.dir)?;
            if self.target.has_linked_up() {
                self.target.hide_linked_up(&dir.path)?;
            }
            return Ok(());
        }
        let hidden = OsStr::from_bytes(bytes.get(WHITEOUT_PREFIX.len()..).unwrap_or_default());
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(Error::malformed("the layer has a whiteout that names nothing"));
        }
        let top = walked.dir.path.join(hidden);
        if self.target.has_linked_up() && self.target.hide_linked_up(&top)? {
            let dir = self.target.walk(&path, LastLink::Follow)?.dir;
            return match self.has_own(&dir, hidden)? {
                true => self.hide(&dir, hidden),
                false => self.target.remove_in(&dir, hidden),
            };
        }
        self.hide(&walked.dir, hidden)
    }

    /// Whether this layer has something at a name or below it, besides what hides and the folders
    /// that a hard link brought.
    fn has_own(&self, dir: &Arc<TargetDir>, name: &OsStr) -> Result<bool> {
        let path = dir.path.join(name);
        let fail = |error| Error::at("cannot look up", &path, error);
        let Some(upper) = &dir.upper else { return Ok(false) };
        let mut todo = match upper.stat_if_there(name).map_err(fail)? {
            Some(stat) if stat.is_dir() => {
                vec![(path.clone(), upper.open_dir(name).map_err(fail)?)]
            }
            found => return Ok(found.is_some_and(|stat| !stat.is_whiteout())),
        };
        while let Some((path, dir)) = todo.pop() {
            if self.seen.contains(&self.hasher.hash_one(path.as_os_str())) {
                return Ok(true);
            }
            for entry in dir.entries().map_err(fail)? {
                let stat = dir.stat(&entry.name).map_err(fail)?;
                if stat.is_dir() {
                    let below = dir.open_dir(&entry.name).map_err(fail)?;
                    todo.push((path.join(&entry.name), below));
                } else if !stat.is_whiteout() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Hides a name of the layers below. What this layer itself has there stays: a whiteout says
    /// nothing of its own layer.
    fn hide(&mut self, dir: &Arc<TargetDir>, name: &OsStr) -> Result<()> {
        let path = dir.path.join(name);
        let own = match &dir.upper {
            Some(upper) => upper.stat_if_there(name),
            None => Ok(None),
        };
        let own = own.map_err(|error| Error::at("cannot look up", &path, error))?;
        match own {
            Some(stat) if stat.is_dir() => {
                if let Some(child) = self.target.child(dir, name)? {
                    self.target.make_opaque(&child)?;
                }
                Ok(())
            }
            Some(_) => Ok(()),
            None => self.target.remove_in(dir, name),
        }
    }

    fn note_time(&mut self, path: &Path, mtime: Time) {
        self.times.insert(key(path), mtime);
    }

    fn note_time_if_new(&mut self, path: &Path, mtime: Time) {
        self.times.entry(key(path)).or_insert(mtime);
    }

    /// Goes through the directories in the order of one walk.
    fn set_dir_times(&mut self) -> Result<()> {
        for (path, mtime) in self.target.end_copy_up_record() {
            self.note_time_if_new(&path, mtime);
        }
        let mut descent = Descent::new(self.target.upper().clone());
        for (key, mtime) in std::mem::take(&mut self.times) {
            let path = Path::new(OsStr::from_bytes(strip_slashes(&key)));
            if !go_to(&mut descent, path).map_err(|e| Error::at("cannot open", path, e))? {
                continue;
            }
            let set = descent.dir().and_then(|dir| dir.set_own_mtime(mtime));
            set.map_err(|error| Error::at("cannot set the time of", path, error))?;
        }
        Ok(())
    }
}

/// Moves to another directory of the tree; false where there is none any more.
fn go_to(descent: &mut Descent, path: &Path) -> io::Result<bool> {
    let path = path.as_os_str().as_bytes();
    // Bytes are compared, not components: paths may have thousands of them.
    let rest = loop {
        let here = descent.path().as_os_str().as_bytes();
        match path.strip_prefix(here) {
            Some(rest) if here.is_empty() => break rest,
            Some([]) => break b"",
            Some([b'/', rest @ ..]) => break rest,
            _ => descent.leave(),
        }
    };
    for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        match descent.enter(OsStr::from_bytes(name)) {
            Ok(()) => {}
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || conex_sys::dir::is_not_a_dir(&error) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn key(path: &Path) -> Vec<u8> {
    [path.as_os_str().as_bytes(), b"/"].concat()
}

fn attributes(entry: &mut Entry) -> Attributes {
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: Some(entry.mtime),
        xattrs: std::mem::take(&mut entry.xattrs),
    }
}

/// Splits a path of the archive into its directory and its last name, which the root has not.
fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut path = path;
    // `a/.` and `a/` mean `a`.
    loop {
        let shorter = path.strip_suffix(b"/").or_else(|| path.strip_suffix(b"/."));
        match shorter {
            Some(shorter) => path = shorter,
            None => break,
        }
    }
    if path.is_empty() || path == b"." {
        return (b"", None);
    }
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..)),
        None => (b"", Some(path)),
    }
}

fn strip_slashes(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"/") {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    path
}

/// A small file on its way to a thread.
struct SmallFile {
    dir: Arc<TargetDir>,
    name: OsString,
    attributes: Attributes,
    content: Vec<u8>,
}

/// What the threads that make files share.
struct Files {
    maker: Maker,
    state: Mutex<FilesState>,
    idle: Condvar,
}

#[derive(Default)]
struct FilesState {
    under_way: usize,
    failed: Option<Error>,
    buffers: Vec<Vec<u8>>,
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, FilesState> {
        // Counters and buffers are whole at any time, whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buffer(&self) -> Vec<u8> {
        self.lock().buffers.pop().unwrap_or_default()
    }

    fn begin(&self, count: usize) {
        self.lock().under_way += count;
    }

    /// Waits until all files handed out are made.
    fn wait(&self) {
        let mut state = self.lock();
        while state.under_way > 0 {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, batches: &Mutex<Receiver<Vec<SmallFile>>>) {
        loop {
            let received = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = received else { return };
            let made = self.make_all(&batch);
            let mut state = self.lock();
            state.under_way -= batch.len();
            if let Err(error) = made {
                state.failed.get_or_insert(error);
            }
            state.buffers.extend(batch.into_iter().map(|file| file.content));
            if state.under_way == 0 {
                self.idle.notify_all();
            }
        }
    }

    fn make_all(&self, batch: &[SmallFile]) -> Result<()> {
        let mut last: Option<(&Arc<TargetDir>, Maker)> = None;
        for file in batch {
            let fail = |error| Error::at("cannot unpack", &file.dir.path.join(&file.name), error);
            let upper = upper_of(&file.dir)?;
            let maker = match last {
                Some((dir, maker)) if Arc::ptr_eq(dir, &file.dir) => maker,
                _ => self.maker.in_dir(upper).map_err(fail)?,
            };
            last = Some((&file.dir, maker));
            let made = upper.create_file(&file.name, 0o600).map_err(fail)?;
            made.write_all_at(&file.content, 0).map_err(fail)?;
            maker.settle(&made, FileKind::File, &file.attributes).map_err(fail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_their_last_name() {
        for (path, dir, name) in [
            ("a", "", Some("a")),
            ("a/b/", "a", Some("b")),
            ("./a/./b", "./a/.", Some("b")),
            ("/", "", None),
            ("./", "", None),
            (".", "", None),
            ("a/.", "", Some("a")),
            ("/etc", "", Some("etc")),
            ("a/..", "a", Some("..")),
        ] {
            let (split_dir, split_name) = split(path.as_bytes());
            assert_eq!(
                (split_dir, split_name),
                (dir.as_bytes(), name.map(str::as_bytes)),
                "{path}"
            );
        }
    }
}
