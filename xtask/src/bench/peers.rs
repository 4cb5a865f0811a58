//! The tools that are measured, each with a store of its own and the same base image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Options, command, workload};
use crate::shell::{self, Result, has_program, output, program, quietly};

/// The base image's name in every store.
pub(crate) const BASE: &str = "bench-base";

/// Where everything is measured.
pub(crate) struct Lab {
    pub(crate) dir: PathBuf,
    pub(crate) base: PathBuf,
    pub(crate) conex: PathBuf,
    without: Vec<String>,
    docker: std::result::Result<Docker, String>,
    buildkit: std::result::Result<BuildKit, String>,
    /// The runtime that works here for buildah and podman.
    runtime: &'static str,
}

/// A docker daemon: one that ran before, or one of our own.
struct Docker {
    address: Option<String>,
    daemon: Option<Child>,
}

/// BuildKit's daemon, started from binaries that were given.
struct BuildKit {
    buildctl: PathBuf,
    address: String,
    daemon: Child,
}

impl Lab {
    /// Makes the base image and gives it to every tool that is here.
    pub(crate) fn set_up(options: &Options, conex: PathBuf) -> Result<Self> {
        let dir = fs::canonicalize(&options.dir).map_err(|error| error.to_string())?;
        let base = match &options.base {
            Some(file) => fs::canonicalize(file).map_err(|error| error.to_string())?,
            None => debian(&dir)?,
        };
        let is_wanted = |name: &str| !options.without.iter().any(|one| one == name);
        let runtime = if has_program("runc") { "runc" } else { "crun" };
        let mut lab = Self {
            docker: Err("left out".to_owned()),
            buildkit: Err("left out".to_owned()),
            without: options.without.clone(),
            dir,
            base,
            conex,
            runtime,
        };
        if is_wanted("docker") {
            lab.docker = lab.start_docker();
        }
        if is_wanted("buildkit") {
            lab.buildkit = lab.start_buildkit();
        }
        lab.give_base()?;
        Ok(lab)
    }

    /// Where a contestant's output goes.
    pub(crate) fn log(&self) -> &'static Path {
        // Leaked once a run: the closures that measure want to outlive every borrow.
        Box::leak(self.dir.join("last.log").into_boxed_path())
    }

    /// Why a tool cannot take part, if it cannot.
    pub(crate) fn absence(&self, tool: &str) -> Option<String> {
        if self.without.iter().any(|one| one == tool) {
            return Some("left out".to_owned());
        }
        match tool {
            "conex" => (!self.conex.is_file()).then(|| "not built".to_owned()),
            "docker" => self.docker.as_ref().err().cloned(),
            "buildkit" => self.buildkit.as_ref().err().cloned(),
            other => (!has_program(other)).then(|| "not installed".to_owned()),
        }
    }

    /// Begins a command of a tool, with its store.
    pub(crate) fn tool(&self, tool: &str) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let store = self.dir.join("containers/store").display().to_string();
        let state = self.dir.join("containers/state").display().to_string();
        match tool {
            "conex" => {
                let store = self.dir.join("conex").display().to_string();
                words(&[&self.conex.display().to_string(), "--root", &store])
            }
            "buildah" => words(&["buildah", "--root", &store, "--runroot", &state]),
            "podman" => {
                words(&["podman", "--root", &store, "--runroot", &state, "--runtime", self.runtime])
            }
            "docker" => match self.docker.as_ref().map(|docker| docker.address.clone()) {
                Ok(Some(address)) => words(&["docker", "--host", &address]),
                _ => words(&["docker"]),
            },
            "buildkit" => match &self.buildkit {
                Ok(buildkit) => {
                    words(&[&buildkit.buildctl.display().to_string(), "--addr", &buildkit.address])
                }
                Err(_) => words(&["buildctl"]),
            },
            other => vec![other.to_owned()],
        }
    }

    /// A tool's command that builds a context. `is_cold` asks it to use no earlier result.
    pub(crate) fn build(
        &self,
        tool: &str,
        tag: &str,
        context: &Path,
        is_cold: bool,
    ) -> Vec<String> {
        let mut words = self.tool(tool);
        let own: &[&str] = match tool {
            "conex" => &["build", "--progress", "plain"],
            "buildah" => &["build", "--layers", "--runtime", self.runtime],
            "podman" => &["build", "--layers"],
            "docker" => &["build", "--network", "host"],
            _ => &["build", "--progress", "plain", "--frontend", "dockerfile.v0"],
        };
        words.extend(own.iter().map(|word| (*word).to_owned()));
        if is_cold {
            words.push("--no-cache".to_owned());
        }
        let context = context.display().to_string();
        if tool == "buildkit" {
            for name in ["context", "dockerfile"] {
                words.extend(["--local".to_owned(), format!("{name}={context}")]);
            }
            words.extend(self.buildkit_base());
        } else {
            words.extend(["-t".to_owned(), tag.to_owned(), context]);
        }
        words
    }

    /// Names the base to BuildKit, which has no store of images: an OCI layout beside it.
    fn buildkit_base(&self) -> Vec<String> {
        let layout = self.dir.join("base-oci");
        let index = fs::read_to_string(layout.join("index.json")).unwrap_or_default();
        let digest = serde_json::from_str::<serde_json::Value>(&index).ok();
        let digest =
            digest.and_then(|index| Some(index["manifests"][0]["digest"].as_str()?.to_owned()));
        let digest = digest.unwrap_or_default();
        vec![
            "--oci-layout".to_owned(),
            format!("base={}", layout.display()),
            "--opt".to_owned(),
            format!("context:{BASE}=oci-layout://base@{digest}"),
        ]
    }

    fn give_base(&self) -> Result<()> {
        let base = self.base.display().to_string();
        for tool in ["conex", "podman", "docker"] {
            if self.absence(tool).is_some() {
                continue;
            }
            let mut words = self.tool(tool);
            words.extend(["import".to_owned(), base.clone(), BASE.to_owned()]);
            quietly(&mut command(words))?;
        }
        if self.absence("buildah").is_none() && self.absence("podman").is_some() {
            return Err("buildah is measured with podman's help: install podman too".to_owned());
        }
        if self.absence("buildkit").is_none() {
            self.give_base_as_layout()?;
        }
        Ok(())
    }

    /// Writes the base as an OCI layout, through podman and skopeo.
    fn give_base_as_layout(&self) -> Result<()> {
        let layout = self.dir.join("base-oci");
        if layout.exists() {
            return Ok(());
        }
        let mut save = self.tool("podman");
        save.extend(["save", "--format", "oci-dir", "-o"].map(str::to_owned));
        save.extend([layout.display().to_string(), BASE.to_owned()]);
        quietly(&mut command(save))
    }

    fn start_docker(&self) -> std::result::Result<Docker, String> {
        if !has_program("docker") {
            return Err("not installed".to_owned());
        }
        if quietly(&mut command(["docker", "info"])).is_ok() {
            return Ok(Docker { address: None, daemon: None });
        }
        let Some(dockerd) = program("dockerd") else {
            return Err("no daemon runs, and none is installed".to_owned());
        };
        let at = |name: &str| self.dir.join(name).display().to_string();
        let address = format!("unix://{}", at("docker.sock"));
        let log = File::create(self.dir.join("dockerd.log")).map_err(|error| error.to_string())?;
        let mut daemon = Command::new(dockerd);
        daemon.args(["--data-root", &at("docker"), "--exec-root", &at("docker-exec")]);
        daemon.args(["--pidfile", &at("docker.pid"), "--host", &address]);
        // Neither of these is measured, and both want to change the machine's network.
        daemon.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        daemon.stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut daemon = daemon.spawn().map_err(|error| error.to_string())?;
        let is_up = || quietly(&mut command(["docker", "--host", &address, "info"])).is_ok();
        if wait_for(is_up) {
            return Ok(Docker { address: Some(address), daemon: Some(daemon) });
        }
        stop(&mut daemon);
        Err("its daemon does not start here; see dockerd.log".to_owned())
    }

    fn start_buildkit(&self) -> std::result::Result<BuildKit, String> {
        let folder = std::env::var_os("CONEX_BENCH_BUILDKIT")
            .ok_or("`CONEX_BENCH_BUILDKIT` names no folder with its binaries")?;
        let buildctl = PathBuf::from(&folder).join("buildctl");
        let address = format!("unix://{}", self.dir.join("buildkit.sock").display());
        let log =
            File::create(self.dir.join("buildkitd.log")).map_err(|error| error.to_string())?;
        let mut daemon = Command::new(PathBuf::from(&folder).join("buildkitd"));
        daemon.arg("--root").arg(self.dir.join("buildkit")).args(["--addr", &address]);
        daemon.args(["--oci-worker-net", "host"]);
        daemon.env("PATH", with_folder(Path::new(&folder)));
        let mut daemon = daemon
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| error.to_string())?;
        let is_up = || {
            quietly(Command::new(&buildctl).args(["--addr", &address, "debug", "workers"])).is_ok()
        };
        if wait_for(is_up) {
            return Ok(BuildKit { buildctl, address, daemon });
        }
        stop(&mut daemon);
        Err("its daemon does not start here; see buildkitd.log".to_owned())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Ok(Docker { daemon: Some(daemon), .. }) = &mut self.docker {
            stop(daemon);
        }
        if let Ok(buildkit) = &mut self.buildkit {
            stop(&mut buildkit.daemon);
        }
    }
}

fn wait_for(is_up: impl Fn() -> bool) -> bool {
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(200));
        is_up()
    })
}

/// Asks a daemon to end, so that it unmounts what it mounted, and waits until it did.
fn stop(daemon: &mut Child) {
    let asked = command(["kill".to_owned(), daemon.id().to_string()]).status();
    if asked.is_ok_and(|status| status.success()) {
        for _ in 0..100 {
            if matches!(daemon.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
    // It did not listen. Both fail only if it is gone.
    let _ = daemon.kill();
    let _ = daemon.wait();
}

fn with_folder(folder: &Path) -> std::ffi::OsString {
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

fn debian(dir: &Path) -> Result<PathBuf> {
    let base = dir.join("debian.tar");
    if !base.exists() {
        if !has_program("mmdebstrap") {
            return Err("no mmdebstrap: install it, or name a root tar with `--base`".to_owned());
        }
        eprintln!("== making a Debian base");
        let unfinished = dir.join("debian.unfinished.tar");
        let mut make = command(["mmdebstrap", "--quiet", "--variant=apt", "bookworm"]);
        shell::run(make.arg(&unfinished))?;
        fs::rename(&unfinished, &base).map_err(|error| error.to_string())?;
    }
    Ok(base)
}

/// One line about the machine and one about each tool, for under the table.
pub(crate) fn machine(lab: &Lab) -> String {
    let first = |words: &[&str]| {
        let text = output(command(words).stdin(Stdio::null())).unwrap_or_default();
        text.lines().next().unwrap_or("?").trim().to_owned()
    };
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut tools = Vec::new();
    for tool in ["buildah", "podman", "skopeo", "umoci", "runc", "crun", "docker"] {
        if lab.absence(tool).is_none() {
            tools.push(first(&[tool, "--version"]));
        }
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let size = fs::metadata(&lab.conex).map_or(0, |file| file.len());
    format!(
        "{} cores of {}, Linux {}, load {load} at the end. {}. The binary has {:.1} MB.\n",
        cores,
        model.unwrap_or("an unnamed processor"),
        kernel.trim(),
        tools.join("; "),
        size as f64 / 1e6,
    )
}

/// Makes a build context with a Dockerfile and a tree.
pub(crate) fn context(
    lab: &Lab,
    name: &str,
    dockerfile: &str,
    tree: Option<(usize, usize, usize)>,
) -> Result<PathBuf> {
    let context = lab.dir.join("contexts").join(name);
    workload::dockerfile(&context, dockerfile)?;
    if let Some((folder_count, file_count, file_size)) = tree {
        workload::tree(&context.join("files"), folder_count, file_count, file_size)?;
    }
    Ok(context)
}
