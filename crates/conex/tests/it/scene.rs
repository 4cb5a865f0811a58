//! A sandbox for tests of what the program shows: images that need no container to be made, and
//! output in which nothing depends on the machine or the time.

use std::cell::RefCell;
use std::ops::Deref;
use std::path::PathBuf;

use conex_layer::{EntryHeader, TarWriter};

use crate::sandbox::{Ended, Sandbox, is_ci};
use crate::shown::{Names, normalized};

/// A sandbox whose store can be used.
pub(crate) struct Scene {
    sandbox: Sandbox,
    names: RefCell<Names>,
}

/// What a run of the program came to.
#[derive(Debug)]
#[must_use]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    shown: String,
}

impl Output {
    /// Standard output of a run that did what was asked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a run that ended with a code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stderr
    }
}

impl std::fmt::Display for Output {
    /// Code and both streams, without what changes from run to run.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl Deref for Scene {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Scene {
    /// An empty store. `None`, said aloud, where this machine lets this user keep no images.
    pub(crate) fn new() -> Option<Self> {
        let scene = Self { sandbox: Sandbox::new(), names: RefCell::default() };
        let tried = scene.run(&["images", "-q"]);
        if tried.code != 0 && tried.stderr.contains("user namespace") && !is_ci() {
            eprintln!("skipped: no store on this machine: {}", tried.stderr);
            return None;
        }
        tried.ok();
        Some(scene)
    }

    /// A store with the image `base`, which holds one small file.
    pub(crate) fn with_files() -> Option<Self> {
        let scene = Self::new()?;
        scene.tar("files.tar", &[("etc/motd", "hello\n")]);
        // Not by its whole path, which is another in every run and stands in the history.
        scene.run(&["import", "files.tar", "base"]).ok();
        Some(scene)
    }

    /// The folder of the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.at("store")
    }

    /// Writes a tar with files of root's. Gives its path.
    pub(crate) fn tar(&self, name: &str, files: &[(&str, &str)]) -> String {
        let mut tar = TarWriter::new(Vec::new());
        for (path, content) in files {
            let header = EntryHeader::file(*path, content.len() as u64);
            tar.append(&header, content.as_bytes()).unwrap();
        }
        self.write(name, tar.finish().unwrap());
        self.text(name)
    }

    /// Runs the program.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.output(self.conex(args))
    }

    /// Runs the program with something to read.
    pub(crate) fn run_with(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        self.output(self.conex_with(args, stdin.as_ref()))
    }

    /// Builds a Dockerfile without a context. Gives the image's ID.
    pub(crate) fn image(&self, name: &str, dockerfile: &str) -> String {
        self.run_with(&["build", "-q", "-t", name, "-"], dockerfile).ok().trim().to_owned()
    }

    /// Shows what a run came to.
    pub(crate) fn output(&self, ended: Ended) -> Output {
        let Ended { code, out: stdout, err: stderr } = ended;
        let mut shown = format!("exit {code}\n");
        for (title, stream) in [("stdout", &stdout), ("stderr", &stderr)] {
            if !stream.is_empty() {
                shown.push_str(&format!("--- {title}\n{}", self.normalized(stream)));
            }
        }
        Output { code, stdout, stderr, shown }
    }

    /// A text without what changes from run to run.
    pub(crate) fn normalized(&self, text: &str) -> String {
        let text = text.replace(self.path().to_str().unwrap(), "[DIR]");
        normalized(&text, &mut self.names.borrow_mut())
    }
}

/// Reads a JSON document.
pub(crate) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
