//! The templates of `--format`: Go's text/template with the functions that Docker adds, over JSON.
//!
//! Invariants: a template is checked whole when it is parsed (functions, variables, nesting), and
//! applying it cannot panic, run on for ever or fill the memory: steps, output and nesting are
//! limited, and a template can neither define templates nor call itself.
//!
//! Left out of Go's language: `define`, `template` and `block`, `call`, complex numbers.

mod compare;
mod eval;
mod format;
mod functions;
mod lex;
mod parse;
mod print;
mod printf;
mod value;

pub use format::Format;

use crate::Error;
use parse::Node;

/// Largest template taken: a person wrote it on a command line.
const TEMPLATE_SIZE_MAX: usize = 256 << 10;
/// Deepest nesting of blocks and parentheses, so that no stack overflows.
const DEPTH_MAX: usize = 64;
/// Commands evaluated and loops turned; a listing of ten thousand images takes a hundredth.
const STEPS_MAX: u64 = 10_000_000;
/// Bytes written, and bytes of strings made on the way.
const OUTPUT_SIZE_MAX: usize = 64 << 20;

/// A template that was checked and can be applied to any number of values.
#[derive(Debug, Clone)]
pub struct Template {
    source: String,
    nodes: Vec<Node>,
}

/// What a field that an object does not have gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// `<no value>`, as in a Go map.
    NoValue,
    /// An error that names the nearest field, as in a Go struct.
    Error,
}

/// What a template may expect of its values.
#[derive(Debug, Clone, Copy)]
pub struct TemplateOptions<'o> {
    /// What an unknown field gives.
    pub missing: Missing,
    /// Fields whose objects have keys that people choose (`Labels`): there, a missing key is no
    /// error.
    pub maps: &'o [&'o str],
    /// Fields that an object may lack although they exist (`Healthcheck`).
    pub optional: &'o [&'o str],
}

impl TemplateOptions<'static> {
    /// Takes any field, as Go does with maps.
    pub const LENIENT: Self = Self { missing: Missing::NoValue, maps: &[], optional: &[] };
    /// Refuses unknown fields; the fields that hold maps in Docker's own documents are known.
    pub const STRICT: Self = Self {
        missing: Missing::Error,
        maps: &[
            "Annotations",
            "Data",
            "DriverOpts",
            "ExposedPorts",
            "Labels",
            "Networks",
            "Options",
            "Ports",
            "Status",
            "Sysctls",
            "Volumes",
            "annotations",
        ],
        optional: &[],
    };
}

impl Template {
    /// Checks a template.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let nodes =
            parse::parse(text).map_err(|fault| fault.into_error(text, Error::template_syntax))?;
        Ok(Self { source: text.to_owned(), nodes })
    }

    /// Applies it to a value.
    pub fn render(
        &self,
        value: &serde_json::Value,
        options: &TemplateOptions<'_>,
    ) -> Result<String, Error> {
        eval::run(&self.nodes, value, options).map_err(|fault| match fault.kind {
            FaultKind::Limit => fault.into_error(&self.source, Error::template_limit),
            FaultKind::Other => fault.into_error(&self.source, Error::template_value),
        })
    }

    fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

/// What is wrong, and at which byte of the template.
#[derive(Debug)]
struct Fault {
    at: usize,
    kind: FaultKind,
    why: String,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    Other,
    Limit,
}

impl Fault {
    fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, kind: FaultKind::Other, why: why.into(), hint: None }
    }

    fn limit(at: usize, why: impl Into<String>) -> Self {
        Self { kind: FaultKind::Limit, ..Self::new(at, why) }
    }

    fn meant(mut self, word: Option<&str>) -> Self {
        self.hint = word.map(|word| format!("did you mean `{word}`?"));
        self
    }

    fn into_error(self, source: &str, make: fn((u32, u32), &str) -> Error) -> Error {
        let before = source.get(..self.at.min(source.len())).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        make((number(line), number(column)), &self.why).with_hint(self.hint)
    }
}

#[cfg(test)]
mod tests;
