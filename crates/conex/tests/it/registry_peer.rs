//! Debian's registry, for tests that need a real one.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, missing, program};

/// Debian's registry on a free port, ended when dropped.
pub(crate) struct Registry {
    server: Child,
    config: PathBuf,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Registry {
    /// Starts one; `more` goes into its configuration.
    pub(crate) fn start(sandbox: &Sandbox, more: &str) -> Option<Self> {
        let Some(path) = program("docker-registry") else {
            missing("docker-registry");
            return None;
        };
        // Bound and let go: nobody else on a test machine takes a port in that moment.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let data = sandbox.folder("registry");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{address}\", secret: same}}\n\
             log: {{level: error, accesslog: {{disabled: true}}}}\n{more}",
            data.display()
        );
        let file = sandbox.write("registry.yml", config);
        let server = serve(&path, &file, &address);
        Some(Self { server, config: file, address })
    }

    /// Ends the server at once and starts it again, on the same data.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let path = program("docker-registry").unwrap();
        self.server = serve(&path, &self.config, &self.address);
    }

    /// Ends the server at once.
    pub(crate) fn stop(&mut self) {
        // Gone already is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// The name of something in it.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

fn serve(path: &Path, config: &Path, address: &str) -> Child {
    let mut server = Command::new(path);
    server.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    let server = server.spawn().unwrap();
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(started.elapsed() < Duration::from_secs(30), "the registry does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    server
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A password file for the registry.
pub(crate) fn htpasswd(sandbox: &Sandbox) -> Option<String> {
    if program("htpasswd").is_none() {
        missing("htpasswd");
        return None;
    }
    let file = sandbox.text("htpasswd");
    let made = Command::new("htpasswd").args(["-Bbc", &file, "user", "secret"]).output().unwrap();
    assert!(made.status.success());
    Some(file)
}
