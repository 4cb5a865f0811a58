//! `conex builder`: what builds leave for the next ones.

use conex_store::{PruneCache, PruneCacheMounts, PruneOptions, Timestamp};

use super::build;
use super::filters::{self, Filters};
use super::removal::{Ask, Report, confirmed};
use crate::error::{CliError, Result};
use crate::session::Session;

/// Manage what builds leave for the next ones
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex builder prune\n  conex cache ls          # what there is"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Build(Box<build::Args>),
    Prune(PruneArgs),
}

/// Remove build cache
///
/// The results of steps that no image has. With `--all` also those that images have, which frees
/// little and makes the next build run every step again, and the cache mounts of RUN steps.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex builder prune\n  \
    conex builder prune -f --filter unused-for=168h\n  conex builder prune -f --max-used-space 10GB")]
struct PruneArgs {
    /// Remove everything that no running build uses
    #[arg(short, long)]
    all: bool,

    /// Only what was not used since a moment or for some time: `until=TIME`, `unused-for=24h`
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Do not ask first
    #[arg(short, long)]
    force: bool,

    /// Keep so many bytes of what was used last
    #[arg(
        long,
        visible_alias = "keep-storage",
        value_name = "BYTES",
        value_parser = filters::bytes,
        conflicts_with_all = ["all", "filter"]
    )]
    max_used_space: Option<u64>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match args.action {
        Action::Build(args) => build::run(session, *args),
        Action::Prune(args) => prune(session, &args),
    }
}

fn prune(session: &Session, args: &PruneArgs) -> Result<()> {
    let filters = Filters::parse(&args.filter, &["unused-for", "until"])?;
    let since = unused_since(session, &filters)?;
    let cache = match (args.max_used_space, since, args.all) {
        (Some(bytes), ..) => PruneCache::Budget(bytes),
        (None, Some(since), _) => PruneCache::UnusedSince(since),
        (None, None, true) => PruneCache::All,
        (None, None, false) => PruneCache::Dangling,
    };
    let cache_mounts = match (args.all, since) {
        (false, _) => PruneCacheMounts::Keep,
        (true, Some(since)) => PruneCacheMounts::UnusedSince(since),
        (true, None) => PruneCacheMounts::All,
    };
    let what = if args.all { "all build cache" } else { "all dangling build cache" };
    let question = format!("WARNING! This will remove {what}. Are you sure you want to continue?");
    if !confirmed(session, Ask::unless(args.force), &question)? {
        return Ok(());
    }
    let store = session.store()?;
    let mut report = Report::begin(store)?;
    report.prune(store, &PruneOptions { cache, cache_mounts, ..PruneOptions::NOTHING })?;
    report.show(session)
}

/// The moment of `until` or `unused-for`, which Docker takes for one another.
pub fn unused_since(session: &Session, filters: &Filters) -> Result<Option<Timestamp>> {
    if filters.last("until").is_some() && filters.last("unused-for").is_some() {
        return Err(CliError::usage("`until` and `unused-for` say the same: give one of them"));
    }
    match filters.moment(session, "until")? {
        Some(moment) => Ok(Some(moment)),
        None => filters.moment(session, "unused-for"),
    }
}
