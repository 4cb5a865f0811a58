//! Limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process open as many files as it may. The low default of most systems is for programs
/// that use `select(2)`. Programs started in containers get their own limits.
pub fn raise_open_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // The limit stays as it is where the kernel refuses; opening files then fails by name.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
