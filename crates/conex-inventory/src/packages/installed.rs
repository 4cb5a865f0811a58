//! The packages of an image: those that some layer's file names and that are seen at the end.
//!
//! A file of the top layer may name what a lower layer brought: a database is written anew whenever
//! something is installed. A package's layer is the lowest from which on every version of the file
//! names it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::{Form, Package, purl, python_of};
use crate::image::shown;
use crate::layer::{Database, NONE};
use crate::tree::{ContentAt, Tree};

/// What an image says that it is made of (`os-release`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// Its short name: `debian`, `alpine`, `rhel`.
    pub id: String,
    /// Its version, if it has versions.
    pub version: String,
    /// What it calls itself.
    pub name: String,
}

impl Distribution {
    /// Reads lines of `KEY=value`, quoted as for a shell.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut distribution = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else { continue };
            let is_quoted = |mark: char| value.starts_with(mark) && value.ends_with(mark);
            let value = match value.len() {
                2.. if is_quoted('"') || is_quoted('\'') => &value[1..value.len() - 1],
                _ => value,
            };
            let place = match key {
                "ID" => &mut distribution.id,
                "VERSION_ID" => &mut distribution.version,
                "PRETTY_NAME" => &mut distribution.name,
                _ => continue,
            };
            value.chars().take(200).collect::<String>().clone_into(place);
        }
        (!distribution.id.is_empty()).then_some(distribution)
    }
}

/// A package of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Installed {
    /// What its manager says of it.
    #[serde(flatten)]
    pub package: Package,
    /// The package URL.
    pub purl: String,
    /// The number of the layer that brought it.
    pub layer: usize,
    /// The files that name it.
    pub paths: Vec<String>,
}

/// The packages of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageList {
    /// What the image is made of, if it says so.
    pub distribution: Option<Distribution>,
    /// The packages, by manager and name.
    pub packages: Vec<Installed>,
    /// Files that should name packages and could not be read, with the reason.
    pub unread: Vec<String>,
}

impl PackageList {
    /// Lists the packages of an image.
    pub fn of(tree: &Tree) -> Self {
        let distribution = distribution(tree);
        let mut found: BTreeMap<Package, (usize, Vec<String>)> = BTreeMap::new();
        let known = Known::of(tree);
        let seen = known.seen(tree);
        for seen in &seen {
            let layers = known.layers(seen);
            for (package, layer) in seen.database.packages.iter().zip(layers) {
                let place = found.entry(package.clone()).or_insert((layer, Vec::new()));
                place.0 = place.0.min(layer);
                place.1.extend(seen.paths.iter().cloned());
            }
        }
        for (package, layer, path) in known.python_folders(tree) {
            found.entry(package).or_insert((layer, Vec::new())).1.push(path);
        }
        let installed = |(package, (layer, mut paths)): (Package, (usize, Vec<String>))| {
            paths.sort_unstable();
            paths.dedup();
            let purl = purl::purl(&package, distribution.as_ref());
            Installed { package, purl, layer, paths }
        };
        let packages = found.into_iter().map(installed).collect();
        Self { packages, unread: problems(&seen), distribution }
    }
}

/// Every file of every layer that names packages.
struct Known<'t> {
    by_content: HashMap<ContentAt, &'t Database>,
    /// By the first path that each was seen at, the lowest layer first.
    by_path: HashMap<u32, Vec<(usize, &'t Database)>>,
}

impl<'t> Known<'t> {
    fn of(tree: &'t Tree) -> Self {
        let mut known = Self { by_content: HashMap::new(), by_path: HashMap::new() };
        for (layer, report) in tree.layers.iter().enumerate() {
            for database in &report.databases {
                let at = ContentAt { layer: layer as u16, content: database.content };
                known.by_content.insert(at, database);
                let path = tree.fates[layer][database.content as usize].path;
                if path != NONE {
                    known.by_path.entry(path).or_default().push((layer, database));
                }
            }
        }
        known
    }

    /// The files that are seen at the end.
    fn seen(&self, tree: &Tree) -> Vec<Seen<'t>> {
        let mut found: HashMap<ContentAt, Seen<'t>> = HashMap::new();
        for (id, path) in tree.paths.iter().enumerate().filter(|(_, path)| path.alive) {
            let Some(database) = self.by_content.get(&path.content) else { continue };
            let text = tree.full_path(id as u32);
            // Another name of the same file may be a database that was put aside.
            if database.form != Form::Program && Form::at(&text) != Some(database.form) {
                continue;
            }
            let at = path.content;
            let entry = found.entry(at).or_insert_with(|| Seen {
                database,
                layer: usize::from(at.layer),
                paths: Vec::new(),
                home: NONE,
            });
            entry.paths.push(shown(&text));
            if tree.fates[usize::from(at.layer)][at.content as usize].path == id as u32 {
                entry.home = id as u32;
            }
        }
        found.into_values().collect()
    }

    /// The layer of each package of a file.
    fn layers(&self, seen: &Seen<'_>) -> Vec<usize> {
        let packages = &seen.database.packages;
        let mut layers = vec![seen.layer; packages.len()];
        let mut rest: Vec<usize> = (0..packages.len()).collect();
        let history = self.by_path.get(&seen.home).map(Vec::as_slice).unwrap_or_default();
        let before = history.iter().rev().filter(|(layer, _)| *layer < seen.layer);
        for (layer, lower) in before.filter(|(_, lower)| lower.form == seen.database.form) {
            let names: HashSet<_> = lower.packages.iter().map(identity).collect();
            rest.retain(|at| names.contains(&identity(&packages[*at])));
            if rest.is_empty() {
                break;
            }
            for at in &rest {
                layers[*at] = *layer;
            }
        }
        layers
    }

    /// Python distributions of which there is the folder, and no metadata that can be read.
    fn python_folders(&self, tree: &Tree) -> Vec<(Package, usize, String)> {
        let mut found = Vec::new();
        for (id, path) in tree.paths.iter().enumerate().filter(|(_, path)| path.alive) {
            let id = id as u32;
            let name = tree.name(id);
            if !name.ends_with(b"-info") || !tree.entry(id).kind.is_dir() {
                continue;
            }
            let is_read = [b"METADATA".as_slice(), b"PKG-INFO"].iter().any(|name| {
                let file = tree.lookup(id, name).map(|file| tree.paths[file as usize]);
                file.is_some_and(|file| file.alive && self.by_content.contains_key(&file.content))
            });
            if let Some(package) = python_of(name).filter(|_| !is_read) {
                found.push((package, usize::from(path.born), shown(&tree.full_path(id))));
            }
        }
        found
    }
}

/// A file that names packages and is seen at the end, with all its names.
struct Seen<'t> {
    database: &'t Database,
    layer: usize,
    paths: Vec<String>,
    /// The path that it came with, if that still is one of its names.
    home: u32,
}

/// What makes a package the same as one in another version of the file.
fn identity(package: &Package) -> (&str, &str, &str, &str) {
    (&package.name, &package.version, &package.architecture, &package.inside)
}

fn problems(seen: &[Seen<'_>]) -> Vec<String> {
    let mut all: Vec<String> = seen
        .iter()
        .filter(|seen| !seen.database.problem.is_empty())
        .flat_map(|seen| seen.paths.iter().map(|path| (path, &seen.database.problem)))
        .map(|(path, problem)| format!("{path}: {problem}"))
        .collect();
    all.sort_unstable();
    all
}

fn distribution(tree: &Tree) -> Option<Distribution> {
    // The first is most often a link to the second.
    [b"etc/os-release".as_slice(), b"usr/lib/os-release"].iter().find_map(|path| {
        let at = tree.paths[tree.resolve(path, true)? as usize].content;
        let report = tree.layers.get(usize::from(at.layer))?;
        let release = report.releases.iter().find(|release| release.content == at.content)?;
        Some(release.distribution.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_however_it_is_quoted() {
        for (text, expected) in [
            (
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n",
                Some(("debian", "12", "Debian GNU/Linux 12 (bookworm)")),
            ),
            ("ID='ol'\nVERSION_ID='8.9'\n# ID=no\n", Some(("ol", "8.9", ""))),
            ("ID=arch\n", Some(("arch", "", ""))),
            ("ID=\"\nVERSION_ID=1\n", Some(("\"", "1", ""))),
            ("NAME=nothing\n", None),
        ] {
            let found = Distribution::parse(text);
            let found =
                found.as_ref().map(|it| (it.id.as_str(), it.version.as_str(), it.name.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
