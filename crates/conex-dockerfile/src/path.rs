//! Paths as texts: no file system is asked.

/// The shortest path that means the same (Go's `path.Clean`): `a//b/../c/` is `a/c`; the empty path
/// is `.`.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// The same for text.
pub(crate) fn clean_text(path: &str) -> String {
    // Cleaning removes whole components, so it cannot cut a character in two.
    String::from_utf8_lossy(&clean(path.as_bytes())).into_owned()
}

/// The last component (Go's `path.Base`): `/` for the root, `.` for nothing.
pub(crate) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None => {
            if path.is_empty() {
                "."
            } else {
                "/"
            }
        }
        Some(last) => last,
    }
}

#[cfg(test)]
mod tests {
    use super::{base, clean_text};

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned, last) in [
            ("", ".", "."),
            ("/", "/", "/"),
            ("a//b/../c/", "a/c", "c"),
            ("./a", "a", "a"),
            ("../a", "../a", "a"),
            ("../../a", "../../a", "a"),
            ("/../a", "/a", "a"),
            ("a/..", ".", ".."),
            ("a/../..", "..", ".."),
            ("//a//", "/a", "a"),
        ] {
            assert_eq!(clean_text(path), cleaned, "{path}");
            assert_eq!(base(path), last, "{path}");
        }
    }
}
