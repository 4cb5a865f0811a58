//! Files out of images: from wherever the image comes, with everything that an entry has.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use conex_layer::{EntryHeader, TarWriter};

use crate::analyze::archive_of;
use crate::scene::Scene;

/// An entry of a layer: what it has besides its content.
fn entry(path: &str, kind: u8, content: &[u8]) -> EntryHeader {
    let mut header = EntryHeader::file(path, content.len() as u64);
    header.kind = kind;
    header.mode = if kind == b'5' { 0o755 } else { 0o644 };
    header.mtime = 1_700_000_000;
    header
}

fn layer(entries: &[(EntryHeader, &[u8])]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    for (header, content) in entries {
        tar.append(header, content).unwrap();
    }
    tar.finish().unwrap()
}

fn with_attribute(mut header: EntryHeader, name: &str, value: &[u8]) -> EntryHeader {
    header.xattrs.push((name.into(), value.to_vec()));
    header
}

/// Two layers: a folder and a file with attributes, a device, names of one file; and a path that
/// the layer has twice, whose first content has another name.
fn sample(scene: &Scene) -> String {
    let folder = entry("data/", b'5', b"");
    let mut device = entry("data/null", b'3', b"");
    device.device = (1, 3);
    let mut first = entry("twice", b'0', b"first");
    first.mode = 0o600;
    let mut other = entry("other", b'1', b"");
    other.link = b"twice".to_vec();
    let mut link = entry("link", b'2', b"");
    link.link = b"data".to_vec();
    let mut again = entry("data/again", b'1', b"");
    again.link = b"data/file".to_vec();
    let layers = [
        layer(&[
            (with_attribute(folder, "user.folder", b"yes"), b""),
            (with_attribute(entry("data/file", b'0', b"content"), "user.file", b"1"), b"content"),
            (again, b""),
            (first, b"first"),
            (other, b""),
            (entry("twice", b'0', b"second"), b"second"),
            (link, b""),
        ]),
        layer(&[(device, b"")]),
    ];
    let [one, two] = layers;
    archive_of(scene, "files.tar", "files:1", &[("COPY one", one), ("COPY two", two)])
}

#[test]
fn streams_are_read_as_files_are() {
    let Some(scene) = Scene::new() else { return };
    let file = sample(&scene);
    let packed = Command::new("gzip").args(["-k", "files.tar"]).current_dir(scene.path()).status();
    assert!(packed.unwrap().success());
    let bytes = std::fs::read(scene.at("files.tar")).unwrap();
    let zipped = std::fs::read(scene.at("files.tar.gz")).unwrap();
    for (image, stdin) in [
        (file.as_str(), None),
        ("./files.tar.gz", None),
        ("docker-archive:files.tar.gz", None),
        ("-", Some(&bytes)),
        ("-", Some(&zipped)),
    ] {
        let run = |words: &[&str]| match stdin {
            Some(bytes) => scene.run_with(words, bytes).ok(),
            None => scene.run(words).ok(),
        };
        let path = |path: &str| format!("{image}:{path}");
        // Whichever is read first, and whatever is remembered.
        assert_eq!(run(&["cat", &path("/data/file")]), "content", "{image}");
        assert_eq!(run(&["cat", "--no-cache", &path("/twice")]), "second", "{image}");
        assert_eq!(run(&["cat", &path("/other")]), "first", "{image}");
        let _ = std::fs::remove_file(scene.at("copied"));
        run(&["cp", &path("/twice"), "copied"]);
        assert_eq!(std::fs::read_to_string(scene.at("copied")).unwrap(), "second", "{image}");
    }
    // The same out of the store, where the layers are unpacked.
    scene.run(&["load", "-i", "files.tar"]).ok();
    for (path, content) in [("data/again", "content"), ("twice", "second"), ("other", "first")] {
        assert_eq!(scene.run(&["cat", &format!("files:1:/{path}")]).ok(), content, "{path}");
    }
}

#[test]
fn folders_and_files_keep_their_attributes_and_links() {
    let Some(scene) = Scene::new() else { return };
    let file = sample(&scene);
    scene.run(&["load", "-i", "files.tar"]).ok();
    for (image, name) in [(file.as_str(), "of-archive"), ("files:1", "of-store")] {
        scene.folder(name);
        // A device cannot be made by everybody.
        let refused = scene.run(&["cp", &format!("{image}:/data"), name]).fails(1);
        assert!(refused.contains("`/data/null` is a char-device"), "{refused}");
        let tar = scene.at(&format!("{name}.tar"));
        let mut command = scene.command(&["cp", &format!("{image}:/data"), "-"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        std::fs::write(&tar, output.stdout).unwrap();
        let listed = Command::new("tar").arg("--xattrs").arg("-tvvf").arg(&tar).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for line in ["1,3", "data/file link to data/again", "x: 3 user.folder", "x: 1 user.file"] {
            assert!(listed.contains(line), "{image} {line}: {listed}");
        }
    }
    // Without the device, all of it comes out.
    let mut folder = entry("d/", b'5', b"");
    folder.mode = 0o750;
    let layers = layer(&[
        (with_attribute(folder, "user.folder", b"yes"), b""),
        (with_attribute(entry("d/file", b'0', b"c"), "user.file", b"1"), b"c"),
    ]);
    let plain = archive_of(&scene, "plain.tar", "plain:1", &[("COPY", layers)]);
    scene.run(&["load", "-i", "plain.tar"]).ok();
    for (image, name) in [(plain.as_str(), "a"), ("plain:1", "b")] {
        let output = scene.run(&["cp", &format!("{image}:/d"), name]);
        assert_eq!(output.code, 0, "{output}");
        let get = |path: &str, attribute: &str| {
            let mut value = [0; 16];
            let path = scene.at(path);
            let size = rustix::fs::getxattr(path, attribute, &mut value).unwrap();
            value[..size].to_vec()
        };
        assert_eq!(get(name, "user.folder"), b"yes");
        assert_eq!(get(&format!("{name}/file"), "user.file"), b"1");
        let about = std::fs::metadata(scene.at(name)).unwrap();
        assert_eq!((about.mode() & 0o7777, about.mtime()), (0o750, 1_700_000_000));
    }
}

#[test]
fn holes_are_part_of_a_file() {
    let Some(scene) = Scene::new() else { return };
    let folder = scene.folder("layer");
    let file = std::fs::File::create(folder.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 100_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"start", 0).unwrap();
    let tar = ["--sparse", "--hole-detection=raw", "-cf", "layer.tar", "-C", "layer", "sparse"];
    let made = Command::new("tar").args(tar).current_dir(scene.path()).status().unwrap();
    assert!(made.success());
    let bytes = std::fs::read(scene.at("layer.tar")).unwrap();
    assert!(bytes.len() < 50_000, "the tar has holes: {}", bytes.len());
    let image = archive_of(&scene, "sparse.tar", "sparse:1", &[("COPY", bytes)]);
    let expected = std::fs::read_to_string(folder.join("sparse")).unwrap();
    assert_eq!(scene.run(&["cat", &format!("{image}:/sparse")]).ok(), expected);
    scene.run(&["load", "-i", "sparse.tar"]).ok();
    assert_eq!(scene.run(&["cat", "sparse:1:/sparse"]).ok(), expected);
}

#[test]
fn slashes_dots_and_links_mean_what_they_mean_to_docker() {
    let Some(scene) = Scene::new() else { return };
    let layers = layer(&[
        (entry("real/", b'5', b""), b""),
        (entry("real/file", b'0', b"x"), b"x"),
        (EntryHeader { link: b"real".to_vec(), ..entry("link", b'2', b"") }, b""),
        (EntryHeader { link: b"real/file".to_vec(), ..entry("short", b'2', b"") }, b""),
    ]);
    let image = archive_of(&scene, "app.tar", "app:1", &[("COPY", layers)]);
    let copied = |words: &[&str], from: &str| {
        let _ = std::fs::remove_dir_all(scene.at("out"));
        scene.folder("out");
        scene.run(&[&["cp"], words, &[&format!("{image}:{from}"), "out"]].concat()).ok();
        let mut find = Command::new("find");
        find.args(["-mindepth", "1", "-printf", "%P%y "]).current_dir(scene.at("out"));
        let listed = find.output().unwrap().stdout;
        let mut names: Vec<String> =
            String::from_utf8(listed).unwrap().split(' ').map(str::to_owned).collect();
        names.sort();
        names.concat()
    };
    for (words, from, expected) in [
        (&[][..], "/real", "real/filefreald"),
        (&[], "/real/", "real/filefreald"),
        (&[], "/real/.", "filef"),
        (&[], "/link", "linkl"),
        (&[], "/link/", "link/fileflinkd"),
        (&[], "/link/.", "filef"),
        (&["-L"], "/link", "link/fileflinkd"),
        (&["-L"], "/short", "shortf"),
        (&[], "/real/../real/file", "filef"),
    ] {
        assert_eq!(copied(words, from), expected, "{words:?} {from}");
    }
    scene.write("file", "there");
    for (words, code, expected) in [
        (&["cp", "./app.tar:/real/file/", "out"][..], 1, "`/real/file/` is no folder"),
        (&["cp", "./app.tar:/real", "file"], 1, "`file` is there and no folder"),
        (&["cp", "./app.tar:/real/file", "new/"], 1, "there is no folder `new/`"),
        (&["cp", "./app.tar:/real/file", "no/where"], 1, "cannot open the folder `no`"),
        (&["cat", "--nothing", "./app.tar:/real/file"], 2, "`--nothing` is no option"),
        (&["cp", "file", "app:/srv"], 2, "files are copied out of them only"),
    ] {
        let stderr = scene.run(words).fails(code);
        assert!(stderr.contains(expected), "{words:?}: {stderr}");
    }
    scene.run(&["cp", "./app.tar:/real/file", "file"]).ok();
    assert_eq!(std::fs::read_to_string(scene.at("file")).unwrap(), "x", "written over");
    assert!(!Path::new(&scene.at("no")).exists());
}

#[test]
fn a_content_that_is_not_the_one_of_the_diff_id_is_refused() {
    let Some(scene) = Scene::new() else { return };
    let one = layer(&[(entry("file", b'0', b"good"), b"good")]);
    let image = archive_of(&scene, "good.tar", "good:1", &[("COPY", one.clone())]);
    assert_eq!(scene.run(&["cat", &format!("{image}:/file")]).ok(), "good");
    // Another archive says that it has the layer, and what is known of that is remembered.
    let bytes = std::fs::read(scene.at("good.tar")).unwrap();
    let at = bytes.windows(4).position(|window| window == b"good").unwrap();
    let mut bad = bytes;
    bad[at..at + 4].copy_from_slice(b"evil");
    scene.write("bad.tar", bad);
    let refused = scene.run(&["cat", "./bad.tar:/file"]).fails(1);
    assert!(refused.contains("not the one that the layer's diff ID stands for"), "{refused}");
}
