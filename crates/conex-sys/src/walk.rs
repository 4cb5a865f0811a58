//! Trees of directories: one after the other in a fixed order, or on several threads at once.
//!
//! Invariant: names come sorted by their bytes, a directory before what is in it, so two walks of
//! equal trees are equal. However deep a tree is, neither the stack nor the number of open
//! descriptors grows with it. Symbolic links are never followed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::dir::{Dir, DirEntry};
use crate::stat::FileKind;

/// Directories kept open on the way down. What is above is opened again from the root when
/// needed; a process may by default have 1,024 descriptors, and several walks run at once.
const OPEN_MAX: usize = 64;

/// Directories waiting for a thread that keep their parent open.
const WAITING_OPEN_MAX: usize = 256;

/// Entries of one directory handed to a thread at once.
const BATCH_LEN: usize = 256;

/// The way from a root down to a directory, all of it reachable, a bounded part of it open.
#[derive(Debug)]
pub struct Descent {
    root: Dir,
    levels: Vec<Level>,
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    dir: Option<Dir>,
    /// Device and inode of a directory that was closed to keep to the bound.
    closed: Option<((u32, u32), u64)>,
    /// Where the name begins in the path.
    name_start: usize,
}

impl Descent {
    /// Starts at a root.
    pub fn new(root: Dir) -> Self {
        Self { root, levels: Vec::new(), path: Vec::new() }
    }

    /// How many levels below the root this is.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The path from the root to here; empty at the root.
    pub fn path(&self) -> &Path {
        Path::new(bytes_as_os(&self.path))
    }

    /// The path from the root to a name here.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path().join(name)
    }

    /// The directory here.
    ///
    /// # Errors
    /// The kernel's, where it has to be opened again.
    pub fn dir(&mut self) -> io::Result<&Dir> {
        let Some(last) = self.levels.len().checked_sub(1) else { return Ok(&self.root) };
        if self.levels.last().is_some_and(|level| level.dir.is_none()) {
            self.open_again(last)?;
        }
        Ok(self.levels.last().and_then(|level| level.dir.as_ref()).unwrap_or(&self.root))
    }

    /// Opens a directory here and goes down into it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let dir = self.dir()?.open_dir(name)?;
        self.enter_open(name, dir);
        Ok(())
    }

    /// Goes down into a directory that is open already.
    pub fn enter_open(&mut self, name: &OsStr, dir: Dir) {
        let name_start = self.path.len();
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(std::os::unix::ffi::OsStrExt::as_bytes(name));
        self.levels.push(Level { dir: Some(dir), closed: None, name_start });
        if let Some(above) = self.levels.len().checked_sub(OPEN_MAX + 1) {
            let level = &mut self.levels[above];
            if let Some(dir) = level.dir.take() {
                // Without an identity the level is opened again from the root.
                level.closed = dir.stat_self().ok().map(|stat| (stat.device, stat.inode));
            }
        }
    }

    /// Goes up one level. At the root nothing happens.
    pub fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        self.path.truncate(level.name_start);
        let (Some(child), Some(above)) = (level.dir, self.levels.last_mut()) else { return };
        if above.dir.is_some() {
            return;
        }
        // `..` is the quick way back up, and right only if nobody moved the child meanwhile.
        let parent = child.open_parent().ok().filter(|parent| {
            parent.stat_self().is_ok_and(|stat| above.closed == Some((stat.device, stat.inode)))
        });
        above.dir = parent;
    }

    /// Opens a level from the nearest one above that is open. The levels between stay open as far
    /// as the bound allows, because the walk comes back to them next.
    fn open_again(&mut self, wanted: usize) -> io::Result<()> {
        let open = self.levels[..wanted].iter().rposition(|level| level.dir.is_some());
        let mut dir = match open.and_then(|at| self.levels[at].dir.clone()) {
            Some(dir) => dir,
            None => self.root.clone(),
        };
        for at in open.map_or(0, |at| at + 1)..=wanted {
            let start = self.levels[at].name_start;
            let start = if start == 0 { 0 } else { start + 1 };
            let end = self.levels.get(at + 1).map_or(self.path.len(), |next| next.name_start);
            dir = dir.open_dir(bytes_as_os(self.path.get(start..end).unwrap_or_default()))?;
            if at + OPEN_MAX > wanted {
                self.levels[at].dir = Some(dir.clone());
            }
        }
        Ok(())
    }
}

fn bytes_as_os(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// What a [`Walker`] meets.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A name in the directory that the walker is in. A directory is walked only where the caller
    /// then calls [`Walker::enter`].
    Entry(DirEntry),
    /// The directory that the walker was in (its path is given) is done; it is in its parent now.
    Left(PathBuf),
}

/// Walks a tree in the order of the names' bytes, entering what the caller wants entered.
#[derive(Debug)]
pub struct Walker {
    descent: Descent,
    waiting: Vec<std::vec::IntoIter<DirEntry>>,
}

impl Walker {
    /// Starts in a directory.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(root: &Dir) -> io::Result<Self> {
        let waiting = vec![root.entries()?.into_iter()];
        Ok(Self { descent: Descent::new(root.clone()), waiting })
    }

    /// Takes one step; none when all is walked.
    pub fn step(&mut self) -> Option<Step> {
        let level = self.waiting.last_mut()?;
        if let Some(entry) = level.next() {
            return Some(Step::Entry(entry));
        }
        self.waiting.pop();
        if self.waiting.is_empty() {
            return None;
        }
        let left = self.descent.path().to_owned();
        self.descent.leave();
        Some(Step::Left(left))
    }

    /// Goes into a directory of the directory that the walker is in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let dir = self.descent.dir()?.open_dir(name)?;
        let entries = dir.entries_once()?;
        self.descent.enter_open(name, dir);
        self.waiting.push(entries.into_iter());
        Ok(())
    }

    /// The directory that the walker is in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dir(&mut self) -> io::Result<&Dir> {
        self.descent.dir()
    }

    /// The path of the directory that the walker is in; empty at the root.
    pub fn path(&self) -> &Path {
        self.descent.path()
    }
}

/// Removes a name with everything below it.
pub(crate) fn remove_tree(parent: &Dir, name: &OsStr) -> io::Result<()> {
    match parent.remove_file(name) {
        Ok(()) => return Ok(()),
        // Linux says the first for a directory, POSIX asks for the second.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::IsADirectory | io::ErrorKind::PermissionDenied
            ) && parent.stat(name)?.is_dir() => {}
        Err(error) => return Err(error),
    }
    let mut descent = Descent::new(parent.clone());
    let mut waiting = vec![enter_to_remove(&mut descent, name)?.into_iter()];
    while let Some(level) = waiting.last_mut() {
        let Some(entry) = level.next() else {
            waiting.pop();
            let name = descent.path().file_name().map(OsStr::to_owned).unwrap_or_default();
            descent.leave();
            descent.dir()?.remove_dir(&name)?;
            continue;
        };
        if entry.kind == FileKind::Dir {
            waiting.push(enter_to_remove(&mut descent, &entry.name)?.into_iter());
        } else {
            descent.dir()?.remove_file(&entry.name)?;
        }
    }
    Ok(())
}

/// Goes into a directory that is to be emptied. An owner other than root first needs the right to.
fn enter_to_remove(descent: &mut Descent, name: &OsStr) -> io::Result<Vec<DirEntry>> {
    let parent = descent.dir()?;
    let stat = parent.stat(name)?;
    if stat.mode & 0o700 != 0o700 {
        // The error that matters, if any, comes with the next call.
        let _ = parent.set_mode(name, 0o700);
    }
    let dir = parent.open_dir(name)?;
    let entries = dir.entries_once()?;
    descent.enter_open(name, dir);
    Ok(entries)
}

/// One name met by [`map_tree`].
#[derive(Debug)]
pub struct Visit<'w> {
    /// The directory that holds the name.
    pub dir: &'w Dir,
    /// The name and its kind.
    pub entry: &'w DirEntry,
    /// The path from the root.
    pub path: &'w Path,
}

/// What [`map_tree`] shall do with a name.
#[derive(Debug)]
pub enum Verdict<T> {
    /// Keep a result for it and, if it is a directory, go into it.
    Take(T),
    /// Keep a result for it and do not go into it.
    TakeOnly(T),
    /// Keep nothing for it but go into it.
    Enter,
    /// Leave it out with everything below it.
    Skip,
}

/// Calls `visit` for the names of a tree on several threads and gives the results in the order of
/// [`Walker`]. The order in which `visit` is called is not fixed.
///
/// # Errors
/// The kernel's, or the first one that `visit` gave; the rest of the work is then dropped.
pub fn map_tree<T: Send>(
    root: &Dir,
    thread_count: usize,
    visit: &(dyn Fn(&Visit<'_>) -> io::Result<Verdict<T>> + Sync),
) -> io::Result<Vec<(PathBuf, T)>> {
    let shared = Shared {
        root,
        state: Mutex::new(State {
            tasks: vec![Task::List { dir: 0, parent: None, path: PathBuf::new() }],
            busy: 0,
            dirs: vec![Vec::new()],
            error: None,
        }),
        changed: Condvar::new(),
        visit,
    };
    std::thread::scope(|scope| {
        for _ in 1..thread_count.max(1) {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    match state.error {
        Some(error) => Err(error),
        None => Ok(in_order(state.dirs)),
    }
}

enum Task {
    /// Open and list a directory.
    List { dir: usize, parent: Option<(Dir, OsString)>, path: PathBuf },
    /// Visit some of the names of a directory.
    Visit { dir: usize, opened: Dir, path: PathBuf, entries: Vec<DirEntry> },
}

/// What came of one name: its result, and the number of its directory where it was entered.
struct Outcome<T> {
    name: OsString,
    result: Option<T>,
    entered: Option<usize>,
}

struct State<T> {
    tasks: Vec<Task>,
    busy: usize,
    dirs: Vec<Vec<Outcome<T>>>,
    error: Option<io::Error>,
}

struct Shared<'w, T> {
    root: &'w Dir,
    state: Mutex<State<T>>,
    changed: Condvar,
    visit: &'w (dyn Fn(&Visit<'_>) -> io::Result<Verdict<T>> + Sync),
}

impl<T: Send> Shared<'_, T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic in another thread is passed on by the scope; the state is whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                break;
            }
            if let Some(task) = state.tasks.pop() {
                state.busy += 1;
                drop(state);
                let guard = BusyGuard(self);
                let done = self.run(task);
                drop(guard);
                state = self.lock();
                if let Err(error) = done {
                    state.error.get_or_insert(error);
                    self.changed.notify_all();
                }
            } else if state.busy == 0 {
                break;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn run(&self, task: Task) -> io::Result<()> {
        match task {
            Task::List { dir, parent, path } => self.list(dir, parent, &path),
            Task::Visit { dir, opened, path, entries } => {
                self.visit_some(dir, &opened, &path, entries)
            }
        }
    }

    fn list(&self, dir: usize, parent: Option<(Dir, OsString)>, path: &Path) -> io::Result<()> {
        let opened = match parent {
            Some((parent, name)) => parent.open_dir(&name)?,
            None => self.open_from_root(path)?,
        };
        let mut entries = opened.entries_once()?;
        // The first part is done here and now, the others by whoever is free.
        while entries.len() > BATCH_LEN {
            let batch = entries.split_off(entries.len() - BATCH_LEN);
            let task =
                Task::Visit { dir, opened: opened.clone(), path: path.to_owned(), entries: batch };
            self.lock().tasks.push(task);
            self.changed.notify_one();
        }
        self.visit_some(dir, &opened, path, entries)
    }

    fn open_from_root(&self, path: &Path) -> io::Result<Dir> {
        let mut dir = self.root.reopen()?;
        for component in path {
            dir = dir.open_dir(component)?;
        }
        Ok(dir)
    }

    fn visit_some(
        &self,
        dir: usize,
        opened: &Dir,
        path: &Path,
        entries: Vec<DirEntry>,
    ) -> io::Result<()> {
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry_path = path.join(&entry.name);
            let visit = Visit { dir: opened, entry: &entry, path: &entry_path };
            let (result, enter) = match (self.visit)(&visit)? {
                Verdict::Take(result) => (Some(result), true),
                Verdict::TakeOnly(result) => (Some(result), false),
                Verdict::Enter => (None, true),
                Verdict::Skip => continue,
            };
            let entered = (enter && entry.kind == FileKind::Dir)
                .then(|| self.wait_for_listing(opened, &entry.name, entry_path));
            outcomes.push(Outcome { name: entry.name, result, entered });
        }
        self.lock().dirs[dir].extend(outcomes);
        Ok(())
    }

    fn wait_for_listing(&self, opened: &Dir, name: &OsStr, path: PathBuf) -> usize {
        let mut state = self.lock();
        let dir = state.dirs.len();
        state.dirs.push(Vec::new());
        let keep_open = state.tasks.len() < WAITING_OPEN_MAX;
        let parent = keep_open.then(|| (opened.clone(), name.to_owned()));
        state.tasks.push(Task::List { dir, parent, path });
        self.changed.notify_one();
        dir
    }
}

/// Counts a thread as idle again, also when `visit` panics: the others must not wait forever.
struct BusyGuard<'s, 'w, T: Send>(&'s Shared<'w, T>);

impl<T: Send> Drop for BusyGuard<'_, '_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.busy -= 1;
        if state.busy == 0 {
            self.0.changed.notify_all();
        }
    }
}

/// Puts the results of all directories into the order of one walk.
fn in_order<T>(mut dirs: Vec<Vec<Outcome<T>>>) -> Vec<(PathBuf, T)> {
    let mut ordered = Vec::new();
    let mut path = PathBuf::new();
    let mut waiting = vec![sorted(&mut dirs, 0)];
    while let Some(level) = waiting.last_mut() {
        let Some(outcome) = level.next() else {
            waiting.pop();
            path.pop();
            continue;
        };
        let here = path.join(&outcome.name);
        if let Some(dir) = outcome.entered {
            waiting.push(sorted(&mut dirs, dir));
            path.clone_from(&here);
        }
        if let Some(result) = outcome.result {
            ordered.push((here, result));
        }
    }
    ordered
}

fn sorted<T>(dirs: &mut [Vec<Outcome<T>>], dir: usize) -> std::vec::IntoIter<Outcome<T>> {
    let mut outcomes = std::mem::take(&mut dirs[dir]);
    outcomes.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    outcomes.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Dir) {
        let top = tempfile::tempdir().unwrap();
        for dir in ["b/x/y", "a", "b-", "skip/inner", "many"] {
            std::fs::create_dir_all(top.path().join(dir)).unwrap();
        }
        for file in ["b/x/y/f", "a/2", "a/10", "b-/z", "skip/inner/f", "c"] {
            std::fs::write(top.path().join(file), file).unwrap();
        }
        for number in 0..1000 {
            std::fs::write(top.path().join(format!("many/{number}")), "").unwrap();
        }
        let dir = Dir::open_ambient(top.path()).unwrap();
        (top, dir)
    }

    fn walked(dir: &Dir) -> Vec<PathBuf> {
        let mut walker = Walker::new(dir).unwrap();
        let mut paths = Vec::new();
        while let Some(step) = walker.step() {
            let Step::Entry(entry) = step else { continue };
            if entry.name == "skip" {
                continue;
            }
            paths.push(walker.path().join(&entry.name));
            if entry.kind == FileKind::Dir {
                walker.enter(&entry.name).unwrap();
            }
        }
        paths
    }

    #[test]
    fn walk_is_sorted_by_bytes_with_directories_first() {
        let (_top, dir) = tree();
        let paths: Vec<_> =
            walked(&dir).into_iter().filter(|path| !path.starts_with("many")).collect();
        let wanted = ["a", "a/10", "a/2", "b", "b/x", "b/x/y", "b/x/y/f", "b-", "b-/z", "c"];
        assert_eq!(paths, wanted.map(PathBuf::from));
    }

    #[test]
    fn threads_give_what_one_walk_gives() {
        let (_top, dir) = tree();
        for thread_count in [1, 2, 7] {
            let mapped = map_tree(&dir, thread_count, &|visit| {
                if visit.entry.name == "skip" {
                    return Ok(Verdict::Skip);
                }
                Ok(Verdict::Take(visit.dir.stat(&visit.entry.name)?.is_dir()))
            });
            let mapped = mapped.unwrap();
            assert!(mapped.iter().any(|(path, is_dir)| path == Path::new("b/x") && *is_dir));
            let paths: Vec<_> = mapped.into_iter().map(|(path, _)| path).collect();
            assert_eq!(paths, walked(&dir));
        }
    }

    #[test]
    fn an_error_in_one_thread_ends_the_work_of_all() {
        let (_top, dir) = tree();
        let failed = map_tree(&dir, 2, &|visit| -> io::Result<Verdict<()>> {
            if visit.entry.name == "777" {
                return Err(io::Error::other("stop"));
            }
            Ok(Verdict::Enter)
        });
        assert_eq!(failed.unwrap_err().to_string(), "stop");
    }

    #[test]
    fn deep_and_bushy_trees_need_few_descriptors() {
        let top = tempfile::tempdir().unwrap();
        let root = Dir::open_ambient(top.path()).unwrap();
        let mut dir = root.clone();
        for _ in 0..3000 {
            // `z` waits while everything below `d` is walked.
            dir.create_dir(OsStr::new("z"), 0o755).unwrap();
            dir.create_dir(OsStr::new("d"), 0o755).unwrap();
            dir = dir.open_dir(OsStr::new("d")).unwrap();
        }
        assert_eq!(walked(&root).len(), 6000);
        let all = map_tree(&root, 2, &|_| Ok(Verdict::Take(()))).unwrap();
        assert_eq!(all.len(), 6000);
        root.remove_tree(OsStr::new("d")).unwrap();
    }
}
