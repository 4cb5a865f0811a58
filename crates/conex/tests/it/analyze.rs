//! Layer analysis: what is in an image, what it wastes, what differs, and files taken out of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use conex_layer::{EntryHeader, TarWriter};
use conex_oci::{DiffId, Digest, History, ImageConfig, Platform};
use insta::assert_snapshot;
use serde_json::{Value, json as document};

use crate::sandbox::{is_ci, missing, program};
use crate::scene::{Scene, json};

/// A file of a layer: its path, its size and the byte it is made of; a path with a slash at its
/// end is a folder, one with `=` a hard link, one with `->` a symbolic link.
pub(crate) type File = (&'static str, usize, u8);

fn layer(files: &[File]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (path, size, byte) in files {
        let (mut header, content) = match (path.split_once("->"), path.split_once('=')) {
            (Some((path, to)), _) => (link(path, to, b'2'), Vec::new()),
            (_, Some((path, to))) => (link(path, to, b'1'), Vec::new()),
            _ if path.ends_with('/') => (EntryHeader::dir(*path), Vec::new()),
            _ => (EntryHeader::file(*path, *size as u64), vec![*byte; *size]),
        };
        header.mtime = 1_700_000_000;
        tar.append(&header, &content).unwrap();
    }
    tar.finish().unwrap()
}

fn link(path: &str, to: &str, kind: u8) -> EntryHeader {
    let mut header = EntryHeader::file(path, 0);
    (header.kind, header.link) = (kind, to.as_bytes().to_vec());
    header
}

/// Writes what `docker save` writes, from layers and their instructions. Gives its path.
pub(crate) fn archive(scene: &Scene, file: &str, name: &str, layers: &[(&str, &[File])]) -> String {
    let layers = layers.iter().map(|(step, files)| (*step, layer(files))).collect::<Vec<_>>();
    archive_of(scene, file, name, &layers)
}

/// The same from the tars of layers.
pub(crate) fn archive_of(
    scene: &Scene,
    file: &str,
    name: &str,
    layers: &[(&str, Vec<u8>)],
) -> String {
    let mut config = ImageConfig::scratch(Platform::new("linux", "amd64", ""));
    config.config.env = vec!["PATH=/bin".to_owned(), format!("NAME={name}")];
    let mut tar = TarWriter::new(Vec::new());
    let mut paths = Vec::new();
    for (instruction, bytes) in layers {
        let digest = Digest::of(bytes);
        config.rootfs.diff_ids.push(DiffId(digest.clone()));
        let step = History { created_by: (*instruction).to_owned(), ..History::default() };
        config.history.push(step);
        let path = format!("blobs/sha256/{}", digest.hex());
        if !paths.contains(&path) {
            tar.append(&EntryHeader::file(path.as_str(), bytes.len() as u64), bytes).unwrap();
        }
        paths.push(path);
    }
    let bytes = config.to_bytes();
    let path = format!("blobs/sha256/{}", Digest::of(&bytes).hex());
    tar.append(&EntryHeader::file(path.as_str(), bytes.len() as u64), &bytes).unwrap();
    let manifest = document!([{ "Config": path, "RepoTags": [name], "Layers": paths }]).to_string();
    let header = EntryHeader::file("manifest.json", manifest.len() as u64);
    tar.append(&header, manifest.as_bytes()).unwrap();
    scene.write(file, tar.finish().unwrap());
    format!("./{file}")
}

const WASTEFUL: &[(&str, &[File])] = &[
    (
        "RUN /bin/sh -c apt-get update # buildkit",
        &[
            ("bin/", 0, 0),
            ("bin/sh", 200_000, 1),
            ("var/lib/apt/lists/", 0, 0),
            ("var/lib/apt/lists/a", 100_000, 2),
            ("var/lib/apt/lists/b", 50_000, 3),
            ("etc/config", 70_000, 4),
        ],
    ),
    ("RUN /bin/sh -c rm -rf /var/lib/apt/lists # buildkit", &[("var/lib/apt/.wh.lists", 0, 0)]),
    ("COPY config /etc/config # buildkit", &[("etc/config", 70_000, 5), ("srv/same", 70_000, 5)]),
];

#[test]
fn a_summary_fits_a_screen_and_names_what_is_wasted() {
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", WASTEFUL);
    let shown = scene.run(&["analyze", &file]).ok();
    assert!(shown.lines().count() <= 24, "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    // The digests of configs and layers are the same everywhere.
    assert_snapshot!(shown, @r###"
    ./app.tar (1ba68334f72f, linux/amd64): 560kB unpacked, never packed; 3 files, 6…
    efficiency 60.7 %, 220kB wasted (150kB deleted, 70kB overwritten), 70kB in equ…

    LAYER   PACKED UNPACKED   WASTED  +ADD ~CHANGE -DEL  INSTRUCTION
        0        –    420kB    220kB           +4 ~0 -0  RUN apt-get update
        1        –       0B        –           +0 ~0 -2  RUN rm -rf /var/lib/apt/li…
        2        –    140kB        –           +1 ~1 -0  COPY config /etc/config

        BYTES  WHY                    WASTED PATH
        150kB  0 → 1 deleted          /var/lib/apt/lists (2 files)
         70kB  0 → 2 overwritten      /etc/config

    largest      /bin/sh 200kB, /etc/config 70kB, /srv/same 70kB

    save    150kB: delete `/var/lib/apt/lists` in the instruction that makes it
                   (layer 0): in layer 1 that saves nothing
    save     70kB: write `/etc/config` once: layers 0 and 2 both store it
    save     70kB: make `/etc/config` and `/srv/same` links to one file: the 2
                   copies are equal
    "###);
}

#[test]
fn documents_and_limits_say_the_same() {
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", WASTEFUL);
    let report = json(&scene.run(&["analyze", "--format", "json", &file]).ok());
    assert_eq!(report["schemaVersion"], 1);
    assert_eq!(report["wastedSize"], 220_000);
    assert_eq!(report["causes"], document!({ "deleted": 150_000, "overwritten": 70_000 }));
    assert_eq!(report["waste"][0]["path"], "/var/lib/apt/lists");
    assert_eq!(report["waste"][0]["steps"][0]["hiddenBy"], 1);
    assert_eq!(report["duplicateSize"], 70_000);
    assert_eq!(report["layers"][1]["deleted"], 2);

    scene.write(".dive-ci", "rules:\n  lowestEfficiency: 0.95\n  highestWastedBytes: 1MB\n");
    let output = scene.run(&["analyze", "--ci", &file]);
    assert_eq!(output.code, 3, "{output}");
    for line in [
        "FAIL: lowest-efficiency: 0.6071, limit 0.95",
        "PASS: highest-wasted-bytes: 220000 bytes, limit 1000000",
        "FAIL: highest-user-wasted-percent: 1.5714, limit 0.1",
        "Result: FAIL [Total:6] [Passed:1] [Failed:2] [Skipped:3]",
    ] {
        assert!(output.stdout.contains(line), "{line}\n{output}");
    }
    // What is asked for on the command line goes before files.
    let loose = ["--lowestEfficiency", "0.5", "--highestUserWastedPercent", "disabled"];
    let words = [&["analyze", "--ci"], &loose[..], &[file.as_str()]].concat();
    scene.run(&words).ok();
    let strict = ["analyze", "--largest-layer", "100kB", "--exit-code", "1", &file];
    assert_eq!(scene.run(&strict).code, 1);
    // Our settings go before dive's.
    scene.write(".conex.toml", "[analyze]\nlowest-efficiency = 0.5\n");
    scene.run(&["analyze", "--ci", &file]).ok();
    let wrong = scene.run(&["analyze", "--lowest-efficiency", "2", &file]).fails(2);
    assert!(wrong.contains("has to be between 0 and 1"), "{wrong}");
}

#[test]
fn ci_variable_turns_limits_on() {
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", WASTEFUL);
    let run = |ci: Option<&str>| {
        let mut command = scene.command(&["analyze", &file]);
        command.env_remove("CI");
        command.envs(ci.map(|value| ("CI", value)));
        command.output().unwrap().status.code()
    };
    assert_eq!((run(None), run(Some("true")), run(Some("false"))), (Some(0), Some(3), Some(0)));
}

#[test]
fn annotations_and_junit_name_what_is_broken() {
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", WASTEFUL);
    let github = scene.run(&["analyze", "--format", "github", &file]);
    assert!(github.stdout.starts_with("::error title=conex analyze "), "{github}");
    assert!(github.stdout.contains("::warning title=layer 0 of "), "{github}");
    let gitlab = scene.run(&["analyze", "--format", "gitlab", &file]);
    let gitlab = json(&gitlab.stdout);
    assert_eq!(gitlab[0]["severity"], "major");
    assert_eq!(gitlab[0]["fingerprint"].as_str().map(str::len), Some(64));
    let junit = scene.run(&["analyze", "--format", "junit", &file]).stdout;
    assert!(junit.contains("tests=\"6\" failures=\"2\" skipped=\"4\""), "{junit}");
}

#[test]
fn every_source_of_an_image_gives_the_same_report() {
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", WASTEFUL);
    let report = |words: &[&str]| {
        let words = [&["analyze", "--format", "json"], words].concat();
        let mut report = json(&scene.run(&words).ok());
        report["image"]["name"] = Value::Null;
        report["image"]["from"] = Value::Null;
        for layer in report["layers"].as_array_mut().unwrap() {
            layer["compressedSize"] = Value::Null;
        }
        report["compressedSize"] = Value::Null;
        report
    };
    let expected = report(&["--no-cache", &file]);
    assert_eq!(report(&[&file]), expected, "read again");
    assert_eq!(report(&[&file]), expected, "kept");
    let packed = Command::new("gzip").args(["-k", "app.tar"]).current_dir(scene.path()).status();
    assert!(packed.unwrap().success());
    assert_eq!(report(&["./app.tar.gz"]), expected, "compressed");
    scene.run(&["load", "-i", "app.tar"]).ok();
    assert_eq!(report(&["app:1"]), expected, "of the store");
    scene.run(&["save", "--format", "oci-archive", "-o", "oci.tar", "app:1"]).ok();
    assert_eq!(report(&["oci-archive:oci.tar"]), expected, "OCI archive");
    scene.folder("layout");
    let unpacked = Command::new("tar")
        .args(["xf", "oci.tar", "-C", "layout"])
        .current_dir(scene.path())
        .status();
    assert!(unpacked.unwrap().success());
    assert_eq!(report(&["oci:layout"]), expected, "layout");
    let piped = scene.run_with(
        &["analyze", "--format", "json", "-"],
        std::fs::read(scene.at("app.tar")).unwrap(),
    );
    assert_eq!(json(&piped.ok())["wastedSize"], expected["wastedSize"], "standard input");
}

#[test]
fn an_image_that_was_built_here_is_read_without_being_packed() {
    let Some(scene) = Scene::new() else { return };
    scene.image("one", "FROM scratch\nCOPY <<a <<b /d/\nx\na\ny\nb\n");
    scene.image("two", "FROM one\nCOPY <<a /d/\nother\na\n");
    let report = json(&scene.run(&["analyze", "--format", "json", "two"]).ok());
    assert_eq!(report["wastedSize"], 2);
    assert_eq!(report["layers"][0]["compressedSize"], Value::Null);
    assert_eq!(report["layers"].as_array().map(Vec::len), Some(2));
    assert_eq!(scene.run(&["cat", "two:/d/a"]).ok(), "other\n");
}

#[test]
fn a_layer_that_is_not_the_one_named_is_refused() {
    let Some(scene) = Scene::new() else { return };
    archive(&scene, "app.tar", "app:1", WASTEFUL);
    let mut bytes = std::fs::read(scene.at("app.tar")).unwrap();
    // In the content of `bin/sh`.
    let at = bytes.windows(1000).position(|window| window.iter().all(|byte| *byte == 1)).unwrap();
    bytes[at + 500] = 9;
    scene.write("wrong.tar", bytes);
    let refused = |words: &[&str]| {
        let error = scene.run(words).fails(1);
        assert!(error.contains("not the one that the config names"), "{error}");
    };
    refused(&["analyze", "--verify", "./wrong.tar"]);
    let packed = Command::new("gzip").args(["-k", "wrong.tar"]).current_dir(scene.path()).status();
    assert!(packed.unwrap().success());
    refused(&["analyze", "./wrong.tar.gz"]);
    // A look shows what is there, and remembers nothing of it under the name of something else.
    scene.run(&["analyze", "./wrong.tar"]).ok();
    scene.run(&["analyze", "--verify", "./app.tar"]).ok();
    refused(&["analyze", "--verify", "./wrong.tar"]);
}

#[test]
fn lines_of_the_dockerfile_are_named() {
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", WASTEFUL);
    scene.write(
        "ci/Dockerfile",
        "FROM debian\n# lists\nRUN apt-get update\nRUN rm -rf /var/lib/apt/lists\n\n\
         COPY config \\\n  /etc/config\n",
    );
    let named = ["--file", "ci/Dockerfile", file.as_str()];
    let report = json(&scene.run(&[&["analyze", "--format", "json"], &named[..]].concat()).ok());
    let line = |layer: usize| report["layers"][layer]["source"]["line"].clone();
    assert_eq!([line(0), line(1), line(2)], [3, 4, 6].map(Value::from));
    assert_eq!(report["suggestions"][0]["source"]["file"], "ci/Dockerfile");
    let text = scene.run(&[&["analyze"], &named[..]].concat()).ok();
    assert!(text.contains("3: RUN apt-get update"), "{text}");
    assert!(text.contains("save    150kB: ci/Dockerfile:3: delete"), "{text}");
    let github = scene.run(&[&["analyze", "--format", "github"], &named[..]].concat());
    let start = "::warning file=ci/Dockerfile,line=3,title=";
    assert!(github.stdout.contains(start), "{github}");
    let gitlab = scene.run(&[&["analyze", "--format", "gitlab"], &named[..]].concat());
    let location = document!({ "path": "ci/Dockerfile", "lines": { "begin": 3 } });
    let issues = json(&gitlab.stdout);
    let issues = issues.as_array().unwrap();
    assert!(issues.iter().any(|issue| issue["location"] == location), "{gitlab}");

    // The one in the working folder is taken if it is the right one.
    let line = |name: &str, text: &str| {
        scene.write(name, text);
        let report = json(&scene.run(&["analyze", "--format", "json", &file]).ok());
        std::fs::remove_file(scene.at(name)).unwrap();
        report["layers"][1]["source"].clone()
    };
    let own = "FROM debian\nRUN apt-get update\nRUN rm -rf /var/lib/apt/lists\n";
    let found = line("Containerfile", own);
    assert_eq!(found, document!({ "file": "Containerfile", "line": 3 }));
    let other = format!("{own}RUN something else\n");
    assert_eq!(line("Dockerfile", &other), Value::Null);
    let missing = scene.run(&["analyze", "-f", "none", &file]).fails(1);
    assert!(missing.contains("there is no Dockerfile `none`"), "{missing}");
}

#[test]
fn pages_need_nothing_from_elsewhere() {
    let Some(scene) = Scene::new() else { return };
    let hostile: &[(&str, &[File])] = &[("RUN </script><b>x", &[("a</script><img>", 10, 1)])];
    let one = archive(&scene, "one.tar", "one:1", hostile);
    let two = archive(&scene, "two.tar", "two:1", WASTEFUL);
    scene.run(&["analyze", "--format", "html", "-o", "report.html", &one]).ok();
    scene.run(&["diff", "--format", "html", "-o", "diff.html", &one, &two]).ok();
    for file in ["report.html", "diff.html"] {
        let page = std::fs::read_to_string(scene.at(file)).unwrap();
        assert!(page.contains("default-src 'none'"), "{file}");
        assert!(!page.contains("http://") && !page.contains("https://"), "{file}");
        assert_eq!(page.matches("</script>").count(), 1, "{file}: only ours ends the script");
        assert!(!page.contains("<img"), "{file}");
    }
    let Some(browser) = program("chromium") else {
        missing("chromium");
        return;
    };
    let page = format!("file://{}", scene.at("report.html").display());
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--no-first-run"])
        .arg(format!("--user-data-dir={}", scene.at("browser").display()))
        .args(["--dump-dom", &page])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let drawn = dom.split("<div").find(|part| part.contains("10 B, layer 0"));
    assert!(drawn.is_some_and(|part| part.contains("title=\"/a")), "no treemap: {dom}");
}

#[test]
fn differences_of_two_images_are_listed() {
    let Some(scene) = Scene::new() else { return };
    let one = archive(
        &scene,
        "one.tar",
        "one:1",
        &[("COPY", &[("same", 5, 1), ("gone", 5, 2), ("changed", 5, 3)])],
    );
    let two = archive(
        &scene,
        "two.tar",
        "two:1",
        &[("COPY", &[("same", 5, 1), ("new", 7, 2), ("changed", 9, 3)])],
    );
    assert_snapshot!(scene.run(&["diff", &one, &two]).ok(), @r###"
    packed    never packed
    unpacked  15B → 21B
    wasted    0B
    layers    1
    files     3
              0 of the lowest are the same

    LAYERS
    -   0      15B COPY
    +   0      21B COPY

    CONFIG
    ~ Env.NAME one:1 → two:1

    FILES: 1 added, 1 changed, 1 deleted
    +               7B /new
    ~          5B → 9B /changed (content)
    -               5B /gone
    "###);
    let report = json(&scene.run(&["diff", "--format", "json", &one, &two]).ok());
    assert_eq!(report["files"]["added"], 1);
    assert_eq!(report["config"][0]["field"], "Env.NAME");
    assert_eq!(report["layers"][1]["change"], "added");
    assert_eq!(report["layers"][1]["size"], 21);
    assert_eq!(scene.run(&["diff", "--exit-code", &one, &two]).code, 3);
    assert_eq!(scene.run(&["diff", "--exit-code", &one, &one]).code, 0);
}

pub(crate) const FILES: &[(&str, &[File])] = &[
    (
        "COPY",
        &[
            ("usr/lib/", 0, 0),
            ("usr/lib/a", 3, b'x'),
            ("usr/lib/b=usr/lib/a", 0, 0),
            ("lib->usr/lib", 0, 0),
            ("etc/passwd", 4, b'p'),
        ],
    ),
    ("COPY", &[("etc/passwd", 2, b'q'), ("etc/shadow", 1, b's')]),
];

#[test]
fn files_are_listed_and_read_without_unpacking() {
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", FILES);
    assert_eq!(scene.run(&["ls", &format!("{file}:/")]).ok(), "etc\nlib\nusr\n");
    assert_eq!(
        scene.run(&["ls", "-l", &format!("{file}:/etc")]).ok(),
        "-rw-r--r--     0     0          2 2023-11-14T22:13:20Z   1 passwd\n\
         -rw-r--r--     0     0          1 2023-11-14T22:13:20Z   1 shadow\n"
    );
    let all = scene.run(&["ls", "-R", "--format", "json", &format!("{file}:/")]).ok();
    assert_eq!(all.lines().count(), 8, "{all}");
    assert_eq!(scene.run(&["cat", &format!("{file}:/lib/a")]).ok(), "xxx");
    assert_eq!(scene.run(&["cat", &format!("{file}:etc/passwd")]).ok(), "qq");
    for (words, expected) in [
        (["cat", "./app.tar:/nothing"], "the image has no `/nothing`"),
        (["cat", "./app.tar:/etc"], "`/etc` is no file but a dir"),
        (["ls", "./app.tar"], "is not `IMAGE:PATH`"),
    ] {
        let output = scene.run(&words);
        assert!(output.code != 0 && output.stderr.contains(expected), "{output}");
    }
}

#[test]
fn files_are_copied_out_as_docker_copies_them() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(scene) = Scene::new() else { return };
    let file = archive(&scene, "app.tar", "app:1", FILES);
    let read = |path: &str| std::fs::read_to_string(scene.at(path)).unwrap();
    scene.folder("out");
    scene.run(&["cp", &format!("{file}:/usr"), "out"]).ok();
    assert_eq!(read("out/usr/lib/a"), "xxx");
    let inode = |path: &str| std::fs::metadata(scene.at(path)).unwrap().ino();
    assert_eq!(inode("out/usr/lib/a"), inode("out/usr/lib/b"), "names of one file");
    scene.run(&["cp", &format!("{file}:/etc/."), "out"]).ok();
    assert_eq!(read("out/passwd"), "qq");
    scene.run(&["cp", &format!("{file}:/etc"), "new"]).ok();
    assert_eq!(read("new/shadow"), "s");
    scene.run(&["cp", &format!("{file}:/lib"), "link"]).ok();
    assert_eq!(std::fs::read_link(scene.at("link")).unwrap(), Path::new("usr/lib"));
    scene.run(&["cp", "-L", &format!("{file}:/lib"), "folder"]).ok();
    assert_eq!(read("folder/b"), "xxx");
    let mut listed = scene.command(&["cp", &format!("{file}:/"), "-"]);
    let tar = listed.output().unwrap().stdout;
    scene.write("all.tar", tar);
    let listed = Command::new("tar").arg("tf").arg(scene.at("all.tar")).output().unwrap();
    let mut names: Vec<String> =
        String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect();
    names.sort();
    let expected =
        ["etc/", "etc/passwd", "etc/shadow", "lib", "usr/", "usr/lib/", "usr/lib/a", "usr/lib/b"];
    assert_eq!(names, expected);
}

/// The daemon that this stands for sends one image and closes the connection.
#[test]
fn images_of_the_docker_daemon_come_through_its_socket() {
    use std::io::{Read as _, Write as _};
    let Some(scene) = Scene::new() else { return };
    archive(&scene, "app.tar", "app:1", WASTEFUL);
    let image = std::fs::read(scene.at("app.tar")).unwrap();
    let socket = scene.at("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in [("200 OK", image), ("404 Not Found", b"{\"message\":\"no\"}".into())]
        {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            asked.push(
                String::from_utf8_lossy(&request[..count]).lines().next().unwrap().to_owned(),
            );
            write!(stream, "HTTP/1.0 {status}\r\nContent-Type: application/x-tar\r\n\r\n").unwrap();
            stream.write_all(&body).unwrap();
        }
        asked
    });
    let ask = |name: &str| {
        let mut command = scene.command(&["analyze", "--format", "json", name]);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command.output().unwrap()
    };
    let found = ask("docker-daemon:app:1");
    let report = json(&String::from_utf8_lossy(&found.stdout));
    assert_eq!(report["wastedSize"], 220_000);
    let missing = ask("docker-daemon:other");
    let error = String::from_utf8_lossy(&missing.stderr);
    assert!(error.contains("the docker daemon has no image `other`: no"), "{error}");
    let asked = serving.join().unwrap();
    assert_eq!(asked, ["GET /images/app:1/get HTTP/1.0", "GET /images/other/get HTTP/1.0"]);
}

#[test]
fn words_of_dive_mean_what_they_mean_to_dive() {
    let Some(scene) = Scene::new() else { return };
    archive(&scene, "app.tar", "app:1", WASTEFUL);
    // As in a pipeline: `dive --ci --ci-config … --json …`.
    scene.write(
        "ci/.dive-ci",
        "rules:\n  lowestEfficiency: 0.3\n  highestWastedBytes: disabled\n  \
         highestUserWastedPercent: 0.9\n",
    );
    let rules = ["analyze", "--ci", "--ci-config", "ci/.dive-ci", "--exit-code", "1"];
    let image = ["--source", "docker-archive", "app.tar"];
    let dive_json = ["-j", "dive.json", "--dive-compat"];
    let broken = scene.run(&[&rules[..], &dive_json, &image].concat());
    assert_eq!(broken.code, 1, "{broken}");
    assert!(broken.stdout.contains("PASS: lowest-efficiency"), "{broken}");
    assert!(broken.stdout.contains("SKIP: highest-wasted-bytes"), "{broken}");
    let loose = ["--highestUserWastedPercent", "disabled", "--lowestEfficiency=0.1"];
    let loose = [&rules[..], &loose, &["--highestWastedBytes", "20MB"], &image].concat();
    scene.run(&loose).ok();
    scene.run(&["analyze", "docker-archive://app.tar"]).ok();
    let written = json(&std::fs::read_to_string(scene.at("dive.json")).unwrap());
    assert_eq!(written["image"]["inefficientBytes"], 140_000);
    let entries = written["layer"][1]["fileList"].as_array().unwrap();
    let whiteout = entries.iter().find(|entry| entry["path"] == "var/lib/apt/.wh.lists");
    assert!(whiteout.is_some_and(|entry| entry["typeFlag"] == 48), "{written}");
    // Engines that are not here are named, so that it is seen what was asked.
    let socket = format!("unix://{}", scene.at("none.sock").display());
    for words in [&["--source", "docker", "app:1"][..], &["docker://app:1"]] {
        let mut command = scene.command(&[&["analyze"], words].concat());
        let ended = command.env("DOCKER_HOST", &socket).output().unwrap();
        let error = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(error.contains("cannot ask the docker daemon at"), "{error}");
    }
    let storage = scene.at("no-storage");
    let mut command = scene.command(&["analyze", "--source", "podman", "app:1"]);
    let ended = command.env("CONTAINERS_STORAGE_ROOT", storage).output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(error.contains("no-storage/overlay-images/images.json"), "{error}");
}

/// dive, if it is here.
fn dive() -> Option<PathBuf> {
    let prepared = std::env::var_os("CONEX_CI_CACHE");
    let prepared = prepared.map(|cache| Path::new(&cache).join("peers/bin/dive"));
    let found = prepared.filter(|path| path.is_file()).or_else(|| program("dive"));
    if found.is_none() {
        assert!(!is_ci(), "dive is missing, although this machine was prepared for the tests");
        eprintln!("skipped: dive is missing");
    }
    found
}

/// Images on which dive and conex may disagree: `--dive-compat` must not.
const CASES: &[&[&[File]]] = &[
    &[&[("a", 100, 1)], &[("b", 50, 2)]],
    &[&[("a", 100, 1)], &[("a", 100, 2)], &[("a", 30, 3)]],
    &[&[("a", 100, 1), ("z", 1, 1)], &[(".wh.a", 0, 0)]],
    &[&[("a", 100, 1), ("z", 1, 1)], &[(".wh.a", 0, 0)], &[("a", 70, 2)]],
    &[&[("d/", 0, 0), ("d/a", 100, 1), ("z", 1, 1)], &[(".wh.d", 0, 0)]],
    &[&[("d/a", 100, 1), ("z", 1, 1)], &[(".wh.d", 0, 0)]],
    &[&[("d/", 0, 0), ("d/a", 100, 1)], &[("d/", 0, 0), ("d/.wh..wh..opq", 0, 0), ("d/b", 9, 2)]],
    &[&[("d/", 0, 0), ("d/a", 100, 1)], &[("d", 10, 2)]],
    &[&[("a", 100, 1), ("b=a", 0, 0)], &[("a", 100, 1), ("b=a", 0, 0)]],
    &[&[("a", 100, 1), ("b=a", 0, 0)], &[(".wh.b", 0, 0)]],
    &[&[("l->x", 0, 0), ("x", 5, 1)], &[("l", 10, 1)]],
    &[&[("d/", 0, 0), ("d/a", 7, 1)], &[("d/", 0, 0)], &[("d/a", 9, 1)]],
    &[&[("d/", 0, 0), ("d/a", 7, 1), ("d/b", 8, 2)], &[("d/c", 1, 1)], &[(".wh.d", 0, 0)]],
    &[
        &[("d/", 0, 0), ("d/a", 7, 1)],
        &[(".wh.d", 0, 0)],
        &[("d/", 0, 0), ("d/b", 9, 1)],
        &[(".wh.d", 0, 0), ("z", 3, 3)],
    ],
    &[&[("e/", 0, 0), ("z", 1, 1)], &[("e/", 0, 0)], &[("e/", 0, 0), ("e/x", 2, 2)]],
];

#[test]
fn figures_of_dive_are_dives() {
    let Some(scene) = Scene::new() else { return };
    let Some(dive) = dive() else { return };
    for (number, case) in CASES.iter().enumerate() {
        let layers: Vec<(&str, &[File])> = case.iter().map(|files| ("RUN", *files)).collect();
        let name = format!("case{number}");
        let file = archive(&scene, &format!("{name}.tar"), &format!("{name}:1"), &layers);
        let out = scene.at(&format!("{name}.json"));
        let ended = Command::new(&dive)
            .args(["--source", "docker-archive", "--json"])
            .arg(&out)
            .arg(&file)
            .current_dir(scene.path())
            .env("HOME", scene.path())
            .output()
            .unwrap();
        let text = std::fs::read_to_string(&out)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ended.stderr)));
        let theirs = json(&text);
        let ours = scene.run(&["analyze", "--dive-compat", "--format", "json", &file]).ok();
        let ours = json(&ours);
        assert_eq!(figures(&ours), figures(&theirs), "{name}: {case:?}");
        assert_eq!(entries(&ours), entries(&theirs), "{name}: {case:?}");
    }
}

/// The entries of each layer in dive's file, in the order of their paths. Where a layer has a path
/// twice only the last is in a report, and what dive calls folders that no entry names differs.
fn entries(document: &Value) -> Vec<Vec<String>> {
    let of_layer = |layer: &Value| {
        let all = layer["fileList"].as_array().into_iter().flatten();
        let mut all: BTreeMap<String, String> = all
            .map(|entry| (entry["path"].as_str().unwrap_or_default().to_owned(), entry.to_string()))
            .collect();
        all.remove("");
        all.into_values().collect()
    };
    document["layer"].as_array().into_iter().flatten().map(of_layer).collect()
}

/// What is compared: everything but the order of paths of one size.
fn figures(document: &Value) -> (Value, Vec<String>, Vec<Value>) {
    let image = &document["image"];
    let mut paths: Vec<String> =
        image["fileReference"].as_array().into_iter().flatten().map(Value::to_string).collect();
    paths.sort();
    let score = (image["efficiencyScore"].as_f64().unwrap() * 1e9).round();
    let rest = document!([image["sizeBytes"], image["inefficientBytes"], score]);
    let layers = document["layer"].as_array().unwrap();
    (rest, paths, layers.iter().map(|layer| layer["sizeBytes"].clone()).collect())
}

#[test]
fn the_view_takes_keys_of_a_real_terminal_and_gives_it_back() {
    let Some(scene) = Scene::new() else { return };
    let Some(script) = program("script") else { return crate::sandbox::missing("script") };
    archive(&scene, "app.tar", "app:1", FILES);
    let error = scene.run(&["analyze", "-i", "./app.tar"]).fails(2);
    assert!(error.contains("`--interactive` needs a terminal"), "{error}");
    let words = format!(
        "{} --root {} analyze -i ./app.tar && stty -a",
        crate::sandbox::CONEX,
        scene.text("store")
    );
    let mut command = Command::new(script);
    command.args(["-qec", &words, "/dev/null"]).current_dir(scene.path());
    command.env("PATH", crate::sandbox::PATH).env("TERM", "xterm").env("HOME", scene.path());
    // The second layer, its files, the last of them, into this folder.
    let output = crate::sandbox::feed(command, b"j\t\x1b[Fk\x1b[F\x05q");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("changes of layer 0") && shown.contains("passwd"), "{shown}");
    assert!(shown.contains("\x1b[?1049l"), "the first screen comes back: {shown}");
    assert!(shown.contains(" icanon") && shown.contains(" echo "), "{shown}");
    assert_eq!(std::fs::read_to_string(scene.at("b")).unwrap(), "xxx", "{shown}");
}

#[test]
fn images_of_a_registry_are_read_as_they_come_and_remembered() {
    use std::io::BufRead as _;
    let Some(scene) = Scene::new() else { return };
    archive(&scene, "app.tar", "app:1", WASTEFUL);
    let mut serve = scene.command(&["registry", "serve", "--listen", "127.0.0.1:0"]);
    serve.args(["--data", &scene.text("data")]);
    serve.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut serving = serve.spawn().unwrap();
    let mut lines = std::io::BufReader::new(serving.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        Some(line.strip_prefix("listening on ")?.split_once("://")?.1.to_owned())
    });
    std::thread::spawn(move || lines.for_each(drop));
    let name = format!("{}/app:1", address.unwrap());
    scene.run(&["load", "-i", "app.tar"]).ok();
    scene.run(&["tag", "app:1", &name]).ok();
    scene.run(&["push", "--tls-verify=false", &name]).ok();
    scene.run(&["rmi", &name, "app:1"]).ok();
    let analyze = ["analyze", "--tls-verify=false", "--format", "json", &name];
    let report = json(&scene.run(&analyze).ok());
    assert_eq!(report["image"]["from"], "registry");
    assert_eq!(report["wastedSize"], 220_000);
    assert!(report["compressedSize"].is_u64(), "{report}");
    let file = format!("{name}:/srv/same");
    assert_eq!(scene.run(&["cat", "--tls-verify=false", &file]).ok().len(), 70_000);
    // With the layers gone, what is known of them is enough.
    let files = walk(&scene.at("data"));
    let is_layer = |path: &&PathBuf| {
        let is_blob = path.to_string_lossy().contains("/blobs/sha256/");
        is_blob && !std::fs::read(path).unwrap().starts_with(b"{")
    };
    let packed: Vec<&PathBuf> = files.iter().filter(is_layer).collect();
    assert_eq!(packed.len(), 3, "{files:?}");
    for path in packed {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(json(&scene.run(&analyze).ok())["wastedSize"], 220_000);
    assert!(scene.run(&[&analyze[..], &["--no-cache"]].concat()).code == 1);
    serving.kill().unwrap();
    serving.wait().unwrap();
}

/// The files at and below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.metadata().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
