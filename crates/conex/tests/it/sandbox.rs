//! A store, a build context and a way to run the program on them.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The program.
pub(crate) const CONEX: &str = env!("CARGO_BIN_EXE_conex");

/// Where programs are looked for, whatever the environment of the tests says.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Accounts of the base image.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n";
const GROUP: &str =
    "root:x:0:\napp:x:1001:\nstaff:x:50:app\nwheel:x:10:root,app\ntestgroup:x:2001:\n";

/// A folder that holds a store (`store`) and a build context (`context`), removed at the end.
pub(crate) struct Sandbox {
    dir: TempDir,
    env: HashMap<String, String>,
}

/// What a run of the program came to.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Sandbox {
    /// An empty store and an empty context.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("conex-it-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox = Self { dir, env: HashMap::new() };
        sandbox.folder("context");
        sandbox
    }

    /// A store with the image `base`: busybox and some accounts. `None` if this machine cannot
    /// make one, which is said aloud.
    pub(crate) fn with_base() -> Option<Self> {
        let Some(busybox) = program("busybox") else {
            missing("busybox");
            return None;
        };
        let sandbox = Self::new();
        let context = sandbox.folder("base");
        fs::copy(busybox, context.join("busybox")).unwrap();
        fs::set_permissions(context.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        let dockerfile = format!(
            "FROM scratch\nCOPY busybox /bin/busybox\nCOPY <<passwd <<group /etc/\n{PASSWD}passwd\n\
             {GROUP}group\nCOPY --chmod=1777 --from=scratch . /tmp/\n\
             RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nCMD [\"sh\"]\n"
        );
        sandbox.write("base/Dockerfile", &dockerfile);
        let ended = sandbox.conex(&["build", "-q", "-t", "base", context.to_str().unwrap()]);
        if ended.code != 0 && ended.err.contains("user namespace") && !is_ci() {
            eprintln!("skipped: no containers on this machine: {}", ended.err);
            return None;
        }
        assert_eq!(ended.code, 0, "cannot build the base image: {}", ended.err);
        Some(sandbox)
    }

    /// The folder of all.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// The same as text.
    pub(crate) fn text(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    /// Sets a variable for the program.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Makes a folder, mode 0755 whatever the umask.
    pub(crate) fn folder(&self, path: &str) -> PathBuf {
        let folder = self.at(path);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).unwrap();
        folder
    }

    /// Writes a file, mode 0644 whatever the umask, and the folders above.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.write_mode(path, content, 0o644)
    }

    /// Writes a file of a mode, and the folders above.
    pub(crate) fn write_mode(&self, path: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let file = self.at(path);
        if let Some(folder) = Path::new(path).parent() {
            self.folder(folder.to_str().unwrap());
        }
        let mut open = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&file)
            .unwrap();
        open.write_all(content.as_ref()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    /// The program with a clean environment and the sandbox's store, in the sandbox's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CONEX);
        command
            .arg("--root")
            .arg(self.at("store"))
            .args(args)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", self.path())
            .env("LANG", "C.UTF-8")
            // Nobody listens there: what asks a registry fails at once, here as anywhere.
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .envs(&self.env)
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program.
    pub(crate) fn conex(&self, args: &[&str]) -> Ended {
        ended(&self.command(args).output().unwrap())
    }

    /// Runs the program, giving it something to read.
    pub(crate) fn conex_with(&self, args: &[&str], stdin: &[u8]) -> Ended {
        ended(&feed(self.command(args), stdin))
    }

    /// Runs the program, which must succeed. Gives its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.conex(args);
        assert_eq!(ended.code, 0, "conex {}:\n{}{}", args.join(" "), ended.out, ended.err);
        ended.out
    }

    /// Runs the program, which must fail with a code. Gives its standard error.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let ended = self.conex(args);
        assert_eq!(ended.code, code, "conex {}:\n{}{}", args.join(" "), ended.out, ended.err);
        ended.err
    }

    /// Builds a Dockerfile given as text on the context.
    pub(crate) fn build(&self, dockerfile: &str, args: &[&str]) -> Ended {
        let context = self.text("context");
        let mut all = vec!["build", "--progress=plain", "-f", "-"];
        all.extend(args);
        all.push(&context);
        self.conex_with(&all, dockerfile.as_bytes())
    }

    /// Builds a Dockerfile, which must succeed. Gives what was shown.
    pub(crate) fn built(&self, dockerfile: &str, args: &[&str]) -> String {
        let ended = self.build(dockerfile, args);
        assert_eq!(ended.code, 0, "{dockerfile}\n{}", ended.err);
        ended.err
    }

    /// The ID of an image.
    pub(crate) fn id(&self, name: &str) -> String {
        self.ok(&["inspect", "--format", "{{.Id}}", name]).trim().to_owned()
    }
}

impl Drop for Sandbox {
    /// An ordinary user's store has files of subordinate IDs, which only root of a user namespace
    /// can remove.
    fn drop(&mut self) {
        if !is_root() {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--map-auto", "rm", "-rf"]).arg(self.at("store"));
            // Where that cannot be done, the folder stays behind, as any that cannot be removed.
            drop(command.output());
        }
    }
}

/// Gives a program something to read and waits for it.
pub(crate) fn feed(mut command: Command, stdin: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program that wants to read no more may close the pipe early.
        scope.spawn(move || drop(pipe.write_all(stdin)));
        child.wait_with_output().unwrap()
    })
}

/// The output of a program as text.
pub(crate) fn ended(output: &Output) -> Ended {
    use std::os::unix::process::ExitStatusExt as _;
    Ended {
        code: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Finds an installed program.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
}

/// Whether the machine was prepared to run every test.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test is skipped for want of a program; that is a failure where it was installed.
pub(crate) fn missing(what: &str) {
    assert!(!is_ci(), "{what} is missing, although this machine was prepared for the tests");
    eprintln!("skipped: {what} is missing");
}
