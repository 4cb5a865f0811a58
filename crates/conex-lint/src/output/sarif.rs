//! SARIF 2.1.0 (OASIS Standard, 2020-03-27), with the rules and the edits.

use serde_json::{Value, json};

use super::{File, each};
use crate::Rule;
use crate::finding::{Finding, Fix, Level};
use crate::text::Lines;

pub(super) fn document(files: &[File<'_>]) -> String {
    let mut rules: Vec<&'static Rule> = Vec::new();
    for (_, finding) in each(files) {
        if let Some(rule) = finding.rule.filter(|rule| !rules.contains(rule)) {
            rules.push(rule);
        }
    }
    rules.sort_by_key(|rule| rule.name);
    let results: Vec<Value> = files
        .iter()
        .flat_map(|file| {
            let lines = Lines::new(file.text);
            file.findings
                .iter()
                .map(|finding| result(file, &lines, finding, &rules))
                .collect::<Vec<_>>()
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "conex",
                    "fullName": "conex lint",
                    "version": env!("CARGO_PKG_VERSION"),
                    "rules": rules.iter().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
                }
            },
            "columnKind": "unicodeCodePoints",
            "defaultSourceLanguage": "dockerfile",
            "results": results,
        }],
    })
    .to_string()
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info | Level::Style => "note",
    }
}

fn descriptor(rule: &Rule) -> Value {
    let mut descriptor = json!({
        "id": rule.name,
        "name": rule.name,
        "shortDescription": { "text": rule.description },
        "fullDescription": { "text": rule.why },
        "help": { "text": format!("{}\n\nBad:\n{}\nGood:\n{}", rule.why, rule.bad, rule.good) },
        "defaultConfiguration": { "level": level(rule.level) },
        "properties": { "tags": rule.codes },
    });
    if let (Some(url), Some(fields)) = (rule.url, descriptor.as_object_mut()) {
        fields.insert("helpUri".to_owned(), url.into());
    }
    descriptor
}

fn result(file: &File<'_>, lines: &Lines<'_>, finding: &Finding, rules: &[&Rule]) -> Value {
    let span = finding.span;
    let text = match &finding.hint {
        Some(hint) => format!("{}: {hint}", finding.message),
        None => finding.message.clone(),
    };
    let mut result = json!({
        "ruleId": finding.name(),
        "level": level(finding.level),
        "message": { "text": text },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(file.name) },
                "region": {
                    "startLine": span.start.line,
                    "startColumn": span.start.column,
                    "endLine": span.end.line,
                    "endColumn": span.end.column,
                    "sourceLanguage": "dockerfile",
                },
            }
        }],
        "properties": { "code": finding.code },
    });
    if let Some(fields) = result.as_object_mut() {
        let index = rules.iter().position(|rule| Some(*rule) == finding.rule);
        if let Some(index) = index {
            fields.insert("ruleIndex".to_owned(), index.into());
        }
        if let Some(fix) = &finding.fix {
            fields.insert("fixes".to_owned(), json!([fix_object(file, lines, fix)]));
        }
    }
    result
}

fn fix_object(file: &File<'_>, lines: &Lines<'_>, fix: &Fix) -> Value {
    let replacements: Vec<Value> = fix
        .edits
        .iter()
        .map(|edit| {
            let span = lines.span(&edit.range);
            json!({
                "deletedRegion": {
                    "startLine": span.start.line,
                    "startColumn": span.start.column,
                    "endLine": span.end.line,
                    "endColumn": span.end.column,
                },
                "insertedContent": { "text": edit.text },
            })
        })
        .collect();
    json!({
        "description": { "text": fix.title },
        "artifactChanges": [{
            "artifactLocation": { "uri": uri(file.name) },
            "replacements": replacements,
        }],
    })
}

/// A relative URI: what has a meaning in URIs is escaped.
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
