//! Tags, their history and deletions, compared with what a few maps say.

use std::collections::{BTreeMap, BTreeSet};

use conex_oci::Digest;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{Client, MANIFEST};
use crate::server::Registry;

/// What can happen to a repository.
#[derive(Debug, Clone)]
enum Act {
    Push { tag: usize, image: usize, only_if_new: bool },
    PushByDigest { image: usize },
    DeleteTag { tag: usize },
    DeleteImage { image: usize },
    Rollback { tag: usize, to: Option<usize> },
}

fn act() -> impl Strategy<Value = Act> {
    let (tag, image) = (0..3_usize, 0..4_usize);
    prop_oneof![
        4 => (tag.clone(), image.clone(), any::<bool>())
            .prop_map(|(tag, image, only_if_new)| Act::Push { tag, image, only_if_new }),
        1 => image.clone().prop_map(|image| Act::PushByDigest { image }),
        2 => tag.clone().prop_map(|tag| Act::DeleteTag { tag }),
        1 => image.clone().prop_map(|image| Act::DeleteImage { image }),
        3 => (tag, proptest::option::of(image)).prop_map(|(tag, to)| Act::Rollback { tag, to }),
    ]
}

const TAGS: [&str; 3] = ["a", "b", "c"];

/// From one image, or none, to another.
type Move = (Option<usize>, Option<usize>);

/// What should be so.
#[derive(Default)]
struct Model {
    images: BTreeSet<usize>,
    tags: BTreeMap<usize, usize>,
    /// Of each tag, the oldest first: from, to.
    moves: BTreeMap<usize, Vec<Move>>,
}

impl Model {
    fn set(&mut self, tag: usize, image: Option<usize>) {
        let old = match image {
            Some(image) => self.tags.insert(tag, image),
            None => self.tags.remove(&tag),
        };
        if old != image {
            self.moves.entry(tag).or_default().push((old, image));
        }
    }

    /// Does it; gives the status that the registry should answer.
    fn act(&mut self, act: &Act) -> u16 {
        match *act {
            Act::Push { tag, only_if_new: true, .. } if self.tags.contains_key(&tag) => 412,
            Act::Push { tag, image, .. } => {
                self.images.insert(image);
                self.set(tag, Some(image));
                201
            }
            Act::PushByDigest { image } => {
                self.images.insert(image);
                201
            }
            Act::DeleteTag { tag } if self.tags.contains_key(&tag) => {
                self.set(tag, None);
                202
            }
            Act::DeleteImage { image } if self.images.remove(&image) => {
                for tag in 0..TAGS.len() {
                    if self.tags.get(&tag) == Some(&image) {
                        self.set(tag, None);
                    }
                }
                202
            }
            Act::DeleteTag { .. } | Act::DeleteImage { .. } => 404,
            Act::Rollback { tag, to } => {
                let moves = self.moves.get(&tag).cloned().unwrap_or_default();
                let current = self.tags.get(&tag).copied();
                let target = match to {
                    Some(to) => moves
                        .iter()
                        .any(|(from, now)| *from == Some(to) || *now == Some(to))
                        .then_some(to)
                        .filter(|to| self.images.contains(to)),
                    None => moves
                        .iter()
                        .rev()
                        .filter_map(|(from, _)| *from)
                        .find(|from| Some(*from) != current && self.images.contains(from)),
                };
                match target {
                    Some(target) => {
                        self.set(tag, Some(target));
                        200
                    }
                    None => 404,
                }
            }
        }
    }
}

struct World<'r> {
    client: &'r Client,
    repository: String,
    images: Vec<Vec<u8>>,
}

impl World<'_> {
    fn digest(&self, image: usize) -> Digest {
        Digest::of(&self.images[image])
    }

    fn act(&self, act: &Act) -> u16 {
        let path = |reference: &str| format!("/v2/{}/manifests/{reference}", self.repository);
        let reply = match act {
            Act::Push { tag, image, only_if_new } => {
                let mut headers = vec![("Content-Type", MANIFEST)];
                if *only_if_new {
                    headers.push(("If-None-Match", "*"));
                }
                self.client.ask("PUT", &path(TAGS[*tag]), &headers, &self.images[*image])
            }
            Act::PushByDigest { image } => {
                let headers = [("Content-Type", MANIFEST)];
                let path = path(self.digest(*image).as_str());
                self.client.ask("PUT", &path, &headers, &self.images[*image])
            }
            Act::DeleteTag { tag } => self.client.delete(&path(TAGS[*tag])),
            Act::DeleteImage { image } => self.client.delete(&path(self.digest(*image).as_str())),
            Act::Rollback { tag, to } => {
                let path = format!("/v2/{}/_conex/tags/{}/rollback", self.repository, TAGS[*tag]);
                let body = to.map(|to| json!({ "digest": self.digest(to).as_str() }).to_string());
                self.client.ask("POST", &path, &[], body.unwrap_or_default().as_bytes())
            }
        };
        reply.status
    }

    fn check(&self, model: &Model) -> Result<(), TestCaseError> {
        let get = |rest: String| self.client.get(&format!("/v2/{}/{rest}", self.repository));
        let tags: Vec<&str> = model.tags.keys().map(|tag| TAGS[*tag]).collect();
        prop_assert_eq!(&get("tags/list".to_owned()).json()["tags"], &json!(tags));
        for image in 0..self.images.len() {
            let status = get(format!("manifests/{}", self.digest(image))).status;
            prop_assert_eq!(status == 200, model.images.contains(&image), "image {}", image);
        }
        for (tag, name) in TAGS.iter().enumerate() {
            let reply = get(format!("manifests/{name}"));
            match model.tags.get(&tag) {
                Some(image) => prop_assert_eq!(&reply.body, &self.images[*image]),
                None => prop_assert_eq!(reply.status, 404),
            }
            let moves = model.moves.get(&tag).cloned().unwrap_or_default();
            let digest = |image: Option<usize>| match image {
                Some(image) => Value::from(self.digest(image).as_str()),
                None => Value::Null,
            };
            let wanted: Vec<Value> =
                moves.iter().rev().map(|(from, to)| json!([digest(*from), digest(*to)])).collect();
            let reply = get(format!("_conex/tags/{name}/history"));
            let found: Vec<Value> = match reply.status {
                404 => Vec::new(),
                _ => reply.json()["history"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|step| json!([step["from"], step["to"]]))
                    .collect(),
            };
            prop_assert_eq!(found, wanted);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_does_what_a_few_maps_say(acts in proptest::collection::vec(act(), 1..25)) {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::start(folder.path());
        let client = &registry.client;
        let repository = "model/app".to_owned();
        let images = (0..4).map(|image| client.push_parts(&repository, &[image; 10])).collect();
        let world = World { client, repository, images };
        let mut model = Model::default();
        for act in &acts {
            let (status, wanted) = (world.act(act), model.act(act));
            prop_assert_eq!(status, wanted, "{:?}", act);
            world.check(&model)?;
        }
    }
}
