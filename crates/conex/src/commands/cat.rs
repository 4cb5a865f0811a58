//! `conex cat`.

use std::io::Write as _;

use super::analyze::{SourceArgs, take};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Write a file of an image to standard output
///
/// IMAGE is what `conex analyze` takes. Symbolic links are followed as in a container. Nothing is
/// unpacked: of the image's layers only the one that holds the file is read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex cat app:/etc/os-release\n  \
    conex cat ./app.tar:/etc/passwd")]
pub struct Args {
    /// The files
    #[arg(value_name = "IMAGE:PATH", required = true, allow_hyphen_values = true)]
    files: Vec<String>,

    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    for text in &args.files {
        let (image, path) = take::split(text)?;
        let analysis = args.source.open(session, image)?;
        let id = take::find(&analysis.tree, path, true)?;
        if analysis.tree.place(id).is_none_or(|place| place.entry.is_none()) {
            let kind = analysis.tree.entry(id).kind.word();
            return Err(CliError::new(format!("`{path}` is no file but a {kind}")));
        }
        take::contents(&analysis.subject, &analysis.tree, &[id], &mut |_, taken| {
            let mut out = std::io::stdout().lock();
            match std::io::copy(taken.content, &mut out).and_then(|_| out.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    Err(CliError::exit(0))
                }
                copied => copied.doing(|| format!("cannot write `{path}`")),
            }
        })?;
    }
    Ok(())
}
