//! Ctrl-C and its like.

use std::sync::Arc;

use conex_build::Cancel;
use conex_sys::signal::SignalWaiter;

use crate::error::{Doing as _, Result};

/// Gives a token that is cancelled by SIGINT, SIGTERM or SIGHUP. A second signal ends the process
/// at once: what is left running dies with it, what is left lying is found by the next cleaning.
pub fn cancel_on_signal() -> Result<Arc<Cancel>> {
    let cancel = Arc::new(Cancel::default());
    let waiter =
        SignalWaiter::block_terminating().doing(|| "cannot wait for signals".to_owned())?;
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

/// Passes SIGINT, SIGTERM and SIGHUP on to a container.
pub struct Forwarder {
    waiter: SignalWaiter,
}

impl Forwarder {
    /// From now on signals wait to be passed on.
    pub fn block() -> Result<Self> {
        let waiter =
            SignalWaiter::block_terminating().doing(|| "cannot wait for signals".to_owned())?;
        Ok(Self { waiter })
    }

    /// Passes them on, in a thread that lives as long as the process.
    pub fn forward_to(self, container: conex_exec::Signaller) {
        std::thread::spawn(move || {
            while let Ok(signal) = self.waiter.wait() {
                container.signal(signal);
            }
        });
    }
}
