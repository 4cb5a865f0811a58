//! Many processes on one store at once, from its very creation.

use std::io::Read as _;

use conex_store::{CheckDepth, Expected, NewCacheRecord};

use crate::support::{self, built_image, key, reference, snapshot, spawn_child};

/// How many processes: more than there are cores, by far.
const PROCESS_COUNT: usize = 60;

/// The child's part: opens the store, builds on a base that all share, and on one of its own.
#[test]
fn child() {
    let Some((root, number)) = support::child_part() else { return };
    let store = support::open(&root);
    let lease = store.lease().unwrap();
    let step = key("shared step");
    let base = {
        let _turn = store.lock_key(&step, &|| true).unwrap();
        match store.cache_get(&step).unwrap() {
            Some(record) => lease.snapshot(&record.snapshot.unwrap().chain_id).unwrap().unwrap(),
            None => {
                let layer = snapshot(&lease, None, "base");
                let record = NewCacheRecord {
                    kind: "run".to_owned(),
                    description: format!("by {number}"),
                    snapshot: Some(layer.id().clone()),
                    result: serde_json::Value::Null,
                };
                store.cache_put(&step, &record).unwrap();
                layer
            }
        }
    };
    store.cache_touch(&[step]).unwrap();
    for round in 0..5 {
        snapshot(&lease, Some(&base), &format!("own {number} {round}"));
    }
    let image = built_image(&store, &["base", &format!("top {number}")], &number.to_string());
    let name = reference(&format!("app:{number}"));
    store.tag(&name, &image.id, &Expected::Absent).unwrap();
    store.tag(&reference("app:last"), &image.id, &Expected::Anything).unwrap();
    drop(lease);
    store.gc().unwrap();
}

#[test]
fn sixty_processes_create_and_fill_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("deep/down/store");
    let children: Vec<_> =
        (0..PROCESS_COUNT).map(|number| spawn_child("many::child", &root, number)).collect();
    for mut child in children {
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(child.wait().unwrap().success(), "{stderr}");
    }
    let store = support::open(&root);
    assert_eq!(store.images().unwrap().len(), PROCESS_COUNT);
    assert_eq!(store.tags_of(&reference("app")).unwrap().len(), PROCESS_COUNT + 1);
    assert_eq!(store.tag_history(&reference("app:last")).unwrap().len(), PROCESS_COUNT);
    let step = store.cache_get(&key("shared step")).unwrap().unwrap();
    assert_eq!(step.hits, PROCESS_COUNT as u64);
    // The base once, and one layer of each.
    let count = std::fs::read_dir(root.join("snapshots")).unwrap().count();
    assert_eq!(count, PROCESS_COUNT + 1);
    for folder in ["tmp", "leases", "locks"] {
        assert_eq!(std::fs::read_dir(root.join(folder)).unwrap().count(), 0, "{folder}");
    }
    let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[test]
fn threads_share_one_store() {
    let test = support::TestStore::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = test.store.clone();
            scope.spawn(move || {
                for round in 0..10 {
                    let label = format!("{thread} {round}");
                    let image = built_image(&store, &["base", &label], &label);
                    let name = reference(&format!("app:{thread}"));
                    store.tag(&name, &image.id, &Expected::Anything).unwrap();
                }
            });
        }
    });
    assert_eq!(test.store.images().unwrap().len(), 80);
    let report = test.store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}
