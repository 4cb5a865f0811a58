//! Which paths a source of COPY or ADD means.
//!
//! A source without wildcards must be there. One with wildcards (Go's `filepath.Match`, part by
//! part) may match nothing. Links are followed, within the root; a path that climbs above the root
//! stays at it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use conex_dockerfile::{glob_match, glob_match_deep, has_wildcards};
use conex_sys::stat::FileKind;

/// A tree that can be asked what is in it.
pub(crate) trait Listing {
    /// Follows links and says where a path really lies and what is there; `None` if nothing is.
    fn resolve(&self, path: &Path) -> io::Result<Option<(PathBuf, FileKind)>>;

    /// The names in a folder that [`Listing::resolve`] gave, with what they are, links unfollowed.
    fn names(&self, folder: &Path) -> io::Result<Vec<(OsString, FileKind)>>;
}

/// A path that a source means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selected {
    /// Where it lies, relative, links followed.
    pub(crate) path: PathBuf,
    /// How it was named, relative: `--parents` keeps this.
    pub(crate) named: PathBuf,
    pub(crate) kind: FileKind,
}

/// The part of a relative path that `--parents` leaves out, and the rest: what stands before a
/// `/./`.
pub(crate) fn split_pivot(pattern: &str) -> (&str, &str) {
    match pattern.split_once("/./") {
        Some((base, rest)) => (base, rest),
        None => ("", pattern),
    }
}

/// Finds what a source means. `deep` allows `**`.
pub(crate) fn select(
    listing: &dyn Listing,
    pattern: &str,
    deep: Depth,
) -> io::Result<Vec<Selected>> {
    let parts: Vec<&str> = clean(pattern);
    if !parts.iter().any(|part| has_wildcards(part.as_bytes())) {
        let named: PathBuf = parts.iter().map(|part| unescaped(part)).collect();
        let found = listing.resolve(&named)?;
        let selected = found.map(|(path, kind)| Selected { path, named, kind });
        return Ok(selected.into_iter().collect());
    }
    let mut found = Vec::new();
    if deep == Depth::Any && parts.contains(&"**") {
        let pattern = parts.join("/");
        walk_deep(listing, Path::new(""), pattern.as_bytes(), &mut found)?;
    } else {
        expand(listing, Path::new(""), &parts, &mut found)?;
    }
    Ok(found)
}

/// Whether `**` means any number of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// It does not.
    OnePart,
    /// It does.
    Any,
}

/// Folders entered for one `**`, so that a hostile tree ends.
const DEEP_FOLDERS_MAX: usize = 1_000_000;

fn clean(pattern: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

/// A part without wildcards may still hold escaped characters (`\*`).
fn unescaped(part: &str) -> OsString {
    let mut bytes = Vec::with_capacity(part.len());
    let mut escaped = false;
    for byte in part.bytes() {
        if byte == b'\\' && !escaped {
            escaped = true;
        } else {
            bytes.push(byte);
            escaped = false;
        }
    }
    if escaped {
        bytes.push(b'\\');
    }
    OsString::from_vec(bytes)
}

fn expand(
    listing: &dyn Listing,
    below: &Path,
    parts: &[&str],
    found: &mut Vec<Selected>,
) -> io::Result<()> {
    let Some((part, rest)) = parts.split_first() else { return Ok(()) };
    let mut names: Vec<OsString> = Vec::new();
    if has_wildcards(part.as_bytes()) {
        let Some((folder, FileKind::Dir)) = listing.resolve(below)? else { return Ok(()) };
        for (name, _) in listing.names(&folder)? {
            if matches(part.as_bytes(), name.as_bytes())? {
                names.push(name);
            }
        }
        names.sort();
    } else {
        names.push(unescaped(part));
    }
    for name in names {
        let named = below.join(&name);
        if !rest.is_empty() {
            expand(listing, &named, rest, found)?;
        } else if let Some((path, kind)) = listing.resolve(&named)? {
            found.push(Selected { path, named, kind });
        }
    }
    Ok(())
}

fn walk_deep(
    listing: &dyn Listing,
    root: &Path,
    pattern: &[u8],
    found: &mut Vec<Selected>,
) -> io::Result<()> {
    let mut folders = vec![root.to_owned()];
    let mut entered = 0;
    while let Some(folder) = folders.pop() {
        entered += 1;
        if entered > DEEP_FOLDERS_MAX {
            return Err(io::Error::other("the tree has too many folders for `**`"));
        }
        for (name, kind) in listing.names(&folder)? {
            let path = folder.join(&name);
            if glob_match_deep(pattern, path.as_os_str().as_bytes()).map_err(wrong_pattern)? {
                if let Some((resolved, kind)) = listing.resolve(&path)? {
                    let named = path.clone();
                    found.push(Selected { path: resolved, named, kind });
                }
            } else if kind == FileKind::Dir {
                folders.push(path);
            }
        }
    }
    found.sort_by(|left, right| left.named.cmp(&right.named));
    Ok(())
}

fn matches(pattern: &[u8], name: &[u8]) -> io::Result<bool> {
    glob_match(pattern, name).map_err(wrong_pattern)
}

fn wrong_pattern(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of names: those that end in `/` are folders.
    struct Names(&'static [&'static str]);

    impl Listing for Names {
        fn resolve(&self, path: &Path) -> io::Result<Option<(PathBuf, FileKind)>> {
            let text = path.to_str().unwrap();
            let kind = if text.is_empty() || self.0.contains(&format!("{text}/").as_str()) {
                FileKind::Dir
            } else if self.0.contains(&text) {
                FileKind::File
            } else {
                return Ok(None);
            };
            Ok(Some((path.to_owned(), kind)))
        }

        fn names(&self, folder: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
            let prefix = match folder.to_str().unwrap() {
                "" => String::new(),
                folder => format!("{folder}/"),
            };
            let below = self.0.iter().filter_map(|name| name.strip_prefix(&prefix));
            Ok(below
                .filter(|rest| !rest.trim_end_matches('/').contains('/') && !rest.is_empty())
                .map(|rest| match rest.strip_suffix('/') {
                    Some(folder) => (folder.into(), FileKind::Dir),
                    None => (rest.into(), FileKind::File),
                })
                .collect())
        }
    }

    fn selected(pattern: &str, deep: Depth) -> Vec<String> {
        let tree = Names(&["a.c", "b.c", "d/", "d/e.c", "d/f/", "d/f/g.c", "x*y"]);
        let found = select(&tree, pattern, deep).unwrap();
        found.into_iter().map(|found| found.named.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn sources_mean_the_paths_that_they_match() {
        for (pattern, wanted) in [
            ("a.c", vec!["a.c"]),
            ("/a.c", vec!["a.c"]),
            ("./d/../a.c", vec!["a.c"]),
            ("../../a.c", vec!["a.c"]),
            ("*.c", vec!["a.c", "b.c"]),
            ("?.c", vec!["a.c", "b.c"]),
            ("[b-z].c", vec!["b.c"]),
            ("*/*.c", vec!["d/e.c"]),
            ("d/*", vec!["d/e.c", "d/f"]),
            ("none", vec![]),
            ("*.none", vec![]),
            (".", vec![""]),
            ("x\\*y", vec!["x*y"]),
        ] {
            assert_eq!(selected(pattern, Depth::OnePart), wanted, "{pattern}");
        }
        assert_eq!(selected("**/*.c", Depth::Any), ["a.c", "b.c", "d/e.c", "d/f/g.c"]);
        assert_eq!(split_pivot("a/b/./c/d"), ("a/b", "c/d"));
        assert_eq!(split_pivot("a/b"), ("", "a/b"));
    }
}
