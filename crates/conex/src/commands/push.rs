//! `conex push`.

use conex_oci::{Compression, Reference};

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::transfer::{Keep, Shipment, Shipping};

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

    /// Write the digest of what was pushed to a file
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
    let destination = args.destination.as_deref().unwrap_or(&args.image);
    let destination = destination.strip_prefix("docker://").unwrap_or(destination);
    let reference: Reference = destination.parse().map_err(|error| {
        CliError::because(format!("cannot push to `{destination}`"), error)
            .with_hint("name the place behind the image: `conex push IMAGE REGISTRY/NAME:TAG`")
    })?;
    let lease = session.store()?.lease()?;
    let record = session.store()?.resolve(&args.image)?;
    lease.hold_image(&record.id)?;
    let shipping = Shipping {
        compression: match args.compression {
            Compress::None => Compression::None,
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
        },
        level: args.compression_level,
        force: args.force_compression,
        keep: Keep::Blobs,
        ..Shipping::usual()
    };
    let title = format!("Pushing {}", reference.familiar());
    let progress = crate::progress::of_transfer(session, args.quiet, title);
    let verify = crate::registry::verify(args.tls_verify);
    let pushed = Shipment::of(&lease, &record.id, &shipping).and_then(|shipment| {
        crate::transfer::push(session, &shipment, &reference, verify, &progress)
    });
    progress.finish()?;
    let digest = pushed?.root.digest;
    session.store()?.put_repo_digest(&reference.with_digest(digest.clone()), &record.id)?;
    if let Some(file) = &args.digestfile {
        use crate::error::Doing as _;
        std::fs::write(file, digest.as_str())
            .doing(|| format!("cannot write `{}`", file.display()))?;
    }
    if args.quiet {
        return session.out(&format!("{digest}\n"));
    }
    session.out(&format!("{}: digest: {digest}\n", reference.familiar()))
}
