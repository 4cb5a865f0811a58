//! Removing images as `docker rmi` does: names first, the image with its last name.

use conex_oci::{Digest, Reference};

use crate::codec;
use crate::collect::{Garbage, Removed};
use crate::db::Writer;
use crate::error::{Error, Result};
use crate::image::ImageRecord;
use crate::store::Store;
use crate::tag;

/// Whether refusals that a person may overrule are overruled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Refuse.
    No,
    /// Do it all the same.
    Yes,
}

/// One line of what a removal did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedLine {
    /// A name (a tag, or `name@digest`) is gone.
    Untagged(Reference),
    /// An image, an index or a layer is gone.
    Deleted(Digest),
}

impl std::fmt::Display for RemovedLine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(name) => write!(formatter, "Untagged: {}", name.familiar()),
            Self::Deleted(digest) => write!(formatter, "Deleted: {digest}"),
        }
    }
}

impl Store {
    /// Removes what a text names. A name loses that name, and the image goes with its last one; an
    /// ID removes the image with all names if they are of one repository, or with [`Force::Yes`].
    ///
    /// # Errors
    /// Nothing is named, or the image is needed: by a living process, an index, or names in several
    /// repositories ([`Conflict`](crate::ErrorKind::Conflict)).
    pub fn remove_image(&self, text: &str, force: Force) -> Result<Vec<RemovedLine>> {
        let record = self.resolve(text)?;
        let inner = &self.inner;
        // Processes that died must not keep the image.
        self.gc()?;
        let name = meant_name(text, &record);
        inner.freeing(|| {
            inner.write("remove an image", |writer| {
                let mut lines = Vec::new();
                let names = names(writer, &record.id)?;
                match &name {
                    Some(name) => {
                        untag(self, writer, &record.id, name, &mut lines)?;
                        let (same, others): (Vec<_>, Vec<_>) = names
                            .iter()
                            .filter(|other| *other != name)
                            .partition(|other| other.name() == name.name());
                        // Digests of the same repository are no names of their own: they go with
                        // its last tag.
                        let is_tagged = same.iter().any(|other| other.tag().is_some());
                        if is_tagged {
                            return Ok(lines);
                        }
                        for left in same {
                            untag(self, writer, &record.id, left, &mut lines)?;
                        }
                        if !others.is_empty() || is_listed(writer, &record.id)? {
                            return Ok(lines);
                        }
                    }
                    None => {
                        check_single(&record.id, &names, force)?;
                        for name in &names {
                            untag(self, writer, &record.id, name, &mut lines)?;
                        }
                    }
                }
                check_unused(writer, &record.id)?;
                let mut garbage = Garbage::new(inner, writer);
                garbage.remove_image(&record.id)?;
                lines.extend(deleted(garbage.removed));
                Ok(lines)
            })
        })
    }
}

/// The lines for what a collection removed.
pub(crate) fn deleted(removed: Removed) -> impl Iterator<Item = RemovedLine> {
    removed.images.into_iter().chain(removed.chains).map(RemovedLine::Deleted)
}

/// The name that the text is, if it is one and not an ID.
fn meant_name(text: &str, record: &ImageRecord) -> Option<Reference> {
    let name = text.parse::<Reference>().ok()?;
    let is_name = record.tags.contains(&name)
        || record.repo_digests.iter().any(|known| {
            known.name() == name.name() && known.digest().is_some_and(|d| name.digest() == Some(d))
        });
    if !is_name {
        return None;
    }
    // `name:tag@digest` means the digest.
    Some(match name.digest() {
        Some(digest) => name.with_digest(digest.clone()),
        None => name,
    })
}

fn names(writer: &Writer<'_>, id: &Digest) -> Result<Vec<Reference>> {
    writer.rows(
        "SELECT name FROM tags WHERE image = ?1
         UNION ALL SELECT repository || '@' || digest FROM repo_digests WHERE image = ?1",
        [id.as_str()],
        |row| codec::parsed(row, 0),
    )
}

fn untag(
    store: &Store,
    writer: &Writer<'_>,
    id: &Digest,
    name: &Reference,
    lines: &mut Vec<RemovedLine>,
) -> Result<()> {
    match name.digest() {
        Some(digest) => {
            writer.execute(
                "DELETE FROM repo_digests WHERE repository = ? AND digest = ?",
                (name.name(), digest.as_str()),
            )?;
        }
        None => tag::set(&store.inner, writer, name, Some(id), None)?,
    }
    lines.push(RemovedLine::Untagged(name.clone()));
    Ok(())
}

fn check_single(id: &Digest, names: &[Reference], force: Force) -> Result<()> {
    let first = names.first().map(Reference::name);
    let several = names.iter().any(|name| Some(name.name()) != first);
    if several && force == Force::No {
        let message = format!("image `{}` has names in several repositories", id.short());
        return Err(Error::must_force(message));
    }
    Ok(())
}

fn check_unused(writer: &Writer<'_>, id: &Digest) -> Result<()> {
    let held = "SELECT 1 FROM lease_refs WHERE kind = 'image' AND object = ?";
    if writer.exists(held, [id.as_str()])? {
        let message = format!("image `{}` is used by a living process", id.short());
        return Err(Error::conflict(message));
    }
    if is_listed(writer, id)? {
        return Err(Error::conflict(format!("image `{}` is part of an index", id.short())));
    }
    Ok(())
}

fn is_listed(writer: &Writer<'_>, id: &Digest) -> Result<bool> {
    writer.exists("SELECT 1 FROM index_entries WHERE image = ?", [id.as_str()])
}
