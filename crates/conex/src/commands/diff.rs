//! `conex diff`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use conex_inventory::{Comparison, ConfigChange, ImageReport, LayerFacts, LayerReport, Limits};
use conex_term::{Palette, clean, ellipsis, human_size_short};
use serde_json::{Value, json};

use super::analyze::{self, Analysis, SourceArgs, html};
use crate::error::{CliError, Result};
use crate::session::Session;

/// Show what differs between two images: config, layers, packages, files
///
/// BEFORE and AFTER are what `conex analyze` takes. Times of files are not compared: they differ
/// from build to build.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex diff app:1 app:2\n  \
    conex diff --format html -o diff.html app:1 docker-daemon:app:2\n  \
    conex diff --exit-code app:1 app:2       exit with 3 where they differ")]
pub struct Args {
    /// The first image
    #[arg(value_name = "BEFORE")]
    before: String,

    /// The second image
    #[arg(value_name = "AFTER")]
    after: String,

    /// What to write
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: Shape,

    /// Write to a file; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Show every file
    #[arg(long)]
    no_trunc: bool,

    /// Exit with 3 where the images differ
    #[arg(long)]
    exit_code: bool,

    #[command(flatten)]
    source: SourceArgs,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Lines for a person
    Text,
    /// One document
    Json,
    /// One page without anything from elsewhere
    Html,
}

/// Files shown of each kind of change, the largest.
const FILES_MAX: usize = 15;

/// Exit code where the images differ and somebody asked.
const DIFFERENT: u8 = 3;

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let images = [args.before.as_str(), args.after.as_str()];
    let [before, after] = args.source.analyze_all(session, images)?;
    let comparison = Comparison::of(
        (&before.subject.config, &before.tree),
        (&after.subject.config, &after.tree),
    );
    let summary = summary(&before, &after);
    let layers = layers(&before, &after);
    let text = match args.format {
        Shape::Text => {
            let limit = if args.no_trunc { usize::MAX } else { FILES_MAX };
            text(&comparison, &summary, &layers, session.out_palette(), limit)
        }
        Shape::Json => {
            let side = |analysis: &Analysis| {
                let subject = &analysis.subject;
                json!({ "name": subject.name, "id": subject.id })
            };
            let mut value = serde_json::to_value(&comparison)
                .map_err(|error| CliError::because("cannot write the comparison", error))?;
            value["before"] = side(&before);
            value["after"] = side(&after);
            value["sizes"] = json!(summary);
            value["layers"] = json!(layers);
            format!("{value}\n")
        }
        Shape::Html => html::comparison(
            (&before.subject.name, &after.subject.name),
            &comparison,
            (&json!(summary), &json!(layers)),
        ),
    };
    analyze::write(session, args.output.as_deref(), &text)?;
    if args.exit_code && !comparison.is_empty() {
        return Err(CliError::exit(DIFFERENT));
    }
    Ok(())
}

/// A layer that one of the images has and the other has not.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct LayerChange {
    /// `added` or `deleted`.
    change: &'static str,
    index: usize,
    diff_id: conex_oci::DiffId,
    created_by: String,
    size: u64,
    compressed_size: Option<u64>,
}

fn layers(before: &Analysis, after: &Analysis) -> Vec<LayerChange> {
    let own = |change, one: &Analysis, other: &Analysis| {
        let known: HashSet<_> = other.facts.iter().map(|facts| &facts.diff_id).collect();
        let layers = one.facts.iter().zip(one.tree.reports()).enumerate();
        let missing = layers.filter(|(_, (facts, _))| !known.contains(&facts.diff_id));
        let row =
            |(index, (facts, report)): (usize, (&LayerFacts, &Arc<LayerReport>))| LayerChange {
                change,
                index,
                diff_id: facts.diff_id.clone(),
                created_by: analyze::instruction(&facts.created_by),
                size: report.stored_size(),
                compressed_size: facts.compressed_size,
            };
        missing.map(row).collect::<Vec<_>>()
    };
    let mut all = own("deleted", before, after);
    all.extend(own("added", after, before));
    all
}

/// Sizes of both, a row each.
fn summary(before: &Analysis, after: &Analysis) -> Vec<[Value; 3]> {
    let report =
        |analysis: &Analysis| ImageReport::of(&analysis.tree, &analysis.facts, Limits { rows: 0 });
    let (one, other) = (report(before), report(after));
    let size = |bytes: u64| Value::from(human_size_short(bytes));
    let packed = |bytes: Option<u64>| bytes.map_or(Value::from("never packed"), size);
    let row = |title: &str, one: Value, other: Value| [Value::from(title), one, other];
    vec![
        row("packed", packed(one.compressed_size), packed(other.compressed_size)),
        row("unpacked", size(one.stored_size), size(other.stored_size)),
        row("wasted", size(one.wasted_size), size(other.wasted_size)),
        row("layers", one.layers.len().into(), other.layers.len().into()),
        row("files", one.files.into(), other.files.into()),
    ]
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

fn text(
    comparison: &Comparison,
    summary: &[[Value; 3]],
    layers: &[LayerChange],
    palette: Palette,
    limit: usize,
) -> String {
    let mut text = String::new();
    for [title, one, other] in summary {
        let (one, other) = (plain(one), plain(other));
        let change = if one == other { one } else { format!("{one} → {other}") };
        let _ = writeln!(text, "{:<9} {change}", plain(title));
    }
    let _ = writeln!(text, "{:<9} {} of the lowest are the same", "", comparison.shared_layers);
    if !layers.is_empty() {
        let _ = writeln!(text, "\n{}", palette.strong("LAYERS"));
    }
    for layer in layers {
        let (index, size) = (layer.index, human_size_short(layer.size));
        let made = ellipsis(&layer.created_by, 400);
        let _ = match layer.change {
            "added" => {
                writeln!(text, "{}", palette.good(&format!("+ {index:>3} {size:>8} {made}")))
            }
            _ => writeln!(text, "{}", palette.error(&format!("- {index:>3} {size:>8} {made}"))),
        };
    }
    if comparison.is_empty() {
        text.push_str("\nno difference in config, packages or files\n");
        return text;
    }
    if !comparison.config.is_empty() {
        let _ = writeln!(text, "\n{}", palette.strong("CONFIG"));
        for change in &comparison.config {
            config(&mut text, change, palette);
        }
    }
    if !comparison.packages.is_empty() {
        let _ = writeln!(text, "\n{}", palette.strong("PACKAGES"));
        for package in &comparison.packages {
            let name = format!("{} {}", package.manager, clean(&package.name));
            let line = match (&package.before, &package.after) {
                (None, Some(after)) => palette.good(&format!("+ {name} {}", clean(after))),
                (Some(before), None) => palette.error(&format!("- {name} {}", clean(before))),
                (before, after) => {
                    let text = |version: &Option<String>| clean(version.as_deref().unwrap_or(""));
                    format!("~ {name} {} → {}", text(before), text(after))
                }
            };
            let _ = writeln!(text, "{line}");
        }
    }
    files(&mut text, comparison, palette, limit);
    text
}

fn config(text: &mut String, change: &ConfigChange, palette: Palette) {
    let field = clean(&change.field);
    let line = match (&change.before, &change.after) {
        (None, Some(after)) => palette.good(&format!("+ {field} {}", plain(after))),
        (Some(before), None) => palette.error(&format!("- {field} {}", plain(before))),
        (before, after) => {
            let value = |value: &Option<Value>| value.as_ref().map(plain).unwrap_or_default();
            format!("~ {field} {} → {}", value(before), value(after))
        }
    };
    let _ = writeln!(text, "{}", ellipsis(&line, 400));
}

fn files(text: &mut String, comparison: &Comparison, palette: Palette, limit: usize) {
    let files = &comparison.files;
    if files.files.is_empty() {
        return;
    }
    let title = format!(
        "FILES: {} added, {} changed, {} deleted",
        files.added, files.changed, files.deleted
    );
    let _ = writeln!(text, "\n{}", palette.strong(&title));
    for (change, mark) in [("added", '+'), ("changed", '~'), ("deleted", '-')] {
        let mut rows: Vec<_> = files.files.iter().filter(|file| file.change == change).collect();
        let count = rows.len();
        if count > limit {
            rows.sort_by_key(|file| std::cmp::Reverse(file.size_before.max(file.size_after)));
            rows.truncate(limit);
        }
        for file in &rows {
            let path = clean(&file.path);
            let size = match change {
                "changed" if file.size_before != file.size_after => format!(
                    "{} → {}",
                    human_size_short(file.size_before),
                    human_size_short(file.size_after)
                ),
                "deleted" => human_size_short(file.size_before),
                _ => human_size_short(file.size_after),
            };
            let what = if file.what.is_empty() {
                String::new()
            } else {
                format!(" ({})", file.what.join(", "))
            };
            let line = format!("{mark} {size:>16} {path}{what}");
            let line = match change {
                "added" => palette.good(&line),
                "deleted" => palette.error(&line),
                _ => line,
            };
            let _ = writeln!(text, "{line}");
        }
        if count > rows.len() {
            let more = format!("  {:>16} and {} more {change}", "", count - rows.len());
            let _ = writeln!(text, "{}", palette.dim(&more));
        }
    }
}
