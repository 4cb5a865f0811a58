//! Image archives and layouts, in and out.

use conex_store::{ImageRecord, Lease};

use crate::error::{CliError, Result};
use crate::session::Session;

/// Loads an image of an OCI layout folder: `DIR[:TAG][@DIGEST]`.
pub fn load_layout(_: &Session, _: &Lease, layout: &str) -> Result<ImageRecord> {
    Err(CliError::new(format!("cannot read the layout `{layout}` yet")))
}
