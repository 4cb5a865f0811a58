//! Damage is found, named and mended.

use std::path::Path;

use conex_oci::Descriptor;
use conex_store::{
    CacheMountOptions, CheckDepth, Damage, ErrorKind, Expected, NewVolume, RepairReport, Sharing,
    Store,
};

use crate::support::{self, TestStore, built_image, key, loaded_image, options, reference};

fn tag(store: &Store, name: &str, image: &conex_store::ImageRecord) {
    store.tag(&reference(name), &image.id, &Expected::Anything).unwrap();
}

fn damage(store: &Store) -> Vec<Damage> {
    store.check(CheckDepth::Blobs, &mut |_| {}).unwrap().damage
}

fn repaired(root: &Path) -> RepairReport {
    Store::repair(root, options("boot"), &mut |_| {}).unwrap()
}

/// A store with two images that share a layer, one that was loaded, a volume and a cache mount.
fn furnished() -> (TestStore, [conex_store::ImageRecord; 3], Descriptor) {
    let test = TestStore::new();
    let store = &test.store;
    let one = built_image(store, &["base", "one"], "1");
    let two = built_image(store, &["base", "two"], "2");
    let (loaded, manifest) = loaded_image(store, "layer");
    for (name, image) in [("app:1", &one), ("app:2", &two), ("loaded:1", &loaded)] {
        tag(store, name, image);
    }
    let volume = NewVolume { name: Some("data".to_owned()), ..NewVolume::default() };
    let volume = store.create_volume(&volume).unwrap();
    std::fs::write(volume.path.join("kept"), "kept").unwrap();
    let options = CacheMountOptions { sharing: Sharing::Shared, mode: 0o755, owner: None };
    let mount = store.cache_mount("/root/.npm", &options, &|| true).unwrap();
    std::fs::write(mount.path().join("kept"), "kept").unwrap();
    (test, [one, two, loaded], manifest)
}

#[test]
fn each_kind_of_damage_is_named_and_mended() {
    let (test, [one, two, loaded], manifest) = furnished();
    let (store, root) = (&test.store, test.root());
    assert_eq!(damage(store), []);
    let top = store.layers(&one.id).unwrap().pop().unwrap().snapshot.unwrap();
    std::fs::remove_dir_all(top.path().parent().unwrap()).unwrap();
    std::fs::write(store.blob_path(&manifest.digest), "damaged").unwrap();
    std::fs::write(root.join("blobs/sha256/left"), "over").unwrap();
    std::fs::create_dir_all(root.join("volumes/lost/_data/x")).unwrap();
    let volume = NewVolume { name: Some("gone".to_owned()), ..NewVolume::default() };
    let gone = store.create_volume(&volume).unwrap();
    std::fs::remove_dir_all(gone.path.parent().unwrap()).unwrap();
    let found = damage(store);
    for wanted in [
        Damage::SnapshotMissing(top.id().clone(), top.chain_id().clone()),
        Damage::BlobDamaged(manifest.digest.clone()),
        Damage::Leftover(root.join("blobs/sha256/left")),
        Damage::Unknown(root.join("volumes/lost")),
        Damage::VolumeMissing("gone".to_owned()),
    ] {
        assert!(found.contains(&wanted), "{wanted} is not in {found:?}");
    }
    assert_eq!(found.len(), 5, "{found:?}");
    let refused = Store::repair(&root, options("boot"), &mut |_| {}).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    drop(test.store);

    let report = repaired(&root);
    assert!(report.is_sound && report.database_aside.is_none(), "{report:?}");
    assert_eq!(report.lost_images, [(one.id.clone(), vec![reference("app:1")])]);
    let store = support::open(&root);
    assert_eq!(damage(&store), []);
    assert_eq!(store.resolve("app:2").unwrap().id, two.id);
    // Its config and its layer are whole; only the original manifest is gone.
    assert_eq!(store.resolve("loaded:1").unwrap().id, loaded.id);
    assert_eq!(store.manifests(&loaded.id).unwrap(), []);
    let names: Vec<String> = store.volumes().unwrap().into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["data", "lost"]);
}

#[test]
fn damaged_config_or_layer_loses_the_image_and_says_so() {
    let (test, [one, _, loaded], _) = furnished();
    let root = test.root();
    std::fs::remove_file(test.store.blob_path(&one.id)).unwrap();
    let layer = test.store.layers(&loaded.id).unwrap()[0].blobs[0].digest.clone();
    std::fs::write(test.store.blob_path(&layer), "LAYER").unwrap();
    let found = damage(&test.store);
    assert_eq!(found, [Damage::BlobMissing(one.id.clone()), Damage::BlobDamaged(layer)]);
    drop(test.store);
    let report = repaired(&root);
    let lost: Vec<_> = report.lost_images.into_iter().map(|(id, _)| id).collect();
    assert!(report.is_sound && lost == [one.id, loaded.id], "{lost:?}");
    assert_eq!(repaired(&root).damage, []);
}

/// Checks that everything that does not stand in rows alone came back.
fn assert_furnished(store: &Store, images: &[conex_store::ImageRecord], manifest: &Descriptor) {
    for image in images {
        assert!(store.image(&image.id).unwrap().is_some(), "{} is lost", image.id);
    }
    let top = store.layers(&images[0].id).unwrap().pop().unwrap().snapshot.unwrap();
    assert_eq!(std::fs::read(top.path().join("file")).unwrap(), b"one");
    assert_eq!(top.stack().len(), 2);
    assert_eq!(store.manifests(&images[2].id).unwrap(), std::slice::from_ref(manifest));
    let volume = store.volume("data").unwrap().unwrap();
    assert_eq!(std::fs::read(volume.path.join("kept")).unwrap(), b"kept");
    let mounts = store.cache_mounts().unwrap();
    assert_eq!((mounts.len(), mounts[0].id.as_str()), (1, "/root/.npm"));
    assert_eq!(damage(store), []);
}

#[test]
fn lost_database_is_rebuilt_from_the_files() {
    let (test, images, manifest) = furnished();
    let root = test.root();
    drop(test.store);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(root.join(format!("conex.db{suffix}")));
    }
    std::fs::write(root.join("conex.db"), "this is no database, but a letter ".repeat(500))
        .unwrap();
    let error = Store::open(&root, options("boot")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("conex.db"), "{error}");
    assert!(error.hint().unwrap().contains("conex system check --repair"));
    let report = repaired(&root);
    assert!(report.is_sound, "{report:?}");
    assert!(matches!(report.damage[0], Damage::Database(_)));
    assert!(report.database_aside.unwrap().exists());
    let store = support::open(&root);
    assert_furnished(&store, &images, &manifest);
    // Tags stand in rows alone.
    assert!(store.resolve("app:1").is_err());
}

#[test]
fn rows_that_can_be_read_are_saved_from_a_damaged_database() {
    let (test, images, manifest) = furnished();
    let root = test.root();
    drop(test.store);
    // An index that is not what its table says: integrity is broken, rows are readable.
    let database = rusqlite::Connection::open(root.join("conex.db")).unwrap();
    database.pragma_update(None, "writable_schema", true).unwrap();
    database.execute("DELETE FROM sqlite_schema WHERE name = 'snapshots_diff_id'", []).unwrap();
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(database);
    let store = support::open(&root);
    let found = damage(&store);
    assert!(matches!(found.as_slice(), [Damage::Database(_), ..]), "{found:?}");
    drop(store);
    let report = repaired(&root);
    assert!(report.is_sound && report.database_aside.is_some(), "{report:?}");
    let store = support::open(&root);
    assert_furnished(&store, &images, &manifest);
    assert_eq!(store.resolve("app:1").unwrap().id, images[0].id);
    assert_eq!(store.tag_history(&reference("loaded:1")).unwrap().len(), 1);
    assert!(store.cache_get(&key("x")).unwrap().is_none());
}

#[test]
fn folder_that_is_no_store_is_not_made_one() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::repair(dir.path(), options("boot"), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
