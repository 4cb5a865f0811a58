//! The commands, one file each: arguments whose comments are the help, and a function that runs
//! them.

use clap::Subcommand;

use crate::error::Result;
use crate::session::Session;

mod version;

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the version of conex
    Version(version::Args),
}

/// Runs a command.
pub fn run(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Version(args) => version::run(session, args),
    }
}
