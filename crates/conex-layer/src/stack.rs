//! The layered file view: several snapshot directories seen as one tree, read only.
//!
//! Invariant: what is seen is what overlayfs shows for the same directories: an upper name hides a
//! lower one, directories merge, a whiteout or an opaque directory ends the search. Symbolic links
//! are followed as if the stack were `/` (`chroot` semantics: `..` stops at the root), so no link
//! in an image leads out of it. Nothing is mounted and nothing is written.
//!
//! The snapshots must not be changed by others while a stack reads them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use conex_sys::dir::Dir;
use conex_sys::stat::{FileKind, Stat};

use crate::error::{Error, Result};
use crate::form::{self, Form, HELD_PREFIX, LINK_OWNERS_NAME, LinkOwners, Ownership, Record};

/// Most symbolic links followed in one path, as in the kernel.
pub(crate) const LINKS_MAX: usize = 40;

/// Longest path resolved, with the targets of its links: 1 MiB, a 10,000-deep tree with names of
/// a hundred bytes.
pub(crate) const PATH_LEN_MAX: usize = 1 << 20;

/// Directories of all layers that the cache keeps open; a process may by default have 1,024.
const CACHE_OPEN_MAX: usize = 192;

/// Merged directories kept on the way down a path for its `..`.
const WALK_KEPT_MAX: usize = 16;

/// What happens to a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// It is followed.
    Follow,
    /// It is what the path means.
    Keep,
}

/// Several snapshot directories seen as one tree.
#[derive(Debug)]
pub struct Stack {
    view: View,
    root: Arc<MergedDir>,
    cache: Mutex<Cache>,
}

/// How the marks in directories are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// None: an ordinary tree, where a device 0/0 is a device and an attribute an attribute.
    pub(crate) form: Option<Form>,
}

#[derive(Debug, Default)]
struct Cache {
    /// By the bytes of the path, because comparing paths by component is slow for deep ones.
    dirs: HashMap<Vec<u8>, Arc<MergedDir>>,
    open_count: usize,
}

/// A name in a stack.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is, without symbolic links: relative to the root, which is empty.
    pub path: PathBuf,
    /// What it is, with recorded owners and modes where the snapshot has them.
    pub stat: Stat,
}

/// A name in a merged directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackEntry {
    /// The name.
    pub name: OsString,
    /// The kind of file. A device that is recorded in an attribute shows as a file here.
    pub kind: FileKind,
    /// Which part of the merged directory holds it.
    pub(crate) part: usize,
}

impl Stack {
    /// Stacks snapshot directories, the topmost first.
    pub fn new(layers: Vec<Dir>, form: Form) -> Self {
        Self::of(layers, View { form: Some(form) })
    }

    /// A stack of nothing, below the first layer of an image.
    pub fn empty(form: Form) -> Self {
        Self::new(Vec::new(), form)
    }

    /// Sees an ordinary tree, such as a build context, in the same way.
    pub fn plain(root: Dir) -> Self {
        Self::of(vec![root], View { form: None })
    }

    fn of(layers: Vec<Dir>, view: View) -> Self {
        let root = Arc::new(MergedDir { parts: layers });
        Self { view, root, cache: Mutex::default() }
    }

    /// The stack with one more snapshot on top.
    #[must_use]
    pub fn with_top(&self, top: Dir) -> Self {
        let layers = std::iter::once(top).chain(self.root.parts.iter().cloned()).collect();
        Self::of(layers, self.view)
    }

    /// How many layers there are.
    pub fn layer_count(&self) -> usize {
        self.root.parts.len()
    }

    pub(crate) fn view(&self) -> View {
        self.view
    }

    pub(crate) fn root(&self) -> Arc<MergedDir> {
        self.root.clone()
    }

    /// Finds what a path names; none where there is nothing.
    ///
    /// # Errors
    /// A file stands where the path needs a directory, links go round in a circle, or a directory
    /// cannot be read.
    pub fn find(&self, path: &Path, last: LastLink) -> Result<Option<Found>> {
        Ok(self.locate(path, last)?.map(|located| Found { path: located.path, stat: located.stat }))
    }

    /// The path without symbolic links, relative to the root.
    ///
    /// # Errors
    /// As [`Stack::find`]; also where there is nothing.
    pub fn resolve(&self, path: &Path, last: LastLink) -> Result<PathBuf> {
        Ok(self.require(path, last)?.path)
    }

    /// Stats a path; none where there is nothing.
    ///
    /// # Errors
    /// As [`Stack::find`].
    pub fn stat(&self, path: &Path, last: LastLink) -> Result<Option<Stat>> {
        Ok(self.locate(path, last)?.map(|located| located.stat))
    }

    /// Opens a regular file, following links.
    ///
    /// # Errors
    /// As [`Stack::find`]; also where there is nothing or something else than a regular file.
    pub fn open(&self, path: &Path) -> Result<File> {
        let located = self.require(path, LastLink::Follow)?;
        if located.stat.kind != FileKind::File {
            return Err(Error::unsupported(format!("`{}` is not a regular file", path.display())));
        }
        located.dir.open_file(&located.name).map_err(|error| Error::at("cannot open", path, error))
    }

    /// Reads a regular file of at most `size_max` bytes, following links; none where there is
    /// nothing.
    ///
    /// # Errors
    /// As [`Stack::open`]; also where the file is larger.
    pub fn read(&self, path: &Path, size_max: u64) -> Result<Option<Vec<u8>>> {
        if self.locate(path, LastLink::Follow)?.is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let file = self.open(path)?;
        file.take(size_max.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Error::at("cannot read", path, error))?;
        if bytes.len() as u64 > size_max {
            let path = path.display();
            return Err(Error::limit(format!("`{path}` has more than {size_max} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Reads a symbolic link.
    ///
    /// # Errors
    /// As [`Stack::find`]; also where there is no link.
    pub fn read_link(&self, path: &Path) -> Result<OsString> {
        let located = self.require(path, LastLink::Keep)?;
        located.dir.read_link(&located.name).map_err(|e| Error::at("cannot read link", path, e))
    }

    /// Lists a directory, sorted by the bytes of the names.
    ///
    /// # Errors
    /// As [`Stack::find`]; also where there is no directory.
    pub fn read_dir(&self, path: &Path) -> Result<Vec<StackEntry>> {
        self.dir(path)?.entries(self.view).map_err(|error| Error::at("cannot list", path, error))
    }

    /// The extended attributes that belong into a layer; a symbolic link at the end is not
    /// followed.
    ///
    /// # Errors
    /// As [`Stack::find`].
    pub fn xattrs(&self, path: &Path) -> Result<Vec<(OsString, Vec<u8>)>> {
        let located = self.require(path, LastLink::Keep)?;
        let read = if located.name.is_empty() {
            file_xattrs(&located.dir, self.view)
        } else {
            name_xattrs(&located.dir, &located.name, self.view)
        };
        read.map_err(|error| Error::at("cannot read attributes of", path, error))
    }

    /// The merged directory at a path, following links.
    pub(crate) fn dir(&self, path: &Path) -> Result<Arc<MergedDir>> {
        match Walk::run(self, path, LastLink::Follow)? {
            Walked::Dir(_, dir) => Ok(dir),
            Walked::Name(_) => Err(Error::conflict(path, "a file", "a directory")),
            Walked::Nothing => Err(Error::not_found(path)),
        }
    }

    fn require(&self, path: &Path, last: LastLink) -> Result<Located> {
        self.locate(path, last)?.ok_or_else(|| Error::not_found(path))
    }

    fn locate(&self, path: &Path, last: LastLink) -> Result<Option<Located>> {
        match Walk::run(self, path, last)? {
            Walked::Nothing => Ok(None),
            Walked::Name(located) => Ok(Some(located)),
            Walked::Dir(path, dir) => {
                let Some(top) = dir.parts.first() else { return Ok(None) };
                let stat =
                    dir_stat(top, self.view).map_err(|e| Error::at("cannot stat", &path, e))?;
                Ok(Some(Located { path, stat, dir: top.clone(), name: OsString::new() }))
            }
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Only whole entries are ever in the map, so a panic elsewhere leaves it usable.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cached(&self, path: &[u8]) -> Option<Arc<MergedDir>> {
        if path.is_empty() {
            return Some(self.root.clone());
        }
        self.cache().dirs.get(path).cloned()
    }

    fn keep(&self, path: &Path, dir: &Arc<MergedDir>) {
        let mut cache = self.cache();
        if cache.open_count + dir.parts.len() > CACHE_OPEN_MAX {
            *cache = Cache::default();
        }
        cache.open_count += dir.parts.len();
        cache.dirs.insert(path.as_os_str().as_bytes().to_vec(), dir.clone());
    }
}

/// Where a walk ended.
struct Located {
    path: PathBuf,
    stat: Stat,
    dir: Dir,
    /// Empty where `dir` is meant itself.
    name: OsString,
}

enum Walked {
    Nothing,
    Name(Located),
    Dir(PathBuf, Arc<MergedDir>),
}

/// The state of a path on its way through the stack.
struct Walk<'s> {
    stack: &'s Stack,
    wanted: &'s Path,
    /// Where we are, without links.
    path: PathBuf,
    /// The merged directories down to here, the last few of them.
    kept: Vec<Arc<MergedDir>>,
    /// What is still to be walked, the next component last.
    todo: Vec<OsString>,
    links_left: usize,
    bytes_left: usize,
}

impl<'s> Walk<'s> {
    fn run(stack: &'s Stack, path: &'s Path, last: LastLink) -> Result<Walked> {
        let mut walk = Self {
            stack,
            wanted: path,
            path: PathBuf::new(),
            kept: vec![stack.root.clone()],
            todo: Vec::new(),
            links_left: LINKS_MAX,
            bytes_left: PATH_LEN_MAX,
        };
        if !walk.start_from_cache(path.as_os_str().as_bytes()) {
            walk.plan(path.as_os_str())?;
        }
        while let Some(component) = walk.todo.pop() {
            if component == ".." {
                walk.ascend()?;
            } else if let Some(end) = walk.step(&component, last)? {
                return Ok(end);
            }
        }
        let here = walk.here();
        if here.parts.is_empty() {
            return Ok(Walked::Nothing);
        }
        Ok(Walked::Dir(walk.path, here))
    }

    fn plan(&mut self, path: &OsStr) -> Result<()> {
        let bytes = path.as_bytes();
        let left = self.bytes_left.checked_sub(bytes.len());
        self.bytes_left = left.ok_or_else(|| Error::too_many_links(self.wanted))?;
        if bytes.first() == Some(&b'/') {
            self.path.clear();
            self.kept = vec![self.stack.root.clone()];
        }
        let names = bytes.split(|byte| *byte == b'/').rev();
        let names = names.filter(|name| !matches!(*name, b"" | b"."));
        self.todo.extend(names.map(|name| OsStr::from_bytes(name).to_owned()));
        Ok(())
    }

    /// Skips the way to the parent where that is known. Known paths have no links and nothing
    /// else to be resolved, so one that is found as it stands needs no look at its parts.
    fn start_from_cache(&mut self, path: &[u8]) -> bool {
        let Some(slash) = path.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0) else {
            return false;
        };
        let (parent, name) = (path.get(..slash), path.get(slash + 1..));
        let (Some(parent), Some(name)) = (parent, name) else { return false };
        if matches!(name, b"" | b"." | b"..") {
            return false;
        }
        let Some(dir) = self.stack.cached(parent) else { return false };
        self.todo.push(OsStr::from_bytes(name).to_owned());
        self.path = PathBuf::from(OsStr::from_bytes(parent));
        self.kept = vec![dir];
        true
    }

    fn here(&self) -> Arc<MergedDir> {
        self.kept.last().unwrap_or(&self.stack.root).clone()
    }

    fn ascend(&mut self) -> Result<()> {
        if !self.path.pop() {
            return Ok(());
        }
        self.kept.pop();
        if self.kept.is_empty() {
            let mut dir = self.stack.root.clone();
            for name in &self.path {
                let next = dir.enter(name, self.stack.view);
                let next = next.map_err(|e| Error::at("cannot open", &self.path, e))?;
                dir = Arc::new(next.ok_or_else(|| Error::not_found(&self.path))?);
                self.kept.push(dir.clone());
                if self.kept.len() > WALK_KEPT_MAX {
                    self.kept.remove(0);
                }
            }
            if self.path.as_os_str().is_empty() {
                self.kept.push(dir);
            }
        }
        Ok(())
    }

    fn step(&mut self, name: &OsStr, last: LastLink) -> Result<Option<Walked>> {
        let path = self.path.join(name);
        let fail = |error| Error::at("cannot look up", &path, error);
        let view = self.stack.view;
        let here = self.here();
        // Most components are directories, which one call per layer opens.
        let entered = match self.stack.cached(path.as_os_str().as_bytes()) {
            Some(dir) => Some(dir),
            None => match here.enter(name, view).map_err(fail)? {
                Some(dir) => {
                    let dir = Arc::new(dir);
                    self.stack.keep(&path, &dir);
                    Some(dir)
                }
                None => None,
            },
        };
        if let Some(dir) = entered {
            self.path = path;
            self.kept.push(dir);
            if self.kept.len() > WALK_KEPT_MAX {
                self.kept.remove(0);
            }
            return Ok(None);
        }
        let Some((part, stat)) = here.lookup(name, view).map_err(fail)? else {
            return Ok(Some(Walked::Nothing));
        };
        let dir = part.clone();
        if stat.kind == FileKind::Symlink && (!self.todo.is_empty() || last == LastLink::Follow) {
            let left = self.links_left.checked_sub(1);
            self.links_left = left.ok_or_else(|| Error::too_many_links(self.wanted))?;
            let target = dir.read_link(name).map_err(fail)?;
            self.plan(&target)?;
            return Ok(None);
        }
        if !self.todo.is_empty() {
            // POSIX says "not a directory"; for a reader there is simply nothing there.
            return Ok(Some(Walked::Nothing));
        }
        Ok(Some(Walked::Name(Located { path, stat, dir, name: name.to_owned() })))
    }
}

/// One directory as it is in each layer that has it, the topmost first.
#[derive(Debug)]
pub(crate) struct MergedDir {
    pub(crate) parts: Vec<Dir>,
}

impl MergedDir {
    /// Goes into a directory; none where there is no such directory.
    pub(crate) fn enter(&self, name: &OsStr, view: View) -> io::Result<Option<Self>> {
        let mut parts = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            match part.open_dir(name) {
                Ok(dir) => {
                    let is_last = at + 1 == self.parts.len();
                    let ends = !is_last && is_opaque(&dir, view)?;
                    parts.push(dir);
                    if ends {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // A file, a link or a whiteout hides what is below.
                Err(error) if conex_sys::dir::is_not_a_dir(&error) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok((!parts.is_empty()).then_some(Self { parts }))
    }

    /// Finds a name of any kind, and the layer's directory that holds it.
    pub(crate) fn lookup(&self, name: &OsStr, view: View) -> io::Result<Option<(&Dir, Stat)>> {
        for part in &self.parts {
            let Some(mut stat) = part.stat_if_there(name)? else { continue };
            if view.form.is_some() && stat.is_whiteout() {
                return Ok(None);
            }
            restore(part, name, &mut stat, view)?;
            return Ok(Some((part, stat)));
        }
        Ok(None)
    }

    /// Whether a directory of this name is in some layer and visible.
    pub(crate) fn has_dir(&self, name: &OsStr, view: View) -> io::Result<bool> {
        Ok(self.lookup(name, view)?.is_some_and(|(_, stat)| stat.is_dir()))
    }

    /// Lists the names, sorted by their bytes.
    pub(crate) fn entries(&self, view: View) -> io::Result<Vec<StackEntry>> {
        if let ([only], None) = (self.parts.as_slice(), view.form) {
            let entries = only.entries()?.into_iter();
            return Ok(entries
                .map(|entry| StackEntry { name: entry.name, kind: entry.kind, part: 0 })
                .collect());
        }
        let mut merged: BTreeMap<OsString, Option<StackEntry>> = BTreeMap::new();
        for (part, dir) in self.parts.iter().enumerate() {
            for entry in dir.entries()? {
                if merged.contains_key(&entry.name) {
                    continue;
                }
                let hidden = view.form.is_some()
                    && entry.kind == FileKind::CharDevice
                    && dir.stat_if_there(&entry.name)?.is_none_or(|stat| stat.is_whiteout());
                let shown = (!hidden).then(|| StackEntry {
                    name: entry.name.clone(),
                    kind: entry.kind,
                    part,
                });
                merged.insert(entry.name, shown);
            }
        }
        Ok(merged.into_values().flatten().collect())
    }
}

/// Whether a directory hides what is below it.
pub(crate) fn is_opaque(dir: &Dir, view: View) -> io::Result<bool> {
    let Some(form) = view.form else { return Ok(false) };
    Ok(conex_sys::xattr::get(dir, form.opaque_name())?.as_deref() == Some(b"y"))
}

/// Stats a directory of a snapshot, with what is recorded.
pub(crate) fn dir_stat(dir: &Dir, view: View) -> io::Result<Stat> {
    let mut stat = dir.stat_self()?;
    if is_recorded(view) {
        let record = conex_sys::xattr::get(dir, OsStr::new(RECORD))?;
        match record.as_deref().and_then(Record::parse) {
            Some(record) => record.apply(&mut stat),
            None => form::unrecorded(&mut stat),
        }
    }
    Ok(stat)
}

const RECORD: &str = form::RECORD_NAME;

fn is_recorded(view: View) -> bool {
    view.form.is_some_and(|form| form.ownership == Ownership::Recorded)
}

/// Puts what is recorded for a name in the place of what the kernel says.
pub(crate) fn restore(dir: &Dir, name: &OsStr, stat: &mut Stat, view: View) -> io::Result<()> {
    if !is_recorded(view) {
        return Ok(());
    }
    match stat.kind {
        FileKind::File | FileKind::Dir => {
            let record = dir.xattr(name, OsStr::new(RECORD))?;
            match record.as_deref().and_then(Record::parse) {
                Some(record) => record.apply(stat),
                None => form::unrecorded(stat),
            }
        }
        _ => {
            form::unrecorded(stat);
            let owners = conex_sys::xattr::get(dir, OsStr::new(LINK_OWNERS_NAME))?;
            if let Some(owner) = owners.and_then(|text| LinkOwners::parse(&text).of(name)) {
                (stat.uid, stat.gid) = owner;
            }
        }
    }
    Ok(())
}

/// Reads the attributes of an open file or directory that belong into a layer, sorted by name.
pub(crate) fn file_xattrs(
    file: impl std::os::fd::AsFd + Copy,
    view: View,
) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let names = conex_sys::xattr::list(file)?;
    select_xattrs(names, view, |name| conex_sys::xattr::get(file, name))
}

/// As [`file_xattrs`], for a name in a directory.
pub(crate) fn name_xattrs(
    dir: &Dir,
    name: &OsStr,
    view: View,
) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let names = dir.xattr_names(name)?;
    select_xattrs(names, view, |attribute| dir.xattr(name, attribute))
}

pub(crate) fn select_xattrs(
    names: Vec<OsString>,
    view: View,
    mut read: impl FnMut(&OsStr) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut found = Vec::new();
    for name in names {
        // An attribute that could not be set stands under a longer name.
        let held = name.as_bytes().strip_prefix(HELD_PREFIX.as_bytes());
        let meant = match held {
            Some(held) if view.form.is_some() => OsStr::from_bytes(held).to_owned(),
            _ => name.clone(),
        };
        if form::belongs_in_layer(&meant)
            && let Some(value) = read(&name)?
        {
            found.push((meant, value));
        }
    }
    found.sort_unstable();
    Ok(found)
}
