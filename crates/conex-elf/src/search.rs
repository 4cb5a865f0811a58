//! Where a loader looks for a library.
//!
//! glibc: `ld.so(8)`, "DESCRIPTION"; musl: its dynamic linker's path file. Hardware-capability
//! subfolders (`glibc-hwcaps`) are ignored on purpose: the plain library serves every processor,
//! and an image may run on another one.

use std::path::{Path, PathBuf};

use crate::elf::{Class, Endianness, Linkage};
use crate::tree::Tree;
use crate::{COMPANIONS, Companion, Error, Toolset, pattern};

/// Largest `ld.so.conf` read, and most files that it may include in all: real ones are a few
/// lines in a few files.
const CONF_SIZE_MAX: u64 = 1 << 20;
const CONF_COUNT_MAX: usize = 256;

/// A symbolic link to make that the machine does not have (`/bin/ls` to `busybox`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it is to stand.
    pub path: PathBuf,
    /// Where it is to lead.
    pub target: PathBuf,
}

/// Where to look, and what to take besides the programs.
#[derive(Debug, Clone)]
pub struct SearchOptions {
    /// The folder that is the root: `/`, or another system's tree. Every other path is in it.
    pub root: PathBuf,
    /// The folders where programs are looked for by name.
    pub path: Vec<PathBuf>,
    /// Folders searched for libraries before the machine's own (as `LD_LIBRARY_PATH` is).
    pub library_path: Vec<PathBuf>,
    /// The loader's list of folders.
    pub ld_so_conf: PathBuf,
    /// Whole folders to take, with the libraries that the programs in them need.
    pub dirs: Vec<PathBuf>,
    /// Links to make.
    pub links: Vec<Link>,
    /// Sets of programs and files to take.
    pub toolsets: Vec<&'static Toolset>,
    /// Libraries that are loaded without being listed.
    pub companions: &'static [Companion],
}

impl SearchOptions {
    /// Looks in the system under `root`, for programs in the folders `path`, and takes nothing
    /// besides.
    pub fn new(root: impl Into<PathBuf>, path: Vec<PathBuf>) -> Self {
        Self {
            root: root.into(),
            path,
            library_path: Vec::new(),
            ld_so_conf: PathBuf::from("/etc/ld.so.conf"),
            dirs: Vec::new(),
            links: Vec::new(),
            toolsets: Vec::new(),
            companions: COMPANIONS,
        }
    }
}

/// A machine that Linux runs on, by its ELF number.
struct Machine {
    number: u16,
    class: Class,
    endianness: Endianness,
    /// What `$PLATFORM` stands for.
    platform: &'static str,
    /// Debian's folder names for its libraries.
    triplets: &'static [&'static str],
}

impl Machine {
    const fn new(
        number: u16,
        class: Class,
        endianness: Endianness,
        platform: &'static str,
        triplets: &'static [&'static str],
    ) -> Self {
        Self { number, class, endianness, platform, triplets }
    }
}

use Class::{Bits32, Bits64};
use Endianness::{Big, Little};

const MACHINES: &[Machine] = &[
    Machine::new(62, Bits64, Little, "x86_64", &["x86_64-linux-gnu"]),
    Machine::new(62, Bits32, Little, "x86_64", &["x86_64-linux-gnux32"]),
    Machine::new(3, Bits32, Little, "i686", &["i386-linux-gnu"]),
    Machine::new(183, Bits64, Little, "aarch64", &["aarch64-linux-gnu"]),
    Machine::new(40, Bits32, Little, "v7l", &["arm-linux-gnueabihf", "arm-linux-gnueabi"]),
    Machine::new(243, Bits64, Little, "riscv64", &["riscv64-linux-gnu"]),
    Machine::new(22, Bits64, Big, "s390x", &["s390x-linux-gnu"]),
    Machine::new(21, Bits64, Little, "power8", &["powerpc64le-linux-gnu"]),
    Machine::new(21, Bits64, Big, "power4", &["powerpc64-linux-gnu"]),
    Machine::new(20, Bits32, Big, "power4", &["powerpc-linux-gnu"]),
    Machine::new(8, Bits64, Little, "mips", &["mips64el-linux-gnuabi64"]),
    Machine::new(8, Bits32, Little, "mips", &["mipsel-linux-gnu"]),
    Machine::new(258, Bits64, Little, "loongarch", &["loongarch64-linux-gnu"]),
];

fn machine(linkage: Linkage) -> Option<&'static Machine> {
    MACHINES.iter().find(|machine| {
        (machine.number, machine.class, machine.endianness)
            == (linkage.machine, linkage.class, linkage.endianness)
    })
}

/// The folders that a loader searches when nothing says otherwise, best first.
pub(crate) fn default_folders(linkage: Linkage) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for triplet in machine(linkage).map_or(&[][..], |machine| machine.triplets) {
        folders.push(Path::new("/lib").join(triplet));
        folders.push(Path::new("/usr/lib").join(triplet));
    }
    let by_class: &[&str] = match linkage.class {
        Class::Bits64 => &["/lib64", "/usr/lib64"],
        Class::Bits32 => &["/lib32", "/usr/lib32"],
    };
    folders.extend(by_class.iter().chain(&["/lib", "/usr/lib"]).map(PathBuf::from));
    folders
}

/// The folders in which musl's loader searches: its path file beside the loader's architecture,
/// else three fixed ones.
pub(crate) fn musl_folders(tree: &Tree, loader: &Path) -> Result<Vec<PathBuf>, Error> {
    let architecture = loader
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.strip_prefix("ld-musl-"))
        .and_then(|name| name.split_once('.'))
        .map(|(architecture, _)| architecture);
    if let Some(architecture) = architecture {
        let file = PathBuf::from(format!("/etc/ld-musl-{architecture}.path"));
        if let Some(text) = tree.read_text(&file, CONF_SIZE_MAX)? {
            return Ok(text
                .split([':', '\n'])
                .map(str::trim)
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from)
                .collect());
        }
    }
    Ok(["/lib", "/usr/local/lib", "/usr/lib"].map(PathBuf::from).to_vec())
}

/// The folders that an `ld.so.conf` and the files that it includes name, in order.
pub(crate) fn conf_folders(tree: &Tree, conf: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut folders = Vec::new();
    let mut file_count = 0;
    // A stack, so that an included file's folders stand where the `include` does.
    let mut todo = vec![ConfItem::File(conf.to_owned())];
    while let Some(item) = todo.pop() {
        let file = match item {
            ConfItem::Folder(folder) => {
                folders.push(folder);
                continue;
            }
            ConfItem::File(file) => file,
        };
        file_count += 1;
        if file_count > CONF_COUNT_MAX {
            return Err(Error::too_much("files included by `ld.so.conf`", CONF_COUNT_MAX));
        }
        let Some(text) = tree.read_text(&file, CONF_SIZE_MAX)? else { continue };
        let mut items = Vec::new();
        for line in text.lines() {
            items.extend(conf_line(tree, &file, line)?);
        }
        todo.extend(items.into_iter().rev());
    }
    Ok(folders)
}

/// What one line of an `ld.so.conf` stands for.
enum ConfItem {
    Folder(PathBuf),
    File(PathBuf),
}

fn conf_line(tree: &Tree, file: &Path, line: &str) -> Result<Vec<ConfItem>, Error> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let mut words = line.split_ascii_whitespace();
    let mut items = Vec::new();
    match words.next() {
        None | Some("hwcap") => {}
        Some("include") => {
            for word in words {
                let folder = file.parent().unwrap_or(Path::new("/"));
                let files = pattern::expand(tree, &folder.join(word))?;
                items.extend(files.into_iter().map(ConfItem::File));
            }
        }
        // `folder=type` is a form of libc5's days that ldconfig still reads.
        Some(_) => items.extend(
            line.split([':', ',', ' ', '\t'])
                .map(|folder| folder.split('=').next().unwrap_or_default())
                .filter(|folder| folder.starts_with('/'))
                .map(|folder| ConfItem::Folder(PathBuf::from(folder))),
        ),
    }
    Ok(items)
}

/// Puts in what `$ORIGIN`, `$LIB` and `$PLATFORM` in a search path or library name stand for.
/// `$LIB` depends on how the machine's C library was built, so there may be several answers; a
/// text without tokens has itself as the only one.
pub(crate) fn substitute(text: &str, origin: &Path, linkage: Linkage) -> Vec<PathBuf> {
    let machine = machine(linkage);
    let platform = machine.map_or("", |machine| machine.platform);
    let text = replace_token(text, "ORIGIN", &origin.to_string_lossy());
    let text = replace_token(&text, "PLATFORM", platform);
    let mut answers = Vec::new();
    let triplets = machine.map_or(&[][..], |machine| machine.triplets);
    for lib in triplets.iter().map(|triplet| format!("lib/{triplet}")).chain([
        if linkage.class == Class::Bits64 { "lib64" } else { "lib32" }.to_owned(),
        "lib".to_owned(),
    ]) {
        let answer = PathBuf::from(replace_token(&text, "LIB", &lib));
        if !answers.contains(&answer) {
            answers.push(answer);
        }
    }
    answers
}

/// Replaces `$NAME` and `${NAME}`; `$NAMEX` is another name and stays.
fn replace_token(text: &str, name: &str, value: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let braced = after.strip_prefix('{').and_then(|tail| tail.strip_prefix(name));
        let braced = braced.and_then(|tail| tail.strip_prefix('}'));
        let plain = after.strip_prefix(name).filter(|tail| {
            !tail.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
        });
        if let Some(tail) = braced.or(plain) {
            result.push_str(value);
            rest = tail;
        } else {
            result.push('$');
            rest = after;
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const X86_64: Linkage = Linkage { class: Bits64, endianness: Little, machine: 62 };

    #[test]
    fn tokens_are_replaced_whole() {
        for (text, first) in [
            ("$ORIGIN/../lib", "/opt/app/bin/../lib"),
            ("${ORIGIN}x", "/opt/app/binx"),
            ("/usr/$LIB/foo", "/usr/lib/x86_64-linux-gnu/foo"),
            ("/x/$PLATFORM", "/x/x86_64"),
            ("/x/$ORIGINAL/$", "/x/$ORIGINAL/$"),
            ("/plain", "/plain"),
        ] {
            let found = substitute(text, Path::new("/opt/app/bin"), X86_64);
            assert_eq!(found.first().map(PathBuf::as_path), Some(Path::new(first)), "{text}");
        }
        assert_eq!(substitute("/usr/$LIB", Path::new("/"), X86_64).len(), 3);
        assert_eq!(substitute("/plain", Path::new("/"), X86_64).len(), 1);
    }

    #[test]
    fn conf_reads_includes_in_place_and_ignores_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc/ld.so.conf.d")).unwrap();
        let conf = "/first # yes\ninclude ld.so.conf.d/*.conf\nhwcap 1 nosegneg\n/last=libc5\n";
        fs::write(at("etc/ld.so.conf"), conf).unwrap();
        fs::write(at("etc/ld.so.conf.d/b.conf"), "/b1:/b2\n").unwrap();
        fs::write(at("etc/ld.so.conf.d/a.conf"), "# only a comment\n/a\nrelative\n").unwrap();
        fs::write(at("etc/ld.so.conf.d/c.conf.old"), "/never\n").unwrap();
        let folders = conf_folders(&Tree::new(root.path()), Path::new("/etc/ld.so.conf")).unwrap();
        let expected = ["/first", "/a", "/b1", "/b2", "/last"].map(PathBuf::from);
        assert_eq!(folders, expected);
    }

    #[test]
    fn conf_that_includes_itself_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/ld.so.conf"), "include ld.so.conf\n").unwrap();
        let error = conf_folders(&Tree::new(root.path()), Path::new("/etc/ld.so.conf"));
        assert_eq!(error.unwrap_err().kind(), crate::ErrorKind::TooMuch);
    }
}
