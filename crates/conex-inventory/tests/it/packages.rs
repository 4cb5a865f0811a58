//! Packages of images: what is seen at the end, which layer brought it, under which names.

use conex_inventory::PackageList;
use insta::assert_snapshot;

use crate::layers::Put::{self, *};
use crate::layers::tree;

/// The packages of layers, one a line: layer, package URL, files.
fn listed(layers: &[&[Put]]) -> String {
    let list = PackageList::of(&tree(layers));
    let mut text: String = list
        .packages
        .iter()
        .map(|one| format!("{} {} {}\n", one.layer, one.purl, one.paths.join(" ")))
        .collect();
    list.unread.iter().for_each(|line| text.push_str(&format!("unread {line}\n")));
    text
}

const STATUS: &str = "var/lib/dpkg/status";
const RELEASE: Put = Text("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n");
const ONE: &str = "Package: a\nVersion: 1\n";
const BOTH: &str = "Package: a\nVersion: 1\n\nPackage: b\nVersion: 1\n";
const RENEWED: &str = "Package: a\nVersion: 2\n\nPackage: b\nVersion: 1\n";

#[test]
fn a_package_belongs_to_the_lowest_layer_since_which_it_is_installed() {
    let layers: &[&[Put]] = &[
        &[RELEASE, Symlink("etc/os-release", "../usr/lib/os-release"), Text(STATUS, ONE)],
        &[Text(STATUS, BOTH)],
        &[File("srv/unrelated", 1, 1)],
        &[Text(STATUS, RENEWED)],
    ];
    assert_snapshot!(listed(layers), @r"
    3 pkg:deb/debian/a@2?distro=debian-12 /var/lib/dpkg/status
    1 pkg:deb/debian/b@1?distro=debian-12 /var/lib/dpkg/status
    ");
    // What was gone in between came with whoever brought it back.
    let layers: &[&[Put]] = &[&[Text(STATUS, BOTH)], &[Text(STATUS, ONE)], &[Text(STATUS, BOTH)]];
    assert_snapshot!(listed(layers), @r"
    0 pkg:deb/debian/a@1 /var/lib/dpkg/status
    2 pkg:deb/debian/b@1 /var/lib/dpkg/status
    ");
}

#[test]
fn databases_that_are_deleted_hidden_or_put_aside_name_nothing() {
    for layers in [
        &[[Text(STATUS, ONE)].as_slice(), &[File("var/lib/dpkg/.wh.status", 0, 0)]]
            as &[&[Put]],
        &[&[Text(STATUS, ONE)], &[File("var/lib/.wh..wh..opq", 0, 0)]],
        &[&[Text(STATUS, ONE)], &[File("var", 1, 1)]],
        // The other name of the file is that of a copy.
        &[
            &[Text(STATUS, ONE), Link("var/lib/dpkg/status-old", STATUS)],
            &[File("var/lib/dpkg/.wh.status", 0, 0)],
        ],
    ] {
        assert_eq!(listed(layers), "");
    }
}

#[test]
fn one_file_under_several_names_is_one_place_and_links_of_folders_are_followed() {
    let package = r#"{"name":"left-pad","version":"1.3.0","license":"WTFPL"}"#;
    let layers: &[&[Put]] = &[
        &[
            Text("a/node_modules/left-pad/package.json", package),
            Dir("usr/lib"),
            Symlink("lib", "usr/lib"),
        ],
        &[
            Link("b/node_modules/left-pad/package.json", "a/node_modules/left-pad/package.json"),
            Text("c/node_modules/left-pad/package.json", package),
            Text("lib/apk/db/installed", "P:musl\nV:1.2-r0\nA:x86_64\n"),
        ],
    ];
    assert_snapshot!(listed(layers), @r"
    1 pkg:apk/alpine/musl@1.2-r0?arch=x86_64 /usr/lib/apk/db/installed
    0 pkg:npm/left-pad@1.3.0 /a/node_modules/left-pad/package.json /b/node_modules/left-pad/package.json /c/node_modules/left-pad/package.json
    ");
}

#[test]
fn a_database_that_cannot_be_read_is_named_and_other_files_are_not() {
    let layers: &[&[Put]] = &[&[
        Text("var/lib/rpm/Packages", "no database at all, in any format"),
        Text("app/vendor/composer/installed.json", "{"),
        Text("app/lib/a-1.jar", "no archive"),
        Text("app/node_modules/broken/package.json", "{"),
        Text("var/lib/rpm/rpmdb.sqlite", ""),
    ]];
    assert_snapshot!(listed(layers), @r"
    unread /app/lib/a-1.jar: it has no end of a ZIP archive
    unread /app/vendor/composer/installed.json: cannot read a description of packages
    unread /var/lib/rpm/Packages: it is in none of the formats of RPM's database
    ");
}
