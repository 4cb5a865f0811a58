//! `conex cache`: what builds keep: results of steps, and the cache mounts of RUN steps.

mod archive;

use std::fmt::Write as _;

use conex_oci::Digest;
use conex_store::{CacheEntry, CacheMountRecord, ErrorKind, Removed, Store};
use conex_term::human_size;
use serde_json::{Value, json};

use super::removal::Report;
use super::rmi::Failures;
use super::shown::{self, Length};
use crate::error::{CliError, Result};
use crate::session::Session;

const TABLE: &str =
    "{{.ID}}\t{{.Type}}\t{{.Size}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Description}}";
const HEADERS: [(&str, &str); 3] =
    [("ID", "CACHE ID"), ("LastUsedSince", "LAST USED"), ("UsageCount", "USES")];

/// How much of an instruction fits the table.
const DESCRIPTION_CHARS: usize = 60;

/// What the type of a cache mount is called; BuildKit calls it `exec.cachemount`.
const MOUNT_TYPE: &str = "mount";

/// Manage what builds keep: results of steps, and cache mounts
///
/// Results of steps go to other machines with `conex build --cache-to`; cache mounts (`RUN
/// --mount=type=cache`) go with `conex cache export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex cache ls\n  \
    conex cache export /root/.cache/pip -o pip.tar.zst\n  conex cache import /root/.cache/pip pip.tar.zst")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Export(archive::ExportArgs),
    Import(archive::ImportArgs),
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

/// List results of steps and cache mounts, the latest used first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex cache ls\n  conex cache ls --verbose\n  \
    conex cache ls --format '{{.ID}} {{.Size}}'")]
struct ListArgs {
    /// Show everything about each, on lines of its own
    #[arg(short, long, conflicts_with_all = ["format", "quiet"])]
    verbose: bool,

    /// Format the output: `table`, `json`, `table TEMPLATE` or a Go template (fields: `.ID`,
    /// `.Type`, `.Size`, `.CreatedAt`, `.CreatedSince`, `.LastUsedAt`, `.LastUsedSince`,
    /// `.UsageCount`, `.InUse`, `.Shared`, `.DiffID`, `.Mountpoint`, `.Description`)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show long values whole
    #[arg(long)]
    no_trunc: bool,

    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
}

/// Remove results of steps and cache mounts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex cache rm /root/.cache/pip\n  conex cache rm 3f2a91c0b7de\n  \
    conex builder prune -a      # everything"
)]
struct RemoveArgs {
    /// The ID of a cache mount, or the ID (or its beginning) of a result, as `conex cache ls`
    /// shows them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match args.action {
        Action::Export(args) => archive::export(session, &args),
        Action::Import(args) => archive::import(session, &args),
        Action::Ls(args) => list(session, args),
        Action::Rm(args) => remove(session, &args),
    }
}

fn list(session: &Session, args: ListArgs) -> Result<()> {
    let store = session.store()?;
    let format = args.format.filter(|format| !format.is_empty() && format != "table");
    let format = match format {
        None if args.quiet => Some("{{.ID}}".to_owned()),
        format => format,
    };
    let length = Length::no_trunc(args.no_trunc || args.verbose);
    let rows = rows(session, store, length)?;
    if args.verbose {
        return session.out(&verbose(&rows));
    }
    session.out(&crate::format::list(format.as_deref(), TABLE, &HEADERS, &rows)?)
}

/// Results and cache mounts as rows, the latest used first.
pub fn rows(session: &Session, store: &Store, length: Length) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for entry in store.cache_list()? {
        rows.push((entry.record.last_used, record_row(session, &entry, length)));
    }
    for mount in store.cache_mounts()? {
        rows.push((mount.last_used, mount_row(session, &mount)));
    }
    rows.sort_by_key(|(last_used, _)| std::cmp::Reverse(*last_used));
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn record_row(session: &Session, entry: &CacheEntry, length: Length) -> Value {
    let record = &entry.record;
    let diff_id = record.snapshot.as_ref().map(|snapshot| snapshot.diff_id.digest().to_string());
    let id = match length {
        Length::Short => entry.key.short(),
        Length::Full => entry.key.hex(),
    };
    json!({
        "CreatedAt": shown::moment(record.created).rfc3339_seconds(),
        "CreatedSince": shown::ago(session, record.created),
        "Description": length.text(&record.description, DESCRIPTION_CHARS),
        "DiffID": diff_id.unwrap_or_default(),
        "ID": id,
        "InUse": entry.is_in_use.to_string(),
        "LastUsedAt": shown::moment(record.last_used).rfc3339_seconds(),
        "LastUsedSince": shown::ago(session, record.last_used),
        "Mountpoint": "",
        "Shared": entry.is_shared.to_string(),
        "Size": human_size(entry.size),
        "Type": record.kind,
        "UsageCount": record.hits.to_string(),
    })
}

fn mount_row(session: &Session, mount: &CacheMountRecord) -> Value {
    json!({
        "CreatedAt": shown::moment(mount.created).rfc3339_seconds(),
        "CreatedSince": shown::ago(session, mount.created),
        "Description": "",
        "DiffID": "",
        "ID": mount.id,
        "InUse": mount.is_in_use.to_string(),
        "LastUsedAt": shown::moment(mount.last_used).rfc3339_seconds(),
        "LastUsedSince": shown::ago(session, mount.last_used),
        "Mountpoint": mount.path,
        "Shared": "false",
        "Size": human_size(mount.size),
        "Type": MOUNT_TYPE,
        "UsageCount": "",
    })
}

/// Every field on a line of its own.
fn verbose(rows: &[Value]) -> String {
    let fields = [
        ("ID", "ID"),
        ("Type", "Type"),
        ("Description", "Description"),
        ("Size", "Size"),
        ("Created at", "CreatedAt"),
        ("Last used at", "LastUsedAt"),
        ("Usage count", "UsageCount"),
        ("In use", "InUse"),
        ("Shared", "Shared"),
        ("Layer", "DiffID"),
        ("Folder", "Mountpoint"),
    ];
    let mut text = String::new();
    for row in rows {
        for (title, field) in fields {
            let value = row.get(field).and_then(Value::as_str).unwrap_or_default();
            if !value.is_empty() {
                let title = format!("{title}:");
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{title:<14}{}", conex_term::clean(value));
            }
        }
        text.push('\n');
    }
    text
}

fn remove(session: &Session, args: &RemoveArgs) -> Result<()> {
    let store = session.store()?;
    let mut failures = Failures::default();
    let mut report = Report::begin(store)?;
    for id in &args.ids {
        match remove_one(store, id) {
            Ok(removed) => report.add(removed),
            Err(error) => failures.add(session, error, false),
        }
    }
    report.show(session)?;
    failures.finish()
}

fn remove_one(store: &Store, id: &str) -> Result<Removed> {
    match store.remove_cache_mount(id) {
        Ok(bytes) => {
            return Ok(Removed { cache_mounts: vec![id.to_owned()], bytes, ..Removed::default() });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    let mut keys: Vec<Digest> = store.cache_list()?.into_iter().map(|entry| entry.key).collect();
    keys.retain(|key| !digits.is_empty() && key.hex().starts_with(digits));
    match keys.as_slice() {
        [_] => Ok(store.remove_cache_records(&keys)?),
        [] => Err(CliError::new(format!("no such cache record or cache mount: `{id}`"))
            .with_hint("`conex cache ls` lists what there is")),
        _ => Err(CliError::new(format!("`{id}` is the beginning of several IDs"))
            .with_hint("give more digits, as `conex cache ls --no-trunc` shows them")),
    }
}
