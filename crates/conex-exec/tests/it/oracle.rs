//! Our own way and an OCI runtime's, seen from inside: they must agree.

use std::path::Path;

use conex_exec::{Access, Mount, ResolvedUser, Ulimit};

use crate::support::{Container, Mode, in_mode, skip, unfit};

const SCRIPT: &str = "[ -n \"$A\" ] && ulimit -n; grep -E '^(Cap|Seccomp:|NoNew|Uid|Gid|Groups|Umask)' /proc/self/status; \
    env | sort; pwd; hostname; cat /etc/hosts; ls -A /run/secrets; \
    awk '{ print $5, $6 }' /proc/self/mountinfo | grep -v -e /sys/fs/cgroup | sort; \
    ls -la /dev | awk '{ print $1, $3, $4, $5, $6, $NF }' | grep -v total | sed 1,2d | \
        grep -v ' core$'; \
    unshare -m true 2>&1; mount -t tmpfs x /tmp 2>&1; echo x > /proc/sys/kernel/sysrq; true";

/// Runs twice, once for each of ours and theirs, in fresh folders.
fn compare(mode: Mode, runtime: &str, change: fn(&mut Container)) {
    let path = ["/usr/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(runtime));
    if !path.iter().any(|path| path.exists()) {
        skip(&format!("{runtime} is not installed"));
        return;
    }
    in_mode(mode, SCRIPT, |mut own| {
        change(&mut own);
        let ours = own.run();
        in_mode(mode, SCRIPT, |mut other| {
            change(&mut other);
            let other = other.with_runtime(runtime);
            let theirs = other.run();
            if theirs.stderr.contains("cgroups in hybrid mode not supported") {
                unfit(&format!("{runtime} does not work with hybrid cgroups"));
                return;
            }
            assert_eq!(theirs.code, 0, "{runtime}: {theirs:?}");
            assert_eq!(normal(&ours.stdout), normal(&theirs.stdout), "{mode:?} {runtime}");
            assert_eq!(own.changes(), other.changes(), "{mode:?} {runtime}");
        });
    });
}

/// Leaves out what may differ without a difference for programs.
fn normal(output: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in output.lines() {
        // Masked folders are a bind of an empty one here and a tmpfs of their own there; the
        // order of the attributes is the kernel's.
        let is_mask = ["/proc/", "/sys/"].iter().any(|prefix| line.starts_with(prefix));
        let line = if is_mask { line.split(' ').next().unwrap_or_default() } else { line };
        // Our files come from a mount without devices and set-user-ID, which they are not.
        let is_file =
            ["/etc/hosts ", "/run/secrets/key "].iter().any(|file| line.starts_with(file));
        lines.push(if is_file { line.replace("nosuid,nodev,", "") } else { line.to_owned() });
    }
    lines.join("\n")
}

fn plain(_: &mut Container) {}

fn rich(container: &mut Container) {
    let spec = &mut container.spec;
    spec.mounts.push(Mount::file("/etc/hosts", "127.0.0.1 x\n", Access::ReadOnly));
    spec.mounts.push(Mount::file("/run/secrets/key", "s", Access::ReadOnly));
    spec.user = ResolvedUser { uid: 5, gid: 6, groups: vec![6, 7], home: "/h".to_owned() };
    spec.umask = 0o077;
    spec.env.push("A=b".to_owned());
    let (soft, hard) = (Some(100), Some(200));
    spec.resources.ulimits.push(Ulimit { name: "nofile".to_owned(), soft, hard });
    spec.capabilities.add.push("SYS_ADMIN".to_owned());
    spec.capabilities.drop.push("MKNOD".to_owned());
}

#[test]
fn plain_container_agrees_with_runc() {
    compare(Mode::Root, "runc", plain);
    compare(Mode::Rootless, "runc", plain);
}

#[test]
fn rich_container_agrees_with_runc() {
    compare(Mode::Root, "runc", rich);
    compare(Mode::Rootless, "runc", rich);
}

#[test]
fn containers_agree_with_crun() {
    compare(Mode::Root, "crun", plain);
    compare(Mode::Root, "crun", rich);
}
