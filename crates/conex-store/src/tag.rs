//! Tags, their history, and how a text that a person types finds an image.

use conex_oci::{Digest, Reference};
use rusqlite::Connection;

use crate::codec;
use crate::db::{Writer, first, rows};
use crate::error::{Error, Result};
use crate::image::{ImageRecord, load_images};
use crate::options::Timestamp;
use crate::store::{Inner, Store};

/// How many candidates an error about an ambiguous ID names.
const CANDIDATES_MAX: u32 = 5;

/// One move of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagMove {
    /// Grows with every move in the store.
    pub seq: i64,
    /// The image that had the tag before.
    pub old: Option<Digest>,
    /// The image that has had it since; none if the tag was removed.
    pub new: Option<Digest>,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
}

/// What a tag must be for a move to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Anything,
    /// Not there.
    Absent,
    /// On this image.
    Image(Digest),
}

impl Store {
    /// Gives an image a tag, which moves if another image has it. Returns that image.
    ///
    /// # Errors
    /// The reference has a digest or no tag, the image is not there, or the tag is not what was
    /// expected ([`Conflict`](crate::ErrorKind::Conflict)).
    pub fn tag(
        &self,
        name: &Reference,
        image: &Digest,
        expected: &Expected,
    ) -> Result<Option<Digest>> {
        check_taggable(name)?;
        let inner = &self.inner;
        inner.write("move a tag", |writer| {
            if !writer.exists("SELECT 1 FROM images WHERE id = ?", [image.as_str()])? {
                return Err(Error::not_found("image", image));
            }
            let old = tagged(writer, name)?;
            let as_expected = match expected {
                Expected::Anything => true,
                Expected::Absent => old.is_none(),
                Expected::Image(wanted) => old.as_ref() == Some(wanted),
            };
            if !as_expected {
                let now = old.as_ref().map_or("no image", Digest::as_str);
                let name = name.familiar();
                return Err(Error::conflict(format!("tag `{name}` is on `{now}` meanwhile")));
            }
            set(inner, writer, name, old.as_ref(), Some(image))?;
            Ok(old)
        })
    }

    /// The moves of a tag, the latest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tag_history(&self, name: &Reference) -> Result<Vec<TagMove>> {
        self.inner.db.read("read a tag's history", |connection| {
            let sql = "SELECT seq, old, new, at, actor FROM tag_history WHERE name = ?
                       ORDER BY seq DESC";
            rows(connection, sql, [name.to_string()], |row| {
                Ok(TagMove {
                    seq: row.get(0)?,
                    old: codec::parsed_optional(row, 1)?,
                    new: codec::parsed_optional(row, 2)?,
                    at: Timestamp(row.get(3)?),
                    actor: row.get(4)?,
                })
            })
        })
    }

    /// Moves a tag back to the image that had it before the latest move. Returns that image.
    ///
    /// # Errors
    /// There is no earlier image, or it is not in the store any more.
    pub fn rollback(&self, name: &Reference) -> Result<Digest> {
        let familiar = name.familiar();
        let current = self.tagged(name)?;
        let earlier = self
            .tag_history(name)?
            .into_iter()
            .filter_map(|step| step.old)
            .find(|old| Some(old) != current.as_ref())
            .ok_or_else(|| Error::not_found("earlier image of tag", &familiar))?;
        let expected = current.map_or(Expected::Absent, Expected::Image);
        self.tag(name, &earlier, &expected)?;
        Ok(earlier)
    }

    /// The image that has a tag.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tagged(&self, name: &Reference) -> Result<Option<Digest>> {
        self.inner.db.read("look for a tag", |connection| find_tag(connection, name))
    }

    /// All tags of a repository (`docker.io/library/ubuntu`) with their images, sorted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tags_of(&self, repository: &Reference) -> Result<Vec<(Reference, Digest)>> {
        self.inner.db.read("list tags", |connection| {
            let sql = "SELECT name, image FROM tags WHERE repository = ? ORDER BY name";
            rows(connection, sql, [repository.name()], |row| {
                Ok((codec::parsed(row, 0)?, codec::digest(row, 1)?))
            })
        })
    }

    /// Records that a repository has an image under a manifest's digest (after a pull or a push).
    ///
    /// # Errors
    /// The reference has no digest, or the image is not there.
    pub fn put_repo_digest(&self, name: &Reference, image: &Digest) -> Result<()> {
        let Some(digest) = name.digest() else {
            return Err(Error::invalid(format!("`{}` has no digest", name.familiar())));
        };
        self.inner.write("record a repository digest", |writer| {
            if !writer.exists("SELECT 1 FROM images WHERE id = ?", [image.as_str()])? {
                return Err(Error::not_found("image", image));
            }
            writer.execute(
                "INSERT OR REPLACE INTO repo_digests (repository, digest, image) VALUES (?, ?, ?)",
                (name.name(), digest.as_str(), image.as_str()),
            )?;
            Ok(())
        })
    }

    /// Finds what a person means: a name with tag or digest, an ID, or the beginning of an ID.
    /// A name goes before the beginning of an ID, as in Docker.
    ///
    /// # Errors
    /// Nothing is meant ([`NotFound`](crate::ErrorKind::NotFound)), or several images are
    /// ([`Ambiguous`](crate::ErrorKind::Ambiguous)).
    pub fn resolve(&self, text: &str) -> Result<ImageRecord> {
        let id = match self.find_by_name(text)? {
            Some(id) => id,
            None => self.find_by_id(text)?.ok_or_else(|| Error::not_found("image", text))?,
        };
        self.image(&id)?.ok_or_else(|| Error::not_found("image", text))
    }

    /// Finds an image by a reference.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find(&self, name: &Reference) -> Result<Option<ImageRecord>> {
        let id = self.inner.db.read("look for an image", |connection| match name.digest() {
            Some(digest) => find_repo_digest(connection, name, digest),
            None => find_tag(connection, name),
        })?;
        match id {
            Some(id) => self.image(&id),
            None => Ok(None),
        }
    }

    fn find_by_name(&self, text: &str) -> Result<Option<Digest>> {
        // `sha256:…` would parse as a repository `sha256` with a tag.
        if text.parse::<Digest>().is_ok() {
            return Ok(None);
        }
        let Ok(name) = text.parse::<Reference>() else { return Ok(None) };
        Ok(self.find(&name)?.map(|record| record.id))
    }

    /// Finds an image by its ID or the beginning of it. Manifest digests in full count as IDs.
    fn find_by_id(&self, text: &str) -> Result<Option<Digest>> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(digit) {
            return Ok(None);
        }
        let prefix = format!("sha256:{hex}");
        let found = self.inner.db.read("look for an image", |connection| {
            // `g` is the first letter behind all digits.
            let sql = format!(
                "SELECT id FROM images WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT {}",
                CANDIDATES_MAX + 1
            );
            rows(connection, &sql, [&prefix], |row| codec::digest(row, 0))
        })?;
        match found.as_slice() {
            [one] => Ok(Some(one.clone())),
            [] if hex.len() == 64 => self.inner.db.read("look for a manifest", |connection| {
                let sql = "SELECT image FROM manifests WHERE digest = ?";
                first(connection, sql, [&prefix], |row| codec::digest(row, 0))
            }),
            [] => Ok(None),
            many => {
                let list: Vec<String> = many.iter().map(|id| id.short().to_owned()).collect();
                Err(Error::ambiguous(text, &list))
            }
        }
    }

    /// Records that match a repository, with or without a tag, the youngest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn images_of(&self, repository: &Reference) -> Result<Vec<ImageRecord>> {
        self.inner.db.read("list images", |connection| {
            let filter = "WHERE i.id IN (SELECT image FROM tags WHERE repository = ?1
                          UNION SELECT image FROM repo_digests WHERE repository = ?1)";
            load_images(connection, filter, [repository.name()])
        })
    }
}

/// Sets or removes a tag, and writes its history.
pub(crate) fn set(
    inner: &Inner,
    writer: &Writer<'_>,
    name: &Reference,
    old: Option<&Digest>,
    new: Option<&Digest>,
) -> Result<()> {
    let now = inner.now().0;
    let text = name.to_string();
    match new {
        Some(image) => writer.execute(
            "INSERT OR REPLACE INTO tags (name, repository, image, updated) VALUES (?, ?, ?, ?)",
            (&text, name.name(), image.as_str(), now),
        )?,
        None => writer.execute("DELETE FROM tags WHERE name = ?", [&text])?,
    };
    if old == new {
        return Ok(());
    }
    writer.execute(
        "INSERT INTO tag_history (name, old, new, at, actor) VALUES (?, ?, ?, ?, ?)",
        (text, old.map(Digest::as_str), new.map(Digest::as_str), now, &inner.options.actor),
    )?;
    Ok(())
}

/// The image that has a tag.
pub(crate) fn tagged(writer: &Writer<'_>, name: &Reference) -> Result<Option<Digest>> {
    writer.run(|connection| find_tag(connection, name))
}

fn find_tag(connection: &Connection, name: &Reference) -> rusqlite::Result<Option<Digest>> {
    let sql = "SELECT image FROM tags WHERE name = ?";
    first(connection, sql, [name.to_string()], |row| codec::digest(row, 0))
}

/// `name@digest`: a digest that the repository is known to have; else, as in Docker, the image or
/// the manifest with this digest if a tag of the repository is on it.
fn find_repo_digest(
    connection: &Connection,
    name: &Reference,
    digest: &Digest,
) -> rusqlite::Result<Option<Digest>> {
    let sql = "SELECT image FROM repo_digests WHERE repository = ?1 AND digest = ?2
               UNION ALL
               SELECT t.image FROM tags t WHERE t.repository = ?1 AND (t.image = ?2 OR EXISTS
                   (SELECT 1 FROM manifests m WHERE m.image = t.image AND m.digest = ?2))
               LIMIT 1";
    first(connection, sql, (name.name(), digest.as_str()), |row| codec::digest(row, 0))
}

fn check_taggable(name: &Reference) -> Result<()> {
    match (name.tag(), name.digest()) {
        (Some(_), None) => Ok(()),
        _ => Err(Error::invalid(format!("`{}` is no tag: it has a digest", name.familiar()))),
    }
}
