//! The graph that a Dockerfile is lowered to: what is to be done, in which order, with every
//! variable expanded and every name resolved.
//!
//! Invariant: a vertex's inputs come before it, so a walk in order never meets an unknown result.
//! Instructions that only change the config make no vertex: they are worked in while planning.

use std::collections::BTreeMap;

use conex_dockerfile::{Mode, Owner};
use conex_oci::{Digest, History, ImageConfig, Platform};
use conex_report::Span;

/// The place of a vertex in [`Plan::vertices`].
pub(crate) type VertexIndex = usize;

/// Everything to do for one build.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) vertices: Vec<Vertex>,
    pub(crate) targets: Vec<Target>,
}

/// One image to make.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) platform: Platform,
    /// What the root file system comes from; `None` is an empty one.
    pub(crate) head: Option<VertexIndex>,
    /// The config, still without history and layers of this build.
    pub(crate) config: ImageConfig,
    /// One entry an instruction, with the vertex whose layer it made.
    pub(crate) history: Vec<Step>,
}

/// One line of history in the making.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) history: History,
    pub(crate) vertex: Option<VertexIndex>,
}

/// One piece of work that gives a root file system.
#[derive(Debug, Clone)]
pub(crate) struct Vertex {
    /// What a person reads (`[build 2/5] RUN make`).
    pub(crate) name: String,
    /// Where the instruction stands, for errors.
    pub(crate) span: Option<Span>,
    /// The root file system that it starts from; `None` is an empty one.
    pub(crate) parent: Option<VertexIndex>,
    pub(crate) op: Op,
    pub(crate) platform: Platform,
    /// Asked for by `--no-cache` or `--no-cache-filter`.
    pub(crate) use_cache: UseCache,
    /// Names the step from build to build (stage, position, instruction), so that `--explain` can
    /// tell what changed.
    pub(crate) step_id: Digest,
}

/// Whether an earlier result may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UseCache {
    Yes,
    No,
}

/// What a vertex does.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// An image that is in the store: its layers, already unpacked.
    Base(Box<BaseImage>),
    Run(Box<RunOp>),
    Copy(Box<CopyOp>),
    Workdir(WorkdirOp),
}

/// An image to start from.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// The name it was asked for by.
    pub name: String,
    /// Its config.
    pub config: ImageConfig,
}

/// A tree to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// A build context, by name; the main one is `None`.
    Context(Option<String>),
    /// The result of a vertex; `None` is an empty tree.
    Vertex(Option<VertexIndex>),
}

#[derive(Debug, Clone)]
pub(crate) struct RunOp {
    /// Program and arguments, shell included.
    pub(crate) args: Vec<String>,
    /// A heredoc with a shebang, which runs as a program of its own.
    pub(crate) script: Option<ScriptFile>,
    /// The environment that decides the result.
    pub(crate) env: Vec<(String, String)>,
    /// Proxy variables: seen by the command, no part of the cache key or history.
    pub(crate) proxy_env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) mounts: Vec<RunMount>,
    pub(crate) network: conex_dockerfile::Network,
    pub(crate) security: conex_dockerfile::Security,
}

#[derive(Debug, Clone)]
pub(crate) struct ScriptFile {
    pub(crate) name: String,
    pub(crate) content: String,
}

/// A mount of a `RUN`, expanded, with its source resolved.
#[derive(Debug, Clone)]
pub(crate) struct RunMount {
    /// Where, absolute; empty for a secret that is only a variable.
    pub(crate) target: String,
    /// What `from` means, for those that have one.
    pub(crate) from: Option<Tree>,
    pub(crate) mount: conex_dockerfile::Mount,
}

#[derive(Debug, Clone)]
pub(crate) struct CopyOp {
    pub(crate) sources: Vec<CopySource>,
    /// Absolute, cleaned.
    pub(crate) dest: String,
    /// The destination was written with a slash or dot at its end, or several sources need one.
    pub(crate) dest_is_dir: bool,
    pub(crate) chown: Option<Owner>,
    pub(crate) chmod: Option<Mode>,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) excludes: Vec<String>,
    /// ADD's rules: local archives are unpacked.
    pub(crate) add: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum CopySource {
    Path { from: Tree, pattern: String },
    Inline { name: String, content: String },
    Http { url: String, checksum: Option<Digest>, unpack: bool },
    Git { url: String, checksum: Option<String>, keep_git_dir: Option<bool> },
}

#[derive(Debug, Clone)]
pub(crate) struct WorkdirOp {
    pub(crate) path: String,
    pub(crate) user: String,
}

/// Values of `--build-arg`, by name.
pub type BuildArgs = BTreeMap<String, String>;
