//! Where the result of a build goes, and where its cache goes and comes from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conex_build::{BuildOptions, BuiltImage, CACHE_CONFIG_TYPE, Outcome, RemoteCache};
use conex_layer::{ArchiveForm, Layout};
use conex_oci::{
    BlobSink as _, BlobSource, Compression, Descriptor, Digest, Manifest, MediaType, Reference,
};
use conex_remote::{CopyOptions, ImageSource, Verify};
use conex_report::{Event, Reporter};
use conex_store::Lease;
use conex_sys::dir::Dir;
use conex_sys::root::{Links, RootDir};

use super::parse;
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;
use crate::transfer::{self, Keep, Saved, Shipment, Shipping};

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The store.
    Image,
    /// The store, and the registry of each name.
    Registry(Packing),
    /// An OCI or Docker archive; `None` is standard output.
    Archive(Form, Option<PathBuf>, Packing),
    /// An OCI layout folder.
    Layout(PathBuf, Packing),
    /// The root file system as a tar; `None` is standard output.
    Tar(Option<PathBuf>),
    /// The root file system as a folder.
    Local(PathBuf),
}

/// The two forms of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Oci,
    Docker,
}

/// How layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    compression: Compression,
    level: Option<i32>,
    force: bool,
}

impl Output {
    /// Whether the image is put into the store.
    pub fn keeps_image(&self) -> bool {
        !matches!(self, Self::Tar(_) | Self::Local(_))
    }
}

const TYPES: [&str; 7] = ["image", "registry", "oci", "docker", "tar", "local", "cacheonly"];

/// Reads `--output`; nothing is the store.
pub fn parse(given: &[String], push: bool) -> Result<Vec<Output>> {
    let mut outputs = given.iter().map(|text| parse_one(text)).collect::<Result<Vec<_>>>()?;
    if push {
        let packing = Packing { compression: Compression::Gzip, level: None, force: false };
        outputs.push(Output::Registry(packing));
    }
    if outputs.is_empty() {
        outputs.push(Output::Image);
    }
    Ok(outputs)
}

fn parse_one(text: &str) -> Result<Output> {
    if text == "-" {
        return Ok(Output::Tar(None));
    }
    if !text.contains('=') {
        return Ok(Output::Local(PathBuf::from(text)));
    }
    let known = [
        "type",
        "dest",
        "name",
        "push",
        "tar",
        "compression",
        "compression-level",
        "force-compression",
        "oci-mediatypes",
    ];
    let fields = parse::fields("--output", text, &known)?;
    let wrong = |why: String| CliError::usage(format!("`--output {text}`: {why}"));
    let dest = fields.get("dest").filter(|dest| *dest != "-").map(PathBuf::from);
    let is = |name: &str| matches!(fields.get(name).map(String::as_str), Some("true" | "1"));
    if fields.get("oci-mediatypes").is_some_and(|value| value == "false") {
        return Err(wrong("Docker's media types are not written".to_owned()));
    }
    let packing = packing(&fields, &wrong)?;
    let kind = fields.get("type").ok_or_else(|| wrong("it has no `type`".to_owned()))?;
    match kind.as_str() {
        "image" if is("push") => Ok(Output::Registry(packing)),
        "image" | "cacheonly" => Ok(Output::Image),
        "registry" => Ok(Output::Registry(packing)),
        "oci" if fields.get("tar").is_some_and(|tar| tar == "false") => {
            let dest = dest.ok_or_else(|| wrong("a layout folder needs a `dest`".to_owned()))?;
            Ok(Output::Layout(dest, packing))
        }
        "oci" => Ok(Output::Archive(Form::Oci, dest, packing)),
        // Without a destination, Docker's word means "load it": it is in the store already.
        "docker" if !fields.contains_key("dest") => Ok(Output::Image),
        "docker" => Ok(Output::Archive(Form::Docker, dest, packing)),
        "tar" => Ok(Output::Tar(dest)),
        "local" => {
            Ok(Output::Local(dest.ok_or_else(|| wrong("a folder needs a `dest`".to_owned()))?))
        }
        other => {
            let error = wrong(format!("the type `{other}` is not known"));
            Err(match conex_report::did_you_mean(other, TYPES) {
                Some(near) => error.with_hint(format!("did you mean `type={near}`?")),
                None => error.with_hint(format!("known are `{}`", TYPES.join("`, `"))),
            })
        }
    }
}

fn packing(
    fields: &BTreeMap<String, String>,
    wrong: &dyn Fn(String) -> CliError,
) -> Result<Packing> {
    let compression = match fields.get("compression").map(String::as_str) {
        None | Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some("uncompressed") => Compression::None,
        Some(other) => {
            return Err(wrong(format!("the compression `{other}` is not offered"))
                .with_hint("`gzip`, `zstd` and `uncompressed` are"));
        }
    };
    let level = match fields.get("compression-level") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| wrong(format!("`{text}` is no level")))?),
    };
    let force = matches!(fields.get("force-compression").map(String::as_str), Some("true" | "1"));
    Ok(Packing { compression, level, force })
}

/// One `--cache-to` or `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOutput {
    place: CachePlace,
    /// `mode=max`: all steps, not only those whose layers are in the image.
    all: bool,
    ignore_error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CachePlace {
    Inline,
    Local(PathBuf),
    Registry(Reference),
}

impl CacheOutput {
    /// Whether the cache goes into the image itself.
    pub fn is_inline(&self) -> bool {
        self.place == CachePlace::Inline
    }
}

/// Reads `--cache-to`.
pub fn parse_caches(given: &[String]) -> Result<Vec<CacheOutput>> {
    given.iter().map(|text| parse_cache("--cache-to", text)).collect()
}

fn parse_cache(option: &str, text: &str) -> Result<CacheOutput> {
    if !text.contains('=') {
        let place = CachePlace::Registry(text.parse()?);
        return Ok(CacheOutput { place, all: false, ignore_error: false });
    }
    let known = ["type", "dest", "src", "ref", "mode", "ignore-error", "compression"];
    let fields = parse::fields(option, text, &known)?;
    let wrong = |why: &str| CliError::usage(format!("`{option} {text}`: {why}"));
    let path = fields.get("dest").or(fields.get("src"));
    let place = match fields.get("type").map(String::as_str) {
        Some("inline") => CachePlace::Inline,
        Some("local") => {
            let path = path.ok_or_else(|| wrong("a local cache needs a folder"))?;
            CachePlace::Local(PathBuf::from(path))
        }
        Some("registry") => {
            let name = fields.get("ref").ok_or_else(|| wrong("a registry cache needs a `ref`"))?;
            CachePlace::Registry(name.parse()?)
        }
        Some(other) => {
            return Err(wrong(&format!("the type `{other}` is not offered"))
                .with_hint("`local`, `registry` and `inline` are"));
        }
        None => return Err(wrong("it has no `type`")),
    };
    let all = match fields.get("mode").map(String::as_str) {
        None | Some("min") => false,
        Some("max") => true,
        Some(_) => return Err(wrong("the mode is `min` or `max`")),
    };
    let ignore_error = fields.get("ignore-error").is_some_and(|value| value == "true");
    Ok(CacheOutput { place, all, ignore_error })
}

/// The tag of the cache in a layout folder.
const CACHE_TAG: &str = "latest";

/// Opens `--cache-from`. A cache that is not there yet is no error: the first build has none.
pub fn open_caches(
    session: &Session,
    given: &[String],
    reporter: &dyn Reporter,
) -> Result<Vec<RemoteCache>> {
    let mut caches = Vec::new();
    for text in given {
        let cache = parse_cache("--cache-from", text)?;
        let opened = match &cache.place {
            CachePlace::Inline => {
                return Err(CliError::usage("`--cache-from type=inline` has no place")
                    .with_hint("name the image: `--cache-from type=registry,ref=NAME`"));
            }
            CachePlace::Local(folder) => open_local_cache(folder),
            CachePlace::Registry(reference) => open_registry_cache(session, reference),
        };
        match opened {
            Ok(cache) => caches.push(cache),
            Err(error) => {
                let mut text = format!("the build cache `{text}` is not used: {error}");
                if let Some(source) = std::error::Error::source(&error) {
                    text.push_str(&format!(": {source}"));
                }
                reporter.event(Event::Note { text });
            }
        }
    }
    Ok(caches)
}

fn open_local_cache(folder: &Path) -> Result<RemoteCache> {
    let layout = transfer::open_layout(folder)?;
    let images = layout.images()?;
    let image = images.last().ok_or_else(|| CliError::new("the layout is empty"))?;
    let manifest = Manifest::parse(&image.document)?;
    let config = transfer::read_document(&layout, &manifest.config)?;
    Ok(RemoteCache::read(&manifest, &config, Arc::new(layout))?)
}

fn open_registry_cache(session: &Session, reference: &Reference) -> Result<RemoteCache> {
    let client = crate::registry::client(session, Verify::Strict)?;
    let repository = client.repository(reference);
    let found = repository.manifest()?;
    let mut manifest_bytes = found.bytes;
    if found.descriptor.media_type.is_index() {
        // An image with an inline cache for several platforms: that of this one.
        let index = conex_oci::Index::parse(&manifest_bytes)?;
        let host = conex_oci::Platform::host();
        let platforms =
            index.manifests.iter().map(|entry| entry.platform.as_ref().unwrap_or(&host));
        let best = host.best_of(platforms).and_then(|at| index.manifests.get(at));
        let best = best.ok_or_else(|| CliError::new("the index has no such platform"))?;
        manifest_bytes = repository.manifest_of(best)?.bytes;
    }
    let manifest = Manifest::parse(&manifest_bytes)?;
    let config = transfer::read_document(&repository, &manifest.config)?;
    Ok(RemoteCache::read(&manifest, &config, Arc::new(repository))?)
}

/// Hands results on.
pub struct Exporter<'e> {
    pub session: &'e Session,
    pub options: &'e BuildOptions<'e>,
    pub tags: &'e [Reference],
    pub annotations: parse::Annotations,
    /// The image or index in the store, where it was put there.
    pub kept: Option<Digest>,
}

impl Exporter<'_> {
    /// Writes one output. Gives what the image is where it was packed: its manifest or index.
    pub fn export(&self, output: &Output, outcome: &Outcome) -> Result<Option<Descriptor>> {
        match output {
            Output::Image => {}
            Output::Registry(packing) => return self.push(packing).map(Some),
            Output::Archive(form, dest, packing) => {
                let saved = [self.saved(packing, Keep::Nothing)?];
                let root = saved.first().map(|saved| saved.shipment.root_descriptor().clone());
                let form = match form {
                    Form::Oci => ArchiveForm::Oci,
                    Form::Docker => ArchiveForm::Docker,
                };
                self.to(dest.as_deref(), &|out| transfer::save(&saved, form, out))?;
                return Ok(root);
            }
            Output::Layout(folder, packing) => {
                let saved = self.saved(packing, Keep::Nothing)?;
                transfer::save_layout(&saved, folder)?;
                return Ok(Some(saved.shipment.root_descriptor().clone()));
            }
            Output::Tar(dest) => {
                let image = self.only(outcome)?;
                let lease = self.options.lease;
                let snapshot = self.snapshot(image)?;
                self.to(dest.as_deref(), &|out| {
                    transfer::write_rootfs(self.session, lease, snapshot.as_ref(), out)
                })?;
            }
            Output::Local(folder) => match outcome.images.as_slice() {
                [image] => self.local(image, folder)?,
                images => {
                    for image in images {
                        // One folder a platform, as buildx names them.
                        let name = image.platform.to_string().replace('/', "_");
                        self.local(image, &folder.join(name))?;
                    }
                }
            },
        }
        Ok(None)
    }

    fn to(
        &self,
        dest: Option<&Path>,
        write: &dyn Fn(&mut dyn std::io::Write) -> Result<()>,
    ) -> Result<()> {
        match dest {
            Some(path) => crate::commands::save::to_file(path, write),
            None if conex_term::is_terminal(std::io::stdout()) => {
                Err(CliError::usage("refusing to write an archive to a terminal")
                    .with_hint("name a file with `dest=FILE`, or redirect the output"))
            }
            None => {
                let stdout = std::io::stdout().lock();
                let mut out = std::io::BufWriter::with_capacity(1 << 20, stdout);
                write(&mut out)?;
                std::io::Write::flush(&mut out).doing(|| "cannot write to standard output".into())
            }
        }
    }

    fn only<'o>(&self, outcome: &'o Outcome) -> Result<&'o BuiltImage> {
        match outcome.images.as_slice() {
            [image] => Ok(image),
            _ => Err(CliError::usage("a tar holds the files of one platform")
                .with_hint("name one with `--platform`, or use `type=local`")),
        }
    }

    fn snapshot(&self, image: &BuiltImage) -> Result<Option<conex_store::Snapshot>> {
        match image.config.chain_id() {
            Some(chain) => Ok(self.options.lease.snapshot(&chain)?),
            None => Ok(None),
        }
    }

    fn local(&self, image: &BuiltImage, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)
            .doing(|| format!("cannot make the folder `{}`", folder.display()))?;
        let dir = Dir::open_ambient(folder)
            .doing(|| format!("cannot open the folder `{}`", folder.display()))?;
        let snapshot = self.snapshot(image)?;
        transfer::copy_rootfs(self.session, snapshot.as_ref(), dir, self.options.form)
    }

    fn kept(&self) -> Result<&Digest> {
        self.kept.as_ref().ok_or_else(|| CliError::new("the image was not kept"))
    }

    fn shipping(&self, packing: &Packing, keep: Keep) -> Shipping<'_> {
        Shipping {
            compression: packing.compression,
            level: packing.level,
            force: packing.force,
            keep,
            annotations: self.annotations.manifest.clone(),
            index_annotations: self.annotations.index.clone(),
            ..Shipping::usual()
        }
    }

    fn saved(&self, packing: &Packing, keep: Keep) -> Result<Saved<'_>> {
        let shipping = self.shipping(packing, keep);
        let shipment = Shipment::of(self.options.lease, self.kept()?, &shipping)?;
        Ok(Saved { shipment, names: self.tags.to_vec() })
    }

    fn push(&self, packing: &Packing) -> Result<Descriptor> {
        let client = crate::registry::client(self.session, Verify::Strict)?;
        let options = CopyOptions::new(client.options().transfers.blobs, transfer::PULL_VERTEX);
        let shipping = self.shipping(packing, Keep::Blobs);
        let shipping = Shipping { reporter: self.options.reporter, ..shipping };
        let (lease, id) = (self.options.lease, self.kept()?);
        let mut root = None;
        for tag in self.tags {
            let pushed = transfer::push(&client, lease, id, tag, &shipping, &options)?.root;
            root = Some(pushed);
        }
        root.ok_or_else(|| {
            CliError::usage("an image that is pushed needs a name")
                .with_hint("name it with `-t REGISTRY/NAME:TAG`")
        })
    }

    /// Writes the build cache to one place.
    pub fn export_cache(&self, output: &CacheOutput, outcome: &Outcome) -> Result<()> {
        let result = match &output.place {
            CachePlace::Inline => Ok(()),
            CachePlace::Local(folder) => self.cache_to_folder(output, folder, outcome),
            CachePlace::Registry(reference) => {
                self.cache_shipment(output, outcome).and_then(|shipment| {
                    let reporter = self.options.reporter;
                    let client = crate::registry::client(self.session, Verify::Strict)?;
                    let blobs = client.options().transfers.blobs;
                    let options = CopyOptions {
                        tags: vec![reference.tag().unwrap_or(CACHE_TAG).to_owned()],
                        ..CopyOptions::new(blobs, transfer::PULL_VERTEX)
                    };
                    let repository = client.repository(reference);
                    conex_remote::copy(&shipment, &repository, &options, reporter)?;
                    Ok(())
                })
            }
        };
        match result {
            Err(error) if output.ignore_error => {
                let text = format!("the build cache was not exported: {error}");
                self.options.reporter.event(Event::Note { text });
                Ok(())
            }
            result => result,
        }
    }

    fn cache_to_folder(
        &self,
        output: &CacheOutput,
        folder: &Path,
        outcome: &Outcome,
    ) -> Result<()> {
        let act = || format!("cannot use the folder `{}` for the build cache", folder.display());
        std::fs::create_dir_all(folder).doing(act)?;
        let root = RootDir::open(folder, Links::Refuse).doing(act)?;
        let layout = Layout::create(&root)?;
        let shipment = self.cache_shipment(output, outcome)?;
        let manifest = Manifest::parse(&shipment.manifest)?;
        let mut wanted = manifest.layers;
        wanted.push(manifest.config);
        wanted.push(shipment.root.clone());
        for blob in &wanted {
            transfer::copy_blob(&shipment, &layout, blob)?;
        }
        layout.add_image(&shipment.root, &[CACHE_TAG.to_owned()])?;
        // The folder holds one cache: what an earlier build left and this one does not name goes.
        sweep(folder, &wanted);
        Ok(())
    }

    fn cache_shipment(&self, output: &CacheOutput, outcome: &Outcome) -> Result<CacheShipment<'_>> {
        let lease = self.options.lease;
        let records = match (output.all, outcome.images.as_slice()) {
            (false, [image]) => outcome.cache.of_image(&image.config.rootfs.diff_ids),
            _ => outcome.cache.clone(),
        };
        let (config_bytes, layers) = records.document();
        let shipping = Shipping { keep: Keep::Blobs, ..Shipping::usual() };
        let mut blobs = Vec::new();
        for layer in layers {
            let known = self.session.store()?.layer_blobs(layer.diff_id())?;
            let mut found = None;
            for blob in known {
                if found.is_none() && lease.hold_blob(&blob.digest)? {
                    found = Some(blob);
                }
            }
            blobs.push(match found {
                Some(blob) => blob,
                None => transfer::pack(lease, &layer, &shipping)?,
            });
        }
        let config = Descriptor::of(MediaType::from(CACHE_CONFIG_TYPE), &config_bytes);
        lease
            .put(&config, &mut config_bytes.as_slice())
            .doing(|| "cannot keep the cache".into())?;
        let manifest = Manifest::new(config, blobs).to_bytes();
        let root = Descriptor::of(MediaType::OciManifest, &manifest);
        Ok(CacheShipment { lease, root, manifest })
    }
}

/// Removes blobs of a layout folder that nothing names. What cannot be removed takes space only.
fn sweep(folder: &Path, wanted: &[Descriptor]) {
    let Ok(entries) = std::fs::read_dir(folder.join("blobs/sha256")) else { return };
    for entry in entries.filter_map(std::result::Result::ok) {
        let name = entry.file_name();
        if !wanted.iter().any(|blob| blob.digest.hex().as_bytes() == name.as_encoded_bytes()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A build cache ready to leave.
struct CacheShipment<'l> {
    lease: &'l Lease,
    root: Descriptor,
    manifest: Vec<u8>,
}

impl BlobSource for CacheShipment<'_> {
    fn open(&self, blob: &Descriptor) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        if blob.digest == self.root.digest {
            return Ok(Box::new(std::io::Cursor::new(self.manifest.clone())));
        }
        BlobSource::open(self.lease, blob)
    }
}

impl ImageSource for CacheShipment<'_> {
    fn root(&self) -> std::io::Result<Descriptor> {
        Ok(self.root.clone())
    }

    fn manifest(&self, _: &Descriptor) -> std::io::Result<Vec<u8>> {
        Ok(self.manifest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_buildx_does() {
        let one = |text: &str| parse_one(text).map(|output| format!("{output:?}"));
        assert_eq!(one("out").unwrap(), "Local(\"out\")");
        assert_eq!(one("-").unwrap(), "Tar(None)");
        assert_eq!(one("type=docker").unwrap(), "Image");
        assert!(one("type=oci,dest=a.tar").unwrap().starts_with("Archive(Oci, Some(\"a.tar\")"));
        assert!(one("type=oci,dest=d,tar=false").unwrap().starts_with("Layout(\"d\""));
        assert!(one("type=image,push=true").unwrap().starts_with("Registry"));
        assert_eq!(one("type=loacl").unwrap_err().hint.unwrap(), "did you mean `type=local`?");
        assert!(one("type=local").is_err());
        assert_eq!(parse(&[], false).unwrap(), [Output::Image]);
    }

    #[test]
    fn caches_are_read_as_buildx_does() {
        let one = |text: &str| parse_cache("--cache-to", text);
        assert!(one("type=inline").unwrap().is_inline());
        assert!(one("type=local,dest=x,mode=max").unwrap().all);
        assert!(one("type=gha").is_err());
        assert!(one("type=registry").is_err());
        assert!(one("localhost:5000/cache").is_ok());
    }
}
