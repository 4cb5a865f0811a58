//! `conex rmi`, which is `conex image rm`.

use conex_store::{ErrorKind, Force};

use crate::error::{CliError, Result};
use crate::session::Session;

/// Remove images
///
/// A name loses only that name, until it is the image's last one: then the image goes, with every
/// layer that no other image and no build-cache record needs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex rmi app:1.3\n  conex rmi -f 3f2a91c0b7de\n  \
    conex rmi $(conex images -q --filter dangling=true)\n  \
    conex rmi --remote registry.example.com/app:1.3")]
pub struct Args {
    /// The images: names, IDs, or beginnings of IDs
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Remove an image with names in several repositories, and do not fail for missing ones
    #[arg(short, long)]
    force: bool,

    /// Remove the images from their registries, not from the store (`conex delete`)
    #[arg(long)]
    remote: bool,

    /// With `--remote`: `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,

    /// Keep the untagged images that it was built on; conex always does
    #[arg(long)]
    no_prune: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    if args.remote {
        use super::delete::{Force, remove};
        let force = if args.force { Force::Yes } else { Force::No };
        let access = crate::registry::Access::verified(args.tls_verify);
        return remove(session, &args.images, force, &access);
    }
    let store = session.store()?;
    let force = if args.force { Force::Yes } else { Force::No };
    let mut failed = Failures::default();
    for image in &args.images {
        match store.remove_image(image, force) {
            Ok(lines) => {
                let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
                session.out(&lines)?;
            }
            Err(error) => {
                let is_harmless = args.force && error.kind() == ErrorKind::NotFound;
                failed.add(session, CliError::from(error), is_harmless);
            }
        }
    }
    failed.finish()
}

/// What did not work for some of several things. The others are done all the same; the last error
/// ends the command.
#[derive(Default)]
pub struct Failures {
    last: Option<CliError>,
}

impl Failures {
    /// Notes an error, and shows the one before it. A harmless one is only shown.
    pub fn add(&mut self, session: &Session, error: CliError, is_harmless: bool) {
        if is_harmless {
            crate::show(session, &error);
        } else if let Some(before) = self.last.replace(error) {
            crate::show(session, &before);
        }
    }

    /// Ends the command.
    pub fn finish(self) -> Result<()> {
        self.last.map_or(Ok(()), Err)
    }
}
