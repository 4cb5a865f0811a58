//! The summary that fits a screen.

use std::fmt::Write as _;

use conex_inventory::{ImageReport, LayerFacts, LayerRow};
use conex_term::{Palette, clean, ellipsis, human_size_short, width};

use super::Subject;

/// Layers shown of an image that has more: the largest.
const LAYERS_MAX: usize = 6;

/// Rows of each list.
const ROWS_MAX: usize = 3;

/// How the summary is laid out.
pub struct Look {
    pub palette: Palette,
    pub columns: usize,
    pub rows: usize,
    /// Lists are not cut.
    pub is_whole: bool,
}

/// Writes the summary.
pub fn summary(subject: &Subject, report: &ImageReport, look: &Look) -> String {
    let mut text = String::new();
    header(&mut text, subject, report, look);
    layers(&mut text, report, look);
    waste(&mut text, report, look);
    found(&mut text, report, look);
    suggestions(&mut text, report, look);
    text
}

fn size(bytes: u64) -> String {
    human_size_short(bytes)
}

/// A size as stored, and unpacked.
fn sizes(compressed: Option<u64>, unpacked: u64) -> String {
    match compressed {
        Some(compressed) => format!("{} packed, {} unpacked", size(compressed), size(unpacked)),
        None => format!("{} unpacked, never packed", size(unpacked)),
    }
}

fn header(text: &mut String, subject: &Subject, report: &ImageReport, look: &Look) {
    let name = look.palette.strong(&clean(&subject.name));
    let platform = &subject.config.platform;
    let all = sizes(report.compressed_size, report.stored_size);
    let (files, folders) = (report.files, report.folders);
    let about =
        format!(" ({}, {platform}): {all}; {files} files, {folders} folders", subject.id.short());
    let room = look.columns.saturating_sub(width(&clean(&subject.name)));
    let _ = writeln!(text, "{name}{}", ellipsis(&about, room));
    let percent = report.efficiency * 100.0;
    let score = format!("{percent:.1} %");
    let score = match percent {
        95.0.. => look.palette.good(&score),
        80.0.. => look.palette.warning(&score),
        _ => look.palette.error(&score),
    };
    let causes: Vec<String> =
        report.causes.iter().map(|(cause, bytes)| format!("{} {cause}", size(*bytes))).collect();
    let causes =
        if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
    let equal = match report.duplicate_size {
        0 => String::new(),
        bytes => format!(", {} in equal files", size(bytes)),
    };
    let tail = format!(", {} wasted{causes}{equal}", size(report.wasted_size));
    let room = look.columns.saturating_sub(18);
    let _ = writeln!(text, "efficiency {score}{}", ellipsis(&tail, room));
}

fn layers(text: &mut String, report: &ImageReport, look: &Look) {
    let mut shown: Vec<&LayerRow> = report.layers.iter().collect();
    if !look.is_whole && shown.len() > LAYERS_MAX {
        shown.sort_by_key(|layer| std::cmp::Reverse(layer.size));
        shown.truncate(LAYERS_MAX);
        shown.sort_by_key(|layer| layer.index);
    }
    let title = format!(
        "{:>5} {:>8} {:>8} {:>8} {:>18}  INSTRUCTION",
        "LAYER", "PACKED", "UNPACKED", "WASTED", "+ADD ~CHANGE -DEL"
    );
    let _ = writeln!(text, "\n{}", look.palette.strong(&title));
    for layer in &shown {
        let changes = &layer.changes;
        let changes = format!("+{} ~{} -{}", changes.added, changes.changed, changes.deleted);
        let packed = layer.facts.compressed_size.map_or_else(|| "–".to_owned(), size);
        let wasted =
            if layer.wasted_size == 0 { "–".to_owned() } else { size(layer.wasted_size) };
        let line = format!(
            "{:>5} {packed:>8} {:>8} {wasted:>8} {changes:>18}  ",
            layer.index,
            size(layer.size)
        );
        let room = look.columns.saturating_sub(width(&line)).max(10);
        let made = ellipsis(&made_by(&layer.facts), room);
        let _ = writeln!(text, "{line}{made}");
    }
    let left = report.layers.len() - shown.len();
    if left > 0 {
        let _ = writeln!(text, "{}", look.palette.dim(&format!("      and {left} smaller layers")));
    }
}

/// The instruction that made a layer, behind its line if that is known.
pub fn made_by(facts: &LayerFacts) -> String {
    let instruction = instruction(&facts.created_by);
    match &facts.source {
        Some(source) => format!("{}: {instruction}", source.line),
        None => instruction,
    }
}

/// An instruction as a person wrote it, in one line.
pub fn instruction(created_by: &str) -> String {
    let text = created_by.strip_prefix("/bin/sh -c #(nop)").unwrap_or(created_by);
    let text = match text.strip_prefix("/bin/sh -c ") {
        Some(command) => format!("RUN {command}"),
        None => text.replacen("RUN /bin/sh -c ", "RUN ", 1),
    };
    let text = text.strip_suffix(" # buildkit").unwrap_or(&text);
    let text = clean(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rows(look: &Look, count: usize) -> usize {
    if look.is_whole { count } else { ROWS_MAX.min(count) }
}

fn waste(text: &mut String, report: &ImageReport, look: &Look) {
    if report.waste.is_empty() {
        return;
    }
    let title = format!("{:>9}  {:<22} WASTED PATH", "BYTES", "WHY");
    let _ = writeln!(text, "\n{}", look.palette.strong(&title));
    let count = rows(look, report.waste.len());
    for row in report.waste.iter().take(count) {
        let Some(step) = row.steps.iter().max_by_key(|step| step.size) else { continue };
        let why = match step.cause {
            "repeated" => format!("{} in {}", step.cause, step.stored_in),
            cause => format!("{} → {} {cause}", step.stored_in, step.hidden_by),
        };
        let files = if row.files > 1 { format!(" ({} files)", row.files) } else { String::new() };
        let room = look.columns.saturating_sub(35 + files.len());
        let path = ellipsis(&clean(&row.path), room);
        let _ = writeln!(text, "{:>9}  {why:<22} {path}{files}", size(row.size));
    }
    let left = report.waste_count - count;
    if left > 0 {
        let _ =
            writeln!(text, "{}", look.palette.dim(&format!("           and {left} more paths")));
    }
}

fn found(text: &mut String, report: &ImageReport, look: &Look) {
    let mut facts = Vec::new();
    for cache in &report.caches {
        facts.push(format!("{} {}", cache.kind, size(cache.size)));
    }
    let mut lines = Vec::new();
    if !facts.is_empty() {
        lines.push(("left behind", facts.join(", ")));
    }
    let largest = report.largest_files.iter().take(3);
    let largest: Vec<String> =
        largest.map(|file| format!("{} {}", clean(&file.path), size(file.size))).collect();
    if !largest.is_empty() {
        lines.push(("largest", largest.join(", ")));
    }
    let kinds = [
        ("setuid or setgid", &report.setuid),
        ("with capabilities", &report.capable),
        ("world-writable", &report.world_writable),
        ("of unknown owners", &report.odd_owners),
    ];
    let counted: Vec<String> = kinds
        .iter()
        .filter(|(_, list)| list.count > 0)
        .map(|(what, list)| {
            let first = list.files.first().map_or("", |file| file.path.as_str());
            let more = if list.count > 1 { ", …" } else { "" };
            format!("{} {what} ({}{more})", list.count, clean(first))
        })
        .collect();
    if !counted.is_empty() {
        lines.push(("look at", counted.join(", ")));
    }
    if !report.unread_databases.is_empty() {
        lines.push(("not read", clean(&report.unread_databases.join(", "))));
    }
    if lines.is_empty() {
        return;
    }
    text.push('\n');
    for (title, line) in lines {
        let room = if look.is_whole { usize::MAX } else { look.columns.saturating_sub(13) };
        let _ = writeln!(
            text,
            "{} {}",
            look.palette.strong(&format!("{title:<12}")),
            ellipsis(&line, room)
        );
    }
    if look.is_whole {
        for (what, list) in kinds {
            for file in &list.files {
                let path = clean(&file.path);
                let _ = writeln!(text, "  {} {:<11} {what:<17} {path}", file.mode, file.owner);
            }
        }
    }
}

/// What to change, as much of it as there is room for.
fn suggestions(text: &mut String, report: &ImageReport, look: &Look) {
    if report.suggestions.is_empty() {
        return;
    }
    text.push('\n');
    let room = look.rows.saturating_sub(text.lines().count());
    let columns = look.columns.saturating_sub(WHAT_COLUMN).max(20);
    let mut used = 0;
    for one in &report.suggestions {
        let place = one.source.as_ref().map(|source| format!("{source}: ")).unwrap_or_default();
        let lines = wrapped(&clean(&format!("{place}{}", one.text)), columns);
        used += lines.len();
        if !look.is_whole && used > room.max(2) {
            return;
        }
        for (at, line) in lines.iter().enumerate() {
            let title = match at {
                0 => format!("save {:>8}:", size(one.saves)),
                _ => " ".repeat(WHAT_COLUMN - 1),
            };
            let _ = writeln!(text, "{} {line}", look.palette.hint(&title));
        }
    }
}

/// Where the text of a suggestion begins.
const WHAT_COLUMN: usize = 15;

/// A text in lines, broken between words.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if !line.is_empty() && width(line).saturating_add(width(word) + 1) > columns {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
