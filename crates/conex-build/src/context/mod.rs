//! Folders that a build reads from: the main context and the named ones.
//!
//! A context is never sent or copied as a whole. What a step needs of it is looked at when the step
//! asks, hashed if it changed since the last build, and copied straight into the layer.

mod entry;
mod select;
mod stat_cache;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use conex_dockerfile::{DirState, Ignore};
use conex_layer::Wanted;
use conex_oci::Hasher;
use conex_sys::dir::Dir;
use conex_sys::root::{Links, RootDir};
use conex_sys::stat::FileKind;
use conex_sys::walk::{Verdict, Visit, map_tree};

pub(crate) use entry::{Entry, Modes, Owners, tree_digest};
pub(crate) use select::{Depth, Listing, Selected, select, split_pivot};
use stat_cache::{StatCache, join};

/// How a context folder is opened.
#[derive(Debug, Clone)]
pub struct ContextOptions {
    /// What of it does not count (`.dockerignore`).
    pub ignore: Ignore,
    /// Where to remember what its files were; nowhere if there is no place.
    pub stat_cache: Option<PathBuf>,
    /// The time now, in nanoseconds since 1970.
    pub now: i128,
    /// How many threads look and hash.
    pub threads: usize,
}

/// A folder to read from.
pub struct Context {
    root: RootDir,
    path: PathBuf,
    options: ContextOptions,
    cache: OnceLock<StatCache>,
    walks: Mutex<BTreeMap<Vec<u8>, Arc<Vec<Entry>>>>,
    hashed: AtomicUsize,
    /// Tells this context from others in what threads remember.
    root_id: usize,
}

static CONTEXTS: AtomicUsize = AtomicUsize::new(0);

impl std::fmt::Debug for Context {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Context").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Context {
    /// Opens a folder.
    ///
    /// # Errors
    /// It is not there, or is no folder.
    pub fn open(path: &Path, options: ContextOptions) -> io::Result<Self> {
        Ok(Self {
            root: RootDir::open(path, Links::Follow)?,
            path: path.to_owned(),
            options,
            cache: OnceLock::new(),
            walks: Mutex::new(BTreeMap::new()),
            hashed: AtomicUsize::new(0),
            root_id: CONTEXTS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The folder, with links followed within it.
    pub(crate) fn root(&self) -> &RootDir {
        &self.root
    }

    /// The folder's path on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a path is left out, with all above it considered.
    pub(crate) fn is_ignored(&self, path: &[u8]) -> bool {
        !path.is_empty() && self.options.ignore.is_ignored(path)
    }

    /// What the ignore file says of a folder.
    fn folder_state(&self, path: &[u8]) -> DirState {
        let ignore = &self.options.ignore;
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let whole = (!path.is_empty()).then_some(path.len());
        ends.chain(whole).fold(ignore.root(), |state, end| ignore.enter(&state, &path[..end]))
    }

    /// Whether anything is left out.
    pub(crate) fn ignores_something(&self) -> bool {
        !self.options.ignore.is_empty()
    }

    /// What a copy from `base` does with a path below it.
    pub(crate) fn wanted(&self, base: &Path, path: &Path, kind: FileKind) -> Wanted {
        let mut whole = Vec::new();
        join(base.as_os_str().as_bytes(), path.as_os_str().as_bytes(), &mut whole);
        if !self.ignores_something() || whole.is_empty() {
            return Wanted::Take;
        }
        match self.ignored(&whole, kind) {
            None => Wanted::Take,
            Some(Verdict::Enter) => Wanted::LookInside,
            Some(_) => Wanted::Skip,
        }
    }

    /// The paths that the ignore file leaves out, each without what is below it.
    pub(crate) fn hidden_paths(&self) -> io::Result<Vec<PathBuf>> {
        let visit = |visit: &Visit<'_>| -> io::Result<Verdict<()>> {
            let path = visit.path.as_os_str().as_bytes();
            Ok(match self.ignored(path, visit.entry.kind) {
                None | Some(Verdict::Enter) => Verdict::Enter,
                Some(_) => Verdict::TakeOnly(()),
            })
        };
        let found = map_tree(self.root.as_dir(), self.options.threads, &visit)?;
        Ok(found.into_iter().map(|(path, ())| path).collect())
    }

    /// What lies at and below a path that [`Listing::resolve`] gave: the path itself first (with
    /// an empty name), then what is in it, in walk order, contents hashed. Asked twice, walked
    /// once.
    pub(crate) fn tree(&self, path: &Path, kind: FileKind) -> io::Result<Arc<Vec<Entry>>> {
        let key = path.as_os_str().as_bytes().to_vec();
        let walks = || self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = walks().get(&key) {
            return Ok(known.clone());
        }
        let cache = self.cache.get_or_init(|| match &self.options.stat_cache {
            Some(file) => StatCache::load(file),
            None => StatCache::default(),
        });
        let entries = match kind {
            FileKind::Dir => self.walk(&key, path, cache)?,
            _ => {
                let (dir, name) = self.root.parent(path)?;
                vec![self.look(&dir, &name, &key, Vec::new(), cache, &mut 0)?]
            }
        };
        let entries = Arc::new(entries);
        walks().insert(key, entries.clone());
        Ok(entries)
    }

    fn walk(&self, prefix: &[u8], path: &Path, cache: &StatCache) -> io::Result<Vec<Entry>> {
        let dir = self.root.dir(path)?;
        let top = Entry { path: Vec::new(), stat: dir.stat_self()?, content: None };
        let visit = |visit: &Visit<'_>| -> io::Result<Verdict<Entry>> {
            let relative = visit.path.as_os_str().as_bytes();
            let mut whole = Vec::with_capacity(prefix.len() + 1 + relative.len());
            join(prefix, relative, &mut whole);
            if !self.options.ignore.is_empty()
                && let Some(verdict) = self.ignored(&whole, visit.entry.kind)
            {
                return Ok(verdict);
            }
            let name = &visit.entry.name;
            // Finds out of order fall back to a search, which is cheap enough.
            let mut hint = HINT.get();
            let entry = self.look(visit.dir, name, &whole, relative.to_vec(), cache, &mut hint);
            HINT.set(hint);
            Ok(Verdict::Take(entry?))
        };
        let found = map_tree(&dir, self.options.threads, &visit)?;
        Ok(std::iter::once(top).chain(found.into_iter().map(|(_, entry)| entry)).collect())
    }

    /// What to do with an entry that is ignored; `None` for one that is not.
    fn ignored(&self, path: &[u8], kind: FileKind) -> Option<Verdict<Entry>> {
        let ignore = &self.options.ignore;
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &path[..at]);
        FOLDER.with_borrow_mut(|known| {
            // A thread mostly stays in one folder for many names.
            if known.as_ref().is_none_or(|(root, folder, _)| {
                *root != self.root_id || folder.as_slice() != parent
            }) {
                *known = Some((self.root_id, parent.to_vec(), self.folder_state(parent)));
            }
            let (_, _, state) = known.as_ref()?;
            if !ignore.is_ignored_in(state, path) {
                return None;
            }
            let below =
                kind == FileKind::Dir && ignore.may_descend(&ignore.enter(state, path), path);
            Some(if below { Verdict::Enter } else { Verdict::Skip })
        })
    }

    /// Stats one file, and hashes it if the cache does not know it.
    fn look(
        &self,
        dir: &Dir,
        name: &OsStr,
        whole: &[u8],
        path: Vec<u8>,
        cache: &StatCache,
        hint: &mut usize,
    ) -> io::Result<Entry> {
        let stat = dir.stat(name)?;
        let mut entry = Entry { path, stat, content: None };
        if !entry.has_content() {
            return Ok(entry);
        }
        entry.content = cache.content(whole, &stat, hint);
        if entry.content.is_none() {
            let named = |error: io::Error| {
                let path = whole.escape_ascii();
                io::Error::new(error.kind(), format!("cannot read `{path}`: {error}"))
            };
            entry.content = Some(content(dir, name, stat.kind).map_err(named)?);
            self.hashed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(entry)
    }

    /// Remembers what was hashed for the next build. A place that cannot be written to costs speed
    /// only.
    pub(crate) fn remember(&self) {
        let Some(file) = &self.options.stat_cache else { return };
        if self.hashed.load(Ordering::Relaxed) == 0 {
            return;
        }
        let walks = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
        let walks: Vec<(Vec<u8>, Vec<Entry>)> =
            walks.iter().map(|(prefix, entries)| (prefix.clone(), (**entries).clone())).collect();
        let cache = self.cache.get_or_init(StatCache::default);
        // The next build hashes again what could not be remembered.
        let _ = cache.save(file, &walks, self.options.now);
    }
}

thread_local! {
    static HINT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    /// The folder whose names a thread looks at, of which context, and what its ignore file says.
    static FOLDER: std::cell::RefCell<Option<(usize, Vec<u8>, DirState)>> =
        const { std::cell::RefCell::new(None) };
}

impl Listing for Context {
    fn resolve(&self, path: &Path) -> io::Result<Option<(PathBuf, FileKind)>> {
        let found = resolve_links(&self.root, path)?;
        Ok(found.filter(|(path, kind)| !self.is_hidden(path.as_os_str().as_bytes(), *kind)))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        let entries = self.root.dir(folder)?.entries()?;
        let path = |name: &OsStr| folder.join(name);
        Ok(entries
            .into_iter()
            .map(|entry| (entry.name, entry.kind))
            .filter(|(name, kind)| !self.is_hidden(path(name).as_os_str().as_bytes(), *kind))
            .collect())
    }
}

impl Context {
    /// Whether nothing of a path is seen: it is left out, and if it is a folder, so is all below.
    fn is_hidden(&self, path: &[u8], kind: FileKind) -> bool {
        let below = || self.options.ignore.may_descend(&self.folder_state(path), path);
        self.is_ignored(path) && !(kind == FileKind::Dir && below())
    }
}

/// Links met on the way to one path, as in the kernel.
const LINKS_MAX: usize = 40;

/// Follows the links of a path within a root and says where it really lies.
fn resolve_links(root: &RootDir, path: &Path) -> io::Result<Option<(PathBuf, FileKind)>> {
    let unfollowed = root.with_links(Links::Refuse);
    let mut resolved = PathBuf::new();
    let mut kind = FileKind::Dir;
    let mut todo: Vec<OsString> = parts_reversed(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            resolved.pop();
            kind = FileKind::Dir;
            continue;
        }
        let next = resolved.join(&part);
        let stat = match unfollowed.stat(&next) {
            Ok(stat) => stat,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        kind = stat.kind;
        if kind != FileKind::Symlink {
            resolved = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            let text = format!("`{}` has too many links", path.display());
            return Err(io::Error::other(text));
        }
        let target = PathBuf::from(unfollowed.read_link(&next)?);
        if target.is_absolute() {
            resolved.clear();
        }
        todo.extend(parts_reversed(&target));
        kind = FileKind::Dir;
    }
    Ok(Some((resolved, kind)))
}

fn parts_reversed(path: &Path) -> Vec<OsString> {
    use std::path::Component;
    let mut parts: Vec<OsString> = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect();
    parts.reverse();
    parts
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// SHA-256 of a file's bytes or a link's target.
pub(crate) fn content(dir: &Dir, name: &OsStr, kind: FileKind) -> io::Result<[u8; 32]> {
    let mut hasher = Hasher::sha256();
    if kind == FileKind::Symlink {
        hasher.update(dir.read_link(name)?.as_bytes());
        return Ok(hasher.finish_bytes());
    }
    let bytes = hash_reader(dir.open_file(name)?, hasher)?;
    let mut attributes = Vec::new();
    for attribute in dir.xattr_names(name)? {
        if let Some(value) = dir.xattr(name, &attribute)? {
            attributes.push((attribute, value));
        }
    }
    Ok(with_attributes(bytes, attributes))
}

/// Digests a file's bytes with its extended attributes, as far as they come along with a copy. A
/// change of one changes the file's ctime, so the stat cache does not hide it.
pub(crate) fn with_attributes(
    bytes: [u8; 32],
    mut attributes: Vec<(OsString, Vec<u8>)>,
) -> [u8; 32] {
    const MACHINES_OWN: [&[u8]; 4] = [b"security.", b"system.", b"trusted.", b"user.overlay."];
    attributes.retain(|(name, _)| {
        let is_own = MACHINES_OWN.iter().any(|own| name.as_bytes().starts_with(own));
        name == "security.capability" || !is_own
    });
    if attributes.is_empty() {
        return bytes;
    }
    attributes.sort();
    let mut hasher = Hasher::sha256();
    hasher.update(&bytes);
    for (name, value) in &attributes {
        for part in [name.as_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finish_bytes()
}

pub(crate) fn hash_reader(mut file: impl Read, mut hasher: Hasher) -> io::Result<[u8; 32]> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 128 << 10]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        loop {
            let count = file.read(buffer)?;
            if count == 0 {
                return Ok(hasher.finish_bytes());
            }
            hasher.update(&buffer[..count]);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn context(folder: &Path, ignore: &str, cache: Option<PathBuf>) -> Context {
        let (ignore, findings) = Ignore::parse(ignore.as_bytes());
        assert!(findings.is_empty());
        let options = ContextOptions { ignore, stat_cache: cache, now: i128::MAX / 2, threads: 2 };
        Context::open(folder, options).unwrap()
    }

    fn make(folder: &Path, files: &[&str]) {
        for file in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
    }

    fn paths(context: &Context) -> Vec<String> {
        let tree = context.tree(Path::new(""), FileKind::Dir).unwrap();
        tree.iter().map(|entry| String::from_utf8(entry.path.clone()).unwrap()).collect()
    }

    #[test]
    fn ignored_files_are_not_seen_and_exceptions_are() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &["a", "b/c", "b/d", "e/f", ".git/x"]);
        let context = context(folder.path(), ".git\nb\n!b/d\ne/*\n", None);
        assert_eq!(paths(&context), ["", "a", "b/d", "e"]);
        let is_seen = |path: &str| context.resolve(Path::new(path)).unwrap().is_some();
        for (path, seen) in
            [("a", true), ("b/c", false), ("b/d", true), (".git", false), ("b", true)]
        {
            assert_eq!(is_seen(path), seen, "{path}");
        }
    }

    #[test]
    fn links_stay_within_the_context() {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path(), &["dir/file", "etc/passwd"]);
        symlink("../../../etc", folder.path().join("dir/up")).unwrap();
        symlink("/dir", folder.path().join("absolute")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        let context = context(folder.path(), "", None);
        let resolved = |path: &str| {
            let found = context.resolve(Path::new(path));
            found.map(|found| found.map(|(path, _)| path.to_str().unwrap().to_owned()))
        };
        assert_eq!(resolved("dir/up/passwd").unwrap().as_deref(), Some("etc/passwd"));
        assert_eq!(resolved("absolute/file").unwrap().as_deref(), Some("dir/file"));
        assert_eq!(resolved("../dir").unwrap().as_deref(), Some("dir"));
        assert_eq!(resolved("nothing").unwrap(), None);
        assert_eq!(resolved("etc/passwd/x").unwrap(), None);
        assert!(resolved("loop").is_err());
    }

    #[test]
    fn unchanged_files_are_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let aux = tempfile::tempdir().unwrap();
        make(folder.path(), &["a", "b/c"]);
        let cache = Some(aux.path().join("cache"));
        let first = context(folder.path(), "", cache.clone());
        let tree = first.tree(Path::new(""), FileKind::Dir).unwrap();
        first.remember();
        let second = context(folder.path(), "", cache);
        assert_eq!(*second.tree(Path::new(""), FileKind::Dir).unwrap(), *tree);
        assert_eq!(second.hashed.into_inner(), 0);
    }
}
