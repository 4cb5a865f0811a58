//! What the tests share: scratch directories, trees as text, snapshots in both forms.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use conex_layer::{
    ApplyOptions, Attributes, Flavor, Form, LastLink, LayerSummary, Ownership, Replace, Stack,
    Target, WriteOptions, apply_layer, write_layer,
};
use conex_sys::dir::Dir;
use conex_sys::stat::{FileKind, Time};

/// An inline snapshot that holds for every form of snapshots.
macro_rules! assert_same {
    ($($tokens:tt)*) => {
        insta::allow_duplicates! { insta::assert_snapshot!($($tokens)*) }
    };
}
pub(crate) use assert_same;

/// A directory for one test.
pub(crate) struct Scratch(pub(crate) tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn dir(&self, name: &str) -> Dir {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        Dir::open_ambient(&path).unwrap()
    }
}

pub(crate) const USER_FORM: Form = Form { flavor: Flavor::User, ownership: Ownership::Recorded };

pub(crate) fn is_root() -> bool {
    conex_sys::stat::effective_ids().0 == 0
}

/// The forms of snapshots that this user can make.
pub(crate) fn forms() -> Vec<Form> {
    let scratch = Scratch::new();
    let dir = scratch.dir("x");
    let attribute = OsStr::new("trusted.overlay.opaque");
    if is_root() && conex_sys::xattr::set(&dir, attribute, b"y").is_ok() {
        return vec![Form::ROOT, USER_FORM];
    }
    eprintln!("skipped: snapshots in root's form, because this is an ordinary user");
    vec![USER_FORM]
}

pub(crate) fn attributes(mode: u32, uid: u32, gid: u32, mtime: i64) -> Attributes {
    let mtime = Some(Time::from_seconds(mtime));
    Attributes { mtime, ..Attributes::with_mode(mode).owned_by(uid, gid) }
}

/// A target in the form on top of the layers (topmost first).
pub(crate) fn target(upper: Dir, lower: &[Dir], form: Form) -> Target {
    Target::new(upper, Stack::new(lower.to_vec(), form), form).unwrap()
}

pub(crate) trait Puts {
    fn file(&mut self, path: &str, content: &str) -> &mut Self;
    fn dir(&mut self, path: &str) -> &mut Self;
    fn link(&mut self, path: &str, to: &str) -> &mut Self;
    fn gone(&mut self, path: &str) -> &mut Self;
}

impl Puts for Target {
    fn file(&mut self, path: &str, content: &str) -> &mut Self {
        let attributes = attributes(0o644, 0, 0, 1000);
        let mut content = content.as_bytes();
        self.put_file(Path::new(path), &attributes, &mut content, Replace::Anything).unwrap();
        self
    }

    fn dir(&mut self, path: &str) -> &mut Self {
        let attributes = attributes(0o755, 0, 0, 1000);
        self.put_dir(Path::new(path), &attributes, Replace::Anything).unwrap();
        self
    }

    fn link(&mut self, path: &str, to: &str) -> &mut Self {
        let attributes = attributes(0o777, 0, 0, 1000);
        self.put_symlink(Path::new(path), OsStr::new(to), &attributes, Replace::Anything).unwrap();
        self
    }

    fn gone(&mut self, path: &str) -> &mut Self {
        self.remove(Path::new(path)).unwrap();
        self
    }
}

pub(crate) fn options(form: Form) -> WriteOptions<'static> {
    WriteOptions { mtime_max: 2000, ..WriteOptions::new(form) }
}

pub(crate) fn tar_of(upper: &Dir, lower: &[Dir], form: Form) -> (Vec<u8>, LayerSummary) {
    let mut tar = Vec::new();
    let lower = Stack::new(lower.to_vec(), form);
    let summary = write_layer(upper, &lower, &options(form), &mut tar).unwrap();
    assert_eq!(summary.tar_size, tar.len() as u64);
    assert_eq!(summary.diff_id.as_ref().unwrap().0, conex_oci::Digest::of(&tar));
    (tar, summary)
}

pub(crate) fn applied(tar: &[u8], upper: Dir, lower: &[Dir], form: Form) {
    let mut target = target(upper, lower, form);
    let mut input = tar;
    apply_layer(&mut input, &mut target, &ApplyOptions::new(2)).unwrap();
}

/// The entries of a tar, one line each.
pub(crate) fn listing(tar: &[u8]) -> String {
    let mut reader = conex_layer::TarReader::new(tar, conex_layer::TarLimits::default());
    let mut text = String::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        let path = String::from_utf8_lossy(&entry.path);
        write!(text, "{path} {:?} {:o} {}:{}", entry.kind, entry.mode, entry.uid, entry.gid)
            .unwrap();
        write!(text, " @{}", entry.mtime.seconds).unwrap();
        if !entry.link.is_empty() {
            write!(text, " -> {}", String::from_utf8_lossy(&entry.link)).unwrap();
        }
        if !content.is_empty() {
            write!(text, " {:?}", String::from_utf8_lossy(&content)).unwrap();
        }
        for (name, value) in &entry.xattrs {
            write!(text, " {}={value:?}", name.display()).unwrap();
        }
        text.push('\n');
    }
    text
}

/// A whole tree as it is seen through a stack, one line a name, with everything that counts.
pub(crate) fn seen(stack: &Stack) -> String {
    let mut text = String::new();
    let mut inodes = HashMap::new();
    see(stack, Path::new(""), &mut inodes, &mut text);
    text
}

fn see(
    stack: &Stack,
    dir: &Path,
    inodes: &mut HashMap<((u32, u32), u64), PathBuf>,
    text: &mut String,
) {
    if stack.layer_count() == 0 {
        return;
    }
    for entry in stack.read_dir(dir).unwrap() {
        let path = dir.join(&entry.name);
        let stat = stack.stat(&path, LastLink::Keep).unwrap().unwrap();
        write!(
            text,
            "{} {:?} {:o} {}:{}",
            path.display(),
            stat.kind,
            stat.mode,
            stat.uid,
            stat.gid
        )
        .unwrap();
        if !stat.is_dir() {
            write!(text, " @{}", stat.mtime.seconds).unwrap();
        }
        match stat.kind {
            FileKind::Symlink => {
                write!(text, " -> {}", stack.read_link(&path).unwrap().display()).unwrap();
            }
            FileKind::File => {
                let content = stack.read(&path, 1 << 20).unwrap().unwrap();
                write!(text, " {}", conex_oci::Digest::of(&content).short()).unwrap();
                if stat.link_count > 1 {
                    let inode = (stat.device, stat.inode);
                    let first = inodes.entry(inode).or_insert_with(|| path.clone());
                    if *first != path {
                        write!(text, " = {}", first.display()).unwrap();
                    }
                }
            }
            FileKind::CharDevice | FileKind::BlockDevice => {
                write!(text, " {:?}", stat.node).unwrap();
            }
            _ => {}
        }
        for (name, value) in stack.xattrs(&path).unwrap() {
            write!(text, " {}={value:?}", name.display()).unwrap();
        }
        text.push('\n');
        if stat.is_dir() {
            see(stack, &path, inodes, text);
        }
    }
}

/// Runs a program of the machine; none where it is not there.
pub(crate) fn run(program: &str, args: &[&OsStr]) -> Option<std::process::Output> {
    match std::process::Command::new(program).args(args).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "CI installs `{program}`");
            eprintln!("skipped: `{program}` is not installed");
            None
        }
        Err(error) => panic!("cannot run `{program}`: {error}"),
    }
}
