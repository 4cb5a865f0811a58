//! Packages of languages, as their installers describe them: one file each, or one list.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Manager, Package};
use crate::error::{Error, Result};

/// Longest name, version or licence that is taken for one.
const TEXT_LEN_MAX: usize = 4096;

/// Python's `METADATA` and `PKG-INFO`: fields, then the description.
pub(super) fn python(text: &str) -> Vec<Package> {
    let mut package = Package::new(Manager::Python, "", "");
    let mut expression = String::new();
    for line in text.lines().take_while(|line| !line.trim_end().is_empty()) {
        let Some((key, value)) = line.split_once(": ") else { continue };
        let value = value.trim();
        match key {
            "Name" => value.clone_into(&mut package.name),
            "Version" => value.clone_into(&mut package.version),
            "License" if value != "UNKNOWN" => value.clone_into(&mut package.license),
            "License-Expression" => value.clone_into(&mut expression),
            _ => {}
        }
    }
    // The newer field is the one with an agreed form (PEP 639).
    if !expression.is_empty() {
        package.license = expression;
    }
    whole(package).into_iter().collect()
}

/// The package of an installed Python distribution, known by the name of its folder alone
/// (PEP 376): `requests-2.31.0.dist-info`.
pub(crate) fn python_of(folder: &[u8]) -> Option<Package> {
    let text = std::str::from_utf8(folder).ok()?;
    let stem = text.strip_suffix(".dist-info").or_else(|| text.strip_suffix(".egg-info"))?;
    let (name, version) = stem.split_once('-')?;
    // An egg's folder names the interpreter behind the version.
    let version = version.split("-py").next().unwrap_or(version);
    let is_version = version.starts_with(|first: char| first.is_ascii_digit());
    (is_version && !name.is_empty()).then(|| Package::new(Manager::Python, name, version))
}

/// What a document of a package has in common with others'.
#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    license: Value,
    #[serde(default)]
    licenses: Value,
    #[serde(default)]
    subdir: String,
    #[serde(default)]
    size: Value,
}

impl Described {
    fn package(self, manager: Manager) -> Option<Package> {
        let mut package = Package::new(manager, self.name, self.version);
        let license = license(&self.license);
        package.license = if license.is_empty() { self::license(&self.licenses) } else { license };
        whole(package)
    }
}

/// A licence in the shapes that npm has had: a text, an object, a list of either.
fn license(value: &Value) -> String {
    let one = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    };
    match value {
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(one).filter(|one| !one.is_empty()).collect();
            all.join(" OR ")
        }
        value => one(value),
    }
}

/// npm's `package.json`.
pub(super) fn npm(text: &str) -> Result<Vec<Package>> {
    let described: Described = document(text)?;
    Ok(described.package(Manager::Npm).into_iter().collect())
}

/// A file of `conda-meta`.
pub(super) fn conda(text: &str) -> Result<Vec<Package>> {
    let mut described: Described = document(text)?;
    let architecture = std::mem::take(&mut described.subdir);
    let size = described.size.as_u64().unwrap_or(0);
    let package = described.package(Manager::Conda);
    Ok(package.map(|package| Package { architecture, size, ..package }).into_iter().collect())
}

/// Composer's `installed.json`: a list (version 1), or an object with one.
pub(super) fn composer(text: &str) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Installed {
        List(Vec<Described>),
        Object { packages: Vec<Described> },
    }
    let (Installed::List(list) | Installed::Object { packages: list }) = document(text)?;
    Ok(list.into_iter().filter_map(|one| one.package(Manager::Composer)).collect())
}

/// .NET's `*.deps.json`: libraries are named `Name/Version`; those of type `package` came from
/// somewhere.
pub(super) fn nuget(text: &str) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Dependencies {
        #[serde(default)]
        libraries: BTreeMap<String, Library>,
    }
    #[derive(Deserialize)]
    struct Library {
        #[serde(rename = "type", default)]
        kind: String,
    }
    let dependencies: Dependencies = document(text)?;
    let package = |(name, library): (String, Library)| {
        let (name, version) = name.split_once('/').filter(|_| library.kind == "package")?;
        whole(Package::new(Manager::Nuget, name, version))
    };
    Ok(dependencies.libraries.into_iter().filter_map(package).collect())
}

/// RubyGems' specification of an installed gem, which is Ruby: lines as `s.name = "rake".freeze`.
pub(super) fn gem(text: &str) -> Vec<Package> {
    let mut package = Package::new(Manager::Gem, "", "");
    for line in text.lines() {
        let Some((left, right)) = line.trim().split_once(" = ") else { continue };
        let Some((_, field)) = left.rsplit_once('.') else { continue };
        let Some(value) = quoted(right) else { continue };
        let place = match field {
            "name" => &mut package.name,
            "version" => &mut package.version,
            "platform" => &mut package.architecture,
            "license" => &mut package.license,
            "licenses" => {
                let all: Vec<&str> = right.split(',').filter_map(quoted).collect();
                package.license = all.join(" OR ");
                continue;
            }
            _ => continue,
        };
        // The first says it: what comes later may be about dependencies.
        if place.is_empty() {
            value.clone_into(place);
        }
    }
    whole(package).into_iter().collect()
}

/// The first text in quotes.
fn quoted(text: &str) -> Option<&str> {
    let start = text.find(['"', '\''])?;
    let quote = text[start..].chars().next()?;
    let rest = &text[start + 1..];
    rest.find(quote).map(|end| &rest[..end])
}

pub(super) fn document<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::document("a description of packages", error))
}

/// A package that has a name and a version of sane length.
pub(super) fn whole(mut package: Package) -> Option<Package> {
    let is_sane = |text: &str| (1..=TEXT_LEN_MAX).contains(&text.len());
    // Whole texts of licences are put there, too.
    let line = package.license.lines().next().unwrap_or_default().trim();
    if line.len() < package.license.len() || line.len() > 200 {
        package.license = line.chars().take(200).collect();
    }
    (is_sane(&package.name) && is_sane(&package.version)).then_some(package)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Packages, one a line.
    pub(crate) fn shown(packages: &[Package]) -> String {
        let show = |package: &Package| {
            let mut line =
                format!("{} {} {}", package.manager.word(), package.name, package.version);
            for (name, value) in [
                ("arch", package.architecture.clone()),
                (
                    "source",
                    match package.source_version.as_str() {
                        "" => package.source.clone(),
                        version => format!("{}@{version}", package.source),
                    },
                ),
                ("license", package.license.clone()),
                ("inside", package.inside.clone()),
                ("size", if package.size > 0 { package.size.to_string() } else { String::new() }),
            ] {
                if !value.is_empty() {
                    line.push_str(&format!(" {name}={value}"));
                }
            }
            line
        };
        packages.iter().map(show).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn python_packages_say_their_names_in_their_metadata() {
        let packages = [
            python("Metadata-Version: 2.1\nName: typing_extensions\nVersion: 4.8.0\n\nName: no\n"),
            python("Name: a\nVersion: 1\nLicense: UNKNOWN\nLicense-Expression: MIT OR 0BSD\n"),
            python("Name: old\nVersion: 1\nLicense: BSD\n  and more\n"),
            python("Name: incomplete\n"),
        ];
        insta::assert_snapshot!(shown(&packages.concat()), @r"
        python typing_extensions 4.8.0
        python a 1 license=MIT OR 0BSD
        python old 1 license=BSD
        ");
    }

    #[test]
    fn python_packages_are_known_by_their_folders() {
        for (folder, expected) in [
            ("requests-2.31.0.dist-info", Some(("requests", "2.31.0"))),
            ("typing_extensions-4.8.0.dist-info", Some(("typing_extensions", "4.8.0"))),
            ("six-1.16.0-py3.11.egg-info", Some(("six", "1.16.0"))),
            ("requests", None),
            ("x.dist-info", None),
            ("-1.dist-info", None),
        ] {
            let found = python_of(folder.as_bytes());
            let found = found.as_ref().map(|one| (one.name.as_str(), one.version.as_str()));
            assert_eq!(found, expected, "{folder}");
        }
    }

    #[test]
    fn documents_of_every_installer_are_read() {
        let all = [
            npm(r#"{"name":"@babel/core","version":"7.1.0","license":"MIT"}"#),
            npm(r#"{"name":"old","version":"1.0.0","licenses":[{"type":"MIT"},{"type":"BSD"}]}"#),
            npm(r#"{"type":"module"}"#),
            conda(
                r#"{"name":"zlib","version":"1.2.13","subdir":"linux-64","license":"Zlib",
                "size":93,"build":"h5eee18b_0"}"#,
            ),
            composer(r#"{"packages":[{"name":"a/b","version":"v1.2","license":["MIT"]}]}"#),
            composer(r#"[{"name":"c/d","version":"2.0"},{"name":"no/version"}]"#),
            nuget(
                r#"{"libraries":{"App/1.0.0":{"type":"project"},
                "Newtonsoft.Json/13.0.1":{"type":"package","sha512":""}}}"#,
            ),
        ];
        let all: Vec<Package> = all.into_iter().flat_map(|one| one.unwrap()).collect();
        insta::assert_snapshot!(shown(&all), @r"
        npm @babel/core 7.1.0 license=MIT
        npm old 1.0.0 license=MIT OR BSD
        conda zlib 1.2.13 arch=linux-64 license=Zlib size=93
        composer a/b v1.2 license=MIT
        composer c/d 2.0
        nuget Newtonsoft.Json 13.0.1
        ");
        assert!(npm("{").is_err());
        assert!(composer("3").is_err());
    }

    #[test]
    fn gems_are_read_from_their_specifications() {
        let packages =
            gem("# -*- encoding: utf-8 -*-\n# stub: nokogiri 1.15.4 x86_64-linux lib\n\n\
             Gem::Specification.new do |s|\n  s.name = \"nokogiri\".freeze\n  \
             s.version = \"1.15.4\"\n  s.platform = 'x86_64-linux'.freeze\n  \
             s.licenses = [\"MIT\".freeze, \"Ruby\".freeze]\n  \
             s.rubygems_version = \"3.4.20\".freeze\nend\n");
        insta::assert_snapshot!(
            shown(&packages), @"gem nokogiri 1.15.4 arch=x86_64-linux license=MIT OR Ruby"
        );
    }
}
