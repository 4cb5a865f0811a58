//! `conex packages`: what is listed, in which form, and what is said of what cannot be read.

use std::process::Command;

use insta::assert_snapshot;

use crate::sandbox::{is_ci, program};
use crate::scene::{Scene, json};

const RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\n";
const BASE: &str = "Package: base-files\nStatus: install ok installed\nVersion: 12.4\n\
                    Architecture: amd64\n";
const CURL: &str = "Package: libcurl4\nStatus: install ok installed\nSource: curl\n\
                    Version: 7.88.1-10\nArchitecture: amd64\n";
const LODASH: &str = r#"{"name":"lodash","version":"4.17.21","license":"MIT"}"#;

fn build(scene: &Scene, name: &str, dockerfile: &str) {
    scene.write("context/Dockerfile", dockerfile);
    scene.run(&["build", "-q", "-t", name, "context"]).ok();
}

/// An image of four layers: a base, packages of it and of an application.
fn app(scene: &Scene) {
    scene.write("context/os-release", RELEASE);
    scene.write("context/base", BASE);
    scene.write("context/both", format!("{BASE}\n{CURL}"));
    scene.write("context/package.json", LODASH);
    build(
        scene,
        "app:1",
        "FROM scratch\nCOPY os-release /etc/\nCOPY base /var/lib/dpkg/status\n\
         COPY both /var/lib/dpkg/status\n\
         COPY package.json /srv/node_modules/lodash/\n",
    );
}

#[test]
fn packages_are_listed_with_the_layer_that_brought_them() {
    let Some(scene) = Scene::new() else { return };
    app(&scene);
    assert_snapshot!(scene.run(&["packages", "app:1"]).ok(), @r"
    TYPE      NAME         VERSION     ARCH      LAYER
    dpkg      base-files   12.4        amd64     1
    dpkg      libcurl4     7.88.1-10   amd64     2
    npm       lodash       4.17.21               3
    ");
    // An archive that is read for the first time says the same as the store.
    scene.run(&["save", "-o", "app.tar", "app:1"]).ok();
    let format = ["--format", "{{.purl}} {{.source}} {{.license}} {{.paths}}"];
    let listed = |words: &[&str]| scene.run(&[&["packages"], words, &format[..]].concat()).ok();
    let expected = listed(&["app:1"]);
    assert_eq!(listed(&["--no-cache", "./app.tar"]), expected);
    assert_snapshot!(expected, @r"
    pkg:deb/debian/base-files@12.4?arch=amd64&distro=debian-12   [/var/lib/dpkg/status]
    pkg:deb/debian/libcurl4@7.88.1-10?arch=amd64&distro=debian-12 curl  [/var/lib/dpkg/status]
    pkg:npm/lodash@4.17.21  MIT [/srv/node_modules/lodash/package.json]
    ");
}

#[test]
fn types_and_formats_are_chosen() {
    let Some(scene) = Scene::new() else { return };
    app(&scene);
    let one = scene.run(&["packages", "--type", "npm", "--format", "json", "app:1"]).ok();
    let one = json(&one);
    assert_eq!(one["name"], "lodash");
    assert_eq!(one["purl"], "pkg:npm/lodash@4.17.21");
    assert_eq!(one["paths"][0], "/srv/node_modules/lodash/package.json");
    assert_eq!(scene.run(&["packages", "--type=npm,dpkg", "app:1"]).ok().lines().count(), 4);
    let wrong = scene.run(&["packages", "--type", "deb", "app:1"]).fails(2);
    assert!(wrong.contains("`deb` is no type of packages"), "{wrong}");
    scene.run(&["packages", "--format", "{{.nothing}}", "app:1"]).fails(1);
}

#[test]
fn a_database_that_cannot_be_read_is_a_warning() {
    let Some(scene) = Scene::new() else { return };
    scene.write("context/broken", "this is no database");
    build(&scene, "broken:1", "FROM scratch\nCOPY broken /var/lib/rpm/Packages\n");
    let output = scene.run(&["packages", "broken:1"]);
    assert_eq!((output.code, output.stdout.lines().count()), (0, 1), "{output}");
    assert!(output.stderr.contains("warning: cannot read /var/lib/rpm/Packages"), "{output}");
}

#[test]
fn differences_between_packages_are_shown() {
    let Some(scene) = Scene::new() else { return };
    app(&scene);
    scene.write("context/package.json", LODASH.replace("4.17.21", "4.17.22"));
    build(&scene, "app:2", "FROM app:1\nCOPY package.json /srv/node_modules/lodash/\n");
    let diff = scene.run(&["diff", "app:1", "app:2"]).ok();
    assert!(diff.contains("~ npm lodash 4.17.21 → 4.17.22"), "{diff}");
}

#[test]
fn rpm_packages_are_those_that_rpm_lists() {
    let Some(scene) = Scene::new() else { return };
    if program("rpm").is_none() || program("rpmbuild").is_none() {
        assert!(!is_ci(), "rpm and rpmbuild are needed");
        eprintln!("skipped: rpm and rpmbuild are needed");
        return;
    }
    let here = scene.path().display().to_string();
    let run = |words: &[&str]| -> String {
        let output = Command::new(words[0]).args(&words[1..]).current_dir(scene.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let database = format!("{here}/root/var/lib/rpm");
    let paths = format!("_topdir {here}/build");
    for (name, epoch) in [("one", 0), ("other", 3)] {
        let spec = format!(
            "Name: {name}\nVersion: 1.0\nRelease: 2\nEpoch: {epoch}\nSummary: A test\n\
             License: MIT\nBuildArch: noarch\n%description\nNothing.\n%files\n"
        );
        scene.write(&format!("{name}.spec"), spec);
        run(&["rpmbuild", "-bb", "--define", &paths, &format!("{name}.spec")]);
        let package = format!("build/RPMS/noarch/{name}-1.0-2.noarch.rpm");
        let words = ["rpm", "--dbpath", &database, "-i", "--nodeps", "--justdb"];
        run(&[&words[..], &[&package]].concat());
    }
    let format = "rpm %{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH} %{LICENSE}\n";
    let words = ["rpm", "--dbpath", &database, "-qa", "--qf", format];
    let mut expected: Vec<String> =
        run(&words).lines().map(|line| line.replace(" 0:", " ")).collect();
    expected.sort();
    assert_eq!(expected.len(), 2, "{expected:?}");
    run(&["tar", "-C", "root", "-cf", "root.tar", "var"]);
    scene.run(&["import", "root.tar", "rpm:1"]).ok();
    let format = "{{.manager}} {{.name}} {{.version}} {{.architecture}} {{.license}}";
    let listed = scene.run(&["packages", "--format", format, "rpm:1"]).ok();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
}
