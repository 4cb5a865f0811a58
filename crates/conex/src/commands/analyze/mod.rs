//! `conex analyze`: what is in an image, which instruction put it there, and what is wasted.

mod archive;
mod engines;
pub mod html;
mod interactive;
mod lines;
mod reports;
mod rules;
mod source;
mod stream;
pub mod take;
mod text;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use conex_inventory::{DiveReport, ImageReport, LayerReport, Limits, dive_files};
use serde_json::json;

use reports::Keeping;
pub use reports::{Analysis, Sizes, sizes};
use source::{SourceOptions, Streams, Subject, open};
pub use text::instruction;

use crate::error::{CliError, Result};
use crate::session::Session;

/// Rows of each list in documents; totals count everything.
const ROWS: usize = 100;

/// Where an image comes from, on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceArgs {
    /// One platform of an image that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<conex_oci::Platform>,

    /// Check certificates of registries; `--tls-verify=false` also allows plain HTTP
    #[arg(
        long,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    tls_verify: bool,

    /// Read every layer, whatever was found out about it before
    #[arg(long)]
    no_cache: bool,

    /// Hold the layers of an uncompressed archive against their digests, which reads all of it
    ///
    /// Without it, no more of such an archive is read than is needed to say what is in it. Layers
    /// that are compressed or come from elsewhere are always held against their digests.
    #[arg(long)]
    verify: bool,
}

impl SourceArgs {
    /// What is meant where nothing is asked.
    pub fn usual() -> Self {
        Self { platform: None, tls_verify: true, no_cache: false, verify: false }
    }

    /// Finds an image and reads what is not known of it.
    pub fn analyze(&self, session: &Session, image: &str) -> Result<Analysis> {
        let [analysis] = self.analyze_with(session, [image], Streams::Pass, self.verify)?;
        Ok(analysis)
    }

    /// The same for several, whose contents are to be compared.
    pub fn analyze_all<const COUNT: usize>(
        &self,
        session: &Session,
        images: [&str; COUNT],
    ) -> Result<[Analysis; COUNT]> {
        self.analyze_with(session, images, Streams::Pass, self.verify)
    }

    /// The same for those who take files out of it, which are held against their digests.
    pub fn open(&self, session: &Session, image: &str) -> Result<Analysis> {
        let [analysis] = self.analyze_with(session, [image], Streams::Keep, true)?;
        Ok(analysis)
    }

    fn analyze_with<const COUNT: usize>(
        &self,
        session: &Session,
        images: [&str; COUNT],
        streams: Streams,
        verify: bool,
    ) -> Result<[Analysis; COUNT]> {
        let options = SourceOptions {
            platform: self.platform.clone(),
            tls_verify: self.tls_verify,
            streams,
            verify,
        };
        let mut subjects = Vec::new();
        for image in images {
            subjects.push(open(session, image, &options)?);
        }
        let keeping = match (self.no_cache, self.verify) {
            (true, _) => Keeping::Nothing,
            (false, true) => Keeping::New,
            (false, false) => Keeping::Store,
        };
        let all = Analysis::of(session, subjects, keeping)?;
        Ok(all.try_into().unwrap_or_else(|_| unreachable!("as many as there were images")))
    }
}

/// Show what is in an image, which instruction put it there, and what is wasted
///
/// IMAGE is a name or ID of the store, a docker or OCI archive (`-` for standard input), an OCI
/// layout (`oci:DIR[:TAG]`), an image of another engine (`docker-daemon:NAME`,
/// `containers-storage:NAME`), or else a name in a registry, whose layers are read as they come.
///
/// Wasted are the bytes of all files in all layers, minus those of the files that are there at the
/// end. What is found out about a layer is kept in the store by its diff ID. Where the Dockerfile
/// is at hand, layers, suggestions and annotations name its lines.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex analyze app\n  conex analyze -i app                     \
    look around in the terminal\n  conex analyze --format html -o report.html app\n  \
    conex analyze --ci app                   exit with 3 where limits are broken\n  \
    conex analyze --ci --exit-code 1 --source docker app\n  \
    docker save app | conex analyze -"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// What to write
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: Shape,

    /// Write to a file; without it, to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Look around in the terminal
    #[arg(short, long, conflicts_with_all = ["format", "output"])]
    interactive: bool,

    /// Write also what `dive --json` writes, to this file
    #[arg(short, long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Where the image is, in dive's words
    #[arg(long = "source", value_enum, value_name = "ENGINE")]
    engine: Option<Engine>,

    /// Show every row
    #[arg(long)]
    no_trunc: bool,

    /// Count as dive does, in the results, the limits and `--format json`, which has its form then
    #[arg(long)]
    dive_compat: bool,

    #[command(flatten)]
    dockerfile: lines::FileArgs,

    #[command(flatten)]
    rules: rules::RuleArgs,

    #[command(flatten)]
    source: SourceArgs,
}

/// Where dive looks for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// The docker daemon
    Docker,
    /// Podman's storage
    Podman,
    /// An archive of `docker save`
    DockerArchive,
}

/// The image by its transport: `docker://` is dive's word for the daemon, and `--source` stands for
/// a transport where there is none.
fn image_of(args: &Args) -> String {
    let image = args.image.as_str();
    if let Some(name) = image.strip_prefix("docker://") {
        return format!("docker-daemon:{name}");
    }
    match args.engine {
        _ if image.contains("://") => image.to_owned(),
        None => image.to_owned(),
        Some(Engine::Docker) => format!("docker-daemon:{image}"),
        Some(Engine::Podman) => format!("containers-storage:{image}"),
        Some(Engine::DockerArchive) => format!("docker-archive:{image}"),
    }
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// A summary that fits a screen
    Text,
    /// One document
    Json,
    /// One page without anything from elsewhere
    Html,
    /// Annotations of GitHub's workflows
    Github,
    /// GitLab's code quality report
    Gitlab,
    /// JUnit's XML, one test a limit
    Junit,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let rules = args.rules.rules()?;
    let streams = if args.interactive { Streams::Keep } else { Streams::Pass };
    let source = &args.source;
    let [mut analysis] =
        source.analyze_with(session, [&image_of(&args)], streams, source.verify)?;
    let lines = lines::find(args.dockerfile.file.as_deref(), &analysis.subject.config)?;
    for (facts, line) in analysis.facts.iter_mut().zip(lines) {
        facts.source = line;
    }
    if args.interactive {
        return interactive::run(session, &analysis);
    }
    let rows = if args.no_trunc { usize::MAX >> 1 } else { ROWS };
    let report = ImageReport::of(&analysis.tree, &analysis.facts, Limits { rows });
    if let Some(path) = &args.json {
        let document = dive_document(&analysis, &report, &DiveReport::of(&analysis.tree));
        write(session, Some(path), &format!("{document}\n"))?;
    }
    let dive = args.dive_compat.then(|| DiveReport::of(&analysis.tree));
    let is_judged = matches!(args.format, Shape::Junit | Shape::Github | Shape::Gitlab);
    let rules = rules.or(is_judged.then_some(conex_inventory::DIVE_DEFAULTS));
    let outcomes = rules.map(|rules| rules::judge(&rules, &report, dive.as_ref()));
    let judged = outcomes.as_deref().unwrap_or_default();
    let name = analysis.subject.name.as_str();
    let written = match args.format {
        Shape::Text => {
            let look = text::Look {
                palette: session.out_palette(),
                columns: columns(args.no_trunc),
                rows: rows_of_terminal(),
                is_whole: args.no_trunc,
            };
            let mut text = text::summary(&analysis.subject, &report, &look);
            if let Some(dive) = &dive {
                text.push_str(&dive_text(dive));
            }
            if let Some(outcomes) = &outcomes {
                text.push_str(&rules::text(outcomes, look.palette));
            }
            text
        }
        Shape::Json => match &dive {
            Some(dive) => format!("{}\n", dive_document(&analysis, &report, dive)),
            None => format!("{}\n", document(&analysis.subject, &report, outcomes.as_deref())?),
        },
        Shape::Html => html::report(&analysis, &report)?,
        Shape::Github => rules::github(name, judged, &report),
        Shape::Gitlab => rules::gitlab(name, judged, &report),
        Shape::Junit => rules::junit(name, judged),
    };
    write(session, args.output.as_deref(), &written)?;
    if rules::is_broken(judged) {
        return Err(CliError::exit(args.rules.exit_code));
    }
    Ok(())
}

/// Writes a result to a file or to standard output.
pub fn write(session: &Session, output: Option<&std::path::Path>, text: &str) -> Result<()> {
    match output {
        None => session.out(text),
        Some(path) => std::fs::write(path, text).map_err(|error| {
            CliError::because(format!("cannot write `{}`", path.display()), error)
        }),
    }
}

/// How wide a line may be.
pub fn columns(is_whole: bool) -> usize {
    let size = conex_term::terminal_size(std::io::stdout());
    let columns = size.unwrap_or(conex_term::Size::FALLBACK).columns;
    if is_whole { usize::MAX >> 1 } else { usize::from(columns) }
}

/// How many lines fit, with one left for the prompt.
fn rows_of_terminal() -> usize {
    let size = conex_term::terminal_size(std::io::stdout());
    usize::from(size.unwrap_or(conex_term::Size::FALLBACK).rows).saturating_sub(1)
}

/// The document of an image; `docs/analyze.md` describes it.
fn document(
    subject: &Subject,
    report: &ImageReport,
    outcomes: Option<&[conex_inventory::Outcome]>,
) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(report)
        .map_err(|error| CliError::because("cannot write the report", error))?;
    value["image"] = json!({
        "name": subject.name,
        "id": subject.id,
        "from": subject.from,
        "platform": subject.config.platform.to_string(),
    });
    if let Some(outcomes) = outcomes {
        value["rules"] = json!(outcomes);
    }
    Ok(value)
}

fn dive_text(dive: &DiveReport) -> String {
    format!(
        "\nas dive counts: efficiency {:.4} %, {} bytes wasted, user wasted {:.4} %\n",
        dive.efficiency_score * 100.0,
        dive.inefficient_bytes,
        dive.user_wasted_percent * 100.0
    )
}

/// The document that `dive --json` writes.
fn dive_document(
    analysis: &Analysis,
    report: &ImageReport,
    dive: &DiveReport,
) -> serde_json::Value {
    let layer = |(layer, entries): (&conex_inventory::LayerRow, &Arc<LayerReport>)| {
        let made = layer.facts.created_by.as_str();
        json!({
            "index": layer.index,
            "id": layer.facts.diff_id.digest().hex(),
            "digestId": layer.facts.diff_id,
            "sizeBytes": layer.size,
            "command": made.strip_prefix("/bin/sh -c ").unwrap_or(made),
            "fileList": dive_files(entries),
        })
    };
    json!({
        "layer": report.layers.iter().zip(analysis.tree.reports()).map(layer).collect::<Vec<_>>(),
        "image": {
            "sizeBytes": dive.size_bytes,
            "inefficientBytes": dive.inefficient_bytes,
            "efficiencyScore": dive.efficiency_score,
            "fileReference": dive.file_reference,
        },
    })
}
