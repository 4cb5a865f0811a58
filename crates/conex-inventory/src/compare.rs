//! What differs between two images.

use std::collections::BTreeMap;

use conex_oci::ImageConfig;
use serde::Serialize;
use serde_json::Value;

use crate::image::shown;
use crate::layer::{Kind, NONE, ROOT};
use crate::packages::{Installed, PackageList};
use crate::tree::Tree;

/// A field of the config that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// Where it is: `Env.PATH`, `Cmd`, `Labels.version`, `platform`.
    pub field: String,
    /// What the first image has.
    pub before: Option<Value>,
    /// What the second image has.
    pub after: Option<Value>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChange {
    /// The path.
    pub path: String,
    /// `added`, `deleted`, `changed`.
    pub change: &'static str,
    /// What is different of a changed one: `content`, `kind`, `mode`, `owner`, `target`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
    /// What it is, in the image that has it (the second if both).
    pub kind: &'static str,
    /// Bytes in the first image.
    pub size_before: u64,
    /// Bytes in the second image.
    pub size_after: u64,
}

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageChange {
    /// Who installed it.
    pub manager: &'static str,
    /// Its name.
    pub name: String,
    /// Its version in the first image.
    pub before: Option<String>,
    /// Its version in the second image.
    pub after: Option<String>,
}

/// Files that differ, counted, and the largest of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileChanges {
    /// Only in the second image.
    pub added: u64,
    /// Only in the first.
    pub deleted: u64,
    /// In both, and different.
    pub changed: u64,
    /// The files, by path.
    pub files: Vec<FileChange>,
}

/// What differs between two images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// How many layers from the lowest on are the same.
    pub shared_layers: usize,
    /// The config.
    pub config: Vec<ConfigChange>,
    /// The files.
    pub files: FileChanges,
    /// The packages.
    pub packages: Vec<PackageChange>,
}

impl Comparison {
    /// Compares two images.
    pub fn of(before: (&ImageConfig, &Tree), after: (&ImageConfig, &Tree)) -> Self {
        let (one, other) = (&before.0.rootfs.diff_ids, &after.0.rootfs.diff_ids);
        let shared_layers = one.iter().zip(other).take_while(|(a, b)| a == b).count();
        Self {
            shared_layers,
            config: config_changes(before.0, after.0),
            files: file_changes(before.1, after.1),
            packages: package_changes(
                &PackageList::of(before.1).packages,
                &PackageList::of(after.1).packages,
            ),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.config.is_empty() && self.files.files.is_empty() && self.packages.is_empty()
    }
}

fn config_changes(before: &ImageConfig, after: &ImageConfig) -> Vec<ConfigChange> {
    let (before, after) = (fields(before), fields(after));
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&&String| before.get(**name) != after.get(**name);
    let change = |name: &String| ConfigChange {
        field: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    names.iter().filter(differs).map(|name| change(name)).collect()
}

/// The fields of a config, one a line: what is a list of settings is taken apart.
fn fields(config: &ImageConfig) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    fields.insert("platform".to_owned(), Value::from(config.platform.to_string()));
    if !config.author.is_empty() {
        fields.insert("author".to_owned(), Value::from(config.author.clone()));
    }
    for pair in &config.config.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        fields.insert(format!("Env.{name}"), Value::from(value));
    }
    // Strings and numbers always serialise.
    let all = serde_json::to_value(&config.config).unwrap_or_default();
    for (name, value) in all.as_object().into_iter().flatten() {
        match value {
            _ if name == "Env" => {}
            Value::Object(inner) if name != "Healthcheck" => {
                for (key, value) in inner {
                    fields.insert(format!("{name}.{key}"), value.clone());
                }
            }
            value => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    fields
}

fn file_changes(before: &Tree, after: &Tree) -> FileChanges {
    let mut changes = FileChanges::default();
    // Pairs of the same path; none where an image does not have it.
    let mut todo = vec![(ROOT, ROOT)];
    while let Some((one, other)) = todo.pop() {
        let mut pairs: BTreeMap<&[u8], (u32, u32)> = BTreeMap::new();
        for child in children(before, one) {
            pairs.insert(before.name(child), (child, NONE));
        }
        for child in children(after, other) {
            pairs.entry(after.name(child)).or_insert((NONE, NONE)).1 = child;
        }
        for (one, other) in pairs.into_values() {
            if let Some(change) = file_change(before, one, after, other) {
                match change.change {
                    "added" => changes.added += 1,
                    "deleted" => changes.deleted += 1,
                    _ => changes.changed += 1,
                }
                changes.files.push(change);
            }
            todo.push((one, other));
        }
    }
    changes.files.sort_by(|one, other| one.path.cmp(&other.path));
    changes
}

fn children(tree: &Tree, dir: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut at = if dir == NONE { NONE } else { tree.paths[dir as usize].first_child };
    while at != NONE {
        let path = &tree.paths[at as usize];
        if path.alive {
            found.push(at);
        }
        at = path.next;
    }
    found
}

fn file_change(before: &Tree, one: u32, after: &Tree, other: u32) -> Option<FileChange> {
    let size = |tree: &Tree, at: u32| match tree.paths.get(at as usize) {
        Some(path) => tree.content(path.content).map_or(0, |content| content.size),
        None => 0,
    };
    let (size_before, size_after) = (size(before, one), size(after, other));
    let (tree, at) = if other == NONE { (before, one) } else { (after, other) };
    let kind = tree.node_at(tree.paths[at as usize].now).kind.word();
    let (change, what) = match (one, other) {
        (NONE, _) => ("added", Vec::new()),
        (_, NONE) => ("deleted", Vec::new()),
        (one, other) => {
            let what = differences(before, one, after, other);
            if what.is_empty() {
                return None;
            }
            ("changed", what)
        }
    };
    let path = shown(&tree.full_path(at));
    Some(FileChange { path, change, what, kind, size_before, size_after })
}

/// What of a path is different. Times are not looked at: they differ from build to build.
fn differences(before: &Tree, one: u32, after: &Tree, other: u32) -> Vec<&'static str> {
    let (one, other) = (before.paths[one as usize], after.paths[other as usize]);
    let (old, new) = (before.node_at(one.now), after.node_at(other.now));
    let mut what = Vec::new();
    if old.kind.word() != new.kind.word() {
        return vec!["kind"];
    }
    let is_same = match (before.content(one.content), after.content(other.content)) {
        (Some(old), Some(new)) => old.equals(new),
        (old, new) => old.is_none() && new.is_none(),
    };
    if !is_same {
        what.push("content");
    }
    if old.kind == Kind::Symlink {
        let target = |tree: &Tree, now: crate::tree::At| {
            tree.layers[usize::from(now.layer)].link(now.node).to_vec()
        };
        if target(before, one.now) != target(after, other.now) {
            what.push("target");
        }
    }
    if old.mode != new.mode {
        what.push("mode");
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        what.push("owner");
    }
    what
}

fn package_changes(before: &[Installed], after: &[Installed]) -> Vec<PackageChange> {
    type Versions = (Vec<String>, Vec<String>);
    let mut all: BTreeMap<(&'static str, String), Versions> = BTreeMap::new();
    for (packages, is_after) in [(before, false), (after, true)] {
        for Installed { package, .. } in packages {
            let versions = all.entry((package.manager.word(), package.name.clone())).or_default();
            let versions = if is_after { &mut versions.1 } else { &mut versions.0 };
            if !versions.contains(&package.version) {
                versions.push(package.version.clone());
            }
        }
    }
    let joined = |versions: &[String]| (!versions.is_empty()).then(|| versions.join(", "));
    all.into_iter()
        .filter(|(_, (before, after))| before != after)
        .map(|((manager, name), (before, after))| PackageChange {
            manager,
            name,
            before: joined(&before),
            after: joined(&after),
        })
        .collect()
}
