//! Images of conex in other hands, and those of others in its own: the same files, the same
//! programs.

use std::ffi::OsStr;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use crate::peers_support::{Peer, other_ok, tree};
use crate::sandbox::{Sandbox, is_root};
use crate::scene::json;

/// What a program sees of its image and of how it is run.
const PROGRAM: &str = r#"FROM base
RUN mkdir /w && echo made > /w/file && chown app /w
ENV A="two  words" B=b
WORKDIR /w
USER app
STOPSIGNAL SIGINT
ENTRYPOINT ["sh", "-c", "id -u; id -g; id -G; pwd; echo $A-$B-$HOME-$PATH; cat file; umask; grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status; touch mine && ls -ln | awk '{ print $1, $3, $4, $NF }'; ls /sys/class/net; echo $0 $@; exit 3"]
CMD ["one", "two"]
"#;

/// Files of every kind, in several layers that also take files away; written as every builder of
/// the last ten years understands it. A device has one name: conex takes one with two for two.
const FILES: &str = r"FROM base
COPY from /t/
RUN set -e; cd /t \
 && mknod null c 1 3 && mknod loop b 7 1 && mkfifo -m 640 fifo \
 && ln plain hard && ln -s plain sym && ln -s /nowhere/at/all dangling \
 && chown -h 70000:70001 sym && chown 1000:1001 plain && chmod 4755 plain \
 && chmod 3771 dir && chown 7:8 dir \
 && mkdir -p gone/sub swap/old keep was-dir \
 && touch gone/sub/f swap/old/f keep/a keep/b was-file was-dir/f
RUN cd /t && rm -r gone && rm -r swap && mkdir swap && touch swap/new && rm keep/a \
 && rm was-file && mkdir was-file && rm -r was-dir && echo file > was-dir \
 && chmod 600 dir/inner && ln dir/inner dir/other
RUN [ -e /t/keep/b ]
";

/// A capability to open raw sockets, as `setcap cap_net_raw+ep` writes it.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Fills the context for [`FILES`].
fn fill(sandbox: &Sandbox) {
    let from = sandbox.folder("context/from");
    for (name, content) in [
        ("plain", "plain\n"),
        ("dir/inner", "inner\n"),
        ("capable", "program\n"),
        ("noted", "with a note\n"),
        ("empty", ""),
    ] {
        sandbox.write(&format!("context/from/{name}"), content);
    }
    let long = "n".repeat(200);
    sandbox.write(&format!("context/from/{long}/{long}/{}", "m".repeat(255)), "deep\n");
    fs::write(from.join(OsStr::from_bytes(b"latin-\xe9\xff\n \\")), "odd\n").unwrap();
    fs::write(from.join("unicode-\u{e9}\u{1f433}"), "even\n").unwrap();
    let mut sparse = fs::File::create(from.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(20 << 20)).unwrap();
    sparse.write_all(b"in the middle").unwrap();
    sparse.set_len(60 << 20).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::setxattr(from.join(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    set("capable", "security.capability", &NET_RAW);
    set("noted", "user.note", b"seen\0by all\xff");
    set("dir", "user.dir", b"too");
}

/// The images `files` and `program`, and what the former's files look like. Only root can make
/// them all.
fn images() -> Option<(Sandbox, String)> {
    if !is_root() {
        eprintln!("skipped: only root can make devices");
        return None;
    }
    let sandbox = Sandbox::with_base()?;
    fill(&sandbox);
    let local = format!("type=local,dest={}", sandbox.text("local"));
    sandbox.built(FILES, &["-t", "files", "-o", "type=image", "-o", &local]);
    sandbox.built(PROGRAM, &["-t", "program"]);
    let sparse = fs::metadata(sandbox.at("local/t/sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "the holes are written out: {sparse:?}");
    let seen = tree(&sandbox.at("local/t"));
    for line in [
        "capable 644 0:0 @315532800 file 8 ",
        " security.capability=\\x01\\x00\\x00\\x02\\x00\\x20\\x00",
        "dangling 777 0:0 @315532800 link /nowhere/at/all",
        "dir 3771 7:8 @315532800 dir user.dir=too",
        "dir/inner 600 0:0 @315532800 file 6 ",
        "fifo 640 0:0 @315532800 fifo 0",
        " = dir/inner\n",
        "loop 644 0:0 @315532800 block device 701",
        "null 644 0:0 @315532800 character device 103",
        "4755 1000:1001 @315532800 file 6 ",
        "sym 777 70000:70001 @315532800 link plain",
        " user.note=seen\\x00by\\x20all\\xff",
        "latin-\\xe9\\xff\\n \\\\ ",
    ] {
        assert!(seen.contains(line), "{line}:\n{seen}");
    }
    for gone in ["gone", "swap/old", "keep/a", "was-dir/f"] {
        assert!(!seen.contains(&format!("\n{gone}")), "{gone}:\n{seen}");
    }
    Some((sandbox, seen))
}

/// Runs the image `program` in a peer, and compares with what conex prints.
fn check_program(sandbox: &Sandbox, peer: &Peer, image: &str) {
    // podman gives fewer capabilities than docker.
    let comparable = |out: &str| -> Vec<String> {
        let lines = out.lines().filter(|line| peer.name != "podman" || !line.starts_with("CapBnd"));
        lines.map(str::to_owned).collect()
    };
    for args in [&[][..], &["three"][..]] {
        let ours = [&["run", "--rm", "--network=none", "program"], args].concat();
        let (ours, theirs) = (sandbox.conex(&ours), peer.run(&[&[image], args].concat()));
        assert_eq!(theirs.code, 3, "{}: {}{}", peer.name, theirs.out, theirs.err);
        assert_eq!(ours.code, 3, "{}{}", ours.out, ours.err);
        assert_eq!(comparable(&theirs.out), comparable(&ours.out), "{}", peer.name);
    }
}

/// Gives a peer an image of ours by `save` and `load`.
fn load(sandbox: &Sandbox, peer: &Peer, name: &str) {
    let archive = sandbox.text(&format!("{name}.tar"));
    sandbox.ok(&["save", "-o", &archive, name]);
    let said = peer.ok_with(&["load"], &fs::read(&archive).unwrap());
    assert!(said.contains(&format!("{name}:latest")), "{}: {said}", peer.name);
}

/// Takes the image `theirs` of a peer's, which looks as its builder shows it, runs, and can be
/// built upon.
fn check_theirs(sandbox: &Sandbox, wanted: &str) {
    let local = format!("type=local,dest={}", sandbox.text("theirs"));
    sandbox.built("FROM theirs\n", &["-o", &local]);
    assert_eq!(tree(&sandbox.at("theirs/t")), wanted);
    assert_eq!(sandbox.ok(&["run", "--rm", "theirs", "cat", "/t/plain"]), "plain\n");
    sandbox.built("FROM theirs\nRUN [ -p /t/fifo ] && [ ! -e /t/keep/a ] && rm -r /t\n", &[]);
}

/// A tree without words that begin in some way: `@` are the times, which no other builder keeps.
fn without(tree: &str, beginnings: &[&str]) -> String {
    let keeps = |word: &&str| !beginnings.iter().any(|beginning| word.starts_with(beginning));
    let line = |line: &str| line.split(' ').filter(keeps).collect::<Vec<_>>().join(" ") + "\n";
    tree.lines().map(line).collect()
}

#[test]
fn docker_runs_what_conex_built_and_conex_what_docker_built() {
    let Some((sandbox, seen)) = images() else { return };
    let Some(docker) = Peer::docker(&sandbox) else { return };
    for name in ["base", "program", "files"] {
        load(&sandbox, &docker, name);
        let id = docker.ok(&["inspect", "-f", "{{.Id}}", name]);
        assert_eq!(id.trim(), sandbox.id(name), "an ID is the same everywhere");
    }
    check_program(&sandbox, &docker, "program");
    assert_eq!(docker.tree("files", "t"), seen, "docker");
    // skopeo hands images to the daemon too.
    sandbox.ok(&["save", "--format", "oci-archive", "-o", &sandbox.text("oci.tar"), "files"]);
    let host = format!("unix://{}", sandbox.text("docker/socket"));
    let copy = ["--insecure-policy", "copy", "-q", "--dest-daemon-host", &host];
    let copy = [&copy[..], &["oci-archive:oci.tar", "docker-daemon:copied:latest"]].concat();
    if other_ok(&sandbox, "skopeo", &copy).is_some() {
        assert_eq!(docker.tree("copied", "t"), seen, "skopeo to docker");
    }
    // The other way round: docker builds on an image of ours, and conex goes on from there.
    sandbox.write("context/Dockerfile", FILES);
    docker.ok(&["build", "--network=none", "-q", "-t", "theirs", &sandbox.text("context")]);
    let wanted = docker.tree("theirs", "t");
    docker.ok(&["save", "-o", &sandbox.text("theirs.tar"), "theirs"]);
    sandbox.ok(&["load", "-i", &sandbox.text("theirs.tar")]);
    check_theirs(&sandbox, &wanted);
    // Docker's old builder loses extended attributes on the context's way to the daemon.
    let comparable = |tree: &str| without(tree, &["@", "security.", "user."]);
    assert_eq!(comparable(&wanted), comparable(&seen), "both builders make the same files");
}

#[test]
fn podman_runs_what_conex_built_and_conex_what_buildah_built() {
    let Some((sandbox, seen)) = images() else { return };
    let Some(podman) = Peer::podman(&sandbox) else { return };
    for name in ["base", "program", "files"] {
        load(&sandbox, &podman, name);
    }
    if !podman.works("base") {
        return;
    }
    check_program(&sandbox, &podman, "program");
    assert_eq!(podman.tree("files", "t"), seen, "podman");
    // skopeo writes into the same store.
    sandbox.ok(&["save", "--format", "oci-archive", "-o", &sandbox.text("oci.tar"), "files"]);
    let (store, state) = (sandbox.text("podman/store"), sandbox.text("podman/state"));
    let storage = format!("containers-storage:[overlay@{store}+{state}]localhost/copied:1");
    let copy = ["--insecure-policy", "copy", "-q", "oci-archive:oci.tar", &storage];
    if other_ok(&sandbox, "skopeo", &copy).is_some() {
        assert_eq!(podman.tree("localhost/copied:1", "t"), seen, "skopeo to podman");
    }
    // The other way round, through buildah, whose own form of archive is OCI's.
    sandbox.write("context/Dockerfile", FILES);
    let buildah = ["--root", &store, "--runroot", &state, "build", "--layers", "--network=none"];
    let rest = ["--runtime=runc", "--cap-add=MKNOD", "-q", "-t", "localhost/theirs", "context"];
    if other_ok(&sandbox, "buildah", &[&buildah[..], &rest].concat()).is_none() {
        return;
    }
    let wanted = podman.tree("localhost/theirs", "t");
    let archive = sandbox.text("theirs.tar");
    podman.ok(&["save", "-q", "--format", "oci-archive", "-o", &archive, "localhost/theirs"]);
    sandbox.ok(&["load", "-q", "-i", &archive]);
    sandbox.ok(&["tag", "localhost/theirs", "theirs"]);
    check_theirs(&sandbox, &wanted);
    assert_eq!(
        without(&wanted, &["@"]),
        without(&seen, &["@"]),
        "both builders make the same files"
    );
}

#[test]
fn umoci_and_tar_unpack_the_same_files() {
    let Some((sandbox, seen)) = images() else { return };
    let layout = sandbox.text("layout");
    let rootfs = format!("type=tar,dest={}", sandbox.text("rootfs.tar"));
    let oci = format!("type=oci,tar=false,dest={layout}");
    sandbox.built(FILES, &["-t", "files:1", "-o", &oci, "-o", &rootfs]);
    let (image, bundle) = (format!("{layout}:1"), sandbox.text("bundle"));
    if other_ok(&sandbox, "umoci", &["unpack", "--image", &image, &bundle]).is_some() {
        assert_eq!(tree(&sandbox.at("bundle/rootfs/t")), seen, "umoci");
    }
    let whole = sandbox.folder("whole");
    untar(&sandbox, &sandbox.at("rootfs.tar"), &whole);
    assert_eq!(tree(&whole.join("t")), seen, "tar of the whole");
    // Layer by layer, with nothing but tar and the rules for whiteouts.
    let merged = sandbox.folder("merged");
    let read = |digest: &str| fs::read(blob(&layout, digest)).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let index = json(&text(fs::read(sandbox.at("layout/index.json")).unwrap()));
    let manifest = json(&text(read(index["manifests"][0]["digest"].as_str().unwrap())));
    let layers = manifest["layers"].as_array().unwrap();
    assert!(layers.len() >= 3, "{manifest}");
    for (number, layer) in layers.iter().enumerate() {
        let one = sandbox.folder(&format!("layer{number}"));
        let layer = blob(&layout, layer["digest"].as_str().unwrap());
        untar(&sandbox, &layer, &one);
        take_away(&one, &merged);
        untar(&sandbox, &layer, &merged);
        remove_whiteouts(&merged);
    }
    let merged = tree(&merged.join("t"));
    assert_eq!(without(&merged, &["@"]), without(&seen, &["@"]), "tar of the layers");
}

fn blob(layout: &str, digest: &str) -> PathBuf {
    Path::new(layout).join("blobs").join(digest.replace(':', "/"))
}

/// Unpacks a tar with GNU tar, as root and with all that it can keep.
fn untar(sandbox: &Sandbox, tar: &Path, into: &Path) {
    let (tar, into) = (tar.to_str().unwrap(), into.to_str().unwrap());
    let keep = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-permissions"];
    let args = [&keep[..], &["-C", into, "-xf", tar]].concat();
    other_ok(sandbox, "tar", &args).unwrap();
}

/// Removes from `merged` what a layer takes away or puts a file in the place of.
fn take_away(layer: &Path, merged: &Path) {
    for entry in fs::read_dir(layer).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        let is_dir = path.symlink_metadata().unwrap().is_dir();
        let below = merged.join(&name);
        if name == ".wh..wh..opq" {
            remove(merged);
            fs::create_dir(merged).unwrap();
        } else if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            remove(&merged.join(OsStr::from_bytes(hidden)));
        } else if !is_dir || !below.is_dir() {
            remove(&below);
        }
        if is_dir && below.is_dir() {
            take_away(&path, &below);
        }
    }
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

fn remove_whiteouts(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().as_bytes().starts_with(b".wh.") {
            fs::remove_file(entry.path()).unwrap();
        } else if entry.file_type().unwrap().is_dir() {
            remove_whiteouts(&entry.path());
        }
    }
}
