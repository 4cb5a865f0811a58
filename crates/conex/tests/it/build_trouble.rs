//! Builds that are stopped, killed, beside each other or out of space: nothing stays, and the
//! store works on.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, is_root};

/// Processes whose command line has a text.
fn processes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_pid = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
        if is_pid && line.contains(text) && !line.contains("--root") {
            found.push(line);
        }
    }
    found
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a build whose RUN sleeps for a number of seconds that no other process has, and waits
/// until it runs.
fn sleeping(sandbox: &Sandbox, seconds: &str) -> Child {
    let file = format!("FROM base\nRUN touch /x && sleep {seconds}; sleep {seconds}\n");
    sandbox.write("context/Dockerfile", file);
    let child = sandbox
        .command(&["build", "--progress=plain", "context"])
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the step", || {
        processes(&format!("sleep {seconds}")).iter().any(|line| line.starts_with("sleep"))
    });
    child
}

fn signal(child: &Child, name: &str) {
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-s", name, "--", &group]).status().unwrap().success());
}

fn check_clean(sandbox: &Sandbox, seconds: &str) {
    wait_for("no process", || processes(&format!("sleep {seconds}")).is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&sandbox.text("store")), "{mounts}");
    sandbox.ok(&["system", "check"]);
    sandbox.built("FROM base\nRUN touch /y\n", &[]);
}

#[test]
fn an_interrupt_leaves_nothing() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let seconds = format!("777{}", std::process::id());
    let mut child = sleeping(&sandbox, &seconds);
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    check_clean(&sandbox, &seconds);
}

#[test]
fn a_kill_leaves_nothing_that_stays() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let seconds = format!("778{}", std::process::id());
    let mut child = sleeping(&sandbox, &seconds);
    child.kill().unwrap();
    child.wait().unwrap();
    check_clean(&sandbox, &seconds);
}

#[test]
fn two_builds_share_a_step() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write(
        "context/Dockerfile",
        "FROM base\nRUN --mount=type=cache,target=/c echo x >> /c/n; sleep 1; cp /c/n /n\n",
    );
    let start = || {
        let mut command = sandbox.command(&["build", "-q", "context"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let ids: Vec<String> = [start(), start(), start()]
        .into_iter()
        .map(|child| crate::sandbox::ended(&child.wait_with_output().unwrap()))
        .map(|ended| {
            assert_eq!(ended.code, 0, "{}", ended.err);
            ended.out
        })
        .collect();
    assert!(ids.iter().all(|id| id == &ids[0]), "{ids:?}");
    sandbox.built("FROM base\nRUN --mount=type=cache,target=/c [ $(wc -l < /c/n) = 1 ]\n", &[]);
}

#[test]
fn a_full_disk_is_said_and_survived() {
    if !is_root() {
        return eprintln!("skipped: only root can mount a small file system");
    }
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.ok(&["save", "-o", &sandbox.text("base.tar"), "base"]);
    let small = sandbox.folder("small");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "none"])
        .arg(&small)
        .status()
        .unwrap();
    if !mounted.success() {
        return crate::sandbox::missing("leave to mount");
    }
    let store = sandbox.text("small/store");
    let run = |args: &[&str], stdin: &str| {
        let mut command = Command::new(crate::sandbox::CONEX);
        command.arg("--root").arg(&store).args(args).env("HOME", sandbox.path());
        crate::sandbox::ended(&crate::sandbox::feed(command, stdin.as_bytes()))
    };
    sandbox.write("context/big", vec![7; 12 << 20]);
    let context = sandbox.text("context");
    let build = ["build", "--progress=plain", "-f", "-", &context];
    let load = run(&["load", "-i", &sandbox.text("base.tar")], "");
    let copy = run(&build, "FROM base\nCOPY big /\n");
    let step = run(&build, "FROM base\nRUN dd if=/dev/zero of=/z bs=1M count=20\n");
    let after = run(&build, "FROM base\nRUN echo fits > /f\n");
    let check = run(&["system", "check"], "");
    assert!(Command::new("umount").arg(&small).status().unwrap().success());
    assert_eq!(load.code, 0, "{}", load.err);
    for ended in [copy, step] {
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains("No space left on device"), "{}", ended.err);
    }
    assert_eq!(after.code, 0, "{}", after.err);
    assert_eq!(check.code, 0, "{}{}", check.out, check.err);
}
