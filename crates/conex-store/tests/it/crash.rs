//! Processes that are killed at any moment lose no more than the step that they were in.

use std::time::Duration;

use conex_store::{
    CheckDepth, Damage, Expected, Force, NewCacheRecord, PruneCache, PruneImages, PruneOptions,
};

use crate::support::{self, built_image, key, loaded_image, reference, snapshot, spawn_child};

/// How many times a process is killed.
const KILL_COUNT: usize = 40;

/// The child's part: writes and removes without end.
#[test]
fn child() {
    let Some((root, number)) = support::child_part() else { return };
    let store = support::open(&root);
    for round in 0.. {
        let label = format!("{number} {round}");
        let image = built_image(&store, &["base", "middle", &label], &label);
        let name = reference(&format!("built:{}", round % 7));
        store.tag(&name, &image.id, &Expected::Anything).unwrap();
        let (image, _) = loaded_image(&store, &format!("layer {label}"));
        let name = reference(&format!("loaded:{}", round % 5));
        store.tag(&name, &image.id, &Expected::Anything).unwrap();
        let lease = store.lease().unwrap();
        let layer = snapshot(&lease, None, &format!("cached {label}"));
        let record = NewCacheRecord {
            kind: "run".to_owned(),
            description: label,
            snapshot: Some(layer.id().clone()),
            result: serde_json::Value::Null,
        };
        store.cache_put(&key(&format!("step {}", round % 11)), &record).unwrap();
        drop(lease);
        if round % 3 == 0 {
            // Another process may have been faster.
            let _ = store.remove_image("built:0", Force::No);
            let options = PruneOptions {
                images: PruneImages::Dangling,
                cache: PruneCache::Budget(40_000),
                ..PruneOptions::NOTHING
            };
            store.prune(&options).unwrap();
        }
    }
}

/// Numbers that look random and are the same in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn killed_processes_leave_a_sound_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut state = 88_172_645_463_325_252;
    for number in 0..KILL_COUNT {
        // Two at a time, so that one is killed while the other goes on.
        let mut killed = spawn_child("crash::child", &root, number * 2);
        let mut other = spawn_child("crash::child", &root, number * 2 + 1);
        std::thread::sleep(Duration::from_micros(5_000 + next(&mut state) % 60_000));
        killed.kill().unwrap();
        killed.wait().unwrap();
        std::thread::sleep(Duration::from_micros(next(&mut state) % 10_000));
        assert!(other.try_wait().unwrap().is_none(), "{}", errors(&mut other));
        other.kill().unwrap();
        other.wait().unwrap();
        if number % 4 != 3 {
            continue;
        }
        let store = support::open(&root);
        let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
        assert!(report.is_sound(), "{:?}", report.damage);
        store.gc().unwrap();
        let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
        assert_eq!(report.damage, Vec::<Damage>::new());
        assert!(store.gc().unwrap().is_empty());
        drop(store);
        for folder in ["tmp", "leases", "locks"] {
            assert_eq!(std::fs::read_dir(root.join(folder)).unwrap().count(), 0, "{folder}");
        }
    }
    let store = support::open(&root);
    assert!(store.images().unwrap().len() > 3, "the children came to nothing");
    let everything =
        PruneOptions { images: PruneImages::All, cache: PruneCache::All, ..PruneOptions::NOTHING };
    store.prune(&everything).unwrap();
    for folder in ["snapshots", "blobs/sha256"] {
        assert_eq!(std::fs::read_dir(root.join(folder)).unwrap().count(), 0, "{folder}");
    }
}

fn errors(child: &mut std::process::Child) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut text).unwrap();
    }
    text
}
