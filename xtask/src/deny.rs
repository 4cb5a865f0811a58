//! Runs cargo-deny over `deny.toml`.
//!
//! The tool is not a dependency of the project: it is installed, once and outside the checkout,
//! where `CI=true`; elsewhere its absence is said aloud.

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{self, Result, cargo, is_ci, program};

/// The release that `deny.toml` is written for; any later one of the same series does.
const VERSION: &str = "^0.20";

/// Checks licences, bans and sources; advisories too if their database can be fetched.
pub(crate) fn run() -> Result<()> {
    let Some(tool) = find_or_install()? else {
        println!("skipped: no cargo-deny (`cargo install --locked cargo-deny`)");
        return Ok(());
    };
    let check = |what: &[&str]| {
        let mut command = Command::new(&tool);
        command.current_dir(shell::root());
        command.args(["deny", "check", "--hide-inclusion-graph"]).args(what);
        command
    };
    shell::run(&mut check(&["bans", "licenses", "sources"]))?;
    let advisories = check(&["advisories"]).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&advisories.stderr);
    if text.contains("failed to fetch advisory database") {
        println!("skipped: advisories, because their database cannot be reached");
        return Ok(());
    }
    print!("{}", String::from_utf8_lossy(&advisories.stdout));
    eprint!("{text}");
    if advisories.status.success() { Ok(()) } else { Err("advisories were found".to_owned()) }
}

/// Where tools are kept between runs: `CONEX_CI_CACHE`, else the user's cache folder.
fn tools() -> PathBuf {
    if let Some(cache) = std::env::var_os("CONEX_CI_CACHE") {
        return PathBuf::from(cache).join("tools");
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache")
    });
    cache.join("conex-ci/tools")
}

fn find_or_install() -> Result<Option<PathBuf>> {
    let kept = tools().join("bin/cargo-deny");
    if kept.is_file() {
        return Ok(Some(kept));
    }
    if let Some(found) = program("cargo-deny") {
        return Ok(Some(found));
    }
    if !is_ci() {
        return Ok(None);
    }
    let folder = tools();
    let mut install = cargo();
    // A target folder of its own, so that its many crates do not crowd ours.
    install.env("CARGO_TARGET_DIR", folder.join("target"));
    // Unoptimised: it is run once, and optimising it would take longer than all else here.
    install.args(["install", "--locked", "--quiet", "--debug", "--version", VERSION, "--root"]);
    install.arg(&folder).arg("cargo-deny");
    // A registry may be busy for a moment; that is no failure of ours.
    shell::run(&mut install).or_else(|_| shell::run(&mut install))?;
    // What was built on the way is 1 GB and is not needed again.
    std::fs::remove_dir_all(folder.join("target")).map_err(|error| error.to_string())?;
    Ok(Some(kept))
}
