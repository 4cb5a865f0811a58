//! After a power cut: what was synced is trusted, the rest is verified before it is used.

use std::io::Read as _;
use std::path::Path;

use conex_oci::{Compression, DiffId, Digest, MediaType};
use conex_store::{
    CheckDepth, Damage, Durability, ImageSource, LayerFacts, NewImage, Snapshot, Store,
};

use crate::support::{self, TestStore, built_image, form};

/// The store as a machine sees it that was started again.
fn after_reboot(root: &Path) -> Store {
    Store::open(root, support::options("next boot")).unwrap()
}

fn held(store: &Store, snapshot: &Snapshot) -> bool {
    let lease = store.lease().unwrap();
    lease.snapshot(snapshot.chain_id()).unwrap().is_some_and(|found| found.is_trusted())
}

fn top(store: &Store, id: &Digest) -> Snapshot {
    store.layers(id).unwrap().pop().unwrap().snapshot.unwrap()
}

#[test]
fn whole_snapshots_are_verified_once_and_used() {
    let test = TestStore::new();
    let image = built_image(&test.store, &["base", "top"], "x");
    let layer = top(&test.store, &image.id);
    let store = after_reboot(&test.root());
    assert!(!store.snapshot(layer.chain_id()).unwrap().unwrap().is_trusted());
    assert!(held(&store, &layer));
    assert!(store.snapshot(layer.chain_id()).unwrap().unwrap().is_trusted());
}

#[test]
fn snapshot_that_lost_bytes_is_dropped_with_what_stands_on_it() {
    let test = TestStore::new();
    let image = built_image(&test.store, &["base", "middle", "top"], "x");
    let layers = test.store.layers(&image.id).unwrap();
    let [base, middle, top] = [0, 1, 2].map(|at| layers[at].snapshot.clone().unwrap());
    // What a file system leaves of a file that it had only in memory.
    std::fs::write(middle.path().join("file"), "").unwrap();
    let store = after_reboot(&test.root());
    assert!(!held(&store, &top));
    assert!(store.snapshot(middle.chain_id()).unwrap().is_none());
    assert!(!middle.path().exists() && !top.path().exists());
    assert!(held(&store, &base));
}

#[test]
fn synced_snapshots_are_trusted_without_a_look() {
    let test = TestStore::new();
    let image = built_image(&test.store, &["base"], "x");
    let layer = top(&test.store, &image.id);
    test.store.sync().unwrap();
    std::fs::write(layer.path().join("file"), "changed by hand").unwrap();
    let store = after_reboot(&test.root());
    assert!(held(&store, &layer));
    let report = store.check(CheckDepth::Everything, &mut |_| {}).unwrap();
    let wanted = Damage::SnapshotDamaged(layer.id().clone(), layer.chain_id().clone());
    assert_eq!(report.damage, [wanted]);
}

/// A tar as another program writes it: our writer would never give these bytes.
fn foreign_tar() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("zulu"), "1").unwrap();
    std::fs::write(dir.path().join("alpha"), "2").unwrap();
    let output = std::process::Command::new("tar")
        .args(["--format=gnu", "--mtime=@5", "-C"])
        .arg(dir.path())
        .args(["-cf", "-", "zulu", "alpha"])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn layer_from_outside_is_verified_by_its_blob() {
    let test = TestStore::new();
    let tar = foreign_tar();
    let lease = test.store.lease().unwrap();
    let media_type = MediaType::OciLayer(Compression::None);
    let blob = lease.put_bytes(media_type, &tar, Durability::Synced).unwrap();
    let diff_id = DiffId(blob.digest.clone());
    lease.put_layer_blob(&diff_id, &blob).unwrap();
    let config = support::config(std::slice::from_ref(&diff_id), "x");
    let image = NewImage { config: &config, manifest: None, source: ImageSource::Loaded };
    let image = lease.put_image(&image).unwrap();
    assert_eq!(image.size, blob.size);
    let new = lease.begin_snapshot().unwrap();
    let upper = conex_sys::dir::Dir::open_ambient(new.path()).unwrap();
    let below = conex_layer::Stack::empty(form());
    let mut target = conex_layer::Target::new(upper, below, form()).unwrap();
    let mut reader = test.store.open_blob(&blob.digest).unwrap();
    let options = conex_layer::ApplyOptions::new(1);
    conex_layer::apply_layer(&mut reader, &mut target, &options).unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    let tar_size = tar.len() as u64;
    let facts = LayerFacts { diff_id: diff_id.clone(), tar_size, disk_size: None, form: form() };
    let layer = lease.commit_snapshot(new, None, &facts).unwrap();
    assert_eq!(test.store.image(&image.id).unwrap().unwrap().size, layer.size());
    assert_ne!(support::layer_of(layer.path(), None).0, diff_id);

    let store = after_reboot(&test.root());
    assert!(held(&store, &layer));
    let other = Store::open(&test.root(), support::options("third boot")).unwrap();
    std::fs::write(layer.path().join("alpha"), "3").unwrap();
    assert!(!held(&other, &layer));
    // The blob is still there, so the layer can be unpacked again.
    assert!(other.has_blob(&blob.digest).unwrap());
}

#[test]
fn blob_that_lost_bytes_is_never_given_out() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let media_type = MediaType::from("text/plain");
    let blob = lease.put_bytes(media_type.clone(), b"hello", Durability::Lazy).unwrap();
    std::fs::write(test.store.blob_path(&blob.digest), "").unwrap();
    let store = after_reboot(&test.root());
    assert!(store.read_blob(&blob.digest).is_err());
    // Putting it again mends it.
    let lease = store.lease().unwrap();
    lease.put_bytes(media_type, b"hello", Durability::Lazy).unwrap();
    assert_eq!(store.read_blob(&blob.digest).unwrap(), b"hello");
}
