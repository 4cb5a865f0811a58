//! The examples, built as their pages say it, where no registry can be reached: the commands of
//! each page's section `Without a registry` (or of the whole page, where there is no such section)
//! are run as they stand there.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{CONEX, Ended, PATH, Sandbox, ended, feed, is_ci, missing, program};

const SECTION: &str = "## Without a registry";

/// An example on its way.
struct Example {
    sandbox: Sandbox,
    path: String,
}

impl Example {
    /// A copy of an example's folder. `None`, said aloud, where this machine cannot build it.
    fn new(name: &str, programs: &[&str], folder_of_programs: &str) -> Option<Self> {
        let path = format!("{folder_of_programs}:{PATH}");
        for program in programs {
            let is_there = |folder: &str| Path::new(folder).join(program).exists();
            if !path.split(':').any(is_there) {
                missing(program);
                return None;
            }
        }
        // Says aloud if this machine runs no containers.
        let sandbox = Sandbox::with_base()?;
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let copied = Command::new("cp").arg("-r").arg(from).arg(sandbox.at("example")).status();
        assert!(copied.unwrap().success());
        // The program by its name, with the sandbox's store.
        let script = format!("#!/bin/sh\nexec {CONEX} --root '{}' \"$@\"\n", sandbox.text("store"));
        sandbox.write_mode("bin/conex", script, 0o755);
        let path = format!("{}:{path}", sandbox.text("bin"));
        Some(Self { sandbox, path })
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(self.sandbox.at("example")).env_clear();
        command.env("PATH", &self.path).env("HOME", self.sandbox.path()).stdin(Stdio::null());
        command
    }

    /// Runs a script in the example's folder.
    fn run(&self, script: &str, stdin: &str) -> Ended {
        ended(&feed(self.command(script), stdin.as_bytes()))
    }

    /// The same for one that must succeed. Gives all that was printed.
    #[track_caller]
    fn ok(&self, script: &str, stdin: &str) -> String {
        let ended = self.run(script, stdin);
        assert_eq!(ended.code, 0, "{script}\n{}{}", ended.out, ended.err);
        ended.out + &ended.err
    }

    /// Runs what the page says.
    fn follow_page(&self) {
        let page = fs::read_to_string(self.sandbox.at("example/README.md")).unwrap();
        let section = match page.split_once(SECTION) {
            Some((_, rest)) => rest.split("\n## ").next().unwrap(),
            None => &page,
        };
        let mut blocks = section.split("```sh\n").skip(1).peekable();
        assert!(blocks.peek().is_some(), "the page shows no command");
        for block in blocks {
            self.ok(block.split("```").next().unwrap(), "");
        }
    }
}

#[test]
fn every_example_has_its_page_its_test_and_the_way_from_docker() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let tests = include_str!("examples.rs");
    let list = fs::read_to_string(examples.join("README.md")).unwrap();
    let mut count = 0;
    for entry in fs::read_dir(&examples).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        let page = fs::read_to_string(entry.path().join("README.md")).unwrap();
        assert!(page.contains("Coming from docker:"), "{name}");
        assert!(tests.contains(&format!("Example::new(\"{name}\"")), "{name}");
        assert!(list.contains(&format!("({name}/README.md)")), "{name}");
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn hello_multistage_is_built_and_run() {
    let Some(example) = Example::new("hello-multistage", &["sh", "sed", "wc"], "") else { return };
    example.follow_page();
    assert!(example.ok("conex run --rm hello", "").contains("different words on the whole site"));
    let ended = example.run("conex run --rm hello nosuch", "");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("no page nosuch; there are: index stages"), "{}", ended.err);
    // One page changed: the others are kept by the cache mount.
    let changed = "echo more >> pages/index.txt && conex build --progress=plain -t hello .";
    let shown = example.ok(changed, "");
    assert!(shown.contains("index: made") && shown.contains("stages: kept"), "{shown}");
    // What nothing but the title depends on stays.
    let shown = example.ok("conex build --progress=plain --build-arg TITLE=Bonjour -t hello .", "");
    assert!(shown.contains("CACHED"), "{shown}");
    assert!(example.ok("conex run --rm hello", "").contains("Bonjour"));
    let health = example.ok("conex inspect --format '{{json .Config.Healthcheck}}' hello", "");
    assert!(health.contains("index.html"), "{health}");
}

#[test]
fn c_scratch_is_built_and_run() {
    let Some(example) = Example::new("c-scratch", &["gcc", "make"], "") else { return };
    example.follow_page();
    let words = example.ok("conex run --rm -i wordfreq", "b a b\nb c a\n");
    let words: Vec<&str> = words.split_whitespace().collect();
    assert!(words.contains(&"b") && words.contains(&"3"), "{words:?}");
    let layers = "conex inspect --format '{{len .RootFS.Layers}} {{.Config.User}}' wordfreq";
    assert_eq!(example.ok(layers, "").trim(), "1 65534:65534");
    let tested = "conex build --progress=plain --build-arg BASE=local/c --target test .";
    let shown = example.ok(tested, "");
    assert!(shown.contains("CACHED") && shown.contains("sh tests.sh"), "{shown}");
    // A file that `.dockerignore` leaves out changes nothing.
    let again = "touch stray && conex build --progress=plain --build-arg BASE=local/c .";
    let shown = example.ok(again, "");
    assert!(!shown.contains("DONE 0.2") && shown.matches("CACHED").count() >= 5, "{shown}");
    // What is wrong with the sources is shown where it is.
    let broken = "echo 'int x = ;' >> src/main.c && conex build --build-arg BASE=local/c .";
    let ended = example.run(broken, "");
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("src/main.c") && ended.err.contains("Dockerfile:"), "{}", ended.err);
}

#[test]
fn python_service_is_built_tested_and_serves() {
    let programs = ["python3"];
    let Some(example) = Example::new("python-service", &programs, "") else { return };
    let has = "import setuptools, wheel, venv, pip";
    let tried = Command::new("python3").args(["-c", has]).env("PATH", PATH).output().unwrap();
    if !tried.status.success() {
        return missing("pip and setuptools for Python 3");
    }
    example.follow_page();
    let arguments = "--build-arg BASE=local/python --build-arg PIP_OPTIONS=--no-build-isolation";
    let tested = format!("conex build --progress=plain {arguments} --target test .");
    let shown = example.ok(&tested, "");
    assert!(shown.contains("OK"), "{shown}");
    let caches = example.ok("conex cache ls", "");
    assert!(caches.contains("/root/.cache/pip"), "{caches}");
    // It serves, with its own user and its volume.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = format!(
        "exec conex run --rm --network host notes notes-service --host 127.0.0.1 --port {port} --folder /data"
    );
    let mut service = example.command(&line).stdout(Stdio::null()).spawn().unwrap();
    let ask = |request: &str| -> String {
        let began = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(stream) => break stream,
                Err(error) if began.elapsed() > Duration::from_secs(30) => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let put = ask("PUT /first HTTP/1.0\r\nContent-Length: 9\r\n\r\ntwo words");
    let got = ask("GET /first HTTP/1.0\r\n\r\n");
    let killed = Command::new("kill").args(["-INT", &service.id().to_string()]).status();
    let code = service.wait().unwrap();
    assert!(put.contains(" 20"), "{put}");
    assert!(got.contains("two words"), "{got}");
    assert!(killed.unwrap().success());
    assert!(code.code().is_some(), "{code}");
}

#[test]
fn node_frontend_is_built_tested_and_exported() {
    let Some(example) = Example::new("node-frontend", &["node", "npm"], "") else { return };
    example.follow_page();
    let files = example.ok("ls dist", "");
    assert!(files.contains("index.html"), "{files}");
    let arguments = "--progress=plain --build-arg BASE=local/node";
    let shown = example.ok(&format!("conex build {arguments} --target test ."), "");
    assert!(shown.contains("pass"), "{shown}");
    // Another source file: nothing is installed again.
    let again = format!(
        "echo '// more' >> src/main.js && conex build {arguments} --target dist --output dist ."
    );
    let shown = example.ok(&again, "");
    let install = shown.lines().find(|line| line.contains("npm ci")).unwrap();
    let number = install.split(' ').next().unwrap();
    assert!(shown.contains(&format!("{number} CACHED")), "{shown}");
    assert!(example.ok("cat dist/*.js dist/*/*.js 2>/dev/null || cat dist/*", "").contains("more"));
    // A server for the image itself: any image does.
    let server = format!("conex build {arguments} --build-arg SERVER=base -t frontend .");
    example.ok(&server, "");
    let served = example.ok("conex run --rm frontend ls /usr/share/nginx/html", "");
    assert!(served.contains("index.html"), "{served}");
}

#[test]
fn rust_workspace_is_built_tested_and_built_again_by_its_caches() {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let Ok(sysroot) = sysroot else {
        // Whoever runs the tests of a program that others compiled may have no compiler.
        assert!(!is_ci() || !crate::sandbox::is_root(), "there is no rustc");
        return eprintln!("skipped: there is no rustc");
    };
    let sysroot = String::from_utf8(sysroot.stdout).unwrap().trim().to_owned();
    if !Path::new(&sysroot).join("bin/cargo").exists() {
        return eprintln!("skipped: the toolchain is not rustup's");
    }
    let folder = format!("{sysroot}/bin");
    let programs = ["rustc", "cargo", "gcc"];
    let Some(example) = Example::new("rust-workspace", &programs, &folder) else { return };
    example.follow_page();
    let log = "127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n";
    let said = example.ok("conex run --rm -i logstat", log);
    assert!(said.contains("200"), "{said}");
    let arguments =
        "--progress=plain --build-arg BASE=local/rust --build-arg RUNTIME=local/runtime";
    // One line of one crate: the other is not compiled again.
    let change = "echo '// more' >> crates/logstat/src/main.rs";
    let shown = example.ok(&format!("{change} && conex build {arguments} ."), "");
    assert!(shown.contains("Compiling logstat") && !shown.contains("Compiling tally"), "{shown}");
    let shown = example.ok(&format!("conex build {arguments} --target test ."), "");
    assert!(shown.contains("test result: ok"), "{shown}");
    assert!(program("gcc").is_some());
}
