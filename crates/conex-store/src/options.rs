//! What the caller must tell the store about the world: the time, the boot, how trees are removed.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A moment: nanoseconds since the Unix epoch, enough for the years 1678 to 2262.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Converts a system time; one outside the range becomes the nearest that fits.
    pub fn from_system(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => {
                Self(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos))
            }
        }
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The moment `secs` seconds earlier.
    #[must_use]
    pub fn minus_secs(self, secs: u64) -> Self {
        let nanos = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        Self(self.0.saturating_sub(nanos))
    }
}

/// Tells the time. The store itself never reads a clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Removes a tree that the store itself may not remove: rootless, files can belong to mapped ids
/// that only a user namespace may touch.
pub type TreeRemover = Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// Tells the time for rows (created, last used, tag history).
    pub clock: Clock,
    /// Names the running boot of the machine (`/proc/sys/kernel/random/boot_id`). What was written
    /// in another boot and not synced is checked before it is used.
    pub boot_id: String,
    /// Who moves tags, for their history (a user name).
    pub actor: String,
    /// Removes trees when the store itself is refused.
    pub tree_remover: Option<TreeRemover>,
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StoreOptions")
            .field("boot_id", &self.boot_id)
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}
