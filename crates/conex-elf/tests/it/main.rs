//! The closure of this machine's own programs, against `ldd` and by running what was listed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test reports so")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conex_elf::{Closure, EntryKind, ErrorKind, Link, SearchOptions, Toolset, closure};

const PATH: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

fn of_machine() -> SearchOptions {
    SearchOptions::new("/", PATH.map(PathBuf::from).to_vec())
}

fn of_root(root: &Path) -> SearchOptions {
    SearchOptions::new(root, vec!["/usr/bin".into(), "/bin".into()])
}

fn paths(closure: &Closure, wanted: fn(&EntryKind) -> bool) -> BTreeSet<String> {
    let wanted = closure.entries.iter().filter(|entry| wanted(&entry.kind));
    wanted.map(|entry| entry.path.to_str().unwrap().to_owned()).collect()
}

fn files(closure: &Closure) -> BTreeSet<String> {
    paths(closure, |kind| *kind == EntryKind::File)
}

fn all(closure: &Closure) -> BTreeSet<String> {
    paths(closure, |_| true)
}

/// What `ldd` says that a program loads, without links; none if it cannot say.
fn ldd(program: &Path) -> Option<BTreeSet<String>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output().ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let path = line.split("=> ").last()?.split_whitespace().next()?;
        if path.starts_with('/') {
            found.insert(fs::canonicalize(path).ok()?.to_str()?.to_owned());
        }
    }
    Some(found)
}

#[test]
fn libraries_are_those_that_ldd_names() {
    if Command::new("ldd").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "ldd is part of libc-bin");
        eprintln!("skipped: no ldd on this machine");
        return;
    }
    // Everything in /usr/bin that can be listed: hundreds of real programs.
    let mut compared = 0;
    let options = SearchOptions { companions: &[], ..of_machine() };
    let mut programs: Vec<_> =
        fs::read_dir("/usr/bin").unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.sort();
    // `ldd` starts the loader, 10 ms each: every fifth is enough.
    for program in programs.iter().step_by(5) {
        if !fs::read(program).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")) {
            continue;
        }
        // `ldd` takes `$ORIGIN` from the name that it is given, the kernel from the file itself.
        let Some(mut expected) = ldd(&fs::canonicalize(program).unwrap()) else { continue };
        expected.insert(fs::canonicalize(program).unwrap().to_str().unwrap().to_owned());
        let closure = closure(&[program], &options)
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert_eq!(files(&closure), expected, "{}", program.display());
        compared += 1;
    }
    assert!(compared > 20, "only {compared} programs compared");
}

/// Copies a closure below a folder, as an importer would.
fn copy(closure: &Closure, to: &Path) {
    for entry in &closure.entries {
        let place = to.join(entry.path.strip_prefix("/").unwrap());
        match &entry.kind {
            EntryKind::Dir => fs::create_dir(&place).unwrap(),
            EntryKind::Symlink { target } => symlink(target, &place).unwrap(),
            EntryKind::File => {
                fs::copy(&entry.path, &place).unwrap();
            }
        }
    }
}

/// Runs a shell script below a folder as its root; none if this user may not.
fn run_in(root: &Path, script: &str) -> Option<String> {
    let run = |command: &mut Command| {
        command.args(["/bin/sh", "-c", script]).env_clear().env("PATH", PATH.join(":"));
        command.output().unwrap()
    };
    let is_possible = |command: &mut Command| {
        command.arg("/bin/sh").arg("-c").arg(":").output().is_ok_and(|done| done.status.success())
    };
    let plain = || {
        let mut command = Command::new("chroot");
        command.arg(root);
        command
    };
    let mapped = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "chroot"]).arg(root);
        command
    };
    let output = if is_possible(&mut plain()) {
        run(&mut plain())
    } else if is_possible(&mut mapped()) {
        run(&mut mapped())
    } else {
        eprintln!("skipped: neither chroot nor a user namespace is possible here");
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn closure_of_a_shell_runs_alone() {
    let programs = ["sh", "ls", "cat", "sed", "grep", "tr", "env"];
    let closure = closure(&programs, &of_machine()).unwrap();
    let root = tempfile::tempdir().unwrap();
    copy(&closure, root.path());
    let script = "echo hello | sed s/hello/bye/ | tr b B | grep -c Bye; ls /usr/bin/cat; env true";
    let script = script.replace("env true", "env -i cat /dev/null || :");
    if let Some(output) = run_in(root.path(), &script) {
        assert_eq!(output, "1\n/usr/bin/cat\n");
    }
}

#[test]
fn compiler_toolset_compiles_alone() {
    let Some(toolset) = Toolset::named("c") else { panic!("the toolset is known") };
    let shell = Toolset::named("shell").unwrap();
    let options = SearchOptions { toolsets: vec![shell, toolset], ..of_machine() };
    let no_programs: [&str; 0] = [];
    let closure = match closure(&no_programs, &options) {
        Ok(closure) => closure,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "a C compiler is needed: {error}");
            eprintln!("skipped: no C compiler here ({error})");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let root = tempfile::tempdir().unwrap();
    copy(&closure, root.path());
    fs::create_dir(root.path().join("tmp")).unwrap();
    let script = "cd /tmp && printf '#include <stdio.h>\\nint main(){puts(\"built\");}' >a.c \
                  && gcc -O1 a.c -o a && ./a && gcc -static a.c -o b && ./b";
    if let Some(output) = run_in(root.path(), script) {
        assert_eq!(output, "built\nbuilt\n");
    }
}

#[test]
fn python_toolset_imports_what_is_compiled_and_what_is_not() {
    let toolset = Toolset::named("python3").unwrap();
    if !Path::new("/usr/bin/python3").exists() {
        assert!(std::env::var_os("CI").is_none(), "python3 is installed by the gate");
        eprintln!("skipped: no /usr/bin/python3");
        return;
    }
    let options = SearchOptions { toolsets: vec![toolset], ..of_machine() };
    let closure = closure(&["sh"], &options).unwrap();
    let root = tempfile::tempdir().unwrap();
    copy(&closure, root.path());
    let script = "python3 -c 'import json, ctypes, hashlib; print(json.dumps([1]))'";
    if let Some(output) = run_in(root.path(), script) {
        assert_eq!(output, "[1]\n");
    }
}

#[test]
fn node_toolset_runs_npm() {
    let options = SearchOptions { toolsets: vec![Toolset::named("node").unwrap()], ..of_machine() };
    let closure = match closure(&["sh"], &options) {
        Ok(closure) => closure,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: no Node.js with npm here ({error})");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let root = tempfile::tempdir().unwrap();
    copy(&closure, root.path());
    fs::create_dir(root.path().join("tmp")).unwrap();
    // Debian's node finds its libraries by the place of its program, which /proc would tell it.
    let script = "HOME=/tmp NODE_PATH=/usr/share/nodejs npm --version";
    if let Some(output) = run_in(root.path(), script) {
        assert!(output.split('.').count() == 3, "{output}");
    }
}

#[test]
fn every_link_has_its_target_and_every_path_its_folder() {
    let closure = closure(&["sh", "awk", "/bin/ls"], &of_machine()).unwrap();
    let all = all(&closure);
    for entry in &closure.entries {
        let parent = entry.path.parent().unwrap().to_str().unwrap();
        assert!(parent == "/" || all.contains(parent), "{}", entry.path.display());
        if let EntryKind::Symlink { .. } = entry.kind {
            let target = fs::canonicalize(&entry.path).unwrap();
            assert!(all.contains(target.to_str().unwrap()), "{}", entry.path.display());
        }
    }
    let sorted = closure.entries.windows(2).all(|pair| pair[0].path < pair[1].path);
    assert!(sorted, "parents come before children");
}

/// Makes a root without any ELF file.
fn script_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    fs::create_dir_all(at("usr/bin")).unwrap();
    fs::create_dir_all(at("opt/tree/sub")).unwrap();
    symlink("usr/bin", at("bin")).unwrap();
    for (name, text) in [
        ("tool", "#!/bin/runner -x\n"),
        ("runner", "#!/usr/bin/env final\n"),
        ("env", "not a script"),
        ("final", "not a script"),
        ("orphan", "#!/opt/missing/lua\n"),
        ("broken", "\x7fELF but not really"),
    ] {
        fs::write(at("usr/bin").join(name), text).unwrap();
        fs::set_permissions(at("usr/bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(at("opt/tree/data"), "data").unwrap();
    symlink("/usr/bin/final", at("opt/tree/sub/link")).unwrap();
    symlink("nowhere", at("opt/tree/sub/dangling")).unwrap();
    symlink("/usr", at("opt/tree/sub/folder")).unwrap();
    root
}

#[test]
fn scripts_bring_their_interpreters_through_env_and_links() {
    let root = script_root();
    let closure = closure(&["tool"], &of_root(root.path())).unwrap();
    let expected = [
        "/bin",
        "/usr",
        "/usr/bin",
        "/usr/bin/env",
        "/usr/bin/final",
        "/usr/bin/runner",
        "/usr/bin/tool",
    ];
    assert_eq!(all(&closure), expected.map(str::to_owned).into());
    let runner = closure.entries.iter().find(|entry| entry.path.ends_with("runner")).unwrap();
    assert_eq!(runner.wanted_by.as_deref(), Some(Path::new("/usr/bin/tool")));
    assert_eq!(closure.notes, [""; 0]);
}

#[test]
fn folders_are_taken_whole_but_linked_folders_are_not() {
    let root = script_root();
    let options = SearchOptions { dirs: vec!["/opt/tree".into()], ..of_root(root.path()) };
    let no_programs: [&str; 0] = [];
    let closure = closure(&no_programs, &options).unwrap();
    let expected = [
        "/bin",
        "/opt",
        "/opt/tree",
        "/opt/tree/data",
        "/opt/tree/sub",
        "/opt/tree/sub/dangling",
        "/opt/tree/sub/folder",
        "/opt/tree/sub/link",
        "/usr",
        "/usr/bin",
        "/usr/bin/final",
    ];
    assert_eq!(all(&closure), expected.map(str::to_owned).into());
    assert_eq!(closure.notes, ["`/opt/tree/sub/dangling` is a link to nothing"]);
}

#[test]
fn links_are_made_in_resolved_folders() {
    let root = script_root();
    let link = Link { path: "/bin/ls".into(), target: "env".into() };
    let options = SearchOptions { links: vec![link], ..of_root(root.path()) };
    let closure = closure(&["env"], &options).unwrap();
    let made = closure.entries.iter().find(|entry| entry.path.ends_with("ls")).unwrap();
    assert_eq!(made.path, Path::new("/usr/bin/ls"));
    assert_eq!(made.kind, EntryKind::Symlink { target: "env".into() });
}

#[test]
fn folders_of_the_path_that_this_user_may_not_enter_are_passed_over() {
    let root = script_root();
    let closed = root.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let path = ["/closed/bin", "/usr/bin"].map(PathBuf::from).to_vec();
    let closure = closure(&["env"], &SearchOptions::new(root.path(), path));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(files(&closure.unwrap()).contains("/usr/bin/env"));
}

#[test]
fn what_is_missing_is_named() {
    let root = script_root();
    for (program, kind, message) in [
        ("absent", ErrorKind::NotFound, "no program `absent` in the 2 folders of PATH"),
        ("/usr/bin/absent", ErrorKind::NotFound, "no file `/usr/bin/absent`"),
        (
            "orphan",
            ErrorKind::NotFound,
            "`/usr/bin/orphan` is to be run by `/opt/missing/lua`, which is missing",
        ),
        (
            "broken",
            ErrorKind::Malformed,
            "cannot use `/usr/bin/broken`: not a usable ELF file: its class is neither 32 nor 64 \
             bits",
        ),
    ] {
        let error = closure(&[program], &of_root(root.path())).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
    }
}
