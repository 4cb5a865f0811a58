//! What all tests share: clients, clocks, images to move.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use conex_oci::{BlobSink, BlobSource, Compression, Descriptor, Digest, Manifest, MediaType};
use conex_remote::{
    Client, ClientOptions, Clock, CopyOptions, ImageSink, ImageSource, SystemClock, Timeouts,
    Transfers,
};

/// A clock whose waits take no time but are remembered, and which can be set forward.
#[derive(Default)]
pub(crate) struct TestClock {
    pub(crate) slept: Mutex<Vec<Duration>>,
    pub(crate) ahead: Mutex<Duration>,
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        SystemTime::now() + *self.ahead.lock().unwrap()
    }

    fn ticks(&self) -> Duration {
        SystemClock.ticks()
    }

    fn sleep(&self, duration: Duration) {
        self.slept.lock().unwrap().push(duration);
        // Faults of a moment may need a moment.
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn options() -> ClientOptions {
    let timeouts = Timeouts {
        connect: Duration::from_secs(10),
        idle: Duration::from_secs(2),
        commit: Duration::from_secs(20),
    };
    let clock = Arc::new(TestClock::default());
    // Loopback is fast, but parallel ranges are to be tested.
    let transfers = Transfers { ranges_rate_max: u64::MAX, ..Transfers::default() };
    ClientOptions { clock, timeouts, transfers, ..ClientOptions::new("conex-test/1") }
}

pub(crate) fn client() -> Client {
    Client::new(options())
}

/// Bytes that do not repeat and do not compress.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub(crate) fn blob_of(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OciLayer(Compression::Gzip), bytes)
}

pub(crate) fn read_all(mut reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An image in memory: a source and a sink.
#[derive(Default)]
pub(crate) struct MemoryImage {
    pub(crate) root: Mutex<Option<Descriptor>>,
    pub(crate) manifests: Mutex<HashMap<Digest, (Descriptor, Vec<u8>)>>,
    pub(crate) blobs: Mutex<HashMap<Digest, Vec<u8>>>,
    pub(crate) tags: Mutex<Vec<String>>,
    pub(crate) referrers: Mutex<HashMap<Digest, Vec<Descriptor>>>,
}

impl MemoryImage {
    pub(crate) fn add_blob(&self, bytes: Vec<u8>, media_type: MediaType) -> Descriptor {
        let blob = Descriptor::of(media_type, &bytes);
        self.blobs.lock().unwrap().insert(blob.digest.clone(), bytes);
        blob
    }

    pub(crate) fn add_manifest(&self, media_type: MediaType, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::of(media_type, &bytes);
        let entry = (descriptor.clone(), bytes);
        self.manifests.lock().unwrap().insert(descriptor.digest.clone(), entry);
        descriptor
    }

    /// An image with layers of the given sizes.
    pub(crate) fn with_layers(sizes: &[usize], seed: u64) -> Self {
        let image = Self::default();
        let config =
            format!(r#"{{"os":"linux","seed":{seed},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#);
        let config = image.add_blob(config.into_bytes(), MediaType::OciConfig);
        let layers = sizes.iter().enumerate().map(|(at, size)| {
            let bytes = noise(*size, seed + at as u64 + 1);
            image.add_blob(bytes, MediaType::OciLayer(Compression::Gzip))
        });
        let manifest = Manifest::new(config, layers.collect());
        let root = image.add_manifest(MediaType::OciManifest, manifest.to_bytes());
        *image.root.lock().unwrap() = Some(root);
        image
    }

    pub(crate) fn root_descriptor(&self) -> Descriptor {
        self.root.lock().unwrap().clone().unwrap()
    }
}

impl BlobSource for MemoryImage {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let bytes = self.blobs.lock().unwrap().get(&blob.digest).cloned();
        Ok(Box::new(io::Cursor::new(bytes.ok_or(io::ErrorKind::NotFound)?)))
    }
}

impl BlobSink for MemoryImage {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.blobs.lock().unwrap().contains_key(&blob.digest))
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        conex_oci::VerifyReader::new(body, blob).read_to_end(&mut bytes)?;
        self.blobs.lock().unwrap().insert(blob.digest.clone(), bytes);
        Ok(())
    }
}

impl ImageSource for MemoryImage {
    fn root(&self) -> io::Result<Descriptor> {
        Ok(self.root_descriptor())
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let manifests = self.manifests.lock().unwrap();
        Ok(manifests.get(&descriptor.digest).ok_or(io::ErrorKind::NotFound)?.1.clone())
    }

    fn referrers(&self, subject: &Digest) -> io::Result<Vec<Descriptor>> {
        Ok(self.referrers.lock().unwrap().get(subject).cloned().unwrap_or_default())
    }
}

impl ImageSink for MemoryImage {
    fn put_manifest(&self, descriptor: &Descriptor, bytes: &[u8], tags: &[&str]) -> io::Result<()> {
        self.add_manifest(descriptor.media_type.clone(), bytes.to_vec());
        *self.root.lock().unwrap() = Some(descriptor.clone());
        self.tags.lock().unwrap().extend(tags.iter().map(|tag| (*tag).to_owned()));
        Ok(())
    }
}

pub(crate) fn copy_options(tag: &str) -> CopyOptions {
    CopyOptions { tags: vec![tag.to_owned()], ..CopyOptions::new(3, 0) }
}

/// Says aloud that a test cannot run here; in CI, where everything needed is installed, fails.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI this must run: {why}");
    eprintln!("skipped: {why}");
}
