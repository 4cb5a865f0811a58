//! The first commands of somebody new.

use crate::sandbox::{Sandbox, program};

#[test]
fn the_tour_builds_and_runs_the_example() {
    let sandbox = Sandbox::new();
    // Says aloud if this machine runs no containers.
    if Sandbox::with_base().is_none() {
        return;
    }
    let shown = sandbox.ok(&["demo", "--keep", &sandbox.text("kept")]);
    for line in [
        "$ conex base from-host -t local/base sh cat cp ls mkdir sed grep tr sort wc",
        "$ conex build -t hello .",
        "$ conex run --rm hello",
        "Hello from conex",
        "No registry was asked and no daemon ran.",
    ] {
        assert!(shown.contains(line), "{line}:\n{shown}");
    }
    // What the tour leaves can be used.
    assert!(sandbox.at("kept/Dockerfile").exists());
    assert!(sandbox.ok(&["run", "--rm", "hello", "stages"]).contains("different words"));
}

#[test]
fn the_version_is_that_of_the_package() {
    let sandbox = Sandbox::new();
    let version = env!("CARGO_PKG_VERSION");
    assert!(sandbox.ok(&["version"]).starts_with(&format!("conex {version} (linux/")));
    assert_eq!(sandbox.ok(&["--version"]), format!("conex {version}\n"));
    let format = ["version", "--format", "{{.Client.Version}}"];
    assert_eq!(sandbox.ok(&format), format!("{version}\n"));
}

#[test]
fn a_base_from_this_machine_holds_what_was_asked_for() {
    let sandbox = Sandbox::new();
    if program("ls").is_none() || Sandbox::with_base().is_none() {
        return;
    }
    let made = sandbox.ok(&["base", "from-host", "-t", "own", "sh", "ls"]);
    assert!(made.starts_with("own:latest "), "{made}");
    let listed = sandbox.ok(&["run", "--rm", "own", "ls", "/"]);
    assert!(listed.lines().any(|line| line == "tmp"), "{listed}");
    let error = sandbox.fails(1, &["base", "from-host", "no-such-program"]);
    assert!(error.contains("no-such-program"), "{error}");
}
