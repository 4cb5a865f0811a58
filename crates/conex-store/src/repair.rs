//! Mending a store: what can be rebuilt is rebuilt, what is damaged goes, and what was lost is
//! named.

use std::path::{Path, PathBuf};

use conex_oci::{Digest, Reference};

use crate::check::{CheckDepth, CheckReport, Damage, INCOMPLETE, OnProgress};
use crate::codec;
use crate::collect::Garbage;
use crate::db::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;
use crate::lock::{FileLock, Mode};
use crate::options::StoreOptions;
use crate::snapshot::drop_tree;
use crate::store::{Inner, Store};
use crate::{gc, rebuild, tag};

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// What was damaged.
    pub damage: Vec<Damage>,
    /// Where the damaged database lies now, if a new one had to be made.
    pub database_aside: Option<PathBuf>,
    /// Images that could not be kept, and the tags that they had.
    pub lost_images: Vec<(Digest, Vec<Reference>)>,
    /// Whether a check afterwards finds the store sound.
    pub is_sound: bool,
}

impl Store {
    /// Mends the store in a folder. No other process may have it open.
    ///
    /// # Errors
    /// Another process has it open ([`Conflict`](crate::ErrorKind::Conflict)), it is of a newer
    /// version, or files cannot be read or written.
    pub fn repair(
        root: &Path,
        options: StoreOptions,
        progress: OnProgress<'_>,
    ) -> Result<RepairReport> {
        let layout = Layout::new(root);
        let _alone = alone(&layout)?;
        let mut report = RepairReport::default();
        let opened = Self::open_alone(root, options.clone());
        let checked = opened.and_then(|store| {
            let check = store.check(CheckDepth::Everything, progress)?;
            Ok((store, check))
        });
        let (store, check) = match checked {
            Ok((store, check)) if !has_damaged_database(&check) => (store, check),
            Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
            damaged => {
                report.damage.push(database_damage(&damaged));
                // The connection must be closed before its file moves.
                drop(damaged);
                report.database_aside = Some(rebuild::replace_database(&layout)?);
                let store = Self::open_alone(root, options)?;
                rebuild::adopt(&store)?;
                let check = store.check(CheckDepth::Everything, progress)?;
                (store, check)
            }
        };
        store.mend(&check, &mut report)?;
        report.damage.extend(check.damage);
        report.is_sound = store.check(CheckDepth::Blobs, progress)?.is_sound();
        Ok(report)
    }

    fn mend(&self, check: &CheckReport, report: &mut RepairReport) -> Result<()> {
        let inner = &self.inner;
        inner.write("mend the store", |writer| {
            for damage in &check.damage {
                mend_one(inner, writer, damage, &mut report.lost_images)?;
            }
            for image in writer.rows(INCOMPLETE, [], |row| codec::digest(row, 0))? {
                lose_image(inner, writer, &image, &mut report.lost_images)?;
            }
            Ok(())
        })?;
        rebuild::adopt_folders(inner)?;
        inner.write("remove what is left over", |writer| gc::sweep(inner, writer))?;
        self.gc()?;
        Ok(())
    }
}

/// Makes sure that no other process has the store open.
fn alone(layout: &Layout) -> Result<Option<FileLock>> {
    if !layout.marker().exists() && !layout.database().exists() {
        return Err(Error::not_found("store", layout.root().display()));
    }
    match FileLock::try_acquire(&layout.open_lock(), Mode::Exclusive)? {
        Some(lock) => Ok(Some(lock)),
        None => Err(Error::conflict(format!(
            "store `{}` is open in another process",
            layout.root().display()
        ))),
    }
}

fn has_damaged_database(check: &CheckReport) -> bool {
    check.damage.iter().any(|damage| matches!(damage, Damage::Database(_)))
}

fn database_damage(checked: &Result<(Store, CheckReport)>) -> Damage {
    match checked {
        Ok((_, check)) => check
            .damage
            .iter()
            .find(|damage| matches!(damage, Damage::Database(_)))
            .cloned()
            .unwrap_or_else(|| Damage::Database("it cannot be read".to_owned())),
        Err(error) => {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            Damage::Database(cause.unwrap_or_else(|| error.to_string()))
        }
    }
}

fn mend_one(
    inner: &Inner,
    writer: &Writer<'_>,
    damage: &Damage,
    lost: &mut Vec<(Digest, Vec<Reference>)>,
) -> Result<()> {
    match damage {
        Damage::BlobMissing(digest) | Damage::BlobDamaged(digest) => {
            drop_blob(inner, writer, digest, lost)
        }
        Damage::SnapshotMissing(id, _) | Damage::SnapshotDamaged(id, _) => {
            drop_tree(inner, writer, id.as_str())
        }
        Damage::VolumeMissing(name) => {
            writer.execute("DELETE FROM volumes WHERE name = ?", [name]).map(|_| ())
        }
        Damage::CacheMountMissing(id) => {
            let dirs = "SELECT dir FROM cache_mounts WHERE id = ?";
            for dir in writer.rows(dirs, [id], |row| row.get::<_, String>(0))? {
                if !inner.layout.caches().join(&dir).join("_data").is_dir() {
                    writer.execute("DELETE FROM cache_mounts WHERE dir = ?", [dir])?;
                }
            }
            Ok(())
        }
        // A damaged database was replaced before; images lose layers only by what is mended here;
        // folders without rows are adopted or swept afterwards.
        Damage::Database(_)
        | Damage::ImageIncomplete(_)
        | Damage::Unknown(_)
        | Damage::Leftover(_) => Ok(()),
    }
}

fn drop_blob(
    inner: &Inner,
    writer: &Writer<'_>,
    digest: &Digest,
    lost: &mut Vec<(Digest, Vec<Reference>)>,
) -> Result<()> {
    let text = digest.as_str();
    if writer.exists("SELECT 1 FROM images WHERE id = ?", [text])? {
        lose_image(inner, writer, digest, lost)?;
    }
    writer.execute("DELETE FROM layer_blobs WHERE digest = ?", [text])?;
    writer.execute("DELETE FROM manifests WHERE digest = ?", [text])?;
    writer.execute("DELETE FROM lease_refs WHERE kind = 'blob' AND object = ?", [text])?;
    if writer.execute("DELETE FROM blobs WHERE digest = ?", [text])? > 0 {
        writer.discard(inner.layout.blob(digest));
    }
    Ok(())
}

/// Removes an image that cannot be kept, with its tags.
fn lose_image(
    inner: &Inner,
    writer: &Writer<'_>,
    id: &Digest,
    lost: &mut Vec<(Digest, Vec<Reference>)>,
) -> Result<()> {
    let text = id.as_str();
    let tags: Vec<Reference> =
        writer.rows("SELECT name FROM tags WHERE image = ? ORDER BY name", [text], |row| {
            codec::parsed(row, 0)
        })?;
    for name in &tags {
        tag::set(inner, writer, name, Some(id), None)?;
    }
    writer.execute("UPDATE index_entries SET image = NULL WHERE image = ?", [text])?;
    writer.execute("DELETE FROM lease_refs WHERE kind = 'image' AND object = ?", [text])?;
    Garbage::new(inner, writer).remove_image(id)?;
    lost.push((id.clone(), tags));
    Ok(())
}
