//! Checkstyle and JUnit.

use std::fmt::Write as _;

use super::File;
use crate::finding::Level;

pub(super) fn checkstyle(files: &[File<'_>]) -> String {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<checkstyle version=\"4.3\">\n");
    for file in files {
        let _ = writeln!(out, "  <file name=\"{}\">", escaped(file.name)); // a String takes all
        for finding in file.findings {
            // Checkstyle knows no style; hadolint writes it all the same.
            let severity = match finding.level {
                Level::Style => "info",
                level => level.name(),
            };
            let _ = writeln!(
                out,
                "    <error line=\"{}\" column=\"{}\" severity=\"{severity}\" message=\"{}\" \
                 source=\"{}\"/>",
                finding.span.start.line,
                finding.span.start.column,
                escaped(&finding.message),
                finding.code
            ); // a String takes all
        }
        out.push_str("  </file>\n");
    }
    out.push_str("</checkstyle>\n");
    out
}

pub(super) fn junit(files: &[File<'_>]) -> String {
    let total: usize = files.iter().map(|file| file.findings.len().max(1)).sum();
    let failures: usize = files.iter().map(|file| file.findings.len()).sum();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"conex lint\" tests=\"{total}\" failures=\"{failures}\">\n"
    );
    for file in files {
        let name = escaped(file.name);
        let count = file.findings.len();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{count}\">",
            count.max(1)
        ); // a String takes all
        if count == 0 {
            let _ = writeln!(out, "    <testcase name=\"{name}\" classname=\"conex.lint\"/>");
        }
        for finding in file.findings {
            let _ = writeln!(
                out,
                "    <testcase name=\"{} line {}\" classname=\"{name}\">\n      \
                 <failure type=\"{}\" message=\"{}\">{}</failure>\n    </testcase>",
                finding.code,
                finding.span.start.line,
                finding.level.name(),
                escaped(&finding.message),
                escaped(finding.hint.as_deref().unwrap_or(""))
            ); // a String takes all
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text as XML has it; characters that XML cannot have become `?`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => {
                out.push('?');
            }
            other => out.push(other),
        }
    }
    out
}
