//! The other side of [`spawn`](crate::spawn): what the binary does when it is asked to be the
//! helper of a container.
//!
//! Three processes take part. The *caller* (many threads) starts the *helper* (one thread), which
//! stays outside, makes the cgroup, forks *process 1* into new namespaces, waits, and tidies up.
//! Process 1 builds the container around itself and executes the program.

mod container;
mod finish;
mod init;
mod mounts;
mod oci;
mod place;
mod rootfs;
mod stubs;
mod supervise;

pub(crate) use place::in_user_namespace;
pub(crate) use stubs::Stub;

/// Turns this process into the helper of a container if it was started as one; returns otherwise.
///
/// The first thing in `main`, before any thread is started.
#[allow(clippy::exit)] // The helper is a whole program of its own; this is its end.
pub fn helper_main_if_asked() {
    let asked =
        std::env::args_os().nth(1).is_some_and(|word| word == crate::spawn::HELPER_ARGUMENT);
    if asked {
        std::process::exit(supervise::main());
    }
}
