-- The rows of a store. Times are nanoseconds since the Unix epoch; digests are `algorithm:hex`.

-- Bytes by digest. A row is there only after its file is.
CREATE TABLE blobs (
    digest TEXT PRIMARY KEY NOT NULL,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL,
    -- The boot that wrote the file, and whether the file was synced to the disk since.
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL
) WITHOUT ROWID;

-- One unpacked layer each.
CREATE TABLE snapshots (
    id TEXT PRIMARY KEY NOT NULL,
    parent TEXT REFERENCES snapshots (id),
    chain_id TEXT NOT NULL UNIQUE,
    diff_id TEXT NOT NULL,
    -- Bytes on disk.
    size INTEGER NOT NULL,
    -- Bytes of the uncompressed layer tar.
    tar_size INTEGER NOT NULL,
    -- How ownership and whiteouts are written in the files.
    form TEXT NOT NULL,
    created INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX snapshots_parent ON snapshots (parent);
CREATE INDEX snapshots_diff_id ON snapshots (diff_id);
CREATE INDEX snapshots_unsynced ON snapshots (synced) WHERE synced = 0;

-- The shipped forms of a layer.
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID;
CREATE INDEX layer_blobs_digest ON layer_blobs (digest);

-- Images (the ID is the digest of the config) and indexes (the ID is the digest of the index).
CREATE TABLE images (
    id TEXT PRIMARY KEY NOT NULL REFERENCES blobs (digest),
    kind TEXT NOT NULL,
    platform TEXT NOT NULL,
    source TEXT NOT NULL,
    -- What the config says about its creation (RFC 3339), for listings.
    config_created TEXT,
    -- The labels of the config (JSON), for filters.
    labels TEXT NOT NULL,
    created INTEGER NOT NULL,
    -- Bytes of all layers, unpacked, as far as they are known.
    size INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE image_layers (
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_chain_id ON image_layers (chain_id);
CREATE INDEX image_layers_diff_id ON image_layers (diff_id);

-- Original manifests of an image, and the bytes of an index that came from outside.
CREATE TABLE manifests (
    digest TEXT PRIMARY KEY NOT NULL REFERENCES blobs (digest),
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX manifests_image ON manifests (image);

-- What an index lists. `image` is null while the platform's image is not in the store.
CREATE TABLE index_entries (
    id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    platform TEXT NOT NULL,
    image TEXT REFERENCES images (id),
    manifest TEXT,
    PRIMARY KEY (id, position)
) WITHOUT ROWID;
CREATE INDEX index_entries_image ON index_entries (image);
CREATE INDEX index_entries_manifest ON index_entries (manifest);

-- `name@digest` under which an image was pulled or pushed.
CREATE TABLE repo_digests (
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX repo_digests_image ON repo_digests (image);
CREATE INDEX repo_digests_digest ON repo_digests (digest);

CREATE TABLE tags (
    name TEXT PRIMARY KEY NOT NULL,
    repository TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES images (id),
    updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tags_image ON tags (image);
CREATE INDEX tags_repository ON tags (repository);

CREATE TABLE tag_history (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    old TEXT,
    new TEXT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL
);
CREATE INDEX tag_history_name ON tag_history (name, seq);

-- The build cache: flat keys.
CREATE TABLE cache (
    key TEXT PRIMARY KEY NOT NULL,
    kind TEXT NOT NULL,
    snapshot TEXT REFERENCES snapshots (id),
    description TEXT NOT NULL,
    result TEXT NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    hits INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_snapshot ON cache (snapshot);
CREATE INDEX cache_last_used ON cache (last_used);

-- What the key of a step was made of when the step last ran, to explain a miss.
CREATE TABLE cache_steps (
    step TEXT PRIMARY KEY NOT NULL,
    key TEXT NOT NULL,
    components TEXT NOT NULL,
    updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_steps_updated ON cache_steps (updated);

CREATE TABLE cache_mounts (
    dir TEXT PRIMARY KEY NOT NULL,
    id TEXT NOT NULL,
    created INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX cache_mounts_id ON cache_mounts (id);

CREATE TABLE volumes (
    name TEXT PRIMARY KEY NOT NULL,
    labels TEXT NOT NULL,
    options TEXT NOT NULL,
    created INTEGER NOT NULL
) WITHOUT ROWID;

-- What living processes use. The lease is alive while its file is locked.
CREATE TABLE lease_refs (
    lease TEXT NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    PRIMARY KEY (lease, kind, object)
) WITHOUT ROWID;
CREATE INDEX lease_refs_object ON lease_refs (kind, object);
