//! Cache mounts: plain named folders that RUN steps keep what they may lose in.
//!
//! A cache mount is `caches/<name>/_data` with `caches/<name>/lock` beside it. Whoever uses it
//! holds the lock, shared or alone; so pruning can tell whether somebody does.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::db::rows;
use crate::error::{Error, Result};
use crate::layout::file_name;
use crate::lock::{FileLock, KeepWaiting, Mode};
use crate::options::Timestamp;
use crate::store::Store;
use crate::tree;

/// Most folders that one ID has for steps that want it for themselves at the same time.
const PRIVATE_COUNT_MAX: u32 = 1000;

/// How steps share a cache mount (`RUN --mount=type=cache,sharing=…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Any number at once.
    Shared,
    /// Each its own: a second one at the same time gets another folder.
    Private,
    /// One after another.
    Locked,
}

/// How a cache mount is made the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheMountOptions {
    /// How it is shared.
    pub sharing: Sharing,
    /// Mode of the folder.
    pub mode: u32,
    /// Owner of the folder; `None` leaves it to the caller, who alone knows how ids are mapped.
    pub owner: Option<(u32, u32)>,
}

/// A cache mount in use.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    is_new: bool,
    _lock: FileLock,
}

impl CacheMount {
    /// The folder to mount.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was made just now.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

/// A line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountRecord {
    /// The ID that steps name.
    pub id: String,
    /// The folder with the content.
    pub path: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used.
    pub last_used: Timestamp,
    /// Bytes on disk.
    pub size: u64,
    /// Whether a living process uses it.
    pub is_in_use: bool,
}

impl Store {
    /// Takes a cache mount into use, and makes it where it is missing.
    ///
    /// # Errors
    /// The wait for its user was stopped ([`Canceled`](crate::ErrorKind::Canceled)), or the folder
    /// cannot be made.
    pub fn cache_mount(
        &self,
        id: &str,
        options: &CacheMountOptions,
        keep_waiting: KeepWaiting<'_>,
    ) -> Result<CacheMount> {
        let name = file_name(id);
        match options.sharing {
            Sharing::Shared | Sharing::Locked => loop {
                let is_new = self.make_cache_mount(id, &name, options)?;
                let mode = match options.sharing {
                    Sharing::Shared => Mode::Shared,
                    _ => Mode::Exclusive,
                };
                let lock = FileLock::wait(&self.cache_lock(&name), mode, keep_waiting);
                if let Some(mount) = self.taken(&name, is_new, lock)? {
                    return Ok(mount);
                }
            },
            Sharing::Private => self.private_cache_mount(id, &name, options),
        }
    }

    /// All cache mounts, by ID.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountRecord>> {
        let list = self.inner.db.read("list cache mounts", |connection| {
            let sql = "SELECT dir, id, created, last_used FROM cache_mounts ORDER BY id, dir";
            rows(connection, sql, [], |row| {
                let (dir, id): (String, String) = (row.get(0)?, row.get(1)?);
                Ok((dir, id, Timestamp(row.get(2)?), Timestamp(row.get(3)?)))
            })
        })?;
        list.into_iter()
            .map(|(dir, id, created, last_used)| {
                let path = self.cache_data(&dir);
                let is_in_use = self.is_cache_in_use(&dir)?;
                let size = tree::measure(&path, &mut tree::Counted::default()).disk;
                Ok(CacheMountRecord { id, path, created, last_used, size, is_in_use })
            })
            .collect()
    }

    /// Removes the folders of a cache mount. Returns the bytes that are free again.
    ///
    /// # Errors
    /// There is none, or a living process uses it ([`Conflict`](crate::ErrorKind::Conflict)).
    pub fn remove_cache_mount(&self, id: &str) -> Result<u64> {
        let dirs = self.inner.db.read("look for a cache mount", |connection| {
            let sql = "SELECT dir FROM cache_mounts WHERE id = ?";
            rows(connection, sql, [id], |row| row.get::<_, String>(0))
        })?;
        if dirs.is_empty() {
            return Err(Error::not_found("cache mount", id));
        }
        let mut bytes = 0_u64;
        for dir in dirs {
            match self.remove_cache_dir(&dir)? {
                Some(freed) => bytes = bytes.saturating_add(freed),
                None => {
                    let message = format!("cache mount `{id}` is used by a living process");
                    return Err(Error::conflict(message));
                }
            }
        }
        Ok(bytes)
    }

    /// Removes one folder, unless somebody uses it.
    pub(crate) fn remove_cache_dir(&self, dir: &str) -> Result<Option<u64>> {
        let folder = self.inner.layout.caches().join(dir);
        let lock = match FileLock::try_acquire(&self.cache_lock(dir), Mode::Exclusive) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(None),
            // The folder is gone, only the row is there.
            Err(_) if !folder.exists() => None,
            Err(error) => return Err(error),
        };
        let size = tree::measure(&folder, &mut tree::Counted::default()).disk;
        self.inner.freeing(|| {
            self.inner.write("remove a cache mount", |writer| {
                writer.execute("DELETE FROM cache_mounts WHERE dir = ?", [dir])?;
                if folder.exists() {
                    writer.discard(folder.clone());
                }
                Ok(())
            })
        })?;
        drop(lock);
        Ok(Some(size))
    }

    fn private_cache_mount(
        &self,
        id: &str,
        name: &str,
        options: &CacheMountOptions,
    ) -> Result<CacheMount> {
        for number in 1..=PRIVATE_COUNT_MAX {
            let name = if number == 1 { name.to_owned() } else { format!("{name}.{number}") };
            let is_new = self.make_cache_mount(id, &name, options)?;
            let lock = match FileLock::try_acquire(&self.cache_lock(&name), Mode::Exclusive) {
                Ok(None) => continue,
                Ok(Some(lock)) => Ok(lock),
                Err(error) => Err(error),
            };
            if let Some(mount) = self.taken(&name, is_new, lock)? {
                return Ok(mount);
            }
        }
        Err(Error::conflict(format!("cache mount `{id}` is in use {PRIVATE_COUNT_MAX} times")))
    }

    /// Makes sure that folder and row are there. Returns whether the folder is new.
    fn make_cache_mount(&self, id: &str, dir: &str, options: &CacheMountOptions) -> Result<bool> {
        let inner = &self.inner;
        let folder = inner.layout.caches().join(dir);
        let now = inner.now().0;
        if folder.join("_data").exists() {
            inner.write("note the use of a cache mount", |writer| {
                writer.execute(
                    "INSERT INTO cache_mounts (dir, id, created, last_used) VALUES (?1, ?2, ?3, ?3)
                     ON CONFLICT (dir) DO UPDATE SET last_used = ?3",
                    (dir, id, now),
                )
            })?;
            return Ok(false);
        }
        let fresh = inner.own_lease()?.new_path("cache")?;
        let data = fresh.join("_data");
        let act = |source| Error::io("create cache mount", &folder, source);
        fs::create_dir_all(&data).map_err(act)?;
        if let Some((uid, gid)) = options.owner {
            chown(&data, Some(uid), Some(gid)).map_err(act)?;
        }
        fs::set_permissions(&data, fs::Permissions::from_mode(options.mode & 0o7777))
            .map_err(act)?;
        FileLock::open(&fresh.join("lock"))?;
        // Tells the ID when the database is lost.
        fs::write(fresh.join("id"), id).map_err(act)?;
        let made = inner.write("make a cache mount", |writer| {
            if folder.exists() {
                return Ok(false);
            }
            writer.publish(&fresh, &folder)?;
            writer.execute(
                "INSERT OR REPLACE INTO cache_mounts (dir, id, created, last_used)
                 VALUES (?1, ?2, ?3, ?3)",
                (dir, id, now),
            )?;
            Ok(true)
        })?;
        if !made {
            crate::lease::remove_folder(inner, &fresh);
        }
        Ok(made)
    }

    /// The mount, if it was not pruned between making and locking it.
    fn taken(&self, dir: &str, is_new: bool, lock: Result<FileLock>) -> Result<Option<CacheMount>> {
        let path = self.cache_data(dir);
        match lock {
            Ok(lock) if lock.is_current(&self.cache_lock(dir))? && path.exists() => {
                Ok(Some(CacheMount { path, is_new, _lock: lock }))
            }
            Ok(_) => Ok(None),
            Err(error) if path.exists() => Err(error),
            Err(error) if error.kind() == crate::ErrorKind::Canceled => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn is_cache_in_use(&self, dir: &str) -> Result<bool> {
        match FileLock::try_acquire(&self.cache_lock(dir), Mode::Exclusive) {
            Ok(lock) => Ok(lock.is_none()),
            Err(_) if !self.cache_data(dir).exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn cache_data(&self, dir: &str) -> PathBuf {
        self.inner.layout.caches().join(dir).join("_data")
    }

    fn cache_lock(&self, dir: &str) -> PathBuf {
        self.inner.layout.caches().join(dir).join("lock")
    }
}
