//! Waiting for the signals that ask a program to end.
//!
//! Blocked signals are blocked in every thread started afterwards, so one thread that waits for
//! them gets them all. Does not touch what other signals do.

use std::io;

const TERMINATING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Waits for SIGINT, SIGTERM or SIGHUP, which no longer end the process by themselves.
#[derive(Debug)]
pub struct SignalWaiter {
    set: libc::sigset_t,
}

impl SignalWaiter {
    /// Blocks the signals in this thread and all that it starts from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn block_terminating() -> io::Result<Self> {
        let set = terminating();
        // SAFETY: `set` is initialised; no old mask is asked for.
        let result =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if result == 0 { Ok(Self { set }) } else { Err(io::Error::from_raw_os_error(result)) }
    }

    /// Waits for the next signal and gives its number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self) -> io::Result<i32> {
        let mut signal = 0;
        // SAFETY: `set` is initialised and `signal` writable.
        let result = unsafe { libc::sigwait(&raw const self.set, &raw mut signal) };
        if result == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(result)) }
    }
}

fn terminating() -> libc::sigset_t {
    // SAFETY: plain data that the next call initialises.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable and of the right type.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in TERMINATING {
        // SAFETY: `set` is initialised and the number is a signal's.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Ends this process as the signal would have ended it, so that a shell sees why.
pub fn die_of(signal: i32) -> ! {
    // SAFETY: `SIG_DFL` is a valid action; an invalid number is refused.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let set = terminating();
    // SAFETY: `set` is initialised; no old mask is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    // SAFETY: takes an integer.
    unsafe { libc::raise(signal) };
    crate::process::exit_now(u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX))
}
