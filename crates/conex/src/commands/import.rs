//! `conex import`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use conex_layer::ApplyOptions;
use conex_oci::{ImageConfig, Platform, Reference};
use conex_store::{Expected, ImageSource};

use crate::error::{CliError, Doing as _, Result};
use crate::local::NewRoot;
use crate::session::Session;

/// Make an image of one layer from a tar of a root file system
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  mmdebstrap --variant=minbase bookworm - | conex import - local/debian\n  \
    conex import rootfs.tar.zst local/base:1 --change 'CMD [\"/bin/sh\"]'"
)]
pub struct Args {
    /// The tar (plain, gzip, zstd, bzip2 or xz); `-` is standard input
    #[arg(value_name = "FILE|-")]
    file: String,

    /// Name of the image
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// A Dockerfile instruction for the config (`ENV`, `CMD`, `USER` …; can be repeated)
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,

    /// A message for the history
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    message: String,

    /// The platform of the files
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let name = args.name.as_deref().map(str::parse::<Reference>).transpose()?;
    let platform = match &args.platform {
        Some(text) => text.parse()?,
        None => Platform::host(),
    };
    let mut config = ImageConfig::scratch(platform);
    conex_build::apply_changes(&mut config, &args.change)?;
    let lease = session.store()?.lease()?;
    let mut root = NewRoot::begin(session, &lease)?;
    let mut input: Box<dyn Read + Send> = match args.file.as_str() {
        "-" => Box::new(std::io::stdin()),
        file => Box::new(File::open(file).doing(|| format!("cannot open `{file}`"))?),
    };
    let threads = crate::session::parallelism();
    let options = ApplyOptions::new(threads);
    conex_layer::unpack_archive(&mut input, &mut root.target, Path::new("/"), None, &options)
        .map_err(|error| CliError::because(format!("cannot import `{}`", args.file), error))?;
    // Where the tar lies must not decide the image's ID.
    let created_by = "conex import";
    let message = if args.message.is_empty() { "Imported from -" } else { &args.message };
    let record = root.finish(config, created_by, message, ImageSource::Imported)?;
    if let Some(name) = name {
        lease.store().tag(&name, &record.id, &Expected::Anything)?;
    }
    session.store()?.sync()?;
    session.out(&format!("{}\n", record.id))
}
