//! Findings in the formats that other programs read.
//!
//! Where hadolint has the format too, the fields are its fields, so that what reads one reads the
//! other; fields of our own come in addition, where the format allows any.

mod sarif;
mod xml;

use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::finding::{Finding, Level};

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `file:line CODE level: message`, hadolint's lines.
    Tty,
    /// The lines of GNU tools.
    Gnu,
    /// An array of objects.
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// Checkstyle's XML.
    Checkstyle,
    /// JUnit's XML.
    Junit,
    /// Code Climate: one object after the other.
    CodeClimate,
    /// GitLab's report of code quality: an array.
    Gitlab,
    /// SonarQube's generic issues.
    Sonarqube,
    /// Codacy: an object a line.
    Codacy,
    /// Annotations of GitHub's workflows.
    Github,
}

impl Format {
    /// The names of all formats.
    pub const NAMES: [&'static str; 12] = [
        "tty",
        "gnu",
        "json",
        "sarif",
        "checkstyle",
        "junit",
        "codeclimate",
        "gitlab",
        "gitlab_codeclimate",
        "sonarqube",
        "codacy",
        "github",
    ];

    /// The format of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "tty" => Self::Tty,
            "gnu" => Self::Gnu,
            "json" => Self::Json,
            "sarif" => Self::Sarif,
            "checkstyle" => Self::Checkstyle,
            "junit" => Self::Junit,
            "codeclimate" => Self::CodeClimate,
            "gitlab" | "gitlab_codeclimate" => Self::Gitlab,
            "sonarqube" => Self::Sonarqube,
            "codacy" => Self::Codacy,
            "github" => Self::Github,
            _ => return None,
        })
    }
}

/// The findings of one file.
#[derive(Debug, Clone, Copy)]
pub struct File<'f> {
    /// What the file is called.
    pub name: &'f str,
    /// Its text.
    pub text: &'f str,
    /// What was found in it.
    pub findings: &'f [Finding],
}

/// Writes findings in a format.
pub fn write(format: Format, files: &[File<'_>]) -> String {
    match format {
        Format::Tty => lines(files, |file, finding| {
            let Finding { line, code, level, message, .. } = finding;
            format!("{}:{line} {code} {}: {message}", file.name, level.name())
        }),
        Format::Gnu => lines(files, |file, finding| {
            let Finding { span, code, level, message, .. } = finding;
            let (line, column) = (span.start.line, span.start.column);
            format!("conex:{}:{line}:{column}: {code} {}: {message}", file.name, level.name())
        }),
        Format::Json => array(files, json_object) + "\n",
        Format::Sarif => sarif::document(files) + "\n",
        Format::Checkstyle => xml::checkstyle(files),
        Format::Junit => xml::junit(files),
        Format::CodeClimate => lines(files, |file, finding| climate(file, finding).to_string()),
        Format::Gitlab => {
            array(files, |file, finding| {
                let mut object = climate(file, finding);
                if let Some(fields) = object.as_object_mut() {
                    fields.insert("fingerprint".to_owned(), fingerprint(file, finding).into());
                }
                object
            }) + "\n"
        }
        Format::Sonarqube => sonarqube(files) + "\n",
        Format::Codacy => lines(files, |file, finding| {
            json!({
                "filename": file.name,
                "line": finding.line,
                "message": finding.message,
                "patternId": finding.code,
            })
            .to_string()
        }),
        Format::Github => lines(files, github),
    }
}

fn each<'f>(files: &'f [File<'_>]) -> impl Iterator<Item = (&'f File<'f>, &'f Finding)> {
    files.iter().flat_map(|file| file.findings.iter().map(move |finding| (file, finding)))
}

fn lines(files: &[File<'_>], line: impl Fn(&File<'_>, &Finding) -> String) -> String {
    each(files).fold(String::new(), |mut out, (file, finding)| {
        let _ = writeln!(out, "{}", line(file, finding).replace('\n', " ")); // a String takes all
        out
    })
}

fn array(files: &[File<'_>], object: impl Fn(&File<'_>, &Finding) -> Value) -> String {
    Value::Array(each(files).map(|(file, finding)| object(file, finding)).collect()).to_string()
}

/// hadolint's fields, with the exact place and the rule.
fn json_object(file: &File<'_>, finding: &Finding) -> Value {
    json!({
        "file": file.name,
        "line": finding.span.start.line,
        "column": finding.span.start.column,
        "endLine": finding.span.end.line,
        "endColumn": finding.span.end.column,
        "code": finding.code,
        "rule": finding.name(),
        "level": finding.level.name(),
        "message": finding.message,
        "hint": finding.hint,
        "fixable": finding.fix.is_some(),
    })
}

fn climate(file: &File<'_>, finding: &Finding) -> Value {
    let severity = match finding.level {
        Level::Error => "blocker",
        Level::Warning => "major",
        Level::Info => "info",
        Level::Style => "minor",
    };
    json!({
        "type": "issue",
        "check_name": finding.code,
        "description": finding.message,
        "categories": ["Bug Risk"],
        "severity": severity,
        "location": {
            "path": file.name,
            "lines": { "begin": finding.span.start.line, "end": finding.span.lines().1 },
        },
    })
}

/// The same for the same finding of the same file, whatever lines stand before it.
fn fingerprint(file: &File<'_>, finding: &Finding) -> String {
    let at = usize::try_from(finding.span.start.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = file.text.lines().nth(at).unwrap_or("").trim();
    let mut hasher = Sha256::new();
    for part in [file.name, finding.code, &finding.message, line] {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let digest = hasher.finalize();
    digest.iter().take(20).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes all
        text
    })
}

fn sonarqube(files: &[File<'_>]) -> String {
    let issues: Vec<Value> = each(files)
        .map(|(file, finding)| {
            let severity = match finding.level {
                Level::Error => "CRITICAL",
                Level::Warning => "MAJOR",
                Level::Info => "MINOR",
                Level::Style => "INFO",
            };
            json!({
                "engineId": "conex",
                "ruleId": finding.code,
                "severity": severity,
                "type": "CODE_SMELL",
                "primaryLocation": {
                    "message": finding.message,
                    "filePath": file.name,
                    "textRange": {
                        "startLine": finding.span.start.line,
                        "endLine": finding.span.end.line,
                        "startColumn": finding.span.start.column - 1,
                        "endColumn": finding.span.end.column.max(2) - 1,
                    },
                },
            })
        })
        .collect();
    json!({ "issues": issues }).to_string()
}

/// `::warning file=…,line=…,title=…::message`, escaped as GitHub asks.
fn github(file: &File<'_>, finding: &Finding) -> String {
    let kind = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info | Level::Style => "notice",
    };
    let message = match &finding.hint {
        Some(hint) => format!("{} ({hint})", finding.message),
        None => finding.message.clone(),
    };
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!(
        "::{kind} file={},line={},endLine={},col={},title={}::{}",
        property(file.name),
        finding.span.start.line,
        finding.span.lines().1,
        finding.span.start.column,
        property(&format!("{} ({})", finding.name(), finding.code)),
        data(&message)
    )
}

#[cfg(test)]
mod tests;
