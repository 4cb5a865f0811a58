//! `conex info`: what this machine allows, what conex does with it, and why.
//!
//! Invariant: it always answers. What cannot be found out is said as such, because a person who
//! asks this often has a machine on which something does not work.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use conex_exec::{ForeignRun, OverlayFlavour, Power};
use conex_layer::{Flavor, Ownership};
use conex_oci::Platform;
use conex_store::{ImageKind, Store};
use conex_sys::fsinfo;
use conex_sys::userns::Mode;
use conex_term::{bytes_size, human_size};
use serde_json::{Value, json};

use crate::error::Result;
use crate::session::{Privileges, Session, find_program};

/// OCI runtimes that `--runtime` knows by name.
const RUNTIMES: [&str; 4] = ["crun", "runc", "runsc", "youki"];

/// Architectures that images are made for.
const ARCHITECTURES: [&str; 9] =
    ["386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"];

/// Show what this machine allows and what conex does with it
///
/// Where the store is and why there, how containers are made (as root or in a user namespace) and
/// why so, which limits can be set, and which platforms' programs run here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  conex info\n  conex info --format json\n  \
    conex info -f '{{.Executor.Mode}}: {{.Executor.Reason}}'")]
pub struct Args {
    /// Format the output: `json`, or a Go template (`{{.Store.Folder}}`)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Runs the command.
pub fn run(session: &Session, args: &Args) -> Result<()> {
    let value = gather(session);
    let text = match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => crate::format::one(format, &value)?,
        None => text(&value),
    };
    session.out(&text)
}

fn gather(session: &Session) -> Value {
    let mut warnings = Vec::new();
    // Before a user namespace is entered: inside, everybody is root.
    let power = conex_exec::probe_power();
    let executor = executor(session, power.ok(), &mut warnings);
    let store = session.store();
    let storage = storage(session, store.as_ref().ok().copied(), &mut warnings);
    if let Err(error) = &store {
        warnings.push(format!("the store cannot be used: {}", chain(error)));
    }
    let overlay = overlay(session, store.as_ref().ok().copied(), &mut warnings);
    let cgroups = cgroups(&mut warnings);
    let images = store.as_ref().map_or(0, |store| image_count(store));
    let kernel = rustix::system::uname();
    let kernel_text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let mut security = vec![format!("name=seccomp,profile={}", seccomp())];
    if !session.settings.is_root {
        security.push("name=rootless".to_owned());
    }
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "Platform": Platform::host().to_string(),
        "Store": storage,
        "Executor": executor,
        "Overlay": overlay,
        "Cgroups": cgroups,
        "Seccomp": seccomp(),
        "Runtimes": runtimes(),
        "Platforms": platforms(),
        "Warnings": warnings,
        // What scripts ask `docker info` for.
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Driver": "overlayfs",
        "DockerRootDir": session.settings.root,
        "Images": images,
        "Containers": 0,
        "CgroupVersion": match cgroups["Version"].as_str() {
            Some("v2") => "2",
            Some("v1" | "hybrid") => "1",
            _ => "",
        },
        "KernelVersion": kernel_text(kernel.release()),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": kernel_text(kernel.machine()),
        "NCPU": crate::session::parallelism(),
        "MemTotal": memory(),
        "SecurityOptions": security,
    })
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// By what right containers are made.
fn executor(session: &Session, power: Option<Power>, warnings: &mut Vec<String>) -> Value {
    let (mode, reason) = match session.privileges() {
        Ok(Privileges::Root) => {
            if power == Some(Power::Ordinary) {
                warnings.push(
                    "this root may not mount (no CAP_SYS_ADMIN), so RUN and `conex run` fail; \
                     an outer container needs `--privileged`"
                        .to_owned(),
                );
            }
            ("root", "conex was started by root".to_owned())
        }
        Ok(Privileges::UserNamespace(Mode::Ranges { uid_count, gid_count })) => {
            let counts = format!("{uid_count} users and {gid_count} groups");
            ("user namespace", format!("/etc/subuid and /etc/subgid allow {counts}"))
        }
        Ok(Privileges::UserNamespace(Mode::Single { reason })) => {
            ("user namespace with one user", reason.clone())
        }
        Err(error) => {
            let settings = conex_exec::probe_user_namespaces();
            let reason = settings.err().unwrap_or_else(|| chain(&error));
            warnings.push(format!("containers cannot be made: {reason}"));
            ("none", reason)
        }
    };
    let owners = match session.privileges().map(Privileges::ownership) {
        Ok(Ownership::Real) => "files in layers belong to whom they should",
        Ok(Ownership::Recorded) => "files in layers are the user's; owners stand in attributes",
        Err(_) => "unknown",
    };
    json!({ "Mode": mode, "Reason": reason, "Owners": owners })
}

fn storage(session: &Session, store: Option<&Store>, warnings: &mut Vec<String>) -> Value {
    let folder = &session.settings.root;
    // The store may not be there; then where it would be says as much.
    let there = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let opened = File::open(there);
    let kind = opened.as_ref().ok().and_then(|dir| fsinfo::kind(dir).ok());
    let space = opened.as_ref().ok().and_then(|dir| fsinfo::space(dir).ok());
    let filesystem = kind.map_or("unknown".to_owned(), |kind| match kind {
        fsinfo::FilesystemKind::Other(magic) => format!("unknown ({magic:#x})"),
        known => known.name().to_owned(),
    });
    if matches!(kind, Some(fsinfo::FilesystemKind::Nfs | fsinfo::FilesystemKind::Overlay)) {
        warnings.push(format!(
            "overlays cannot lie on {filesystem}: choose another folder with `--root`"
        ));
    }
    let reflink = store.map(reflinks);
    json!({
        "Folder": folder,
        "From": session.settings.root_from,
        "Filesystem": filesystem,
        "Available": space.map(|space| space.available),
        "Total": space.map(|space| space.total),
        "Reflinks": reflink,
        "Usable": store.is_some(),
    })
}

/// Tries whether files of the store can share their bytes with copies.
fn reflinks(store: &Store) -> bool {
    let tried = || -> std::io::Result<()> {
        let folder = store.aux_dir("probe").map_err(std::io::Error::from)?;
        let pid = std::process::id();
        let (from, to) = (folder.join(format!("{pid}.from")), folder.join(format!("{pid}.to")));
        std::fs::write(&from, [0; 4096])?;
        let cloned = File::create(&to).and_then(|target| {
            rustix::fs::ioctl_ficlone(&target, File::open(&from)?).map_err(std::io::Error::from)
        });
        std::fs::remove_file(&from)?;
        std::fs::remove_file(&to)?;
        cloned
    };
    tried().is_ok()
}

/// How the layers of an image are put together, and whether the kernel does it in this folder.
fn overlay(session: &Session, store: Option<&Store>, warnings: &mut Vec<String>) -> Value {
    let Ok(privileges) = session.privileges() else { return Value::Null };
    let (flavour, marks) = match privileges.flavor() {
        Flavor::Trusted => (OverlayFlavour::Trusted, "trusted.overlay.*"),
        Flavor::User => (OverlayFlavour::User, "user.overlay.*"),
    };
    let tried = store.map(|store| -> std::result::Result<(), String> {
        let folder = store.aux_dir("probe").map_err(|error| chain(&error))?;
        conex_exec::probe_overlay(&folder, flavour).map_err(|error| chain(&error))
    });
    if let Some(Err(why)) = &tried {
        warnings.push(format!("RUN and `conex run` fail: {why}"));
    }
    json!({ "Marks": marks, "Usable": tried.map(|tried| tried.is_ok()) })
}

fn cgroups(warnings: &mut Vec<String>) -> Value {
    match conex_exec::probe_cgroups() {
        Ok(support) => json!({
            "Version": support.version,
            "Usable": support.usable,
            "Unusable": support.unusable,
        }),
        Err(error) => {
            warnings.push(format!("limits cannot be set: {}", chain(&error)));
            json!({ "Version": "none", "Usable": [], "Unusable": [] })
        }
    }
}

/// `builtin` where the kernel filters system calls, else `none`.
fn seccomp() -> &'static str {
    let filters = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    if filters.is_ok_and(|actions| actions.contains("errno")) { "builtin" } else { "none" }
}

fn runtimes() -> Value {
    let found = RUNTIMES
        .into_iter()
        .filter_map(|name| find_program(name).map(|path| json!({ "Name": name, "Path": path })));
    // The first is what is used when none is asked for.
    std::iter::once(json!({ "Name": "conex", "Path": "built in" })).chain(found).collect()
}

/// Architectures whose programs run here, and by what.
fn platforms() -> Value {
    let registrations = Path::new("/proc/sys/fs/binfmt_misc");
    let runs = ARCHITECTURES.into_iter().filter_map(|architecture| {
        let by = match conex_exec::foreign_run(architecture, registrations) {
            ForeignRun::Native => "processor".to_owned(),
            ForeignRun::Emulated { interpreter } => interpreter,
            ForeignRun::Impossible { .. } => return None,
        };
        Some(json!({ "Architecture": architecture, "By": by }))
    });
    runs.collect()
}

fn image_count(store: &Store) -> usize {
    let images = store.images().unwrap_or_default();
    images.iter().filter(|record| record.kind == ImageKind::Image).count()
}

/// What `os-release` calls the system.
fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// Bytes of memory of the machine.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or_default().saturating_mul(1024)
}

/// The document for people.
fn text(value: &Value) -> String {
    let text =
        |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let number = |path: &str| value.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let words = |path: &str| {
        let list = value.pointer(path).and_then(Value::as_array);
        let list: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    };
    let yes = |path: &str| match value.pointer(path).and_then(Value::as_bool) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not tried",
    };
    let pairs = |path: &str, name: &str, by: &str| {
        let list = value.pointer(path).and_then(Value::as_array);
        let one = |item: &Value| {
            format!("{} ({})", item[name].as_str().unwrap_or(""), item[by].as_str().unwrap_or(""))
        };
        list.into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
    };
    let copies = match value.pointer("/Store/Reflinks").and_then(Value::as_bool) {
        Some(true) => "share their bytes (reflinks)",
        Some(false) => "have their own bytes: the filesystem has no reflinks",
        None => "not tried",
    };
    let room = format!(
        "{}, {} of {} free",
        text("/Store/Filesystem"),
        human_size(number("/Store/Available")),
        human_size(number("/Store/Total"))
    );
    let lines = [
        ("Version", format!("conex {} ({})", text("/Version"), text("/Platform"))),
        ("Store", format!("{} ({})", text("/Store/Folder"), text("/Store/From"))),
        ("  Filesystem", room),
        ("  Copies", copies.to_owned()),
        ("  Images", number("/Images").to_string()),
        ("Executor", format!("{} ({})", text("/Executor/Mode"), text("/Executor/Reason"))),
        ("  Owners", text("/Executor/Owners")),
        (
            "  Overlay",
            format!("marks in {}, works: {}", text("/Overlay/Marks"), yes("/Overlay/Usable")),
        ),
        ("  Cgroups", text("/Cgroups/Version")),
        ("  Limits", format!("{} (not: {})", words("/Cgroups/Usable"), words("/Cgroups/Unusable"))),
        ("  Seccomp", text("/Seccomp")),
        ("  Runtimes", pairs("/Runtimes", "Name", "Path")),
        ("  Programs of", pairs("/Platforms", "Architecture", "By")),
        ("Machine", format!("{}, Linux {}", text("/OperatingSystem"), text("/KernelVersion"))),
        ("  Processors", number("/NCPU").to_string()),
        ("  Memory", bytes_size(number("/MemTotal"))),
    ];
    let mut shown = String::new();
    for (title, line) in lines {
        let title = format!("{title}:");
        // Writing to a string cannot fail.
        let _ = writeln!(shown, "{title:<15}{}", conex_term::clean(&line));
    }
    for warning in value["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(shown, "Warning:       {}", conex_term::clean(warning));
    }
    shown
}
