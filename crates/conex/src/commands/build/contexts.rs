//! Finds build contexts: folders, tars and Dockerfiles on standard input or behind a URL, git
//! repositories, images, stages.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use conex_build::{Context, ContextOptions, Fetch as _, NamedContext, is_git};
use conex_dockerfile::Ignore;
use conex_layer::{ApplyOptions, Stack, Target};
use conex_report::Severity;
use conex_store::Lease;
use conex_sys::dir::Dir;

use super::fetch::{Fetcher, Secrets};
use super::inputs::Stdin;
use super::{Args, Named};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;
use crate::settings::absolute;

/// The main context.
pub struct Main {
    /// The folder; none for a lone Dockerfile.
    pub context: Option<Context>,
    /// What of it does not count.
    pub ignore: Option<Ignore>,
    /// The Dockerfile, where the context is nothing else.
    pub dockerfile: Option<Vec<u8>>,
    /// Where the context lies; nowhere for a lone Dockerfile.
    pub folder: PathBuf,
    /// `-f` is a path of the context, not of the current folder.
    is_fetched: bool,
}

impl Main {
    /// Where the Dockerfile is.
    pub fn dockerfile_path(&self, given: Option<&Path>) -> PathBuf {
        match given {
            None => self.folder.join("Dockerfile"),
            Some(file) if self.is_fetched => self.folder.join(file),
            // As buildx: as given, or, if nothing is there, within the context.
            Some(file) if super::inputs::exists(file) => file.to_owned(),
            Some(file) if super::inputs::exists(&self.folder.join(file)) => self.folder.join(file),
            Some(file) => file.to_owned(),
        }
    }
}

/// Opens the main context.
pub fn open_main(
    session: &Session,
    args: &Args,
    secrets: &Secrets,
    lease: Option<&Lease>,
    stdin: &mut Stdin,
) -> Result<Main> {
    let context = args.context.as_str();
    let found = if context == "-" && lease.is_none() {
        let text = stdin.take("the context")?;
        if conex_layer::is_archive(&mut text.as_slice()) {
            return Err(CliError::usage("`--check` needs a folder as its context, not a tar"));
        }
        Found::Dockerfile(text)
    } else if context == "-" {
        stdin.claim("the context")?;
        received(session, need(lease)?, &mut std::io::stdin())?
    } else if is_git(context) {
        let folder = temporary(need(lease)?)?;
        let tree = Fetcher::new(session, secrets).git(context, None, None, &folder)?;
        Found::Folder(tree.path)
    } else if context.starts_with("http://") || context.starts_with("https://") {
        let lease = need(lease)?;
        let folder = temporary(lease)?;
        let fetched = Fetcher::new(session, secrets).http(context, &folder)?;
        let file = File::open(&fetched.path);
        let mut file = file.doing(|| format!("cannot open what `{context}` gave"))?;
        received(session, lease, &mut file)?
    } else {
        let path = Path::new(context);
        let meta = std::fs::metadata(path);
        let meta = meta.doing(|| format!("cannot open the build context `{context}`"))?;
        if !meta.is_dir() {
            let error = CliError::new(format!("the build context `{context}` is not a folder"));
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(error.with_hint(format!("did you mean `-f {name} .`?")));
        }
        return open_local(session, args, path);
    };
    match found {
        Found::Dockerfile(text) => Ok(Main {
            context: None,
            ignore: None,
            dockerfile: Some(text),
            folder: PathBuf::new(),
            is_fetched: true,
        }),
        Found::Folder(folder) => {
            let main = Main {
                context: None,
                ignore: None,
                dockerfile: None,
                folder: folder.clone(),
                is_fetched: true,
            };
            let dockerfile = main.dockerfile_path(args.file.as_deref());
            let ignore = ignore_file(session, &folder, Some(&dockerfile))?;
            let context = open_folder(&folder, ignore.clone(), None)?;
            Ok(Main { context: Some(context), ignore: Some(ignore), ..main })
        }
    }
}

fn open_local(session: &Session, args: &Args, path: &Path) -> Result<Main> {
    let main = Main {
        context: None,
        ignore: None,
        dockerfile: None,
        folder: path.to_owned(),
        is_fetched: false,
    };
    let dockerfile = match args.file.as_deref() {
        Some(file) if file == Path::new("-") => None,
        file => Some(main.dockerfile_path(file)),
    };
    let ignore = ignore_file(session, path, dockerfile.as_deref())?;
    // `--check` looks at no file, and needs no store to remember them in.
    let looks_only = super::check::Check::of(args)?.is_some();
    let cache = if looks_only { None } else { Some(stat_cache(session, path)?) };
    let context = open_folder(path, ignore.clone(), cache)?;
    Ok(Main { context: Some(context), ignore: Some(ignore), ..main })
}

/// Opens the contexts of `--build-context`.
pub(super) fn open_named(
    session: &Session,
    given: &[String],
    secrets: &Secrets,
    lease: &Lease,
) -> Result<Named> {
    let mut named = Named { names: Default::default(), folders: Default::default() };
    for text in given {
        let (name, source) = text.split_once('=').ok_or_else(|| {
            CliError::usage(format!("`--build-context {text}` has no source"))
                .with_hint("write `NAME=FOLDER`, `NAME=docker-image://IMAGE` or the like")
        })?;
        if name.eq_ignore_ascii_case("scratch") || name.is_empty() {
            let message = format!("`--build-context {text}`: a context cannot be named `{name}`");
            return Err(CliError::usage(message));
        }
        let context = if let Some(image) = source.strip_prefix("docker-image://") {
            NamedContext::Image(image.to_owned())
        } else if let Some(target) = source.strip_prefix("target:") {
            NamedContext::Target(target.to_owned())
        } else if let Some(layout) = source.strip_prefix("oci-layout://") {
            let record = crate::transfer::load_layout(lease, layout)?;
            NamedContext::Image(record.id.to_string())
        } else {
            let folder = open_source(session, source, secrets, lease)?;
            named.folders.insert(name.to_owned(), Arc::new(folder));
            NamedContext::Folder
        };
        named.names.insert(name.to_owned(), context);
    }
    Ok(named)
}

/// A context that is a folder, here or elsewhere.
fn open_source(
    session: &Session,
    source: &str,
    secrets: &Secrets,
    lease: &Lease,
) -> Result<Context> {
    if is_git(source) {
        let folder = temporary(lease)?;
        let tree = Fetcher::new(session, secrets).git(source, None, None, &folder)?;
        return open_folder(&tree.path, Ignore::default(), None);
    }
    if source.starts_with("http://") || source.starts_with("https://") {
        let folder = temporary(lease)?;
        let fetched = Fetcher::new(session, secrets).http(source, &folder)?;
        let file = File::open(&fetched.path);
        let mut file = file.doing(|| format!("cannot open what `{source}` gave"))?;
        return match received(session, lease, &mut file)? {
            Found::Folder(folder) => open_folder(&folder, Ignore::default(), None),
            Found::Dockerfile(_) => {
                Err(CliError::new(format!("the build context `{source}` is not a tar")))
            }
        };
    }
    let path = Path::new(source);
    let ignore = ignore_file(session, path, None)?;
    let cache = stat_cache(session, path)?;
    open_folder(path, ignore, Some(cache))
}

fn open_folder(path: &Path, ignore: Ignore, stat_cache: Option<PathBuf>) -> Result<Context> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let options = ContextOptions {
        ignore,
        stat_cache,
        now: i128::try_from(now.as_nanos()).unwrap_or(0),
        threads: super::parallelism(),
    };
    Context::open(&absolute(path), options)
        .doing(|| format!("cannot open the build context `{}`", path.display()))
}

/// Where the store remembers what the files of a folder were.
fn stat_cache(session: &Session, path: &Path) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let real = std::fs::canonicalize(path);
    let real = real.doing(|| format!("cannot open the build context `{}`", path.display()))?;
    let name = conex_oci::Digest::of(real.as_os_str().as_bytes());
    Ok(session.store()?.aux_dir("contexts")?.join(name.hex()))
}

/// The ignore file of a Dockerfile, else that of the context.
fn ignore_file(session: &Session, folder: &Path, dockerfile: Option<&Path>) -> Result<Ignore> {
    let own = dockerfile.map(|file| {
        let mut name = file.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([folder.join(".dockerignore")]) {
        let mut text = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                let message = format!("cannot open the ignore file `{}`", path.display());
                return Err(CliError::because(message, error));
            }
            Ok(file) => file
                .take(conex_dockerfile::limits::IGNORE_SIZE_MAX as u64 + 1)
                .read_to_end(&mut text)
                .doing(|| format!("cannot read the ignore file `{}`", path.display()))?,
        };
        let (ignore, findings) = Ignore::parse(&text);
        let (errors, others): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        let source = (path.display().to_string(), String::from_utf8_lossy(&text).into_owned());
        if !errors.is_empty() {
            let message = format!("the ignore file `{}` has errors", path.display());
            let error = CliError::new(message);
            return Err(CliError {
                findings: errors.into(),
                source_text: Some(Box::new(source)),
                ..error
            });
        }
        if !others.is_empty() {
            let shown = conex_term::Source { name: &source.0, text: &source.1 };
            session.err(&conex_term::Findings::new(shown, session.err_palette()).all(&others));
        }
        return Ok(ignore);
    }
    Ok(Ignore::default())
}

/// What came over a stream.
enum Found {
    Dockerfile(Vec<u8>),
    Folder(PathBuf),
}

/// Takes a tar, unpacked, or a Dockerfile.
fn received(session: &Session, lease: &Lease, from: &mut dyn std::io::Read) -> Result<Found> {
    let folder = temporary(lease)?;
    let path = folder.join("received");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.as_mut().map_err(|error| {
        CliError::new(format!("cannot make a file for the build context: {error}"))
    })?;
    std::io::copy(from, file)
        .and_then(|_| file.flush())
        .and_then(|()| file.rewind())
        .doing(|| "cannot receive the build context".to_owned())?;
    let is_archive = conex_layer::is_archive(file);
    file.rewind().doing(|| "cannot read the build context".to_owned())?;
    if is_archive {
        let root = folder.join("context");
        std::fs::create_dir(&root).doing(|| "cannot make a folder for the context".to_owned())?;
        let privileges = session.privileges()?;
        let form =
            conex_layer::Form { flavor: privileges.flavor(), ownership: privileges.ownership() };
        let dir = Dir::open_ambient(&root).doing(|| "cannot open the context".to_owned())?;
        let mut target = Target::new(dir, Stack::empty(form), form)?;
        let options = ApplyOptions::new(super::parallelism());
        let owner = Some((0, 0));
        conex_layer::unpack_archive(file, &mut target, Path::new("/"), owner, &options)?;
        return Ok(Found::Folder(root));
    }
    let mut text = Vec::new();
    file.take(conex_dockerfile::limits::DOCKERFILE_SIZE_MAX as u64 + 1)
        .read_to_end(&mut text)
        .doing(|| "cannot read the Dockerfile".to_owned())?;
    Ok(Found::Dockerfile(text))
}

fn need(lease: Option<&Lease>) -> Result<&Lease> {
    lease.ok_or_else(|| CliError::usage("`--check` needs a folder as its context"))
}

fn temporary(lease: &Lease) -> Result<PathBuf> {
    let folder = lease.temporary_path()?;
    std::fs::create_dir_all(&folder).doing(|| "cannot make a temporary folder".to_owned())?;
    Ok(folder)
}

/// A Dockerfile of another case beside the one that was looked for, for a hint.
pub fn lowercase_neighbour(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let same = |found: &std::ffi::OsStr| {
        let found = found.to_string_lossy().to_lowercase();
        found == name || found == "containerfile"
    };
    entries
        .filter_map(std::result::Result::ok)
        .map(|entry| entry.path())
        .find(|found| found.file_name().is_some_and(same))
}
