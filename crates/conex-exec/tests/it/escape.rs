//! What a program in a container tries in order to get out, and does not achieve.

use conex_exec::{Access, Mount, Privileges, ResolvedUser};

use crate::support::{Mode, for_each_mode, in_mode};

/// Each command must fail.
#[test]
fn forbidden_acts_fail() {
    let acts = [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc/sys",
        "umount /proc",
        "unshare -U true",
        "unshare -m true",
        "nsenter -t 1 -m true",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo core > /proc/sys/kernel/core_pattern",
        "echo b > /proc/sysrq-trigger",
        "touch /sys/x",
        "echo 1 > /sys/kernel/uevent_helper",
        "hostname other",
        "date -s 2001-01-01; test $(date +%Y) = 2001",
        "reboot -f",
        "insmod /bin/busybox",
        "dmesg -c",
        "pivot_root /tmp /tmp",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk",
        "mknod /dev/mem2 c 1 1 && head -c 1 /dev/mem2",
        "mknod /dev/kmsg2 c 1 11 && echo x > /dev/kmsg2",
        "head -c 1 /proc/kcore | grep -q .",
        "ls /sys/firmware | grep -q .",
        "swapoff -a && grep -q . /proc/swaps",
        concat!("chroot /proc/1/root/../../../../.. test -e ", env!("CARGO_MANIFEST_DIR")),
    ];
    let script = acts
        .iter()
        .map(|act| format!("( {act} ) >/dev/null 2>&1 && echo \"{}\"", act.replace('"', "")))
        .collect::<Vec<_>>()
        .join("; ");
    for_each_mode(&format!("{script}; true"), |mode, container| {
        let output = container.run();
        assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{mode:?} did: {output:?}");
    });
}

#[test]
fn processes_of_the_host_are_not_visible() {
    for_each_mode("ls -d /proc/[0-9]* | wc -l; ps | wc -l", |mode, container| {
        let output = container.run().good();
        let counts: Vec<u32> =
            output.split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!(counts.iter().all(|count| *count <= 6), "{mode:?}: {output}");
    });
}

#[test]
fn chroot_does_not_lead_out() {
    // The classic way out of a mere chroot: keep a folder open outside of a new root, go up.
    let script = concat!(
        "mkdir -p /tmp/in; cd /; chroot /tmp/in /bin/true 2>/dev/null; ",
        "cd /proc/self/cwd/../../../../../..; ls -d /bin/busybox; test -e /proc/1/root",
        env!("CARGO_MANIFEST_DIR"),
        " && echo out; true"
    );
    for_each_mode(script, |mode, container| {
        assert_eq!(container.run().good(), "/bin/busybox\n", "{mode:?}");
    });
}

#[test]
fn seccomp_and_capabilities_are_in_force() {
    let script = "grep -E '^(Cap(Inh|Prm|Eff|Amb)|Seccomp|NoNewPrivs):' /proc/self/status";
    for_each_mode(script, |mode, container| {
        let expected = "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
                        CapEff:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
                        NoNewPrivs:\t0\nSeccomp:\t2\n";
        assert_eq!(container.run().good(), expected, "{mode:?}");
    });
}

#[test]
fn ordinary_user_has_no_capability_and_may_be_kept_from_gaining_any() {
    let script = "grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs):' /proc/self/status";
    in_mode(Mode::Root, script, |mut container| {
        container.spec.user = ResolvedUser { uid: 5, gid: 5, groups: vec![5], home: "/".into() };
        container.spec.privileges = Privileges::NeverGrow;
        let expected = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                        CapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n";
        assert_eq!(container.run().good(), expected);
    });
}

#[test]
fn capabilities_follow_the_flags() {
    let script = "grep CapEff /proc/self/status";
    for (add, drop, expected) in [
        (&[][..], &["ALL"][..], "0000000000000000"),
        (&["SYS_ADMIN"], &[], "00000000a82425fb"),
        (&["CAP_CHOWN"], &["all"], "0000000000000001"),
        (&[], &["MKNOD", "net_raw"], "00000000a00405fb"),
    ] {
        in_mode(Mode::Root, script, |mut container| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            container.spec.capabilities.add = owned(add);
            container.spec.capabilities.drop = owned(drop);
            let output = container.run().good();
            assert_eq!(output.trim(), format!("CapEff:\t{expected}"), "{add:?} {drop:?}");
        });
    }
}

#[test]
fn insecure_container_may_mount() {
    for_each_mode(
        "mount -t tmpfs none /tmp && grep -c Seccomp:.0 /proc/self/status",
        |mode, mut container| {
            container.spec.make_insecure();
            assert_eq!(container.run().good(), "1\n", "{mode:?}");
        },
    );
}

#[test]
fn helper_binary_cannot_be_written_through_proc() {
    // CVE-2019-5736: a script whose interpreter is the runtime itself.
    in_mode(Mode::Root, "true", |mut container| {
        let script = container.path("lower/bin/evil");
        std::fs::write(&script, "#!/proc/self/exe\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        let before = std::fs::read(env!("CARGO_BIN_EXE_conex-exec-driver")).unwrap();
        container.spec.args = vec!["/bin/evil".to_owned()];
        let output = container.run();
        assert_ne!(output.code, 0, "{output:?}");
        // And from beside it: process 1 is the helper's binary when it is an init.
        container.spec.args = vec![
            "sh".into(),
            "-c".into(),
            "(echo x > /proc/1/exe) 2>/dev/null && echo wrote; \
             (exec 9< /proc/1/exe) 2>/dev/null && echo opened; true"
                .into(),
        ];
        container.spec.pid1 = conex_exec::Pid1::Init;
        assert_eq!(container.run().good(), "");
        let after = std::fs::read(env!("CARGO_BIN_EXE_conex-exec-driver")).unwrap();
        assert!(before == after);
    });
}

#[test]
fn read_only_bind_cannot_be_made_writable() {
    in_mode(Mode::Root, "mount -o remount,rw /data; echo x > /data/new", |mut container| {
        std::fs::create_dir(container.path("data")).unwrap();
        container.spec.mounts.push(Mount::bind(container.path("data"), "/data", Access::ReadOnly));
        assert_ne!(container.run().code, 0);
        assert!(!container.path("data/new").exists());
    });
}
