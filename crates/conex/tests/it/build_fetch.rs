//! Files and repositories of other machines that want to know who asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::build_output::git;
use crate::sandbox::{Sandbox, missing, program};

/// Serves a folder on the loopback interface, until the tests end, to whoever sends a header.
struct Server {
    url: String,
    /// Every `Authorization` that came.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(folder: PathBuf, wanted: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (folder, log) = (folder.clone(), Arc::clone(&log));
                // A client may go away early.
                std::thread::spawn(move || drop(answer(stream.unwrap(), &folder, wanted, &log)));
            }
        });
        Self { url, seen }
    }

    /// The host as the ID of a secret has it.
    fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }
}

fn answer(
    stream: TcpStream,
    folder: &Path,
    wanted: &str,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut authorization = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("authorization") {
            value.trim().clone_into(&mut authorization);
            log.lock().unwrap().push(authorization.clone());
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let mut body = Vec::new();
    let status = if authorization != wanted {
        "401 Unauthorized"
    } else if std::fs::File::open(folder.join(path))
        .and_then(|mut file| file.read_to_end(&mut body))
        .is_err()
    {
        "404 Not Found"
    } else {
        "200 OK"
    };
    let mut stream = stream;
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if !first.starts_with("HEAD") {
        stream.write_all(&body)?;
    }
    Ok(())
}

#[test]
fn a_file_is_had_with_a_secret_for_its_host() {
    let Some(mut sandbox) = Sandbox::with_base() else { return };
    sandbox.write("files/f", "content");
    let server = Server::start(sandbox.at("files"), "Bearer sesame-7");
    sandbox.set_env("TOKEN", "sesame-7");
    sandbox.set_env("HEADER", "Bearer sesame-7");
    sandbox.set_env("BAD", "two\nlines");
    let file = format!("FROM base\nADD {}/f /f\nRUN [ $(cat /f) = content ]\n", server.url);
    let host = server.host().to_owned();
    let name = host.split(':').next().unwrap();
    for secret in [
        format!("id=HTTP_AUTH_TOKEN_{host},env=TOKEN"),
        format!("id=HTTP_AUTH_TOKEN_{name},env=TOKEN"),
        format!("id=HTTP_AUTH_HEADER_{host},env=HEADER"),
    ] {
        sandbox.built(&file, &["--no-cache", "--secret", &secret, "-t", "it"]);
    }
    let history = sandbox.ok(&["history", "--no-trunc", "it"]);
    assert!(!history.contains("sesame"), "{history}");
    for (secrets, text) in [
        (vec![], "401"),
        (vec![format!("id=HTTP_AUTH_TOKEN_{name}:1,env=TOKEN")], "401"),
        (vec![format!("id=HTTP_AUTH_TOKEN_{name},env=BAD")], "HTTP_AUTH_TOKEN_127.0.0.1"),
    ] {
        let mut args = vec!["--no-cache"];
        for secret in &secrets {
            args.extend(["--secret", secret]);
        }
        let ended = sandbox.build(&file, &args);
        assert_eq!(ended.code, 1, "{secrets:?}: {}", ended.err);
        assert!(ended.err.contains(text) && ended.err.contains("-:2"), "{text}: {}", ended.err);
        assert!(!ended.err.contains("sesame"), "{}", ended.err);
    }
}

#[test]
fn a_repository_is_had_with_a_secret() {
    if program("git").is_none() {
        return missing("git");
    }
    let Some(mut sandbox) = Sandbox::with_base() else { return };
    let repo = sandbox.folder("served/repo.git");
    sandbox.write("served/repo.git/f", "content");
    sandbox.write("served/repo.git/Dockerfile", "FROM base\nCOPY f /\n");
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-q", "-m", "one"]);
    git(&repo, &["update-server-info"]);
    // base64 of `x-access-token:sesame-7`.
    let server = Server::start(sandbox.at("served"), "basic eC1hY2Nlc3MtdG9rZW46c2VzYW1lLTc=");
    sandbox.set_env("TOKEN", "sesame-7");
    // Served as plain files, so at the path of what is inside `.git`.
    let url = format!("{}/repo.git/.git", server.url);
    let url = format!("{url}?ref=main");
    let file = format!("FROM base\nADD {url} /d\nRUN [ $(cat /d/f) = content ]\n");
    let refused = sandbox.build(&file, &[]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(server.seen.lock().unwrap().is_empty());
    let host = server.host().split(':').next().unwrap().to_owned();
    for id in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_TOKEN.{host}")] {
        let secret = format!("id={id},env=TOKEN");
        sandbox.built(&file, &["--no-cache", "--secret", &secret]);
        sandbox.ok(&["build", "-q", "--secret", &secret, &url]);
    }
    let other = "id=GIT_AUTH_TOKEN.example.com,env=TOKEN";
    assert_eq!(sandbox.build(&file, &["--no-cache", "--secret", other]).code, 1);
}
