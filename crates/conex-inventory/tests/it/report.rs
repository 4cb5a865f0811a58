//! What is reported of images whose layers do what layers do.

use conex_inventory::{DiveReport, LayerReport, scan_layer};

use crate::layers::{Put, Put::*, layer, paths, report, tar, tree};

/// An image, what it truly wastes, and what dive says that it wastes.
struct Case {
    name: &'static str,
    layers: &'static [&'static [Put]],
    wasted: u64,
    causes: &'static [(&'static str, u64)],
    dive: u64,
    /// Why dive says something else.
    why: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "nothing wasted",
        layers: &[&[File("a", 100, 1)], &[File("b", 100, 2)]],
        wasted: 0,
        causes: &[],
        dive: 0,
        why: "",
    },
    Case {
        name: "file deleted later",
        layers: &[&[File("a", 100, 1)], &[File(".wh.a", 0, 0)]],
        wasted: 100,
        causes: &[("deleted", 100)],
        dive: 100,
        why: "",
    },
    Case {
        name: "directory deleted later",
        layers: &[&[Dir("d"), File("d/a", 100, 1), File("d/e/b", 50, 2)], &[File(".wh.d", 0, 0)]],
        wasted: 150,
        causes: &[("deleted", 150)],
        dive: 0,
        why: "dive counts leaves, and the folder was none",
    },
    Case {
        name: "opaque directory",
        layers: &[
            &[Dir("d"), File("d/a", 100, 1)],
            &[Dir("d"), File("d/.wh..wh..opq", 0, 0), File("d/b", 10, 2)],
        ],
        wasted: 100,
        causes: &[("replaced", 100)],
        dive: 0,
        why: "dive does not look at opaque folders",
    },
    Case {
        name: "directory replaced by a file",
        layers: &[&[Dir("d"), File("d/a", 100, 1)], &[File("d", 10, 2)]],
        wasted: 100,
        causes: &[("replaced", 100)],
        dive: 0,
        why: "dive keeps what was in the folder",
    },
    Case {
        name: "file overwritten",
        layers: &[&[File("a", 100, 1)], &[File("a", 100, 2)]],
        wasted: 100,
        causes: &[("overwritten", 100)],
        dive: 200,
        why: "dive counts the file that is seen as well",
    },
    Case {
        name: "only the mode changed",
        layers: &[&[File("a", 1, 0)], &[Owned("a", 0o600, 5)]],
        wasted: 1,
        causes: &[("rewritten", 1)],
        dive: 2,
        why: "dive counts the file that is seen as well",
    },
    Case {
        name: "written three times",
        layers: &[&[File("a", 100, 1)], &[File("a", 200, 2)], &[File("a", 50, 3)]],
        wasted: 300,
        causes: &[("overwritten", 300)],
        dive: 350,
        why: "dive counts the file that is seen as well",
    },
    Case {
        name: "deleted and added again",
        layers: &[&[File("a", 100, 1)], &[File(".wh.a", 0, 0)], &[File("a", 60, 2)]],
        wasted: 100,
        causes: &[("deleted", 100)],
        dive: 160,
        why: "dive counts the file that is seen as well",
    },
    Case {
        name: "a name of two deleted",
        layers: &[&[File("a", 100, 1), Link("b", "a")], &[File(".wh.a", 0, 0)]],
        wasted: 0,
        causes: &[],
        dive: 100,
        why: "the other name still shows the bytes",
    },
    Case {
        name: "both names deleted",
        layers: &[
            &[File("a", 100, 1), Link("b", "a")],
            &[File(".wh.a", 0, 0)],
            &[File(".wh.b", 0, 0)],
        ],
        wasted: 100,
        causes: &[("deleted", 100)],
        dive: 100,
        why: "",
    },
    Case {
        name: "a name of a file of a lower layer",
        layers: &[&[File("a", 100, 1)], &[Link("b", "a")], &[File(".wh.a", 0, 0)]],
        wasted: 0,
        causes: &[],
        dive: 100,
        why: "the other name still shows the bytes",
    },
    Case {
        name: "twice in one layer",
        layers: &[&[File("a", 100, 1), File("a", 40, 2)]],
        wasted: 100,
        causes: &[("repeated", 100)],
        dive: 0,
        why: "dive compares layers only",
    },
    Case {
        name: "symbolic link replaced",
        layers: &[&[Symlink("l", "x")], &[File("l", 10, 1)]],
        wasted: 0,
        causes: &[],
        dive: 10,
        why: "dive counts the file that is seen",
    },
    Case {
        name: "through a link of a lower layer",
        layers: &[
            &[Dir("usr/lib"), Symlink("lib", "usr/lib"), File("usr/lib/a", 100, 1)],
            &[File("lib/a", 100, 2)],
        ],
        wasted: 100,
        causes: &[("overwritten", 100)],
        dive: 0,
        why: "dive follows no links",
    },
];

#[test]
fn waste_is_what_is_stored_and_not_seen() {
    for case in CASES {
        let tree = tree(case.layers);
        let report = report(&tree);
        assert_eq!(report.wasted_size, case.wasted, "{}", case.name);
        let causes: Vec<(&str, u64)> = report.causes.iter().map(|(c, n)| (*c, *n)).collect();
        assert_eq!(causes, case.causes, "{}", case.name);
        let rows: u64 = report.waste.iter().map(|row| row.size).sum();
        assert_eq!(rows, case.wasted, "{}: rows add up", case.name);
        let layers: u64 = report.layers.iter().map(|layer| layer.wasted_size).sum();
        assert_eq!(layers, case.wasted, "{}: layers add up", case.name);
        let dive = DiveReport::of(&tree);
        assert_eq!(dive.inefficient_bytes, case.dive, "{}: dive", case.name);
        assert_eq!(case.why.is_empty(), case.dive == case.wasted, "{}: why", case.name);
    }
}

#[test]
fn a_report_that_is_kept_is_the_report() {
    for case in CASES {
        for entries in case.layers {
            let report = layer(entries);
            let kept = report.encode();
            assert_eq!(LayerReport::decode(&kept).unwrap(), *report, "{}", case.name);
            let mut damaged = kept.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            assert!(LayerReport::decode(&damaged).is_err(), "{}", case.name);
            assert!(LayerReport::decode(&kept[..kept.len() - 1]).is_err(), "{}", case.name);
        }
    }
}

#[test]
fn changes_of_each_layer_are_counted() {
    let tree = tree(&[
        &[Dir("d"), File("d/a", 10, 1), File("b", 20, 2)],
        &[File("b", 30, 3), File("c", 5, 4)],
        &[File(".wh.d", 0, 0)],
    ]);
    let report = report(&tree);
    let counts: Vec<_> = report
        .layers
        .iter()
        .map(|layer| {
            let changes = &layer.changes;
            (changes.added, changes.changed, changes.deleted, changes.deleted_size)
        })
        .collect();
    assert_eq!(counts, [(2, 0, 0, 0), (1, 1, 0, 0), (0, 0, 1, 10)]);
    assert_eq!(paths(&tree), ["/b", "/c"]);
    assert_eq!((report.files, report.folders), (2, 0));
    assert_eq!(report.stored_size, 65);
}

#[test]
fn what_stands_out_is_named() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n";
    let group = "root:x:0:\napp:x:1000:\n";
    let status = "Package: bash\nStatus: install ok installed\nVersion: 5\n\n";
    let tree = tree(&[&[
        Text("etc/passwd", passwd),
        Text("etc/group", group),
        Text("var/lib/dpkg/status", status),
        File("var/lib/rpm/rpmdb.sqlite", 1, 1),
        File("var/cache/apt/archives/x.deb", 100_000, 1),
        File("one", 70_000, 7),
        File("other", 70_000, 7),
        Owned("bin/su", 0o4755, 0),
        Owned("open", 0o666, 1000),
        Owned("odd", 0o644, 77),
        File("usr/lib/python3/site-packages/six-1.16.dist-info/METADATA", 3, 1),
    ]]);
    let report = report(&tree);
    let names = |list: &conex_inventory::NotableList| -> Vec<String> {
        list.files.iter().map(|file| format!("{} {}", file.mode, file.path)).collect()
    };
    assert_eq!(names(&report.setuid), ["-rwsr-xr-x /bin/su"]);
    assert_eq!(names(&report.world_writable), ["-rw-rw-rw- /open"]);
    assert_eq!(names(&report.odd_owners), ["-rw-r--r-- /odd"]);
    assert_eq!(report.caches[0].kind, "apt");
    assert_eq!(report.caches[0].size, 100_000);
    // Two large ones, and three of one byte.
    assert_eq!(report.duplicate_size, 70_002);
    assert_eq!(report.duplicates[0].paths, ["/one", "/other"]);
    assert_eq!(report.packages.get("dpkg"), Some(&1));
    assert_eq!(report.packages.get("python"), Some(&1));
    assert_eq!(
        report.unread_databases,
        ["/var/lib/rpm/rpmdb.sqlite: it is in none of the formats of RPM's database"]
    );
    assert_eq!(report.largest_files[0].path, "/var/cache/apt/archives/x.deb");
    let saves: Vec<u64> = report.suggestions.iter().map(|one| one.saves).collect();
    assert_eq!(saves, [100_000, 70_000]);
}

#[test]
fn paths_are_resolved_as_in_a_container() {
    let tree = tree(&[&[
        File("usr/lib/a", 1, 1),
        Symlink("lib", "usr/lib"),
        Symlink("abs", "/lib/a"),
        Symlink("out", "../../../etc"),
        Symlink("loop", "loop"),
        Dir("etc"),
    ]]);
    for (path, expected) in [
        ("/lib/a", Some("/usr/lib/a")),
        ("lib/../lib/a", Some("/usr/lib/a")),
        ("abs", Some("/usr/lib/a")),
        ("out", Some("/etc")),
        ("loop", None),
        ("usr/lib/a/b", None),
        ("missing", None),
        ("/", Some("/")),
    ] {
        let found = tree.resolve(path.as_bytes(), true).map(|id| tree.path_text(id));
        assert_eq!(found.as_deref(), expected, "{path}");
    }
    let link = tree.resolve(b"lib", false).unwrap();
    assert_eq!(tree.path_text(link), "/lib");
}

#[test]
fn links_and_deletions_of_one_layer_mean_what_was_below_it() {
    for (layers, expected) in [
        // A file is renamed by another name of it, which gets one more name.
        (
            &[&[File("b", 1, 1)][..], &[Link("a", "b"), File(".wh.b", 0, 0), Link("c", "a")]][..],
            &["/a", "/c"][..],
        ),
        // A folder takes the place of a link that is deleted.
        (
            &[
                &[Dir("real"), Symlink("link", "real")],
                &[File(".wh.link", 0, 0), File("link/file", 1, 1)],
            ],
            &["/link/", "/link/file", "/real/"],
        ),
        // The other name is given through a link of a folder.
        (
            &[&[File("real/file", 1, 1), Symlink("link", "real")], &[Link("name", "link/file")]],
            &["/link", "/name", "/real/", "/real/file"],
        ),
    ] {
        let tree = tree(layers);
        assert_eq!(paths(&tree), expected);
        for id in 1..tree.path_count() as u32 {
            let entry = tree.entry(id);
            let is_file = entry.is_there && entry.kind.word() == "file";
            assert!(!is_file || entry.size == 1, "{}", tree.path_text(id));
        }
    }
}

#[test]
fn layers_that_lead_out_or_are_broken_are_refused() {
    let wrong: [(&[Put], &str); 2] = [
        (&[File("../a", 1, 1)], "the path `../a` leads out of the layer"),
        (&[File("d/.wh.", 0, 0)], "the layer has a whiteout of no name"),
    ];
    for (entries, expected) in wrong {
        let error = scan_layer(&mut tar(entries).as_slice(), tempfile::tempfile).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let whole = tar(&[File("a", 1000, 1)]);
    let cut = scan_layer(&mut &whole[..700], tempfile::tempfile).unwrap_err();
    assert_eq!(cut.kind(), conex_inventory::ErrorKind::Malformed, "{cut}");
}

#[test]
fn compressed_layers_give_the_same_report() {
    use conex_layer::{Encoder, EncoderOptions, Hashing};
    let plain = tar(&[File("a", 300_000, 1), Dir("d"), File("d/b", 5, 2)]);
    let expected = scan_layer(&mut plain.as_slice(), tempfile::tempfile).unwrap();
    for compression in [conex_oci::Compression::Gzip, conex_oci::Compression::Zstd] {
        let options =
            EncoderOptions { compression, level: None, thread_count: 1, hash: Hashing::None };
        let mut encoder = Encoder::new(Vec::new(), &options).unwrap();
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        let (packed, _) = encoder.finish().unwrap();
        let scanned = scan_layer(&mut packed.as_slice(), tempfile::tempfile).unwrap();
        assert_eq!(scanned.report, expected.report);
        assert_eq!(scanned.diff_id, expected.diff_id);
    }
}
