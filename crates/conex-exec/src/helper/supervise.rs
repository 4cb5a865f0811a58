//! The helper: outside of the container, between it and the caller.
//!
//! Invariant: it ends only after process 1 has, and with process 1 everything in the container.
//! It kills process 1 as soon as the caller's end of the channel closes.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use conex_sys::namespace::Namespaces;
use conex_sys::process::{self, Fork, Pid};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, WaitOptions};

use super::container::{self, Birth, CgroupEntry, DeviceGuard};
use super::oci;
use super::place::Place;
use super::rootfs;
use super::stubs::{self, Stub};
use crate::cgroup::{self, Cgroup, Request};
use crate::error::{Context as _, Error, Failure, Result};
use crate::protocol::{
    Channel, Ended, FromContainer, FromHelper, Outcome, ToContainer, ToHelper, retry,
};
use crate::spawn::{CONTROL_FD, ORDER_FD, Order, Runtime};
use crate::spec::{ContainerSpec, Network, Rootfs, SPEC_SIZE_MAX};

/// Returns the exit code of the helper, which nobody needs: the caller hears all by the channel.
pub(super) fn main() -> i32 {
    let Ok(control) = process::inherited(CONTROL_FD).map(Channel::from_fd) else {
        // Somebody typed the hidden word; there is no caller to tell.
        return 125;
    };
    match supervise(&control) {
        Ok(ended) => {
            // An error means that the caller is gone.
            let _ = control.send(&FromHelper::Ended(ended));
            0
        }
        Err(error) => {
            let _ = control.send(&FromHelper::Failed(Failure::from(&error)));
            125
        }
    }
}

fn supervise(control: &Channel) -> Result<Ended> {
    let order = read_order()?;
    // A Ctrl-C at the caller's terminal is the caller's to pass on.
    rustix::process::setsid().doing(|| "cannot make a session".to_owned())?;
    rustix::process::umask(Mode::empty());
    // The caller may stand in a folder that the container must not keep busy.
    rustix::process::chdir("/").doing(|| "cannot enter `/`".to_owned())?;
    let place = Place::look(order.overlay_calls)?;
    let (spec, oci) = match order.runtime {
        Runtime::Own => (order.spec, None),
        Runtime::Oci(runtime) => {
            let name = cgroup::name_for_runtime()?;
            (order.spec, Some(OciRun { runtime, name }))
        }
    };
    let base = stub_base(&spec.rootfs)?;
    // An OCI runtime makes its own cgroup.
    let request = match oci {
        Some(_) => Request::default(),
        None => Request::of(&spec.resources, !place.in_user_namespace),
    };
    let (cgroup, notes) = Cgroup::make(&request)?;
    for note in notes {
        // An error means that the caller is gone, which the loop below will see.
        let _ = control.send(&FromHelper::Note(note));
    }
    let mut watch =
        Watch { control, base, cgroup, stubs: Vec::new(), failure: None, state: State::SetUp };
    let outcome = watch.run(&spec, place, oci.as_ref());
    let (out_of_memory, mut problems) = watch.cgroup.remove();
    if let Some(oci) = &oci {
        cgroup::remove_named(&oci.name);
    }
    let outcome = match (outcome, watch.failure.take()) {
        (_, Some(failure)) => Err(Error::from(failure)),
        (outcome, None) => outcome,
    };
    rootfs::tidy_work(&spec.rootfs);
    if let Some(base) = &watch.base {
        problems.extend(stubs::remove(base.as_fd(), &watch.stubs));
    }
    Ok(Ended { outcome: outcome?, out_of_memory, problems })
}

fn read_order() -> Result<Order> {
    let act = || "cannot read the description of the container".to_owned();
    let file = File::from(process::inherited(ORDER_FD).doing(act)?);
    let mut bytes = Vec::new();
    file.take(SPEC_SIZE_MAX).read_to_end(&mut bytes).doing(act)?;
    serde_json::from_slice(&bytes).map_err(std::io::Error::from).doing(act)
}

/// The folder from which stubs are removed.
fn stub_base(rootfs: &Rootfs) -> Result<Option<OwnedFd>> {
    let path = match rootfs {
        Rootfs::Dir(dir) => dir,
        Rootfs::Overlay(overlay) => match &overlay.upper {
            Some(upper) => &upper.dir,
            None => return Ok(None),
        },
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&**path, flags, Mode::empty())
        .map(Some)
        .doing(|| format!("cannot open rootfs folder `{}`", path.display()))
}

/// A container that an OCI runtime makes.
struct OciRun {
    runtime: PathBuf,
    /// The container's name, by which what is left of a killed one is found.
    name: String,
}

/// How far process 1 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SetUp,
    Executing,
    Started,
}

struct Watch<'w> {
    control: &'w Channel,
    base: Option<OwnedFd>,
    cgroup: Cgroup,
    stubs: Vec<Stub>,
    failure: Option<Failure>,
    state: State,
}

impl Watch<'_> {
    fn run(&mut self, spec: &ContainerSpec, place: Place, oci: Option<&OciRun>) -> Result<Outcome> {
        let (ours, theirs) = Channel::pair().doing(|| "cannot make a channel".to_owned())?;
        let entry = if self.cgroup.must_be_entered() {
            CgroupEntry::WhenTold
        } else {
            CgroupEntry::AtBirth
        };
        let guard = match (place.in_user_namespace, self.cgroup.guards_devices()) {
            (true, _) => DeviceGuard::UserNamespace,
            (false, true) => DeviceGuard::Cgroup,
            (false, false) => DeviceGuard::NoDevices,
        };
        let namespaces = match oci {
            Some(_) => Namespaces::PID.and(Namespaces::MOUNT),
            None => namespaces(spec),
        };
        let forked = match self.cgroup.birthplace() {
            Some(cgroup) => process::fork_into(namespaces, cgroup),
            None => process::fork(namespaces),
        };
        match forked.map_err(fork_error)? {
            Fork::Child => {
                drop(ours);
                let control = self.control.as_fd().try_clone_to_owned();
                let Ok(control) = control.map(Channel::from_fd) else { process::exit_now(125) };
                let birth = Birth { spec, place, control, helper: theirs, guard, cgroup: entry };
                match oci {
                    Some(oci) => oci::run(&birth, &oci.runtime, &oci.name),
                    None => container::run(&birth),
                }
            }
            Fork::Parent { pid, pidfd } => {
                drop(theirs);
                self.enter_cgroup(pid, &ours, entry, &pidfd)?;
                self.let_go_of_streams();
                self.wait(pid, &pidfd, &ours)
            }
        }
    }

    fn enter_cgroup(
        &self,
        pid: Pid,
        container: &Channel,
        entry: CgroupEntry,
        pidfd: &OwnedFd,
    ) -> Result<()> {
        if entry == CgroupEntry::AtBirth {
            return Ok(());
        }
        let entered = self.cgroup.add(pid.as_raw_nonzero().get());
        if let Err(error) = entered {
            // Fails only when it has ended already.
            let _ = process::send_signal_to(pidfd, Signal::KILL.as_raw());
            let _ = retry(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
            return Err(error);
        }
        // If process 1 is gone, the loop will see its end.
        let _ = container.send(&ToContainer::Go);
        Ok(())
    }

    /// Only the program shall hold the standard streams, so that their readers see their end.
    fn let_go_of_streams(&self) {
        if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
            for number in 0..=2 {
                // Without it the readers see the end a little later: when we end.
                let _ = process::replace_standard(&null, number);
            }
        }
    }

    fn wait(&mut self, pid: Pid, pidfd: &OwnedFd, container: &Channel) -> Result<Outcome> {
        let mut container = Some(container);
        let mut caller_lives = true;
        loop {
            let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
            if caller_lives {
                fds.push(PollFd::new(self.control, PollFlags::IN));
            }
            if let Some(container) = container {
                fds.push(PollFd::new(container, PollFlags::IN));
            }
            retry(|| rustix::event::poll(&mut fds, None))
                .doing(|| "cannot wait for the container".to_owned())?;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut ready = ready.into_iter();
            let ended = ready.next().unwrap_or_default();
            let called = caller_lives && ready.next().unwrap_or_default();
            // Words of process 1 come before its end: it may have said why.
            if let Some(channel) = container
                && (ready.next().unwrap_or_default() || ended)
                && !self.hear_container(channel, pid, ended)
            {
                container = None;
            }
            if ended {
                return self.reap(pid);
            }
            if called && !self.hear_caller(pidfd) {
                caller_lives = false;
            }
        }
    }

    fn reap(&self, pid: Pid) -> Result<Outcome> {
        let waited = retry(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()))
            .doing(|| "cannot learn how the program ended".to_owned())?;
        let status = waited.map(|(_, status)| status);
        if self.state != State::Started && self.failure.is_none() {
            return Err(Error::lost("the container was killed while it was set up")
                .with_hint("the machine or its memory limit may have run out of memory"));
        }
        let code = status.and_then(rustix::process::WaitStatus::exit_status);
        let signal = status.and_then(rustix::process::WaitStatus::terminating_signal);
        match (code, signal) {
            (_, Some(signal)) => Ok(Outcome::Signal(signal)),
            (Some(code), None) => Ok(Outcome::Code(u8::try_from(code & 0xff).unwrap_or(125))),
            (None, None) => Err(Error::lost("the program ended in an unknown way")),
        }
    }

    /// Takes what process 1 said; false when it will say nothing more.
    fn hear_container(&mut self, channel: &Channel, pid: Pid, to_the_end: bool) -> bool {
        loop {
            match channel.receive::<FromContainer>() {
                Ok(Some((FromContainer::Note(text), _))) => {
                    // An error means that the caller is gone, which the loop sees.
                    let _ = self.control.send(&FromHelper::Note(text));
                }
                Ok(Some((FromContainer::Stub(stub), _))) => self.stubs.push(stub),
                Ok(Some((FromContainer::Failed(failure), _))) => self.failure = Some(failure),
                Ok(Some((FromContainer::Executing, _))) => self.state = State::Executing,
                Ok(None) | Err(_) => {
                    if self.state == State::Executing && self.failure.is_none() {
                        self.state = State::Started;
                        let pid = pid.as_raw_nonzero().get();
                        let _ = self.control.send(&FromHelper::Started { pid });
                    }
                    return false;
                }
            }
            if !to_the_end {
                return true;
            }
        }
    }

    /// Does what the caller says; false when the caller will say nothing more, which is the order
    /// to kill.
    fn hear_caller(&self, pidfd: &OwnedFd) -> bool {
        match self.control.receive::<ToHelper>() {
            Ok(Some((ToHelper::Signal(signal), _))) => {
                // Fails when the container has just ended.
                let _ = process::send_signal_to(pidfd, signal);
                true
            }
            Ok(None) | Err(_) => {
                let _ = process::send_signal_to(pidfd, Signal::KILL.as_raw());
                false
            }
        }
    }
}

/// All but that of cgroups, which shows what it is made in: process 1 makes it where it belongs.
fn namespaces(spec: &ContainerSpec) -> Namespaces {
    let mut namespaces =
        Namespaces::PID.and(Namespaces::MOUNT).and(Namespaces::IPC).and(Namespaces::UTS);
    if spec.network == Network::None {
        namespaces = namespaces.and(Namespaces::NETWORK);
    }
    namespaces
}

fn fork_error(error: std::io::Error) -> Error {
    let refused = error.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error());
    let error = Error::set_up("cannot make the container's namespaces", error);
    if refused {
        return error.with_hint("a limit in /proc/sys/user (max_pid_namespaces, say) is reached");
    }
    error
}
