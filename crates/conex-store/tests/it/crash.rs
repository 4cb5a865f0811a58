//! Processes that are killed at any moment lose no more than the step that they were in.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr};
use std::time::Duration;

use conex_store::{
    CheckDepth, Damage, Expected, Force, NewCacheRecord, PruneCache, PruneImages, PruneOptions,
};

use crate::support::{
    self, built_image_in, key, loaded_image_in, reference, snapshot, spawn_child,
};

/// How many times a process is killed.
const KILL_COUNT: usize = 24;

/// The child's part: writes and removes without end.
#[test]
fn child() {
    let Some((root, number)) = support::child_part() else { return };
    let store = support::open(&root);
    // Says after each step that it is done, so that the parent can kill in the middle of the next.
    let done = || eprintln!("done");
    for round in number.. {
        let label = format!("{number} {round}");
        let lease = store.lease().unwrap();
        let image = built_image_in(&lease, &["base", "middle", &label], &label);
        let name = reference(&format!("built:{}", round % 7));
        store.tag(&name, &image.id, &Expected::Anything).unwrap();
        done();
        let (image, _) = loaded_image_in(&lease, &format!("layer {label}"));
        let name = reference(&format!("loaded:{}", round % 5));
        store.tag(&name, &image.id, &Expected::Anything).unwrap();
        done();
        let layer = snapshot(&lease, None, &format!("cached {label}"));
        let record = NewCacheRecord {
            kind: "run".to_owned(),
            description: label,
            snapshot: Some(layer.id().clone()),
            result: serde_json::Value::Null,
        };
        store.cache_put(&key(&format!("step {}", round % 11)), &record).unwrap();
        drop(lease);
        done();
        if round % 3 == 0 {
            // Another process may have been faster.
            let _ = store.remove_image("built:0", Force::No);
            let options = PruneOptions {
                images: PruneImages::Dangling,
                cache: PruneCache::Budget(40_000),
                ..PruneOptions::NOTHING
            };
            store.prune(&options).unwrap();
            done();
        }
    }
}

/// A child that reports its steps.
struct Worker {
    child: Child,
    reports: Lines<BufReader<ChildStderr>>,
}

impl Worker {
    fn start(root: &Path, number: usize) -> Self {
        let mut child = spawn_child("crash::child", root, number);
        let reports = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, reports }
    }

    /// Waits until so many steps are done.
    fn wait_for(&mut self, step_count: u64) {
        let mut others = Vec::new();
        let mut seen = 0;
        while seen < step_count {
            match self.reports.next() {
                Some(line) => match line.unwrap().as_str() {
                    "done" => seen += 1,
                    other => others.push(other.to_owned()),
                },
                None => panic!("the child failed: {}", others.join("\n")),
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
        let mut killed = Worker::start(&root, number * 2);
        let mut other = Worker::start(&root, number * 2 + 1);
        killed.wait_for(1 + next(&mut state) % 5);
        std::thread::sleep(Duration::from_micros(next(&mut state) % 8_000));
        killed.kill();
        other.wait_for(1 + next(&mut state) % 5);
        std::thread::sleep(Duration::from_micros(next(&mut state) % 8_000));
        other.kill();
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
    assert!(!store.images().unwrap().is_empty());
    let everything =
        PruneOptions { images: PruneImages::All, cache: PruneCache::All, ..PruneOptions::NOTHING };
    store.prune(&everything).unwrap();
    for folder in ["snapshots", "blobs/sha256"] {
        assert_eq!(std::fs::read_dir(root.join(folder)).unwrap().count(), 0, "{folder}");
    }
}
