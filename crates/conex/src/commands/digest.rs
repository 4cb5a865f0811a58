//! `conex digest`.

use conex_oci::{Index, Platform, Reference};

use crate::error::{CliError, Result};
use crate::registry::Access;
use crate::session::Session;

/// Show the digest of an image in a registry
///
/// Nothing is pulled: the registry is asked what the name means at this moment.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex digest alpine:3\n  conex digest --platform linux/arm64 alpine:3"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,

    /// The digest of this platform's image, of one that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,

    /// Show the whole name with the digest
    #[arg(long)]
    full_ref: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let name = args.name.strip_prefix("docker://").unwrap_or(&args.name);
    let reference: Reference = name.parse()?;
    let client = crate::registry::client_with(session, &Access::verified(args.tls_verify))?;
    let repository = client.repository(&reference);
    let mut found = repository.resolve()?;
    if let Some(wanted) = &args.platform
        && found.media_type.is_index()
    {
        let wanted: Platform = wanted.parse()?;
        let index = Index::parse(&repository.manifest_of(&found)?.bytes)?;
        let offered: Vec<_> =
            index.manifests.into_iter().filter(|child| child.platform.is_some()).collect();
        let best = wanted.best_of(offered.iter().filter_map(|child| child.platform.as_ref()));
        let best = best.and_then(|at| offered.into_iter().nth(at));
        found = best.ok_or_else(|| {
            CliError::new(format!("`{}` has no platform `{wanted}`", reference.familiar()))
        })?;
    }
    if args.full_ref {
        return session.out(&format!("{}@{}\n", reference.name(), found.digest));
    }
    session.out(&format!("{}\n", found.digest))
}
