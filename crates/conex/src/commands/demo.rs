//! `conex demo`: a tour of the main job on this machine's own files.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::error::{CliError, Doing as _, Result};
use crate::session::Session;

/// The example that the tour builds, as it stands in the project's `examples` folder.
const EXAMPLE: [(&str, &str); 4] = [
    ("Dockerfile", include_str!("../../../../examples/hello-multistage/Dockerfile")),
    ("pages/index.txt", include_str!("../../../../examples/hello-multistage/pages/index.txt")),
    ("pages/stages.txt", include_str!("../../../../examples/hello-multistage/pages/stages.txt")),
    ("tools/page.sh", include_str!("../../../../examples/hello-multistage/tools/page.sh")),
];

/// Show what conex does, on this machine's own files
///
/// Makes a small base image of this machine's programs, builds a Dockerfile with several stages on
/// it, builds it again from the cache, looks at the image and runs it; then it serves a registry of
/// its own for a moment, pushes, pulls into a second store, moves a tag and takes that back.
/// Nothing is downloaded. Each command is shown before it runs; the images stay in the store for
/// you to play with.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex demo\n  conex demo --keep tour")]
pub struct Args {
    /// Keep the example's files in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// One stop of the tour: what it shows, and the command.
const STOPS: [(&str, &[&str]); 9] = [
    (
        "A base image without a registry: these programs of this machine, and the libraries they need.",
        &[
            "base",
            "from-host",
            "-t",
            "local/base",
            "sh",
            "cat",
            "cp",
            "ls",
            "mkdir",
            "sed",
            "grep",
            "tr",
            "sort",
            "wc",
        ],
    ),
    (
        "A Dockerfile with four stages, a heredoc, a cache mount and a check.",
        &["build", "-t", "hello", "."],
    ),
    ("The same again: nothing changed, so nothing runs.", &["build", "-t", "hello", "."]),
    (
        "One argument changed: --explain says which steps that concerns, and why.",
        &[
            "build",
            "--explain",
            "--progress",
            "plain",
            "--build-arg",
            "TITLE=Bonjour",
            "-t",
            "hello:fr",
            ".",
        ],
    ),
    ("What is in the store.", &["images"]),
    ("How the image came about.", &["history", "hello"]),
    (
        "What it says about itself.",
        &[
            "inspect",
            "--format",
            "{{json .Config.Entrypoint}} {{json .Config.Cmd}} runs as {{.Config.User}} on {{.Os}}/{{.Architecture}}",
            "hello",
        ],
    ),
    ("Run it.", &["run", "--rm", "hello"]),
    (
        "Look around in it, with nothing but a loopback device and a read-only root.",
        &[
            "run",
            "--rm",
            "--network",
            "none",
            "--read-only",
            "--entrypoint",
            "/bin/sh",
            "hello",
            "-c",
            "ls -l /site && cat /etc/checked",
        ],
    ),
];

/// Runs the command.
pub fn run(session: &Session, args: Args) -> Result<()> {
    let temporary = std::env::temp_dir().join(format!("conex-demo-{}", std::process::id()));
    let folder = args.keep.clone().unwrap_or_else(|| temporary.clone());
    write_example(&folder)?;
    let result = tour(session, &folder).and_then(|()| registry_tour(session, &folder));
    if args.keep.is_none() {
        // A folder of four small files left in /tmp harms nobody.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    result?;
    session.out(
        "\nThe images stay: try `conex run --rm hello stages`.\n\
         Your own Dockerfile: `conex build -t app .`; everything else: `conex --help`.\n\
         To tidy up: `conex rmi hello hello:fr local/base` and `conex builder prune -a -f`.\n",
    )
}

fn write_example(folder: &Path) -> Result<()> {
    for (name, text) in EXAMPLE {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, text))
            .doing(|| format!("cannot write the example to `{}`", path.display()))?;
    }
    Ok(())
}

fn tour(session: &Session, folder: &Path) -> Result<()> {
    for (text, words) in STOPS {
        stop(session, folder, &session.settings.root, text, words)?;
    }
    Ok(())
}

/// Shows a command and runs it.
fn stop(session: &Session, folder: &Path, root: &Path, text: &str, words: &[&str]) -> Result<()> {
    let palette = session.out_palette();
    let mut shown: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    if root != session.settings.root {
        shown.insert(0, format!("--root {}", quoted(&root.to_string_lossy())));
    }
    let line = palette.strong(&format!("$ conex {}", shown.join(" ")));
    session.out(&format!("\n{}\n{line}\n", palette.dim(&format!("# {text}"))))?;
    let status = conex(root)?
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .status()
        .doing(|| "cannot run conex".to_owned())?;
    if !status.success() {
        return Err(CliError::new(format!("`conex {}` failed", words.join(" ")))
            .with_hint("`conex info` says what this machine allows"));
    }
    Ok(())
}

/// This program, on a store.
fn conex(root: &Path) -> Result<Command> {
    let program = std::env::current_exe().doing(|| "cannot find conex itself".to_owned())?;
    let mut command = Command::new(program);
    command.arg("--root").arg(root);
    Ok(command)
}

/// The end of the tour: a registry of one's own, and what its memory of tags is good for.
fn registry_tour(session: &Session, folder: &Path) -> Result<()> {
    let place = std::env::temp_dir().join(format!("conex-demo-registry-{}", std::process::id()));
    let second = place.join("second-store");
    let served = Served::start(session, &place.join("data"))?;
    let name = format!("{}/hello:1", served.address);
    let name = name.as_str();
    let first = &session.settings.root;
    let result = [
        (first, "Push to it.", vec!["push", "hello", name]),
        (&second, "Pull into a second store, which is empty.", vec!["pull", name]),
        (first, "Move the tag to another image.", vec!["push", "hello:fr", name]),
        (
            first,
            "The registry keeps every move of a tag …",
            vec!["tag", "history", "--remote", name],
        ),
        (first, "… and takes one back.", vec!["tag", "rollback", "--remote", name]),
        (&second, "Everybody has the first one again.", vec!["pull", "-q", name]),
    ]
    .into_iter()
    .try_for_each(|(root, text, words)| stop(session, folder, root, text, &words));
    drop(served);
    // An ordinary user's layers have files that only conex can remove. What stays in /tmp harms
    // nobody.
    let mut remove = conex(&second)?;
    let _ = remove.args(["rmi", "-f", name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let _ = std::fs::remove_dir_all(&place);
    result
}

/// A registry that is served until it is dropped.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(session: &Session, data: &Path) -> Result<Self> {
        let palette = session.out_palette();
        let text = palette.dim("# A registry of your own, for docker and podman too.");
        let words = ["registry", "serve", "--listen", "127.0.0.1:0"];
        let line = palette.strong(&format!("$ conex {} &", words.join(" ")));
        session.out(&format!("\n{text}\n{line}\n"))?;
        let mut command = conex(&session.settings.root)?;
        command.args(words).args(["--access-log", "none", "--data"]).arg(data);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().doing(|| "cannot run conex".to_owned())?;
        let said = child.stderr.take();
        let mut served = Self { child, address: String::new() };
        for line in said.into_iter().flat_map(|said| BufReader::new(said).lines()) {
            let line = line.doing(|| "cannot read what the registry says".to_owned())?;
            session.err(&line);
            if let Some(address) = line.strip_prefix("listening on http://") {
                address.clone_into(&mut served.address);
                return Ok(served);
            }
        }
        Err(CliError::new("the registry did not start"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A word as one would type it in a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}
