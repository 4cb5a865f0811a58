//! Where things lie in the store's folder.
//!
//! Invariant: no path here is made from a text of the outside; names are digests (checked by their
//! type), random IDs, or go through [`file_name`].

use std::path::{Path, PathBuf};

use conex_oci::Digest;

/// The folders that a store is made of.
pub(crate) const FOLDERS: [&str; 9] = [
    "blobs/sha256",
    "blobs/sha512",
    "snapshots",
    "caches",
    "volumes",
    "tmp",
    "leases",
    "locks",
    "aux",
];

/// Longest readable part of a folder name made from a person's text; with the digest digits behind
/// it the name stays far below the 255 bytes of a file name.
const NAME_LEN_MAX: usize = 100;

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("conex.db")
    }

    /// Names the store's format; written last, so a store that has it is whole.
    pub(crate) fn marker(&self) -> PathBuf {
        self.root.join("conex-store")
    }

    /// Held while the store is made or mended.
    pub(crate) fn setup_lock(&self) -> PathBuf {
        self.root.join("setup.lock")
    }

    /// Held, shared, by every process that has the store open; alone by one that mends it.
    pub(crate) fn open_lock(&self) -> PathBuf {
        self.root.join("open.lock")
    }

    /// Held while rows are written.
    pub(crate) fn write_lock(&self) -> PathBuf {
        self.root.join("write.lock")
    }

    /// Room that is given up so that a full disk can be tidied.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let mut path = self.blobs();
        path.push(digest.algorithm().name());
        path.push(digest.hex());
        path
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, id: &str) -> PathBuf {
        self.snapshots().join(id)
    }

    pub(crate) fn caches(&self) -> PathBuf {
        self.root.join("caches")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Made when first needed: stores from before do not have it.
    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(crate) fn aux(&self) -> PathBuf {
        self.root.join("aux")
    }
}

/// Turns a person's text into a file name that is readable, safe and unique: unusual characters
/// become `_`, and digits of the text's digest follow.
pub(crate) fn file_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let mut name: String = text
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(NAME_LEN_MAX)
        .collect::<String>()
        .trim_matches(['.', '_'])
        .to_owned();
    if !name.is_empty() {
        name.push('-');
    }
    name.push_str(Digest::of(text.as_bytes()).short());
    name
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_of_caches_are_safe_and_distinct() {
        let hostile =
            ["..", ".", "", "/", "a/b", "a_b", "../../etc", "a\0b", "é", &"x".repeat(999)];
        let mut seen = std::collections::BTreeSet::new();
        for text in hostile {
            let name = file_name(text);
            assert!(!name.contains(['/', '\0']) && !name.starts_with('.'), "{text}: {name}");
            assert!(name.len() < 200, "{text}");
            assert!(seen.insert(name), "{text}");
        }
        assert!(file_name("/root/.cargo/registry").starts_with("root_.cargo_registry-"));
    }
}
