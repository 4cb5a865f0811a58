//! The layered view beside what umoci unpacks, and beside our own store: layers of random links,
//! whiteouts, opaque folders and things that take each other's place, taken out whole.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use conex_layer::{EntryHeader, TarLimits, TarReader, TarWriter};

use crate::analyze::archive_of;
use crate::sandbox::{is_ci, is_root, program};
use crate::scene::Scene;

/// Images that are tried: two hundred agreed when this was written.
const SEEDS: u64 = 8;

/// Numbers that are the same every time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    /// A path of one to three names.
    fn path(&mut self) -> String {
        let count = 1 + self.below(3);
        let names: Vec<&str> = (0..count).map(|_| *self.of(&["a", "b", "c"])).collect();
        names.join("/")
    }
}

/// What the layers so far leave, as far as it matters for what may come: files, folders, and links
/// of folders with what they lead to.
#[derive(Clone, Default)]
struct Model(BTreeMap<String, u8>, BTreeMap<String, String>);

impl Model {
    /// The path that is meant, where its folder is one, or a link to one.
    fn meant(&self, path: &str) -> Option<String> {
        let Some((folder, name)) = path.rsplit_once('/') else { return Some(path.to_owned()) };
        match self.0.get(folder) {
            Some(b'5') => Some(path.to_owned()),
            Some(b'2') => {
                let target = self.1.get(folder)?;
                (self.0.get(target) == Some(&b'5')).then(|| format!("{target}/{name}"))
            }
            _ => None,
        }
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|known, _| known != path && !known.starts_with(&below));
    }
}

/// A layer that every tool takes: parents are there, each path is named once, what is linked to is
/// there, and no link leads nowhere.
fn layer(dice: &mut Dice, model: &mut Model, number: usize) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    let mut named: Vec<String> = Vec::new();
    let lower = model.clone();
    for step in 0..30 {
        let written = dice.path();
        let Some(path) = model.meant(&written) else { continue };
        let is_near = |other: &String| {
            let (one, other) = (format!("{path}/"), format!("{other}/"));
            one.starts_with(&other) || other.starts_with(&one)
        };
        if named.contains(&path) {
            continue;
        }
        let content = format!("{number} {step}");
        let mut header = EntryHeader::file(written.as_str(), 0);
        header.mtime = 1_700_000_000;
        let mut bytes: &[u8] = b"";
        // Whether a link is deleted before something is written through it or after, tools see
        // differently.
        if let Some((folder, _)) = written.rsplit_once('/').filter(|_| written != path) {
            named.push(folder.to_owned());
        }
        match dice.below(10) {
            0..3 => {
                header.size = content.len() as u64;
                header.mode = *dice.of(&[0o644, 0o600, 0o755]);
                bytes = content.as_bytes();
            }
            3..6 => {
                (header.kind, header.mode) = (b'5', *dice.of(&[0o755, 0o700, 0o1777]));
                header.path.push(b'/');
            }
            6 => {
                let folders: Vec<&String> =
                    model.0.iter().filter(|one| *one.1 == b'5').map(|one| one.0).collect();
                // What the layer made itself must not become a link below its own files.
                if folders.is_empty() || named.iter().any(is_near) {
                    continue;
                }
                let target = (*dice.of(&folders)).clone();
                if is_near(&target) {
                    continue;
                }
                (header.kind, header.link) = (b'2', format!("/{target}").into_bytes());
                model.1.insert(path.clone(), target);
            }
            7 => {
                let files: Vec<&String> =
                    model.0.iter().filter(|one| *one.1 == b'0').map(|one| one.0).collect();
                let Some(target) = files.get(dice.below(files.len().max(1))) else { continue };
                if is_near(target) {
                    continue;
                }
                (header.kind, header.link) = (b'1', target.as_bytes().to_vec());
            }
            8 => {
                if !lower.0.contains_key(&path) || named.iter().any(is_near) {
                    continue;
                }
                let (folder, name) = written.rsplit_once('/').unwrap_or(("", &written));
                header.path = format!("{folder}/.wh.{name}").trim_start_matches('/').into();
                model.remove(&path);
                named.push(path);
                tar.append(&header, b"").unwrap();
                continue;
            }
            _ => {
                if model.0.get(&path) != Some(&b'5') || named.iter().any(is_near) {
                    continue;
                }
                header.path = format!("{written}/.wh..wh..opq").into_bytes();
                let below = format!("{path}/");
                model.0.retain(|known, _| !known.starts_with(&below));
                named.push(path);
                tar.append(&header, b"").unwrap();
                continue;
            }
        }
        let kind = if header.kind == b'1' { b'0' } else { header.kind };
        let stays = kind == b'5' && model.0.get(&path) == Some(&b'5');
        if !stays {
            // Something of this layer would be lost: nobody writes that.
            if named.iter().any(|other| other.starts_with(&format!("{path}/"))) {
                continue;
            }
            model.remove(&path);
        }
        model.0.insert(path.clone(), kind);
        named.push(path);
        tar.append(&header, bytes).unwrap();
    }
    tar.finish().unwrap()
}

/// What layers have, for whoever has to find out why something differs.
fn listed(layers: &[(&str, Vec<u8>)]) -> String {
    let mut text = String::new();
    for (number, (_, layer)) in layers.iter().enumerate() {
        let mut tar = TarReader::new(layer.as_slice(), TarLimits::default());
        while let Some(entry) = tar.next_entry().unwrap() {
            let (path, link) =
                (String::from_utf8_lossy(&entry.path), String::from_utf8_lossy(&entry.link));
            text.push_str(&format!("{number} {:?} {path} {link}\n", entry.kind));
        }
    }
    text
}

/// What is in a folder: kind, mode, content or target, and the first name of the same file.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, String> = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(folder) = todo.pop() {
        let mut entries: Vec<_> =
            std::fs::read_dir(root.join(&folder)).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.file_name()));
        for entry in entries {
            let path = folder.join(entry.file_name());
            let text = path.display().to_string();
            let about = entry.metadata().unwrap();
            let mode = about.permissions().mode() & 0o7777;
            let is = if about.is_dir() {
                todo.push(path);
                format!("folder {mode:o}")
            } else if about.is_symlink() {
                format!("link {}", std::fs::read_link(entry.path()).unwrap().display())
            } else {
                let content = std::fs::read_to_string(entry.path()).unwrap();
                let group = inodes.entry(about.ino()).or_insert_with(|| text.clone());
                *group = group.clone().min(text.clone());
                format!("file {mode:o} {content:?} {}", about.ino())
            };
            found.insert(text, is);
        }
    }
    // Numbers of inodes differ; the first name of each does not.
    for is in found.values_mut() {
        if let Some((rest, inode)) = is.clone().rsplit_once(' ')
            && is.starts_with("file")
        {
            *is = format!("{rest} = {}", inodes[&inode.parse().unwrap()]);
        }
    }
    found
}

#[test]
fn what_is_taken_out_is_what_umoci_and_the_store_unpack() {
    let Some(scene) = Scene::new() else { return };
    let umoci = program("umoci");
    assert!(umoci.is_some() || !is_ci(), "umoci is needed");
    if umoci.is_none() {
        eprintln!("skipped: umoci is needed; held against the store alone");
    }
    let mut entries = 0;
    for seed in 1..=SEEDS {
        let (mut dice, mut model) =
            (Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), Model::default());
        let layers: Vec<(&str, Vec<u8>)> =
            (0..4).map(|number| ("COPY", layer(&mut dice, &mut model, number))).collect();
        let list = listed(&layers);
        let name = format!("view:{seed}");
        let image = archive_of(&scene, &format!("{seed}.tar"), &name, &layers);
        let taken = format!("taken-{seed}");
        scene.folder(&taken);
        let copied = scene.run(&["cp", &format!("{image}:/."), &taken]);
        assert_eq!(copied.code, 0, "seed {seed}: {copied}");
        let taken = tree(&scene.at(&taken));
        entries += taken.len();

        scene.run(&["load", "-i", &format!("{seed}.tar")]).ok();
        let stored = format!("stored-{seed}");
        scene.folder(&stored);
        scene.run(&["cp", &format!("{name}:/."), &stored]).ok();
        assert_eq!(taken, tree(&scene.at(&stored)), "the store, seed {seed}\n{list}");
        if umoci.is_some() {
            let layout = format!("oci-{seed}");
            scene
                .run(&["copy", &format!("docker-archive:{seed}.tar"), &format!("oci:{layout}:x")])
                .ok();
            let bundle = format!("bundle-{seed}");
            let mut words = vec!["unpack"];
            words.extend((!is_root()).then_some("--rootless"));
            let image = format!("{layout}:x");
            words.extend(["--image", &image, &bundle]);
            let unpacked = Command::new("umoci").args(words).current_dir(scene.path()).output();
            let unpacked = unpacked.unwrap();
            assert!(unpacked.status.success(), "seed {seed}: {unpacked:?}");
            assert_eq!(
                taken,
                tree(&scene.at(&bundle).join("rootfs")),
                "umoci, seed {seed}\n{list}"
            );
        }
        let exported = format!("exported-{seed}");
        scene.folder(&exported);
        scene.run(&["export", "-o", "exported.tar", &name]).ok();
        // As it is, also for who is not root.
        let untar = ["-xpf", "exported.tar", "-C", &exported];
        assert!(
            Command::new("tar").args(untar).current_dir(scene.path()).status().unwrap().success()
        );
        // In an overlay, a name in an upper layer is a file of its own.
        let apart = |tree: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let is = |is: &String| is.split(" = ").next().unwrap_or_default().to_owned();
            tree.iter().map(|(path, text)| (path.clone(), is(text))).collect()
        };
        let exported = tree(&scene.at(&exported));
        assert_eq!(apart(&taken), apart(&exported), "what is exported, seed {seed}\n{list}");
    }
    assert!(entries as u64 > SEEDS * 4, "{entries} entries are too few to say much");
}
