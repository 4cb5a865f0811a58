//! The shell language: from text to lists, pipelines, commands, words and their expansions, each
//! with its place. Follows POSIX.1-2024 (Shell Command Language, chapter 2) and what bash adds.
//!
//! - [`parse`] reads a script; [`Script`] is what it says.
//! - [`Visit`] walks over it, substitutions and heredocs included.
//!
//! Invariant: lossless and total. Every node has the byte range it was read from, so that a fixer
//! can edit in place; every text gives a script, with an error for the place where it stops being
//! one; nesting is bounded by [`DEPTH_MAX`], so no text exhausts the stack.
//!
//! What it does not do: run anything, expand anything, or know which shell will read the text. It
//! accepts what bash accepts; whether that is portable is for its callers to judge.

#![forbid(unsafe_code)]

mod ast;
mod compound;
mod parser;
mod redirect;
mod visit;
mod word;

pub use ast::{
    AndOr, Assignment, Case, CaseItem, Command, CommandKind, Condition, Connector, Error, Heredoc,
    Item, List, Parameter, Part, PartKind, Pipe, Pipeline, Redirect, RedirectKind, Script, Simple,
    Span, Terminator, TestToken, Word,
};
pub use parser::parse;
pub use visit::{Visit, walk_command, walk_list, walk_part, walk_pipeline, walk_word};

/// Deepest nesting of commands, substitutions and quotes together. People nest a handful; a
/// hostile text could nest as deep as it is long, and each level costs some frames of the stack.
pub const DEPTH_MAX: usize = 100;
