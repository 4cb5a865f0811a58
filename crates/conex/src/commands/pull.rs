//! `conex pull`.

use conex_oci::{Platform, Reference};

use crate::error::Result;
use crate::session::Session;

/// Pull an image from a registry into the store
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex pull alpine\n  conex pull --platform linux/arm64 ghcr.io/acme/api:1.4"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,

    /// The platform, of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Show only the image's name
    #[arg(short, long)]
    quiet: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let reference: Reference = args.name.parse()?;
    let platform = match &args.platform {
        Some(text) => text.parse()?,
        None => Platform::host(),
    };
    session.privileges()?;
    let lease = session.store()?.lease()?;
    let progress = crate::progress::of_transfer(
        session,
        args.quiet,
        format!("Pulling {}", reference.familiar()),
    );
    let verify = crate::registry::verify(args.tls_verify);
    let pulled =
        crate::transfer::pull_with(session, &lease, &reference, &platform, verify, &progress);
    progress.finish()?;
    let record = pulled?;
    crate::transfer::unpack(
        session,
        &lease,
        &session.store()?.image_for(&record, &platform)?.unwrap_or(record).id,
    )?;
    session.store()?.sync()?;
    session.out(&format!("{reference}\n"))
}
