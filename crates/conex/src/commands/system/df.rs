//! `conex system df`: what the store takes up.

use conex_store::{DiskUsage, ImageKind, Store, Usage};
use conex_term::human_size;
use serde_json::{Value, json};

use crate::commands::cache;
use crate::commands::images::Listing;
use crate::commands::shown::{self, Length};
use crate::error::Result;
use crate::session::Session;

const TABLE: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const HEADERS: [(&str, &str); 1] = [("TotalCount", "TOTAL")];

/// Show what the store takes up
///
/// Sizes are bytes on disk; all rows together are what `du` counts for the store's folder. ACTIVE
/// are images with names, and whatever a running process uses. RECLAIMABLE is what a prune of this
/// kind alone would free.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex system df\n  conex system df -v\n  \
    conex system df --format '{{.Type}}: {{.Size}}'")]
pub struct Args {
    /// Format the output: `table`, `json`, `table TEMPLATE` or a Go template (fields: `.Type`,
    /// `.TotalCount`, `.Active`, `.Size`, `.Reclaimable`); with `--verbose` `json`, or a template
    /// over `.Images`, `.Containers`, `.Volumes`, `.BuildCache`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show each image, volume and cache entry
    #[arg(short, long)]
    verbose: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    let store = session.store()?;
    if args.verbose {
        return verbose(session, store, args.format.as_deref());
    }
    let usage = store.df()?;
    let text = crate::format::list(args.format.as_deref(), TABLE, &HEADERS, &rows(&usage))?;
    session.out(&text)?;
    if usage.unreadable > 0 {
        let count = usage.unreadable;
        session.err(&format!("warning: {count} files or folders cannot be read and do not count"));
    }
    Ok(())
}

fn rows(usage: &DiskUsage) -> Vec<Value> {
    // A build cache's share is not shown, as in Docker.
    let cache = human_size(usage.cache.reclaimable);
    let overhead = Usage { bytes: usage.overhead_bytes, ..Usage::default() };
    let share = |usage: &Usage| shown::share(usage.reclaimable, usage.bytes);
    [
        ("Images", usage.images, share(&usage.images)),
        ("Containers", Usage::default(), human_size(0)),
        ("Local Volumes", usage.volumes, share(&usage.volumes)),
        ("Build Cache", usage.cache, cache),
        ("Cache Mounts", usage.cache_mounts, share(&usage.cache_mounts)),
        ("Bookkeeping", overhead, human_size(0)),
    ]
    .into_iter()
    .map(|(kind, usage, reclaimable)| {
        json!({
            "Active": usage.active.to_string(),
            "Reclaimable": reclaimable,
            "Size": human_size(usage.bytes),
            "TotalCount": usage.count.to_string(),
            "Type": kind,
        })
    })
    .collect()
}

const IMAGES_TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t\
                            {{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const VOLUMES_TABLE: &str = "{{.Name}}\t{{.Links}}\t{{.Size}}";
const CACHE_TABLE: &str = "{{.ID}}\t{{.Type}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t\
                           {{.UsageCount}}\t{{.Shared}}";

fn verbose(session: &Session, store: &Store, format: Option<&str>) -> Result<()> {
    let images = image_rows(session, store)?;
    let volumes = volume_rows(store)?;
    let cache = cache::rows(session, store, Length::Short)?;
    if let Some(format) = format.filter(|format| !format.is_empty() && *format != "table") {
        let value = json!({
            "Images": images,
            "Containers": [],
            "Volumes": volumes,
            "BuildCache": cache,
        });
        return session.out(&crate::format::one(format, &value)?);
    }
    let headers = [("ID", "IMAGE ID"), ("CreatedSince", "CREATED")];
    let images = crate::format::list(None, IMAGES_TABLE, &headers, &images)?;
    let headers = [("Name", "VOLUME NAME")];
    let volumes = crate::format::list(None, VOLUMES_TABLE, &headers, &volumes)?;
    let headers = [
        ("ID", "CACHE ID"),
        ("Type", "CACHE TYPE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
    ];
    let cache = crate::format::list(None, CACHE_TABLE, &headers, &cache)?;
    let usage = store.df()?;
    let total = human_size(usage.cache.bytes.saturating_add(usage.cache_mounts.bytes));
    session.out(&format!(
        "Images space usage:\n\n{images}\nLocal Volumes space usage:\n\n{volumes}\n\
         Build cache usage: {total}\n\n{cache}"
    ))
}

/// A row a name, without the single images of an index: they are in the index's size.
fn image_rows(session: &Session, store: &Store) -> Result<Vec<Value>> {
    let listing = Listing { session, store, length: Length::Short, digests: false, sharing: true };
    let mut rows = Vec::new();
    for record in store.images()? {
        if record.in_index && record.tags.is_empty() && record.kind == ImageKind::Image {
            continue;
        }
        for mut row in listing.rows(&record)? {
            row["Containers"] = json!("0");
            rows.push(row);
        }
    }
    Ok(rows)
}

fn volume_rows(store: &Store) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for volume in store.volumes()? {
        let usage = store.volume_usage(&volume)?;
        rows.push(json!({
            "Links": u8::from(usage.is_in_use).to_string(),
            "Name": volume.name,
            "Size": human_size(usage.size),
        }));
    }
    Ok(rows)
}
