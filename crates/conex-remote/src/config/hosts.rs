//! containerd's `hosts.toml`: for each registry a folder with a file that names other hosts to ask
//! first, what they may be asked for, and how to reach them.

use std::path::{Path, PathBuf};

use crate::config::read_file;
use crate::error::{Error, Result, shown};
use crate::http::url::{Scheme, Url};

/// Most hosts of one file.
const HOSTS_MAX: usize = 100;

/// One host of a `hosts.toml`, or the registry's own server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HostEntry {
    pub(crate) scheme: Scheme,
    /// Host, and port where it is not the usual one.
    pub(crate) authority: String,
    /// What stands before the repository in paths: `/v2`, or whatever `override_path` asks for.
    pub(crate) prefix: String,
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) push: bool,
    pub(crate) skip_verify: bool,
    pub(crate) authorities: Vec<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) headers: Vec<(String, String)>,
}

/// Reads the file for a registry: that of the registry's own folder, or of `_default`.
pub(crate) fn load(folders: &[PathBuf], registry: &str) -> Result<Option<Vec<HostEntry>>> {
    if registry.chars().all(|c| c == '.') || registry.contains(['/', '\0']) {
        return Ok(None);
    }
    // containerd writes the colon of a port as `_port_` on systems that have no colons in names.
    let escaped = registry.replacen(':', "_", 1) + if registry.contains(':') { "_" } else { "" };
    for folder in folders {
        for name in [registry, escaped.as_str(), "_default"] {
            let own = folder.join(name);
            let path = own.join("hosts.toml");
            if let Some(bytes) = read_file(&path)? {
                let text =
                    String::from_utf8(bytes).map_err(|_| invalid(&path, "it is not UTF-8"))?;
                return parse(&text, registry, &path, &own).map(Some);
            }
        }
    }
    Ok(None)
}

fn invalid(path: &Path, why: &str) -> Error {
    Error::config(format!("`{}` is not valid: {}", path.display(), shown(why, 300)))
}

fn parse(text: &str, registry: &str, path: &Path, folder: &Path) -> Result<Vec<HostEntry>> {
    let file: toml::Table =
        toml::from_str(text).map_err(|source| invalid(path, source.message()))?;
    let mut entries = Vec::new();
    if let Some(hosts) = file.get("host") {
        let hosts = hosts.as_table().ok_or_else(|| invalid(path, "`host` is not a table"))?;
        for (name, table) in in_order(hosts, text).into_iter().take(HOSTS_MAX) {
            let table = table.as_table().ok_or_else(|| invalid(path, "a `host` is not a table"))?;
            entries.push(entry(name, table, path, folder)?);
        }
    }
    let default = format!("https://{}", server_authority(registry));
    let server = match file.get("server").and_then(toml::Value::as_str) {
        Some(server) if !server.is_empty() => server.to_owned(),
        _ => default,
    };
    entries.push(entry(&server, &file, path, folder)?);
    Ok(entries)
}

/// The tables in the order of the file: TOML itself has none, but the first host is asked first.
fn in_order<'t>(hosts: &'t toml::Table, text: &str) -> Vec<(&'t str, &'t toml::Value)> {
    let mut found: Vec<_> = hosts.iter().map(|(name, table)| (name.as_str(), table)).collect();
    found.sort_by_key(|(name, _)| {
        let quoted = ['"', '\''].map(|quote| text.find(&format!("[host.{quote}{name}{quote}")));
        quoted.into_iter().flatten().min().unwrap_or(usize::MAX)
    });
    found
}

/// The host that serves a registry's name: Docker Hub's is another.
pub(crate) fn server_authority(registry: &str) -> &str {
    if registry == conex_oci::DEFAULT_REGISTRY { "registry-1.docker.io" } else { registry }
}

fn entry(name: &str, table: &toml::Table, path: &Path, folder: &Path) -> Result<HostEntry> {
    let address = if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
    let url = Url::parse(&address).map_err(|error| invalid(path, &error.to_string()))?;
    let flag = |key: &str| table.get(key).and_then(toml::Value::as_bool).unwrap_or(false);
    let own_path = url.path().trim_end_matches('/');
    let prefix = if flag("override_path") {
        own_path.to_owned()
    } else if own_path.is_empty() {
        "/v2".to_owned()
    } else if own_path.ends_with("/v2") {
        own_path.to_owned()
    } else {
        format!("{own_path}/v2")
    };
    let capabilities = match table.get("capabilities") {
        None => None,
        Some(list) => Some(texts(list).ok_or_else(|| invalid(path, "`capabilities` is no list"))?),
    };
    let can = |what: &str| {
        capabilities.as_ref().is_none_or(|list| list.iter().any(|known| known == what))
    };
    let mut headers = Vec::new();
    if let Some(table) = table.get("header").and_then(toml::Value::as_table) {
        for (name, value) in table {
            let values = texts(value).ok_or_else(|| invalid(path, "a `header` is no text"))?;
            headers.extend(values.into_iter().map(|value| (name.clone(), value)));
        }
    }
    Ok(HostEntry {
        scheme: url.scheme(),
        authority: url.authority(),
        prefix,
        pull: can("pull"),
        resolve: can("resolve"),
        push: can("push"),
        skip_verify: flag("skip_verify"),
        authorities: authorities(table, path, folder)?,
        client: client(table, path, folder)?,
        headers,
    })
}

fn authorities(table: &toml::Table, path: &Path, folder: &Path) -> Result<Vec<Vec<u8>>> {
    let Some(value) = table.get("ca") else { return Ok(Vec::new()) };
    let names = texts(value).ok_or_else(|| invalid(path, "`ca` is neither a path nor a list"))?;
    names.iter().map(|name| needed(&folder.join(name))).collect()
}

fn client(table: &toml::Table, path: &Path, folder: &Path) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let Some(value) = table.get("client") else { return Ok(None) };
    // One file, a list of files, or a list of pairs of certificate and key; the first is used.
    let first = match value {
        toml::Value::Array(list) => list.first(),
        other => Some(other),
    };
    match first {
        Some(toml::Value::Array(pair)) => match pair.as_slice() {
            [toml::Value::String(chain), toml::Value::String(key)] => {
                Ok(Some((needed(&folder.join(chain))?, needed(&folder.join(key))?)))
            }
            _ => Err(invalid(path, "a `client` pair is not two paths")),
        },
        Some(toml::Value::String(both)) => {
            let pem = needed(&folder.join(both))?;
            Ok(Some((pem.clone(), pem)))
        }
        Some(_) => Err(invalid(path, "`client` is neither a path nor a list")),
        None => Ok(None),
    }
}

fn needed(path: &Path) -> Result<Vec<u8>> {
    read_file(path)?.ok_or_else(|| Error::config(format!("`{}` is not there", path.display())))
}

fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Array(list) => {
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<HostEntry>> {
        parse(text, "docker.io", Path::new("hosts.toml"), Path::new("/nowhere"))
    }

    #[test]
    fn hosts_are_read_in_order() {
        let entries = read(
            r#"
server = "https://registry-1.docker.io"
[host."http://z.example:5000"]
  capabilities = ["pull"]
  skip_verify = true
  [host."http://z.example:5000".header]
    x-mirror = ["1", "2"]
[host."https://a.example/v2/mirror"]
  capabilities = ["pull", "resolve"]
  override_path = true
"#,
        )
        .unwrap();
        let shown: Vec<String> = entries
            .iter()
            .map(|e| {
                let flags: String =
                    [(e.pull, 'p'), (e.resolve, 'r'), (e.push, 'w'), (e.skip_verify, '!')]
                        .iter()
                        .filter_map(|(on, letter)| on.then_some(*letter))
                        .collect();
                format!(
                    "{} {} {} {flags} {}",
                    e.scheme.as_str(),
                    e.authority,
                    e.prefix,
                    e.headers.len()
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                "http z.example:5000 /v2 p! 2",
                "https a.example /v2/mirror pr 0",
                "https registry-1.docker.io /v2 prw 0",
            ]
        );
    }

    #[test]
    fn wrong_files_are_refused() {
        for text in
            ["host = 1", "ca = 5", "ca = 'missing.pem'", "[host.'ftp://x']", "client = [[1]]", "x"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_default_folder_serves_every_registry() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("_default")).unwrap();
        let text = "[host.\"https://mirror.example\"]\n";
        std::fs::write(folder.path().join("_default/hosts.toml"), text).unwrap();
        let folders = [folder.path().to_owned()];
        let entries = load(&folders, "ghcr.io").unwrap().unwrap();
        let hosts: Vec<&str> = entries.iter().map(|entry| entry.authority.as_str()).collect();
        assert_eq!(hosts, ["mirror.example", "ghcr.io"]);
        assert!(load(&folders, "..").unwrap().is_none());
    }
}
