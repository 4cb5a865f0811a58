//! `conex mount` and `conex umount`: what stays, what goes, and what is left of those that died.

use std::process::Command;

use crate::analyze::{FILES, archive};
use crate::sandbox::is_root;
use crate::scene::Scene;

fn scene() -> Option<Scene> {
    let scene = Scene::new()?;
    archive(&scene, "app.tar", "app:1", FILES);
    archive(&scene, "other.tar", "other:1", &[("COPY", &[("file", 3, b'x')])]);
    scene.run(&["load", "-i", "app.tar"]).ok();
    scene.run(&["load", "-i", "other.tar"]).ok();
    Some(scene)
}

/// The folders of a scene that something is mounted at.
fn mounted(scene: &Scene) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let root = scene.path().to_str().unwrap();
    points.filter(|point| point.starts_with(root)).map(str::to_owned).collect()
}

#[test]
fn an_image_is_mounted_for_a_command_or_until_it_is_unmounted() {
    let Some(scene) = Scene::new() else { return };
    archive(&scene, "app.tar", "app:1", FILES);
    scene.run(&["load", "-i", "app.tar"]).ok();
    let read = scene.run(&["mount", "app:1", "--", "cat", "etc/passwd"]);
    assert_eq!(read.ok(), "qq");
    let wrote = scene.run(&["mount", "app:1", "--", "sh", "-c", "echo x > etc/passwd"]);
    assert!(wrote.code != 0 && wrote.stderr.contains("Read-only"), "{wrote}");
    assert_eq!(scene.run(&["mount", "app:1", "--", "sh", "-c", "exit 7"]).code, 7);
    if !crate::sandbox::is_root() {
        let error = scene.run(&["mount", "app:1"]).fails(2);
        assert!(error.contains("conex mount app:1 -- COMMAND"), "{error}");
        return;
    }
    let target = scene.folder("mounted");
    let target = target.to_str().unwrap();
    assert_eq!(scene.run(&["mount", "app:1", target]).ok(), format!("{target}\n"));
    // Its name is gone, and it is still there.
    scene.run(&["rmi", "app:1"]).ok();
    scene.run(&["system", "prune", "--force"]).ok();
    scene.run(&["system", "prune", "--all", "--force"]).ok();
    scene.run(&["image", "prune", "--all", "--force"]).ok();
    let read = std::fs::read_to_string(scene.at("mounted/etc/passwd"));
    scene.run(&["umount", target]).ok();
    assert_eq!(read.unwrap(), "qq");
    assert_eq!(scene.run(&["images", "-aq"]).ok(), "");
}

#[test]
fn mounting_twice_is_once_and_another_image_waits() {
    let Some(scene) = scene() else { return };
    if !is_root() {
        let error = scene.run(&["mount", "app:1", "/mnt"]).fails(2);
        assert!(error.contains("only root can make mounts that others see"), "{error}");
        return;
    }
    let target = scene.folder("here");
    let target = target.to_str().unwrap();
    for _ in 0..2 {
        assert_eq!(scene.run(&["mount", "app:1", target]).ok(), format!("{target}\n"));
    }
    assert_eq!(mounted(&scene), [target]);
    let error = scene.run(&["mount", "other:1", target]).fails(1);
    assert!(error.contains(&format!("conex umount {target}")), "{error}");
    scene.run(&["umount", target]).ok();
    assert_eq!(mounted(&scene), [""; 0]);
    let error = scene.run(&["umount", target]).fails(1);
    assert!(error.contains("nothing is mounted at"), "{error}");
    // A folder of the store, where none is named.
    let own = scene.run(&["mount", "app:1"]).ok();
    assert_eq!(scene.run(&["mount", "app:1"]).ok(), own);
    scene.run(&["umount", own.trim()]).ok();
    assert!(!std::path::Path::new(own.trim()).exists());
    let error = scene.run(&["umount", "/proc"]).fails(1);
    assert!(error.contains("was not mounted by conex"), "{error}");
}

#[test]
fn all_mounts_are_unmounted_and_names_of_lost_ones_let_go() {
    let Some(scene) = scene() else { return };
    // Of nobody's mounts there is nothing to unmount.
    scene.run(&["umount", "--all"]).ok();
    if !is_root() {
        return;
    }
    let folders: Vec<String> =
        ["a b", "c", "d"].iter().map(|name| scene.folder(name).display().to_string()).collect();
    for folder in &folders {
        scene.run(&["mount", "app:1", folder]).ok();
    }
    scene.run(&["mount", "other:1"]).ok();
    // Unmounted behind our back, and its folder gone.
    assert!(Command::new("umount").arg(&folders[1]).status().unwrap().success());
    std::fs::remove_dir(&folders[1]).unwrap();
    scene.run(&["umount", &folders[1]]).ok();
    assert!(Command::new("umount").arg(&folders[2]).status().unwrap().success());
    let names = || scene.run(&["images", "--format", "{{.Repository}}"]).ok();
    assert_eq!(names().matches("conex-mounted").count(), 3);
    scene.run(&["umount", "--all"]).ok();
    assert_eq!(mounted(&scene), [""; 0]);
    assert_eq!(names().matches("conex-mounted").count(), 0);
}

#[test]
fn a_mount_that_is_in_use_stays_and_the_others_go() {
    let Some(scene) = scene() else { return };
    if !is_root() {
        return;
    }
    let folders: Vec<String> =
        ["busy", "free"].iter().map(|name| scene.folder(name).display().to_string()).collect();
    for folder in &folders {
        scene.run(&["mount", "app:1", folder]).ok();
    }
    let mut sleeping =
        Command::new("sleep").arg("60").current_dir(scene.at("busy/etc")).spawn().unwrap();
    let error = scene.run(&["umount", "--all"]).fails(1);
    let left = mounted(&scene);
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    assert!(error.contains("cannot unmount"), "{error}");
    assert_eq!(left, [folders[0].clone()]);
    scene.run(&["umount", "--all"]).ok();
    assert_eq!(mounted(&scene), [""; 0]);
}

/// Whoever is killed while a command runs in the mounted files leaves no mount and keeps nothing.
#[test]
fn a_mount_for_a_command_dies_with_it() {
    let Some(scene) = scene() else { return };
    let mut command =
        scene.command(&["mount", "app:1", "--", "sh", "-c", "echo $PWD; exec sleep 60"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let out = child.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert!(line.starts_with('/'), "{line:?}");
    let asleep = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    // The command itself is an orphan now; it is ours to end.
    for id in asleep.unwrap_or_default().split_whitespace() {
        let _ = Command::new("kill").args(["-9", id]).status();
    }
    assert_eq!(mounted(&scene), [""; 0]);
    scene.run(&["rmi", "app:1"]).ok();
    scene.run(&["system", "prune", "--all", "--force"]).ok();
    assert!(!std::path::Path::new(line.trim()).exists(), "its folder is gone");
}
