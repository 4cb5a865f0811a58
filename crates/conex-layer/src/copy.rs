//! Copies files and trees into a [`Target`]: what `COPY` does, with hard links, devices, sparse
//! files and extended attributes.
//!
//! One thread walks the source and makes directories; others copy the files, each found by its
//! name in an open directory on both sides, so no path is looked up twice. The result does not
//! depend on how many threads there are.
//!
//! Does not decide what is copied where: which sources there are, whether a directory or its
//! content is meant and what is ignored is the caller's business.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use conex_sys::copy::{Copier, Extent};
use conex_sys::dir::{Dir, Node};
use conex_sys::stat::{FileKind, Stat, Time, stat_fd};

use crate::attributes::{Attributes, Maker};
use crate::error::{Error, Result};
use crate::stack::{LastLink, MergedDir, Stack, View, dir_stat, file_xattrs, name_xattrs, restore};
use crate::target::{Replace, Target, TargetDir, upper_of};

/// Files handed to a thread at once.
const BATCH_LEN: usize = 64;

/// Batches waiting for a thread; each keeps two directories open.
const BATCHES_WAITING_MAX: usize = 64;

/// Directories kept open on the way down, on both sides.
const LEVELS_OPEN_MAX: usize = 32;

/// What a filter says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Copy it; look into it if it is a directory.
    Take,
    /// Leave it out with everything below it.
    Skip,
    /// Leave the directory itself out unless something below it is copied.
    LookInside,
}

/// Says which paths, relative to the source, are copied.
pub type Filter<'o> = &'o (dyn Fn(&Path, FileKind) -> Wanted + Sync);

/// Gives the mode that a file shall have, from its kind and its mode in the source.
pub type ModeRule<'o> = &'o (dyn Fn(FileKind, u32) -> u32 + Sync);

/// How to copy.
#[derive(Clone, Copy)]
pub struct CopyOptions<'o> {
    /// Owner and group of everything copied; none keeps those of the source.
    pub owner: Option<(u32, u32)>,
    /// The mode of everything copied but symbolic links; none keeps that of the source.
    pub mode: Option<ModeRule<'o>>,
    /// What is copied; none copies all.
    pub filter: Option<Filter<'o>>,
    /// No modification time is later than this (seconds since 1970), and if there is one, all are
    /// whole seconds; none keeps those of the source.
    pub mtime_max: Option<i64>,
    /// How many threads copy files.
    pub thread_count: usize,
    /// Checked now and then; true stops the work with an error.
    pub cancelled: Option<&'o AtomicBool>,
}

impl std::fmt::Debug for CopyOptions<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CopyOptions").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl CopyOptions<'_> {
    /// Keeps everything as it is.
    pub fn keep(thread_count: usize) -> Self {
        Self {
            owner: None,
            mode: None,
            filter: None,
            mtime_max: None,
            thread_count,
            cancelled: None,
        }
    }

    fn attributes(&self, stat: &Stat) -> Attributes {
        let mut attributes = Attributes::of_stat(stat);
        if let Some((uid, gid)) = self.owner {
            (attributes.uid, attributes.gid) = (uid, gid);
        }
        if let Some(rule) = self.mode
            && stat.kind != FileKind::Symlink
        {
            attributes.mode = rule(stat.kind, stat.mode) & 0o7777;
        }
        if let Some(max) = self.mtime_max {
            attributes.mtime = Some(Time::from_seconds(stat.mtime.seconds.min(max)));
        }
        attributes
    }
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopySummary {
    /// Names that are not directories.
    pub file_count: u64,
    /// Directories.
    pub dir_count: u64,
    /// Bytes of content.
    pub size: u64,
}

/// Copies what is at `from` of the source to `to` of the target. A file, link or device becomes
/// `to` itself; of a directory the *content* is copied into the directory `to`, which is made with
/// mode 0755 and the owner of the options if it is not there, and stays as it is otherwise.
/// Directories below get the attributes that they have in the source. The last name of `from` is
/// not followed if it is a link; that of `to` is followed if it is a link and a directory is
/// copied.
///
/// # Errors
/// There is nothing at `from`, a directory would replace a file or the other way round, or the
/// kernel's.
pub fn copy(
    source: &Stack,
    from: &Path,
    target: &mut Target,
    to: &Path,
    options: &CopyOptions<'_>,
) -> Result<CopySummary> {
    let found = source.find(from, LastLink::Keep)?.ok_or_else(|| Error::not_found(from))?;
    if found.stat.is_dir() {
        return copy_content(source, &found.path, target, to, options);
    }
    let parent = found.path.parent().unwrap_or(Path::new(""));
    let name = found.path.file_name().unwrap_or_default();
    let source_dir = source.dir(parent)?;
    let fail = |error| Error::at("cannot copy", from, error);
    let looked_up = source_dir.lookup(name, source.view()).map_err(fail)?;
    let (part, _) = looked_up.ok_or_else(|| Error::not_found(from))?;
    let (dir, to_name) = place(target, to, options)?;
    target.clear(&dir, &to_name, Replace::SameKind)?;
    let work = Work::new(source.view(), target, options);
    let file = Job {
        source: part.clone(),
        name: name.to_owned(),
        target_name: None,
        kind: found.stat.kind,
    };
    let place = Place::new(&target.maker, &dir)?;
    work.copy_one(&Job { target_name: Some(to_name), ..file }, &place, &mut Vec::new())?;
    Ok(work.summary())
}

/// The directory and the name that a single file is copied to.
fn place(
    target: &mut Target,
    to: &Path,
    options: &CopyOptions<'_>,
) -> Result<(Arc<TargetDir>, OsString)> {
    let resolved = target.resolve(to, LastLink::Keep)?;
    let name = resolved.file_name().map(OsStr::to_owned);
    let Some(name) = name else {
        return Err(Error::conflict(to, "the root directory", "a file"));
    };
    let parent = resolved.parent().unwrap_or(Path::new(""));
    let (dir, _) = target.make_dirs_open(parent, &new_dir_attributes(options))?;
    Ok((dir, name))
}

fn new_dir_attributes(options: &CopyOptions<'_>) -> Attributes {
    let (uid, gid) = options.owner.unwrap_or((0, 0));
    let mode = options.mode.map_or(0o755, |rule| rule(FileKind::Dir, 0o755));
    Attributes::with_mode(mode).owned_by(uid, gid)
}

fn copy_content(
    source: &Stack,
    from: &Path,
    target: &mut Target,
    to: &Path,
    options: &CopyOptions<'_>,
) -> Result<CopySummary> {
    let source_dir = source.dir(from)?;
    let (target_dir, _) = target.make_dirs_open(to, &new_dir_attributes(options))?;
    let work = Work::new(source.view(), target, options);
    let (sender, receiver) = sync_channel(BATCHES_WAITING_MAX);
    let receiver = Mutex::new(receiver);
    let walked = std::thread::scope(|scope| {
        for _ in 0..options.thread_count.max(1) {
            scope.spawn(|| work.run(&receiver));
        }
        let mut walk = TreeWalk {
            source,
            from,
            target,
            options,
            work: &work,
            sender,
            levels: Vec::new(),
            path: PathBuf::new(),
            late_times: Vec::new(),
        };
        let walked = walk.run(source_dir, &target_dir);
        (walked, walk.late_times)
        // The sender ends here, and with it the threads.
    });
    let (walked, late_times) = walked;
    work.failure()?;
    walked?;
    for (path, mtime) in late_times {
        let dir = target.walk(&path, LastLink::Keep)?.dir;
        let set = upper_of(&dir)?.set_own_mtime(mtime);
        set.map_err(|error| Error::at("cannot set the time of", &path, error))?;
    }
    Ok(work.summary())
}

/// One name to copy.
struct Job {
    source: Dir,
    name: OsString,
    /// The name in the target, where it is another.
    target_name: Option<OsString>,
    kind: FileKind,
}

/// Names of one directory to copy.
struct Batch {
    jobs: Vec<Job>,
    target: Arc<TargetDir>,
    /// Sets the directory's time when the last of its batches is done.
    _time: Arc<DirTime>,
}

/// Sets the time of a directory when nothing more will be made in it.
struct DirTime {
    dir: Dir,
    mtime: Option<Time>,
    failed: Arc<Mutex<Option<Error>>>,
    path: PathBuf,
}

impl Drop for DirTime {
    fn drop(&mut self) {
        if let Some(mtime) = self.mtime
            && let Err(error) = self.dir.set_own_mtime(mtime)
        {
            let error = Error::at("cannot set the time of", &self.path, error);
            lock(&self.failed).get_or_insert(error);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks, so a panic elsewhere does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory on both sides, while the walk is in it or below.
struct Level {
    open: Option<(Arc<MergedDir>, Arc<TargetDir>)>,
    target_path: PathBuf,
    dirs: std::vec::IntoIter<(OsString, Wanted)>,
    /// Length of the source path here.
    path_len: usize,
}

struct TreeWalk<'w, 'o> {
    source: &'w Stack,
    from: &'w Path,
    target: &'w mut Target,
    options: &'w CopyOptions<'o>,
    work: &'w Work<'o>,
    sender: SyncSender<Batch>,
    levels: Vec<Level>,
    /// Where we are below `from`.
    path: PathBuf,
    /// Times of directories that something was made in late.
    late_times: Vec<(PathBuf, Time)>,
}

impl TreeWalk<'_, '_> {
    fn run(&mut self, source: Arc<MergedDir>, target: &Arc<TargetDir>) -> Result<()> {
        self.enter(source, target, None)?;
        while let Some(level) = self.levels.last_mut() {
            if self.work.must_stop() {
                return Err(Error::io("the copy was stopped", io::ErrorKind::Interrupted.into()));
            }
            let len = level.path_len;
            truncate(&mut self.path, len);
            let Some((name, wanted)) = level.dirs.next() else {
                self.levels.pop();
                continue;
            };
            self.descend(&name, wanted)?;
        }
        Ok(())
    }

    fn descend(&mut self, name: &OsStr, wanted: Wanted) -> Result<()> {
        let (source, target) = self.open_last()?;
        self.path.push(name);
        let fail = |error| Error::at("cannot open", &self.path, error);
        let entered = source.enter(name, self.source.view()).map_err(fail)?;
        let entered = entered.ok_or_else(|| Error::not_found(&self.path))?;
        if wanted == Wanted::Take {
            let child = self.target.child(&target, name)?;
            let child = child.ok_or_else(|| Error::not_found(&target.path.join(name)))?;
            let top = entered.parts.first();
            let stat = top.map(|dir| dir_stat(dir, self.source.view())).transpose();
            let stat = stat.map_err(|error| Error::at("cannot stat", &self.path, error))?;
            let mtime = stat.and_then(|stat| self.options.attributes(&stat).mtime);
            return self.enter(Arc::new(entered), &child, mtime);
        }
        // Looked into without knowing yet whether the directory will be there: listed as a tree of
        // its own, and made with the first thing that is taken in it.
        if !self.holds_wanted(&entered)? {
            return Ok(());
        }
        if let (Some(level), Some(mtime)) = (self.levels.last(), target_mtime(&target)?) {
            self.late_times.push((level.target_path.clone(), mtime));
        }
        let mtime = self.make_dir(&source, &target, name)?;
        let child = self.target.child(&target, name)?;
        let child = child.ok_or_else(|| Error::not_found(&target.path.join(name)))?;
        self.enter(Arc::new(entered), &child, mtime)
    }

    /// Whether something below a directory that was not itself taken is taken.
    fn holds_wanted(&self, dir: &MergedDir) -> Result<bool> {
        let Some(filter) = self.options.filter else { return Ok(true) };
        let view = self.source.view();
        let mut waiting = vec![(self.path.clone(), None::<Arc<MergedDir>>)];
        while let Some((path, opened)) = waiting.pop() {
            let here = opened.as_deref().unwrap_or(dir);
            let fail = |error| Error::at("cannot list", &path, error);
            for entry in here.entries(view).map_err(fail)? {
                let entry_path = path.join(&entry.name);
                match filter(&entry_path, entry.kind) {
                    Wanted::Take => return Ok(true),
                    Wanted::LookInside if entry.kind == FileKind::Dir => {
                        if let Some(below) = here.enter(&entry.name, view).map_err(fail)? {
                            waiting.push((entry_path, Some(Arc::new(below))));
                        }
                    }
                    Wanted::LookInside | Wanted::Skip => {}
                }
            }
        }
        Ok(false)
    }

    /// Lists a directory, makes the directories in it and hands its files out.
    fn enter(
        &mut self,
        source: Arc<MergedDir>,
        target: &Arc<TargetDir>,
        mtime: Option<Time>,
    ) -> Result<()> {
        let target = self.target.in_upper(target)?;
        let view = self.source.view();
        let entries = source.entries(view);
        let entries = entries.map_err(|error| Error::at("cannot list", &self.path, error))?;
        let mut dirs = Vec::new();
        let mut jobs = Vec::new();
        let time = Arc::new(DirTime {
            dir: upper_of(&target)?.clone(),
            mtime,
            failed: self.work.failed.clone(),
            path: target.path.clone(),
        });
        let is_new = target.lower.is_none()
            && upper_of(&target)?.entries().is_ok_and(|entries| entries.is_empty());
        for entry in entries {
            let wanted = match self.options.filter {
                Some(filter) => filter(&self.path.join(&entry.name), entry.kind),
                None => Wanted::Take,
            };
            match (wanted, entry.kind) {
                (Wanted::Skip, _) => {}
                (Wanted::Take, FileKind::Dir) => {
                    self.make_dir(&source, &target, &entry.name)?;
                    dirs.push((entry.name, wanted));
                }
                (Wanted::LookInside, FileKind::Dir) => dirs.push((entry.name, wanted)),
                (Wanted::LookInside, _) => {}
                (Wanted::Take, kind) => {
                    if !is_new {
                        self.target.clear(&target, &entry.name, Replace::SameKind)?;
                    }
                    let Some(part) = source.parts.get(entry.part) else { continue };
                    let name = entry.name;
                    jobs.push(Job { source: part.clone(), name, target_name: None, kind });
                    if jobs.len() == BATCH_LEN {
                        self.hand_out(std::mem::take(&mut jobs), &target, &time);
                    }
                }
            }
        }
        if !jobs.is_empty() {
            self.hand_out(jobs, &target, &time);
        }
        self.levels.push(Level {
            target_path: target.path.clone(),
            open: Some((source, target)),
            dirs: dirs.into_iter(),
            path_len: self.path.as_os_str().len(),
        });
        if let Some(above) = self.levels.len().checked_sub(LEVELS_OPEN_MAX + 1)
            && let Some(level) = self.levels.get_mut(above)
        {
            level.open = None;
        }
        Ok(())
    }

    fn hand_out(&self, jobs: Vec<Job>, target: &Arc<TargetDir>, time: &Arc<DirTime>) {
        let batch = Batch { jobs, target: target.clone(), _time: time.clone() };
        // The threads end early only after a failure, which is told afterwards.
        let _ = self.sender.send(batch);
    }

    fn make_dir(
        &mut self,
        source: &MergedDir,
        target: &Arc<TargetDir>,
        name: &OsStr,
    ) -> Result<Option<Time>> {
        let view = self.source.view();
        let read = || -> io::Result<Option<Attributes>> {
            let Some((part, stat)) = source.lookup(name, view)? else { return Ok(None) };
            let mut attributes = self.options.attributes(&stat);
            attributes.xattrs = name_xattrs(part, name, view)?;
            Ok(Some(attributes))
        };
        let path = target.path.join(name);
        let attributes = read().map_err(|error| Error::at("cannot read", &path, error))?;
        let attributes = attributes.ok_or_else(|| Error::not_found(&path))?;
        self.target.put_dir_in(target, name, &attributes, Replace::SameKind)?;
        self.work.dir_count.fetch_add(1, Ordering::Relaxed);
        Ok(attributes.mtime)
    }

    /// The directories of the deepest level, opened again if they were closed meanwhile.
    fn open_last(&mut self) -> Result<(Arc<MergedDir>, Arc<TargetDir>)> {
        let Some(level) = self.levels.last() else {
            return Err(Error::not_found(&self.path));
        };
        if let Some((source, target)) = &level.open {
            return Ok((source.clone(), target.clone()));
        }
        let target_path = level.target_path.clone();
        let source = self.source.dir(&self.from.join(&self.path))?;
        let target = self.target.walk(&target_path, LastLink::Keep)?.dir;
        let target = self.target.in_upper(&target)?;
        if let Some(level) = self.levels.last_mut() {
            level.open = Some((source.clone(), target.clone()));
        }
        Ok((source, target))
    }
}

fn target_mtime(dir: &TargetDir) -> Result<Option<Time>> {
    let stat = upper_of(dir)?.stat_self();
    Ok(Some(stat.map_err(|error| Error::at("cannot stat", &dir.path, error))?.mtime))
}

fn truncate(path: &mut PathBuf, len: usize) {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > len {
        *path = PathBuf::from(OsStr::from_bytes(bytes.get(..len).unwrap_or_default()));
    }
}

/// What the threads share.
struct Work<'o> {
    view: View,
    maker: Maker,
    upper: Dir,
    options: CopyOptions<'o>,
    copier: Copier,
    /// Where the first name of each file with several was put.
    links: Mutex<HashMap<Inode, LinkPlace>>,
    failed: Arc<Mutex<Option<Error>>>,
    stop: AtomicBool,
    file_count: AtomicU64,
    dir_count: AtomicU64,
    size: AtomicU64,
}

/// Where files of one batch go.
struct Place<'t> {
    maker: Maker,
    upper: &'t Dir,
    path: &'t Path,
}

impl<'t> Place<'t> {
    fn new(maker: &Maker, target: &'t TargetDir) -> Result<Self> {
        let upper = upper_of(target)?;
        let maker = maker.in_dir(upper);
        let maker = maker.map_err(|error| Error::at("cannot stat", &target.path, error))?;
        Ok(Self { maker, upper, path: &target.path })
    }
}

/// Device and inode.
type Inode = ((u32, u32), u64);

/// Locked while the file is being made, so that the second name waits for the first.
type LinkPlace = Arc<Mutex<Option<PathBuf>>>;

impl<'o> Work<'o> {
    fn new(view: View, target: &Target, options: &CopyOptions<'o>) -> Self {
        Self {
            view,
            maker: target.maker,
            upper: target.upper().clone(),
            options: *options,
            copier: Copier::new(),
            links: Mutex::default(),
            failed: Arc::default(),
            stop: AtomicBool::new(false),
            file_count: AtomicU64::new(0),
            dir_count: AtomicU64::new(0),
            size: AtomicU64::new(0),
        }
    }

    fn run(&self, batches: &Mutex<Receiver<Batch>>) {
        let mut buffer = Vec::new();
        loop {
            let Ok(batch) = lock(batches).recv() else { return };
            if let Err(error) = self.copy_batch(&batch, &mut buffer) {
                lock(&self.failed).get_or_insert(error);
                self.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    fn copy_batch(&self, batch: &Batch, buffer: &mut Vec<u8>) -> Result<()> {
        let place = Place::new(&self.maker, &batch.target)?;
        for job in &batch.jobs {
            if self.must_stop() {
                break;
            }
            self.copy_one(job, &place, buffer)?;
        }
        Ok(())
    }

    fn must_stop(&self) -> bool {
        let cancelled = self.options.cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed));
        cancelled || self.stop.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Result<()> {
        match lock(&self.failed).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn summary(&self) -> CopySummary {
        CopySummary {
            file_count: self.file_count.load(Ordering::Relaxed),
            dir_count: self.dir_count.load(Ordering::Relaxed),
            size: self.size.load(Ordering::Relaxed),
        }
    }

    fn copy_one(&self, job: &Job, place: &Place<'_>, buffer: &mut Vec<u8>) -> Result<()> {
        let name = job.target_name.as_deref().unwrap_or(&job.name);
        let copied = match job.kind {
            FileKind::File => self.copy_file(job, place, name, buffer),
            _ => self.copy_special(job, place, name),
        };
        copied.map_err(|error| Error::at("cannot copy to", &place.path.join(name), error))?;
        self.file_count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn copy_file(
        &self,
        job: &Job,
        place: &Place<'_>,
        name: &OsStr,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        let source = job.source.open_file(&job.name)?;
        let mut stat = stat_fd(&source)?;
        if stat.kind != FileKind::File {
            return Err(io::Error::other("the file was exchanged while it was copied"));
        }
        let inode = (stat.device, stat.inode);
        let several = stat.link_count > 1;
        restore(&job.source, &job.name, &mut stat, self.view)?;
        if stat.kind != FileKind::File {
            // A device that is recorded in an attribute.
            let job = Job {
                kind: stat.kind,
                source: job.source.clone(),
                name: job.name.clone(),
                target_name: None,
            };
            return self.copy_special(&job, place, name);
        }
        if !several {
            return self.write_file(&source, &stat, place, name, buffer);
        }
        let first = lock(&self.links).entry(inode).or_default().clone();
        let mut first = lock(&first);
        if let Some(path) = &*first
            && self.link(path, place.upper, name).is_ok()
        {
            return Ok(());
        }
        self.write_file(&source, &stat, place, name, buffer)?;
        *first = Some(place.path.join(name));
        Ok(())
    }

    /// Links to a file that this copy made. Where that fails (too many links, a path too long to
    /// find again) the caller copies, which is what any tool without hard links would do.
    fn link(&self, existing: &Path, upper: &Dir, name: &OsStr) -> io::Result<()> {
        use conex_sys::root::{Links, RootDir};
        let root = RootDir::from_dir(self.upper.clone(), Links::Refuse);
        let (dir, of) = root.parent(existing)?;
        upper.create_hard_link(name, &dir, &of)
    }

    fn write_file(
        &self,
        source: &std::fs::File,
        stat: &Stat,
        place: &Place<'_>,
        name: &OsStr,
        buffer: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut attributes = self.options.attributes(stat);
        attributes.xattrs = file_xattrs(source, self.view)?;
        let target = place.upper.create_file(name, 0o600)?;
        let extent = Extent { size: stat.size, sparse: stat.is_sparse() };
        let size = self.copier.copy(source, &target, extent, buffer)?;
        self.size.fetch_add(size, Ordering::Relaxed);
        place.maker.settle(&target, FileKind::File, &attributes)
    }

    fn copy_special(&self, job: &Job, place: &Place<'_>, name: &OsStr) -> io::Result<()> {
        let Job { source, name: from, .. } = job;
        let Place { maker, upper, .. } = place;
        let mut stat = source.stat(from)?;
        restore(source, from, &mut stat, self.view)?;
        let mut attributes = self.options.attributes(&stat);
        make_special(maker, self.view, source, from, &stat, upper, name, &mut attributes)
    }
}

/// Makes what is not a regular file or directory.
#[expect(clippy::too_many_arguments, reason = "both sides are a directory and a name")]
fn make_special(
    maker: &Maker,
    view: View,
    source: &Dir,
    from: &OsStr,
    stat: &Stat,
    upper: &Dir,
    name: &OsStr,
    attributes: &mut Attributes,
) -> io::Result<()> {
    let node = match stat.kind {
        FileKind::Symlink => {
            attributes.xattrs = name_xattrs(source, from, view)?;
            let target = source.read_link(from)?;
            return maker.make_symlink(upper, name, &target, attributes);
        }
        // A socket means nothing without the program that listens; an empty file takes its place.
        FileKind::Socket => {
            let file = upper.create_file(name, 0o600)?;
            return maker.settle(&file, FileKind::File, attributes);
        }
        FileKind::Fifo => Node::Fifo,
        FileKind::CharDevice => Node::CharDevice(stat.node.0, stat.node.1),
        FileKind::BlockDevice => Node::BlockDevice(stat.node.0, stat.node.1),
        FileKind::File | FileKind::Dir => {
            return Err(io::Error::other("the file was exchanged while it was copied"));
        }
    };
    if node == Node::CharDevice(0, 0) {
        return Err(io::Error::other("the character device 0/0 means \"deleted\" in a snapshot"));
    }
    maker.make_node(upper, name, node, attributes)
}

/// Copies one name that is not a directory, with all its attributes.
pub(crate) fn copy_entry(
    maker: &Maker,
    view: View,
    source: &Dir,
    from: &OsStr,
    stat: &Stat,
    upper: &Dir,
    name: &OsStr,
) -> io::Result<()> {
    let mut attributes = Attributes::of_stat(stat);
    if stat.kind != FileKind::File {
        return make_special(maker, view, source, from, stat, upper, name, &mut attributes);
    }
    let file = source.open_file(from)?;
    attributes.xattrs = file_xattrs(&file, view)?;
    let target = upper.create_file(name, 0o600)?;
    let extent = Extent { size: stat.size, sparse: stat.is_sparse() };
    Copier::new().copy(&file, &target, extent, &mut Vec::new())?;
    maker.settle(&target, FileKind::File, &attributes)
}
