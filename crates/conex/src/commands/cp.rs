//! `conex cp`.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use conex_inventory::{Entry, Kind, Place, Tree};
use conex_layer::{EntryHeader, TarWriter};
use conex_sys::root::{Links, RootDir};
use conex_sys::stat::Time;

use super::analyze::take::{self, Taken};
use super::analyze::{Analysis, SourceArgs};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Copy files out of an image
///
/// IMAGE is what `conex analyze` takes. As with `docker cp`, a folder goes into DEST if that is
/// there, and becomes DEST if it is not; `PATH/.` means what is in the folder. DEST `-` writes a
/// tar to standard output, with owners, devices and extended attributes. Files belong to you,
/// unless `--archive` asks for their owners; attributes that give power come only with it. Nothing
/// is ever copied into an image.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex cp app:/etc/nginx .\n  \
    conex cp app:/usr/share/. share\n  conex cp app:/srv - | tar t")]
pub struct Args {
    /// What to copy
    #[arg(value_name = "IMAGE:PATH", allow_hyphen_values = true)]
    from: String,

    /// Where to
    #[arg(value_name = "DEST")]
    to: String,

    /// Keep owners and groups, which needs root
    #[arg(short, long)]
    archive: bool,

    /// Copy what a symbolic link at PATH leads to
    #[arg(short = 'L', long)]
    follow_link: bool,

    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let (image, path) = source(&args)?;
    let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(".");
    let means_content = last == "." && !path.ends_with("./");
    // A slash at the end, or a dot, means what a link leads to, which has to be a folder.
    let means_folder = path.ends_with('/') || last == ".";
    let keep_owners = args.archive && session.settings.is_root;
    if args.archive && !keep_owners {
        return Err(CliError::usage("only root can give files away: leave `--archive` out"));
    }
    let analysis = args.source.open(session, image)?;
    let top = take::find(&analysis.tree, path, args.follow_link || means_folder)?;
    let entry = analysis.tree.entry(top);
    if means_folder && !entry.kind.is_dir() {
        return Err(CliError::new(format!("`{path}` is no folder")));
    }
    // What a link leads to has the link's name.
    let named = if matches!(last, "." | "..") { entry.name } else { last.as_bytes() };
    let named = PathBuf::from(OsStr::from_bytes(named));
    if args.to == "-" {
        if conex_term::is_terminal(io::stdout()) {
            return Err(CliError::usage("refusing to write a tar to a terminal")
                .with_hint("redirect the output, or name a folder"));
        }
        let name = if means_content { PathBuf::new() } else { named };
        return to_tar(&analysis, top, &name);
    }
    let name = if means_content { PathBuf::new() } else { named };
    let (folder, name) = target(&entry, Path::new(&args.to), name)?;
    let root = RootDir::open(&folder, Links::Refuse)
        .doing(|| format!("cannot open the folder `{}`", folder.display()))?;
    let copy = Copy { session, analysis: &analysis, root, keep_owners, lost: Cell::new(false) };
    copy.run(top, &name)
}

/// The image and the path in it; whoever wants to write into an image is told how.
fn source(args: &Args) -> Result<(&str, &str)> {
    match take::split(&args.from) {
        Err(_) if args.to != "-" && take::split(&args.to).is_ok() => {
            Err(CliError::usage("images do not change: files are copied out of them only")
                .with_hint("`COPY` in a Dockerfile makes a new image with the file"))
        }
        found => found,
    }
}

/// The folder that is written to, and the name in it; empty where the folder itself is meant.
fn target(entry: &Entry<'_>, to: &Path, name: PathBuf) -> Result<(PathBuf, PathBuf)> {
    if to.is_dir() {
        return Ok((to.to_owned(), name));
    }
    if entry.kind.is_dir() && to.exists() {
        return Err(CliError::new(format!("`{}` is there and no folder", to.display())));
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let name = to
        .file_name()
        .ok_or_else(|| CliError::usage(format!("`{}` is no place to copy to", to.display())))?;
    if to.as_os_str().as_bytes().ends_with(b"/") && !entry.kind.is_dir() {
        return Err(CliError::new(format!("there is no folder `{}`", to.display())));
    }
    Ok((parent.to_owned(), PathBuf::from(name)))
}

/// Everything at and below a path, folders before what is in them, each with its path under `name`.
fn below(tree: &Tree, top: u32, name: &Path) -> Vec<(u32, PathBuf)> {
    let mut all = Vec::new();
    let mut todo = vec![(top, name.to_owned())];
    while let Some((id, path)) = todo.pop() {
        if tree.entry(id).kind.is_dir() {
            let mut children = tree.children(id);
            children.retain(|child| tree.entry(*child).is_there);
            for child in children.into_iter().rev() {
                todo.push((child, path.join(OsStr::from_bytes(tree.entry(child).name))));
            }
        }
        all.push((id, path));
    }
    all
}

struct Copy<'a> {
    session: &'a Session,
    analysis: &'a Analysis,
    root: RootDir,
    keep_owners: bool,
    /// Whether an attribute could not be set.
    lost: Cell<bool>,
}

impl Copy<'_> {
    fn run(&self, top: u32, name: &Path) -> Result<()> {
        let tree = &self.analysis.tree;
        let all = below(tree, top, name);
        // Names of one file are names of one file again.
        let mut links: Vec<(u32, u32)> = Vec::new();
        let mut wanted = Wanted::default();
        let paths: HashMap<u32, &Path> =
            all.iter().map(|(id, path)| (*id, path.as_path())).collect();
        for (id, path) in &all {
            let entry = tree.entry(*id);
            let act = || format!("cannot make `{}`", path.display());
            match entry.kind {
                // Whoever it is must be able to write into it until all is there.
                kind if kind.is_dir() => {
                    if !path.as_os_str().is_empty() {
                        self.root.create_dir_all(path, 0o700).doing(act)?;
                    }
                    wanted.attributes_of(*id, &entry);
                }
                Kind::Symlink => {
                    self.clear(path)?;
                    self.root.create_symlink(path, OsStr::from_bytes(entry.link)).doing(act)?;
                    self.own(path, &entry)?;
                    wanted.attributes_of(*id, &entry);
                }
                Kind::File | Kind::LinkBelow => {
                    links.extend(wanted.file(tree, *id)?.map(|first| (first, *id)));
                }
                kind => {
                    let message = format!("`{}` is a {}", tree.path_text(*id), kind.word());
                    return Err(CliError::new(format!("{message}, which is not copied"))
                        .with_hint("`conex cp IMAGE:PATH - > FILE.tar` has it"));
                }
            }
        }
        take::contents(&self.analysis.subject, tree, &wanted.ids, &mut |id, taken| {
            let path = paths.get(&id).copied().unwrap_or(Path::new(""));
            let entry = tree.entry(id);
            match entry.kind {
                Kind::File | Kind::LinkBelow => self.file(path, &entry, taken),
                // The folder that was there already keeps what it has.
                _ if path.as_os_str().is_empty() => Ok(()),
                _ => self.attributes(path, &taken),
            }
        })?;
        for (existing, id) in links {
            let (from, to) = (paths.get(&existing).copied(), paths.get(&id).copied());
            let (Some(from), Some(to)) = (from, to) else { continue };
            self.clear(to)?;
            let act = || format!("cannot make `{}`", to.display());
            self.root.create_hard_link(from, to).doing(act)?;
        }
        // Inner folders first: writing into one changes its time.
        for (id, path) in all.iter().rev() {
            let entry = tree.entry(*id);
            if entry.kind.is_dir() && !path.as_os_str().is_empty() {
                self.own(path, &entry)?;
                let act = || format!("cannot set the mode of `{}`", path.display());
                self.root.set_mode(path, u32::from(entry.mode)).doing(act)?;
                self.root.set_mtime(path, Time::from_seconds(entry.mtime)).doing(act)?;
            }
        }
        if self.lost.get() {
            let warning = self.session.err_palette().warning("warning");
            self.session.err(&format!("{warning}: extended attributes cannot be kept here"));
        }
        Ok(())
    }

    /// Makes room for something that is no folder.
    fn clear(&self, path: &Path) -> Result<()> {
        match self.root.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CliError::because(format!("cannot write over `{}`", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    fn own(&self, path: &Path, entry: &Entry<'_>) -> Result<()> {
        if !self.keep_owners {
            return Ok(());
        }
        let act = || format!("cannot set the owner of `{}`", path.display());
        self.root.set_owner(path, entry.uid, entry.gid).doing(act)
    }

    fn file(&self, path: &Path, entry: &Entry<'_>, taken: Taken<'_>) -> Result<()> {
        let act = || format!("cannot write `{}`", path.display());
        self.clear(path)?;
        let mut file = self.root.create_file(path, 0o600).doing(act)?;
        io::copy(taken.content, &mut file).doing(act)?;
        drop(file);
        self.own(path, entry)?;
        self.attributes(path, &taken)?;
        // Files that are somebody else's now must not run as them, or as you.
        let bits = if self.keep_owners { 0o7777 } else { 0o777 };
        self.root.set_mode(path, u32::from(entry.mode & bits)).doing(act)?;
        self.root.set_mtime(path, Time::from_seconds(entry.mtime)).doing(act)
    }

    /// Sets extended attributes: those of users, and with `--archive` those that give power too.
    fn attributes(&self, path: &Path, taken: &Taken<'_>) -> Result<()> {
        for (name, value) in &taken.xattrs {
            if !self.keep_owners && !name.as_bytes().starts_with(b"user.") {
                continue;
            }
            match self.root.set_xattr(path, name, value) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                    ) =>
                {
                    self.lost.set(true);
                }
                set => set.doing(|| format!("cannot set an attribute of `{}`", path.display()))?,
            }
        }
        Ok(())
    }
}

/// What has to be read of the layers.
#[derive(Default)]
struct Wanted {
    ids: Vec<u32>,
    first: HashMap<Place, u32>,
}

impl Wanted {
    /// Takes a file; gives the name that was taken for the same file before.
    fn file(&mut self, tree: &Tree, id: u32) -> Result<Option<u32>> {
        let place = tree.place(id).ok_or_else(|| {
            CliError::new(format!("the content of `{}` is unknown", tree.path_text(id)))
        })?;
        if let Some(first) = self.first.get(&place) {
            return Ok(Some(*first));
        }
        self.first.insert(place, id);
        self.ids.push(id);
        Ok(None)
    }

    /// Takes what is no file, if it has extended attributes.
    fn attributes_of(&mut self, id: u32, entry: &Entry<'_>) {
        if entry.has_attributes {
            self.ids.push(id);
        }
    }
}

/// Writes a tar: folders and links first, then what has to be read of the layers in the order in
/// which they have it, then further names of files.
fn to_tar(analysis: &Analysis, top: u32, name: &Path) -> Result<()> {
    let tree = &analysis.tree;
    let all = below(tree, top, name);
    let paths: HashMap<u32, &Path> = all.iter().map(|(id, path)| (*id, path.as_path())).collect();
    let out = io::BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut tar = TarWriter::new(out);
    let act = || "cannot write to standard output".to_owned();
    let mut wanted = Wanted::default();
    let mut links: Vec<(u32, u32)> = Vec::new();
    for (id, path) in &all {
        let entry = tree.entry(*id);
        match entry.kind {
            Kind::File | Kind::LinkBelow => {
                links.extend(wanted.file(tree, *id)?.map(|first| (first, *id)));
            }
            _ if path.as_os_str().is_empty() => {}
            // The reports do not know the numbers of devices.
            Kind::CharDevice | Kind::BlockDevice => wanted.ids.push(*id),
            _ if entry.has_attributes => wanted.ids.push(*id),
            _ => tar.append(&header(&entry, path), b"").doing(act)?,
        }
    }
    let path_of = |id: u32| paths.get(&id).copied().unwrap_or(Path::new(""));
    take::contents(&analysis.subject, tree, &wanted.ids, &mut |id, taken| {
        let mut header = header(&tree.entry(id), path_of(id));
        (header.xattrs, header.device) = (taken.xattrs, taken.device);
        tar.start(&header).doing(act)?;
        io::copy(taken.content, &mut tar).doing(act).map(drop)
    })?;
    for (first, id) in links {
        let mut header = header(&tree.entry(id), path_of(id));
        (header.kind, header.size) = (b'1', 0);
        header.link = path_of(first).as_os_str().as_bytes().to_vec();
        tar.append(&header, b"").doing(act)?;
    }
    tar.finish().and_then(|mut out| out.flush()).doing(act)
}

fn header(entry: &Entry<'_>, path: &Path) -> EntryHeader {
    let mut header = EntryHeader::file(path.as_os_str().as_bytes(), entry.size);
    header.kind = match entry.kind {
        Kind::File | Kind::LinkBelow => b'0',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Fifo => b'6',
        _ => b'5',
    };
    if header.kind != b'0' {
        header.size = 0;
    }
    if header.kind == b'5' {
        header.path.push(b'/');
    }
    header.link = entry.link.to_vec();
    (header.mode, header.uid, header.gid) = (u32::from(entry.mode), entry.uid, entry.gid);
    header.mtime = entry.mtime;
    header
}
