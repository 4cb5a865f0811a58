//! A snapshot being written: what lands where.

use std::ffi::OsStr;
use std::path::Path;

use crate::support::*;
use conex_layer::{Attributes, ErrorKind, LastLink, Replace, Stack};

#[test]
fn links_of_the_image_decide_where_files_land_and_never_lead_out() {
    for form in forms() {
        let scratch = Scratch::new();
        std::fs::write(scratch.path("secret"), "outside").unwrap();
        let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
        target(lower.clone(), &[], form)
            .dir("usr/bin")
            .link("bin", "usr/bin")
            .link("abs", "/usr")
            .link("out", "../../../../../..")
            .link("evil", "/../../secret")
            .link("loop", "loop");
        let mut target = target(upper, &[lower], form);
        target.file("bin/a", "1").file("/abs/b", "2").file("out/c", "3").file("evil", "4");
        target.file("abs/../d", "5").file("../../e", "6");
        assert!(target.stat(Path::new("loop/x"), LastLink::Follow).is_err());
        let resolved = target.resolve(Path::new("evil/../x"), LastLink::Follow);
        assert!(resolved.is_err(), "a file is no directory: {resolved:?}");
        assert_same!(seen(&target.merged()), @r#"
        abs Symlink 777 0:0 @1000 -> /usr
        bin Symlink 777 0:0 @1000 -> usr/bin
        c File 644 0:0 @1000 4e07408562be
        d File 644 0:0 @1000 ef2d127de37b
        e File 644 0:0 @1000 e7f6c011776e
        evil File 644 0:0 @1000 4b227777d4dd
        loop Symlink 777 0:0 @1000 -> loop
        out Symlink 777 0:0 @1000 -> ../../../../../..
        usr Dir 755 0:0
        usr/b File 644 0:0 @1000 d4735e3a265e
        usr/bin Dir 755 0:0
        usr/bin/a File 644 0:0 @1000 6b86b273ff34
        "#);
        assert_eq!(std::fs::read_to_string(scratch.path("secret")).unwrap(), "outside");
        assert_eq!(std::fs::read_dir(scratch.0.path()).unwrap().count(), 3);
    }
}

#[test]
fn what_was_below_a_removed_directory_stays_hidden() {
    for form in forms() {
        let scratch = Scratch::new();
        let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
        target(lower.clone(), &[], form).file("d/old", "1").file("e/old", "2").file("f", "3");
        let mut target = target(upper.clone(), std::slice::from_ref(&lower), form);
        target.gone("d").file("d/new", "4").gone("f").dir("f").file("e", "5").gone("nothing");
        assert_same!(seen(&target.merged()), @r#"
        d Dir 755 0:0
        d/new File 644 0:0 @1000 4b227777d4dd
        e File 644 0:0 @1000 ef2d127de37b
        f Dir 755 0:0
        "#);
        target.gone("e").gone("d/new").gone("f");
        assert_same!(seen(&target.merged()), @"d Dir 755 0:0");
        target.dir("e");
        assert_same!(seen(&target.merged()), @r#"
        d Dir 755 0:0
        e Dir 755 0:0
        "#);
        let (tar, _) = tar_of(&upper, &[lower], form);
        assert_same!(listing(&tar), @r#"
        d/ Dir 755 0:0 @2000
        d/.wh..wh..opq File 644 0:0 @0
        e/ Dir 755 0:0 @1000
        e/.wh..wh..opq File 644 0:0 @0
        .wh.f File 644 0:0 @0
        "#);
    }
}

#[test]
fn directories_above_are_copied_up_as_they_were_below() {
    for form in forms() {
        let scratch = Scratch::new();
        let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
        let mut below = target(lower.clone(), &[], form);
        let mut odd = attributes(0o2750, 7, 8, 500);
        odd.xattrs = vec![("user.x".into(), b"v".to_vec())];
        below.put_dir(Path::new("a"), &odd, Replace::Anything).unwrap();
        below.dir("a/b").file("a/b/f", "1");
        let mut target = target(upper, &[lower], form);
        target.file("a/b/g", "2");
        let link = (Path::new("h"), Path::new("a/b/f"));
        target.put_hard_link(link.0, link.1, Replace::Anything).unwrap();
        assert_same!(seen(&target.merged()), @r#"
        a Dir 2750 7:8 user.x=[118]
        a/b Dir 755 0:0
        a/b/f File 644 0:0 @1000 6b86b273ff34
        a/b/g File 644 0:0 @1000 d4735e3a265e
        h File 644 0:0 @1000 6b86b273ff34 = a/b/f
        "#);
    }
}

#[test]
fn files_and_directories_do_not_take_each_others_place_unasked() {
    for form in forms() {
        let scratch = Scratch::new();
        let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
        target(lower.clone(), &[], form).dir("dir").file("file", "1");
        let mut target = target(upper, &[lower], form);
        target.dir("dir2").file("file2", "2");
        let plain = Attributes::with_mode(0o644);
        for name in ["dir", "dir2"] {
            let put = target.put_file(Path::new(name), &plain, &mut &b""[..], Replace::SameKind);
            assert_eq!(put.unwrap_err().kind(), ErrorKind::Conflict, "{name}");
        }
        for name in ["file", "file2", "file/x", "file2/x"] {
            let made = target.make_dirs(Path::new(name), &plain);
            assert_eq!(made.unwrap_err().kind(), ErrorKind::Conflict, "{name}");
        }
        let put = target.put_dir(Path::new("file"), &plain, Replace::SameKind);
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Conflict);
        let made = target.make_dirs(Path::new("dir/x/y"), &Attributes::with_mode(0o700)).unwrap();
        assert_eq!(made, [Path::new("dir/x"), Path::new("dir/x/y")]);
        assert!(target.remove(Path::new("/")).is_err());
        let zero = conex_sys::dir::Node::CharDevice(0, 0);
        assert!(target.put_node(Path::new("z"), zero, &plain, Replace::Anything).is_err());
    }
}

#[test]
fn a_hundred_layers_are_one_tree() {
    for form in forms() {
        let scratch = Scratch::new();
        let mut layers = Vec::new();
        for number in 0..100 {
            let layer = scratch.dir(&format!("layer{number}"));
            let mut target = target(layer.clone(), &layers, form);
            target.file(&format!("d/{number:02}"), &number.to_string()).file("d/last", "x");
            if number > 0 {
                target.gone(&format!("d/{:02}", number - 1));
            }
            drop(target);
            layers.insert(0, layer);
        }
        let stack = Stack::new(layers, form);
        let names: Vec<_> =
            stack.read_dir(Path::new("d")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["99", "last"]);
        assert_eq!(stack.read(Path::new("d/99"), 10).unwrap().unwrap(), b"99");
        assert!(stack.find(Path::new("d/50"), LastLink::Keep).unwrap().is_none());
    }
}

#[test]
fn owners_and_modes_of_every_kind_are_recorded() {
    for form in forms() {
        let scratch = Scratch::new();
        let upper = scratch.dir("upper");
        let mut target = target(upper.clone(), &[], form);
        let odd = attributes(0o4711, 1000, 100, 900);
        let mut capable = attributes(0o755, 0, 0, 900);
        let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        capable.xattrs = vec![("security.capability".into(), capability)];
        let any = Replace::Anything;
        target.put_file(Path::new("a"), &odd, &mut &b"1"[..], any).unwrap();
        target.put_file(Path::new("none"), &attributes(0, 5, 6, 1), &mut &b""[..], any).unwrap();
        target.put_file(Path::new("cap"), &capable, &mut &b""[..], any).unwrap();
        target.put_dir(Path::new("d"), &attributes(0o1000, 3, 4, 900), any).unwrap();
        target.put_symlink(Path::new("l"), OsStr::new("a"), &odd, any).unwrap();
        target.put_symlink(Path::new("m"), OsStr::new("a"), &attributes(0, 0, 0, 1), any).unwrap();
        let device = conex_sys::dir::Node::BlockDevice(8, 3);
        target.put_node(Path::new("n"), device, &odd, any).unwrap();
        target.put_node(Path::new("p"), conex_sys::dir::Node::Fifo, &odd, any).unwrap();
        let (tar, _) = tar_of(&upper, &[], form);
        assert_same!(listing(&tar), @r#"
        a File 4711 1000:100 @900 "1"
        cap File 755 0:0 @900 security.capability=[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        d/ Dir 1000 3:4 @900
        l Symlink 777 1000:100 @900 -> a
        m Symlink 777 0:0 @1 -> a
        n BlockDevice 4711 1000:100 @900
        none File 0 5:6 @1
        p Fifo 4711 1000:100 @900
        "#);
        let again = scratch.dir("again");
        applied(&tar, again.clone(), &[], form);
        assert_eq!(tar_of(&again, &[], form).0, tar);
        let stack = Stack::new(vec![upper], form);
        assert_eq!(seen(&stack), seen(&Stack::new(vec![again], form)));
    }
}
