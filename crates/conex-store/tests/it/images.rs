//! Images, indexes, tags and their removal.

use conex_oci::{Descriptor, DiffId, Index, MediaType, Platform};
use conex_store::{
    CheckDepth, ErrorKind, Expected, Force, ImageKind, ImageSource, LabelFilter, NewImage,
    NewIndex, PruneImages, PruneOptions, Store,
};

use crate::support::{TestStore, built_image, config, key, loaded_image, reference};

fn tag(store: &Store, name: &str, image: &conex_store::ImageRecord) {
    store.tag(&reference(name), &image.id, &Expected::Anything).unwrap();
}

fn assert_sound(store: &Store) {
    let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

fn removed(store: &Store, text: &str, force: Force) -> Result<Vec<String>, ErrorKind> {
    let lines = store.remove_image(text, force).map_err(|error| error.kind())?;
    Ok(lines.iter().map(ToString::to_string).collect())
}

#[test]
fn image_is_found_by_every_name_that_docker_knows() {
    let test = TestStore::new();
    let store = &test.store;
    let built = built_image(store, &["a"], "built");
    let (loaded, manifest) = loaded_image(store, "layer");
    tag(store, "app:1", &built);
    tag(store, "ghcr.io/acme/api", &loaded);
    let by_digest = reference("ghcr.io/acme/api").with_digest(manifest.digest.clone());
    let elsewhere = reference("ghcr.io/acme/other").with_digest(manifest.digest.clone());
    store.put_repo_digest(&by_digest, &loaded.id).unwrap();
    for (text, wanted) in [
        ("app:1", Some(&built)),
        ("docker.io/library/app:1", Some(&built)),
        ("app", None),
        ("ghcr.io/acme/api:latest", Some(&loaded)),
        (built.id.as_str(), Some(&built)),
        (built.id.hex(), Some(&built)),
        (built.id.short(), Some(&built)),
        (&built.id.as_str()[..15], Some(&built)),
        (manifest.digest.as_str(), Some(&loaded)),
        (&by_digest.familiar(), Some(&loaded)),
        (&elsewhere.familiar(), None),
        ("sha256:", None),
        ("", None),
        ("../../etc", None),
        ("0123456789abcdef", None),
    ] {
        let found = store.resolve(text).map(|record| record.id).map_err(|error| error.kind());
        let wanted = wanted.map(|record| record.id.clone()).ok_or(ErrorKind::NotFound);
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn short_id_that_means_several_images_names_them() {
    let test = TestStore::new();
    let images: Vec<_> =
        (0..40).map(|n| built_image(&test.store, &["a"], &n.to_string()).id).collect();
    let first = images
        .iter()
        .map(|id| &id.hex()[..1])
        .find(|digit| images.iter().filter(|id| id.hex().starts_with(digit)).count() > 1)
        .unwrap();
    let error = test.store.resolve(first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    let named = images.iter().filter(|id| error.to_string().contains(id.short())).count();
    assert!(named > 1, "{error}");
    assert!(error.hint().is_some());
    // A tag of that name goes before the IDs.
    test.store.tag(&reference(first), &images[0], &Expected::Absent).unwrap();
    assert_eq!(test.store.resolve(first).unwrap().id, images[0]);
}

#[test]
fn bytes_that_came_from_outside_keep_their_digests() {
    let test = TestStore::new();
    let (image, manifest) = loaded_image(&test.store, "layer");
    assert_eq!(test.store.manifests(&image.id).unwrap(), std::slice::from_ref(&manifest));
    let bytes = test.store.read_blob(&manifest.digest).unwrap();
    assert_eq!(Descriptor::of(MediaType::OciManifest, &bytes), manifest);
    let layers = test.store.layers(&image.id).unwrap();
    assert!(layers[0].snapshot.is_none());
    assert_eq!(layers[0].blobs.len(), 1);
    assert_eq!(image.size, 5);
    assert_eq!(test.store.image_config(&image.id).unwrap().rootfs.diff_ids.len(), 1);
}

#[test]
fn image_without_a_layer_is_refused() {
    let test = TestStore::new();
    let lease = test.store.lease().unwrap();
    let bytes = config(&[DiffId(key("nowhere"))], "x");
    let image = NewImage { config: &bytes, manifest: None, source: ImageSource::Built };
    assert_eq!(lease.put_image(&image).unwrap_err().kind(), ErrorKind::NotFound);
    let image = NewImage { config: b"{", manifest: None, source: ImageSource::Built };
    assert_eq!(lease.put_image(&image).unwrap_err().kind(), ErrorKind::Invalid);
    drop(lease);
    assert_sound(&test.store);
    assert_eq!(test.store.images().unwrap(), []);
}

#[test]
fn tag_moves_are_remembered_and_can_be_taken_back() {
    let test = TestStore::new();
    let store = &test.store;
    let [one, two] = ["1", "2"].map(|label| built_image(store, &["a"], label));
    let name = reference("app");
    assert_eq!(store.tag(&name, &one.id, &Expected::Absent).unwrap(), None);
    let late = store.tag(&name, &two.id, &Expected::Absent).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    let moved = store.tag(&name, &two.id, &Expected::Image(one.id.clone())).unwrap();
    assert_eq!(moved, Some(one.id.clone()));
    // The same again is no move.
    tag(store, "app", &two);
    assert_eq!(store.rollback(&name).unwrap(), one.id);
    assert_eq!(store.tagged(&name).unwrap(), Some(one.id.clone()));
    let history = store.tag_history(&name).unwrap();
    let moves: Vec<_> = history.iter().rev().map(|m| (m.old.as_ref(), m.new.as_ref())).collect();
    let (one, two) = (Some(&one.id), Some(&two.id));
    assert_eq!(moves, [(None, one), (one, two), (two, one)]);
    assert!(history.iter().all(|m| m.actor == "tester"));
    let with_digest = name.with_digest(key("x"));
    let error = store.tag(&with_digest, one.unwrap(), &Expected::Anything).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn image_goes_with_its_last_tag_and_layers_that_others_have_stay() {
    let test = TestStore::new();
    let store = &test.store;
    let one = built_image(store, &["base", "one"], "1");
    let two = built_image(store, &["base", "two"], "2");
    tag(store, "app:1", &one);
    tag(store, "app:also", &one);
    tag(store, "app:2", &two);
    let top = |id| store.layers(id).unwrap()[1].chain_id.to_string();
    let (top_one, base) = (top(&one.id), store.layers(&one.id).unwrap()[0].chain_id.clone());
    assert_eq!(store.shared_size(&one.id).unwrap(), store.snapshot(&base).unwrap().unwrap().size());
    assert_eq!(removed(store, "app:1", Force::No).unwrap(), ["Untagged: app:1"]);
    let lines = removed(store, "app:also", Force::No).unwrap();
    let wanted = [
        "Untagged: app:also".to_owned(),
        format!("Deleted: {}", one.id),
        format!("Deleted: {top_one}"),
    ];
    assert_eq!(lines, wanted);
    assert!(store.snapshot(&base).unwrap().is_some());
    assert_eq!(removed(store, two.id.short(), Force::No).unwrap().len(), 4);
    assert!(store.snapshot(&base).unwrap().is_none());
    assert_eq!(removed(store, "app:2", Force::No), Err(ErrorKind::NotFound));
    assert_sound(store);
    assert_eq!(std::fs::read_dir(test.root().join("snapshots")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(test.root().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn removal_by_id_needs_force_only_across_repositories() {
    let test = TestStore::new();
    let store = &test.store;
    let image = built_image(store, &["a"], "x");
    for name in ["app:1", "app:2", "other:1"] {
        tag(store, name, &image);
    }
    assert_eq!(removed(store, image.id.short(), Force::No), Err(ErrorKind::Conflict));
    assert_eq!(removed(store, image.id.short(), Force::Yes).unwrap().len(), 5);
    let image = built_image(store, &["a"], "x");
    tag(store, "app:1", &image);
    tag(store, "app:2", &image);
    assert_eq!(removed(store, image.id.short(), Force::No).unwrap().len(), 4);
    assert_sound(store);
}

#[test]
fn digest_of_the_same_repository_goes_with_the_last_tag() {
    let test = TestStore::new();
    let store = &test.store;
    let (image, manifest) = loaded_image(store, "layer");
    let digest = reference("app").with_digest(manifest.digest.clone());
    tag(store, "app:1", &image);
    store.put_repo_digest(&digest, &image.id).unwrap();
    let record = store.image(&image.id).unwrap().unwrap();
    assert_eq!((record.tags.len(), record.repo_digests), (1, vec![digest.clone()]));
    let lines = removed(store, "app:1", Force::No).unwrap();
    let untagged = format!("Untagged: {}", digest.familiar());
    assert_eq!(lines, ["Untagged: app:1", &untagged, &format!("Deleted: {}", image.id)]);
    assert!(!store.has_blob(&manifest.digest).unwrap());
    assert_sound(store);
}

#[test]
fn image_that_a_living_process_uses_stays() {
    let test = TestStore::new();
    let store = &test.store;
    let image = built_image(store, &["a"], "x");
    tag(store, "app", &image);
    let lease = store.lease().unwrap();
    assert!(lease.hold_image(&image.id).unwrap());
    assert_eq!(removed(store, "app", Force::Yes), Err(ErrorKind::Conflict));
    assert_eq!(store.resolve("app").unwrap().id, image.id);
    let all = PruneOptions { images: PruneImages::All, ..PruneOptions::NOTHING };
    assert!(store.prune(&all).unwrap().is_empty());
    drop(lease);
    assert_eq!(store.prune(&all).unwrap().images, [image.id]);
}

#[test]
fn prune_of_images_keeps_to_its_filters() {
    let test = TestStore::new();
    let store = &test.store;
    let [old, young, tagged] = ["old", "young", "tagged"].map(|l| built_image(store, &["a"], l));
    tag(store, "app", &tagged);
    let prune = |images, until, labels: &[(&str, Option<&str>, bool)]| {
        let label = |(name, value, is_negated): &(&str, Option<&str>, bool)| LabelFilter {
            name: (*name).to_owned(),
            value: value.map(str::to_owned),
            is_negated: *is_negated,
        };
        let labels = labels.iter().map(label).collect();
        let options = PruneOptions { images, until, labels, ..PruneOptions::NOTHING };
        store.prune(&options).unwrap().images
    };
    let dangling = PruneImages::Dangling;
    assert!(prune(dangling, Some(old.created), &[]).is_empty());
    assert!(prune(dangling, None, &[("name", Some("none"), false)]).is_empty());
    assert!(prune(dangling, None, &[("name", None, true)]).is_empty());
    assert_eq!(prune(dangling, Some(young.created), &[("name", None, false)]), [old.id]);
    assert_eq!(prune(dangling, None, &[]), [young.id]);
    assert_eq!(prune(PruneImages::All, None, &[]), [tagged.id]);
    assert_sound(store);
}

#[test]
fn local_index_holds_images_and_takes_them_along() {
    let test = TestStore::new();
    let store = &test.store;
    let [amd64, arm64] = ["amd64", "arm64"].map(|label| built_image(store, &[label], label));
    let platform = |text: &str| text.parse::<Platform>().unwrap();
    let images = vec![
        (platform("linux/amd64"), amd64.id.clone()),
        (platform("linux/arm64"), arm64.id.clone()),
    ];
    let index = {
        let lease = store.lease().unwrap();
        let missing = vec![(platform("linux/arm"), key("none"))];
        let new = NewIndex::Local { images: missing, source: ImageSource::Built };
        assert_eq!(lease.put_index(&new).unwrap_err().kind(), ErrorKind::NotFound);
        lease.put_index(&NewIndex::Local { images, source: ImageSource::Built }).unwrap()
    };
    tag(store, "app", &index);
    assert_eq!((index.kind, index.size), (ImageKind::Index, amd64.size + arm64.size));
    let picked = |text| {
        let record = store.resolve("app").unwrap();
        store.image_for(&record, &platform(text)).unwrap().map(|record| record.id)
    };
    assert_eq!(picked("linux/arm64"), Some(arm64.id.clone()));
    assert_eq!(picked("linux/s390x"), None);
    assert!(!store.image(&arm64.id).unwrap().unwrap().is_dangling());
    assert_eq!(removed(store, arm64.id.short(), Force::No), Err(ErrorKind::Conflict));
    let dangling = PruneOptions { images: PruneImages::Dangling, ..PruneOptions::NOTHING };
    assert!(store.prune(&dangling).unwrap().is_empty());
    tag(store, "app:arm", &arm64);
    removed(store, "app", Force::No).unwrap();
    let left: Vec<_> = store.images().unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(left, [arm64.id]);
    assert_sound(store);
}

#[test]
fn index_from_outside_learns_of_images_that_come_later() {
    let test = TestStore::new();
    let store = &test.store;
    let (_, manifest) = {
        let other = TestStore::new();
        loaded_image(&other.store, "layer")
    };
    let mut entry = manifest.clone();
    entry.platform = Some("linux/amd64".parse().unwrap());
    let bytes = Index::new(vec![entry]).to_bytes();
    let lease = store.lease().unwrap();
    let new = NewIndex::Original { bytes: &bytes, source: ImageSource::Pulled };
    let index = lease.put_index(&new).unwrap();
    assert_eq!(index.id, Descriptor::of(MediaType::OciIndex, &bytes).digest);
    assert_eq!(store.index_entries(&index.id).unwrap()[0].image, None);
    let (image, _) = loaded_image(store, "layer");
    assert_eq!(store.index_entries(&index.id).unwrap()[0].image, Some(image.id.clone()));
    assert!(store.image(&image.id).unwrap().unwrap().in_index);
    assert_eq!(store.read_blob(&index.id).unwrap(), bytes);
    assert_eq!(store.image(&index.id).unwrap().unwrap().size, image.size);
}

#[test]
fn manifest_of_another_image_is_refused() {
    let test = TestStore::new();
    let (_, manifest) = loaded_image(&test.store, "layer");
    let bytes = test.store.read_blob(&manifest.digest).unwrap();
    let lease = test.store.lease().unwrap();
    let other = config(&[], "other");
    let manifest = Some((MediaType::OciManifest, bytes.as_slice()));
    let image = NewImage { config: &other, manifest, source: ImageSource::Loaded };
    assert_eq!(lease.put_image(&image).unwrap_err().kind(), ErrorKind::Invalid);
}
