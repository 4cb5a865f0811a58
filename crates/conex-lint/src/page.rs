//! The page of a rule: why, a bad example, a good one.

use std::fmt::Write as _;

use crate::rules::{Fixable, Rule, rules};

/// The page of a rule, as Markdown.
pub fn page(rule: &Rule) -> String {
    let mut page = format!("# {}\n\n{}.\n\n", rule.name, rule.description.trim_end_matches('.'));
    let codes = match rule.codes {
        [] => "–".to_owned(),
        codes => codes.join(", "),
    };
    let fix = match rule.fix {
        Fixable::No => "by hand",
        Fixable::FromImage => "`conex lint --fix --versions-from IMAGE`",
        Fixable::Safe => "`conex lint --fix`",
        Fixable::Unsafe => "`conex lint --fix --unsafe-fixes`",
    };
    let asked = if rule.experimental {
        format!("only with `# check=experimental={}` in the file", rule.name)
    } else {
        "always".to_owned()
    };
    let _ = write!(
        page,
        "| | |\n|---|---|\n| level | {} |\n| also called | {codes} |\n| comes from | {} |\n\
         | asked | {asked} |\n| mended | {fix} |\n| since rules | {} |\n\n## Why\n\n{}\n\n\
         ## Bad\n\n```dockerfile\n{}```\n\n## Good\n\n```dockerfile\n{}```\n\n## Ignore it\n\n\
         ```dockerfile\n# conex ignore {} because of …\n```\n",
        rule.level.name(),
        rule.set.name(),
        rule.since,
        wrapped(rule.why),
        untrailed(rule.bad),
        untrailed(rule.good),
        rule.name,
    ); // a String takes all
    if let Some(url) = rule.url {
        let _ = write!(page, "\nSee also <{url}>.\n"); // a String takes all
    }
    page
}

/// The list of all rules, as Markdown.
pub fn index() -> String {
    let mut page = String::from(
        "# Rules\n\n`conex lint` asks these. `conex explain RULE` shows a page; every name and every\n\
         code may stand in ignores and settings.\n\n\
         | rule | also called | level | mended | what it says |\n|---|---|---|---|---|\n",
    );
    for rule in rules() {
        let _ = writeln!(
            page,
            "| [{0}]({0}.md) | {1} | {2} | {3} | {4} |",
            rule.name,
            rule.codes.join(", "),
            rule.level.name(),
            rule.fix.name(),
            rule.description.replace('|', "\\|"),
        ); // a String takes all
    }
    page
}

/// Without blanks at the ends of lines.
fn untrailed(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Text on lines of at most 100 columns.
fn wrapped(text: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > 100 {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}
