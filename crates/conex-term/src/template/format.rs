//! `--format` of a listing: `json`, `table`, `table TEMPLATE` or a template for each row.

use serde_json::Value as Json;

use super::parse::{Base, Node, Pipeline};
use super::{Template, TemplateOptions};
use crate::Error;
use crate::table::align_tabs;
use crate::text::clean;

/// How a listing is printed.
#[derive(Debug, Clone)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// A header and aligned columns.
    Table(Template),
    /// The template, once a row, each with a line end.
    Rows(Template),
}

impl Format {
    /// Reads what a person gave as `--format`. Nothing and `table` alone mean `default_table`, a
    /// template such as `{{.Repository}}\t{{.Tag}}`.
    pub fn parse(text: &str, default_table: &str) -> Result<Self, Error> {
        if text == "json" {
            return Ok(Format::Json);
        }
        // As in docker, whatever begins with the letters is a table.
        let (is_table, body) = match text.strip_prefix("table") {
            _ if text.is_empty() => (true, default_table),
            Some(rest) if rest.trim_matches(' ').is_empty() => (true, default_table),
            Some(rest) => (true, rest.trim_matches(' ')),
            None => (false, text.trim_matches(' ')),
        };
        let template = Template::parse(&unescaped(body))?;
        Ok(if is_table { Format::Table(template) } else { Format::Rows(template) })
    }

    /// Tells whether a header and columns are printed, which then hold shortened values.
    pub fn is_table(&self) -> bool {
        matches!(self, Format::Table(_))
    }

    /// Prints rows. `headers` gives a field's column title where it is not the field's name.
    ///
    /// Cells of a table are made harmless; what a template of one's own prints is the bare value.
    pub fn render(
        &self,
        rows: &[Json],
        headers: &[(&str, &str)],
        options: &TemplateOptions<'_>,
    ) -> Result<String, Error> {
        match self {
            Format::Json => Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
            Format::Rows(template) => {
                let rows = rows.iter().map(|row| Ok(template.render(row, options)? + "\n"));
                rows.collect()
            }
            Format::Table(template) => {
                let mut text = header(template.nodes(), headers);
                text.push('\n');
                for row in rows {
                    for line in template.render(&harmless(row), options)?.split('\n') {
                        text.push_str(line);
                        text.push('\n');
                    }
                }
                Ok(align_tabs(&text))
            }
        }
    }
}

/// Reads `\t` and `\n` outside of actions, as a shell leaves them.
fn unescaped(text: &str) -> String {
    let mut unescaped = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, from_action) = rest.split_at(rest.find("{{").unwrap_or(rest.len()));
        unescaped.push_str(&literal.replace("\\t", "\t").replace("\\n", "\n"));
        let end = from_action.find("}}").map_or(from_action.len(), |end| end + 2);
        let (action, behind) = from_action.split_at(end);
        unescaped.push_str(action);
        rest = behind;
    }
    unescaped
}

/// Texts in a row that is shown as cells: one line each, and nothing that moves the cursor.
fn harmless(value: &Json) -> Json {
    match value {
        Json::String(text) => Json::String(clean(text)),
        Json::Array(items) => items.iter().map(harmless).collect(),
        Json::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), harmless(value))).collect()
        }
        other => other.clone(),
    }
}

/// The header: the template's text, with a title where a row has a value.
fn header(nodes: &[Node], headers: &[(&str, &str)]) -> String {
    let mut text = String::new();
    push_header(nodes, headers, &mut text);
    text
}

fn push_header(nodes: &[Node], headers: &[(&str, &str)], text: &mut String) {
    for node in nodes {
        match node {
            Node::Text(literal) => text.push_str(literal),
            Node::Action(pipe) => {
                if let Some(field) = pipe.variables.is_empty().then(|| last_field(pipe)).flatten() {
                    text.push_str(&title(field, headers));
                }
            }
            Node::If { then, .. } | Node::With { then, .. } => push_header(then, headers, text),
            Node::Range { pipe, body, .. } => {
                // A loop's columns are one column, titled as the field it goes over.
                let mut inner = String::new();
                push_header(body, headers, &mut inner);
                match last_field(pipe) {
                    Some(field) => text.push_str(&title(field, headers)),
                    None => text.push_str(&inner),
                }
            }
            Node::Break | Node::Continue => {}
        }
    }
}

/// The field that a pipeline is about: the last one that it names first.
fn last_field(pipe: &Pipeline) -> Option<&str> {
    pipe.commands.iter().find_map(|command| {
        let operands = std::iter::once(&command.head).chain(&command.arguments);
        operands.filter(|operand| !matches!(operand.base, Base::Nil)).find_map(|operand| {
            match (&operand.base, operand.fields.last()) {
                (_, Some((_, field))) => Some(field.as_str()),
                (Base::Pipeline(inner), None) => last_field(inner),
                _ => None,
            }
        })
    })
}

/// A field's title: the given one, or its words in capitals: `CreatedSince` → `CREATED SINCE`.
fn title(field: &str, headers: &[(&str, &str)]) -> String {
    if let Some((_, title)) = headers.iter().find(|(name, _)| *name == field) {
        return (*title).to_owned();
    }
    let mut title = String::new();
    let mut before = None;
    for char in field.chars() {
        let begins = char.is_uppercase() && before.is_some_and(char::is_lowercase);
        if begins {
            title.push(' ');
        }
        title.extend(char.to_uppercase());
        before = Some(char);
    }
    title
}
