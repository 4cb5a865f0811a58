//! The local store: blobs, snapshots, images, tags, build-cache records, cache mounts and volumes
//! in one folder, shared by any number of processes without a daemon.
//!
//! Invariants:
//! - A row of the database appears only after what it names is there. What is not finished lies
//!   under the lease of its process, and a killed process loses at most that.
//! - Nothing that a living process uses is removed: it holds a [`Lease`], a file that it has
//!   locked, and rows that name what it uses.
//! - What enters by digest is verified while it is written, and again while it is read.
//!
//! It does not know the network, nor Dockerfiles, nor what a cache key means; it reads no clock
//! and no environment: [`StoreOptions`] brings both.

#![forbid(unsafe_code)]

mod blob;
mod cache;
mod cache_mount;
mod check;
mod codec;
mod collect;
mod db;
mod error;
mod gc;
mod image;
mod layout;
mod lease;
mod lock;
mod options;
mod partial;
mod prune;
mod rebuild;
mod remove;
mod repair;
mod snapshot;
mod store;
mod tag;
mod tree;
mod usage;
mod verify;
mod volume;

pub use blob::{BlobWriter, Durability, READ_BLOB_SIZE_MAX};
pub use cache::{CacheEntry, CacheRecord, CacheSnapshot, KeyLock, NewCacheRecord, StepComponents};
pub use cache_mount::{CacheMount, CacheMountOptions, CacheMountRecord, Sharing};
pub use check::{CheckDepth, CheckProgress, CheckReport, Damage, OnProgress};
pub use collect::Removed;
pub use error::{Error, ErrorKind};
pub use image::{
    ImageKind, ImageLayer, ImageRecord, ImageSource, IndexEntry, LOCAL_INDEX_TYPE, MOUNTED,
    NewImage, NewIndex,
};
pub use lease::Lease;
pub use lock::KeepWaiting;
pub use options::{Clock, StoreOptions, Timestamp, TreeRemover};
pub use partial::{PartialBlob, PartialVerdict};
pub use prune::{
    LabelFilter, PruneCache, PruneCacheMounts, PruneImages, PruneOptions, PruneVolumes,
};
pub use remove::{Force, RemovedLine};
pub use repair::RepairReport;
pub use snapshot::{LayerFacts, NewSnapshot, STACK_DEPTH_MAX, Snapshot, SnapshotId};
pub use store::Store;
pub use tag::{Expected, TagMove};
pub use usage::{DiskUsage, Usage};
pub use volume::{ANONYMOUS_LABEL, NewVolume, Volume, VolumeUsage, VolumeUse};
