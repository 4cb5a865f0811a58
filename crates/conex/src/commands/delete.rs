//! Removing images from a registry: `conex rmi --remote` and `conex delete`.

use conex_oci::Reference;
use conex_remote::{ErrorKind, Repository};

use crate::error::{CliError, Result};
use crate::registry::Access;
use crate::session::Session;

/// Delete a tag or an image from a registry
///
/// A tag goes alone where the registry can do that. Where it deletes by digest only, the image
/// goes, if no other tag means it; `--force` deletes it with all of them. The same as
/// `conex rmi --remote`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex delete registry.example.com/app:1.3\n  \
    conex delete registry.example.com/app@sha256:3f2a…")]
pub struct Args {
    /// The images
    #[arg(value_name = "NAME:TAG|NAME@DIGEST", required = true)]
    images: Vec<String>,

    /// Delete an image although other tags mean it too, and do not fail for missing ones
    #[arg(short, long)]
    force: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

/// Whether more than what was named may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It may.
    Yes,
    /// It may not.
    No,
}

/// Most tags that are asked for their digest, to find out which others mean an image.
const TAGS_ASKED_MAX: usize = 1000;

/// Runs `conex delete`.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let force = if args.force { Force::Yes } else { Force::No };
    remove(session, &args.images, force, &Access::verified(args.tls_verify))
}

/// Removes images from their registries.
pub fn remove(session: &Session, images: &[String], force: Force, access: &Access) -> Result<()> {
    let client = crate::registry::client_with(session, access)?;
    let mut failed = super::rmi::Failures::default();
    for image in images {
        let name = image.strip_prefix("docker://").unwrap_or(image);
        let removed = name.parse::<Reference>().map_err(CliError::from).and_then(|reference| {
            if !super::copy::has_own_tag(name) {
                // That `latest` was meant is too easily wrong for something that cannot be undone.
                return Err(CliError::usage(format!("`{image}` has neither a tag nor a digest")));
            }
            remove_one(&client.repository(&reference), force)
        });
        match removed {
            Ok(line) => session.out(&line)?,
            Err(error) => {
                let missing = error
                    .source
                    .as_ref()
                    .and_then(|source| source.downcast_ref::<conex_remote::Error>())
                    .is_some_and(|error| error.kind() == ErrorKind::NotFound);
                failed.add(session, error, missing && force == Force::Yes);
            }
        }
    }
    failed.finish()
}

fn because(act: &str, error: conex_remote::Error) -> CliError {
    let hint = error.hint().map(str::to_owned);
    CliError { hint, ..CliError::because(act, error) }
}

fn remove_one(repository: &Repository, force: Force) -> Result<String> {
    let reference = repository.reference();
    let name = reference.familiar();
    let act = format!("cannot delete `{name}`");
    if let Some(digest) = reference.digest() {
        repository.delete_manifest(digest).map_err(|error| because(&act, error))?;
        return Ok(format!("Deleted: {name}\n"));
    }
    let tag = reference.tag().unwrap_or_default();
    match repository.delete_tag(tag) {
        Ok(()) => return Ok(format!("Untagged: {name}\n")),
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        Err(error) => return Err(because(&act, error)),
    }
    // The registry deletes by digest, and with it every tag that means the image.
    let found = repository.resolve().map_err(|error| because(&act, error))?;
    let others = others(repository, tag, &found.digest)?;
    if !others.is_empty() && force == Force::No {
        let message = format!(
            "{act}: the registry deletes whole images only, and this one is also `{}`",
            others.join("`, `")
        );
        return Err(CliError::new(message).with_hint("`--force` deletes it with all its tags"));
    }
    repository.delete_manifest(&found.digest).map_err(|error| because(&act, error))?;
    let mut text = format!("Untagged: {name}\n");
    for other in others {
        text.push_str(&format!("Untagged: {}:{other}\n", reference.familiar_name()));
    }
    text.push_str(&format!("Deleted: {}@{}\n", reference.familiar_name(), found.digest));
    Ok(text)
}

/// The other tags that mean a digest.
fn others(repository: &Repository, own: &str, digest: &conex_oci::Digest) -> Result<Vec<String>> {
    let tags = repository.tags()?;
    if tags.len() > TAGS_ASKED_MAX {
        return Err(CliError::new(format!(
            "the repository has {} tags, too many to see which others mean the image",
            tags.len()
        ))
        .with_hint("delete by digest: `NAME@sha256:…`"));
    }
    let mut found = Vec::new();
    for tag in tags.into_iter().filter(|tag| tag != own) {
        let other = repository.tagged(&tag)?;
        match other.resolve() {
            Ok(descriptor) if descriptor.digest == *digest => found.push(tag),
            // It went away meanwhile, or never led anywhere.
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(found)
}
