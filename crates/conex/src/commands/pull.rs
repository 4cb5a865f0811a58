//! `conex pull`.

use std::path::PathBuf;

use conex_oci::{Platform, Reference};
use conex_remote::Referrers;

use crate::error::{CliError, Doing as _, Result};
use crate::registry::Access;
use crate::session::Session;
use crate::transfer::{PullOptions, Unpack, all_tags, pull_with};

/// Pull an image from a registry into the store
///
/// Layers are unpacked while they arrive. A pull that was interrupted, however it was, goes on
/// where it ended.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex pull alpine\n  conex pull --platform linux/arm64 ghcr.io/acme/api:1.4\n  \
    conex pull --all-tags localhost:5000/app"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,

    /// Pull all tags of the repository
    #[arg(short, long)]
    all_tags: bool,

    /// The platform, of an image that has several
    #[arg(long, value_name = "PLATFORM", conflicts_with = "all_platforms")]
    platform: Option<String>,

    /// Pull all platforms of an image that has several, with its index
    #[arg(long)]
    all_platforms: bool,

    /// Pull what refers to the image too: signatures, bills of materials
    #[arg(long)]
    referrers: bool,

    /// Write the digest of what was pulled to a file; with `--all-tags`, a line each
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,

    /// Show only the image's name
    #[arg(short, long)]
    quiet: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let name = args.name.strip_prefix("docker://").unwrap_or(&args.name);
    let reference: Reference = name.parse()?;
    if args.all_tags && super::copy::has_own_tag(name) {
        return Err(CliError::usage(format!("`{name}` has a tag, and `--all-tags` means all")));
    }
    let platform = match &args.platform {
        Some(text) => Some(text.parse()?),
        None if args.all_platforms => None,
        None => Some(Platform::host()),
    };
    session.privileges()?;
    let options = PullOptions {
        platform,
        referrers: if args.referrers { Referrers::Take } else { Referrers::Leave },
        unpack: Unpack::Yes,
    };
    let lease = session.store()?.lease()?;
    // What interrupted pulls of long ago left; that it cannot be removed is no reason not to pull.
    let _ = session.store()?.gc();
    let client = crate::registry::client_with(session, &Access::verified(args.tls_verify))?;
    let references = if args.all_tags { all_tags(&client, &reference)? } else { vec![reference] };
    let mut digests = String::new();
    let mut shown = String::new();
    for reference in references {
        let title = format!("Pulling {}", reference.familiar());
        let progress = crate::progress::of_transfer(session, args.quiet, title);
        let pulled = pull_with(session, &lease, &client, &reference, &options, &progress);
        progress.finish()?;
        let digest = pulled?.copied.root.digest;
        digests.push_str(&format!("{digest}\n"));
        if !args.quiet {
            session.err(&format!("Digest: {digest}"));
        }
        shown.push_str(&format!("{reference}\n"));
    }
    if let Some(file) = &args.digestfile {
        let text = if args.all_tags { digests.as_str() } else { digests.trim_end() };
        std::fs::write(file, text).doing(|| format!("cannot write `{}`", file.display()))?;
    }
    session.out(&shown)
}
