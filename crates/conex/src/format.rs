//! `--format` as all commands have it.

use conex_term::{Format, Template, TemplateOptions};
use serde_json::Value;

use crate::error::Result;

/// Fields of Docker's documents that exist although an object may lack them.
const OPTIONAL: [&str; 6] =
    ["ArgsEscaped", "Healthcheck", "OnBuild", "Shell", "StopSignal", "Variant"];

/// Formats one document: `json`, or a template.
pub fn one(format: &str, value: &Value) -> Result<String> {
    if format == "json" {
        return Ok(format!("{value}\n"));
    }
    let options = TemplateOptions { optional: &OPTIONAL, ..TemplateOptions::STRICT };
    let mut text = Template::parse(format)?.render(value, &options)?;
    text.push('\n');
    Ok(text)
}

/// Formats a listing: a table, `json` (an object a line), `table TEMPLATE` or a template for each
/// row. `default_table` is the template of the plain table; `headers` names columns whose titles
/// are not their fields' names.
pub fn list(
    format: Option<&str>,
    default_table: &str,
    headers: &[(&str, &str)],
    rows: &[Value],
) -> Result<String> {
    let format = Format::parse(format.unwrap_or_default(), default_table)?;
    Ok(format.render(rows, headers, &TemplateOptions::STRICT)?)
}
