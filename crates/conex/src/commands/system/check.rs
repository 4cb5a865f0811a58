//! `conex system check`: looking for damage, and mending it.

use std::io::Write as _;

use clap::ValueEnum;
use conex_store::{CheckDepth, CheckProgress, Damage, ErrorKind, RepairReport, Store};
use serde_json::{Value, json};

use crate::error::{CliError, FAILED, Result};
use crate::session::Session;

/// Look for damage in the store
///
/// Says what is damaged, one line each, and fails if something is. `--repair` removes what is
/// damaged, rebuilds what can be rebuilt, and says what was lost; nobody else may use the store
/// meanwhile.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex system check\n  conex system check --depth rows   # quick\n  \
    conex system check --repair"
)]
pub struct Args {
    /// How closely to look: whether rows and files belong together, the bytes of all blobs too, or
    /// the files of all layers too
    #[arg(
        long,
        value_enum,
        default_value = "everything",
        value_name = "DEPTH",
        conflicts_with = "repair"
    )]
    depth: Depth,

    /// Mend what is damaged
    #[arg(long)]
    repair: bool,

    /// Format the output: `json`, or a Go template (fields: `.Sound`, `.Damage`, `.BlobCount`,
    /// `.SnapshotCount`, `.LostImages`)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Depth {
    Rows,
    Blobs,
    Everything,
}

/// Runs the command.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    let outcome = if args.repair { repair(session)? } else { check(session, args.depth)? };
    let text = match &args.format {
        Some(format) => crate::format::one(format, &outcome.value())?,
        None => outcome.text(),
    };
    session.out(&text)?;
    if outcome.is_sound {
        return Ok(());
    }
    if args.format.is_some() {
        return Err(CliError::exit(FAILED));
    }
    let error = CliError::new("the store is damaged");
    Err(if args.repair {
        error.with_hint("some damage could not be mended; see above")
    } else {
        error.with_hint("mend it with `conex system check --repair`")
    })
}

/// What was found and done.
#[derive(Default)]
struct Outcome {
    is_sound: bool,
    damage: Vec<Damage>,
    counts: Option<(u64, u64)>,
    repaired: Option<RepairReport>,
}

fn check(session: &Session, depth: Depth) -> Result<Outcome> {
    let depth = match depth {
        Depth::Rows => CheckDepth::Rows,
        Depth::Blobs => CheckDepth::Blobs,
        Depth::Everything => CheckDepth::Everything,
    };
    let mut progress = Progress::new();
    session.privileges()?;
    // Not the session's: a store that does not open is what this command is for.
    let checked = Store::open(&session.settings.root, session.store_options())
        .and_then(|store| store.check(depth, &mut |step| progress.show(&step)));
    progress.end();
    let report = match checked {
        Ok(report) => report,
        Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(unreadable(&error)),
        Err(error) => return Err(error.into()),
    };
    Ok(Outcome {
        is_sound: report.is_sound(),
        counts: Some((report.blob_count, report.snapshot_count)),
        damage: report.damage,
        repaired: None,
    })
}

fn unreadable(error: &conex_store::Error) -> Outcome {
    let why =
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    Outcome { damage: vec![Damage::Database(why)], ..Outcome::default() }
}

fn repair(session: &Session) -> Result<Outcome> {
    // Files can belong to mapped users.
    session.privileges()?;
    let mut progress = Progress::new();
    let options = session.store_options();
    let repaired = Store::repair(&session.settings.root, options, &mut |step| progress.show(&step));
    progress.end();
    let report = repaired?;
    Ok(Outcome {
        is_sound: report.is_sound,
        damage: report.damage.clone(),
        counts: None,
        repaired: Some(report),
    })
}

/// One line on the terminal that says how far it is; nothing where there is no terminal.
struct Progress {
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { is_shown: conex_term::is_terminal(std::io::stderr()) }
    }

    fn show(&mut self, step: &CheckProgress) {
        if self.is_shown {
            let line = format!("\r\x1b[K{}/{} {}", step.done + 1, step.total, step.what);
            // Whoever does not see it misses nothing that matters.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn end(self) {
        if self.is_shown {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

impl Outcome {
    fn text(&self) -> String {
        let mut lines: Vec<String> = self.damage.iter().map(ToString::to_string).collect();
        if let Some(report) = &self.repaired {
            if let Some(path) = &report.database_aside {
                lines.push(format!("the damaged database is `{}` now", path.display()));
            }
            for (id, tags) in &report.lost_images {
                let names: Vec<String> = tags.iter().map(conex_oci::Reference::familiar).collect();
                let names = if names.is_empty() { String::new() } else { names.join(", ") + " " };
                lines.push(format!("lost: {names}{id}"));
            }
        }
        match (self.counts, self.is_sound, &self.repaired) {
            (Some((blobs, snapshots)), true, _) => {
                let (blobs, snapshots) = (counted(blobs, "blob"), counted(snapshots, "snapshot"));
                lines.push(format!("the store is sound: {blobs}, {snapshots}"));
            }
            (_, true, Some(_)) => lines.push("the store is sound now".to_owned()),
            _ => {}
        }
        // Names of folders that are not known can be anything.
        lines.iter().map(|line| format!("{}\n", conex_term::clean(line))).collect()
    }

    fn value(&self) -> Value {
        let damage: Vec<Value> = self.damage.iter().map(one).collect();
        let lost = self.repaired.iter().flat_map(|report| &report.lost_images);
        let lost: Vec<Value> = lost
            .map(|(id, tags)| {
                let names: Vec<String> = tags.iter().map(conex_oci::Reference::familiar).collect();
                json!({ "ID": id, "Tags": names })
            })
            .collect();
        json!({
            "Sound": self.is_sound,
            "Damage": damage,
            "BlobCount": self.counts.map(|(blobs, _)| blobs),
            "SnapshotCount": self.counts.map(|(_, snapshots)| snapshots),
            "LostImages": lost,
        })
    }
}

/// `1 blob`, `2 blobs`.
fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// One damaged thing: what kind, which, and a sentence about it.
fn one(damage: &Damage) -> Value {
    let (kind, object) = match damage {
        Damage::Database(_) => ("database", String::new()),
        Damage::BlobMissing(digest) => ("blob-missing", digest.to_string()),
        Damage::BlobDamaged(digest) => ("blob-damaged", digest.to_string()),
        Damage::SnapshotMissing(id, _) => ("snapshot-missing", id.to_string()),
        Damage::SnapshotDamaged(id, _) => ("snapshot-damaged", id.to_string()),
        Damage::ImageIncomplete(id) => ("image-incomplete", id.to_string()),
        Damage::VolumeMissing(name) => ("volume-missing", name.clone()),
        Damage::CacheMountMissing(id) => ("cache-mount-missing", id.clone()),
        Damage::Unknown(path) => ("unknown-folder", path.display().to_string()),
        Damage::Leftover(path) => ("leftover", path.display().to_string()),
    };
    json!({ "Kind": kind, "Object": object, "Message": damage.to_string() })
}
