//! `conex base`: base images without a registry.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use conex_elf::{EntryKind, ExtraContent, ExtrasOptions, SearchOptions, Toolset};
use conex_layer::{Attributes, CopyOptions, Replace, Stack};
use conex_oci::{ImageConfig, Platform, Reference};
use conex_store::{Expected, ImageSource};
use conex_sys::dir::Dir;
use conex_sys::stat::FileKind;

use crate::error::{CliError, Doing as _, Result};
use crate::local::NewRoot;
use crate::session::Session;
use crate::settings::variable;

/// The name of a base that got none.
const NAME_DEFAULT: &str = "local/base:latest";

/// Make base images without a registry.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  conex base from-host sh ls cat"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a base image of this machine's own programs
    ///
    /// Takes the programs with the libraries that they need, found by reading the files. Nothing
    /// is downloaded.
    FromHost(FromHost),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex base from-host sh ls cat\n  \
    conex base from-host -t local/python --toolset shell --toolset python3\n  \
    conex base from-host -t local/tools sh curl --ca-certificates --user app:1000")]
struct FromHost {
    /// Programs, by name or path
    #[arg(value_name = "PROGRAM")]
    programs: Vec<String>,

    /// Name of the image
    #[arg(short, long, value_name = "NAME", default_value = NAME_DEFAULT)]
    tag: String,

    /// A whole folder to take, with what the programs in it need (can be repeated)
    #[arg(long, value_name = "DIR")]
    dir: Vec<PathBuf>,

    /// A set of programs and files that belong together (can be repeated; `list` names them)
    #[arg(long, value_name = "NAME")]
    toolset: Vec<String>,

    /// Take the certificates that this machine trusts
    #[arg(long)]
    ca_certificates: bool,

    /// Make an ordinary user (`NAME:NUMBER`)
    #[arg(long, value_name = "NAME:NUMBER")]
    user: Option<String>,

    /// Show only the image ID
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match args.command {
        Command::FromHost(args) => from_host(session, &args),
    }
}

fn from_host(session: &Session, args: &FromHost) -> Result<()> {
    if args.toolset.iter().any(|name| name == "list") {
        let lines =
            conex_elf::TOOLSETS.iter().map(|set| format!("{:<10} {}\n", set.name, set.summary));
        return session.out(&lines.collect::<String>());
    }
    if args.programs.is_empty() && args.toolset.is_empty() && args.dir.is_empty() {
        return Err(CliError::usage("no program was named")
            .with_hint("for example `conex base from-host sh ls cat`"));
    }
    let name: Reference = args.tag.parse()?;
    let path = variable("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let mut search = SearchOptions::new("/", std::env::split_paths(&path).collect());
    search.dirs.clone_from(&args.dir);
    for toolset in &args.toolset {
        search.toolsets.push(Toolset::named(toolset).ok_or_else(|| unknown_toolset(toolset))?);
    }
    let closure = conex_elf::closure(&args.programs, &search)?;
    let lease = session.store()?.lease()?;
    let mut root = NewRoot::begin(session, &lease)?;
    let host = Dir::open_ambient(Path::new("/")).doing(|| "cannot open `/`".to_owned())?;
    let host = Stack::plain(host);
    let extras = conex_elf::extras(&extras_options(args)?);
    for entry in &closure.entries {
        take(&host, &mut root, &entry.path, &entry.kind)?;
    }
    for extra in &extras {
        make(&host, &mut root, extra)?;
    }
    let mut config = ImageConfig::scratch(Platform::host());
    config.config.set_env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let has_shell = closure.entries.iter().any(|entry| entry.path.ends_with("bin/sh"));
    config.config.cmd = has_shell.then(|| vec!["/bin/sh".to_owned()]);
    let words: Vec<&str> = args.programs.iter().chain(&args.toolset).map(String::as_str).collect();
    let created_by = format!("conex base from-host {}", words.join(" "));
    let record = root.finish(config, &created_by, "", ImageSource::Imported)?;
    lease.store().tag(&name, &record.id, &Expected::Anything)?;
    if args.quiet {
        return session.out(&format!("{}\n", record.id));
    }
    for note in &closure.notes {
        session.err(&format!("note: {note}"));
    }
    let files =
        closure.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File)).count();
    let size = conex_term::human_size(record.size);
    session.out(&format!("{} {} ({files} files, {size})\n", name.familiar(), record.id.short()))
}

fn extras_options(args: &FromHost) -> Result<ExtrasOptions> {
    let user = match &args.user {
        None => None,
        Some(text) => {
            let (name, number) = text.split_once(':').unwrap_or((text, "1000"));
            let number = number.parse().map_err(|_| {
                CliError::usage(format!("`--user {text}`: `{number}` is no number"))
            })?;
            Some((name.to_owned(), number))
        }
    };
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    Ok(ExtrasOptions { ca_certificates: args.ca_certificates.then(|| PathBuf::from(bundle)), user })
}

fn unknown_toolset(name: &str) -> CliError {
    let known = conex_elf::TOOLSETS.iter().map(|set| set.name);
    let error = CliError::usage(format!("there is no toolset `{name}`"));
    match conex_report::did_you_mean(name, known) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("`--toolset list` names them"),
    }
}

/// Takes a file of this machine: its content and mode, owned by root.
fn take(host: &Stack, root: &mut NewRoot<'_>, path: &Path, kind: &EntryKind) -> Result<()> {
    let attributes = Attributes::with_mode(0o755);
    match kind {
        EntryKind::Dir => {
            root.target.make_dirs(path, &attributes)?;
        }
        EntryKind::Symlink { target } => {
            root.target.put_symlink(path, target.as_os_str(), &attributes, Replace::Anything)?;
        }
        EntryKind::File => {
            // What only root may read on this machine, an image may hold all the same, but a
            // program that gives power to whoever starts it must not come along unasked.
            let mode = |kind: FileKind, mode: u32| match kind {
                FileKind::Dir => 0o755,
                _ => mode & 0o755,
            };
            let options =
                CopyOptions { owner: Some((0, 0)), mode: Some(&mode), ..CopyOptions::keep(1) };
            conex_layer::copy(host, path, &mut root.target, path, &options)?;
        }
    }
    Ok(())
}

fn make(host: &Stack, root: &mut NewRoot<'_>, extra: &conex_elf::Extra) -> Result<()> {
    let attributes = Attributes::with_mode(extra.mode).owned_by(extra.owner, extra.owner);
    match &extra.content {
        ExtraContent::Dir => {
            // A link stands there where the machine's own layout has one (`/bin`).
            let there = root.target.stat(&extra.path, conex_layer::LastLink::Follow)?;
            if there.is_none_or(|stat| stat.kind == FileKind::Dir) {
                root.target.put_dir(&extra.path, &attributes, Replace::Anything)?;
            }
        }
        ExtraContent::Bytes(bytes) => {
            let mut bytes = bytes.as_slice();
            root.target.put_file(&extra.path, &attributes, &mut bytes, Replace::Anything)?;
        }
        ExtraContent::CopyOf(path) => {
            let mut file = host.open(path)?;
            root.target.put_file(&extra.path, &attributes, &mut file, Replace::Anything)?;
        }
    }
    Ok(())
}
