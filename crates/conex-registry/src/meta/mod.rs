//! What the registry knows, behind one trait: repositories, blobs, manifests, tags and what became
//! of them.
//!
//! Invariants, whatever keeps them: a change is durable when its answer comes; a manifest is there
//! with all that it needs or not at all; what is needed cannot be removed, by nobody.
//!
//! One implementation is here, over SQLite; the trait leaves room for a database on a network, so
//! every method may wait.

pub(crate) mod codec;
mod collect;
mod database;
mod manifests;
pub(crate) mod read;
mod sqlite;
mod tags;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use conex_oci::Digest;

use crate::blobs::Object;
use crate::document::Document;
use crate::error::Result;
use crate::name::{Name, Pattern, Tag};
use crate::route::Reference;
use crate::time::Moment;

pub use database::Durability;
pub(crate) use database::open_for_check;
pub(crate) use sqlite::SqliteMeta;

/// What comes of a question.
pub(crate) type Answer<'m, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'm>>;

/// How long things stay.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// How long a blob or an orphaned manifest stays after it was last pushed or asked for.
    pub(crate) lease: Duration,
    /// How long what a tag was on stays.
    pub(crate) history: Duration,
    /// Tags that never move.
    pub(crate) immutable: Vec<Pattern>,
    /// How long an object stays after no row names it any more.
    pub(crate) read_grace: Duration,
}

impl Policy {
    pub(crate) fn is_immutable(&self, tag: &str) -> bool {
        self.immutable.iter().any(|pattern| pattern.matches(tag))
    }
}

/// A blob as a repository has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) object: Object,
    pub(crate) size: u64,
    pub(crate) lease: Moment,
}

/// A manifest as a repository has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestRow {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    /// Until when it stays, if nothing keeps it.
    pub(crate) orphan_lease: Option<Moment>,
}

/// A line of the list of referrers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReferrerRow {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Which referrers are asked for.
#[derive(Debug, Clone)]
pub(crate) struct ReferrerQuery {
    pub(crate) subject: Digest,
    pub(crate) artifact_type: Option<String>,
    pub(crate) last: Option<Digest>,
    pub(crate) limit: usize,
}

/// A move of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryRow {
    pub(crate) at: Moment,
    pub(crate) actor: String,
    pub(crate) old: Option<Digest>,
    pub(crate) new: Option<Digest>,
    /// Until when the old one stays, if it is still there.
    pub(crate) keep: Option<Moment>,
}

/// Who does something, and when.
#[derive(Debug, Clone)]
pub(crate) struct By {
    pub(crate) actor: String,
    pub(crate) now: Moment,
}

/// A manifest to be kept.
#[derive(Debug)]
pub(crate) struct NewManifest {
    pub(crate) repository: Name,
    pub(crate) digest: Digest,
    pub(crate) document: Document,
    pub(crate) bytes: Vec<u8>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) expected: Expected,
}

/// What a tag must be on before it moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whatever it is on.
    Anything,
    /// Nothing: it is new.
    Absent,
    /// Anything, but not nothing.
    Present,
    /// One of these.
    OneOf(Vec<Digest>),
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is done.
    Done,
    /// There is no such thing.
    Missing,
    /// The manifest needs blobs that the repository does not have.
    NeedsBlobs(Vec<Digest>),
    /// The manifest needs manifests that the repository does not have.
    NeedsManifests(Vec<Digest>),
    /// The manifest names a blob with a size that it has not.
    WrongSize(Digest, u64),
    /// The tag is on something else than expected.
    Unexpected(Option<Digest>),
    /// The tag may not move.
    Immutable(String),
    /// The blob is needed.
    Used,
}

/// What came of a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rollback {
    /// The tag is on this now.
    Done(Digest),
    /// Something else came of it.
    Not(Change),
}

/// What one round of collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Things that were looked at. None: there is nothing to do now.
    pub(crate) reviewed: usize,
    /// Blobs that are gone from a repository.
    pub(crate) links: usize,
    /// Manifests that are gone.
    pub(crate) manifests: usize,
    /// Objects that are trash now.
    pub(crate) objects: usize,
}

/// What the registry knows.
pub(crate) trait Meta: Send + Sync {
    /// A blob of a repository.
    fn blob(&self, of: &Name, digest: &Digest) -> Answer<'_, Option<BlobRow>>;

    /// A manifest of a repository.
    fn manifest(&self, of: &Name, reference: &Reference) -> Answer<'_, Option<ManifestRow>>;

    /// Tags of a repository behind one, sorted by their bytes; none if there is no repository.
    fn tags(&self, of: &Name, last: &str, limit: usize) -> Answer<'_, Option<Vec<String>>>;

    /// Repositories with manifests behind one, sorted by their bytes.
    fn repositories(&self, last: &str, limit: usize) -> Answer<'_, Vec<String>>;

    /// Manifests about a manifest, sorted by digest.
    fn referrers(&self, of: &Name, query: &ReferrerQuery) -> Answer<'_, Vec<ReferrerRow>>;

    /// The moves of a tag, the latest first.
    fn history(&self, of: &Name, tag: &Tag, limit: usize) -> Answer<'_, Vec<HistoryRow>>;

    /// Gives a repository a blob whose bytes are durable in an object. Gives back the object if it
    /// is not needed, because the same bytes were there.
    fn add_blob(
        &self,
        to: &Name,
        digest: &Digest,
        object: Object,
        size: u64,
        now: Moment,
    ) -> Answer<'_, Option<Object>>;

    /// Gives a repository a blob that another one has, or that any other has.
    fn mount(
        &self,
        to: &Name,
        digest: &Digest,
        from: Option<&Name>,
        now: Moment,
    ) -> Answer<'_, bool>;

    /// Keeps a blob for another lease.
    fn extend_blob(&self, of: &Name, digest: &Digest, now: Moment) -> Answer<'_, ()>;

    /// Keeps an orphaned manifest for another lease.
    fn extend_manifest(&self, of: &Name, digest: &Digest, now: Moment) -> Answer<'_, ()>;

    /// Notes that the bytes of a blob are gone or damaged.
    fn lose_blob(&self, digest: &Digest) -> Answer<'_, ()>;

    /// Takes a blob from a repository.
    fn delete_blob(&self, of: &Name, digest: &Digest, now: Moment) -> Answer<'_, Change>;

    /// Keeps a manifest and moves tags to it.
    fn put_manifest(&self, new: NewManifest, by: By) -> Answer<'_, Change>;

    /// Removes a manifest with its tags, or a tag.
    fn delete_manifest(&self, of: &Name, reference: &Reference, by: By) -> Answer<'_, Change>;

    /// Moves a tag back to what it was on before, or to what it once was on.
    fn rollback(
        &self,
        of: &Name,
        tag: &Tag,
        to: Option<Digest>,
        expected: Expected,
        by: By,
    ) -> Answer<'_, Rollback>;

    /// Looks at some of what may be garbage, and removes what is.
    fn collect(&self, now: Moment, limit: usize) -> Answer<'_, Collected>;

    /// Objects that may be removed now.
    fn trash(&self, now: Moment, limit: usize) -> Answer<'_, Vec<Object>>;

    /// Those of some objects that nothing names.
    fn unnamed(&self, objects: Vec<Object>) -> Answer<'_, Vec<Object>>;

    /// Forgets objects that were removed.
    fn forget(&self, objects: Vec<Object>) -> Answer<'_, ()>;
}
