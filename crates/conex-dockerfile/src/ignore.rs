//! `.dockerignore`: which files of a context do not exist for the build.
//!
//! Invariant: a path's fate depends on the path alone. [`Ignore::is_ignored`] and a walk that
//! carries a [`DirState`] from folder to folder give the same answer.
//!
//! The rules, which are the reference implementation's: patterns are tried in order and the last
//! one that matches decides; what matched a folder matches everything in it, both ways; `!` takes
//! back, and is only tried on what is ignored at that point. So `!dir` brings back a `dir` that an
//! earlier line ignored with all its content, but protects nothing that a line ignores further down
//! in it.
//!
//! A folder that is ignored can hold files that are not; whoever walks must then make the folder
//! after all. Does not read files, and does not know the ignore file's own name.

use conex_report::Diagnostic;

use crate::error::Error;
use crate::glob::{Glob, PathKey};
use crate::limits::{IGNORE_PATTERN_COUNT_MAX, IGNORE_SIZE_MAX};
use crate::path;
use crate::source::Source;

/// The patterns of an ignore file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    has_exceptions: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: Vec<u8>,
    glob: Glob,
    /// Begins with `!`: takes back.
    exception: bool,
}

/// What the patterns said of a folder: all that its entries need to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirState {
    /// One bit a pattern: it matched this folder or one above it.
    matched: Vec<u64>,
    ignored: bool,
}

impl DirState {
    /// Whether the folder itself is ignored.
    pub fn is_ignored(&self) -> bool {
        self.ignored
    }

    fn has(&self, pattern: usize) -> bool {
        self.matched.get(pattern / 64).is_some_and(|word| word >> (pattern % 64) & 1 == 1)
    }
}

impl Ignore {
    /// Reads an ignore file. Patterns that cannot be read are errors at their places, and left out.
    pub fn parse(bytes: &[u8]) -> (Self, Vec<Diagnostic>) {
        let source = Source::new(bytes.get(..IGNORE_SIZE_MAX).unwrap_or(bytes));
        let mut ignore = Self::default();
        let mut diagnostics = Vec::new();
        if bytes.len() > IGNORE_SIZE_MAX {
            let error = Error::limit(format!("ignore file is larger than {IGNORE_SIZE_MAX} bytes"));
            diagnostics.push(error.at(source.span(&(0..0))));
            return (ignore, diagnostics);
        }
        let mut offset = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let start = offset;
            offset += line.len();
            let line =
                if start == 0 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
            // Only in the first column does `#` begin a comment.
            if line.starts_with(b"#") {
                continue;
            }
            let text = trim(line);
            if text.is_empty() {
                continue;
            }
            if let Err(error) = ignore.push(text) {
                diagnostics
                    .push(error.at(source.span(&(start..start + line.trim_ascii_end().len()))));
                if ignore.patterns.len() >= IGNORE_PATTERN_COUNT_MAX {
                    break;
                }
            }
        }
        (ignore, diagnostics)
    }

    /// Takes patterns from elsewhere, such as `COPY --exclude`.
    pub fn from_patterns<'p>(patterns: impl IntoIterator<Item = &'p [u8]>) -> Result<Self, Error> {
        let mut ignore = Self::default();
        for pattern in patterns {
            let text = trim(pattern);
            if !text.is_empty() {
                ignore.push(text)?;
            }
        }
        Ok(ignore)
    }

    fn push(&mut self, text: &[u8]) -> Result<(), Error> {
        if self.patterns.len() >= IGNORE_PATTERN_COUNT_MAX {
            return Err(Error::limit(format!(
                "ignore file has more than {IGNORE_PATTERN_COUNT_MAX} patterns"
            )));
        }
        let (exception, body) = match text.strip_prefix(b"!") {
            Some(body) => (true, trim(body)),
            None => (false, text),
        };
        let cleaned = path::clean(body);
        if exception && (body.is_empty() || cleaned == b"/") {
            return Err(Error::syntax("`!` stands without a pattern"));
        }
        let relative = match cleaned.strip_prefix(b"/") {
            Some(relative) if !relative.is_empty() => relative.to_vec(),
            _ => cleaned,
        };
        let glob = Glob::deep(&relative)?;
        self.has_exceptions |= exception;
        self.patterns.push(Pattern { text: relative, glob, exception });
        Ok(())
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any pattern begins with `!`.
    pub fn has_exceptions(&self) -> bool {
        self.has_exceptions
    }

    /// The patterns, cleaned, without `!`; and whether they had one.
    pub fn patterns(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.patterns.iter().map(|pattern| (pattern.text.as_slice(), pattern.exception))
    }

    /// Whether a path (relative to the context, with `/`) is ignored. The context itself, `.`,
    /// never is.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let path = path::clean(path);
        let path = path.strip_prefix(b"/").unwrap_or(&path);
        if path.is_empty() || path == b"." {
            return false;
        }
        let mut state = self.root();
        for (end, byte) in path.iter().enumerate() {
            if *byte == b'/' {
                state = self.enter(&state, path.get(..end).unwrap_or(path));
            }
        }
        self.is_ignored_in(&state, path)
    }

    /// The state of the context's root, to begin a walk with.
    pub fn root(&self) -> DirState {
        DirState { matched: vec![0; self.patterns.len().div_ceil(64)], ignored: false }
    }

    /// The state of a folder, given its parent's and its whole path.
    pub fn enter(&self, parent: &DirState, path: &[u8]) -> DirState {
        let mut matched = parent.matched.clone();
        let ignored = self.decide(parent, path, |pattern| {
            if let Some(word) = matched.get_mut(pattern / 64) {
                *word |= 1 << (pattern % 64);
            }
        });
        DirState { matched, ignored }
    }

    /// Whether an entry of a folder is ignored, given the folder's state and the entry's whole
    /// path.
    pub fn is_ignored_in(&self, parent: &DirState, path: &[u8]) -> bool {
        self.decide(parent, path, |_| {})
    }

    /// Whether a walk must go into a folder: not if it is ignored and nothing below it can be taken
    /// back.
    pub fn may_descend(&self, folder: &DirState, path: &[u8]) -> bool {
        if !folder.ignored {
            return true;
        }
        self.has_exceptions
            && self
                .patterns
                .iter()
                .any(|pattern| pattern.exception && pattern.glob.may_match_below(path))
    }

    fn decide(&self, parent: &DirState, path: &[u8], mut on_match: impl FnMut(usize)) -> bool {
        let key = PathKey::of(path);
        let mut ignored = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            if parent.has(index) {
                ignored = !pattern.exception;
            } else if pattern.exception == ignored && pattern.glob.matches_keyed(key, path) {
                on_match(index);
                ignored = !pattern.exception;
            }
        }
        ignored
    }
}

/// Cuts off white space, of Unicode too, without demanding UTF-8.
fn trim(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => bytes.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::Ignore;

    fn ignored(patterns: &str, path: &str) -> bool {
        let (ignore, diagnostics) = Ignore::parse(patterns.as_bytes());
        assert_eq!(diagnostics, [], "{patterns}");
        ignore.is_ignored(path.as_bytes())
    }

    #[test]
    fn the_last_match_decides_and_folders_pass_it_on() {
        for (patterns, path, expected) in [
            ("a", "a", true),
            ("a", "a/b", true),
            ("a", "b/a", false),
            ("a/", "a/b", true),
            ("/a", "a", true),
            ("./a", "a", true),
            ("a/../b", "b", true),
            ("  a  ", "a", true),
            (" #a", "#a", true),
            ("#a", "#a", false),
            ("a\r\nb\r\n", "a", true),
            ("\u{feff}a", "a", true),
            ("*", ".", false),
            ("*\n!b", "b", false),
            ("*\n!b", "b/c", false),
            ("*\n!b/c", "b/c", false),
            ("*\n!b/c", "b/d", true),
            ("*\n!b/c", "b", true),
            ("a\n!a/b\na/b/c", "a/b/c", true),
            ("a\n!a/b\na/b/c", "a/b/d", false),
            ("!a\na", "a", true),
            ("**/*.md\n!README.md", "README.md", false),
            ("**/*.md\n!README.md", "docs/README.md", true),
            ("**/node_modules", "p/q/node_modules/x", true),
            // `!p` is not tried on `p`, which nothing ignores, so it protects nothing below.
            ("**/node_modules\n!p", "p/node_modules", true),
            ("x/**", "x", false),
            ("x/**", "x/y", true),
            ("! a", "a", false),
            ("**\n!**/keep", "x/keep/y", false),
        ] {
            assert_eq!(ignored(patterns, path), expected, "{patterns:?} on {path}");
        }
    }

    #[test]
    fn patterns_that_cannot_be_read_are_errors_with_places() {
        let (ignore, diagnostics) = Ignore::parse(b"a\n[-x]\n!\nb\n");
        let lines: Vec<u32> =
            diagnostics.iter().filter_map(|found| Some(found.span?.start.line)).collect();
        assert_eq!(lines, [2, 3]);
        assert!(ignore.is_ignored(b"b"));
    }

    #[test]
    fn a_walk_skips_what_cannot_be_taken_back() {
        let (ignore, _) = Ignore::parse(b"*\n!src/main\n");
        let root = ignore.root();
        for (folder, descend) in [("src", true), ("target", false)] {
            let state = ignore.enter(&root, folder.as_bytes());
            assert!(state.is_ignored());
            assert_eq!(ignore.may_descend(&state, folder.as_bytes()), descend, "{folder}");
        }
    }
}
