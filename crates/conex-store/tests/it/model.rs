//! Random operations on a store and on a model of it in memory: both must hold the same, down to
//! every snapshot and blob that lies on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use conex_oci::{ChainId, DiffId, Digest};
use conex_store::{
    CheckDepth, ErrorKind, Expected, Force, Lease, NewCacheRecord, PruneCache, PruneImages,
    PruneOptions, Store,
};
use proptest::prelude::*;

use crate::support::{self, built_image, diff_id_of, key, reference, snapshot};

#[derive(Debug, Clone)]
enum Op {
    Build { stack: u8 },
    Tag { name: u8, stack: u8 },
    RemoveName { name: u8 },
    RemoveId { stack: u8, force: bool },
    Rollback { name: u8 },
    CachePut { key: u8, stack: u8 },
    PruneCache,
    PruneImages { all: bool },
    HoldSnapshot { stack: u8 },
    HoldImage { stack: u8 },
    EndLease,
    Collect,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let (name, stack, key) = (0..4_u8, 0..6_u8, 0..4_u8);
    prop_oneof![
        4 => stack.clone().prop_map(|stack| Op::Build { stack }),
        4 => (name.clone(), stack.clone()).prop_map(|(name, stack)| Op::Tag { name, stack }),
        2 => name.clone().prop_map(|name| Op::RemoveName { name }),
        2 => (stack.clone(), any::<bool>())
            .prop_map(|(stack, force)| Op::RemoveId { stack, force }),
        1 => name.prop_map(|name| Op::Rollback { name }),
        3 => (key, stack.clone()).prop_map(|(key, stack)| Op::CachePut { key, stack }),
        1 => Just(Op::PruneCache),
        1 => any::<bool>().prop_map(|all| Op::PruneImages { all }),
        4 => stack.clone().prop_map(|stack| Op::HoldSnapshot { stack }),
        2 => stack.prop_map(|stack| Op::HoldImage { stack }),
        1 => Just(Op::EndLease),
        1 => Just(Op::Collect),
        1 => Just(Op::Reopen),
    ]
}

/// The layers of a stack, bottom first. Stacks share layers at the bottom, and hold the same layer
/// on different parents.
fn layers(stack: u8) -> &'static [&'static str] {
    match stack {
        0 => &["a"],
        1 => &["a", "b"],
        2 => &["a", "b", "c"],
        3 => &["a", "c"],
        4 => &["b", "c"],
        _ => &["b"],
    }
}

fn chains(stack: u8) -> Vec<ChainId> {
    static IDS: LazyLock<BTreeMap<&str, DiffId>> =
        LazyLock::new(|| ["a", "b", "c"].map(|layer| (layer, diff_id_of(layer))).into());
    let ids: Vec<DiffId> = layers(stack).iter().map(|layer| IDS[layer].clone()).collect();
    ChainId::stack(&ids)
}

fn name(number: u8) -> String {
    // Two repositories, as removal by ID tells them apart.
    if number < 2 { format!("app:{number}") } else { format!("other:{number}") }
}

#[derive(Debug, Default, Clone)]
struct Model {
    images: BTreeSet<u8>,
    tags: BTreeMap<u8, u8>,
    history: BTreeMap<u8, Vec<u8>>,
    cache: BTreeMap<u8, u8>,
    held_snapshots: BTreeSet<u8>,
    held_images: BTreeSet<u8>,
}

impl Model {
    fn is_tagged(&self, stack: u8) -> bool {
        self.tags.values().any(|tagged| *tagged == stack)
    }

    fn set_tag(&mut self, name: u8, stack: Option<u8>) {
        let old = self.tags.get(&name).copied();
        if old == stack {
            return;
        }
        // What a tag was on before each of its moves.
        self.history.entry(name).or_default().extend(old);
        match stack {
            Some(stack) => self.tags.insert(name, stack),
            None => self.tags.remove(&name),
        };
    }

    fn snapshots(&self) -> BTreeSet<ChainId> {
        let stacks = [&self.images, &self.held_snapshots];
        let cached = self.cache.values();
        stacks.into_iter().flatten().chain(cached).flat_map(|stack| chains(*stack)).collect()
    }
}

struct Machine {
    store: Store,
    lease: Option<Lease>,
    ids: BTreeMap<u8, Digest>,
    model: Model,
    root: std::path::PathBuf,
}

impl Machine {
    fn lease(&mut self) -> Lease {
        let store = &self.store;
        self.lease.get_or_insert_with(|| store.lease().unwrap()).clone()
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Build { stack } => {
                let image = built_image(&self.store, layers(*stack), "image");
                self.ids.insert(*stack, image.id);
                self.model.images.insert(*stack);
            }
            Op::Tag { name: at, stack } => self.tag(*at, *stack),
            Op::RemoveName { name: at } => self.remove_name(*at),
            Op::RemoveId { stack, force } => self.remove_id(*stack, *force),
            Op::Rollback { name: at } => self.roll_back(*at),
            Op::CachePut { key: at, stack } => self.cache_put(*at, *stack),
            Op::PruneCache => {
                let options = PruneOptions { cache: PruneCache::All, ..PruneOptions::NOTHING };
                self.store.prune(&options).unwrap();
                // Records stay whose own snapshot a lease holds.
                let held = self.model.held_snapshots.clone();
                self.model.cache.retain(|_, stack| held.contains(stack));
            }
            Op::PruneImages { all } => {
                let images = if *all { PruneImages::All } else { PruneImages::Dangling };
                let options = PruneOptions { images, ..PruneOptions::NOTHING };
                self.store.prune(&options).unwrap();
                let before = self.model.clone();
                self.model.images.retain(|stack| {
                    before.held_images.contains(stack) || (!*all && before.is_tagged(*stack))
                });
                for (name, stack) in before.tags {
                    if !self.model.images.contains(&stack) {
                        self.model.set_tag(name, None);
                    }
                }
            }
            Op::HoldSnapshot { stack } => {
                let lease = self.lease();
                let chain = chains(*stack).pop().unwrap();
                let there = self.model.snapshots().contains(&chain);
                assert_eq!(lease.snapshot(&chain).unwrap().is_some(), there);
                if there {
                    self.model.held_snapshots.insert(*stack);
                }
            }
            Op::HoldImage { stack } => {
                let Some(id) = self.ids.get(stack).cloned() else { return };
                let there = self.model.images.contains(stack);
                assert_eq!(self.lease().hold_image(&id).unwrap(), there);
                if there {
                    self.model.held_images.insert(*stack);
                }
            }
            Op::EndLease => self.end_lease(),
            Op::Collect => assert!(self.store.gc().unwrap().is_empty()),
            Op::Reopen => {
                self.end_lease();
                self.store = support::open(&self.root);
            }
        }
    }

    fn end_lease(&mut self) {
        self.lease = None;
        self.model.held_snapshots.clear();
        self.model.held_images.clear();
    }

    fn tag(&mut self, at: u8, stack: u8) {
        let Some(id) = self.ids.get(&stack) else { return };
        let result = self.store.tag(&reference(&name(at)), id, &Expected::Anything);
        if self.model.images.contains(&stack) {
            result.unwrap();
            self.model.set_tag(at, Some(stack));
        } else {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    fn remove_name(&mut self, at: u8) {
        let result = self.store.remove_image(&name(at), Force::No);
        let Some(stack) = self.model.tags.get(&at).copied() else {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
            return;
        };
        let is_last = self.model.tags.values().filter(|tagged| **tagged == stack).count() == 1;
        if is_last && self.model.held_images.contains(&stack) {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
            return;
        }
        result.unwrap();
        self.model.set_tag(at, None);
        if is_last {
            self.model.images.remove(&stack);
        }
    }

    fn remove_id(&mut self, stack: u8, force: bool) {
        let Some(id) = self.ids.get(&stack) else { return };
        let force_word = if force { Force::Yes } else { Force::No };
        let result = self.store.remove_image(id.as_str(), force_word).map_err(|e| e.kind());
        let names: Vec<u8> =
            self.model.tags.iter().filter(|(_, s)| **s == stack).map(|(name, _)| *name).collect();
        let several = names.iter().any(|name| *name < 2) && names.iter().any(|name| *name >= 2);
        if !self.model.images.contains(&stack) {
            assert_eq!(result, Err(ErrorKind::NotFound));
        } else if self.model.held_images.contains(&stack) || (several && !force) {
            assert_eq!(result, Err(ErrorKind::Conflict));
        } else {
            result.unwrap();
            names.into_iter().for_each(|name| self.model.set_tag(name, None));
            self.model.images.remove(&stack);
        }
    }

    fn roll_back(&mut self, at: u8) {
        let current = self.model.tags.get(&at).copied();
        let past = self.model.history.get(&at).cloned().unwrap_or_default();
        let earlier = past.into_iter().rev().find(|stack| Some(*stack) != current);
        let result = self.store.rollback(&reference(&name(at)));
        match earlier {
            Some(stack) if self.model.images.contains(&stack) => {
                assert_eq!(result.unwrap(), self.ids[&stack]);
                self.model.set_tag(at, Some(stack));
            }
            _ => assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound),
        }
    }

    fn cache_put(&mut self, at: u8, stack: u8) {
        let lease = self.store.lease().unwrap();
        let top = layers(stack)
            .iter()
            .fold(None, |parent, layer| Some(snapshot(&lease, parent.as_ref(), layer)))
            .unwrap();
        let record = NewCacheRecord {
            kind: "run".to_owned(),
            description: String::new(),
            snapshot: Some(top.id().clone()),
            result: serde_json::Value::Null,
        };
        self.store.cache_put(&key(&at.to_string()), &record).unwrap();
        self.model.cache.insert(at, stack);
    }

    fn compare(&self) {
        let (store, model) = (&self.store, &self.model);
        let listed: BTreeSet<Digest> =
            store.images().unwrap().into_iter().map(|record| record.id).collect();
        let wanted: BTreeSet<Digest> = model.images.iter().map(|s| self.ids[s].clone()).collect();
        assert_eq!(listed, wanted);
        for at in 0..4 {
            let wanted = model.tags.get(&at).map(|stack| self.ids[stack].clone());
            assert_eq!(store.tagged(&reference(&name(at))).unwrap(), wanted);
            let found = store.cache_get(&key(&at.to_string())).unwrap();
            let chain = found.map(|record| record.snapshot.unwrap().chain_id);
            let wanted = model.cache.get(&at).and_then(|stack| chains(*stack).pop());
            assert_eq!(chain, wanted);
        }
        // Every snapshot and blob that should be there is, and no other.
        let wanted = model.snapshots();
        let count = |folder: &str| std::fs::read_dir(self.root.join(folder)).unwrap().count();
        assert!(wanted.iter().all(|chain| store.snapshot(chain).unwrap().is_some()));
        assert_eq!(count("snapshots"), wanted.len());
        assert_eq!(count("blobs/sha256"), model.images.len());
        let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 120, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn store_holds_what_the_model_holds(ops in prop::collection::vec(op(), 1..50)) {
        let dir = support::fast_dir();
        let root = dir.path().join("store");
        let mut machine = Machine {
            store: support::open(&root),
            lease: None,
            ids: BTreeMap::new(),
            model: Model::default(),
            root,
        };
        for op in &ops {
            machine.apply(op);
            machine.compare();
        }
    }
}
