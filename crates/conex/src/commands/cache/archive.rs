//! Cache mounts as archives, so that they can go to another machine: from one CI run to the next.
//!
//! Invariant: a cache mount changes only when the whole archive was read; a damaged or truncated
//! one leaves it as it was.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use conex_layer::{
    ApplyOptions, Encoder, EncoderOptions, Form, Hashing, Ownership, Stack, Target, WriteOptions,
    unpack_archive, write_layer,
};
use conex_oci::Compression;
use conex_store::{CacheMount, CacheMountOptions, Sharing, Store};
use conex_sys::dir::Dir;
use conex_term::human_size;

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Write a cache mount to an archive
///
/// A tar compressed with zstd. The same content gives the same archive.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex cache export /root/.cache/pip -o pip.tar.zst\n  \
    conex cache export cargo-registry | ssh builder conex cache import cargo-registry -")]
pub struct ExportArgs {
    /// The ID of the cache mount (`id=` of the mount, else its `target=`)
    #[arg(value_name = "ID")]
    id: String,

    /// Where to write to; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

/// Fill a cache mount from an archive
///
/// A tar, compressed or not. What was in the cache mount goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex cache import /root/.cache/pip pip.tar.zst")]
pub struct ImportArgs {
    /// The ID of the cache mount (`id=` of the mount, else its `target=`)
    #[arg(value_name = "ID")]
    id: String,

    /// The archive; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

/// Runs `conex cache export`.
pub fn export(session: &Session, args: &ExportArgs) -> Result<()> {
    let store = session.store()?;
    if !store.cache_mounts()?.iter().any(|mount| mount.id == args.id) {
        return Err(CliError::new(format!("no such cache mount: `{}`", args.id))
            .with_hint("`conex cache ls` lists what there is"));
    }
    // Steps that add to it meanwhile would make a torn archive; those that share it wait.
    let mount = take(store, &args.id, 0o755)?;
    if args.output == Path::new("-") {
        if conex_term::is_terminal(std::io::stdout()) {
            return Err(CliError::usage("an archive is nothing for a terminal")
                .with_hint("name a file with `-o`, or pass it on to a program"));
        }
        return write(session, &mount, &mut std::io::stdout().lock()).map(drop);
    }
    let partial = partial_name(&args.output);
    let mut file =
        File::create(&partial).doing(|| format!("cannot create `{}`", partial.display()))?;
    let written = write(session, &mount, &mut file).and_then(|size| {
        fs::rename(&partial, &args.output)
            .doing(|| format!("cannot create `{}`", args.output.display()))?;
        Ok(size)
    });
    if written.is_err() {
        // The first error says what is wrong.
        let _ = fs::remove_file(&partial);
    }
    session.err(&format!("{}: {}", args.output.display(), human_size(written?)));
    Ok(())
}

/// The name under which a file is written until it is whole.
fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Takes a cache mount alone; a step that uses it is waited for.
fn take(store: &Store, id: &str, mode: u32) -> Result<CacheMount> {
    let options = CacheMountOptions { sharing: Sharing::Locked, mode, owner: None };
    Ok(store.cache_mount(id, &options, &|| true)?)
}

/// How files lie in a cache mount: as their programs made them.
fn form(session: &Session) -> Result<Form> {
    Ok(Form { flavor: session.privileges()?.flavor(), ownership: Ownership::Real })
}

fn write(session: &Session, mount: &CacheMount, out: &mut dyn Write) -> Result<u64> {
    let form = form(session)?;
    let failed = || "cannot write the archive".to_owned();
    let dir = Dir::open_ambient(mount.path()).doing(|| "cannot open the cache mount".to_owned())?;
    let options = EncoderOptions {
        compression: Compression::Zstd,
        level: None,
        thread_count: crate::session::parallelism(),
        hash: Hashing::None,
    };
    let mut encoder = Encoder::new(out, &options).doing(failed)?;
    let options = WriteOptions { hash: Hashing::None, ..WriteOptions::new(form) };
    write_layer(&dir, &Stack::empty(form), &options, &mut encoder)?;
    let (out, encoded) = encoder.finish().doing(failed)?;
    out.flush().doing(failed)?;
    Ok(encoded.size)
}

/// Runs `conex cache import`.
pub fn import(session: &Session, args: &ImportArgs) -> Result<()> {
    let store = session.store()?;
    let lease = store.lease()?;
    let failed = || format!("cannot import `{}`", args.file.display());
    let input: Box<dyn Read + Send> = if args.file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let file =
            File::open(&args.file).doing(|| format!("cannot open `{}`", args.file.display()))?;
        Box::new(BufReader::new(file))
    };
    let mut input = begun(input, failed)?;
    let fresh = lease.temporary_path()?;
    fs::create_dir(&fresh).doing(failed)?;
    let form = form(session)?;
    let dir = Dir::open_ambient(&fresh).doing(failed)?;
    let mut target = Target::new(dir, Stack::empty(form), form)?;
    let options = ApplyOptions::new(crate::session::parallelism());
    let summary = unpack_archive(&mut input, &mut target, Path::new("/"), None, &options)
        .map_err(|error| CliError::because(failed(), error))?;
    drop(target);
    let mount = take(store, &args.id, 0o755)?;
    replace(&fresh, &mount, &lease.temporary_path()?).doing(failed)?;
    let size = human_size(summary.unpacked_size);
    session.err(&format!("{}: {} entries, {size}", args.id, summary.entry_count));
    Ok(())
}

/// Refuses a stream without a byte, which a program that failed leaves behind a pipe: as a tar it
/// would be one without entries.
fn begun(mut input: Box<dyn Read + Send>, act: impl Fn() -> String) -> Result<impl Read + Send> {
    let mut head = [0];
    let count = input.read(&mut head).doing(&act)?;
    if count == 0 {
        return Err(CliError::because(act(), std::io::Error::other("it is empty")));
    }
    Ok(std::io::Cursor::new(head).chain(input))
}

/// Puts a folder in the place of a cache mount's content. The lock, held by `mount`, lies beside
/// the content and stays. What goes lies in the lease's folder, which goes with the lease.
fn replace(fresh: &Path, mount: &CacheMount, grave: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let before = fs::metadata(mount.path())?;
    chown(fresh, Some(before.uid()), Some(before.gid()))?;
    fs::set_permissions(fresh, before.permissions())?;
    fs::rename(mount.path(), grave)?;
    fs::rename(fresh, mount.path()).inspect_err(|_| {
        // Back to what it was; if even that is refused, the check of the store names it.
        let _ = fs::rename(grave, mount.path());
    })
}
