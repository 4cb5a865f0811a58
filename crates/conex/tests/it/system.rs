//! `system df`, `system check` and `info`.

use insta::assert_snapshot;

use crate::sandbox::{CONEX, PATH, ended};
use crate::scene::{Scene, json};
use crate::shown::without_sizes;

#[test]
fn df_agrees_with_du() {
    let Some(scene) = Scene::with_files() else { return };
    scene.image("app", "FROM base\nCOPY <<EOF /a\ncontent\nEOF\n");
    scene.run(&["volume", "create", "data"]).ok();
    std::fs::write(scene.store().join("volumes/data/_data/big"), vec![1; 3_000_000]).unwrap();
    let tar = scene.tar("pip.tar", &[("wheel", "w")]);
    scene.run(&["cache", "import", "pip", &tar]).ok();
    assert_snapshot!(without_sizes(&scene.run(&["system", "df"]).to_string()), @r"
    exit 0
    --- stdout
    TYPE   TOTAL   ACTIVE   SIZE   RECLAIMABLE
    Images   2   2   [SIZE]   0B (0%)
    Containers   0   0   0B   0B
    Local Volumes   1   0   [SIZE]   [SIZE] (100%)
    Build Cache   1   0   0B   0B
    Cache Mounts   1   0   [SIZE]   [SIZE] (100%)
    Bookkeeping   0   0   [SIZE]   0B
    ");
    let rows = scene.run(&["system", "df", "--format", "json"]).ok();
    let total: f64 = rows.lines().map(|row| bytes(json(row)["Size"].as_str().unwrap())).sum();
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let du = du(&scene) as f64;
    // Sizes are shown with four digits, and looking at the store can write to its log.
    assert!((total - du).abs() < du * 0.05 + 100_000.0, "df {total}, du {du}");
    assert_snapshot!(without_sizes(&scene.run(&["system", "df", "-v"]).to_string()), @r"
    exit 0
    --- stdout
    Images space usage:

    REPOSITORY   TAG   IMAGE ID   CREATED   SIZE   SHARED SIZE   UNIQUE SIZE   CONTAINERS
    app   latest   [2]   [AGO]   [SIZE]   [SIZE]   [SIZE]   0
    base   latest   [1]   [AGO]   [SIZE]   [SIZE]   0B   0

    Local Volumes space usage:

    VOLUME NAME   LINKS   SIZE
    data   0   [SIZE]

    Build cache usage: [SIZE]

    CACHE ID   CACHE TYPE   SIZE   CREATED   LAST USED   USAGE   SHARED
    pip   mount   [SIZE]   [AGO]   [AGO]   false
    [3]   copy   [SIZE]   [AGO]   [AGO]   0   true
    ");
    let value = json(&scene.run(&["system", "df", "-v", "--format", "json"]).ok());
    assert_eq!(value["Volumes"][0]["Name"], "data");
    assert_eq!(value["Images"].as_array().unwrap().len(), 2);
}

/// What `du` counts for the store.
fn du(scene: &Scene) -> u64 {
    let mut command = std::process::Command::new("du");
    let output = command.args(["-s", "--block-size=1"]).arg(scene.store()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Reads a size as people read it.
fn bytes(text: &str) -> f64 {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap();
    let (number, unit) = text.split_at(digits);
    let power = ["B", "kB", "MB", "GB"].iter().position(|known| *known == unit).unwrap();
    number.parse::<f64>().unwrap() * 1000_f64.powi(i32::try_from(power).unwrap())
}

#[test]
fn a_sound_store_is_said_to_be_sound() {
    let Some(scene) = Scene::with_files() else { return };
    assert_snapshot!(scene.run(&["system", "check"]), @r"
    exit 0
    --- stdout
    the store is sound: 1 blob, 1 snapshot
    ");
    let value = json(&scene.run(&["system", "check", "--format", "json"]).ok());
    assert_eq!(value["Sound"], true);
    assert_eq!(scene.run(&["system", "check", "-f", "{{.BlobCount}}"]).ok(), "1\n");
    scene.run(&["system", "check", "--repair"]).ok();
    scene.run(&["images", "-q"]).ok();
}

#[test]
fn damage_is_found_named_and_mended() {
    let Some(scene) = Scene::with_files() else { return };
    let id = scene.image("app", "FROM base\nCOPY <<EOF /a\ncontent\nEOF\n");
    let blob = scene.store().join("blobs/sha256").join(id.trim_start_matches("sha256:"));
    std::fs::write(&blob, "something else").unwrap();
    let found = scene.run(&["system", "check"]);
    assert!(found.stdout.contains(&format!("blob `{id}` has other bytes")), "{found}");
    assert!(found.fails(1).contains("hint: mend it with `conex system check --repair`"));
    // A quick look sees only whether files are there.
    scene.run(&["system", "check", "--depth", "rows"]).ok();
    let value = scene.run(&["system", "check", "--format", "json"]);
    assert_eq!((value.code, value.stderr.as_str()), (1, ""));
    assert_eq!(json(&value.stdout)["Damage"][0]["Kind"], "blob-damaged");
    let repaired = scene.run(&["system", "check", "--repair"]).ok();
    assert!(repaired.contains(&format!("lost: app:latest {id}")), "{repaired}");
    scene.run(&["system", "check"]).ok();
    assert_eq!(scene.run(&["images", "--format", "{{.Repository}}"]).ok(), "base\n");
}

#[test]
fn a_layer_with_other_files_is_found() {
    let Some(scene) = Scene::with_files() else { return };
    let args = ["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "base"];
    let upper = scene.run(&args).ok();
    std::fs::write(std::path::Path::new(upper.trim()).join("etc/motd"), "other\n").unwrap();
    scene.run(&["system", "check", "--depth", "blobs"]).ok();
    let found = scene.run(&["system", "check"]);
    assert!(found.stdout.contains("has other files"), "{found}");
    let repaired = scene.run(&["system", "check", "--repair"]).ok();
    assert!(repaired.contains("lost: base:latest"), "{repaired}");
}

#[test]
fn a_database_that_is_none_is_rebuilt() {
    let Some(scene) = Scene::with_files() else { return };
    let database = scene.store().join("conex.db");
    std::fs::write(&database, "garbage that no database begins with").unwrap();
    for log in ["conex.db-wal", "conex.db-shm"] {
        // They are there only while somebody has the database open.
        let _ = std::fs::remove_file(scene.store().join(log));
    }
    let found = scene.run(&["system", "check"]);
    assert!(found.stdout.starts_with("database is damaged: "), "{found}");
    assert_eq!(found.code, 1);
    let stderr = scene.run(&["images"]).fails(1);
    assert!(stderr.contains("`conex system check --repair`"), "{stderr}");
    scene.run(&["system", "check", "--repair"]).ok();
    scene.run(&["system", "check"]).ok();
    // The image is there, its name was only in the database.
    assert_eq!(scene.run(&["images", "--format", "{{.Tag}}"]).ok(), "<none>\n");
}

#[test]
fn info_says_what_is_used_and_why() {
    let Some(scene) = Scene::with_files() else { return };
    let value = json(&scene.run(&["info", "--format", "json"]).ok());
    assert_eq!(value["Store"]["Folder"], scene.store().to_str().unwrap());
    assert_eq!(value["Store"]["From"], "--root");
    assert_eq!(value["Store"]["Usable"], true);
    assert!(value["Store"]["Available"].as_u64().unwrap() > 0);
    assert_eq!(value["Images"], 1);
    assert!(!value["Executor"]["Reason"].as_str().unwrap().is_empty());
    assert_eq!(value["Runtimes"][0]["Name"], "conex");
    let text = scene.run(&["info"]).ok();
    for line in ["Version:", "Store:", "Executor:", "  Overlay:", "  Cgroups:", "  Runtimes:"] {
        assert!(text.lines().any(|shown| shown.starts_with(line)), "{line} in {text}");
    }
    assert_eq!(scene.run(&["system", "info", "-f", "{{.OSType}}"]).ok(), "linux\n");
}

#[test]
fn info_answers_where_no_store_can_be() {
    let Some(scene) = Scene::new() else { return };
    let mut command = std::process::Command::new(CONEX);
    command.args(["--root", "/proc/nowhere", "info"]).env_clear().env("PATH", PATH);
    let output = scene.output(ended(&command.output().unwrap()));
    assert!(output.stdout.contains("Warning:       the store cannot be used: "), "{output}");
    assert_eq!(output.code, 0);
}
