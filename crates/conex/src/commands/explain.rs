//! `conex explain`: the page of a rule, or the list of all.

use std::path::PathBuf;

use conex_lint::Rule;
use serde_json::{Value, json};

use super::lint;
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

const TABLE: &str = "{{.Name}}\t{{.Codes}}\t{{.Level}}\t{{.Mended}}\t{{.Description}}";

/// Show why a rule of the linter exists, with an example and its mended form
///
/// Without a rule, lists all of them. A rule may be named as hadolint or ShellCheck name it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex explain\n  conex explain DL3009\n  \
    conex explain AptListsLeft\n  conex explain --pages docs/rules")]
pub struct Args {
    /// The rule's name or code
    #[arg(value_name = "RULE", conflicts_with = "pages")]
    rule: Option<String>,

    /// Format the list: `json`, or a Go template
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "pages")]
    format: Option<String>,

    /// Write a page for each rule into a folder, and a list of them
    #[arg(long, value_name = "DIR")]
    pages: Option<PathBuf>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    if let Some(folder) = args.pages {
        return write_pages(session, &folder);
    }
    match &args.rule {
        Some(name) => {
            let rule = conex_lint::rule(name).ok_or_else(|| unknown(name))?;
            match &args.format {
                Some(format) => session.out(&crate::format::one(format, &row(rule))?),
                None => session.out(&conex_lint::page(rule)),
            }
        }
        None => {
            let rows: Vec<Value> = conex_lint::rules().map(row).collect();
            let headers =
                [("Name", "RULE"), ("Codes", "ALSO CALLED"), ("Description", "WHAT IT SAYS")];
            session.out(&crate::format::list(args.format.as_deref(), TABLE, &headers, &rows)?)
        }
    }
}

/// The error of a name that no rule has.
pub(super) fn unknown(name: &str) -> CliError {
    let names = conex_lint::rules().flat_map(|rule| rule.codes.iter().chain([&rule.name]));
    let error = CliError::usage(format!("no rule is called `{name}`"));
    match conex_report::did_you_mean(name, names.copied()) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("`conex explain` lists the rules"),
    }
}

fn row(rule: &Rule) -> Value {
    json!({
        "Name": rule.name,
        "Codes": rule.codes.join(", "),
        "Level": rule.level.name(),
        "Mended": lint::mended(rule.fix),
        "From": rule.set.name(),
        "Since": rule.since,
        "Description": rule.description,
        "Why": rule.why,
        "Bad": rule.bad,
        "Good": rule.good,
    })
}

fn write_pages(session: &Session, folder: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(folder).doing(|| format!("cannot make `{}`", folder.display()))?;
    let pages = conex_lint::rules()
        .map(|rule| (format!("{}.md", rule.name), conex_lint::page(rule)))
        .chain([("README.md".to_owned(), conex_lint::index())]);
    let mut count = 0;
    for (name, text) in pages {
        let path = folder.join(name);
        std::fs::write(&path, text).doing(|| format!("cannot write `{}`", path.display()))?;
        count += 1;
    }
    session.err(&format!("{}: {count} pages", folder.display()));
    Ok(())
}
