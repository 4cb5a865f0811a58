//! `conex packages`.

use conex_inventory::{Installed, Manager, PackageList};
use conex_term::clean;
use serde_json::{Value, json};

use super::analyze::SourceArgs;
use crate::error::{CliError, Result};
use crate::session::Session;

const TABLE: &str = "{{.manager}}\t{{.name}}\t{{.version}}\t{{.architecture}}\t{{.layer}}";

const HEADERS: [(&str, &str); 2] = [("manager", "TYPE"), ("architecture", "ARCH")];

/// List the packages in an image
///
/// IMAGE is what `conex analyze` takes. Read are the databases of dpkg, apk, rpm and pacman, what
/// pip, conda, npm, gem, composer and .NET install, Java archives and those in them, the modules in
/// programs made by Go, and the crates in those made by `cargo auditable`. LAYER is the number of
/// the layer that brought a package, as `conex analyze` counts them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex packages app\n  conex packages --type npm --type go app\n  \
    conex packages --format json app | jq -r .purl\n  \
    conex packages --format '{{.purl}} {{.license}}' ./app.tar"
)]
pub struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,

    /// Only packages of this type: `dpkg`, `apk`, `rpm`, `pacman`, `python`, `conda`, `npm`, `gem`,
    /// `go`, `cargo`, `java`, `composer`, `nuget` (can be repeated)
    #[arg(short, long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = manager)]
    types: Vec<Manager>,

    /// Format the output: `table`, `json` (an object a line), `table TEMPLATE` or a Go template
    /// (fields: `.manager`, `.name`, `.version`, `.architecture`, `.purl`, `.license`, `.source`,
    /// `.sourceVersion`, `.size`, `.inside`, `.layer`, `.paths`)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let analysis = args.source.analyze(session, &args.image)?;
    let list = PackageList::of(&analysis.tree);
    for line in &list.unread {
        let warning = session.err_palette().warning("warning");
        session.err(&format!("{warning}: cannot read {}\n", clean(line)));
    }
    let is_wanted =
        |one: &&Installed| args.types.is_empty() || args.types.contains(&one.package.manager);
    let rows: Vec<Value> = list.packages.iter().filter(is_wanted).map(row).collect();
    session.out(&crate::format::list(args.format.as_deref(), TABLE, &HEADERS, &rows)?)
}

/// A package with every field, known or not.
fn row(installed: &Installed) -> Value {
    let package = &installed.package;
    json!({
        "manager": package.manager.word(),
        "name": clean(&package.name),
        "version": clean(&package.version),
        "architecture": clean(&package.architecture),
        "purl": installed.purl,
        "license": clean(&package.license),
        "source": clean(&package.source),
        "sourceVersion": clean(&package.source_version),
        "size": package.size,
        "inside": clean(&package.inside),
        "layer": installed.layer,
        "paths": installed.paths,
    })
}

fn manager(text: &str) -> Result<Manager> {
    let found = Manager::ALL.into_iter().find(|manager| manager.word() == text);
    found.ok_or_else(|| {
        let all: Vec<&str> = Manager::ALL.iter().map(|manager| manager.word()).collect();
        CliError::usage(format!("`{text}` is no type of packages: there are {}", all.join(", ")))
    })
}
