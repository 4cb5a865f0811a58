//! One program or library with everything that its loader would load for it.
//!
//! Libraries are looked for in the order of `ld.so(8)`; each name is loaded once for a process, as
//! the loader does it, so which copy of a library is found depends on who asks first.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Builder, Need};
use crate::Error;
use crate::elf::Elf;
use crate::search::{default_folders, musl_folders, substitute};
use crate::tree::EntryKind;

/// Most files loaded by one program: the largest real ones load a few hundred.
const OBJECT_COUNT_MAX: usize = 10_000;

/// A file that is loaded.
struct Object {
    /// Where it is.
    path: PathBuf,
    /// The name by which it was found, perhaps through links; `$ORIGIN` is its folder.
    found: PathBuf,
    elf: Rc<Elf>,
    /// Which object asked for it.
    loader: Option<usize>,
}

pub(super) struct Process<'b, 'o> {
    builder: &'b mut Builder<'o>,
    objects: Vec<Object>,
    names: BTreeSet<String>,
    /// The folders that the loader knows by itself, from its cache and built in.
    system_folders: Vec<PathBuf>,
    /// How many of them come from the cache.
    cached_count: usize,
    is_musl: bool,
}

impl<'b, 'o> Process<'b, 'o> {
    pub(super) fn new(builder: &'b mut Builder<'o>, path: &Path, elf: Rc<Elf>) -> Self {
        let (path, found) = (path.to_owned(), path.to_owned());
        let main = Object { path, found, elf, loader: None };
        Self {
            builder,
            objects: vec![main],
            names: BTreeSet::new(),
            system_folders: Vec::new(),
            cached_count: 0,
            is_musl: false,
        }
    }

    /// Adds everything that is loaded.
    pub(super) fn load(mut self, need: Need) -> Result<(), Error> {
        let Some(main) = self.objects.first() else { return Ok(()) };
        let (path, elf) = (main.path.clone(), Rc::clone(&main.elf));
        self.add_interpreter(&path, &elf)?;
        let mut todo = VecDeque::from([0]);
        while let Some(index) = todo.pop_front() {
            let Some(object) = self.objects.get(index) else { break };
            let elf = Rc::clone(&object.elf);
            for name in &elf.needed {
                match self.load_library(name, index) {
                    Ok(Some(loaded)) => todo.push_back(loaded),
                    Ok(None) => {}
                    Err(error) if need == Need::May => self.builder.note(error.to_string()),
                    Err(error) => return Err(error),
                }
            }
        }
        if !self.is_musl {
            self.load_companions(todo)?;
        }
        self.note_dlopen();
        Ok(())
    }

    fn add_interpreter(&mut self, path: &Path, elf: &Elf) -> Result<(), Error> {
        if let Some(interpreter) = &elf.interpreter {
            let loader = Path::new(interpreter);
            self.builder
                .tree
                .resolve(loader)?
                .filter(|resolved| resolved.kind == EntryKind::File)
                .ok_or_else(|| Error::interpreter_not_found(interpreter, path))
                .and_then(|resolved| self.builder.record(&resolved, Some(path)))?;
            let name = loader.file_name().unwrap_or_default().to_string_lossy();
            self.is_musl = name.starts_with("ld-musl-");
            if self.is_musl {
                self.system_folders = musl_folders(&self.builder.tree, loader)?;
                return Ok(());
            }
        }
        self.cached_count = self.builder.conf_folders.len();
        self.system_folders = self.builder.conf_folders.clone();
        self.system_folders.extend(default_folders(elf.linkage));
        Ok(())
    }

    /// Finds and adds one library; none if it is loaded already or part of the loader.
    fn load_library(&mut self, name: &str, by: usize) -> Result<Option<usize>, Error> {
        if self.names.contains(name) || (self.is_musl && is_in_musl_loader(name)) {
            return Ok(None);
        }
        let (path, linkage) = match self.objects.get(by) {
            Some(object) => (object.path.clone(), object.elf.linkage),
            None => return Ok(None),
        };
        for (place, candidate) in self.candidates(name, by) {
            let Some((resolved, elf)) = self.builder.loadable(&candidate, linkage)? else {
                continue;
            };
            self.builder.record(&resolved, Some(&path))?;
            self.builder.cache_needed |= place == Place::Cache && !self.is_default(&candidate);
            self.names.insert(name.to_owned());
            self.names.extend(elf.soname.clone());
            if self.objects.len() >= OBJECT_COUNT_MAX {
                return Err(Error::too_much("libraries in one program", OBJECT_COUNT_MAX));
            }
            let path = resolved.path;
            self.objects.push(Object { path, found: candidate, elf, loader: Some(by) });
            return Ok(Some(self.objects.len() - 1));
        }
        Err(Error::library_not_found(name, &path))
    }

    /// Every path where the loader would look for a library, in its order.
    fn candidates(&self, name: &str, by: usize) -> Vec<(Place, PathBuf)> {
        let Some(object) = self.objects.get(by) else { return Vec::new() };
        let linkage = object.elf.linkage;
        if name.contains('/') {
            let origin = folder(&object.found);
            return substitute(name, origin, linkage)
                .into_iter()
                .map(|path| (Place::Named, path))
                .collect();
        }
        let mut folders: Vec<(Place, PathBuf)> = Vec::new();
        if object.elf.runpath.is_empty() {
            // DT_RPATH of the object, of who loaded it, and so on up to the program.
            let mut next = Some(object);
            while let Some(holder) = next {
                if holder.elf.runpath.is_empty() {
                    folders.extend(path_folders(&holder.elf.rpath, holder));
                }
                next = holder.loader.and_then(|index| self.objects.get(index));
            }
        }
        let library_path = &self.builder.options.library_path;
        folders.extend(library_path.iter().map(|folder| (Place::Named, folder.clone())));
        folders.extend(path_folders(&object.elf.runpath, object));
        if !object.elf.no_default_folders {
            let system = self.system_folders.iter().enumerate().map(|(index, folder)| {
                let place = if index < self.cached_count { Place::Cache } else { Place::Default };
                (place, folder.clone())
            });
            folders.extend(system);
        }
        folders.into_iter().map(|(place, folder)| (place, folder.join(name))).collect()
    }

    /// Whether the loader finds a library without its cache.
    fn is_default(&self, library: &Path) -> bool {
        let defaults = self.system_folders.get(self.cached_count..).unwrap_or_default();
        defaults.iter().any(|default| default == folder(library))
    }

    /// Adds what the C library loads by itself for the functions that the objects use.
    fn load_companions(&mut self, mut todo: VecDeque<usize>) -> Result<(), Error> {
        for companion in self.builder.options.companions {
            let asker = self.objects.iter().position(|object| {
                !is_c_library(&object.elf) && object.elf.names_any(companion.symbols)
            });
            let built_in = companion.built_in_since.is_some_and(|version| {
                let mut libraries = self.objects.iter().map(|object| &object.elf);
                libraries.any(|elf| is_c_library(elf) && elf.names_any(&[version]))
            });
            let Some(asker) = asker.filter(|_| !built_in) else { continue };
            for library in companion.libraries {
                match self.load_library(library, asker) {
                    Ok(Some(loaded)) => todo.push_back(loaded),
                    Ok(None) => {}
                    Err(error) => self.builder.note(error.to_string()),
                }
            }
        }
        while let Some(index) = todo.pop_front() {
            let needed =
                self.objects.get(index).map(|object| object.elf.needed.clone()).unwrap_or_default();
            for name in needed {
                todo.extend(self.load_library(&name, index)?);
            }
        }
        Ok(())
    }

    /// Remembers files that load others by a name that they make up while they run.
    fn note_dlopen(&mut self) {
        for object in &self.objects {
            if !is_c_library(&object.elf) && object.elf.names_any(&["dlopen"]) {
                self.builder.openers.insert(object.path.clone());
            }
        }
    }
}

/// How a library's folder is known to the loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// From the file that needs it, or from the caller.
    Named,
    /// From the loader's cache.
    Cache,
    /// It is built into the loader.
    Default,
}

fn path_folders(search_path: &[String], holder: &Object) -> Vec<(Place, PathBuf)> {
    let origin = folder(&holder.found);
    search_path
        .iter()
        .flat_map(|text| substitute(text, origin, holder.elf.linkage))
        .map(|folder| (Place::Named, folder))
        .collect()
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The C library and its parts define the functions that others ask for.
fn is_c_library(elf: &Elf) -> bool {
    let name = elf.soname.as_deref().unwrap_or_default();
    ["libc.so.", "ld-linux", "ld64.so.", "ld.so.", "libdl.so.", "libpthread.so."]
        .iter()
        .any(|start| name.starts_with(start))
}

/// The names that musl's loader answers for itself (`ldso/dynlink.c`, "reserved").
fn is_in_musl_loader(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("lib") else { return false };
    ["c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."]
        .iter()
        .any(|reserved| rest.starts_with(reserved))
}
