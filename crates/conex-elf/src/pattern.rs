//! Paths with `*` and `?` in their components, as ld.so's `include` and the toolsets use them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::tree::{EntryKind, Tree};

/// The paths that a pattern matches, sorted; a pattern without `*` and `?` matches what it names,
/// if that exists. Links are followed within the pattern's folders but kept in the result.
pub(crate) fn expand(tree: &Tree, pattern: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components() {
        let std::path::Component::Normal(name) = part else { continue };
        let mut next = Vec::new();
        for folder in &found {
            if has_wildcard(name) {
                next.extend(children(tree, folder, name)?);
            } else {
                next.push(folder.join(name));
            }
        }
        found = next;
    }
    let mut existing = Vec::new();
    for path in found {
        if tree.resolve(&path)?.is_some() {
            existing.push(path);
        }
    }
    Ok(existing)
}

fn children(tree: &Tree, folder: &Path, pattern: &OsStr) -> Result<Vec<PathBuf>, Error> {
    let Some(resolved) = tree.resolve(folder)? else { return Ok(Vec::new()) };
    if resolved.kind != EntryKind::Dir {
        return Ok(Vec::new());
    }
    let names = tree.names(&resolved.path)?;
    // As in a shell, a leading dot has to be written.
    let hidden = pattern.as_bytes().starts_with(b".");
    Ok(names
        .into_iter()
        .filter(|name| hidden || !name.as_bytes().starts_with(b"."))
        .filter(|name| matches(pattern.as_bytes(), name.as_bytes()))
        .map(|name| folder.join(name))
        .collect())
}

fn has_wildcard(name: &OsStr) -> bool {
    name.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?'))
}

/// Matches one component. Keeps only the last `*` to come back to, which is enough and makes the
/// time at most the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star_p, star_n)) = star else { return false };
                star = Some((star_p, star_n + 1));
                p = star_p + 1;
                n = star_n + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_is_any_run_and_question_mark_is_one() {
        for (pattern, name, expected) in [
            ("*.conf", "x86_64-linux-gnu.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.dpkg-old", false),
            ("lib?.so", "libc.so", true),
            ("lib?.so", "lib.so", false),
            ("*a*b", "xxaxxaxb", true),
            ("*a*b", "xxaxxbx", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
