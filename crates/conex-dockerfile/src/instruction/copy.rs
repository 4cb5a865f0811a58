//! COPY and ADD.

use super::Reading;
use crate::ast::{Add, Copy, InlineFile, Kind, Transfer, Word};
use crate::chmod::Mode;
use crate::flags::{Flags, Known, Shape};
use crate::owner::Owner;
use crate::{diag, heredoc};

pub(super) fn copy(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    let mut flags = reading.flags(&[
        Known("from", Shape::Value),
        Known("chown", Shape::Value),
        Known("chmod", Shape::Value),
        Known("link", Shape::Switch),
        Known("parents", Shape::Switch),
        Known("exclude", Shape::Values),
    ]);
    let from = flags.take("from").filter(|from| !from.raw.is_empty());
    if let Some(from) = from.as_ref().filter(|from| from.raw.contains('$')) {
        reading.error(diag::variable_in_from(from.span, "--from", &from.raw));
    }
    let parents = flags.take_switch("parents").unwrap_or(false);
    let transfer = transfer(reading, &mut flags)?;
    Some(Kind::Copy(Copy { transfer, from, parents }))
}

pub(super) fn add(reading: &mut Reading<'_, '_>) -> Option<Kind> {
    let mut flags = reading.flags(&[
        Known("chown", Shape::Value),
        Known("chmod", Shape::Value),
        Known("link", Shape::Switch),
        Known("exclude", Shape::Values),
        Known("checksum", Shape::Value),
        Known("unpack", Shape::Switch),
        Known("keep-git-dir", Shape::Switch),
    ]);
    let checksum = flags.take("checksum").filter(|checksum| !checksum.raw.is_empty());
    let unpack = flags.take_switch("unpack");
    let keep_git_dir = flags.take_switch("keep-git-dir");
    let transfer = transfer(reading, &mut flags)?;
    if let Some(checksum) = checksum.as_ref().filter(|_| transfer.sources.len() != 1) {
        reading.error(diag::checksum_sources(checksum.span));
    }
    Some(Kind::Add(Add { transfer, checksum, unpack, keep_git_dir }))
}

fn transfer(reading: &mut Reading<'_, '_>, flags: &mut Flags) -> Option<Transfer> {
    let chown = flags.take("chown").filter(|chown| !chown.raw.is_empty());
    let chmod = flags.take("chmod").filter(|chmod| !chmod.raw.is_empty());
    check_plain(reading, chown.as_ref(), |text| Owner::parse(text).map(drop));
    check_plain(reading, chmod.as_ref(), |text| Mode::parse(text).map(drop));
    let args = reading.arguments("a source and a target")?;
    let (mut words, json) = reading.words(args).ok()?;
    let target = words.pop();
    let Some(target) = target.filter(|_| !words.is_empty()) else {
        let name = reading.name.clone();
        reading.error(diag::needs_arguments(args.span(), &name, "a source and a target"));
        return None;
    };
    if !json && heredoc::parse(&target.raw).is_some() {
        let name = reading.name.clone();
        reading.error(diag::heredoc_as_target(target.span, &name));
        return None;
    }
    let (sources, inline_files) = sources(reading, words, json);
    Some(Transfer {
        sources,
        inline_files,
        target,
        json,
        chown,
        chmod,
        link: flags.take_switch("link").unwrap_or(false),
        excludes: flags.take_all("exclude"),
    })
}

/// Parts the words that are heredocs from those that are paths.
fn sources(
    reading: &mut Reading<'_, '_>,
    words: Vec<Word>,
    json: bool,
) -> (Vec<Word>, Vec<InlineFile>) {
    let mut files: Vec<InlineFile> = Vec::new();
    let mut sources = Vec::new();
    for word in words {
        let opened = if json { None } else { heredoc::parse(&word.raw) };
        let Some(opened) = opened else {
            sources.push(word);
            continue;
        };
        let body = reading.heredocs.iter().find(|heredoc| heredoc.name == opened.name);
        let Some(body) = body else {
            // The lexer saw no heredoc here, so it is a path with strange characters.
            sources.push(word);
            continue;
        };
        if files.iter().any(|file| file.name == opened.name) {
            reading.error(diag::repeated_heredoc(word.span, &opened.name));
        }
        if opened.name.contains('/') || opened.name == "." || opened.name == ".." {
            reading.error(diag::heredoc_name_is_no_file(word.span, &opened.name));
        }
        files.push(InlineFile {
            name: opened.name,
            content: body.text(),
            expand: opened.expand,
            span: body.span,
        });
    }
    (sources, files)
}

/// Checks a flag's value now if no variable can change it.
fn check_plain(
    reading: &mut Reading<'_, '_>,
    word: Option<&Word>,
    check: impl Fn(&str) -> Result<(), crate::Error>,
) {
    let Some(word) = word.filter(|word| !word.raw.contains(['$', '\'', '"', '\\', '`'])) else {
        return;
    };
    if let Err(error) = check(&word.raw) {
        reading.error(error.at(word.span));
    }
}
