//! Pulls from and pushes to a registry of this machine: Debian's, so that every tool speaks to the
//! same server.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::cases::{large_image, remove};
use super::command;
use super::measure::Contestant;
use super::peers::Lab;
use crate::shell::{Result, has_program, quietly};

/// Where the registry listens. One that was there before would be measured by mistake, so it is
/// an unusual port.
const ADDRESS: &str = "127.0.0.1:51987";

/// The registry of this run. It ends with the process that started it, which kills it.
static SERVER: Mutex<Option<Server>> = Mutex::new(None);

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends the registry, if one was started.
pub(crate) fn end() {
    SERVER.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// Starts the registry. Why it cannot be, if it cannot.
fn start(lab: &Lab) -> Result<Option<String>> {
    if !has_program("docker-registry") {
        return Ok(Some("no docker-registry is installed".to_owned()));
    }
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if server.is_some() {
        return Ok(None);
    }
    let data = lab.dir.join("registry");
    let config = lab.dir.join("registry.yml");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"{ADDRESS}\"}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n",
        data.display()
    );
    fs::write(&config, text).map_err(|error| error.to_string())?;
    let mut serve = command(["docker-registry", "serve"]);
    serve.arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    *server = Some(Server(serve.spawn().map_err(|error| error.to_string())?));
    for _ in 0..200 {
        if TcpStream::connect(ADDRESS).is_ok() {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("docker-registry does not listen on {ADDRESS}"))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// An image of 1 GB from the registry into each tool's store, unpacked.
pub(crate) fn pull(lab: &Lab) -> Result<Vec<Contestant>> {
    let name = format!("{ADDRESS}/large:1");
    let mut why = lab.absence("conex").map_or(start(lab)?, Some);
    if why.is_none() {
        large_image(lab, "conex")?;
        let mut push = lab.tool("conex");
        push.extend(words(&["push", "bench-large", &name]));
        quietly(&mut command(push))?;
        why = None;
    }
    let absence = |tool: &str| why.clone().or_else(|| lab.absence(tool));
    let mut all = Vec::new();
    match absence("conex") {
        Some(why) => all.push(Contestant::absent("conex", why)),
        None => {
            let store = lab.dir.join("conex-pulled");
            let program = lab.conex.clone();
            let (root, name) = (store.clone(), name.clone());
            let contestant = Contestant::new("conex", move || {
                let mut pull = command([&program]);
                pull.arg("--root").arg(&root).args(["pull", &name]);
                pull
            });
            all.push(contestant.after(move || remove(&store)));
        }
    }
    for tool in ["podman", "docker"] {
        if let Some(why) = absence(tool) {
            all.push(Contestant::absent(tool, why));
            continue;
        }
        let mut pull = lab.tool(tool);
        pull.push("pull".to_owned());
        if tool == "podman" {
            pull.push("--tls-verify=false".to_owned());
        }
        pull.push(name.clone());
        let mut forget = lab.tool(tool);
        forget.extend(words(&["rmi", "--force", &name]));
        let contestant = Contestant::new(tool, move || command(&pull));
        all.push(contestant.after(move || {
            // There is none before the first run.
            let _ = quietly(&mut command(&forget));
            Ok(())
        }));
    }
    // Not unpacked: what fetching alone takes.
    match absence("skopeo") {
        Some(why) => all.push(Contestant::absent("skopeo to a folder, packed", why)),
        None => {
            let folder = lab.dir.join("skopeo-pulled");
            let target = format!("dir:{}", folder.display());
            let source = format!("docker://{name}");
            let contestant = Contestant::new("skopeo to a folder, packed", move || {
                command(["skopeo", "copy", "--src-tls-verify=false", &source, &target])
            });
            all.push(contestant.after(move || remove(&folder)));
        }
    }
    Ok(all)
}

/// An image of 1 GB from each tool's store to the registry, which does not have it.
pub(crate) fn push(lab: &Lab) -> Result<Vec<Contestant>> {
    let mut all = Vec::new();
    let why = start(lab)?;
    for tool in ["conex", "podman", "docker"] {
        if let Some(why) = why.clone().or_else(|| lab.absence(tool)) {
            all.push(Contestant::absent(tool, why));
            continue;
        }
        large_image(lab, tool)?;
        let name = format!("{ADDRESS}/pushed-{tool}:1");
        let mut push = lab.tool(tool);
        push.push("push".to_owned());
        match tool {
            "podman" => push.extend(words(&["--tls-verify=false", "bench-large", &name])),
            "docker" => {
                let mut tag = lab.tool(tool);
                tag.extend(words(&["tag", "bench-large", &name]));
                quietly(&mut command(tag))?;
                push.push(name.clone());
            }
            _ => push.extend(words(&["bench-large", &name])),
        }
        // Blobs are shared by all repositories of the registry, and conex keeps what it packed:
        // both are forgotten, so that everybody packs and sends.
        let data = lab.dir.join("registry/docker");
        let conex_store = (tool == "conex").then(|| lab.tool("conex"));
        let context = lab.dir.join("contexts/large");
        let contestant = Contestant::new(tool, move || command(&push));
        all.push(contestant.after(move || {
            remove(&data)?;
            let Some(conex) = &conex_store else { return Ok(()) };
            let run = |more: &[&str]| {
                let mut all = conex.clone();
                all.extend(words(more));
                quietly(&mut command(all))
            };
            run(&["rmi", "--force", "bench-large"])?;
            run(&["builder", "prune", "--all", "--force"])?;
            run(&["build", "-q", "-t", "bench-large", &context.display().to_string()])
        }));
    }
    Ok(all)
}
