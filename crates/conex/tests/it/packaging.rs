//! What `packaging/` holds: the registry's own image, and its unit for systemd.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{CONEX, Sandbox, missing, program};

/// The project's folder `packaging`.
fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

/// A program that is asked to end when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// The unit, starting the program that is tested.
fn unit() -> String {
    let text = fs::read_to_string(packaging().join("conex-registry.service")).unwrap();
    assert!(text.contains("ExecStart=/usr/bin/conex "), "{text}");
    text.replace("/usr/bin/conex", CONEX)
}

#[test]
fn the_registrys_own_image_serves() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let context = sandbox.folder("registry");
    fs::copy(CONEX, context.join("conex")).unwrap();
    let dockerfile = packaging().join("registry/Dockerfile");
    fs::copy(dockerfile, context.join("Dockerfile")).unwrap();
    sandbox.ok(&["base", "from-host", "-t", "local/conex", CONEX]);
    let build = ["build", "--build-arg", "BASE=local/conex", "-t", "registry", "registry"];
    sandbox.ok(&build);
    // The image's own command listens where everybody expects a registry; two tests cannot.
    let args = ["run", "--rm", "-v", "kept:/var/lib/registry", "registry"];
    let serve =
        ["serve", "--listen", "127.0.0.1:0", "--anonymous=full", "--data", "/var/lib/registry"];
    for round in ["pushed", "kept"] {
        let mut child = sandbox
            .command(&[&args[..], &serve].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let _running = Running(child);
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://").map(str::to_owned))
            .unwrap_or_else(|| panic!("{round}: it never listened"));
        std::thread::spawn(move || lines.for_each(drop));
        let image = format!("{address}/base:1");
        if round == "pushed" {
            sandbox.ok(&["push", "-q", "base", &image]);
        }
        assert_eq!(sandbox.ok(&["tags", &image[..image.len() - 2]]).trim(), "1", "{round}");
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let Some(analyze) = program("systemd-analyze") else {
        missing("systemd-analyze");
        return;
    };
    let sandbox = Sandbox::new();
    let file = sandbox.write("conex-registry.service", unit());
    let output = Command::new(&analyze).args(["verify", "--man=no"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("conex")).collect();
    assert!(output.status.success() && about_us.is_empty(), "{said}");
    // Of 100; what has no protection at all has 96.
    let output = Command::new(&analyze)
        .args(["security", "--offline=true", "--threshold=25"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_unit_allows_what_the_server_asks_of_the_kernel_also_with_a_passed_socket() {
    let (Some(analyze), Some(activate), Some(strace)) =
        (program("systemd-analyze"), program("systemd-socket-activate"), program("strace"))
    else {
        missing("systemd-analyze, systemd-socket-activate or strace");
        return;
    };
    let Some(sandbox) = Sandbox::with_base() else { return };
    let text = unit();
    let group = text.lines().find_map(|line| line.strip_prefix("SystemCallFilter=")).unwrap();
    let allowed = members(&analyze, group);

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let trace = sandbox.at("trace");
    let child = Command::new(activate)
        .args(["-l", &address])
        .arg(strace)
        // The socket is for the process that was started, which therefore may not be strace.
        .args(["-D", "-f", "-q", "-o"])
        .arg(&trace)
        .args([CONEX, "registry", "serve", "--data"])
        .arg(sandbox.at("data"))
        .env("PATH", crate::sandbox::PATH)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(child);
    let end = Instant::now() + Duration::from_secs(60);
    let image = format!("{address}/base:1");
    while std::net::TcpStream::connect(&address).is_err() {
        assert!(Instant::now() < end, "nobody listens");
        std::thread::sleep(Duration::from_millis(20));
    }
    sandbox.ok(&["push", "-q", "base", &image]);
    sandbox.ok(&["pull", "-q", &image]);
    sandbox.ok(&["rmi", "--remote", &image]);
    drop(running);
    let has_ended = |trace: &str| trace.lines().last().is_some_and(|line| line.contains("+++ "));
    let trace = loop {
        let trace = fs::read_to_string(&trace).unwrap();
        if has_ended(&trace) {
            break trace;
        }
        assert!(Instant::now() < end, "strace does not end");
        std::thread::sleep(Duration::from_millis(20));
    };

    let asked: BTreeSet<&str> = trace
        .lines()
        .filter_map(|line| {
            let call = line.split_once(' ')?.1.trim_start().split_once('(')?.0;
            call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(call)
        })
        .collect();
    assert!(asked.contains("accept4") && asked.contains("pwrite64"), "{asked:?}");
    let refused: Vec<_> = asked.iter().filter(|call| !allowed.contains(**call)).collect();
    assert!(refused.is_empty(), "{group} has no {refused:?}");
}

/// The system calls of one of systemd's groups.
fn members(analyze: &Path, group: &str) -> BTreeSet<String> {
    let output = Command::new(analyze).args(["syscall-filter", group]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut calls = BTreeSet::new();
    for line in text.lines().skip(1).map(str::trim) {
        if line.starts_with('@') {
            calls.extend(members(analyze, line));
        } else if !line.is_empty() && !line.starts_with('#') {
            calls.insert(line.to_owned());
        }
    }
    calls
}
