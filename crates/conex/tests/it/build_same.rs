//! The same inputs make the same image, whoever builds it, where, when and how.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::sandbox::{PATH, Sandbox, is_root, missing, program};

const DOCKERFILE: &str = "FROM base AS a\nRUN mkdir -p /o/x && echo 1 > /o/x/f && ln /o/x/f /o/x/h && ln -s f /o/l && chown -R 5:6 /o/x && chmod 2750 /o/x\n\
    FROM base AS b\nRUN touch /b && rm /bin/false\nWORKDIR /w/v\nCOPY --chown=app --chmod=u=rwX,go= . .\n\
    FROM b\nCOPY --from=a /o /o\nCOPY --link tree /t\nENV A=1\nRUN rm -rf /w && mkdir /w && mknod /p p && ln -s x /w/y\nUSER app\nCMD [\"x\"]\n";

fn fill(sandbox: &Sandbox) {
    for number in 0..40 {
        sandbox.write(&format!("context/tree/{}/f{number}", number % 3), number.to_string());
    }
    sandbox.write_mode("context/run.sh", "#!/bin/sh\n", 0o755);
}

fn built(sandbox: &Sandbox, args: &[&str]) -> String {
    let mut all = vec!["-t", "it"];
    all.extend(args);
    sandbox.built(DOCKERFILE, &all);
    sandbox.id("it")
}

#[test]
fn threads_times_and_places_do_not_matter() {
    let Some(first) = Sandbox::with_base() else { return };
    let Some(second) = Sandbox::with_base() else { return };
    fill(&first);
    fill(&second);
    let file = std::fs::File::options().write(true).open(second.at("context/run.sh")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)).unwrap();
    let one = built(&first, &["--parallel", "1"]);
    assert_eq!(one, built(&second, &["--parallel", "4"]));
    assert_eq!(one, built(&second, &["--no-cache"]));
    assert_eq!(first.id("base"), second.id("base"));
}

#[test]
fn the_umask_does_not_matter() {
    let Some(first) = Sandbox::with_base() else { return };
    fill(&first);
    let wanted = built(&first, &[]);
    let script = "umask 077; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(crate::sandbox::CONEX);
    command.args(["--root", &first.text("store"), "build", "-q", "--no-cache", "-f", "-"]);
    command.arg(first.at("context")).env("HOME", first.path());
    let ended = crate::sandbox::ended(&crate::sandbox::feed(command, DOCKERFILE.as_bytes()));
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out.trim(), wanted);
}

/// Root's image and those of an ordinary user, with subordinate IDs and without.
#[test]
fn the_user_does_not_matter() {
    if !is_root() {
        return eprintln!("skipped: only root can be both");
    }
    let known = std::fs::read_to_string("/etc/passwd").unwrap();
    if !known.lines().any(|line| line.starts_with("tester:")) || program("runuser").is_none() {
        return missing("the user `tester`");
    }
    let Some(sandbox) = Sandbox::with_base() else { return };
    fill(&sandbox);
    sandbox.write("context/Dockerfile", DOCKERFILE);
    let wanted = built(&sandbox, &[]);
    let base = sandbox.text("base");
    let context = sandbox.text("context");
    let home = sandbox.folder("home");
    assert!(Command::new("chown").arg("tester").arg(&home).status().unwrap().success());
    // A PATH without `newuidmap` leaves one ID to map.
    let bin = sandbox.folder("bin");
    for tool in ["sh", "id"] {
        std::os::unix::fs::symlink(program(tool).unwrap(), bin.join(tool)).unwrap();
    }
    let single = bin.to_str().unwrap();
    for (name, path) in [("ranges", PATH), ("single", single)] {
        let conex = |args: &[&str]| {
            let mut command = Command::new(program("runuser").unwrap());
            command.args(["-u", "tester", "--", "/usr/bin/env", "-i"]);
            command.arg(format!("PATH={path}")).arg(format!("HOME={}", home.display()));
            command.arg(crate::sandbox::CONEX).arg("--root").arg(home.join(name)).args(args);
            command.current_dir("/").stdin(Stdio::null());
            crate::sandbox::ended(&command.output().unwrap())
        };
        let made = conex(&["build", "-q", "-t", "base", &base]);
        assert_eq!(made.code, 0, "{name}: {}", made.err);
        assert_eq!(made.out.trim(), sandbox.id("base"), "{name}: base");
        let ended = conex(&["build", "-q", &context]);
        if name == "single" && ended.code != 0 {
            // One ID cannot be given to another user by a command; that is said.
            assert!(ended.err.contains("/etc/subuid"), "{}", ended.err);
            continue;
        }
        assert_eq!(ended.code, 0, "{name}: {}", ended.err);
        assert_eq!(ended.out.trim(), wanted, "{name}");
    }
}
