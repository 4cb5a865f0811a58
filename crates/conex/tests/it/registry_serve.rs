//! A registry of one's own: served, pushed to, pulled from, checked; and the store shown as one.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, ended, feed, missing, program};
use crate::scene::Scene;

/// `conex registry serve` on a free port, ended by SIGTERM when dropped.
struct Serving {
    child: Child,
    address: String,
    said: Vec<String>,
}

impl Serving {
    fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        let mut all = vec!["registry", "serve", "--listen", "127.0.0.1:0"];
        all.extend(args);
        let mut command = sandbox.command(&all);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended: {said:?}")).unwrap();
            let address = line.strip_prefix("listening on ").map(str::to_owned);
            said.push(line);
            if let Some((_, address)) = address.as_deref().and_then(|text| text.split_once("://")) {
                break address.to_owned();
            }
        };
        if args.contains(&"--tls-self-signed") {
            said.extend(lines.by_ref().take(2).map(|line| line.unwrap()));
        }
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, said }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Asks it to end; gives how it did.
    fn end(mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn digest(pushed: &str) -> &str {
    pushed.trim().rsplit(' ').next().unwrap()
}

#[test]
fn what_is_pushed_is_pulled_moved_and_rolled_back() {
    let Some(scene) = Scene::with_files() else { return };
    let log = scene.text("access.log");
    let data = scene.text("data");
    let serving = Serving::start(&scene, &["--data", &data, "--access-log", &log]);
    let name = serving.image("team/app:1");
    let pushed = scene.ok(&["push", "base", &name]);
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &name]);
    assert_eq!(elsewhere.id(&name), scene.id("base"));
    scene.tar("other.tar", &[("etc/motd", "goodbye\n")]);
    scene.ok(&["import", "other.tar", "other"]);
    let moved = scene.ok(&["push", "other", &name]);
    let history = scene.ok(&["tag", "history", "--remote", "--no-trunc", &name]);
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines.len(), 3, "{history}");
    assert!(lines[1].contains(digest(&pushed)) && lines[1].contains(digest(&moved)), "{history}");
    assert!(lines[1].contains("anonymous"), "{history}");
    let back = scene.ok(&["tag", "rollback", "--remote", &name]);
    assert_eq!(back, format!("{name} is {} again\n", digest(&pushed)));
    elsewhere.ok(&["rmi", &name]);
    elsewhere.ok(&["pull", &name]);
    assert_eq!(elsewhere.id(&name), scene.id("base"));
    let to = ["tag", "rollback", "--remote", "--to", digest(&moved), &name];
    assert!(scene.ok(&to).contains(digest(&moved)));
    let missing = serving.image("team/none:1");
    let error = scene.fails(1, &["tag", "history", "--remote", &missing]);
    assert!(error.contains("not found"), "{error}");
    // The check works beside it, and mending does not.
    let clean = scene.ok(&["registry", "fsck", "--data", &data]);
    assert!(clean.contains("2 manifests: clean"), "{clean}");
    let error = scene.fails(1, &["registry", "fsck", "--repair", "--data", &data]);
    assert!(error.contains("another process"), "{error}");
    assert_eq!(serving.end(), Some(0), "SIGTERM ends it well");
    assert!(scene.ok(&["registry", "fsck", "--repair", "--data", &data]).contains("clean"));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.lines().any(|line| line.contains("\"method\":\"PUT\"")), "{log}");
    // What was there is there after a restart.
    let serving = Serving::start(&scene, &["--data", &data]);
    elsewhere.ok(&["pull", &serving.image("team/app:1")]);
}

#[test]
fn the_store_is_shown_with_the_digests_that_a_push_gives() {
    let Some(scene) = Scene::with_files() else { return };
    scene.image("app:1", "FROM base\nCOPY <<end /x\nhello\nend\nLABEL a=b\n");
    let shown = Serving::start(&scene, &["--store", "local"]);
    let elsewhere = Sandbox::new();
    // Asked for before anything was ever packed.
    elsewhere.ok(&["pull", &shown.image("app:1")]);
    assert_eq!(elsewhere.id(&shown.image("app:1")), scene.id("app:1"));
    let kept = Serving::start(&scene, &[]);
    let pushed = scene.ok(&["push", "app:1", &kept.image("app:1")]);
    let told = scene.ok(&["digest", &shown.image("app:1")]);
    assert_eq!(told.trim(), digest(&pushed));
    let tags = scene.ok(&["tags", &shown.image("app")]);
    assert_eq!(tags.trim(), "1");
    assert!(scene.ok(&["catalog", &shown.address]).lines().any(|line| line.contains("base")));
    let error = scene.fails(1, &["push", "app:1", &shown.image("app:2")]);
    assert!(error.contains("only shows a store"), "{error}");
    if program("skopeo").is_some() {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--no-creds", "--tls-verify=false", "--format", "{{.Digest}}"]);
        let output = skopeo.arg(format!("docker://{}", shown.image("app:1"))).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), digest(&pushed), "{output:?}");
    } else {
        missing("skopeo");
    }
    scene.fails(1, &["pull", &shown.image("none:1")]);
}

#[test]
fn an_image_that_was_pushed_goes_with_its_last_tag() {
    let Some(scene) = Scene::with_files() else { return };
    let serving = Serving::start(&scene, &[]);
    scene.image("app:1", "FROM base\nLABEL a=b\n");
    let (there, id) = (serving.image("app:1"), scene.id("app:1"));
    let digests = |name: &str| {
        scene.ok(&["image", "inspect", "--format", "{{range .RepoDigests}}{{.}} {{end}}", name])
    };
    scene.ok(&["push", "app:1", &there]);
    assert_eq!(digests("app:1").trim(), "", "it has no name there that goes with a tag");
    scene.ok(&["tag", "app:1", &there]);
    let pushed = scene.ok(&["push", &there]);
    assert_eq!(digests("app:1").trim(), format!("{}@{}", serving.image("app"), digest(&pushed)));
    scene.ok(&["rmi", &there]);
    assert_eq!(digests("app:1").trim(), "");
    let removed = scene.ok(&["rmi", "app:1"]);
    assert!(removed.contains(&format!("Deleted: {id}")), "{removed}");
}

#[test]
fn images_of_the_store_are_packed_before_anybody_asks() {
    let Some(scene) = Scene::with_files() else { return };
    let blobs = || scene.store().join("blobs/sha256").read_dir().unwrap().count();
    let waited = |more_than: usize| {
        let began = Instant::now();
        while blobs() <= more_than {
            assert!(began.elapsed() < Duration::from_secs(60), "nothing is packed");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    scene.image("app:1", "FROM base\nCOPY <<end /x\nhello\nend\n");
    let packed = blobs();
    let shown = Serving::start(&scene, &["--store", "local"]);
    // The layer of the base, and the one above.
    waited(packed + 1);
    // What gets a name later, too: its config, and then its layer.
    let before = blobs();
    scene.image("later:1", "FROM scratch\nCOPY <<end /x\nlater\nend\n");
    waited(before + 1);
    let elsewhere = Sandbox::new();
    elsewhere.ok(&["pull", &shown.image("later:1")]);
    drop(shown);
    // Nothing of it stays when its image goes.
    scene.ok(&["rmi", "-f", "app:1", "later:1", "base"]);
    scene.ok(&["system", "prune", "-af"]);
    assert_eq!(blobs(), 0);
    let error = scene.fails(2, &["registry", "serve", "--no-pack-ahead"]);
    assert!(error.contains("--store"), "{error}");
}

#[test]
fn a_registry_with_tls_and_passwords_lets_in_who_it_knows() {
    let Some(scene) = Scene::with_files() else { return };
    if program("htpasswd").is_none() {
        return missing("htpasswd");
    }
    let users = scene.text("users");
    let mut htpasswd = Command::new("htpasswd");
    let made = htpasswd.args(["-Bbc", &users, "ana", "secret"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let auth = format!("htpasswd={users}");
    let data = scene.text("data");
    let args = ["--data", &data, "--auth", &auth, "--tls-self-signed", "--anonymous", "pull"];
    let serving = Serving::start(&scene, &args);
    assert!(serving.said.iter().any(|line| line.starts_with("SHA-256 fingerprint ")));
    let name = serving.image("app:1");
    let run = |roots: &str, args: &[&str], stdin: &[u8]| {
        let mut command = scene.command(args);
        command.env("no_proxy", "127.0.0.1").env("SSL_CERT_FILE", roots);
        ended(&feed(command, stdin))
    };
    let stranger = run("/dev/null", &["push", "base", &name], b"");
    assert!(stranger.code == 1 && stranger.err.contains("certificate"), "{}", stranger.err);
    let roots = scene.text("data/tls/cert.pem");
    let refused = run(&roots, &["push", "base", &name], b"");
    assert!(refused.err.contains(&format!("conex login {}", serving.address)), "{}", refused.err);
    let login = ["login", "-u", "ana", "--password-stdin", &serving.address];
    assert_eq!(run(&roots, &login, b"wrong\n").code, 1);
    let let_in = run(&roots, &login, b"secret\n");
    assert_eq!(let_in.code, 0, "{}", let_in.err);
    let pushed = run(&roots, &["push", "base", &name], b"");
    assert_eq!(pushed.code, 0, "{}", pushed.err);
    let history = run(&roots, &["tag", "history", "--remote", &name], b"");
    assert!(history.out.contains("ana"), "{}{}", history.out, history.err);
    assert_eq!(run(&roots, &["logout", &serving.address], b"").code, 0);
    let pulled = run(&roots, &["pull", &name], b"");
    assert_eq!(pulled.code, 0, "{}", pulled.err);
}

#[test]
fn nobody_opens_a_registry_to_the_world_by_leaving_something_out() {
    let sandbox = Sandbox::new();
    for (args, said) in [
        (&["--listen", "0.0.0.0:0"][..], "anybody who reaches"),
        (&["--listen", ":0", "--anonymous", "pull"], "anybody who reaches"),
        (&["--listen", "nonsense"], "no address"),
        (&["--auth", "ldap=x"], "no way to log in"),
        (&["--history", "soon"], "no length of time"),
        (&["--tls-cert", "x"], "--tls-key"),
        (&["--store", "local", "--data", "x"], "cannot be used with"),
    ] {
        let mut all = vec!["registry", "serve"];
        all.extend(args);
        let error = sandbox.fails(2, &all);
        assert!(error.contains(said), "{args:?}: {error}");
    }
    let error = sandbox.fails(1, &["registry", "serve", "--auth", "htpasswd=/none"]);
    assert!(error.contains("cannot read the password file `/none`"), "{error}");
    let error = sandbox.fails(1, &["registry", "fsck", "--data", "none"]);
    assert!(error.contains("holds no data of a registry"), "{error}");
}
