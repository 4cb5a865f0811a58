//! The Dockerfile language: from bytes to stages of typed instructions, and from words with
//! variables to values. Semantics are those of BuildKit's front end 1.26.
//!
//! - [`parse`] reads a file and never stops at the first mistake; [`Dockerfile`] is what it says,
//!   every field unexpanded and with its place.
//! - [`Expander`] gives words their values; [`Instruction::expandable`] says which words have any.
//! - [`Mount`], [`Mode`], [`Owner`], [`PortSpec`], [`parse_signal`], [`parse_duration`] and
//!   [`parse_size`] read values once they are expanded.
//! - [`Ignore`] matches `.dockerignore`; [`glob_match`] and [`glob_match_deep`] match sources.
//!
//! Invariant: pure functions of text. No file is read, no image is known, no variable has a value
//! that the caller did not give. Every input ends in a result within the bounds of [`limits`].
//!
//! What it does not do: scopes of ARG and ENV, the order of stages, and everything else that needs
//! a build. An empty line within a continuation is kept in
//! [`Instruction::empty_continuations`] and left to the linter.

#![forbid(unsafe_code)]

mod ast;
mod parse;
mod stages;

mod chmod;
mod diag;
mod duration;
mod error;
mod expand;
mod flags;
mod glob;
mod heredoc;
mod ignore;
mod instruction;
mod json;
pub mod limits;
mod lines;
mod mount;
mod names;
mod owner;
mod path;
mod pattern;
mod port;
mod signal;
mod source;
mod statement;

pub use ast::{
    Add, Arg, ArgDefinition, Command, Comment, Copy, Directives, Dockerfile, Expandable, From,
    Healthcheck, Heredoc, InlineFile, Instruction, Kind, Network, Onbuild, Pair, Pairs, Run,
    Script, Security, Stage, Transfer, Word,
};
pub use chmod::{EntryType, MODE_MAX, Mode};
pub use duration::{Duration, parse_duration, parse_size};
pub use error::{Error, ErrorKind};
pub use expand::{Expanded, ExpandedWords, Expander, Lookup};
pub use glob::{Glob, glob_match, glob_match_deep, has_wildcards};
pub use ignore::{DirState, Ignore};
pub use mount::{
    BindMount, CacheMount, Mount, MountField, MountFlag, SecretMount, Sharing, SshMount, TmpfsMount,
};
pub use names::{PLATFORM_ARGS, PREDEFINED_ARGS};
pub use owner::{Account, Owner};
pub use parse::{parse, parse_onbuild};
pub use port::{PortSpec, Protocol};
pub use signal::parse_signal;
pub use stages::StageRef;
