//! `conex system prune`: removing everything that nobody needs, or the least recently used until
//! the store fits a budget.

use conex_store::{
    ErrorKind, PruneCache, PruneCacheMounts, PruneImages, PruneOptions, PruneVolumes, Removed,
    Store,
};
use conex_term::human_size;

use crate::commands::filters::{self, Filters};
use crate::commands::removal::{Ask, Report, confirmed};
use crate::error::Result;
use crate::session::Session;

/// Remove what nobody needs
///
/// Images without a name and build cache that no image has. `--all` takes all images that no
/// running container uses, the whole build cache and the cache mounts. `--max-used-space` takes
/// from build cache and cache mounts only what was used longest ago, until the store fits.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex system prune\n  conex system prune -f --max-used-space 20GB\n  \
    conex system prune -af --volumes --filter until=168h"
)]
pub struct Args {
    /// Remove images with names, the whole build cache and the cache mounts too
    #[arg(short, long)]
    all: bool,

    /// Only what meets a condition: `until=TIME`, `label=NAME[=VALUE]`, `label!=NAME[=VALUE]`
    /// (can be repeated; build cache has no labels and stays when one is asked for)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Do not ask first
    #[arg(short, long)]
    force: bool,

    /// Bytes that the whole store may take up
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = filters::bytes,
        conflicts_with_all = ["all", "filter"]
    )]
    max_used_space: Option<u64>,

    /// Remove volumes that nobody named too
    #[arg(long)]
    volumes: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let until = filters.moment(session, "until")?;
    let labels = filters.labels();
    if !confirmed(session, Ask::unless(args.force), &question(args, &filters))? {
        return Ok(());
    }
    let (cache, cache_mounts) = match (args.max_used_space, until) {
        _ if !labels.is_empty() => (PruneCache::Keep, PruneCacheMounts::Keep),
        // Later, and only as much as the budget asks for.
        (Some(_), _) => (PruneCache::Keep, PruneCacheMounts::Keep),
        (None, Some(until)) if args.all => {
            (PruneCache::UnusedSince(until), PruneCacheMounts::UnusedSince(until))
        }
        (None, Some(until)) => (PruneCache::UnusedSince(until), PruneCacheMounts::Keep),
        (None, None) if args.all => (PruneCache::All, PruneCacheMounts::All),
        (None, None) => (PruneCache::Dangling, PruneCacheMounts::Keep),
    };
    let options = PruneOptions {
        images: if args.all { PruneImages::All } else { PruneImages::Dangling },
        cache,
        volumes: if args.volumes { PruneVolumes::Anonymous } else { PruneVolumes::Keep },
        cache_mounts,
        until,
        labels,
    };
    let store = session.store()?;
    let mut report = Report::begin(store)?;
    report.prune(store, &options)?;
    report.sweep(store)?;
    if let Some(budget) = args.max_used_space {
        report.add(fit(session, store, budget)?);
    }
    report.show(session)
}

fn question(args: &Args, filters: &Filters) -> String {
    let mut lines = vec!["WARNING! This will remove:".to_owned()];
    if args.volumes {
        lines.push("  - all anonymous volumes not used by at least one container".to_owned());
    }
    lines.push(if args.all {
        "  - all images without at least one container associated to them".to_owned()
    } else {
        "  - all dangling images".to_owned()
    });
    lines.push(match (args.max_used_space, args.all) {
        (Some(bytes), _) => {
            format!("  - build cache used longest ago, until {} are left", human_size(bytes))
        }
        (None, true) => "  - all build cache, and all cache mounts".to_owned(),
        (None, false) => "  - unused build cache".to_owned(),
    });
    if !filters.is_empty() {
        lines.push("\n  Items to be pruned will be filtered with:".to_owned());
        lines.extend(filters.iter().map(|(name, value)| format!("  - {name}={value}")));
    }
    lines.push("\nAre you sure you want to continue?".to_owned());
    lines.join("\n")
}

/// Removes build cache, then cache mounts, the least recently used first, until the store takes up
/// no more than a budget.
fn fit(session: &Session, store: &Store, budget: u64) -> Result<Removed> {
    let mut removed = Removed::default();
    let usage = store.df()?;
    let mut total = usage.total_bytes();
    if total > budget {
        let others = total.saturating_sub(usage.cache.bytes);
        let cache = PruneCache::Budget(budget.saturating_sub(others));
        removed.merge(store.prune(&PruneOptions { cache, ..PruneOptions::NOTHING })?);
        total = store.df()?.total_bytes();
    }
    let mut mounts = store.cache_mounts()?;
    mounts.sort_by_key(|mount| mount.last_used);
    for mount in mounts {
        if total <= budget {
            break;
        }
        match store.remove_cache_mount(&mount.id) {
            Ok(bytes) => {
                total = total.saturating_sub(bytes);
                removed.bytes = removed.bytes.saturating_add(bytes);
                removed.cache_mounts.push(mount.id);
            }
            // Used meanwhile, or gone with another folder of the same ID.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if total > budget {
        let (total, budget) = (human_size(total), human_size(budget));
        session.err(&format!(
            "warning: the store still takes up {total}, more than {budget}: images, volumes and \
             what is in use stay"
        ));
    }
    Ok(removed)
}
