//! `volume`.

use insta::assert_snapshot;

use crate::scene::{Scene, json};

#[test]
fn volumes_are_made_listed_and_removed() {
    let Some(scene) = Scene::new() else { return };
    let make =
        |args: &[&str]| scene.run(&[&["volume", "create"], args].concat()).ok().trim().to_owned();
    assert_eq!(make(&["data"]), "data");
    assert_eq!(make(&["--label", "team=core", "--label", "keep", "tagged"]), "tagged");
    // Making one again is no failure and changes nothing.
    assert_eq!(make(&["--label", "other", "data"]), "data");
    assert_snapshot!(scene.run(&["volume", "ls"]), @r"
    exit 0
    --- stdout
    DRIVER   VOLUME NAME
    local   data
    local   tagged
    ");
    assert_snapshot!(scene.run(&["volume", "inspect", "tagged"]), @r#"
    exit 0
    --- stdout
    [
        {
            "CreatedAt": "[TIME]",
            "Driver": "local",
            "Labels": {
                "keep": "",
                "team": "core"
            },
            "Mountpoint": "[DIR]/store/volumes/tagged/_data",
            "Name": "tagged",
            "Options": null,
            "Scope": "local"
        }
    ]
    "#);
    let drawn = make(&[]);
    assert_eq!(drawn.len(), 64);
    for (filter, names) in [
        ("label=team", "tagged"),
        ("label=team=web", ""),
        ("name=at", "data"),
        ("label!=keep", &format!("{drawn}\ndata")),
        ("driver=nfs", ""),
    ] {
        let listed = scene.run(&["volume", "ls", "-q", "--filter", filter]).ok();
        let mut listed: Vec<&str> = listed.lines().collect();
        listed.sort_unstable();
        let mut wanted: Vec<&str> = names.lines().collect();
        wanted.sort_unstable();
        assert_eq!(listed, wanted, "{filter}");
    }
    assert_snapshot!(scene.run(&["volume", "rm", "data", "nope", "tagged"]), @r"
    exit 1
    --- stdout
    data
    tagged
    --- stderr
    error: no such volume: `nope`
    ");
    assert_eq!(scene.run(&["volume", "rm", "-f", "nope"]).ok(), "nope\n");
    assert!(!scene.store().join("volumes/data").exists());
    assert_eq!(scene.run(&["volume", "ls", "-q"]).ok().trim(), drawn);
}

#[test]
fn wrong_names_and_drivers_are_refused() {
    let Some(scene) = Scene::new() else { return };
    for wrong in ["../up", "a/b", "-x", "é", "x"] {
        let stderr = scene.run(&["volume", "create", "--", wrong]).fails(1);
        assert!(stderr.contains("is not a volume name"), "{wrong}: {stderr}");
    }
    scene.run(&["volume", "create", "-d", "nfs", "data"]).fails(2);
    assert_eq!(scene.run(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn prune_takes_what_nobody_named() {
    let Some(scene) = Scene::new() else { return };
    scene.run(&["volume", "create", "--label", "keep", "named"]).ok();
    scene.run(&["volume", "create", "other"]).ok();
    let drawn = scene.run(&["volume", "create"]).ok();
    let pruned = scene.run(&["volume", "prune", "-f"]).ok();
    assert!(pruned.starts_with(&format!("Deleted Volumes:\n{drawn}\nTotal")), "{pruned}");
    let pruned = scene.run(&["volume", "prune", "-af", "--filter", "label!=keep"]).ok();
    assert!(pruned.starts_with("Deleted Volumes:\nother\n\nTotal"), "{pruned}");
    let volume = json(&scene.run(&["volume", "ls", "--format", "json"]).ok());
    assert_eq!(volume["Name"], "named");
    assert_eq!(volume["Labels"], "keep=");
    assert_eq!(volume["Links"], "0");
}
