//! Blobs of which only a part has come: kept, gone on with, thrown away.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use conex_oci::{Descriptor, MediaType};
use conex_store::{
    Durability, PartialVerdict, PruneImages, PruneOptions, Store, StoreOptions, Timestamp,
};

use crate::support::{open, options};

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::Empty, bytes)
}

#[test]
fn what_was_kept_is_gone_on_with_and_becomes_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let blob = blob(b"abcdef");
    {
        let lease = open(dir.path()).lease().unwrap();
        let mut partial = lease.take_partial(&blob).unwrap().unwrap();
        partial.append(b"abc").unwrap();
        assert!(lease.take_partial(&blob).unwrap().is_none(), "one at a time");
    }
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let mut partial = lease.take_partial(&blob).unwrap().unwrap();
    assert_eq!(partial.size(), 3);
    partial.append(b"def").unwrap();
    assert_eq!(partial.commit(Durability::Lazy).unwrap(), PartialVerdict::Right);
    assert_eq!(store.read_blob(&blob.digest).unwrap(), b"abcdef");
    assert_eq!(fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
}

#[test]
fn false_bytes_become_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lease = store.lease().unwrap();
    let blob = blob(b"abcdef");
    let mut partial = lease.take_partial(&blob).unwrap().unwrap();
    partial.append(b"abcdeX").unwrap();
    let verdict = partial.commit(Durability::Lazy).unwrap();
    assert_eq!(verdict, PartialVerdict::Wrong(conex_oci::Digest::of(b"abcdeX")));
    let mut partial = lease.take_partial(&blob).unwrap().unwrap();
    assert_eq!(partial.size(), 0);
    partial.append(b"abc").unwrap();
    let error = partial.commit(Durability::Lazy).unwrap_err();
    assert_eq!(error.kind(), conex_store::ErrorKind::Mismatch);
    assert!(!store.has_blob(&blob.digest).unwrap());
}

#[test]
fn old_ones_and_those_pruned_go_but_never_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    // Files have the machine's time.
    let clock = Arc::new(|| Timestamp::from_system(SystemTime::now()));
    let store = Store::open(dir.path(), StoreOptions { clock, ..options("boot") }).unwrap();
    let lease = store.lease().unwrap();
    let keep = |bytes: &[u8]| {
        let mut partial = lease.take_partial(&blob(bytes)).unwrap().unwrap();
        partial.append(&bytes[..2]).unwrap();
        partial
    };
    let used = keep(b"used");
    drop(keep(b"young"));
    drop(keep(b"old"));
    let count = || fs::read_dir(dir.path().join("partial")).unwrap().count();
    let old = dir.path().join("partial").join(format!("sha256-{}", blob(b"old").digest.hex()));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    store.gc().unwrap();
    assert!(count() == 2 && !old.exists());
    let prune = PruneOptions { images: PruneImages::Dangling, ..PruneOptions::NOTHING };
    assert_eq!(store.prune(&prune).unwrap().bytes, 2);
    assert_eq!(count(), 1);
    drop(used);
}
