//! `conex export`.

use std::io::Write;
use std::path::PathBuf;

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Write the root file system of an image as one tar
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex export -o rootfs.tar app\n  conex export app | tar x -C rootfs"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Write to a file; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// One platform of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    if args.output.is_none() && conex_term::is_terminal(std::io::stdout()) {
        return Err(CliError::usage("refusing to write a tar to a terminal")
            .with_hint("name a file with `-o FILE`, or redirect the output"));
    }
    let lease = session.store()?.lease()?;
    let record = session.store()?.resolve(&args.image)?;
    let platform = match &args.platform {
        Some(text) => text.parse()?,
        None => conex_oci::Platform::host(),
    };
    let chosen = session.store()?.image_for(&record, &platform)?.ok_or_else(|| {
        CliError::new(format!("the image `{}` is not there for `{platform}`", args.image))
    })?;
    lease.hold_image(&chosen.id)?;
    crate::transfer::unpack(session, &lease, &chosen.id)?;
    let config = session.store()?.image_config(&chosen.id)?;
    let snapshot = match config.chain_id() {
        Some(chain) => lease.snapshot(&chain)?,
        None => None,
    };
    let write = |out: &mut dyn Write| {
        crate::transfer::write_rootfs(session, &lease, snapshot.as_ref(), out)
    };
    match &args.output {
        Some(path) => super::save::to_file(path, write),
        None => {
            let mut out = std::io::BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            write(&mut out)?;
            out.flush().doing(|| "cannot write to standard output".to_owned())
        }
    }
}
