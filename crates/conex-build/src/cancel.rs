//! Stops a build: because the person asked, or because a step failed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use conex_exec::Signaller;

use crate::error::Error;

/// Shared by everything that works on one build.
#[derive(Debug, Default)]
pub struct Cancel {
    asked: AtomicBool,
    running: Mutex<Vec<(u64, Signaller)>>,
}

impl Cancel {
    /// Stops everything: running commands are killed, what waits does not start.
    pub fn cancel(&self) {
        self.asked.store(true, Ordering::SeqCst);
        for (_, signaller) in self.running().iter() {
            signaller.kill();
        }
    }

    /// Whether to stop.
    pub fn is_canceled(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// True once the build is to stop, for work that looks now and then.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_canceled() { Err(Error::canceled()) } else { Ok(()) }
    }

    /// Knows a running command until the guard goes.
    pub(crate) fn watch(&self, signaller: Signaller) -> Watch<'_> {
        let mut running = self.running();
        let id = running.last().map_or(0, |(id, _)| id + 1);
        // Asked in between: the list was already worked through.
        if self.is_canceled() {
            signaller.kill();
        }
        running.push((id, signaller));
        Watch { cancel: self, id }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Signaller)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a command when dropped.
pub(crate) struct Watch<'c> {
    cancel: &'c Cancel,
    id: u64,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.cancel.running().retain(|(id, _)| *id != self.id);
    }
}
