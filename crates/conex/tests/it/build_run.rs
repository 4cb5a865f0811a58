//! What the commands of RUN can see, and what stays of it.

use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::sandbox::{Sandbox, ended, missing, program};

/// The paths in an image's root file system, as a tar has them.
fn paths(sandbox: &Sandbox, dockerfile: &str, args: &[&str]) -> Vec<String> {
    let tar = format!("type=tar,dest={}", sandbox.text("rootfs.tar"));
    let mut all = vec!["-o", &tar];
    all.extend(args);
    sandbox.built(dockerfile, &all);
    let list = Command::new("tar").arg("-tf").arg(sandbox.at("rootfs.tar")).output().unwrap();
    assert!(list.status.success());
    ended(&list).out.lines().map(str::to_owned).collect()
}

#[test]
fn binds_show_contexts_stages_and_images() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("context/f", "f\n");
    sandbox.write("context/sub/g", "g\n");
    sandbox.write("context/hidden", "h\n");
    sandbox.write("context/.dockerignore", "hidden\n");
    for file in [
        "FROM base\nRUN --mount=target=/m [ $(cat /m/f) = f ] && [ ! -e /m/hidden ]\n",
        "FROM base\nRUN --mount=target=/m ! touch /m/x 2>/dev/null\n",
        "FROM base\nRUN --mount=target=/m,rw echo x > /m/f && [ $(cat /m/f) = x ] && touch /m/new && rm /m/sub/g\nRUN --mount=target=/m [ $(cat /m/f) = f ] && [ -e /m/sub/g ] && [ ! -e /m/new ]\n",
        "FROM base\nRUN --mount=source=sub/g,target=/m/file [ $(cat /m/file) = g ]\n",
        "FROM base\nRUN --mount=type=bind,src=sub,dst=m [ $(cat /m/g) = g ]\n",
        "FROM base AS s\nRUN mkdir /s && echo 1 > /s/f\nFROM base\nRUN --mount=from=s,source=/s,target=/m [ $(cat /m/f) = 1 ]\n",
        "FROM base\nRUN --mount=from=base,target=/m [ -x /m/bin/busybox ]\n",
        "FROM base\nRUN --mount=from=base,target=/m,rw touch /m/x\n",
        "FROM base\nARG D=sub\nRUN --mount=source=$D,target=/m [ -e /m/g ]\n",
        "FROM base\nRUN --mount=from=scratch,target=/m,rw [ -z \"$(ls /m)\" ]\n",
    ] {
        sandbox.built(file, &[]);
    }
    for (file, text) in [
        ("FROM base\nRUN --mount=source=nosuch,target=/m true\n", "nosuch"),
        ("FROM base\nRUN --mount=target=/ true\n", "/"),
        ("FROM base\nRUN --mount=type=bnid,target=/m true\n", "bind"),
        ("FROM base\nRUN --mount=tagret=/m true\n", "target"),
        ("FROM base\nARG S=base\nRUN --mount=from=$S,target=/m true\n", "from"),
    ] {
        let ended = sandbox.build(file, &[]);
        assert_eq!(ended.code, 1, "{file}{}", ended.err);
        assert!(ended.err.contains(text) && ended.err.contains("-:"), "{file}{}", ended.err);
    }
}

#[test]
fn caches_live_on_and_are_shared_as_they_say() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let count = "--mount=type=cache,target=/c sh -c 'echo x >> /c/n; wc -l < /c/n'";
    for round in 1..=3 {
        let shown = sandbox.built(&format!("FROM base\nRUN {count}\n"), &["--no-cache"]);
        assert!(shown.lines().any(|line| line.ends_with(&format!(" {round}"))), "{shown}");
    }
    for file in [
        "RUN --mount=type=cache,target=/c [ -e /c/n ]\nRUN --mount=type=cache,target=/d,id=/c [ -e /d/n ]\nRUN --mount=type=cache,target=/d [ ! -e /d/n ]\n",
        "RUN --mount=type=cache,target=/c,ro ! touch /c/x 2>/dev/null\n",
        "RUN --mount=type=cache,target=/e,mode=0751,uid=3,gid=4 [ $(stat -c %a:%u:%g /e) = 751:3:4 ]\n",
        "RUN --mount=type=cache,target=/p,sharing=private touch /p/x\n",
        "RUN --mount=type=cache,target=/l,sharing=locked touch /l/x\n",
        "RUN --mount=type=cache,target=/g,from=base,source=/etc [ -e /g/passwd ]\n",
        "ARG T=/v\nRUN --mount=type=cache,target=$T [ -d /v ]\n",
    ] {
        sandbox.built(&format!("FROM base\n{file}"), &[]);
    }
    // One at a time may have a locked cache, also in parallel stages that nest theirs.
    let stage = |name: &str, first: &str, second: &str| {
        format!(
            "FROM base AS {name}\nRUN --mount=type=cache,target={first},sharing=locked \
             --mount=type=cache,target={second},sharing=locked mkdir /n1/busy && sleep 0.2 && rmdir /n1/busy && touch /{name}\n"
        )
    };
    let file = format!(
        "{}{}FROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        stage("a", "/n1", "/n2"),
        stage("b", "/n2", "/n1")
    );
    sandbox.built(&file, &["--parallel", "4"]);
    let escape = "FROM base AS s\nRUN ln -s /../../../../etc /l\nFROM base\nRUN --mount=type=cache,target=/x,from=s,source=/l [ \"$(cat /x/passwd | head -1)\" = 'root:x:0:0:root:/root:/bin/sh' ]\n";
    sandbox.built(escape, &[]);
}

#[test]
fn nothing_of_mounts_stays_in_a_layer() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("token", "sesame-open-17");
    let secret = format!("id=t,src={}", sandbox.text("token"));
    let file = "FROM base\nRUN --mount=type=cache,target=/c1 --mount=target=/b1 \
        --mount=type=tmpfs,target=/t1,size=1m --mount=type=secret,id=t,required \
        --mount=type=secret,id=t,env=TOKEN touch /c1/x /t1/x && [ $(cat /run/secrets/t) = $TOKEN ] \
        && echo the token is $TOKEN && touch /made\n";
    let before = paths(&sandbox, "FROM base\n", &[]);
    let after = paths(&sandbox, file, &["--secret", &secret]);
    let new: Vec<&String> = after.iter().filter(|path| !before.contains(path)).collect();
    assert_eq!(new, ["made"]);
    let ended = sandbox.build(file, &["--secret", &secret, "--no-cache", "-t", "it"]);
    assert!(ended.err.contains("the token is ***"), "{}", ended.err);
    assert!(!ended.err.contains("sesame"), "{}", ended.err);
    let history = sandbox.ok(&["history", "--no-trunc", "it"]);
    assert!(!history.contains("sesame"), "{history}");
    // Nowhere in the store, whatever the file.
    let found = Command::new("grep")
        .args(["-r", "-l", "sesame-open-17"])
        .arg(sandbox.at("store"))
        .output()
        .unwrap();
    assert_eq!(crate::sandbox::ended(&found).out, "");
}

#[test]
fn secrets_are_files_or_variables() {
    let Some(mut sandbox) = Sandbox::with_base() else { return };
    sandbox.set_env("TOKEN", "from-env");
    sandbox.write("multi", "line one secret\nline two secret\n");
    let file = format!("id=m,src={}", sandbox.text("multi"));
    for (dockerfile, args) in [
        (
            "FROM base\nRUN --mount=type=secret,id=TOKEN [ $(cat /run/secrets/TOKEN) = from-env ]\n",
            vec!["--secret", "id=TOKEN"],
        ),
        (
            "FROM base\nRUN --mount=type=secret,id=a,target=/s/x,mode=0440,uid=5,gid=6 [ $(stat -c %a:%u:%g /s/x) = 440:5:6 ]\n",
            vec!["--secret", "id=a,env=TOKEN"],
        ),
        (
            "FROM base\nRUN --mount=type=secret,id=a,env=X [ $X = from-env ] && [ ! -e /run/secrets/a ]\n",
            vec!["--secret", "id=a,env=TOKEN"],
        ),
        ("FROM base\nRUN --mount=type=secret,id=none [ ! -e /run/secrets/none ]\n", vec![]),
        (
            "FROM base\nRUN --mount=type=secret,id=m [ \"$(wc -l < /run/secrets/m)\" = 2 ]\n",
            vec!["--secret", &file],
        ),
    ] {
        sandbox.built(dockerfile, &args);
    }
    let ended = sandbox.build("FROM base\nRUN --mount=type=secret,id=none,required true\n", &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("--secret id=none"), "{}", ended.err);
    let shown = sandbox.built(
        "FROM base\nRUN --mount=type=secret,id=m cat /run/secrets/m\n",
        &["--secret", &file],
    );
    assert!(!shown.contains("line one secret") && !shown.contains("line two secret"), "{shown}");
    // A tool that puts something before each line shows no line of it.
    sandbox.write("key", "-----BEGIN-----\nc2VjcmV0bGluZQ==\n}\n-----END-----\n");
    let key = format!("id=k,src={}", sandbox.text("key"));
    let step = "FROM base\nRUN --mount=type=secret,id=k sed 's/^/> /' /run/secrets/k; false\n";
    let ended = sandbox.build(step, &["--secret", &key]);
    assert!(!ended.err.contains("c2VjcmV0"), "{}", ended.err);
    assert!(ended.err.contains("> *****") && ended.err.contains("> }"), "{}", ended.err);
    // Another value is no reason to run a step again.
    let step = "FROM base\nRUN --mount=type=secret,id=TOKEN true\n";
    sandbox.built(step, &["--secret", "id=TOKEN"]);
    sandbox.set_env("TOKEN", "another");
    assert!(sandbox.built(step, &["--secret", "id=TOKEN"]).contains("#2 CACHED"));
}

#[test]
fn an_ssh_agent_is_passed_on() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let socket = sandbox.at("agent.sock");
    // Never accepted from: what counts is that the socket is the same one.
    let listener = UnixListener::bind(&socket).unwrap();
    let given = format!("default={}", socket.display());
    let file = "FROM base\nRUN --mount=type=ssh [ -S \"$SSH_AUTH_SOCK\" ] && [ $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 ]\nRUN [ -z \"$SSH_AUTH_SOCK\" ]\n";
    sandbox.built(file, &["--ssh", &given]);
    sandbox.built("FROM base\nRUN --mount=type=ssh,id=x true\n", &[]);
    let ended = sandbox.build("FROM base\nRUN --mount=type=ssh,required true\n", &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("--ssh default"), "{}", ended.err);
    let key = format!("default={}", sandbox.text("context"));
    assert_ne!(sandbox.build("FROM base\n", &["--ssh", &key]).code, 0);
    drop(listener);
}

#[test]
fn a_real_ssh_agent_lists_its_keys() {
    let (Some(agent), Some(add), Some(_)) =
        (program("ssh-agent"), program("ssh-add"), program("ssh-keygen"))
    else {
        return missing("ssh-agent");
    };
    let Some(sandbox) = Sandbox::with_base() else { return };
    let socket = sandbox.at("real.sock");
    let key = sandbox.at("key");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert!(keygen.status().unwrap().success());
    let mut running = Command::new(agent)
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..100 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let added = Command::new(&add).arg(&key).env("SSH_AUTH_SOCK", &socket).output().unwrap();
    let tool = add.to_str().unwrap();
    let base = sandbox.conex(&["base", "from-host", "-q", "-t", "ssh", "sh", tool]);
    let given = format!("default={}", socket.display());
    let result = sandbox.build("FROM ssh\nRUN --mount=type=ssh ssh-add -l\n", &["--ssh", &given]);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(added.status.success(), "{added:?}");
    assert_eq!(base.code, 0, "{}", base.err);
    assert_eq!(result.code, 0, "{}", result.err);
    assert!(result.err.contains("ED25519"), "{}", result.err);
}

#[test]
fn a_failing_step_says_where_and_why() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let ended = sandbox.build("FROM base\n\nRUN echo last words; exit 7\n", &[]);
    assert_eq!(ended.code, 1);
    for text in ["-:3", "last words", "exit code 7", "RUN echo last words"] {
        assert!(ended.err.contains(text), "{text}: {}", ended.err);
    }
    // Once as it was said, once as the last output; what it means once, at the end.
    let printed = ended.err.lines().filter(|line| line.ends_with(" last words"));
    assert!(printed.count() <= 2, "{}", ended.err);
    assert_eq!(ended.err.matches("did not complete successfully").count(), 1, "{}", ended.err);
    let silent = sandbox.build("FROM base\nRUN exit 9\n", &[]);
    assert!(!silent.err.contains("------"), "there is no output to show: {}", silent.err);
    let missing = sandbox.build("FROM base\nCOPY nosuch /\n", &[]);
    assert!(missing.err.matches("nosuch").count() <= 4, "{}", missing.err);
    let ended = sandbox.build("FROM base\nRUN [\"/nosuch\"]\n", &[]);
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("/nosuch") && ended.err.contains("-:2"), "{}", ended.err);
    // The first failure ends what runs beside it.
    let start = std::time::Instant::now();
    let file = "FROM base AS a\nRUN sleep 30\nFROM base AS b\nRUN sleep 0.2; false\nFROM base\nCOPY --from=a / /a\nCOPY --from=b / /b\n";
    let ended = sandbox.build(file, &["--parallel", "2"]);
    assert_eq!(ended.code, 1);
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
    assert!(ended.err.contains("-:4"), "{}", ended.err);
}
