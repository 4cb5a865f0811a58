//! What has to be copied: the manifests, children first, and the blobs, each once.

use std::collections::HashSet;

use conex_oci::{Descriptor, Hasher, Index, MANIFEST_SIZE_MAX, Manifest, MediaType, Platform};

use crate::error::{Error, ErrorKind, Result, shown};
use crate::limits::{DEPTH_MAX, MANIFESTS_MAX};

use super::{CopyOptions, ImageSink, ImageSource, Referrers};

/// What an image consists of, as far as a sink has to be given it. Manifests are verified.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The image: its manifest, or the index of its manifests.
    pub root: Descriptor,
    /// Manifests and indexes, children before what names them, referrers after their subject.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
    /// Configs, layers and what else the manifests name, each once.
    pub blobs: Vec<Descriptor>,
    /// Those of the manifests that refer to others.
    pub referrers: Vec<Descriptor>,
}

struct Planner<'a> {
    source: &'a dyn ImageSource,
    sink: Option<&'a dyn ImageSink>,
    referrers: Referrers,
    manifests: Vec<(Descriptor, Vec<u8>)>,
    blobs: Vec<Descriptor>,
    found: Vec<Descriptor>,
    seen: HashSet<conex_oci::Digest>,
}

impl Survey {
    /// Reads the manifests of an image. With a sink, what it has is left out; without, nothing is.
    ///
    /// # Errors
    /// A manifest cannot be read or is not what its digest says, there is no such platform, or the
    /// image is over a limit.
    pub fn of(
        source: &dyn ImageSource,
        sink: Option<&dyn ImageSink>,
        options: &CopyOptions,
    ) -> Result<Self> {
        if options.format.is_some() && options.referrers == Referrers::Take {
            let message =
                "what refers to an image refers to its digest, which another format changes";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_hint("copy without `--format`, or without `--referrers`"));
        }
        // What the sink has of the image is in the old format.
        let sink = sink.filter(|_| options.format.is_none());
        let mut planner = Planner {
            source,
            sink,
            referrers: options.referrers,
            manifests: Vec::new(),
            blobs: Vec::new(),
            found: Vec::new(),
            seen: options.there.iter().cloned().collect(),
        };
        let root =
            source.root().map_err(|error| Error::local("cannot look up the image", error))?;
        let root = match &options.platform {
            Some(platform) => planner.choose(root, platform)?,
            None => root,
        };
        planner.visit(&root, 0)?;
        let Planner { manifests, blobs, found: referrers, .. } = planner;
        let survey = Self { root, manifests, blobs, referrers };
        match options.format {
            Some(format) => survey.into_format(format),
            None => Ok(survey),
        }
    }
}

impl Planner<'_> {
    /// Finds the manifest of one platform.
    fn choose(&self, root: Descriptor, platform: &Platform) -> Result<Descriptor> {
        if !root.media_type.is_index() {
            return Ok(root);
        }
        let index = parse_index(&root, &self.read(&root)?)?;
        let offered: Vec<&Descriptor> =
            index.manifests.iter().filter(|manifest| manifest.platform.is_some()).collect();
        let best = platform.best_of(offered.iter().filter_map(|m| m.platform.as_ref()));
        best.and_then(|at| offered.get(at)).map(|found| (*found).clone()).ok_or_else(|| {
            let names: Vec<String> = offered
                .iter()
                .filter_map(|m| m.platform.as_ref())
                .map(ToString::to_string)
                .collect();
            Error::new(ErrorKind::NotFound, format!("the image has no platform `{platform}`"))
                .with_hint(format!("it has {}", shown(&names.join(", "), 300)))
        })
    }

    /// Reads a manifest and checks that it is the one that was named.
    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = format!("manifest `{}`", descriptor.digest);
        if descriptor.size > MANIFEST_SIZE_MAX {
            return Err(Error::too_large(&name, MANIFEST_SIZE_MAX));
        }
        let bytes = self
            .source
            .manifest(descriptor)
            .map_err(|error| Error::local(format!("cannot read {name}"), error))?;
        if bytes.len() as u64 != descriptor.size {
            return Err(Error::size_mismatch(&name, descriptor.size, bytes.len() as u64));
        }
        let mut hasher = Hasher::new(descriptor.digest.algorithm());
        hasher.update(&bytes);
        let got = hasher.finish();
        if got != descriptor.digest {
            return Err(Error::digest_mismatch(&name, &descriptor.digest, got.as_str()));
        }
        Ok(bytes)
    }

    /// Adds a manifest after everything that it names. What it is named by comes later, so that at
    /// no moment the sink has a manifest whose parts are missing.
    fn visit(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(Error::protocol("the image's indexes are nested too deep"));
        }
        if !self.seen.insert(descriptor.digest.clone()) {
            return Ok(());
        }
        if self.seen.len() > MANIFESTS_MAX {
            return Err(Error::too_large("the image (manifests, not bytes)", MANIFESTS_MAX as u64));
        }
        let bytes = self.read(descriptor)?;
        if is_index(&descriptor.media_type, &bytes) {
            for child in parse_index(descriptor, &bytes)?.manifests {
                // An index may list blobs that are no manifests; they go along as what they are.
                if is_manifest_like(&child.media_type) {
                    self.visit(&bare(&child), depth + 1)?;
                } else {
                    self.add_blob(child);
                }
            }
        } else {
            self.add_parts(descriptor, &bytes)?;
        }
        self.manifests.push((bare(descriptor), bytes));
        if self.referrers == Referrers::Take {
            let found = self.source.referrers(&descriptor.digest).map_err(|error| {
                Error::local(format!("cannot list what refers to `{}`", descriptor.digest), error)
            })?;
            for referrer in found {
                self.visit(&bare(&referrer), depth + 1)?;
                self.found.push(referrer);
            }
        }
        Ok(())
    }

    fn add_parts(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        // Where the sink has the manifest it has the parts.
        let there = self.sink.map_or(Ok(false), |sink| sink.has_manifest(descriptor));
        let there = there.map_err(|error| {
            Error::local(format!("cannot look for manifest `{}`", descriptor.digest), error)
        })?;
        if there {
            return Ok(());
        }
        let manifest = Manifest::parse(bytes).map_err(|source| {
            let message = format!("manifest `{}` cannot be understood", descriptor.digest);
            Error::protocol(message).with_source(source)
        })?;
        self.add_blob(manifest.config);
        for layer in manifest.layers {
            self.add_blob(layer);
        }
        Ok(())
    }

    fn add_blob(&mut self, blob: Descriptor) {
        // Layers that must not be handed on are fetched from where their URLs say, by whoever
        // runs the image; registries do not have them.
        let kind = blob.media_type.as_str();
        let foreign = kind.contains(".foreign.") || kind.contains(".nondistributable.");
        if !foreign && self.seen.insert(blob.digest.clone()) {
            self.blobs.push(blob);
        }
    }
}

/// The descriptor without what its index says about it (platform, annotations).
fn bare(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type.clone(), descriptor.digest.clone(), descriptor.size)
}

fn is_manifest_like(media_type: &MediaType) -> bool {
    media_type.is_manifest()
        || media_type.is_index()
        || media_type.as_str().ends_with(".manifest.v1+json")
}

pub(super) fn is_index(media_type: &MediaType, bytes: &[u8]) -> bool {
    media_type.is_index() || (!media_type.is_manifest() && Index::parse(bytes).is_ok())
}

pub(super) fn parse_index(descriptor: &Descriptor, bytes: &[u8]) -> Result<Index> {
    Index::parse(bytes).map_err(|source| {
        let message = format!("index `{}` cannot be understood", descriptor.digest);
        Error::protocol(message).with_source(source)
    })
}
