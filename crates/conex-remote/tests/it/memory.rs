//! Memory stays flat: a process of its own moves far more bytes than it may hold.

use std::io::{self, Read};
use std::process::Command;

use conex_oci::{Compression, Descriptor, Digest, Hasher, Manifest, MediaType};
use conex_remote::{CopyOptions, ImageSource, copy};
use conex_report::Discard;

use crate::docker_registry::Registry;
use crate::support::{MemoryImage, client, copy_options, noise};

/// What the project promises, whatever the size of the layers.
const MEMORY_MAX_KIB: u64 = 64 << 10;

const LAYER_SIZE: u64 = 80 << 20;
const LAYERS: u64 = 4;

/// Where the child process finds its registries; without it there is nothing to do.
const REGISTRIES: &str = "CONEX_TEST_MEMORY_REGISTRIES";

/// Makes the bytes of a layer as they are read.
struct Made {
    seed: u64,
    offset: u64,
    block: Vec<u8>,
}

impl Made {
    fn new(seed: u64) -> Self {
        Self { seed, offset: 0, block: noise(65_521, seed) }
    }
}

impl Read for Made {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from((self.offset + self.seed) % 65_521).unwrap();
        let left = usize::try_from(LAYER_SIZE - self.offset).unwrap();
        let count = left.min(buffer.len()).min(65_521 - start);
        buffer[..count].copy_from_slice(&self.block[start..start + count]);
        self.offset += count as u64;
        Ok(count)
    }
}

/// An image whose layers are made while they are read.
struct MadeImage {
    inner: MemoryImage,
    layers: Vec<(Descriptor, u64)>,
}

impl MadeImage {
    fn new() -> Self {
        let inner = MemoryImage::default();
        let config = inner.add_blob(b"{}".to_vec(), MediaType::OciConfig);
        let layers: Vec<(Descriptor, u64)> = (0..LAYERS)
            .map(|at| {
                let seed = at * 2 + 101;
                let mut hasher = Hasher::sha256();
                io::copy(&mut Made::new(seed), &mut hasher).unwrap();
                let kind = MediaType::OciLayer(Compression::None);
                (Descriptor::new(kind, hasher.finish(), LAYER_SIZE), seed)
            })
            .collect();
        let manifest = Manifest::new(config, layers.iter().map(|(l, _)| l.clone()).collect());
        let root = inner.add_manifest(MediaType::OciManifest, manifest.to_bytes());
        *inner.root.lock().unwrap() = Some(root);
        Self { inner, layers }
    }
}

impl conex_oci::BlobSource for MadeImage {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        match self.layers.iter().find(|(layer, _)| layer.digest == blob.digest) {
            Some((_, seed)) => Ok(Box::new(Made::new(*seed))),
            None => self.inner.open(blob),
        }
    }
}

impl ImageSource for MadeImage {
    fn root(&self) -> io::Result<Descriptor> {
        self.inner.root()
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        self.inner.manifest(descriptor)
    }
}

/// The most memory that this process ever had, in KiB.
fn memory_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The work of the child process.
#[test]
fn in_a_process_of_its_own() {
    let Ok(registries) = std::env::var(REGISTRIES) else { return };
    let (first, second) = registries.split_once(' ').unwrap();
    let image = MadeImage::new();
    let client = client();
    let options: CopyOptions = copy_options("1");
    let one = client.repository(&format!("{first}/big:1").parse().unwrap());
    let other = client.repository(&format!("{second}/big:1").parse().unwrap());
    copy(&image, &one, &options, &Discard).unwrap();
    let copied = copy(&one, &other, &options, &Discard).unwrap();
    assert_eq!(copied.bytes, LAYERS * LAYER_SIZE + 2);
    let blob = &image.layers[0].0;
    let mut sink = Hasher::sha256();
    io::copy(&mut other.open_blob(blob).unwrap(), &mut sink).unwrap();
    let got: Digest = sink.finish();
    assert_eq!(got, blob.digest);
    println!("memory peak {} KiB", memory_peak_kib());
    assert!(memory_peak_kib() < MEMORY_MAX_KIB);
}

#[test]
fn memory_stays_flat_from_registry_to_registry() {
    let (Some(first), Some(second)) = (Registry::plain(), Registry::plain()) else { return };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::in_a_process_of_its_own", "--nocapture", "--test-threads=1"])
        .env(REGISTRIES, format!("{} {}", first.host(), second.host()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("memory peak"), "{text}");
}
