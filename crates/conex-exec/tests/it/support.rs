//! One container for a test: a rootfs of busybox, the driver, and what came out.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conex_exec::{ContainerSpec, Durability, HostPath, Overlay, OverlayFlavour, Rootfs, Upper};

const BUSYBOX: &str = "/bin/busybox";
const TESTER: &str = "tester";

/// How the driver is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As root of the machine.
    Root,
    /// In a user namespace with a range of ids.
    Rootless,
    /// In a user namespace with one id.
    Single,
}

pub(crate) const MODES: [Mode; 3] = [Mode::Root, Mode::Rootless, Mode::Single];

/// A folder with layers, removed at the end.
pub(crate) struct Container {
    folder: tempfile::TempDir,
    pub(crate) spec: ContainerSpec,
    mode: Mode,
    runtime: Option<String>,
}

/// What came out of a container.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Says that a test was left out, or fails where what it needs is meant to be there.
#[allow(clippy::print_stderr)] // What is left out is said aloud.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "missing on CI: {reason}");
    eprintln!("skipped: {reason}");
}

/// Says that a test was left out because of what this machine or user is: nothing that could be
/// installed would change it.
#[allow(clippy::print_stderr)] // What is left out is said aloud.
pub(crate) fn unfit(reason: &str) {
    eprintln!("skipped: {reason}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The ordinary user that was made for tests.
fn tester() -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(TESTER))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Why a mode cannot be tested here.
fn obstacle(mode: Mode) -> Option<String> {
    if !Path::new(BUSYBOX).exists() {
        return Some("busybox-static is not installed".to_owned());
    }
    match mode {
        Mode::Root if !is_root() => Some("not root".to_owned()),
        Mode::Root => None,
        _ if is_root() && tester().is_none() => Some("there is no user `tester`".to_owned()),
        _ => conex_exec::probe_user_namespaces().err(),
    }
}

/// Makes a container of a shell script for each mode that works here.
pub(crate) fn for_each_mode(script: &str, test: impl Fn(Mode, Container)) {
    for mode in MODES {
        match obstacle(mode) {
            _ if mode == Mode::Root && !is_root() => unfit("not root"),
            Some(reason) => skip(&format!("{mode:?}: {reason}")),
            None => test(mode, Container::new(mode, script)),
        }
    }
}

/// As [`for_each_mode`], for one mode.
pub(crate) fn in_mode(mode: Mode, script: &str, test: impl Fn(Container)) {
    match obstacle(mode) {
        _ if mode == Mode::Root && !is_root() => unfit("not root"),
        Some(reason) => skip(&format!("{mode:?}: {reason}")),
        None => test(Container::new(mode, script)),
    }
}

impl Container {
    fn new(mode: Mode, script: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("conex-exec-").tempdir().unwrap();
        let base = folder.path();
        std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o755)).unwrap();
        for part in ["lower/bin", "lower/tmp", "lower/etc", "upper", "work"] {
            std::fs::create_dir_all(base.join(part)).unwrap();
        }
        copy_program(Path::new(BUSYBOX), &base.join("lower/bin/busybox"));
        let applets = Command::new(BUSYBOX).arg("--list").output().unwrap().stdout;
        for applet in String::from_utf8(applets).unwrap().lines().filter(|name| *name != "busybox")
        {
            symlink("busybox", base.join("lower/bin").join(applet)).unwrap();
        }
        std::fs::write(base.join("lower/etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let flavour =
            if mode == Mode::Root { OverlayFlavour::Trusted } else { OverlayFlavour::User };
        let rootfs = Rootfs::Overlay(Overlay {
            lower: vec![HostPath::from(base.join("lower"))],
            upper: Some(Upper {
                dir: base.join("upper").into(),
                work: base.join("work").into(),
                durability: Durability::Volatile,
            }),
            flavour,
        });
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut spec = ContainerSpec::new(rootfs, args);
        spec.env.push("PATH=/bin".to_owned());
        Self { folder, spec, mode, runtime: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn with_runtime(mut self, runtime: &str) -> Self {
        self.runtime = Some(runtime.to_owned());
        self
    }

    /// The driver, ready to be started with more flags.
    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let base = self.folder.path();
        let spec = base.join("spec.json");
        std::fs::write(&spec, serde_json::to_vec(&self.spec).unwrap()).unwrap();
        let mut driver = PathBuf::from(env!("CARGO_BIN_EXE_conex-exec-driver"));
        let mut words: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        words.extend(self.runtime.iter().map(|runtime| format!("--runtime={runtime}")));
        match self.mode {
            Mode::Root => {}
            Mode::Rootless => words.push("--rootless".to_owned()),
            Mode::Single => words.push("--single".to_owned()),
        }
        words.push(spec.display().to_string());
        let mut command = if self.mode != Mode::Root && is_root() {
            // The build folder may be closed to others.
            let copy = base.join("driver");
            copy_program(&driver, &copy);
            driver = copy;
            give_away(base);
            let line = format!("exec {} {}", driver.display(), words.join(" "));
            let mut command = Command::new("su");
            command.args([TESTER, "-s", "/bin/sh", "-c", &line]);
            command
        } else {
            let mut command = Command::new(driver);
            command.args(words);
            command
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run_with(&self, flags: &[&str]) -> Output {
        let output = self.command(flags).output().unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn run(&self) -> Output {
        self.run_with(&[])
    }

    /// What is in the upper folder now, sorted.
    pub(crate) fn changes(&self) -> Vec<String> {
        let upper = self.path("upper");
        let mut found = Vec::new();
        collect(&upper, &upper, &mut found);
        found.sort();
        found
    }
}

impl Output {
    /// The output of a container that must have succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }
}

/// Copies in another process: a file that this one has open for writing would be open for a moment
/// in whatever another thread starts meanwhile, and could not be executed.
fn copy_program(source: &Path, target: &Path) {
    if !target.exists() {
        let status = Command::new("cp").args([source, target]).status().unwrap();
        assert!(status.success());
    }
}

fn collect(base: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.strip_prefix(base).unwrap().display().to_string());
        if path.symlink_metadata().unwrap().is_dir() {
            collect(base, &path, found);
        }
    }
}

fn give_away(base: &Path) {
    let (uid, gid) = tester().unwrap();
    let mut paths = vec![base.to_owned()];
    while let Some(path) = paths.pop() {
        let data = path.symlink_metadata().unwrap();
        if data.is_symlink() {
            continue;
        }
        chown(&path, Some(uid), Some(gid)).unwrap();
        if data.is_dir() {
            paths.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}
