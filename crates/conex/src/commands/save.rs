//! `conex save`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use conex_layer::ArchiveForm;
use conex_oci::{Compression, Reference};

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;
use crate::transfer::{Saved, Shipment, Shipping};

/// Save images to an archive
///
/// The default is what `docker save` writes, which every tool reads. Layers are made from the
/// store's files; those that were pulled keep their bytes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex save -o app.tar app\n  conex save app | docker load\n  \
    conex save --format oci-archive --compression zstd -o app.tar app:1 app:2"
)]
pub struct Args {
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    /// Write to a file (a folder for `oci-dir`); without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What to write
    #[arg(long, value_enum, default_value = "docker-archive", value_name = "FORMAT")]
    format: Format,

    /// Compress layers that were built here
    #[arg(long, alias = "compress", value_enum, default_value = "none", value_name = "HOW")]
    compression: Compress,

    /// How hard to compress (gzip 1 to 12, zstd 1 to 22)
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<i32>,

    /// Compress all layers anew, also those that were pulled
    #[arg(long)]
    force_compression: bool,

    /// One platform of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    DockerArchive,
    OciArchive,
    OciDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Compress {
    None,
    Gzip,
    Zstd,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    if args.output.is_none() && conex_term::is_terminal(std::io::stdout()) {
        return Err(CliError::usage("refusing to write an archive to a terminal")
            .with_hint("name a file with `-o FILE`, or redirect the output"));
    }
    let lease = session.store()?.lease()?;
    let shipping = Shipping {
        compression: match args.compression {
            Compress::None => Compression::None,
            Compress::Gzip => Compression::Gzip,
            Compress::Zstd => Compression::Zstd,
        },
        level: args.compression_level,
        force: args.force_compression,
        platform: args.platform.as_deref().map(str::parse).transpose()?,
        ..Shipping::usual()
    };
    let mut images = Vec::new();
    for name in &args.images {
        let record = session.store()?.resolve(name)?;
        lease.hold_image(&record.id)?;
        let shipment = Shipment::of(&lease, &record.id, &shipping)?;
        // An image that was named by its ID has no name in the archive.
        let names = name.parse::<Reference>().ok().filter(|name| record.tags.contains(name));
        images.push(Saved { shipment, names: names.into_iter().collect() });
    }
    let form = match args.format {
        Format::DockerArchive => ArchiveForm::Docker,
        Format::OciArchive => ArchiveForm::Oci,
        Format::OciDir => {
            let folder = args
                .output
                .as_deref()
                .ok_or_else(|| CliError::usage("`--format oci-dir` needs a folder: `-o DIR`"))?;
            return images.iter().try_for_each(|image| crate::transfer::save_layout(image, folder));
        }
    };
    match &args.output {
        None => {
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            crate::transfer::save(&images, form, &mut out)?;
            out.flush().doing(|| "cannot write to standard output".to_owned())
        }
        Some(path) => to_file(path, |out| crate::transfer::save(&images, form, out)),
    }
}

/// Writes a file that is whole or not there.
pub fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let act = || format!("cannot write `{}`", path.display());
    // A device or pipe is written to as it is.
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let file = File::options().write(true).open(path).doing(act)?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        write(&mut out)?;
        return out.flush().doing(act);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let file = File::create(&temporary).doing(act)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut out).and_then(|()| out.flush().doing(act));
    let done = written.and_then(|()| std::fs::rename(&temporary, path).doing(act));
    if done.is_err() {
        // The first error is the one that matters.
        let _ = std::fs::remove_file(&temporary);
    }
    done
}
