//! Blobs that are sent while they are made.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use conex_oci::{Compression, Descriptor, MediaType};
use conex_remote::{ErrorKind, GrowingBlob, Grown, Pushed};

use crate::fake::{Answer, Asked, Fake, registry, registry_with};
use crate::support::{client, noise};

/// Bytes of which only the first are there.
struct Made {
    bytes: Vec<u8>,
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Made {
    fn new(size: usize) -> Self {
        let state = Mutex::new((0, false));
        Self { bytes: noise(size, 17), state, changed: Condvar::new() }
    }

    fn blob(&self) -> Descriptor {
        Descriptor::of(MediaType::OciLayer(Compression::Gzip), &self.bytes)
    }

    fn make(&self, size: usize) {
        self.state.lock().unwrap().0 = size;
        self.changed.notify_all();
    }

    fn finish(&self) {
        self.make(self.bytes.len());
    }

    fn fail(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn wait(&self, size: usize) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        loop {
            match *state {
                (_, true) => return Err(io::Error::other("the disk is full")),
                (made, _) if made >= size || made == self.bytes.len() => return Ok(made),
                _ => state = self.changed.wait(state).unwrap(),
            }
        }
    }
}

impl GrowingBlob for Made {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(Tail { made: self, offset: usize::try_from(offset).unwrap() }))
    }

    fn grown_to(&self, size: u64) -> io::Result<Grown> {
        let made = self.wait(usize::try_from(size).unwrap_or(usize::MAX))?;
        let blob = (made == self.bytes.len()).then(|| self.blob());
        Ok(Grown { size: made as u64, blob })
    }
}

struct Tail<'m> {
    made: &'m Made,
    offset: usize,
}

impl Read for Tail<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let made = self.made.wait(self.offset + 1)?;
        let count = buffer.len().min(made - self.offset);
        buffer[..count].copy_from_slice(&self.made.bytes[self.offset..self.offset + count]);
        self.offset += count;
        Ok(count)
    }
}

/// Waits until something is so. Whoever waits for the blob is let go when it never is.
fn wait_for(made: &Made, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > Duration::from_secs(60) {
            made.fail();
            panic!("waited in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn arrived(made: &Made, fake: &Fake, count: usize) {
    let received = || fake.chunks.received.load(Ordering::SeqCst);
    wait_for(made, "bytes before the end", || received() >= count);
}

/// What a request was, with its ranges and the way its length was told.
fn shown(asked: &Asked) -> String {
    let path = asked.path().rsplit_once("/blobs/").map_or("", |(_, rest)| rest);
    let path = if path.starts_with("sha256") { "DIGEST" } else { path };
    let chunked = asked.header("transfer-encoding").map_or("", |_| " chunked");
    let range = asked.header("content-range").map(|range| format!(" {range}"));
    format!("{} {path}{chunked}{}", asked.method, range.unwrap_or_default())
}

fn requests(fake: &Fake) -> Vec<String> {
    let asked = fake.asked();
    asked.iter().filter(|asked| asked.path() != "/v2/").map(shown).collect()
}

#[test]
fn a_blob_is_sent_while_it_is_made() {
    let (fake, content) = registry();
    let made = Made::new(9 << 20);
    let repository = client().repository(&fake.reference("a"));
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| repository.push_growing(&made).unwrap());
        made.make(6 << 20);
        arrived(&made, &fake, 5 << 20);
        made.finish();
        assert_eq!(pushed.join().unwrap(), (made.blob(), Pushed::Sent));
    });
    assert!(content.lock().unwrap().blobs[made.blob().digest.as_str()] == made.bytes);
    assert_eq!(requests(&fake), ["POST uploads/", "PATCH uploads/u1 chunked", "PUT uploads/u1"]);
}

#[test]
fn a_small_blob_is_looked_for_before_it_is_sent() {
    let (fake, content) = registry();
    let made = Made::new(1 << 20);
    content.lock().unwrap().add_blob(&made.bytes);
    made.finish();
    let repository = client().repository(&fake.reference("a"));
    assert_eq!(repository.push_growing(&made).unwrap(), (made.blob(), Pushed::Existed));
    assert_eq!(requests(&fake), ["HEAD DIGEST"]);
}

#[test]
fn after_a_break_only_what_is_missing_is_sent() {
    let (fake, content) = registry();
    fake.chunks.cut_at.store(3 << 20, Ordering::SeqCst);
    let made = Made::new(40 << 20);
    let repository = client().repository(&fake.reference("a"));
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| repository.push_growing(&made).unwrap());
        made.make(20 << 20);
        let patches = || fake.asked().iter().filter(|asked| asked.method == "PATCH").count();
        wait_for(&made, "a second request", || patches() == 2);
        made.finish();
        assert_eq!(pushed.join().unwrap(), (made.blob(), Pushed::Sent));
    });
    assert!(content.lock().unwrap().blobs[made.blob().digest.as_str()] == made.bytes);
    let patches: Vec<Asked> =
        fake.asked().into_iter().filter(|asked| asked.method == "PATCH").collect();
    let sent: usize = patches.iter().map(|asked| asked.body.len()).sum();
    assert_eq!(sent, made.bytes.len(), "not a byte twice");
    let first = patches[0].body.len();
    let wanted = [
        "PATCH uploads/u1 chunked".to_owned(),
        format!("PATCH uploads/u1 {first}-{}", (20 << 20) - 1),
        format!("PATCH uploads/u1 {}-{}", 20 << 20, (40 << 20) - 1),
    ];
    assert_eq!(patches.iter().map(shown).collect::<Vec<_>>(), wanted);
}

#[test]
fn an_upload_that_the_registry_forgot_is_begun_again() {
    let (fake, content) = registry_with(|asked, content| {
        // Whatever a broken request brought is lost, and the upload with it.
        let broke = asked.method == "PATCH" && asked.body.len() < 9 << 20;
        broke.then(|| {
            content.lock().unwrap().uploads.clear();
            Answer::new(0)
        })
    });
    fake.chunks.cut_at.store(6 << 20, Ordering::SeqCst);
    let made = Made::new(9 << 20);
    let repository = client().repository(&fake.reference("a"));
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| repository.push_growing(&made).unwrap());
        made.make(8 << 20);
        arrived(&made, &fake, 6 << 20);
        made.finish();
        assert_eq!(pushed.join().unwrap(), (made.blob(), Pushed::Sent));
    });
    assert!(content.lock().unwrap().blobs[made.blob().digest.as_str()] == made.bytes);
}

#[test]
fn what_turns_out_to_be_there_is_sent_no_further() {
    let (fake, content) = registry();
    let made = Made::new(60 << 20);
    content.lock().unwrap().add_blob(&made.bytes);
    let repository = client().repository(&fake.reference("a"));
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| repository.push_growing(&made).unwrap());
        made.make(6 << 20);
        arrived(&made, &fake, 5 << 20);
        made.finish();
        assert_eq!(pushed.join().unwrap(), (made.blob(), Pushed::Existed));
    });
    assert!(fake.chunks.received.load(Ordering::SeqCst) < 20 << 20);
    assert!(content.lock().unwrap().uploads.is_empty(), "the upload was cancelled");
}

#[test]
fn a_server_that_wants_a_length_gets_one() {
    let (fake, content) =
        registry_with(|asked, _| asked.header("transfer-encoding").map(|_| Answer::new(411)));
    let made = Made::new(9 << 20);
    made.finish();
    let repository = client().repository(&fake.reference("a"));
    // All of it is there: no chunks are needed.
    assert_eq!(repository.push_growing(&made).unwrap().1, Pushed::Sent);
    content.lock().unwrap().blobs.clear();
    let second = Made::new(9 << 20);
    second.make(5 << 20);
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| repository.push_growing(&second).unwrap());
        arrived(&second, &fake, 4 << 20);
        second.finish();
        assert_eq!(pushed.join().unwrap(), (second.blob(), Pushed::Sent));
    });
    assert!(content.lock().unwrap().blobs[second.blob().digest.as_str()] == second.bytes);
}

#[test]
fn what_cannot_be_made_is_named_and_leaves_no_upload() {
    let (fake, content) = registry();
    let made = Made::new(9 << 20);
    let repository = client().repository(&fake.reference("a"));
    std::thread::scope(|scope| {
        let pushed = scope.spawn(|| repository.push_growing(&made).unwrap_err());
        made.make(6 << 20);
        arrived(&made, &fake, 5 << 20);
        made.fail();
        let error = pushed.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Local, "{error:?}");
        assert!(format!("{error:?}").contains("the disk is full"), "{error:?}");
    });
    assert!(content.lock().unwrap().uploads.is_empty());
}
