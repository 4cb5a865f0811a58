//! Output without what changes from run to run: identities are numbered in the order in which they
//! appear, times and ages are named, columns are three spaces apart.

use std::fmt::Write as _;

/// The identities seen so far, by their first twelve digits.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<String>);

impl Names {
    fn number(&mut self, id: &str) -> usize {
        let short = id.get(..12).unwrap_or(id);
        match self.0.iter().position(|known| known == short) {
            Some(at) => at + 1,
            None => {
                self.0.push(short.to_owned());
                self.0.len()
            }
        }
    }
}

const AGES: [&str; 4] = ["Less than a second ago", "About a minute ago", "1 second ago", "[N] ago"];

/// Makes a text the same in every run.
pub(crate) fn normalized(text: &str, names: &mut Names) -> String {
    let mut result = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let (indent, line) = line.split_at(indent);
        let line = ages(&words(line, names));
        // Writing to a string cannot fail.
        let _ = writeln!(result, "{indent}{}", columns(line.trim_end()));
    }
    result
}

/// Replaces words that are identities, times and sizes.
fn words(line: &str, names: &mut Names) -> String {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.' | '_');
    let mut result = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let start = rest.find(is_inner).unwrap_or(rest.len());
        let (before, word) = rest.split_at(start);
        let end = word.find(|c| !is_inner(c)).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        result.push_str(before);
        result.push_str(&replaced(word, names));
        rest = behind;
    }
    result
}

fn replaced(word: &str, names: &mut Names) -> String {
    let (prefix, digits) = match word.strip_prefix("sha256:") {
        Some(digits) => ("sha256:", digits),
        None => ("", word),
    };
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && matches!(digits.len(), 12 | 16 | 64) {
        return format!("{prefix}[{}]", names.number(digits));
    }
    let is_time = word.len() >= 20
        && word.ends_with('Z')
        && word.as_bytes().get(10) == Some(&b'T')
        && word.starts_with("20");
    if is_time { "[TIME]".to_owned() } else { word.to_owned() }
}

/// Replaces ages up to an hour.
fn ages(line: &str) -> String {
    let mut line = line.to_owned();
    for unit in [" seconds ago", " minutes ago"] {
        while let Some(at) = line.find(unit) {
            let digits = line[..at].chars().rev().take_while(char::is_ascii_digit).count();
            line.replace_range(at - digits..at + unit.len(), "[N] ago");
        }
    }
    for age in AGES {
        line = line.replace(age, "[AGO]");
    }
    line
}

/// Sets columns three spaces apart.
fn columns(line: &str) -> String {
    let mut result = String::new();
    let mut spaces = 0;
    for char in line.chars() {
        if char == ' ' {
            spaces += 1;
        } else {
            result.extend(std::iter::repeat_n(' ', spaces.min(3)));
            spaces = 0;
            result.push(char);
        }
    }
    result
}

/// Names sizes, for listings in which they depend on the file system. `0B` stays.
pub(crate) fn without_sizes(text: &str) -> String {
    let mut result = String::new();
    for line in text.lines() {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| if is_size(word) { "[SIZE]".to_owned() } else { word.to_owned() })
            .collect();
        result.push_str(&words.join(" "));
        result.push('\n');
    }
    result
}

fn is_size(word: &str) -> bool {
    let number = word.trim_end_matches("B").trim_end_matches(['k', 'M', 'G']);
    word.ends_with('B') && word != "0B" && number.parse::<f64>().is_ok()
}

#[test]
fn two_runs_look_alike() {
    let id = "0123456789abcdef".repeat(4);
    let line = format!("a:1    {}   3 minutes ago  2026-11-21T12:31:38Z x", &id[..12]);
    let mut names = Names::default();
    assert_eq!(normalized(&line, &mut names), "a:1   [1]   [AGO]  [TIME] x\n");
    assert_eq!(normalized(&format!("sha256:{id},"), &mut names), "sha256:[1],\n");
    assert_eq!(without_sizes("a   1.2kB (0%)   0B"), "a   [SIZE] (0%)   0B\n");
}
