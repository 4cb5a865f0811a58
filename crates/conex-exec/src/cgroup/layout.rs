//! Where the machine has which cgroup controller.

use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};

/// A hierarchy that is mounted, and where in it we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The folder of our own cgroup.
    pub(super) own: PathBuf,
    /// Version 2.
    pub(super) is_unified: bool,
    /// What it controls; of version 2, what its root offers.
    controllers: Vec<String>,
}

/// All hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    places: Vec<Place>,
}

impl Layout {
    /// Reads how this process sees it.
    pub(super) fn read() -> Result<Self> {
        let act = || "cannot find out which cgroups there are".to_owned();
        let mounts = std::fs::read("/proc/self/mountinfo").doing(act)?;
        let own = std::fs::read("/proc/self/cgroup").unwrap_or_default();
        let mut layout =
            Self::parse(&String::from_utf8_lossy(&mounts), &String::from_utf8_lossy(&own));
        for place in layout.places.iter_mut().filter(|place| place.is_unified) {
            let file = place.mount.join("cgroup.controllers");
            // Before Linux 4.5 there is none, and no controller in version 2 either.
            let text = std::fs::read_to_string(file).unwrap_or_default();
            place.controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
        }
        Ok(layout)
    }

    /// From the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    fn parse(mounts: &str, own: &str) -> Self {
        let mut places: Vec<Place> = Vec::new();
        for line in mounts.lines() {
            let Some(mount) = CgroupMount::parse(line) else { continue };
            let is_unified = mount.kind == "cgroup2";
            let Some(own) = own.lines().find_map(|line| own_path(line, &mount)) else { continue };
            // A bind mount of a part (as in a container without a cgroup namespace) begins there.
            let inner = Path::new(own).strip_prefix(mount.root).unwrap_or(Path::new(""));
            let point = PathBuf::from(mount.point);
            let controllers = mount.options.iter().map(|option| (*option).to_owned()).collect();
            if !places.iter().any(|place| place.mount == point) {
                let own = point.components().chain(inner.components()).collect();
                places.push(Place { mount: point, own, is_unified, controllers });
            }
        }
        Self { places }
    }

    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(super) fn place(&self, controller: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.iter().any(|one| one == controller))
    }

    pub(super) fn is_unified(&self, controller: &str) -> bool {
        self.place(controller).is_some_and(|place| place.is_unified)
    }

    pub(super) fn unified(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.is_unified)
    }
}

struct CgroupMount<'t> {
    root: &'t str,
    point: &'t str,
    kind: &'t str,
    /// Controllers and `name=…`.
    options: Vec<&'t str>,
}

impl<'t> CgroupMount<'t> {
    /// One line of mountinfo (proc_pid_mountinfo(5)): `id parent dev root point options … - type
    /// source super-options`.
    fn parse(line: &'t str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut back = back.split(' ');
        let kind = back.next().filter(|kind| kind.starts_with("cgroup"))?;
        let options = back.nth(1).unwrap_or_default();
        let is_meant = |option: &&str| {
            let general = ["rw", "ro", "xattr", "none", "clone_children", "nsdelegate"];
            !general.contains(option)
                && !option.starts_with("release_agent=")
                && !option.starts_with("memory_")
        };
        let options = options.split(',').filter(is_meant).collect();
        let mut front = front.split(' ');
        let root = front.nth(3)?;
        let point = front.next()?;
        Some(Self { root, point, kind, options })
    }
}

/// Our path, if a line of `/proc/self/cgroup` (`id:controllers:path`) is that of the mount.
fn own_path<'t>(line: &'t str, mount: &CgroupMount<'_>) -> Option<&'t str> {
    let mut fields = line.splitn(3, ':');
    let (id, names, path) = (fields.next()?, fields.next()?, fields.next()?);
    let is_it = if mount.kind == "cgroup2" {
        id == "0" && names.is_empty()
    } else {
        names.split(',').any(|name| mount.options.contains(&name))
    };
    is_it.then_some(path)
}

impl Place {
    pub(super) fn has_controllers(&self) -> bool {
        !self.controllers.is_empty()
    }

    /// True if a cgroup with the controller could be made here, as far as rights tell.
    pub(super) fn can_hold(&self, controller: &str) -> bool {
        let writable =
            |folder: &Path| rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
        if !self.is_unified {
            return writable(&self.own);
        }
        let ancestors = self.own.ancestors().take_while(|path| path.starts_with(&self.mount));
        ancestors.into_iter().any(|folder| {
            let file = folder.join("cgroup.controllers");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            writable(folder)
                && writable(&folder.join("cgroup.subtree_control"))
                && text.split_ascii_whitespace().any(|one| one == controller)
        })
    }

    /// The folder in which a container's cgroup can be made with the given controllers.
    pub(super) fn parent(&self, wanted: Option<&str>, controllers: &[&str]) -> Result<PathBuf> {
        if let Some(wanted) = wanted {
            let parent = self.mount.join(wanted.trim_start_matches('/'));
            std::fs::create_dir_all(&parent)
                .doing(|| format!("cannot make cgroup parent `{wanted}`"))?;
            if self.is_unified {
                enable_below(&self.mount, &parent, controllers)?;
            }
            return Ok(parent);
        }
        if !self.is_unified || controllers.is_empty() {
            return Ok(self.own.clone());
        }
        // Version 2 gives no controllers to the children of a cgroup that holds processes (except
        // the root), and our own holds us: take the nearest ancestor that can.
        let mut refusal = None;
        for candidate in self.own.ancestors().take_while(|path| path.starts_with(&self.mount)) {
            match enable(candidate, controllers) {
                Ok(()) => return Ok(candidate.to_owned()),
                Err(error) => refusal = Some(error),
            }
        }
        let error = Error::unsupported(format!(
            "no cgroup that this user may write to has controllers {}",
            controllers.iter().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(", ")
        ));
        let error = error.with_hint(super::DELEGATION_HINT);
        Err(match refusal {
            Some(refusal) => error.with_source(refusal),
            None => error,
        })
    }
}

fn enable_below(top: &Path, parent: &Path, controllers: &[&str]) -> Result<()> {
    let mut folders: Vec<&Path> =
        parent.ancestors().take_while(|path| path.starts_with(top)).collect();
    folders.reverse();
    for folder in folders {
        enable(folder, controllers)
            .doing(|| format!("cannot enable controllers in `{}`", folder.display()))?;
    }
    Ok(())
}

/// Gives the children of a cgroup the controllers, if they do not have them.
fn enable(folder: &Path, controllers: &[&str]) -> std::io::Result<()> {
    let file = folder.join("cgroup.subtree_control");
    let text = std::fs::read_to_string(&file)?;
    let has = |controller: &&&str| text.split_ascii_whitespace().any(|one| one == **controller);
    let missing: Vec<String> = controllers
        .iter()
        .filter(|controller| !has(controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    if missing.is_empty() {
        // A folder that we cannot make cgroups in is of no use, whatever its controllers.
        return Ok(rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)?);
    }
    super::write(&file, &missing.join(" "))
}

/// What a container can be shown of the tree.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Version 2 alone.
    pub(crate) unified: bool,
    /// Folder name and mount options of each hierarchy of version 1.
    pub(crate) controllers: Vec<(String, String)>,
}

/// Reads what a container can be shown.
pub(crate) fn view() -> View {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    view_of(&String::from_utf8_lossy(&mounts))
}

fn view_of(mounts: &str) -> View {
    let mut view = View::default();
    for mount in mounts.lines().filter_map(CgroupMount::parse) {
        let Some(name) = mount.point.strip_prefix("/sys/fs/cgroup") else { continue };
        let name = name.trim_start_matches('/');
        if mount.kind == "cgroup2" {
            view.unified |= name.is_empty();
        } else if !name.is_empty() && !name.contains('/') {
            let named_only = mount.options.iter().all(|option| option.starts_with("name="));
            let prefix = if named_only { "none," } else { "" };
            let options = format!("{prefix}{}", mount.options.join(","));
            view.controllers.push((name.to_owned(), options));
        }
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        25 1 0:20 / /sys/fs/cgroup rw - tmpfs cgroup rw,mode=755\n\
        26 25 0:21 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        27 25 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        28 25 0:23 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        29 25 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID_OWN: &str =
        "3:memory:/outer/job\n2:cpu,cpuacct:/\n1:name=systemd:/x\n0::/user.slice\n";

    #[test]
    fn controllers_are_found_side_by_side_in_both_versions() {
        let layout = Layout::parse(HYBRID, HYBRID_OWN);
        let own =
            |controller| layout.place(controller).map(|place| place.own.display().to_string());
        assert_eq!(own("memory").as_deref(), Some("/sys/fs/cgroup/memory/outer/job"));
        assert_eq!(own("cpu").as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(own("pids"), None);
        let unified = layout.unified().map(|place| place.own.display().to_string());
        assert_eq!(unified.as_deref(), Some("/sys/fs/cgroup/unified/user.slice"));
    }

    #[test]
    fn a_mount_of_a_part_is_measured_from_there() {
        let mounts = "27 25 0:22 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        let layout = Layout::parse(mounts, "3:memory:/docker/abc/inner\n");
        let place = layout.place("memory").unwrap();
        assert_eq!(place.own, Path::new("/sys/fs/cgroup/memory/inner"));
    }

    #[test]
    fn hostile_lines_are_passed_over() {
        for text in ["", " - ", "a b c - cgroup", "1 2 3 4 - cgroup x", "- cgroup2 - "] {
            assert_eq!(Layout::parse(text, "::\n0:\n"), Layout::default(), "{text:?}");
        }
    }

    #[test]
    fn the_view_names_what_can_be_mounted_again() {
        let view = view_of(HYBRID);
        assert!(!view.unified);
        let shown: Vec<String> =
            view.controllers.iter().map(|(name, options)| format!("{name} {options}")).collect();
        assert_eq!(
            shown,
            ["cpu,cpuacct cpu,cpuacct", "memory memory", "systemd none,name=systemd"]
        );
        let unified = "30 1 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert!(view_of(unified).unified);
    }
}
