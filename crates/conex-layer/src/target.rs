//! A snapshot being written on top of others.
//!
//! A [`Target`] is an upper directory and the [`Stack`] below it. Paths given to it are those of
//! the image: their parents are looked up in the merged view, symbolic links are followed inside
//! it, and what has to be changed in a lower directory is copied up first, so that the upper
//! directory afterwards is what overlayfs would have made of the same changes.
//!
//! Invariant: only the upper directory is written to, only through descriptors of directories that
//! were opened in it one name at a time without following links. A hostile link in the image can
//! make a file land elsewhere in the image, never outside.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_sys::dir::{Dir, Node};
use conex_sys::stat::{FileKind, Stat, Time};

use crate::attributes::{Attributes, Maker, record_link_owner};
use crate::error::{Error, Result};
use crate::form::{Form, Ownership};
use crate::stack::{
    LINKS_MAX, LastLink, MergedDir, PATH_LEN_MAX, Stack, View, dir_stat, file_xattrs, is_opaque,
    restore,
};

/// Directories kept open, counting those of all layers; a process may by default have 1,024.
const OPEN_MAX: usize = 192;

/// Directories kept on the way down a path for its `..`.
const WALK_KEPT_MAX: usize = 16;

/// A snapshot being written on top of others.
#[derive(Debug)]
pub struct Target {
    upper: Dir,
    lower: Stack,
    pub(crate) maker: Maker,
    root: Arc<TargetDir>,
    /// By the bytes of the path with a slash at the end, so that a directory and all below it
    /// stand together.
    dirs: BTreeMap<Vec<u8>, Arc<TargetDir>>,
    open_count: usize,
    /// Directories that were copied up and the times they had, while somebody wants to know.
    copied_up: Option<Vec<(PathBuf, Time)>>,
    /// Files that were copied up, meanwhile, because they got another name.
    linked_up: BTreeSet<PathBuf>,
    followed_link: bool,
}

/// One directory of the image while it is written to.
#[derive(Debug)]
pub(crate) struct TargetDir {
    /// Its path without symbolic links, relative to the root.
    pub(crate) path: PathBuf,
    /// The directory in the snapshot, once it is there.
    pub(crate) upper: Option<Dir>,
    /// What is below it; none where nothing is, or nothing shows through.
    pub(crate) lower: Option<Arc<MergedDir>>,
    /// Made by this target, so that whoever counts what was put into it knows all that is in it.
    pub(crate) is_new: bool,
}

/// Where a path led.
#[derive(Debug)]
pub(crate) struct Walked {
    /// The last directory that is there.
    pub(crate) dir: Arc<TargetDir>,
    /// The names after it: nothing if the path means the directory, one name that may be there
    /// and is not a directory (or a link that is kept), or several that are not there.
    pub(crate) rest: Vec<OsString>,
}

/// What may be done about a file of another kind at the place where one is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// A directory in place of a file, or the other way round, is an error (`COPY`, `ADD`).
    SameKind,
    /// Whatever is there goes away (layers and archives).
    Anything,
}

impl Target {
    /// Writes into `upper`, an empty or earlier written snapshot directory, on top of `lower`.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(upper: Dir, lower: Stack, form: Form) -> Result<Self> {
        upper.stat_self().map_err(|error| Error::at("cannot use", Path::new("/"), error))?;
        let below = lower.root();
        let root = Arc::new(TargetDir {
            path: PathBuf::new(),
            upper: Some(upper.clone()),
            lower: (!below.parts.is_empty()).then_some(below),
            is_new: false,
        });
        let maker = Maker { form, makes: Some(conex_sys::stat::effective_ids()) };
        Ok(Self {
            upper,
            lower,
            maker,
            root,
            dirs: BTreeMap::new(),
            open_count: 0,
            copied_up: None,
            linked_up: BTreeSet::new(),
            followed_link: false,
        })
    }

    /// The snapshot directory.
    pub fn upper(&self) -> &Dir {
        &self.upper
    }

    /// The snapshots below.
    pub fn lower(&self) -> &Stack {
        &self.lower
    }

    /// The form of the snapshots.
    pub fn form(&self) -> Form {
        self.maker.form
    }

    /// Whether a symbolic link was on the way to anything so far.
    pub fn followed_link(&self) -> bool {
        self.followed_link
    }

    fn view(&self) -> View {
        View { form: Some(self.maker.form) }
    }

    /// The merged view as it is now, for reading.
    pub fn merged(&self) -> Stack {
        self.lower.with_top(self.upper.clone())
    }

    /// The path without symbolic links, relative to the root. Names that are not there yet stay
    /// as they are.
    ///
    /// # Errors
    /// A file stands where the path needs a directory, or links go round in a circle.
    pub fn resolve(&mut self, path: &Path, last: LastLink) -> Result<PathBuf> {
        let walked = self.walk(path, last)?;
        let mut resolved = walked.dir.path.clone();
        resolved.extend(walked.rest);
        Ok(resolved)
    }

    /// Stats a path in the merged view; none where there is nothing.
    ///
    /// # Errors
    /// As [`Target::resolve`].
    pub fn stat(&mut self, path: &Path, last: LastLink) -> Result<Option<Stat>> {
        let walked = self.walk(path, last)?;
        match walked.rest.as_slice() {
            [] => {
                let dir = &walked.dir;
                let below = dir.lower.as_ref().and_then(|lower| lower.parts.first());
                let Some(top) = dir.upper.as_ref().or(below) else { return Ok(None) };
                let stat = dir_stat(top, self.view());
                Ok(Some(stat.map_err(|error| Error::at("cannot stat", path, error))?))
            }
            [name] => self.lookup(&walked.dir, name),
            _ => Ok(None),
        }
    }

    /// Makes a directory and those above it that are missing. Directories that are there stay as
    /// they are; new ones get the attributes. Gives the paths of the new ones, the topmost first.
    ///
    /// # Errors
    /// A file is in the way, or the kernel's.
    pub fn make_dirs(&mut self, path: &Path, attributes: &Attributes) -> Result<Vec<PathBuf>> {
        Ok(self.make_dirs_open(path, attributes)?.1)
    }

    pub(crate) fn make_dirs_open(
        &mut self,
        path: &Path,
        attributes: &Attributes,
    ) -> Result<(Arc<TargetDir>, Vec<PathBuf>)> {
        let walked = self.walk(path, LastLink::Follow)?;
        let mut dir = self.in_upper(&walked.dir)?;
        let mut made = Vec::new();
        for name in walked.rest {
            if self.lookup(&dir, &name)?.is_some() {
                return Err(Error::conflict(&dir.path.join(&name), "a file", "a directory"));
            }
            dir = self.make_dir_in(&dir, &name, attributes)?;
            made.push(dir.path.clone());
        }
        Ok((dir, made))
    }

    /// Puts a directory with these attributes; one that is there keeps its content and gets them.
    /// Missing parents are made with mode 0755, owned by root.
    ///
    /// # Errors
    /// Something that is not a directory is there and may not be replaced, or the kernel's.
    pub fn put_dir(
        &mut self,
        path: &Path,
        attributes: &Attributes,
        replace: Replace,
    ) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let Some(name) = name else {
            let upper = upper_of(&parent)?;
            let maker = Maker { makes: None, ..self.maker };
            let settled = maker.settle(upper, FileKind::Dir, attributes);
            return settled.map_err(|error| Error::at("cannot change", path, error));
        };
        self.put_dir_in(&parent, &name, attributes, replace)?;
        Ok(())
    }

    /// Puts a regular file with this content. Gives its size.
    ///
    /// # Errors
    /// A directory is there and may not be replaced, the content cannot be read, or the kernel's.
    pub fn put_file(
        &mut self,
        path: &Path,
        attributes: &Attributes,
        content: &mut dyn Read,
        replace: Replace,
    ) -> Result<u64> {
        let (parent, name) = self.place_name(path)?;
        self.clear(&parent, &name, replace)?;
        let fail = |error| Error::at("cannot write", path, error);
        let upper = upper_of(&parent)?;
        let mut file = upper.create_file(&name, 0o600).map_err(fail)?;
        let size = io::copy(content, &mut file).map_err(fail)?;
        let maker = self.maker.in_dir(upper).map_err(fail)?;
        maker.settle(&file, FileKind::File, attributes).map_err(fail)?;
        Ok(size)
    }

    /// Puts a symbolic link; the target is any text.
    ///
    /// # Errors
    /// As [`Target::put_file`].
    pub fn put_symlink(
        &mut self,
        path: &Path,
        target: &OsStr,
        attributes: &Attributes,
        replace: Replace,
    ) -> Result<()> {
        let (parent, name) = self.place_name(path)?;
        self.clear(&parent, &name, replace)?;
        let upper = upper_of(&parent)?;
        let made = self.maker.in_dir(upper);
        made.and_then(|maker| maker.make_symlink(upper, &name, target, attributes))
            .map_err(|error| Error::at("cannot make the link", path, error))
    }

    /// Puts a device, pipe or socket.
    ///
    /// # Errors
    /// As [`Target::put_file`].
    pub fn put_node(
        &mut self,
        path: &Path,
        node: Node,
        attributes: &Attributes,
        replace: Replace,
    ) -> Result<()> {
        if node == Node::CharDevice(0, 0) {
            // It would mean "deleted" to every reader of the snapshot.
            let path = path.display();
            return Err(Error::unsupported(format!("`{path}` is the character device 0/0")));
        }
        let (parent, name) = self.place_name(path)?;
        self.clear(&parent, &name, replace)?;
        let upper = upper_of(&parent)?;
        let made = self.maker.in_dir(upper);
        made.and_then(|maker| maker.make_node(upper, &name, node, attributes))
            .map_err(|error| Error::at("cannot make the device", path, error))
    }

    /// Gives the file at `existing` another name. A file of a lower layer is copied up first. The
    /// parents of both are looked up in the merged view; a link at the end is not followed.
    ///
    /// # Errors
    /// There is no such file, it is a directory, or as [`Target::put_file`].
    pub fn put_hard_link(&mut self, path: &Path, existing: &Path, replace: Replace) -> Result<()> {
        let source = self.walk(existing, LastLink::Keep)?;
        let [of] = source.rest.as_slice() else {
            return Err(match source.rest.is_empty() {
                true => Error::conflict(existing, "a directory", "a hard link to a file"),
                false => Error::not_found(existing),
            });
        };
        let source_dir = self.copy_up(&source.dir, of)?;
        let (parent, name) = self.place_name(path)?;
        let fail = |error| Error::at("cannot link", path, error);
        let from = upper_of(&source_dir)?;
        let to = upper_of(&parent)?;
        if let Some(there) = to.stat_if_there(&name).map_err(fail)?
            && there.same_inode(&from.stat(of).map_err(fail)?)
        {
            return Ok(());
        }
        self.clear(&parent, &name, replace)?;
        to.create_hard_link(&name, from, of).map_err(fail)?;
        // What is recorded by name has to be recorded for the new one too.
        let mut stat = to.stat(&name).map_err(fail)?;
        let is_by_name = !matches!(stat.kind, FileKind::File | FileKind::Dir);
        if is_by_name && self.maker.form.ownership == Ownership::Recorded {
            restore(from, of, &mut stat, self.view()).map_err(fail)?;
            record_link_owner(to, &name, (stat.uid, stat.gid)).map_err(fail)?;
        }
        Ok(())
    }

    /// Removes a path with everything below it: from the snapshot, and with a whiteout what lower
    /// layers have. A symbolic link at the end is removed itself. Nothing happens where there is
    /// nothing.
    ///
    /// # Errors
    /// The path is the root, or the kernel's.
    pub fn remove(&mut self, path: &Path) -> Result<()> {
        let walked = self.walk(path, LastLink::Keep)?;
        let (dir, name) = match walked.rest.as_slice() {
            [name] => (walked.dir, name.clone()),
            [] => match (walked.dir.path.parent(), walked.dir.path.file_name()) {
                (Some(parent), Some(name)) => {
                    let (parent, name) = (parent.to_owned(), name.to_owned());
                    (self.walk(&parent, LastLink::Follow)?.dir, name)
                }
                _ => return Err(Error::conflict(Path::new("/"), "the root", "nothing")),
            },
            _ => return Ok(()),
        };
        self.remove_in(&dir, &name)
    }

    pub(crate) fn remove_in(&mut self, dir: &Arc<TargetDir>, name: &OsStr) -> Result<()> {
        let path = dir.path.join(name);
        let fail = |error| Error::at("cannot remove", &path, error);
        if let Some(upper) = &dir.upper
            && let Some(stat) = upper.stat_if_there(name).map_err(fail)?
        {
            if stat.is_whiteout() {
                return Ok(());
            }
            upper.remove_tree(name).map_err(fail)?;
            self.forget_below(&path, stat.is_dir());
        }
        let view = self.view();
        let is_below = match &dir.lower {
            Some(lower) => lower.lookup(name, view).map_err(fail)?.is_some(),
            None => false,
        };
        if is_below {
            let dir = self.in_upper(dir)?;
            self.forget_below(&path, true);
            upper_of(&dir)?.create_node(name, Node::CharDevice(0, 0), 0).map_err(fail)?;
        }
        Ok(())
    }

    /// Hides everything that lower layers have in a directory of the snapshot.
    pub(crate) fn make_opaque(&mut self, dir: &Arc<TargetDir>) -> Result<Arc<TargetDir>> {
        if dir.lower.is_none() {
            return Ok(dir.clone());
        }
        let dir = self.in_upper(dir)?;
        let upper = upper_of(&dir)?;
        set_opaque(upper, self.maker.form).map_err(|e| Error::at("cannot mark", &dir.path, e))?;
        // Directories below may still think that they have something under them.
        self.forget_below(&dir.path, true);
        let opaque = TargetDir {
            path: dir.path.clone(),
            upper: dir.upper.clone(),
            lower: None,
            is_new: dir.is_new,
        };
        Ok(self.keep(opaque))
    }

    /// Starts to remember which directories are copied up, and the times that they had.
    pub(crate) fn begin_copy_up_record(&mut self) {
        self.copied_up = Some(Vec::new());
    }

    pub(crate) fn end_copy_up_record(&mut self) -> Vec<(PathBuf, Time)> {
        self.linked_up.clear();
        self.copied_up.take().unwrap_or_default()
    }

    /// Whether a hard link brought files of lower layers into the snapshot.
    pub(crate) fn has_linked_up(&self) -> bool {
        !self.linked_up.is_empty()
    }

    /// The snapshot has the path of its own now.
    pub(crate) fn keep_linked_up(&mut self, path: &Path) {
        self.linked_up.remove(path);
    }

    /// Hides the files again that a hard link brought to a path, or below it. Gives whether there
    /// were any.
    pub(crate) fn hide_linked_up(&mut self, top: &Path) -> Result<bool> {
        let at_or_below = self.linked_up.range(top.to_owned()..);
        let found: Vec<PathBuf> =
            at_or_below.take_while(|path| path.starts_with(top)).cloned().collect();
        for path in &found {
            self.linked_up.remove(path);
            let walked = self.walk(path, LastLink::Keep)?;
            if let [name] = walked.rest.as_slice() {
                self.remove_in(&walked.dir, name)?;
            }
        }
        Ok(!found.is_empty())
    }

    /// Finds the directory that a path's last name is in, making missing parents.
    fn place(&mut self, path: &Path) -> Result<(Arc<TargetDir>, Option<OsString>)> {
        let mut walked = self.walk(path, LastLink::Keep)?;
        let Some(name) = walked.rest.pop() else {
            // The path is a directory that is there: give its parent and its name, if it has one.
            let name = walked.dir.path.file_name().map(OsStr::to_owned);
            let parent = walked.dir.path.parent().map(Path::to_owned);
            let (Some(name), Some(parent)) = (name, parent) else {
                return Ok((self.in_upper(&walked.dir)?, None));
            };
            let parent = self.walk(&parent, LastLink::Keep)?.dir;
            return Ok((self.in_upper(&parent)?, Some(name)));
        };
        let mut dir = self.in_upper(&walked.dir)?;
        for missing in walked.rest {
            dir = self.make_dir_in(&dir, &missing, &Attributes::with_mode(0o755))?;
        }
        Ok((dir, Some(name)))
    }

    fn place_name(&mut self, path: &Path) -> Result<(Arc<TargetDir>, OsString)> {
        match self.place(path)? {
            (dir, Some(name)) => Ok((dir, name)),
            _ => Err(Error::conflict(path, "the root directory", "a file")),
        }
    }

    /// Takes away what is at a name of a directory in the snapshot, for a file to be put there.
    pub(crate) fn clear(
        &mut self,
        dir: &Arc<TargetDir>,
        name: &OsStr,
        replace: Replace,
    ) -> Result<()> {
        let path = dir.path.join(name);
        let fail = |error| Error::at("cannot replace", &path, error);
        let upper = upper_of(dir)?;
        let there = upper.stat_if_there(name).map_err(fail)?;
        if replace == Replace::SameKind {
            let is_dir = match (&there, &dir.lower) {
                (Some(stat), _) => stat.is_dir(),
                (None, Some(lower)) => lower.has_dir(name, self.view()).map_err(fail)?,
                (None, None) => false,
            };
            if is_dir {
                return Err(Error::conflict(&path, "a directory", "a file"));
            }
        }
        let Some(stat) = there else {
            // A lower directory is hidden by the file; its handles must not be used any more.
            if dir.lower.is_some() {
                self.forget_below(&path, true);
            }
            return Ok(());
        };
        if stat.is_dir() {
            upper.remove_tree(name).map_err(fail)?;
            self.forget_below(&path, true);
        } else {
            upper.remove_file(name).map_err(fail)?;
        }
        Ok(())
    }

    /// Makes a directory where none is visible.
    pub(crate) fn make_dir_in(
        &mut self,
        dir: &Arc<TargetDir>,
        name: &OsStr,
        attributes: &Attributes,
    ) -> Result<Arc<TargetDir>> {
        let path = dir.path.join(name);
        let fail = |error| Error::at("cannot make the directory", &path, error);
        let dir = self.in_upper(dir)?;
        let upper = upper_of(&dir)?;
        let hides = match upper.create_dir(name, 0o700) {
            Ok(()) => false,
            // A whiteout: what it hid must stay hidden.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                upper.remove_file(name).map_err(fail)?;
                upper.create_dir(name, 0o700).map_err(fail)?;
                true
            }
            Err(error) => return Err(fail(error)),
        };
        let made = upper.open_dir(name).map_err(fail)?;
        if hides && dir.lower.is_some() {
            set_opaque(&made, self.maker.form).map_err(fail)?;
        }
        let maker = self.maker.in_dir(upper).map_err(fail)?;
        maker.settle(&made, FileKind::Dir, attributes).map_err(fail)?;
        Ok(self.keep(TargetDir { path, upper: Some(made), lower: None, is_new: true }))
    }

    pub(crate) fn put_dir_in(
        &mut self,
        dir: &Arc<TargetDir>,
        name: &OsStr,
        attributes: &Attributes,
        replace: Replace,
    ) -> Result<Arc<TargetDir>> {
        let path = dir.path.join(name);
        let fail = |error| Error::at("cannot put the directory", &path, error);
        match self.lookup(dir, name)? {
            None => self.make_dir_in(dir, name, attributes),
            Some(stat) if stat.is_dir() => {
                let child = self.child(dir, name)?.ok_or_else(|| Error::not_found(&path))?;
                let child = self.in_upper(&child)?;
                let maker = Maker { makes: None, ..self.maker };
                maker.settle(upper_of(&child)?, FileKind::Dir, attributes).map_err(fail)?;
                Ok(child)
            }
            Some(_) if replace == Replace::SameKind => {
                Err(Error::conflict(&path, "a file", "a directory"))
            }
            Some(_) => {
                let dir = self.in_upper(dir)?;
                // Removing leaves a whiteout where a lower layer has something, and a directory
                // made over a whiteout is opaque: what was below the file must not show.
                if upper_of(&dir)?.stat_if_there(name).map_err(fail)?.is_some() {
                    self.remove_in(&dir, name)?;
                }
                self.make_dir_in(&dir, name, attributes)
            }
        }
    }

    /// Finds a name in a directory, in the snapshot or below.
    pub(crate) fn lookup(&self, dir: &TargetDir, name: &OsStr) -> Result<Option<Stat>> {
        let view = self.view();
        let find = || -> io::Result<Option<Stat>> {
            if let Some(upper) = &dir.upper
                && let Some(mut stat) = upper.stat_if_there(name)?
            {
                if stat.is_whiteout() {
                    return Ok(None);
                }
                restore(upper, name, &mut stat, view)?;
                return Ok(Some(stat));
            }
            match &dir.lower {
                Some(lower) => Ok(lower.lookup(name, view)?.map(|(_, stat)| stat)),
                None => Ok(None),
            }
        };
        find().map_err(|error| Error::at("cannot look up", &dir.path.join(name), error))
    }

    /// Goes into a directory; none where there is no such directory.
    pub(crate) fn child(
        &mut self,
        dir: &Arc<TargetDir>,
        name: &OsStr,
    ) -> Result<Option<Arc<TargetDir>>> {
        let path = dir.path.join(name);
        if let Some(known) = self.dirs.get(&key(&path)) {
            return Ok(Some(known.clone()));
        }
        let view = self.view();
        let enter = || -> io::Result<Option<(Option<Dir>, Option<MergedDir>)>> {
            let mut upper = None;
            if let Some(parent) = &dir.upper {
                match parent.open_dir(name) {
                    Ok(opened) => upper = Some(opened),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if conex_sys::dir::is_not_a_dir(&error) => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(lower) = &dir.lower else { return Ok(upper.map(|dir| (Some(dir), None))) };
            let hidden = match &upper {
                Some(upper) => is_opaque(upper, view)?,
                None => false,
            };
            let below = if hidden { None } else { lower.enter(name, view)? };
            Ok((upper.is_some() || below.is_some()).then_some((upper, below)))
        };
        let entered = enter().map_err(|error| Error::at("cannot open", &path, error))?;
        let Some((upper, lower)) = entered else { return Ok(None) };
        Ok(Some(self.keep(TargetDir { path, upper, lower: lower.map(Arc::new), is_new: false })))
    }

    /// Brings a directory into the snapshot, with those above it and as the lower layers have it.
    pub(crate) fn in_upper(&mut self, dir: &Arc<TargetDir>) -> Result<Arc<TargetDir>> {
        if dir.upper.is_some() {
            return Ok(dir.clone());
        }
        // It may have been brought since this handle was made.
        if let Some(known) = self.dirs.get(&key(&dir.path))
            && known.upper.is_some()
        {
            return Ok(known.clone());
        }
        let path = dir.path.clone();
        let mut here = self.root.clone();
        for name in &path {
            let below = self.child(&here, name)?;
            let below = below.ok_or_else(|| Error::not_found(&path))?;
            here =
                if below.upper.is_some() { below } else { self.copy_up_dir(&here, name, &below)? };
        }
        Ok(here)
    }

    fn copy_up_dir(
        &mut self,
        parent: &TargetDir,
        name: &OsStr,
        dir: &TargetDir,
    ) -> Result<Arc<TargetDir>> {
        let view = self.view();
        let fail = |error| Error::at("cannot copy up", &dir.path, error);
        let below = dir.lower.as_ref().and_then(|lower| lower.parts.first());
        let below = below.ok_or_else(|| Error::not_found(&dir.path))?;
        let stat = dir_stat(below, view).map_err(fail)?;
        let mut attributes = Attributes::of_stat(&stat);
        attributes.xattrs = file_xattrs(below, view).map_err(fail)?;
        if let Some(record) = &mut self.copied_up {
            record.push((dir.path.clone(), stat.mtime));
        }
        let upper = upper_of(parent)?;
        match upper.create_dir(name, 0o700) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fail(error)),
        }
        let made = upper.open_dir(name).map_err(fail)?;
        let maker = self.maker.in_dir(upper).map_err(fail)?;
        maker.settle(&made, FileKind::Dir, &attributes).map_err(fail)?;
        Ok(self.keep(TargetDir {
            path: dir.path.clone(),
            upper: Some(made),
            lower: dir.lower.clone(),
            is_new: false,
        }))
    }

    /// Brings a file that only lower layers have into the snapshot, whole. Gives its directory.
    fn copy_up(&mut self, dir: &Arc<TargetDir>, name: &OsStr) -> Result<Arc<TargetDir>> {
        let path = dir.path.join(name);
        let fail = |error| Error::at("cannot copy up", &path, error);
        let dir = self.in_upper(dir)?;
        let view = self.view();
        if let Some(stat) = upper_of(&dir)?.stat_if_there(name).map_err(fail)? {
            return if stat.is_whiteout() { Err(Error::not_found(&path)) } else { Ok(dir) };
        }
        let lower = dir.lower.clone();
        let found = match &lower {
            Some(lower) => lower.lookup(name, view).map_err(fail)?,
            None => None,
        };
        let (below, stat) = found.ok_or_else(|| Error::not_found(&path))?;
        let upper = upper_of(&dir)?;
        let maker = self.maker.in_dir(upper).map_err(fail)?;
        crate::copy::copy_entry(&maker, view, below, name, &stat, upper, name).map_err(fail)?;
        if self.copied_up.is_some() {
            self.linked_up.insert(path);
        }
        Ok(dir)
    }

    /// Walks a path of the image as far as it is there.
    pub(crate) fn walk(&mut self, path: &Path, last: LastLink) -> Result<Walked> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut walk = PathWalk {
            kept: vec![self.root.clone()],
            missing: Vec::new(),
            todo: Vec::new(),
            links_left: LINKS_MAX,
            bytes_left: PATH_LEN_MAX,
        };
        if !walk.start_from(&self.dirs, path.as_os_str().as_bytes()) {
            walk.plan(path, path.as_os_str().as_bytes(), &self.root)?;
        }
        while let Some(name) = walk.todo.pop() {
            if name == ".." {
                self.walk_up(&mut walk)?;
                continue;
            }
            if !walk.missing.is_empty() {
                walk.missing.push(name);
                continue;
            }
            let here = walk.kept.last().unwrap_or(&self.root).clone();
            if let Some(dir) = self.child(&here, &name)? {
                walk.enter(dir);
                continue;
            }
            let Some(stat) = self.lookup(&here, &name)? else {
                walk.missing.push(name);
                continue;
            };
            let is_last = walk.todo.is_empty();
            if stat.kind == FileKind::Symlink && (!is_last || last == LastLink::Follow) {
                let target = self.read_link(&here, &name)?;
                self.followed_link = true;
                walk.links_left =
                    walk.links_left.checked_sub(1).ok_or_else(|| Error::too_many_links(path))?;
                walk.plan(path, target.as_bytes(), &self.root)?;
            } else if is_last {
                walk.missing.push(name);
            } else {
                let path = here.path.join(&name);
                return Err(Error::conflict(&path, "a file", "a directory"));
            }
        }
        let dir = walk.kept.pop().unwrap_or_else(|| self.root.clone());
        Ok(Walked { dir, rest: walk.missing })
    }

    fn walk_up(&mut self, walk: &mut PathWalk) -> Result<()> {
        if walk.missing.pop().is_some() {
            return Ok(());
        }
        let Some(here) = walk.kept.pop() else { return Ok(()) };
        if walk.kept.is_empty() {
            let parent = here.path.parent().unwrap_or(Path::new("")).to_owned();
            let mut dir = self.root.clone();
            for name in &parent {
                let below = self.child(&dir, name)?;
                dir = below.ok_or_else(|| Error::not_found(&parent))?;
            }
            walk.kept.push(dir);
        }
        Ok(())
    }

    fn read_link(&self, dir: &TargetDir, name: &OsStr) -> Result<OsString> {
        let fail = |error| Error::at("cannot read link", &dir.path.join(name), error);
        if let Some(upper) = &dir.upper
            && upper.stat_if_there(name).map_err(fail)?.is_some()
        {
            return upper.read_link(name).map_err(fail);
        }
        let lower = dir.lower.as_ref().ok_or_else(|| Error::not_found(&dir.path.join(name)))?;
        let found = lower.lookup(name, self.view()).map_err(fail)?;
        let (part, _) = found.ok_or_else(|| Error::not_found(&dir.path.join(name)))?;
        part.read_link(name).map_err(fail)
    }

    fn keep(&mut self, dir: TargetDir) -> Arc<TargetDir> {
        let count = dir.open_count();
        if self.open_count + count > OPEN_MAX {
            self.dirs.clear();
            self.open_count = 0;
        }
        self.open_count += count;
        let dir = Arc::new(dir);
        if dir.path.as_os_str().is_empty() {
            self.root = dir.clone();
        } else if let Some(old) = self.dirs.insert(key(&dir.path), dir.clone()) {
            self.open_count -= old.open_count();
        }
        dir
    }

    /// Drops the handles of a directory that is not what it was, and of those below it.
    fn forget_below(&mut self, path: &Path, was_dir: bool) {
        if !was_dir {
            return;
        }
        let start = key(path);
        let below = self.dirs.range(start.clone()..).map(|(known, _)| known);
        let below: Vec<_> = below.take_while(|known| known.starts_with(&start)).cloned().collect();
        for known in below {
            if let Some(dir) = self.dirs.remove(&known) {
                self.open_count -= dir.open_count();
            }
        }
    }
}

impl TargetDir {
    fn open_count(&self) -> usize {
        let below = self.lower.as_ref().map_or(0, |lower| lower.parts.len());
        usize::from(self.upper.is_some()) + below
    }
}

/// The state of a path on its way through the merged view.
struct PathWalk {
    kept: Vec<Arc<TargetDir>>,
    missing: Vec<OsString>,
    /// What is still to be walked, the next component last.
    todo: Vec<OsString>,
    links_left: usize,
    bytes_left: usize,
}

impl PathWalk {
    fn plan(&mut self, wanted: &Path, path: &[u8], root: &Arc<TargetDir>) -> Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        let left = self.bytes_left.checked_sub(path.len());
        self.bytes_left = left.ok_or_else(|| Error::too_many_links(wanted))?;
        if path.first() == Some(&b'/') {
            self.kept = vec![root.clone()];
        }
        let names = path.split(|byte| *byte == b'/').rev();
        let names = names.filter(|name| !matches!(*name, b"" | b"."));
        self.todo.extend(names.map(|name| OsStr::from_bytes(name).to_owned()));
        Ok(())
    }

    /// Skips the way to the parent where that is known. Known paths have no links and nothing
    /// else to be resolved, so one that is found as it stands needs no look at its parts.
    fn start_from(&mut self, known: &BTreeMap<Vec<u8>, Arc<TargetDir>>, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return false };
        let (parent, name) = path.split_at(slash + 1);
        if matches!(name, b"" | b"." | b"..") {
            return false;
        }
        let Some(dir) = known.get(parent) else { return false };
        self.todo.push(OsStr::from_bytes(name).to_owned());
        self.kept = vec![dir.clone()];
        true
    }

    fn enter(&mut self, dir: Arc<TargetDir>) {
        self.kept.push(dir);
        if self.kept.len() > WALK_KEPT_MAX {
            self.kept.remove(0);
        }
    }
}

fn key(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    [path.as_os_str().as_bytes(), b"/"].concat()
}

/// The snapshot's own directory of a handle that [`Target::in_upper`] gave.
pub(crate) fn upper_of(dir: &TargetDir) -> Result<&Dir> {
    dir.upper.as_ref().ok_or_else(|| Error::not_found(&dir.path))
}

fn set_opaque(dir: &Dir, form: Form) -> io::Result<()> {
    conex_sys::xattr::set(dir, form.opaque_name(), b"y")
}
