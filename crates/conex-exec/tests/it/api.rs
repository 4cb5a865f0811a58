//! The library itself, from a process with many threads.

use std::io::{Read as _, Write as _};

use conex_exec::{ErrorKind, ExecOptions, ExitStatus, HelperProgram, Stream, Streams, spawn};

use crate::support::{Container, Mode, in_mode};

fn options() -> ExecOptions {
    let driver = env!("CARGO_BIN_EXE_conex-exec-driver").into();
    ExecOptions { helper: HelperProgram::Path(driver), ..ExecOptions::default() }
}

fn piped() -> Streams {
    Streams { stdin: Stream::Pipe, stdout: Stream::Pipe, stderr: Stream::Pipe }
}

fn exists(pid: i32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn streams_are_pipes_to_the_program() {
    in_mode(Mode::Root, "cat; echo e >&2", |container| {
        let mut running = spawn(&container.spec, piped(), &options()).unwrap();
        running.stdin.take().unwrap().write_all(b"through\n").unwrap();
        let mut text = String::new();
        running.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        running.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "through\ne\n");
        assert!(running.wait().unwrap().success());
    });
}

#[test]
fn container_outlives_the_thread_that_started_it() {
    // The kernel's parent-death signal is sent when the *thread* ends.
    in_mode(Mode::Root, "read line; echo $line", |container| {
        let spec = &container.spec;
        let mut running = std::thread::scope(|scope| {
            scope.spawn(|| spawn(spec, piped(), &options()).unwrap()).join().unwrap()
        });
        running.stdin.take().unwrap().write_all(b"alive\n").unwrap();
        let mut text = String::new();
        running.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "alive\n");
        assert!(running.wait().unwrap().success());
    });
}

#[test]
fn another_thread_can_kill_what_one_waits_for() {
    in_mode(Mode::Root, "sleep 1000", |container| {
        let mut running = spawn(&container.spec, Streams::default(), &options()).unwrap();
        let signaller = running.signaller();
        let exit = std::thread::scope(|scope| {
            let waiting = scope.spawn(move || running.wait().unwrap());
            signaller.kill();
            waiting.join().unwrap()
        });
        assert_eq!((exit.status, exit.code()), (ExitStatus::Signal(9), 137));
        // A signal to what has ended is no error.
        signaller.kill();
    });
}

#[test]
fn dropping_a_container_ends_it() {
    in_mode(Mode::Root, "sleep 1000", |container| {
        let running = spawn(&container.spec, Streams::default(), &options()).unwrap();
        let (pid, signaller) = (running.pid(), running.signaller());
        assert!(exists(pid));
        drop(running);
        assert!(!exists(pid));
        drop(signaller);
    });
}

#[test]
fn signals_reach_the_program_through_an_init() {
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    in_mode(Mode::Root, script, |mut container| {
        container.spec.pid1 = conex_exec::Pid1::Init;
        let mut running = spawn(&container.spec, piped(), &options()).unwrap();
        let mut stdout = running.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 6]).unwrap();
        running.signaller().signal(15);
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), running.wait().unwrap().code()), ("caught\n", 3));
    });
}

#[test]
fn many_containers_run_at_once() {
    in_mode(Mode::Root, "true", |_| {
        std::thread::scope(|scope| {
            for number in 0..8_u8 {
                scope.spawn(move || {
                    in_mode(Mode::Root, &format!("exit {number}"), |container: Container| {
                        let streams = Streams::default();
                        let mut running = spawn(&container.spec, streams, &options()).unwrap();
                        assert_eq!(running.wait().unwrap().code(), number);
                    });
                });
            }
        });
    });
}

#[test]
fn failures_have_kinds_and_codes() {
    in_mode(Mode::Root, "true", |container| {
        let failed = |change: &dyn Fn(&mut conex_exec::ContainerSpec)| {
            let mut spec = container.spec.clone();
            change(&mut spec);
            let error = spawn(&spec, Streams::default(), &options()).unwrap_err();
            (error.kind(), error.exit_code())
        };
        let program = |word: &'static str| {
            move |spec: &mut conex_exec::ContainerSpec| {
                spec.args = vec![word.to_owned()];
            }
        };
        assert_eq!(failed(&program("none")), (ErrorKind::NotFound, 127));
        assert_eq!(failed(&program("/tmp")), (ErrorKind::NotExecutable, 126));
        assert_eq!(failed(&|spec| spec.args.clear()), (ErrorKind::Invalid, 125));
        assert_eq!(failed(&|spec| spec.cwd = "/etc/passwd".into()), (ErrorKind::SetUp, 125));
        let add = |spec: &mut conex_exec::ContainerSpec| {
            spec.capabilities.add.push("CHOWM".to_owned());
        };
        assert_eq!(failed(&add), (ErrorKind::Invalid, 125));
    });
}
