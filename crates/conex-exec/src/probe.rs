//! What this machine allows, and why not, for `conex info` and for choosing a way.
//!
//! Invariant: a probe leaves nothing behind; what it mounts is never attached anywhere.

use std::path::Path;

use conex_sys::capability::{self, Capability};
use conex_sys::mount::{Attributes, Filesystem};

use crate::cgroup;
use crate::error::{Context as _, Error, Result};
use crate::spec::OverlayFlavour;

/// What a process may do about containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It is root of the machine, or of an outer container that may mount.
    Root,
    /// It is root of a user namespace.
    UserNamespaceRoot,
    /// It must enter a user namespace first.
    Ordinary,
}

/// Finds out what this process may do.
pub fn probe_power() -> Result<Power> {
    let effective = capability::effective().doing(|| "cannot read capabilities".to_owned())?;
    Ok(match (effective.has(Capability::SYS_ADMIN), crate::helper::in_user_namespace()) {
        (false, _) => Power::Ordinary,
        (true, true) => Power::UserNamespaceRoot,
        (true, false) => Power::Root,
    })
}

/// Says why an ordinary user cannot make user namespaces here, as far as the settings tell.
pub fn probe_user_namespaces() -> Result<(), String> {
    let setting =
        |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    if !Path::new("/proc/self/ns/user").exists() {
        return Err("the kernel is built without user namespaces".to_owned());
    }
    let checks = [
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for conex",
        ),
    ];
    for (path, forbidding, mending) in checks {
        if setting(path).as_deref() == Some(forbidding) {
            return Err(format!("`{path}` is {forbidding}; as root: {mending}"));
        }
    }
    Ok(())
}

/// Tries whether an overlay's upper folder can lie in `folder`, which must be writable, by
/// mounting one. Needs [`Power::Root`] or [`Power::UserNamespaceRoot`].
pub fn probe_overlay(folder: &Path, flavour: OverlayFlavour) -> Result<()> {
    let act = || format!("cannot try an overlay in `{}`", folder.display());
    let name = format!(".conex-probe-{}", rustix::process::getpid().as_raw_nonzero());
    let place = folder.join(name);
    for part in ["lower", "upper", "work"] {
        std::fs::create_dir_all(place.join(part)).doing(act)?;
    }
    let tried = try_overlay(&place, flavour);
    let removed = std::fs::remove_dir_all(&place);
    tried.map_err(|error| {
        Error::set_up(format!("an overlay cannot lie in `{}`", folder.display()), error)
    })?;
    removed.doing(act)
}

fn try_overlay(place: &Path, flavour: OverlayFlavour) -> std::io::Result<()> {
    let path = |part: &str| place.join(part).into_os_string().into_encoded_bytes();
    let filesystem = Filesystem::new("overlay")?;
    filesystem.set("lowerdir", path("lower"))?;
    filesystem.set("upperdir", path("upper"))?;
    filesystem.set("workdir", path("work"))?;
    if flavour == OverlayFlavour::User {
        filesystem.set_flag("userxattr")?;
    }
    filesystem.mount(Attributes::NONE).map(drop)
}

/// What cgroups the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupSupport {
    /// `v1`, `v2`, `hybrid` or `none`.
    pub version: &'static str,
    /// The controllers in which this process can make a cgroup of its own.
    pub usable: Vec<String>,
    /// Those that the machine has and this process cannot use.
    pub unusable: Vec<String>,
}

/// Finds out which limits can be applied.
pub fn probe_cgroups() -> Result<CgroupSupport> {
    cgroup::support()
}
