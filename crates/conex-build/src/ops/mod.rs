//! What the vertices do: run a command, copy files, make a folder.

pub(crate) mod copy;
mod output;
pub(crate) mod renew;
pub(crate) mod run;
pub(crate) mod trees;
pub(crate) mod workdir;
