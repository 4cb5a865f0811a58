//! [`Meta`] over SQLite: each method is one transaction, or its part of a common one.

use std::path::Path;
use std::sync::Arc;

use conex_oci::Digest;

use super::database::{Database, Durability};
use super::{
    Answer, BlobRow, By, Change, Collected, Expected, HistoryRow, ManifestRow, Meta, NewManifest,
    Policy, ReferrerQuery, ReferrerRow, Rollback, collect, manifests, read, tags,
};
use crate::blobs::Object;
use crate::error::Result;
use crate::name::{Name, Tag};
use crate::route::Reference;
use crate::time::Moment;

/// What the registry knows, in one file.
pub(crate) struct SqliteMeta {
    database: Database,
    policy: Arc<Policy>,
}

impl SqliteMeta {
    /// Opens the file, and makes it where there is none.
    pub(crate) fn open(path: &Path, durability: Durability, policy: Policy) -> Result<Self> {
        let database = Database::open(path, durability)?;
        Ok(Self { database, policy: Arc::new(policy) })
    }

    fn ask<T: Send + 'static>(
        &self,
        act: &str,
        f: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Answer<'_, T> {
        let answer = self.database.read(act, f);
        Box::pin(std::future::ready(answer))
    }

    fn change<T: Send + 'static>(
        &self,
        act: &'static str,
        f: impl FnOnce(&rusqlite::Connection, &Policy) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'_, T> {
        let policy = self.policy.clone();
        self.database.write(act, move |connection| f(connection, &policy))
    }
}

impl Meta for SqliteMeta {
    fn blob(&self, of: &Name, digest: &Digest) -> Answer<'_, Option<BlobRow>> {
        self.ask("look for a blob", |connection| read::blob(connection, of, digest))
    }

    fn manifest(&self, of: &Name, reference: &Reference) -> Answer<'_, Option<ManifestRow>> {
        self.ask("look for a manifest", |connection| read::manifest(connection, of, reference))
    }

    fn tags(&self, of: &Name, last: &str, limit: usize) -> Answer<'_, Option<Vec<String>>> {
        self.ask("list tags", |connection| read::tags(connection, of, last, limit))
    }

    fn repositories(&self, last: &str, limit: usize) -> Answer<'_, Vec<String>> {
        self.ask("list repositories", |connection| read::repositories(connection, last, limit))
    }

    fn referrers(&self, of: &Name, query: &ReferrerQuery) -> Answer<'_, Vec<ReferrerRow>> {
        self.ask("list referrers", |connection| read::referrers(connection, of, query))
    }

    fn history(&self, of: &Name, tag: &Tag, limit: usize) -> Answer<'_, Vec<HistoryRow>> {
        self.ask("list moves of a tag", |connection| read::history(connection, of, tag, limit))
    }

    fn add_blob(
        &self,
        to: &Name,
        digest: &Digest,
        object: Object,
        size: u64,
        now: Moment,
    ) -> Answer<'_, Option<Object>> {
        let (to, digest) = (to.clone(), digest.clone());
        self.change("keep a blob", move |connection, policy| {
            manifests::add_blob(connection, policy, &to, &digest, object, size, now)
        })
    }

    fn mount(
        &self,
        to: &Name,
        digest: &Digest,
        from: Option<&Name>,
        now: Moment,
    ) -> Answer<'_, bool> {
        let (to, digest, from) = (to.clone(), digest.clone(), from.cloned());
        self.change("mount a blob", move |connection, policy| {
            manifests::mount(connection, policy, &to, &digest, from.as_ref(), now)
        })
    }

    fn extend_blob(&self, of: &Name, digest: &Digest, now: Moment) -> Answer<'_, ()> {
        let (of, digest) = (of.clone(), digest.clone());
        self.change("keep a blob for longer", move |connection, policy| {
            manifests::extend_blob(connection, policy, &of, &digest, now)
        })
    }

    fn extend_manifest(&self, of: &Name, digest: &Digest, now: Moment) -> Answer<'_, ()> {
        let (of, digest) = (of.clone(), digest.clone());
        self.change("keep a manifest for longer", move |connection, policy| {
            manifests::extend_manifest(connection, policy, &of, &digest, now)
        })
    }

    fn lose_blob(&self, digest: &Digest) -> Answer<'_, ()> {
        let digest = super::codec::raw(digest);
        self.change("note that a blob is lost", move |connection, _| {
            let sql = "UPDATE blobs SET is_lost = 1 WHERE digest = ?";
            connection.prepare_cached(sql)?.execute([digest]).map(|_| ())
        })
    }

    fn delete_blob(&self, of: &Name, digest: &Digest, now: Moment) -> Answer<'_, Change> {
        let (of, digest) = (of.clone(), digest.clone());
        self.change("delete a blob", move |connection, _| {
            manifests::delete_blob(connection, &of, &digest, now)
        })
    }

    fn put_manifest(&self, new: NewManifest, by: By) -> Answer<'_, Change> {
        self.change("keep a manifest", move |connection, policy| {
            manifests::put(connection, policy, &new, &by)
        })
    }

    fn delete_manifest(&self, of: &Name, reference: &Reference, by: By) -> Answer<'_, Change> {
        let (of, reference) = (of.clone(), reference.clone());
        self.change("delete a manifest", move |connection, policy| {
            manifests::delete(connection, policy, &of, &reference, &by)
        })
    }

    fn rollback(
        &self,
        of: &Name,
        tag: &Tag,
        to: Option<Digest>,
        expected: Expected,
        by: By,
    ) -> Answer<'_, Rollback> {
        let (of, tag) = (of.clone(), tag.clone());
        self.change("move a tag back", move |connection, policy| {
            tags::rollback(connection, policy, &of, &tag, to.as_ref(), &expected, &by)
        })
    }

    fn collect(&self, now: Moment, limit: usize) -> Answer<'_, Collected> {
        self.change("collect garbage", move |connection, policy| {
            collect::collect(connection, policy, now, limit)
        })
    }

    fn trash(&self, now: Moment, limit: usize) -> Answer<'_, Vec<Object>> {
        self.ask("list trash", |connection| {
            let objects = collect::trash(connection, now, limit)?;
            Ok(objects.into_iter().map(Object::from_row).collect())
        })
    }

    fn unnamed(&self, objects: Vec<Object>) -> Answer<'_, Vec<Object>> {
        self.ask("look for strays", |connection| {
            let sql = "SELECT 1 FROM blobs WHERE object = ?1
                       UNION ALL SELECT 1 FROM trash WHERE object = ?1";
            let mut unnamed = Vec::new();
            for object in objects {
                if !read::exists(connection, sql, [object.as_str()])? {
                    unnamed.push(object);
                }
            }
            Ok(unnamed)
        })
    }

    fn forget(&self, objects: Vec<Object>) -> Answer<'_, ()> {
        self.change("forget trash", move |connection, _| {
            let objects: Vec<String> =
                objects.iter().map(|object| object.as_str().to_owned()).collect();
            collect::forget(connection, &objects)
        })
    }
}
