//! What a process did to files and said to clients, as `strace` tells it: the order of writes,
//! waits for the disk and answers, from which every state after a power cut follows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What `strace` is asked for: all that makes, names, changes or syncs files, and what is said on
/// sockets.
pub(crate) const CALLS: &str = "trace=open,openat,creat,dup,dup2,dup3,fcntl,socket,accept,accept4,\
    eventfd2,epoll_create1,pipe2,memfd_create,read,lseek,write,writev,pwrite64,pwritev,pwritev2,ftruncate,\
    truncate,fallocate,fsync,fdatasync,sync_file_range,syncfs,rename,renameat,renameat2,link,\
    linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,sendto,sendmsg,recvfrom,\
    copy_file_range,sendfile,mmap";

/// The number of a file or folder; 0 is the folder that everything happens in.
pub(crate) type Node = usize;

/// One thing that happened. All of a call's effects are at the moment when it ended.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Names appear and go at once, each in a folder: a rename is both.
    Names { made: Option<(Node, String, Node)>, gone: Option<(Node, String)> },
    /// Bytes at a place of a file.
    Write { file: Node, at: usize, bytes: Vec<u8> },
    /// A file gets a length.
    Length { file: Node, length: usize },
    /// What was done to a file or folder before this step is on the disk.
    Synced { node: Node, before: usize },
    /// A client was told that what has this place is kept.
    Kept(String),
    /// A client asked that something goes away.
    Delete(String),
}

/// All that happened below a folder.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<Step>,
    /// Which nodes are folders.
    pub(crate) folders: Vec<bool>,
    /// Calls that this does not understand and that may have changed a file.
    pub(crate) unknown: Vec<String>,
    names: HashMap<(Node, String), Node>,
    open: HashMap<i64, Open>,
}

#[derive(Debug, Clone)]
struct Open {
    node: Node,
    at: usize,
}

/// A call that has begun: its arguments so far, and how many steps there were.
struct Begun {
    text: String,
    before: usize,
}

impl Trace {
    /// Reads what `strace -f -qq -xx` wrote about what happened below a folder.
    pub(crate) fn read(text: &str, base: &Path) -> Self {
        let mut trace = Self { folders: vec![true], ..Self::default() };
        let mut begun: HashMap<&str, Begun> = HashMap::new();
        for line in text.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            let call = call.trim_start();
            let before = trace.steps.len();
            if let Some(text) = call.strip_suffix(" <unfinished ...>") {
                begun.insert(pid, Begun { text: text.to_owned(), before });
            } else if let Some(rest) = call.strip_prefix("<... ") {
                let Some(first) = begun.remove(pid) else { continue };
                let rest = rest.split_once(" resumed>").map_or("", |(_, rest)| rest);
                trace.call(&format!("{}{rest}", first.text), first.before, base);
            } else {
                trace.call(call, before, base);
            }
        }
        trace
    }

    /// One whole call.
    fn call(&mut self, text: &str, before: usize, base: &Path) {
        let Some((name, rest)) = text.split_once('(') else { return };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else { return };
        let result = result.split(' ').next().and_then(|text| text.parse::<i64>().ok());
        let Some(result) = result.filter(|result| *result >= 0) else { return };
        let arguments = arguments.trim_end().trim_end_matches(')');
        let strings = strings(arguments);
        let numbers = numbers(arguments);
        let file = numbers.first().copied().unwrap_or(-1);
        let paths: Vec<PathBuf> = strings
            .iter()
            .filter_map(|bytes| {
                let path = Path::new(std::str::from_utf8(bytes).ok()?);
                path.strip_prefix(base).ok().map(Path::to_owned)
            })
            .collect();
        match name {
            "open" | "openat" | "creat" => self.opened(paths.first(), arguments, result),
            "dup" | "dup2" | "dup3" | "fcntl" if name != "fcntl" || arguments.contains("F_DUP") => {
                match self.open.get(&file).cloned() {
                    Some(open) => self.open.insert(result, open),
                    None => self.open.remove(&result),
                };
            }
            "socket" | "accept" | "accept4" | "eventfd2" | "epoll_create1" | "memfd_create" => {
                self.open.remove(&result);
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendto" | "sendmsg" => {
                let mut bytes = strings.concat();
                bytes.truncate(usize::try_from(result).unwrap());
                let at = name.starts_with('p').then(|| numbers.last().copied().unwrap_or(0));
                self.written(file, at, bytes);
            }
            "read" | "lseek" => {
                if let Some(open) = self.open.get_mut(&file) {
                    let to = usize::try_from(result).unwrap();
                    open.at = if name == "read" { open.at + to } else { to };
                }
            }
            "recvfrom" => self.heard(&strings.concat()),
            "ftruncate" => self.lengthened(file, numbers.last().copied().unwrap_or(0)),
            "fsync" | "fdatasync" => {
                if let Some(open) = self.open.get(&file) {
                    self.steps.push(Step::Synced { node: open.node, before });
                }
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                let ([from, to], false) = (&paths[..], paths.is_empty()) else { return };
                self.named(from, to, name.starts_with("rename"));
            }
            "unlink" | "unlinkat" | "rmdir" => {
                if let Some((folder, name)) = paths.first().and_then(|path| self.place(path)) {
                    self.names.remove(&(folder, name.clone()));
                    self.steps.push(Step::Names { made: None, gone: Some((folder, name)) });
                }
            }
            "mkdir" | "mkdirat" => {
                if let Some(place) = paths.first().and_then(|path| self.place(path)) {
                    self.make(place, true);
                }
            }
            // Starts a write and promises nothing.
            "sync_file_range" | "fcntl" | "pipe2" => {}
            // The index of the log is shared this way, and is made anew after a power cut.
            "mmap" => {
                let is_written =
                    arguments.contains("PROT_WRITE") && arguments.contains("MAP_SHARED");
                let open = arguments.split(", ").nth(4).and_then(|text| text.parse().ok());
                let node = open.and_then(|open: i64| self.open.get(&open)).map(|open| open.node);
                let is_index = self
                    .names
                    .iter()
                    .any(|((_, name), other)| name.ends_with("-shm") && node == Some(*other));
                if is_written && node.is_some() && !is_index {
                    self.unknown.push(text.to_owned());
                }
            }
            _ if !paths.is_empty() || self.open.contains_key(&file) => {
                self.unknown.push(text.chars().take(200).collect());
            }
            _ => {}
        }
    }

    /// The folder and the name of a path, if the folder is known.
    fn place(&self, path: &Path) -> Option<(Node, String)> {
        let mut parts: Vec<String> =
            path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        let name = parts.pop()?;
        let mut folder = 0;
        for part in parts {
            folder = *self.names.get(&(folder, part))?;
        }
        Some((folder, name))
    }

    fn make(&mut self, (folder, name): (Node, String), is_folder: bool) -> Node {
        let node = self.folders.len();
        self.folders.push(is_folder);
        self.names.insert((folder, name.clone()), node);
        self.steps.push(Step::Names { made: Some((folder, name, node)), gone: None });
        node
    }

    fn opened(&mut self, path: Option<&PathBuf>, arguments: &str, number: i64) {
        // Whatever had the number was closed.
        self.open.remove(&number);
        let Some(path) = path else { return };
        let node = if path.as_os_str().is_empty() {
            0
        } else {
            let Some(place) = self.place(path) else { return };
            match self.names.get(&place) {
                Some(node) => *node,
                None if arguments.contains("O_CREAT") => self.make(place, false),
                None => return,
            }
        };
        if arguments.contains("O_TRUNC") {
            self.steps.push(Step::Length { file: node, length: 0 });
        }
        self.open.insert(number, Open { node, at: 0 });
    }

    fn written(&mut self, number: i64, at: Option<i64>, bytes: Vec<u8>) {
        let Some(open) = self.open.get_mut(&number) else { return self.said(&bytes) };
        let place = match at {
            Some(at) => usize::try_from(at).unwrap(),
            None => open.at,
        };
        if at.is_none() {
            open.at += bytes.len();
        }
        let file = open.node;
        self.steps.push(Step::Write { file, at: place, bytes });
    }

    fn lengthened(&mut self, number: i64, length: i64) {
        if let Some(open) = self.open.get(&number) {
            let length = usize::try_from(length).unwrap();
            self.steps.push(Step::Length { file: open.node, length });
        }
    }

    fn named(&mut self, from: &Path, to: &Path, is_moved: bool) {
        let (Some(from), Some(to)) = (self.place(from), self.place(to)) else { return };
        let Some(node) = self.names.get(&from).copied() else { return };
        if is_moved {
            self.names.remove(&from);
        }
        self.names.insert(to.clone(), node);
        let gone = is_moved.then_some(from);
        self.steps.push(Step::Names { made: Some((to.0, to.1, node)), gone });
    }

    /// An answer to a client.
    fn said(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if !text.starts_with("HTTP/1.1 201 ") {
            return;
        }
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("location").then(|| value.to_owned())
        };
        self.steps.extend(text.lines().find_map(header).map(Step::Kept));
    }

    /// A request of a client.
    fn heard(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Some(path) = text.strip_prefix("DELETE ").and_then(|text| text.split(' ').next()) {
            self.steps.push(Step::Delete(path.to_owned()));
        }
    }
}

/// The strings of a call's arguments, which are written as `\x2f\x61`.
fn strings(arguments: &str) -> Vec<Vec<u8>> {
    let quoted = arguments.split('"').skip(1).step_by(2);
    quoted
        .map(|text| {
            let digits = text.split("\\x").skip(1);
            digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
        })
        .collect()
}

/// The arguments that are numbers, in their order.
fn numbers(arguments: &str) -> Vec<i64> {
    let outside: Vec<&str> = arguments.split('"').step_by(2).collect();
    let outside = outside.join("\"");
    outside.split(", ").filter_map(|text| text.parse().ok()).collect()
}
