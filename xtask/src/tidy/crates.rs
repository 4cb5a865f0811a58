//! Who depends on whom, against the tables in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Finding;
use crate::shell::{Result, cargo, output};

const PAGE: &str = "ARCHITECTURE.md";
/// Most packages that the whole workspace may bring in: each costs time to build and to trust.
const PACKAGE_COUNT_MAX: usize = 300;
/// Crates that parse what comes from outside; each has fuzz targets.
const PARSERS: &[&str] = &["conex-dockerfile", "conex-elf", "conex-layer", "conex-oci"];

/// What a crate may use, from the first table.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    /// The word "all".
    All,
    These(BTreeSet<String>),
}

/// The tables of ARCHITECTURE.md.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    /// By crate: the line, and what it may use of ours.
    crates: BTreeMap<String, (usize, Allowed)>,
    /// By dependency from outside: the line, and who may use it.
    owners: BTreeMap<String, (usize, BTreeSet<String>)>,
}

/// A crate of the workspace, from cargo.
#[derive(Debug)]
struct Package {
    name: String,
    manifest: PathBuf,
    /// What it is built from, without what only its tests use.
    ours: BTreeSet<String>,
    foreign: BTreeSet<String>,
    /// Dependencies without a version.
    wildcards: BTreeSet<String>,
}

/// Checks the workspace's crates.
pub(crate) fn check(root: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    let read = |name: &str| {
        std::fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))
    };
    let page = Page::parse(&read(PAGE)?, findings);
    let metadata = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let packages = packages(&metadata)?;
    compare(&page, &packages, findings);
    for package in &packages {
        check_folder(root, package, findings);
    }
    let package_count = read("Cargo.lock")?.lines().filter(|line| *line == "[[package]]").count();
    if package_count > PACKAGE_COUNT_MAX {
        let message = format!("{package_count} packages, {PACKAGE_COUNT_MAX} are allowed");
        findings.push(Finding::new("Cargo.lock", 1, message));
    }
    Ok(())
}

impl Page {
    fn parse(text: &str, findings: &mut Vec<Finding>) -> Self {
        let mut page = Self::default();
        let mut header: Vec<String> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let Some(cells) = cells(line) else {
                header.clear();
                continue;
            };
            if header.is_empty() {
                header = cells.into_iter().map(str::to_owned).collect();
                continue;
            }
            let cell = |name: &str| {
                let at = header.iter().position(|column| column == name)?;
                cells.get(at).copied()
            };
            let unquoted = |text: &str| text.trim_matches('`').to_owned();
            if let (Some(name), Some(uses)) = (cell("crate"), cell("may use")) {
                if is_rule(name) {
                    continue;
                }
                if cell("must not know").is_none_or(str::is_empty) {
                    let message = format!("{name}: say what it must not know");
                    findings.push(Finding::new(PAGE, index + 1, message));
                }
                page.crates.insert(unquoted(name), (index + 1, Allowed::parse(uses)));
            } else if let (Some(name), Some(owners)) = (cell("dependency"), cell("only in"))
                && !is_rule(name)
            {
                let owners = owners.split(',').map(|owner| unquoted(owner.trim())).collect();
                page.owners.insert(unquoted(name), (index + 1, owners));
            }
        }
        page
    }
}

impl Allowed {
    fn parse(cell: &str) -> Self {
        match cell {
            "all" => Self::All,
            "–" | "-" | "" => Self::These(BTreeSet::new()),
            names => {
                Self::These(names.split(',').map(|name| format!("conex-{}", name.trim())).collect())
            }
        }
    }
}

/// The cells of a table's row; none for other lines.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// Whether a cell is part of the line under a table's header.
fn is_rule(cell: &str) -> bool {
    cell.starts_with("---")
}

fn packages(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata).map_err(|error| error.to_string())?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut packages = Vec::new();
    for package in list(&metadata["packages"]) {
        let mut found = Package {
            name: text(&package["name"]),
            manifest: PathBuf::from(text(&package["manifest_path"])),
            ours: BTreeSet::new(),
            foreign: BTreeSet::new(),
            wildcards: BTreeSet::new(),
        };
        for dependency in list(&package["dependencies"]) {
            let name = text(&dependency["name"]);
            let is_ours = !dependency["path"].is_null();
            if !is_ours && dependency["req"] == "*" {
                found.wildcards.insert(name.clone());
            }
            if dependency["kind"] == "dev" {
                continue;
            }
            if is_ours {
                found.ours.insert(name)
            } else {
                found.foreign.insert(name)
            };
        }
        packages.push(found);
    }
    Ok(packages)
}

fn compare(page: &Page, packages: &[Package], findings: &mut Vec<Finding>) {
    for package in packages {
        let name = &package.name;
        let manifest = manifest_name(package);
        let Some((line, allowed)) = page.crates.get(name) else {
            let message = format!("`{name}` is not in the table of crates");
            findings.push(Finding::new(PAGE, 1, message));
            continue;
        };
        if let Allowed::These(allowed) = allowed {
            for extra in package.ours.difference(allowed) {
                let message = format!("`{name}` may not use `{extra}`; see {PAGE}");
                findings.push(Finding::new(&manifest, 1, message));
            }
            for absent in allowed.difference(&package.ours) {
                let message = format!("`{name}` does not use `{absent}`: take it out of the row");
                findings.push(Finding::new(PAGE, *line, message));
            }
        }
        for (dependency, (_, owners)) in &page.owners {
            if package.foreign.contains(dependency) && !owners.contains(name) {
                let message = format!("`{dependency}` is for {owners:?} only; see {PAGE}");
                findings.push(Finding::new(&manifest, 1, message));
            }
        }
        for wildcard in &package.wildcards {
            let message = format!("`{wildcard}` has no version");
            findings.push(Finding::new(&manifest, 1, message));
        }
    }
    for (name, (line, _)) in &page.crates {
        if !packages.iter().any(|package| package.name == *name) {
            let message = format!("`{name}` is no crate of the workspace");
            findings.push(Finding::new(PAGE, *line, message));
        }
    }
    for (dependency, (line, _)) in &page.owners {
        if !packages.iter().any(|package| package.foreign.contains(dependency)) {
            let message = format!("nothing depends on `{dependency}`");
            findings.push(Finding::new(PAGE, *line, message));
        }
    }
}

fn manifest_name(package: &Package) -> PathBuf {
    match package.name.as_str() {
        "xtask" => PathBuf::from("xtask/Cargo.toml"),
        name => Path::new("crates").join(name).join("Cargo.toml"),
    }
}

/// What stands in a crate's folder beside its sources.
fn check_folder(root: &Path, package: &Package, findings: &mut Vec<Finding>) {
    let manifest = manifest_name(package);
    if package.manifest != root.join(&manifest) {
        let message = "a crate's folder has its name and is in `crates`";
        findings.push(Finding::new(&package.manifest, 1, message));
        return;
    }
    let text = std::fs::read_to_string(&package.manifest).unwrap_or_default();
    let squeezed: String = text.split_whitespace().collect();
    if !squeezed.contains("[lints]workspace=true") {
        findings.push(Finding::new(&manifest, 1, "take the workspace's lints"));
    }
    let folder = package.manifest.parent().unwrap_or(root);
    if PARSERS.contains(&package.name.as_str()) && !folder.join("fuzz/fuzz_targets").is_dir() {
        findings.push(Finding::new(&manifest, 1, "a parser has fuzz targets, in `fuzz`"));
    }
    for entry in std::fs::read_dir(folder.join("tests")).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let file = manifest.with_file_name("tests").join(entry.file_name());
            let message = "one integration binary a crate: move this into `tests/it`";
            findings.push(Finding::new(file, 1, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "\
| layer | crate | what it is | may use | must not know |
|---|---|---|---|---|
| 0 | `conex-a` | words | – | files |
| 1 | `conex-b` | more | a | files |
| 4 | `conex` | all | all | – |

Text between.

| dependency | only in | why |
|---|---|---|
| `ureq` | conex-b, conex | one place |
";

    fn package(name: &str, ours: &[&str], foreign: &[&str]) -> Package {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Package {
            name: name.to_owned(),
            manifest: PathBuf::new(),
            ours: set(ours),
            foreign: set(foreign),
            wildcards: BTreeSet::new(),
        }
    }

    fn found(packages: &[Package]) -> Vec<String> {
        let mut findings = Vec::new();
        let page = Page::parse(TABLES, &mut findings);
        compare(&page, packages, &mut findings);
        findings
            .iter()
            .map(|one| format!("{}:{}: {}", one.file.display(), one.line, one.message))
            .collect()
    }

    #[test]
    fn workspace_that_is_as_written_has_no_findings() {
        let packages = [
            package("conex-a", &[], &["serde"]),
            package("conex-b", &["conex-a"], &["ureq"]),
            package("conex", &["conex-a", "conex-b"], &["ureq"]),
        ];
        assert_eq!(found(&packages), [""; 0]);
    }

    #[test]
    fn each_difference_is_named_at_its_place() {
        let packages = [
            package("conex-a", &["conex-b"], &["ureq"]),
            package("conex-b", &[], &[]),
            package("conex-c", &[], &[]),
        ];
        assert_eq!(
            found(&packages),
            [
                "crates/conex-a/Cargo.toml:1: `conex-a` may not use `conex-b`; see ARCHITECTURE.md",
                "crates/conex-a/Cargo.toml:1: `ureq` is for {\"conex\", \"conex-b\"} only; \
                 see ARCHITECTURE.md",
                "ARCHITECTURE.md:4: `conex-b` does not use `conex-a`: take it out of the row",
                "ARCHITECTURE.md:1: `conex-c` is not in the table of crates",
                "ARCHITECTURE.md:5: `conex` is no crate of the workspace",
            ]
        );
    }

    #[test]
    fn cargo_metadata_is_read_without_test_dependencies() {
        let metadata = r#"{"packages": [{"name": "conex-b", "manifest_path": "/x/Cargo.toml",
            "dependencies": [
                {"name": "conex-a", "path": "/x/a", "kind": null, "req": "*"},
                {"name": "ureq", "kind": null, "req": "^3"},
                {"name": "loose", "kind": "build", "req": "*"},
                {"name": "insta", "kind": "dev", "req": "^1"}
            ]}]}"#;
        let packages = packages(metadata).unwrap();
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&packages[0].ours), "conex-a");
        assert_eq!(names(&packages[0].foreign), "loose ureq");
        assert_eq!(names(&packages[0].wildcards), "loose");
    }
}
