//! Gets what the builder names on other machines: files over HTTP, repositories through `git`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use conex_build::{Error, ErrorKind, Fetch, FetchedTree, Secret};
use conex_remote::{Client, FetchHead, FetchOptions, Verify};

use crate::session::Session;

/// Largest file taken by ADD: what a container image can reasonably hold.
const FILE_SIZE_MAX: u64 = 64 << 30;

/// Gets things.
pub struct Fetcher<'s> {
    client: Result<Client, String>,
    secrets: &'s Secrets,
}

/// The build's secrets by ID.
pub type Secrets = BTreeMap<String, Secret>;

impl<'s> Fetcher<'s> {
    /// Sets up a client; what is wrong with this machine's configuration is told when it is used.
    pub fn new(session: &Session, secrets: &'s Secrets) -> Self {
        let client = crate::registry::client(session, Verify::Strict);
        Self { client: client.map_err(|error| error.to_string()), secrets }
    }

    fn client(&self) -> Result<&Client, Error> {
        self.client.as_ref().map_err(|why| Error::new(ErrorKind::Io, why.clone()))
    }

    fn options(&self, url: &str) -> Result<FetchOptions, Error> {
        let authorization = self.http_authorization(url)?.map(conex_remote::Secret::new);
        Ok(FetchOptions { authorization, if_none_match: None, size_max: FILE_SIZE_MAX })
    }

    /// What a URL's host shall be told of who asks: the secret `HTTP_AUTH_HEADER_<host>` is the
    /// header's value, `HTTP_AUTH_TOKEN_<host>` a token.
    fn http_authorization(&self, url: &str) -> Result<Option<String>, Error> {
        for host in hosts(url) {
            if let Some(value) = self.header(&format!("HTTP_AUTH_HEADER_{host}"))? {
                return Ok(Some(value));
            }
            if let Some(token) = self.header(&format!("HTTP_AUTH_TOKEN_{host}"))? {
                return Ok(Some(format!("Bearer {token}")));
            }
        }
        Ok(None)
    }

    /// The same for a repository: `GIT_AUTH_HEADER` and `GIT_AUTH_TOKEN`, with `.<host>` for one
    /// host only.
    fn git_authorization(&self, url: &str) -> Result<Option<String>, Error> {
        let hosts = hosts(url);
        let suffixes = hosts.iter().map(|host| format!(".{host}")).chain([String::new()]);
        for suffix in suffixes {
            if let Some(value) = self.header(&format!("GIT_AUTH_HEADER{suffix}"))? {
                return Ok(Some(value));
            }
            if let Some(token) = self.header(&format!("GIT_AUTH_TOKEN{suffix}"))? {
                // A name that every host of repositories takes for "see the token".
                let pair = format!("x-access-token:{token}");
                let pair = base64::engine::general_purpose::STANDARD.encode(pair);
                return Ok(Some(format!("basic {pair}")));
            }
        }
        Ok(None)
    }

    /// A secret that can stand in a header.
    fn header(&self, id: &str) -> Result<Option<String>, Error> {
        let Some(secret) = self.secrets.get(id) else { return Ok(None) };
        let wrong = || {
            let message = format!("the secret `{id}` is no text of one line");
            Error::new(ErrorKind::Unsupported, message)
        };
        let text = std::str::from_utf8(secret.0.trim_ascii()).map_err(|_| wrong())?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(wrong());
        }
        Ok(Some(text.to_owned()))
    }

    /// Runs git on a repository of another machine.
    fn remote_git(
        &self,
        remote: &str,
        args: &[&str],
        folder: Option<&Path>,
    ) -> Result<String, Error> {
        let is_http = remote.starts_with("https://") || remote.starts_with("http://");
        let header = if is_http { self.git_authorization(remote)? } else { None };
        git(args, folder, header.map(|value| (remote, value)))
    }
}

/// The host of a URL as the ID of a secret names it: with the port, if one is there, and without.
fn hosts(url: &str) -> Vec<&str> {
    let Some((_, rest)) = url.split_once("://") else { return Vec::new() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => vec![host, name],
        _ => vec![host],
    }
}

fn remote(url: &str) -> impl FnOnce(conex_remote::Error) -> Error {
    let message = format!("cannot get `{url}`");
    move |error| Error::new(ErrorKind::NotFound, message).caused_by(error)
}

impl Fetch for Fetcher<'_> {
    fn http_version(&self, url: &str) -> Result<Option<String>, Error> {
        // A server that does not answer HEAD is asked for the file itself.
        let head = self.client()?.fetch_head(url, &self.options(url)?);
        Ok(head.ok().and_then(|head| head.etag.filter(|tag| !tag.starts_with("W/"))))
    }

    fn http(&self, url: &str, folder: &Path) -> Result<conex_build::Fetched, Error> {
        let fetched = self.client()?.fetch(url, &self.options(url)?).map_err(remote(url))?;
        let conex_remote::Fetched::File(head, mut body) = fetched else {
            return Err(Error::new(ErrorKind::NotFound, format!("`{url}` gave no content")));
        };
        let path = folder.join("download");
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("cannot get `{url}`")).caused_by(error)
        };
        let mut file = std::fs::File::create(&path).map_err(failed)?;
        std::io::copy(&mut body, &mut file).map_err(failed)?;
        Ok(conex_build::Fetched { path, name: name(&head, url) })
    }

    fn git_commit(&self, url: &str) -> Result<String, Error> {
        let source = GitSource::parse(url)?;
        let wanted = source.reference.as_deref().unwrap_or("HEAD");
        if is_commit(wanted) {
            return Ok(wanted.to_owned());
        }
        let listed = self.remote_git(&source.remote, &["ls-remote", &source.remote], None)?;
        let names = [
            wanted.to_owned(),
            format!("refs/tags/{wanted}^{{}}"),
            format!("refs/tags/{wanted}"),
            format!("refs/heads/{wanted}"),
        ];
        let lines: Vec<(&str, &str)> =
            listed.lines().filter_map(|line| line.split_once('\t')).collect();
        let found = names.iter().find_map(|name| lines.iter().find(|(_, known)| known == name));
        found.map(|(commit, _)| (*commit).to_owned()).ok_or_else(|| {
            let message = format!("`{}` has no branch or tag `{wanted}`", source.remote);
            Error::new(ErrorKind::NotFound, message)
        })
    }

    fn git(
        &self,
        url: &str,
        checksum: Option<&str>,
        keep_git_dir: Option<bool>,
        folder: &Path,
    ) -> Result<FetchedTree, Error> {
        let source = GitSource::parse(url)?;
        let commit = self.git_commit(url)?;
        let checksum = checksum.or(source.checksum.as_deref());
        if let Some(checksum) = checksum
            && !commit.starts_with(checksum)
        {
            let message = format!("`{url}` is at commit `{commit}`, wanted `{checksum}`");
            return Err(Error::new(ErrorKind::Dockerfile, message));
        }
        let tree = folder.join("repository");
        std::fs::create_dir_all(&tree)
            .map_err(|error| Error::new(ErrorKind::Io, "cannot make a folder").caused_by(error))?;
        let local = |args: &[&str]| git(args, Some(&tree), None);
        let with_remote = |args: &[&str]| self.remote_git(&source.remote, args, Some(&tree));
        local(&["init", "--quiet", "--initial-branch=main"])?;
        local(&["remote", "add", "origin", &source.remote])?;
        let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "origin", &commit];
        if with_remote(&shallow).is_err() {
            // Not every server gives out a commit by its name.
            with_remote(&["fetch", "--quiet", "--tags", "origin"])?;
        }
        local(&["checkout", "--quiet", "--detach", &commit])?;
        if source.submodules {
            let update = ["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"];
            with_remote(&update)?;
        }
        if !keep_git_dir.or(source.keep_git_dir).unwrap_or(false) {
            std::fs::remove_dir_all(tree.join(".git")).map_err(|error| {
                Error::new(ErrorKind::Io, "cannot remove the `.git` folder").caused_by(error)
            })?;
        }
        let path = match &source.folder {
            Some(sub) => below(&tree, sub)?,
            None => tree,
        };
        Ok(FetchedTree { path, commit })
    }
}

/// A folder of a repository that no link leads out of.
fn below(tree: &Path, sub: &str) -> Result<PathBuf, Error> {
    let missing =
        || Error::new(ErrorKind::NotFound, format!("the repository has no folder `{sub}`"));
    let (tree, path) = (tree.canonicalize(), tree.join(sub.trim_start_matches('/')).canonicalize());
    let (tree, path) = (tree.map_err(|_| missing())?, path.map_err(|_| missing())?);
    if !path.starts_with(&tree) || !path.is_dir() {
        return Err(missing());
    }
    Ok(path)
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The file name that a download gets: what the server says, else the URL's last part.
fn name(head: &FetchHead, url: &str) -> Option<String> {
    let from_url = || {
        let path = url.split(['?', '#']).next().unwrap_or_default();
        let after_host = path.split_once("://").map_or(path, |(_, rest)| rest);
        let (_, path) = after_host.split_once('/')?;
        path.rsplit('/').next().map(str::to_owned)
    };
    let name = head.file_name.clone().or_else(from_url)?;
    let plain = !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
    plain.then_some(name)
}

/// What a git URL names: `URL[#ref[:folder]]`, or the same in its query.
#[derive(Debug, Default, PartialEq, Eq)]
struct GitSource {
    remote: String,
    reference: Option<String>,
    folder: Option<String>,
    checksum: Option<String>,
    keep_git_dir: Option<bool>,
    submodules: bool,
}

impl GitSource {
    fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: String| Error::new(ErrorKind::Dockerfile, format!("`{url}`: {why}"));
        let (rest, fragment) = match url.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (url, None),
        };
        let (remote, query) = match rest.split_once('?') {
            Some((remote, query)) if url.contains("://") => (remote, Some(query)),
            _ => (rest, None),
        };
        if remote.starts_with('-') {
            return Err(wrong("it begins like an option".to_owned()));
        }
        let mut source = Self { remote: remote.to_owned(), submodules: true, ..Self::default() };
        if let Some(fragment) = fragment {
            let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
            source.reference = Some(reference.to_owned()).filter(|text| !text.is_empty());
            source.folder = Some(folder.to_owned()).filter(|text| !text.is_empty());
        }
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            let set = |known: &mut Option<String>| match known {
                Some(known) if known != value => Err(wrong(format!("`{key}` is named twice"))),
                _ => {
                    *known = Some(value.to_owned());
                    Ok(())
                }
            };
            match key {
                "ref" | "branch" | "tag" => set(&mut source.reference)?,
                "subdir" => set(&mut source.folder)?,
                "checksum" | "commit" => set(&mut source.checksum)?,
                "keep-git-dir" => source.keep_git_dir = Some(value == "true" || value == "1"),
                "submodules" => source.submodules = value != "false" && value != "0",
                _ => return Err(wrong(format!("`{key}` is not known"))),
            }
        }
        if source.reference.as_deref().is_some_and(|reference| reference.starts_with('-')) {
            return Err(wrong("the reference begins like an option".to_owned()));
        }
        Ok(source)
    }
}

/// Runs git without asking anybody anything. Nothing of a repository's own configuration can name
/// programs to run.
///
/// `authorization` is a URL with the header that its host shall get. It goes through the
/// environment: what stands in a command line is seen by everybody on the machine.
fn git(
    args: &[&str],
    folder: Option<&Path>,
    authorization: Option<(&str, String)>,
) -> Result<String, Error> {
    let mut command = Command::new("git");
    command.args(["-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null"]);
    command.args(args).stdin(Stdio::null());
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    if let Some((url, value)) = authorization {
        command.env("GIT_CONFIG_COUNT", "1");
        command.env("GIT_CONFIG_KEY_0", format!("http.{}.extraheader", origin(url)));
        command.env("GIT_CONFIG_VALUE_0", format!("Authorization: {value}"));
    }
    let output = command.output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Unsupported, "a git source needs the program `git`")
                .with_hint("install it, for example with `apt-get install git`")
        }
        _ => Error::new(ErrorKind::Io, "cannot run git").caused_by(error),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or_default();
        let verb = args.first().copied().unwrap_or_default();
        return Err(Error::new(ErrorKind::NotFound, format!("git {verb} failed: {last}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Scheme and host of a URL: a header for them goes to no other host, whatever submodules name.
fn origin(url: &str) -> String {
    let (scheme, _) = url.split_once("://").unwrap_or(("https", ""));
    format!("{scheme}://{}/", hosts(url).first().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_with_their_port_and_without() {
        for (url, wanted) in [
            ("https://example.com/a?b#c", &["example.com"][..]),
            ("http://user:word@h:8080", &["h:8080", "h"]),
            ("http://[::1]/x", &["[::1]"]),
            ("http://[::1]:80/x", &["[::1]:80", "[::1]"]),
            ("git@example.com:a/b.git", &[]),
        ] {
            assert_eq!(hosts(url), wanted, "{url}");
        }
        assert_eq!(origin("http://user@h:8080/a/b.git"), "http://h:8080/");
    }

    #[test]
    fn git_urls_say_what_to_take() {
        let parsed = |url| GitSource::parse(url).unwrap();
        let source = parsed("https://example.com/a.git#v1:docs");
        assert_eq!(source.remote, "https://example.com/a.git");
        assert_eq!(
            (source.reference.as_deref(), source.folder.as_deref()),
            (Some("v1"), Some("docs"))
        );
        let source =
            parsed("https://example.com/a.git?branch=x&subdir=y&keep-git-dir=1&submodules=0");
        assert_eq!((source.reference.as_deref(), source.folder.as_deref()), (Some("x"), Some("y")));
        assert_eq!((source.keep_git_dir, source.submodules), (Some(true), false));
        assert_eq!(parsed("git@example.com:a/b.git").remote, "git@example.com:a/b.git");
        for wrong in [
            "https://h/a.git?x=1",
            "https://h/a.git?tag=a#b",
            "--upload-pack=x",
            "https://h/a.git#-x",
        ] {
            assert!(GitSource::parse(wrong).is_err(), "{wrong}");
        }
    }
}
