//! `conex tags` and `conex catalog`.

use conex_oci::Reference;

use crate::error::Result;
use crate::registry::Access;
use crate::session::Session;

/// List the tags of a repository in a registry
#[derive(Debug, clap::Args)]
#[command(
    visible_alias = "list-tags",
    after_help = "Examples:\n  conex tags alpine\n  conex tags --format json ghcr.io/acme/app"
)]
pub struct TagsArgs {
    /// The repository
    #[arg(value_name = "NAME")]
    name: String,

    /// `json` for one document, as `skopeo list-tags` prints it; else one tag a line
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: Format,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

/// List the repositories of a registry
///
/// As far as it tells: many registries, Docker Hub among them, have no catalog.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex catalog localhost:5000")]
pub struct CatalogArgs {
    /// The registry
    #[arg(value_name = "REGISTRY")]
    registry: String,

    /// `json` for one document; else one repository a line
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: Format,

    /// Show repositories with the registry's name, as other commands take them
    #[arg(long)]
    full_ref: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tls_verify: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs `conex tags`.
pub fn tags(session: &Session, args: TagsArgs) -> Result<()> {
    let name = args.name.strip_prefix("docker://").unwrap_or(&args.name);
    let reference: Reference = name.parse()?;
    let client = crate::registry::client_with(session, &Access::verified(args.tls_verify))?;
    let tags = client.repository(&reference).tags()?;
    match args.format {
        Format::Text => session.out(&lines(&tags)),
        Format::Json => {
            let value = serde_json::json!({ "Repository": reference.name(), "Tags": tags });
            session.out(&format!("{value:#}\n"))
        }
    }
}

/// Runs `conex catalog`.
pub fn catalog(session: &Session, args: CatalogArgs) -> Result<()> {
    let registry = super::login::registry(&args.registry);
    let client = crate::registry::client_with(session, &Access::verified(args.tls_verify))?;
    let mut names = client.catalog(registry)?;
    if args.full_ref {
        names.iter_mut().for_each(|name| *name = format!("{registry}/{name}"));
    }
    match args.format {
        Format::Text => session.out(&lines(&names)),
        Format::Json => {
            session.out(&format!("{:#}\n", serde_json::json!({ "repositories": names })))
        }
    }
}

/// One a line. What a registry calls its tags must not write to a terminal as it likes.
fn lines(names: &[String]) -> String {
    names
        .iter()
        .map(|name| name.chars().filter(|c| !c.is_control()).chain(['\n']).collect::<String>())
        .collect()
}
