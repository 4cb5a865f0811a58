//! Capabilities: their names, sets of them, and how a process gives them up.

use std::fmt;
use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// The names in the order of their numbers, without `CAP_` (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// `CAP_DAC_READ_SEARCH`.
    pub const DAC_READ_SEARCH: Self = Self(2);
    /// `CAP_SYS_MODULE`.
    pub const SYS_MODULE: Self = Self(16);
    /// `CAP_SYS_RAWIO`.
    pub const SYS_RAWIO: Self = Self(17);
    /// `CAP_SYS_CHROOT`.
    pub const SYS_CHROOT: Self = Self(18);
    /// `CAP_SYS_PTRACE`.
    pub const SYS_PTRACE: Self = Self(19);
    /// `CAP_SYS_PACCT`.
    pub const SYS_PACCT: Self = Self(20);
    /// `CAP_SYS_ADMIN`.
    pub const SYS_ADMIN: Self = Self(21);
    /// `CAP_SYS_BOOT`.
    pub const SYS_BOOT: Self = Self(22);
    /// `CAP_SYS_NICE`.
    pub const SYS_NICE: Self = Self(23);
    /// `CAP_SYS_TIME`.
    pub const SYS_TIME: Self = Self(25);
    /// `CAP_SYS_TTY_CONFIG`.
    pub const SYS_TTY_CONFIG: Self = Self(26);
    /// `CAP_SYSLOG`.
    pub const SYSLOG: Self = Self(34);
    /// `CAP_PERFMON`.
    pub const PERFMON: Self = Self(38);
    /// `CAP_BPF`.
    pub const BPF: Self = Self(39);

    /// Finds a capability by its name, with or without `CAP_`, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let wanted = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|name| *name == wanted)?;
        u8::try_from(number).ok().map(Self)
    }

    /// All names, without `CAP_`.
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CAP_{}", NAMES.get(usize::from(self.0)).copied().unwrap_or("?"))
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilityMask(pub u64);

impl CapabilityMask {
    /// All capabilities that have a name here.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// True if the capability is in the set.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability.0) != 0
    }

    /// The set with one more.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | (1 << capability.0))
    }

    /// The set with one less.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability.0))
    }

    /// The capabilities that are in both sets.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..64_u8).map(Capability).filter(move |capability| self.has(*capability))
    }
}

/// The capabilities that this thread can use now.
pub fn effective() -> io::Result<CapabilityMask> {
    Ok(CapabilityMask(rustix::thread::capabilities(None)?.effective.bits()))
}

/// The capabilities that this thread and its children can have at most.
pub fn bounding() -> io::Result<CapabilityMask> {
    let mut mask = CapabilityMask::default();
    for number in 0..64_u8 {
        match rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(
            1 << number,
        )) {
            Ok(true) => mask = mask.with(Capability(number)),
            Ok(false) => {}
            // The first number that the kernel does not know ends the list.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(mask)
}

/// Takes all but `keep` out of the bounding set, for good.
pub fn limit_bounding(keep: CapabilityMask) -> io::Result<()> {
    for capability in bounding()?.iter().filter(|capability| !keep.has(*capability)) {
        rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
            1 << capability.0,
        ))?;
    }
    Ok(())
}

/// Keeps the permitted capabilities through the next change of user.
pub fn keep_through_user_change() -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(true)?)
}

/// Sets the permitted and effective capabilities; the inheritable and ambient ones are emptied.
pub fn set(mask: CapabilityMask) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let set = CapabilitySet::from_bits_retain(mask.0);
    let sets =
        CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_prefix() {
        for (name, shown) in [
            ("SYS_ADMIN", Some("CAP_SYS_ADMIN")),
            ("cap_net_raw", Some("CAP_NET_RAW")),
            ("CAP_CHECKPOINT_RESTORE", Some("CAP_CHECKPOINT_RESTORE")),
            ("CAP_", None),
            ("ALL", None),
        ] {
            let found = Capability::by_name(name).map(|found| found.to_string());
            assert_eq!(found.as_deref(), shown, "{name}");
        }
    }

    #[test]
    fn named_constants_have_the_numbers_of_their_names() {
        for (constant, name) in [
            (Capability::DAC_READ_SEARCH, "DAC_READ_SEARCH"),
            (Capability::SYS_MODULE, "SYS_MODULE"),
            (Capability::SYS_RAWIO, "SYS_RAWIO"),
            (Capability::SYS_CHROOT, "SYS_CHROOT"),
            (Capability::SYS_PTRACE, "SYS_PTRACE"),
            (Capability::SYS_PACCT, "SYS_PACCT"),
            (Capability::SYS_ADMIN, "SYS_ADMIN"),
            (Capability::SYS_BOOT, "SYS_BOOT"),
            (Capability::SYS_NICE, "SYS_NICE"),
            (Capability::SYS_TIME, "SYS_TIME"),
            (Capability::SYS_TTY_CONFIG, "SYS_TTY_CONFIG"),
            (Capability::SYSLOG, "SYSLOG"),
            (Capability::PERFMON, "PERFMON"),
            (Capability::BPF, "BPF"),
        ] {
            assert_eq!(Capability::by_name(name), Some(constant));
        }
    }
}
