//! `conex version`.

use serde_json::json;

use crate::error::Result;
use crate::session::Session;

/// Show the version of conex.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format the output: `json`, or a Go template (`{{.Client.Version}}`)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let (os, arch) = ("linux", conex_oci::Platform::host().architecture);
    let Some(format) = args.format else {
        return session.out(&format!("conex {version} ({os}/{arch})\n"));
    };
    let value = json!({ "Client": { "Version": version, "Os": os, "Arch": arch } });
    session.out(&crate::format::one(&format, &value)?)
}
