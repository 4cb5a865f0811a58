//! Gets what the builder names on other machines: files over HTTP, repositories through `git`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conex_build::{Error, ErrorKind, Fetch, FetchedTree};
use conex_remote::{Client, FetchHead, FetchOptions, Verify};

use crate::session::Session;

/// Largest file taken by ADD: what a container image can reasonably hold.
const FILE_SIZE_MAX: u64 = 64 << 30;

/// Gets things.
pub struct Fetcher {
    client: Result<Client, String>,
}

impl Fetcher {
    /// Sets up a client; what is wrong with this machine's configuration is told when it is used.
    pub fn new(session: &Session) -> Self {
        let client = crate::registry::client(session, Verify::Strict);
        Self { client: client.map_err(|error| error.to_string()) }
    }

    fn client(&self) -> Result<&Client, Error> {
        self.client.as_ref().map_err(|why| Error::new(ErrorKind::Io, why.clone()))
    }
}

fn options() -> FetchOptions {
    FetchOptions { authorization: None, if_none_match: None, size_max: FILE_SIZE_MAX }
}

fn remote(url: &str) -> impl FnOnce(conex_remote::Error) -> Error {
    let message = format!("cannot get `{url}`");
    move |error| Error::new(ErrorKind::NotFound, message).caused_by(error)
}

impl Fetch for Fetcher {
    fn http_version(&self, url: &str) -> Result<Option<String>, Error> {
        // A server that does not answer HEAD is asked for the file itself.
        let head = self.client()?.fetch_head(url, &options());
        Ok(head.ok().and_then(|head| head.etag.filter(|tag| !tag.starts_with("W/"))))
    }

    fn http(&self, url: &str, folder: &Path) -> Result<conex_build::Fetched, Error> {
        let fetched = self.client()?.fetch(url, &options()).map_err(remote(url))?;
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
        let listed = git(&["ls-remote", &source.remote], None)?;
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
        git(&["init", "--quiet", "--initial-branch=main"], Some(&tree))?;
        git(&["remote", "add", "origin", &source.remote], Some(&tree))?;
        let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "origin", &commit];
        if git(&shallow, Some(&tree)).is_err() {
            // Not every server gives out a commit by its name.
            git(&["fetch", "--quiet", "--tags", "origin"], Some(&tree))?;
        }
        git(&["checkout", "--quiet", "--detach", &commit], Some(&tree))?;
        if source.submodules {
            let update = ["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"];
            git(&update, Some(&tree))?;
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
fn git(args: &[&str], folder: Option<&Path>) -> Result<String, Error> {
    let mut command = Command::new("git");
    command.args(["-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null"]);
    command.args(args).stdin(Stdio::null());
    command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    if let Some(folder) = folder {
        command.current_dir(folder);
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

#[cfg(test)]
mod tests {
    use super::*;

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
