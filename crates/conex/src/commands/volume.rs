//! `conex volume`: named folders that containers keep what they may not lose in.

use conex_store::{ErrorKind, NewVolume, PruneOptions, PruneVolumes, Store, Volume};
use serde_json::{Value, json};

use super::filters::Filters;
use super::removal::{Ask, Report, confirmed};
use super::rmi::Failures;
use super::{inspect, shown};
use crate::error::{CliError, Result};
use crate::session::Session;

const TABLE: &str = "{{.Driver}}\t{{.Name}}";
const HEADERS: [(&str, &str); 1] = [("Name", "VOLUME NAME")];

/// The only driver there is: a folder in the store.
const DRIVER: &str = "local";

/// Manage volumes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex volume create data\n  \
    conex run --rm -v data:/var/lib/app app")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Create(CreateArgs),
    Inspect(InspectArgs),
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    Prune(PruneArgs),
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

/// Make a volume
///
/// Prints its name. A volume that is there already stays as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex volume create data\n  \
    conex volume create --label project=shop data")]
struct CreateArgs {
    /// The name; one is drawn if there is none
    #[arg(value_name = "VOLUME")]
    name: Option<String>,

    /// The driver: `local` is the only one
    #[arg(short, long, value_name = "DRIVER", default_value = DRIVER, value_parser = [DRIVER])]
    driver: String,

    /// A label, `NAME[=VALUE]` (can be repeated)
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
}

/// Show everything about volumes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex volume inspect -f '{{.Mountpoint}}' data")]
struct InspectArgs {
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,

    /// Format the output: `json`, or a Go template (`{{.Mountpoint}}`)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// List volumes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex volume ls\n  conex volume ls -qf dangling=true\n  \
    conex volume ls --format '{{.Name}}: {{.Mountpoint}}'")]
struct ListArgs {
    /// Only volumes that meet a condition: `dangling=true` (nobody uses it now), `driver=local`,
    /// `label=NAME[=VALUE]`, `name=PART` (can be repeated)
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Format the output: `table`, `json`, `table TEMPLATE` or a Go template (fields: `.Name`,
    /// `.Driver`, `.Mountpoint`, `.Labels`, `.Scope`, `.Size`, `.Links`)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show names only
    #[arg(short, long)]
    quiet: bool,
}

/// Remove volumes that nobody uses
///
/// Those that nobody named; with `--all` the others too. Their content is lost.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex volume prune\n  conex volume prune -af --filter label!=keep"
)]
struct PruneArgs {
    /// Remove volumes with names too
    #[arg(short, long)]
    all: bool,

    /// Only volumes that meet a condition: `label=NAME[=VALUE]`, `label!=NAME[=VALUE]`,
    /// `until=TIME` (can be repeated)
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,

    /// Do not ask first
    #[arg(short, long)]
    force: bool,
}

/// Remove volumes
///
/// Their content is lost. A volume that a container uses stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex volume rm data")]
struct RemoveArgs {
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    names: Vec<String>,

    /// Do not fail for volumes that are not there
    #[arg(short, long)]
    force: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match args.action {
        Action::Create(args) => create(session, args),
        Action::Inspect(args) => inspect::run_volumes(session, &args.names, args.format.as_deref()),
        Action::Ls(args) => list(session, args),
        Action::Prune(args) => prune(session, &args),
        Action::Rm(args) => remove(session, &args),
    }
}

fn create(session: &Session, args: CreateArgs) -> Result<()> {
    let labels = super::build::parse::pairs("--label", &args.label)?;
    let new = NewVolume { name: args.name, labels, ..NewVolume::default() };
    let volume = session.store()?.create_volume(&new)?;
    session.out(&format!("{}\n", volume.name))
}

fn list(session: &Session, args: ListArgs) -> Result<()> {
    let known = ["dangling", "driver", "label", "label!", "name"];
    let filters = Filters::parse(&args.filter, &known)?;
    let dangling = filters.flag("dangling")?;
    let labels = filters.labels();
    let store = session.store()?;
    let format = args.format.filter(|format| !format.is_empty() && format != "table");
    let measured = format
        .as_ref()
        .is_some_and(|text| text == "json" || text.contains(".Size") || text.contains(".Links"));
    let mut rows = Vec::new();
    for volume in store.volumes()? {
        let is_meant = labels.iter().all(|filter| filter.matches(&volume.labels))
            && any_or_none(filters.all("name"), |part| volume.name.contains(part))
            && any_or_none(filters.all("driver"), |driver| driver == DRIVER)
            && match dangling {
                Some(wanted) => wanted != store.volume_usage(&volume)?.is_in_use,
                None => true,
            };
        if is_meant {
            rows.push(row(store, &volume, measured)?);
        }
    }
    let format = match format {
        None if args.quiet => Some("{{.Name}}".to_owned()),
        format => format,
    };
    session.out(&crate::format::list(format.as_deref(), TABLE, &HEADERS, &rows)?)
}

/// Whether one of the values fits, or there is none.
fn any_or_none<'v>(values: impl Iterator<Item = &'v str>, fits: impl Fn(&str) -> bool) -> bool {
    let mut values = values.peekable();
    values.peek().is_none() || values.any(fits)
}

fn row(store: &Store, volume: &Volume, measured: bool) -> Result<Value> {
    let (size, links) = if measured {
        let usage = store.volume_usage(volume)?;
        (conex_term::human_size(usage.size), u8::from(usage.is_in_use).to_string())
    } else {
        ("N/A".to_owned(), "N/A".to_owned())
    };
    Ok(json!({
        "Availability": "N/A",
        "Driver": DRIVER,
        "Group": "N/A",
        "Labels": shown::labels(&volume.labels),
        "Links": links,
        "Mountpoint": volume.path,
        "Name": volume.name,
        "Scope": "local",
        "Size": size,
        "Status": "N/A",
    }))
}

fn prune(session: &Session, args: &PruneArgs) -> Result<()> {
    let filters = Filters::parse(&args.filter, &["all", "label", "label!", "until"])?;
    let all = args.all || filters.flag("all")? == Some(true);
    let what = if all { "all" } else { "anonymous" };
    let question = format!(
        "WARNING! This will remove {what} local volumes not used by at least one container.\n\
         Are you sure you want to continue?"
    );
    let options = PruneOptions {
        volumes: if all { PruneVolumes::All } else { PruneVolumes::Anonymous },
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
    report.show(session)
}

fn remove(session: &Session, args: &RemoveArgs) -> Result<()> {
    let store = session.store()?;
    let mut failures = Failures::default();
    for name in &args.names {
        match store.remove_volume(name) {
            Ok(_) => session.out(&format!("{name}\n"))?,
            // Docker says the name of a missing one too when it is forced.
            Err(error) if args.force && error.kind() == ErrorKind::NotFound => {
                session.out(&format!("{name}\n"))?;
            }
            Err(error) => failures.add(session, CliError::from(error), false),
        }
    }
    failures.finish()
}
