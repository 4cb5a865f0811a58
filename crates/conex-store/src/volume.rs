//! Named volumes: folders that containers keep what they may not lose in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use conex_oci::Digest;
use rusqlite::Connection;

use crate::codec;
use crate::db::rows;
use crate::error::{Error, Result};
use crate::lease::random_id;
use crate::lock::{FileLock, Mode};
use crate::options::Timestamp;
use crate::store::Store;
use crate::tree;

/// Longest name: what a file name may have.
const NAME_LEN_MAX: usize = 255;

/// The label by which Docker knows volumes that nobody named.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The folder with the content.
    pub path: PathBuf,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver, as they were given.
    pub options: BTreeMap<String, String>,
    /// When it was made.
    pub created: Timestamp,
}

/// What a volume should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name; `None` draws one and sets [`ANONYMOUS_LABEL`].
    pub name: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// What a volume takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Bytes on disk.
    pub size: u64,
    /// Whether a living process uses it.
    pub is_in_use: bool,
}

/// A volume in use; it cannot be removed meanwhile.
#[derive(Debug)]
pub struct VolumeUse {
    volume: Volume,
    _lock: FileLock,
}

impl VolumeUse {
    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }
}

impl Store {
    /// Makes a volume. One that is there already is returned as it is, as Docker does.
    ///
    /// # Errors
    /// The name is not valid, or the folder cannot be made.
    pub fn create_volume(&self, new: &NewVolume) -> Result<Volume> {
        let mut labels = new.labels.clone();
        let name = match &new.name {
            Some(name) => {
                check_name(name)?;
                name.clone()
            }
            None => {
                labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
                Digest::of(format!("{} {}", random_id(), random_id()).as_bytes()).hex().to_owned()
            }
        };
        if let Some(volume) = self.volume(&name)? {
            return Ok(volume);
        }
        let inner = &self.inner;
        let folder = inner.layout.volumes().join(&name);
        let fresh = inner.own_lease()?.new_path("volume")?;
        let act = |source| Error::io("create volume", &folder, source);
        fs::create_dir_all(fresh.join("_data")).map_err(act)?;
        FileLock::open(&fresh.join("lock"))?;
        inner.write("make a volume", |writer| {
            if writer.exists("SELECT 1 FROM volumes WHERE name = ?", [&name])? {
                return Ok(());
            }
            // A folder without a row holds what a person kept in it: take it as it is.
            if !folder.exists() {
                writer.publish(&fresh, &folder)?;
            }
            writer.execute(
                "INSERT INTO volumes (name, labels, options, created) VALUES (?, ?, ?, ?)",
                (&name, codec::to_json(&labels), codec::to_json(&new.options), inner.now().0),
            )?;
            Ok(())
        })?;
        crate::lease::remove_folder(inner, &fresh);
        self.volume(&name)?.ok_or_else(|| Error::not_found("volume", &name))
    }

    /// A volume by its name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn volume(&self, name: &str) -> Result<Option<Volume>> {
        let list = self.inner.db.read("look for a volume", |connection| {
            self.load_volumes(connection, "WHERE name = ?", [name])
        })?;
        Ok(list.into_iter().next())
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn volumes(&self) -> Result<Vec<Volume>> {
        self.inner.db.read("list volumes", |connection| self.load_volumes(connection, "", []))
    }

    /// Measures a volume.
    ///
    /// # Errors
    /// Its lock is refused.
    pub fn volume_usage(&self, volume: &Volume) -> Result<VolumeUsage> {
        let folder = self.inner.layout.volumes().join(&volume.name);
        let is_in_use =
            match FileLock::try_acquire(&self.volume_lock(&volume.name), Mode::Exclusive) {
                Ok(lock) => lock.is_none(),
                // It was removed meanwhile.
                Err(_) if !folder.exists() => false,
                Err(error) => return Err(error),
            };
        let size = tree::measure(&folder, &mut tree::Counted::default()).disk;
        Ok(VolumeUsage { size, is_in_use })
    }

    /// Takes a volume into use, and makes it where it is missing.
    ///
    /// # Errors
    /// The name is not valid, or the folder cannot be made.
    pub fn use_volume(&self, name: &str) -> Result<VolumeUse> {
        loop {
            let new = NewVolume { name: Some(name.to_owned()), ..NewVolume::default() };
            let volume = self.create_volume(&new)?;
            let path = self.volume_lock(name);
            // A removal may have come between; then make it again.
            match FileLock::acquire(&path, Mode::Shared) {
                Ok(lock) if lock.is_current(&path)? => {
                    return Ok(VolumeUse { volume, _lock: lock });
                }
                Err(error) if volume.path.exists() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Removes a volume with its content. Returns the bytes that are free again.
    ///
    /// # Errors
    /// There is none, or a living process uses it ([`Conflict`](crate::ErrorKind::Conflict)).
    pub fn remove_volume(&self, name: &str) -> Result<u64> {
        if self.volume(name)?.is_none() {
            return Err(Error::not_found("volume", name));
        }
        let folder = self.inner.layout.volumes().join(name);
        let lock = match FileLock::try_acquire(&self.volume_lock(name), Mode::Exclusive) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => {
                let message = format!("volume `{name}` is used by a living process");
                return Err(Error::conflict(message));
            }
            // The folder is gone, only the row is there.
            Err(_) if !folder.exists() => None,
            Err(error) => return Err(error),
        };
        let size = tree::measure(&folder, &mut tree::Counted::default()).disk;
        self.inner.freeing(|| {
            self.inner.write("remove a volume", |writer| {
                writer.execute("DELETE FROM volumes WHERE name = ?", [name])?;
                if folder.exists() {
                    writer.discard(folder.clone());
                }
                Ok(())
            })
        })?;
        drop(lock);
        Ok(size)
    }

    fn load_volumes(
        &self,
        connection: &Connection,
        filter: &str,
        params: impl rusqlite::Params,
    ) -> rusqlite::Result<Vec<Volume>> {
        let sql =
            format!("SELECT name, labels, options, created FROM volumes {filter} ORDER BY name");
        let folder = self.inner.layout.volumes();
        rows(connection, &sql, params, |row| {
            let name: String = row.get(0)?;
            Ok(Volume {
                path: folder.join(&name).join("_data"),
                name,
                labels: codec::json(row, 1)?,
                options: codec::json(row, 2)?,
                created: Timestamp(row.get(3)?),
            })
        })
    }

    fn volume_lock(&self, name: &str) -> PathBuf {
        self.inner.layout.volumes().join(name).join("lock")
    }
}

/// Docker's rule: a letter or digit, then letters, digits, `_`, `.` and `-`; two characters at
/// least. So a name is a safe file name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let word = |byte: u8| byte.is_ascii_alphanumeric();
    let ok = (2..=NAME_LEN_MAX).contains(&name.len())
        && name.bytes().next().is_some_and(word)
        && name.bytes().all(|byte| word(byte) || matches!(byte, b'_' | b'.' | b'-'));
    if ok && Path::new(name).file_name().is_some() {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(Error::invalid(format!(
        "`{shown}` is not a volume name: only `[a-zA-Z0-9][a-zA-Z0-9_.-]+` is"
    )))
}
