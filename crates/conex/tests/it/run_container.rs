//! `conex run`: what a container sees and what its end says.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sandbox::{Ended, Sandbox, ended, is_root, missing, program};

/// Runs a shell script in a container.
fn run(sandbox: &Sandbox, args: &[&str], script: &str) -> Ended {
    let mut all = vec!["run", "--rm"];
    all.extend(args);
    all.extend(["base", "sh", "-c", script]);
    sandbox.conex(&all)
}

#[test]
fn exit_codes_are_dockers() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    for (args, code) in [
        (vec!["base", "true"], 0),
        (vec!["base", "sh", "-c", "exit 42"], 42),
        (vec!["--init", "base", "sh", "-c", "kill -TERM $$"], 143),
        (vec!["--init", "base", "sh", "-c", "kill -KILL $$"], 137),
        (vec!["base", "nosuchprogram"], 127),
        (vec!["base", "/etc"], 126),
        (vec!["base", "/etc/passwd"], 126),
        (vec!["--pull=never", "nosuch:1"], 125),
        (vec!["--nosuchflag", "base"], 125),
        (vec!["-w", "relative", "base", "true"], 125),
        (vec!["-v", "relative/path:/x", "base", "true"], 125),
        (vec!["-u", "nosuch", "base", "true"], 125),
        (vec!["--platform", "linux/s390x", "base", "true"], 125),
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(&args);
        let ended = sandbox.conex(&all);
        assert_eq!(ended.code, code, "{args:?}: {}{}", ended.out, ended.err);
        assert!(!(125..=127).contains(&code) || !ended.err.is_empty(), "{args:?}");
    }
}

#[test]
fn flags_decide_what_a_container_sees() {
    let Some(mut sandbox) = Sandbox::with_base() else { return };
    sandbox.set_env("FROM_HERE", "here");
    sandbox.write("vars", "# comment\nA=file\n\nB=two words\nFROM_HERE\n");
    sandbox.write("data/f", "data");
    sandbox.folder("rw");
    std::fs::set_permissions(sandbox.at("rw"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let vars = sandbox.text("vars");
    let ro = format!("{}:/d:ro", sandbox.text("data"));
    let rw = format!("{}:/d", sandbox.text("rw"));
    let mount = format!("type=bind,src={},dst=/d,readonly", sandbox.text("data"));
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (
            vec!["-e", "A=1", "-e", "FROM_HERE", "-e", "NOT_SET"],
            "[ $A = 1 ] && [ $FROM_HERE = here ] && [ -z \"${NOT_SET+x}\" ]",
        ),
        (
            vec!["--env-file", &vars, "-e", "A=flag"],
            "[ $A = flag ] && [ \"$B\" = 'two words' ] && [ $FROM_HERE = here ]",
        ),
        (vec!["-v", &ro], "[ $(cat /d/f) = data ] && ! touch /d/x 2>/dev/null"),
        (vec!["-v", &rw], "echo out > /d/made"),
        (vec!["--mount", &mount], "[ $(cat /d/f) = data ] && ! touch /d/x 2>/dev/null"),
        (vec!["-v", "named:/d"], "touch /d/kept"),
        (vec!["-v", "named:/d"], "[ -e /d/kept ]"),
        (vec!["-v", "/anon"], "touch /anon/x"),
        (vec!["-v", "filled:/etc"], "[ -e /etc/passwd ]"),
        (
            vec!["--tmpfs", "/t:size=64k"],
            "touch /t/x && ! dd if=/dev/zero of=/t/y bs=1k count=100 2>/dev/null",
        ),
        (vec!["--read-only"], "! touch /x 2>/dev/null && ! touch /etc/x 2>/dev/null"),
        (vec!["--read-only", "--tmpfs", "/tmp"], "touch /tmp/x"),
        (vec!["-w", "/made/here"], "[ $PWD = /made/here ]"),
        (vec!["-u", "app"], "[ $(id -u):$(id -g) = 1000:1001 ] && [ $HOME = /home/app ]"),
        (vec!["-u", "7:8"], "[ $(id -u):$(id -g) = 7:8 ]"),
        (vec!["--network", "none"], "[ \"$(ls /sys/class/net)\" = lo ]"),
        (vec!["--network", "host"], "[ -e /etc/resolv.conf ]"),
        (vec!["--cap-drop", "ALL"], "grep -q 'CapBnd:.0000000000000000' /proc/self/status"),
        (
            vec!["--cap-drop", "all", "--cap-add", "NET_RAW"],
            "grep -q 'CapBnd:.0000000000002000' /proc/self/status",
        ),
        (vec!["--cap-drop", "CAP_CHOWN"], "grep -q 'CapBnd:.00000000a80425fa' /proc/self/status"),
        (vec!["--hostname", "box"], "[ $(hostname) = box ] && grep -q box /etc/hosts"),
        (vec!["--init"], "[ $$ != 1 ]"),
        (
            vec![],
            "[ $$ = 1 ] && [ -c /dev/null ] && [ ! -e /dev/sda ] && ! mount -t tmpfs x /tmp 2>/dev/null",
        ),
        (vec![], "[ ! -e /d/kept ] && [ ! -e /x ]"),
    ];
    let mut wrong = Vec::new();
    for (args, script) in cases {
        let ended = run(&sandbox, &args, script);
        if ended.code != 0 {
            wrong.push(format!("{args:?} {script}: {} {}{}", ended.code, ended.out, ended.err));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(std::fs::read_to_string(sandbox.at("rw/made")).unwrap(), "out\n");
    let volumes = sandbox.ok(&["volume", "ls", "-q"]);
    let mut names: Vec<&str> = volumes.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["filled", "named"], "anonymous volumes go with `--rm`");
    for (args, text) in [
        (["--cap-add", "NOSUCH"], "NOSUCH"),
        (["--network", "nosuch"], "nosuch"),
        (["--memory", "much"], "much"),
        (["--env-file", "nosuchfile"], "nosuchfile"),
    ] {
        let ended = run(&sandbox, &args, "true");
        assert_eq!(ended.code, 125, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(text), "{args:?}: {}", ended.err);
    }
}

#[test]
fn the_image_says_what_runs_unless_told_otherwise() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.built(
        "FROM base\nENTRYPOINT [\"echo\", \"e\"]\nCMD [\"c\"]\nENV V=1\nVOLUME /vol\nWORKDIR /w\n",
        &["-t", "it"],
    );
    for (args, wanted) in [
        (vec!["it"], "e c"),
        (vec!["it", "x", "y"], "e x y"),
        (vec!["--entrypoint", "pwd", "it"], "/w"),
        (vec!["--entrypoint", "sh", "it", "-c", "echo $V"], "1"),
        (vec!["--entrypoint", "", "it", "echo", "z"], "z"),
        (vec!["--entrypoint", "sh", "it", "-c", "touch /vol/x && ls /vol"], "x"),
    ] {
        let mut all = vec!["run", "--rm"];
        all.extend(&args);
        assert_eq!(sandbox.ok(&all).trim(), wanted, "{args:?}");
    }
    sandbox.built("FROM scratch\nENV A=1\n", &["-t", "empty"]);
    let ended = sandbox.conex(&["run", "--rm", "empty"]);
    assert_eq!(ended.code, 125, "{}", ended.err);
}

#[test]
fn input_is_passed_on_when_asked() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let big = vec![b'x'; 3 << 20];
    let ended = sandbox.conex_with(&["run", "--rm", "-i", "base", "wc", "-c"], &big);
    assert_eq!((ended.code, ended.out.trim()), (0, "3145728"), "{}", ended.err);
    let ended = sandbox.conex_with(&["run", "--rm", "base", "wc", "-c"], b"xyz");
    assert_eq!((ended.code, ended.out.trim()), (0, "0"), "{}", ended.err);
    let ended = sandbox.conex_with(&["run", "--rm", "-it", "base", "true"], b"");
    assert_ne!(ended.code, 0);
    assert!(ended.err.contains("terminal"), "{}", ended.err);
    // Output and errors stay apart.
    let ended = run(&sandbox, &[], "echo out; echo err >&2");
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_terminal_is_a_terminal() {
    if program("script").is_none() {
        return missing("script");
    }
    let Some(sandbox) = Sandbox::with_base() else { return };
    let line = format!(
        "stty rows 33 cols 99; {} --root {} run --rm -it base sh -c 'test -t 0 && test -t 1 && tty && stty size; exit 9'",
        crate::sandbox::CONEX,
        sandbox.text("store")
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("HOME", sandbox.path()).stdin(Stdio::null());
    let ended = ended(&command.output().unwrap());
    assert_eq!(ended.code, 9, "{}{}", ended.out, ended.err);
    assert!(
        ended.out.contains("/dev/pts/0") || ended.out.contains("/dev/console"),
        "{}",
        ended.out
    );
    assert!(ended.out.contains("33 99"), "{}", ended.out);
}

#[test]
fn limits_hold_or_are_refused() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let script = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    let ended = run(&sandbox, &["--memory", "64m"], script);
    if ended.code == 125 {
        // A limit that cannot be had is an error, never ignored.
        assert!(ended.err.contains("memory"), "{}", ended.err);
        assert!(!is_root() || !crate::sandbox::is_ci(), "{}", ended.err);
        return eprintln!("skipped: no memory limits here: {}", ended.err);
    }
    assert_eq!(ended.code, 137, "{}{}", ended.out, ended.err);
    let ended = run(
        &sandbox,
        &["--pids-limit", "8"],
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait",
    );
    assert!(ended.err.contains("fork"), "{} {}", ended.code, ended.err);
    let ended = run(&sandbox, &["--cpus", "0.5"], "true");
    assert_eq!(ended.code, 0, "{}", ended.err);
}

#[test]
fn signals_reach_the_container() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = sandbox
        .command(&["run", "--rm", "base", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    std::thread::sleep(Duration::from_millis(50));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(lines.next().unwrap().unwrap(), "caught");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}
