//! Where the container is being made: what this process may do here.

use std::io;

use conex_sys::capability::{self, Capability, CapabilityMask};

use crate::error::{Context as _, Error, Result};
use crate::spawn::OverlayCalls;

/// What decides how a container is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// This is a user namespace with less than all ids: devices cannot be made, some file systems
    /// cannot be mounted.
    pub(super) in_user_namespace: bool,
    /// What a process here can have at most.
    pub(super) bounding: CapabilityMask,
    /// How overlays are mounted.
    pub(super) overlay_calls: OverlayCalls,
}

impl Place {
    pub(super) fn look(overlay_calls: OverlayCalls) -> Result<Self> {
        let effective = capability::effective().doing(|| "cannot read capabilities".to_owned())?;
        if !effective.has(Capability::SYS_ADMIN) {
            return Err(Error::unsupported("this process may not make containers")
                .with_hint("run as root, or let conex enter a user namespace: see `conex info`"));
        }
        let bounding = capability::bounding().doing(|| "cannot read capabilities".to_owned())?;
        Ok(Self { in_user_namespace: in_user_namespace(), bounding, overlay_calls })
    }
}

/// True in any user namespace but the first, which maps every id to itself.
pub(crate) fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<&str> = map.split_ascii_whitespace().collect();
    // Without the file there are no user namespaces.
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}

/// True if processes here may not choose their supplementary groups.
pub(super) fn groups_are_frozen() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

/// Explains why an id could not be used.
pub(super) fn id_error(act: String, error: io::Error) -> Error {
    let unmapped = error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error());
    let error = Error::set_up(act, error);
    if !unmapped {
        return error;
    }
    error.with_hint(
        "the id does not exist in this user namespace: give the user a range of ids in \
         /etc/subuid and /etc/subgid, for example with `usermod --add-subuids 100000-165535 \
         --add-subgids 100000-165535 USER`, and install newuidmap",
    )
}
