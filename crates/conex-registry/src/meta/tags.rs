//! Moves of tags, and what is kept of them.

use conex_oci::Digest;
use rusqlite::Connection;

use super::codec::{digest, optional_digest, raw};
use super::read::{exists, first, repository, rows};
use super::{By, Change, Expected, Policy, Rollback};
use crate::name::{Name, Tag};

/// Most moves kept of one tag. Whoever moves a tag every minute keeps a week.
const HISTORY_COUNT_MAX: i64 = 10_000;

/// How many moves are looked through for a digest that is still there.
const ROLLBACK_DEPTH_MAX: i64 = 1_000;

/// A manifest that a tag is on: its row and its digest.
pub(crate) type Target = (i64, Digest);

/// What a tag is on.
pub(crate) fn target(
    connection: &Connection,
    repo: i64,
    tag: &str,
) -> rusqlite::Result<Option<Target>> {
    let sql = "SELECT m.id, m.digest FROM tags t JOIN manifests m ON m.id = t.manifest
               WHERE t.repo = ? AND t.name = ?";
    first(connection, sql, (repo, tag), |row| Ok((row.get(0)?, digest(row, 1)?)))
}

/// Whether a tag may move from one target to another; else why not.
pub(crate) fn check(
    policy: &Policy,
    tag: &str,
    old: Option<&Target>,
    new: Option<&Digest>,
    expected: &Expected,
) -> Option<Change> {
    let old = old.map(|(_, digest)| digest);
    let is_expected = match expected {
        Expected::Anything => true,
        Expected::Absent => old.is_none(),
        Expected::Present => old.is_some(),
        Expected::OneOf(digests) => old.is_some_and(|old| digests.contains(old)),
    };
    if !is_expected {
        return Some(Change::Unexpected(old.cloned()));
    }
    let moves = old.is_some() && old != new;
    (moves && policy.is_immutable(tag)).then(|| Change::Immutable(tag.to_owned()))
}

/// Moves a tag, makes it or removes it, and writes that down.
pub(crate) fn move_tag(
    connection: &Connection,
    policy: &Policy,
    repo: i64,
    tag: &str,
    new: Option<&Target>,
    by: &By,
) -> rusqlite::Result<()> {
    let old = target(connection, repo, tag)?;
    if old.as_ref().map(|(id, _)| id) == new.map(|(id, _)| id) {
        return Ok(());
    }
    let keep = by.now.after(policy.history).0;
    let execute = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(sql)?.execute(params)
    };
    let (old_id, old_digest) = old.as_ref().map(|(id, digest)| (*id, raw(digest))).unzip();
    execute(
        "INSERT INTO tag_history (repo, name, old_digest, new_digest, manifest, keep, at, actor)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            &repo,
            &tag,
            &old_digest,
            &new.map(|(_, digest)| raw(digest)),
            &old_id,
            &keep,
            &by.now.0,
            &by.actor,
        ],
    )?;
    forget_old(connection, repo, tag, by)?;
    match new {
        Some((id, _)) => {
            execute(
                "INSERT INTO tags (repo, name, manifest, updated, actor) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (repo, name) DO UPDATE SET manifest = excluded.manifest,
                    updated = excluded.updated, actor = excluded.actor",
                &[&repo, &tag, id, &by.now.0, &by.actor],
            )?;
            execute(
                "UPDATE manifests SET orphaned = NULL WHERE id = ? AND orphaned IS NOT NULL",
                &[id],
            )?;
        }
        None => {
            execute("DELETE FROM tags WHERE repo = ? AND name = ?", &[&repo, &tag])?;
        }
    }
    match old_id {
        Some(id) => orphan(connection, repo, id, by.now.0, keep),
        None => Ok(()),
    }
}

/// Notes that something no longer keeps a manifest, and when to look whether anything does.
pub(crate) fn orphan(
    connection: &Connection,
    repo: i64,
    manifest: i64,
    now: i64,
    due: i64,
) -> rusqlite::Result<()> {
    if exists(connection, "SELECT 1 FROM tags WHERE manifest = ?", [manifest])? {
        return Ok(());
    }
    connection
        .prepare_cached("UPDATE manifests SET orphaned = ? WHERE id = ? AND orphaned IS NULL")?
        .execute((now, manifest))?;
    connection
        .prepare_cached(
            "INSERT INTO reviews (kind, repo, item, due) VALUES (2, ?, ?, ?)
             ON CONFLICT (kind, repo, item) DO UPDATE SET due = min(due, excluded.due)",
        )?
        .execute((repo, manifest, due))?;
    Ok(())
}

/// Drops the oldest moves of a tag that moves all the time, now and then.
fn forget_old(connection: &Connection, repo: i64, tag: &str, by: &By) -> rusqlite::Result<()> {
    if connection.last_insert_rowid() % 64 != 0 {
        return Ok(());
    }
    let sql = "DELETE FROM tag_history WHERE repo = ?1 AND name = ?2 AND keep < ?3 AND id <=
               (SELECT id FROM tag_history WHERE repo = ?1 AND name = ?2
                ORDER BY id DESC LIMIT 1 OFFSET ?4)";
    connection.prepare_cached(sql)?.execute((repo, tag, by.now.0, HISTORY_COUNT_MAX))?;
    Ok(())
}

/// Moves a tag back.
pub(crate) fn rollback(
    connection: &Connection,
    policy: &Policy,
    of: &Name,
    tag: &Tag,
    to: Option<&Digest>,
    expected: &Expected,
    by: &By,
) -> rusqlite::Result<Rollback> {
    let Some(repo) = repository(connection, of)? else {
        return Ok(Rollback::Not(Change::Missing));
    };
    let current = target(connection, repo, tag.as_str())?;
    let sql = "SELECT old_digest, new_digest FROM tag_history WHERE repo = ? AND name = ?
               ORDER BY id DESC LIMIT ?";
    let steps = rows(connection, sql, (repo, tag.as_str(), ROLLBACK_DEPTH_MAX), |row| {
        Ok([optional_digest(row, 0)?, optional_digest(row, 1)?])
    })?;
    let is_current = |digest: &Digest| current.as_ref().is_some_and(|(_, now)| now == digest);
    let candidates: Vec<Digest> = match to {
        // Only what the tag was on: others are for a push.
        Some(to) => {
            steps.into_iter().flatten().flatten().filter(|step| step == to).take(1).collect()
        }
        None => steps
            .into_iter()
            .filter_map(|[old, _]| old)
            .filter(|digest| !is_current(digest))
            .collect(),
    };
    for digest in candidates {
        let sql = "SELECT id FROM manifests WHERE repo = ? AND digest = ?";
        let found = first(connection, sql, (repo, raw(&digest)), |row| row.get(0))?;
        let Some(id) = found else { continue };
        let refused = check(policy, tag.as_str(), current.as_ref(), Some(&digest), expected);
        if let Some(change) = refused {
            return Ok(Rollback::Not(change));
        }
        let target = (id, digest);
        move_tag(connection, policy, repo, tag.as_str(), Some(&target), by)?;
        return Ok(Rollback::Done(target.1));
    }
    Ok(Rollback::Not(Change::Missing))
}
