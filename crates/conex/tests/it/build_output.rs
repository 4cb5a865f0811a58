//! Where Dockerfiles and contexts come from and where results go.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::sandbox::{Sandbox, ended, missing, program};

const FILE: &str = "FROM base\nCOPY f /f\nRUN [ $(cat /f) = content ]\n";

fn tar(folder: &Path) -> Vec<u8> {
    let output = Command::new("tar").arg("-C").arg(folder).args(["-cf", "-", "."]).output();
    let output = output.unwrap();
    assert!(output.status.success());
    output.stdout
}

pub(crate) fn git(folder: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.args([
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.com",
        "-c",
        "init.defaultBranch=main",
    ]);
    git.args(["-c", "commit.gpgsign=false"]).args(args).current_dir(folder).env("HOME", folder);
    let output = git.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Serves files on the loopback interface until the tests end. Gives the address.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..count]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let found = files.iter().find(|(name, _)| *name == path);
            let (status, body) =
                found.map_or(("404 Not Found", &[][..]), |(_, body)| ("200 OK", &body[..]));
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"v1\"\r\nConnection: close\r\n\
                 Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n",
                body.len()
            );
            // A client may go away early.
            drop(stream.write_all(head.as_bytes()));
            if !request.starts_with("HEAD") {
                drop(stream.write_all(body));
            }
        }
    });
    format!("http://{address}")
}

/// Serves the repositories of a folder on the loopback interface.
struct GitServer {
    url: String,
    running: std::process::Child,
}

impl GitServer {
    fn start(folder: &Path) -> Self {
        // Free a moment ago; nobody else is likely to take it at once.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let running = Command::new("git")
            .args(["daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", folder.display()))
            .env("HOME", folder)
            .process_group(0)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Self { url: format!("git://127.0.0.1:{port}"), running }
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        // `git` starts the server as a child of its own.
        let group = format!("-{}", self.running.id());
        drop(Command::new("kill").args(["--", &group]).status());
        drop(self.running.wait());
    }
}

#[test]
fn contexts_come_from_anywhere() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("context/f", "content");
    sandbox.write("context/Dockerfile", FILE);
    sandbox.write("context/other/My.Dockerfile", FILE);
    let context = sandbox.text("context");
    let want = sandbox.ok(&["build", "-q", &context]);
    let bytes = tar(&sandbox.at("context"));
    // A tar on standard input, plain and packed; a Dockerfile of another name in it.
    let same = |args: &[&str], stdin: &[u8]| {
        let ended = sandbox.conex_with(args, stdin);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.err);
        assert_eq!(ended.out, want, "{args:?}");
    };
    same(&["build", "-q", "-"], &bytes);
    same(&["build", "-q", "-f", "other/My.Dockerfile", "-"], &bytes);
    same(&["build", "-q", "-f", "-", &context], FILE.as_bytes());
    same(&["build", "-q", "-f", "other/My.Dockerfile", &context], b"");
    // A lone Dockerfile has no context.
    let ended = sandbox.conex_with(&["build", "-q", "-"], b"FROM base\nRUN true\n");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let ended = sandbox.conex_with(&["build", "-q", "-"], FILE.as_bytes());
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("context"), "{}", ended.err);
    let both = sandbox.conex_with(&["build", "-f", "-", "-"], b"");
    assert_ne!(both.code, 0);
    let server =
        serve(vec![("/ctx.tar", bytes), ("/Dockerfile", b"FROM base\nRUN true\n".to_vec())]);
    same(&["build", "-q", &format!("{server}/ctx.tar")], b"");
    sandbox.ok(&["build", "-q", &format!("{server}/Dockerfile")]);
    sandbox.fails(1, &["build", "-q", &format!("{server}/nosuch")]);
    for (context, text) in [("nosuch", "nosuch"), ("context/Dockerfile", "-f Dockerfile")] {
        let shown = sandbox.fails(1, &["build", context]);
        assert!(shown.contains(text), "{shown}");
    }
}

#[test]
fn repositories_are_contexts_and_sources() {
    if program("git").is_none() {
        return missing("git");
    }
    let Some(sandbox) = Sandbox::with_base() else { return };
    let repo = sandbox.folder("repo.git");
    sandbox.write("repo.git/f", "content");
    sandbox.write("repo.git/Dockerfile", FILE);
    sandbox.write("repo.git/sub/f", "sub");
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "one"]);
    git(&repo, &["tag", "v1"]);
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&repo).output();
    let first = ended(&commit.unwrap()).out.trim().to_owned();
    sandbox.write("repo.git/f", "newer");
    git(&repo, &["commit", "-q", "-a", "-m", "two"]);
    let served = GitServer::start(sandbox.path());
    let url = format!("{}/repo.git", served.url);
    let ended = sandbox.conex(&["build", "-q", &format!("{url}#v1")]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let ended = sandbox.conex(&["build", "-q", &url]);
    assert_eq!(ended.code, 1, "the newer file differs");
    for (source, check) in [
        (
            format!("{url}#v1"),
            "[ $(cat /d/f) = content ] && [ ! -e /d/.git ] && [ $(stat -c %a /d/f) = 644 ]",
        ),
        (format!("{url}#main:sub"), "[ $(cat /d/f) = sub ]"),
        (format!("--keep-git-dir=true {url}"), "[ -e /d/.git ]"),
        (format!("{url}?keep-git-dir=true&tag=v1"), "[ -e /d/.git ] && [ $(cat /d/f) = content ]"),
        (format!("{url}?branch=main&subdir=sub"), "[ $(cat /d/f) = sub ] && [ ! -e /d/.git ]"),
        (format!("--checksum={first} {url}#v1"), "[ $(cat /d/f) = content ]"),
        (format!("--checksum={} {url}#v1", &first[..12]), "[ $(cat /d/f) = content ]"),
        (format!("{url}?tag=v1&checksum={first}"), "[ $(cat /d/f) = content ]"),
        (format!("{url}#{first}"), "[ $(cat /d/f) = content ]"),
        (format!("--chown=7:8 --chmod=600 {url}#v1"), "[ $(stat -c %a:%u:%g /d/f) = 600:7:8 ]"),
    ] {
        sandbox.built(&format!("FROM base\nADD {source} /d\nRUN {check}\n"), &[]);
    }
    for (source, text) in [
        (format!("--checksum={first} {url}#main"), first.as_str()),
        (format!("{url}?checksum={}", "0".repeat(40)), "wanted"),
        (format!("{url}#nosuch"), "`nosuch`"),
        (format!("{url}#main:nosuch"), "`nosuch`"),
        (format!("{url}#main:../.."), "`../..`"),
        (format!("{url}?nosuch=1"), "`nosuch`"),
    ] {
        let ended = sandbox.build(&format!("FROM base\nADD {source} /d\n"), &[]);
        assert_eq!(ended.code, 1, "{source}: {}", ended.err);
        assert!(ended.err.contains(text) && ended.err.contains("-:2"), "{text}: {}", ended.err);
    }
}

#[test]
fn files_of_other_machines_are_added() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("pack/x", "x");
    let bytes = tar(&sandbox.at("pack"));
    let server = serve(vec![
        ("/dir/file", b"content".to_vec()),
        ("/pack.tar", bytes),
        ("/", b"root".to_vec()),
    ]);
    // SHA-256 of `content`.
    let digest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    for lines in [
        format!(
            "ADD {server}/dir/file /d/\nRUN [ $(cat /d/file) = content ] && [ $(stat -c %a:%u /d/file) = 600:0 ]\n"
        ),
        format!(
            "ADD --chmod=644 --chown=7 {server}/dir/file /f\nRUN [ $(stat -c %a:%u /f) = 644:7 ]\n"
        ),
        format!("ADD {server}/pack.tar /d/\nRUN [ -f /d/pack.tar ]\n"),
        format!("ADD --unpack {server}/pack.tar /d/\nRUN [ $(cat /d/x) = x ]\n"),
        format!("ADD --checksum={digest} {server}/dir/file /f\nRUN [ -e /f ]\n"),
    ] {
        sandbox.built(&format!("FROM base\n{lines}"), &[]);
    }
    let wrong = digest.replace('7', "8");
    for (lines, text) in [
        (format!("ADD --checksum={wrong} {server}/dir/file /f\n"), "wanted"),
        (format!("ADD {server}/nosuch /f\n"), "404"),
        (format!("COPY {server}/dir/file /f\n"), "COPY"),
    ] {
        let ended = sandbox.build(&format!("FROM base\n{lines}"), &[]);
        assert_eq!(ended.code, 1, "{lines}{}", ended.err);
        assert!(ended.err.contains(text) && ended.err.contains("-:2"), "{text}: {}", ended.err);
    }
    let again = sandbox.built(&format!("FROM base\nADD {server}/dir/file /again\n"), &[]);
    assert!(!again.contains("#2 CACHED"), "{again}");
    let again = sandbox.built(&format!("FROM base\nADD {server}/dir/file /again\n"), &[]);
    assert!(again.contains("#2 CACHED"), "{again}");
}

#[test]
fn named_contexts_replace_what_has_their_name() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("other/f", "other");
    let layout = sandbox.text("layout");
    sandbox.built(
        "FROM base\nRUN echo image > /f\n",
        &["-t", "img:1", "-o", &format!("type=oci,tar=false,dest={layout}"), "-o", "type=image"],
    );
    let id = sandbox.id("img:1");
    let index = std::fs::read_to_string(sandbox.at("layout/index.json")).unwrap();
    let digest = index.split("\"digest\":\"").nth(1).unwrap().split('"').next().unwrap();
    let folder = format!("other={}", sandbox.text("other"));
    let test = |wanted: &str| {
        format!(
            "FROM base AS stage\nRUN echo stage > /f\nFROM base\nCOPY --from=other /f /g\nRUN [ $(cat /g) = {wanted} ]\n"
        )
    };
    for (context, wanted) in [
        (folder.clone(), "other"),
        ("other=docker-image://img:1".to_owned(), "image"),
        ("other=target:stage".to_owned(), "stage"),
        (format!("other=oci-layout://{layout}"), "image"),
        (format!("other=oci-layout://{layout}@{digest}"), "image"),
    ] {
        sandbox.built(&test(wanted), &["--build-context", &context]);
    }
    sandbox.built(
        "FROM nosuch\nRUN [ $(cat /f) = image ]\n",
        &["--build-context", "nosuch=docker-image://img:1"],
    );
    sandbox.built(
        "FROM base AS one\nRUN false\nFROM one\nRUN [ $(cat /f) = image ]\n",
        &["--build-context", "one=docker-image://img:1"],
    );
    sandbox.built(
        "FROM base\nRUN --mount=from=other,target=/m [ $(cat /m/f) = other ]\n",
        &["--build-context", &folder],
    );
    for (context, text) in [
        (format!("other=oci-layout://{layout}@sha256:{}", "0".repeat(64)), "layout"),
        ("other=nosuchfolder".to_owned(), "nosuchfolder"),
        ("other=target:nosuch".to_owned(), "nosuch"),
    ] {
        let ended = sandbox.build(&test("x"), &["--build-context", &context]);
        assert_eq!(ended.code, 1, "{context}: {}", ended.err);
        assert!(ended.err.contains(text), "{context}: {}", ended.err);
    }
    assert_eq!(sandbox.build(&test("x"), &["--build-context", "other"]).code, 2);
    assert!(!id.is_empty());
}

#[test]
fn results_go_where_output_says() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let file = "FROM base\nRUN mkdir /o && echo x > /o/f && chown 5:6 /o/f\nLABEL a=1\n";
    let dest = |kind: &str, name: &str| format!("type={kind},dest={}", sandbox.text(name));
    sandbox.built(
        file,
        &[
            "-t",
            "it:1",
            "-o",
            &dest("oci", "oci.tar"),
            "-o",
            &dest("docker", "docker.tar"),
            "-o",
            &dest("tar", "rootfs.tar"),
            "-o",
            &dest("local", "rootfs"),
            "-o",
            "type=image",
            "--iidfile",
            &sandbox.text("iid"),
            "--metadata-file",
            &sandbox.text("meta.json"),
        ],
    );
    let id = sandbox.id("it:1");
    assert_eq!(std::fs::read_to_string(sandbox.at("iid")).unwrap(), id);
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(sandbox.at("meta.json")).unwrap()).unwrap();
    assert_eq!(meta["containerimage.config.digest"], id.as_str(), "{meta}");
    assert_eq!(std::fs::read_to_string(sandbox.at("rootfs/o/f")).unwrap(), "x\n");
    let list = Command::new("tar")
        .args(["--numeric-owner", "-tvf"])
        .arg(sandbox.at("rootfs.tar"))
        .output()
        .unwrap();
    assert!(ended(&list).out.lines().any(|line| line.contains("5/6") && line.ends_with(" o/f")));
    // Both archives come back as the image that they were made of.
    for name in ["oci.tar", "docker.tar"] {
        let fresh = Sandbox::new();
        fresh.ok(&["load", "-i", &sandbox.text(name)]);
        assert_eq!(fresh.id("it:1"), id, "{name}");
    }
    let ended = sandbox.build(file, &["-o", "-"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.out.len() > 10_000);
    assert_eq!(sandbox.build(file, &["-o", "type=nosuch"]).code, 2);
    assert!(sandbox.build(file, &["-o", "type=oci"]).out.contains("oci-layout"));
    if program("skopeo").is_none() {
        return missing("skopeo");
    }
    for archive in ["oci-archive:oci.tar", "docker-archive:docker.tar"] {
        let shown = Command::new("skopeo")
            .args(["inspect", "--config", archive])
            .current_dir(sandbox.path())
            .output()
            .unwrap();
        assert!(shown.status.success(), "{shown:?}");
        assert!(String::from_utf8_lossy(&shown.stdout).contains("\"a\": \"1\""), "{shown:?}");
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q", archive])
            .arg(format!("dir:copy-{}", &archive[..3]))
            .current_dir(sandbox.path())
            .output()
            .unwrap();
        assert!(copied.status.success(), "{copied:?}");
    }
}

#[test]
fn a_check_of_buildkits_rules_builds_nothing_and_answers_as_docker_does() {
    let sandbox = Sandbox::new();
    for flag in ["--check=buildkit", "--call=check"] {
        let ended = sandbox.build("FROM nosuchimage\nRUN cd /a\n", &[flag]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert_eq!(ended.out, "Check complete, no warnings found.\n");
        let ended = sandbox.build("FROM nosuchimage as a\nMAINTAINER me\n", &[flag]);
        assert_eq!(ended.code, 1, "{}", ended.err);
        for part in ["FromAsCasing", "MaintainerDeprecated", "2 warnings have been found"] {
            assert!(ended.out.contains(part), "{part}: {}", ended.out);
        }
    }
    assert!(!sandbox.at("store").exists());
}

#[test]
fn a_check_asks_what_lint_asks_and_knows_what_a_build_knows() {
    let sandbox = Sandbox::new();
    let text = "ARG base\nFROM $base AS a\nCOPY --from=tools /x /x\nRUN cd /a && make -C /b\n\
                COPY . /app\n";
    sandbox.write("context/.git/HEAD", "");
    let codes = |ended: &crate::sandbox::Ended| {
        let found: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        let found = found.as_array().unwrap().clone();
        let code = |one: &serde_json::Value| one["code"].as_str().unwrap().to_owned();
        found.iter().map(code).collect::<Vec<_>>()
    };
    let ended = sandbox.build(text, &["--check=format=json", "--build-arg", "base=debian"]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert_eq!(codes(&ended), ["InvalidDefaultArgInFrom", "DL3022", "DL3003", "ContextNotIgnored"]);
    // A context of another name is no image; settings count.
    sandbox.write(".hadolint.yaml", "ignored: [DL3003, InvalidDefaultArgInFrom]\n");
    let known = ["--check=format=json", "--build-context", "tools=/nowhere"];
    let ended = sandbox.build(text, &known);
    assert_eq!((ended.code, codes(&ended)), (0, vec!["ContextNotIgnored".to_owned()]));
    // Mistakes are findings, with the codes that hadolint has for them.
    let ended = sandbox.build("FROM a:1\nEXPOSE 99999\nMAINTAINER me\n", &["--check"]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(ended.out.contains("DL3011") && ended.out.contains("DL4000"), "{}", ended.out);
    for wrong in ["--check=all,format=json", "--call=outline", "--check=format=colour"] {
        assert_eq!(sandbox.build("FROM a:1\n", &[wrong]).code, 2, "{wrong}");
    }
    let ended = sandbox.conex_with(&["build", "--check", "-"], b"FROM debian\n");
    assert!(ended.code == 3 && ended.out.contains("ImageWithoutTag"), "{}", ended.err);
    assert!(!sandbox.at("store").exists());
}

#[test]
fn several_platforms_make_an_index() {
    let sandbox = Sandbox::new();
    sandbox.write("context/f", "x");
    let file = "FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\n";
    sandbox.built(
        file,
        &[
            "-t",
            "multi",
            "--platform",
            "linux/amd64,linux/arm64",
            "-o",
            &format!("type=oci,dest={}", sandbox.text("m.tar")),
            "-o",
            "type=image",
        ],
    );
    let list = Command::new("tar")
        .arg("-xOf")
        .arg(sandbox.at("m.tar"))
        .arg("index.json")
        .output()
        .unwrap();
    assert!(ended(&list).out.contains("image.index"));
    let ended = sandbox.build("FROM scratch\nRUN [\"/x\"]\n", &["--platform", "linux/s390x"]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("s390x"), "{}", ended.err);
}
