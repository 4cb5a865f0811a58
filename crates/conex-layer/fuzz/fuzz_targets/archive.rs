//! Reads any bytes as an image archive: no panic, and every image that comes out is whole.
#![no_main]

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;

use conex_layer::read_archive;
use conex_oci::{BlobSink, Descriptor, Digest, Manifest, VerifyReader};
use libfuzzer_sys::fuzz_target;

#[derive(Default)]
struct Blobs(Mutex<BTreeMap<Digest, Vec<u8>>>);

impl BlobSink for Blobs {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        Ok(self.0.lock().expect("no panic before").contains_key(&blob.digest))
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        VerifyReader::new(body, blob).read_to_end(&mut bytes)?;
        self.0.lock().expect("no panic before").insert(blob.digest.clone(), bytes);
        Ok(())
    }
}

fuzz_target!(|bytes: &[u8]| {
    let blobs = Blobs::default();
    let mut input = bytes;
    let Ok(images) = read_archive(&mut input, &blobs, &mut tempfile::tempfile) else { return };
    for image in images {
        let Ok(manifest) = Manifest::parse(&image.document) else { continue };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            assert!(blobs.has(blob).expect("it is memory") || !blob.urls.is_empty());
        }
    }
});
