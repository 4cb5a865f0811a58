//! Checking all that a registry keeps, byte by byte, and mending what can be mended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conex_oci::{Digest, Hasher};
use rusqlite::Connection;

use crate::blobs::{Blobs, FileBlobs, Object, PART_COUNT};
use crate::document::Document;
use crate::error::{Error, ErrorKind, Result};
use crate::meta::{Durability, codec, open_for_check, read};
use crate::time::Moment;
use crate::usage::Usage;

/// Rows looked at between two looks at the database.
const STEP_COUNT: usize = 500;

/// How old a file without a row must be while a registry serves the folder: the row of a younger
/// one may be on its way.
const STRAY_AGE: Duration = Duration::from_secs(3600);

/// Whether a check changes what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// It only looks. A registry may serve the folder meanwhile.
    No,
    /// It mends what can be mended. Nobody may use the folder meanwhile.
    Yes,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Manifests that were read.
    pub manifests: u64,
    /// What is wrong.
    pub damages: Vec<Damage>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What it is.
    pub text: String,
    /// Whether it was mended.
    pub is_mended: bool,
    /// What a person can do about it, if it was not.
    pub remedy: Option<&'static str>,
}

impl CheckReport {
    /// Whether nothing is wrong (any more).
    pub fn is_clean(&self) -> bool {
        self.damages.iter().all(|damage| damage.is_mended)
    }

    fn add(&mut self, text: String, is_mended: bool, remedy: Option<&'static str>) {
        self.damages.push(Damage { text, is_mended, remedy });
    }
}

/// Checks the data of a registry in a folder.
///
/// # Errors
/// The folder is not one of a registry, cannot be read, or shall be mended while it is served.
pub fn check(data: &Path, repair: Repair, now: Moment) -> Result<CheckReport> {
    let database = data.join("registry.db");
    if !database.is_file() {
        return Err(Error::invalid(format!("`{}` holds no data of a registry", data.display()))
            .with_hint("name the folder of `conex registry serve --data`"));
    }
    let usage = match (Usage::begin(data), repair) {
        (Ok(usage), _) => Some(usage),
        (Err(error), Repair::No) if error.kind() == ErrorKind::Busy => None,
        (Err(error), _) => return Err(error),
    };
    let is_alone = usage.is_some();
    let blobs = FileBlobs::open(data, usage, Durability::Synced, "")?;
    let connection = open_for_check(&database)?;
    let checker = Checker {
        connection,
        blobs: Arc::new(blobs),
        repair,
        stray_before: if is_alone { Moment(i64::MAX) } else { now.before(STRAY_AGE) },
        now,
    };
    let mut report = CheckReport::default();
    checker.database(&mut report)?;
    checker.blobs(&mut report)?;
    checker.manifests(&mut report)?;
    checker.strays(&mut report)?;
    checker.leaks(&mut report)?;
    if repair == Repair::Yes {
        checker.blobs.mended();
    }
    Ok(report)
}

struct Checker {
    connection: Connection,
    blobs: Arc<FileBlobs>,
    repair: Repair,
    stray_before: Moment,
    now: Moment,
}

impl Checker {
    fn ask<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        f(&self.connection).map_err(|source| Error::database("check the database", source))
    }

    fn mends(&self) -> bool {
        self.repair == Repair::Yes
    }

    fn database(&self, report: &mut CheckReport) -> Result<()> {
        let remedy = Some("restore the folder from a copy");
        let lines = self.ask(|connection| {
            read::rows(connection, "PRAGMA integrity_check(100)", [], |row| row.get::<_, String>(0))
        })?;
        for line in lines.into_iter().filter(|line| line != "ok") {
            report.add(format!("the database: {line}"), false, remedy);
        }
        let loose = self.ask(|connection| {
            read::rows(connection, "PRAGMA foreign_key_check", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(2)?))
            })
        })?;
        for (table, named) in loose {
            report.add(format!("a row of `{table}` names none of `{named}`"), false, remedy);
        }
        Ok(())
    }

    fn blobs(&self, report: &mut CheckReport) -> Result<()> {
        type Row = (Vec<u8>, String, u64, bool);
        let mut last = Vec::new();
        loop {
            let sql = "SELECT digest, object, size, is_lost FROM blobs WHERE digest > ?
                       ORDER BY digest LIMIT ?";
            let rows: Vec<Row> = self.ask(|connection| {
                read::rows(connection, sql, (&last, STEP_COUNT as i64), |row| {
                    Ok((row.get(0)?, row.get(1)?, codec::size(row, 2)?, row.get(3)?))
                })
            })?;
            let Some(end) = rows.last() else { return Ok(()) };
            last.clone_from(&end.0);
            for (raw, object, size, is_lost) in rows {
                self.blob(report, &raw, object, size, is_lost)?;
            }
        }
    }

    fn blob(
        &self,
        report: &mut CheckReport,
        raw: &[u8],
        object: String,
        size: u64,
        is_lost: bool,
    ) -> Result<()> {
        let remedy = Some("push an image that has it again: its bytes are then taken anew");
        let Some(digest) = codec::digest_of(raw) else {
            report.add("a blob's row has no digest".to_owned(), false, remedy);
            return Ok(());
        };
        if is_lost {
            report.add(format!("the blob `{digest}` is lost"), false, remedy);
            return Ok(());
        }
        let object = Object::from_row(object);
        let found = match self.blobs.open(&object, size)? {
            None => None,
            Some(_) => self.blobs.digest(&object, digest.algorithm())?,
        };
        report.blobs += 1;
        report.bytes += size;
        if found.as_ref() == Some(&digest) {
            return Ok(());
        }
        // While a registry serves, the blob may have been collected since its row was read.
        let sql = "SELECT 1 FROM blobs WHERE digest = ? AND object = ?";
        let is_still =
            self.ask(|connection| read::exists(connection, sql, (raw, object.as_str())))?;
        if is_still {
            report.add(
                format!("the bytes of the blob `{digest}` are gone or others"),
                false,
                remedy,
            );
            if self.mends() {
                let sql = "UPDATE blobs SET is_lost = 1 WHERE digest = ?";
                self.ask(|connection| connection.execute(sql, [raw]))?;
            }
        }
        Ok(())
    }

    fn manifests(&self, report: &mut CheckReport) -> Result<()> {
        type Row = (i64, Vec<u8>, String, Vec<u8>, String);
        let mut last = 0;
        loop {
            let sql = "SELECT m.id, m.digest, m.media_type, m.bytes, r.name FROM manifests m
                       JOIN repositories r ON r.id = m.repo WHERE m.id > ? ORDER BY m.id LIMIT ?";
            let rows: Vec<Row> = self.ask(|connection| {
                read::rows(connection, sql, (last, STEP_COUNT as i64), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })
            })?;
            let Some(end) = rows.last() else { return Ok(()) };
            last = end.0;
            for (id, raw, media_type, bytes, name) in rows {
                report.manifests += 1;
                if let Some(why) = self.manifest(id, &raw, &media_type, &bytes)? {
                    let remedy = Some("delete it, and push the image again");
                    report.add(format!("a manifest of `{name}`: {why}"), false, remedy);
                }
            }
        }
    }

    /// What is wrong with a manifest.
    fn manifest(
        &self,
        id: i64,
        raw: &[u8],
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Option<String>> {
        let Some(digest) = codec::digest_of(raw) else {
            return Ok(Some("its row has no digest".to_owned()));
        };
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(bytes);
        if hasher.finish() != digest {
            return Ok(Some(format!("its bytes are not those of `{digest}`")));
        }
        let document = match Document::parse(bytes, Some(media_type)) {
            Ok(document) => document,
            Err(why) => return Ok(Some(format!("`{digest}`: {why}"))),
        };
        let named = |sql: &str| {
            self.ask(|connection| read::rows(connection, sql, [id], |row| codec::digest(row, 0)))
        };
        let blobs = named("SELECT digest FROM manifest_blobs WHERE manifest = ?")?;
        let children = named("SELECT digest FROM manifest_children WHERE parent = ?")?;
        let known: std::collections::BTreeSet<&Digest> = blobs.iter().chain(&children).collect();
        let wanted = document.blobs.iter().map(|(digest, _)| digest);
        let missing = wanted.chain(&document.children).find(|digest| !known.contains(digest));
        Ok(missing.map(|missing| format!("`{digest}` does not keep `{missing}`")))
    }

    /// Files that no row names.
    fn strays(&self, report: &mut CheckReport) -> Result<()> {
        let sql = "SELECT 1 FROM blobs WHERE object = ?1
                   UNION ALL SELECT 1 FROM trash WHERE object = ?1";
        if self.blobs.is_interrupted() && !self.mends() {
            // The registry removes what was interrupted when it starts.
            return Ok(());
        }
        for part in 0..PART_COUNT {
            for object in self.blobs.old_objects(part, self.stray_before)? {
                let name = object.as_str();
                if !self.ask(|connection| read::exists(connection, sql, [name]))? {
                    let text = format!("nothing names the file `blobs/{name}`");
                    if self.mends() {
                        self.blobs.remove(&object)?;
                    }
                    report.add(text, self.mends(), Some("`conex registry fsck --repair`"));
                }
            }
        }
        Ok(())
    }

    /// Rows that nothing needs and nobody would look at.
    fn leaks(&self, report: &mut CheckReport) -> Result<()> {
        let unheld = "digest NOT IN (SELECT digest FROM repo_blobs)";
        let now = self.now.0;
        let leaks = [
            (
                "blobs belong to no repository",
                format!("SELECT count(*) FROM blobs WHERE {unheld}"),
                format!(
                    "INSERT OR IGNORE INTO trash (object, not_before)
                     SELECT object, {now} FROM blobs WHERE {unheld};
                     DELETE FROM blobs WHERE {unheld};"
                ),
            ),
            (
                "blobs of a repository are used by nothing and would never be looked at",
                "SELECT count(*) FROM repo_blobs l WHERE NOT EXISTS (SELECT 1 FROM manifest_blobs m
                    WHERE m.repo = l.repo AND m.digest = l.digest) AND NOT EXISTS (SELECT 1
                    FROM reviews v WHERE v.kind = 1 AND v.repo = l.repo AND v.item = l.digest)"
                    .to_owned(),
                "INSERT OR IGNORE INTO reviews (kind, repo, item, due)
                 SELECT 1, repo, digest, lease FROM repo_blobs l WHERE NOT EXISTS
                    (SELECT 1 FROM manifest_blobs m WHERE m.repo = l.repo AND m.digest = l.digest)"
                    .to_owned(),
            ),
            (
                "manifests are kept by nothing and would never be looked at",
                "SELECT count(*) FROM manifests o WHERE orphaned IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM manifest_children c WHERE c.child = o.id)
                    AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repo = o.repo
                        AND s.digest = o.subject)
                    AND NOT EXISTS (SELECT 1 FROM reviews v WHERE v.kind = 2
                        AND v.repo = o.repo AND v.item = o.id)"
                    .to_owned(),
                "INSERT OR IGNORE INTO reviews (kind, repo, item, due)
                 SELECT 2, repo, id, lease FROM manifests WHERE orphaned IS NOT NULL"
                    .to_owned(),
            ),
        ];
        for (text, count, mend) in leaks {
            let found: i64 =
                self.ask(|connection| connection.query_row(&count, [], |row| row.get(0)))?;
            if found > 0 {
                if self.mends() {
                    self.ask(|connection| connection.execute_batch(&mend))?;
                }
                let remedy = Some("`conex registry fsck --repair`");
                report.add(format!("{found} {text}"), self.mends(), remedy);
            }
        }
        Ok(())
    }
}
