//! Process 1: builds the container around itself, then executes the program.
//!
//! Invariant: every mount is made in this process's own mount namespace, which shares nothing with
//! any other, and is attached to an open folder that was found name by name.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use conex_sys::mount::{self, Attributes, Depth, Filesystem};
use conex_sys::namespace::{self, Namespaces};
use rustix::fs::{Mode, OFlags};

use super::finish;
use super::mounts::Mounter;
use super::place::Place;
use super::rootfs::{is_read_only, mount_rootfs};
use super::stubs::Tree;
use crate::error::{Context as _, Error, Failure, Result};
use crate::protocol::{Channel, FromContainer, FromHelper, ToContainer};
use crate::spec::{Access, ContainerSpec, Network, Rootfs};

/// The name of the rootfs's folder in the scratch file system.
pub(super) const ROOT_NAME: &str = "root";

/// What process 1 gets from the helper.
pub(super) struct Birth<'b> {
    pub(super) spec: &'b ContainerSpec,
    pub(super) place: Place,
    /// To the caller, for the terminal.
    pub(super) control: Channel,
    /// To the helper.
    pub(super) helper: Channel,
    /// What keeps devices out of reach.
    pub(super) guard: DeviceGuard,
    /// Whether to wait until the helper has put us into our cgroups.
    pub(super) cgroup: CgroupEntry,
}

/// What keeps a process with `CAP_MKNOD` from opening the host's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceGuard {
    /// The cgroup allows only harmless devices, whoever makes them.
    Cgroup,
    /// Device files work on no mount but the few that we bind.
    NoDevices,
    /// The kernel lets nobody make device files in a user namespace, and those that are bound from
    /// the host are the user's to open anyway.
    UserNamespace,
}

/// When process 1 is in its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CgroupEntry {
    /// It was born in them.
    AtBirth,
    /// When the helper says so.
    WhenTold,
}

/// Never returns: becomes the program or ends.
pub(super) fn run(birth: &Birth<'_>) -> ! {
    let Err(error) = become_program(birth);
    // If the helper is gone there is nobody to tell.
    let _ = birth.helper.send(&FromContainer::Failed(Failure::from(&error)));
    conex_sys::process::exit_now(error.exit_code());
}

fn become_program(birth: &Birth<'_>) -> Result<Infallible> {
    let spec = birth.spec;
    finish::die_with_helper()?;
    rustix::process::setsid().doing(|| "cannot make a session".to_owned())?;
    if birth.cgroup == CgroupEntry::WhenTold {
        await_cgroup(birth)?;
    }
    namespace::unshare(Namespaces::CGROUP).doing(|| "cannot make a cgroup namespace".to_owned())?;
    namespace::set_hostname(&spec.hostname).doing(|| "cannot set the host name".to_owned())?;
    if spec.network == Network::None {
        namespace::loopback_up().doing(|| "cannot switch on the loopback device".to_owned())?;
    }
    mount::make_all_private().doing(|| "cannot separate the container's mounts".to_owned())?;
    let terminal = build(birth)?;
    finish::finish(birth, terminal)
}

fn await_cgroup(birth: &Birth<'_>) -> Result<()> {
    let act = || "cannot hear from the helper".to_owned();
    match birth.helper.receive::<ToContainer>().doing(act)? {
        Some(_) => Ok(()),
        None => Err(Error::lost("the helper is gone")),
    }
}

/// Makes the rootfs with everything in it the root; returns the program's end of its terminal.
fn build(birth: &Birth<'_>) -> Result<Option<OwnedFd>> {
    let spec = birth.spec;
    let act = || "cannot make the container's scratch file system".to_owned();
    let scratch = scratch().doing(act)?;
    let attributes = match birth.guard {
        DeviceGuard::Cgroup | DeviceGuard::UserNamespace => Attributes::NONE,
        DeviceGuard::NoDevices => Attributes::NO_DEVICES,
    };
    let upper = open_upper(&spec.rootfs)?;
    let root = mount_rootfs(&spec.rootfs, &scratch, ROOT_NAME, attributes, birth.place)?;
    let root_again = root.try_clone().doing(|| "cannot open the rootfs".to_owned())?;
    let mut mounter =
        Mounter { tree: Tree::new(root_again, upper)?, scratch: &scratch, birth, file_count: 0 };
    let terminal = mounter.mount_all()?;
    for stub in mounter.tree.into_stubs() {
        let message = FromContainer::Stub(stub);
        birth.helper.send(&message).doing(|| "cannot speak to the helper".to_owned())?;
    }
    rustix::process::fchdir(&root).doing(|| "cannot enter the rootfs".to_owned())?;
    // The scratch file system covers the old root.
    mount::pivot_to_current(1).map_err(pivot_error)?;
    finish::enter_working_dir(spec)?;
    if spec.rootfs_access == Access::ReadOnly && !is_read_only(&spec.rootfs) {
        mount::change(&root, Attributes::READ_ONLY, Attributes::NONE, Depth::This)
            .doing(|| "cannot make the rootfs read-only".to_owned())?;
    }
    Ok(terminal)
}

/// A file system in memory that only this mount namespace knows, mounted over `/`, where no path
/// leads to it. Memory that holds secrets is not swapped out, where the kernel can promise that.
fn scratch() -> std::io::Result<OwnedFd> {
    let mounted = match scratch_mount(true) {
        Ok(mounted) => mounted,
        Err(_) => scratch_mount(false)?,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open("/", flags, Mode::empty())?;
    mount::attach(&mounted, &top)?;
    Ok(mounted)
}

fn scratch_mount(no_swap: bool) -> std::io::Result<OwnedFd> {
    let filesystem = Filesystem::new("tmpfs")?;
    filesystem.set("mode", "0755")?;
    if no_swap {
        filesystem.set_flag("noswap")?;
    }
    filesystem.mount(Attributes::NO_SUID.and(Attributes::NO_DEVICES))
}

pub(super) fn open_upper(rootfs: &Rootfs) -> Result<Option<OwnedFd>> {
    let Rootfs::Overlay(overlay) = rootfs else { return Ok(None) };
    let Some(upper) = &overlay.upper else { return Ok(None) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&*upper.dir, flags, Mode::empty())
        .map(Some)
        .doing(|| format!("cannot open upper folder `{}`", upper.dir.display()))
}

fn pivot_error(error: std::io::Error) -> Error {
    let refused = error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error());
    let error = Error::set_up("cannot make the rootfs the root", error);
    if refused {
        return error.with_hint("conex cannot make containers inside a chroot or an initramfs");
    }
    error
}

impl Birth<'_> {
    /// Tells the caller something that is no error.
    pub(super) fn note(&self, text: impl Into<String>) {
        // If the helper is gone, `exec` will never be reached.
        let _ = self.helper.send(&FromContainer::Note(text.into()));
    }

    /// Hands the controlling end of the terminal to the caller.
    pub(super) fn hand_over_terminal(&self, controller: &OwnedFd) -> Result<()> {
        use std::os::fd::AsFd as _;
        self.control
            .send_with(&FromHelper::Terminal, controller.as_fd())
            .doing(|| "cannot hand over the terminal".to_owned())
    }
}
