//! Registries for tests: ours in this process, Debian's beside it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conex_registry::{
    Anonymous, Content, Durability, Error, ErrorKind, Limits, Listen, Moment, Options, Server,
    Stop, Times,
};

use crate::client::Client;

/// Our registry, in threads of this process; ended when dropped.
pub(crate) struct Registry {
    pub(crate) client: Client,
    pub(crate) trouble: Arc<Mutex<Vec<String>>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Moment(i64::try_from(since.as_millis()).unwrap())
}

/// What most tests start a registry with.
pub(crate) fn options(data: &Path) -> Options {
    Options {
        content: Content::Folder(data.to_owned()),
        listen: Listen::Address("127.0.0.1:0".parse().unwrap()),
        tls: None,
        users: None,
        anonymous: Anonymous::Full,
        times: Times::usual(),
        limits: Limits::usual(),
        immutable_tags: Vec::new(),
        boot: "this one".to_owned(),
        durability: Durability::Unsynced,
        access_log: None,
        trouble: Arc::new(|_| {}),
        clock: Arc::new(now),
    }
}

impl Registry {
    pub(crate) fn start(data: &Path) -> Self {
        // A process that another test is about to start holds all that this one does for a moment,
        // and one that was killed is not gone at once.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match Self::open(options(data)) {
                Err(error) if error.kind() == ErrorKind::Busy && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => return opened.unwrap(),
            }
        }
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::open(options).unwrap()
    }

    fn open(mut options: Options) -> Result<Self, Error> {
        let trouble: Arc<Mutex<Vec<String>>> = Arc::default();
        let said = trouble.clone();
        options.trouble = Arc::new(move |text| said.lock().unwrap().push(text.to_owned()));
        let server = Server::open(options)?;
        let (client, stop) = (Client::new(&server.address()), server.stopper());
        let thread = std::thread::spawn(move || server.run().unwrap());
        Ok(Self { client, trouble, stop, thread: Some(thread) })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Debian's registry; ended when dropped.
pub(crate) struct DockerRegistry {
    pub(crate) client: Client,
    server: Child,
    _folder: tempfile::TempDir,
}

impl DockerRegistry {
    /// None, said aloud, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let Some(program) = program("docker-registry") else {
            missing("docker-registry");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\n\
             http: {{addr: \"{address}\"}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n",
            folder.path().join("data").display()
        );
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().unwrap();
        let registry = Self { client: Client::new(&address), server, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(&address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(30), "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(registry)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says that a program is missing; fails where nothing may be.
pub(crate) fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "`{what}` is not installed");
    eprintln!("skipped: `{what}` is not installed");
}
