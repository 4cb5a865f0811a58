//! `conex cp`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use conex_inventory::{Entry, Kind, Tree};
use conex_layer::{EntryHeader, TarWriter};
use conex_sys::root::{Links, RootDir};
use conex_sys::stat::Time;

use super::analyze::{Analysis, SourceArgs, take};
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Copy files out of an image
///
/// IMAGE is what `conex analyze` takes. As with `docker cp`, a folder goes into DEST if that is
/// there, and becomes DEST if it is not; `PATH/.` means what is in the folder. DEST `-` writes a
/// tar to standard output. Files belong to you, unless `--archive` asks for their owners.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex cp app:/etc/nginx .\n  \
    conex cp app:/usr/share/. share\n  conex cp app:/srv - | tar t")]
pub struct Args {
    /// What to copy
    #[arg(value_name = "IMAGE:PATH")]
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
    let (image, path) = take::split(&args.from)?;
    let means_content = path.ends_with("/.") || path == "." || path == "/";
    let analysis = args.source.analyze(session, image)?;
    let top = take::find(&analysis.tree, path, args.follow_link || means_content)?;
    let entry = analysis.tree.entry(top);
    if means_content && !entry.kind.is_dir() {
        return Err(CliError::new(format!("`{path}` is no folder")));
    }
    if args.to == "-" {
        if conex_term::is_terminal(io::stdout()) {
            return Err(CliError::usage("refusing to write a tar to a terminal")
                .with_hint("redirect the output, or name a folder"));
        }
        let name = if means_content { PathBuf::new() } else { name_of(&entry) };
        return to_tar(&analysis, top, &name);
    }
    let (folder, name) = target(&entry, Path::new(&args.to), means_content)?;
    let root = RootDir::open(&folder, Links::Refuse)
        .doing(|| format!("cannot open the folder `{}`", folder.display()))?;
    let keep_owners = args.archive && session.settings.is_root;
    if args.archive && !keep_owners {
        return Err(CliError::usage("only root can give files away: leave `--archive` out"));
    }
    let copy = Copy { analysis: &analysis, root, keep_owners };
    copy.run(top, &name)
}

fn name_of(entry: &Entry<'_>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(entry.name))
}

/// The folder that is written to, and the name in it; empty where the folder itself is meant.
fn target(entry: &Entry<'_>, to: &Path, means_content: bool) -> Result<(PathBuf, PathBuf)> {
    if to.is_dir() {
        let name = if means_content { PathBuf::new() } else { name_of(entry) };
        return Ok((to.to_owned(), name));
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
    analysis: &'a Analysis,
    root: RootDir,
    keep_owners: bool,
}

impl Copy<'_> {
    fn run(&self, top: u32, name: &Path) -> Result<()> {
        let tree = &self.analysis.tree;
        let all = below(tree, top, name);
        // Names of one file are names of one file again.
        let mut files: Vec<u32> = Vec::new();
        let mut first: HashMap<(usize, Vec<u8>), u32> = HashMap::new();
        let mut links: Vec<(u32, u32)> = Vec::new();
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
                }
                Kind::Symlink => {
                    self.clear(path)?;
                    self.root.create_symlink(path, OsStr::from_bytes(entry.link)).doing(act)?;
                    self.own(path, &entry)?;
                }
                Kind::File | Kind::LinkBelow => match tree.content_place(*id) {
                    Some(place) => match first.get(&place) {
                        Some(other) => links.push((*other, *id)),
                        None => {
                            first.insert(place, *id);
                            files.push(*id);
                        }
                    },
                    None => {
                        let path = path.display();
                        return Err(CliError::new(format!("the content of `{path}` is unknown")));
                    }
                },
                kind => {
                    let message = format!("`{}` is a {}", tree.path_text(*id), kind.word());
                    return Err(CliError::new(format!("{message}, which is not copied"))
                        .with_hint("`conex cp IMAGE:PATH - > FILE.tar` has it"));
                }
            }
        }
        take::contents(&self.analysis.subject, tree, &files, &mut |id, content| {
            let path = paths.get(&id).copied().unwrap_or(Path::new(""));
            self.file(path, &tree.entry(id), content)
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

    fn file(&self, path: &Path, entry: &Entry<'_>, content: &mut dyn Read) -> Result<()> {
        let act = || format!("cannot write `{}`", path.display());
        self.clear(path)?;
        let mut file = self.root.create_file(path, 0o600).doing(act)?;
        io::copy(content, &mut file).doing(act)?;
        drop(file);
        self.own(path, entry)?;
        // Files that are somebody else's now must not run as them, or as you.
        let bits = if self.keep_owners { 0o7777 } else { 0o777 };
        self.root.set_mode(path, u32::from(entry.mode & bits)).doing(act)?;
        self.root.set_mtime(path, Time::from_seconds(entry.mtime)).doing(act)
    }
}

/// Writes a tar: folders and links first, then files in the order in which the layers have them.
fn to_tar(analysis: &Analysis, top: u32, name: &Path) -> Result<()> {
    let tree = &analysis.tree;
    let all = below(tree, top, name);
    let paths: HashMap<u32, &Path> = all.iter().map(|(id, path)| (*id, path.as_path())).collect();
    let out = io::BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut tar = TarWriter::new(out);
    let act = || "cannot write to standard output".to_owned();
    let mut files = Vec::new();
    for (id, path) in &all {
        let entry = tree.entry(*id);
        match entry.kind {
            Kind::File | Kind::LinkBelow => files.push(*id),
            _ if path.as_os_str().is_empty() => {}
            _ => tar.append(&header(&entry, path), b"").doing(act)?,
        }
    }
    take::contents(&analysis.subject, tree, &files, &mut |id, content| {
        let path = paths.get(&id).copied().unwrap_or(Path::new(""));
        tar.start(&header(&tree.entry(id), path)).doing(act)?;
        io::copy(content, &mut tar).doing(act).map(drop)
    })?;
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
