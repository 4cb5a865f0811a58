//! The commands, one file each: arguments whose comments are the help, and a function that runs
//! them.

use clap::Subcommand;

use crate::error::Result;
use crate::session::Session;

mod base;
mod build;
mod import;
mod run;
mod version;

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make base images without a registry
    Base(base::Args),
    Build(Box<build::Args>),
    Import(import::Args),
    Run(Box<run::Args>),
    /// Show the version of conex
    Version(version::Args),
}

/// Runs a command.
pub fn run(session: &Session, command: Command) -> Result<()> {
    match command {
        Command::Base(args) => base::run(session, args),
        Command::Build(args) => build::run(session, *args),
        Command::Import(args) => import::run(session, args),
        Command::Run(args) => run::run(session, *args),
        Command::Version(args) => version::run(session, args),
    }
}
