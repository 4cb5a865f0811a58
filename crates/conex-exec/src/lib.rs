//! Runs one process in a container: overlay, mounts, namespaces, cgroups, seccomp, capabilities.
//!
//! A [`ContainerSpec`] says everything; [`spawn`] starts it and gives a [`Running`] to wait for.
//! The kernel work happens in a helper process of one thread, which is this binary once more: its
//! `main` calls [`helper_main_if_asked`] first.
//!
//! Invariant: whatever is killed, nothing of a container is left running or mounted.
//!
//! Knows no Dockerfile, no image store and no registry: folders come in, an exit status goes out.

#![forbid(unsafe_code)]

mod cgroup;
mod error;
mod foreign;
mod helper;
mod hostfiles;
mod probe;
mod protocol;
mod seccomp;
mod spawn;
mod spec;
mod user;
mod wire;

pub use error::{Error, ErrorKind, Result};
pub use foreign::{ForeignRun, foreign_run};
pub use helper::helper_main_if_asked;
pub use hostfiles::{
    ExtraHost, RESOLV_SIZE_MAX, RESOLVED_PATH, hostname_file, hosts_file, resolv_conf,
};
pub use probe::{
    CgroupSupport, Power, probe_cgroups, probe_overlay, probe_power, probe_user_namespaces,
};
pub use spawn::{
    ExecOptions, Exit, ExitStatus, HelperProgram, OverlayCalls, Running, Runtime, Signaller,
    Stream, Streams, spawn,
};
pub use spec::{
    Access, BindDepth, Capabilities, CapabilityBase, ContainerSpec, Content, Durability,
    LAYER_COUNT_MAX, MOUNT_COUNT_MAX, Mount, MountSource, Network, Overlay, OverlayFlavour, Pid1,
    Privileges, Resources, Rootfs, SHM_SIZE_DEFAULT, SPEC_SIZE_MAX, Seccomp, SwapLimit,
    TerminalSize, ULIMIT_NAMES, Ulimit, Upper, docker_masked_paths, docker_readonly_paths,
};
pub use user::{DATABASE_SIZE_MAX, ResolvedUser, resolve_user};
pub use wire::HostPath;
