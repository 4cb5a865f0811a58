//! What a program file of this machine needs beside it to run: its loader, its libraries, its
//! interpreter, and every symbolic link on the way to them.
//!
//! Invariant: a [`Closure`] is closed. Every symbolic link in it has its target in it, every file
//! has its folders in it, and no path leads out of the root that was searched.
//!
//! Must not know images or the store: it lists paths; the caller copies them. It runs none of the
//! programs that it looks at, and reads no environment: `PATH` and the like are
//! [`SearchOptions`].

#![forbid(unsafe_code)]

mod closure;
mod companion;
mod elf;
mod error;
mod extras;
mod pattern;
mod script;
mod search;
mod sections;
mod toolset;
mod tree;

pub use closure::{Closure, closure};
pub use companion::{COMPANIONS, Companion};
pub use elf::{Class, Elf, Endianness, Linkage, ReadAt};
pub use error::{Error, ErrorKind};
pub use extras::{Extra, ExtraContent, ExtrasOptions, extras};
pub use script::{Interpreter, interpreter};
pub use search::{Link, SearchOptions};
pub use sections::{Extent, Sections};
pub use toolset::{TOOLSETS, Toolset};
pub use tree::{Entry, EntryKind};
