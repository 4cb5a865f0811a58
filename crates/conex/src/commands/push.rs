//! `conex push`.

use conex_oci::{Compression, Reference};
use conex_remote::{CopyOptions, Referrers};

use crate::error::{CliError, Doing as _, Result};
use crate::registry::Access;
use crate::session::Session;
use crate::transfer::{Keep, PULL_VERTEX, Shipping, push};

/// Push an image from the store to a registry
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex push ghcr.io/acme/api:1.4\n  conex push app localhost:5000/app:1"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Where to, if the image has another name in the store
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,

    /// Compression of layers that were built here
    #[arg(long, value_enum, default_value = "gzip", value_name = "HOW")]
    compression: Compress,

    /// How hard to compress (gzip 1 to 12, zstd 1 to 22)
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<i32>,

    /// Compress all layers anew, also those that were pulled
    #[arg(long)]
    force_compression: bool,

    /// Write manifests as OCI or as Docker has them; none leaves what was pulled as it is and
    /// writes OCI for what was built
    #[arg(short, long, value_enum, value_name = "FORMAT", conflicts_with = "referrers")]
    format: Option<super::copy::Format>,

    /// Push all tags of the repository that are in the store
    #[arg(short, long, conflicts_with = "destination")]
    all_tags: bool,

    /// Push only this platform, of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Push what refers to the image too: signatures, bills of materials
    #[arg(long)]
    referrers: bool,

    /// Write the digest of what was pushed to a file; with `--all-tags`, a line each
    #[arg(long, value_name = "FILE")]
    digestfile: Option<std::path::PathBuf>,

    /// Show only the digest
    #[arg(short, long)]
    quiet: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compress {
    None,
    Gzip,
    Zstd,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    session.privileges()?;
    let lease = session.store()?.lease()?;
    let shipping = Shipping {
        compression: match args.compression {
            Compress::None => Compression::None,
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
        },
        level: args.compression_level,
        force: args.force_compression,
        keep: Keep::Blobs,
        platform: args.platform.as_deref().map(str::parse).transpose()?,
        ..Shipping::usual()
    };
    let client = crate::registry::client_with(session, &Access::verified(args.tls_verify))?;
    let options = CopyOptions {
        referrers: if args.referrers { Referrers::Take } else { Referrers::Leave },
        format: args.format.map(Into::into),
        ..CopyOptions::new(client.options().transfers.blobs, PULL_VERTEX)
    };
    let mut digests = String::new();
    for (image, reference) in pairs(session, &args)? {
        let record = session.store()?.resolve(&image)?;
        lease.hold_image(&record.id)?;
        let title = format!("Pushing {}", reference.familiar());
        let progress = crate::progress::of_transfer(session, args.quiet, title);
        let shipping = Shipping { reporter: &progress, ..shipping.clone() };
        let pushed = push(&client, &lease, &record.id, &reference, &shipping, &options);
        progress.finish()?;
        let digest = pushed?.root.digest;
        digests.push_str(&format!("{digest}\n"));
        if args.quiet {
            session.out(&format!("{digest}\n"))?;
        } else {
            session.out(&format!("{}: digest: {digest}\n", reference.familiar()))?;
        }
    }
    if let Some(file) = &args.digestfile {
        let text = if args.all_tags { digests.as_str() } else { digests.trim_end() };
        std::fs::write(file, text).doing(|| format!("cannot write `{}`", file.display()))?;
    }
    Ok(())
}

/// What is pushed, and under which names.
fn pairs(session: &Session, args: &Args) -> Result<Vec<(String, Reference)>> {
    if args.all_tags {
        if super::copy::has_own_tag(&args.image) {
            let message = format!("`{}` has a tag, and `--all-tags` means all", args.image);
            return Err(CliError::usage(message));
        }
        let wanted: Reference = args.image.parse()?;
        let mut names: Vec<Reference> =
            session.store()?.images()?.into_iter().flat_map(|record| record.tags).collect();
        names.retain(|name| name.name() == wanted.name());
        names.sort();
        if names.is_empty() {
            return Err(CliError::new(format!("no image of `{}` is in the store", args.image)));
        }
        return Ok(names.into_iter().map(|name| (name.to_string(), name)).collect());
    }
    let destination = args.destination.as_deref().unwrap_or(&args.image);
    let destination = destination.strip_prefix("docker://").unwrap_or(destination);
    let reference: Reference = destination.parse().map_err(|error| {
        CliError::because(format!("cannot push to `{destination}`"), error)
            .with_hint("name the place behind the image: `conex push IMAGE REGISTRY/NAME:TAG`")
    })?;
    Ok(vec![(args.image.clone(), reference)])
}
