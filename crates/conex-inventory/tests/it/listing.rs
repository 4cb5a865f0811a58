//! A look at the headers says of an image what reading all of it says.

use std::io;
use std::sync::Arc;

use conex_elf::ReadAt;
use conex_inventory::{
    Comparison, LayerReport, Listing, Part, Source, Tree, list_layer, scan_layer, settle,
};
use conex_layer::{EntryHeader, TarWriter};
use conex_oci::{ImageConfig, Platform};
use proptest::prelude::*;

use crate::layers::report;

/// Lists a layer.
fn look(layer: &Arc<Vec<u8>>, uses: usize) -> Part {
    let source: Source = Arc::new(Bytes(layer.clone()));
    let listing = list_layer(&source, layer.len() as u64, tempfile::tempfile).unwrap();
    let kept = listing.encode();
    let listing = Listing::decode(&kept).unwrap();
    assert_eq!(listing.encode(), kept);
    Part::listed(listing, source, uses)
}

struct Bytes(Arc<Vec<u8>>);

impl ReadAt for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.as_slice().read_at(buffer, offset)
    }
}

/// A file: its name, its size, and where it differs from others of the size.
type File = (u8, usize, usize);

fn file() -> impl Strategy<Value = File> {
    // About the size from which on contents are passed over, and the sample's and window's.
    let size = prop::sample::select(vec![0, 700, 2048, 2049, 4096, 5000, 70_000, 300_000]);
    let place = prop::sample::select(vec![0, 1, 1500, 2500, 4999, 69_999, 299_999]);
    (0u8..6, size, place)
}

fn tar(files: &[File]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (name, size, place) in files {
        let mut content = vec![7; *size];
        if let Some(byte) = content.get_mut(*place) {
            *byte = 8;
        }
        let header = EntryHeader::file(format!("d/{name}"), *size as u64);
        tar.append(&header, &content).unwrap();
    }
    tar.finish().unwrap()
}

/// Lists the layers of several images.
fn listed(images: &[Vec<Arc<Vec<u8>>>]) -> Vec<Tree> {
    let mut parts: Vec<Part> = images.iter().flatten().map(|layer| look(layer, 1)).collect();
    settle(&mut parts, 2).unwrap();
    let mut reports = parts.into_iter().map(Part::into_report);
    let tree = |image: &Vec<Arc<Vec<u8>>>| {
        let own: Vec<Arc<LayerReport>> = reports.by_ref().take(image.len()).collect();
        Tree::of(&own).unwrap()
    };
    images.iter().map(tree).collect()
}

fn scanned(image: &[Arc<Vec<u8>>]) -> Tree {
    let report = |layer: &Arc<Vec<u8>>| {
        Arc::new(scan_layer(&mut layer.as_slice(), tempfile::tempfile).unwrap().report)
    };
    Tree::of(&image.iter().map(report).collect::<Vec<_>>()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_look_and_a_scan_say_the_same(
        images in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(file(), 0..5), 1..4), 2)
    ) {
        let images: Vec<Vec<Arc<Vec<u8>>>> = images
            .iter()
            .map(|layers| layers.iter().map(|files| Arc::new(tar(files))).collect())
            .collect();
        let looked = listed(&images);
        let read: Vec<Tree> = images.iter().map(|image| scanned(image)).collect();
        for (looked, read) in looked.iter().zip(&read) {
            let text = |tree| serde_json::to_value(report(tree)).unwrap();
            // Rows that cost the same stand in the order of digests.
            let (mut one, mut other) = (text(looked), text(read));
            for value in [&mut one, &mut other] {
                let rows = value["duplicates"].as_array_mut().unwrap();
                rows.sort_by_key(ToString::to_string);
                value["suggestions"].take();
            }
            prop_assert_eq!(one, other);
        }
        let config = ImageConfig::scratch(Platform::new("linux", "amd64", ""));
        let compare = |trees: &[Tree]| {
            Comparison::of((&config, &trees[0]), (&config, &trees[1]))
        };
        prop_assert_eq!(compare(&looked), compare(&read));
    }
}

#[test]
fn a_layer_that_is_there_twice_is_rewritten_by_itself() {
    let mut parts = [look(&Arc::new(tar(&[(0, 5000, 0)])), 2)];
    settle(&mut parts, 1).unwrap();
    let [part] = parts;
    let twice = part.into_report();
    let report = report(&Tree::of(&[twice.clone(), twice]).unwrap());
    assert_eq!(report.causes.get("rewritten"), Some(&5000));
}

#[test]
fn what_names_packages_and_accounts_is_read_where_it_lies() {
    let mut tar = TarWriter::new(Vec::new());
    let package = "Package: a\nStatus: install ok installed\nVersion: 1\n";
    let status = format!("{package}Description: {}\n\n", "long ".repeat(1000));
    let accounts = "a:x:7:7::/:/bin/sh\n".repeat(300);
    // A program of Go's or Rust's is looked into; this one is broken, which is no concern.
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(5000, 0);
    program[16] = 2;
    for (path, content) in [
        ("var/lib/dpkg/status", status.as_bytes()),
        ("etc/passwd", accounts.as_bytes()),
        ("bin/program", program.as_slice()),
    ] {
        let mut header = EntryHeader::file(path, content.len() as u64);
        header.uid = 7;
        tar.append(&header, content).unwrap();
    }
    let layer = Arc::new(tar.finish().unwrap());
    let looked = &listed(&[vec![layer.clone()]])[0];
    assert_eq!(report(looked).packages.get("dpkg"), Some(&1));
    assert_eq!(report(looked).odd_owners.count, 0);
    assert_eq!(report(looked), report(&scanned(&[layer])));
}

#[test]
fn a_link_to_nothing_is_kept_as_it_is() {
    let mut tar = TarWriter::new(Vec::new());
    for (path, kind) in [("a", b'2'), ("b", b'1')] {
        let mut header = EntryHeader::file(path, 0);
        header.kind = kind;
        tar.append(&header, b"").unwrap();
    }
    let tar = tar.finish().unwrap();
    let report = scan_layer(&mut tar.as_slice(), tempfile::tempfile).unwrap().report;
    assert_eq!(LayerReport::decode(&report.encode()).unwrap(), report);
}

#[test]
fn a_damaged_listing_is_refused() {
    let layer = tar(&[(0, 5000, 0), (1, 5000, 1), (2, 7, 0)]);
    let size = layer.len() as u64;
    let source: Source = Arc::new(Bytes(Arc::new(layer)));
    let kept = list_layer(&source, size, tempfile::tempfile).unwrap().encode();
    for at in 0..kept.len() {
        let mut changed = kept.clone();
        changed[at] ^= 1;
        assert!(Listing::decode(&changed).is_err(), "{at}");
        assert!(Listing::decode(&kept[..at]).is_err(), "{at}");
    }
}

#[test]
fn a_layer_that_is_cut_off_is_refused() {
    let whole = tar(&[(0, 5000, 0), (1, 100, 0)]);
    // In a header, in what is passed over, in what is read.
    for end in [100, 600, 4000, 5700, 6200] {
        let source: Source = Arc::new(Bytes(Arc::new(whole[..end].to_vec())));
        let listed = list_layer(&source, end as u64, tempfile::tempfile);
        let scanned = scan_layer(&mut &whole[..end], tempfile::tempfile);
        assert!(listed.is_err() && scanned.is_err(), "{end}");
    }
}
