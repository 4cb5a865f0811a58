//! Blobs, snapshots, the build cache, cache mounts, volumes, accounting, pruning.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use conex_oci::{BlobSink as _, Descriptor, DiffId, Digest, MediaType};
use conex_store::{
    CacheMountOptions, CheckDepth, Durability, ErrorKind, LayerFacts, NewCacheRecord, NewVolume,
    PruneCache, PruneCacheMounts, PruneImages, PruneOptions, PruneVolumes, Sharing, Store,
};
use serde_json::json;

use crate::support::{self, TestStore, key, snapshot};

fn is_sound(store: &Store) -> bool {
    let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    report.is_sound()
}

fn cached(store: &Store, text: &str, snapshot: Option<&conex_store::Snapshot>) {
    let record = NewCacheRecord {
        kind: "run".to_owned(),
        description: format!("RUN {text}"),
        snapshot: snapshot.map(|snapshot| snapshot.id().clone()),
        result: json!({ "text": text }),
    };
    store.cache_put(&key(text), &record).unwrap();
}

#[test]
fn blob_is_kept_only_when_its_bytes_are_the_promised_ones() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let octets = || MediaType::from("application/octet-stream");
    let blob = Descriptor::of(octets(), b"hello");
    let sha512 = {
        let mut hasher = conex_oci::Hasher::new(conex_oci::Algorithm::Sha512);
        hasher.update(b"hello");
        Descriptor::new(octets(), hasher.finish(), 5)
    };
    for (bytes, wanted, result) in [
        (&b"hello"[..], &blob, Ok(())),
        (b"hello", &sha512, Ok(())),
        (b"hellO", &blob, Err(ErrorKind::Mismatch)),
        (b"hell", &blob, Err(ErrorKind::Mismatch)),
        (b"hello!", &blob, Err(ErrorKind::Mismatch)),
    ] {
        let mut writer = lease.blob_writer().unwrap();
        writer.write_all(bytes).unwrap();
        let committed = writer.commit(Some(wanted), Durability::Lazy);
        assert_eq!(committed.map(|_| ()).map_err(|error| error.kind()), result, "{bytes:?}");
    }
    assert_eq!(test.store.read_blob(&blob.digest).unwrap(), b"hello");
    assert_eq!(test.store.read_blob(&sha512.digest).unwrap(), b"hello");
    let endless = &mut std::io::repeat(7);
    let promised = Descriptor::new(octets(), key("x"), 1000);
    assert!(lease.put(&promised, endless).is_err());
    assert!(is_sound(&test.store));
}

#[test]
fn damaged_blob_is_found_while_it_is_read() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let octets = MediaType::from("application/octet-stream");
    let blob = lease.put_bytes(octets, b"hello", Durability::Synced).unwrap();
    std::fs::write(test.store.blob_path(&blob.digest), b"jello").unwrap();
    assert_eq!(test.store.read_blob(&blob.digest).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut reader = test.store.open_blob(&blob.digest).unwrap();
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    std::fs::write(test.store.blob_path(&blob.digest), b"hell").unwrap();
    assert_eq!(
        test.store.open_blob(&blob.digest).err().map(|e| e.kind()),
        Some(ErrorKind::Corrupt)
    );
    // Bytes whose file is gone are brought again.
    std::fs::remove_file(test.store.blob_path(&blob.digest)).unwrap();
    let octets = MediaType::from("application/octet-stream");
    lease.put_bytes(octets, b"hello", Durability::Synced).unwrap();
    assert_eq!(test.store.read_blob(&blob.digest).unwrap(), b"hello");
}

#[test]
fn blob_lives_as_long_as_its_lease() {
    let test = TestStore::new();
    let (one, two) = (test.store.lease().unwrap(), test.store.lease().unwrap());
    let octets = MediaType::from("application/octet-stream");
    let blob = one.put_bytes(octets, b"hello", Durability::Lazy).unwrap();
    assert!(two.hold_blob(&blob.digest).unwrap());
    drop(one);
    assert!(test.store.has_blob(&blob.digest).unwrap());
    drop(two);
    assert!(!test.store.has_blob(&blob.digest).unwrap());
    assert!(!test.store.blob_path(&blob.digest).exists());
    assert!(is_sound(&test.store));
}

#[test]
fn snapshot_folder_has_the_mode_of_a_root_folder_whatever_the_umask() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let new = lease.begin_snapshot().unwrap();
    assert_eq!(std::fs::metadata(new.path()).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(new.work_path().is_dir());
    let other = lease.begin_snapshot().unwrap();
    assert_ne!(other.work_path(), new.work_path());
    let path = new.path().to_owned();
    drop(new);
    assert!(!path.exists());
}

#[test]
fn work_folder_that_a_volatile_mount_marked_is_not_used_again() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let commit = |text: &str, marked: bool| {
        let new = lease.begin_snapshot().unwrap();
        assert_eq!(std::fs::read_dir(new.work_path()).unwrap().count(), 0, "{text}");
        if marked {
            std::fs::create_dir_all(new.work_path().join("work/incompat/volatile")).unwrap();
        }
        let facts = LayerFacts {
            diff_id: DiffId(key(text)),
            tar_size: 0,
            disk_size: None,
            form: support::form(),
        };
        lease.commit_snapshot(new, None, &facts).unwrap();
    };
    for (text, marked) in [("a", false), ("b", true), ("c", false)] {
        commit(text, marked);
    }
}

#[test]
fn stack_is_topmost_first_and_the_faster_build_wins() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let bottom = snapshot(&lease, None, "a");
    let top = snapshot(&lease, Some(&bottom), "b");
    assert_eq!(top.stack(), [top.path(), bottom.path()]);
    assert_eq!(top.parent(), Some(bottom.id()));
    let again = snapshot(&lease, Some(&bottom), "b");
    assert_eq!(again, top);
    assert_eq!(test.store.snapshot(top.chain_id()).unwrap(), Some(top.clone()));
    // The same layer elsewhere is a snapshot of its own.
    let alone = snapshot(&lease, None, "b");
    assert_ne!(alone.id(), top.id());
    assert_eq!(alone.diff_id(), top.diff_id());
    assert_eq!(std::fs::read_dir(test.root().join("snapshots")).unwrap().count(), 3);
    assert!(is_sound(&test.store));
}

#[test]
fn snapshots_of_a_failed_build_go_with_its_lease() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let bottom = snapshot(&lease, None, "a");
    let kept = snapshot(&lease, Some(&bottom), "b");
    let lost = snapshot(&lease, Some(&kept), "c");
    cached(&test.store, "b", Some(&kept));
    drop(lease);
    assert!(!lost.path().exists());
    assert!(kept.path().exists() && bottom.path().exists());
    assert!(test.store.snapshot(lost.chain_id()).unwrap().is_none());
    assert!(is_sound(&test.store));
}

#[test]
fn snapshot_that_a_lease_holds_outlives_what_named_it() {
    let test = TestStore::new();
    let image = support::built_image(&test.store, &["a", "b"], "x");
    let layer = test.store.layers(&image.id).unwrap().pop().unwrap().snapshot.unwrap();
    let lease = test.store.lease().unwrap();
    assert!(lease.snapshot(layer.chain_id()).unwrap().is_some());
    test.store.remove_image(image.id.short(), conex_store::Force::No).unwrap();
    assert!(layer.stack().iter().all(|path| path.join("file").exists()));
    drop(lease);
    assert!(layer.stack().iter().all(|path| !path.exists()));
}

#[test]
fn faster_build_that_ends_first_does_not_take_the_snapshot_along() {
    let test = TestStore::new();
    let (first, second) = (test.store.lease().unwrap(), test.store.lease().unwrap());
    let layer = snapshot(&first, None, "a");
    assert_eq!(snapshot(&second, None, "a"), layer);
    drop(first);
    assert!(layer.path().exists());
    drop(second);
    assert!(!layer.path().exists());
}

#[test]
fn parent_that_was_removed_meanwhile_is_an_error() {
    let test = TestStore::new();
    let gone = {
        let lease = test.store.lease().unwrap();
        snapshot(&lease, None, "a")
    };
    let lease = test.store.lease().unwrap();
    let new = lease.begin_snapshot().unwrap();
    let facts = LayerFacts {
        diff_id: DiffId(key("b")),
        tar_size: 0,
        disk_size: None,
        form: support::form(),
    };
    let error = lease.commit_snapshot(new, Some(&gone), &facts).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(is_sound(&test.store));
}

#[test]
fn many_keys_are_looked_up_at_once() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let layer = snapshot(&lease, None, "a");
    cached(&test.store, "one", Some(&layer));
    cached(&test.store, "two", None);
    let keys = [key("one"), key("none"), key("two")];
    let found = test.store.cache_get_many(&keys).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[&key("one")].snapshot.as_ref().unwrap().chain_id, *layer.chain_id());
    assert_eq!(found[&key("two")].result, json!({ "text": "two" }));
    test.store.cache_touch(&keys).unwrap();
    test.store.cache_touch(&keys[..1]).unwrap();
    let hits = |text| test.store.cache_get(&key(text)).unwrap().unwrap().hits;
    assert_eq!((hits("one"), hits("two")), (2, 1));
    let list = test.store.cache_list().unwrap();
    assert_eq!(list[0].key, key("one"));
    assert!(list[0].is_in_use && !list[0].is_shared);
}

#[test]
fn record_without_its_snapshot_is_refused() {
    let test = TestStore::new();
    let gone = {
        let lease = test.store.lease().unwrap();
        snapshot(&lease, None, "a")
    };
    let record = NewCacheRecord {
        kind: "run".to_owned(),
        description: String::new(),
        snapshot: Some(gone.id().clone()),
        result: json!(null),
    };
    let error = test.store.cache_put(&key("one"), &record).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn components_of_a_step_are_those_of_its_last_run() {
    let test = TestStore::new();
    let put = |key_text: &str, value| {
        let steps = [("build/2".to_owned(), key(key_text), value)];
        test.store.cache_put_components(&steps).unwrap();
    };
    put("one", json!({ "command": "make" }));
    put("two", json!({ "command": "make all" }));
    let found = test.store.cache_components("build/2").unwrap().unwrap();
    assert_eq!((found.key, found.components), (key("two"), json!({ "command": "make all" })));
    assert!(test.store.cache_components("build/3").unwrap().is_none());
}

#[test]
fn second_process_of_a_key_waits() {
    let test = TestStore::new();
    let held = test.store.lock_key(&key("a"), &|| true).unwrap();
    assert!(test.store.try_lock_key(&key("a")).unwrap().is_none());
    assert!(test.store.try_lock_key(&key("b")).unwrap().is_some());
    let stopped = test.store.lock_key(&key("a"), &|| false).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Canceled);
    drop(held);
    assert!(test.store.try_lock_key(&key("a")).unwrap().is_some());
    assert_eq!(std::fs::read_dir(test.root().join("locks")).unwrap().count(), 0);
}

fn mount_options(sharing: Sharing) -> CacheMountOptions {
    CacheMountOptions { sharing, mode: 0o1770, owner: None }
}

#[test]
fn cache_mounts_are_shared_as_they_say() {
    let test = TestStore::new();
    let mount = |id, sharing| test.store.cache_mount(id, &mount_options(sharing), &|| false);
    let one = mount("go", Sharing::Shared).unwrap();
    let two = mount("go", Sharing::Shared).unwrap();
    assert!(one.is_new() && !two.is_new());
    assert_eq!(one.path(), two.path());
    let stopped = mount("go", Sharing::Locked).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Canceled);
    let own = mount("go", Sharing::Private).unwrap();
    assert_ne!(own.path(), one.path());
    drop((one, two));
    assert!(mount("go", Sharing::Locked).is_ok());
    let mode = std::fs::metadata(own.path()).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o1770);
    assert_ne!(mount("../go", Sharing::Shared).unwrap().path(), own.path());
    assert!(mount("../go", Sharing::Shared).unwrap().path().starts_with(test.root()));
}

#[test]
fn cache_mount_in_use_is_not_pruned() {
    let test = TestStore::new();
    let options = mount_options(Sharing::Shared);
    let mount = test.store.cache_mount("npm", &options, &|| true).unwrap();
    std::fs::write(mount.path().join("x"), vec![1; 100_000]).unwrap();
    assert_eq!(test.store.remove_cache_mount("npm").unwrap_err().kind(), ErrorKind::Conflict);
    let all = PruneOptions { cache_mounts: PruneCacheMounts::All, ..PruneOptions::NOTHING };
    assert!(test.store.prune(&all).unwrap().is_empty());
    let list = test.store.cache_mounts().unwrap();
    assert!(list[0].is_in_use && list[0].size >= 100_000 && list[0].id == "npm");
    drop(mount);
    let removed = test.store.prune(&all).unwrap();
    assert_eq!(removed.cache_mounts, ["npm"]);
    assert!(removed.bytes >= 100_000);
    assert!(test.store.cache_mounts().unwrap().is_empty());
    let again = test.store.cache_mount("npm", &options, &|| true).unwrap();
    assert!(again.is_new());
    assert!(is_sound(&test.store));
}

#[test]
fn volumes_have_dockers_names_and_are_not_removed_while_used() {
    let test = TestStore::new();
    let named = |name: &str| NewVolume { name: Some(name.to_owned()), ..NewVolume::default() };
    for wrong in ["", "a", ".a", "-ab", "a/b", "..", "../x", "a b", "é1", &"x".repeat(300)] {
        let error = test.store.create_volume(&named(wrong)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
    }
    let data = test.store.create_volume(&named("data")).unwrap();
    assert!(data.path.is_dir());
    std::fs::write(data.path.join("x"), "kept").unwrap();
    assert_eq!(test.store.create_volume(&named("data")).unwrap(), data);
    let used = test.store.use_volume("data").unwrap();
    assert_eq!(std::fs::read(used.volume().path.join("x")).unwrap(), b"kept");
    assert_eq!(test.store.remove_volume("data").unwrap_err().kind(), ErrorKind::Conflict);
    drop(used);
    let anonymous = test.store.create_volume(&NewVolume::default()).unwrap();
    let prune = |volumes| {
        let options = PruneOptions { volumes, ..PruneOptions::NOTHING };
        test.store.prune(&options).unwrap().volumes
    };
    assert_eq!(prune(PruneVolumes::Anonymous), [anonymous.name]);
    assert_eq!(prune(PruneVolumes::All), ["data"]);
    assert!(!data.path.exists());
    assert_eq!(test.store.remove_volume("data").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(is_sound(&test.store));
}

#[test]
fn df_counts_what_du_counts() {
    let test = TestStore::new();
    support::built_image(&test.store, &["a", &"b".repeat(50_000)], "image");
    support::loaded_image(&test.store, &"c".repeat(70_000));
    {
        let lease = test.store.lease().unwrap();
        let layer = snapshot(&lease, None, &"d".repeat(30_000));
        cached(&test.store, "d", Some(&layer));
        let hard_link = layer.path().parent().unwrap().join("second-name");
        std::fs::hard_link(layer.path().join("file"), hard_link).unwrap();
    }
    test.store.use_volume("data").unwrap();
    test.store.cache_mount("npm", &mount_options(Sharing::Shared), &|| true).unwrap();
    let usage = test.store.df().unwrap();
    assert_eq!(usage.total_bytes(), support::du(&test.root()));
    assert!(usage.images.bytes >= 120_000 && usage.images.count == 2);
    assert!((30_000..60_000).contains(&usage.cache.bytes), "{usage:?}");
    assert_eq!((usage.volumes.count, usage.cache_mounts.count), (1, 1));
    assert_eq!(usage.unreadable, 0);
    // Nothing is tagged, so all of it can go.
    assert_eq!(usage.images.reclaimable, usage.images.bytes);
}

#[test]
fn prune_to_a_budget_removes_the_least_recently_used_first() {
    let test = TestStore::new();
    for text in ["one", "two", "three", "four"] {
        let lease = test.store.lease().unwrap();
        let layer = snapshot(&lease, None, &text.repeat(10_000));
        cached(&test.store, text, Some(&layer));
    }
    test.store.cache_touch(&[key("one")]).unwrap();
    let sizes: u64 = test.store.cache_list().unwrap().iter().map(|entry| entry.size).sum();
    let options = PruneOptions { cache: PruneCache::Budget(sizes / 2), ..PruneOptions::NOTHING };
    let removed = test.store.prune(&options).unwrap();
    assert_eq!(removed.cache, [key("two"), key("three")]);
    let kept: u64 = test.store.cache_list().unwrap().iter().map(|entry| entry.size).sum();
    assert!(kept <= sizes / 2 && kept + removed.bytes == sizes);
    assert!(test.store.prune(&options).unwrap().is_empty());
    assert!(is_sound(&test.store));
}

#[test]
fn prune_keeps_what_a_living_process_uses() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let layer = snapshot(&lease, None, "a");
    cached(&test.store, "a", Some(&layer));
    let all =
        PruneOptions { images: PruneImages::All, cache: PruneCache::All, ..PruneOptions::NOTHING };
    assert!(test.store.prune(&all).unwrap().is_empty());
    drop(lease);
    let removed = test.store.prune(&all).unwrap();
    assert_eq!((removed.cache, removed.chains), (vec![key("a")], vec![layer.chain_id().0.clone()]));
    assert!(!layer.path().exists());
}

#[test]
fn snapshot_of_another_boot_is_used_only_when_it_was_synced() {
    let test = TestStore::new();
    let committed = |store: &Store, text: &str| {
        let lease = store.lease().unwrap();
        let layer = snapshot(&lease, None, text);
        cached(store, text, Some(&layer));
        layer
    };
    let synced = committed(&test.store, "a");
    test.store.sync().unwrap();
    let unsynced = committed(&test.store, "b");
    let other = Store::open(&test.root(), support::options("other boot")).unwrap();
    assert!(other.snapshot(synced.chain_id()).unwrap().unwrap().is_trusted());
    assert!(!other.snapshot(unsynced.chain_id()).unwrap().unwrap().is_trusted());
    assert!(test.store.snapshot(unsynced.chain_id()).unwrap().unwrap().is_trusted());
}

#[test]
fn deep_trees_are_removed() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let new = lease.begin_snapshot().unwrap();
    let mut dir = conex_sys::dir::Dir::open_ambient(new.path()).unwrap();
    let name = std::ffi::OsStr::new("d");
    for _ in 0..5_000 {
        dir.create_dir(name, 0o755).unwrap();
        dir = dir.open_dir(name).unwrap();
    }
    let facts = LayerFacts {
        diff_id: DiffId(key("deep")),
        tar_size: 0,
        disk_size: None,
        form: support::form(),
    };
    let layer = lease.commit_snapshot(new, None, &facts).unwrap();
    assert!(layer.size() >= 5_000, "{}", layer.size());
    let usage = test.store.df().unwrap();
    assert_eq!(usage.unreadable, 0);
    drop(lease);
    assert!(!layer.path().exists());
    let root = test.root();
    drop(test.store);
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(root.join("leases")).unwrap().count(), 0);
}

#[test]
fn newer_store_is_refused_and_left_alone() {
    let test = TestStore::new();
    let root = test.root();
    drop(test.store);
    let marker = root.join("conex-store");
    std::fs::write(&marker, "conex store 7\n").unwrap();
    let error = Store::open(&root, support::options("boot")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooNew);
    std::fs::write(&marker, "something else").unwrap();
    let error = Store::open(&root, support::options("boot")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    std::fs::write(&marker, "conex store 1\n").unwrap();
    let database = rusqlite::Connection::open(root.join("conex.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let error = Store::open(&root, support::options("boot")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooNew);
    assert!(error.to_string().contains("format 99"), "{error}");
}

#[test]
fn digest_of_a_key_names_no_file_outside() {
    // Keys are digests by type; this is the promise that `lock_key` builds on.
    assert!("sha256:../../x".parse::<Digest>().is_err());
}
