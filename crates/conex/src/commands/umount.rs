//! `conex umount`.

use std::path::PathBuf;

use crate::error::{Doing as _, Result};
use crate::session::Session;

/// Unmount what `conex mount` mounted
///
/// The image has one name less then. What was unmounted otherwise, or by a restart of the machine,
/// is only let go. With several targets the others are unmounted where one fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex umount /mnt\n  conex umount --all")]
pub struct Args {
    /// The folder that `conex mount` named
    #[arg(value_name = "TARGET", required_unless_present = "all", conflicts_with = "all")]
    targets: Vec<PathBuf>,

    /// Unmount everything that `conex mount` mounted in this store
    #[arg(short, long)]
    all: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    if args.all {
        return super::mount::release_all(session);
    }
    let mut result = Ok(());
    for target in &args.targets {
        let act = || format!("cannot find the folder `{}`", target.display());
        // A folder that is gone may still have a name that keeps an image.
        let found = std::fs::canonicalize(target).or_else(|_| std::path::absolute(target));
        let released = found.doing(act).and_then(|target| super::mount::release(session, &target));
        result = result.and(released);
    }
    result
}
