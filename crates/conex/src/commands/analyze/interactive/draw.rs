//! How the view looks: lines of pieces of text, each with a style.

use conex_inventory::{Change, Kind, mode_text};
use conex_term::{clean, cut, human_size_short, width};

use super::super::text::made_by;
use super::model::{Compare, Model, Pane, Pattern, word};

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Dim,
    Title,
    /// The title of the side that the keys are for.
    Active,
    Chosen,
    Added,
    Changed,
    Deleted,
    Wasted,
}

impl Style {
    /// The parameters of the escape sequence for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Title => "1",
            Self::Active => "1;36",
            Self::Chosen => "7",
            Self::Added => "32",
            Self::Changed => "33",
            Self::Deleted => "31",
            Self::Wasted => "1;35",
        }
    }
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub text: String,
    pub style: Style,
}

/// A line of the screen.
pub type Line = Vec<Span>;

/// Cells of the left side: enough for a size and the beginning of an instruction.
const LEFT_MIN: usize = 30;

/// Cells of the right side from which on it shows owners, modes, and wasted bytes: the names of
/// files come before all of them.
const OWNER_MIN: usize = 64;
const MODE_MIN: usize = 46;
const WASTED_MIN: usize = 36;

/// What the keys do.
const HELP: &str = "\
 tab        other side                 ctrl-f or /  regular expression; escape ends it
 ↑ ↓ k j    move                       space        open or close a folder
 ← →        close, open, go up         ctrl-space   open or close all folders
 pgup pgdn  a page                     home end     first, last
 ctrl-l     changes of the layer       ctrl-a       (layers) changes since the first layer
 ctrl-a     (files) added files        ctrl-r       removed files
 ctrl-m     modified files             ctrl-u       unmodified files
 w          wasted files only          s            sort by size or name
 i          layer that the file        ctrl-b       modes and owners
            comes from                 ctrl-e       write the file into this folder
 q          leave";

/// Everything, for a terminal of this size.
pub fn lines(model: &mut Model<'_>, columns: usize, rows: usize) -> Vec<Line> {
    if columns < 40 || rows < 8 {
        return vec![vec![span(
            "the terminal is too small: 40 × 8 is the least",
            Style::Plain,
            columns,
        )]];
    }
    let left = (columns * 2 / 5).clamp(LEFT_MIN, 70).min(columns / 2);
    let right = columns - left - 1;
    let height = rows - 1;
    model.page = height.saturating_sub(2).max(1);
    let mut one = left_side(model, left, height);
    let mut other = if model.help { help(right, height) } else { files(model, right, height) };
    one.resize(height, Vec::new());
    other.resize(height, Vec::new());
    let mut all: Vec<Line> = one
        .into_iter()
        .zip(other)
        .map(|(mut one, other)| {
            fill(&mut one, left);
            one.push(Span { text: "│".to_owned(), style: Style::Dim });
            one.extend(other);
            one
        })
        .collect();
    all.push(bottom(model, columns));
    all
}

fn span(text: &str, style: Style, cells: usize) -> Span {
    Span { text: cut(text, cells).to_owned(), style }
}

fn cells(line: &Line) -> usize {
    line.iter().map(|span| width(&span.text)).sum()
}

fn fill(line: &mut Line, columns: usize) {
    let used = cells(line);
    if used < columns {
        line.push(Span { text: " ".repeat(columns - used), style: Style::Plain });
    }
}

fn title(text: &str, is_active: bool, columns: usize) -> Line {
    let mark = if is_active { "● " } else { "│ " };
    let style = if is_active { Style::Active } else { Style::Title };
    let text = format!("{mark}{text} ");
    let mut line = vec![span(&text, style, columns)];
    let rest = columns.saturating_sub(cells(&line));
    line.push(Span { text: "─".repeat(rest), style: Style::Dim });
    line
}

fn left_side(model: &mut Model<'_>, columns: usize, height: usize) -> Vec<Line> {
    let is_active = model.pane == Pane::Layers;
    let mut lines = vec![title("Layers", is_active, columns)];
    let count = model.report.layers.len();
    let room = count.min((height / 2).max(3));
    model.layer_top = scrolled(model.layer_top, model.layer, room, count);
    for layer in model.report.layers.iter().skip(model.layer_top).take(room) {
        let size = human_size_short(layer.size);
        let text = made_by(&layer.facts);
        let text = format!("{:>3} {size:>8}  {text}", layer.index);
        let style = if layer.index == model.layer { Style::Chosen } else { Style::Plain };
        let mut line = vec![span(&text, style, columns)];
        if style == Style::Chosen {
            let used = cells(&line);
            line[0].text.push_str(&" ".repeat(columns.saturating_sub(used)));
        }
        lines.push(line);
    }
    if let Some(layer) = model.report.layers.get(model.layer) {
        lines.push(title("Layer", false, columns));
        let packed = layer.facts.compressed_size.map_or("never".to_owned(), human_size_short);
        let changes = &layer.changes;
        let facts = [
            format!("digest   {}", layer.facts.diff_id),
            format!("unpacked {}, packed {packed}", human_size_short(layer.size)),
            format!("files    +{} ~{} -{}", changes.added, changes.changed, changes.deleted),
            format!("wasted   {}", human_size_short(layer.wasted_size)),
        ];
        lines.extend(facts.iter().map(|fact| vec![span(fact, Style::Plain, columns)]));
        for line in wrapped(&made_by(&layer.facts), columns, 4) {
            lines.push(vec![span(&line, Style::Dim, columns)]);
        }
    }
    lines.push(title("Image", false, columns));
    let report = model.report;
    let facts = [
        format!("unpacked   {}", human_size_short(report.stored_size)),
        format!("wasted     {}", human_size_short(report.wasted_size)),
        format!("efficiency {:.1} %", report.efficiency * 100.0),
    ];
    lines.extend(facts.iter().map(|fact| vec![span(fact, Style::Plain, columns)]));
    for waste in &report.waste {
        if lines.len() >= height {
            break;
        }
        let text = format!("{:>9} {}", human_size_short(waste.size), clean(&waste.path));
        lines.push(vec![span(&text, Style::Wasted, columns)]);
    }
    lines.truncate(height);
    lines
}

/// Where a list of `count` begins so that the cursor is seen.
fn scrolled(top: usize, cursor: usize, room: usize, count: usize) -> usize {
    let top = top.min(cursor).min(count.saturating_sub(room));
    top.max((cursor + 1).saturating_sub(room))
}

fn wrapped(text: &str, columns: usize, lines_max: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() && lines.len() < lines_max {
        let line = cut(rest, columns);
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
        rest = &rest[line.len()..];
    }
    lines
}

fn files(model: &mut Model<'_>, columns: usize, height: usize) -> Vec<Line> {
    let name = match model.compare {
        Compare::Layer => format!("Files, changes of layer {}", model.layer),
        Compare::All => format!("Files, changes up to layer {}", model.layer),
    };
    let mut lines = vec![title(&name, model.pane == Pane::Files, columns)];
    let has_owner = model.attributes && columns >= OWNER_MIN;
    let has_mode = model.attributes && columns >= MODE_MIN;
    let has_wasted = columns >= WASTED_MIN;
    let mut head = String::new();
    if has_mode {
        head.push_str("Mode       ");
    }
    if has_owner {
        head.push_str("     Owner ");
    }
    head.push_str(if has_wasted { "    Size   Wasted  Path" } else { "    Size  Path" });
    lines.push(vec![span(&head, Style::Dim, columns)]);
    let room = height.saturating_sub(lines.len());
    model.row_top = scrolled(model.row_top, model.row, room, model.rows.len());
    let shown = model.rows.iter().enumerate().skip(model.row_top).take(room);
    for (at, row) in shown {
        let entry = model.tree.entry(row.id);
        let size = human_size_short(model.size(row.id));
        let wasted = match model.wasted.get(row.id as usize).copied().unwrap_or(0) {
            0 => String::new(),
            bytes => human_size_short(bytes),
        };
        let mut facts = String::new();
        if has_mode {
            facts.push_str(&format!("{} ", mode_text(entry.kind, entry.mode)));
        }
        if has_owner {
            facts.push_str(&format!("{:>10} ", format!("{}:{}", entry.uid, entry.gid)));
        }
        facts.push_str(&format!("{size:>8} "));
        let wasted = if has_wasted { format!("{wasted:>8}  ") } else { " ".to_owned() };
        let mut name = clean(&String::from_utf8_lossy(entry.name));
        if entry.kind == Kind::Symlink {
            name.push_str(&format!(" → {}", clean(&String::from_utf8_lossy(entry.link))));
        }
        if model.is_closed(row.id) {
            name.push_str("/ …");
        }
        let mark = match row.change {
            Change::Added => "+",
            Change::Changed => "~",
            Change::Deleted => "-",
            Change::Unchanged => " ",
        };
        let style = match row.change {
            Change::Added => Style::Added,
            Change::Changed => Style::Changed,
            Change::Deleted => Style::Deleted,
            Change::Unchanged => Style::Plain,
        };
        let is_chosen = at == model.row && model.pane == Pane::Files;
        let tree = format!("{}{mark}{name}", row.lead);
        let line = if is_chosen {
            vec![span(&format!("{facts}{wasted}{tree}"), Style::Chosen, columns)]
        } else {
            let facts = span(&facts, Style::Dim, columns);
            let left = columns.saturating_sub(width(&facts.text));
            let wasted = span(&wasted, Style::Wasted, left);
            let left = left.saturating_sub(width(&wasted.text));
            vec![facts, wasted, span(&tree, style, left)]
        };
        lines.push(line);
    }
    if model.rows.is_empty() {
        lines.push(vec![span("  nothing to show", Style::Dim, columns)]);
    }
    lines
}

fn help(columns: usize, height: usize) -> Vec<Line> {
    let mut lines = vec![title("Keys", true, columns)];
    lines.extend(HELP.lines().map(|line| vec![span(line, Style::Plain, columns)]));
    lines.truncate(height);
    lines
}

fn bottom(model: &Model<'_>, columns: usize) -> Line {
    if model.is_typing {
        let what = match Pattern::of(&model.search) {
            Some(Pattern::Text(_)) => "search, not as an expression",
            _ => "search",
        };
        let text = format!("{what}: {}▏", clean(&model.search));
        return vec![span(&text, Style::Active, columns)];
    }
    if !model.status.is_empty() {
        return vec![span(&clean(&model.status), Style::Active, columns)];
    }
    let mut text = match model.search.as_str() {
        "" => String::from("q leave  tab side  ? keys  ^f search"),
        search => format!("escape ends the search for \"{}\"", clean(search)),
    };
    let kinds = [Change::Added, Change::Deleted, Change::Changed, Change::Unchanged];
    for (kind, key) in kinds.into_iter().zip(["^a", "^r", "^m", "^u"]) {
        let mark = if model.hidden.contains(word(kind)) { ' ' } else { '●' };
        text.push_str(&format!("  {key} {}{mark}", word(kind)));
    }
    if model.wasted_only {
        text.push_str("  w wasted only");
    }
    vec![span(&text, Style::Dim, columns)]
}
