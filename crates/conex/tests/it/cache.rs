//! `cache`.

use insta::assert_snapshot;

use crate::scene::{Scene, json};
use crate::shown::without_sizes;

#[test]
fn results_and_cache_mounts_are_listed_and_removed() {
    let Some(scene) = Scene::with_files() else { return };
    scene.write("context/a", "content");
    scene.write("context/Dockerfile", "FROM base\nCOPY a /a\n");
    scene.run(&["build", "-q", "context"]).ok();
    let tar = scene.tar("pip.tar", &[("wheel", "w")]);
    scene.run(&["cache", "import", "/root/.cache/pip", &tar]).ok();
    let listed = without_sizes(&scene.run(&["cache", "ls"]).to_string());
    assert_snapshot!(listed, @r"
    exit 0
    --- stdout
    CACHE ID   TYPE   SIZE   LAST USED   USES   DESCRIPTION
    /root/.cache/pip   mount   [SIZE]   [AGO]
    [3]   copy   [SIZE]   [AGO]   0   [2/2] COPY a /a
    ");
    assert_snapshot!(without_sizes(&scene.run(&["cache", "ls", "--verbose"]).to_string()), @r"
    exit 0
    --- stdout
    ID:   /root/.cache/pip
    Type:   mount
    Size:   [SIZE]
    Created at:   [TIME]
    Last used at: [TIME]
    In use:   false
    Shared:   false
    Folder:   [DIR]/store/caches/root_.cache_pip-bf3b04da7be5/_data

    ID:   [3]
    Type:   copy
    Description:  [2/2] COPY a /a
    Size:   [SIZE]
    Created at:   [TIME]
    Last used at: [TIME]
    Usage count:  0
    In use:   false
    Shared:   true
    Layer:   sha256:[4]
    ");
    let rows = scene.run(&["cache", "ls", "--format", "json"]).ok();
    let row = json(rows.lines().find(|line| line.contains("COPY")).unwrap());
    let id = row["ID"].as_str().unwrap();
    let stderr = scene.run(&["cache", "rm", "nope", ""]).fails(1);
    assert!(stderr.contains("no such cache record or cache mount"), "{stderr}");
    let removed = scene.run(&["cache", "rm", id, "/root/.cache/pip"]).ok();
    assert!(removed.contains("Deleted cache mounts:\n/root/.cache/pip\n"), "{removed}");
    assert_eq!(scene.run(&["cache", "ls", "-q"]).ok(), "");
}

#[test]
fn what_serves_a_build_counts_as_used() {
    let Some(scene) = Scene::with_files() else { return };
    let build = |content: &str| {
        // Large, so that it is what counts whatever folders take up on the file system.
        scene.write("context/a", content.repeat(20_000));
        scene.write("context/Dockerfile", "FROM base\nCOPY a /a\n");
        scene.run(&["build", "-q", "context"]).ok()
    };
    build("first");
    build("second");
    build("first");
    let args = ["cache", "ls", "--format", "{{.Type}} {{.UsageCount}}"];
    assert_eq!(scene.run(&args).ok(), "copy 1\ncopy 0\n");
    // A budget takes what was used longest ago first, which is not what was made first.
    scene.run(&["image", "prune", "-f"]).ok();
    let args = ["system", "df", "--format", "json"];
    let rows = scene.run(&args).ok();
    let row = json(rows.lines().find(|row| row.contains("Build Cache")).unwrap());
    assert_eq!(row["TotalCount"], "2");
    scene.run(&["builder", "prune", "-f", "--max-used-space", "160k"]).ok();
    let args = ["cache", "ls", "--format", "{{.Type}} {{.UsageCount}}"];
    assert_eq!(scene.run(&args).ok(), "copy 1\n");
}

#[test]
fn a_cache_mount_travels() {
    let (Some(here), Some(there)) = (Scene::new(), Scene::new()) else { return };
    let files = [("wheels/a.whl", "a"), ("wheels/.wh.odd", "b"), ("index", "c")];
    let tar = here.tar("in.tar", &files);
    here.run(&["cache", "import", "pip", &tar]).ok();
    let archive = here.text("pip.tar.zst");
    here.run(&["cache", "export", "pip", "-o", &archive]).ok();
    let bytes = std::fs::read(&archive).unwrap();
    assert!(bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "zstd");
    assert!(!here.at("pip.tar.zst.part").exists());
    let imported = there.run_with(&["cache", "import", "pip", "-"], &bytes);
    assert_snapshot!(imported, @r"
    exit 0
    --- stderr
    pip: 4 entries, 3B
    ");
    let folder = json(&there.run(&["cache", "ls", "--format", "json"]).ok());
    let folder = std::path::Path::new(folder["Mountpoint"].as_str().unwrap());
    for (path, content) in files {
        assert_eq!(std::fs::read_to_string(folder.join(path)).unwrap(), content);
    }
    // The same content gives the same archive, wherever it is.
    there.run(&["cache", "export", "pip", "-o", "again.tar.zst"]).ok();
    assert_eq!(std::fs::read(there.at("again.tar.zst")).unwrap(), bytes);
    assert!(there.run(&["cache", "export", "nope"]).fails(1).contains("no such cache mount"));
}

#[test]
fn a_damaged_archive_leaves_a_cache_mount_as_it_was() {
    let Some(scene) = Scene::new() else { return };
    let tar = scene.tar("first.tar", &[("kept", "yes")]);
    scene.run(&["cache", "import", "pip", &tar]).ok();
    let tar = scene.tar("second.tar", &[("a", "1"), ("b", &"2".repeat(5000))]);
    let whole = std::fs::read(tar).unwrap();
    let escaping =
        std::fs::read(scene.tar("third.tar", &[("ok", "1"), ("../../up", "2")])).unwrap();
    for damaged in [&whole[..3000], &b"no archive at all, but a text that is long enough"[..], b""]
    {
        let output = scene.run_with(&["cache", "import", "pip", "-"], damaged);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.starts_with("error: cannot import `-`"), "{output}");
    }
    let folder = json(&scene.run(&["cache", "ls", "--format", "json"]).ok());
    let folder = std::path::PathBuf::from(folder["Mountpoint"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(folder.join("kept")).unwrap(), "yes");
    // One that points out of its folder ends inside or is refused.
    let _ = scene.run_with(&["cache", "import", "pip", "-"], escaping);
    assert!(!scene.store().join("caches/up").exists() && !scene.store().join("up").exists());
    assert!(!scene.store().join("tmp/up").exists());
}
