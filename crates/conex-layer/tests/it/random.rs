//! Random trees: writing a layer and unpacking it changes nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use conex_layer::{CopyOptions, Form, LastLink, Replace, Stack, Target, normalize_times};
use conex_sys::dir::{Dir, Node};
use proptest::prelude::*;

use crate::support::*;

/// What may be done to an image.
#[derive(Debug, Clone)]
enum Change {
    File { path: usize, content: u8, mode: u32, owner: u32, mtime: i64, marked: bool },
    Dir { path: usize, mode: u32, owner: u32 },
    Symlink { path: usize, to: usize },
    HardLink { path: usize, to: usize },
    Node { path: usize, kind: u8 },
    Remove { path: usize },
}

/// Few names, so that changes meet each other; odd ones among them.
fn path(number: usize) -> PathBuf {
    const NAMES: [&[u8]; 7] = [b"a", b"b.c", b"\xff\xfe", "ünï".as_bytes(), b"-x", b" ", b"n\nl"];
    let mut number = number;
    let mut path = PathBuf::new();
    loop {
        path.push(OsStr::from_bytes(NAMES[number % NAMES.len()]));
        number /= NAMES.len();
        if number == 0 {
            return path;
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let path = || 0..400_usize;
    let mode = || prop_oneof![Just(0o644), Just(0o4755), Just(0), 0..0o7777_u32];
    let owner = || prop_oneof![Just(0), 0..3000_u32];
    prop_oneof![
        6 => (path(), any::<u8>(), mode(), owner(), -9..3000_i64, any::<bool>()).prop_map(
            |(path, content, mode, owner, mtime, marked)| Change::File {
                path, content, mode, owner, mtime, marked
            }
        ),
        3 => (path(), mode(), owner()).prop_map(|(path, mode, owner)| Change::Dir {
            path, mode, owner
        }),
        2 => (path(), path()).prop_map(|(path, to)| Change::Symlink { path, to }),
        2 => (path(), path()).prop_map(|(path, to)| Change::HardLink { path, to }),
        1 => (path(), 0..3_u8).prop_map(|(path, kind)| Change::Node { path, kind }),
        3 => path().prop_map(|path| Change::Remove { path }),
    ]
}

/// Makes a change. Those that cannot be made (a file in the way, a circle of links) are not.
fn make(target: &mut Target, change: &Change) {
    let any = Replace::Anything;
    // The outcome is looked at, not the way there.
    let _ = match change {
        Change::File { path: at, content, mode, owner, mtime, marked } => {
            let mut attributes = attributes(*mode, *owner, owner / 2, *mtime);
            if *marked {
                attributes.xattrs = vec![("user.mark".into(), vec![*content])];
            }
            let bytes = vec![*content; usize::from(*content) * 7];
            target.put_file(&path(*at), &attributes, &mut bytes.as_slice(), any).map(|_| ())
        }
        Change::Dir { path: at, mode, owner } => {
            target.put_dir(&path(*at), &attributes(*mode, *owner, 0, 99), any)
        }
        Change::Symlink { path: at, to } => {
            let attributes = attributes(0o777, (*to % 3) as u32, 0, 77);
            target.put_symlink(&path(*at), path(*to).as_os_str(), &attributes, any)
        }
        Change::HardLink { path: at, to } => target.put_hard_link(&path(*at), &path(*to), any),
        Change::Node { path: at, kind } => {
            let node = [Node::Fifo, Node::CharDevice(1, 3), Node::BlockDevice(7, 0)];
            target.put_node(&path(*at), node[usize::from(*kind)], &attributes(0o600, 1, 2, 5), any)
        }
        Change::Remove { path: at } => target.remove(&path(*at)),
    };
}

fn round_trip(lower_changes: &[Change], changes: &[Change], form: Form) -> Vec<u8> {
    let scratch = Scratch::new();
    let (lower, upper, again) = (scratch.dir("lower"), scratch.dir("upper"), scratch.dir("again"));
    let mut below = target(lower.clone(), &[], form);
    for change in lower_changes {
        make(&mut below, change);
    }
    let mut over = target(upper.clone(), std::slice::from_ref(&lower), form);
    for change in changes {
        make(&mut over, change);
    }
    normalize_times(&lower, 2000).unwrap();
    normalize_times(&upper, 2000).unwrap();
    let (tar, _) = tar_of(&upper, std::slice::from_ref(&lower), form);
    applied(&tar, again.clone(), std::slice::from_ref(&lower), form);
    let ours = seen(&Stack::new(vec![upper, lower.clone()], form));
    let theirs = seen(&Stack::new(vec![again.clone(), lower.clone()], form));
    assert_eq!(theirs, ours);
    let (second, _) = tar_of(&again, std::slice::from_ref(&lower), form);
    assert_eq!(listing(&second), listing(&tar));
    assert!(second == tar);
    tar
}

/// Whether two snapshots show the same changes; times of directories depend on the moment.
fn without_dir_times(tar: &[u8]) -> Vec<String> {
    let lines = listing(tar);
    let lines = lines.lines().map(|line| {
        if line.contains("/ Dir ") {
            line.split(" @").next().unwrap().to_owned()
        } else {
            line.to_owned()
        }
    });
    lines.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn unpacking_a_written_layer_is_the_identity_in_every_form(
        lower in prop::collection::vec(change(), 0..25),
        upper in prop::collection::vec(change(), 0..40),
    ) {
        let mut tars = Vec::new();
        for form in forms() {
            tars.push(round_trip(&lower, &upper, form));
        }
        for pair in tars.windows(2) {
            prop_assert_eq!(without_dir_times(&pair[0]), without_dir_times(&pair[1]));
        }
    }

    #[test]
    fn any_bytes_are_read_as_a_tar_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 512..3000),
        kind in prop::sample::select(b"0125xgLKSD7\0".to_vec()),
    ) {
        // With a right checksum the reader looks further than the first field.
        bytes[156] = kind;
        for field in [100..108, 108..116, 116..124, 124..136, 136..148] {
            bytes[field.clone()].fill(b'0');
            bytes[field.end - 2] = b'0' + kind % 8;
        }
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut reader =
            conex_layer::TarReader::new(bytes.as_slice(), conex_layer::TarLimits::default());
        while let Ok(Some(_)) = reader.next_entry() {}
    }
}

#[test]
fn a_device_with_two_names_is_the_same_layer_in_every_form() {
    let lower = [Change::Node { path: 351, kind: 1 }];
    let upper = [Change::HardLink { path: 2, to: 351 }];
    let tars: Vec<Vec<u8>> =
        forms().into_iter().map(|form| round_trip(&lower, &upper, form)).collect();
    for pair in tars.windows(2) {
        assert_eq!(without_dir_times(&pair[0]), without_dir_times(&pair[1]));
    }
}

#[test]
fn a_path_of_the_merged_view_is_the_same_by_stack_and_by_target() {
    let form = *forms().first().unwrap();
    let scratch = Scratch::new();
    let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
    target(lower.clone(), &[], form)
        .file("usr/lib/x", "1")
        .link("lib", "usr/lib")
        .link("up", "usr/../lib")
        .link("gone", "/none/where");
    let mut over = target(upper, &[lower], form);
    over.file("usr/share/y", "2").link("usr/lib/z", "../share/./y").gone("usr/lib/x");
    let merged = over.merged();
    for wanted in [
        "",
        "/",
        "lib",
        "lib/z",
        "up/z",
        "usr/lib/../share",
        "lib/../share/y",
        "lib/x",
        "gone",
        "up/../lib/z/",
        "usr/share/y/..",
        "../usr",
        "./lib/./z",
    ] {
        for last in [LastLink::Keep, LastLink::Follow] {
            let by_stack = merged.find(Path::new(wanted), last).unwrap();
            let by_target = over.stat(Path::new(wanted), last).ok().flatten();
            let kinds =
                (by_stack.as_ref().map(|found| found.stat.kind), by_target.map(|stat| stat.kind));
            assert_eq!(kinds.0, kinds.1, "{wanted} {last:?}");
            if let Some(found) = by_stack {
                assert_eq!(over.resolve(Path::new(wanted), last).unwrap(), found.path, "{wanted}");
            }
        }
    }
}

/// Copies on top of layers. Gives the snapshot, unless the copy failed, and whether it followed a
/// link of them.
fn copied(source: &Stack, to: &Path, below: &[Dir], upper: &Dir, form: Form) -> Option<bool> {
    let mut over = target(upper.clone(), below, form);
    let options =
        CopyOptions { owner: Some((0, 0)), mtime_max: Some(2000), ..CopyOptions::keep(2) };
    conex_layer::copy(source, Path::new(""), &mut over, to, &options).ok()?;
    normalize_times(upper, 2000).unwrap();
    Some(over.followed_link())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// What was copied ahead and fits is what a copy in its turn would have been.
    #[test]
    fn a_copy_that_fits_above_later_layers_is_the_copy_that_would_have_been_made_there(
        source in prop::collection::vec(change(), 1..12),
        base in prop::collection::vec(change(), 0..12),
        later in prop::collection::vec(prop::collection::vec(change(), 0..6), 1..3),
        to in 0..60_usize,
    ) {
        for form in forms() {
            let scratch = Scratch::new();
            let from = scratch.dir("source");
            let mut making = target(from.clone(), &[], form);
            source.iter().for_each(|change| make(&mut making, change));
            let source = Stack::new(vec![from], form);
            let below = scratch.dir("below");
            let mut making = target(below.clone(), &[], form);
            base.iter().for_each(|change| make(&mut making, change));
            normalize_times(&below, 2000).unwrap();
            let mut layers = vec![below.clone()];
            for (at, changes) in later.iter().enumerate() {
                let dir = scratch.dir(&format!("later{at}"));
                let mut making = target(dir.clone(), &layers, form);
                changes.iter().for_each(|change| make(&mut making, change));
                normalize_times(&dir, 2000).unwrap();
                layers.insert(0, dir);
            }
            let ahead = scratch.dir("ahead");
            let to = path(to);
            let only = std::slice::from_ref(&below);
            let Some(false) = copied(&source, &to, only, &ahead, form) else { continue };
            let between = &layers[..later.len()];
            let lower = Stack::new(only.to_vec(), form);
            if !conex_layer::fits_above(&ahead, &lower, between, form, 2000).unwrap() {
                continue;
            }
            let in_turn = scratch.dir("in-turn");
            prop_assert!(copied(&source, &to, &layers, &in_turn, form).is_some());
            let (taken, _) = tar_of(&ahead, only, form);
            let (wanted, _) = tar_of(&in_turn, &layers, form);
            prop_assert_eq!(listing(&taken), listing(&wanted));
            prop_assert!(taken == wanted);
            let shown = |top: Dir| {
                let mut all = vec![top];
                all.extend(layers.iter().cloned());
                seen(&Stack::new(all, form))
            };
            prop_assert_eq!(shown(ahead), shown(in_turn));
        }
    }
}

#[test]
fn a_copy_fits_above_layers_that_touch_nothing_of_it() {
    // What the layer in between does, and whether a copy of `app/src/f` may stay.
    type Case = (&'static str, fn(&mut Target), bool);
    let cases: [Case; 9] = [
        ("nothing", |_| (), true),
        ("elsewhere", |layer| _ = layer.file("usr/x", "1"), true),
        ("beside", |layer| _ = layer.file("app/node_modules/x", "1"), true),
        ("a directory with the same attributes", |layer| put_dir(layer, "app/src", 0o755), true),
        ("the same file", |layer| _ = layer.file("app/src/f", "1"), false),
        ("a link on the way", |layer| _ = layer.gone("app").link("app", "usr"), false),
        ("removed on the way", |layer| _ = layer.gone("app"), false),
        ("other attributes", |layer| put_dir(layer, "app", 0o700), false),
        ("other attributes of what is new", |layer| put_dir(layer, "app/src", 0o700), false),
    ];
    for form in forms() {
        for (name, change, fits) in cases {
            let scratch = Scratch::new();
            let (from, below) = (scratch.dir("source"), scratch.dir("below"));
            let mut making = target(from.clone(), &[], form);
            put_dir(&mut making, "src", 0o755);
            making.file("src/f", "f");
            let mut base = target(below.clone(), &[], form);
            put_dir(&mut base, "app", 0o755);
            put_dir(&mut base, "usr", 0o755);
            normalize_times(&below, 2000).unwrap();
            let later = scratch.dir("later");
            change(&mut target(later.clone(), std::slice::from_ref(&below), form));
            normalize_times(&later, 2000).unwrap();
            let ahead = scratch.dir("ahead");
            let only = std::slice::from_ref(&below);
            let source = Stack::new(vec![from], form);
            copied(&source, Path::new("app"), only, &ahead, form).unwrap();
            let lower = Stack::new(only.to_vec(), form);
            let told = conex_layer::fits_above(&ahead, &lower, &[later], form, 2000).unwrap();
            assert_eq!(told, fits, "{name}");
        }
    }
}

/// Puts a directory that is newer than layers tell.
fn put_dir(target: &mut Target, path: &str, mode: u32) {
    target.put_dir(Path::new(path), &attributes(mode, 0, 0, 3000), Replace::Anything).unwrap();
}
