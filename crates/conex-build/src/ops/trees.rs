//! Digests of what a step reads from contexts and other stages.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_dockerfile::Ignore;
use conex_layer::{LastLink, Stack};
use conex_oci::{Digest, Hasher};
use conex_sys::dir::Dir;
use conex_sys::stat::FileKind;

use crate::context::{
    Context, Entry, Listing, Modes, Owners, hash_reader, tree_digest, with_attributes,
};
use crate::engine::{Engine, Inputs, layer_error, store_error};
use crate::error::{Error, ErrorKind};
use crate::graph::Tree;

/// A tree that can be listed, digested and copied from.
pub(crate) enum Source {
    Context(Arc<Context>),
    /// The result of a vertex, with the identity of its content.
    Stack(Arc<Stack>, String),
}

/// Folders below one path of a stage that are digested: deeper trees are refused, not followed.
const DEPTH_MAX: usize = 2_000;

impl Source {
    pub(crate) fn listing(&self) -> &dyn Listing {
        match self {
            Self::Context(context) => &**context,
            Self::Stack(stack, _) => &**stack,
        }
    }

    /// Whether the files' owners count: those of a context never do.
    pub(crate) fn owners(&self) -> Owners {
        match self {
            Self::Context(_) => Owners::Overridden,
            Self::Stack(..) => Owners::Count,
        }
    }

    /// What is at and below a path, contents hashed.
    fn entries(&self, path: &Path, kind: FileKind) -> Result<Arc<Vec<Entry>>, Error> {
        let failed = |source: io::Error| {
            Error::io(format!("cannot read `{}` of the source", path.display()), source)
        };
        match self {
            Self::Context(context) => context.tree(path, kind).map_err(failed),
            Self::Stack(stack, _) => {
                let mut entries = Vec::new();
                stack_entries(stack, path, &mut Vec::new(), 0, &mut entries)?;
                Ok(Arc::new(entries))
            }
        }
    }
}

impl Listing for Stack {
    fn resolve(&self, path: &Path) -> io::Result<Option<(PathBuf, FileKind)>> {
        let found = self.find(path, LastLink::Follow).map_err(io::Error::other)?;
        Ok(found.map(|found| (found.path, found.stat.kind)))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        let entries = self.read_dir(folder).map_err(io::Error::other)?;
        Ok(entries.into_iter().map(|entry| (entry.name, entry.kind)).collect())
    }
}

/// Lists and hashes a tree of a stack, in walk order.
fn stack_entries(
    stack: &Stack,
    path: &Path,
    relative: &mut Vec<u8>,
    depth: usize,
    entries: &mut Vec<Entry>,
) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt;
    if depth > DEPTH_MAX {
        return Err(Error::unsupported(format!("folders lie deeper than {DEPTH_MAX} levels")));
    }
    let Some(stat) = stack.stat(path, LastLink::Keep).map_err(layer_error)? else {
        return Ok(());
    };
    let failed = |source| Error::io(format!("cannot read `{}`", path.display()), source);
    let content = match stat.kind {
        FileKind::File => {
            let file = stack.open(path).map_err(layer_error)?;
            let bytes = hash_reader(file, Hasher::sha256()).map_err(failed)?;
            Some(with_attributes(bytes, stack.xattrs(path).map_err(layer_error)?))
        }
        FileKind::Symlink => {
            let target = stack.read_link(path).map_err(layer_error)?;
            let mut hasher = Hasher::sha256();
            hasher.update(target.as_bytes());
            Some(hasher.finish_bytes())
        }
        _ => None,
    };
    entries.push(Entry { path: relative.clone(), stat, content });
    if stat.kind != FileKind::Dir {
        return Ok(());
    }
    let len = relative.len();
    for entry in stack.read_dir(path).map_err(layer_error)? {
        if !relative.is_empty() {
            relative.push(b'/');
        }
        relative.extend_from_slice(entry.name.as_bytes());
        stack_entries(stack, &path.join(&entry.name), relative, depth + 1, entries)?;
        relative.truncate(len);
    }
    Ok(())
}

/// What of a tree counts for a digest.
pub(crate) struct Counting<'c> {
    pub(crate) modes: Modes,
    pub(crate) owners: Owners,
    /// Paths left out; relative to where the patterns count from.
    pub(crate) excludes: &'c Ignore,
    /// Where the tree lies as the patterns see it.
    pub(crate) prefix: &'c Path,
}

impl Engine<'_> {
    /// Opens a tree to read from.
    pub(crate) fn source(&self, tree: &Tree, inputs: &Inputs<'_>) -> Result<Source, Error> {
        match tree {
            Tree::Context(name) => {
                Ok(Source::Context(self.options.contexts.get(name.as_deref())?.clone()))
            }
            Tree::Vertex(vertex) => {
                let built = inputs.get(*vertex);
                let stack = match built.snapshot {
                    Some(_) => self.stack(&built)?,
                    None => self.empty_stack()?,
                };
                Ok(Source::Stack(Arc::new(stack), built.identity()))
            }
        }
    }

    /// The root of `scratch`, which is there although nothing is in it: a folder that goes with
    /// the lease.
    fn empty_stack(&self) -> Result<Stack, Error> {
        let failed = |error| Error::io("cannot make an empty folder", error);
        let path = self.options.lease.temporary_path().map_err(store_error)?;
        std::fs::create_dir_all(&path).map_err(failed)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(failed)?;
        let dir = Dir::open_ambient(&path).map_err(failed)?;
        Ok(Stack::new(vec![dir], self.options.form))
    }

    /// Digests what a step reads at one path. For a stage the digest is remembered by the stage's
    /// content, because a layer never changes.
    pub(crate) fn digest(
        &self,
        source: &Source,
        path: &Path,
        kind: FileKind,
        counting: &Counting<'_>,
    ) -> Result<Digest, Error> {
        let compute = || -> Result<Digest, Error> {
            let entries = source.entries(path, kind)?;
            let modes = counting.modes;
            // Bytes that no name can hold keep the parts apart.
            Ok(if counting.excludes.is_empty() {
                tree_digest(entries.iter(), modes, counting.owners)
            } else {
                let mut whole = Vec::new();
                let kept = entries.iter().filter(|entry| {
                    use std::os::unix::ffi::OsStrExt;
                    whole.clear();
                    whole.extend_from_slice(counting.prefix.as_os_str().as_bytes());
                    if !whole.is_empty() && !entry.path.is_empty() {
                        whole.push(b'/');
                    }
                    whole.extend_from_slice(&entry.path);
                    whole.is_empty() || !counting.excludes.is_ignored(&whole)
                });
                tree_digest(kept, modes, counting.owners)
            })
        };
        let Source::Stack(_, identity) = source else { return compute() };
        let patterns: Vec<String> = counting
            .excludes
            .patterns()
            .map(|(pattern, exception)| format!("{}{exception}", pattern.escape_ascii()))
            .collect();
        let name = format!(
            "conex tree digest 1\n{identity}\n{}\n{:?} {:?}\n{}\n{}",
            path.display(),
            counting.modes,
            counting.owners,
            counting.prefix.display(),
            patterns.join("\n")
        );
        let key = Digest::of(name.as_bytes());
        if let Some(record) = self.store().cache_get(&key).map_err(store_error)?
            && let Some(known) = record.result.as_str()
            && let Ok(digest) = known.parse()
        {
            return Ok(digest);
        }
        let digest = compute()?;
        let record = conex_store::NewCacheRecord {
            kind: "digest".to_owned(),
            description: format!("content of `/{}`", path.display()),
            snapshot: None,
            result: digest.to_string().into(),
        };
        self.store().cache_put(&key, &record).map_err(store_error)?;
        Ok(digest)
    }
}

/// The error of a source that is not there.
pub(crate) fn not_found(source: &Source, pattern: &str) -> Error {
    let message = format!(
        "`{pattern}` is not in the {}",
        match source {
            Source::Context(_) => "build context",
            Source::Stack(..) => "stage or image that it is copied from",
        }
    );
    let error = Error::new(ErrorKind::NotFound, message);
    let path: PathBuf = Path::new(pattern.trim_start_matches('/')).components().collect();
    if let Source::Context(context) = source
        && context.is_ignored(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
    {
        return error.with_hint("the ignore file leaves it out");
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let siblings = source.listing().names(folder).unwrap_or_default();
    let names: Vec<String> =
        siblings.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    match name.and_then(|name| {
        conex_report::did_you_mean(&name, names.iter().map(String::as_str)).map(str::to_owned)
    }) {
        Some(near) => error.with_hint(format!("did you mean `{}`?", folder.join(near).display())),
        None => error,
    }
}
