//! `conex ls`.

use conex_inventory::{Kind, Tree, mode_text};
use conex_term::{Timestamp, clean, human_size_short};
use serde_json::json;

use super::analyze::{SourceArgs, take};
use crate::error::{CliError, Result};
use crate::session::Session;

/// List files of an image
///
/// IMAGE is what `conex analyze` takes. Nothing is unpacked. LAYER is the number of the layer that
/// a file comes from, as `conex analyze` counts them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex ls app:/etc\n  conex ls -lR app:/usr/local\n  \
    conex ls --format json app:/ | jq -r .path")]
pub struct Args {
    /// The folder or file
    #[arg(value_name = "IMAGE:PATH", allow_hyphen_values = true)]
    path: String,

    /// Show modes, owners, sizes, times and layers
    #[arg(short = 'l', long)]
    long: bool,

    /// Show sizes in words
    #[arg(long)]
    human: bool,

    /// Show what is in folders too, as whole paths
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Format the output: `table` or `json` (an object a line)
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: String,

    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let is_json = match args.format.as_str() {
        "json" => true,
        "table" => false,
        other => {
            return Err(CliError::usage(format!("`{other}` is no format: use `table` or `json`")));
        }
    };
    let (image, path) = take::split(&args.path)?;
    let analysis = args.source.analyze(session, image)?;
    let tree = &analysis.tree;
    let top = take::find(tree, path, true)?;
    let mut out = String::new();
    let mut todo = if tree.entry(top).kind.is_dir() { below(tree, top) } else { vec![top] };
    while let Some(id) = todo.pop() {
        let entry = tree.entry(id);
        let whole = tree.path_text(id);
        let name = match args.recursive {
            true => whole.clone(),
            false => String::from_utf8_lossy(entry.name).into_owned(),
        };
        if is_json {
            let object = json!({
                "path": whole, "kind": entry.kind.word(), "mode": format!("{:04o}", entry.mode),
                "uid": entry.uid, "gid": entry.gid, "size": entry.size, "mtime": entry.mtime,
                "layer": entry.layer, "target": String::from_utf8_lossy(entry.link),
            });
            out.push_str(&format!("{object}\n"));
        } else if args.long {
            let size =
                if args.human { human_size_short(entry.size) } else { entry.size.to_string() };
            let target = match entry.kind {
                Kind::Symlink => format!(" -> {}", clean(&String::from_utf8_lossy(entry.link))),
                _ => String::new(),
            };
            out.push_str(&format!(
                "{} {:>5} {:>5} {size:>10} {} {:>3} {}{target}\n",
                mode_text(entry.kind, entry.mode),
                entry.uid,
                entry.gid,
                Timestamp::from_unix(entry.mtime).rfc3339_seconds(),
                entry.layer,
                clean(&name)
            ));
        } else {
            out.push_str(&format!("{}\n", clean(&name)));
        }
        if args.recursive && entry.kind.is_dir() && id != top {
            todo.extend(below(tree, id));
        }
        // A million lines need not be in memory at once.
        if out.len() > 1 << 20 {
            session.out(&out)?;
            out.clear();
        }
    }
    session.out(&out)
}

/// What is in a folder, the last first.
fn below(tree: &Tree, id: u32) -> Vec<u32> {
    let mut found = tree.children(id);
    found.retain(|child| tree.entry(*child).is_there);
    found.reverse();
    found
}
