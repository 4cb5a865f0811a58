//! Everything mounted inside the rootfs: the kernel's file systems, devices, what the caller asks
//! for, and what hides or protects parts of the former.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use conex_sys::mount::{self, Attributes, Depth, Filesystem};
use conex_sys::pty;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::container::{Birth, DeviceGuard};
use super::place::id_error;
use super::rootfs::mount_stack_path;
use super::stubs::{StubKind, Tree};
use crate::cgroup;
use crate::error::{Context as _, Error, Result};
use crate::spec::{Access, BindDepth, Mount, MountSource};

const SAFE: Attributes = Attributes::NO_SUID.and(Attributes::NO_DEVICES).and(Attributes::NO_EXEC);

/// The devices of every container: name, major, minor (Documentation/admin-guide/devices.txt).
pub(super) const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Symlinks in `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts into a rootfs.
pub(super) struct Mounter<'m> {
    pub(super) tree: Tree,
    /// A file system of our own, attached but out of everyone's sight.
    pub(super) scratch: &'m OwnedFd,
    pub(super) birth: &'m Birth<'m>,
    pub(super) file_count: usize,
}

impl Mounter<'_> {
    /// Mounts everything; returns the program's end of its terminal.
    pub(super) fn mount_all(&mut self) -> Result<Option<OwnedFd>> {
        self.mount_proc()?;
        self.mount_dev()?;
        let terminal = self.mount_devpts()?;
        self.mount_shm_and_mqueue()?;
        self.mount_sys()?;
        let spec = self.birth.spec;
        let mut mounts: Vec<&Mount> = spec.mounts.iter().collect();
        // A parent hides what was mounted below it before.
        mounts.sort_by_key(|mount| mount.target.split('/').filter(|name| !name.is_empty()).count());
        for wanted in mounts {
            self.mount_one(wanted)?;
        }
        for path in &spec.readonly_paths {
            self.make_read_only(path)?;
        }
        for path in &spec.masked_paths {
            self.mask(path)?;
        }
        Ok(terminal)
    }

    fn attach(&mut self, mounted: &OwnedFd, target: &str, kind: StubKind) -> Result<()> {
        let target_fd = self.tree.target(target, kind)?;
        mount::attach(mounted, &target_fd).doing(|| format!("cannot mount on `{target}`"))
    }

    /// `/proc`, `/dev` and `/sys` must be folders: through a symlink an image could have them
    /// mounted elsewhere and keep what masks them from doing its work (CVE-2019-19921).
    fn attach_system(&mut self, mounted: &OwnedFd, target: &str) -> Result<()> {
        let name = target.trim_start_matches('/');
        let stat = rustix::fs::statat(self.tree.root(), name, AtFlags::SYMLINK_NOFOLLOW);
        if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory) {
            return Err(Error::invalid(format!("`{target}` of the image is not a folder")));
        }
        self.attach(mounted, target, StubKind::Dir)
    }

    fn mount_proc(&mut self) -> Result<()> {
        let act = || "cannot mount /proc".to_owned();
        let fresh = Filesystem::new("proc").and_then(|filesystem| filesystem.mount(SAFE));
        let mounted = match fresh {
            Err(error) if is_refusal(&error) => {
                // Inside another container, parts of its /proc are hidden, and a fresh one would
                // show them again: the kernel refuses. That of the outer container must do.
                self.birth.note(
                    "/proc is that of the surrounding container, because the kernel refuses \
                     another: programs that look for themselves in it may fail",
                );
                mount::bind(rustix::fs::CWD, Path::new("/proc"), Depth::Tree)
            }
            other => other,
        };
        self.attach_system(&mounted.doing(act)?, "/proc")
    }

    fn mount_dev(&mut self) -> Result<()> {
        let act = || "cannot mount /dev".to_owned();
        let attributes = match self.birth.guard {
            DeviceGuard::Cgroup | DeviceGuard::UserNamespace => Attributes::NO_SUID,
            DeviceGuard::NoDevices => Attributes::NO_SUID.and(Attributes::NO_DEVICES),
        };
        let dev = tmpfs(&[("mode", "0755"), ("size", "64k")], attributes).doing(act)?;
        self.attach_system(&dev, "/dev")?;
        for (name, major, minor) in DEVICES {
            self.make_device(&dev, name, major, minor)
                .doing(|| format!("cannot make device `/dev/{name}`"))?;
        }
        for (name, target) in DEVICE_LINKS {
            rustix::fs::symlinkat(target, &dev, name).doing(act)?;
        }
        for name in ["pts", "shm", "mqueue"] {
            rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).doing(act)?;
        }
        Ok(())
    }

    fn make_device(&self, dev: &OwnedFd, name: &str, major: u32, minor: u32) -> io::Result<()> {
        if self.birth.guard == DeviceGuard::Cgroup {
            let mode = Mode::from_raw_mode(0o666);
            let number = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, number)?;
            return Ok(());
        }
        let host = mount::bind(rustix::fs::CWD, &Path::new("/dev").join(name), Depth::This)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        mount::attach(&host, rustix::fs::openat(dev, name, flags, Mode::empty())?)
    }

    fn mount_devpts(&mut self) -> Result<Option<OwnedFd>> {
        let act = || "cannot mount /dev/pts".to_owned();
        let attributes = Attributes::NO_SUID.and(Attributes::NO_EXEC);
        // Group 5 is `tty` everywhere; a user namespace may not have it.
        let devpts = devpts(Some("5"), attributes).or_else(|_| devpts(None, attributes));
        let devpts = devpts.doing(act)?;
        self.attach(&devpts, "/dev/pts", StubKind::Dir)?;
        let Some(size) = self.birth.spec.terminal else { return Ok(None) };
        let act = || "cannot make a terminal".to_owned();
        let pty = pty::open(&devpts).doing(act)?;
        let size = pty::Size { rows: size.rows, columns: size.columns };
        pty::resize(&pty.terminal, size).doing(act)?;
        let console = mount::bind(&pty.terminal, Path::new(""), Depth::This).doing(act)?;
        self.attach(&console, "/dev/console", StubKind::File)?;
        self.birth.hand_over_terminal(&pty.controller)?;
        Ok(Some(pty.terminal))
    }

    fn mount_shm_and_mqueue(&mut self) -> Result<()> {
        let size = self.birth.spec.resources.shm_size.to_string();
        let shm = tmpfs(&[("mode", "1777"), ("size", &size)], SAFE)
            .doing(|| "cannot mount /dev/shm".to_owned())?;
        self.attach(&shm, "/dev/shm", StubKind::Dir)?;
        match Filesystem::new("mqueue").and_then(|filesystem| filesystem.mount(SAFE)) {
            Ok(mqueue) => self.attach(&mqueue, "/dev/mqueue", StubKind::Dir),
            // A kernel without message queues; few programs know them.
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => Err(Error::set_up("cannot mount /dev/mqueue", error)),
        }
    }

    fn mount_sys(&mut self) -> Result<()> {
        let act = || "cannot mount /sys".to_owned();
        let attributes = SAFE.and(Attributes::READ_ONLY);
        match Filesystem::new("sysfs").and_then(|filesystem| filesystem.mount(attributes)) {
            Ok(sysfs) => {
                self.attach_system(&sysfs, "/sys")?;
                self.mount_cgroup_view()
            }
            // A user namespace may mount it only with a network of its own: that of the host then,
            // with what is mounted in it.
            Err(error) if is_refusal(&error) => {
                let host = Path::new("/sys");
                let bound = mount::bind(rustix::fs::CWD, host, Depth::Tree).doing(act)?;
                if let Err(error) = mount::change(&bound, attributes, Attributes::NONE, Depth::Tree)
                {
                    return Err(Error::set_up(act(), error));
                }
                self.attach_system(&bound, "/sys")
            }
            Err(error) => Err(Error::set_up(act(), error)),
        }
    }

    /// Shows the container's own part of the cgroup tree, read-only.
    fn mount_cgroup_view(&mut self) -> Result<()> {
        let attributes = SAFE.and(Attributes::READ_ONLY);
        let view = cgroup::view();
        // Programs that look there (a JVM, say) do without when they must.
        if view.unified {
            if let Ok(mounted) = Filesystem::new("cgroup2").and_then(|new| new.mount(attributes)) {
                self.attach(&mounted, "/sys/fs/cgroup", StubKind::Dir)?;
            }
            return Ok(());
        }
        if view.controllers.is_empty() || self.tree.existing("/sys/fs/cgroup")?.is_none() {
            return Ok(());
        }
        let act = || "cannot mount /sys/fs/cgroup".to_owned();
        let base = tmpfs(&[("mode", "0755")], SAFE).doing(act)?;
        self.attach(&base, "/sys/fs/cgroup", StubKind::Dir)?;
        for (name, option) in &view.controllers {
            let mounted = Filesystem::new("cgroup").and_then(|filesystem| {
                for option in option.split(',') {
                    match option.split_once('=') {
                        Some((key, value)) => filesystem.set(key, value)?,
                        None => filesystem.set_flag(option)?,
                    }
                }
                filesystem.mount(attributes)
            });
            if let Ok(mounted) = mounted {
                self.attach(&mounted, &format!("/sys/fs/cgroup/{name}"), StubKind::Dir)?;
            }
        }
        mount::change(&base, Attributes::READ_ONLY, Attributes::NONE, Depth::This).doing(act)
    }

    fn mount_one(&mut self, wanted: &Mount) -> Result<()> {
        let target = &wanted.target;
        let act = || format!("cannot mount on `{target}`");
        let mut attributes = Attributes::NONE;
        if self.birth.guard == DeviceGuard::NoDevices {
            attributes = attributes.and(Attributes::NO_DEVICES);
        }
        let (mounted, depth, kind) = match &wanted.source {
            MountSource::Bind { path, depth } => bind(path, *depth)?,
            MountSource::Overlay { overlay, path } => {
                let name = format!("stack{}", self.file_count);
                self.file_count += 1;
                let (mounted, kind) =
                    mount_stack_path(overlay, path, self.scratch, &name, self.birth.place)?;
                (mounted, Depth::This, kind)
            }
            MountSource::Tmpfs { size, mode, uid, gid } => {
                attributes = attributes.and(Attributes::NO_SUID).and(Attributes::NO_DEVICES);
                let mode = format!("{mode:o}");
                let (uid, gid) = (uid.to_string(), gid.to_string());
                let size = size.map(|size| size.to_string());
                let mut options = vec![("mode", &*mode), ("uid", &*uid), ("gid", &*gid)];
                options.extend(size.as_ref().map(|size| ("size", &**size)));
                let mounted =
                    tmpfs(&options, attributes).map_err(|error| id_error(act(), error))?;
                (mounted, Depth::This, StubKind::Dir)
            }
            MountSource::File { content, mode, uid, gid } => {
                let mounted = self.file(&content.0, *mode, *uid, *gid, target)?;
                (mounted, Depth::This, StubKind::File)
            }
        };
        if wanted.access == Access::ReadOnly {
            attributes = attributes.and(Attributes::READ_ONLY);
        }
        if !attributes.is_empty() {
            mount::change(&mounted, attributes, Attributes::NONE, depth).doing(act)?;
        }
        self.attach(&mounted, target, kind)
    }

    /// Makes a file in the scratch file system and a mount of it.
    fn file(
        &mut self,
        content: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
        target: &str,
    ) -> Result<OwnedFd> {
        let act = || format!("cannot make the file for `{target}`");
        let name = format!("file{}", self.file_count);
        self.file_count += 1;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.scratch, &*name, flags, Mode::empty()).doing(act)?;
        let mut file = File::from(file);
        file.write_all(content).doing(act)?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|error| id_error(act(), error.into()))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).doing(act)?;
        mount::bind(self.scratch, Path::new(&name), Depth::This).doing(act)
    }

    fn make_read_only(&mut self, path: &str) -> Result<()> {
        let Some(target) = self.tree.existing(path)? else { return Ok(()) };
        let act = || format!("cannot make `{path}` read-only");
        let bound = mount::bind(&target, Path::new(""), Depth::Tree).doing(act)?;
        mount::change(&bound, Attributes::READ_ONLY, Attributes::NONE, Depth::Tree).doing(act)?;
        mount::attach(&bound, &target).doing(act)
    }

    /// Hides a file behind `/dev/null`, a folder behind an empty one.
    fn mask(&mut self, path: &str) -> Result<()> {
        let Some(target) = self.tree.existing(path)? else { return Ok(()) };
        let act = || format!("cannot hide `{path}`");
        let stat = rustix::fs::fstat(&target).doing(act)?;
        let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match rustix::fs::mkdirat(self.scratch, "empty", Mode::from_raw_mode(0o555)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::set_up(act(), error)),
            }
            let cover = mount::bind(self.scratch, Path::new("empty"), Depth::This).doing(act)?;
            mount::change(&cover, SAFE.and(Attributes::READ_ONLY), Attributes::NONE, Depth::This)
                .doing(act)?;
            cover
        } else {
            let null = self.tree.target("/dev/null", StubKind::File)?;
            mount::bind(&null, Path::new(""), Depth::This).doing(act)?
        };
        mount::attach(&cover, &target).doing(act)
    }
}

/// A mount of something of the host, how deep it is, and what it must lie on.
fn bind(path: &Path, depth: BindDepth) -> Result<(OwnedFd, Depth, StubKind)> {
    let act = || format!("cannot mount `{}`", path.display());
    let wanted = match depth {
        BindDepth::This => Depth::This,
        BindDepth::Recursive => Depth::Tree,
    };
    let (mounted, depth) = match mount::bind(rustix::fs::CWD, path, wanted) {
        Ok(mounted) => (mounted, wanted),
        // In a user namespace, what is mounted below may not be uncovered: take it along.
        Err(error) if wanted == Depth::This && is_invalid(&error) => {
            let mounted = mount::bind(rustix::fs::CWD, path, Depth::Tree).doing(act)?;
            (mounted, Depth::Tree)
        }
        Err(error) => return Err(Error::set_up(act(), error)),
    };
    let stat = rustix::fs::fstat(&mounted).doing(act)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => StubKind::Dir,
        _ => StubKind::File,
    };
    Ok((mounted, depth, kind))
}

fn tmpfs(options: &[(&str, &str)], attributes: Attributes) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::new("tmpfs")?;
    for (key, value) in options {
        filesystem.set(key, value)?;
    }
    filesystem.mount(attributes)
}

fn devpts(group: Option<&str>, attributes: Attributes) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::new("devpts")?;
    filesystem.set_flag("newinstance")?;
    filesystem.set("ptmxmode", "0666")?;
    filesystem.set("mode", "0620")?;
    if let Some(group) = group {
        filesystem.set("gid", group)?;
    }
    filesystem.mount(attributes)
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::PERM | Errno::ACCESS | Errno::BUSY))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::NODEV | Errno::PERM | Errno::ACCESS))
}

fn is_invalid(error: &io::Error) -> bool {
    errno(error) == Some(Errno::INVAL)
}
