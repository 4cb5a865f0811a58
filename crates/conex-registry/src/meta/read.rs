//! Questions to the database.

use conex_oci::Digest;
use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use super::codec::{digest, optional_digest, raw, size};
use super::{BlobRow, HistoryRow, ManifestRow, ReferrerQuery, ReferrerRow};
use crate::blobs::Object;
use crate::name::{Name, Tag};
use crate::route::Reference;
use crate::time::Moment;

/// The first row of a query, if there is one.
pub(crate) fn first<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    connection.prepare_cached(sql)?.query_row(params, map).optional()
}

/// All rows of a query.
pub(crate) fn rows<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, map)?.collect()
}

/// Whether a query gives a row.
pub(crate) fn exists(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> rusqlite::Result<bool> {
    connection.prepare_cached(sql)?.exists(params)
}

/// The number of a repository, if it is there.
pub(crate) fn repository(connection: &Connection, name: &Name) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM repositories WHERE name = ?";
    first(connection, sql, [name.as_str()], |row| row.get(0))
}

pub(crate) fn blob(
    connection: &Connection,
    of: &Name,
    digest: &Digest,
) -> rusqlite::Result<Option<BlobRow>> {
    let sql = "SELECT b.object, b.size, l.lease FROM repo_blobs l
               JOIN blobs b ON b.digest = l.digest
               WHERE l.repo = (SELECT id FROM repositories WHERE name = ?) AND l.digest = ?
                 AND NOT b.is_lost";
    first(connection, sql, (of.as_str(), raw(digest)), |row| {
        Ok(BlobRow {
            object: Object::from_row(row.get(0)?),
            size: size(row, 1)?,
            lease: Moment(row.get(2)?),
        })
    })
}

pub(crate) fn manifest(
    connection: &Connection,
    of: &Name,
    reference: &Reference,
) -> rusqlite::Result<Option<ManifestRow>> {
    let read = |row: &Row<'_>| {
        let orphaned: Option<i64> = row.get(3)?;
        let lease = Moment(row.get(4)?);
        Ok(ManifestRow {
            digest: digest(row, 0)?,
            media_type: row.get(1)?,
            bytes: row.get(2)?,
            orphan_lease: orphaned.map(|_| lease),
        })
    };
    match reference {
        Reference::Tag(tag) => {
            let sql = "SELECT m.digest, m.media_type, m.bytes, m.orphaned, m.lease FROM tags t
                       JOIN manifests m ON m.id = t.manifest
                       WHERE t.repo = (SELECT id FROM repositories WHERE name = ?) AND t.name = ?";
            first(connection, sql, (of.as_str(), tag.as_str()), read)
        }
        Reference::Digest(digest) => {
            let sql = "SELECT digest, media_type, bytes, orphaned, lease FROM manifests
                       WHERE repo = (SELECT id FROM repositories WHERE name = ?) AND digest = ?";
            first(connection, sql, (of.as_str(), raw(digest)), read)
        }
    }
}

pub(crate) fn tags(
    connection: &Connection,
    of: &Name,
    last: &str,
    limit: usize,
) -> rusqlite::Result<Option<Vec<String>>> {
    let Some(repository) = repository(connection, of)? else { return Ok(None) };
    let sql = "SELECT name FROM tags WHERE repo = ? AND name > ? ORDER BY name LIMIT ?";
    rows(connection, sql, (repository, last, limit as i64), |row| row.get(0)).map(Some)
}

pub(crate) fn repositories(
    connection: &Connection,
    last: &str,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM repositories r WHERE name > ?
               AND EXISTS (SELECT 1 FROM manifests m WHERE m.repo = r.id)
               ORDER BY name LIMIT ?";
    rows(connection, sql, (last, limit as i64), |row| row.get(0))
}

pub(crate) fn referrers(
    connection: &Connection,
    of: &Name,
    query: &ReferrerQuery,
) -> rusqlite::Result<Vec<ReferrerRow>> {
    let sql = "SELECT digest, media_type, size, artifact_type, annotations FROM manifests
               WHERE repo = (SELECT id FROM repositories WHERE name = ?1) AND subject = ?2
                 AND digest > ?3 AND (?4 IS NULL OR artifact_type = ?4)
               ORDER BY digest LIMIT ?5";
    let last = query.last.as_ref().map(raw).unwrap_or_default();
    let params = (of.as_str(), raw(&query.subject), last, &query.artifact_type, query.limit as i64);
    rows(connection, sql, params, |row| {
        let annotations: Option<String> = row.get(4)?;
        Ok(ReferrerRow {
            digest: digest(row, 0)?,
            media_type: row.get(1)?,
            size: size(row, 2)?,
            artifact_type: row.get(3)?,
            annotations: annotations
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
        })
    })
}

pub(crate) fn history(
    connection: &Connection,
    of: &Name,
    tag: &Tag,
    limit: usize,
) -> rusqlite::Result<Vec<HistoryRow>> {
    let sql = "SELECT at, actor, old_digest, new_digest, keep, manifest FROM tag_history
               WHERE repo = (SELECT id FROM repositories WHERE name = ?) AND name = ?
               ORDER BY id DESC LIMIT ?";
    rows(connection, sql, (of.as_str(), tag.as_str(), limit as i64), |row| {
        let manifest: Option<i64> = row.get(5)?;
        let keep = Moment(row.get(4)?);
        Ok(HistoryRow {
            at: Moment(row.get(0)?),
            actor: row.get(1)?,
            old: optional_digest(row, 2)?,
            new: optional_digest(row, 3)?,
            keep: manifest.map(|_| keep),
        })
    })
}
