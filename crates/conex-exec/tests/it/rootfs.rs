//! The root file system: what is mounted, what is written, what is left.

use conex_exec::{Access, HostPath, Mount, MountSource, Overlay, Rootfs};

use crate::support::{Mode, for_each_mode, in_mode};

#[test]
fn only_the_containers_own_mounts_are_visible() {
    for_each_mode("cut -d' ' -f5 /proc/self/mountinfo", |mode, container| {
        let mounts = container.run().good();
        for mount in mounts.lines() {
            let known = ["/dev", "/proc", "/sys"];
            let own = mount == "/"
                || known
                    .iter()
                    .any(|path| mount == *path || mount.starts_with(&format!("{path}/")));
            assert!(own, "{mode:?}: {mount}");
        }
        let count = mounts.lines().filter(|mount| *mount == "/").count();
        assert_eq!(count, 1, "{mode:?}: {mounts}");
    });
}

#[test]
fn writes_go_to_the_upper_and_nothing_else_is_left_there() {
    for_each_mode("echo hello > /tmp/made", |mode, mut container| {
        for target in ["/etc/hosts", "/etc/resolv.conf", "/run/deep/secret"] {
            container.spec.mounts.push(Mount::file(target, "x", Access::ReadOnly));
        }
        for flags in [&[][..], &["--classic"]] {
            container.run_with(flags).good();
            assert_eq!(container.changes(), ["tmp", "tmp/made"], "{mode:?} {flags:?}");
        }
    });
}

#[test]
fn mounting_changes_no_time_of_a_folder() {
    for_each_mode("echo changed >> /etc/passwd", |mode, mut container| {
        container.spec.mounts.push(Mount::file("/etc/hosts", "x", Access::ReadOnly));
        let lower = std::fs::metadata(container.path("lower/etc")).unwrap().modified().unwrap();
        container.run().good();
        // The program changed a file in it, so the folder stays in the upper, without the stub.
        assert_eq!(container.changes(), ["etc", "etc/passwd"], "{mode:?}");
        let upper = std::fs::metadata(container.path("upper/etc")).unwrap().modified().unwrap();
        assert_eq!(upper, lower, "{mode:?}");
    });
}

#[test]
fn what_the_program_does_to_a_stubs_folder_is_kept() {
    for_each_mode("chmod 700 /etc; echo > /run/mine", |mode, mut container| {
        for target in ["/etc/hosts", "/run/secret"] {
            container.spec.mounts.push(Mount::file(target, "x", Access::ReadOnly));
        }
        container.run().good();
        assert_eq!(container.changes(), ["etc", "run", "run/mine"], "{mode:?}");
    });
}

#[test]
fn stub_over_a_whiteout_leaves_the_whiteout() {
    in_mode(Mode::Root, "cat /etc/hosts", |mut container| {
        std::fs::write(container.path("lower/etc/hosts"), "deleted").unwrap();
        let upper = container.path("upper/etc");
        std::fs::create_dir(&upper).unwrap();
        let whiteout = upper.join("hosts");
        let mode = rustix::fs::Mode::empty();
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &whiteout, kind, mode, 0).unwrap();
        container.spec.mounts.push(Mount::file("/etc/hosts", "new", Access::ReadOnly));
        assert_eq!(container.run().good(), "new");
        let left = rustix::fs::lstat(&whiteout).unwrap();
        let is_device = rustix::fs::FileType::from_raw_mode(left.st_mode) == kind;
        assert!(is_device && left.st_rdev == 0);
    });
}

#[test]
fn targets_through_symlinks_stay_inside() {
    for_each_mode("cat /etc/resolv.conf /abs/x /up/y", |mode, mut container| {
        for (link, target) in [
            ("lower/etc/resolv.conf", "../run/systemd/stub.conf"),
            ("lower/abs", "/new"),
            ("lower/up", "../../../../../../../../elsewhere"),
        ] {
            std::os::unix::fs::symlink(target, container.path(link)).unwrap();
        }
        for (target, content) in [("/etc/resolv.conf", "a"), ("/abs/x", "b"), ("/up/y", "c")] {
            container.spec.mounts.push(Mount::file(target, content, Access::ReadOnly));
        }
        assert_eq!(container.run().good(), "abc", "{mode:?}");
        assert_eq!(container.changes(), [""; 0], "{mode:?}");
        assert!(!std::path::Path::new("/elsewhere").exists());
    });
}

#[test]
fn image_cannot_move_the_kernels_file_systems() {
    in_mode(Mode::Root, "true", |container| {
        std::os::unix::fs::symlink("/tmp", container.path("lower/proc")).unwrap();
        let output = container.run();
        assert_eq!(output.code, 125);
        assert!(output.stderr.contains("`/proc` of the image is not a folder"), "{output:?}");
    });
}

#[test]
fn hundred_and_fifty_layers_are_stacked_topmost_first() {
    for_each_mode("cat /which; ls /layers | wc -l", |mode, mut container| {
        let Rootfs::Overlay(overlay) = &mut container.spec.rootfs else { unreachable!() };
        add_layers(overlay, 150);
        for flags in [&[][..], &["--classic"]] {
            assert_eq!(container.run_with(flags).good(), "149\n150\n", "{mode:?} {flags:?}");
        }
    });
}

/// Puts `count` layers on top, each with a file of its own and one that it shares with all.
fn add_layers(overlay: &mut Overlay, count: usize) {
    let bottom = overlay.lower[0].0.clone();
    let base = bottom.parent().unwrap().to_owned();
    for number in 0..count {
        // Long names, so that the options of all would not fit in a page.
        let layer = base.join(format!("layer-{number}-{}", "x".repeat(100)));
        std::fs::create_dir_all(layer.join("layers")).unwrap();
        std::fs::write(layer.join("which"), format!("{number}\n")).unwrap();
        std::fs::write(layer.join("layers").join(number.to_string()), "").unwrap();
        overlay.lower.insert(0, HostPath::from(layer));
    }
}

#[test]
fn odd_names_of_layers_are_no_options() {
    for_each_mode("cat /found", |mode, mut container| {
        let Rootfs::Overlay(overlay) = &mut container.spec.rootfs else { unreachable!() };
        for (number, name) in ["a:b", "c,upperdir=d", "e\\f", "g\"h", "i j"].iter().enumerate() {
            let layer = overlay.lower[overlay.lower.len() - 1].0.parent().unwrap().join(name);
            std::fs::create_dir(&layer).unwrap();
            std::fs::write(layer.join("found"), format!("{number}\n")).unwrap();
            overlay.lower.insert(0, HostPath::from(layer));
        }
        for flags in [&[][..], &["--classic"]] {
            assert_eq!(container.run_with(flags).good(), "4\n", "{mode:?} {flags:?}");
        }
    });
}

#[test]
fn read_only_rootfs_takes_mounts_but_no_writes() {
    let script = "echo x > /x; echo y > /scratch/y && cat /scratch/y; cat /etc/hosts";
    for_each_mode(script, |mode, mut container| {
        container.spec.rootfs_access = Access::ReadOnly;
        let source = MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777, uid: 0, gid: 0 };
        let target = "/scratch".to_owned();
        container.spec.mounts.push(Mount { target, source, access: Access::ReadWrite });
        container.spec.mounts.push(Mount::file("/etc/hosts", "h\n", Access::ReadOnly));
        let output = container.run();
        assert_eq!(output.stdout, "y\nh\n", "{mode:?}: {output:?}");
        assert!(output.stderr.contains("Read-only file system"), "{mode:?}: {output:?}");
        assert_eq!(container.changes(), [""; 0], "{mode:?}");
    });
}

#[test]
fn rootfs_without_an_upper_is_read_only() {
    for_each_mode("echo x > /tmp/x", |mode, mut container| {
        let Rootfs::Overlay(overlay) = &mut container.spec.rootfs else { unreachable!() };
        overlay.upper = None;
        for folder in ["proc", "dev", "sys"] {
            std::fs::create_dir(overlay.lower[0].join(folder)).unwrap();
        }
        // One layer is a plain mount, two are an overlay.
        for layers in 1..=2 {
            let Rootfs::Overlay(overlay) = &mut container.spec.rootfs else { unreachable!() };
            if layers == 2 {
                let layer = overlay.lower[0].0.with_file_name("second");
                std::fs::create_dir(&layer).unwrap();
                overlay.lower.insert(0, HostPath::from(layer));
            }
            let output = container.run();
            assert!(output.stderr.contains("Read-only file system"), "{mode:?}: {output:?}");
        }
        assert!(!container.path("lower/tmp/x").exists());
    });
}

#[test]
fn plain_folder_can_be_the_rootfs() {
    for_each_mode("echo x > /tmp/x; ls /etc", |mode, mut container| {
        container.spec.rootfs = Rootfs::Dir(container.path("lower").into());
        container.spec.mounts.push(Mount::file("/etc/hosts", "", Access::ReadOnly));
        assert_eq!(container.run().good(), "hosts\npasswd\n", "{mode:?}");
        assert!(container.path("lower/tmp/x").exists(), "{mode:?}");
        for stub in ["proc", "dev", "sys", "etc/hosts"] {
            assert!(!container.path("lower").join(stub).exists(), "{mode:?}: {stub}");
        }
    });
}

#[test]
fn bind_mounts_are_what_they_say() {
    let script = "cat /data/file; echo b >> /data/file; echo w >> /rw/file; cat /one; ls /data/sub";
    for_each_mode(script, |mode, mut container| {
        for folder in ["data/sub", "rw"] {
            std::fs::create_dir_all(container.path(folder)).unwrap();
        }
        for file in ["data/file", "rw/file", "one"] {
            std::fs::write(container.path(file), format!("{file}\n")).unwrap();
        }
        let mounts = [
            Mount::bind(container.path("data"), "/data", Access::ReadOnly),
            Mount::bind(container.path("rw"), "/rw", Access::ReadWrite),
            Mount::bind(container.path("one"), "/one", Access::ReadOnly),
            // Given before its parent would be hidden by it, if the order were kept.
            Mount::file("/data/sub/inner", "x", Access::ReadOnly),
        ];
        std::fs::write(container.path("data/sub/inner"), "").unwrap();
        container.spec.mounts = mounts.into_iter().rev().collect();
        let output = container.run();
        assert_eq!(output.stdout, "data/file\none\ninner\n", "{mode:?}: {output:?}");
        assert!(output.stderr.contains("Read-only file system"), "{mode:?}: {output:?}");
        let written = std::fs::read_to_string(container.path("rw/file")).unwrap();
        assert_eq!(written, "rw/file\nw\n", "{mode:?}");
    });
}

#[test]
fn path_of_another_stack_is_mounted_and_its_links_stay_in_it() {
    for_each_mode("cat /stage/file; ls -d /stage/*", |mode, mut container| {
        let Rootfs::Overlay(overlay) = &container.spec.rootfs else { unreachable!() };
        let stage = container.path("stage");
        std::fs::create_dir_all(stage.join("out")).unwrap();
        std::fs::write(stage.join("out/file"), "built\n").unwrap();
        std::os::unix::fs::symlink("/out", stage.join("link")).unwrap();
        let stack = Overlay { lower: vec![stage.into()], upper: None, flavour: overlay.flavour };
        let source = MountSource::Overlay { overlay: stack, path: HostPath::from("link") };
        let target = "/stage".to_owned();
        container.spec.mounts.push(Mount { target, source, access: Access::ReadOnly });
        for flags in [&[][..], &["--classic"]] {
            let output = container.run_with(flags).good();
            assert_eq!(output, "built\n/stage/file\n", "{mode:?} {flags:?}");
        }
    });
}

#[test]
fn secret_file_has_its_owner_and_mode_and_lives_in_memory() {
    let script = "stat -c '%a %u %g' /run/secrets/key; cat /run/secrets/key; \
                  stat -f -c %T /run/secrets/key";
    in_mode(Mode::Root, script, |mut container| {
        let content = conex_exec::Content(b"hush\n".to_vec());
        let source = MountSource::File { content, mode: 0o400, uid: 3, gid: 4 };
        let target = "/run/secrets/key".to_owned();
        container.spec.mounts.push(Mount { target, source, access: Access::ReadOnly });
        assert_eq!(container.run().good(), "400 3 4\nhush\ntmpfs\n");
        assert_eq!(container.changes(), [""; 0]);
    });
}

#[test]
fn missing_source_is_named() {
    in_mode(Mode::Root, "true", |mut container| {
        container.spec.mounts.push(Mount::bind("/no/such", "/x", Access::ReadOnly));
        let output = container.run();
        assert_eq!(output.code, 125);
        assert!(output.stderr.contains("cannot mount `/no/such`: No such file"), "{output:?}");
    });
}
