//! `inspect`.

use insta::assert_snapshot;

use crate::scene::{Scene, json};

const DOCKERFILE: &str = r#"FROM base
ENV A=1 B="x y"
LABEL team=core
EXPOSE 80 443/udp
VOLUME /data
HEALTHCHECK --interval=10s --retries=2 CMD ["/bin/true"]
USER 1000:1000
SHELL ["/bin/sh", "-e", "-c"]
STOPSIGNAL SIGINT
WORKDIR /srv
ENTRYPOINT ["/bin/echo"]
CMD ["hello"]
"#;

#[test]
fn a_full_image_is_described_as_docker_describes_it() {
    let Some(scene) = Scene::with_files() else { return };
    scene.image("app:1", DOCKERFILE);
    let output = scene.run(&["inspect", "app:1"]).ok();
    let mut value = json(&output);
    // Bytes on disk depend on the file system.
    for field in ["Size", "VirtualSize"] {
        assert!(value[0][field].as_u64().unwrap() > 0);
    }
    let size = value[0]["Size"].to_string();
    assert_snapshot!(scene.normalized(&output.replace(&size, "0")), @r#"
    [
        {
            "Id": "sha256:[2]",
            "RepoTags": [
                "app:1"
            ],
            "RepoDigests": [],
            "Parent": "",
            "Comment": "buildkit.dockerfile.v0",
            "Created": "1980-01-01T00:00:00Z",
            "DockerVersion": "",
            "Author": "",
            "Config": {
                "Hostname": "",
                "Domainname": "",
                "User": "1000:1000",
                "AttachStdin": false,
                "AttachStdout": false,
                "AttachStderr": false,
                "ExposedPorts": {
                    "443/udp": {},
                    "80/tcp": {}
                },
                "Tty": false,
                "OpenStdin": false,
                "StdinOnce": false,
                "Env": [
                    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "A=1",
                    "B=x y"
                ],
                "Cmd": [
                    "hello"
                ],
                "Healthcheck": {
                    "Test": [
                        "CMD",
                        "/bin/true"
                    ],
                    "Interval": 10000000000,
                    "Retries": 2
                },
                "Image": "",
                "Volumes": {
                    "/data": {}
                },
                "WorkingDir": "/srv",
                "Entrypoint": [
                    "/bin/echo"
                ],
                "OnBuild": null,
                "Labels": {
                    "team": "core"
                },
                "StopSignal": "SIGINT",
                "Shell": [
                    "/bin/sh",
                    "-e",
                    "-c"
                ]
            },
            "Architecture": "amd64",
            "Os": "linux",
            "Size": 0,
            "VirtualSize": 0,
            "GraphDriver": {
                "Data": {
                    "LowerDir": "[DIR]/store/snapshots/[3]/fs",
                    "UpperDir": "[DIR]/store/snapshots/[4]/fs"
                },
                "Name": "overlayfs"
            },
            "RootFS": {
                "Type": "layers",
                "Layers": [
                    "sha256:[5]",
                    "sha256:[6]"
                ]
            },
            "Metadata": {
                "LastTagTime": "[TIME]"
            }
        }
    ]
    "#);
    let upper = value[0]["GraphDriver"]["Data"]["UpperDir"].take();
    assert!(std::path::Path::new(upper.as_str().unwrap()).join("srv").is_dir());
    let lower = value[0]["GraphDriver"]["Data"]["LowerDir"].take();
    let lower: Vec<&str> = lower.as_str().unwrap().split(':').collect();
    assert_eq!(lower.len() + 1, value[0]["RootFS"]["Layers"].as_array().unwrap().len());
    assert!(std::path::Path::new(lower.last().unwrap()).join("etc/motd").is_file());
}

#[test]
fn an_image_with_an_empty_config_has_dockers_nulls() {
    let Some(scene) = Scene::with_files() else { return };
    let value = json(&scene.run(&["inspect", "base"]).ok());
    let config = &value[0]["Config"];
    for field in ["Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"] {
        assert!(config.as_object().unwrap().contains_key(field), "{field}");
    }
    assert!(config["Entrypoint"].is_null());
    assert_eq!(config["AttachStdin"], false);
    assert_eq!(config["Hostname"], "");
    assert_eq!(value[0]["RepoDigests"], json("[]"));
}

#[test]
fn templates_see_fields_that_are_not_printed() {
    let Some(scene) = Scene::with_files() else { return };
    scene.image("app:1", DOCKERFILE);
    let shown = |template: &str, name: &str| {
        scene.run(&["inspect", "-f", template, name]).ok().trim_end_matches('\n').to_owned()
    };
    for (template, app, base) in [
        ("{{.Config.StopSignal}}", "SIGINT", ""),
        (
            "{{json .Config.Healthcheck}}",
            r#"{"Interval":10000000000,"Retries":2,"Test":["CMD","/bin/true"]}"#,
            "null",
        ),
        ("{{if .Config.Healthcheck}}yes{{else}}no{{end}}", "yes", "no"),
        ("{{.Config.Labels.team}}", "core", "<no value>"),
        ("{{index .Config.Labels \"team\"}}", "core", ""),
        ("{{range $port, $_ := .Config.ExposedPorts}}{{$port}} {{end}}", "443/udp 80/tcp ", ""),
        ("{{join .Config.Cmd \",\"}}", "hello", ""),
        (
            "{{range .Config.Env}}{{println .}}{{end}}{{.Os}}",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nA=1\nB=x y\nlinux",
            "linux",
        ),
        ("{{len .RootFS.Layers}}", "2", "1"),
        ("{{.Config.ArgsEscaped}}{{.Variant}}", "false", "false"),
    ] {
        assert_eq!(shown(template, "app:1"), app, "{template}");
        assert_eq!(shown(template, "base"), base, "{template}");
    }
    let wrong = scene.run(&["inspect", "-f", "{{.Config.Enf}}", "app:1"]);
    assert_snapshot!(wrong, @r"
    exit 1
    --- stderr
    error: template:1:10: there is no field `.Enf`
    hint: did you mean `.Env`?
    ");
}

#[test]
fn what_is_missing_fails_and_the_rest_is_shown() {
    let Some(scene) = Scene::with_files() else { return };
    assert_snapshot!(scene.run(&["inspect", "nope"]), @r"
    exit 1
    --- stdout
    []
    --- stderr
    error: no such object: `nope`
    hint: `conex images` and `conex volume ls` list what there is
    ");
    let output = scene.run(&["inspect", "-f", "{{.Id}}", "nope"]);
    assert_eq!((output.code, output.stdout.as_str()), (1, "\n"));
    let output = scene.run(&["inspect", "nope", "base"]);
    assert_eq!(output.code, 1);
    assert_eq!(json(&output.stdout)[0]["RepoTags"], json(r#"["base:latest"]"#));
    let output = scene.run(&["inspect", "--format", "json", "base", "base"]);
    assert_eq!(json(&output.ok()).as_array().unwrap().len(), 2);
}

#[test]
fn names_mean_images_before_volumes() {
    let Some(scene) = Scene::with_files() else { return };
    scene.run(&["volume", "create", "base"]).ok();
    scene.run(&["volume", "create", "data"]).ok();
    let fields = |args: &[&str]| {
        let value = json(&scene.run(args).ok());
        value.as_array().unwrap().iter().all(|item| item["Mountpoint"].is_string())
    };
    assert!(!fields(&["inspect", "base"]));
    assert!(fields(&["inspect", "data"]));
    assert!(fields(&["inspect", "--type", "volume", "base", "data"]));
    scene.run(&["inspect", "--type", "image", "data"]).fails(1).contains("no such image");
    let value = json(&scene.run(&["inspect", "--size", "base", "data"]).ok());
    assert!(value[0]["UniqueSize"].as_u64().unwrap() > 0);
    assert_eq!(value[1]["UsageData"]["RefCount"], 0);
    scene.run(&["inspect", "--type", "network", "x"]).fails(2).contains("network");
}
