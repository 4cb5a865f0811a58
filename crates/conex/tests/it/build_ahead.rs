//! Copies that are written while earlier steps still run make the image that waiting would make.

use crate::sandbox::Sandbox;

/// What a build with `--explain` says of a copy that was written before its turn.
const AHEAD: &str = "was copied while earlier steps ran";

/// A Dockerfile's steps after `FROM base`, and how many copies are taken as they were written
/// ahead.
const CASES: &[(&str, &str, usize)] = &[
    ("into a new folder", "RUN sleep 0.4; touch /made\nCOPY . /app", 1),
    (
        "beside what a command makes in the same folder",
        "WORKDIR /app\nCOPY run.sh ./\nRUN sleep 0.4; mkdir -p node_modules/x\nCOPY . .",
        1,
    ),
    ("into a folder that WORKDIR makes meanwhile", "RUN sleep 0.4\nWORKDIR /new\nCOPY . .", 1),
    ("several", "RUN sleep 0.4\nCOPY run.sh /a/\nCOPY tree /b\nCOPY . /c", 3),
    ("an owner by number", "RUN sleep 0.4\nCOPY --chown=7:8 --chmod=640 run.sh /a/b/", 1),
    (
        "an owner by name",
        "RUN sleep 0.4; echo new:x:9:9::/:/bin/sh >> /etc/passwd\nCOPY --chown=new . /app",
        0,
    ),
    ("a folder made with other rights", "RUN sleep 0.4; mkdir -m 700 /app\nCOPY . /app", 0),
    ("a link made meanwhile", "RUN sleep 0.4; mkdir /o; ln -s o /app\nCOPY . /app", 0),
    ("a link that was there", "RUN mkdir /o; ln -s o /app\nRUN sleep 0.4\nCOPY . /app/x/", 0),
    ("a folder removed", "COPY tree /app\nRUN sleep 0.4; rm -r /app\nCOPY . /app", 0),
    ("a file written", "COPY . /app\nRUN sleep 0.4; echo > /app/run.sh\nCOPY . /app", 0),
    ("a file removed", "COPY . /app\nRUN sleep 0.4; rm /app/run.sh\nCOPY run.sh /app/", 0),
    ("a linked layer", "RUN sleep 0.4; mkdir -m 700 /l\nCOPY --link tree /l", 0),
    ("a linked layer elsewhere", "RUN sleep 0.4\nCOPY --link tree /l", 1),
    ("ADD", "RUN sleep 0.4\nADD run.sh /app/", 0),
];

#[test]
fn copies_ahead_of_time_change_nothing_but_the_time() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    for number in 0..40 {
        sandbox.write(&format!("context/tree/{}/f{number}", number % 3), number.to_string());
    }
    sandbox.write_mode("context/run.sh", "#!/bin/sh\n", 0o755);
    for (name, steps, ahead) in CASES {
        let dockerfile = format!("FROM base\n{steps}\n");
        let build = |threads: &str| {
            let args = ["-t", "it", "--no-cache", "--explain", "--parallel", threads];
            let shown = sandbox.built(&dockerfile, &args);
            (sandbox.id("it"), shown.matches(AHEAD).count(), shown)
        };
        let (in_turn, none, _) = build("1");
        assert_eq!(none, 0, "{name}");
        let (image, taken, shown) = build("2");
        assert_eq!((image, taken), (in_turn, *ahead), "{name}\n{shown}");
    }
}

#[test]
fn a_stage_that_is_done_is_copied_while_another_goes_on() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    let dockerfile = "FROM base AS a\nRUN mkdir /o && echo 1 > /o/f && chown 5:6 /o/f\n\
                      FROM base\nRUN sleep 1\nCOPY --from=a /o /o\n";
    let args = ["-t", "it", "--no-cache", "--explain", "--parallel"];
    let build = |threads: &str| {
        let shown = sandbox.built(dockerfile, &[&args[..], &[threads]].concat());
        (sandbox.id("it"), shown.contains(AHEAD))
    };
    let (in_turn, _) = build("1");
    assert_eq!(build("2"), (in_turn, true));
}

/// What is cached needs no copying, and a build that fails leaves nothing of it behind.
#[test]
fn nothing_is_copied_ahead_of_a_step_that_is_cached_and_nothing_stays_of_one_that_fails() {
    let Some(sandbox) = Sandbox::with_base() else { return };
    sandbox.write("context/f", "1");
    let dockerfile = "FROM base\nRUN sleep 0.4\nCOPY . /app\nRUN sleep 0.4; test -e /go\n";
    for _ in 0..2 {
        let ended = sandbox.build(dockerfile, &["--explain"]);
        assert_ne!(ended.code, 0);
    }
    let shown = sandbox.build(dockerfile, &["--explain"]).err;
    assert!(!shown.contains(AHEAD), "{shown}");
    let failing = "FROM base\nRUN sleep 0.4; exit 3\nCOPY . /other\n";
    assert_eq!(sandbox.build(failing, &[]).code, 1);
    let left = std::fs::read_dir(sandbox.at("store/tmp")).unwrap().count();
    assert_eq!(left, 0);
    sandbox.ok(&["system", "check"]);
}
