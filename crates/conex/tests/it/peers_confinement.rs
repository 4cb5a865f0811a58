//! What a command may do, compared with what Docker itself allows its containers: both are asked
//! for the bundle that they hand to the runtime.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::peers_support::Peer;
use crate::sandbox::{Sandbox, is_root, missing, program};

/// Calls that Docker 20.10 allows and conex does not, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("io_uring_enter", "a way around the filter; Docker took it off its list with version 25"),
    ("io_uring_register", "as `io_uring_enter`"),
    ("io_uring_setup", "as `io_uring_enter`"),
    ("socket", "allowed but for AF_VSOCK, as Docker has it since version 23"),
];

/// Calls that conex allows and Docker 20.10 does not: kernels or processors that came later, or
/// that Docker has put on its list since.
const ALLOWED: &[&str] = &[
    "arm_fadvise64_64",
    "breakpoint",
    "cacheflush",
    "cachestat",
    "fchmodat2",
    "futex_requeue",
    "futex_wait",
    "futex_wake",
    "getxattrat",
    "listxattrat",
    "map_shadow_stack",
    "mseal",
    "name_to_handle_at",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "process_vm_readv",
    "process_vm_writev",
    "removexattrat",
    "set_tls",
    "setxattrat",
    "sync_file_range2",
    "uretprobe",
];

/// Paths that conex hides and Docker 20.10 does not, though its later versions do.
const HIDDEN: &[&str] = &["/proc/interrupts", "/sys/devices/virtual/powercap"];

#[test]
fn a_command_may_do_what_docker_lets_its_containers_do() {
    if !is_root() {
        return eprintln!("skipped: docker's daemon needs root");
    }
    let Some(sandbox) = Sandbox::with_base() else { return };
    let Some(runc) = program("runc") else { return missing("runc") };
    let Some(docker) = Peer::docker(&sandbox) else { return };
    let archive = sandbox.text("base.tar");
    sandbox.ok(&["save", "-o", &archive, "base"]);
    docker.ok(&["load", "-i", &archive]);
    if !docker.works("base") {
        return;
    }
    let container = docker.ok(&["run", "-d", "--network=none", "base", "sleep", "600"]);
    let theirs = bundle_of(&sandbox.at("docker/exec"), container.trim()).map(fs::read);
    docker.ok(&["rm", "-f", container.trim()]);
    let theirs: Value = serde_json::from_slice(&theirs.unwrap().unwrap()).unwrap();

    // A runtime that keeps the bundle's config and goes on as the real one.
    let kept = sandbox.text("bundle.json");
    let script = format!(
        "#!/bin/sh\nfor word in \"$@\"; do test -f \"$word/config.json\" && cp \"$word/config.json\" \
         {kept}; done\nexec {} \"$@\"\n",
        runc.display()
    );
    let runtime = sandbox.write_mode("runtime.sh", script, 0o755);
    sandbox.built("FROM base\nRUN true\n", &["--runtime", runtime.to_str().unwrap()]);
    let ours: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();

    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        let path = format!("/process/capabilities/{set}");
        assert_eq!(names(&ours, &path), names(&theirs, &path), "{set}");
    }
    assert_eq!(names(&ours, "/linux/readonlyPaths"), names(&theirs, "/linux/readonlyPaths"));
    let mut hidden = names(&theirs, "/linux/maskedPaths");
    hidden.extend(HIDDEN.iter().map(|path| (*path).to_owned()));
    assert_eq!(names(&ours, "/linux/maskedPaths"), hidden);

    let (allows, wanted) = (calls(&ours), calls(&theirs));
    let refused: BTreeSet<String> = REFUSED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let allowed: BTreeSet<String> = ALLOWED.iter().map(|name| (*name).to_owned()).collect();
    let missing: Vec<&String> = wanted.difference(&allows).collect();
    let more: Vec<&String> = allows.difference(&wanted).collect();
    // A newer Docker differs in less.
    assert!(missing.iter().all(|name| refused.contains(*name)), "refused: {missing:?}");
    assert!(more.iter().all(|name| allowed.contains(*name)), "allowed: {more:?}");
    for path in ["personality", "clone"] {
        assert_eq!(conditions(&ours, path), conditions(&theirs, path), "{path}");
    }
}

/// The bundle that containerd made for a container.
fn bundle_of(dir: &Path, container: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.ends_with(container) && path.join("config.json").exists() {
            return Some(path.join("config.json"));
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(found) = bundle_of(&path, container)
        {
            return Some(found);
        }
    }
    None
}

fn names(config: &Value, path: &str) -> BTreeSet<String> {
    let list = config.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

fn rules(config: &Value) -> Vec<Value> {
    config.pointer("/linux/seccomp/syscalls").unwrap().as_array().unwrap().clone()
}

/// Calls that are allowed whatever their arguments.
fn calls(config: &Value) -> BTreeSet<String> {
    let rules = rules(config);
    let always = rules.iter().filter(|rule| {
        let args = rule["args"].as_array().is_none_or(Vec::is_empty);
        rule["action"] == "SCMP_ACT_ALLOW" && args
    });
    always.flat_map(|rule| names(rule, "/names")).collect()
}

/// Under which conditions a call is allowed: operator and value of each.
fn conditions(config: &Value, name: &str) -> BTreeSet<String> {
    let rules = rules(config);
    let about = rules.iter().filter(|rule| names(rule, "/names").contains(name));
    let args = about.flat_map(|rule| rule["args"].as_array().cloned().unwrap_or_default());
    args.map(|arg| format!("{} {} {}", arg["index"], arg["op"], arg["value"])).collect()
}
