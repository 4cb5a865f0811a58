//! Images from and to archives and layouts.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use conex_layer::{ArchiveForm, ArchivedImage, ExportedImage, Layout};
use conex_oci::{BlobSink, BlobSource, Descriptor, Index, Reference, VerifyReader};
use conex_remote::ImageSink as _;
use conex_store::{Expected, ImageRecord, ImageSource, Lease};
use conex_sys::root::{Links, RootDir};

use super::{Shipment, StoreSink};
use crate::error::{CliError, Doing as _, Result};

/// An image that came out of an archive, with the names that it was given.
pub struct Loaded {
    pub record: ImageRecord,
    pub names: Vec<Reference>,
}

/// Loads all images of an archive and gives them their names.
pub fn load(lease: &Lease, input: &mut (dyn Read + Send)) -> Result<Vec<Loaded>> {
    let mut scratch = || {
        let path = lease.temporary_path().map_err(io::Error::other)?;
        File::options().read(true).write(true).create_new(true).open(path)
    };
    let images = conex_layer::read_archive(input, lease, &mut scratch)?;
    let mut loaded = Vec::new();
    for image in images {
        let record = take_in(lease, &image)?;
        let names: Vec<Reference> =
            image.names.iter().filter_map(|name| name.parse().ok()).collect();
        for name in &names {
            lease.store().tag(name, &record.id, &Expected::Anything)?;
        }
        loaded.push(Loaded { record, names });
    }
    Ok(loaded)
}

/// Makes an image of the store of one whose blobs are there.
fn take_in(lease: &Lease, image: &ArchivedImage) -> Result<ImageRecord> {
    let sink = StoreSink::new(lease, ImageSource::Loaded);
    let failed = |error| CliError::because("cannot keep the image", error);
    if image.root.media_type.is_index() {
        for child in Index::parse(&image.document)?.manifests {
            // Other platforms may have been left out of the archive.
            if child.media_type.is_manifest() && lease.hold_blob(&child.digest)? {
                let bytes = lease.store().read_blob(&child.digest)?;
                sink.put_manifest(&child, &bytes, &[]).map_err(failed)?;
            }
        }
    }
    sink.put_manifest(&image.root, &image.document, &[]).map_err(failed)?;
    sink.record(&image.root.digest)
}

/// What of a layout is meant: `DIR[:TAG][@DIGEST]`.
struct LayoutName<'n> {
    folder: &'n str,
    tag: Option<&'n str>,
    digest: Option<&'n str>,
}

impl<'n> LayoutName<'n> {
    fn parse(text: &'n str) -> Self {
        let (rest, digest) = match text.rsplit_once("@sha") {
            Some((rest, _)) => (rest, Some(&text[rest.len() + 1..])),
            None => (text, None),
        };
        // A folder may have a colon in its name; one that is there is meant whole.
        let tagged = rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        match tagged {
            Some((folder, tag)) if !Path::new(rest).is_dir() => {
                Self { folder, tag: Some(tag), digest }
            }
            _ => Self { folder: rest, tag: None, digest },
        }
    }
}

/// Loads an image of an OCI layout folder.
pub fn load_layout(lease: &Lease, text: &str) -> Result<ImageRecord> {
    let name = LayoutName::parse(text);
    let layout = open_layout(Path::new(name.folder))?;
    let images = layout.images()?;
    let image = match name.digest {
        Some(digest) => images.iter().find(|image| image.root.digest.as_str() == digest),
        None => None,
    };
    let image = match image {
        Some(image) => image,
        None if name.digest.is_some() => {
            return Err(CliError::new(format!("the layout `{text}` has no such image")));
        }
        None => fitting(&images, name.tag, text)?,
    };
    for blob in blobs_of(&layout, &image.root, &image.document)? {
        copy_blob(&layout, lease, &blob)?;
    }
    take_in(lease, image)
}

/// The image of a layout or archive that is meant: by its name or tag, or the only one. Artifacts
/// that refer to others are not meant unless they are named.
pub fn fitting<'i>(
    images: &'i [ArchivedImage],
    name: Option<&str>,
    place: &str,
) -> Result<&'i ArchivedImage> {
    let fits = |image: &&ArchivedImage| match name {
        None => super::artifacts::subject_of(&image.document).is_none(),
        Some(name) => image.names.iter().any(|known| is_named(known, name)),
    };
    let found: Vec<&ArchivedImage> = images.iter().filter(fits).collect();
    match found.as_slice() {
        [image] => Ok(*image),
        [] => Err(CliError::new(format!("`{place}` has no such image"))),
        // Several names of one image are no ambiguity.
        [first, rest @ ..] if rest.iter().all(|other| other.root.digest == first.root.digest) => {
            Ok(*first)
        }
        _ => {
            let names: Vec<&str> =
                images.iter().flat_map(|image| &image.names).map(String::as_str).collect();
            Err(CliError::new(format!("`{place}` has several images"))
                .with_hint(format!("say which, behind a colon: {}", names.join(", "))))
        }
    }
}

/// Whether a name in an archive is the one that is asked for: as it stands, by its tag alone, or
/// written in another way.
fn is_named(known: &str, wanted: &str) -> bool {
    let tag = known.rsplit_once(':').map(|(_, tag)| tag);
    known == wanted
        || tag == Some(wanted)
        || known.parse::<Reference>().ok().is_some_and(|known| {
            known.tag().is_some() && wanted.parse::<Reference>().is_ok_and(|name| name == known)
        })
}

/// Opens a layout folder, or makes one.
pub fn open_layout(path: &Path) -> Result<Layout> {
    let root = RootDir::open(path, Links::Refuse)
        .doing(|| format!("cannot open the OCI layout `{}`", path.display()))?;
    Ok(Layout::open(&root)?)
}

/// Everything that an image of a layout names, manifests too.
fn blobs_of(layout: &Layout, root: &Descriptor, document: &[u8]) -> Result<Vec<Descriptor>> {
    let mut blobs = Vec::new();
    if root.media_type.is_index() {
        for child in Index::parse(document)?.manifests {
            if !child.media_type.is_manifest() || !layout.has(&child).unwrap_or(false) {
                continue;
            }
            let bytes = read_document(layout, &child)?;
            blobs.extend(blobs_of(layout, &child, &bytes)?);
            blobs.push(child);
        }
    } else {
        let manifest = conex_oci::Manifest::parse(document)?;
        blobs.push(manifest.config);
        blobs.extend(manifest.layers);
    }
    Ok(blobs)
}

/// Reads a manifest or config, verified.
pub fn read_document(source: &dyn BlobSource, blob: &Descriptor) -> Result<Vec<u8>> {
    if blob.size > conex_oci::MANIFEST_SIZE_MAX {
        return Err(CliError::new(format!("`{}` has more than 4 MiB", blob.digest)));
    }
    let act = || format!("cannot read `{}`", blob.digest);
    let body = source.open(blob).doing(act)?;
    let mut bytes = Vec::new();
    VerifyReader::new(body, blob).read_to_end(&mut bytes).doing(act)?;
    Ok(bytes)
}

/// Copies a blob that is not there yet, verified.
pub fn copy_blob(source: &dyn BlobSource, sink: &dyn BlobSink, blob: &Descriptor) -> Result<()> {
    let act = || format!("cannot copy `{}`", blob.digest);
    if sink.has(blob).doing(act)? {
        return Ok(());
    }
    let body = source.open(blob).doing(act)?;
    sink.put(blob, &mut VerifyReader::new(body, blob)).doing(act)
}

/// An image to be saved.
pub struct Saved<'l> {
    pub shipment: Shipment<'l>,
    pub names: Vec<Reference>,
}

/// Writes images to an archive.
pub fn save(images: &[Saved<'_>], form: ArchiveForm, out: &mut dyn Write) -> Result<()> {
    let exported: Vec<ExportedImage> = images
        .iter()
        .map(|image| ExportedImage {
            names: image.names.clone(),
            root: image.shipment.root_descriptor().clone(),
        })
        .collect();
    let sources: Vec<&Shipment<'_>> = images.iter().map(|image| &image.shipment).collect();
    Ok(conex_layer::write_archive(&exported, &Several(sources), form, out)?)
}

/// Writes an image to an OCI layout folder, beside what is in it.
pub fn save_layout(image: &Saved<'_>, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .doing(|| format!("cannot make the folder `{}`", folder.display()))?;
    let root = RootDir::open(folder, Links::Refuse)
        .doing(|| format!("cannot open the folder `{}`", folder.display()))?;
    let layout = Layout::create(&root)?;
    for blob in image.shipment.blobs()? {
        copy_blob(&image.shipment, &layout, &blob)?;
    }
    let names: Vec<String> =
        image.names.iter().filter_map(|name| name.tag().map(str::to_owned)).collect();
    Ok(layout.add_image(image.shipment.root_descriptor(), &names)?)
}

/// Several shipments as one source.
struct Several<'s, 'l>(Vec<&'s Shipment<'l>>);

impl BlobSource for Several<'_, '_> {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for shipment in &self.0 {
            match BlobSource::open(*shipment, blob) {
                Ok(body) => return Ok(body),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
