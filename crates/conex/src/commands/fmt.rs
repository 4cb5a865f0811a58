//! `conex fmt`: Dockerfiles laid out alike.

use std::path::PathBuf;

use conex_lint::format::{Unformatted, format};

use super::lint::{find, write_file};
use crate::error::{CliError, Result};
use crate::session::Session;

/// Lay Dockerfiles out without changing what they say
///
/// Keywords in upper case, continued lines indented, no blanks at ends of lines, at most one empty
/// line in a row. Scripts, values and heredocs stay as they are: the file parses to the same
/// instructions before and after, or it is left alone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  conex fmt\n  conex fmt --check .\n  conex fmt --diff Dockerfile\n  \
    conex fmt - < Dockerfile"
)]
pub struct Args {
    /// Dockerfiles and folders; `-` reads standard input and writes standard output
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    paths: Vec<PathBuf>,

    /// Change nothing; exit with 3 if a file is laid out otherwise
    #[arg(long)]
    check: bool,

    /// Show what would change instead of doing it
    #[arg(long)]
    diff: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let inputs = find(&args.paths)?;
    let (mut shown, mut changed, mut failed) = (String::new(), 0, 0);
    for input in &inputs {
        let formatted = match format(&input.text) {
            Ok(formatted) => formatted,
            Err(why) => {
                failed += 1;
                let why = match why {
                    Unformatted::Mistakes => "it has mistakes, which `conex lint` shows",
                    Unformatted::Meaning => "no layout was found that says the same",
                };
                session.err(&format!("{}: left alone: {why}", input.name));
                input.text.clone()
            }
        };
        let is_changed = formatted != input.text;
        changed += usize::from(is_changed);
        if args.diff {
            shown.push_str(&conex_lint::unified(&input.name, &input.text, &formatted));
        } else if args.check {
            if is_changed {
                shown.push_str(&format!("{}\n", input.name));
            }
        } else {
            match &input.path {
                Some(path) if is_changed => write_file(path, formatted.as_bytes())?,
                Some(_) => {}
                None => shown.push_str(&formatted),
            }
        }
    }
    session.out(&shown)?;
    if failed > 0 {
        return Err(CliError::exit(crate::error::FAILED));
    }
    if args.check && changed > 0 {
        return Err(CliError::exit(super::lint::FINDINGS));
    }
    Ok(())
}
