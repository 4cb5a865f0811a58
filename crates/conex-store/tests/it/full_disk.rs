//! A full disk is a clear error, and the store stays usable.

use std::path::Path;
use std::process::{Command, Stdio};

use conex_oci::MediaType;
use conex_store::{CheckDepth, Durability, ErrorKind, Expected, PruneImages, PruneOptions};

use crate::support::{self, built_image, reference};

/// A small file system that goes away with this value.
struct SmallDisk<'d>(&'d Path);

impl<'d> SmallDisk<'d> {
    fn mount(path: &'d Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=12m,mode=0755", "tmpfs"])
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then(|| Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().unwrap();
    }
}

/// Fills what is left of the disk, to the last byte.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    let mut size = 1 << 16;
    while size > 0 {
        if file.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

#[test]
fn full_disk_is_a_clear_error_and_can_be_tidied() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path()) else {
        assert!(std::env::var_os("CI").is_none() || !support::is_root(), "cannot mount a tmpfs");
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let root = dir.path().join("store");
    let store = support::open(&root);
    let kept = built_image(&store, &["kept"], "kept");
    store.tag(&reference("kept"), &kept.id, &Expected::Anything).unwrap();
    let big = "x".repeat(1 << 20);
    for label in ["1", "2"] {
        built_image(&store, &[&format!("{big}{label}")], label);
    }

    let lease = store.lease().unwrap();
    let octets = MediaType::from("application/octet-stream");
    let too_big = vec![7; 16 << 20];
    let error = lease.put_bytes(octets, &too_big, Durability::Synced).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.hint().unwrap().contains("prune"));
    assert!(std::error::Error::source(&error).is_some());
    drop(lease);
    let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);

    fill(&dir.path().join("ballast"));
    let mut refused = 0;
    for number in 0..2_000 {
        let name = reference(&format!("app:{number}"));
        match store.tag(&name, &kept.id, &Expected::Anything) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "the disk was not full");
    assert_eq!(store.resolve("kept").unwrap().id, kept.id);
    assert!(!store.read_blob(&kept.id).unwrap().is_empty());
    drop(store);
    // The index of the log is made anew by who opens the store next, and there is no room for it.
    std::fs::remove_file(root.join("conex.db-shm")).unwrap();
    fill(&dir.path().join("more ballast"));

    // Another process opens the store on the full disk, and tidies it.
    let store = support::open(&root);
    let dangling = PruneOptions { images: PruneImages::Dangling, ..PruneOptions::NOTHING };
    let removed = store.prune(&dangling).unwrap();
    assert_eq!(removed.images.len(), 2);
    assert!(removed.bytes > 2 << 20);
    let again = built_image(&store, &[&big], "again");
    store.tag(&reference("again"), &again.id, &Expected::Anything).unwrap();
    assert!(root.join("reserve").exists());
    let report = store.check(CheckDepth::Blobs, &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.damage);
}
