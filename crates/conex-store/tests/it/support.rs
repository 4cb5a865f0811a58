//! What all tests share: a store in a folder that goes away, a clock that ticks, small images.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use conex_layer::Form;
use conex_oci::{
    Compression, Descriptor, DiffId, Digest, ImageConfig, Manifest, MediaType, Platform, Reference,
};
use conex_store::{
    Durability, ImageRecord, ImageSource, LayerFacts, Lease, NewImage, Snapshot, Store,
    StoreOptions, Timestamp,
};

/// A folder in memory where there is one: a test of many small steps would wait for the disk.
pub(crate) fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Names the folder of the store to a child process of a test.
pub(crate) const CHILD_ROOT: &str = "CONEX_STORE_TEST_ROOT";

/// A number for a child process of a test.
pub(crate) const CHILD_NUMBER: &str = "CONEX_STORE_TEST_NUMBER";

pub(crate) fn options(boot_id: &str) -> StoreOptions {
    let ticks = AtomicI64::new(1_700_000_000);
    StoreOptions {
        clock: Arc::new(move || Timestamp(ticks.fetch_add(1, Ordering::Relaxed) * 1_000_000_000)),
        boot_id: boot_id.to_owned(),
        actor: "tester".to_owned(),
        tree_remover: None,
    }
}

pub(crate) fn open(root: &Path) -> Store {
    Store::open(root, options("boot")).unwrap()
}

pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { store: open(&dir.path().join("store")), dir }
    }

    pub(crate) fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }
}

/// The form that whoever runs the tests can write.
pub(crate) fn form() -> Form {
    use conex_layer::{Flavor, Ownership};
    if is_root() {
        return Form::ROOT;
    }
    Form { flavor: Flavor::User, ownership: Ownership::Recorded }
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Commits a snapshot with one file, under the diff ID that it really has.
pub(crate) fn snapshot(lease: &Lease, parent: Option<&Snapshot>, content: &str) -> Snapshot {
    let new = lease.begin_snapshot().unwrap();
    std::fs::write(new.path().join("file"), content).unwrap();
    // The clock of the machine has no part in the diff ID.
    let file = std::fs::File::options().write(true).open(new.path().join("file")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
    let (diff_id, tar_size) = layer_of(new.path(), parent);
    let facts = LayerFacts { diff_id, tar_size, disk_size: None, form: form() };
    lease.commit_snapshot(new, parent, &facts).unwrap()
}

/// The diff ID of a folder on top of a snapshot, and the size of its tar.
pub(crate) fn layer_of(folder: &Path, parent: Option<&Snapshot>) -> (DiffId, u64) {
    let open = |path: &Path| conex_sys::dir::Dir::open_ambient(path).unwrap();
    let below = parent.map(Snapshot::stack).unwrap_or_default();
    let below = conex_layer::Stack::new(below.iter().map(|path| open(path)).collect(), form());
    let options = conex_layer::WriteOptions::new(form());
    let (diff_id, summary) = conex_layer::diff_id_of(&open(folder), &below, &options).unwrap();
    (diff_id, summary.tar_size)
}

/// The diff ID of a snapshot whose only file has this content.
pub(crate) fn diff_id_of(content: &str) -> DiffId {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, content).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1)).unwrap();
    layer_of(dir.path(), None).0
}

pub(crate) fn config(diff_ids: &[DiffId], label: &str) -> Vec<u8> {
    let mut config = ImageConfig::scratch(Platform::new("linux", "amd64", ""));
    config.rootfs.diff_ids = diff_ids.to_vec();
    config.config.labels.insert("name".to_owned(), label.to_owned());
    config.to_bytes()
}

/// Builds an image of snapshots with these contents, bottom first.
pub(crate) fn built_image(store: &Store, contents: &[&str], label: &str) -> ImageRecord {
    built_image_in(&store.lease().unwrap(), contents, label)
}

/// As [`built_image`], held by a lease: another process may not prune it before it has a tag.
pub(crate) fn built_image_in(lease: &Lease, contents: &[&str], label: &str) -> ImageRecord {
    let mut diff_ids = Vec::new();
    let mut top: Option<Snapshot> = None;
    for content in contents {
        let next = snapshot(lease, top.as_ref(), content);
        diff_ids.push(next.diff_id().clone());
        top = Some(next);
    }
    let config = config(&diff_ids, label);
    let image = NewImage { config: &config, manifest: None, source: ImageSource::Built };
    lease.put_image(&image).unwrap()
}

/// Loads an image of one layer that comes as a blob, with its manifest.
pub(crate) fn loaded_image(store: &Store, content: &str) -> (ImageRecord, Descriptor) {
    loaded_image_in(&store.lease().unwrap(), content)
}

/// As [`loaded_image`], held by a lease.
pub(crate) fn loaded_image_in(lease: &Lease, content: &str) -> (ImageRecord, Descriptor) {
    let layer_type = MediaType::OciLayer(Compression::None);
    let layer = lease.put_bytes(layer_type, content.as_bytes(), Durability::Synced).unwrap();
    let diff_id = DiffId(layer.digest.clone());
    lease.put_layer_blob(&diff_id, &layer).unwrap();
    let config = config(&[diff_id], content);
    let manifest =
        Manifest::new(Descriptor::of(MediaType::OciConfig, &config), vec![layer.clone()]);
    let bytes = manifest.to_bytes();
    let manifest = Some((MediaType::OciManifest, bytes.as_slice()));
    let image = NewImage { config: &config, manifest, source: ImageSource::Loaded };
    (lease.put_image(&image).unwrap(), Descriptor::of(MediaType::OciManifest, &bytes))
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub(crate) fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// What `du` counts for a folder.
pub(crate) fn du(path: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "--block-size=1"]).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Starts this test binary again with one test, which is the child's part.
pub(crate) fn spawn_child(test: &str, root: &Path, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD_ROOT, root)
        .env(CHILD_NUMBER, number.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder and the number of a child's part; none where the test runs as a test.
pub(crate) fn child_part() -> Option<(std::path::PathBuf, usize)> {
    let root = std::env::var_os(CHILD_ROOT)?;
    let number = std::env::var(CHILD_NUMBER).ok()?.parse().ok()?;
    Some((root.into(), number))
}
