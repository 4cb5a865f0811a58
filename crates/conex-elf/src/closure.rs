//! Follows what programs need until nothing new turns up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::elf::{Elf, Linkage, ReadAt};
use crate::script::{self, LINE_SIZE_MAX};
use crate::search::{SearchOptions, conf_folders};
use crate::tree::{Entry, EntryKind, Resolved, Tree};
use crate::{Error, Toolset, pattern};

mod process;

use process::Process;

/// Most entries of a closure: a whole desktop system has fewer.
pub(crate) const ENTRY_COUNT_MAX: usize = 1_000_000;
/// Links at the root of systems whose `/bin` and `/lib` moved into `/usr`. Scripts and other
/// people's Dockerfiles name programs through them.
const LAYOUT_LINKS: &[&str] = &["/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin"];

/// Everything that some programs need, themselves included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// Files, links and folders, sorted by path, so parents come before children.
    pub entries: Vec<Entry>,
    /// What may be missing and could not be known, a sentence each.
    pub notes: Vec<String>,
}

/// Lists everything that programs need to run: a name without `/` is looked for in
/// [`SearchOptions::path`], any other is a path from [`SearchOptions::root`]. A path to a file that
/// is no program (a certificate, a configuration file) is listed as it is.
pub fn closure<P: AsRef<Path>>(programs: &[P], options: &SearchOptions) -> Result<Closure, Error> {
    let mut builder = Builder::new(options)?;
    for program in programs {
        let path = builder.locate(program.as_ref())?;
        builder.add(&path, None, Need::Must)?;
    }
    for toolset in &options.toolsets {
        builder.add_toolset(toolset)?;
    }
    for dir in &options.dirs {
        builder.add_tree(dir, None)?;
    }
    builder.follow()?;
    builder.add_links()?;
    Ok(builder.finish())
}

/// What it means if something is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// What was asked for cannot run: an error.
    Must,
    /// One file among many in a folder cannot be used: a note.
    May,
}

struct Builder<'o> {
    options: &'o SearchOptions,
    tree: Tree,
    conf_folders: Vec<PathBuf>,
    entries: BTreeMap<PathBuf, Entry>,
    notes: BTreeSet<String>,
    /// Files that load libraries by names that are not written in them.
    openers: BTreeSet<PathBuf>,
    /// Files to look into, once each.
    queue: VecDeque<(PathBuf, Need)>,
    /// ELF files by path; none for files that are not ELF.
    parsed: BTreeMap<PathBuf, Option<Rc<Elf>>>,
    /// Whether a library was found in a folder that the loader knows from its cache only.
    cache_needed: bool,
}

impl<'o> Builder<'o> {
    fn new(options: &'o SearchOptions) -> Result<Self, Error> {
        let tree = Tree::new(&options.root);
        let conf_folders = conf_folders(&tree, &options.ld_so_conf)?;
        Ok(Self {
            options,
            tree,
            conf_folders,
            entries: BTreeMap::new(),
            notes: BTreeSet::new(),
            openers: BTreeSet::new(),
            queue: VecDeque::new(),
            parsed: BTreeMap::new(),
            cache_needed: false,
        })
    }

    fn locate(&self, program: &Path) -> Result<PathBuf, Error> {
        if program.as_os_str().as_encoded_bytes().contains(&b'/') {
            return Ok(program.to_owned());
        }
        for folder in &self.options.path {
            let path = folder.join(program);
            let resolved = match self.tree.resolve(&path) {
                // A folder of somebody else is passed over, as a shell does.
                Err(error) if error.is_denied() => None,
                resolved => resolved?,
            };
            if resolved.is_some_and(|resolved| resolved.kind == EntryKind::File) {
                return Ok(path);
            }
        }
        let name = program.to_string_lossy();
        Err(Error::program_not_found(&name, self.options.path.len()))
    }

    /// Adds a path with everything on the way, and looks into it later. A folder is added whole.
    fn add(
        &mut self,
        path: &Path,
        wanted_by: Option<&Path>,
        need: Need,
    ) -> Result<Resolved, Error> {
        let resolved = self.tree.resolve(path)?.ok_or_else(|| Error::path_not_found(path))?;
        self.record(&resolved, wanted_by)?;
        if resolved.kind == EntryKind::Dir {
            self.add_tree(&resolved.path, wanted_by)?;
        } else {
            self.queue.push_back((resolved.path.clone(), need));
        }
        Ok(resolved)
    }

    fn record(&mut self, resolved: &Resolved, wanted_by: Option<&Path>) -> Result<(), Error> {
        for (path, kind) in &resolved.trail {
            self.insert(path, kind, wanted_by)?;
        }
        Ok(())
    }

    fn insert(
        &mut self,
        path: &Path,
        kind: &EntryKind,
        wanted_by: Option<&Path>,
    ) -> Result<(), Error> {
        if self.entries.contains_key(path) {
            return Ok(());
        }
        if self.entries.len() >= ENTRY_COUNT_MAX {
            return Err(Error::too_much("files in one closure", ENTRY_COUNT_MAX));
        }
        let entry = Entry {
            path: path.to_owned(),
            kind: kind.clone(),
            wanted_by: wanted_by.map(Path::to_owned),
        };
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    fn add_toolset(&mut self, toolset: &Toolset) -> Result<(), Error> {
        for program in toolset.programs {
            let path = self.locate(Path::new(program))?;
            self.add(&path, None, Need::Must)?;
        }
        for program in toolset.programs_optional {
            if let Ok(path) = self.locate(Path::new(program)) {
                self.add(&path, None, Need::May)?;
            }
        }
        for text in toolset.paths.iter().chain(toolset.paths_optional) {
            let paths = pattern::expand(&self.tree, Path::new(text))?;
            if paths.is_empty() && toolset.paths.contains(text) {
                return Err(Error::path_not_found(Path::new(text)));
            }
            for path in paths {
                self.add(&path, None, Need::May)?;
            }
        }
        Ok(())
    }

    /// Adds a folder with everything in it.
    fn add_tree(&mut self, dir: &Path, wanted_by: Option<&Path>) -> Result<(), Error> {
        let resolved = self.tree.resolve(dir)?.ok_or_else(|| Error::path_not_found(dir))?;
        if resolved.kind != EntryKind::Dir {
            return Err(Error::malformed(dir, "it is not a folder"));
        }
        self.record(&resolved, wanted_by)?;
        let reason = Some(resolved.path.as_path());
        let mut todo = vec![resolved.path.clone()];
        while let Some(folder) = todo.pop() {
            for name in self.tree.names(&folder)? {
                let path = folder.join(name);
                match self.tree.kind(&path)? {
                    Some(kind @ EntryKind::Dir) => {
                        self.insert(&path, &kind, reason)?;
                        todo.push(path);
                    }
                    Some(kind @ EntryKind::File) => {
                        self.insert(&path, &kind, reason)?;
                        self.queue.push_back((path, Need::May));
                    }
                    Some(kind @ EntryKind::Symlink { .. }) => {
                        self.insert(&path, &kind, reason)?;
                        self.add_link_target(&path)?;
                    }
                    None => self.note(format!(
                        "`{}` is a device, pipe or socket and is left out",
                        path.display()
                    )),
                }
            }
        }
        Ok(())
    }

    /// Follows a link in a folder that is taken whole. A folder that it leads to is not: a link to
    /// `/` would take the machine.
    fn add_link_target(&mut self, path: &Path) -> Result<(), Error> {
        let target = match self.tree.resolve(path) {
            Ok(Some(target)) => target,
            Ok(None) => {
                self.note(format!("`{}` is a link to nothing", path.display()));
                return Ok(());
            }
            Err(error) => {
                self.note(error.to_string());
                return Ok(());
            }
        };
        self.record(&target, Some(path))?;
        if target.kind == EntryKind::File {
            self.queue.push_back((target.path, Need::May));
        }
        Ok(())
    }

    /// Looks into every file of the queue, which may add more.
    fn follow(&mut self) -> Result<(), Error> {
        let mut seen = BTreeSet::new();
        while let Some((path, need)) = self.queue.pop_front() {
            if !seen.insert(path.clone()) {
                continue;
            }
            match self.follow_file(&path, need) {
                Ok(()) => {}
                Err(error) if need == Need::May => self.note(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn follow_file(&mut self, path: &Path, need: Need) -> Result<(), Error> {
        if let Some(elf) = self.elf(path)? {
            return Process::new(self, path, elf).load(need);
        }
        // What a script in a folder would run is not followed: such folders are full of examples
        // and of tools for their developers.
        if need == Need::Must {
            self.follow_script(path)?;
        }
        Ok(())
    }

    fn follow_script(&mut self, path: &Path) -> Result<(), Error> {
        let Some(interpreter) = script::interpreter(&self.first_bytes(path)?) else {
            return Ok(());
        };
        let missing = |name: &str| Error::interpreter_not_found(name, path);
        if !interpreter.program.starts_with('/') {
            return Err(missing(&interpreter.program));
        }
        self.add(Path::new(&interpreter.program), Some(path), Need::Must)
            .map_err(|_| missing(&interpreter.program))?;
        if let Some(name) = interpreter.by_env {
            let program = self.locate(Path::new(&name)).map_err(|_| missing(&name))?;
            self.add(&program, Some(path), Need::Must).map_err(|_| missing(&name))?;
        }
        Ok(())
    }

    fn first_bytes(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; LINE_SIZE_MAX];
        let count = ReadAt::read_at(&self.tree.open(path)?, &mut bytes, 0)
            .map_err(|error| Error::io("read", path, error))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Reads a file as ELF, once; none if it is something else.
    fn elf(&mut self, path: &Path) -> Result<Option<Rc<Elf>>, Error> {
        if let Some(known) = self.parsed.get(path) {
            return Ok(known.clone());
        }
        let elf = if Elf::has_magic(&self.first_bytes(path)?) {
            let elf = Elf::parse(&self.tree.open(path)?)
                .map_err(|error| Error::malformed(path, &error.to_string()))?;
            Some(Rc::new(elf))
        } else {
            None
        };
        self.parsed.insert(path.to_owned(), elf.clone());
        Ok(elf)
    }

    /// The file at a path if it can be loaded with files of this linkage.
    fn loadable(
        &mut self,
        path: &Path,
        linkage: Linkage,
    ) -> Result<Option<(Resolved, Rc<Elf>)>, Error> {
        // A loader skips what it cannot use and goes on searching, so errors are absence.
        let Ok(Some(resolved)) = self.tree.resolve(path) else { return Ok(None) };
        if resolved.kind != EntryKind::File {
            return Ok(None);
        }
        let Ok(Some(elf)) = self.elf(&resolved.path) else { return Ok(None) };
        Ok((elf.linkage == linkage).then_some((resolved, elf)))
    }

    fn note(&mut self, note: String) {
        self.notes.insert(note);
    }

    /// Adds the links that were asked for and those at the root whose folders are used.
    fn add_links(&mut self) -> Result<(), Error> {
        if self.cache_needed {
            for file in ["/etc/ld.so.cache", "/etc/ld.so.conf"] {
                if let Some(resolved) = self.tree.resolve(Path::new(file))? {
                    self.record(&resolved, None)?;
                }
            }
            for folder in self.conf_folders.clone() {
                if let Ok(Some(resolved)) = self.tree.resolve(&folder)
                    && self.entries.contains_key(&resolved.path)
                {
                    self.record(&resolved, None)?;
                }
            }
        }
        for link in LAYOUT_LINKS {
            let path = Path::new(link);
            if let Some(EntryKind::Symlink { .. }) = self.tree.kind(path)?
                && let Some(resolved) = self.tree.resolve(path)?
                && self.entries.contains_key(&resolved.path)
            {
                self.record(&resolved, None)?;
            }
        }
        for link in &self.options.links {
            self.add_made_link(&link.path, &link.target)?;
        }
        Ok(())
    }

    /// Adds a link that the machine does not have, in a folder that it has.
    fn add_made_link(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        let not_usable = || Error::malformed(path, "it is no place for a link");
        let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(not_usable)?;
        let folder = self.tree.resolve(folder)?.ok_or_else(not_usable)?;
        if folder.kind != EntryKind::Dir {
            return Err(not_usable());
        }
        self.record(&folder, None)?;
        let place = folder.path.join(name);
        let kind = EntryKind::Symlink { target: target.to_owned() };
        let entry = Entry { path: place.clone(), kind, wanted_by: None };
        self.entries.insert(place, entry);
        Ok(())
    }

    fn finish(mut self) -> Closure {
        if !self.openers.is_empty() {
            let names: Vec<String> =
                self.openers.iter().map(|path| format!("`{}`", path.display())).collect();
            self.notes.insert(format!(
                "what these load while they run is not written in them, and may be missing: {}",
                names.join(", ")
            ));
        }
        Closure {
            entries: self.entries.into_values().collect(),
            notes: self.notes.into_iter().collect(),
        }
    }
}
