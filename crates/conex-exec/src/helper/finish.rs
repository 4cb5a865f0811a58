//! The last steps inside: give up what the program shall not have, become the user, execute.
//!
//! Invariant: the order below. Limits before capabilities (raising one needs some), the seccomp
//! filter while we still may install it, the user before the capabilities, nothing after but
//! `exec`.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use conex_sys::capability::{self, CapabilityMask};
use conex_sys::{process, pty};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid};

use super::container::Birth;
use super::init;
use super::place::{Place, groups_are_frozen, id_error};
use crate::error::{Context as _, Error, Result};
use crate::protocol::FromContainer;
use crate::seccomp;
use crate::spec::{ContainerSpec, Pid1, Privileges, Seccomp, Ulimit};

/// Where programs are searched when the environment does not say, as Docker.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Has the kernel kill us when the helper dies. Forgotten at every change of user.
pub(super) fn die_with_helper() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "cannot tie the container to its helper".to_owned())
}

/// Everything after the rootfs became the root. Returns only an error.
pub(super) fn finish(birth: &Birth<'_>, terminal: Option<OwnedFd>) -> Result<Infallible> {
    let spec = birth.spec;
    connect_streams(spec, terminal)?;
    set_limits(spec)?;
    process::new_session_keyring().doing(|| "cannot leave the session keyring".to_owned())?;
    rustix::process::umask(Mode::from_raw_mode(spec.umask & 0o777));
    // From here to `exec`, and in the init for good: nobody inside may look into this process,
    // whose executable file is the host's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .doing(|| "cannot hide the set-up from the container".to_owned())?;
    drop_power(birth)?;
    // A change of user made the kernel forget.
    die_with_helper()?;
    process::close_on_exec_from(3).doing(|| "cannot close descriptors".to_owned())?;
    match spec.pid1 {
        Pid1::Program => execute(birth),
        Pid1::Init => init::run(birth),
    }
}

pub(super) fn connect_streams(spec: &ContainerSpec, terminal: Option<OwnedFd>) -> Result<()> {
    let act = || "cannot connect the standard streams".to_owned();
    let user = Uid::from_raw(spec.user.uid);
    if let Some(terminal) = terminal {
        for number in 0..=2 {
            process::replace_standard(&terminal, number).doing(act)?;
        }
        pty::control(&terminal).doing(|| "cannot take the terminal".to_owned())?;
        rustix::fs::fchown(&terminal, Some(user), None)
            .map_err(|error| id_error(act(), error.into()))?;
        return Ok(());
    }
    if spec.user.uid == 0 {
        return Ok(());
    }
    // `/dev/stdout` is opened anew by programs, which needs the right to: a pipe is its owner's.
    for stream in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
        let is_pipe = rustix::fs::fstat(stream)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        if is_pipe {
            // A pipe of someone else stays theirs; only programs that open it anew will notice.
            let _ = rustix::fs::fchown(stream, Some(user), None);
        }
    }
    Ok(())
}

fn set_limits(spec: &ContainerSpec) -> Result<()> {
    if let Some(adjustment) = spec.resources.oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", adjustment.to_string())
            .doing(|| format!("cannot set the out-of-memory score to {adjustment}"))?;
    }
    for Ulimit { name, soft, hard } in &spec.resources.ulimits {
        let resource = resource(name).ok_or_else(|| Error::invalid("unknown limit"))?;
        let limit = Rlimit { current: *soft, maximum: *hard };
        rustix::process::setrlimit(resource, limit).map_err(|error| {
            let error = Error::set_up(format!("cannot set limit `{name}`"), error);
            error.with_hint("raising a hard limit needs real root on the host")
        })?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    let known = [
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];
    known.into_iter().find(|(known, _)| *known == name).map(|(_, resource)| resource)
}

fn drop_power(birth: &Birth<'_>) -> Result<()> {
    let spec = birth.spec;
    let mask = allowed(spec, birth.place)?;
    capability::limit_bounding(mask).doing(|| "cannot drop capabilities".to_owned())?;
    if spec.privileges == Privileges::NeverGrow {
        rustix::thread::set_no_new_privs(true).doing(|| "cannot set `no_new_privs`".to_owned())?;
    }
    if spec.seccomp == Seccomp::Default {
        let program = seccomp::compile(mask).ok_or_else(|| {
            Error::unsupported("there is no seccomp profile for this processor architecture")
                .with_hint("run with `--security-opt seccomp=unconfined`")
        })?;
        process::install_seccomp(&program).map_err(|error| {
            Error::set_up("cannot install the seccomp filter", error)
                .with_hint("the kernel may be built without seccomp filters")
        })?;
    }
    become_user(spec)?;
    capability::set(usable(mask, spec.user.uid)).doing(|| "cannot set capabilities".to_owned())
}

/// The wanted set, less what this machine does not give.
pub(super) fn allowed(spec: &ContainerSpec, place: Place) -> Result<CapabilityMask> {
    let capabilities = &spec.capabilities;
    let wanted = capabilities.resolve()?;
    let bounding = place.bounding;
    let lacking = |mask: CapabilityMask| mask.iter().find(|one| !bounding.has(*one));
    if let Some(capability) = lacking(capabilities.named()?.both(wanted)) {
        return Err(Error::unsupported(format!("this machine does not give `{capability}`")));
    }
    Ok(wanted.both(bounding))
}

/// An ordinary user's process has none until it executes something that has; root's has all.
fn usable(mask: CapabilityMask, uid: u32) -> CapabilityMask {
    if uid == 0 { mask } else { CapabilityMask::default() }
}

fn become_user(spec: &ContainerSpec) -> Result<()> {
    let user = &spec.user;
    let groups: Vec<Gid> = user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let act = || format!("cannot become user {} of group {}", user.uid, user.gid);
    match rustix::thread::set_thread_groups(&groups) {
        Ok(()) => {}
        // With a map of one id the kernel keeps the groups as they are.
        Err(Errno::PERM) if groups_are_frozen() => {}
        Err(error) => return Err(id_error(act(), error.into())),
    }
    if user.uid == 0 {
        capability::keep_through_user_change().doing(act)?;
    }
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(|error| id_error(act(), error.into()))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|error| id_error(act(), error.into()))
}

/// Goes to the working directory, which is made when it is missing.
///
/// We are inside the rootfs now, so no symlink leads out.
pub(super) fn enter_working_dir(spec: &ContainerSpec) -> Result<()> {
    let cwd = &spec.cwd;
    let act = || format!("cannot enter working directory `{cwd}`");
    match rustix::process::chdir(cwd.as_str()) {
        Ok(()) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(Error::set_up(act(), error)),
    }
    let mut path = String::new();
    for name in cwd.split('/').filter(|name| !name.is_empty()) {
        path.push('/');
        path.push_str(name);
        match rustix::fs::mkdir(path.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(spec.user.uid), Gid::from_raw(spec.user.gid));
                rustix::fs::chown(path.as_str(), Some(uid), Some(gid))
                    .map_err(|error| id_error(act(), error.into()))?;
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(Error::set_up(act(), error)),
        }
    }
    rustix::process::chdir(cwd.as_str()).doing(act)
}

/// The environment with what must be in it.
pub(super) fn environment(spec: &ContainerSpec) -> Vec<String> {
    let mut env = spec.env.clone();
    let has = |env: &[String], name: &str| {
        env.iter().any(|entry| entry.split_once('=').is_some_and(|(found, _)| found == name))
    };
    if !has(&env, "HOME") {
        env.push(format!("HOME={}", spec.user.home));
    }
    if spec.terminal.is_some() && !has(&env, "TERM") {
        env.push("TERM=xterm".to_owned());
    }
    env
}

/// Executes the program; returns only an error.
pub(super) fn execute(birth: &Birth<'_>) -> Result<Infallible> {
    let spec = birth.spec;
    let program = spec.args.first().map_or("", String::as_str);
    let env = environment(spec);
    let strings = |texts: &[String]| {
        texts.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>()
    };
    let act = || "cannot pass the arguments".to_owned();
    let args = strings(&spec.args).map_err(io::Error::from).doing(act)?;
    let envp = strings(&env).map_err(io::Error::from).doing(act)?;
    process::reset_signals().doing(|| "cannot reset signals".to_owned())?;
    birth
        .helper
        .send(&FromContainer::Executing)
        .doing(|| "cannot speak to the helper".to_owned())?;
    let mut denied = None;
    for candidate in candidates(program, &env) {
        let path = CString::new(candidate.as_str()).map_err(io::Error::from).doing(act)?;
        let Err(error) = process::exec(&path, &args, &envp);
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT | Errno::NOTDIR) if !is_there(&candidate) => {}
            Some(Errno::NOENT) => return Err(no_interpreter(&candidate)),
            Some(Errno::ACCESS) => denied = Some(denied.unwrap_or(error)),
            Some(Errno::NOEXEC) => return Err(not_a_program(&candidate, error)),
            _ => return Err(Error::not_executable(program, error)),
        }
    }
    match denied {
        Some(error) => Err(Error::not_executable(program, error)
            .with_hint("is it a file, with the right to execute for this user?")),
        None => Err(Error::not_found(program)),
    }
}

fn is_there(path: &str) -> bool {
    rustix::fs::stat(path).is_ok()
}

fn no_interpreter(path: &str) -> Error {
    Error::not_found(path).with_hint(
        "the file exists, but what it needs to start does not: the interpreter of its `#!` line, \
         or the loader of its C library",
    )
}

fn not_a_program(path: &str, error: io::Error) -> Error {
    Error::not_executable(path, error)
        .with_hint("it is for another processor architecture, or a script without a `#!` line")
}

/// The paths at which a program may be, in order.
pub(super) fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let path = path.unwrap_or(PATH_DEFAULT);
    // An empty element means the working directory (POSIX, 8.3); Docker's own search agrees.
    let dir = |dir: &str| if dir.is_empty() { ".".to_owned() } else { dir.to_owned() };
    path.split(':').map(|element| format!("{}/{program}", dir(element))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_searched_where_the_environment_says() {
        let env = |path: &str| vec![format!("PATH={path}")];
        for (program, env, expected) in [
            ("/bin/sh", env("/a:/b"), vec!["/bin/sh"]),
            ("./run", env("/a"), vec!["./run"]),
            ("sh", env("/a:/b"), vec!["/a/sh", "/b/sh"]),
            ("sh", env(":/b"), vec!["./sh", "/b/sh"]),
        ] {
            assert_eq!(candidates(program, &env), expected);
        }
        assert!(candidates("sh", &[]).contains(&"/bin/sh".to_owned()));
    }
}
