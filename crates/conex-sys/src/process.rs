//! Processes: start one with chosen descriptors, fork into namespaces, prepare for `exec`.
//!
//! Invariant: [`fork`] works only in a process with one thread, so that the child never meets a
//! lock held by a thread that it does not have.
//!
//! Does not search `PATH` and does not read the environment.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use rustix::process::Pid;
use rustix::process::WaitOptions;

use crate::namespace::Namespaces;

/// Lowest number to which descriptors are moved before they get the numbers asked for.
const SPAWN_FD_MIN: RawFd = 100;

/// Starts `program` with exactly the given arguments and environment; it gets each descriptor of
/// `fds` under the number beside it, and none of the others that are marked close-on-exec.
///
/// Safe in a process with many threads.
pub fn spawn(
    program: &CStr,
    args: &[CString],
    env: &[CString],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<Pid> {
    // Copies far above the targets, so that no `dup2` overwrites a source still to be used.
    let copies = fds
        .iter()
        .map(|(source, target)| {
            let copy = rustix::io::fcntl_dupfd_cloexec(source, SPAWN_FD_MIN)?;
            Ok((copy, *target))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut actions = FileActions::new()?;
    for (source, target) in &copies {
        actions.add_dup2(source.as_raw_fd(), *target)?;
    }
    let argv = pointers(args);
    let envp = pointers(env);
    let mut pid: libc::pid_t = 0;
    // SAFETY: program, argv and envp are terminated and outlive the call; the actions were
    // initialised; no attributes are passed; `pid` is writable.
    let result = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.raw,
            std::ptr::null(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    Pid::from_raw(pid).ok_or_else(|| io::Error::other("the kernel returned process id 0"))
}

struct FileActions {
    raw: libc::posix_spawn_file_actions_t,
}

impl FileActions {
    fn new() -> io::Result<Self> {
        // SAFETY: plain data that the next call initialises.
        let mut raw = unsafe { std::mem::zeroed() };
        // SAFETY: `raw` is writable and of the right type.
        let result = unsafe { libc::posix_spawn_file_actions_init(&raw mut raw) };
        if result == 0 { Ok(Self { raw }) } else { Err(io::Error::from_raw_os_error(result)) }
    }

    fn add_dup2(&mut self, source: RawFd, target: RawFd) -> io::Result<()> {
        // SAFETY: the actions were initialised in `new`.
        let result =
            unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.raw, source, target) };
        if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new` and destroyed only here.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.raw) };
    }
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr().cast_mut()).collect();
    pointers.push(std::ptr::null_mut());
    pointers
}

/// `CLONE_INTO_CGROUP` (linux/sched.h), since Linux 5.7.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The two sides of a fork.
#[derive(Debug)]
pub enum Fork {
    /// This is the new process.
    Child,
    /// This is the old process.
    Parent {
        /// The id of the child, as this process sees it.
        pid: Pid,
        /// A descriptor for the child: readable when it ends.
        pidfd: OwnedFd,
    },
}

/// Forks; the child is born inside the new namespaces.
///
/// Refused with `InvalidInput` in a process with more than one thread.
pub fn fork(namespaces: Namespaces) -> io::Result<Fork> {
    fork_with(namespaces, None)
}

/// Forks; the child is born inside the new namespaces and in the cgroup (version 2) whose folder
/// is open. To move it there later would cost milliseconds.
///
/// Refused with `InvalidInput` in a process with more than one thread.
pub fn fork_into(namespaces: Namespaces, cgroup: BorrowedFd<'_>) -> io::Result<Fork> {
    fork_with(namespaces, Some(cgroup))
}

fn fork_with(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    require_single_thread()?;
    let mut pidfd: RawFd = -1;
    // SAFETY: `clone_args` is plain data for which all zeroes means "a plain fork".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.bits()) | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without `CLONE_VM` the child gets a copy of the memory, as with `fork`; the process
    // has one thread, so no lock is held by another; the arguments outlive the call and have the
    // size that is passed.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match result {
        0 => Ok(Fork::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel stored a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| io::Error::other("the process id does not fit"))?;
            Ok(Fork::Parent { pid, pidfd })
        }
        _ => match io::Error::last_os_error() {
            // A seccomp filter that cannot look into the arguments of `clone3` refuses it so.
            error if error.raw_os_error() == Some(libc::ENOSYS) && cgroup.is_none() => {
                fork_old(namespaces, error)
            }
            error => Err(error),
        },
    }
}

fn fork_old(namespaces: Namespaces, refusal: io::Error) -> io::Result<Fork> {
    if namespaces != Namespaces::NONE {
        return Err(refusal);
    }
    // SAFETY: the process has one thread (checked by `fork`), so the child finds no lock held.
    let result = unsafe { libc::fork() };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let Some(pid) = Pid::from_raw(result) else { return Ok(Fork::Child) };
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    Ok(Fork::Parent { pid, pidfd })
}

/// Ends this process at once, without running what its parent registered to run at its own end:
/// for the child of a [`fork`].
pub fn exit_now(code: u8) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// True if this process has one thread.
pub fn is_single_threaded() -> io::Result<bool> {
    // The folder has a link for itself, one for its name in the parent, and one per thread.
    Ok(rustix::fs::stat(c"/proc/self/task")?.st_nlink == 3)
}

pub(crate) fn require_single_thread() -> io::Result<()> {
    if is_single_threaded()? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "the process has more than one thread"))
}

/// Replaces this process by a program; returns only if that failed.
pub fn exec(program: &CStr, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    let argv = pointers(args);
    let envp = pointers(env);
    // SAFETY: the program and both terminated arrays of terminated strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr().cast(), envp.as_ptr().cast()) };
    Err(io::Error::last_os_error())
}

/// Marks all descriptors from `first` up close-on-exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: takes three integers and changes only a flag of this process's descriptors.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if result == 0 {
        return Ok(());
    }
    // Before Linux 5.11 the flag does not exist: ask each descriptor.
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    for number in numbers.into_iter().filter(|number| number.cast_unsigned() >= first) {
        // SAFETY: a plain flag change; a number that is no longer open gives an error only.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// A private copy, close-on-exec, of a descriptor that the parent process left open; the original
/// is marked close-on-exec too.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: `fcntl` fails with EBADF when the number is not open; the copy is then ours alone.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, SPAWN_FD_MIN) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a plain flag change on an open number.
    unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    // SAFETY: `copy` was made just now and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Puts an open descriptor in place of number 0, 1 or 2.
pub fn replace_standard(source: impl AsFd, number: RawFd) -> io::Result<()> {
    if !(0..=2).contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the source is borrowed for the call; the standard numbers are not owned by any
    // `OwnedFd` of this process.
    let result = unsafe { libc::dup2(source.as_fd().as_raw_fd(), number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives every signal its default action and unblocks all.
///
/// The Rust runtime ignores `SIGPIPE`, and what is ignored stays so through `exec`.
pub fn reset_signals() -> io::Result<()> {
    /// The kernel's own structure: action, flags, restorer, mask; zeroes are the default action.
    /// The C library's function refuses the two signals that it keeps for itself, which whoever
    /// started us may have ignored.
    const DEFAULT_ACTION: [u64; 4] = [0; 4];
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the structure is no smaller than the kernel's on any architecture, lives through
        // the call and asks for no handler; no old action is asked for; a mask has 8 bytes.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT_ACTION.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8_usize,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    change_mask(libc::SIG_SETMASK, false)
}

/// Blocks all signals, for [`next_signal`] to take.
pub fn block_signals() -> io::Result<()> {
    change_mask(libc::SIG_SETMASK, true)
}

fn change_mask(how: libc::c_int, full: bool) -> io::Result<()> {
    let set = signal_set(full);
    // SAFETY: `set` is initialised; no old mask is asked for.
    let result = unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn signal_set(full: bool) -> libc::sigset_t {
    // SAFETY: plain data that the next call initialises.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    if full {
        // SAFETY: `set` is writable and of the right type.
        unsafe { libc::sigfillset(&raw mut set) };
    } else {
        // SAFETY: `set` is writable and of the right type.
        unsafe { libc::sigemptyset(&raw mut set) };
    }
    set
}

/// Waits for the next signal, all of which must be blocked.
pub fn next_signal() -> io::Result<i32> {
    let set = signal_set(true);
    loop {
        // SAFETY: `set` is initialised; no details are asked for.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Turns this process into an init: passes every signal on to `program`, reaps whatever ends, and
/// ends as the program ended (128 and the signal's number for a signal). Closes all descriptors.
///
/// All signals must be blocked.
pub fn become_init(program: Pid) -> ! {
    // SAFETY: invalidates descriptors that other code owns, none of which runs again: this
    // function does not return, and what it calls below uses none.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
    loop {
        let Ok(signal) = next_signal() else { exit_now(125) };
        if signal != libc::SIGCHLD {
            // Fails only when the program has ended, of which the next round hears.
            let _ = send_signal(program.as_raw_nonzero().get(), signal);
        } else if let Some(code) = reap_until(program) {
            exit_now(code);
        }
    }
}

/// Reaps all children that have ended; returns the exit code of `program` if it is among them.
fn reap_until(program: Pid) -> Option<u8> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => {
                let of_signal = || status.terminating_signal().map(|signal| signal + 128);
                let code = status.exit_status().or_else(of_signal).unwrap_or(125);
                return Some(u8::try_from(code & 0xff).unwrap_or(125));
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Sends a signal by number to a process, or with a negative id to a process group.
pub fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes two integers.
    let result = unsafe { libc::kill(pid, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal by number through a process descriptor.
pub fn send_signal_to(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call; no details are passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the session keyring of whoever started us for an empty one. The kernel may have no
/// keyrings; that is no error.
pub fn new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; integers otherwise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM) => Ok(()),
        _ => Err(error),
    }
}

/// One instruction of a classic BPF program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How far to jump if the test holds.
    pub jump_true: u8,
    /// How far to jump if not.
    pub jump_false: u8,
    /// The operand.
    pub value: u32,
}

/// Puts every later system call of this thread (and of its children) under a filter.
pub fn install_seccomp(program: &[Instruction]) -> io::Result<()> {
    const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
    let length = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the filter is too long"))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program outlives the call, has the stated length, is only read, and its
    // instructions have the layout of `sock_filter` (checked above, same field order).
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            // Docker and runc give up the speculation mitigations for filtered processes too.
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fork_is_refused_beside_other_threads() {
        // The test harness runs this on a thread of its own.
        let error = fork(Namespaces::NONE).expect_err("the harness has several threads");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn spawned_program_gets_only_the_descriptors_it_was_given() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let args = [c"sh".into(), c"-c".into(), c"ls /proc/self/fd >&9".into()];
        let pid = spawn(c"/bin/sh", &args, &[], &[(writer.as_fd(), 9)]).unwrap();
        drop(writer);
        let text = io::read_to_string(std::fs::File::from(reader)).unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
        assert!(text.lines().any(|number| number == "9"), "{text}");
        assert!(!text.lines().any(|number| number == "100"), "{text}");
    }
}
