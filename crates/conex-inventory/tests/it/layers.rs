//! Layers from a few words: the one place that knows how a tar is made.

use std::sync::Arc;

use conex_inventory::{ImageReport, LayerFacts, LayerReport, Limits, Tree, scan_layer};
use conex_layer::{EntryHeader, TarWriter};
use conex_oci::DiffId;

/// An entry of a layer.
#[derive(Debug, Clone)]
pub(crate) enum Put {
    /// A file: its path, its size, and a byte that its content is made of.
    File(&'static str, usize, u8),
    Dir(&'static str),
    Symlink(&'static str, &'static str),
    /// Another name, of an earlier file.
    Link(&'static str, &'static str),
    /// A file with a mode and an owner.
    Owned(&'static str, u32, u32),
    /// A file with this text.
    Text(&'static str, &'static str),
}

/// Writes a layer's tar.
pub(crate) fn tar(entries: &[Put]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for entry in entries {
        let (header, content) = match entry {
            Put::File(path, size, byte) => {
                (EntryHeader::file(*path, *size as u64), vec![*byte; *size])
            }
            Put::Dir(path) => (EntryHeader::dir(*path), Vec::new()),
            Put::Symlink(path, to) => (link(path, to, b'2'), Vec::new()),
            Put::Link(path, to) => (link(path, to, b'1'), Vec::new()),
            Put::Owned(path, mode, uid) => {
                let mut header = EntryHeader::file(*path, 1);
                (header.mode, header.uid) = (*mode, *uid);
                (header, vec![0])
            }
            Put::Text(path, text) => {
                (EntryHeader::file(*path, text.len() as u64), text.as_bytes().to_vec())
            }
        };
        tar.append(&header, &content).unwrap();
    }
    tar.finish().unwrap()
}

fn link(path: &str, to: &str, kind: u8) -> EntryHeader {
    let mut header = EntryHeader::file(path, 0);
    (header.kind, header.link) = (kind, to.as_bytes().to_vec());
    header
}

/// Reads a layer.
pub(crate) fn layer(entries: &[Put]) -> Arc<LayerReport> {
    let tar = tar(entries);
    let scanned = scan_layer(&mut tar.as_slice(), tempfile::tempfile).unwrap();
    assert_eq!(scanned.diff_id, DiffId(conex_oci::Digest::of(&tar)));
    Arc::new(scanned.report)
}

/// Lays layers over each other.
pub(crate) fn tree(layers: &[&[Put]]) -> Tree {
    let layers: Vec<_> = layers.iter().map(|entries| layer(entries)).collect();
    Tree::of(&layers).unwrap()
}

/// Reports on a tree.
pub(crate) fn report(tree: &Tree) -> ImageReport {
    let fact = |at: usize| LayerFacts {
        diff_id: DiffId(conex_oci::Digest::of(&at.to_le_bytes())),
        created_by: format!("RUN {at}"),
        compressed_size: None,
        source: None,
    };
    let facts: Vec<LayerFacts> = (0..tree.layer_count()).map(fact).collect();
    ImageReport::of(tree, &facts, Limits { rows: 100 })
}

/// Every path that is there at the end, folders with a slash at their ends.
pub(crate) fn paths(tree: &Tree) -> Vec<String> {
    let mut found: Vec<String> = (1..tree.path_count() as u32)
        .filter(|id| tree.entry(*id).is_there)
        .map(|id| {
            let slash = if tree.entry(id).kind.is_dir() { "/" } else { "" };
            format!("{}{slash}", tree.path_text(id))
        })
        .collect();
    found.sort();
    found
}
