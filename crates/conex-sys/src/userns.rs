//! User namespaces: how an ordinary user becomes root over files and mounts of their own.
//!
//! [`enter`] moves the whole process, which must have one thread, into a new user and mount
//! namespace. It prefers the ranges of subordinate ids that the administrator gave the user
//! (`/etc/subuid`), which `newuidmap` and `newgidmap` may map, and falls back to a map of the
//! user alone.
//!
//! Invariant: after [`enter`] returns `Ok`, the process has user id 0 in its new namespace and all
//! capabilities there; after `Err`, it may be inside a namespace without a map and must end.
//!
//! Does not look for the tools and does not read the environment: the caller passes paths.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitOptions};

use crate::namespace::{Namespaces, unshare};
use crate::process::{Fork, exit_now, fork};

/// Who the user is outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user id.
    pub uid: u32,
    /// The primary group id.
    pub gid: u32,
    /// The name in the user database, if there is one.
    pub name: Option<String>,
}

impl Identity {
    /// The identity of this process; `name` is what the user database calls it.
    pub fn of_process(name: Option<String>) -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            name,
        }
    }
}

/// A run of consecutive ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// How to map ids, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Who the user is.
    pub identity: Identity,
    /// Subordinate user ids, mapped from 1 up.
    pub uids: Vec<IdRange>,
    /// Subordinate group ids, mapped from 1 up.
    pub gids: Vec<IdRange>,
    /// The set-user-ID program that maps user ids.
    pub newuidmap: Option<PathBuf>,
    /// The set-user-ID program that maps group ids.
    pub newgidmap: Option<PathBuf>,
}

impl Plan {
    /// A plan that maps the user alone.
    pub fn single(identity: Identity) -> Self {
        Self { identity, uids: Vec::new(), gids: Vec::new(), newuidmap: None, newgidmap: None }
    }

    /// A plan from the texts of `/etc/subuid` and `/etc/subgid` and the paths of the two tools.
    pub fn new(
        identity: Identity,
        subuid: &[u8],
        subgid: &[u8],
        newuidmap: Option<PathBuf>,
        newgidmap: Option<PathBuf>,
    ) -> Self {
        let uids = subordinate_ranges(subuid, &identity);
        let gids = subordinate_ranges(subgid, &identity);
        Self { identity, uids, gids, newuidmap, newgidmap }
    }

    /// Why ranges cannot be mapped, if they cannot.
    pub fn missing(&self) -> Option<&'static str> {
        if self.uids.is_empty() {
            Some("/etc/subuid has no range for this user")
        } else if self.gids.is_empty() {
            Some("/etc/subgid has no range for this user")
        } else if self.newuidmap.is_none() {
            Some("newuidmap is not installed")
        } else if self.newgidmap.is_none() {
            Some("newgidmap is not installed")
        } else {
            None
        }
    }
}

/// Reads the ranges of one user out of the text of `/etc/subuid` or `/etc/subgid` (subuid(5)).
/// Lines that are not well-formed, and ranges that overlap an earlier one, are passed over.
pub fn subordinate_ranges(text: &[u8], identity: &Identity) -> Vec<IdRange> {
    let uid = identity.uid.to_string();
    let mut ranges: Vec<IdRange> = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut fields = line.split(':');
        let owner = fields.next().unwrap_or_default();
        if owner != uid && Some(owner) != identity.name.as_deref() {
            continue;
        }
        let number = |field: Option<&str>| field.and_then(|field| field.trim().parse().ok());
        let (Some(start), Some(count)) = (number(fields.next()), number(fields.next())) else {
            continue;
        };
        let range = IdRange { start, count };
        let fits = count > 0 && start.checked_add(count).is_some();
        if fits && !ranges.iter().any(|other| overlap(*other, range)) {
            ranges.push(range);
        }
    }
    ranges
}

fn overlap(left: IdRange, right: IdRange) -> bool {
    left.start < right.start.saturating_add(right.count)
        && right.start < left.start.saturating_add(left.count)
}

/// What a process in a user namespace can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Root and a range of other users and groups.
    Ranges {
        /// How many user ids exist inside.
        uid_count: u64,
        /// How many group ids exist inside.
        gid_count: u64,
    },
    /// Root alone.
    Single {
        /// Why not more.
        reason: String,
    },
}

/// Enters a new user and mount namespace as root of it.
///
/// Must be called while the process has one thread; refused with `InvalidInput` otherwise.
pub fn enter(plan: &Plan) -> io::Result<Mode> {
    let mut reason = plan.missing().map(str::to_owned);
    let mapper = match reason {
        None => Some(Mapper::start(plan)?),
        Some(_) => None,
    };
    unshare(Namespaces::USER.and(Namespaces::MOUNT))?;
    if let Some(mapper) = mapper {
        reason = mapper.finish()?;
    }
    let mode = match reason {
        None => Mode::Ranges { uid_count: total(&plan.uids), gid_count: total(&plan.gids) },
        Some(reason) => {
            map_alone(&plan.identity)?;
            Mode::Single { reason }
        }
    };
    become_root()?;
    crate::mount::make_all_private()?;
    Ok(mode)
}

fn total(ranges: &[IdRange]) -> u64 {
    1 + ranges.iter().map(|range| u64::from(range.count)).sum::<u64>()
}

fn become_root() -> io::Result<()> {
    let gid = rustix::process::Gid::ROOT;
    let uid = rustix::process::Uid::ROOT;
    // The process has one thread (checked by `unshare`), so thread and process are the same here.
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Maps 0 to the user. Groups must be frozen first, or a member of a group that is *denied*
/// something could leave it (user_namespaces(7)).
fn map_alone(identity: &Identity) -> io::Result<()> {
    match std::fs::write("/proc/self/setgroups", "deny") {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Refused when a range of groups was mapped already: groups may then change freely.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(error),
    }
    for (map, id) in [("/proc/self/uid_map", identity.uid), ("/proc/self/gid_map", identity.gid)] {
        // One of the two may have been written by its tool before the other tool failed; a map
        // can be written only once.
        if std::fs::read(map)?.is_empty() {
            std::fs::write(map, format!("0 {id} 1"))?;
        }
    }
    Ok(())
}

/// A child that stays outside to run the mapping tools, which must not run inside.
struct Mapper {
    child: Pid,
    go: OwnedFd,
    outcome: OwnedFd,
}

impl Mapper {
    fn start(plan: &Plan) -> io::Result<Self> {
        let (go_reader, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (outcome, outcome_writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let target = rustix::process::getpid();
        match fork(Namespaces::NONE)? {
            Fork::Parent { pid, .. } => Ok(Self { child: pid, go, outcome }),
            Fork::Child => {
                // The other ends must go, or the end of the parent would not be seen.
                drop(go);
                drop(outcome);
                let mut byte = [0_u8; 1];
                let message = match rustix::io::read(&go_reader, &mut byte) {
                    Ok(1) => map_ranges(plan, target).err().unwrap_or_default(),
                    _ => "the process that wanted the map is gone".to_owned(),
                };
                // If this fails the parent is gone, and with it whoever could be told.
                let _ = rustix::io::write(outcome_writer.as_fd(), message.as_bytes());
                exit_now(0);
            }
        }
    }

    /// Has the maps written; returns why not, if they were not.
    fn finish(self) -> io::Result<Option<String>> {
        rustix::io::write(&self.go, b"g")?;
        drop(self.go);
        let message = io::read_to_string(std::fs::File::from(self.outcome))?;
        rustix::process::waitpid(Some(self.child), WaitOptions::empty())?;
        Ok((!message.is_empty()).then_some(message))
    }
}

fn map_ranges(plan: &Plan, target: Pid) -> Result<(), String> {
    let identity = &plan.identity;
    for (tool, own, ranges) in
        [(&plan.newuidmap, identity.uid, &plan.uids), (&plan.newgidmap, identity.gid, &plan.gids)]
    {
        let tool = tool.as_ref().ok_or("a mapping tool is missing")?;
        let mut command = Command::new(tool);
        command.arg(target.as_raw_nonzero().to_string()).env_clear();
        command.args(map_arguments(own, ranges));
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run `{}`: {error}", tool.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`{}` failed: {}", tool.display(), text.trim()));
        }
    }
    Ok(())
}

/// `0 OWN 1`, then the ranges one after the other from 1.
fn map_arguments(own: u32, ranges: &[IdRange]) -> Vec<String> {
    let mut arguments = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside: u32 = 1;
    for range in ranges {
        let count = range.count.min(u32::MAX - 1 - inside);
        arguments.extend([inside, range.start, count].map(|number| number.to_string()));
        inside = inside.saturating_add(count);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { uid: 1000, gid: 1000, name: Some("ann".into()) }
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        for (text, expected) in [
            ("ann:100000:65536\n", vec![(100_000, 65_536)]),
            ("bob:1:2\n1000:5:6\nann:100:10", vec![(5, 6), (100, 10)]),
            ("ann:100:10\nann:105:10\n", vec![(100, 10)]),
            ("ann:x:1\nann:5\nann\n:1:2\nann:4294967295:2\nann:7:0\n", vec![]),
        ] {
            let found: Vec<_> = subordinate_ranges(text.as_bytes(), &identity())
                .into_iter()
                .map(|range| (range.start, range.count))
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn map_puts_the_user_at_0_and_ranges_behind() {
        let ranges = [IdRange { start: 100, count: 10 }, IdRange { start: 300, count: 5 }];
        assert_eq!(map_arguments(1000, &ranges).join(" "), "0 1000 1 1 100 10 11 300 5");
    }

    #[test]
    fn missing_pieces_are_named() {
        let plan = Plan::new(identity(), b"ann:1:2", b"", None, None);
        assert_eq!(plan.missing(), Some("/etc/subgid has no range for this user"));
        assert!(Plan::single(identity()).missing().is_some());
    }
}
