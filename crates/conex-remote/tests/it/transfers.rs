//! Transfers that are interrupted, and what they cost.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use conex_oci::{BlobSink, Descriptor, Digest, Index, MediaType, Platform};
use conex_remote::{
    Client, ClientOptions, CopyOptions, ErrorKind, ImageSink, MemoryPartials, PartialStore, Pushed,
    Referrers, Transfers, copy,
};
use conex_report::{Discard, Event, Outcome, Reporter};

use crate::fake::{Answer, Asked, registry, registry_with};
use crate::support::{MemoryImage, blob_of, client, copy_options, noise, options, read_all};

fn serial() -> Client {
    Client::new(ClientOptions {
        transfers: Transfers { blobs: 1, ranges: 1, ranges_rate_max: 0 },
        ..options()
    })
}

#[test]
fn a_download_goes_on_where_it_broke() {
    let breaks = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        let (_, digest) = asked.path().split_once("/blobs/")?;
        let bytes = content.lock().unwrap().blobs.get(digest)?.clone();
        let mut answer = Answer::blob(asked, &bytes);
        // Twenty connections break after 100 kB each.
        if breaks.fetch_add(1, Ordering::Relaxed) < 20 {
            answer.cut_at = Some(100_000);
        }
        Some(answer)
    });
    let bytes = noise(3_000_000, 1);
    let blob = content.lock().unwrap().add_blob(&bytes);
    // Progress of less than a mebibyte uses attempts up, so there must be enough of them.
    let mut options = options();
    options.retry.attempts = 25;
    options.transfers.ranges = 1;
    let repository = Client::new(options).repository(&fake.reference("a"));
    assert!(read_all(repository.open_blob(&blob).unwrap()).unwrap() == bytes);
    let starts: Vec<usize> =
        fake.asked().iter().filter_map(|asked| Some(asked.range()?.0)).collect();
    assert_eq!(starts.len(), 20);
    assert!(starts.is_sorted() && starts.iter().all(|start| *start > 0), "{starts:?}");
}

#[test]
fn a_large_download_survives_breaks_with_few_extra_bytes() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        let (_, digest) = asked.path().split_once("/blobs/")?;
        let bytes = content.lock().unwrap().blobs.get(digest)?.clone();
        let mut answer = Answer::blob(asked, &bytes);
        if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            answer.cut_at = Some(2_500_000);
        }
        counted.fetch_add(answer.cut_at.unwrap_or(answer.body.len()), Ordering::Relaxed);
        Some(answer)
    });
    let bytes = noise(40_000_000, 2);
    let blob = content.lock().unwrap().add_blob(&bytes);
    // With the usual number of attempts: each connection makes progress.
    let repository = serial().repository(&fake.reference("a"));
    assert!(read_all(repository.open_blob(&blob).unwrap()).unwrap() == bytes);
    assert!(fake.asked().len() >= 3);
    // Not a byte twice.
    assert_eq!(sent.load(Ordering::Relaxed), 40_000_000);
}

#[test]
fn large_blobs_come_over_several_connections_in_order() {
    let (fake, content) = registry();
    let bytes = noise(37_000_001, 3);
    let blob = content.lock().unwrap().add_blob(&bytes);
    let repository = client().repository(&fake.reference("a"));
    assert!(read_all(repository.open_blob(&blob).unwrap()).unwrap() == bytes);
    let ranged = fake.asked().iter().filter(|asked| asked.range().is_some()).count();
    assert_eq!(ranged, 37_000_001_usize.div_ceil(2 << 20));
    // From the middle, too.
    let rest = read_all(repository.open_blob_at(&blob, 17_000_000).unwrap()).unwrap();
    assert!(rest == bytes[17_000_000..]);
    // Where one connection is fast enough, there is only one.
    let before = fake.asked().len();
    let mut fast = options();
    fast.transfers.ranges_rate_max = 0;
    let one = Client::new(fast).repository(&fake.reference("a"));
    assert!(read_all(one.open_blob(&blob).unwrap()).unwrap() == bytes);
    let lines = fake.asked().split_off(before);
    assert_eq!(lines.iter().filter(|asked| asked.range().is_some()).count(), 2);
    // A reader that is dropped half-way leaves no thread behind: the drop waits for them.
    let mut reader = repository.open_blob(&blob).unwrap();
    reader.read_exact(&mut [0; 100]).unwrap();
}

#[test]
fn pieces_that_break_are_fetched_again_and_a_dead_server_is_named() {
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        let (_, digest) = asked.path().split_once("/blobs/")?;
        let bytes = content.lock().unwrap().blobs.get(digest)?.clone();
        let mut answer = Answer::blob(asked, &bytes);
        match count.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => answer.cut_at = Some(1000),
            1 => answer = Answer::new(503),
            _ => {}
        }
        Some(answer)
    });
    let bytes = noise(20_000_000, 4);
    let blob = content.lock().unwrap().add_blob(&bytes);
    let mut patient = options();
    patient.retry.attempts = 50;
    let repository = Client::new(patient).repository(&fake.reference("a"));
    assert!(read_all(repository.open_blob(&blob).unwrap()).unwrap() == bytes);

    let first = AtomicUsize::new(0);
    let (dying, content) = registry_with(move |asked, content| {
        let (_, digest) = asked.path().split_once("/blobs/")?;
        let bytes = content.lock().unwrap().blobs.get(digest)?.clone();
        match first.fetch_add(1, Ordering::Relaxed) {
            0 => Some(Answer::blob(asked, &bytes)),
            _ => Some(Answer::new(500)),
        }
    });
    let blob = content.lock().unwrap().add_blob(&noise(20_000_000, 4));
    let repository = client().repository(&dying.reference("a"));
    let error = read_all(repository.open_blob(&blob).unwrap()).unwrap_err();
    let error = conex_remote::Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        let (_, digest) = asked.path().split_once("/blobs/")?;
        let bytes = content.lock().unwrap().blobs.get(digest)?.clone();
        let mut answer = Answer::new(200).body(bytes);
        if count.fetch_add(1, Ordering::Relaxed) < 2 {
            answer.cut_at = Some(9_000_000);
        }
        Some(answer)
    });
    let bytes = noise(20_000_000, 5);
    let blob = content.lock().unwrap().add_blob(&bytes);
    let repository = client().repository(&fake.reference("a"));
    assert!(read_all(repository.open_blob(&blob).unwrap()).unwrap() == bytes);
    assert_eq!(fake.asked().iter().filter(|asked| asked.path().contains("/blobs/")).count(), 3);
}

/// A sink that keeps partials.
#[derive(Default)]
struct Keeping {
    inner: MemoryImage,
    partials: MemoryPartials,
}

impl BlobSink for Keeping {
    fn has(&self, blob: &Descriptor) -> std::io::Result<bool> {
        Ok(self.partials.whole(&blob.digest).is_some() || self.inner.has(blob)?)
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn std::io::Read) -> std::io::Result<()> {
        assert!(blob.size < 1 << 20, "large blobs come in through the partials");
        self.inner.put(blob, body)
    }
}

impl ImageSink for Keeping {
    fn put_manifest(
        &self,
        descriptor: &Descriptor,
        bytes: &[u8],
        tags: &[&str],
    ) -> std::io::Result<()> {
        self.inner.put_manifest(descriptor, bytes, tags)
    }

    fn partials(&self) -> Option<&dyn PartialStore> {
        Some(&self.partials)
    }
}

#[test]
fn a_pull_that_died_goes_on_in_the_next_process() {
    let dead = Arc::new(AtomicUsize::new(1));
    let state = Arc::clone(&dead);
    let (fake, content) = registry_with(move |asked, content| {
        let (_, digest) = asked.path().split_once("/blobs/")?;
        let bytes = content.lock().unwrap().blobs.get(digest)?.clone();
        if bytes.len() < 1000 || state.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // The first megabyte comes, then nothing ever again.
        let start = asked.range().map_or(0, |(start, _)| start);
        if start > 0 {
            return Some(Answer::new(502));
        }
        let mut answer = Answer::blob(asked, &bytes);
        answer.cut_at = Some(1_000_000);
        Some(answer)
    });
    let image = MemoryImage::with_layers(&[3_000_000], 6);
    let repository = client().repository(&fake.reference("a:1"));
    copy(&image, &repository, &copy_options("1"), &Discard).unwrap();
    let sink = Keeping::default();
    let error = copy(&repository, &sink, &copy_options("1"), &Discard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(sink.inner.root.lock().unwrap().is_none(), "no manifest before its blobs");
    let layer = blob_of(&noise(3_000_000, 7));
    let kept = sink.partials.kept(&layer.digest).unwrap().len();
    assert_eq!(kept, 1_000_000);

    dead.store(0, Ordering::Relaxed);
    let second = client().repository(&fake.reference("a:1"));
    let copied = copy(&second, &sink, &copy_options("1"), &Discard).unwrap();
    assert!((2_000_000..2_001_000).contains(&copied.bytes), "{}", copied.bytes);
    assert!(sink.partials.whole(&layer.digest).is_some());
    let _ = content;
}

#[test]
fn a_blob_of_which_all_is_there_is_not_asked_for_again() {
    let (fake, _) = registry_with(|_, _| None);
    let image = MemoryImage::with_layers(&[1000], 9);
    let repository = client().repository(&fake.reference("a:1"));
    copy(&image, &repository, &copy_options("1"), &Discard).unwrap();
    let mut rest = Vec::new();
    let blob = blob_of(&noise(1000, 10));
    repository.open_blob_at(&blob, 1000).unwrap().read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn an_upload_goes_on_where_it_broke() {
    // Breaks two of the requests after having taken a part of what they brought.
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        if asked.method != "PATCH" {
            return None;
        }
        let taken = match count.fetch_add(1, Ordering::Relaxed) {
            0 => 6_000_000,
            1 => 1_500_000,
            _ => return None,
        };
        let cut = Asked { body: asked.body[..taken].to_vec(), ..asked.clone() };
        content.lock().unwrap().answer(&cut);
        Some(Answer::default())
    });
    let bytes = noise(10_000_000, 8);
    let blob = blob_of(&bytes);
    let opened = Mutex::new(Vec::new());
    let repository = client().repository(&fake.reference("a"));
    let pushed = repository.push_blob(&blob, None, &|offset| {
        opened.lock().unwrap().push(offset);
        Ok(Box::new(std::io::Cursor::new(bytes[usize::try_from(offset).unwrap()..].to_vec())))
    });
    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert_eq!(*opened.lock().unwrap(), [0, 6_000_000, 7_500_000]);
    assert!(content.lock().unwrap().blobs[blob.digest.as_str()] == bytes);
    let ranges: Vec<_> = fake
        .asked()
        .iter()
        .filter(|asked| asked.method == "PATCH")
        .map(|asked| asked.header("content-range").unwrap_or("-").to_owned())
        .collect();
    assert_eq!(ranges, ["-", "6000000-9999999", "7500000-9999999"]);
}

#[test]
fn an_upload_that_the_registry_lost_is_begun_again() {
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        if asked.method != "PATCH" || count.fetch_add(1, Ordering::Relaxed) > 0 {
            return None;
        }
        content.lock().unwrap().uploads.clear();
        Some(Answer::default())
    });
    let bytes = noise(6_000_000, 9);
    let blob = blob_of(&bytes);
    let repository = client().repository(&fake.reference("a"));
    repository
        .push_blob(&blob, None, &|at| {
            Ok(Box::new(std::io::Cursor::new(bytes[usize::try_from(at).unwrap()..].to_vec())))
        })
        .unwrap();
    assert!(content.lock().unwrap().blobs[blob.digest.as_str()] == bytes);
}

#[test]
fn a_chunk_that_broke_is_sent_from_where_the_registry_is() {
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        if asked.method != "PATCH" || count.fetch_add(1, Ordering::Relaxed) != 1 {
            return None;
        }
        let cut = Asked { body: asked.body[..1_000_000].to_vec(), ..asked.clone() };
        content.lock().unwrap().answer(&cut);
        Some(Answer::default())
    });
    let bytes = noise(20_000_000, 10);
    let repository = client().repository(&fake.reference("a"));
    let algorithm = conex_oci::Algorithm::Sha512;
    let (digest, _) = repository.push_stream(&mut bytes.as_slice(), algorithm).unwrap();
    assert!(content.lock().unwrap().blobs[digest.as_str()] == bytes);
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_repeated_in_vain() {
    let count = AtomicUsize::new(0);
    let (fake, content) = registry_with(move |asked, content| {
        if asked.method != "PUT" || !asked.path().contains("/blobs/") {
            return None;
        }
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            content.lock().unwrap().answer(asked);
        }
        Some(Answer::default())
    });
    let repository = client().repository(&fake.reference("a"));
    for size in [100, 5_000_000] {
        let bytes = noise(size, 11);
        let blob = blob_of(&bytes);
        let open = |_| -> std::io::Result<Box<dyn std::io::Read + Send>> {
            Ok(Box::new(std::io::Cursor::new(bytes.clone())))
        };
        if size == 100 {
            repository.push_blob(&blob, None, &open).unwrap();
            assert!(content.lock().unwrap().blobs.contains_key(blob.digest.as_str()));
        } else {
            assert_eq!(
                repository.push_blob(&blob, None, &open).unwrap_err().kind(),
                ErrorKind::Network
            );
        }
    }
}

#[test]
fn mounts_are_tried_and_refusals_are_no_failure() {
    let (fake, content) = registry_with(|asked, _| {
        // As Quay does for a mount without a source.
        (asked.query("mount").is_some() && asked.query("from").is_none())
            .then(|| Answer::json(400, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#))
    });
    let bytes = noise(1000, 12);
    let blob = content.lock().unwrap().add_blob(&bytes);
    let other = noise(1000, 13);
    let repository = client().repository(&fake.reference("a"));
    let unknown = blob_of(&other);
    let pushed = repository
        .push_blob(&unknown, None, &|_| Ok(Box::new(std::io::Cursor::new(other.clone()))));
    assert_eq!(pushed.unwrap(), Pushed::Sent);
    assert!(repository.mount_blob(&blob, Some("b")).unwrap());
    assert!(!repository.mount_blob(&blob_of(b"nowhere"), Some("b")).unwrap());
    assert!(content.lock().unwrap().uploads.is_empty(), "an unwanted upload is cancelled");
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Reporter for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

#[test]
fn a_platform_is_chosen_and_progress_is_told() {
    let (fake, _) = registry();
    let image = MemoryImage::default();
    let mut entries = Vec::new();
    for (at, platform) in ["linux/amd64", "linux/arm64"].iter().enumerate() {
        let part = MemoryImage::with_layers(&[300_000], 20 + at as u64);
        let mut entry = part.root_descriptor();
        entry.platform = Some(platform.parse().unwrap());
        entries.push(entry);
        image.blobs.lock().unwrap().extend(part.blobs.into_inner().unwrap());
        image.manifests.lock().unwrap().extend(part.manifests.into_inner().unwrap());
    }
    let index = Index::new(entries.clone());
    let root = image.add_manifest(MediaType::OciIndex, index.to_bytes());
    *image.root.lock().unwrap() = Some(root.clone());

    let repository = client().repository(&fake.reference("multi:1"));
    let recorder = Recorder::default();
    let whole = copy(&image, &repository, &copy_options("1"), &recorder).unwrap();
    assert_eq!((whole.root, whole.manifests, whole.sent), (root, 3, 4));
    let events = recorder.0.into_inner().unwrap();
    let done = |event: &&Event| matches!(event, Event::Finished { outcome: Outcome::Done, .. });
    assert_eq!(events.iter().filter(done).count(), 4);
    let ended = events.iter().any(|event| {
        matches!(event, Event::Progress { current: 300_000, total: Some(300_000), .. })
    });
    assert!(ended);

    let one = |platform: &str| {
        let platform: Platform = platform.parse().unwrap();
        let options = CopyOptions {
            platform: Some(platform),
            referrers: Referrers::Leave,
            ..copy_options("one")
        };
        copy(&repository, &MemoryImage::default(), &options, &Discard)
    };
    assert_eq!(one("linux/arm64").unwrap().root.digest, entries[1].digest);
    let error = one("linux/s390x").unwrap_err();
    assert_eq!(error.hint(), Some("it has linux/amd64, linux/arm64"));
}

#[test]
fn the_first_failure_stops_the_others() {
    let (fake, _) = registry_with(|asked, _| {
        let refused = asked.method == "PUT" && asked.path().contains("/uploads/");
        refused.then(|| Answer::json(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#))
    });
    let image = MemoryImage::with_layers(&[1000; 20], 30);
    let repository = client().repository(&fake.reference("a:1"));
    let error = copy(&image, &repository, &copy_options("1"), &Discard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let uploads = fake.asked().iter().filter(|asked| asked.method == "PUT").count();
    assert!(uploads <= 3, "{uploads}");
    assert!(fake.lines().iter().all(|line| !line.contains("PUT /v2/a/manifests")));
}

#[test]
fn a_false_source_is_named_and_nothing_is_tagged() {
    let (fake, content) = registry();
    let image = MemoryImage::with_layers(&[1000], 40);
    let layer = Digest::of(&noise(1000, 41));
    image.blobs.lock().unwrap().insert(layer.clone(), noise(1000, 99));
    let repository = client().repository(&fake.reference("a:1"));
    let error = copy(&image, &repository, &copy_options("1"), &Discard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error:?}");
    assert!(error.to_string().contains(layer.as_str()));
    assert!(content.lock().unwrap().manifests.is_empty());
}
