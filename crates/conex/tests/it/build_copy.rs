//! COPY and ADD: which files come, where they go, whose they are. The Dockerfiles check themselves
//! with `RUN` steps.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use crate::sandbox::{Sandbox, missing, program};

struct Case {
    name: &'static str,
    /// What follows `FROM base`.
    file: &'static str,
    /// Texts of the error, if it must not build.
    fails: &'static [&'static str],
}

const fn builds(name: &'static str, file: &'static str) -> Case {
    Case { name, file, fails: &[] }
}

const fn fails(name: &'static str, file: &'static str, fails: &'static [&'static str]) -> Case {
    Case { name, file, fails }
}

/// Builds each case and collects what is wrong, so that one run shows all.
fn check(sandbox: &Sandbox, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let ended = sandbox.build(&format!("FROM base\n{}", case.file), &[]);
        let lacks: Vec<_> = case.fails.iter().filter(|text| !ended.err.contains(**text)).collect();
        let code = i32::from(!case.fails.is_empty());
        if ended.code != code || !lacks.is_empty() {
            wrong.push(format!(
                "== {}: code {}, lacks {lacks:?}\n{}",
                case.name, ended.code, ended.err
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A context with some of everything.
fn fill(sandbox: &Sandbox) {
    sandbox.write("context/foo", "foo\n");
    sandbox.write("context/bar", "bar\n");
    sandbox.write_mode("context/exec.sh", "#!/bin/sh\n", 0o755);
    sandbox.write_mode("context/private", "p\n", 0o600);
    sandbox.write_mode("context/suid", "s\n", 0o4755);
    for file in ["dir/a", "dir/b", "dir/sub/c", "dir2/a2", "x/one/f1", "x/two/f2", "x/two/deep/f3"]
    {
        sandbox.write(&format!("context/{file}"), format!("{file}\n"));
    }
    sandbox.write("context/star*name", "star\n");
    sandbox.write("context/with space", "space\n");
    let at = |path: &str| sandbox.at(&format!("context/{path}"));
    std::fs::set_permissions(at("dir/sub"), std::fs::Permissions::from_mode(0o700)).unwrap();
    for (target, link) in [
        ("foo", "link"),
        ("dir", "dirlink"),
        ("../../../../../etc/passwd", "escape"),
        ("../foo", "dir2/up"),
        ("nowhere", "dangling"),
    ] {
        symlink(target, at(link)).unwrap();
    }
    std::fs::create_dir(at("hard")).unwrap();
    sandbox.write("context/hard/1", "same\n");
    std::fs::hard_link(at("hard/1"), at("hard/2")).unwrap();
}

#[test]
fn files_go_where_copy_says() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    fill(&sandbox);
    check(
        &sandbox,
        &[
            builds(
                "a file to a name",
                "COPY foo /new/name\nRUN [ $(cat /new/name) = foo ] && [ $(stat -c %a:%u:%g /new) = 755:0:0 ]\n",
            ),
            builds("a file to a folder", "COPY foo /new/\nRUN [ $(cat /new/foo) = foo ]\n"),
            builds(
                "a file to a folder that is there",
                "COPY foo /bin\nRUN [ $(cat /bin/foo) = foo ]\n",
            ),
            builds(
                "relative destination",
                "WORKDIR /w\nCOPY foo .\nCOPY bar sub/\nCOPY foo ./x\nRUN [ $(cat /w/foo /w/sub/bar /w/x | tr -d '\\n') = foobarfoo ]\n",
            ),
            builds(
                "content of a folder",
                "COPY dir /d\nRUN [ \"$(cd /d && find . | sort | tr '\\n' ' ')\" = '. ./a ./b ./sub ./sub/c ' ] && [ $(stat -c %a /d/sub) = 700 ]\n",
            ),
            builds(
                "trailing slash of the source",
                "COPY dir/ /d/\nRUN [ -f /d/a ] && [ ! -e /d/dir ]\n",
            ),
            builds(
                "folder to a folder that is there",
                "RUN mkdir /d && touch /d/mine\nCOPY dir /d\nRUN [ -f /d/mine ] && [ -f /d/a ]\n",
            ),
            builds(
                "several sources",
                "COPY foo bar dir /d/\nRUN [ -f /d/foo ] && [ -f /d/bar ] && [ -f /d/a ]\n",
            ),
            builds(
                "wildcard of files",
                "COPY fo[a-o] ba? /d/\nRUN [ \"$(ls /d | tr '\\n' ' ')\" = 'bar foo ' ]\n",
            ),
            builds(
                "wildcard of folders flattens",
                "COPY x/* /d/\nRUN [ \"$(cd /d; find . | sort | tr '\\n' ' ')\" = '. ./deep ./deep/f3 ./f1 ./f2 ' ]\n",
            ),
            builds(
                "wildcard without a match",
                "COPY nosuch* foo /d/\nRUN [ \"$(ls /d)\" = foo ]\n",
            ),
            builds("star does not cross folders", "COPY x/*/f2 /d/\nRUN [ \"$(ls /d)\" = f2 ]\n"),
            builds("escaped star", "COPY star\\*name /d/\nRUN [ -f '/d/star*name' ]\n"),
            builds(
                "json with a space",
                "COPY [\"with space\", \"/d/to here\"]\nRUN [ \"$(cat '/d/to here')\" = space ]\n",
            ),
            fails("missing source", "COPY nosuch /d\n", &["-:2", "`nosuch`", "build context"]),
            fails("typo of a source", "COPY fooo /d\n", &["-:2", "did you mean `foo`"]),
            fails("json near miss", "COPY ['foo', '/d']\n", &["-:2"]),
            builds(
                "above the context is the context",
                "COPY ../../foo /d\nRUN [ $(cat /d) = foo ]\n",
            ),
            builds("absolute source", "COPY /foo /d\nRUN [ $(cat /d) = foo ]\n"),
            builds(
                "source link is followed",
                "COPY link /d\nRUN [ ! -L /d ] && [ $(cat /d) = foo ]\n",
            ),
            builds(
                "source link to a folder is followed",
                "COPY dirlink /d\nCOPY dirlink/sub/c /c\nRUN [ -f /d/a ] && [ $(cat /c) = dir/sub/c ]\n",
            ),
            fails("source link out of the context", "COPY escape /d\n", &["-:2"]),
            builds(
                "links in a folder stay links",
                "COPY dir2 /d\nRUN [ $(readlink /d/up) = ../foo ]\n",
            ),
            builds(
                "destination link is followed in the root",
                "RUN mkdir /real && ln -s /real /l && ln -s ../../../../real /up\nCOPY dir /l\nCOPY foo /up/\nRUN [ -L /l ] && [ -f /real/a ] && [ -f /real/foo ]\n",
            ),
            builds(
                "destination file link is replaced within",
                "RUN mkdir /o && echo old > /o/f && ln -s /o/f /l\nCOPY foo /l\nRUN [ $(cat /l) = foo ]\n",
            ),
            builds(
                "hard links stay",
                "COPY hard /h\nRUN [ $(stat -c %h /h/1) = 2 ] && [ $(stat -c %i /h/1) = $(stat -c %i /h/2) ]\n",
            ),
            builds(
                "special bits stay",
                "COPY suid exec.sh private /\nRUN [ $(stat -c %a /suid) = 4755 ] && [ $(stat -c %a /exec.sh) = 755 ] && [ $(stat -c %a /private) = 600 ]\n",
            ),
            fails(
                "a file on a folder",
                "RUN mkdir -p /d/foo/x\nCOPY foo /d/\n",
                &["-:3", "/d/foo"],
            ),
            fails(
                "a folder on a file",
                "RUN mkdir /d && touch /d/sub\nCOPY dir /d/\n",
                &["-:3", "/d/sub"],
            ),
            builds(
                "twice is once",
                "COPY dir2 /d\nCOPY dir2 /d\nRUN [ $(readlink /d/up) = ../foo ] && [ $(cat /d/a2) = dir2/a2 ]\n",
            ),
            builds(
                "inline files",
                "ARG V=1\nCOPY <<a <<\"b\" /d/\n$V \"q\" \\$V\na\n$V\nb\nRUN [ \"$(cat /d/a)\" = '1 \"q\" $V' ] && [ \"$(cat /d/b)\" = '$V' ] && [ $(stat -c %a:%u /d/a) = 644:0 ]\n",
            ),
            builds(
                "an inline file to a name",
                "COPY --chmod=755 <<EOF /d/script\n#!/bin/sh\necho ran\nEOF\nRUN [ $(/d/script) = ran ]\n",
            ),
            fails("a heredoc as destination", "COPY foo <<EOF\nEOF\n", &["-:2"]),
            builds("all of an empty stage", "COPY --from=scratch / /d/\nRUN [ -d /d ]\n"),
        ],
    );
}

#[test]
fn files_belong_to_whom_copy_says() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    fill(&sandbox);
    check(
        &sandbox,
        &[
            builds(
                "root unless said",
                "USER app\nCOPY foo /d/\nRUN [ $(stat -c %u:%g /d/foo) = 0:0 ]\n",
            ),
            builds(
                "number alone",
                "COPY --chown=7 foo /d/\nRUN [ $(stat -c %u:%g /d/foo) = 7:7 ] && [ $(stat -c %u:%g /d) = 7:7 ]\n",
            ),
            builds(
                "name alone",
                "COPY --chown=app dir /d\nRUN [ $(stat -c %u:%g /d/sub/c) = 1000:1001 ] && [ $(stat -c %u:%g /d) = 1000:1001 ]\n",
            ),
            builds(
                "both",
                "COPY --chown=app:testgroup foo /f\nCOPY --chown=1001:testgroup foo /g\nCOPY --chown=app:7 foo /h\nRUN [ $(stat -c %u:%g /f) = 1000:2001 ] && [ $(stat -c %u:%g /g) = 1001:2001 ] && [ $(stat -c %u:%g /h) = 1000:7 ]\n",
            ),
            builds(
                "variables",
                "ARG U=app\nCOPY --chown=$U:${U} foo /f\nRUN [ $(stat -c %u:%g /f) = 1000:1001 ]\n",
            ),
            fails("unknown user", "COPY --chown=nosuch foo /f\n", &["-:2", "nosuch"]),
            fails("unknown group", "COPY --chown=app:nosuch foo /f\n", &["-:2", "nosuch"]),
            builds(
                "from a stage",
                "RUN mkdir -p /s/sub && touch /s/sub/f && chown -R 101:201 /s\nFROM base\nRUN mkdir /e && chown 5:5 /e\nCOPY --from=0 /s /d\nCOPY --from=0 /s /e\nRUN [ $(stat -c %u:%g:%a /d) = 0:0:755 ] && [ $(stat -c %u:%g /d/sub /d/sub/f | sort -u) = 101:201 ] && [ $(stat -c %u:%g /e) = 5:5 ]\n",
            ),
            builds(
                "mode of implied folders",
                "COPY --chmod=770 foo /parent/sub/foo\nRUN [ \"$(stat -c %a /parent /parent/sub /parent/sub/foo | tr '\\n' ' ')\" = '770 770 770 ' ]\n",
            ),
            builds("special modes", "COPY --chmod=7755 foo /f\nRUN [ $(stat -c %a /f) = 7755 ]\n"),
            builds(
                "symbolic modes",
                "COPY --chmod=u=rwX,go=rX dir /d\nRUN [ $(stat -c %a /d/sub) = 755 ] && [ $(stat -c %a /d/a) = 644 ]\n",
            ),
            fails("mode too large", "COPY --chmod=10000 foo /f\n", &["-:2", "10000"]),
            fails("no mode", "COPY --chmod=rwx! foo /f\n", &["-:2", "rwx!"]),
            builds(
                "mode by variable",
                "ARG M=751\nCOPY --chmod=$M foo /f\nRUN [ $(stat -c %a /f) = 751 ]\n",
            ),
            builds(
                "link",
                "RUN ln -s /real /l && mkdir /real /w && touch /w/mine\nCOPY --link dir /l/\nCOPY --link foo /w/\nRUN [ ! -L /l ] && [ -f /l/a ] && [ ! -e /real/a ] && [ -f /w/mine ] && [ -f /w/foo ]\n",
            ),
            builds(
                "link with mode and owner",
                "COPY --link --chmod=700 --chown=3:4 foo /f\nRUN [ $(stat -c %a:%u:%g /f) = 700:3:4 ]\n",
            ),
            builds(
                "parents",
                "COPY --parents dir/sub/c x/one /d/\nRUN [ \"$(cd /d; find . -type f | sort | tr '\\n' ' ')\" = './dir/sub/c ./x/one/f1 ' ] && [ $(stat -c %a /d/dir/sub) = 700 ]\n",
            ),
            builds(
                "parents with a pivot",
                "COPY --parents ./x/./two/deep /d/\nRUN [ -f /d/two/deep/f3 ] && [ ! -e /d/x ]\n",
            ),
            builds(
                "parents with any folder",
                "COPY --parents x/**/f* /d/\nRUN [ \"$(cd /d; find . -type f | sort | tr '\\n' ' ')\" = './x/one/f1 ./x/two/deep/f3 ./x/two/f2 ' ]\n",
            ),
            builds("exclude", "COPY --exclude=sub --exclude=b dir /d\nRUN [ \"$(ls /d)\" = a ]\n"),
            builds(
                "exclude in a wildcard",
                "COPY --exclude=b* ba? fo? /d/\nRUN [ \"$(ls /d)\" = foo ]\n",
            ),
            builds(
                "exclude with an exception",
                "COPY --exclude=** --exclude=!sub/c dir /d/\nRUN [ \"$(cd /d; find . -type f)\" = ./sub/c ]\n",
            ),
            builds(
                "exclude from a stage",
                "RUN mkdir /s && touch /s/a.c /s/a.o\nFROM base\nCOPY --from=0 --exclude=*.o /s /d\nRUN [ \"$(ls /d)\" = a.c ]\n",
            ),
            fails("unknown flag", "COPY --chwon=app foo /f\n", &["-:2", "--chown"]),
        ],
    );
}

#[test]
fn archives_are_unpacked_by_add_only() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let folder = sandbox.folder("a");
    sandbox.write("a/sub/f", "f\n");
    std::fs::hard_link(folder.join("sub/f"), folder.join("sub/g")).unwrap();
    symlink("f", folder.join("sub/l")).unwrap();
    sandbox.folder("context");
    let mut all = String::new();
    for (name, flag, tool) in [
        ("a.tar", "--format=pax", "tar"),
        ("a.tgz", "-z", "gzip"),
        ("a.bz2", "-j", "bzip2"),
        ("a.xz", "-J", "xz"),
        ("zst", "--zstd", "zstd"),
    ] {
        if program(tool).is_none() {
            missing(tool);
            continue;
        }
        let mut tar = Command::new("tar");
        let tar = tar.args(["--owner=101", "--group=201", flag, "-cf"]);
        let done = tar.arg(sandbox.at("context").join(name)).arg("-C").arg(&folder).arg("sub");
        assert!(done.status().unwrap().success());
        all.push_str(&format!(
            "ADD {name} /{name}.d\nRUN cd /{name}.d/sub && [ $(cat f) = f ] && [ $(readlink l) = f ] \
             && [ $(stat -c %h:%u:%g f) = 2:101:201 ]\n"
        ));
    }
    sandbox.write("context/no.tar", "this is no archive\n");
    sandbox.built(&format!("FROM base\n{all}"), &[]);
    check(
        &sandbox,
        &[
            builds("copy keeps it whole", "COPY a.tar /d/\nRUN [ -f /d/a.tar ]\n"),
            builds("add of what only looks like one", "ADD no.tar /d/\nRUN [ -f /d/no.tar ]\n"),
            builds(
                "add that shall not unpack",
                "ADD --unpack=false a.tar /d/\nRUN [ -f /d/a.tar ]\n",
            ),
            builds(
                "owner of members",
                "ADD --chown=app a.tar /d\nRUN [ \"$(stat -c %u:%g /d /d/sub /d/sub/f | sort -u)\" = 1000:1001 ]\n",
            ),
            builds(
                "through an absolute link of the root",
                "RUN mkdir /real && ln -s /real /d\nADD a.tar /d/\nRUN [ -f /real/sub/f ] && [ -L /d ]\n",
            ),
            builds("add of plain files", "ADD no.tar /x\nRUN [ -f /x ]\n"),
        ],
    );
}

#[test]
fn hostile_archives_stay_inside() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let entry = |name: &str, kind: u8, link: &str, content: &[u8]| {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let mut bytes = header.to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().div_ceil(512) * 512, 0);
        bytes
    };
    let end = vec![0; 1024];
    let canary = sandbox.write("canary", "safe");
    let up = format!("../../../../../../../../../..{}", canary.display());
    let archives = [
        ("up", vec![entry(&up, b'0', "", b"owned")]),
        ("absolute", vec![entry(canary.to_str().unwrap(), b'0', "", b"owned")]),
        (
            "through a link",
            vec![
                entry("l", b'2', sandbox.path().to_str().unwrap(), b""),
                entry("l/canary", b'0', "", b"owned"),
            ],
        ),
        ("hard link", vec![entry("h", b'1', &up, b""), entry("h", b'0', "", b"owned")]),
    ];
    for (name, parts) in archives {
        let mut bytes = parts.concat();
        bytes.extend_from_slice(&end);
        sandbox.write("context/evil.tar", bytes);
        let ended = sandbox.build("FROM base\nADD evil.tar /d/\nRUN [ ! -e /h ]\n", &[]);
        assert!(ended.code == 0 || ended.err.contains("-:2"), "{name}: {}", ended.err);
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "safe", "{name}");
    }
    // What was refused left the store usable.
    sandbox.built("FROM base\nRUN true\n", &[]);
    let cut = entry("f", b'0', "", &[b'x'; 2000]);
    sandbox.write("context/cut.tar", &cut[..1200]);
    let ended = sandbox.build("FROM base\nADD cut.tar /d/\n", &[]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.err.contains("-:2"), "{}", ended.err);
}

#[test]
fn ignored_files_are_not_there() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    fill(&sandbox);
    let found = "COPY . /d\nRUN --mount=target=/m cd /d && find . -type f | sort > /l; cd /m && find . -type f | sort > /k; cmp /l /k && cat /l\n";
    for (ignore, wanted) in [
        ("*\n!foo\n", vec!["foo"]),
        ("*\n!x/two/f2\n", vec!["x/two/f2"]),
        ("*\n!x\nx/two\n!x/two/deep\n", vec!["x/one/f1", "x/two/deep/f3"]),
        ("*\n!dir\n**/a\n", vec!["dir/b", "dir/sub/c"]),
        ("*\n!/dir/../bar\n# x\n  \n !foo \n", vec!["bar", "foo"]),
        ("*\n!dir*\ndir*/**\n!dir2/a2\n", vec!["dir2/a2"]),
    ] {
        sandbox.write("context/.dockerignore", ignore);
        let shown = sandbox.built(&format!("FROM base\n{found}"), &["--no-cache"]);
        let mut got: Vec<&str> =
            shown.lines().filter_map(|line| line.split_once(" ./")).map(|(_, name)| name).collect();
        got.sort_unstable();
        assert_eq!(got, wanted, "{ignore}\n{shown}");
    }
    sandbox.write("context/.dockerignore", "foo\n");
    let ended = sandbox.build("FROM base\nCOPY foo /\n", &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("ignore file"), "{}", ended.err);
    // A Dockerfile's own ignore file replaces that of the context.
    sandbox.write("context/sub.Dockerfile", "FROM base\nCOPY foo /\n");
    sandbox.write("context/sub.Dockerfile.dockerignore", "bar\nsub.Dockerfile\n");
    sandbox.ok(&["build", "-f", "context/sub.Dockerfile", "context"]);
    sandbox.write("context/.dockerignore", "[-x]\n");
    let ended = sandbox.build("FROM base\nCOPY foo /\n", &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains(".dockerignore:1"), "{}", ended.err);
}
