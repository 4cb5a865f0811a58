//! `conex registry`: a registry of one's own.

use crate::error::Result;
use crate::session::Session;

mod fsck;
mod images;
mod serve;

/// Serve images to docker, podman and every other client, and look after what was pushed
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex registry serve\n  conex registry serve --store local\n  \
    conex registry fsck"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Fsck(fsck::Args),
    Serve(Box<serve::Args>),
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match args.action {
        Action::Fsck(args) => fsck::run(session, &args),
        Action::Serve(args) => serve::run(session, *args),
    }
}

/// Where a registry keeps its data if nobody says: beside the store.
fn data_folder(session: &Session) -> std::path::PathBuf {
    let mut name = session.settings.root.clone().into_os_string();
    name.push("-registry");
    name.into()
}
