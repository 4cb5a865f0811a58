//! `conex system`: the store as a whole.

mod check;
mod df;
mod prune;

use crate::error::Result;
use crate::session::Session;

/// Look after the store
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex system df\n  conex system prune\n  conex system check")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Check(check::Args),
    Df(df::Args),
    Info(super::info::Args),
    Prune(prune::Args),
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match args.action {
        Action::Check(args) => check::run(session, &args),
        Action::Df(args) => df::run(session, &args),
        Action::Info(args) => super::info::run(session, &args),
        Action::Prune(args) => prune::run(session, &args),
    }
}
