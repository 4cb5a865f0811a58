//! What the view shows, and what a key does to it. Knows no terminal.

use std::collections::HashSet;
use std::sync::Arc;

use conex_inventory::{Change, ImageReport, ROOT, Tree};

use super::super::Analysis;
use super::keys::Key;
use crate::error::Result;

/// From this many paths on, folders below the second level start closed.
const OPEN_MAX: usize = 20_000;

/// Longest lines that lead to a name, in bytes: what is deeper than some sixty folders is no longer
/// moved to the right. A tree may be a hundred thousand deep.
const LEAD_LEN_MAX: usize = 600;

/// Most bytes that a pattern may take once it is compiled.
const PATTERN_SIZE_MAX: usize = 1 << 20;

/// What is to be done outside of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    None,
    Quit,
    /// Write this file into the current folder.
    Extract(u32),
}

/// Which side the keys are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Layers,
    Files,
}

/// What the changes of a layer are against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// The layers below it.
    Layer,
    /// The first layer.
    All,
}

/// A line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub id: u32,
    /// The lines that lead to it.
    pub lead: String,
    pub change: Change,
}

/// Everything that is shown.
pub struct Model<'a> {
    pub analysis: &'a Analysis,
    pub report: &'a ImageReport,
    pub pane: Pane,
    pub compare: Compare,
    pub layer: usize,
    pub layer_top: usize,
    pub rows: Vec<Row>,
    pub row: usize,
    pub row_top: usize,
    /// Kinds of changes that are hidden.
    pub hidden: HashSet<&'static str>,
    /// Show only what is wasted.
    pub wasted_only: bool,
    pub by_size: bool,
    pub attributes: bool,
    pub help: bool,
    /// What is searched for, and whether it is being typed.
    pub search: String,
    pub is_typing: bool,
    pub status: String,
    /// How many lines a page has; set by whoever draws.
    pub page: usize,
    /// The image up to the chosen layer. Its paths have the numbers that they have in the whole.
    pub tree: Tree,
    tree_layer: usize,
    pub sizes: Vec<u64>,
    pub wasted: Vec<u64>,
    closed: HashSet<u32>,
}

/// The word for a kind of change.
pub fn word(change: Change) -> &'static str {
    match change {
        Change::Unchanged => "unmodified",
        Change::Added => "added",
        Change::Changed => "modified",
        Change::Deleted => "removed",
    }
}

/// What is searched for in paths: a regular expression, as in dive, or the text itself where it is
/// none. Case does not matter.
pub enum Pattern {
    Expression(regex_lite::Regex),
    Text(String),
}

impl Pattern {
    /// None of an empty text, which everything fits.
    pub fn of(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let text = text.to_lowercase();
        let built = regex_lite::RegexBuilder::new(&text)
            .case_insensitive(true)
            .size_limit(PATTERN_SIZE_MAX)
            .build();
        Some(built.map_or_else(|_| Self::Text(text), Self::Expression))
    }

    fn fits(&self, path: &str) -> bool {
        let path = path.to_lowercase();
        match self {
            Self::Expression(expression) => expression.is_match(&path),
            Self::Text(text) => path.contains(text),
        }
    }
}

impl<'a> Model<'a> {
    pub fn new(analysis: &'a Analysis, report: &'a ImageReport) -> Result<Self> {
        let mut model = Self {
            analysis,
            report,
            pane: Pane::Layers,
            compare: Compare::Layer,
            layer: 0,
            layer_top: 0,
            rows: Vec::new(),
            row: 0,
            row_top: 0,
            hidden: HashSet::new(),
            wasted_only: false,
            by_size: false,
            attributes: true,
            help: false,
            search: String::new(),
            is_typing: false,
            status: String::new(),
            page: 10,
            tree: Tree::new(),
            tree_layer: usize::MAX,
            sizes: Vec::new(),
            wasted: analysis.tree.wasted_by_path(),
            closed: HashSet::new(),
        };
        if analysis.tree.path_count() > OPEN_MAX {
            model.close_deep();
        }
        model.refresh()?;
        Ok(model)
    }

    fn close_deep(&mut self) {
        let tree = &self.analysis.tree;
        for id in 1..tree.path_count() as u32 {
            let parent = tree.parent(id);
            if parent != ROOT && tree.entry(id).kind.is_dir() {
                self.closed.insert(id);
            }
        }
    }

    /// The path under the cursor.
    pub fn chosen(&self) -> Option<u32> {
        self.rows.get(self.row).map(|row| row.id)
    }

    /// Does what a key means.
    pub fn press(&mut self, key: Key) -> Result<Effect> {
        self.status.clear();
        if self.is_typing {
            return self.type_key(key);
        }
        if self.help {
            self.help = false;
            return Ok(Effect::None);
        }
        match key {
            Key::Char('q') | Key::Ctrl('c') => return Ok(Effect::Quit),
            Key::Char('?') => self.help = true,
            Key::Tab => {
                self.pane = if self.pane == Pane::Layers { Pane::Files } else { Pane::Layers };
            }
            Key::Ctrl('f' | '/') | Key::Char('/') => {
                (self.is_typing, self.pane) = (true, Pane::Files);
            }
            Key::Escape => {
                self.search.clear();
                self.refresh()?;
            }
            Key::Ctrl('l') => self.set_compare(Compare::Layer)?,
            _ if self.pane == Pane::Layers => self.press_in_layers(key)?,
            Key::Ctrl('e') => {
                if let Some(id) = self.chosen() {
                    return Ok(self.extract(id));
                }
            }
            key => self.press_in_files(key)?,
        }
        Ok(Effect::None)
    }

    fn extract(&mut self, id: u32) -> Effect {
        if self.tree.place(id).is_some_and(|place| place.entry.is_some()) {
            return Effect::Extract(id);
        }
        "only files can be extracted".clone_into(&mut self.status);
        Effect::None
    }

    fn type_key(&mut self, key: Key) -> Result<Effect> {
        match key {
            Key::Char(char) => self.search.push(char),
            Key::Backspace => drop(self.search.pop()),
            Key::Escape => {
                self.search.clear();
                self.is_typing = false;
            }
            Key::Ctrl('c') => return Ok(Effect::Quit),
            Key::Enter | Key::Tab | Key::Up | Key::Down => self.is_typing = false,
            _ => {}
        }
        self.row = 0;
        self.refresh()?;
        Ok(Effect::None)
    }

    fn set_compare(&mut self, compare: Compare) -> Result<()> {
        self.compare = compare;
        self.refresh()
    }

    fn press_in_layers(&mut self, key: Key) -> Result<()> {
        let last = self.analysis.facts.len().saturating_sub(1);
        let layer = match key {
            Key::Up | Key::Char('k') => self.layer.saturating_sub(1),
            Key::Down | Key::Char('j') => self.layer + 1,
            Key::PageUp => self.layer.saturating_sub(self.page),
            Key::PageDown => self.layer + self.page,
            Key::Home => 0,
            Key::End => last,
            Key::Ctrl('a') => return self.set_compare(Compare::All),
            Key::Right | Key::Enter => {
                self.pane = Pane::Files;
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.layer = layer.min(last);
        self.refresh()
    }

    fn press_in_files(&mut self, key: Key) -> Result<()> {
        match key {
            Key::Up | Key::Char('k') => self.row = self.row.saturating_sub(1),
            Key::Down | Key::Char('j') => self.row += 1,
            Key::PageUp => self.row = self.row.saturating_sub(self.page),
            Key::PageDown => self.row += self.page,
            Key::Home => self.row = 0,
            Key::End => self.row = usize::MAX,
            Key::Char(' ') => return self.toggle_folder(),
            Key::Right => return self.open_folder(),
            Key::Left => return self.leave_folder(),
            Key::Ctrl(' ') => return self.toggle_all(),
            Key::Ctrl('a') => return self.toggle("added"),
            Key::Ctrl('r') => return self.toggle("removed"),
            // Terminals send the same for both.
            Key::Ctrl('m') | Key::Enter => return self.toggle("modified"),
            Key::Ctrl('u') => return self.toggle("unmodified"),
            Key::Ctrl('w') | Key::Char('w') => {
                self.wasted_only = !self.wasted_only;
                return self.refresh();
            }
            Key::Ctrl('o') | Key::Char('s') => {
                self.by_size = !self.by_size;
                return self.refresh();
            }
            Key::Ctrl('b') => self.attributes = !self.attributes,
            Key::Char('i') | Key::Ctrl('g') => return self.go_to_instruction(),
            _ => {}
        }
        self.row = self.row.min(self.rows.len().saturating_sub(1));
        Ok(())
    }

    fn toggle(&mut self, word: &'static str) -> Result<()> {
        if !self.hidden.remove(word) {
            self.hidden.insert(word);
        }
        self.refresh()
    }

    fn toggle_folder(&mut self) -> Result<()> {
        let Some(id) = self.chosen() else { return Ok(()) };
        if self.tree.entry(id).kind.is_dir() && !self.closed.remove(&id) {
            self.closed.insert(id);
        }
        self.refresh()
    }

    fn open_folder(&mut self) -> Result<()> {
        let Some(id) = self.chosen() else { return Ok(()) };
        self.closed.remove(&id);
        self.refresh()
    }

    /// Closes the folder under the cursor, or goes to the one that the cursor is in.
    fn leave_folder(&mut self) -> Result<()> {
        let Some(id) = self.chosen() else { return Ok(()) };
        let is_open = self.tree.entry(id).kind.is_dir() && !self.closed.contains(&id);
        if is_open && !self.tree.children(id).is_empty() {
            self.closed.insert(id);
            return self.refresh();
        }
        let parent = self.tree.parent(id);
        if let Some(row) = self.rows.iter().position(|row| row.id == parent) {
            self.row = row;
        }
        Ok(())
    }

    fn toggle_all(&mut self) -> Result<()> {
        if self.closed.is_empty() {
            let tree = &self.analysis.tree;
            let folders = (1..tree.path_count() as u32).filter(|id| tree.entry(*id).kind.is_dir());
            self.closed = folders.collect();
        } else {
            self.closed.clear();
        }
        self.refresh()
    }

    /// Goes to the layer that the file under the cursor comes from.
    fn go_to_instruction(&mut self) -> Result<()> {
        let Some(id) = self.chosen() else { return Ok(()) };
        let from = self.tree.entry(id).layer;
        let path = self.tree.path_text(id);
        self.layer = from;
        self.refresh()?;
        if let Some(row) = self.rows.iter().position(|row| row.id == id) {
            self.row = row;
        }
        self.status = format!("{path} comes from layer {from}");
        Ok(())
    }

    /// Makes the rows anew.
    pub fn refresh(&mut self) -> Result<()> {
        let last = self.analysis.facts.len().saturating_sub(1);
        self.layer = self.layer.min(last);
        if self.tree_layer != self.layer {
            self.tree = Tree::of(&self.layers_up_to(self.layer))?;
            self.sizes = self.tree.sizes();
            self.tree_layer = self.layer;
        }
        let chosen = self.chosen();
        self.rows = self.make_rows();
        if let Some(row) = chosen.and_then(|id| self.rows.iter().position(|row| row.id == id)) {
            self.row = row;
        }
        self.row = self.row.min(self.rows.len().saturating_sub(1));
        Ok(())
    }

    fn layers_up_to(&self, layer: usize) -> Vec<Arc<conex_inventory::LayerReport>> {
        self.analysis.tree.reports().iter().take(layer + 1).cloned().collect()
    }

    fn make_rows(&self) -> Vec<Row> {
        let first = match self.compare {
            Compare::Layer => self.layer,
            // As dive: everything above the first layer.
            Compare::All => self.layer.min(1),
        };
        let count = self.tree.path_count();
        let mut changes: Vec<Option<Change>> =
            (0..count as u32).map(|id| self.tree.change_since(id, first)).collect();
        // A folder in which something changed has changed.
        for id in (1..count).rev() {
            let parent = self.tree.parent(id as u32) as usize;
            let is_changed = changes[id].is_some_and(|change| change != Change::Unchanged);
            if is_changed && changes[parent] == Some(Change::Unchanged) {
                changes[parent] = Some(Change::Changed);
            }
        }
        let pattern = Pattern::of(&self.search);
        let mut is_shown = vec![false; count];
        for id in (1..count).rev() {
            let Some(change) = changes[id] else { continue };
            let fits = !self.hidden.contains(word(change))
                && (!self.wasted_only || self.wasted.get(id).is_some_and(|size| *size > 0))
                && pattern.as_ref().is_none_or(|one| one.fits(&self.tree.path_text(id as u32)));
            is_shown[id] |= fits;
            if is_shown[id] {
                is_shown[self.tree.parent(id as u32) as usize] = true;
            }
        }
        let mut rows = Vec::new();
        let mut todo: Vec<(u32, String, String)> = Vec::new();
        self.push_children(&mut todo, ROOT, "", &is_shown);
        while let Some((id, lead, below)) = todo.pop() {
            let change = changes[id as usize].unwrap_or(Change::Unchanged);
            rows.push(Row { id, lead, change });
            if !self.closed.contains(&id) || pattern.is_some() {
                self.push_children(&mut todo, id, &below, &is_shown);
            }
        }
        rows
    }

    fn push_children(
        &self,
        todo: &mut Vec<(u32, String, String)>,
        id: u32,
        lead: &str,
        is_shown: &[bool],
    ) {
        let mut children = self.tree.children(id);
        children.retain(|child| is_shown[*child as usize]);
        if self.by_size {
            children.sort_by_key(|child| std::cmp::Reverse(self.size(*child)));
        }
        for (at, child) in children.iter().enumerate().rev() {
            let is_last = at + 1 == children.len();
            let (line, below) =
                if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            let below = if lead.len() > LEAD_LEN_MAX { "" } else { below };
            todo.push((*child, format!("{lead}{line}"), format!("{lead}{below}")));
        }
    }

    /// Bytes at and below a path; of what is gone, those that it had.
    pub fn size(&self, id: u32) -> u64 {
        let entry = self.tree.entry(id);
        if entry.is_there { self.sizes[id as usize] } else { entry.size }
    }

    /// Whether a folder is shown closed.
    pub fn is_closed(&self, id: u32) -> bool {
        self.search.is_empty() && self.closed.contains(&id) && !self.tree.children(id).is_empty()
    }
}
