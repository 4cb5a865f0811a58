//! Where the result of a build goes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use conex_build::{BuildOptions, Outcome, RemoteCache};
use conex_oci::Reference;
use conex_report::Reporter;
use conex_store::Lease;

use super::parse;
use crate::error::{CliError, Result};
use crate::session::Session;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The store.
    Image,
}

impl Output {
    /// Whether the image is put into the store.
    pub fn keeps_image(&self) -> bool {
        matches!(self, Self::Image)
    }
}

/// Reads `--output`; nothing is the store.
pub fn parse(given: &[String], _push: bool) -> Result<Vec<Output>> {
    if given.is_empty() {
        return Ok(vec![Output::Image]);
    }
    let known = ["type"];
    let fields = parse::fields("--output", &given[0], &known)?;
    Err(CliError::usage(format!("`--output {fields:?}` is not known")))
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheOutput {
    Inline,
    Local(PathBuf),
}

impl CacheOutput {
    pub fn is_inline(&self) -> bool {
        matches!(self, Self::Inline)
    }
}

/// Reads `--cache-to`.
pub fn parse_caches(_given: &[String]) -> Result<Vec<CacheOutput>> {
    Ok(Vec::new())
}

/// Opens `--cache-from`.
pub fn open_caches(
    _session: &Session,
    _lease: &Lease,
    _given: &[String],
    _reporter: &dyn Reporter,
) -> Result<Vec<RemoteCache>> {
    Ok(Vec::new())
}

/// Hands results on.
pub struct Exporter<'e> {
    pub session: &'e Session,
    pub options: &'e BuildOptions<'e>,
    pub tags: &'e [Reference],
    pub annotations: BTreeMap<String, String>,
    pub epoch: i64,
}

impl Exporter<'_> {
    pub fn export(&self, _output: &Output, _outcome: &Outcome) -> Result<()> {
        Ok(())
    }

    pub fn export_cache(&self, _output: &CacheOutput, _outcome: &Outcome) -> Result<()> {
        Ok(())
    }
}
