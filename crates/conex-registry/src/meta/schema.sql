-- What the registry knows. Digests are one byte for the algorithm (1 SHA-256, 2 SHA-512) and the
-- raw bytes. Times are milliseconds since 1970.
--
-- A row appears only after what it names is durable. What is named cannot be removed while its
-- name stands: the foreign keys say so, not the collector.

CREATE TABLE repositories (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL
);

-- The bytes of a blob lie in one object (a file). Objects are never written again under the same
-- name, so a late removal cannot hit a new one.
CREATE TABLE blobs (
    digest  BLOB PRIMARY KEY,
    object  TEXT NOT NULL UNIQUE,
    size    INTEGER NOT NULL,
    created INTEGER NOT NULL,
    -- The object is gone or damaged: the next upload of the same bytes replaces it.
    is_lost INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Which repositories have a blob, and until when it stays there without being used.
CREATE TABLE repo_blobs (
    repo   INTEGER NOT NULL REFERENCES repositories (id),
    digest BLOB NOT NULL REFERENCES blobs (digest) ON DELETE RESTRICT,
    lease  INTEGER NOT NULL,
    PRIMARY KEY (repo, digest)
) WITHOUT ROWID;
CREATE INDEX repo_blobs_by_digest ON repo_blobs (digest);

CREATE TABLE manifests (
    id            INTEGER PRIMARY KEY,
    repo          INTEGER NOT NULL REFERENCES repositories (id),
    digest        BLOB NOT NULL,
    media_type    TEXT NOT NULL,
    size          INTEGER NOT NULL,
    subject       BLOB,
    artifact_type TEXT,
    annotations   TEXT,
    created       INTEGER NOT NULL,
    -- When it was last asked for or pushed, plus the lease: not collected before.
    lease         INTEGER NOT NULL,
    -- When the last tag, index or subject that it was kept for went away; none if it never had
    -- one, and then it stays until it is deleted.
    orphaned      INTEGER,
    bytes         BLOB NOT NULL,
    UNIQUE (repo, digest)
);
CREATE INDEX manifests_by_subject ON manifests (repo, subject, digest) WHERE subject IS NOT NULL;

CREATE TABLE manifest_blobs (
    manifest INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    repo     INTEGER NOT NULL,
    digest   BLOB NOT NULL,
    PRIMARY KEY (manifest, digest),
    FOREIGN KEY (repo, digest) REFERENCES repo_blobs (repo, digest) ON DELETE RESTRICT
) WITHOUT ROWID;
CREATE INDEX manifest_blobs_by_digest ON manifest_blobs (repo, digest);

-- The manifests of an index. Whoever deletes a child on purpose leaves the line without it.
CREATE TABLE manifest_children (
    parent INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    repo   INTEGER NOT NULL,
    digest BLOB NOT NULL,
    child  INTEGER REFERENCES manifests (id) ON DELETE RESTRICT,
    PRIMARY KEY (parent, digest)
) WITHOUT ROWID;
CREATE INDEX manifest_children_by_child ON manifest_children (child);
CREATE INDEX manifest_children_missing ON manifest_children (repo, digest) WHERE child IS NULL;

CREATE TABLE tags (
    repo     INTEGER NOT NULL REFERENCES repositories (id),
    name     TEXT NOT NULL,
    manifest INTEGER NOT NULL REFERENCES manifests (id) ON DELETE RESTRICT,
    updated  INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    PRIMARY KEY (repo, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_manifest ON tags (manifest);

-- Every move of every tag.
CREATE TABLE tag_history (
    id         INTEGER PRIMARY KEY,
    repo       INTEGER NOT NULL REFERENCES repositories (id),
    name       TEXT NOT NULL,
    old_digest BLOB,
    new_digest BLOB,
    -- What the tag was on before stays until `keep`.
    manifest   INTEGER REFERENCES manifests (id) ON DELETE SET NULL,
    keep       INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL
);
CREATE INDEX tag_history_by_name ON tag_history (repo, name, id);
CREATE INDEX tag_history_by_manifest ON tag_history (manifest) WHERE manifest IS NOT NULL;

-- What may have become garbage, and when to look at it: kind 1 a blob of a repository (item is the
-- digest), kind 2 a manifest (item is its id). Whatever can orphan something writes here in the
-- same transaction, so the collector reads garbage and not everything.
CREATE TABLE reviews (
    kind INTEGER NOT NULL,
    repo INTEGER NOT NULL,
    item BLOB NOT NULL,
    due  INTEGER NOT NULL,
    PRIMARY KEY (kind, repo, item)
) WITHOUT ROWID;
CREATE INDEX reviews_by_due ON reviews (due);

-- Objects that no row names any more, to be removed.
CREATE TABLE trash (
    object     TEXT PRIMARY KEY,
    not_before INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX trash_by_time ON trash (not_before);
