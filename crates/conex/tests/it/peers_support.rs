//! Other programs for images, each with a store of its own, and what a tree of files looks like to
//! all of them.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Ended, Sandbox, ended, feed, missing, program};

/// How long a daemon may take to answer.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A program that keeps and runs images: docker with a daemon of its own, or podman.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    words: Vec<OsString>,
    /// What `run` needs so that it works on any machine.
    run: &'static [&'static str],
    daemon: Option<Child>,
    /// Below it are all its mounts.
    dir: PathBuf,
}

impl Peer {
    /// Starts a docker daemon that knows nobody else's images.
    pub(crate) fn docker(sandbox: &Sandbox) -> Option<Self> {
        let (Some(docker), Some(dockerd)) = (program("docker"), program("dockerd")) else {
            missing("docker");
            return None;
        };
        let dir = sandbox.folder("docker");
        let at = |name: &str| dir.join(name).into_os_string();
        let mut host = OsString::from("unix://");
        host.push(at("socket"));
        let log = File::create(dir.join("log")).unwrap();
        let mut command = Command::new(dockerd);
        for (option, name) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(at(name));
        }
        // Nothing of the machine's network is needed, or touched.
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--host"]);
        command.arg(&host).env("PATH", crate::sandbox::PATH).env("HOME", &dir);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = Some(command.spawn().unwrap());
        let words = vec![docker.into_os_string(), "--host".into(), host];
        let mut peer = Self { name: "docker", words, run: &["--network=none"], daemon, dir };
        let began = Instant::now();
        while peer.tool(&["info"]).code != 0 {
            let has_ended = matches!(peer.daemon.as_mut().map(Child::try_wait), Some(Ok(Some(_))));
            if has_ended || began.elapsed() > START_TIME_MAX {
                let log = fs::read_to_string(peer.dir.join("log")).unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                eprintln!("skipped: the docker daemon does not start on this machine: {last}");
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(peer)
    }

    /// podman with an empty store.
    pub(crate) fn podman(sandbox: &Sandbox) -> Option<Self> {
        let Some(podman) = program("podman") else {
            missing("podman");
            return None;
        };
        let Some(runtime) = program("runc").or_else(|| program("crun")) else {
            missing("runc");
            return None;
        };
        let dir = sandbox.folder("podman");
        let mut words = vec![podman.into_os_string()];
        for (option, path) in [
            ("--root", dir.join("store")),
            ("--runroot", dir.join("state")),
            ("--tmpdir", dir.join("tmp")),
            ("--runtime", runtime),
        ] {
            words.extend([option.into(), path.into_os_string()]);
        }
        words.extend(["--cgroup-manager", "cgroupfs", "--events-backend", "none"].map(Into::into));
        // Limits that any process may have: podman tries to raise them, which not every machine
        // lets it.
        let run = &["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        Some(Self { name: "podman", words, run, daemon: None, dir })
    }

    /// Begins a command of the program.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(args).current_dir(&self.dir).env_clear();
        // The builder of the time before BuildKit, which is there without a plugin.
        command
            .env("PATH", crate::sandbox::PATH)
            .env("HOME", &self.dir)
            .env("DOCKER_BUILDKIT", "0");
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command of the program.
    pub(crate) fn tool(&self, args: &[&str]) -> Ended {
        ended(&self.command(args).output().unwrap())
    }

    /// Runs a command of the program, which must succeed. Gives its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.tool(args);
        assert_eq!(ended.code, 0, "{} {args:?}: {}{}", self.name, ended.out, ended.err);
        ended.out
    }

    /// The same, with something to read.
    pub(crate) fn ok_with(&self, args: &[&str], stdin: &[u8]) -> String {
        let ended = ended(&feed(self.command(args), stdin));
        assert_eq!(ended.code, 0, "{} {args:?}: {}{}", self.name, ended.out, ended.err);
        ended.out
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let mut all = vec!["run", "--rm"];
        all.extend(self.run);
        all.extend(args);
        self.tool(&all)
    }

    /// Whether it runs containers at all here, which it says aloud if not.
    pub(crate) fn works(&self, image: &str) -> bool {
        let tried = self.run(&[image, "true"]);
        if tried.code != 0 {
            eprintln!("skipped: {} runs nothing on this machine: {}", self.name, tried.err);
        }
        tried.code == 0
    }

    /// What a folder of a container of an image looks like.
    pub(crate) fn tree(&self, image: &str, path: &str) -> String {
        let mut all = vec!["run", "-d"];
        all.extend(self.run);
        all.extend(["--entrypoint", "sleep", image, "600"]);
        let container = self.ok(&all).trim().to_owned();
        let pid = self.ok(&["inspect", "-f", "{{.State.Pid}}", &container]).trim().to_owned();
        let seen = tree(&Path::new("/proc").join(pid).join("root").join(path));
        // What is the first process of a container does not end when it is asked to.
        self.ok(&["kill", &container]);
        self.ok(&["rm", "-f", &container]);
        seen
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let containers = self.tool(&["ps", "-aq"]).out;
        for container in containers.lines() {
            drop(self.tool(&["rm", "-f", container]));
        }
        if let Some(daemon) = &mut self.daemon {
            let pid = daemon.id().to_string();
            // Asked nicely, it ends what it started and unmounts what it mounted.
            drop(Command::new("kill").arg(&pid).status());
            let began = Instant::now();
            while matches!(daemon.try_wait(), Ok(None)) && began.elapsed() < START_TIME_MAX {
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(daemon.kill());
            drop(daemon.wait());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = |line: &str| Some(PathBuf::from(line.split(' ').nth(4)?));
        let mut mounts: Vec<PathBuf> =
            mounts.lines().filter_map(below).filter(|at| at.starts_with(&self.dir)).collect();
        mounts.sort();
        for mount in mounts.iter().rev() {
            drop(Command::new("umount").arg("-l").arg(mount).status());
        }
    }
}

/// Runs another program in the sandbox's folder. `None`, said aloud, where it is not installed.
pub(crate) fn other(sandbox: &Sandbox, name: &str, args: &[&str]) -> Option<Ended> {
    let Some(path) = program(name) else {
        missing(name);
        return None;
    };
    let mut command = Command::new(path);
    command.args(args).current_dir(sandbox.path()).env_clear();
    command.env("PATH", crate::sandbox::PATH).env("HOME", sandbox.path()).stdin(Stdio::null());
    Some(ended(&command.output().unwrap()))
}

/// The same for one that must succeed.
pub(crate) fn other_ok(sandbox: &Sandbox, name: &str, args: &[&str]) -> Option<String> {
    let ended = other(sandbox, name, args)?;
    assert_eq!(ended.code, 0, "{name} {args:?}: {}{}", ended.out, ended.err);
    Some(ended.out)
}

/// All that a layer says of the files below a folder, one a line.
pub(crate) fn tree(root: &Path) -> String {
    let mut text = String::new();
    let mut inodes: Vec<(u64, PathBuf)> = Vec::new();
    let mut paths = vec![PathBuf::new()];
    while let Some(path) = paths.pop() {
        let whole = root.join(&path);
        let meta = fs::symlink_metadata(&whole)
            .unwrap_or_else(|error| panic!("{}: {error}", whole.display()));
        let kind = meta.file_type();
        let mode = meta.mode() & 0o7777;
        let name = path.as_os_str().as_bytes().escape_ascii();
        write!(text, "{name} {mode:o} {}:{} @{}", meta.uid(), meta.gid(), meta.mtime()).unwrap();
        if kind.is_dir() {
            text.push_str(" dir");
            let mut below: Vec<PathBuf> = fs::read_dir(&whole)
                .unwrap()
                .map(|entry| path.join(entry.unwrap().file_name()))
                .collect();
            below.sort_by(|one, two| two.cmp(one));
            paths.extend(below);
        } else if kind.is_file() {
            let digest = conex_oci::Digest::of(&fs::read(&whole).unwrap());
            write!(text, " file {} {}", meta.len(), &digest.hex()[..12]).unwrap();
        } else if kind.is_symlink() {
            let to = fs::read_link(&whole).unwrap();
            write!(text, " link {}", to.as_os_str().as_bytes().escape_ascii()).unwrap();
        } else {
            let kind = match () {
                () if kind.is_fifo() => "fifo",
                () if kind.is_char_device() => "character device",
                () if kind.is_block_device() => "block device",
                () => "socket",
            };
            write!(text, " {kind} {:x}", meta.rdev()).unwrap();
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            match inodes.iter().find(|(inode, _)| *inode == meta.ino()) {
                Some((_, first)) => write!(text, " = {}", first.display()).unwrap(),
                None => inodes.push((meta.ino(), path.clone())),
            }
        }
        for (name, value) in xattrs(&whole) {
            let value = value.escape_ascii().to_string().replace(' ', "\\x20");
            write!(text, " {}={value}", name.display()).unwrap();
        }
        text.push('\n');
    }
    text
}

/// The extended attributes that images keep.
fn xattrs(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let mut found: Vec<(OsString, Vec<u8>)> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| name.starts_with(b"user.") || *name == b"security.capability")
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
            value.truncate(length);
            (OsString::from_vec(name.to_vec()), value)
        })
        .collect();
    found.sort();
    found
}
