//! An image that comes as a stream, which can be read once: a compressed archive, standard input,
//! another engine's export. Its layers are analysed while they pass, and nothing is kept but what
//! was found; or else they are kept, as they came, in one temporary file without a name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use conex_inventory::Scanned;
use conex_layer::ArchivedImage;
use conex_oci::{BlobSink, Descriptor, DiffId, Digest, ImageConfig, Manifest};

use super::archive::Slice;
use super::source::{
    Origin, SourceOptions, Streams, Subject, choose, manifest_of, subject, verified,
};
use crate::error::{CliError, Result};

/// Largest blob that is taken for a document.
const DOCUMENT_SIZE_MAX: u64 = 8 << 20;

/// What passed.
#[derive(Default)]
struct Passed {
    documents: HashMap<Digest, Vec<u8>>,
    layers: HashMap<Digest, Kept>,
    /// Where layers are kept, and how much of it is used.
    file: Option<(Arc<File>, u64)>,
}

/// What there is of a layer that passed.
#[derive(Clone)]
enum Kept {
    /// What was found, under the diff ID that it has.
    Report(Arc<conex_inventory::LayerReport>, DiffId),
    /// The layer.
    Bytes(Slice),
}

struct Sink {
    streams: Streams,
    passed: Mutex<Passed>,
}

impl BlobSink for Sink {
    fn has(&self, _: &Descriptor) -> io::Result<bool> {
        Ok(false)
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        let mut head = Vec::new();
        body.take(1).read_to_end(&mut head)?;
        let is_document = matches!(head.as_slice(), b"{" | b"[") && blob.size <= DOCUMENT_SIZE_MAX;
        let mut body = io::Cursor::new(head).chain(body);
        if is_document {
            let mut bytes = Vec::new();
            body.take(DOCUMENT_SIZE_MAX).read_to_end(&mut bytes)?;
            self.lock().documents.insert(blob.digest.clone(), bytes);
            return Ok(());
        }
        let kept = match self.streams {
            Streams::Pass => {
                let scanned = scan(&mut body)?;
                Kept::Report(Arc::new(scanned.report), scanned.diff_id)
            }
            Streams::Keep => Kept::Bytes(self.lock().keep(&mut body)?),
        };
        self.lock().layers.insert(blob.digest.clone(), kept);
        Ok(())
    }
}

impl Passed {
    fn keep(&mut self, body: &mut dyn Read) -> io::Result<Slice> {
        let (file, at) = match self.file.take() {
            Some(known) => known,
            None => (Arc::new(unnamed_file()?), 0),
        };
        let size = io::copy(body, &mut &*file)?;
        self.file = Some((file.clone(), at + size));
        Ok(Slice::part(file, at, size))
    }
}

impl Sink {
    fn lock(&self) -> std::sync::MutexGuard<'_, Passed> {
        // Only whole entries are ever in the maps.
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scans what one thread alone can read: a second one gets it through a pipe.
fn scan(body: &mut dyn Read) -> io::Result<Scanned> {
    let (mut pipe, mut writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let scanning = scope.spawn(move || {
            let scanned = conex_inventory::scan_layer(&mut pipe, unnamed_file);
            // Whoever writes must not wait for a reader that has given up.
            let _ = io::copy(&mut pipe, &mut io::sink());
            scanned
        });
        let copied = io::copy(body, &mut writer);
        drop(writer);
        let scanned = scanning.join().map_err(|_| io::Error::other("the reader panicked"))?;
        let scanned = scanned.map_err(io::Error::other)?;
        copied.map(|_| scanned)
    })
}

/// Reads an image archive, compressed or not, from a stream.
pub fn read(
    input: &mut (dyn Read + Send),
    shown: &str,
    name: Option<&str>,
    options: &SourceOptions,
) -> Result<Subject> {
    let sink = Sink { streams: options.streams, passed: Mutex::default() };
    let mut scratch = || -> io::Result<File> { unnamed_file() };
    let images = conex_layer::read_archive(input, &sink, &mut scratch)?;
    let image = choose(&images, shown, name, |image: &ArchivedImage| image.names.clone())?;
    let mut passed = sink.passed.into_inner().unwrap_or_else(PoisonError::into_inner);
    passed.documents.insert(image.root.digest.clone(), image.document.clone());
    let documents = passed.documents;
    let read = |blob: &Descriptor| -> Result<Vec<u8>> {
        let bytes = documents.get(&blob.digest).cloned().ok_or_else(|| {
            CliError::new(format!("the archive `{shown}` does not hold `{}`", blob.digest))
        })?;
        verified(&blob.digest, bytes)
    };
    let manifest: Manifest = manifest_of(&image.root, options.platform.as_ref(), &read, 0)?;
    let bytes = read(&manifest.config)?;
    let config = ImageConfig::parse(&bytes)?;
    let mut origins = Vec::new();
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let origin = match passed.layers.get(&layer.digest) {
            Some(Kept::Report(report, found)) if found == diff_id => Origin::Gone(report.clone()),
            Some(Kept::Report(..)) => {
                return Err(CliError::new(format!(
                    "the layer `{}` is not the one that the config names: `{diff_id}`",
                    layer.digest
                )));
            }
            Some(Kept::Bytes(slice)) => Origin::Slice(slice.clone()),
            None => {
                let message = format!("the archive `{shown}` does not hold `{}`", layer.digest);
                return Err(CliError::new(message));
            }
        };
        let is_packed = layer.media_type.layer_compression() != Some(conex_oci::Compression::None);
        origins.push((is_packed.then_some(layer.size), origin));
    }
    subject(shown, "stream", &bytes, config, origins)
}

/// A file that nobody else sees and that is gone when it is closed. Only archives of before 2018,
/// whose layers are not named by digest, need one, for one layer at a time.
pub fn unnamed_file() -> io::Result<File> {
    let folder = std::env::temp_dir();
    let path = folder.join(format!("conex-{}-{:p}", std::process::id(), &raw const folder));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
