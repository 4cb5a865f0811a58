//! docker, podman, buildah and skopeo as Debian has them: they log in, push, pull and delete, with
//! and without TLS and passwords.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use conex_oci::Digest;
use conex_registry::{Anonymous, Tls};

use crate::client::{CONFIG, LAYER, MANIFEST};
use crate::server::{Registry, missing, options, program};

/// How the registry is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Plainly,
    WithTlsAndPassword,
    /// The same, but whoever has no name may pull.
    WithTokens,
}

const ALL: [Reached; 3] = [Reached::Plainly, Reached::WithTlsAndPassword, Reached::WithTokens];

/// A registry with an image, and a folder for a client's things.
struct Place {
    folder: tempfile::TempDir,
    registry: Option<Registry>,
    address: SocketAddr,
    certs: PathBuf,
    reached: Reached,
}

impl Place {
    fn new(reached: Reached) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let registry = Registry::start(&data);
        push_real_image(&registry, folder.path());
        drop(registry);
        let mut options = options(&data);
        let certs = folder.path().join("certs");
        std::fs::create_dir(&certs).unwrap();
        std::fs::write(folder.path().join("auth.json"), "{}").unwrap();
        if reached != Reached::Plainly {
            let users = folder.path().join("users");
            std::fs::write(&users, format!("ana:{}\n", bcrypt::hash("secret", 4).unwrap()))
                .unwrap();
            options.users = Some(users);
            options.anonymous = match reached {
                Reached::WithTokens => Anonymous::Pull,
                _ => Anonymous::None,
            };
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            options.tls = Some(Tls::SelfSigned { folder: data.join("tls"), names });
        }
        let registry = Registry::with(options);
        let address = registry.client.address.parse().unwrap();
        if reached != Reached::Plainly {
            std::fs::copy(data.join("tls/cert.pem"), certs.join("ca.crt")).unwrap();
        }
        Self { folder, registry: Some(registry), address, certs, reached }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        command.env("REGISTRY_AUTH_FILE", self.at("auth.json"));
        command.env("DOCKER_CONFIG", self.at("docker"));
        command.env("HOME", self.folder.path());
        command.output().unwrap()
    }

    #[track_caller]
    fn ok(&self, program: &str, args: &[&str]) -> String {
        let output = self.run(program, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}\n{:?}", self.trouble());
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, program: &str, args: &[&str]) -> String {
        let output = self.run(program, args);
        assert!(!output.status.success(), "{program} {args:?} did not fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn trouble(&self) -> Vec<String> {
        self.registry.as_ref().unwrap().trouble.lock().unwrap().clone()
    }

    /// What tools of containers/image want to hear about certificates.
    fn tls(&self, option: &str) -> String {
        match self.reached {
            Reached::Plainly => format!("--{option}tls-verify=false"),
            Reached::WithTlsAndPassword | Reached::WithTokens => {
                format!("--{option}cert-dir={}", self.certs.to_str().unwrap())
            }
        }
    }

    /// Logs in, where one must, after a wrong password was refused.
    fn log_in(&self, program: &str, more: &[&str]) {
        if self.reached == Reached::Plainly {
            return;
        }
        let address = self.address.to_string();
        let login = |password| {
            let mut args = more.to_vec();
            args.extend(["login", "-u", "ana", "-p", password]);
            let tls = self.tls("");
            if program != "docker" {
                args.push(&tls);
            }
            args.push(&address);
            self.run(program, &args)
        };
        assert!(!login("wrong").status.success(), "{program} logs in with a wrong password");
        let output = login("secret");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} login: {said}");
    }
}

/// Pushes an image with a layer that clients can unpack.
fn push_real_image(registry: &Registry, folder: &Path) {
    let client = &registry.client;
    let root = folder.join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("hello"), "hello\n").unwrap();
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        output.stdout
    };
    let tar = run("tar", &["-C", root.to_str().unwrap(), "-c", "hello"]);
    let file = folder.join("layer.tar");
    std::fs::write(&file, &tar).unwrap();
    let layer = run("gzip", &["-nc", file.to_str().unwrap()]);
    let layer_digest = client.push_blob("seed", &layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(&tar)
    );
    let config_digest = client.push_blob("seed", config.as_bytes());
    let (config_size, layer_size) = (config.len(), layer.len());
    let bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}",
        "config":{{"mediaType":"{CONFIG}","digest":"{config_digest}","size":{config_size}}},
        "layers":[{{"mediaType":"{LAYER}","digest":"{layer_digest}","size":{layer_size}}}]}}"#
    );
    let reply = client.push_manifest("seed", "1", MANIFEST, bytes.as_bytes());
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[test]
fn skopeo_copies_lists_and_deletes() {
    if program("skopeo").is_none() {
        return missing("skopeo");
    }
    for reached in ALL {
        let place = Place::new(reached);
        let seed = format!("docker://{}", place.image("seed:1"));
        if reached == Reached::WithTlsAndPassword {
            let said = place.fails("skopeo", &["inspect", &place.tls(""), &seed]);
            assert!(
                said.contains("authentication required") || said.contains("unauthorized"),
                "{said}"
            );
        }
        place.log_in("skopeo", &[]);
        let (from, to) = (place.tls("src-"), place.tls("dest-"));
        let layout = format!("oci:{}:x", place.at("layout"));
        if reached == Reached::WithTokens {
            let from = place.tls("src-");
            let other = format!("oci:{}:x", place.at("anonymous"));
            place.ok("skopeo", &["copy", "--src-no-creds", &from, &seed, &other]);
        }
        place.ok("skopeo", &["copy", &from, &seed, &layout]);
        for format in ["oci", "v2s2"] {
            let target = format!("docker://{}", place.image(&format!("from/skopeo:{format}")));
            place.ok("skopeo", &["copy", "--format", format, &to, &layout, &target]);
            place.ok("skopeo", &["inspect", &place.tls(""), &target]);
        }
        // From one repository to another: blobs are mounted.
        let other = format!("docker://{}", place.image("other/skopeo:1"));
        place.ok("skopeo", &["copy", &from, &to, &seed, &other]);
        let name = format!("docker://{}", place.image("from/skopeo"));
        let tags = place.ok("skopeo", &["list-tags", &place.tls(""), &name]);
        let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
        assert_eq!(tags["Tags"], serde_json::json!(["oci", "v2s2"]));
        place.ok("skopeo", &["delete", &place.tls(""), &other]);
        place.fails("skopeo", &["inspect", &place.tls(""), &other]);
        assert_eq!(place.trouble(), Vec::<String>::new());
    }
}

/// Options that keep a tool of containers/storage in a folder.
fn storage(place: &Place) -> Vec<String> {
    vec![
        format!("--root={}", place.at("storage")),
        format!("--runroot={}", place.at("run")),
        "--storage-driver=vfs".to_owned(),
    ]
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn podman_and_buildah_push_and_pull() {
    if !is_root() {
        eprintln!("skipped: podman and buildah are tried as root");
        return;
    }
    for tool in ["podman", "buildah"] {
        if program(tool).is_none() {
            missing(tool);
            continue;
        }
        for reached in ALL {
            let place = Place::new(reached);
            let storage = storage(&place);
            let storage: Vec<&str> = storage.iter().map(String::as_str).collect();
            place.log_in(tool, &storage);
            let tls = place.tls("");
            let run = |args: &[&str]| place.ok(tool, &[&storage, args].concat());
            let (seed, own) = (place.image("seed:1"), place.image(&format!("from/{tool}:1")));
            run(&["pull", &tls, &seed]);
            run(&["tag", &seed, &own]);
            run(&["push", &tls, &own]);
            run(&["push", "--format=v2s2", &tls, &own]);
            run(&["rmi", &own, &seed]);
            run(&["pull", &tls, &own]);
            assert_eq!(place.trouble(), Vec::<String>::new());
        }
    }
}

/// A docker daemon of our own.
struct Docker {
    daemon: Child,
    socket: String,
}

impl Docker {
    fn start(folder: &Path) -> Option<Self> {
        for name in ["docker", "dockerd"] {
            if program(name).is_none() {
                missing(name);
                return None;
            }
        }
        let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let socket = format!("unix://{}", at("d.sock"));
        let log = std::fs::File::create(folder.join("dockerd.log")).unwrap();
        let mut command = Command::new("dockerd");
        command
            .args(["--data-root", &at("docker-data"), "--exec-root", &at("docker-exec")])
            .args(["--pidfile", &at("d.pid"), "-H", &socket, "--storage-driver", "vfs"])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .stdout(Stdio::null())
            .stderr(log);
        let daemon = command.spawn().unwrap();
        let mut docker = Self { daemon, socket };
        let began = Instant::now();
        while !docker.answers() {
            let ended = docker.daemon.try_wait().unwrap();
            if ended.is_some() || began.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(folder.join("dockerd.log")).unwrap();
                assert!(std::env::var_os("CI").is_none(), "dockerd does not start: {log}");
                eprintln!("skipped: dockerd does not start here");
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(docker)
    }

    fn answers(&self) -> bool {
        let mut command = Command::new("docker");
        command.args(["-H", &self.socket, "version"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.daemon.id()).unwrap()).unwrap();
        // It ends containerd too, which SIGKILL would not.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

#[test]
fn docker_pushes_and_pulls() {
    if !is_root() {
        eprintln!("skipped: docker's daemon is tried as root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(docker) = Docker::start(folder.path()) else { return };
    for reached in ALL {
        let place = Place::new(reached);
        // Registries on loopback need no trusted certificate there.
        let run = |args: &[&str]| place.ok("docker", &[&["-H", &docker.socket], args].concat());
        let (seed, own) = (place.image("seed:1"), place.image("from/docker:1"));
        if reached == Reached::WithTlsAndPassword {
            place.fails("docker", &["-H", &docker.socket, "pull", &seed]);
        } else {
            run(&["pull", &seed]);
            run(&["tag", &seed, &own]);
        }
        if reached == Reached::WithTokens {
            place.fails("docker", &["-H", &docker.socket, "push", &own]);
        }
        place.log_in("docker", &["-H", &docker.socket]);
        run(&["pull", &seed]);
        run(&["tag", &seed, &own]);
        let pushed = run(&["push", &own]);
        assert!(pushed.contains("digest: sha256:"), "{pushed}");
        run(&["rmi", &own, &seed]);
        run(&["pull", &own]);
        run(&["rmi", &own]);
        assert_eq!(place.trouble(), Vec::<String>::new());
    }
}
