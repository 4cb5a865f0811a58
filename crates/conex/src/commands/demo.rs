//! `conex demo`: a tour of the main job on this machine's own files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
/// it, builds it again from the cache, looks at the image and runs it. Nothing is downloaded. Each
/// command is shown before it runs; the images stay in the store for you to play with.
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
    let result = tour(session, &folder);
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
    let program = std::env::current_exe().doing(|| "cannot find conex itself".to_owned())?;
    let palette = session.out_palette();
    for (text, words) in STOPS {
        let shown: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let line = palette.strong(&format!("$ conex {}", shown.join(" ")));
        session.out(&format!("\n{}\n{line}\n", palette.dim(&format!("# {text}"))))?;
        let status = Command::new(&program)
            .arg("--root")
            .arg(&session.settings.root)
            .args(words)
            .current_dir(folder)
            .stdin(Stdio::null())
            .status()
            .doing(|| "cannot run conex".to_owned())?;
        if !status.success() {
            return Err(CliError::new(format!("`conex {}` failed", words.join(" ")))
                .with_hint("`conex info` says what this machine allows"));
        }
    }
    Ok(())
}

/// A word as one would type it in a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}
