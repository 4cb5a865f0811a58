//! Measures what the store promises: opening, committing, listing, collecting.
//!
//! `cargo run --release -p conex-store --example figures [FOLDER]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program prints, and may fail"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use conex_oci::{DiffId, Digest, ImageConfig, Platform};
use conex_store::{
    Expected, ImageSource, LayerFacts, NewCacheRecord, NewImage, Store, StoreOptions, Timestamp,
};

fn options() -> StoreOptions {
    StoreOptions {
        clock: Arc::new(|| Timestamp::from_system(SystemTime::now())),
        boot_id: "boot".to_owned(),
        actor: "figures".to_owned(),
        tree_remover: None,
    }
}

/// Prints median and worst of what `work` takes.
fn measure(what: &str, count: usize, mut work: impl FnMut(usize)) {
    let mut times: Vec<f64> = (0..count)
        .map(|number| {
            let start = Instant::now();
            work(number);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let worst = times[times.len() - 1];
    println!("{what:<44} {median:>9.3} ms   worst {worst:>9.3} ms");
}

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "/tmp/conex-store-figures".to_owned());
    let root = Path::new(&folder);
    // An earlier run's store would make other figures.
    let _ = std::fs::remove_dir_all(root);
    measure("create a store", 1, |_| drop(Store::open(root, options()).unwrap()));
    measure("open an existing store, and close it", 100, |_| {
        drop(Store::open(root, options()).unwrap());
    });
    let store = Store::open(root, options()).unwrap();
    measure("open a store that others have open", 100, |_| {
        drop(Store::open(root, options()).unwrap());
    });
    measure("collect, nothing to do", 100, |_| drop(store.gc().unwrap()));
    let lease = store.lease().unwrap();
    let mut layers = Vec::new();
    measure("begin and commit a snapshot", 500, |number| {
        let new = lease.begin_snapshot().unwrap();
        let diff_id = DiffId(Digest::of(&number.to_le_bytes()));
        let form = conex_layer::Form::ROOT;
        let facts = LayerFacts { diff_id, tar_size: 0, disk_size: Some(0), form };
        layers.push(lease.commit_snapshot(new, None, &facts).unwrap());
    });
    let key = |number: usize| Digest::of(format!("key {number}").as_bytes());
    measure("keep a build-cache record", 500, |number| {
        let record = NewCacheRecord {
            kind: "run".to_owned(),
            description: "RUN true".to_owned(),
            snapshot: Some(layers[number % layers.len()].id().clone()),
            result: serde_json::json!({ "env": ["A=1"] }),
        };
        store.cache_put(&key(number), &record).unwrap();
    });
    let keys: Vec<Digest> = (0..40).map(key).collect();
    measure("look for 40 keys", 200, |_| {
        assert_eq!(store.cache_get_many(&keys).unwrap().len(), 40);
    });
    measure("hold 40 snapshots", 200, |_| {
        let ids: Vec<_> = layers.iter().take(40).map(|layer| layer.id().clone()).collect();
        assert_eq!(lease.hold_snapshots(&ids).unwrap().len(), 40);
    });
    measure("keep and tag an image", 10_000, |number| {
        let mut config = ImageConfig::scratch(Platform::new("linux", "amd64", ""));
        config.rootfs.diff_ids = vec![layers[number % layers.len()].diff_id().clone()];
        config.author = number.to_string();
        let bytes = config.to_bytes();
        let image = NewImage { config: &bytes, manifest: None, source: ImageSource::Built };
        let record = lease.put_image(&image).unwrap();
        let name = format!("app:{number}").parse().unwrap();
        store.tag(&name, &record.id, &Expected::Anything).unwrap();
    });
    measure("list 10,000 images", 10, |_| assert_eq!(store.images().unwrap().len(), 10_000));
    measure("resolve a name among 10,000", 200, |number| {
        drop(store.resolve(&format!("app:{number}")).unwrap());
    });
    measure("open with 10,000 images", 100, |_| drop(Store::open(root, options()).unwrap()));
    measure("collect with 10,000 images, nothing to do", 100, |_| drop(store.gc().unwrap()));
    drop(lease);
    drop(store);
    measure("open alone with 10,000 images", 100, |_| drop(Store::open(root, options()).unwrap()));
}
