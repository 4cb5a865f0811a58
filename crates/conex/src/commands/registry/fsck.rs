//! `conex registry fsck`.

use std::path::PathBuf;

use conex_registry::Repair;

use crate::error::{CliError, FAILED, Result};
use crate::session::Session;

/// Check all that a registry keeps, byte by byte
///
/// Reads every blob and every manifest and compares it with its digest; looks for files that
/// nothing names, and for names of what is not there. The registry may go on serving meanwhile.
/// With `--repair` it must not: then what is left over is removed, and blobs whose bytes are gone
/// or damaged are marked, so that the next push brings them again. Ends with code 1 while anything
/// is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex registry fsck\n  \
    conex registry fsck --data /srv/registry --repair")]
pub struct Args {
    /// The folder of the registry (the store's folder with `-registry` behind its name)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Mend what can be mended
    #[arg(long)]
    repair: bool,
}

/// Runs the command.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    let data = args.data.clone().unwrap_or_else(|| super::data_folder(session));
    let repair = if args.repair { Repair::Yes } else { Repair::No };
    let report = conex_registry::check(&data, repair, super::serve::now())?;
    for damage in &report.damages {
        let after = match (damage.is_mended, damage.remedy) {
            (true, _) => ": mended".to_owned(),
            (false, Some(remedy)) => format!(" ({remedy})"),
            (false, None) => String::new(),
        };
        session.out(&format!("{}{after}\n", damage.text))?;
    }
    let size = conex_term::human_size(report.bytes);
    let verdict = match (report.damages.len(), report.is_clean()) {
        (0, _) => "clean".to_owned(),
        (count, true) => format!("{count} mended, clean now"),
        (count, false) => format!("{count} findings"),
    };
    let (blobs, manifests) = (report.blobs, report.manifests);
    session.out(&format!("{blobs} blobs ({size}), {manifests} manifests: {verdict}\n"))?;
    if report.is_clean() { Ok(()) } else { Err(CliError::exit(FAILED)) }
}
