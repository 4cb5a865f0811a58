//! From a registry into the store: fetched, kept and unpacked in one go.

use conex_oci::{Descriptor, Index, Manifest, Platform, Reference};
use conex_remote::{Client, Copied, CopyOptions, Referrers, Repository, Survey, copy_surveyed};
use conex_report::Reporter;
use conex_store::{Expected, ImageRecord, ImageSource, Lease};

use super::artifacts::is_image;
use super::unpack::{Unpacking, unpack_arriving};
use super::{PULL_VERTEX, StoreSink};
use crate::error::{CliError, Result};
use crate::session::Session;

/// Whether layers are unpacked while they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpack {
    /// They are.
    Yes,
    /// Whoever needs them unpacked does that.
    No,
}

/// What of an image is pulled.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// One platform of an image that has several; none for all.
    pub platform: Option<Platform>,
    /// What refers to it.
    pub referrers: Referrers,
    /// Whether it is unpacked.
    pub unpack: Unpack,
}

/// What came.
#[derive(Debug)]
pub struct Pulled {
    /// The image in the store.
    pub record: ImageRecord,
    /// What was done.
    pub copied: Copied,
}

/// Pulls an image from its registry and tags it.
pub fn pull(
    session: &Session,
    lease: &Lease,
    reference: &Reference,
    platform: &Platform,
    reporter: &dyn Reporter,
) -> Result<ImageRecord> {
    let access = crate::registry::Access::default();
    let client = crate::registry::client_with(session, &access)?;
    let options = PullOptions {
        platform: Some(platform.clone()),
        referrers: Referrers::Leave,
        unpack: Unpack::No,
    };
    Ok(pull_with(session, lease, &client, reference, &options, reporter)?.record)
}

/// The same, with a say in how.
pub fn pull_with(
    session: &Session,
    lease: &Lease,
    client: &Client,
    reference: &Reference,
    options: &PullOptions,
    reporter: &dyn Reporter,
) -> Result<Pulled> {
    let repository = client.repository(reference);
    let sink = StoreSink::new(lease, ImageSource::Pulled);
    let copying = CopyOptions {
        platform: options.platform.clone(),
        referrers: options.referrers,
        ..CopyOptions::new(client.options().transfers.blobs, PULL_VERTEX)
    };
    let survey = Survey::of(&repository, Some(&sink), &copying)?;
    refuse_artifact(reference, &survey)?;
    let copied = match options.unpack {
        Unpack::No => copy_surveyed(&repository, &sink, &survey, &copying, reporter)?,
        Unpack::Yes => {
            let unpacking = Unpacking {
                lease,
                form: super::form(session)?,
                threads: crate::session::parallelism(),
                reporter,
            };
            fetch_and_unpack(&repository, &sink, &survey, &copying, &unpacking)?
        }
    };
    let record = sink.record(&copied.root.digest)?;
    let by_digest = reference.with_digest(copied.root.digest.clone());
    lease.store().put_repo_digest(&by_digest, &record.id)?;
    if reference.tag().is_some() && reference.digest().is_none() {
        lease.store().tag(reference, &record.id, &Expected::Anything)?;
    }
    Ok(Pulled { record, copied })
}

/// Says at once that something is no image, not after all of it was fetched.
fn refuse_artifact(reference: &Reference, survey: &Survey) -> Result<()> {
    let Some(manifest) = manifest_of(survey, &survey.root) else { return Ok(()) };
    if is_image(&manifest) {
        return Ok(());
    }
    let kind = manifest.artifact_type.unwrap_or(manifest.config.media_type.to_string());
    Err(CliError::new(format!("`{}` is no container image, but `{kind}`", reference.familiar()))
        .with_hint("`conex copy` takes it to a registry or a layout; the store keeps images"))
}

fn fetch_and_unpack(
    repository: &Repository,
    sink: &StoreSink<'_>,
    survey: &Survey,
    copying: &CopyOptions,
    unpacking: &Unpacking<'_>,
) -> Result<Copied> {
    let reporter = unpacking.reporter;
    let arrivals = sink.arrivals();
    let chosen = chosen(survey);
    std::thread::scope(|scope| {
        let unpacker = scope.spawn(|| match &chosen {
            Some(manifest) => {
                let done = unpack_arriving(unpacking, manifest, arrivals);
                if done.is_err() {
                    arrivals.refuse();
                }
                done
            }
            None => Ok(()),
        });
        let copied = copy_surveyed(repository, sink, survey, copying, reporter);
        arrivals.end();
        let unpacked = unpacker.join().unwrap_or_else(|_| {
            Err(CliError::new("unpacking ended in a panic, which is a mistake of conex"))
        });
        match (copied, unpacked) {
            // What ended the transfer is then that nobody wanted more.
            (_, Err(error)) => Err(error),
            (copied, Ok(())) => Ok(copied?),
        }
    })
}

/// The image that is unpacked: the one there is, or that of this machine's platform.
fn chosen(survey: &Survey) -> Option<Manifest> {
    if let Some(manifest) = manifest_of(survey, &survey.root) {
        return Some(manifest);
    }
    let (_, bytes) =
        survey.manifests.iter().find(|(known, _)| known.digest == survey.root.digest)?;
    let index = Index::parse(bytes).ok()?;
    let offered: Vec<&Descriptor> =
        index.manifests.iter().filter(|child| child.platform.is_some()).collect();
    let best = Platform::host().best_of(offered.iter().filter_map(|m| m.platform.as_ref()))?;
    manifest_of(survey, offered.get(best)?)
}

fn manifest_of(survey: &Survey, wanted: &Descriptor) -> Option<Manifest> {
    let (descriptor, bytes) =
        survey.manifests.iter().find(|(known, _)| known.digest == wanted.digest)?;
    (!descriptor.media_type.is_index()).then(|| Manifest::parse(bytes).ok()).flatten()
}

/// The tags of a repository, for `--all-tags`.
pub fn all_tags(client: &Client, reference: &Reference) -> Result<Vec<Reference>> {
    let tags = client.repository(reference).tags()?;
    if tags.is_empty() {
        return Err(CliError::new(format!("`{}` has no tags", reference.familiar_name())));
    }
    let name =
        |tag: &String| -> Result<Reference> { Ok(format!("{}:{tag}", reference.name()).parse()?) };
    tags.iter().map(name).collect()
}
