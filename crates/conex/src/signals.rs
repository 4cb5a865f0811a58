//! Ctrl-C and its like.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conex_build::Cancel;
use conex_sys::signal::SignalWaiter;

use crate::error::{Doing as _, Result};

/// What SIGINT, SIGTERM and SIGHUP do to a build: end the process at once until it begins, since
/// nothing must be given back; then cancel it, and at the second signal end the process after all.
/// What is left running dies with it, what is left lying is found by the next cleaning.
pub struct Stopper {
    cancel: Arc<Cancel>,
    is_building: Arc<AtomicBool>,
}

impl Stopper {
    /// To be called before any other thread starts: one that does not block the signals would let
    /// them end the process.
    pub fn block() -> Result<Self> {
        let waiter =
            SignalWaiter::block_terminating().doing(|| "cannot wait for signals".to_owned())?;
        let stopper =
            Self { cancel: Arc::default(), is_building: Arc::new(AtomicBool::new(false)) };
        let (cancel, is_building) = (stopper.cancel.clone(), stopper.is_building.clone());
        // Lives as long as the process; it holds nothing that must be given back.
        std::thread::spawn(move || {
            while let Ok(signal) = waiter.wait() {
                if cancel.is_canceled() || !is_building.load(Ordering::SeqCst) {
                    conex_sys::signal::die_of(signal);
                }
                cancel.cancel();
            }
        });
        Ok(stopper)
    }

    /// The build begins: from now on the next signal cancels it.
    pub fn begin(&self) -> &Cancel {
        self.is_building.store(true, Ordering::SeqCst);
        &self.cancel
    }
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
