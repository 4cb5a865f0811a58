//! `conex man`, and the reference of all commands as Markdown pages.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use crate::cli::Cli;
use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// Write the manual pages
///
/// One page a command into a folder, or the first page to standard output.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex man ~/.local/share/man/man1 && man conex-build\n  \
    conex man | man -l -")]
pub struct Args {
    /// The folder, which is made if it is missing
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Write the reference of all commands as Markdown
#[derive(Debug, clap::Args)]
pub struct DocsArgs {
    /// The folder
    #[arg(value_name = "DIR", default_value = "docs/commands")]
    folder: PathBuf,
}

/// Runs `conex man`.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let Some(folder) = args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .doing(|| "cannot make the manual page".to_owned())?;
        return session.out(&String::from_utf8_lossy(&page));
    };
    fs::create_dir_all(&folder).doing(|| format!("cannot make `{}`", folder.display()))?;
    clap_mangen::generate_to(Cli::command(), &folder)
        .doing(|| format!("cannot write manual pages to `{}`", folder.display()))
}

/// Runs `conex __docs`.
pub fn docs(session: &Session, args: DocsArgs) -> Result<()> {
    let folder = args.folder;
    fs::create_dir_all(&folder).doing(|| format!("cannot make `{}`", folder.display()))?;
    let pages = pages();
    remove_others(&folder, &pages)?;
    for (name, text) in &pages {
        let path = folder.join(name);
        fs::write(&path, text).doing(|| format!("cannot write `{}`", path.display()))?;
    }
    session.err(&format!("{}: {} pages", folder.display(), pages.len()));
    Ok(())
}

/// Removes pages of commands that are no more.
fn remove_others(folder: &Path, pages: &[(String, String)]) -> Result<()> {
    let act = || format!("cannot look into `{}`", folder.display());
    for entry in fs::read_dir(folder).doing(act)? {
        let entry = entry.doing(act)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_page = name.ends_with(".md") && (name == "README.md" || name.starts_with("conex-"));
        if is_page && !pages.iter().any(|(page, _)| *page == name) {
            fs::remove_file(entry.path())
                .map_err(|error| CliError::because(format!("cannot remove `{name}`"), error))?;
        }
    }
    Ok(())
}

/// A page a command, and one that lists them: names and texts.
fn pages() -> Vec<(String, String)> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    let mut list =
        String::from("# Commands\n\nWritten by `conex __docs` from the help of each command.\n\n");
    visit(&root, &mut |command, depth| {
        let name = path(command);
        let file = format!("{}.md", name.replace(' ', "-"));
        if depth > 0 {
            let indent = "  ".repeat(depth - 1);
            // Writing to a string cannot fail.
            let _ = writeln!(list, "{indent}- [`{name}`]({file}): {}", about(command));
            pages.push((file, page(command)));
        }
    });
    pages.push(("README.md".to_owned(), list));
    pages
}

fn visit(command: &Command, seen: &mut dyn FnMut(&Command, usize)) {
    fn below(command: &Command, depth: usize, seen: &mut dyn FnMut(&Command, usize)) {
        seen(command, depth);
        let mut inner: Vec<&Command> = command
            .get_subcommands()
            .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
            .collect();
        inner.sort_by_key(|inner| inner.get_name());
        for command in inner {
            below(command, depth + 1, seen);
        }
    }
    below(command, 0, seen);
}

/// `conex image ls`.
fn path(command: &Command) -> String {
    command.get_bin_name().unwrap_or(command.get_name()).to_owned()
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn page(command: &Command) -> String {
    let mut text = format!("# {}\n\n", path(command));
    let help = command.get_long_about().or(command.get_about());
    if let Some(help) = help {
        let _ = writeln!(text, "{}\n", escaped(&help.to_string()));
    }
    let usage = command.clone().term_width(0).render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let _ = writeln!(text, "```text\n{}\n```\n", usage.trim_end());
    let aliases: Vec<String> =
        command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        let _ = writeln!(text, "Also called {}.\n", aliases.join(", "));
    }
    commands(command, &mut text);
    arguments(command, &mut text);
    examples(command, &mut text);
    text.trim_end().to_owned() + "\n"
}

fn commands(command: &Command, text: &mut String) {
    let mut inner: Vec<&Command> = command
        .get_subcommands()
        .filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
        .collect();
    if inner.is_empty() {
        return;
    }
    inner.sort_by_key(|inner| inner.get_name());
    text.push_str("## Commands\n\n");
    for inner in inner {
        let name = path(inner);
        let file = name.replace(' ', "-");
        let _ = writeln!(text, "- [`{name}`]({file}.md): {}", about(inner));
    }
    text.push('\n');
}

fn arguments(command: &Command, text: &mut String) {
    let shown = |arg: &&Arg| {
        !arg.is_hide_set()
            && !arg.is_global_set()
            && !["help", "version"].contains(&arg.get_id().as_str())
    };
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(shown).partition(|arg| arg.is_positional());
    for (title, list) in [("Arguments", positional), ("Options", options)] {
        if list.is_empty() {
            continue;
        }
        let _ = writeln!(text, "## {title}\n");
        for arg in list {
            let help = arg.get_long_help().or(arg.get_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            let help = escaped(&help).replace('\n', "\n  ").replace("\n  \n", "\n\n");
            let _ = writeln!(text, "- `{}`: {help}{}", signature(arg), default(arg));
        }
        text.push('\n');
    }
}

/// `-f, --filter <FILTER>`.
fn signature(arg: &Arg) -> String {
    let mut words = Vec::new();
    words.extend(arg.get_short().map(|short| format!("-{short}")));
    words.extend(arg.get_long().map(|long| format!("--{long}")));
    for alias in arg.get_visible_aliases().unwrap_or_default() {
        words.push(format!("--{alias}"));
    }
    let mut text = words.join(", ");
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    if let Some(names) = arg.get_value_names().filter(|_| takes_value) {
        for name in names {
            if !text.is_empty() {
                text.push(' ');
            }
            let _ = write!(text, "<{name}>");
        }
    }
    text
}

/// What is taken when the option is not given, and what can be.
fn default(arg: &Arg) -> String {
    let mut text = String::new();
    if !matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
        return text;
    }
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        let _ = write!(text, " One of {}.", values.join(", "));
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    if !defaults.is_empty() {
        let _ = write!(text, " Default: {}.", defaults.join(", "));
    }
    text
}

fn examples(command: &Command, text: &mut String) {
    let Some(help) = command.get_after_help() else { return };
    let help = help.to_string();
    let lines = help.strip_prefix("Examples:").unwrap_or(&help).trim_matches('\n');
    let _ = writeln!(text, "## Examples\n\n```sh");
    for line in lines.lines() {
        let _ = writeln!(text, "{}", line.trim_start());
    }
    text.push_str("```\n");
}

/// Keeps what is no code from being taken for HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut in_code = false;
    for char in text.chars() {
        in_code ^= char == '`';
        match char {
            '<' if !in_code => escaped.push_str("&lt;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_says_what_it_does_and_shows_how() {
        let mut root = Cli::command();
        root.build();
        let mut lacking = Vec::new();
        visit(&root, &mut |command, _| {
            let has_example = command.get_after_help().is_some();
            if about(command).is_empty() || !has_example {
                lacking.push(path(command));
            }
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if arg.get_help().is_none() {
                    lacking.push(format!("{} {}", path(command), arg.get_id()));
                }
            }
        });
        // These need no example.
        lacking.retain(|name| name != "conex version");
        assert!(lacking.is_empty(), "without help or example: {lacking:?}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn pages_link_to_pages() {
        let pages = pages();
        for (name, text) in &pages {
            for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                assert!(pages.iter().any(|(page, _)| page == link), "{name} links to {link}");
            }
        }
    }
}
