//! Archives that nobody should have made.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use conex_layer::{
    ApplyLimits, ApplyOptions, Encoder, EncoderOptions, EntryHeader, ErrorKind, Hashing, Stack,
    TarLimits, TarWriter, apply_layer, is_archive, unpack_archive,
};
use conex_oci::Compression;

use crate::support::*;

fn file(path: &str) -> EntryHeader {
    EntryHeader::file(path, 1)
}

fn link(kind: u8, path: &str, to: &str) -> EntryHeader {
    EntryHeader { kind, link: to.into(), ..EntryHeader::file(path, 0) }
}

fn tar_of_entries(entries: &[EntryHeader]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for entry in entries {
        tar.append(entry, &vec![b'x'; usize::try_from(entry.size).unwrap()]).unwrap();
    }
    tar.finish().unwrap()
}

/// Unpacks into `upper` of a scratch folder with a `secret` beside it, which must stay.
fn unpacked(entries: &[EntryHeader]) -> Vec<(String, std::result::Result<String, ErrorKind>)> {
    let tar = tar_of_entries(entries);
    let mut results = Vec::new();
    for form in forms() {
        for as_layer in [true, false] {
            let scratch = Scratch::new();
            fs::write(scratch.path("secret"), "untouched").unwrap();
            let mut target = target(scratch.dir("upper"), &[], form);
            let options = ApplyOptions::new(2);
            let mut input = tar.as_slice();
            let done = if as_layer {
                apply_layer(&mut input, &mut target, &options)
            } else {
                unpack_archive(&mut input, &mut target, Path::new("to"), None, &options)
            };
            let names: Vec<_> = fs::read_dir(scratch.0.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !matches!(name.as_str(), "secret" | "upper"))
                .collect();
            assert!(names.is_empty(), "something landed outside: {names:?}");
            assert_eq!(fs::read_to_string(scratch.path("secret")).unwrap(), "untouched");
            assert_eq!(fs::metadata(scratch.path("secret")).unwrap().len(), 9);
            let seen = done.map(|_| seen(&target.merged())).map_err(|error| error.kind());
            results.push((format!("{form:?} {as_layer}"), seen));
        }
    }
    results
}

#[test]
fn nothing_lands_outside_whatever_the_paths_and_links_say() {
    let cases: &[&[EntryHeader]] = &[
        &[file("../secret"), file("../../../../../../secret"), file("a/../../secret")],
        &[file("/secret"), file("//secret"), file("/../secret")],
        &[link(b'2', "l", "../.."), file("l/secret")],
        &[link(b'2', "l", "/"), file("l/secret"), link(b'2', "m", "l/../.."), file("m/secret")],
        &[link(b'2', "secret", "../secret"), file("secret")],
        &[link(b'1', "h", "../secret"), file("h")],
        &[link(b'2', "s", "../secret"), link(b'1', "h", "s"), file("h")],
        &[EntryHeader::dir("d/"), link(b'2', "d", ".."), file("d/secret")],
        &[file("d/f"), link(b'2', "d", ".."), file("d/secret"), EntryHeader::dir("d/")],
        &[link(b'2', "d", ".."), EntryHeader { mode: 0, ..EntryHeader::dir("d/") }],
        &[file(".wh.../secret"), file("a/.wh..wh..opq"), file("../.wh.secret")],
        &[link(b'2', "x", ".."), file("x/.wh.secret"), file("x/.wh..wh..opq")],
        &[link(b'2', "p", "/proc/self/root"), file("p/secret")],
    ];
    for entries in cases {
        // Refused or confined; that nothing is outside is checked on the way.
        unpacked(entries);
    }
}

#[test]
fn archives_that_contradict_themselves_are_refused() {
    for (entries, kind) in [
        (vec![file("a"), file("a/b")], ErrorKind::Conflict),
        (vec![link(b'1', "h", "none")], ErrorKind::NotFound),
        (vec![EntryHeader::dir("d/"), link(b'1', "h", "d")], ErrorKind::Conflict),
        (vec![link(b'2', "l", "l"), file("l/x")], ErrorKind::Malformed),
        (vec![file("a/..")], ErrorKind::Malformed),
        (vec![file("n".repeat(300).as_str())], ErrorKind::Io),
        (vec![EntryHeader { size: 0, ..file("/") }], ErrorKind::Malformed),
    ] {
        for (form, result) in unpacked(&entries) {
            let shown: Vec<_> =
                entries.iter().map(|entry| entry.path.escape_ascii().to_string()).collect();
            // `/` reads as a directory.
            if shown == ["/"] {
                assert!(result.is_ok());
                continue;
            }
            assert_eq!(result.unwrap_err(), kind, "{form} {shown:?}");
        }
    }
}

#[test]
fn marks_of_the_overlay_itself_cannot_be_smuggled_in() {
    for form in forms() {
        let mut header = EntryHeader::dir("d/");
        for name in [
            "trusted.overlay.opaque",
            "user.overlay.opaque",
            "trusted.overlay.redirect",
            "user.overlay.metacopy",
            "user.containers.override_stat",
            "user.conex.xattr.security.capability",
        ] {
            header.xattrs.push((name.into(), b"y".to_vec()));
        }
        let scratch = Scratch::new();
        let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
        target(lower.clone(), &[], form).file("d/kept", "");
        applied(&tar_of_entries(&[header]), upper.clone(), std::slice::from_ref(&lower), form);
        assert!(seen(&Stack::new(vec![upper.clone(), lower], form)).contains("d/kept"));
        assert!(upper.xattr_names(OsStr::new("d")).unwrap().is_empty());
    }
}

#[test]
fn limits_are_named_when_they_are_passed() {
    let form = *forms().first().unwrap();
    let many: Vec<_> = (0..100).map(|number| file(&format!("f{number}"))).collect();
    let long = vec![file(&"d/".repeat(600))];
    let mut heavy = file("h");
    heavy.xattrs = vec![("user.x".into(), vec![0; 60_000])];
    let big = vec![EntryHeader::file("b", 5000)];
    let limits = |tar: TarLimits, unpacked_size_max| ApplyLimits { tar, unpacked_size_max };
    let usual = TarLimits::default();
    for (entries, limits, text) in [
        (&many, limits(TarLimits { entry_count_max: 99, ..usual }, 1 << 20), "99 entries"),
        (&long, limits(TarLimits { path_len_max: 1000, ..usual }, 1 << 20), "1000 bytes"),
        (
            &vec![heavy],
            limits(TarLimits { header_size_max: 50_000, ..usual }, 1 << 20),
            "extended headers",
        ),
        (&big, limits(usual, 4999), "4999 bytes"),
    ] {
        let scratch = Scratch::new();
        let mut target = target(scratch.dir("upper"), &[], form);
        let options = ApplyOptions { limits, ..ApplyOptions::new(1) };
        let tar = tar_of_entries(entries);
        let error = apply_layer(&mut tar.as_slice(), &mut target, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn tars_that_are_cut_off_or_changed_are_refused_or_read_but_never_worse() {
    let form = *forms().first().unwrap();
    let mut long = EntryHeader::file("é".repeat(100), 700);
    long.xattrs = vec![("user.a".into(), b"1".to_vec())];
    let tar = tar_of_entries(&[EntryHeader::dir("d/"), long, file("f"), link(b'2', "l", "f")]);
    let try_it = |bytes: &[u8]| {
        let scratch = Scratch::new();
        let mut target = target(scratch.dir("upper"), &[], form);
        let mut input = bytes;
        apply_layer(&mut input, &mut target, &ApplyOptions::new(1)).map(|_| ())
    };
    try_it(&tar).unwrap();
    // Without its last blocks an archive is still whole; anywhere else it is not.
    try_it(&tar[..tar.len() - 1024]).unwrap();
    for len in [1, 511, 513, 1000, 1600, tar.len() - 1025] {
        assert_eq!(try_it(&tar[..len]).unwrap_err().kind(), ErrorKind::Malformed, "{len}");
    }
    for at in (0..tar.len() - 1024).step_by(7) {
        let mut changed = tar.clone();
        changed[at] ^= 0x41;
        // Content may change unnoticed, headers not.
        let _ = try_it(&changed);
    }
}

#[test]
fn archives_are_known_by_content_and_unpacked_where_they_should_be() {
    for form in forms() {
        let tar = tar_of_entries(&[
            file("a/b"),
            link(b'1', "c", "a/b"),
            file(".wh.name"),
            link(b'2', "abs", "/etc"),
            file("abs/in-etc"),
        ]);
        let options = EncoderOptions {
            compression: Compression::Gzip,
            level: None,
            thread_count: 1,
            hash: Hashing::None,
        };
        let mut encoder = Encoder::new(Vec::new(), &options).unwrap();
        std::io::Write::write_all(&mut encoder, &tar).unwrap();
        let (gzip, _) = encoder.finish().unwrap();
        for (bytes, is) in [
            (&tar[..], true),
            (&gzip[..], true),
            (&tar[..100], false),
            (b"", false),
            (b"#!/bin/sh", false),
            (&[0; 4096], false),
            (b"\x1f\x8b\x08broken", false),
        ] {
            let mut input = bytes;
            assert_eq!(is_archive(&mut input), is);
        }
        let scratch = Scratch::new();
        let lower = scratch.dir("lower");
        target(lower.clone(), &[], form).dir("etc").dir("opt").link("to", "opt");
        let mut target = target(scratch.dir("upper"), &[lower], form);
        let options = ApplyOptions::new(2);
        let to = Path::new("to/new");
        unpack_archive(&mut gzip.as_slice(), &mut target, to, Some((5, 6)), &options).unwrap();
        assert_same!(seen(&target.merged()), @r"
        etc Dir 755 0:0
        etc/in-etc File 644 5:6 @0 2d711642b726
        opt Dir 755 0:0
        opt/new Dir 755 5:6
        opt/new/.wh.name File 644 5:6 @0 2d711642b726
        opt/new/a Dir 755 5:6
        opt/new/a/b File 644 5:6 @0 2d711642b726
        opt/new/abs Symlink 777 5:6 @0 -> /etc
        opt/new/c File 644 5:6 @0 2d711642b726 = opt/new/a/b
        to Symlink 777 0:0 @1000 -> opt
        ");
    }
}
