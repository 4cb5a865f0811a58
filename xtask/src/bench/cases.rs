//! What is measured, and how each tool is asked for it.

use std::fs;
use std::path::{Path, PathBuf};

use super::measure::Contestant;
use super::peers::{BASE, Lab, context};
use super::{command, workload};
use crate::shell::{Result, quietly};

/// One thing that several tools can do.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) contestants: fn(&Lab) -> Result<Vec<Contestant>>,
}

/// Everything that is measured.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "build-cold",
        what: "workload A without any earlier result",
        contestants: |lab| builds(lab, "a", &two_stages(lab)?, Temperature::Cold),
    },
    Case {
        name: "build-same",
        what: "workload A again, nothing changed",
        contestants: |lab| builds(lab, "a", &two_stages(lab)?, Temperature::Warm),
    },
    Case {
        name: "build-50k",
        what: "a context of 50,000 files again, nothing changed",
        contestants: |lab| {
            let text = format!("FROM {BASE}\nCOPY files /src\n");
            let context = context(lab, "50k", &text, Some((500, 50_000, 1000)))?;
            builds(lab, "fifty", &context, Temperature::Warm)
        },
    },
    Case {
        name: "steps-0",
        what: "a build of one `ENV`: what any build costs",
        contestants: |lab| {
            let context = context(lab, "steps-0", &format!("FROM {BASE}\nENV A=1\n"), None)?;
            builds(lab, "steps0", &context, Temperature::Cold)
        },
    },
    Case {
        name: "steps-10",
        what: "the same with ten `RUN true`: a tenth of the difference is a step",
        contestants: |lab| {
            let text = format!("FROM {BASE}\nENV A=1\n{}", "RUN true\n".repeat(10));
            let context = context(lab, "steps-10", &text, None)?;
            builds(lab, "steps10", &context, Temperature::Cold)
        },
    },
    Case {
        name: "copy-30k",
        what: "`COPY` of 30,000 files in 300 folders, 300 MB, to a finished layer",
        contestants: copy,
    },
    Case {
        name: "build-2gb",
        what: "`COPY` of a file of 2 GB: how much memory that takes",
        contestants: |lab| {
            let text = format!("FROM {BASE}\nCOPY large /large\n");
            let context = context(lab, "2gb", &text, None)?;
            workload::large_file(&context.join("large"), 1840 << 20)?;
            builds(lab, "two", &context, Temperature::Cold)
        },
    },
    Case { name: "run-true", what: "a container that runs `true` and is gone", contestants: run },
    Case { name: "save-gzip", what: "an image of 1 GB to a gzip archive", contestants: save },
    Case { name: "unpack", what: "the same archive back into a store", contestants: unpack },
    Case {
        name: "pull-1gb",
        what: "an image of 1 GB from a registry into an unpacked state",
        contestants: super::registry::pull,
    },
    Case {
        name: "push-1gb",
        what: "the same image, built here, packed and sent to a registry",
        contestants: super::registry::push,
    },
    Case {
        name: "analyze",
        what: "an uncompressed archive of 288 MB: what is in it, what is wasted",
        contestants: super::analysis::usual,
    },
    Case {
        name: "analyze-1m",
        what: "the same of one layer with a million files",
        contestants: super::analysis::million,
    },
    Case {
        name: "lint-1000",
        what: "a thousand Dockerfiles of some forty lines, findings as JSON",
        contestants: super::lint::thousand,
    },
    Case { name: "start", what: "`--version`", contestants: start },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Temperature {
    Cold,
    Warm,
}

fn two_stages(lab: &Lab) -> Result<PathBuf> {
    context(lab, "a", workload::TWO_STAGES, Some((100, 10_000, 1000)))
}

const BUILDERS: &[&str] = &["conex", "buildkit", "buildah", "podman", "docker"];

fn builds(
    lab: &Lab,
    tag: &str,
    context: &Path,
    temperature: Temperature,
) -> Result<Vec<Contestant>> {
    let build = |tool: &&str| {
        if let Some(why) = lab.absence(tool) {
            return Contestant::absent(*tool, why);
        }
        let words = lab.build(tool, tag, context, temperature == Temperature::Cold);
        let is_docker = *tool == "docker";
        Contestant::new(*tool, move || {
            let mut command = command(&words);
            if is_docker {
                // The classic builder: the daemon's own, without BuildKit.
                command.env("DOCKER_BUILDKIT", "0");
            }
            command
        })
    };
    Ok(BUILDERS.iter().map(build).collect())
}

fn copy(lab: &Lab) -> Result<Vec<Contestant>> {
    let text = format!("FROM {BASE}\nCOPY files /src\n");
    let context = context(lab, "copy", &text, Some((300, 30_000, 10_000)))?;
    let (source, target) = (context.join("files"), lab.dir.join("copied"));
    let removed = target.clone();
    let mut all = builds(lab, "copied", &context, Temperature::Cold)?;
    let plain = Contestant::new("cp -a", move || {
        let mut copy = command(["cp", "-a"]);
        copy.arg(&source).arg(&target);
        copy
    });
    all.push(plain.after(move || remove(&removed)));
    Ok(all)
}

fn run(lab: &Lab) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    let runs: &[(&str, &[&str])] = &[
        ("conex", &["run", "--rm", "--network", "host", BASE, "true"]),
        (
            "podman",
            // Limits that an ordinary container may always have: raising them fails in some
            // machines, and podman tries to by default.
            &[
                "run",
                "--rm",
                "--network",
                "host",
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=1024:1024",
                BASE,
                "true",
            ],
        ),
        ("docker", &["run", "--rm", "--network", "host", BASE, "true"]),
    ];
    for (tool, arguments) in runs {
        if let Some(why) = lab.absence(tool) {
            all.push(Contestant::absent(*tool, why));
            continue;
        }
        let mut words = lab.tool(tool);
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        all.push(Contestant::new(*tool, move || command(&words)));
    }
    let bundle = bundle(lab)?;
    for tool in ["runc", "crun"] {
        let bundle = bundle.clone();
        let contestant = match lab.absence(tool) {
            Some(why) => Contestant::absent(tool, why),
            None => Contestant::new(tool, move || {
                let mut run = command([tool, "run", "--bundle"]);
                run.arg(&bundle).arg(format!("conex-bench-{tool}"));
                run
            }),
        };
        all.push(contestant);
    }
    all.push(Contestant::new("unshare + chroot", move || {
        let mut run =
            command(["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "chroot"]);
        run.arg(bundle.join("rootfs")).arg("true");
        run
    }));
    Ok(all)
}

/// Unpacks the base and describes a container for the runtimes.
fn bundle(lab: &Lab) -> Result<PathBuf> {
    let bundle = lab.dir.join("bundle");
    let rootfs = bundle.join("rootfs");
    workload::once(&rootfs, |at| {
        fs::create_dir_all(at)?;
        let mut unpack = command(["tar", "--extract", "--exclude=./dev/*", "--file"]);
        unpack.arg(&lab.base).arg("--directory").arg(at);
        quietly(&mut unpack).map_err(std::io::Error::other)
    })?;
    let config = bundle.join("config.json");
    if !config.exists() && lab.absence("runc").is_none() {
        quietly(command(["runc", "spec"]).current_dir(&bundle))?;
        let text = fs::read_to_string(&config).map_err(|error| error.to_string())?;
        let text = text.replace("\"sh\"", "\"true\"");
        let text = text.replace("\"terminal\": true", "\"terminal\": false");
        fs::write(&config, text).map_err(|error| error.to_string())?;
    }
    Ok(bundle)
}

/// Builds an image of 1 GB in a tool's store, once.
pub(super) fn large_image(lab: &Lab, tool: &str) -> Result<()> {
    let context = context(lab, "large", &format!("FROM {BASE}\nCOPY large /large\n"), None)?;
    workload::large_file(&context.join("large"), 840 << 20)?;
    let words = lab.build(tool, "bench-large", &context, false);
    quietly(command(&words).env("DOCKER_BUILDKIT", "0"))
}

fn save(lab: &Lab) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    let archive = lab.dir.join("saved.tar.gz");
    if let Some(why) = lab.absence("conex") {
        all.push(Contestant::absent("conex", why));
    } else {
        large_image(lab, "conex")?;
        let mut words = lab.tool("conex");
        words.extend(["save", "--compression", "gzip", "--output"].map(str::to_owned));
        words.extend([archive.display().to_string(), "bench-large".to_owned()]);
        let archive = archive.clone();
        all.push(Contestant::new("conex", move || command(&words)).after(move || remove(&archive)));
    }
    for tool in ["podman", "docker"] {
        if let Some(why) = lab.absence(tool) {
            all.push(Contestant::absent(format!("{tool} save, gzip"), why));
            continue;
        }
        large_image(lab, tool)?;
        let tool_words = lab.tool(tool).join(" ");
        let pipe = format!("{tool_words} save bench-large | gzip -6 > {}", archive.display());
        let name = format!("{tool} save, gzip");
        let archive = archive.clone();
        let contestant = Contestant::new(name, move || command(["sh", "-c", &pipe]));
        all.push(contestant.after(move || remove(&archive)));
    }
    // The bare compressors, over the same bytes: what one core and all cores can do.
    let large = lab.dir.join("contexts/large/large");
    workload::large_file(&large, 840 << 20)?;
    for (name, program) in [("gzip -6", "gzip"), ("pigz -6", "pigz")] {
        if let Some(why) = lab.absence(program) {
            all.push(Contestant::absent(name, why));
            continue;
        }
        let pipe = format!("{program} -6 < {} > {}", large.display(), archive.display());
        all.push(Contestant::new(name, move || command(["sh", "-c", &pipe])));
    }
    Ok(all)
}

/// Makes an OCI layout with a large gzip layer, and the same as an archive.
fn large_layout(lab: &Lab) -> Result<(PathBuf, PathBuf)> {
    let (layout, archive) = (lab.dir.join("large-oci"), lab.dir.join("large-oci.tar"));
    for tool in ["podman", "skopeo"] {
        if let Some(why) = lab.absence(tool) {
            return Err(format!("the archive to unpack is made with {tool}, which is {why}"));
        }
    }
    large_image(lab, "podman")?;
    workload::once(&layout, |at| {
        let mut words = lab.tool("podman");
        words.extend(["push", "--quiet", "bench-large"].map(str::to_owned));
        words.push(format!("oci:{}:latest", at.display()));
        quietly(&mut command(words)).map_err(std::io::Error::other)
    })?;
    workload::once(&archive, |at| {
        let mut pack = command(["tar", "--create", "--file"]);
        pack.arg(at).arg("--directory").arg(&layout).arg(".");
        quietly(&mut pack).map_err(std::io::Error::other)
    })?;
    Ok((layout, archive))
}

fn unpack(lab: &Lab) -> Result<Vec<Contestant>> {
    let (layout, archive) = match large_layout(lab) {
        Ok(made) => made,
        Err(why) => return Ok(vec![Contestant::absent("all", why)]),
    };
    let mut all = Vec::new();
    if let Some(why) = lab.absence("conex") {
        all.push(Contestant::absent("conex", why));
    } else {
        let store = lab.dir.join("conex-empty");
        let words = [
            lab.conex.display().to_string(),
            "--root".to_owned(),
            store.display().to_string(),
            "load".to_owned(),
            "--input".to_owned(),
            archive.display().to_string(),
        ];
        all.push(Contestant::new("conex", move || command(&words)).after(move || remove(&store)));
    }
    let store = lab.dir.join("podman-empty");
    let words = [
        "podman".to_owned(),
        "--root".to_owned(),
        store.join("store").display().to_string(),
        "--runroot".to_owned(),
        store.join("state").display().to_string(),
        "pull".to_owned(),
        "--quiet".to_owned(),
        format!("oci:{}:latest", layout.display()),
    ];
    all.push(Contestant::new("podman", move || command(&words)).after(move || remove(&store)));
    if let Some(why) = lab.absence("umoci") {
        all.push(Contestant::absent("umoci", why));
    } else {
        let target = lab.dir.join("umoci-unpacked");
        let words = [
            "umoci".to_owned(),
            "unpack".to_owned(),
            "--image".to_owned(),
            format!("{}:latest", layout.display()),
            target.display().to_string(),
        ];
        all.push(Contestant::new("umoci", move || command(&words)).after(move || remove(&target)));
    }
    let layers = layers(&layout)?;
    let target = lab.dir.join("tar-unpacked");
    let removed = target.clone();
    let steps: Vec<String> = layers
        .iter()
        .map(|layer| format!("tar xzf {} -C {}", layer.display(), target.display()))
        .collect();
    let script = steps.join(" && ");
    let tar = Contestant::new("tar xzf", move || command(["sh", "-c", &script]));
    all.push(tar.after(move || {
        remove(&removed)?;
        fs::create_dir_all(&removed).map_err(|error| error.to_string())
    }));
    Ok(all)
}

/// The layers of a layout's only image, lowest first.
fn layers(layout: &Path) -> Result<Vec<PathBuf>> {
    let read = |file: PathBuf| -> Result<serde_json::Value> {
        let text =
            fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let index = read(layout.join("index.json"))?;
    let manifest = read(blob(&index["manifests"][0]))?;
    Ok(manifest["layers"].as_array().into_iter().flatten().map(blob).collect())
}

fn start(lab: &Lab) -> Result<Vec<Contestant>> {
    let tools = ["conex", "buildah", "podman", "skopeo", "umoci", "runc", "crun", "docker"];
    let ask = |tool: &str| {
        if let Some(why) = lab.absence(tool) {
            return Contestant::absent(tool, why);
        }
        let program = if tool == "conex" { lab.conex.clone() } else { PathBuf::from(tool) };
        Contestant::new(tool, move || {
            let mut command = std::process::Command::new(&program);
            command.arg("--version");
            command
        })
    };
    Ok(tools.into_iter().map(ask).collect())
}

pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove `{}`: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::CASES;

    #[test]
    fn names_of_cases_are_unique() {
        let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }
}
