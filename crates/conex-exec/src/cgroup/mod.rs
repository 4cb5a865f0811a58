//! Limits: a cgroup for one container, in version 1, version 2 or both side by side.
//!
//! Invariant: a limit that was asked for is in force before the program runs, or making the cgroup
//! is an error. A cgroup is named for the helper that made it, so that whatever a killed helper
//! leaves behind is recognised and removed by the next.
//!
//! Does not delegate anything to the container: its view of the tree is read-only.

mod layout;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use conex_sys::bpf;
use rustix::fs::{Mode, OFlags};

pub(crate) use layout::view;

use self::layout::{Layout, Place};
use crate::error::{Context as _, Error, Result};
use crate::probe::CgroupSupport;
use crate::spec::{Resources, SwapLimit};

/// Begins the name of every cgroup made here.
const NAME_PREFIX: &str = "conex-";
/// How often the kernel is asked to remove a cgroup whose last process has just ended.
const REMOVE_COUNT_MAX: u32 = 50;

/// What a container needs of cgroups.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Controller, file, value.
    settings: Vec<Setting>,
    parent: Option<String>,
    guard_devices: bool,
}

#[derive(Debug)]
struct Setting {
    controller: &'static str,
    /// File and value in version 1.
    v1: Vec<(&'static str, String)>,
    /// File and value in version 2.
    v2: Vec<(&'static str, String)>,
    need: Need,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The caller asked for it.
    Asked,
    /// It follows from another setting, where the kernel has it.
    Implied,
}

impl Request {
    /// `guard_devices` asks, where possible, for a cgroup that keeps the host's devices closed.
    pub(crate) fn of(resources: &Resources, guard_devices: bool) -> Self {
        let mut request =
            Self { settings: Vec::new(), parent: resources.cgroup_parent.clone(), guard_devices };
        request.memory(resources);
        request.processors(resources);
        if let Some(pids) = resources.pids {
            let value = pids.to_string();
            request.ask("pids", vec![("pids.max", value.clone())], vec![("pids.max", value)]);
        }
        request
    }

    fn ask(
        &mut self,
        controller: &'static str,
        v1: Vec<(&'static str, String)>,
        v2: Vec<(&'static str, String)>,
    ) {
        self.settings.push(Setting { controller, v1, v2, need: Need::Asked });
    }

    fn memory(&mut self, resources: &Resources) {
        if let Some(memory) = resources.memory {
            let value = memory.to_string();
            let v1 = vec![("memory.limit_in_bytes", value.clone())];
            self.ask("memory", v1, vec![("memory.max", value)]);
        }
        // Docker: memory without a word about swap allows as much swap again.
        let (total, need) = match (resources.memory_swap, resources.memory) {
            (Some(SwapLimit::Unlimited), _) => (None, Need::Asked),
            (Some(SwapLimit::Total(total)), _) => (Some(total), Need::Asked),
            (None, Some(memory)) => (Some(memory.saturating_mul(2)), Need::Implied),
            (None, None) => return,
        };
        let memory = resources.memory.unwrap_or(0);
        let v1 = total.map_or("-1".to_owned(), |total| total.to_string());
        let v2 = total.map_or("max".to_owned(), |total| total.saturating_sub(memory).to_string());
        self.settings.push(Setting {
            controller: "memory",
            v1: vec![("memory.memsw.limit_in_bytes", v1)],
            v2: vec![("memory.swap.max", v2)],
            need,
        });
    }

    fn processors(&mut self, resources: &Resources) {
        if let Some((quota, period)) = resources.cpu_quota() {
            let v1 = vec![
                ("cpu.cfs_period_us", period.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ];
            self.ask("cpu", v1, vec![("cpu.max", format!("{quota} {period}"))]);
        }
        if let Some(shares) = resources.cpu_shares {
            // The mapping that runc and crun use: 2..=262144 to 1..=10000.
            let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142;
            let v1 = vec![("cpu.shares", shares.to_string())];
            self.ask("cpu", v1, vec![("cpu.weight", weight.to_string())]);
        }
        if resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some() {
            let mut files = Vec::new();
            files.extend(resources.cpuset_cpus.clone().map(|cpus| ("cpuset.cpus", cpus)));
            files.extend(resources.cpuset_mems.clone().map(|mems| ("cpuset.mems", mems)));
            self.ask("cpuset", files.clone(), files);
        }
    }

    fn controllers(&self) -> Vec<&'static str> {
        let mut controllers: Vec<_> =
            self.settings.iter().map(|setting| setting.controller).collect();
        controllers.sort_unstable();
        controllers.dedup();
        controllers
    }
}

/// The cgroup of one container: a folder in each hierarchy that was needed.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    folders: Vec<PathBuf>,
    unified: Option<Unified>,
    memory: Option<PathBuf>,
    guards_devices: bool,
}

impl Cgroup {
    /// Makes what is requested; nothing if nothing is.
    pub(crate) fn make(request: &Request) -> Result<(Self, Vec<String>)> {
        let mut cgroup = Self::default();
        let mut notes = Vec::new();
        let controllers = request.controllers();
        if controllers.is_empty() && request.parent.is_none() && !request.guard_devices {
            return Ok((cgroup, notes));
        }
        let layout = Layout::read()?;
        let name = own_name().doing(|| "cannot name a cgroup".to_owned())?;
        let filled = cgroup.fill(request, &layout, &name, &controllers);
        if let Err(error) = filled {
            cgroup.remove();
            return Err(error);
        }
        if request.guard_devices
            && let Err(error) = cgroup.guard_devices(request, &layout, &name)
        {
            notes.push(format!(
                "device files other than the usual ones cannot be used at all: \
                 no cgroup of devices ({error})"
            ));
        }
        Ok((cgroup, notes))
    }

    fn fill(
        &mut self,
        request: &Request,
        layout: &Layout,
        name: &str,
        controllers: &[&'static str],
    ) -> Result<()> {
        let unified: Vec<&str> =
            controllers.iter().copied().filter(|one| layout.is_unified(one)).collect();
        for controller in controllers {
            let place = layout.place(controller).ok_or_else(|| lacking(controller))?;
            let folder = self.folder(place, request, name, &unified)?;
            if *controller == "cpuset" && !place.is_unified {
                inherit_cpuset(&folder)?;
            }
            if *controller == "memory" {
                self.memory = Some(folder.clone());
            }
            for setting in request.settings.iter().filter(|one| one.controller == *controller) {
                apply(setting, &folder, place.is_unified)?;
            }
        }
        if controllers.is_empty() && request.parent.is_some() {
            // Asked for a parent alone: be below it wherever there is a hierarchy.
            for place in layout.places() {
                self.folder(place, request, name, &[])?;
            }
        }
        Ok(())
    }

    /// Makes the container's folder in a hierarchy, if it is not there yet.
    fn folder(
        &mut self,
        place: &Place,
        request: &Request,
        name: &str,
        unified: &[&str],
    ) -> Result<PathBuf> {
        if let Some(folder) = self.folders.iter().find(|folder| folder.starts_with(&place.mount)) {
            return Ok(folder.clone());
        }
        let parent = place.parent(request.parent.as_deref(), unified)?;
        sweep(&parent);
        let folder = parent.join(name);
        std::fs::create_dir(&folder).map_err(|error| {
            Error::set_up(format!("cannot make cgroup `{}`", folder.display()), error)
                .with_hint(DELEGATION_HINT)
        })?;
        self.folders.push(folder.clone());
        if place.is_unified {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&folder, flags, Mode::empty())
                .doing(|| format!("cannot open cgroup `{}`", folder.display()))?;
            self.unified = Some(Unified { folder: folder.clone(), opened });
        }
        Ok(folder)
    }

    /// Only in version 2, into which process 1 can be born. Moving it into the `devices` hierarchy
    /// of version 1 makes the kernel wait for all processors: more than all the rest of a start.
    fn guard_devices(&mut self, request: &Request, layout: &Layout, name: &str) -> Result<()> {
        let place = layout.unified().ok_or_else(|| lacking("devices"))?;
        self.folder(place, request, name, &[])?;
        let Some(unified) = &self.unified else { return Err(lacking("devices")) };
        bpf::guard_devices(&unified.opened, &USABLE_DEVICES)
            .doing(|| format!("cannot guard devices in `{}`", unified.folder.display()))?;
        self.guards_devices = true;
        Ok(())
    }

    /// The folder of version 2, in which process 1 shall be born.
    pub(crate) fn birthplace(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|unified| unified.opened.as_fd())
    }

    /// True if there are cgroups into which process 1 must be moved after its birth.
    pub(crate) fn must_be_entered(&self) -> bool {
        self.entered_later().next().is_some()
    }

    fn entered_later(&self) -> impl Iterator<Item = &PathBuf> {
        let unified = self.unified.as_ref().map(|unified| &unified.folder);
        self.folders.iter().filter(move |folder| Some(*folder) != unified)
    }

    /// True if devices other than the usual ones cannot be opened inside.
    pub(crate) fn guards_devices(&self) -> bool {
        self.guards_devices
    }

    /// Puts a process into the cgroups of version 1.
    pub(crate) fn add(&self, pid: i32) -> Result<()> {
        for folder in self.entered_later() {
            let file = folder.join("cgroup.procs");
            write(&file, &pid.to_string()).map_err(|error| {
                let act = format!("cannot enter cgroup `{}`", folder.display());
                Error::set_up(act, error).with_hint(DELEGATION_HINT)
            })?;
        }
        Ok(())
    }

    /// Removes it. Returns whether the kernel killed something for want of memory, and what could
    /// not be removed.
    pub(crate) fn remove(&mut self) -> (bool, Vec<String>) {
        let out_of_memory = self.memory.as_deref().is_some_and(was_out_of_memory);
        let mut problems = Vec::new();
        for folder in self.folders.drain(..) {
            if let Err(error) = remove_folder(&folder) {
                problems.push(format!("cannot remove cgroup `{}`: {error}", folder.display()));
            }
        }
        (out_of_memory, problems)
    }
}

/// The folder of version 2, into which a process can be born.
#[derive(Debug)]
struct Unified {
    folder: PathBuf,
    opened: OwnedFd,
}

/// The devices that Docker lets every container open; without a minor number, all of the major.
const USABLE_DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

const DELEGATION_HINT: &str = "limits need a cgroup that this user may write to: be root, or start \
     conex with `systemd-run --user --scope -p Delegate=yes conex …`";

fn lacking(controller: &str) -> Error {
    Error::unsupported(format!("this machine has no cgroup controller `{controller}`"))
        .with_hint("run without the limit, or see `conex info` for what the machine has")
}

fn apply(setting: &Setting, folder: &Path, is_unified: bool) -> Result<()> {
    let files = if is_unified { &setting.v2 } else { &setting.v1 };
    for (file, value) in files {
        let path = folder.join(file);
        if setting.need == Need::Implied && !path.exists() {
            // Kernels without swap accounting lack the file.
            continue;
        }
        write(&path, value).map_err(|error| limit_error(file, value, error))?;
    }
    Ok(())
}

fn limit_error(file: &str, value: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Error::unsupported(format!("this kernel has no limit `{file}`"));
    }
    Error::set_up(format!("cannot set limit `{file}` to `{value}`"), error)
}

/// In version 1 a new cpuset is empty, and nothing can run in it.
fn inherit_cpuset(folder: &Path) -> Result<()> {
    let act = || "cannot fill a new cpuset".to_owned();
    let Some(parent) = folder.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = std::fs::read_to_string(parent.join(file)).doing(act)?;
        write(&folder.join(file), value.trim()).doing(act)?;
    }
    Ok(())
}

fn was_out_of_memory(folder: &Path) -> bool {
    // Version 2 and version 1; both list `oom_kill N`.
    ["memory.events", "memory.oom_control"].iter().any(|file| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0) > 0
    })
}

fn remove_folder(folder: &Path) -> std::io::Result<()> {
    let mut left = REMOVE_COUNT_MAX;
    loop {
        match std::fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // The kernel takes the ended processes out a little after their end is reported.
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && left > 0 => {
                left -= 1;
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

fn write(file: &Path, value: &str) -> std::io::Result<()> {
    // Never creates: a file that is not there is a limit that the kernel does not have.
    let mut file = std::fs::OpenOptions::new().write(true).open(file)?;
    std::io::Write::write_all(&mut file, value.as_bytes())
}

/// What the machine has, for a person.
pub(crate) fn support() -> Result<CgroupSupport> {
    let layout = Layout::read()?;
    let unified = layout.unified().is_some_and(Place::has_controllers);
    let old = layout.places().iter().any(|place| !place.is_unified);
    let version = match (old, unified) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    };
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for controller in ["cpu", "cpuset", "memory", "pids"] {
        let Some(place) = layout.place(controller) else { continue };
        let list = if place.can_hold(controller) { &mut usable } else { &mut unusable };
        list.push(controller.to_owned());
    }
    Ok(CgroupSupport { version, usable, unusable })
}

/// A name for a cgroup that another program makes for this helper.
pub(crate) fn name_for_runtime() -> Result<String> {
    own_name().doing(|| "cannot name a cgroup".to_owned())
}

/// Removes what an OCI runtime that was killed has left of a cgroup by [`name_for_runtime`].
pub(crate) fn remove_named(name: &str) {
    let Ok(layout) = Layout::read() else { return };
    for place in layout.places() {
        for parent in [&place.own, &place.mount] {
            // Mostly there is none: the runtime has removed it.
            let _ = std::fs::remove_dir(parent.join(name));
        }
    }
}

/// `conex-PID-START`: the start time tells a process from a later one of the same number.
fn own_name() -> std::io::Result<String> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let start = start_time(pid).ok_or_else(|| std::io::Error::other("cannot read /proc"))?;
    Ok(format!("{NAME_PREFIX}{pid}-{start}"))
}

/// When a process started, in ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
fn start_time(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, which may hold anything.
    let after = text.rsplit_once(") ")?.1;
    after.split(' ').nth(19)?.parse().ok()
}

/// Removes cgroups whose helper is gone. One that is still in use is refused by the kernel.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((pid, start)) = name.to_str().and_then(parse_name) else { continue };
        if start_time(pid) != Some(start) {
            // Left for the next sweep when it cannot be removed.
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

fn parse_name(name: &str) -> Option<(i32, u64)> {
    let (pid, start) = name.strip_prefix(NAME_PREFIX)?.split_once('-')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(resources: &Resources) -> String {
        let request = Request::of(resources, false);
        let mut lines = Vec::new();
        for setting in &request.settings {
            for ((v1, v1_value), (v2, v2_value)) in setting.v1.iter().zip(&setting.v2) {
                lines.push(format!("{v1}={v1_value} {v2}={v2_value}"));
            }
        }
        lines.join("; ")
    }

    #[test]
    fn limits_become_the_files_of_both_versions() {
        let none = Resources::default();
        for (resources, expected) in [
            (none.clone(), ""),
            (
                Resources { memory: Some(1 << 20), ..none.clone() },
                "memory.limit_in_bytes=1048576 memory.max=1048576; \
                 memory.memsw.limit_in_bytes=2097152 memory.swap.max=1048576",
            ),
            (
                Resources {
                    memory: Some(100),
                    memory_swap: Some(SwapLimit::Unlimited),
                    ..none.clone()
                },
                "memory.limit_in_bytes=100 memory.max=100; \
                 memory.memsw.limit_in_bytes=-1 memory.swap.max=max",
            ),
            (
                Resources { cpu_nanos: Some(1_500_000_000), ..none.clone() },
                "cpu.cfs_period_us=100000 cpu.max=150000 100000",
            ),
            (Resources { cpu_shares: Some(1024), ..none.clone() }, "cpu.shares=1024 cpu.weight=39"),
            (Resources { pids: Some(7), ..none }, "pids.max=7 pids.max=7"),
        ] {
            assert_eq!(settings(&resources), expected);
        }
    }

    #[test]
    fn own_cgroups_are_told_from_others() {
        for (name, expected) in [
            ("conex-12-345", Some((12, 345))),
            ("conex-12", None),
            ("conex-a-b", None),
            ("docker-12-345", None),
        ] {
            assert_eq!(parse_name(name), expected, "{name}");
        }
    }
}
