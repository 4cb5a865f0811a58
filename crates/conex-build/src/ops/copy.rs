//! COPY and ADD: files of contexts, stages, the Dockerfile itself and other machines, straight into
//! the new layer.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use conex_dockerfile::{Account, EntryType, Ignore, Mode, Owner};
use conex_layer::{
    ApplyOptions, Attributes, CopyOptions, LastLink, Replace, Stack, Target, Wanted,
};
use conex_oci::Digest;
use conex_store::NewSnapshot;
use conex_sys::stat::FileKind;

use super::trees::{Counting, Source, not_found};
use crate::context::{Context, Depth, Modes, Owners, Selected, select, split_pivot};
use crate::engine::{Built, Engine, Inputs, layer_error, open_layer, store_error};
use crate::error::{Error, ErrorKind};
use crate::graph::{CopyOp, CopySource, Tree};
use crate::key::Components;
use crate::options::{Fetched, FetchedTree};

/// Mode of a file that came from another machine, as Docker has it.
const FETCHED_MODE: u32 = 0o600;

/// Mode of a file whose content stands in the Dockerfile.
const INLINE_MODE: u32 = 0o644;

impl Engine<'_> {
    /// Everything that decides what a COPY or ADD makes.
    pub(crate) fn copy_components(
        &self,
        op: &CopyOp,
        inputs: &Inputs<'_>,
        components: &mut Components,
    ) -> Result<(), Error> {
        components.add("destination", format!("{} {}", op.dest, op.dest_is_dir));
        components.add("owner", format!("{:?}", op.chown));
        components.add("mode", format!("{:?}", op.chmod));
        let flags = format!("link {} parents {} add {}", op.link, op.parents, op.add);
        components.add("flags", flags);
        let excludes = excludes(op)?;
        for source in &op.sources {
            match source {
                CopySource::Path { from, pattern } => {
                    self.path_components(op, from, pattern, &excludes, inputs, components)?;
                }
                CopySource::Inline { name, content } => {
                    components.add(format!("file {name}"), content);
                }
                CopySource::Http { url, checksum, unpack } => {
                    let version = match checksum {
                        Some(checksum) => checksum.to_string(),
                        None => self.http_version(url)?,
                    };
                    components.add(format!("URL {url}"), format!("{version} {unpack}"));
                }
                CopySource::Git { url, checksum, keep_git_dir } => {
                    let commit = match checksum {
                        Some(checksum) if checksum.len() >= 40 => checksum.clone(),
                        _ => self.options.fetch.git_commit(url)?,
                    };
                    components
                        .add(format!("repository {url}"), format!("{commit} {keep_git_dir:?}"));
                }
            }
        }
        Ok(())
    }

    fn path_components(
        &self,
        op: &CopyOp,
        from: &Tree,
        pattern: &str,
        excludes: &Ignore,
        inputs: &Inputs<'_>,
        components: &mut Components,
    ) -> Result<(), Error> {
        let source = self.source(from, inputs)?;
        let modes = match op.chmod.as_ref().and_then(Mode::absolute) {
            Some(_) => Modes::Overridden,
            None => Modes::Count,
        };
        let owners = if op.chown.is_some() { Owners::Overridden } else { source.owners() };
        let mut found = Vec::new();
        for selected in self.selected(op, &source, pattern, excludes)? {
            let counting = Counting { modes, owners, excludes, prefix: Path::new("") };
            let digest = self.digest(&source, &selected.path, selected.kind, &counting)?;
            // The name counts where the result has it: a file that goes into a directory.
            let is_dir = selected.kind == FileKind::Dir;
            let name = match (op.parents, is_dir) {
                (true, _) => selected.named.as_os_str().as_bytes().escape_ascii().to_string(),
                (false, true) => String::new(),
                (false, false) => base_name(&selected).escape_ascii().to_string(),
            };
            found.push(format!("{is_dir} {name} {digest}"));
        }
        // One digest for all that a wildcard finds.
        let digest = match found.as_slice() {
            [one] => one.rsplit(' ').next().unwrap_or_default().to_owned(),
            many => Digest::of(many.join("\n").as_bytes()).to_string(),
        };
        let names: Vec<&str> =
            found.iter().map(|line| line.rsplit_once(' ').map_or("", |(name, _)| name)).collect();
        components.add(format!("names of `{pattern}`"), names.join("\n"));
        components.add(format!("content of `{pattern}`"), digest);
        Ok(())
    }

    /// The paths that a source means.
    fn selected(
        &self,
        op: &CopyOp,
        source: &Source,
        pattern: &str,
        excludes: &Ignore,
    ) -> Result<Vec<Selected>, Error> {
        let failed = |error| Error::io(format!("cannot look for `{pattern}`"), error);
        let (base, rest) = if op.parents { split_pivot(pattern) } else { ("", pattern) };
        let depth = if op.parents { Depth::Any } else { Depth::OnePart };
        let whole = if base.is_empty() { rest.to_owned() } else { format!("{base}/{rest}") };
        let mut found = select(source.listing(), &whole, depth).map_err(failed)?;
        if found.is_empty() && !conex_dockerfile::has_wildcards(whole.as_bytes()) {
            return Err(not_found(source, pattern));
        }
        if !base.is_empty() {
            let base: PathBuf = clean(base);
            for selected in &mut found {
                if let Ok(rest) = selected.named.strip_prefix(&base) {
                    selected.named = rest.to_owned();
                }
            }
        }
        found.retain(|selected| {
            selected.kind == FileKind::Dir
                || excludes.is_empty()
                || !(excludes.is_ignored(base_name(selected))
                    || excludes.is_ignored(selected.named.as_os_str().as_bytes()))
        });
        Ok(found)
    }

    /// What a URL's content is now: what the server calls it, or the digest of its bytes.
    fn http_version(&self, url: &str) -> Result<String, Error> {
        if let Some(version) = self.options.fetch.http_version(url)? {
            return Ok(version);
        }
        let fetched = self.fetch_http(url)?;
        Ok(digest_of_file(&fetched.path)?.to_string())
    }

    fn fetch_http(&self, url: &str) -> Result<Fetched, Error> {
        let folder = self.options.lease.temporary_path().map_err(store_error)?;
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::io("cannot make a folder for a download", error))?;
        self.options.fetch.http(url, &folder)
    }

    fn fetch_git(
        &self,
        url: &str,
        checksum: Option<&str>,
        keep_git_dir: Option<bool>,
    ) -> Result<FetchedTree, Error> {
        let folder = self.options.lease.temporary_path().map_err(store_error)?;
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::io("cannot make a folder for a repository", error))?;
        self.options.fetch.git(url, checksum, keep_git_dir, &folder)
    }

    /// A layer to write on top of others.
    pub(crate) fn target(&self, new: &NewSnapshot, lower: Stack) -> Result<Target, Error> {
        Target::new(open_layer(new)?, lower, self.options.form).map_err(layer_error)
    }

    /// Copies on top of a result; also says whether a symbolic link of the image was followed.
    pub(crate) fn copy_onto(
        &self,
        op: &CopyOp,
        parent: &Built,
        inputs: &Inputs<'_>,
    ) -> Result<(NewSnapshot, bool), Error> {
        let stack = self.stack(parent)?;
        let owner = op.chown.as_ref().map(|owner| self.owner(owner, &stack)).transpose()?;
        let new = self.begin()?;
        // `--link` writes as if nothing were below: no link of the parent is followed, and the same
        // files make the same layer on any parent.
        let lower = if op.link { Stack::empty(self.options.form) } else { stack };
        let target = self.target(&new, lower)?;
        let excludes = excludes(op)?;
        let mut work = Work { engine: self, op, owner, excludes, target, made_dest: false };
        for source in &op.sources {
            self.options.cancel.check()?;
            work.source(source, inputs)?;
        }
        Ok((new, work.target.followed_link()))
    }

    /// Who a `--chown` means: names are those of the image.
    fn owner(&self, owner: &Owner, stack: &Stack) -> Result<(u32, u32), Error> {
        let text = |account: &Account| match account {
            Account::Id(id) => id.to_string(),
            Account::Name(name) => name.clone(),
        };
        match (&owner.user, &owner.group) {
            (Account::Id(uid), None) => Ok((*uid, *uid)),
            (Account::Id(uid), Some(Account::Id(gid))) => Ok((*uid, *gid)),
            (user, None) => {
                let user = self.resolve_user(&text(user), stack)?;
                Ok((user.uid, user.gid))
            }
            (user, Some(group)) => {
                let both = format!("{}:{}", text(user), text(group));
                let user = self.resolve_user(&both, stack)?;
                Ok((user.uid, user.gid))
            }
        }
    }

    /// A layer of whiteouts that hides what the ignore file leaves out of a context; none where it
    /// leaves out nothing.
    pub(crate) fn ignore_mask(&self, context: &Context) -> Result<Option<NewSnapshot>, Error> {
        if !context.ignores_something() {
            return Ok(None);
        }
        let hidden = context
            .hidden_paths()
            .map_err(|error| Error::io("cannot read the build context", error))?;
        if hidden.is_empty() {
            return Ok(None);
        }
        let mask = self.begin()?;
        let lower = Stack::plain(context.root().as_dir().clone());
        let mut target = self.target(&mask, lower)?;
        for path in hidden {
            target.remove(&path).map_err(layer_error)?;
        }
        Ok(Some(mask))
    }

    /// Fills a new cache mount with what it shall start with.
    pub(crate) fn fill(
        &self,
        folder: &Path,
        tree: &Tree,
        path: &str,
        inputs: &Inputs<'_>,
    ) -> Result<(), Error> {
        let source = self.source(tree, inputs)?;
        let resolved = source
            .listing()
            .resolve(&clean(path))
            .map_err(|error| Error::io(format!("cannot look for `{path}`"), error))?;
        let (path, _) = resolved.ok_or_else(|| not_found(&source, path))?;
        let dir = conex_sys::dir::Dir::open_ambient(folder)
            .map_err(|error| Error::io("cannot open a cache mount", error))?;
        let form = self.options.form;
        let mut target = Target::new(dir, Stack::empty(form), form).map_err(layer_error)?;
        let stack = source.stack();
        let options = CopyOptions::keep(self.options.parallel);
        conex_layer::copy(&stack, &path, &mut target, Path::new("/"), &options)
            .map_err(layer_error)?;
        Ok(())
    }
}

impl Source {
    /// The tree as the copier sees it.
    fn stack(&self) -> Arc<Stack> {
        match self {
            Self::Context(context) => Arc::new(Stack::plain(context.root().as_dir().clone())),
            Self::Stack(stack, _) => stack.clone(),
        }
    }
}

/// One COPY or ADD under way.
struct Work<'w> {
    engine: &'w Engine<'w>,
    op: &'w CopyOp,
    owner: Option<(u32, u32)>,
    excludes: Ignore,
    target: Target,
    made_dest: bool,
}

impl Work<'_> {
    fn source(&mut self, source: &CopySource, inputs: &Inputs<'_>) -> Result<(), Error> {
        match source {
            CopySource::Path { from, pattern } => {
                let source = self.engine.source(from, inputs)?;
                let found = self.engine.selected(self.op, &source, pattern, &self.excludes)?;
                for selected in found {
                    self.selected(&source, &selected)?;
                }
                Ok(())
            }
            CopySource::Inline { name, content } => {
                let path = self.file_path(name.as_bytes())?;
                let mut content = content.as_bytes();
                self.put_file(&path, INLINE_MODE, &mut content)
            }
            CopySource::Http { url, checksum, unpack } => {
                self.fetched(url, checksum.as_ref(), *unpack)
            }
            CopySource::Git { url, checksum, keep_git_dir } => {
                let tree = self.engine.fetch_git(url, checksum.as_deref(), *keep_git_dir)?;
                let dir = conex_sys::dir::Dir::open_ambient(&tree.path)
                    .map_err(|error| Error::io("cannot open the repository", error))?;
                let stack = Stack::plain(dir);
                self.copy(&stack, Path::new(""), &PathBuf::from(&self.op.dest), None, (0, 0))
            }
        }
    }

    fn selected(&mut self, source: &Source, selected: &Selected) -> Result<(), Error> {
        let stack = source.stack();
        let default_owner = match source {
            Source::Context(_) => Some((0, 0)),
            Source::Stack(..) => None,
        };
        let context = match source {
            Source::Context(context) => Some(&**context),
            Source::Stack(..) => None,
        };
        let dest = PathBuf::from(&self.op.dest);
        let to = if self.op.parents {
            let to = dest.join(&selected.named);
            self.copy_parents(&stack, selected, &dest)?;
            to
        } else if selected.kind == FileKind::Dir {
            dest
        } else {
            if self.op.add && selected.kind == FileKind::File {
                let open = || stack.open(&selected.path).map_err(layer_error);
                if conex_layer::is_archive(&mut open()?) {
                    return self.unpack(open()?, &dest);
                }
            }
            self.file_path(base_name(selected))?
        };
        let owner = self.owner.or(default_owner);
        self.copy_filtered(&stack, selected, &to, context, owner)
    }

    /// `--parents`: the directories above a source come along with their attributes.
    fn copy_parents(
        &mut self,
        stack: &Stack,
        selected: &Selected,
        dest: &Path,
    ) -> Result<(), Error> {
        let depth = selected.named.components().count();
        let above: Vec<&Path> = selected.named.ancestors().skip(1).collect();
        let resolved: Vec<&Path> = selected.path.ancestors().skip(1).collect();
        for level in (0..depth.saturating_sub(1)).rev() {
            let (Some(named), Some(path)) = (above.get(level), resolved.get(level)) else {
                continue;
            };
            let to = dest.join(named);
            if self.target.stat(&to, LastLink::Follow).map_err(layer_error)?.is_some() {
                continue;
            }
            let stat = stack.stat(path, LastLink::Follow).map_err(layer_error)?;
            let mode = stat.map_or(0o755, |stat| stat.mode);
            let attributes = self.attributes(FileKind::Dir, mode);
            self.target.make_dirs(&to, &attributes).map_err(layer_error)?;
        }
        Ok(())
    }

    fn copy(
        &mut self,
        stack: &Stack,
        from: &Path,
        to: &Path,
        context: Option<&Context>,
        default_owner: (u32, u32),
    ) -> Result<(), Error> {
        let selected =
            Selected { path: from.to_owned(), named: from.to_owned(), kind: FileKind::Dir };
        let owner = Some(self.owner.unwrap_or(default_owner));
        self.copy_filtered(stack, &selected, to, context, owner)
    }

    fn copy_filtered(
        &mut self,
        stack: &Stack,
        selected: &Selected,
        to: &Path,
        context: Option<&Context>,
        owner: Option<(u32, u32)>,
    ) -> Result<(), Error> {
        self.make_dest(to, selected.kind)?;
        let op = self.op;
        let mode = |kind: FileKind, mode: u32| match &op.chmod {
            Some(change) => change.apply(mode, entry_type(kind)),
            None => mode,
        };
        let excludes = &self.excludes;
        let filter = |path: &Path, kind: FileKind| {
            if !excludes.is_empty() && excludes.is_ignored(path.as_os_str().as_bytes()) {
                // A later `!pattern` may take something below back.
                return if excludes.has_exceptions() && kind == FileKind::Dir {
                    Wanted::LookInside
                } else {
                    Wanted::Skip
                };
            }
            match context {
                Some(context) => context.wanted(&selected.path, path, kind),
                None => Wanted::Take,
            }
        };
        let needs_filter = !excludes.is_empty() || context.is_some_and(Context::ignores_something);
        let cancelled: &AtomicBool = self.engine.options.cancel.flag();
        let options = CopyOptions {
            owner,
            mode: self.op.chmod.is_some().then_some(&mode as _),
            filter: if needs_filter { Some(&filter as _) } else { None },
            mtime_max: Some(self.engine.options.epoch),
            thread_count: self.engine.options.parallel,
            cancelled: Some(cancelled),
        };
        let copied = conex_layer::copy(stack, &selected.path, &mut self.target, to, &options);
        copied.map_err(|error| {
            if self.engine.options.cancel.is_canceled() {
                return Error::canceled();
            }
            layer_error(error)
        })?;
        Ok(())
    }

    /// Makes the directories that the destination needs: owned by root or `--chown`, mode 0755 or
    /// `--chmod`.
    fn make_dest(&mut self, to: &Path, kind: FileKind) -> Result<(), Error> {
        let dir = if kind == FileKind::Dir { Some(to) } else { to.parent() };
        let Some(dir) = dir else { return Ok(()) };
        if self.made_dest && !self.op.parents {
            return Ok(());
        }
        let attributes = self.attributes(FileKind::Dir, 0o755);
        self.target.make_dirs(dir, &attributes).map_err(layer_error)?;
        self.made_dest = true;
        Ok(())
    }

    fn attributes(&self, kind: FileKind, mode: u32) -> Attributes {
        let mode = match &self.op.chmod {
            Some(change) => change.apply(mode, entry_type(kind)),
            None => mode,
        };
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        Attributes::with_mode(mode).owned_by(uid, gid)
    }

    /// Where a single file goes: into the destination if that is a directory, else to it.
    fn file_path(&mut self, name: &[u8]) -> Result<PathBuf, Error> {
        let dest = PathBuf::from(&self.op.dest);
        let is_dir = self.op.dest_is_dir
            || self
                .target
                .stat(&dest, LastLink::Follow)
                .map_err(layer_error)?
                .is_some_and(|stat| stat.kind == FileKind::Dir);
        Ok(if is_dir { dest.join(std::ffi::OsStr::from_bytes(name)) } else { dest })
    }

    fn put_file(
        &mut self,
        path: &Path,
        mode: u32,
        content: &mut dyn std::io::Read,
    ) -> Result<(), Error> {
        self.make_dest(path, FileKind::File)?;
        let attributes = self.attributes(FileKind::File, mode);
        let put = self.target.put_file(path, &attributes, content, Replace::SameKind);
        put.map_err(layer_error)?;
        Ok(())
    }

    fn fetched(&mut self, url: &str, checksum: Option<&Digest>, unpack: bool) -> Result<(), Error> {
        let fetched = self.engine.fetch_http(url)?;
        if let Some(wanted) = checksum {
            let got = digest_of_file(&fetched.path)?;
            if got != *wanted {
                let message = format!("`{url}` has digest `{got}`, wanted `{wanted}`");
                return Err(Error::new(ErrorKind::Dockerfile, message));
            }
        }
        let open = || {
            std::fs::File::open(&fetched.path)
                .map_err(|error| Error::io("cannot open a downloaded file", error))
        };
        if unpack {
            let dest = PathBuf::from(&self.op.dest);
            return self.unpack(open()?, &dest);
        }
        let name = fetched.name.as_deref().unwrap_or("__unnamed__");
        let path = self.file_path(name.as_bytes())?;
        self.put_file(&path, FETCHED_MODE, &mut open()?)
    }

    fn unpack(&mut self, mut archive: std::fs::File, dest: &Path) -> Result<(), Error> {
        self.make_dest(dest, FileKind::Dir)?;
        let mut options = ApplyOptions::new(self.engine.options.parallel);
        options.cancelled = Some(self.engine.options.cancel.flag());
        let target = &mut self.target;
        conex_layer::unpack_archive(&mut archive, target, dest, self.owner, &options)
            .map_err(layer_error)?;
        Ok(())
    }
}

fn entry_type(kind: FileKind) -> EntryType {
    if kind == FileKind::Dir { EntryType::Directory } else { EntryType::Other }
}

fn excludes(op: &CopyOp) -> Result<Ignore, Error> {
    Ignore::from_patterns(op.excludes.iter().map(String::as_bytes)).map_err(|error| {
        Error::new(ErrorKind::Dockerfile, "`--exclude` has a wrong pattern").caused_by(error)
    })
}

fn base_name(selected: &Selected) -> &[u8] {
    selected.named.file_name().map_or(&[][..], OsStrExt::as_bytes)
}

/// A relative path of normal parts only.
fn clean(path: &str) -> PathBuf {
    let parts = Path::new(path).components();
    parts.filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

fn digest_of_file(path: &Path) -> Result<Digest, Error> {
    let failed = |error| Error::io("cannot read a downloaded file", error);
    let mut hasher = conex_oci::Hasher::sha256();
    let mut file = std::fs::File::open(path).map_err(failed)?;
    std::io::copy(&mut file, &mut hasher).map_err(failed)?;
    Ok(hasher.finish())
}
