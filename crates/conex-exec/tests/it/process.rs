//! The process: who it is, what it sees, how it ends.

use std::io::Read as _;
use std::time::{Duration, Instant};

use conex_exec::{
    Access, Mount, MountSource, Network, OverlayFlavour, Pid1, ResolvedUser, Rootfs, TerminalSize,
};

use crate::support::{Container, Mode, for_each_mode, in_mode};

#[test]
fn exit_codes_are_those_of_docker_run() {
    for (args, code, words) in [
        (&["sh", "-c", "exit 7"][..], 7, ""),
        (&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, ""),
        (&["no-such-program"], 127, "cannot find `no-such-program` in the container"),
        (&["/bin/none"], 127, "cannot find `/bin/none`"),
        (&["/etc/passwd"], 126, "cannot execute `/etc/passwd`"),
        (&["/tmp"], 126, "cannot execute `/tmp`"),
        (&["/bin/foreign"], 126, "another processor architecture"),
        (&["/bin/script"], 127, "the interpreter of its `#!` line"),
    ] {
        for_each_mode("", |mode, mut container| {
            let write = |name: &str, content: &str| {
                let path = container.path("lower/bin").join(name);
                std::fs::write(&path, content).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(&path, mode).unwrap();
            };
            write("foreign", "neither ELF nor script");
            write("script", "#!/no/interpreter\n");
            container.spec.args = args.iter().map(|arg| (*arg).to_owned()).collect();
            let output = container.run();
            assert_eq!(output.code, code, "{mode:?} {args:?}: {output:?}");
            assert!(output.stderr.contains(words), "{mode:?} {args:?}: {output:?}");
        });
    }
}

#[test]
fn environment_is_what_was_given_and_a_home() {
    for_each_mode("env | grep -v -e PWD -e SHLVL | sort", |mode, mut container| {
        container.spec.env.push("A=b c".to_owned());
        container.spec.user.home = "/there".to_owned();
        assert_eq!(container.run().good(), "A=b c\nHOME=/there\nPATH=/bin\n", "{mode:?}");
        container.spec.env.push("HOME=/mine".to_owned());
        assert_eq!(container.run().good(), "A=b c\nHOME=/mine\nPATH=/bin\n", "{mode:?}");
    });
}

#[test]
fn user_groups_umask_and_working_dir_are_set() {
    let script = "id -u; id -g; id -G; umask; pwd; stat -c '%u:%g %a' . ; hostname; echo $$";
    for mode in [Mode::Root, Mode::Rootless] {
        in_mode(mode, script, |mut container| {
            let groups = vec![6, 7, 8];
            container.spec.user = ResolvedUser { uid: 5, gid: 6, groups, home: "/".to_owned() };
            container.spec.umask = 0o027;
            container.spec.cwd = "/work/here".to_owned();
            // In memory: what other ids own in the upper, an ordinary user could not remove.
            let source = MountSource::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 };
            let (target, access) = ("/work".to_owned(), Access::ReadWrite);
            container.spec.mounts.push(Mount { target, source, access });
            container.spec.hostname = "box".to_owned();
            let expected = "5\n6\n6 7 8\n0027\n/work/here\n5:6 755\nbox\n1\n";
            assert_eq!(container.run().good(), expected, "{mode:?}");
        });
    }
}

#[test]
fn unmapped_user_is_explained() {
    in_mode(Mode::Single, "true", |mut container| {
        container.spec.user.uid = 5;
        let output = container.run();
        assert_eq!(output.code, 125);
        assert!(output.stderr.contains("cannot become user 5"), "{output:?}");
        assert!(output.stderr.contains("/etc/subuid"), "{output:?}");
    });
}

#[test]
fn network_none_has_a_loopback_and_nothing_else() {
    for_each_mode(
        "ls /sys/class/net; ping -c 1 127.0.0.1 | grep -c ' 0% packet loss'",
        |mode, mut container| {
            container.spec.network = Network::None;
            let output = container.run().good();
            let devices: Vec<&str> = output.lines().filter(|line| *line != "1").collect();
            // Kernels may give every network namespace tunnel devices that are switched off.
            assert!(devices.contains(&"lo") && !devices.contains(&"eth0"), "{mode:?}: {output}");
            assert!(output.ends_with("1\n"), "{mode:?}: {output}");
        },
    );
}

#[test]
fn pipes_can_be_opened_again_by_an_ordinary_user() {
    in_mode(Mode::Root, "echo again > /dev/stdout", |mut container| {
        container.spec.user = ResolvedUser { uid: 5, gid: 5, groups: vec![5], home: "/".into() };
        assert_eq!(container.run().good(), "again\n");
    });
}

#[test]
fn signals_have_their_default_actions() {
    // SIGPIPE is ignored by the Rust runtime of the helper; others may be by who started us.
    for_each_mode("", |mode, mut container| {
        container.spec.args =
            ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"].map(str::to_owned).to_vec();
        let expected = "SigBlk:	0000000000000000
SigIgn:	0000000000000000
";
        assert_eq!(container.run().good(), expected, "{mode:?}");
    });
}

#[test]
fn init_passes_a_failed_start_on() {
    for_each_mode("", |mode, mut container| {
        container.spec.pid1 = Pid1::Init;
        container.spec.args = vec!["no-such".to_owned()];
        let output = container.run();
        assert_eq!(output.code, 127, "{mode:?}: {output:?}");
    });
}

#[test]
fn terminal_is_one_of_the_containers_own() {
    let script = "tty; stty size; echo $TERM; test -c /dev/console && echo console";
    for_each_mode(script, |mode, mut container| {
        for pid1 in [Pid1::Program, Pid1::Init] {
            container.spec.pid1 = pid1;
            container.spec.terminal = Some(TerminalSize { rows: 11, columns: 77 });
            let output = container.run_with(&["--terminal"]).good();
            let expected = "/dev/pts/0\r\n11 77\r\nxterm\r\nconsole\r\n";
            assert_eq!(output, expected, "{mode:?} {pid1:?}");
        }
    });
}

/// Processes on this machine whose command line holds a word.
fn processes_with(word: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(word) {
            found.push(pid);
        }
    }
    found
}

#[track_caller]
fn assert_soon(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

/// Starts a container that prints `up` and stays; returns the driver and a word that its
/// processes have in their command lines.
fn start(container: &mut Container, word: &str) -> std::process::Child {
    // The daemon and the program both hold the word.
    let script = format!("sleep 1000.{word} & echo up; exec sleep 1000.{word}");
    container.spec.args = vec!["sh".into(), "-c".into(), script];
    let mut child = container.command(&[]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut up = [0; 3];
    stdout.read_exact(&mut up).unwrap();
    child
}

#[test]
fn killing_the_caller_leaves_no_process_and_no_mount() {
    for_each_mode("", |mode, mut container| {
        let word = format!("{}{}", 71, std::process::id());
        let mut child = start(&mut container, &format!("{word}{}", mode as u8));
        let word = format!("1000.{word}{}", mode as u8);
        // `su` passes no signal on: kill the driver itself.
        let spec = container.path("spec.json").display().to_string();
        for pid in processes_with(&spec) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        child.wait().unwrap();
        assert_soon("the container lives on", || processes_with(&word).is_empty());
        // The helper tidies up also when nobody waits for it.
        assert_soon("the work folder is left", || !container.path("work/work").exists());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&container.path("upper").display().to_string()), "{mode:?}");
    });
}

#[test]
fn killing_the_helper_leaves_no_process() {
    in_mode(Mode::Root, "", |mut container| {
        let word = format!("{}{}", 72, std::process::id());
        let mut child = start(&mut container, &word);
        let driver = child.id();
        let helper = processes_with("__conex-container").into_iter().find(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
            parent == Some(driver.to_string().as_str())
        });
        let helper = i32::try_from(helper.expect("the helper runs")).unwrap();
        let helper = rustix::process::Pid::from_raw(helper).unwrap();
        rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
        let word = format!("1000.{word}");
        assert_soon("the container lives on", || processes_with(&word).is_empty());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(125));
        // The next start removes the cgroup that the helper could not.
        let cgroup = format!("/conex-{}-", helper.as_raw_nonzero());
        container.spec.args = vec!["true".to_owned()];
        std::fs::remove_dir_all(container.path("work/work")).unwrap();
        container.run().good();
        assert!(!crate::limits::stale_cgroups().iter().any(|path| path.contains(&cgroup)));
    });
}

#[test]
fn containers_can_be_nested() {
    // The inner one is made by a driver that runs in the outer one, from a rootfs of the host.
    for flags in ["", "--single"] {
        in_mode(Mode::Root, &format!("exec /driver {flags} /inner.json"), |mut container| {
            let mut inner = container.spec.clone();
            let memory = |target: &str| {
                let source = MountSource::Tmpfs { size: None, mode: 0o755, uid: 0, gid: 0 };
                Mount { target: target.to_owned(), source, access: Access::ReadWrite }
            };
            let Rootfs::Overlay(overlay) = &mut inner.rootfs else { unreachable!() };
            overlay.lower = vec!["/layers".into()];
            overlay.upper = None;
            if !flags.is_empty() {
                overlay.flavour = OverlayFlavour::User;
            }
            inner.args = ["sh", "-c", "id -u; echo inner"].map(str::to_owned).to_vec();
            for folder in ["proc", "dev", "sys"] {
                std::fs::create_dir(container.path("lower").join(folder)).unwrap();
            }
            let spec = &mut container.spec;
            let Rootfs::Overlay(overlay) = &mut spec.rootfs else { unreachable!() };
            let layers = std::mem::replace(&mut overlay.lower, vec!["/".into()]).remove(0);
            spec.make_insecure();
            if !flags.is_empty() {
                // As in a default container: parts of /proc are hidden, so that a user namespace
                // inside may not mount it again.
                spec.masked_paths = conex_exec::docker_masked_paths();
                spec.readonly_paths = conex_exec::docker_readonly_paths();
            }
            let driver = env!("CARGO_BIN_EXE_conex-exec-driver");
            spec.mounts = vec![
                memory("/tmp"),
                Mount::bind(driver, "/driver", Access::ReadOnly),
                Mount::bind(layers.0, "/layers", Access::ReadOnly),
                Mount::file("/inner.json", serde_json::to_vec(&inner).unwrap(), Access::ReadOnly),
            ];
            let output = container.run();
            assert_eq!((output.code, &*output.stdout), (0, "0\ninner\n"), "{flags} {output:?}");
            if !flags.is_empty() {
                assert!(output.stderr.contains("surrounding container"), "{output:?}");
            }
        });
    }
}
