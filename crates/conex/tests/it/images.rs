//! `images`, `tag`, `rmi` and `history`.

use insta::assert_snapshot;

use crate::sandbox::{ended, feed};
use crate::scene::{Scene, json};
use crate::shown::without_sizes;

/// The names that a listing gives, one a line.
fn listed(scene: &Scene, args: &[&str]) -> String {
    let mut all = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
    all.extend(args);
    let mut names: Vec<String> = scene.run(&all).ok().lines().map(str::to_owned).collect();
    names.sort();
    names.join(" ")
}

#[test]
fn images_are_listed_as_docker_lists_them() {
    let Some(scene) = Scene::with_files() else { return };
    scene.run(&["tag", "base", "registry.example.com:5000/team/app:1.4"]).ok();
    scene.image("labelled", "FROM base\nLABEL team=core\n");
    assert_snapshot!(without_sizes(&scene.run(&["images", "base"]).to_string()), @r"
    exit 0
    --- stdout
    REPOSITORY   TAG   IMAGE ID   CREATED   SIZE
    base   latest   [1]   [AGO]   [SIZE]
    ");
    assert_snapshot!(without_sizes(&scene.run(&["images", "--digests", "base"]).to_string()), @r"
    exit 0
    --- stdout
    REPOSITORY   TAG   DIGEST   IMAGE ID   CREATED   SIZE
    base   latest   <none>   [1]   [AGO]   [SIZE]
    ");
    let row = json(&scene.run(&["images", "base", "--format", "json"]).ok());
    let fields: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields.join(" "),
        "Containers CreatedAt CreatedSince Digest ID Repository SharedSize Size Tag UniqueSize \
         VirtualSize"
    );
    let ids = scene.run(&["images", "-q", "--no-trunc", "base"]).ok();
    assert_eq!(ids.trim().len(), "sha256:".len() + 64);
    assert!(ids.contains(row["ID"].as_str().unwrap()));
}

#[test]
fn filters_choose_images() {
    let Some(scene) = Scene::with_files() else { return };
    scene.run(&["tag", "base", "registry.example.com:5000/team/app:1.4"]).ok();
    scene.image("labelled:1", "FROM base\nLABEL team=core\n");
    scene.image("labelled:2", "FROM base\nLABEL team=web\n");
    scene.image("labelled:1", "FROM base\nLABEL team=core again=\n");
    for (filter, names) in [
        ("reference=labelled", "labelled:1 labelled:2"),
        ("reference=label*:2", "labelled:2"),
        ("reference=registry.example.com:5000/*/app", "registry.example.com:5000/team/app:1.4"),
        ("reference=docker.io/library/base", "base:latest"),
        ("reference=nothing", ""),
        ("label=team", "<none>:<none> labelled:1 labelled:2"),
        ("label=team=web", "labelled:2"),
        ("dangling=true", "<none>:<none>"),
        ("before=labelled:2", "<none>:<none> base:latest registry.example.com:5000/team/app:1.4"),
        ("since=labelled:2", "labelled:1"),
        ("until=24h", ""),
    ] {
        assert_eq!(listed(&scene, &["--filter", filter]), names, "{filter}");
    }
    assert_eq!(listed(&scene, &["labelled:1"]), "labelled:1");
    let dangling = ["--filter", "dangling=false", "--filter", "label=team"];
    assert_eq!(listed(&scene, &dangling), "labelled:1 labelled:2");
    assert_snapshot!(scene.run(&["images", "--filter", "size=1"]), @r"
    exit 2
    --- stderr
    error: there is no filter `size` here
    hint: filters are `before`, `dangling`, `label`, `label!`, `reference`, `since`, `until`
    ");
}

#[test]
fn an_image_goes_with_its_last_name() {
    let Some(scene) = Scene::with_files() else { return };
    scene.run(&["tag", "base", "other:1"]).ok();
    assert_snapshot!(scene.run(&["rmi", "other:1", "nope", "base"]), @r"
    exit 1
    --- stdout
    Untagged: other:1
    Untagged: base:latest
    Deleted: sha256:[1]
    Deleted: sha256:[2]
    --- stderr
    error: no such image: `nope`
    ");
    assert_eq!(listed(&scene, &["-a"]), "");
    // Forced, a missing image is said but is no failure.
    assert_snapshot!(scene.run(&["rmi", "-f", "nope"]), @r"
    exit 0
    --- stderr
    error: no such image: `nope`
    ");
}

#[test]
fn an_image_with_names_in_several_repositories_must_be_forced_away() {
    let Some(scene) = Scene::with_files() else { return };
    scene.run(&["tag", "base", "other:1"]).ok();
    let id = scene.run(&["images", "-q", "base"]).ok();
    assert_snapshot!(scene.run(&["rmi", id.trim()]), @r"
    exit 1
    --- stderr
    error: image `[1]` has names in several repositories
    hint: remove it all the same with `--force`
    ");
    scene.run(&["rmi", "-f", id.trim()]).ok();
    assert_eq!(listed(&scene, &["-a"]), "");
}

#[test]
fn tags_move_and_come_back() {
    let Some(scene) = Scene::with_files() else { return };
    let first = scene.image("app:1", "FROM base\nLABEL v=1\n");
    let second = scene.image("app:1", "FROM base\nLABEL v=2\n");
    let now = |scene: &Scene| scene.run(&["images", "-q", "--no-trunc", "app:1"]).ok();
    assert_eq!(now(&scene).trim(), second);
    assert_snapshot!(scene.run(&["tag", "history", "app:1", "--format", "{{.From}} {{.To}}"]), @r"
    exit 0
    --- stdout
    [2] [3]
    <none> [2]
    ");
    scene.run(&["tag", "rollback", "app:1"]).ok();
    assert_eq!(now(&scene).trim(), first);
    assert_snapshot!(scene.run(&["tag", "rollback", "new:1"]), @r"
    exit 1
    --- stderr
    error: no such earlier image of tag: `new:1`
    hint: `conex tag history new:1` shows where it was
    ");
    assert_snapshot!(scene.run(&["tag", "history", "new:1"]), @r"
    exit 1
    --- stderr
    error: no such tag: `new:1`
    ");
    // An image may be called as the subcommands are.
    scene.run(&["tag", "base", "history"]).ok();
    scene.run(&["tag", "history:latest", "again"]).ok();
    assert_eq!(listed(&scene, &["again"]), "again:latest");
}

#[test]
fn names_that_cannot_be_tags_are_refused() {
    let Some(scene) = Scene::with_files() else { return };
    let digest = format!("x@sha256:{}", "0".repeat(64));
    for (target, error) in [
        (digest.as_str(), "it has a digest"),
        ("UPPER", "must be lower case"),
        ("a:b:c", "is not an image reference"),
    ] {
        let stderr = scene.run(&["tag", "base", target]).fails(1);
        assert!(stderr.contains(error), "{target}: {stderr}");
    }
    assert!(scene.run(&["tag", "base"]).fails(2).contains("TARGET_IMAGE"));
    assert_eq!(listed(&scene, &[]), "base:latest");
}

const DOCKERFILE: &str = "FROM base\n\
    ENV A=1\n\
    COPY <<EOF /etc/a-file-with-a-name-that-is-longer-than-a-table-has-room-for\n\
    content\n\
    EOF\n\
    CMD [\"/bin/true\"]\n";

#[test]
fn history_shows_how_an_image_came_about() {
    let Some(scene) = Scene::with_files() else { return };
    scene.image("app", DOCKERFILE);
    assert_snapshot!(scene.run(&["history", "app"]), @r#"
    exit 0
    --- stdout
    IMAGE   CREATED   CREATED BY   SIZE   COMMENT
    [2]   N/A   CMD ["/bin/true"]   0B   buildkit.dockerfile.v0
    <missing>   N/A   COPY <<EOF /etc/a-file-with-a-name-that-is-l…   8B   buildkit.dockerfile.v0
    <missing>   N/A   ENV A=1   0B   buildkit.dockerfile.v0
    <missing>   N/A   conex import   6B   Imported from -
    "#);
    assert_snapshot!(scene.run(&["history", "--human=false", "--no-trunc", "--format",
        "{{.CreatedAt}}|{{.CreatedBy}}|{{.Size}}", "app"]), @r#"
    exit 0
    --- stdout
    N/A|CMD ["/bin/true"]|0
    N/A|COPY <<EOF /etc/a-file-with-a-name-that-is-longer-than-a-table-has-room-for # buildkit|8
    N/A|ENV A=1|0
    N/A|conex import|6
    "#);
    // The sizes are those of the analysis.
    let report = json(&scene.run(&["analyze", "--format", "json", "app"]).ok());
    let layers = report["layers"].as_array().unwrap().iter().rev();
    let expected: Vec<String> = layers.map(|layer| layer["size"].to_string()).collect();
    let sizes = ["history", "--human=false", "--format", "{{.Size}} {{.PackedSize}}", "app"];
    let sizes = scene.run(&sizes).ok();
    let found: Vec<&str> = sizes.lines().filter_map(|line| line.strip_suffix(" N/A")).collect();
    assert_eq!([found[1], found[3]].to_vec(), expected, "{sizes}");
    assert_snapshot!(scene.run(&["history", "-q", "app"]), @r"
    exit 0
    --- stdout
    [2]
    <missing>
    <missing>
    <missing>
    ");
    assert_snapshot!(scene.run(&["history", "nope"]), @r"
    exit 1
    --- stderr
    error: no such image: `nope`
    ");
}

#[test]
fn a_time_of_making_that_means_something_is_shown() {
    let Some(scene) = Scene::with_files() else { return };
    let mut command = scene.command(&["build", "-q", "-t", "dated", "-"]);
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    let built = ended(&feed(command, b"FROM base\nLABEL a=b\n"));
    scene.output(built).ok();
    let args = ["history", "-H=false", "--format", "{{.CreatedAt}} {{.CreatedBy}}", "dated"];
    let history = scene.run(&args).ok();
    assert!(history.starts_with("2023-11-14T22:13:20Z LABEL a=b\nN/A "), "{history}");
}

#[test]
fn platforms_of_an_image_are_one_row() {
    let Some(scene) = Scene::new() else { return };
    let args = ["build", "-q", "-t", "multi", "--platform", "linux/amd64,linux/arm64", "-"];
    scene.run_with(&args, "FROM scratch\nLABEL a=b\n").ok();
    assert_eq!(listed(&scene, &[]), "multi:latest");
    assert_eq!(listed(&scene, &["-a"]), "<none>:<none> <none>:<none> multi:latest");
    assert_eq!(listed(&scene, &["-a", "-f", "dangling=true"]), "");
    let args = ["image", "inspect", "-f", "{{.Architecture}}", "--platform"];
    for (platform, code) in [("linux/arm64", 0), ("linux/amd64", 0), ("linux/s390x", 1)] {
        let output = scene.run(&[&args[..], &[platform, "multi"]].concat());
        assert_eq!(output.code, code, "{output}");
        let wanted = if code == 0 { platform.trim_start_matches("linux/") } else { "" };
        assert_eq!(output.stdout.trim(), wanted);
    }
    scene.run(&["history", "--platform", "linux/arm64", "multi"]).ok();
    scene.run(&["rmi", "multi"]).ok();
    assert_eq!(listed(&scene, &["-a"]), "");
}
