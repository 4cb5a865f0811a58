//! Ctrl-C and its like.

use std::sync::Arc;

use conex_build::Cancel;
use conex_sys::signal::SignalWaiter;

use crate::error::{Doing as _, Result};

/// Gives a token that is cancelled by SIGINT, SIGTERM or SIGHUP. A second signal ends the process
/// at once: what is left running dies with it, what is left lying is found by the next cleaning.
pub fn cancel_on_signal() -> Result<Arc<Cancel>> {
    let cancel = Arc::new(Cancel::default());
    let waiter = SignalWaiter::block_terminating().doing(|| "cannot wait for signals".to_owned())?;
    let for_thread = cancel.clone();
    // Lives as long as the process; it holds nothing that must be given back.
    std::thread::spawn(move || {
        if waiter.wait().is_ok() {
            for_thread.cancel();
        }
        if let Ok(signal) = waiter.wait() {
            conex_sys::signal::die_of(signal);
        }
    });
    Ok(cancel)
}
