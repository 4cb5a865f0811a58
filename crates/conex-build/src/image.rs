//! From what the vertices made to images.

use std::collections::BTreeMap;

use conex_oci::{Digest, ImageConfig, Platform};
use conex_store::{ImageRecord, ImageSource, NewImage, NewIndex};

use crate::ahead::Waiting;
use crate::engine::{Built, Engine, store_error};
use crate::error::Error;
use crate::graph::{Plan, Target};
use crate::options::BuildOptions;
use crate::remote_cache::CacheRecords;

/// What an image says beyond what the Dockerfile says.
#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// `--label`: beats the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// [`BuildOptions::epoch`] as RFC 3339.
    pub created: String,
    /// Whether the config tells which cache keys its layers have (`--cache-to type=inline`).
    pub inline_cache: bool,
}

/// An image that was built.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The platform asked for.
    pub platform: Platform,
    /// Its config.
    pub config: ImageConfig,
    /// The digest of the config, which is the image's ID.
    pub id: Digest,
}

/// What a build came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// One image a platform, in the order asked for.
    pub images: Vec<BuiltImage>,
    /// What steps came to, by cache key, for other machines.
    pub cache: CacheRecords,
}

/// Runs a plan. The layers are in the store afterwards, held by the lease; the images are not yet
/// (see [`keep`]).
///
/// # Errors
/// A step fails, the build is canceled, or the store cannot be used.
pub fn build(
    plan: &Plan,
    options: &BuildOptions<'_>,
    image: &ImageOptions,
) -> Result<Outcome, Error> {
    let engine = Engine { plan, options, waiting: Waiting::default() };
    let built = engine.run();
    // What was hashed stays known even if a later step failed.
    let contexts = options.contexts.main.iter().chain(options.contexts.named.values());
    contexts.for_each(|context| context.remember());
    let built = built?;
    let cache = CacheRecords::of(plan, &built);
    let images = plan.targets.iter().map(|target| assemble(target, &built, image, &cache));
    Ok(Outcome { images: images.collect(), cache })
}

/// Puts the images of a build into the store: one as itself, several under an index.
///
/// # Errors
/// The store cannot be written.
pub fn keep(outcome: &Outcome, options: &BuildOptions<'_>) -> Result<ImageRecord, Error> {
    let lease = options.lease;
    let mut records = Vec::new();
    for image in &outcome.images {
        let config = image.config.to_bytes();
        let new = NewImage { config: &config, manifest: None, source: ImageSource::Built };
        records.push(lease.put_image(&new).map_err(store_error)?);
    }
    match <[ImageRecord; 1]>::try_from(records) {
        Ok([record]) => Ok(record),
        Err(records) => {
            let platforms = outcome.images.iter().map(|image| image.platform.clone());
            let images = platforms.zip(records.into_iter().map(|record| record.id)).collect();
            let index = NewIndex::Local { images, source: ImageSource::Built };
            lease.put_index(&index).map_err(store_error)
        }
    }
}

fn assemble(
    target: &Target,
    built: &[Built],
    options: &ImageOptions,
    cache: &CacheRecords,
) -> BuiltImage {
    let mut config = target.config.clone();
    let head = target.head.map(|head| built[head].clone()).unwrap_or_default();
    config.rootfs.diff_ids = head.diff_ids;
    for step in &target.history {
        let mut history = step.history.clone();
        history.created = Some(options.created.clone());
        history.empty_layer = step.vertex.is_none_or(|vertex| !built[vertex].added);
        config.history.push(history);
    }
    config.created = Some(options.created.clone());
    config.config.labels.extend(options.labels.clone());
    if options.inline_cache {
        let records = cache.inline(&config.rootfs.diff_ids);
        config.unknown.insert(crate::remote_cache::INLINE_FIELD.to_owned(), records);
    }
    let id = Digest::of(&config.to_bytes());
    BuiltImage { platform: target.platform.clone(), config, id }
}
