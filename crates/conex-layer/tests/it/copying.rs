//! Copying trees and files into a snapshot.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use conex_layer::{CopyOptions, ErrorKind, Form, LastLink, Stack, Target, Wanted, copy};
use conex_sys::dir::{Dir, Node};
use conex_sys::stat::FileKind;

use crate::support::*;

/// A source tree with one of everything.
fn source(scratch: &Scratch) -> Stack {
    let top = scratch.path("source");
    for dir in ["src/deep/er", "node_modules/x", "empty"] {
        fs::create_dir_all(top.join(dir)).unwrap();
    }
    for file in ["a", "src/main", "src/deep/er/f", "node_modules/x/keep", "node_modules/drop"] {
        fs::write(top.join(file), file).unwrap();
    }
    fs::hard_link(top.join("a"), top.join("src/hard")).unwrap();
    symlink("../../outside", top.join("link")).unwrap();
    let dir = Dir::open_ambient(&top).unwrap();
    dir.create_node(OsStr::new("pipe"), Node::Fifo, 0o600).unwrap();
    dir.create_node(OsStr::new("socket"), Node::Socket, 0o600).unwrap();
    // The tester's umask must not matter.
    set_modes(&top);
    Stack::plain(dir)
}

fn set_modes(path: &Path) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            continue;
        }
        let mode = if kind.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
        if kind.is_dir() {
            set_modes(&entry.path());
        }
    }
}

fn options<'o>() -> CopyOptions<'o> {
    CopyOptions { owner: Some((0, 0)), mtime_max: Some(7), ..CopyOptions::keep(3) }
}

fn copied(source: &Stack, from: &str, target: &mut Target, to: &str, options: &CopyOptions<'_>) {
    copy(source, Path::new(from), target, Path::new(to), options).unwrap();
}

#[test]
fn a_directory_is_copied_by_its_content() {
    for form in forms() {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let mut target = target(scratch.dir("upper"), &[], form);
        let from = Path::new("");
        let summary = copy(&source, from, &mut target, Path::new("app"), &options()).unwrap();
        assert_eq!((summary.file_count, summary.dir_count, summary.size), (9, 6, 58));
        assert_same!(seen(&target.merged()), @r"
        app Dir 755 0:0
        app/a File 644 0:0 @7 ca978112ca1b
        app/empty Dir 755 0:0
        app/link Symlink 777 0:0 @7 -> ../../outside
        app/node_modules Dir 755 0:0
        app/node_modules/drop File 644 0:0 @7 b2ed2cfe3381
        app/node_modules/x Dir 755 0:0
        app/node_modules/x/keep File 644 0:0 @7 a3dfc59504ce
        app/pipe Fifo 644 0:0 @7
        app/socket File 644 0:0 @7 e3b0c44298fc
        app/src Dir 755 0:0
        app/src/deep Dir 755 0:0
        app/src/deep/er Dir 755 0:0
        app/src/deep/er/f File 644 0:0 @7 45e303407a4e
        app/src/hard File 644 0:0 @7 ca978112ca1b = app/a
        app/src/main File 644 0:0 @7 32d49112ca8c
        ");
        let times = |path| target_mtime(&mut target, path);
        assert_eq!(["app/src", "app/empty", "app/src/deep/er"].map(times), [7, 7, 7]);
    }
}

fn target_mtime(target: &mut Target, path: &str) -> i64 {
    target.stat(Path::new(path), LastLink::Keep).unwrap().unwrap().mtime.seconds
}

#[test]
fn filters_owners_and_modes_are_applied_to_what_is_taken() {
    for form in forms() {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let mut target = target(scratch.dir("upper"), &[], form);
        let filter = |path: &Path, _: FileKind| match path.to_str().unwrap() {
            "node_modules/x" => Wanted::LookInside,
            "node_modules/x/keep" => Wanted::Take,
            "src" | "empty" | "node_modules" => Wanted::LookInside,
            path if path.starts_with("src/deep") => Wanted::Take,
            _ => Wanted::Skip,
        };
        let rule =
            |kind: FileKind, mode: u32| if kind == FileKind::Dir { 0o2711 } else { mode | 1 };
        let options = CopyOptions {
            owner: Some((12, 34)),
            filter: Some(&filter),
            mode: Some(&rule),
            ..options()
        };
        copied(&source, "", &mut target, "/new/place", &options);
        assert_same!(seen(&target.merged()), @r"
        new Dir 2711 12:34
        new/place Dir 2711 12:34
        new/place/node_modules Dir 2711 12:34
        new/place/node_modules/x Dir 2711 12:34
        new/place/node_modules/x/keep File 645 12:34 @7 a3dfc59504ce
        new/place/src Dir 2711 12:34
        new/place/src/deep Dir 2711 12:34
        new/place/src/deep/er Dir 2711 12:34
        new/place/src/deep/er/f File 645 12:34 @7 45e303407a4e
        ");
        assert_eq!(target_mtime(&mut target, "new/place/node_modules"), 7);
    }
}

#[test]
fn single_files_go_where_the_image_leads_and_replace_files_only() {
    for form in forms() {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let lower = scratch.dir("lower");
        target(lower.clone(), &[], form).dir("usr/bin").link("bin", "usr/bin").file("old", "o");
        let mut target = target(scratch.dir("upper"), &[lower], form);
        copied(&source, "a", &mut target, "bin/a", &options());
        copied(&source, "src/main", &mut target, "old", &options());
        copied(&source, "src/main", &mut target, "old", &options());
        copied(&source, "link", &mut target, "deep/dir/link", &options());
        copied(&source, "src/deep", &mut target, "bin", &options());
        let refused = copy(&source, Path::new("a"), &mut target, Path::new("usr"), &options());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
        let refused = copy(&source, Path::new("src"), &mut target, Path::new("old"), &options());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
        let missing = copy(&source, Path::new("none"), &mut target, Path::new("x"), &options());
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
        assert_same!(seen(&target.merged()), @r"
        bin Symlink 777 0:0 @1000 -> usr/bin
        deep Dir 755 0:0
        deep/dir Dir 755 0:0
        deep/dir/link Symlink 777 0:0 @7 -> ../../outside
        old File 644 0:0 @7 32d49112ca8c
        usr Dir 755 0:0
        usr/bin Dir 755 0:0
        usr/bin/a File 644 0:0 @7 ca978112ca1b
        usr/bin/er Dir 755 0:0
        usr/bin/er/f File 644 0:0 @7 45e303407a4e
        ");
    }
}

#[test]
fn copying_over_an_image_merges_directories_and_keeps_the_root_as_it_is() {
    for form in forms() {
        let scratch = Scratch::new();
        let source = source(&scratch);
        let lower = scratch.dir("lower");
        let mut below = target(lower.clone(), &[], form);
        let odd = attributes(0o700, 9, 9, 5);
        let any = conex_layer::Replace::Anything;
        below.put_dir(Path::new("app"), &odd, any).unwrap();
        below.put_dir(Path::new("app/src"), &odd, any).unwrap();
        below.file("app/src/theirs", "t").file("app/a", "old").link("app/link", "/etc");
        let mut target = target(scratch.dir("upper"), &[lower], form);
        copied(&source, "", &mut target, "app", &options());
        let merged = target.merged();
        let stat = |path: &str| merged.stat(Path::new(path), LastLink::Keep).unwrap().unwrap();
        assert_eq!((stat("app").mode, stat("app").uid), (0o700, 9));
        assert_eq!((stat("app/src").mode, stat("app/src").uid), (0o755, 0));
        assert_eq!(merged.read(Path::new("app/src/theirs"), 9).unwrap().unwrap(), b"t");
        assert_eq!(merged.read(Path::new("app/a"), 9).unwrap().unwrap(), b"a");
        assert_eq!(merged.read_link(Path::new("app/link")).unwrap(), "../../outside");
    }
}

#[test]
fn copying_from_an_image_sees_what_the_image_shows() {
    for form in forms() {
        let scratch = Scratch::new();
        let (low, high) = (scratch.dir("low"), scratch.dir("high"));
        target(low.clone(), &[], form).file("d/a", "1").file("d/b", "2").file("d/sub/c", "3");
        let mut over = target(high.clone(), std::slice::from_ref(&low), form);
        over.gone("d/a").gone("d/sub").file("d/sub/new", "4");
        let odd = attributes(0o4755, 5, 6, 3);
        over.put_file(Path::new("d/set"), &odd, &mut &b"s"[..], conex_layer::Replace::Anything)
            .unwrap();
        let image = Stack::new(vec![high, low], form);
        let mut target = target(scratch.dir("upper"), &[], form);
        let keep = CopyOptions::keep(2);
        copy(&image, Path::new("d"), &mut target, Path::new("e"), &keep).unwrap();
        assert_same!(seen(&target.merged()), @r"
        e Dir 755 0:0
        e/b File 644 0:0 @1000 d4735e3a265e
        e/set File 4755 5:6 @3 043a718774c5
        e/sub Dir 755 0:0
        e/sub/new File 644 0:0 @1000 4b227777d4dd
        ");
    }
}

#[test]
fn trees_of_ten_thousand_levels_are_copied_written_and_unpacked() {
    let form = *forms().first().unwrap();
    let scratch = Scratch::new();
    let top = scratch.dir("source");
    let mut dir = top.clone();
    for _ in 0..10_000 {
        dir.create_dir(OsStr::new("d"), 0o755).unwrap();
        dir = dir.open_dir(OsStr::new("d")).unwrap();
    }
    dir.create_file(OsStr::new("bottom"), 0o644).unwrap();
    let (upper, again) = (scratch.dir("upper"), scratch.dir("again"));
    let mut target = target(upper.clone(), &[], form);
    copied(&Stack::plain(top.clone()), "", &mut target, "", &options());
    let (tar, summary) = tar_of(&upper, &[], form);
    assert_eq!(summary.entry_count, 10_001);
    applied(&tar, again.clone(), &[], form);
    assert!(tar_of(&again, &[], form).0 == tar);
    for dir in [top, upper, again] {
        dir.remove_tree(OsStr::new("d")).unwrap();
    }
}

#[test]
fn sparse_files_and_attributes_survive_a_copy() {
    let scratch = Scratch::new();
    let top = scratch.dir("source");
    let file = top.create_file(OsStr::new("sparse"), 0o644).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 32 << 20).unwrap();
    let marked = conex_sys::xattr::set(&file, OsStr::new("user.x"), b"v").is_ok();
    let form = *forms().first().unwrap();
    let mut target = target(scratch.dir("upper"), &[], form);
    copied(&Stack::plain(top), "", &mut target, "", &options());
    let metadata = fs::metadata(scratch.path("upper/sparse")).unwrap();
    assert!(metadata.len() == 64 << 20 && metadata.blocks() * 512 < 1 << 20);
    if marked {
        let xattrs = target.merged().xattrs(Path::new("sparse")).unwrap();
        assert_eq!(xattrs, [("user.x".into(), b"v".to_vec())]);
    }
}

#[test]
fn a_cancelled_copy_stops() {
    let scratch = Scratch::new();
    let source = source(&scratch);
    let mut target = target(scratch.dir("upper"), &[], Form { ..USER_FORM });
    let flag = std::sync::atomic::AtomicBool::new(true);
    let options = CopyOptions { cancelled: Some(&flag), ..options() };
    let stopped = copy(&source, Path::new(""), &mut target, Path::new(""), &options);
    assert_eq!(stopped.unwrap_err().io_kind(), Some(std::io::ErrorKind::Interrupted));
}
