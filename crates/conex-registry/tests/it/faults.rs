//! Clients that are slow, go away, lie or come in thousands; disks that are full.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conex_oci::Digest;
use conex_registry::{Durability, Repair, check};

use crate::client::{Client, MANIFEST, read_reply, with_query};
use crate::server::{Registry, now, options};

fn begin(client: &Client) -> String {
    client.ask("POST", "/v2/app/blobs/uploads/", &[], b"").location()
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn gauge(client: &Client, name: &str) -> u64 {
    let text = String::from_utf8(client.get("/metrics").body).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[track_caller]
fn is_clean(data: &Path) {
    let report = check(data, Repair::No, now()).unwrap();
    assert!(report.damages.is_empty(), "{report:?}");
}

#[test]
fn an_upload_goes_on_where_the_connection_ended() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let client = &registry.client;
    let bytes: Vec<u8> = (0..2_000_000_u32).map(|n| (n >> 3) as u8).collect();
    let path = begin(client);
    let mut stream = client.connect().unwrap();
    let head = client.head("PATCH", &path, &[("Content-Length", &bytes.len().to_string())]);
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(&bytes[..1_234_567]).unwrap();
    drop(stream);
    let mut received = 0;
    until("nothing of the upload is there", || {
        let status = client.get(&path);
        let range = status.header("range").unwrap_or("0-0").to_owned();
        received = range.trim_start_matches("0-").parse::<usize>().unwrap() + 1;
        received == 1_234_567
    });
    let range = format!("{received}-{}", bytes.len() - 1);
    let reply = client.ask("PATCH", &path, &[("Content-Range", &range)], &bytes[received..]);
    assert_eq!(reply.status, 202, "{reply:?}");
    let digest = Digest::of(&bytes);
    let reply = client.ask("PUT", &with_query(&path, &format!("digest={digest}")), &[], b"");
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(client.get(&format!("/v2/app/blobs/{digest}")).body, bytes);
}

#[test]
fn a_second_connection_takes_over_an_upload_whose_first_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let client = &registry.client;
    let path = begin(client);
    let mut hanging = client.connect().unwrap();
    let head = client.head("PATCH", &path, &[("Content-Length", "100")]);
    hanging.write_all(format!("{head}\r\n0123456789").as_bytes()).unwrap();
    until("the first does not begin", || gauge(client, "conex_registry_uploads_running") == 1);
    std::thread::sleep(Duration::from_millis(50));
    let reply = client.ask("PATCH", &path, &[("Content-Range", "10-14")], b"abcde");
    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(reply.header("range"), Some("0-14"));
    let told = read_reply(&mut BufReader::new(hanging), "PATCH").unwrap();
    assert_eq!(told.status, 409, "{told:?}");
    let digest = Digest::of(b"0123456789abcde");
    let reply = client.ask("PUT", &with_query(&path, &format!("digest={digest}")), &[], b"");
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[test]
fn uploads_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..12_000_000_u32).map(|n| (n >> 5) as u8).collect();
    let (mut paths, mut at) = (Vec::new(), Vec::new());
    // One is big enough that its state is noted, one is read again, one is empty.
    let sizes = [9_000_000, 1_000, 0];
    {
        let registry = Registry::start(folder.path());
        for size in sizes {
            let path = begin(&registry.client);
            if size > 0 {
                let reply = registry.client.ask("PATCH", &path, &[], &bytes[..size]);
                assert_eq!(reply.status, 202, "{reply:?}");
            }
            paths.push(path);
            at.push(size);
        }
    }
    assert_eq!(files(&folder.path().join("uploads")), 4, "three uploads and a note");
    let registry = Registry::start(folder.path());
    let digest = Digest::of(&bytes);
    for (path, at) in paths.iter().zip(at) {
        let path = with_query(path, &format!("digest={digest}"));
        let range = format!("{at}-{}", bytes.len() - 1);
        let reply = registry.client.ask("PUT", &path, &[("Content-Range", &range)], &bytes[at..]);
        assert_eq!(reply.status, 201, "{at}: {reply:?}");
    }
    assert_eq!(files(&folder.path().join("uploads")), 0);
    drop(registry);
    is_clean(folder.path());
}

#[test]
fn an_upload_is_read_again_after_the_machine_went_down() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..9_000_000_u32).map(|n| (n >> 5) as u8).collect();
    for (boot, wanted) in [("this one", 201), ("another", 400)] {
        let registry = Registry::start(folder.path());
        let path = begin(&registry.client);
        assert_eq!(registry.client.ask("PATCH", &path, &[], &bytes).status, 202);
        drop(registry);
        // What a disk may make of bytes that nobody waited for.
        let id = path.rsplit('/').next().unwrap();
        let uploads = std::fs::read_dir(folder.path().join("uploads")).unwrap();
        let mut paths = uploads.map(|entry| entry.unwrap().path());
        let is_upload = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(id) && !name.ends_with(".state")
        };
        if boot == "another" {
            let file = std::fs::File::options().write(true).open(paths.find(is_upload).unwrap());
            std::os::unix::fs::FileExt::write_at(&file.unwrap(), &[0; 4096], 40_960).unwrap();
        }
        let mut options = options(folder.path());
        options.boot = boot.to_owned();
        let registry = Registry::with(options);
        let digest = format!("digest={}", Digest::of(&bytes));
        let reply = registry.client.ask("PUT", &with_query(&path, &digest), &[], b"");
        assert_eq!(reply.status, wanted, "{reply:?}");
    }
}

#[test]
fn ten_thousand_half_finished_uploads_cost_little_and_expire() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let open_files = || files(Path::new("/proc/self/fd"));
    let before = open_files();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_500 {
                    let path = begin(&registry.client);
                    let reply = registry.client.ask("PATCH", &path, &[], b"half of");
                    assert_eq!(reply.status, 202);
                }
            });
        }
    });
    assert_eq!(files(&folder.path().join("uploads")), 10_000);
    // Other tests of this process have files open too.
    assert!(open_files() < before + 1_500, "{} files are open", open_files());
    registry.client.push_image("app", "1", b"layer");
    drop(registry);
    let mut options = options(folder.path());
    options.times.upload_expiry = Duration::from_millis(1);
    options.times.gc_interval = Duration::from_millis(10);
    let registry = Registry::with(options);
    until("they do not expire", || files(&folder.path().join("uploads")) == 0);
    assert_eq!(registry.client.get("/v2/app/manifests/1").status, 200);
}

#[test]
fn a_single_request_that_ends_early_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let client = &registry.client;
    let digest = Digest::of(b"x");
    let mut stream = client.connect().unwrap();
    let path = format!("/v2/app/blobs/uploads/?digest={digest}");
    let head = client.head("POST", &path, &[("Content-Length", "1000000")]);
    stream.write_all(format!("{head}\r\nsome bytes").as_bytes()).unwrap();
    until("it does not begin", || gauge(client, "conex_registry_uploads_running") == 1);
    drop(stream);
    until("it leaves a file", || files(&folder.path().join("uploads")) == 0);
}

#[test]
fn slow_clients_and_floods_of_headers_are_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.limits.head_wait = Duration::from_millis(300);
    options.limits.stall_wait = Duration::from_millis(300);
    let registry = Registry::with(options);
    let client = &registry.client;
    let mut slow = client.connect().unwrap();
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nHost: ").unwrap();
    let mut rest = Vec::new();
    // It is closed, with or without a word.
    let _ = slow.read_to_end(&mut rest);
    let mut flood = client.connect().unwrap();
    flood.write_all(b"GET /v2/ HTTP/1.1\r\n").unwrap();
    let line = format!("X-Flood: {}\r\n", "x".repeat(1_000));
    while flood.write_all(line.as_bytes()).is_ok() {}
    // A body that stands still.
    let path = begin(client);
    let mut stalled = client.connect().unwrap();
    let head = client.head("PATCH", &path, &[("Content-Length", "100")]);
    stalled.write_all(format!("{head}\r\n0123456789").as_bytes()).unwrap();
    let reply = read_reply(&mut BufReader::new(stalled), "PATCH").unwrap();
    assert_eq!(reply.status, 408, "{reply:?}");
    assert_eq!(client.get(&path).header("range"), Some("0-9"));
    // One that moves, but so slowly that it would keep its turn for days.
    let path = begin(client);
    let mut drip = client.connect().unwrap();
    let head = client.head("PATCH", &path, &[("Content-Length", "1000000")]);
    drip.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut sent = 0;
    // It is told after the time has passed, and then refused.
    while sent < 200 && drip.write_all(b"x").is_ok() {
        sent += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!((5..200).contains(&sent), "{sent} bytes were taken");
    // One that reads nothing of what it asked for.
    let big = client.push_blob("app", &vec![7; 40_000_000]);
    let mut deaf = client.connect().unwrap();
    let head = client.head("GET", &format!("/v2/app/blobs/{big}"), &[]);
    deaf.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // Only the one that asks for the number itself is left.
    until("it is not given up", || gauge(client, "conex_registry_connections") == 1);
    assert_eq!(client.get("/v2/").status, 200);
}

#[test]
fn a_blob_whose_file_is_lost_is_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    let client = &registry.client;
    client.push_image("app", "1", b"layer");
    let digest = Digest::of(b"layer");
    let path = format!("/v2/app/blobs/{digest}");
    let place = folder.path().join("blobs/sha256").join(&digest.hex()[..2]);
    for file in std::fs::read_dir(place).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert_eq!(client.get(&path).status, 404);
    assert!(registry.trouble.lock().unwrap().iter().any(|line| line.contains("gone or damaged")));
    assert_eq!(client.ask("HEAD", &path, &[], b"").status, 404, "a client must send it again");
    assert!(!check(folder.path(), Repair::No, now()).unwrap().is_clean());
    client.push_image("app", "1", b"layer");
    assert_eq!(client.get(&path).body, b"layer");
    drop(registry);
    is_clean(folder.path());
}

#[test]
fn a_check_finds_what_is_damaged_and_mends_what_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path());
    registry.client.push_image("app", "1", b"layer");
    let busy = check(folder.path(), Repair::Yes, now()).unwrap_err();
    assert_eq!(busy.kind(), conex_registry::ErrorKind::Busy);
    is_clean(folder.path());
    drop(registry);
    let digest = Digest::of(b"layer");
    let place = folder.path().join("blobs/sha256").join(&digest.hex()[..2]);
    let file = std::fs::read_dir(&place).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&file, b"LAYER").unwrap();
    std::fs::write(place.join(format!("{}.left", digest.hex())), b"left over").unwrap();
    let report = check(folder.path(), Repair::No, now()).unwrap();
    assert_eq!(report.damages.len(), 2, "{report:?}");
    let report = check(folder.path(), Repair::Yes, now()).unwrap();
    assert_eq!(report.damages.iter().filter(|damage| damage.is_mended).count(), 1, "{report:?}");
    let registry = Registry::start(folder.path());
    registry.client.push_image("app", "2", b"layer");
    drop(registry);
    // The damaged file is left over now.
    check(folder.path(), Repair::Yes, now()).unwrap();
    is_clean(folder.path());
    let error = check(&folder.path().join("none"), Repair::No, now()).unwrap_err();
    assert_eq!(error.kind(), conex_registry::ErrorKind::Invalid);
}

#[test]
fn pushes_and_the_collector_never_lose_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.times.lease = Duration::from_millis(150);
    options.times.history = Duration::from_millis(100);
    options.times.gc_interval = Duration::from_millis(5);
    let registry = Registry::with(options);
    let client = &registry.client;
    let (acked, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let ends = Instant::now() + Duration::from_secs(6);
    std::thread::scope(|scope| {
        for worker in 0..8_u64 {
            let (acked, refused) = (&acked, &refused);
            scope.spawn(move || {
                let mut state = worker + 1;
                let mut draw = |below: u64| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(worker | 1);
                    (state >> 33) % below
                };
                while Instant::now() < ends {
                    let repository = format!("app/{}", draw(3));
                    let layer = format!("shared layer {}", draw(6));
                    let tag = format!("t{}", draw(4));
                    let bytes = client.push_parts(&repository, layer.as_bytes());
                    if draw(4) == 0 {
                        std::thread::sleep(Duration::from_millis(draw(200)));
                    }
                    let reply = client.push_manifest(&repository, &tag, MANIFEST, &bytes);
                    match reply.status {
                        201 => acked.fetch_add(1, Ordering::Relaxed),
                        // Its lease had ended: the client is told, and would push again.
                        400 if reply.code() == "MANIFEST_BLOB_UNKNOWN" => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        _ => panic!("{reply:?}"),
                    };
                    let path = format!("/v2/{repository}/blobs/{}", Digest::of(layer.as_bytes()));
                    let blob = client.get(&path);
                    let tagged = client.get(&format!("/v2/{repository}/manifests/{tag}"));
                    // Unless another one moved the tag and enough time went by since.
                    assert!(
                        blob.body == layer.as_bytes() || tagged.body != bytes,
                        "{path}: {blob:?}"
                    );
                    if draw(3) == 0 {
                        client.delete(&format!("/v2/{repository}/manifests/{tag}"));
                    }
                }
            });
        }
    });
    assert!(acked.load(Ordering::Relaxed) > 50, "{acked:?} {refused:?}");
    assert!(gauge(client, "conex_registry_gc_manifests_total") > 0, "nothing was collected");
    // What is tagged now is whole.
    for repository in client.get("/v2/_catalog").json()["repositories"].as_array().unwrap() {
        let repository = repository.as_str().unwrap();
        let tags = client.get(&format!("/v2/{repository}/tags/list")).json();
        for tag in tags["tags"].as_array().unwrap() {
            let path = format!("/v2/{repository}/manifests/{}", tag.as_str().unwrap());
            for layer in client.get(&path).json()["layers"].as_array().unwrap() {
                let path = format!("/v2/{repository}/blobs/{}", layer["digest"].as_str().unwrap());
                assert_eq!(client.get(&path).status, 200, "{path}");
            }
        }
    }
    assert_eq!(*registry.trouble.lock().unwrap(), Vec::<String>::new());
    drop(registry);
    is_clean(folder.path());
}

/// A small file system in memory; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => {
                eprintln!("skipped: no file system can be mounted here");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A folder of /tmp with a small file system in it harms nobody.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_and_breaks_nothing() {
    let Some(disk) = SmallDisk::new() else { return };
    let mut options = options(disk.0.path());
    options.durability = Durability::Synced;
    options.times.lease = Duration::from_millis(100);
    options.times.gc_interval = Duration::from_millis(20);
    let registry = Registry::with(options);
    let client = &registry.client;
    let kept = client.push_image("app", "1", b"layer");
    let mut full = 0;
    for number in 0..40_u32 {
        let bytes: Vec<u8> =
            (0..300_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8 ^ number as u8).collect();
        let begun = client.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
        if begun.status == 202 {
            let path = with_query(&begun.location(), &format!("digest={}", Digest::of(&bytes)));
            let reply = client.ask("PUT", &path, &[], &bytes);
            assert!([201, 507].contains(&reply.status), "{reply:?}");
            full += u32::from(reply.status == 507);
            client.delete(&begun.location());
        } else {
            assert_eq!(begun.status, 507, "{begun:?}");
            full += 1;
        }
        assert_eq!(client.get(&format!("/v2/app/manifests/{kept}")).status, 200);
    }
    assert!(full > 0, "the disk was never full");
    // What nothing uses is collected, and there is room again.
    until("there is no room", || {
        let begun = client.ask("POST", "/v2/app/blobs/uploads/", &[], b"");
        let bytes = vec![1; 300_000];
        let path = with_query(&begun.location(), &format!("digest={}", Digest::of(&bytes)));
        begun.status == 202 && client.ask("PUT", &path, &[], &bytes).status == 201
    });
    drop(registry);
    is_clean(disk.0.path());
}
