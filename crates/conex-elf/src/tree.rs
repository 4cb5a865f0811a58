//! A folder tree seen as a root of its own: symbolic links lead where they would lead after
//! `chroot`, never out of it.
//!
//! Resolves paths itself, one component at a time, because it has to name every link on the way.
//! It does not defend against somebody who changes the tree meanwhile: the tree is the machine
//! that the caller trusts enough to copy programs from.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::Error;

/// Most symbolic links followed for one path: Linux's own limit.
const LINK_COUNT_MAX: usize = 40;

/// What an entry of a closure is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with content.
    File,
    /// A symbolic link.
    Symlink {
        /// Where it leads, as written in it.
        target: PathBuf,
    },
    /// A folder; what is in it is listed for itself.
    Dir,
}

/// One path that a closure holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is: absolute, seen from the root that was searched, none of its folders a link.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Whose need brought it in: the program, library or folder; none if it was asked for.
    pub wanted_by: Option<PathBuf>,
}

/// Where a path led.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// The place itself.
    pub(crate) path: PathBuf,
    /// What is there: [`EntryKind::File`] or [`EntryKind::Dir`].
    pub(crate) kind: EntryKind,
    /// Every folder and link on the way, and the place itself, without the root.
    pub(crate) trail: Vec<(PathBuf, EntryKind)>,
}

/// A folder tree with a root.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Follows a path, which is taken from the root. Gives none if it leads to nothing.
    pub(crate) fn resolve(&self, path: &Path) -> Result<Option<Resolved>, Error> {
        let mut todo = VecDeque::new();
        prepend(&mut todo, path);
        let mut at = PathBuf::from("/");
        let mut kind = EntryKind::Dir;
        let mut trail = Vec::new();
        let mut link_count = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                at.pop();
                kind = EntryKind::Dir;
                continue;
            }
            if kind != EntryKind::Dir {
                return Ok(None);
            }
            at.push(name);
            match self.kind(&at)? {
                Some(EntryKind::Symlink { target }) => {
                    link_count += 1;
                    if link_count > LINK_COUNT_MAX {
                        return Err(Error::link_loop(path));
                    }
                    trail.push((at.clone(), EntryKind::Symlink { target: target.clone() }));
                    at.pop();
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    prepend(&mut todo, &target);
                    kind = EntryKind::Dir;
                }
                Some(found) => {
                    trail.push((at.clone(), found.clone()));
                    kind = found;
                }
                None => return Ok(None),
            }
        }
        Ok(Some(Resolved { path: at, kind, trail }))
    }

    /// What stands at a path whose folders are no links; none for nothing, and for devices, pipes
    /// and sockets, which no program is made of.
    pub(crate) fn kind(&self, path: &Path) -> Result<Option<EntryKind>, Error> {
        let place = self.place(path);
        let metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) => metadata,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(Error::io("look at", &place, error)),
        };
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target =
                fs::read_link(&place).map_err(|error| Error::io("read the link", &place, error))?;
            return Ok(Some(EntryKind::Symlink { target }));
        }
        Ok(match (kind.is_file(), kind.is_dir()) {
            (true, _) => Some(EntryKind::File),
            (_, true) => Some(EntryKind::Dir),
            _ => None,
        })
    }

    /// Opens a file whose path was resolved.
    pub(crate) fn open(&self, path: &Path) -> Result<File, Error> {
        let place = self.place(path);
        File::open(&place).map_err(|error| Error::io("open", &place, error))
    }

    /// Reads a small text; none if it is missing or longer than `size_max`.
    pub(crate) fn read_text(&self, path: &Path, size_max: u64) -> Result<Option<String>, Error> {
        let Some(resolved) = self.resolve(path)? else { return Ok(None) };
        let place = self.place(&resolved.path);
        let read = || -> io::Result<Option<String>> {
            if fs::metadata(&place)?.len() > size_max {
                return Ok(None);
            }
            Ok(Some(String::from_utf8_lossy(&fs::read(&place)?).into_owned()))
        };
        read().map_err(|error| Error::io("read", &place, error))
    }

    /// The names in a folder whose path was resolved, sorted.
    pub(crate) fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        let place = self.place(path);
        let list = || -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&place)? {
                names.push(entry?.file_name());
            }
            names.sort();
            Ok(names)
        };
        list().map_err(|error| Error::io("list", &place, error))
    }

    /// Where a path of the tree stands on the machine.
    fn place(&self, path: &Path) -> PathBuf {
        let mut place = self.root.clone();
        place.extend(path.components().filter(|part| matches!(part, Component::Normal(_))));
        place
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

fn prepend(todo: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn shown(tree: &Tree, path: &str) -> String {
        match tree.resolve(Path::new(path)) {
            Ok(Some(resolved)) => {
                let trail: Vec<_> =
                    resolved.trail.iter().map(|(path, _)| path.display().to_string()).collect();
                format!("{} via {}", resolved.path.display(), trail.join(" "))
            }
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn links_lead_where_they_would_after_chroot() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("usr/bin")).unwrap();
        fs::write(at("usr/bin/dash"), "").unwrap();
        symlink("usr/bin", at("bin")).unwrap();
        symlink("dash", at("usr/bin/sh")).unwrap();
        symlink("/usr/bin/sh", at("usr/bin/absolute")).unwrap();
        symlink("../../../../../bin/dash", at("usr/bin/escape")).unwrap();
        symlink("loop", at("usr/bin/loop")).unwrap();
        symlink("missing", at("usr/bin/dangling")).unwrap();
        let tree = Tree::new(root.path());
        for (path, expected) in [
            ("/bin/sh", "/usr/bin/dash via /bin /usr /usr/bin /usr/bin/sh /usr/bin/dash"),
            (
                "/bin/absolute",
                "/usr/bin/dash via /bin /usr /usr/bin /usr/bin/absolute /usr /usr/bin \
                 /usr/bin/sh /usr/bin/dash",
            ),
            (
                "/usr/bin/escape",
                "/usr/bin/dash via /usr /usr/bin /usr/bin/escape /bin /usr /usr/bin \
                 /usr/bin/dash",
            ),
            ("/../../usr/./bin//dash", "/usr/bin/dash via /usr /usr/bin /usr/bin/dash"),
            ("/usr/bin/dash/more", "nothing"),
            ("/usr/bin/dangling", "nothing"),
            ("/usr/bin/loop", "symbolic links at `/usr/bin/loop` loop"),
            ("/", "/ via "),
        ] {
            assert_eq!(shown(&tree, path), expected, "{path}");
        }
    }
}
