//! `conex image`: the commands about images under one word.

use conex_store::{PruneImages, PruneOptions};

use super::filters::Filters;
use super::removal::{Ask, Report, confirmed};
use super::{build, history, images, import, inspect, load, pull, push, rmi, save, tag};
use crate::error::Result;
use crate::session::Session;

/// Manage images
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex image ls\n  conex image prune")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Build(Box<build::Args>),
    History(history::Args),
    Import(import::Args),
    Inspect(inspect::ImageArgs),
    Load(load::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    Prune(PruneArgs),
    Pull(pull::Args),
    Push(push::Args),
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    Save(save::Args),
    Tag(tag::Args),
}

/// Remove unused images
///
/// Those without a name; with `--all` every image that no running container uses.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex image prune\n  conex image prune -a --filter until=24h\n  \
    conex image prune -af --filter label!=keep"
)]
struct PruneArgs {
    /// Remove images with names too
    #[arg(short, long)]
    all: bool,

    /// Only images that meet a condition: `until=TIME`, `label=NAME[=VALUE]`,
    /// `label!=NAME[=VALUE]` (can be repeated)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Do not ask first
    #[arg(short, long)]
    force: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match args.action {
        Action::Build(args) => build::run(session, *args),
        Action::History(args) => history::run(session, args),
        Action::Import(args) => import::run(session, args),
        Action::Inspect(args) => inspect::run_image(session, &args),
        Action::Load(args) => load::run(session, args),
        Action::Ls(args) => images::run(session, args),
        Action::Prune(args) => prune(session, &args),
        Action::Pull(args) => pull::run(session, args),
        Action::Push(args) => push::run(session, args),
        Action::Rm(args) => rmi::run(session, &args),
        Action::Save(args) => save::run(session, args),
        Action::Tag(args) => tag::run(session, args),
    }
}

fn prune(session: &Session, args: &PruneArgs) -> Result<()> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let what = if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    let options = PruneOptions {
        images: if args.all { PruneImages::All } else { PruneImages::Dangling },
        until: filters.moment(session, "until")?,
        labels: filters.labels(),
        ..PruneOptions::NOTHING
    };
    if !confirmed(session, Ask::unless(args.force), &question)? {
        return Ok(());
    }
    let store = session.store()?;
    let mut report = Report::begin(store)?;
    report.prune(store, &options)?;
    report.sweep(store)?;
    report.show(session)
}
