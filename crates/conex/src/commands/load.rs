//! `conex load`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Load images from an archive
///
/// Takes what `docker save`, `podman save`, `skopeo copy` and `conex save` write: Docker and OCI
/// archives, plain or compressed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex load -i app.tar\n  docker save app | conex load")]
pub struct Args {
    /// The archive; without it, standard input
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Show only what is wrong
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let lease = session.store()?.lease()?;
    let (mut input, name): (Box<dyn Read + Send>, String) = match &args.input {
        Some(path) => {
            let file = File::open(path).doing(|| format!("cannot open `{}`", path.display()))?;
            (Box::new(file), path.display().to_string())
        }
        None if conex_term::is_terminal(std::io::stdin()) => {
            return Err(CliError::usage("no archive was named, and standard input is a terminal")
                .with_hint("name it with `-i FILE`"));
        }
        None => (Box::new(std::io::stdin()), "standard input".to_owned()),
    };
    let loaded = crate::transfer::load(&lease, &mut input).map_err(|error| CliError {
        hint: error.hint.clone(),
        ..CliError::because(format!("cannot load `{name}`"), error)
    })?;
    // What was loaded may have no other copy: it must outlast a power cut.
    session.store()?.sync()?;
    if args.quiet {
        return Ok(());
    }
    let mut text = String::new();
    for image in loaded {
        if image.names.is_empty() {
            text.push_str(&format!("Loaded image ID: {}\n", image.record.id));
        }
        for name in &image.names {
            text.push_str(&format!("Loaded image: {}\n", name.familiar()));
        }
    }
    session.out(&text)
}
