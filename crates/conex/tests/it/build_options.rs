//! Options of `conex build` that are not about the Dockerfile: who runs the commands, within which
//! limits, and what is told of the result.

use std::process::Command;

use crate::registry_peer::Registry;
use crate::sandbox::{CONEX, Sandbox, ended, feed, is_ci, is_root, missing, program};
use crate::scene::json;

#[test]
fn a_failed_step_can_be_looked_at_in_a_shell() {
    if program("script").is_none() {
        return missing("script");
    }
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write(
        "context/Dockerfile",
        "FROM base\nENV GREETING=hello\nWORKDIR /made\nRUN echo left > behind; exit 4\n",
    );
    for runtime in ["", "--runtime=runc"] {
        if !runtime.is_empty() && !runtime_works(&sandbox, "runc") {
            continue;
        }
        let line = format!(
            "{CONEX} --root {} build --progress=plain --on-error=shell {runtime} context",
            sandbox.text("store"),
        );
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).current_dir(sandbox.path());
        command.env("HOME", sandbox.path()).env("PATH", crate::sandbox::PATH);
        let input =
            b"echo saw-$(cat behind)-$GREETING-$(pwd); test -t 0 && echo on-a-$((3+4))\nexit\n";
        let ended = ended(&feed(command, input));
        assert_eq!(ended.code, 1, "{runtime}: {}", ended.out);
        for text in ["saw-left-hello-/made", "on-a-7", "Dockerfile:4", "exit code 4"] {
            assert!(ended.out.contains(text), "{runtime} {text}: {}", ended.out);
        }
    }
    // Without a terminal there is nobody to look.
    let ended = sandbox.conex(&["build", "--on-error=shell", "context"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("not a terminal"), "{}", ended.err);
}

/// Whether an OCI runtime can be used here; says aloud if not.
fn runtime_works(sandbox: &Sandbox, runtime: &str) -> bool {
    if program(runtime).is_none() {
        missing(runtime);
        return false;
    }
    let option = format!("--runtime={runtime}");
    let ended = sandbox.build("FROM base\nRUN true\n", &["--no-cache", &option]);
    let is_unfit = ended.err.contains("cgroup") || !is_root();
    assert!(ended.code == 0 || is_unfit, "{}", ended.err);
    if ended.code != 0 {
        eprintln!("skipped: {runtime} does not work on this machine: {}", ended.err);
    }
    ended.code == 0
}

#[test]
fn runtimes_make_the_same_layers() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("context/f", "from the context");
    sandbox.write("token", "a secret of some length");
    // All that a command can see goes into the layer.
    let file = "FROM base\nENV A=1\nUSER app\nWORKDIR /w\n\
        RUN --mount=target=/c --mount=type=cache,target=/cache,uid=1000 --mount=type=tmpfs,target=/t \
        --mount=type=secret,id=t,uid=1000 \
        id > id; env | sort > env; pwd > pwd; umask > umask; cat /c/f > f; touch /cache/x /t/x; \
        cat /run/secrets/t | wc -c > secret; grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status > status; \
        hostname > hostname; cat /etc/hosts > hosts; ulimit -n > limit; ls /dev > dev; \
        ls -A /sys/class/net > net; ls -ldn /dev/shm /tmp | awk '{ print $1, $3, $4 }' > folders\n\
        USER root\nRUN rm /w/f && chown 5:6 /w/id && chmod 4711 /w/id && ln /w/id /w/id2\n";
    let secret = format!("id=t,src={}", sandbox.text("token"));
    let build = |option: &[&str]| {
        let args = [&["--no-cache", "-t", "it", "--secret", &secret], option].concat();
        let shown = sandbox.built(file, &args);
        assert_eq!(shown.matches("CACHED").count(), 1, "only the base: {shown}");
        sandbox.id("it")
    };
    let wanted = build(&[]);
    let files = |name: &str| {
        let script = "cd /w; for f in *; do echo \"== $f\"; cat $f; done";
        sandbox.ok(&["run", "--rm", name, "sh", "-c", script])
    };
    let ours = files("it");
    for runtime in ["runc", "crun"] {
        if runtime_works(&sandbox, runtime) {
            let id = build(&["--runtime", runtime]);
            assert_eq!(files("it"), ours, "{runtime}");
            assert_eq!(id, wanted, "{runtime}");
        }
    }
    for (runtime, text) in [("/nowhere/runc", "/nowhere/runc"), ("nosuchruntime", "nosuchruntime")]
    {
        let ended = sandbox.build("FROM base\nRUN true\n", &["--no-cache", "--runtime", runtime]);
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains(text), "{}", ended.err);
    }
}

#[test]
fn commands_live_within_the_limits_given() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    for (check, args) in [
        ("[ \"$(ulimit -n)-$(ulimit -Hn)\" = 100-200 ]", &["--ulimit", "nofile=100:200"][..]),
        ("[ $(ulimit -c) = 0 ]", &["--ulimit", "core=0"]),
        ("[ $(df -k /dev/shm | awk 'END { print $2 }') = 8192 ]", &["--shm-size", "8m"]),
        ("[ $(df -k /dev/shm | awk 'END { print $2 }') = 65536 ]", &[]),
        (
            "grep -q '10.1.2.3.*db.example' /etc/hosts && grep -q '::7.*six' /etc/hosts",
            &["--add-host", "db.example=10.1.2.3", "--add-host", "six:::7"],
        ),
        ("[ \"$(ls /sys/class/net)\" = lo ]", &["--network", "none"]),
    ] {
        sandbox.built(&format!("FROM base\nRUN {check}\n"), args);
    }
    for (args, text) in [
        (["--ulimit", "nosuch=1"], "nosuch"),
        (["--memory", "lots"], "lots"),
        (["--cpus", "many"], "many"),
        (["--add-host", "nowhere"], "nowhere"),
        (["--shm-size", "-1"], "-1"),
        (["--platform", "linux/nosuch/x/y"], "linux/nosuch/x/y"),
    ] {
        let ended = sandbox.build("FROM base\nRUN true\n", &args);
        assert!([1, 2].contains(&ended.code), "{args:?}: {}", ended.err);
        assert!(ended.err.contains(text), "{args:?}: {}", ended.err);
    }
}

#[test]
fn commands_get_no_more_memory_and_time_than_allowed() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let eater = "FROM base\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n";
    let ended = sandbox.build(eater, &["--memory", "64m"]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    if !ended.err.contains("memory limit was reached") {
        // A limit that cannot be had is an error, never ignored.
        assert!(ended.err.contains("memory") && !ended.err.contains("exit code"), "{}", ended.err);
        assert!(!is_root() || !is_ci(), "{}", ended.err);
        return eprintln!("skipped: no limits of memory here: {}", ended.err);
    }
    sandbox.built(eater, &["--memory", "512m"]);
    // What is burnt in a second of wall time is what is allowed, however many want it.
    let burner = "FROM base\nRUN t=$(cut -d. -f1 /proc/uptime); \
        for i in 1 2; do (while [ $(cut -d. -f1 /proc/uptime) -lt $((t + 3)) ]; do :; done) & done; \
        wait; times | tail -n 1\n";
    let shown = sandbox.built(burner, &["--cpus", "0.2"]);
    let line = shown
        .lines()
        .find(|line| line.contains("m0.") || line.contains("m1.") || line.contains("m2."))
        .unwrap();
    let seconds = |text: &str| -> f64 {
        let (minutes, rest) = text.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + rest.parse::<f64>().unwrap()
    };
    let used: f64 =
        line.split(' ').filter(|word| word.contains('m') && word.ends_with('s')).map(seconds).sum();
    assert!(used < 2.0, "a fifth of a processor for about three seconds: {line}");
}

#[test]
fn results_are_told_as_scripts_want_them() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let layout = sandbox.text("layout");
    let output = format!("type=oci,tar=false,dest={layout}");
    let (iid, meta) = (sandbox.text("iid"), sandbox.text("meta.json"));
    sandbox.built(
        "FROM base\nLABEL a=file b=file\n",
        &[
            "-t",
            "one:1",
            "-t",
            "two:2",
            "-o",
            &output,
            "-o",
            "type=image",
            "--iidfile",
            &iid,
            "--metadata-file",
            &meta,
            "--label",
            "b=flag",
            "--annotation",
            "who=me",
            "--annotation",
            "manifest:what=this",
        ],
    );
    let read = |path: &str| json(&std::fs::read_to_string(sandbox.at(path)).unwrap());
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        read(&format!("layout/blobs/{digest}"))
    };
    let index = read("layout/index.json");
    let entry = &index["manifests"][0];
    let manifest = blob(entry);
    assert_eq!(manifest["annotations"]["who"], "me", "{manifest}");
    assert_eq!(manifest["annotations"]["what"], "this", "{manifest}");
    let refused = sandbox.build("FROM base\n", &["--annotation", "manifest-descriptor:x=y"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("`manifest-descriptor` is not offered"), "{}", refused.err);
    let config = blob(&manifest["config"]);
    assert_eq!(config["config"]["Labels"], serde_json::json!({ "a": "file", "b": "flag" }));
    let id = sandbox.id("one:1");
    assert_eq!(manifest["config"]["digest"], id.as_str());
    assert_eq!(sandbox.id("two:2"), id);
    assert_eq!(std::fs::read_to_string(iid).unwrap(), id);
    let told = read("meta.json");
    assert_eq!(told["containerimage.config.digest"], id.as_str(), "{told}");
    assert_eq!(told["containerimage.digest"], entry["digest"], "{told}");
    assert_eq!(told["image.name"], "docker.io/library/one:1,docker.io/library/two:2");
}

#[test]
fn a_layout_has_images_by_tag_and_by_digest() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let layout = sandbox.text("layout");
    let output = format!("type=oci,tar=false,dest={layout}");
    for (tag, text) in [("1", "first"), ("2", "second")] {
        let file = format!("FROM base\nRUN echo {text} > /f\n");
        sandbox.built(&file, &["-t", &format!("it:{tag}"), "-o", &output]);
    }
    let index = json(&std::fs::read_to_string(sandbox.at("layout/index.json")).unwrap());
    let digests: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["digest"].as_str().unwrap())
        .collect();
    assert_eq!(digests.len(), 2, "{index}");
    let test = |source: &str, text: &str| {
        let file = format!("FROM other\nRUN [ $(cat /f) = {text} ]\n");
        sandbox.build(&file, &["--build-context", &format!("other=oci-layout://{layout}{source}")])
    };
    for (source, text) in [
        (":1".to_owned(), "first"),
        (":2".to_owned(), "second"),
        (format!("@{}", digests[0]), "first"),
        (format!("@{}", digests[1]), "second"),
        (format!(":2@{}", digests[1]), "second"),
    ] {
        let ended = test(&source, text);
        assert_eq!(ended.code, 0, "{source}: {}", ended.err);
    }
    for (source, text) in [
        (String::new(), "several images"),
        (":3".to_owned(), "no such image"),
        ("@sha256:12".to_owned(), "sha256:12"),
    ] {
        let ended = test(&source, "x");
        assert_ne!(ended.code, 0, "{source}");
        assert!(ended.err.contains(text), "{source}: {}", ended.err);
    }
}

#[test]
fn an_inline_cache_travels_with_its_image() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let Some(registry) = Registry::start(&sandbox, "") else { return };
    let base = format!("{}/base:1", registry.address);
    let name = format!("{}/app:1", registry.address);
    sandbox.ok(&["push", "base", &base]);
    let steps = "RUN echo one > /one\nRUN echo two > /two\nRUN true\n";
    let file = format!("FROM {base}\n{steps}");
    sandbox.built(&file, &["-t", &name, "--push", "--cache-to", "type=inline"]);
    let elsewhere = Sandbox::new();
    let from = format!("type=registry,ref={name}");
    let shown = elsewhere.built(&file, &["--cache-from", &from, "-t", "app"]);
    assert_eq!(shown.matches("CACHED").count(), 4, "{shown}");
    // A change of the second step leaves the first alone.
    let third = Sandbox::new();
    let shown = third.built(&file.replace("two", "TWO"), &["--cache-from", &from]);
    assert_eq!(shown.matches("CACHED").count(), 2, "{shown}");
    // The name alone is a registry's, as Docker has it.
    let fourth = Sandbox::new();
    let shown = fourth.built(&file, &["--cache-from", &name]);
    assert_eq!(shown.matches("CACHED").count(), 4, "{shown}");
}
