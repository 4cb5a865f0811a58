//! Every limit of this crate, with its reason. Registries are not trusted: what has no limit here
//! is what a hostile one would make endless.

/// Largest JSON answer that is not a manifest (tokens, tag lists, errors): 4 MiB, as for manifests.
pub(crate) const DOCUMENT_SIZE_MAX: u64 = 4 << 20;

/// Largest error body read: what does not fit says nothing more to a person.
pub(crate) const ERROR_BODY_SIZE_MAX: u64 = 64 << 10;

/// Most redirects followed for one request. Registries need one or two.
pub(crate) const REDIRECTS_MAX: u32 = 5;

/// Longest URL accepted from the other side: 16 KiB. Presigned ones have about two.
pub(crate) const URL_LEN_MAX: usize = 16 << 10;

/// Longest `WWW-Authenticate` header understood: 8 KiB. Real ones have 200 bytes.
pub(crate) const CHALLENGE_LEN_MAX: usize = 8 << 10;

/// Most parameters of one challenge.
pub(crate) const CHALLENGE_PARAMETERS_MAX: usize = 16;

/// Most pages of a list (tags, catalog, referrers) fetched: a server that always names a next page
/// must not keep the client for ever.
pub(crate) const PAGES_MAX: usize = 10_000;

/// Most entries of a list kept: a million tags are about 100 MB; nobody has more.
pub(crate) const ENTRIES_MAX: usize = 1_000_000;

/// Largest configuration file read: 1 MiB.
pub(crate) const CONFIG_SIZE_MAX: u64 = 1 << 20;

/// Largest answer of a credential helper: 1 MiB. Tokens have a few kilobytes.
pub(crate) const HELPER_OUTPUT_SIZE_MAX: u64 = 1 << 20;

/// Bytes moved at once. Large enough that the system calls do not show, small enough that a
/// hundred of them do not show either.
pub(crate) const BUFFER_SIZE: usize = 256 << 10;

/// Bytes kept in memory for one chunk of an upload whose source cannot be read twice.
pub(crate) const CHUNK_SIZE: usize = 8 << 20;

/// Largest `OCI-Chunk-Min-Length` obeyed: a server that wants more is refused, as each such chunk
/// is held in memory.
pub(crate) const CHUNK_SIZE_MAX: usize = 64 << 20;

/// Blobs up to this size go up in one `PUT`: two requests instead of three, and nothing worth
/// resuming is lost when it fails.
pub(crate) const MONOLITHIC_SIZE_MAX: u64 = 4 << 20;

/// One piece of a blob that is fetched in parallel ranges.
pub(crate) const RANGE_PIECE_SIZE: u64 = 2 << 20;

/// Blobs from this size on are fetched in parallel ranges: below, the requests cost more than they
/// gain.
pub(crate) const RANGE_BLOB_SIZE_MIN: u64 = 16 << 20;

/// Progress that gives a transfer its full number of attempts back. A connection that brings a
/// mebibyte each time is slow, not dead.
pub(crate) const PROGRESS_SIZE_MIN: u64 = 1 << 20;

/// Most manifests visited when an index (or referrers of referrers) is copied.
pub(crate) const MANIFESTS_MAX: usize = 10_000;

/// Deepest nesting of indexes, and of referrers of referrers.
pub(crate) const DEPTH_MAX: usize = 8;

/// Shortest life of a token assumed (distribution's token specification: never below 60 s).
pub(crate) const TOKEN_LIFE_MIN_SECONDS: u64 = 60;

/// Longest life of a token believed: a day. What says more is asked again tomorrow.
pub(crate) const TOKEN_LIFE_MAX_SECONDS: u64 = 24 * 3600;
