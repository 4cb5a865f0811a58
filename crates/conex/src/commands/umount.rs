//! `conex umount`.

use std::path::PathBuf;

use rustix::mount::{UnmountFlags, unmount};

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Unmount what `conex mount` mounted
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  conex umount /mnt")]
pub struct Args {
    /// The folder that `conex mount` named
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    for target in &args.targets {
        let shown = target.display();
        let target =
            std::fs::canonicalize(target).doing(|| format!("cannot find the folder `{shown}`"))?;
        unmount(&target, UnmountFlags::empty()).map_err(|error| {
            let error = std::io::Error::from(error);
            CliError::because(format!("cannot unmount `{shown}`"), error)
        })?;
        super::mount::release(session, &target)?;
        if target.starts_with(session.store()?.root()) {
            // One that is not empty is somebody else's now.
            let _ = std::fs::remove_dir(&target);
        }
    }
    Ok(())
}
