//! Writing blobs and manifests.

use conex_oci::Digest;
use rusqlite::Connection;

use super::codec::{raw, signed, size};
use super::read::{exists, first, repository, rows};
use super::tags::{Target, check, move_tag, orphan, target};
use super::{By, Change, NewManifest, Policy};
use crate::blobs::Object;
use crate::name::Name;
use crate::route::Reference;
use crate::time::Moment;

/// The number of a repository, which is made if it is not there.
fn make_repository(connection: &Connection, name: &Name, now: Moment) -> rusqlite::Result<i64> {
    if let Some(id) = repository(connection, name)? {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO repositories (name, created) VALUES (?, ?)")?
        .execute((name.as_str(), now.0))?;
    Ok(connection.last_insert_rowid())
}

pub(crate) fn add_blob(
    connection: &Connection,
    policy: &Policy,
    to: &Name,
    digest: &Digest,
    object: Object,
    bytes: u64,
    now: Moment,
) -> rusqlite::Result<Option<Object>> {
    let digest = raw(digest);
    // One whose bytes were lost gets new ones; else the first to come is kept.
    let is_taken = connection
        .prepare_cached(
            "INSERT INTO blobs (digest, object, size, created) VALUES (?, ?, ?, ?)
             ON CONFLICT (digest) DO UPDATE
             SET object = excluded.object, size = excluded.size, is_lost = 0 WHERE is_lost",
        )?
        .execute((&digest, object.as_str(), signed(bytes), now.0))?
        == 1;
    link(connection, policy, to, &digest, now)?;
    Ok((!is_taken).then_some(object))
}

/// Gives a repository a blob, or another lease on it.
fn link(
    connection: &Connection,
    policy: &Policy,
    to: &Name,
    digest: &[u8],
    now: Moment,
) -> rusqlite::Result<()> {
    let repo = make_repository(connection, to, now)?;
    let lease = now.after(policy.lease).0;
    connection
        .prepare_cached(
            "INSERT INTO repo_blobs (repo, digest, lease) VALUES (?, ?, ?)
             ON CONFLICT (repo, digest) DO UPDATE SET lease = max(lease, excluded.lease)",
        )?
        .execute((repo, digest, lease))?;
    connection
        .prepare_cached(
            "INSERT INTO reviews (kind, repo, item, due) VALUES (1, ?, ?, ?)
             ON CONFLICT (kind, repo, item) DO NOTHING",
        )?
        .execute((repo, digest, lease))?;
    Ok(())
}

pub(crate) fn mount(
    connection: &Connection,
    policy: &Policy,
    to: &Name,
    digest: &Digest,
    from: Option<&Name>,
    now: Moment,
) -> rusqlite::Result<bool> {
    let raw = raw(digest);
    let is_there = match from {
        Some(from) => super::read::blob(connection, from, digest)?.is_some(),
        None => {
            let sql = "SELECT 1 FROM repo_blobs l JOIN blobs b ON b.digest = l.digest
                       WHERE l.digest = ? AND NOT b.is_lost LIMIT 1";
            exists(connection, sql, [&raw])?
        }
    };
    if is_there {
        link(connection, policy, to, &raw, now)?;
    }
    Ok(is_there)
}

pub(crate) fn extend_blob(
    connection: &Connection,
    policy: &Policy,
    of: &Name,
    digest: &Digest,
    now: Moment,
) -> rusqlite::Result<()> {
    extend("repo_blobs", connection, policy, of, digest, now)
}

pub(crate) fn extend_manifest(
    connection: &Connection,
    policy: &Policy,
    of: &Name,
    digest: &Digest,
    now: Moment,
) -> rusqlite::Result<()> {
    extend("manifests", connection, policy, of, digest, now)
}

/// Keeps what a client was told of from the collector for as long as a push may take.
fn extend(
    table: &'static str,
    connection: &Connection,
    policy: &Policy,
    of: &Name,
    digest: &Digest,
    now: Moment,
) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE {table} SET lease = max(lease, ?)
         WHERE repo = (SELECT id FROM repositories WHERE name = ?) AND digest = ?"
    );
    connection.prepare_cached(&sql)?.execute((
        now.after(policy.lease).0,
        of.as_str(),
        raw(digest),
    ))?;
    Ok(())
}

pub(crate) fn delete_blob(
    connection: &Connection,
    of: &Name,
    digest: &Digest,
    now: Moment,
) -> rusqlite::Result<Change> {
    let Some(repo) = repository(connection, of)? else { return Ok(Change::Missing) };
    let digest = raw(digest);
    let needed = "SELECT 1 FROM manifest_blobs WHERE repo = ? AND digest = ?";
    if exists(connection, needed, (repo, &digest))? {
        return Ok(Change::Used);
    }
    let is_gone = unlink(connection, repo, &digest, now.0)?.is_some();
    Ok(if is_gone { Change::Done } else { Change::Missing })
}

/// Takes a blob from a repository; its object goes with the last one. Gives how many objects are
/// trash now, or none if the repository did not have it.
pub(crate) fn unlink(
    connection: &Connection,
    repo: i64,
    digest: &[u8],
    not_before: i64,
) -> rusqlite::Result<Option<usize>> {
    let gone = connection
        .prepare_cached("DELETE FROM repo_blobs WHERE repo = ? AND digest = ?")?
        .execute((repo, digest))?;
    if gone == 0 {
        return Ok(None);
    }
    if exists(connection, "SELECT 1 FROM repo_blobs WHERE digest = ? LIMIT 1", [digest])? {
        return Ok(Some(0));
    }
    let object: String = connection
        .prepare_cached("DELETE FROM blobs WHERE digest = ? RETURNING object")?
        .query_row([digest], |row| row.get(0))?;
    connection
        .prepare_cached("INSERT OR IGNORE INTO trash (object, not_before) VALUES (?, ?)")?
        .execute((object, not_before))?;
    Ok(Some(1))
}

/// Keeps a manifest with all that it names, and moves tags to it.
pub(crate) fn put(
    connection: &Connection,
    policy: &Policy,
    new: &NewManifest,
    by: &By,
) -> rusqlite::Result<Change> {
    let repo = make_repository(connection, &new.repository, by.now)?;
    for tag in &new.tags {
        let old = target(connection, repo, tag.as_str())?;
        let refused = check(policy, tag.as_str(), old.as_ref(), Some(&new.digest), &new.expected);
        if let Some(change) = refused {
            return Ok(change);
        }
    }
    if let Some(change) = missing_blobs(connection, repo, new)? {
        return Ok(change);
    }
    let children = match children(connection, repo, new)? {
        Ok(children) => children,
        Err(missing) => return Ok(Change::NeedsManifests(missing)),
    };
    let id = insert(connection, policy, repo, new, by)?;
    for (digest, _) in &new.document.blobs {
        connection
            .prepare_cached(
                "INSERT OR IGNORE INTO manifest_blobs (manifest, repo, digest) VALUES (?, ?, ?)",
            )?
            .execute((id, repo, raw(digest)))?;
    }
    for (child, digest) in &children {
        connection
            .prepare_cached(
                "INSERT INTO manifest_children (parent, repo, digest, child) VALUES (?, ?, ?, ?)
                 ON CONFLICT (parent, digest) DO UPDATE SET child = excluded.child",
            )?
            .execute((id, repo, raw(digest), child))?;
    }
    // An index whose child was deleted has it again.
    connection
        .prepare_cached(
            "UPDATE manifest_children SET child = ?
             WHERE repo = ? AND digest = ? AND child IS NULL",
        )?
        .execute((id, repo, raw(&new.digest)))?;
    let target = (id, new.digest.clone());
    for tag in &new.tags {
        move_tag(connection, policy, repo, tag.as_str(), Some(&target), by)?;
    }
    Ok(Change::Done)
}

fn insert(
    connection: &Connection,
    policy: &Policy,
    repo: i64,
    new: &NewManifest,
    by: &By,
) -> rusqlite::Result<i64> {
    let document = &new.document;
    let annotations = (!document.annotations.is_empty())
        .then(|| serde_json::to_string(&document.annotations).unwrap_or_default());
    connection
        .prepare_cached(
            "INSERT INTO manifests (repo, digest, media_type, size, subject, artifact_type,
                annotations, created, lease, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (repo, digest) DO UPDATE
             SET media_type = excluded.media_type, lease = max(lease, excluded.lease)
             RETURNING id",
        )?
        .query_row(
            (
                repo,
                raw(&new.digest),
                &document.media_type,
                signed(new.bytes.len() as u64),
                document.subject.as_ref().map(raw),
                &document.artifact_type,
                annotations,
                by.now.0,
                by.now.after(policy.lease).0,
                &new.bytes,
            ),
            |row| row.get(0),
        )
}

fn missing_blobs(
    connection: &Connection,
    repo: i64,
    new: &NewManifest,
) -> rusqlite::Result<Option<Change>> {
    let sql = "SELECT b.size FROM repo_blobs l JOIN blobs b ON b.digest = l.digest
               WHERE l.repo = ? AND l.digest = ? AND NOT b.is_lost";
    let mut missing = Vec::new();
    for (digest, said) in &new.document.blobs {
        match first(connection, sql, (repo, raw(digest)), |row| size(row, 0))? {
            None => missing.push(digest.clone()),
            Some(found) if found != *said => {
                return Ok(Some(Change::WrongSize(digest.clone(), found)));
            }
            Some(_) => {}
        }
    }
    Ok((!missing.is_empty()).then_some(Change::NeedsBlobs(missing)))
}

type Children = Result<Vec<Target>, Vec<Digest>>;

fn children(connection: &Connection, repo: i64, new: &NewManifest) -> rusqlite::Result<Children> {
    let sql = "SELECT id FROM manifests WHERE repo = ? AND digest = ?";
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for digest in &new.document.children {
        match first(connection, sql, (repo, raw(digest)), |row| row.get(0))? {
            Some(id) => found.push((id, digest.clone())),
            None => missing.push(digest.clone()),
        }
    }
    Ok(if missing.is_empty() { Ok(found) } else { Err(missing) })
}

/// Removes a manifest with all its tags, or only a tag.
pub(crate) fn delete(
    connection: &Connection,
    policy: &Policy,
    of: &Name,
    reference: &Reference,
    by: &By,
) -> rusqlite::Result<Change> {
    let Some(repo) = repository(connection, of)? else { return Ok(Change::Missing) };
    let digest = match reference {
        Reference::Tag(tag) => {
            if target(connection, repo, tag.as_str())?.is_none() {
                return Ok(Change::Missing);
            }
            if policy.is_immutable(tag.as_str()) {
                return Ok(Change::Immutable(tag.as_str().to_owned()));
            }
            move_tag(connection, policy, repo, tag.as_str(), None, by)?;
            return Ok(Change::Done);
        }
        Reference::Digest(digest) => raw(digest),
    };
    let sql = "SELECT id FROM manifests WHERE repo = ? AND digest = ?";
    let Some(id) = first(connection, sql, (repo, &digest), |row| row.get(0))? else {
        return Ok(Change::Missing);
    };
    let sql = "SELECT name FROM tags WHERE manifest = ?";
    let tags: Vec<String> = rows(connection, sql, [id], |row| row.get(0))?;
    if let Some(tag) = tags.iter().find(|tag| policy.is_immutable(tag)) {
        return Ok(Change::Immutable(tag.clone()));
    }
    for tag in &tags {
        move_tag(connection, policy, repo, tag, None, by)?;
    }
    remove(connection, repo, id, &digest, by.now.0)?;
    Ok(Change::Done)
}

/// Removes a manifest that no tag is on, and has everything looked at that it kept.
pub(crate) fn remove(
    connection: &Connection,
    repo: i64,
    id: i64,
    digest: &[u8],
    now: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO reviews (kind, repo, item, due)
             SELECT 1, repo, digest, ? FROM manifest_blobs WHERE manifest = ?
             ON CONFLICT (kind, repo, item) DO UPDATE SET due = min(due, excluded.due)",
        )?
        .execute((now, id))?;
    let kept = "SELECT child FROM manifest_children WHERE parent = ?1 AND child IS NOT NULL
                UNION SELECT id FROM manifests WHERE repo = ?2 AND subject = ?3";
    let kept: Vec<i64> = rows(connection, kept, (id, repo, digest), |row| row.get(0))?;
    connection
        .prepare_cached("UPDATE manifest_children SET child = NULL WHERE child = ?")?
        .execute([id])?;
    connection.prepare_cached("DELETE FROM manifests WHERE id = ?")?.execute([id])?;
    for manifest in kept {
        orphan(connection, repo, manifest, now, now)?;
    }
    Ok(())
}
