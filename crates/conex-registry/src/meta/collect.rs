//! Looking at what may be garbage.
//!
//! A row is removed only in the transaction that saw that nothing needs it, and the foreign keys
//! would refuse it if something did.

use rusqlite::{Connection, OptionalExtension as _};

use super::read::{exists, first, rows};
use super::{Collected, Policy, manifests};
use crate::time::Moment;

/// What was looked at, and what shall become of its line.
enum Verdict {
    /// It is needed, or gone: whatever stops needing it writes a new line.
    Drop,
    /// It cannot be garbage before this moment.
    Later(i64),
}

pub(crate) fn collect(
    connection: &Connection,
    policy: &Policy,
    now: Moment,
    limit: usize,
) -> rusqlite::Result<Collected> {
    let sql = "SELECT kind, repo, item FROM reviews WHERE due <= ? ORDER BY due LIMIT ?";
    let due: Vec<(i64, i64, rusqlite::types::Value)> =
        rows(connection, sql, (now.0, limit as i64), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    let mut collected = Collected { reviewed: due.len(), ..Collected::default() };
    for (kind, repo, item) in due {
        let verdict = match &item {
            rusqlite::types::Value::Blob(digest) => {
                blob(connection, policy, repo, digest, now, &mut collected)?
            }
            rusqlite::types::Value::Integer(id) => {
                manifest(connection, repo, *id, now, &mut collected)?
            }
            // Nothing else is ever written.
            _ => Verdict::Drop,
        };
        match verdict {
            Verdict::Drop => connection
                .prepare_cached("DELETE FROM reviews WHERE kind = ? AND repo = ? AND item = ?")?
                .execute((kind, repo, item))?,
            Verdict::Later(due) => connection
                .prepare_cached(
                    "UPDATE reviews SET due = ? WHERE kind = ? AND repo = ? AND item = ?",
                )?
                .execute((due, kind, repo, item))?,
        };
    }
    Ok(collected)
}

fn blob(
    connection: &Connection,
    policy: &Policy,
    repo: i64,
    digest: &[u8],
    now: Moment,
    collected: &mut Collected,
) -> rusqlite::Result<Verdict> {
    let sql = "SELECT lease FROM repo_blobs WHERE repo = ? AND digest = ?";
    let lease: Option<i64> = first(connection, sql, (repo, digest), |row| row.get(0))?;
    match lease {
        None => return Ok(Verdict::Drop),
        Some(lease) if lease > now.0 => return Ok(Verdict::Later(lease)),
        Some(_) => {}
    }
    let needed = "SELECT 1 FROM manifest_blobs WHERE repo = ? AND digest = ? LIMIT 1";
    if !exists(connection, needed, (repo, digest))? {
        let not_before = now.after(policy.read_grace).0;
        if let Some(objects) = manifests::unlink(connection, repo, digest, not_before)? {
            collected.links += 1;
            collected.objects += objects;
        }
    }
    Ok(Verdict::Drop)
}

fn manifest(
    connection: &Connection,
    repo: i64,
    id: i64,
    now: Moment,
    collected: &mut Collected,
) -> rusqlite::Result<Verdict> {
    let sql = "SELECT digest, subject, orphaned IS NOT NULL, lease FROM manifests WHERE id = ?";
    type Found = (Vec<u8>, Option<Vec<u8>>, bool, i64);
    let found: Option<Found> = first(connection, sql, [id], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let Some((digest, subject, true, lease)) = found else { return Ok(Verdict::Drop) };
    if lease > now.0 {
        return Ok(Verdict::Later(lease));
    }
    let sql = "SELECT max(keep) FROM tag_history WHERE manifest = ?";
    let keep: Option<i64> =
        connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?.flatten();
    if let Some(keep) = keep.filter(|keep| *keep > now.0) {
        return Ok(Verdict::Later(keep));
    }
    let is_needed = exists(connection, "SELECT 1 FROM tags WHERE manifest = ? LIMIT 1", [id])?
        || exists(connection, "SELECT 1 FROM manifest_children WHERE child = ? LIMIT 1", [id])?
        || match subject {
            Some(subject) => {
                let sql = "SELECT 1 FROM manifests WHERE repo = ? AND digest = ?";
                exists(connection, sql, (repo, subject))?
            }
            None => false,
        };
    if !is_needed {
        manifests::remove(connection, repo, id, &digest, now.0)?;
        collected.manifests += 1;
    }
    Ok(Verdict::Drop)
}

pub(crate) fn trash(
    connection: &Connection,
    now: Moment,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT object FROM trash WHERE not_before <= ? ORDER BY not_before LIMIT ?";
    rows(connection, sql, (now.0, limit as i64), |row| row.get(0))
}

pub(crate) fn forget(connection: &Connection, objects: &[String]) -> rusqlite::Result<()> {
    for object in objects {
        connection.prepare_cached("DELETE FROM trash WHERE object = ?")?.execute([object])?;
    }
    Ok(())
}
