//! A small process 1 for programs that are not made to be one: passes signals on, reaps orphans,
//! ends as the program ended.

use std::convert::Infallible;

use conex_sys::namespace::Namespaces;
use conex_sys::process::{self, Fork};

use super::container::Birth;
use super::finish;
use crate::error::{Context as _, Failure, Result};
use crate::protocol::FromContainer;

/// Forks the program and looks after it. Returns only an error, and in the child only.
pub(super) fn run(birth: &Birth<'_>) -> Result<Infallible> {
    process::block_signals().doing(|| "cannot block signals".to_owned())?;
    let act = || "cannot start the program below the init".to_owned();
    match process::fork(Namespaces::NONE).doing(act)? {
        Fork::Child => {
            let Err(error) = lead_terminal(birth).and_then(|()| finish::execute(birth));
            // If the helper is gone there is nobody to tell.
            let _ = birth.helper.send(&FromContainer::Failed(Failure::from(&error)));
            process::exit_now(error.exit_code())
        }
        // The init closes all descriptors: the helper learns of the program's start by the end of
        // the channel, and nobody inside finds a folder of the host in `/proc/1/fd`.
        Fork::Parent { pid, .. } => process::become_init(pid),
    }
}

/// Puts the program into a group of its own, in front of the terminal if there is one.
fn lead_terminal(birth: &Birth<'_>) -> Result<()> {
    rustix::process::setpgid(None, None).doing(|| "cannot make a process group".to_owned())?;
    if birth.spec.terminal.is_some() {
        // All signals are blocked, so that the one for touching the terminal from behind is too.
        rustix::termios::tcsetpgrp(std::io::stdin(), rustix::process::getpid())
            .doing(|| "cannot give the terminal to the program".to_owned())?;
    }
    Ok(())
}
