//! `conex tag`: names for images, what they meant before, and the way back.

use conex_oci::Reference;
use conex_remote::Repository;
use conex_store::{Expected, Timestamp};
use serde_json::json;

use super::shown::{self, Length};
use crate::error::{CliError, Result};
use crate::session::Session;

const TABLE: &str = "{{.CreatedSince}}\t{{.From}}\t{{.To}}\t{{.Actor}}";
const HEADERS: [(&str, &str); 1] = [("CreatedSince", "WHEN")];

/// Give an image another name
///
/// A tag that another image has moves. The store keeps every move: `conex tag history NAME` shows
/// them, `conex tag rollback NAME` takes the last one back. (An image that is itself called
/// `history` or `rollback` is meant by `history:latest`.)
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    after_help = "Examples:\n  conex tag app app:1.4\n  conex tag 3f2a registry.example.com/team/app:1.4\n  \
        conex tag history app:1.4\n  conex tag rollback app:1.4"
)]
pub struct Args {
    /// The image: a name, an ID, or the beginning of an ID
    #[arg(value_name = "SOURCE_IMAGE[:TAG]", required = true)]
    source: Option<String>,

    /// The new name
    #[arg(value_name = "TARGET_IMAGE[:TAG]", required = true)]
    target: Option<String>,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    History(HistoryArgs),
    Rollback(RollbackArgs),
}

/// Show which images a tag was on
///
/// Here, or with `--remote` in a registry that `conex registry serve` serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex tag history app:1.4\n  \
    conex tag history --remote registry.example.com/app:1.4")]
struct HistoryArgs {
    /// The tag
    #[arg(value_name = "NAME[:TAG]")]
    name: String,

    /// Format the output: `table`, `json`, `table TEMPLATE` or a Go template (fields:
    /// `.CreatedAt`, `.CreatedSince`, `.From`, `.To`, `.Actor`)
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Show IDs whole
    #[arg(long)]
    no_trunc: bool,

    #[command(flatten)]
    place: Place,
}

/// Where the tag is.
#[derive(Debug, clap::Args)]
struct Place {
    /// The tag is in the registry that its name says, not here
    #[arg(long)]
    remote: bool,

    /// `false` takes any certificate, and plain HTTP
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        requires = "remote")]
    tls_verify: bool,
}

impl Place {
    /// The registry that has the tag, if it is not here.
    fn repository(&self, session: &Session, name: &Reference) -> Result<Option<Repository>> {
        if !self.remote {
            return Ok(None);
        }
        let client = crate::registry::client(session, crate::registry::verify(self.tls_verify))?;
        Ok(Some(client.repository(name)))
    }
}

/// Move a tag back to the image that had it before
///
/// Also brings back a tag that was removed, as long as its image is still there. With `--remote`
/// the tag of a registry that `conex registry serve` serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex tag rollback app:1.4\n  \
    conex tag rollback --remote registry.example.com/app:1.4")]
struct RollbackArgs {
    /// The tag
    #[arg(value_name = "NAME[:TAG]")]
    name: String,

    /// A digest that the tag was on, instead of the one before
    #[arg(long, value_name = "DIGEST", requires = "remote")]
    to: Option<conex_oci::Digest>,

    #[command(flatten)]
    place: Place,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    match (args.action, args.source, args.target) {
        (Some(Action::History(args)), ..) => history(session, &args),
        (Some(Action::Rollback(args)), ..) => rollback(session, &args),
        (None, Some(source), Some(target)) => tag(session, &source, &target),
        // clap lets neither be missing without a subcommand.
        _ => Err(CliError::usage("`conex tag` takes an image and a name")),
    }
}

fn tag(session: &Session, source: &str, target: &str) -> Result<()> {
    let target = name(target)?;
    let store = session.store()?;
    let image = store.resolve(source)?;
    store.tag(&target, &image.id, &Expected::Anything)?;
    Ok(())
}

/// Reads a name that a tag can have.
fn name(text: &str) -> Result<Reference> {
    let name: Reference = text.parse()?;
    if name.digest().is_some() {
        let message = format!("`{text}` is no tag: it has a digest");
        return Err(CliError::new(message).with_hint("write the name without `@…`"));
    }
    Ok(name)
}

fn history(session: &Session, args: &HistoryArgs) -> Result<()> {
    let name = name(&args.name)?;
    if let Some(repository) = args.place.repository(session, &name)? {
        return remote_history(session, args, &repository);
    }
    let moves = session.store()?.tag_history(&name)?;
    if moves.is_empty() {
        return Err(CliError::new(format!("no such tag: `{}`", name.familiar())));
    }
    let length = Length::no_trunc(args.no_trunc);
    let id = |id: &Option<conex_oci::Digest>| {
        id.as_ref().map_or_else(|| "<none>".to_owned(), |id| length.id(id))
    };
    let at = |time: Timestamp| shown::moment(time).rfc3339_seconds();
    let rows: Vec<_> = moves
        .iter()
        .map(|step| {
            json!({
                "Actor": step.actor,
                "CreatedAt": at(step.at),
                "CreatedSince": shown::ago(session, step.at),
                "From": id(&step.old),
                "To": id(&step.new),
            })
        })
        .collect();
    session.out(&crate::format::list(args.format.as_deref(), TABLE, &HEADERS, &rows)?)
}

fn remote_history(session: &Session, args: &HistoryArgs, repository: &Repository) -> Result<()> {
    let length = Length::no_trunc(args.no_trunc);
    let id = |id: &Option<conex_oci::Digest>| {
        id.as_ref().map_or_else(|| "<none>".to_owned(), |id| length.id(id))
    };
    let rows: Vec<_> = repository
        .tag_history()?
        .iter()
        .map(|step| {
            // What cannot be read as a moment is shown as the registry wrote it.
            let at = step.at.parse::<conex_term::Timestamp>().ok();
            let at = at.map(|at| Timestamp(i64::try_from(at.unix_nanos()).unwrap_or_default()));
            json!({
                "Actor": conex_term::clean(&step.actor),
                "CreatedAt": at.map_or_else(
                    || conex_term::clean(&step.at),
                    |at| shown::moment(at).rfc3339_seconds(),
                ),
                "CreatedSince": at.map_or_else(String::new, |at| shown::ago(session, at)),
                "From": id(&step.from),
                "To": id(&step.to),
            })
        })
        .collect();
    session.out(&crate::format::list(args.format.as_deref(), TABLE, &HEADERS, &rows)?)
}

fn rollback(session: &Session, args: &RollbackArgs) -> Result<()> {
    let name = name(&args.name)?;
    if let Some(repository) = args.place.repository(session, &name)? {
        let digest = repository.rollback_tag(args.to.as_ref())?;
        return session.out(&format!("{} is {digest} again\n", name.familiar()));
    }
    let image = session.store()?.rollback(&name).map_err(|error| {
        let hint = format!("`conex tag history {}` shows where it was", name.familiar());
        CliError::from(error).with_hint(hint)
    })?;
    session.out(&format!("{} is {image} again\n", name.familiar()))
}
