//! Namespaces: which kinds there are, how to enter new ones, and the few things that a fresh one
//! needs before it is of use.
//!
//! Invariant: nothing here changes a namespace that the caller did not make, because [`unshare`]
//! refuses to work in a process with several threads, where only one of them would move.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;

use crate::process;

/// A set of kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces(u32);

impl Namespaces {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(UnshareFlags::NEWNS.bits());
    /// Process ids.
    pub const PID: Self = Self(UnshareFlags::NEWPID.bits());
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(UnshareFlags::NEWIPC.bits());
    /// Host and domain name.
    pub const UTS: Self = Self(UnshareFlags::NEWUTS.bits());
    /// The view of the cgroup tree.
    pub const CGROUP: Self = Self(UnshareFlags::NEWCGROUP.bits());
    /// The network.
    pub const NETWORK: Self = Self(UnshareFlags::NEWNET.bits());
    /// User ids and capabilities.
    pub const USER: Self = Self(UnshareFlags::NEWUSER.bits());

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits as `clone` takes them.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

/// Moves this process into new namespaces (for [`Namespaces::PID`]: its future children).
///
/// Refused with `InvalidInput` in a process with more than one thread.
pub fn unshare(namespaces: Namespaces) -> io::Result<()> {
    process::require_single_thread()?;
    let flags = UnshareFlags::from_bits_retain(namespaces.0);
    // SAFETY: `CLONE_FILES` cannot be among the flags (no constant of `Namespaces` has it), and
    // the process has one thread, so no other thread observes the change.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Switches on the loopback device of the current network namespace.
pub fn loopback_up() -> io::Result<()> {
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `ifreq` is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, source) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *target = libc::c_char::from_ne_bytes([*source]);
    }
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or(libc::c_short::MAX);
    // SAFETY: the descriptor is open, the request number takes an `ifreq`, which lives through
    // the call and names its device with a terminated string.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the host name of the current UTS namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}
