//! Asking before things are removed, and saying what went, in Docker's words.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use conex_oci::Digest;
use conex_store::{PruneOptions, Removed, Store};
use conex_term::{Answer, human_size};

use crate::error::Result;
use crate::session::Session;
use crate::transfer::Artifacts;

/// Whether a person is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// They are.
    First,
    /// They said `--force`.
    Never,
}

impl Ask {
    /// What `--force` says.
    pub fn unless(force: bool) -> Self {
        if force { Self::Never } else { Self::First }
    }
}

/// Asks whether to go on. A no is no failure; it is said, because a script without `--force` would
/// else wonder.
pub fn confirmed(session: &Session, ask: Ask, question: &str) -> Result<bool> {
    if ask == Ask::Never {
        return Ok(true);
    }
    let mut input = std::io::stdin().lock();
    match conex_term::confirm(question, &mut input, &mut std::io::stderr())? {
        Answer::Yes => Ok(true),
        Answer::No => {
            session.err("nothing was removed");
            Ok(false)
        }
    }
}

/// What a removal took away, with the names that images had before.
pub struct Report {
    names: BTreeMap<Digest, Vec<String>>,
    removed: Removed,
}

impl Report {
    /// Notes what images are called now.
    pub fn begin(store: &Store) -> Result<Self> {
        let mut names = BTreeMap::new();
        for record in store.images()? {
            let references = record.tags.iter().chain(&record.repo_digests);
            names.insert(
                record.id.clone(),
                references.map(conex_oci::Reference::familiar).collect(),
            );
        }
        Ok(Self { names, removed: Removed::default() })
    }

    /// Prunes, and notes what went.
    pub fn prune(&mut self, store: &Store, options: &PruneOptions) -> Result<()> {
        self.add(store.prune(options)?);
        Ok(())
    }

    /// Removes what belonged to images that are gone, and notes it.
    pub fn sweep(&mut self, store: &Store) -> Result<()> {
        let bytes = Artifacts::sweep(store, SystemTime::now())?;
        self.add(Removed { bytes, ..Removed::default() });
        Ok(())
    }

    /// Notes what went.
    pub fn add(&mut self, removed: Removed) {
        self.removed.merge(removed);
    }

    /// Says it.
    pub fn show(&self, session: &Session) -> Result<()> {
        session.out(&self.text())
    }

    fn text(&self) -> String {
        let removed = &self.removed;
        let mut images = Vec::new();
        for id in &removed.images {
            for name in self.names.get(id).into_iter().flatten() {
                images.push(format!("untagged: {name}"));
            }
            images.push(format!("deleted: {id}"));
        }
        images.extend(removed.chains.iter().map(|chain| format!("deleted: {chain}")));
        let keys = removed.cache.iter().map(|key| key.hex().to_owned()).collect();
        let mut text = String::new();
        for (title, lines) in [
            ("Deleted Images", images),
            ("Deleted Volumes", removed.volumes.clone()),
            ("Deleted build cache objects", keys),
            ("Deleted cache mounts", removed.cache_mounts.clone()),
        ] {
            if !lines.is_empty() {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{title}:\n{}\n", lines.join("\n"));
            }
        }
        let _ = writeln!(text, "Total reclaimed space: {}", human_size(removed.bytes));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn what_went_is_said_as_docker_says_it() {
        let id = Digest::of(b"image");
        let mut report = Report {
            names: [(id.clone(), vec!["app:1".to_owned(), "app:2".to_owned()])].into(),
            removed: Removed::default(),
        };
        assert_snapshot!(report.text(), @"Total reclaimed space: 0B");
        report.add(Removed {
            images: vec![id],
            chains: vec![Digest::of(b"layer")],
            volumes: vec!["data".to_owned()],
            bytes: 1_234_567,
            ..Removed::default()
        });
        assert_snapshot!(report.text(), @r"
        Deleted Images:
        untagged: app:1
        untagged: app:2
        deleted: sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d
        deleted: sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85

        Deleted Volumes:
        data

        Total reclaimed space: 1.235MB
        ");
    }
}
