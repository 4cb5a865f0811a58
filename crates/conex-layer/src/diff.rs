//! The deterministic layer tar of a snapshot: what changed against the snapshots below.
//!
//! Invariant: the bytes depend on the files, their owners, modes, times and attributes, and on the
//! snapshots below, and on nothing else: not on the machine, the user, the filesystem, the order
//! in which files were made, or the number of threads. Entries come depth first, sorted by the
//! bytes of their names, a directory before what is in it.
//!
//! Does not look into files to see whether they changed: what overlayfs copied up is in the layer.
//! A directory that was copied up and has neither a change of its own nor one in it is left out.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conex_oci::{DiffId, Digest};
use conex_sys::copy::DataPieces;
use conex_sys::dir::{Dir, DirEntry, set_file_mtime};
use conex_sys::stat::{FileKind, Stat, Time, stat_fd};
use conex_sys::walk::{Descent, Step, Walker};

use crate::error::{Error, Result};
use crate::form::{self, Form, HELD_PREFIX, LINK_OWNERS_NAME, LinkOwners, Ownership, Record};
use crate::pipe::HashingWriter;
use crate::stack::{MergedDir, Stack, View, dir_stat, file_xattrs};
use crate::tar::{BLOCK_SIZE, EntryHeader};

/// Merged directories of the snapshots below that are kept open on the way down.
const LOWER_OPEN_MAX: usize = 16;

/// The name of an opaque mark in a layer (image spec, layer.md, "Opaque Whiteout").
pub(crate) const OPAQUE_MARK: &[u8] = b".wh..wh..opq";

/// What comes before the name of a deleted file in a layer.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// How to write a layer.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions<'o> {
    /// The form of the snapshots.
    pub form: Form,
    /// No time in the layer is later than this (seconds since 1970).
    pub mtime_max: i64,
    /// Whether files in the snapshot get the times that they have in the layer.
    pub times: SnapshotTimes,
    /// Whether the diff ID is computed.
    pub hash: Hashing,
    /// Checked now and then; true stops the work with an error.
    pub cancelled: Option<&'o AtomicBool>,
}

/// Whether files in the snapshot get the times that they have in the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotTimes {
    /// They stay as they are.
    Keep,
    /// They are set, so that a container sees here what it will see elsewhere.
    Normalize,
}

/// Whether the diff ID is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashing {
    /// On a second thread.
    DiffId,
    /// Not at all: the caller knows it or hashes itself.
    None,
}

impl WriteOptions<'_> {
    /// Computes the diff ID, leaves the snapshot alone, clamps no time.
    pub fn new(form: Form) -> Self {
        Self {
            form,
            mtime_max: i64::MAX,
            times: SnapshotTimes::Keep,
            hash: Hashing::DiffId,
            cancelled: None,
        }
    }
}

/// What a layer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// The digest of the tar, if it was computed.
    pub diff_id: Option<DiffId>,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Bytes of the files in it.
    pub unpacked_size: u64,
    /// Entries of the tar.
    pub entry_count: u64,
}

impl LayerSummary {
    /// Whether the layer changes nothing.
    pub fn is_empty(&self) -> bool {
        self.entry_count == 0
    }
}

/// Writes the layer that a snapshot is on top of others.
///
/// # Errors
/// A file cannot be read or changes while it is read, the snapshot has overlay marks that say that
/// content is elsewhere, or the output's.
pub fn write_layer(
    upper: &Dir,
    lower: &Stack,
    options: &WriteOptions<'_>,
    out: &mut dyn Write,
) -> Result<LayerSummary> {
    std::thread::scope(|scope| {
        let out = match options.hash {
            Hashing::DiffId => HashingWriter::hashing(scope, out),
            Hashing::None => HashingWriter::plain(out),
        };
        let mut writer = LayerWriter {
            view: View { form: Some(options.form) },
            lower,
            options,
            descent: Descent::new(upper.clone()),
            levels: Vec::new(),
            written_count: 0,
            path: Vec::new(),
            links: HashMap::new(),
            header: Vec::new(),
            out,
            entry_count: 0,
            unpacked_size: 0,
        };
        writer.run()?;
        let LayerWriter { mut out, entry_count, unpacked_size, .. } = writer;
        let finished = out.zeros(2 * BLOCK_SIZE as u64).and_then(|()| out.finish());
        let (_, digest, tar_size) = finished.map_err(write_error)?;
        Ok(LayerSummary { diff_id: digest.map(DiffId), tar_size, unpacked_size, entry_count })
    })
}

/// Computes the diff ID of the layer that a snapshot is on top of others.
///
/// # Errors
/// As [`write_layer`].
pub fn diff_id_of(
    upper: &Dir,
    lower: &Stack,
    options: &WriteOptions<'_>,
) -> Result<(DiffId, LayerSummary)> {
    let options = WriteOptions { hash: Hashing::DiffId, ..*options };
    let summary = write_layer(upper, lower, &options, &mut io::sink())?;
    let diff_id = summary.diff_id.clone().unwrap_or_else(|| DiffId(Digest::of(b"")));
    Ok((diff_id, summary))
}

/// Gives every file of a snapshot the time that it has in a layer: no later than `mtime_max`, in
/// whole seconds.
///
/// # Errors
/// The kernel's.
pub fn normalize_times(upper: &Dir, mtime_max: i64) -> Result<()> {
    let fail = |path: &Path, error| Error::at("cannot set the time of", path, error);
    let mut walker = Walker::new(upper).map_err(|error| fail(Path::new(""), error))?;
    let set = |dir: &Dir, name: &OsStr| -> io::Result<()> {
        let mtime = dir.stat(name)?.mtime;
        let wanted = Time::from_seconds(mtime.seconds.min(mtime_max));
        if mtime == wanted { Ok(()) } else { dir.set_mtime(name, wanted) }
    };
    while let Some(step) = walker.step() {
        let Step::Entry(entry) = step else { continue };
        let path = walker.path().join(&entry.name);
        let done = walker.dir().and_then(|dir| set(dir, &entry.name));
        done.map_err(|error| fail(&path, error))?;
        if entry.kind == FileKind::Dir {
            walker.enter(&entry.name).map_err(|error| fail(&path, error))?;
        }
    }
    Ok(())
}

/// Device and inode.
type Inode = ((u32, u32), u64);

struct LayerWriter<'w, 'o, 's, W: Write> {
    view: View,
    lower: &'w Stack,
    options: &'w WriteOptions<'o>,
    descent: Descent,
    levels: Vec<Level>,
    /// How many of the levels have their directory in the tar already.
    written_count: usize,
    path: Vec<u8>,
    /// The first path of each file with several.
    links: HashMap<Inode, Vec<u8>>,
    header: Vec<u8>,
    out: HashingWriter<'s, W>,
    entry_count: u64,
    unpacked_size: u64,
}

/// A directory that the walk is in or below.
struct Level {
    entries: std::vec::IntoIter<DirEntry>,
    /// The directory's own entry, without its path; the root has none.
    header: Option<Box<EntryHeader>>,
    lower: LowerDir,
    path_len: usize,
    link_owners: Option<LinkOwners>,
}

/// What the snapshots below have at a directory's path.
#[derive(Clone)]
enum LowerDir {
    Nothing,
    Open(Arc<MergedDir>),
    /// A directory, closed to keep few open.
    Closed,
}

/// A file's attributes as they stand in a snapshot.
#[derive(Default)]
struct Marks {
    xattrs: Vec<(OsString, Vec<u8>)>,
    record: Option<Record>,
    link_owners: Option<LinkOwners>,
    opaque: bool,
}

impl<W: Write> LayerWriter<'_, '_, '_, W> {
    fn run(&mut self) -> Result<()> {
        let root = self.lower.root();
        let lower = if root.parts.is_empty() { LowerDir::Nothing } else { LowerDir::Open(root) };
        let dir = self.descent.dir().cloned().map_err(|error| self.fail(error))?;
        let marks =
            self.marks(|| conex_sys::xattr::list(&dir), |name| conex_sys::xattr::get(&dir, name));
        let marks = marks?;
        self.push_level(&dir, None, lower, marks.link_owners)?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_len);
            match level.entries.next() {
                Some(entry) => self.entry(&entry)?,
                None => self.leave()?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &DirEntry) -> Result<()> {
        if self.options.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Error::io("the work was stopped", io::ErrorKind::Interrupted.into()));
        }
        let parent_len = self.path.len();
        if parent_len > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(entry.name.as_bytes());
        let dir = self.descent.dir().cloned().map_err(|error| self.fail(error))?;
        match entry.kind {
            FileKind::Dir => self.dir(&dir, &entry.name),
            FileKind::File => self.file(&dir, &entry.name),
            // Nobody listens to a socket of an image.
            FileKind::Socket => Ok(()),
            FileKind::CharDevice => {
                let stat = dir.stat(&entry.name).map_err(|error| self.fail(error))?;
                if stat.is_whiteout() {
                    return self.whiteout(&entry.name, parent_len);
                }
                self.special(&dir, &entry.name)
            }
            FileKind::Symlink | FileKind::BlockDevice | FileKind::Fifo => {
                self.special(&dir, &entry.name)
            }
        }
    }

    fn dir(&mut self, parent: &Dir, name: &OsStr) -> Result<()> {
        let dir = parent.open_dir(name).map_err(|error| self.fail(error))?;
        let marks =
            self.marks(|| conex_sys::xattr::list(&dir), |name| conex_sys::xattr::get(&dir, name))?;
        let mut stat = dir.stat_self().map_err(|error| self.fail(error))?;
        self.restore(&mut stat, &marks);
        let mtime = self.mtime(&stat);
        if self.options.times == SnapshotTimes::Normalize && stat.mtime != mtime {
            dir.set_own_mtime(mtime).map_err(|error| self.fail(error))?;
        }
        let lower = match self.lower_dir()? {
            Some(above) => above.enter(name, self.view).map_err(|error| self.fail(error))?,
            None => None,
        };
        let mut header = EntryHeader::dir(Vec::new());
        fill(&mut header, &stat, mtime);
        header.xattrs = marks.xattrs;
        let Some(lower) = lower else {
            self.push_level_new(name, &dir, header, LowerDir::Nothing, marks.link_owners)?;
            return self.write_pending();
        };
        if marks.opaque {
            self.push_level_new(name, &dir, header, LowerDir::Nothing, marks.link_owners)?;
            self.write_pending()?;
            return self.opaque_mark();
        }
        let below = lower.parts.first();
        let unchanged = match below {
            Some(below) => self.is_same(&header, below)?,
            None => false,
        };
        let lower = LowerDir::Open(Arc::new(lower));
        self.push_level_new(name, &dir, header, lower, marks.link_owners)?;
        if unchanged { Ok(()) } else { self.write_pending() }
    }

    /// Whether a directory is the same as the one below. Its time does not count: it changes with
    /// every temporary file that was in it.
    fn is_same(&self, header: &EntryHeader, below: &Dir) -> Result<bool> {
        let stat = dir_stat(below, self.view).map_err(|error| self.fail(error))?;
        if (stat.mode, stat.uid, stat.gid) != (header.mode, header.uid, header.gid) {
            return Ok(false);
        }
        let xattrs = file_xattrs(below, self.view).map_err(|error| self.fail(error))?;
        Ok(xattrs == header.xattrs)
    }

    fn file(&mut self, dir: &Dir, name: &OsStr) -> Result<()> {
        let file = dir.open_file(name).map_err(|error| self.fail(error))?;
        let mut stat = stat_fd(&file).map_err(|error| self.fail(error))?;
        if stat.kind != FileKind::File {
            return Err(self.fail(io::Error::other("the file was exchanged while it was read")));
        }
        let mtime = self.mtime(&stat);
        if self.options.times == SnapshotTimes::Normalize && stat.mtime != mtime {
            set_file_mtime(&file, mtime).map_err(|error| self.fail(error))?;
        }
        let marks = self
            .marks(|| conex_sys::xattr::list(&file), |name| conex_sys::xattr::get(&file, name))?;
        let (size, sparse) = (stat.size, stat.is_sparse());
        self.restore(&mut stat, &marks);
        let mut header = self.new_header(&stat, mtime);
        if stat.kind != FileKind::File {
            // A device that is recorded in an attribute. Like a real one, it is itself at each of
            // its names, or the two forms would give two digests.
            header.xattrs = marks.xattrs;
            return self.write_header(&header);
        }
        if stat.link_count > 1 {
            let first = self.links.get(&(stat.device, stat.inode)).cloned();
            if let Some(first) = first {
                (header.kind, header.link, header.size) = (b'1', first, 0);
                return self.write_header(&header);
            }
            self.links.insert((stat.device, stat.inode), self.path.clone());
        }
        header.xattrs = marks.xattrs;
        self.write_header(&header)?;
        self.unpacked_size += size;
        let copied =
            if sparse { self.sparse_content(&file, size) } else { self.content(&file, size) };
        copied.map_err(|error| self.fail(error))?;
        let over = size % BLOCK_SIZE as u64;
        let padding = if over == 0 { 0 } else { BLOCK_SIZE as u64 - over };
        self.out.zeros(padding).map_err(write_error)
    }

    fn content(&mut self, file: &File, size: u64) -> io::Result<()> {
        let mut left = size;
        let mut file = file;
        while left > 0 {
            let room = self.out.room()?;
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
            match file.read(room.get_mut(..want).unwrap_or_default()) {
                Ok(0) => return Err(shrunk()),
                Ok(count) => {
                    self.out.commit(count);
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Holes become zeros without being read.
    fn sparse_content(&mut self, file: &File, size: u64) -> io::Result<()> {
        use std::io::Seek as _;
        let mut at = 0;
        for piece in DataPieces::new(file, size) {
            let (start, end) = piece?;
            self.out.zeros(start.saturating_sub(at))?;
            let mut file = file;
            file.seek(io::SeekFrom::Start(start))?;
            self.content(file, end - start)?;
            at = end;
        }
        self.out.zeros(size.saturating_sub(at))
    }

    /// Symbolic links, devices and pipes.
    fn special(&mut self, dir: &Dir, name: &OsStr) -> Result<()> {
        let mut stat = dir.stat(name).map_err(|error| self.fail(error))?;
        let mtime = self.mtime(&stat);
        if self.options.times == SnapshotTimes::Normalize && stat.mtime != mtime {
            dir.set_mtime(name, mtime).map_err(|error| self.fail(error))?;
        }
        let marks = self.marks(|| dir.xattr_names(name), |attribute| dir.xattr(name, attribute))?;
        self.restore(&mut stat, &marks);
        if self.options.form.ownership == Ownership::Recorded {
            let owners = self.levels.last().and_then(|level| level.link_owners.as_ref());
            if let Some(owner) = owners.and_then(|owners| owners.of(name)) {
                (stat.uid, stat.gid) = owner;
            }
        }
        let mut header = self.new_header(&stat, mtime);
        header.xattrs = marks.xattrs;
        if stat.kind == FileKind::Symlink {
            let target = dir.read_link(name).map_err(|error| self.fail(error))?;
            header.link = target.as_bytes().to_vec();
        }
        self.write_header(&header)
    }

    fn whiteout(&mut self, name: &OsStr, parent_len: usize) -> Result<()> {
        let Some(lower) = self.lower_dir()? else { return Ok(()) };
        let found = lower.lookup(name, self.view).map_err(|error| self.fail(error))?;
        if found.is_none() {
            return Ok(());
        }
        self.path.truncate(parent_len);
        let mut mark = WHITEOUT_PREFIX.to_vec();
        mark.extend_from_slice(name.as_bytes());
        self.mark(&mark)
    }

    fn opaque_mark(&mut self) -> Result<()> {
        self.mark(OPAQUE_MARK)
    }

    /// Writes an empty file that says something about a name in the directory at `self.path`.
    fn mark(&mut self, name: &[u8]) -> Result<()> {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let mut header = EntryHeader::file(path, 0);
        header.mtime = self.options.mtime_max.min(0);
        self.write_header(&header)
    }

    fn leave(&mut self) -> Result<()> {
        self.levels.pop();
        self.written_count = self.written_count.min(self.levels.len());
        self.descent.leave();
        Ok(())
    }

    fn push_level_new(
        &mut self,
        name: &OsStr,
        dir: &Dir,
        header: EntryHeader,
        lower: LowerDir,
        link_owners: Option<LinkOwners>,
    ) -> Result<()> {
        self.descent.enter_open(name, dir.clone());
        self.push_level(dir, Some(Box::new(header)), lower, link_owners)
    }

    fn push_level(
        &mut self,
        dir: &Dir,
        header: Option<Box<EntryHeader>>,
        lower: LowerDir,
        link_owners: Option<LinkOwners>,
    ) -> Result<()> {
        let entries = dir.entries().map_err(|error| self.fail(error))?.into_iter();
        let path_len = self.path.len();
        self.levels.push(Level { entries, header, lower, path_len, link_owners });
        if let Some(above) = self.levels.len().checked_sub(LOWER_OPEN_MAX + 1)
            && let Some(level) = self.levels.get_mut(above)
            && matches!(level.lower, LowerDir::Open(_))
        {
            level.lower = LowerDir::Closed;
        }
        Ok(())
    }

    /// The directory of the snapshots below at the deepest level.
    fn lower_dir(&mut self) -> Result<Option<Arc<MergedDir>>> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        match &level.lower {
            LowerDir::Nothing => Ok(None),
            LowerDir::Open(dir) => Ok(Some(dir.clone())),
            LowerDir::Closed => {
                let path = OsStr::from_bytes(self.path.get(..level.path_len).unwrap_or_default());
                let dir = self.lower.dir(Path::new(path))?;
                if let Some(level) = self.levels.last_mut() {
                    level.lower = LowerDir::Open(dir.clone());
                }
                Ok(Some(dir))
            }
        }
    }

    /// Writes the directories on the way here that are not in the tar yet.
    fn write_pending(&mut self) -> Result<()> {
        while let Some(level) = self.levels.get_mut(self.written_count) {
            self.written_count += 1;
            let Some(mut header) = level.header.take() else { continue };
            header.path = self.path.get(..level.path_len).unwrap_or_default().to_vec();
            header.path.push(b'/');
            self.encode(&header)?;
        }
        Ok(())
    }

    fn write_header(&mut self, header: &EntryHeader) -> Result<()> {
        self.write_pending()?;
        self.encode(header)
    }

    fn encode(&mut self, header: &EntryHeader) -> Result<()> {
        self.header.clear();
        header.encode(&mut self.header);
        self.entry_count += 1;
        self.out.write_all(&self.header).map_err(write_error)
    }

    fn new_header(&self, stat: &Stat, mtime: Time) -> EntryHeader {
        let mut header = EntryHeader::file(self.path.clone(), 0);
        fill(&mut header, stat, mtime);
        header
    }

    fn mtime(&self, stat: &Stat) -> Time {
        Time::from_seconds(stat.mtime.seconds.min(self.options.mtime_max))
    }

    fn restore(&self, stat: &mut Stat, marks: &Marks) {
        match marks.record {
            Some(record) if self.options.form.ownership == Ownership::Recorded => {
                record.apply(stat);
            }
            // As root a device may still have been refused.
            Some(record) if record.device.is_some() => record.apply(stat),
            _ if self.options.form.ownership == Ownership::Recorded => form::unrecorded(stat),
            _ => {}
        }
    }

    /// Reads a file's attributes: those that go into the layer, and those that say how to read it.
    fn marks(
        &self,
        list: impl FnOnce() -> io::Result<Vec<OsString>>,
        get: impl Fn(&OsStr) -> io::Result<Option<Vec<u8>>>,
    ) -> Result<Marks> {
        let names = list().map_err(|error| self.fail(error))?;
        let mut marks = Marks::default();
        for name in names {
            let value = |name: &OsStr| get(name).map_err(|error| self.fail(error));
            let bytes = name.as_bytes();
            if name == self.options.form.opaque_name() {
                marks.opaque = value(&name)?.as_deref() == Some(b"y");
            } else if is_elsewhere(bytes) {
                return Err(Error::overlay_feature(
                    Path::new(OsStr::from_bytes(&self.path)),
                    &name,
                ));
            } else if bytes == form::RECORD_NAME.as_bytes() {
                marks.record = value(&name)?.as_deref().and_then(Record::parse);
            } else if bytes == LINK_OWNERS_NAME.as_bytes() {
                marks.link_owners = value(&name)?.as_deref().map(LinkOwners::parse);
            } else if let Some(held) = bytes.strip_prefix(HELD_PREFIX.as_bytes()) {
                let held = OsStr::from_bytes(held).to_owned();
                if form::belongs_in_layer(&held)
                    && let Some(value) = value(&name)?
                {
                    marks.xattrs.push((held, value));
                }
            } else if form::belongs_in_layer(&name)
                && let Some(value) = value(&name)?
            {
                marks.xattrs.push((name, value));
            }
        }
        marks.xattrs.sort_unstable();
        Ok(marks)
    }

    fn fail(&self, error: io::Error) -> Error {
        Error::at("cannot read", Path::new(OsStr::from_bytes(&self.path)), error)
    }
}

/// Overlay marks that say that a file's content or a directory's lower part is elsewhere.
fn is_elsewhere(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"trusted.overlay.").or(name.strip_prefix(b"user.overlay."));
    matches!(rest, Some(b"redirect" | b"metacopy"))
}

fn fill(header: &mut EntryHeader, stat: &Stat, mtime: Time) {
    header.kind = match stat.kind {
        FileKind::File | FileKind::Socket => b'0',
        FileKind::Symlink => b'2',
        FileKind::CharDevice => b'3',
        FileKind::BlockDevice => b'4',
        FileKind::Dir => b'5',
        FileKind::Fifo => b'6',
    };
    // Linux gives every link the mode 0777; some filesystems give others.
    header.mode = if stat.kind == FileKind::Symlink { 0o777 } else { stat.mode };
    (header.uid, header.gid, header.mtime) = (stat.uid, stat.gid, mtime.seconds);
    if stat.kind == FileKind::File {
        header.size = stat.size;
    }
    if matches!(stat.kind, FileKind::CharDevice | FileKind::BlockDevice) {
        header.device = stat.node;
    }
}

fn shrunk() -> io::Error {
    io::Error::other("the file became shorter while it was read")
}

fn write_error(error: io::Error) -> Error {
    Error::io("cannot write the layer", error)
}
