//! Layer tars: deterministic, minimal, read by others as we mean them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::support::*;
use conex_layer::{
    ApplyOptions, Form, Hashing, Replace, SnapshotTimes, Stack, WriteOptions, apply_layer,
    diff_id_of, normalize_times, write_layer,
};

#[test]
fn a_layer_of_nothing_is_the_known_one() {
    for form in forms() {
        let scratch = Scratch::new();
        let upper = scratch.dir("upper");
        let (_, summary) = tar_of(&upper, &[], form);
        let known = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
        assert_eq!(summary.diff_id.as_ref().unwrap().to_string(), known);
        assert!(summary.is_empty());
        let (diff_id, _) =
            diff_id_of(&upper, &Stack::empty(form), &WriteOptions::new(form)).unwrap();
        assert_eq!(Some(diff_id), summary.diff_id);
    }
}

#[test]
fn a_layer_has_what_changed_and_nothing_else() {
    for form in forms() {
        let scratch = Scratch::new();
        let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
        target(lower.clone(), &[], form)
            .dir("same/deep")
            .dir("mode")
            .file("etc/passwd", "root")
            .file("old", "1");
        let mut target = target(upper.clone(), std::slice::from_ref(&lower), form);
        // Copied up and nothing done in it.
        target.file("same/deep/x", "").file("same/y", "");
        for name in ["same/deep/x", "same/y"] {
            upper_remove(&scratch, name);
        }
        target.put_dir(Path::new("mode"), &attributes(0o700, 0, 0, 1), Replace::Anything).unwrap();
        target.file("etc/group", "g").gone("old").file("é", "2");
        // A whiteout of what no layer has, as a container makes with a temporary file.
        let upper_path = scratch.path("upper");
        let whiteout = conex_sys::dir::Node::CharDevice(0, 0);
        conex_sys::dir::Dir::open_ambient(&upper_path)
            .unwrap()
            .create_node(OsStr::new("temp"), whiteout, 0)
            .unwrap();
        let (tar, summary) = tar_of(&upper, &[lower], form);
        assert_same!(listing(&tar), @r#"
        etc/ Dir 755 0:0 @2000
        etc/group File 644 0:0 @1000 "g"
        mode/ Dir 700 0:0 @1
        .wh.old File 644 0:0 @0
        é File 644 0:0 @1000 "2"
        "#);
        assert_eq!((summary.entry_count, summary.unpacked_size), (5, 2));
    }
}

fn upper_remove(scratch: &Scratch, name: &str) {
    std::fs::remove_file(scratch.path("upper").join(name)).unwrap();
}

/// A tree with everything that could come out differently, made in the given order.
fn make_everything(upper: conex_sys::dir::Dir, form: Form, backwards: bool) {
    let mut target = target(upper, &[], form);
    let long = "x".repeat(200);
    let deep = format!("{long}/{long}/{long}");
    let mut names = vec!["a".to_owned(), "b-".into(), "b/c".into(), "é/ü".into(), deep.clone()];
    if backwards {
        names.reverse();
    }
    for name in &names {
        target.file(name, name);
        let mtime = target.stat(Path::new(name), conex_layer::LastLink::Keep).unwrap().unwrap();
        assert_eq!(mtime.mtime.seconds, 1000);
    }
    target.put_hard_link(Path::new("z"), Path::new(&deep), Replace::Anything).unwrap();
    target.put_hard_link(Path::new("0"), Path::new(&deep), Replace::Anything).unwrap();
    target.link("link", &"t".repeat(150));
    let big = attributes(0o644, 3_000_000, 4_000_000_000, -5);
    target.put_file(Path::new("big"), &big, &mut &b""[..], Replace::Anything).unwrap();
    let odd = Path::new(OsStr::from_bytes(b"n\xff\n"));
    target.put_file(odd, &attributes(0o600, 1, 2, 3), &mut &b"odd"[..], Replace::Anything).unwrap();
    let mut marked = attributes(0o640, 0, 0, 9_000_000_000);
    marked.xattrs = vec![
        ("user.b".into(), b"2\0\n=".to_vec()),
        ("user.a".into(), vec![]),
        ("security.selinux".into(), b"label".to_vec()),
        ("trusted.overlay.opaque".into(), b"y".to_vec()),
    ];
    target.put_file(Path::new("marked"), &marked, &mut &b"m"[..], Replace::Anything).unwrap();
}

#[test]
fn the_same_tree_gives_the_same_bytes_in_every_form_and_order() {
    let mut tars = Vec::new();
    for form in forms() {
        for backwards in [false, true] {
            let scratch = Scratch::new();
            let upper = scratch.dir("upper");
            make_everything(upper.clone(), form, backwards);
            normalize_times(&upper, 1000).unwrap();
            tars.push(tar_of(&upper, &[], form).0);
            let again = scratch.dir("again");
            applied(&tars[0], again.clone(), &[], form);
            tars.push(tar_of(&again, &[], form).0);
        }
    }
    assert!(tars.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn times_in_the_snapshot_can_be_those_of_the_layer() {
    let form = *forms().first().unwrap();
    let scratch = Scratch::new();
    let upper = scratch.dir("upper");
    target(upper.clone(), &[], form).file("d/f", "1").link("d/l", "f");
    let options = WriteOptions {
        mtime_max: 500,
        times: SnapshotTimes::Normalize,
        hash: Hashing::None,
        ..WriteOptions::new(form)
    };
    let mut tar = Vec::new();
    let summary = write_layer(&upper, &Stack::empty(form), &options, &mut tar).unwrap();
    assert_eq!(summary.diff_id, None);
    let stack = Stack::new(vec![upper], form);
    for path in ["d", "d/f", "d/l"] {
        let stat = stack.stat(Path::new(path), conex_layer::LastLink::Keep).unwrap().unwrap();
        assert_eq!(stat.mtime.seconds, 500, "{path}");
    }
}

#[test]
fn sparse_files_are_whole_in_the_tar_and_keep_their_holes_in_copies() {
    let form = *forms().first().unwrap();
    let scratch = Scratch::new();
    let upper = scratch.dir("upper");
    let file = upper.create_file(OsStr::new("sparse"), 0o644).unwrap();
    file.set_len(40 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 20 << 20).unwrap();
    let (tar, summary) = tar_of(&upper, &[], form);
    assert_eq!(summary.unpacked_size, 40 << 20);
    assert_eq!(&tar[512 + (20 << 20)..][..6], b"middle");
    assert!(tar[512..][..20 << 20].iter().all(|byte| *byte == 0));
}

#[test]
fn overlay_marks_that_say_content_is_elsewhere_are_refused() {
    for form in forms() {
        let prefix = if form == Form::ROOT { "trusted" } else { "user" };
        for mark in ["redirect", "metacopy"] {
            let scratch = Scratch::new();
            let upper = scratch.dir("upper");
            upper.create_dir(OsStr::new("d"), 0o755).unwrap();
            let name = format!("{prefix}.overlay.{mark}");
            upper.set_xattr(OsStr::new("d"), OsStr::new(&name), b"/x").unwrap();
            let lower = Stack::empty(form);
            let written = write_layer(&upper, &lower, &options(form), &mut Vec::new());
            let error = written.unwrap_err();
            assert!(error.to_string().contains(mark) && error.hint().is_some(), "{error}");
        }
    }
}

#[test]
fn gnu_tar_and_python_read_what_we_write() {
    if !is_root() {
        eprintln!("skipped: an ordinary user cannot unpack the owners");
        return;
    }
    let form = *forms().first().unwrap();
    let scratch = Scratch::new();
    let upper = scratch.dir("upper");
    make_everything(upper.clone(), form, false);
    normalize_times(&upper, 2000).unwrap();
    let (tar, _) = tar_of(&upper, &[], form);
    std::fs::write(scratch.path("layer.tar"), &tar).unwrap();
    // Older ones have no filters, and newer ones warn where none is named.
    let python = "import tarfile,sys; \
                  trust={'filter': 'fully_trusted'} if hasattr(tarfile, 'data_filter') else {}; \
                  tarfile.open(sys.argv[1]).extractall(sys.argv[2], numeric_owner=True, **trust)";
    let (archive, by_gnu, by_python) =
        (scratch.path("layer.tar"), scratch.path("gnu"), scratch.path("python"));
    let gnu: [&OsStr; 7] = [
        "--xattrs".as_ref(),
        "--xattrs-include=*".as_ref(),
        "--numeric-owner".as_ref(),
        "-xpf".as_ref(),
        archive.as_ref(),
        "-C".as_ref(),
        by_gnu.as_ref(),
    ];
    let python: [&OsStr; 4] =
        ["-c".as_ref(), python.as_ref(), archive.as_ref(), by_python.as_ref()];
    for (program, args, dir) in [("tar", &gnu[..], "gnu"), ("python3", &python[..], "python")] {
        let unpacked = scratch.dir(dir);
        let Some(output) = run(program, args) else { continue };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {errors}");
        // Python's module restores neither extended attributes nor the times of links.
        let as_python = |text: String| {
            let lines = text.lines().map(|line| {
                let line = line.split(" user.").next().unwrap();
                let is_link = line.contains(" Symlink ");
                if is_link { line.split(" @").next().unwrap().to_owned() } else { line.to_owned() }
            });
            lines.collect::<Vec<_>>()
        };
        let ours = seen(&Stack::new(vec![upper.clone()], form));
        let theirs = seen(&Stack::new(vec![unpacked], form));
        if dir == "gnu" {
            assert_eq!(theirs, ours);
        } else {
            assert_eq!(as_python(theirs), as_python(ours));
        }
    }
}

#[test]
fn what_gnu_tar_writes_in_all_its_formats_is_unpacked() {
    let scratch = Scratch::new();
    let source = scratch.path("source");
    std::fs::create_dir_all(source.join("dir")).unwrap();
    std::fs::write(source.join("dir/file"), "content").unwrap();
    std::fs::hard_link(source.join("dir/file"), source.join("hard")).unwrap();
    std::os::unix::fs::symlink("dir/file", source.join("link")).unwrap();
    let sparse = std::fs::File::create(source.join("sparse")).unwrap();
    for at in 0..40 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", at << 20).unwrap();
    }
    sparse.set_len(41 << 20).unwrap();
    let name = "n".repeat(120);
    for format in [
        "v7",
        "oldgnu",
        "gnu",
        "ustar",
        "pax --sparse-version=0.0",
        "pax --sparse-version=0.1",
        "pax --sparse-version=1.0",
    ] {
        let long = source.join(&name);
        if format == "v7" || format == "ustar" {
            // They have no room for such a name.
            let _ = std::fs::remove_file(&long);
        } else {
            std::fs::write(&long, "long").unwrap();
        }
        let archive = scratch.path("archive.tar");
        let mut args: Vec<&OsStr> = vec!["-S".as_ref(), "-C".as_ref(), source.as_ref()];
        let options = format!("--format={format}");
        args.extend(options.split(' ').map(OsStr::new));
        args.extend([OsStr::new("-cf"), archive.as_ref(), OsStr::new(".")]);
        if format == "v7" || format == "ustar" {
            args.remove(0);
        }
        let Some(output) = run("tar", &args) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for form in forms() {
            let scratch = Scratch::new();
            let upper = scratch.dir("upper");
            applied(&std::fs::read(&archive).unwrap(), upper.clone(), &[], form);
            let unpacked = scratch.path("upper");
            assert_eq!(std::fs::read(unpacked.join("hard")).unwrap(), b"content", "{format}");
            assert_eq!(std::fs::read(unpacked.join("link")).unwrap(), b"content", "{format}");
            let same = std::fs::read(unpacked.join("sparse")).unwrap()
                == std::fs::read(source.join("sparse")).unwrap();
            assert!(same, "{format}");
            if format.starts_with("pax") || format.ends_with("gnu") {
                assert_eq!(std::fs::read(unpacked.join(&name)).unwrap(), b"long", "{format}");
                let blocks = upper.stat(OsStr::new("sparse")).unwrap().blocks;
                assert!(blocks * 512 < 20 << 20, "{format} lost the holes: {blocks} blocks");
            }
        }
    }
}

#[test]
fn umoci_and_we_unpack_the_same_layers_the_same() {
    if !is_root() {
        eprintln!("skipped: an ordinary user cannot unpack the owners");
        return;
    }
    let form = *forms().first().unwrap();
    let scratch = Scratch::new();
    let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
    make_everything(lower.clone(), form, false);
    target(lower.clone(), &[], form).file("gone/a", "").file("swap/a", "").file("file", "");
    let mut top = target(upper.clone(), std::slice::from_ref(&lower), form);
    top.gone("gone").gone("swap").file("swap/b", "new").gone("file").dir("file").gone("z");
    top.file("b/d", "more");
    drop(top);
    let layout =
        conex_sys::root::RootDir::from_dir(scratch.dir("layout"), conex_sys::root::Links::Refuse);
    let layout = conex_layer::Layout::create(&layout).unwrap();
    normalize_times(&lower, 2000).unwrap();
    normalize_times(&upper, 2000).unwrap();
    let bottom = tar_of(&lower, &[], form).0;
    let diff = tar_of(&upper, std::slice::from_ref(&lower), form).0;
    let root = crate::archives::put_image(&layout, &[bottom, diff]);
    layout.add_image(&root, &["x".to_owned()]).unwrap();
    let image = format!("{}:x", scratch.path("layout").display());
    let bundle = scratch.path("bundle");
    let args: [&OsStr; 4] =
        ["unpack".as_ref(), "--image".as_ref(), image.as_ref(), bundle.as_ref()];
    let Some(output) = run("umoci", &args) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs =
        seen(&Stack::plain(conex_sys::dir::Dir::open_ambient(&bundle.join("rootfs")).unwrap()));
    // Go's tar takes an empty record for none.
    let ours = seen(&Stack::new(vec![upper, lower], form)).replace(" user.a=[]", "");
    assert_eq!(theirs, ours);
}

#[test]
fn the_last_entry_of_a_path_wins_and_times_of_directories_hold() {
    use conex_layer::{EntryHeader, TarWriter};
    for form in forms() {
        let mut tar = TarWriter::new(Vec::new());
        let at = |header: EntryHeader, mtime| EntryHeader { mtime, ..header };
        tar.start(&at(EntryHeader::dir("d/"), 10)).unwrap();
        for (path, content) in
            [("d/f", "1"), ("d/f", "22"), ("x", "3"), ("imp/y", "4"), ("d/g", "5")]
        {
            let header = at(EntryHeader::file(path, content.len() as u64), 20);
            tar.append(&header, content.as_bytes()).unwrap();
        }
        let link = EntryHeader { kind: b'1', link: b"d/f".to_vec(), ..EntryHeader::file("h", 0) };
        tar.start(&link).unwrap();
        tar.start(&at(EntryHeader::dir("x/"), 30)).unwrap();
        tar.append(&at(EntryHeader::file("d/f", 3), 40), b"333").unwrap();
        tar.start(&at(EntryHeader::dir("d/"), 50)).unwrap();
        let tar = tar.finish().unwrap();
        let scratch = Scratch::new();
        let upper = scratch.dir("upper");
        applied(&tar, upper.clone(), &[], form);
        assert_same!(listing(&tar_of(&upper, &[], form).0), @r#"
        d/ Dir 755 0:0 @50
        d/f File 644 0:0 @40 "333"
        d/g File 644 0:0 @20 "5"
        h File 644 0:0 @20 "22"
        imp/ Dir 755 0:0 @20
        imp/y File 644 0:0 @20 "4"
        x/ Dir 755 0:0 @30
        "#);
    }
}

#[test]
fn marks_in_a_layer_say_nothing_of_the_layer_itself() {
    use conex_layer::{EntryHeader, TarWriter};
    for form in forms() {
        let scratch = Scratch::new();
        let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
        target(lower.clone(), &[], form)
            .file("a/old", "")
            .file("b/old", "")
            .file("c", "")
            .file("d/e", "");
        let mut tar = TarWriter::new(Vec::new());
        for path in [
            "a/new",
            "a/.wh..wh..opq",
            ".wh.b",
            "b/new",
            ".wh.b",
            ".wh.c",
            ".wh.none",
            "d/.wh.e",
            "e/.wh.f",
            ".wh..wh.plnk",
        ] {
            tar.append(&EntryHeader::file(path, 0), b"").unwrap();
        }
        let tar = tar.finish().unwrap();
        applied(&tar, upper.clone(), std::slice::from_ref(&lower), form);
        let stack = Stack::new(vec![upper.clone(), lower.clone()], form);
        assert_same!(seen(&stack), @r#"
        a Dir 755 0:0
        a/new File 644 0:0 @0 e3b0c44298fc
        b Dir 755 0:0
        b/new File 644 0:0 @0 e3b0c44298fc
        d Dir 755 0:0
        "#);
        let kinds = upper.entries().unwrap();
        let names: Vec<_> = kinds.iter().map(|entry| entry.name.to_str().unwrap()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
    }
}

#[test]
fn marks_hide_what_a_hard_link_brought_from_below() {
    use conex_layer::{EntryHeader, TarWriter};
    let entry = |line: &str| {
        let (path, to) = line.split_once("->").unwrap_or((line, ""));
        let mut header = EntryHeader::file(path, 0);
        if !to.is_empty() {
            (header.kind, header.link) = (b'1', to.as_bytes().to_vec());
        }
        header
    };
    let cases: [(&[&str], &[&str]); 7] = [
        (&["a->b", ".wh.b"], &["a", "d", "d/f"]),
        (&["a->b", ".wh.b", "c->a"], &["a", "c", "d", "d/f"]),
        (&["x->d/f", ".wh.d"], &["b", "x"]),
        (&["x->d/f", "d/.wh..wh..opq"], &["b", "d", "x"]),
        (&["x->d/f", "d/g", ".wh.d"], &["b", "d", "d/g", "x"]),
        (&["d/x->d/f", "d/.wh.f"], &["b", "d", "d/x"]),
        // Of what the layer has itself a mark says nothing.
        (&["a->b", "b", ".wh.b"], &["a", "b", "d", "d/f"]),
    ];
    for form in forms() {
        for (lines, expected) in cases {
            let scratch = Scratch::new();
            let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
            target(lower.clone(), &[], form).file("d/f", "1").file("b", "2");
            let mut tar = TarWriter::new(Vec::new());
            lines.iter().for_each(|line| tar.append(&entry(line), b"").unwrap());
            let tar = tar.finish().unwrap();
            applied(&tar, upper.clone(), std::slice::from_ref(&lower), form);
            let seen = seen(&Stack::new(vec![upper, lower], form));
            let names: Vec<&str> = seen.lines().filter_map(|line| line.split(' ').next()).collect();
            assert_eq!(names, expected, "{lines:?}\n{seen}");
        }
    }
}

#[test]
fn a_cancelled_unpack_stops() {
    let form = *forms().first().unwrap();
    let scratch = Scratch::new();
    let lower = scratch.dir("lower");
    target(lower.clone(), &[], form).file("a", "1");
    let tar = tar_of(&lower, &[], form).0;
    let flag = std::sync::atomic::AtomicBool::new(true);
    let mut target = target(scratch.dir("upper"), &[], form);
    let options = ApplyOptions { cancelled: Some(&flag), ..ApplyOptions::new(1) };
    let stopped = apply_layer(&mut tar.as_slice(), &mut target, &options);
    assert_eq!(stopped.unwrap_err().io_kind(), Some(std::io::ErrorKind::Interrupted));
}

#[test]
fn the_kernels_overlay_and_we_mean_the_same() {
    let forms = forms();
    if !forms.contains(&Form::ROOT) {
        eprintln!("skipped: an ordinary user cannot mount an overlay here");
        return;
    }
    let form = Form::ROOT;
    let scratch = Scratch::new();
    for dir in ["work", "work2", "upper2", "merged"] {
        scratch.dir(dir);
    }
    let (lower, upper) = (scratch.dir("lower"), scratch.dir("upper"));
    target(lower.clone(), &[], form)
        .file("d/old", "1")
        .file("e/old", "2")
        .file("f", "3")
        .file("g/h/i", "4")
        .file("keep/x", "5")
        .link("l", "g/h");
    target(upper.clone(), std::slice::from_ref(&lower), form)
        .gone("d")
        .file("d/new", "6")
        .gone("f")
        .file("e", "7")
        .file("l/j", "8");
    // First what we made is shown; then the kernel makes changes of its own on top.
    let script = "set -e; cd $0
        mount -t overlay overlay -o lowerdir=upper:lower,upperdir=upper2,workdir=work,redirect_dir=off,metacopy=off merged
        tar --numeric-owner --format=pax --xattrs -C merged -cf shown.tar .
        cd merged
        rm -r d; mkdir d; echo n > d/n; rm e; mkdir e; mv g g2; rm l; ln keep/x hard; chmod 600 keep/x
        rm -r keep; mkdir keep; touch t; rm t; mkdir -p deep/er; : > deep/er/file; chown 5:6 deep
        cd ..
        tar --numeric-owner --format=pax --xattrs -C merged -cf changed.tar .";
    let top = scratch.0.path();
    let args: [&OsStr; 5] =
        ["-m".as_ref(), "sh".as_ref(), "-c".as_ref(), script.as_ref(), top.as_ref()];
    let Some(output) = run("unshare", &args) else { return };
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("mount: ") && std::env::var_os("CI").is_none() {
        eprintln!("skipped: no overlay can be mounted here: {errors}");
        return;
    }
    assert!(output.status.success(), "{errors}");
    let by_kernel = |archive: &str, dir: &str| {
        let unpacked = scratch.dir(dir);
        applied(&std::fs::read(scratch.path(archive)).unwrap(), unpacked.clone(), &[], form);
        seen(&Stack::new(vec![unpacked], form))
    };
    let layers = [upper, lower];
    assert_eq!(seen(&Stack::new(layers.to_vec(), form)), by_kernel("shown.tar", "shown"));
    let changes = conex_sys::dir::Dir::open_ambient(&scratch.path("upper2")).unwrap();
    let mut tar = Vec::new();
    let stack = Stack::new(layers.to_vec(), form);
    write_layer(&changes, &stack, &WriteOptions::new(form), &mut tar).unwrap();
    let again = scratch.dir("again");
    applied(&tar, again.clone(), &layers, form);
    let [upper, lower] = layers;
    let ours = seen(&Stack::new(vec![again, upper, lower], form));
    assert_eq!(ours, by_kernel("changed.tar", "changed"));
}
