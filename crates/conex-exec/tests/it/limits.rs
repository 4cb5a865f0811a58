//! Limits as felt from inside, and cgroups as left outside.

use std::time::{Duration, Instant};

use conex_exec::{Resources, Ulimit};

use crate::support::{Container, Mode, for_each_mode, in_mode, unfit};

fn has(controller: &str) -> bool {
    let support = conex_exec::probe_cgroups().unwrap();
    let usable = support.usable.iter().any(|one| one == controller);
    if !usable {
        unfit(&format!("no usable cgroup controller `{controller}`"));
    }
    usable
}

/// Checks that no cgroup of this crate is without a living helper. Another test kills helpers; what
/// they leave goes with the next start, so start some more.
#[track_caller]
fn assert_nothing_stale(mut container: Container) {
    container.spec.resources = Resources::default();
    container.spec.args = vec!["true".to_owned()];
    let end = Instant::now() + Duration::from_secs(20);
    while !stale_cgroups().is_empty() {
        assert!(Instant::now() < end, "left: {:?}", stale_cgroups());
        container.run();
    }
}

/// Cgroups of this crate that no living helper has.
pub(crate) fn stale_cgroups() -> Vec<String> {
    let mut found = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for mount in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        let point = mount.split(' ').nth(4).unwrap();
        for entry in std::fs::read_dir(point).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(rest) = name.strip_prefix("conex-") else { continue };
            let pid = rest.split('-').next().unwrap_or_default();
            if !std::path::Path::new("/proc").join(pid).exists() {
                found.push(format!("{point}/{name}"));
            }
        }
    }
    found
}

#[test]
fn memory_limit_kills_and_is_reported() {
    // The shell outlives its child, so that the code is its own.
    let script = "head -c 200000000 /dev/zero | tail; echo survived";
    in_mode(Mode::Root, script, |mut container| {
        if !has("memory") {
            return;
        }
        container.spec.resources.memory = Some(32 << 20);
        let output = container.run();
        assert!(output.stderr.contains("out of memory"), "{output:?}");
        assert_nothing_stale(container);
    });
}

#[test]
fn limits_can_be_read_inside() {
    let script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us \
                  /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max 2>/dev/null";
    in_mode(Mode::Root, script, |mut container| {
        if !has("pids") || !has("cpu") {
            return;
        }
        container.spec.resources.pids = Some(17);
        container.spec.resources.cpu_nanos = Some(500_000_000);
        let output = container.run().stdout;
        assert!(["17\n50000\n", "17\n50000 100000\n"].contains(&output.as_str()), "{output}");
    });
}

#[test]
fn process_count_is_limited() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait";
    in_mode(Mode::Root, script, |mut container| {
        if !has("pids") {
            return;
        }
        container.spec.resources.pids = Some(4);
        let output = container.run();
        assert!(output.stderr.contains("can't fork"), "{output:?}");
    });
}

#[test]
fn limit_that_cannot_be_applied_is_an_error() {
    for mode in [Mode::Rootless, Mode::Single] {
        in_mode(mode, "true", |mut container| {
            container.spec.resources.cpuset_cpus = Some("4000-4001".to_owned());
            let output = container.run();
            assert_eq!(output.code, 125, "{mode:?}: {output:?}");
            assert!(output.stderr.contains("cgroup"), "{mode:?}: {output:?}");
        });
    }
}

#[test]
fn limits_of_the_process_are_set() {
    for_each_mode("ulimit -n; ulimit -Hn; ulimit -c", |mode, mut container| {
        for (name, soft, hard) in [("nofile", 123, 456), ("core", 0, 0)] {
            let (soft, hard) = (Some(soft), Some(hard));
            container.spec.resources.ulimits.push(Ulimit { name: name.to_owned(), soft, hard });
        }
        assert_eq!(container.run().good(), "123\n456\n0\n", "{mode:?}");
    });
}

#[test]
fn shared_memory_has_its_size() {
    for_each_mode("df -k /dev/shm | tail -n 1 | awk '{ print $2 }'", |mode, mut container| {
        container.spec.resources.shm_size = 8 << 20;
        assert_eq!(container.run().good(), "8192\n", "{mode:?}");
    });
}

#[test]
fn usual_devices_work_also_in_a_chroot_of_the_container() {
    let script = "mkdir -p /tmp/d; mknod /tmp/d/null c 1 3; echo x > /tmp/d/null && echo wrote; \
                  head -c 2 /dev/zero | wc -c; echo y > /dev/null && echo null";
    in_mode(Mode::Root, script, |container| {
        let output = container.run();
        if output.stderr.contains("note:") {
            unfit(&output.stderr);
            return;
        }
        assert_eq!(output.good(), "wrote\n2\nnull\n");
        assert_nothing_stale(container);
    });
}
