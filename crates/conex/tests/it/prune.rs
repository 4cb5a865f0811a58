//! `image prune`, `builder prune` and `system prune`.

use insta::assert_snapshot;

use crate::scene::{Scene, json};
use crate::shown::without_sizes;

/// How many images of any kind there are, and how many results of steps.
fn counts(scene: &Scene) -> (usize, usize) {
    let images = scene.run(&["images", "-aq"]).ok().lines().count();
    let cache = scene.run(&["cache", "ls", "--format", "{{.Type}}"]).ok();
    (images, cache.lines().filter(|kind| *kind != "mount").count())
}

/// A store with the images `base`, `app` and one without a name, and a step that no image has.
fn filled() -> Option<Scene> {
    let scene = Scene::with_files()?;
    scene.write("context/a", "first");
    scene.write("context/Dockerfile", "FROM base\nCOPY a /a\nLABEL team=core\n");
    scene.run(&["build", "-q", "-t", "app", "context"]).ok();
    scene.write("context/a", "second");
    scene.run(&["build", "-q", "-t", "app", "context"]).ok();
    scene.write("context/a", "third");
    scene.run(&["build", "-q", "-t", "gone", "context"]).ok();
    scene.run(&["rmi", "gone"]).ok();
    assert_eq!(counts(&scene), (3, 3));
    Some(scene)
}

#[test]
fn a_question_comes_before_anything_goes() {
    let Some(scene) = filled() else { return };
    for command in [
        &["image", "prune", "-a"][..],
        &["builder", "prune", "-a"],
        &["system", "prune", "-a", "--volumes", "--filter", "until=1s"],
        &["volume", "prune"],
    ] {
        for answer in ["", "n\n", "maybe\n"] {
            let output = scene.run_with(command, answer);
            assert!(output.stderr.contains("Are you sure you want to continue? [y/N] "));
            assert!(output.stderr.ends_with("nothing was removed\n"), "{output}");
            assert_eq!(output.ok(), "");
        }
    }
    assert_eq!(counts(&scene), (3, 3));
    let output = scene.run_with(&["image", "prune"], "y\n");
    assert_snapshot!(without_sizes(&output.to_string()), @r"
    exit 0
    --- stdout
    Deleted Images:
    deleted: sha256:[2]

    Total reclaimed space: [SIZE]
    --- stderr
    WARNING! This will remove all dangling images.
    Are you sure you want to continue? [y/N]
    ");
    assert_eq!(counts(&scene), (2, 3));
}

#[test]
fn image_prune_takes_what_filters_name() {
    let Some(scene) = filled() else { return };
    for filter in ["until=24h", "label=team=web", "label!=team"] {
        let output = scene.run(&["image", "prune", "-f", "--filter", filter]).ok();
        assert_eq!(output, "Total reclaimed space: 0B\n", "{filter}");
    }
    scene.run(&["image", "prune", "-af", "--filter", "label!=team"]).ok();
    assert_eq!(counts(&scene), (2, 3));
    assert_eq!(scene.run(&["images", "-q", "base"]).ok(), "");
    scene.run(&["image", "prune", "-af"]).ok();
    assert_eq!(counts(&scene), (0, 3));
}

#[test]
fn builder_prune_keeps_what_images_have() {
    let Some(scene) = filled() else { return };
    scene.run(&["builder", "prune", "-f", "--filter", "unused-for=1h"]).ok();
    assert_eq!(counts(&scene), (3, 3));
    let output = scene.run(&["builder", "prune", "-f"]);
    assert_snapshot!(without_sizes(&output.to_string()), @r"
    exit 0
    --- stdout
    Deleted Images:
    deleted: sha256:[5]

    Deleted build cache objects:
    [6]

    Total reclaimed space: [SIZE]
    ");
    assert_eq!(counts(&scene), (3, 2));
    scene.run(&["builder", "prune", "-af"]).ok();
    assert_eq!(counts(&scene), (3, 0));
    // The images are whole.
    scene.run(&["system", "check"]).ok();
}

#[test]
fn budgets_are_kept() {
    let Some(scene) = filled() else { return };
    scene.run(&["builder", "prune", "-f", "--max-used-space", "1GB"]).ok();
    assert_eq!(counts(&scene), (3, 3));
    scene.run(&["builder", "prune", "-f", "--keep-storage", "0"]).ok();
    let kept = counts(&scene).1;
    assert!(kept < 3, "{kept}");
    // The whole store under a budget that it can only miss: images stay.
    let output = scene.run(&["system", "prune", "-f", "--max-used-space", "1kB"]);
    assert!(output.stderr.contains("the store still takes up"), "{output}");
    assert_eq!(counts(&scene), (2, 0));
    for wrong in [&["--max-used-space", "much"][..], &["-a", "--max-used-space", "1GB"]] {
        scene.run(&[&["builder", "prune", "-f"], wrong].concat()).fails(2);
    }
}

#[test]
fn system_prune_takes_everything_that_it_says() {
    let Some(scene) = filled() else { return };
    scene.run(&["volume", "create", "named"]).ok();
    scene.run(&["volume", "create"]).ok();
    scene.run(&["system", "prune", "-f"]).ok();
    assert_eq!(counts(&scene), (2, 1));
    assert_eq!(scene.run(&["volume", "ls", "-q"]).ok().lines().count(), 2);
    scene.run(&["system", "prune", "-af", "--volumes"]).ok();
    assert_eq!(counts(&scene), (0, 0));
    assert_eq!(scene.run(&["volume", "ls", "-q"]).ok(), "named\n");
    let images = scene.run(&["system", "df", "--format", "json"]).ok();
    let images = json(images.lines().next().unwrap());
    assert_eq!((&images["Type"], &images["Size"]), (&json("\"Images\""), &json("\"0B\"")));
}
