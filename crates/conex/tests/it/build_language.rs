//! What the lines of a Dockerfile mean: the image's settings, variables, stages, triggers,
//! heredocs, mistakes.

use crate::sandbox::Sandbox;

/// What a Dockerfile shall come to.
enum Want {
    /// It builds; its own `RUN` steps check the rest.
    Builds,
    /// It builds and the image has this value (a template, what it shall give).
    Has(&'static str, &'static str),
    /// It does not build, and each of these texts says why.
    Fails(&'static [&'static str]),
}

use Want::{Builds, Fails, Has};

struct Case {
    name: &'static str,
    file: &'static str,
    args: &'static [&'static str],
    want: Want,
}

const fn case(name: &'static str, file: &'static str, want: Want) -> Case {
    Case { name, file, args: &[], want }
}

const fn with(
    name: &'static str,
    args: &'static [&'static str],
    file: &'static str,
    want: Want,
) -> Case {
    Case { name, file, args, want }
}

/// Builds each case and collects what is wrong, so that one run shows all.
fn check(sandbox: &Sandbox, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let mut args = vec!["-t", "it"];
        args.extend(case.args);
        let ended = sandbox.build(case.file, &args);
        let problem = match &case.want {
            Builds if ended.code == 0 => None,
            Has(template, wanted) if ended.code == 0 => {
                let got = sandbox.ok(&["inspect", "--format", template, "it"]);
                let got = got.trim_end_matches('\n');
                (got != *wanted).then(|| format!("wanted {wanted}\n   got {got}"))
            }
            Builds | Has(..) => Some(ended.err),
            Fails(_) if ended.code != 1 => Some(format!("code {}\n{}", ended.code, ended.err)),
            Fails(texts) => {
                let lacks: Vec<_> =
                    texts.iter().filter(|text| !ended.err.contains(**text)).collect();
                (!lacks.is_empty()).then(|| format!("lacks {lacks:?}\n{}", ended.err))
            }
        };
        wrong.extend(problem.map(|problem| format!("== {}\n{problem}", case.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn instructions_set_what_the_image_says() {
    let sandbox = Sandbox::new();
    let env = "{{json .Config.Env}}";
    let cases = [
        case(
            "scratch has a path",
            "FROM scratch\nENV A=1\n",
            Has(
                env,
                r#"["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=1"]"#,
            ),
        ),
        case(
            "legacy env",
            "FROM scratch\nENV PATH=/x\nENV a b=c d\n",
            Has(env, r#"["PATH=/x","a=b=c d"]"#),
        ),
        case(
            "env pairs see the start",
            "FROM scratch\nENV PATH=/x abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n",
            Has(env, r#"["PATH=/x","abc=bye","def=hello","ghi=bye"]"#),
        ),
        case("env mixed", "FROM scratch\nENV a=1 b\n", Fails(&["-:2", "ENV"])),
        case(
            "labels merge",
            "FROM scratch AS a\nLABEL a=1 b=1\nFROM a\nLABEL b=2 \"c d\"=\"e f\"\n",
            Has("{{json .Config.Labels}}", r#"{"a":"1","b":"2","c d":"e f"}"#),
        ),
        with(
            "label of the command line",
            &["--label", "a=2"],
            "FROM scratch\nLABEL a=1\n",
            Has("{{json .Config.Labels}}", r#"{"a":"2"}"#),
        ),
        case(
            "cmd shell",
            "FROM scratch\nCMD echo $HOME\n",
            Has("{{json .Config.Cmd}}", r#"["/bin/sh","-c","echo $HOME"]"#),
        ),
        case(
            "cmd json",
            "FROM scratch\nCMD [\"a\", \"$b\"]\n",
            Has("{{json .Config.Cmd}}", r#"["a","$b"]"#),
        ),
        case(
            "cmd near json is shell",
            "FROM scratch\nCMD ['a', 'b']\n",
            Has("{{json .Config.Cmd}}", r#"["/bin/sh","-c","['a', 'b']"]"#),
        ),
        case("json of numbers", "FROM scratch\nCMD [1, 2]\n", Fails(&["-:2"])),
        case(
            "cmd empties",
            "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD []\n",
            Has("{{len .Config.Cmd}}", "0"),
        ),
        case(
            "entrypoint resets inherited cmd",
            "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nENTRYPOINT [\"e\"]\n",
            Has("{{json .Config.Cmd}} {{json .Config.Entrypoint}}", r#"null ["e"]"#),
        ),
        case(
            "entrypoint keeps own cmd",
            "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\nENTRYPOINT [\"e\"]\n",
            Has("{{json .Config.Cmd}}", r#"["b"]"#),
        ),
        case(
            "shell",
            "FROM scratch\nSHELL [\"/bin/bash\", \"-ec\"]\nCMD x\nENTRYPOINT y\n",
            Has(
                "{{json .Config.Shell}} {{json .Config.Cmd}} {{json .Config.Entrypoint}}",
                r#"["/bin/bash","-ec"] ["/bin/bash","-ec","x"] ["/bin/bash","-ec","y"]"#,
            ),
        ),
        case("shell needs json", "FROM scratch\nSHELL bash\n", Fails(&["-:2", "SHELL"])),
        case(
            "ports",
            "FROM scratch\nARG P=\"81 82/UDP\"\nEXPOSE 8000-8002/tcp $P 80\n",
            Has(
                "{{json .Config.ExposedPorts}}",
                r#"{"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{},"81/tcp":{},"82/udp":{}}"#,
            ),
        ),
        case("wrong port", "FROM scratch\nEXPOSE 99999\n", Fails(&["-:2", "99999"])),
        case(
            "volumes",
            "FROM scratch AS a\nVOLUME /a\nFROM a\nVOLUME [\"/b\", \"/c d\"]\n",
            Has("{{json .Config.Volumes}}", r#"{"/a":{},"/b":{},"/c d":{}}"#),
        ),
        case(
            "user, workdir, stop signal",
            "FROM scratch\nARG U=7\nUSER $U:8\nWORKDIR /a\nWORKDIR b/../c\nSTOPSIGNAL SIGINT\n",
            Has(
                "{{.Config.User}} {{.Config.WorkingDir}} {{.Config.StopSignal}}",
                "7:8 /a/c SIGINT",
            ),
        ),
        case("wrong stop signal", "FROM scratch\nSTOPSIGNAL SIGNOPE\n", Fails(&["-:2", "SIGNOPE"])),
        case(
            "health",
            "FROM scratch\nHEALTHCHECK --interval=5s --timeout=1m --start-period=1s --start-interval=2s --retries=3 CMD a b\n",
            Has(
                "{{json .Config.Healthcheck.Test}} {{with .Config.Healthcheck}}{{.Interval}} {{.Timeout}} {{.StartPeriod}} {{.StartInterval}} {{.Retries}}{{end}}",
                r#"["CMD-SHELL","a b"] 5000000000 60000000000 1000000000 2000000000 3"#,
            ),
        ),
        case(
            "no health",
            "FROM scratch\nHEALTHCHECK CMD [\"a\"]\nHEALTHCHECK NONE\n",
            Has("{{json .Config.Healthcheck.Test}}", r#"["NONE"]"#),
        ),
        case(
            "maintainer",
            "FROM scratch\nMAINTAINER Me <me@example.com>\n",
            Has("{{.Author}}", "Me <me@example.com>"),
        ),
        case(
            "onbuild is kept",
            "FROM scratch\nONBUILD RUN x\nONBUILD COPY a /b\n",
            Has("{{json .Config.OnBuild}}", r#"["RUN x","COPY a /b"]"#),
        ),
        case(
            "onbuild onbuild",
            "FROM scratch\nONBUILD ONBUILD RUN x\n",
            Fails(&["-:2", "ONBUILD"]),
        ),
        case("onbuild from", "FROM scratch\nONBUILD FROM x\n", Fails(&["-:2"])),
        case(
            "platform",
            "FROM --platform=linux/arm64 scratch\nENV A=1\n",
            Has("{{.Architecture}}", "arm64"),
        ),
        with(
            "platform of the command line",
            &["--platform", "linux/arm64"],
            "FROM scratch\nARG TARGETARCH TARGETOS TARGETPLATFORM TARGETSTAGE\nLABEL a=$TARGETARCH,$TARGETOS,$TARGETPLATFORM,$TARGETSTAGE\n",
            Has("{{.Architecture}} {{.Config.Labels.a}}", "arm64 arm64,linux,linux/arm64,default"),
        ),
    ];
    check(&sandbox, &cases);
}

#[test]
fn variables_have_their_scopes_and_values() {
    let sandbox = Sandbox::new();
    let label = "{{.Config.Labels.l}}";
    let cases = [
        case(
            "global arg is not in stages",
            "ARG A=1\nFROM scratch\nLABEL l=[$A]\n",
            Has(label, "[]"),
        ),
        case(
            "global arg declared again",
            "ARG A=1\nFROM scratch\nARG A\nLABEL l=[$A]\n",
            Has(label, "[1]"),
        ),
        case(
            "stage default beats global",
            "ARG A=1\nFROM scratch\nARG A=2\nLABEL l=[$A]\n",
            Has(label, "[2]"),
        ),
        with(
            "build arg beats default",
            &["--build-arg", "A=3"],
            "ARG A=1\nFROM scratch\nARG A=2\nLABEL l=[$A]\n",
            Has(label, "[3]"),
        ),
        with(
            "env beats arg",
            &["--build-arg", "A=3"],
            "FROM scratch\nENV A=env\nARG A=2\nLABEL l=[$A]\n",
            Has(label, "[env]"),
        ),
        case(
            "unset is not empty",
            "FROM scratch\nARG A\nLABEL l=[${A-unset}${A+set}]\n",
            Has(label, "[unset]"),
        ),
        case(
            "empty is set",
            "FROM scratch\nARG A=\nLABEL l=[${A-unset}${A+set}${A:-empty}]\n",
            Has(label, "[setempty]"),
        ),
        with(
            "default with an error is not looked at",
            &["--build-arg", "A=3"],
            "FROM scratch\nARG A=${X:?no}\nLABEL l=$A\n",
            Has(label, "3"),
        ),
        case(
            "error in a default",
            "FROM scratch\nARG A=${X:?not given}\n",
            Fails(&["-:2", "not given"]),
        ),
        case(
            "args go to child stages",
            "FROM scratch AS a\nARG A=1\nFROM a\nLABEL l=[$A]\n",
            Has(label, "[1]"),
        ),
        case(
            "args do not go to siblings",
            "FROM scratch AS a\nARG A=1\nFROM scratch\nLABEL l=[$A]\n",
            Has(label, "[]"),
        ),
        case(
            "patterns",
            "FROM scratch\nENV v=a/b/c.tar.gz\nLABEL l=${v#*/},${v##*/},${v%.*},${v%%.*},${v/a/x},${v//[a]/x}\n",
            Has(label, "b/c.tar.gz,c.tar.gz,a/b/c.tar,a/b/c,x/b/c.tar.gz,a/b/c.tar.gz"),
        ),
        case(
            "special parameters are empty",
            "FROM scratch\nLABEL l=[$1$@$*$#$?$!$$$-]$.\n",
            Has(label, "[]$."),
        ),
        case("empty name", "FROM scratch\nLABEL l=${}\n", Fails(&["-:2"])),
        case("assignment", "FROM scratch\nLABEL l=${X:=y}\n", Fails(&["-:2"])),
        case(
            "quotes",
            "FROM scratch\nENV v=1\nLABEL l='$v'\"$v\"\\$v\"\\$v\"\n",
            Has(label, "$v1$v$v"),
        ),
        case(
            "escape directive",
            "# escape=`\nFROM scratch\nLABEL l=a`\nb\\c\n",
            Has(label, "ab\\c"),
        ),
        case(
            "directive twice",
            "# escape=`\n# escape=`\nFROM scratch\n",
            Fails(&["-:2", "escape"]),
        ),
        case(
            "doubled escape does not continue",
            "FROM scratch\nLABEL l=a\\\\\nLABEL m=b\n",
            Has("{{.Config.Labels.m}}", "b"),
        ),
        case(
            "comment in a continuation",
            "FROM scratch\nLABEL l=a\\\n# no\n  b=c\n",
            Has("{{json .Config.Labels}}", r#"{"b":"c","l":"a"}"#),
        ),
        case("variable in from", "ARG B=scratch\nFROM ${B}\nLABEL l=1\n", Has(label, "1")),
        case(
            "unset variable in from",
            "ARG BASEE=scratch\nFROM $BASE\n",
            Fails(&["-:2", "`BASEE`"]),
        ),
        case(
            "variable in --from",
            "FROM scratch AS a\nFROM scratch\nARG X=a\nCOPY --from=$X / /\n",
            Fails(&["-:4", "--from"]),
        ),
        case(
            "several args a line",
            "FROM scratch\nARG A=1 B=${A}2\nLABEL l=$B\n",
            Has(label, "12"),
        ),
        with(
            "stage name",
            &["--target", "Two"],
            "FROM scratch AS one\nFROM scratch AS two\nARG TARGETSTAGE\nLABEL l=$TARGETSTAGE\nFROM nosuch\n",
            Has(label, "two"),
        ),
        with(
            "target by number",
            &["--target", "0"],
            "FROM scratch\nLABEL l=0\nFROM scratch\nLABEL l=1\n",
            Has(label, "0"),
        ),
        with(
            "unknown target",
            &["--target", "biuld"],
            "FROM scratch AS build\n",
            Fails(&["`biuld`", "did you mean", "`build`"]),
        ),
        case(
            "last of two names",
            "FROM scratch AS a\nLABEL l=1\nFROM scratch AS a\nLABEL l=2\nFROM a\nLABEL m=1\n",
            Has(label, "2"),
        ),
    ];
    check(&sandbox, &cases);
}

#[test]
fn commands_see_the_variables_and_heredocs_of_the_dockerfile() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let cases = [
        case(
            "args are in the environment",
            "FROM base\nARG A=1\nENV B=2\nRUN [ $A$B = 12 ]\n",
            Builds,
        ),
        case("run text is not expanded", "FROM base\nENV B=2\nRUN B=3; [ $B = 3 ]\n", Builds),
        with(
            "proxies are there undeclared",
            &["--build-arg", "HTTP_PROXY=p"],
            "FROM base\nRUN [ $HTTP_PROXY = p ]\n",
            Builds,
        ),
        with(
            "proxies are not in history",
            &["--build-arg", "HTTP_PROXY=secretproxy"],
            "FROM base\nRUN : proxies\n",
            Has("{{len .Config.Env}}", "1"),
        ),
        case(
            "heredoc for the shell",
            "FROM base\nRUN <<EOF\nx=1\n[ $x = 1 ] && echo \"a  b\" > /f\nEOF\nRUN [ \"$(cat /f)\" = 'a  b' ]\n",
            Builds,
        ),
        case("heredoc does not stop at errors", "FROM base\nRUN <<EOF\nfalse\ntrue\nEOF\n", Builds),
        case(
            "heredoc with an interpreter",
            "FROM base\nRUN <<EOF\n#!/bin/cat\n\nthis is shown\nEOF\n",
            Builds,
        ),
        case(
            "heredoc as a file of the command",
            "FROM base\nRUN { cat; cat <&3; } <<A 3<<B > /f\n1\nA\n2\nB\nRUN [ \"$(cat /f)\" = \"$(printf '1\\n2')\" ]\n",
            Builds,
        ),
        case(
            "tabs are stripped",
            "FROM base\nRUN <<-EOF\n\t\techo x > /f\n\tEOF\nRUN [ $(cat /f) = x ]\n",
            Builds,
        ),
        case("heredoc without an end", "FROM base\nRUN <<EOF\ntrue\n", Fails(&["-:2", "EOF"])),
        case("exec form", "FROM base\nRUN [\"/bin/sh\", \"-c\", \"[ $0 = x ]\", \"x\"]\n", Builds),
        case(
            "shell of the stage",
            "FROM base\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN false; true\n",
            Fails(&["-:3", "exit code"]),
        ),
        case(
            "onbuild runs in the child, once",
            "FROM base AS a\nONBUILD RUN echo x >> /f\nFROM a AS b\nRUN [ $(cat /f) = x ]\nFROM b\nRUN [ $(cat /f) = x ]\n",
            Builds,
        ),
        case(
            "onbuild is cleared",
            "FROM base AS a\nONBUILD ENV A=1\nFROM a\n",
            Has("{{json .Config.OnBuild}}", "null"),
        ),
        case(
            "onbuild copies from a stage",
            "FROM base AS src\nRUN echo x > /s\nFROM base AS a\nONBUILD COPY --from=src /s /t\nFROM a\nRUN [ $(cat /t) = x ]\n",
            Builds,
        ),
        case(
            "unreached stages are not built",
            "FROM nosuchimage AS a\nRUN false\nFROM base AS b\nRUN false\nFROM base\nRUN true\n",
            Builds,
        ),
        case(
            "copy from a later stage",
            "FROM base\nCOPY --from=later /a /a\nFROM base AS later\n",
            Fails(&["-:2", "later"]),
        ),
        case("copy from itself", "FROM base AS a\nCOPY --from=a /a /a\n", Fails(&["-:2", "`a`"])),
        case(
            "copy from a number",
            "FROM base\nRUN echo x > /f\nFROM base\nCOPY --from=0 /f /g\nRUN [ $(cat /g) = x ]\n",
            Builds,
        ),
        case(
            "working directory",
            "FROM base\nWORKDIR /a/b\nRUN [ $(pwd) = /a/b ] && touch x\nWORKDIR ../c\nRUN [ $(pwd) = /a/c ]\n",
            Builds,
        ),
        case(
            "workdir belongs to the user",
            "FROM base\nRUN mkdir -m 0711 /old\nUSER app\nWORKDIR /new/sub\nRUN [ $(stat -c %u:%g:%a /new/sub) = 1000:1001:755 ] && [ $(stat -c %u:%g /new) = 1000:1001 ]\nWORKDIR /old\nRUN [ $(stat -c %u:%g:%a /old) = 0:0:711 ]\n",
            Builds,
        ),
        case(
            "missing working directory is made",
            "FROM base\nWORKDIR /w\nRUN rmdir /w 2>/dev/null; true\n",
            Builds,
        ),
        case(
            "user by name",
            "FROM base\nUSER app\nRUN [ \"$(id -u):$(id -g):$(id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' ')\" = '1000:1001:10 50 1001 ' ]\n",
            Builds,
        ),
        case(
            "user and group drop the others",
            "FROM base\nUSER app:testgroup\nRUN [ \"$(id -u):$(id -g):$(id -G)\" = 1000:2001:2001 ] || { id; false; }\n",
            Builds,
        ),
        case(
            "number without a name",
            "FROM base\nUSER 1042\nRUN [ \"$(id -u):$(id -g)\" = 1042:0 ]\n",
            Builds,
        ),
        case(
            "numbers without names",
            "FROM base\nUSER 1042:1043\nRUN [ \"$(id -u):$(id -g)\" = 1042:1043 ]\n",
            Builds,
        ),
        case("unknown user", "FROM base\nUSER nobodyknows\nRUN true\n", Fails(&["nobodyknows"])),
        case(
            "home of the user",
            "FROM base\nRUN [ $HOME = /root ]\nUSER app\nRUN [ $HOME = /home/app ]\nENV HOME=/x\nRUN [ $HOME = /x ]\n",
            Builds,
        ),
        case(
            "home is not in the image",
            "FROM base\nUSER app\nRUN true\n",
            Has("{{len .Config.Env}}", "1"),
        ),
        case(
            "volume keeps later changes",
            "FROM base\nVOLUME /v\nRUN echo x > /v/f || { mkdir /v; echo x > /v/f; }\nRUN [ $(cat /v/f) = x ]\n",
            Builds,
        ),
        case(
            "no new privileges is off",
            "FROM base\nRUN grep -q 'NoNewPrivs:.0' /proc/self/status\n",
            Builds,
        ),
        case(
            "system call filter is on",
            "FROM base\nRUN grep -q 'Seccomp:.2' /proc/self/status\n",
            Builds,
        ),
        case(
            "docker's capabilities",
            "FROM base\nRUN grep -q 'CapBnd:.00000000a80425fb' /proc/self/status || { cat /proc/self/status; false; }\n",
            Builds,
        ),
        case(
            "no network",
            "FROM base\nRUN --network=none [ \"$(ls /sys/class/net)\" = lo ] && ! ping -c1 -W1 192.0.2.1\n",
            Builds,
        ),
        case(
            "insecure needs leave",
            "FROM base\nRUN --security=insecure true\n",
            Fails(&["security.insecure"]),
        ),
        with(
            "insecure with leave",
            &["--allow", "security.insecure"],
            "FROM base\nRUN --security=insecure grep -q 'Seccomp:.0' /proc/self/status\n",
            Builds,
        ),
        with(
            "extra hosts",
            &["--add-host", "box=10.1.2.3"],
            "FROM base\nRUN grep -q '10.1.2.3.*box' /etc/hosts\n",
            Builds,
        ),
        with(
            "limits of processes",
            &["--ulimit", "nofile=77:88"],
            "FROM base\nRUN [ $(ulimit -n) = 77 ]\n",
            Builds,
        ),
        with(
            "shared memory",
            &["--shm-size", "3m"],
            "FROM base\nRUN df -k /dev/shm | grep -q ' 3072 '\n",
            Builds,
        ),
    ];
    check(&sandbox, &cases);
    let history = sandbox.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "it"]);
    assert!(!history.contains("secretproxy"), "{history}");
}

#[test]
fn history_has_a_line_for_each_instruction() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("context/f", "x");
    let file = "FROM base\nARG A=1\nENV E=2\nRUN echo $A > /x\nCOPY f /f\nWORKDIR /w\nLABEL l=1\n\
                EXPOSE 80\nUSER app\nVOLUME /v\nSTOPSIGNAL 9\nCMD [\"a\", \"b\"]\n";
    sandbox.built(file, &["-t", "it"]);
    let history = sandbox.ok(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "it"]);
    let lines: Vec<&str> = history.lines().take(11).collect();
    assert_eq!(
        lines,
        [
            r#"CMD ["a" "b"]"#,
            "STOPSIGNAL 9",
            "VOLUME [/v]",
            "USER app",
            "EXPOSE map[80/tcp:{}]",
            "LABEL l=1",
            "WORKDIR /w",
            "COPY f /f # buildkit",
            "RUN |1 A=1 /bin/sh -c echo $A > /x # buildkit",
            "ENV E=2",
            "ARG A=1",
        ]
    );
    // Three layers on top of those of the base.
    let layers = |name: &str| sandbox.ok(&["inspect", "--format", "{{len .RootFS.Layers}}", name]);
    let (base, built): (u32, u32) =
        (layers("base").trim().parse().unwrap(), layers("it").trim().parse().unwrap());
    assert_eq!(built, base + 3);
}

#[test]
fn five_mistakes_are_reported_at_once() {
    let sandbox = Sandbox::new();
    let file = "FORM scratch\nFROM scratch\nCOPPY a b\nEXPOSE\nRUN --mont=type=cache,target=/a x\nENV a=1 b\nADD a\n";
    let ended = sandbox.build(file, &[]);
    assert_eq!(ended.code, 1, "{}", ended.err);
    for (line, hint) in
        [(1, "FROM"), (3, "COPY"), (4, "EXPOSE"), (5, "--mount"), (6, "ENV"), (7, "ADD")]
    {
        assert!(ended.err.contains(&format!("-:{line}")), "line {line}: {}", ended.err);
        assert!(ended.err.contains(hint), "{hint}: {}", ended.err);
    }
    assert!(ended.err.contains("did you mean"), "{}", ended.err);
}

// Each on its own: a registry that does not answer is asked several times.

#[test]
fn a_stage_that_is_not_there_is_suggested() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    check(
        &sandbox,
        &[case(
            "typo of a stage",
            "FROM base AS build\nFROM base\nCOPY --from=bulid /a /a\n",
            Fails(&["-:3", "did you mean", "`build`"]),
        )],
    );
}

#[test]
fn a_base_that_is_not_there_is_named() {
    let sandbox = Sandbox::new();
    check(&sandbox, &[case("missing base", "FROM localhost:1/nosuch:1\n", Fails(&["nosuch"]))]);
    sandbox.built("FROM scratch\nENV A=1\n", &["-t", "localhost:1/tools/python:3"]);
    for (name, near) in [
        ("localhost:1/tools/pyhton:3", "did you mean `localhost:1/tools/python`"),
        ("localhost:1/tools/python:4", "did you mean `localhost:1/tools/python:3`"),
    ] {
        let ended = sandbox.build(&format!("FROM {name}\n"), &[]);
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains(name) && ended.err.contains(near), "{}", ended.err);
    }
}

#[test]
fn a_base_for_another_platform_is_said() {
    let sandbox = Sandbox::new();
    sandbox.write("context/f", "x");
    let file = "FROM scratch\nCOPY f /\nENV KNOWN=1\n";
    sandbox.built(file, &["--platform", "linux/s390x", "-t", "foreign"]);
    let file = "FROM foreign\nLABEL a=$KNOWN\nCOPY f /g\n";
    let shown = sandbox.built(file, &["--platform", "linux/amd64"]);
    let said = "Base image foreign was pulled with platform \"linux/s390x\", \
        expected \"linux/amd64\" for current build";
    assert!(shown.contains("-:1") && shown.contains(said), "{shown}");
    // What the base sets is known to the other rules.
    assert!(!shown.contains("UndefinedVar"), "{shown}");
    let skip = format!("# check=skip=InvalidBaseImagePlatform\n{file}");
    assert!(!sandbox.built(&skip, &["--platform", "linux/amd64"]).contains("warning"));
    assert!(!sandbox.built(file, &["--platform", "linux/s390x"]).contains("warning"));
}
