//! Where images can be copied from and to, in skopeo's words, and the copying.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use conex_layer::{ArchiveForm, ArchivedImage, ExportedImage, Layout};
use conex_oci::{BlobSink, BlobSource, Descriptor, Digest, Reference, VerifyReader};
use conex_remote::{
    Client, Copied, CopyOptions, ImageSink, ImageSource, Origin, Survey, copy as copy_image,
};
use conex_report::{Event, Outcome, Reporter, VertexId};
use conex_store::{Expected, ImageRecord, Lease};
use conex_sys::root::{Links, RootDir};

use super::archive::{fitting, read_document};
use super::artifacts::subject_of;
use super::ship::stored_at;
use super::{PULL_VERTEX, Shipment, Shipping, StoreSink, open_layout, push};
use crate::error::{CliError, Doing as _, Result};
use crate::registry::Access;
use crate::session::Session;

/// Somewhere that an image is or comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `docker://NAME`, or just `NAME`.
    Registry(Reference),
    /// `store:NAME`: the local store.
    Store(String),
    /// `oci:DIR[:TAG]`.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:NAME]` or `docker-archive:FILE[:NAME]`.
    Archive(ArchiveForm, PathBuf, Option<String>),
}

/// Words of other tools for places that conex does not know, and what to write instead.
const FOREIGN: [(&str, &str); 6] = [
    ("containers-storage:", "`store:NAME` is conex's own store; `podman push` fills a layout"),
    ("docker-daemon:", "`docker save NAME -o FILE` makes a `docker-archive:FILE`"),
    ("dir:", "`oci:DIR` is the folder that every tool reads"),
    ("ostree:", "use `oci:DIR`"),
    ("sif:", "use `oci-archive:FILE`"),
    ("tarball:", "`conex import` makes an image of a file tree"),
];

/// Understands a place.
pub fn parse_place(text: &str) -> Result<Place> {
    if let Some((foreign, instead)) = FOREIGN.iter().find(|(word, _)| text.starts_with(word)) {
        return Err(CliError::usage(format!("`{foreign}` is not a place that conex knows"))
            .with_hint(*instead));
    }
    let named = |rest: &str| {
        let (path, name) = match rest.split_once(':') {
            Some((path, name)) => (path, Some(name.to_owned()).filter(|name| !name.is_empty())),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(CliError::usage(format!("`{text}` names no file")));
        }
        Ok((PathBuf::from(path), name))
    };
    if let Some(name) = text.strip_prefix("store:") {
        return Ok(Place::Store(name.to_owned()));
    }
    if let Some(rest) = text.strip_prefix("oci:") {
        let (folder, tag) = named(rest)?;
        return Ok(Place::Layout(folder, tag));
    }
    for (word, form) in
        [("oci-archive:", ArchiveForm::Oci), ("docker-archive:", ArchiveForm::Docker)]
    {
        if let Some(rest) = text.strip_prefix(word) {
            let (file, name) = named(rest)?;
            return Ok(Place::Archive(form, file, name));
        }
    }
    let name = text.strip_prefix("docker://").unwrap_or(text);
    let reference = name.parse().map_err(|error| {
        CliError::because(format!("`{text}` names no image"), error)
            .with_hint("say where, as in `docker://NAME`, `store:NAME` or `oci:DIR`")
    })?;
    Ok(Place::Registry(reference))
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, path, name) = match self {
            Self::Registry(reference) => return formatter.write_str(&reference.familiar()),
            Self::Store(name) => return write!(formatter, "store:{name}"),
            Self::Layout(folder, tag) => ("oci", folder, tag),
            Self::Archive(ArchiveForm::Oci, file, name) => ("oci-archive", file, name),
            Self::Archive(ArchiveForm::Docker, file, name) => ("docker-archive", file, name),
        };
        write!(formatter, "{word}:{}", path.display())?;
        name.as_ref().map_or(Ok(()), |name| write!(formatter, ":{name}"))
    }
}

impl Place {
    /// The same place with another tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        Ok(match self {
            Self::Registry(reference) => {
                Self::Registry(format!("{}:{tag}", reference.name()).parse()?)
            }
            Self::Store(name) => {
                let reference: Reference = name.parse()?;
                Self::Store(format!("{}:{tag}", reference.name()))
            }
            Self::Layout(folder, _) => Self::Layout(folder.clone(), Some(tag.to_owned())),
            Self::Archive(..) => {
                return Err(CliError::usage("an archive is written at once, not tag by tag")
                    .with_hint("copy all tags to a layout: `oci:DIR`"));
            }
        })
    }
}

/// How the two sides of a copy are reached, and the store's lease where one is needed.
pub struct Sides<'s> {
    session: &'s Session,
    lease: Option<Lease>,
    from: Option<Client>,
    to: Option<Client>,
}

impl<'s> Sides<'s> {
    /// Prepares both sides. The store is opened only for those that need it.
    pub fn new(
        session: &'s Session,
        (from, to): (&Place, &Place),
        (from_access, to_access): (&Access, &Access),
    ) -> Result<Self> {
        let needs_store =
            matches!(from, Place::Store(_) | Place::Archive(..)) || matches!(to, Place::Store(_));
        let lease = if needs_store { Some(session.store()?.lease()?) } else { None };
        let client = |place: &Place, access: &Access| match place {
            Place::Registry(_) => crate::registry::client_with(session, access).map(Some),
            _ => Ok(None),
        };
        let from_client = client(from, from_access)?;
        // One client where both sides are reached alike: it shares connections and tokens.
        let to_client = match (&from_client, to) {
            (Some(shared), Place::Registry(_)) if from_access == to_access => Some(shared.clone()),
            _ => client(to, to_access)?,
        };
        Ok(Self { session, lease, from: from_client, to: to_client })
    }

    fn lease(&self) -> Result<&Lease> {
        self.lease.as_ref().ok_or_else(|| CliError::new("the store was not opened for this place"))
    }

    /// An image of the store, which stays while it is copied.
    fn held(&self, name: &str) -> Result<ImageRecord> {
        let record = self.session.store()?.resolve(name)?;
        self.lease()?.hold_image(&record.id)?;
        Ok(record)
    }

    fn client<'c>(&'c self, side: &'c Option<Client>) -> Result<&'c Client> {
        side.as_ref().ok_or_else(|| CliError::new("no client was made for this registry"))
    }

    /// The tags at the source.
    pub fn tags(&self, from: &Place) -> Result<Vec<String>> {
        let tags = match from {
            Place::Registry(reference) => self.client(&self.from)?.repository(reference).tags()?,
            Place::Store(name) => {
                let wanted: Reference = name.parse()?;
                let mut tags = Vec::new();
                for record in self.session.store()?.images()? {
                    let own = record.tags.iter().filter(|tag| tag.name() == wanted.name());
                    tags.extend(own.filter_map(|tag| tag.tag().map(str::to_owned)));
                }
                tags.sort();
                tags
            }
            Place::Layout(folder, _) => {
                let names =
                    open_layout(folder)?.images()?.into_iter().flat_map(|image| image.names);
                let tag = |name: String| match name.rsplit_once(':') {
                    Some((_, tag)) if !tag.contains('/') => tag.to_owned(),
                    _ => name,
                };
                names.map(tag).collect()
            }
            Place::Archive(..) => {
                return Err(CliError::usage("`--all-tags` does not read archives")
                    .with_hint("`conex load` takes all images of an archive into the store"));
            }
        };
        if tags.is_empty() {
            return Err(CliError::new(format!("`{from}` has no tags")));
        }
        Ok(tags)
    }

    fn source<'l>(
        &'l self,
        from: &Place,
        reporter: &dyn Reporter,
    ) -> Result<Box<dyn ImageSource + 'l>> {
        match from {
            Place::Registry(reference) => {
                Ok(Box::new(self.client(&self.from)?.repository(reference)))
            }
            Place::Store(name) => {
                let record = self.held(name)?;
                let shipping = Shipping { reporter, ..Shipping::usual() };
                Ok(Box::new(Shipment::of(self.lease()?, &record.id, &shipping)?))
            }
            Place::Layout(folder, tag) => {
                let layout = open_layout(folder)?;
                let images = layout.images()?;
                let root = fitting(&images, tag.as_deref(), &from.to_string())?.root.clone();
                Ok(Box::new(LayoutImage { layout, images, root }))
            }
            Place::Archive(_, file, name) => {
                let lease = self.lease()?;
                let mut input =
                    File::open(file).doing(|| format!("cannot open `{}`", file.display()))?;
                let mut scratch = || {
                    let path = lease.temporary_path().map_err(io::Error::other)?;
                    File::options().read(true).write(true).create_new(true).open(path)
                };
                let images = conex_layer::read_archive(&mut input, lease, &mut scratch)?;
                let root = fitting(&images, name.as_deref(), &from.to_string())?.root.clone();
                Ok(Box::new(LoadedImage { lease: lease.clone(), root }))
            }
        }
    }
}

/// Copies an image from one place to another.
pub fn copy(
    sides: &Sides<'_>,
    from: &Place,
    to: &Place,
    options: &CopyOptions,
    reporter: &dyn Reporter,
) -> Result<Copied> {
    if let (Place::Store(name), Place::Registry(reference)) = (from, to)
        && (reference.tag().is_some() || reference.digest().is_none())
    {
        let record = sides.held(name)?;
        let platform = options.platform.clone();
        let shipping = Shipping { reporter, platform, ..Shipping::usual() };
        let (client, lease) = (sides.client(&sides.to)?, sides.lease()?);
        return push(client, lease, &record.id, reference, &shipping, options);
    }
    let source = sides.source(from, reporter)?;
    let source = source.as_ref();
    match to {
        Place::Registry(reference) => {
            let repository = sides.client(&sides.to)?.repository(reference);
            let mut options = options.clone();
            match (reference.tag(), reference.digest()) {
                (None, Some(digest)) => {
                    refuse_other_digest(source, digest, &options)?;
                }
                (tag, _) => {
                    options.tags = vec![tag.unwrap_or(conex_oci::DEFAULT_TAG).to_owned()];
                }
            }
            Ok(copy_image(source, &repository, &options, reporter)?)
        }
        Place::Store(name) => {
            let reference: Reference = name.parse()?;
            let lease = sides.lease()?;
            let sink = StoreSink::new(lease, conex_store::ImageSource::Loaded);
            let copied = copy_image(source, &sink, options, reporter)?;
            let record = sink.record(&copied.root.digest)?;
            lease.store().tag(&reference, &record.id, &Expected::Anything)?;
            Ok(copied)
        }
        Place::Layout(folder, tag) => to_layout(source, folder, tag.as_deref(), options, reporter),
        Place::Archive(form, file, name) => {
            to_archive(source, *form, file, name.as_deref(), options, reporter)
        }
    }
}

/// A destination that is a digest takes that image only.
fn refuse_other_digest(
    source: &dyn ImageSource,
    wanted: &Digest,
    options: &CopyOptions,
) -> Result<()> {
    let got = Survey::of(source, None, options)?.root.digest;
    if got == *wanted {
        return Ok(());
    }
    Err(CliError::new(format!("the destination is `{wanted}`, but the image is `{got}`"))
        .with_hint("name a tag as the destination"))
}

fn to_layout(
    source: &dyn ImageSource,
    folder: &Path,
    tag: Option<&str>,
    options: &CopyOptions,
    reporter: &dyn Reporter,
) -> Result<Copied> {
    let act = || format!("cannot open the folder `{}`", folder.display());
    std::fs::create_dir_all(folder)
        .doing(|| format!("cannot make the folder `{}`", folder.display()))?;
    let root = RootDir::open(folder, Links::Refuse).doing(act)?;
    let sink = LayoutSink(Layout::create(&root)?);
    let copied = copy_image(source, &sink, options, reporter)?;
    // Two processes that add an image at once must not lose one.
    let lock = File::open(folder).doing(act)?;
    lock.lock().doing(act)?;
    let names: Vec<String> = tag.map(str::to_owned).into_iter().collect();
    sink.0.add_image(&copied.root, &names)?;
    for referrer in &copied.referrers {
        sink.0.add_image(referrer, &[])?;
    }
    Ok(copied)
}

/// Writes an archive straight from the source, blob after blob.
fn to_archive(
    source: &dyn ImageSource,
    form: ArchiveForm,
    file: &Path,
    name: Option<&str>,
    options: &CopyOptions,
    reporter: &dyn Reporter,
) -> Result<Copied> {
    let survey = Survey::of(source, None, options)?;
    if !survey.referrers.is_empty() {
        return Err(CliError::usage("an archive keeps no referrers")
            .with_hint("copy to a layout: `oci:DIR:TAG`"));
    }
    let names = match name {
        // A layout's names may be tags alone.
        Some(tag) if form == ArchiveForm::Oci && !tag.contains(['/', ':']) => {
            vec![format!("localhost/image:{tag}").parse()?]
        }
        Some(name) => vec![name.parse::<Reference>()?],
        None => Vec::new(),
    };
    let image = ExportedImage { names, root: survey.root.clone() };
    let first = options.first_vertex;
    let current = Mutex::default();
    let streamed = Streamed { source, survey: &survey, reporter, first, current };
    for (at, blob) in survey.blobs.iter().enumerate() {
        let name = format!("blob {}", blob.digest.short());
        reporter.event(Event::Planned { vertex: streamed.vertex(at), name });
    }
    crate::commands::to_file(file, |out: &mut dyn Write| {
        Ok(conex_layer::write_archive(&[image], &streamed, form, out)?)
    })?;
    streamed.finish_last(None);
    Ok(Copied {
        root: survey.root.clone(),
        manifests: survey.manifests.len(),
        sent: survey.blobs.len(),
        existed: 0,
        mounted: 0,
        bytes: survey.blobs.iter().map(|blob| blob.size).sum(),
        referrers: Vec::new(),
    })
}

/// The blobs of a source and the manifests that were read already, as one source.
struct Streamed<'s> {
    source: &'s dyn ImageSource,
    survey: &'s Survey,
    reporter: &'s dyn Reporter,
    first: u32,
    /// The blob that is being written.
    current: Mutex<Option<VertexId>>,
}

impl Streamed<'_> {
    fn vertex(&self, at: usize) -> VertexId {
        VertexId(self.first.saturating_add(u32::try_from(at).unwrap_or(u32::MAX)))
    }

    fn finish_last(&self, next: Option<VertexId>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(vertex) = std::mem::replace(&mut *current, next) {
            self.reporter.event(Event::Finished { vertex, outcome: Outcome::Done });
        }
    }
}

impl BlobSource for Streamed<'_> {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        let manifest = self.survey.manifests.iter().find(|(known, _)| known.digest == blob.digest);
        if let Some((_, bytes)) = manifest {
            return Ok(Box::new(io::Cursor::new(bytes.clone())));
        }
        let Some(at) = self.survey.blobs.iter().position(|known| known.digest == blob.digest)
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let vertex = self.vertex(at);
        // One blob is written after the other: this one begins when the last one is done.
        self.finish_last(Some(vertex));
        self.reporter.event(Event::Started { vertex });
        let opened = self.source.open_at(blob, 0);
        if let Err(error) = &opened {
            let outcome = Outcome::Failed(error.to_string());
            self.reporter.event(Event::Finished { vertex, outcome });
        }
        opened
    }
}

/// An image in a layout.
struct LayoutImage {
    layout: Layout,
    images: Vec<ArchivedImage>,
    root: Descriptor,
}

impl BlobSource for LayoutImage {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        BlobSource::open(&self.layout, blob)
    }
}

impl ImageSource for LayoutImage {
    fn root(&self) -> io::Result<Descriptor> {
        Ok(self.root.clone())
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        read_document(&self.layout, descriptor).map_err(io::Error::other)
    }

    fn referrers(&self, subject: &Digest) -> io::Result<Vec<Descriptor>> {
        let refers = |image: &&ArchivedImage| subject_of(&image.document).as_ref() == Some(subject);
        Ok(self.images.iter().filter(refers).map(|image| image.root.clone()).collect())
    }

    fn origin(&self) -> Option<Origin> {
        None
    }
}

/// A layout as the place that an image comes to. It is named there when all of it is.
struct LayoutSink(Layout);

impl BlobSink for LayoutSink {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        self.0.has(blob)
    }

    fn put(&self, blob: &Descriptor, body: &mut dyn Read) -> io::Result<()> {
        self.0.put(blob, body)
    }
}

impl ImageSink for LayoutSink {
    fn put_manifest(&self, descriptor: &Descriptor, bytes: &[u8], _: &[&str]) -> io::Result<()> {
        let mut body = bytes;
        self.0.put(descriptor, &mut body)
    }
}

/// An image out of an archive, whose blobs the lease has.
struct LoadedImage {
    lease: Lease,
    root: Descriptor,
}

impl BlobSource for LoadedImage {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn Read + Send>> {
        BlobSource::open(&self.lease, blob)
    }
}

impl ImageSource for LoadedImage {
    fn root(&self) -> io::Result<Descriptor> {
        Ok(self.root.clone())
    }

    fn open_at(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        if offset > 0 { stored_at(&self.lease, blob, offset) } else { self.open(blob) }
    }

    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let body = BlobSource::open(&self.lease, descriptor)?;
        VerifyReader::new(body, descriptor).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// The number of the first piece of work of the `at`th image of several.
pub fn vertex_of(at: usize) -> u32 {
    // More blobs than any image has.
    PULL_VERTEX.saturating_add(u32::try_from(at).unwrap_or(u32::MAX).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood_or_named() {
        let shown = |text: &str| match parse_place(text) {
            Ok(Place::Registry(name)) => format!("registry {name}"),
            Ok(place) => format!("{place:?}"),
            Err(error) => format!("{error}; {}", error.hint.as_deref().unwrap_or("-")),
        };
        let all = [
            "alpine",
            "docker://ghcr.io/acme/app:1",
            "store:app:1",
            "oci:dir",
            "oci:/a/dir:latest",
            "oci-archive:a.tar",
            "docker-archive:/a.tar:localhost:5000/app:1",
            "dir:/x",
            "oci:",
            "UPPER",
        ]
        .map(shown);
        insta::assert_snapshot!(all.join("\n"), @r#"
        registry docker.io/library/alpine:latest
        registry ghcr.io/acme/app:1
        Store("app:1")
        Layout("dir", None)
        Layout("/a/dir", Some("latest"))
        Archive(Oci, "a.tar", None)
        Archive(Docker, "/a.tar", Some("localhost:5000/app:1"))
        `dir:` is not a place that conex knows; `oci:DIR` is the folder that every tool reads
        `oci:` names no file; -
        `UPPER` names no image; say where, as in `docker://NAME`, `store:NAME` or `oci:DIR`
        "#);
    }
}
