//! Many builds at once, and builds that are killed: nothing is lost, nothing is left.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sandbox::Sandbox;

/// Builds at the same time on one store.
const BUILDS: usize = 200;

/// Builds that are killed one after the other.
const KILLS: u64 = 24;

#[test]
fn two_hundred_builds_at_once_lose_nothing() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    // What all share, what some share, and what is each one's own.
    let dockerfile = |number: usize| {
        format!(
            "FROM base\nRUN echo shared > /shared\nRUN echo {0} > /some\nRUN echo {number} > /own\n",
            number % 20
        )
    };
    let children: Vec<_> = (0..BUILDS)
        .map(|number| {
            let file = sandbox.write(&format!("files/{number}"), dockerfile(number));
            let tag = format!("app:{number}");
            let context = sandbox.text("context");
            let args = ["build", "-q", "-t", &tag, "-f", file.to_str().unwrap(), &context];
            let mut command = sandbox.command(&args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        ids.insert(output.stdout);
    }
    assert_eq!(ids.len(), BUILDS, "each build has an image of its own");
    for number in [0, 19, 20, 111, BUILDS - 1] {
        let own = sandbox.ok(&["run", "--rm", &format!("app:{number}"), "cat", "/some", "/own"]);
        assert_eq!(own, format!("{}\n{number}\n", number % 20));
    }
    let sound = sandbox.ok(&["system", "check"]);
    assert!(sound.contains("is sound"), "{sound}");
}

#[test]
fn a_build_killed_at_any_moment_leaves_a_sound_store() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    for number in 0..200 {
        sandbox.write(&format!("context/f{number}"), format!("{number}\n"));
    }
    let file = sandbox.write(
        "Dockerfile",
        "FROM base\nARG N\nRUN echo $N > /n; for i in 1 2 3 4 5; do echo $i > /f$i; done\nCOPY . /c\n\
         RUN dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null; cat /c/* >> /big\n",
    );
    let (file, context) = (file.to_str().unwrap().to_owned(), sandbox.text("context"));
    let build = |number: u64| -> Command {
        let argument = format!("N={number}");
        sandbox.command(&[
            "build",
            "-q",
            "--build-arg",
            &argument,
            "-t",
            "app",
            "-f",
            &file,
            &context,
        ])
    };
    for number in 0..KILLS {
        let mut command = build(number);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // From before the first step to after the last: not the same moment twice.
        std::thread::sleep(Duration::from_millis(number * 13 % 170));
        // It may have ended already.
        let _ = child.kill();
        child.wait().unwrap();
        if number % 8 == 7 {
            let sound = sandbox.ok(&["system", "check"]);
            assert!(sound.contains("is sound"), "{sound}");
        }
    }
    let output = build(KILLS).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sandbox.ok(&["run", "--rm", "app", "cat", "/n"]), format!("{KILLS}\n"));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(sandbox.path().to_str().unwrap()), "{mounts}");
    sandbox.ok(&["system", "prune", "-a", "-f"]);
    let left = std::fs::read_dir(sandbox.at("store/tmp")).unwrap().count();
    assert_eq!(left, 0, "the next run removes what killed ones left");
}
