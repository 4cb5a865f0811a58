//! Random layers, held against the simplest thing that can be right: a map of paths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conex_inventory::{LayerReport, Tree, scan_layer};
use conex_layer::{EntryHeader, TarWriter};
use proptest::prelude::*;

use crate::layers::{paths, report};

/// An entry of a random layer.
#[derive(Debug, Clone)]
enum Op {
    File(String, u64),
    Dir(String),
    Link(String, String),
    Whiteout(String),
    Opaque(String),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), 0u64..100).prop_map(|(path, size)| Op::File(path, size)),
        2 => path().prop_map(Op::Dir),
        1 => (path(), path()).prop_map(|(path, to)| Op::Link(path, to)),
        2 => path().prop_map(Op::Whiteout),
        1 => path().prop_map(Op::Opaque),
    ]
}

/// What the model knows of a path; a file has the number of its content.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Is {
    Dir,
    File(usize),
}

/// A layer in the model.
#[derive(Default)]
struct Layer {
    is: BTreeMap<String, Is>,
    whiteouts: BTreeSet<String>,
    opaque: BTreeSet<String>,
}

fn below(path: &str) -> String {
    format!("{path}/")
}

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

impl Layer {
    /// Takes the operations of a layer; those that no tar can have are left out of `kept`.
    fn of(ops: &[Op], sizes: &mut Vec<u64>, kept: &mut Vec<Op>) -> Self {
        let mut layer = Self::default();
        for op in ops {
            let path = match op {
                Op::File(path, _) | Op::Dir(path) | Op::Whiteout(path) | Op::Opaque(path) => path,
                Op::Link(path, _) => path,
            };
            if let Op::Link(path, to) = op {
                // A name of itself, or of what is below or above it, is nothing that anybody makes.
                let is_file = matches!(layer.is.get(to), Some(Is::File(_)));
                let is_near = path == to || to.starts_with(&below(path));
                if !is_file || is_near || path.starts_with(&below(to)) {
                    continue;
                }
            }
            kept.push(op.clone());
            for parent in parents(path) {
                if layer.is.get(&parent) != Some(&Is::Dir) {
                    layer.is.insert(parent, Is::Dir);
                }
            }
            match op {
                Op::File(path, size) => {
                    layer.empty(path);
                    layer.is.insert(path.clone(), Is::File(sizes.len()));
                    sizes.push(*size);
                }
                Op::Link(path, to) => {
                    let content = layer.is[to];
                    layer.empty(path);
                    layer.is.insert(path.clone(), content);
                }
                Op::Dir(path) => drop(layer.is.insert(path.clone(), Is::Dir)),
                Op::Whiteout(path) => drop(layer.whiteouts.insert(path.clone())),
                Op::Opaque(path) => {
                    layer.is.insert(path.clone(), Is::Dir);
                    layer.opaque.insert(path.clone());
                }
            }
        }
        layer
    }

    fn empty(&mut self, path: &str) {
        let below = below(path);
        self.is.retain(|known, _| !known.starts_with(&below));
        self.whiteouts.retain(|known| !known.starts_with(&below));
        self.opaque.retain(|known| !known.starts_with(&below));
    }

    fn lay_over(&self, image: &mut BTreeMap<String, Is>) {
        for path in &self.whiteouts {
            image.remove(path);
            image.retain(|known, _| !known.starts_with(&below(path)));
        }
        for path in &self.opaque {
            image.retain(|known, _| !known.starts_with(&below(path)));
        }
        for (path, is) in &self.is {
            if *is != Is::Dir {
                image.retain(|known, _| !known.starts_with(&below(path)));
            }
            image.insert(path.clone(), *is);
        }
    }
}

fn read(ops: &[Op], first_content: usize) -> Arc<LayerReport> {
    let mut tar = TarWriter::new(Vec::new());
    let mut content = first_content;
    for op in ops {
        let marked = |path: &str, mark: &str| match path.rsplit_once('/') {
            Some((dir, name)) => format!("{dir}/{mark}{name}"),
            None => format!("{mark}{path}"),
        };
        match op {
            Op::File(path, size) => {
                let header = EntryHeader::file(path.as_str(), *size);
                tar.append(&header, &vec![content as u8; *size as usize]).unwrap();
                content += 1;
            }
            Op::Dir(path) => tar.append(&EntryHeader::dir(path.as_str()), b"").unwrap(),
            Op::Link(path, to) => {
                let mut header = EntryHeader::file(path.as_str(), 0);
                (header.kind, header.link) = (b'1', to.clone().into_bytes());
                tar.append(&header, b"").unwrap();
            }
            Op::Whiteout(path) => {
                tar.append(&EntryHeader::file(marked(path, ".wh."), 0), b"").unwrap();
            }
            Op::Opaque(path) => {
                let path = format!("{path}/.wh..wh..opq");
                tar.append(&EntryHeader::file(path, 0), b"").unwrap();
            }
        }
    }
    Arc::new(scan_layer(&mut tar.finish().unwrap().as_slice(), tempfile::tempfile).unwrap().report)
}

proptest! {
    #[test]
    fn layers_over_each_other_are_as_in_the_model(
        layers in proptest::collection::vec(proptest::collection::vec(op(), 0..12), 1..5)
    ) {
        let mut image = BTreeMap::new();
        let (mut sizes, mut reports) = (Vec::new(), Vec::new());
        for ops in &layers {
            let first = sizes.len();
            let mut kept = Vec::new();
            Layer::of(ops, &mut sizes, &mut kept).lay_over(&mut image);
            let report = read(&kept, first);
            prop_assert_eq!(&LayerReport::decode(&report.encode()).unwrap(), &*report);
            reports.push(report);
        }
        let tree = Tree::of(&reports).unwrap();
        let expected: Vec<String> = image
            .iter()
            .map(|(path, is)| format!("/{path}{}", if *is == Is::Dir { "/" } else { "" }))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        prop_assert_eq!(paths(&tree), expected);
        let seen: BTreeSet<usize> = image
            .values()
            .filter_map(|is| if let Is::File(content) = is { Some(*content) } else { None })
            .collect();
        let visible: u64 = seen.iter().map(|content| sizes[*content]).sum();
        let report = report(&tree);
        prop_assert_eq!(report.stored_size, sizes.iter().sum::<u64>());
        prop_assert_eq!(report.visible_size, visible);
        let rows: u64 = report.waste.iter().map(|row| row.size).sum();
        prop_assert_eq!(rows, report.wasted_size);
        prop_assert_eq!(tree.sizes()[0], visible);
        prop_assert_eq!(tree.wasted_by_path()[0], report.wasted_size);
    }

    #[test]
    fn no_bytes_break_the_reader(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        // Whatever it is, it is refused or can be laid out and listed.
        if let Ok(report) = LayerReport::decode_unsigned(&body) {
            let tree = Tree::of(&[Arc::new(report)]).unwrap();
            paths(&tree);
        }
    }

    #[test]
    fn a_changed_report_is_refused_or_sound(at in any::<usize>(), byte in any::<u8>()) {
        let ops = [Op::File("a/b".to_owned(), 7), Op::Link("c".to_owned(), "a/b".to_owned())];
        let kept = read(&ops, 0).encode();
        let mut body = kept[..kept.len() - 16].to_vec();
        let at = at % body.len();
        body[at] = byte;
        if let Ok(report) = LayerReport::decode_unsigned(&body) {
            let report = Arc::new(report);
            let tree = Tree::of(&[report.clone(), report]).unwrap();
            paths(&tree);
            crate::layers::report(&tree);
        }
    }
}
