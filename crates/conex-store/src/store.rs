//! Opening a store, and what all its parts share.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::db::{Database, Writer};
use crate::error::{Error, Result};
use crate::layout::{FOLDERS, Layout};
use crate::lease::LeaseFile;
use crate::lock::{FileLock, Mode};
use crate::options::{StoreOptions, Timestamp};
use crate::tree;

/// What the marker file says. The number behind it grows only when the layout of the folders
/// changes; rows have their own version.
const MARKER: &str = "conex store 1\n";

/// Size of the reserve: enough for the log pages of a large prune on a full disk.
const RESERVE_BYTES: usize = 1 << 20;

/// A store of images, layers and build results in one folder. Cheap to clone; any number of
/// threads and processes may use one folder at once.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) layout: Layout,
    pub(crate) db: Database,
    pub(crate) options: StoreOptions,
    own: OnceLock<LeaseFile>,
    _open_lock: Option<FileLock>,
}

impl Store {
    /// Opens the store in a folder, and makes it where there is none.
    ///
    /// # Errors
    /// The folder cannot be made or is something else, the store is of a newer version
    /// ([`TooNew`](crate::ErrorKind::TooNew)), or its database is damaged
    /// ([`Corrupt`](crate::ErrorKind::Corrupt)).
    pub fn open(root: &Path, options: StoreOptions) -> Result<Self> {
        let layout = Layout::new(root);
        if !is_store(&layout)? {
            create(&layout)?;
        }
        let open_lock = FileLock::acquire(&layout.open_lock(), Mode::Shared)?;
        Self::with_lock(layout, options, Some(open_lock))
    }

    /// Opens the store of a process that holds the lock on it alone.
    pub(crate) fn open_alone(root: &Path, options: StoreOptions) -> Result<Self> {
        let layout = Layout::new(root);
        if !is_store(&layout)? {
            create(&layout)?;
        }
        Self::with_lock(layout, options, None)
    }

    fn with_lock(
        layout: Layout,
        options: StoreOptions,
        open_lock: Option<FileLock>,
    ) -> Result<Self> {
        let db = match Database::open(&layout) {
            // On a full disk not even the database opens; it must, so that space can be freed.
            Err(error)
                if error.kind() == crate::ErrorKind::NoSpace
                    && fs::remove_file(layout.reserve()).is_ok() =>
            {
                Database::open(&layout)?
            }
            opened => opened?,
        };
        let own = OnceLock::new();
        Ok(Self { inner: Arc::new(Inner { layout, db, options, own, _open_lock: open_lock }) })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// A folder for what other parts keep beside the store (stat caches of contexts). Its content
    /// may be removed at any time.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn aux_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.inner.layout.aux().join(crate::layout::file_name(name));
        fs::create_dir_all(&path).map_err(|source| Error::io("create", &path, source))?;
        Ok(path)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("root", &self.root()).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        (self.options.clock)()
    }

    /// The lease under which the store itself works: removals, and blobs put without a lease.
    pub(crate) fn own_lease(&self) -> Result<&LeaseFile> {
        if let Some(lease) = self.own.get() {
            return Ok(lease);
        }
        let lease = LeaseFile::create(&self.layout)?;
        // Another thread may have been faster; its lease serves and ours ends unused.
        Ok(self.own.get_or_init(|| lease))
    }

    /// Writes rows, see [`Database::write`]; what was discarded is removed after the lock is free.
    pub(crate) fn write<T>(
        &self,
        act: &str,
        f: impl FnOnce(&Writer<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut buried = Vec::new();
        let result = self.db.write(act, &mut |path| buried.extend(self.bury(path)), f);
        for path in buried {
            // What cannot be removed stays in the lease's folder; the next collection tries again.
            let _ = tree::remove(&path, self.options.tree_remover.as_ref());
        }
        result
    }

    /// Moves a path out of its place, so that it is gone at once however big it is. Returns where
    /// it lies now.
    fn bury(&self, path: &Path) -> Option<PathBuf> {
        let moved = self.own_lease().and_then(|lease| {
            let grave = lease.new_path("dead")?;
            fs::rename(path, &grave).map_err(|source| Error::io("move away", path, source))?;
            Ok(grave)
        });
        match moved {
            Ok(grave) => Some(grave),
            // On a full disk even the folder for it may be too much: remove it where it is.
            Err(_) => path.exists().then(|| path.to_owned()),
        }
    }

    /// Does work that frees space, and gives up the reserve for it when the disk is full.
    pub(crate) fn freeing<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if error.kind() == crate::ErrorKind::NoSpace => {
                let reserve = self.layout.reserve();
                if fs::remove_file(&reserve).is_err() {
                    return Err(error);
                }
                let result = work();
                // Without space for a new reserve the next prune makes it.
                let _ = write_reserve(&self.layout);
                result
            }
            result => {
                if result.is_ok() && !self.layout.reserve().exists() {
                    let _ = write_reserve(&self.layout);
                }
                result
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Removing what the lease kept may begin another one for the graves.
        while let Some(mut lease) = self.own.take() {
            // What stays is found by the next collection: the lease's lock is free by then.
            let _ = crate::lease::end(self, &mut lease);
        }
    }
}

fn is_store(layout: &Layout) -> Result<bool> {
    let path = layout.marker();
    match fs::read(&path) {
        Ok(text) if text == MARKER.as_bytes() => Ok(true),
        Ok(text) if text.starts_with(b"conex store ") => {
            let found = String::from_utf8_lossy(&text);
            let found = found.trim_start_matches("conex store ").trim().parse().unwrap_or(i64::MAX);
            Err(Error::too_new(layout.root(), found, 1))
        }
        Ok(_) => Err(Error::not_a_store(layout.root(), "its file `conex-store` is foreign")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::io("read", &path, source)),
    }
}

fn create(layout: &Layout) -> Result<()> {
    let root = layout.root();
    let act = |source| Error::io("create the store", root, source);
    fs::create_dir_all(root).map_err(act)?;
    let _setup = FileLock::acquire(&layout.setup_lock(), Mode::Exclusive)?;
    if is_store(layout)? {
        return Ok(());
    }
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).map_err(act)?;
    }
    write_reserve(layout).map_err(act)?;
    drop(Database::open(layout)?);
    let temporary = root.join("conex-store.new");
    fs::write(&temporary, MARKER).map_err(act)?;
    fs::rename(&temporary, layout.marker()).map_err(act)
}

fn write_reserve(layout: &Layout) -> io::Result<()> {
    let path = layout.reserve();
    // Not zeros: a file system that compresses or leaves holes must keep room for them too.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes: Vec<u8> = (0..RESERVE_BYTES)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    let done = fs::File::create(&path).and_then(|mut file| file.write_all(&bytes));
    if done.is_err() {
        // Half a reserve would look like a whole one.
        let _ = fs::remove_file(&path);
    }
    done
}
